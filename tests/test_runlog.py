"""What a run writes, and what is dropped when it goes on after a kill."""

import json
import math
import os
import socket
import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from avmix.config import TrainConfig
from avmix.data.dataset import BadClip
from avmix.evaluation.metrics import Scores
from avmix.training.chance_level import AtChance
from avmix.training.runlog import (
    NO_STEP,
    GradNorms,
    NotFiniteError,
    RunLog,
    StepRecord,
    Stopwatch,
    _keep_before,
)
from avmix.training.runtime import Runtime
from avmix.types import Heads

HERE = Runtime(device=torch.device("cpu"), threads=1)

LINES = [
    {"kind": "unreadable", "split": "train", "row": 3, "path": "a.mp4", "reason": "damaged"},
    *({"kind": "step", "epoch": 0, "step": s, "loss": 1.5} for s in range(3)),
    {"kind": "epoch", "epoch": 0, "loss": 1.5},
    *({"kind": "step", "epoch": 1, "step": s, "loss": 0.5} for s in range(3)),
    {"kind": "epoch", "epoch": 1, "loss": 0.5},
    {"kind": "at_chance", "epoch": 1, "head": "video", "epochs": 2, "of": 6},
]


@pytest.mark.parametrize(
    ("epoch", "step", "kept"),
    [(0, 0, 1), (0, 2, 3), (1, 0, 5), (1, 1, 6), (1, 3, 8), (2, 0, 10)],
)
def test_exactly_the_lines_from_a_position_on_are_dropped(tmp_path, epoch, step, kept):
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in LINES))
    _keep_before(path, epoch, step)
    assert [json.loads(line) for line in path.read_text().splitlines()] == LINES[:kept]
    assert path.read_text().endswith("\n")


@pytest.mark.parametrize("cut", [1, 10, 40])
def test_a_line_that_a_kill_cut_is_dropped(tmp_path, cut):
    path = tmp_path / "metrics.jsonl"
    whole = "".join(json.dumps(line) + "\n" for line in LINES)
    path.write_text(whole + json.dumps(LINES[1])[:cut])
    _keep_before(path, 2, 0)
    assert path.read_text() == whole


def test_nothing_to_drop_is_fine(tmp_path):
    _keep_before(tmp_path / "metrics.jsonl", 0, 0)
    assert not list(tmp_path.iterdir())


def record(step: int, loss: float = 1.0, grad_norm: float | None = 2.0) -> StepRecord:
    return StepRecord(
        epoch=0, step=step, lr=0.1, loss=torch.tensor(loss),
        losses=Heads(torch.tensor(0.5), torch.tensor(0.25), torch.tensor(0.125)),
        consistency={},
        grad_norms=None if grad_norm is None
        else GradNorms(*(torch.tensor(grad_norm * share) for share in (1.0, 0.5, 0.25, 0.125))),
        rows=torch.tensor([7, 8]),
    )  # fmt: skip


def started(folder, runtime: Runtime = HERE, log_every: int = 2) -> RunLog:
    log = RunLog(folder, runtime, log_every)
    log.begin("some: yaml\n", epoch=0, step=0, steps_per_epoch=3)
    log.epoch_started(0, 1, 0, 3)
    return log


def rows(folder) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_steps_are_written_in_groups_and_the_rest_with_the_epoch(tmp_path):
    log, watch = started(tmp_path), Stopwatch()
    log.step_done(record(0, 1.0), watch)
    assert not (tmp_path / "metrics.jsonl").exists()
    log.step_done(record(1, 2.0, grad_norm=None), watch)
    first = {"kind": "step", "epoch": 0, "step": 0, "lr": 0.1, "loss": 1.0, "loss_fused": 0.5,
             "loss_video": 0.25, "loss_audio": 0.125}  # fmt: skip
    norms = {"grad_norm": 2.0, "grad_norm_video": 1.0, "grad_norm_audio": 0.5,
             "grad_norm_fusion": 0.25}  # fmt: skip
    assert rows(tmp_path) == [{**first, **norms}, {**first, "step": 1, "loss": 2.0}]
    log.step_done(record(2, 6.0), watch)
    watch.num_clips = 12
    score = Scores(num_clips=4, top1=0.5, top5=None, mean_class=0.25, nll=0.7, ece=0.1)
    log.epoch_done(0, watch.stop(), {"fused": score, "video head": score, "audio head": None},
                   [0.5, 0.25, None])  # fmt: skip
    log.close()
    *_, step, epoch = rows(tmp_path)
    assert (step["step"], step["loss"]) == (2, 6.0)
    assert (epoch["kind"], epoch["epoch"], epoch["loss"]) == ("epoch", 0, 3.0)
    assert [epoch[f"loss_{n}"] for n in ("fused", "video", "audio")] == [0.5, 0.25, None]
    assert epoch["val"]["fused"]["top1"] == 0.5
    assert epoch["val"]["audio head"] is None
    assert (tmp_path / "config.yaml").read_text() == "some: yaml\n"
    assert json.loads((tmp_path / "environment.json").read_text())[0]["packages"]["torch"]


def test_what_is_pending_is_written_at_the_end(tmp_path):
    log = started(tmp_path, log_every=100)
    log.step_done(record(0), Stopwatch())
    log.close()
    assert [row["step"] for row in rows(tmp_path)] == [0]


def test_unreadable_clips_are_named(tmp_path, capsys):
    log = started(tmp_path)
    log.bad_clips([BadClip(3, "b/a.mp4", "DecodeError: damaged")], "train")
    log.close()
    assert rows(tmp_path) == [{"kind": "unreadable", "split": "train", "row": 3, "path": "b/a.mp4",
                               "reason": "DecodeError: damaged"}]  # fmt: skip
    assert "b/a.mp4: DecodeError: damaged" in capsys.readouterr().out


def test_heads_at_chance_are_named(tmp_path, capsys):
    log = started(tmp_path)
    log.at_chance(
        [AtChance(head="audio", epochs=2, of=6, loss=0.75, guessing=0.6875)], 1, TrainConfig()
    )
    log.close()
    assert rows(tmp_path) == [{"kind": "at_chance", "epoch": 1, "head": "audio", "epochs": 2,
                               "of": 6, "loss": 0.75, "guessing": 0.6875}]  # fmt: skip
    assert "the audio head is at chance: in 2 of 6 epochs" in capsys.readouterr().out


def test_only_the_main_process_writes(tmp_path):
    other = Runtime(device=torch.device("cpu"), threads=1, rank=1)
    log = started(tmp_path / "run", other, log_every=1)
    log.step_done(record(0), Stopwatch())
    log.epoch_done(0, Stopwatch().stop(), {})
    log.close()
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_is_an_error_in_every_process(tmp_path, loss):
    for rank in (0, 1):
        here = Runtime(device=torch.device("cpu"), threads=1, rank=rank)
        log = started(tmp_path / str(rank), here)
        log.step_done(record(0), Stopwatch())
        with pytest.raises(NotFiniteError, match=r"step 1; rows of its .* manifest: \[7, 8\]"):
            log.step_done(record(1, loss), Stopwatch())
        log.close()
    text = (tmp_path / "0/metrics.jsonl").read_text()
    strict = [json.loads(line, parse_constant=pytest.fail) for line in text.splitlines()]
    assert [row["step"] for row in strict] == [0, 1]  # the evidence is kept
    assert strict[1]["loss"] is None
    assert strict[1]["not_finite"] == {"loss": str(loss)}
    assert "not_finite" not in strict[0]


def test_an_epoch_without_a_step_has_no_loss(tmp_path):
    log = started(tmp_path)
    log.epoch_done(0, Stopwatch().stop(), {})
    log.close()
    assert rows(tmp_path)[0]["loss"] is None


def test_the_stopwatch_counts_waiting_but_not_working():
    watch = Stopwatch()

    def slow_items():
        for item in range(3):
            sum(range(200_000))  # what a loader does
            yield item

    items = []
    for item in watch.waiting(slow_items()):
        before = watch.waited_seconds
        sum(range(200_000))  # what training does
        items.append(item)
        assert watch.waited_seconds == before
    assert items == [0, 1, 2]
    stopped = watch.stop().seconds
    assert 0 < watch.waited_seconds < stopped
    assert watch.seconds == stopped


def test_consistency_losses_are_written_under_their_names(tmp_path):
    log = started(tmp_path, log_every=1)
    both = {"agreement": torch.tensor(3.0), "contrastive": torch.tensor(4.0)}
    log.step_done(replace(record(0), consistency=both), Stopwatch())
    (row,) = rows(tmp_path)
    assert (row["loss_agreement"], row["loss_contrastive"], row["grad_norm"]) == (3.0, 4.0, 2.0)
    log.close()


def test_the_loss_of_an_epoch_is_over_all_its_steps_however_often_it_was_interrupted(tmp_path):
    # float32 numbers that no two of which add up to a round one.
    losses = [0.1, 2.7, 13.3, 1e-3, 5.9, 0.7]
    exact = [torch.tensor(loss).item() for loss in losses]
    whole = started(tmp_path / "whole")
    for step, loss in enumerate(losses):
        whole.step_done(record(step, loss), Stopwatch())
    whole.epoch_done(0, Stopwatch().stop(), {})
    whole.close()
    *_, epoch = rows(tmp_path / "whole")
    assert epoch["loss"] == math.fsum(exact) / 6

    state = NO_STEP
    for first, stop in ((0, 2), (2, 5), (5, 6), (6, 6)):  # the last begins at the epoch's very end
        log = RunLog(tmp_path / "parts", HERE, 2)
        log.begin("", epoch=0, step=first, steps_per_epoch=6, loss_sum=state)
        log.epoch_started(0, 1, first, 6)
        for step in range(first, stop):
            log.step_done(record(step, losses[step]), Stopwatch())
        log.flush()
        state = log.loss_sum
        assert state == (pytest.approx(math.fsum(exact[:stop]), abs=1e-12), stop)
        if (first, stop) == (6, 6):
            log.epoch_done(0, Stopwatch().stop(), {})
        log.close()
    *_, found = rows(tmp_path / "parts")
    assert found["loss"] == epoch["loss"]


def test_the_loss_of_an_epoch_whose_beginning_is_not_known_is_not_known(tmp_path, capsys):
    log = RunLog(tmp_path, HERE, 1)
    log.begin("", epoch=0, step=1, steps_per_epoch=2, loss_sum=None)
    log.epoch_started(0, 2, 1, 2)
    log.step_done(record(1, 3.0), Stopwatch())
    assert log.loss_sum is None
    log.epoch_done(0, Stopwatch().stop(), {})
    log.epoch_started(1, 2, 0, 2)
    log.step_done(record(0, 5.0), Stopwatch())
    log.epoch_done(1, Stopwatch().stop(), {})
    log.close()
    assert [row["loss"] for row in rows(tmp_path) if row["kind"] == "epoch"] == [None, 5.0]
    assert "epoch 1: loss -," in capsys.readouterr().out


TWO = """
import sys
from pathlib import Path
import torch
from avmix.training import runtime
from avmix.training.runlog import NotFiniteError, RunLog, StepRecord, Stopwatch
from avmix.types import Heads

def record(step, loss, rows):
    loss = torch.tensor(loss)
    return StepRecord(epoch=0, step=step, lr=0.1, loss=loss, losses=Heads(loss, loss / 2, loss / 4),
                      consistency={}, grad_norms=None, rows=torch.tensor(rows))

with runtime.start(device="cpu", threads=1) as here:
    here.barrier()
    log = RunLog(Path(sys.argv[1]), here, 2)
    log.begin("x: 1", epoch=0, step=0, steps_per_epoch=4)
    log.epoch_started(0, 1, 0, 4)
    log.step_done(record(0, 1.0 + 2 * here.rank, [0]), Stopwatch())
    log.step_done(record(1, 5.0 - here.rank, [0]), Stopwatch())
    log.step_done(record(2, float("nan") if here.rank else 1.0, [10 + here.rank]), Stopwatch())
    try:
        log.flush()
    except NotFiniteError as error:
        Path(sys.argv[1], f"error{here.rank}").write_text(str(error))
    log.step_done(record(3, 1.0, [0]), Stopwatch())
    log.close()  # in the midst of something that the other may not know of: nobody waits
"""


def test_what_is_logged_of_several_processes_is_their_mean(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    environment = {**os.environ, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2",
                   "OMP_NUM_THREADS": "1"}  # fmt: skip
    running = [
        subprocess.Popen([sys.executable, "-c", TWO, str(tmp_path)],
                         env={**environment, "RANK": str(rank)})
        for rank in range(2)
    ]  # fmt: skip
    assert [process.wait(120) for process in running] == [0, 0]
    steps = [row for row in rows(tmp_path) if row["kind"] == "step"]
    assert [row["loss"] for row in steps] == [2.0, 4.5, None]
    assert [row["loss_audio"] for row in steps[:2]] == [0.5, 1.125]
    for rank in range(2):  # both stop, and name the clips of the one whose loss it is
        assert "train manifest: [11]" in (tmp_path / f"error{rank}").read_text()
