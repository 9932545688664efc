"""train.py and eval.py as people run them: on real files, through kills and bad files."""

import json
import multiprocessing
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from fragile import FragileSet

from avmix.commands import evaluate as evaluation
from avmix.commands import train
from avmix.config import EvalConfig, TrainConfig, load_config
from avmix.data.manifest import ManifestError, read_manifest, write_manifest
from avmix.data.sample import TooManyBadClips
from avmix.evaluation.metrics import EVAL_ROWS, Scores
from avmix.evaluation.prediction_file import NAME, read_predictions
from avmix.training import checkpoint, run_data, training_setup
from avmix.training.checkpoint import CheckpointError
from avmix.training.measurements import StepRecord, Stopwatch
from avmix.training.run_lock import run_folder_lock
from avmix.training.runlog import RunLog

ROOT = Path(__file__).parents[1]


def smoke(data: Path, out: Path, *more: str) -> list[str]:
    """Arguments of a small run: 5 steps an epoch, the default of 2 epochs."""
    return ["--config", str(ROOT / "configs/smoke.yaml"), "--data.root", str(data),
            "--run.out", str(out), "--run.threads", "1", "--data.num_workers", "0",
            *more]  # fmt: skip


def run_train(arguments: Sequence[str]) -> Path:
    return train.train(load_config(TrainConfig, arguments)).checkpoint


def script(name: str, arguments: Sequence[str]) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, str(ROOT / name), *arguments]
    return subprocess.run(command, capture_output=True, text=True)


def rows(out: Path, kind: str) -> list[dict]:
    lines = (out / "metrics.jsonl").read_text().splitlines()
    return [row for row in map(json.loads, lines) if row["kind"] == kind]


def losses(out: Path) -> dict[tuple[int, int], float]:
    return {(row["epoch"], row["step"]): row["loss"] for row in rows(out, "step")}


@pytest.fixture(scope="module")
def finished(toy_set: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an undisturbed smoke run, made by the script itself."""
    out = tmp_path_factory.mktemp("runs") / "smoke"
    done = script("train.py", smoke(toy_set, out))
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == f"to evaluate it: avmix evaluate --checkpoint {out}"
    return out


def test_a_run_leaves_what_reproduces_it(finished: Path) -> None:
    assert sorted(losses(finished)) == [(e, s) for e in range(2) for s in range(5)]
    epochs = rows(finished, "epoch")
    assert [row["epoch"] for row in epochs] == [0, 1]
    assert set(epochs[0]["val"]) == set(EVAL_ROWS)
    again = load_config(TrainConfig, ["--config", str(finished / "config.yaml")])
    assert again.run.out == str(finished)
    (environment,) = json.loads((finished / "environment.json").read_text())
    assert (environment["epoch"], environment["step"]) == (0, 0)
    assert environment["packages"]["torch"].startswith("2.11")
    assert list((finished / "tensorboard").iterdir())


def test_evaluation_covers_the_split(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scores = evaluation.evaluate(
        EvalConfig(checkpoint=str(finished), num_views=2, num_workers=0, threads=1)
    )
    result = json.loads((finished / "eval_test/result.json").read_text())
    assert (result["num_evaluated"], result["num_missing"]) == (20, 0)
    fused = scores["fused"]
    assert isinstance(fused, Scores)
    assert result["scores"]["fused"]["top1"] == fused.top1
    assert sum(row["clips"] for row in result["per_class"]) == 20
    kept = read_predictions(finished / "eval_test")
    assert kept.label is not None
    fused_probability = kept.probability["fused"]
    assert fused_probability.sum(1) == pytest.approx(1, abs=1e-4)
    assert (fused_probability.argmax(1) == kept.label).mean() == fused.top1
    assert [clip.row for clip in kept.clips] == list(range(20))
    assert (finished / "eval_test/confusion.png").read_bytes().startswith(b"\x89PNG")
    said = capsys.readouterr().out
    assert "20 clips evaluated, 0 missing" in said
    assert (finished / "best.pt").exists()
    assert (
        f"{finished}/best.pt is the one that was best on val: --checkpoint {finished}/best.pt"
        in said
    )


def test_kept_predictions_give_the_tables_again(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """To the bit, from a copy of the one file, where no clip and no checkpoint is."""
    options = {"num_views": 2, "num_workers": 0, "threads": 1, "resamples": 100}
    first, copy = tmp_path / "first", tmp_path / "copy" / NAME
    scores = evaluation.evaluate(
        EvalConfig(checkpoint=str(finished), out=str(first), **options)  # type: ignore[arg-type]
    )
    tables = capsys.readouterr().out.partition("test: 20 clips")[2]
    copy.parent.mkdir()
    shutil.copy(first / NAME, copy)
    again = evaluation.evaluate(EvalConfig(predictions=str(copy), resamples=100))
    assert again == scores
    assert capsys.readouterr().out.partition("test: 20 clips")[2] == tables
    for name in ("result.json", "confusion.png", "reliability.png"):
        assert (copy.parent / name).read_bytes() == (first / name).read_bytes()


def test_a_finished_run_is_not_done_again(
    toy_set: Path, finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (finished / "last.pt").read_bytes()
    steps = losses(finished)
    run_train(smoke(toy_set, finished))
    assert "complete: 2 epochs are done (--optim.epochs N for more)" in " ".join(
        capsys.readouterr().out.split()
    )
    assert (finished / "last.pt").read_bytes() == before
    assert losses(finished) == steps


def test_a_run_that_has_ended_may_have_more_epochs(finished: Path, tmp_path: Path) -> None:
    path = tmp_path / "last.pt"
    ended = checkpoint.load(finished / "last.pt")
    longer = replace(ended, config=replace(ended.config, optim=replace(
        ended.config.optim, epochs=5)))  # fmt: skip
    checkpoint.save(path, ended)
    state, notice = training_setup._resume(path, longer)
    assert (state.epoch, state.config.optim.epochs) == (2, 5)
    assert "had ended after 2 epochs and goes on to 5" in notice
    assert training_setup._resume(path, ended)[1] == ""
    checkpoint.save(path, replace(ended, epoch=1))
    with pytest.raises(CheckpointError, match=r"optim\.epochs 2 -> 5"):
        training_setup._resume(path, longer)
    checkpoint.save(path, longer)
    with pytest.raises(CheckpointError, match=r"optim\.epochs 5 -> 2"):
        training_setup._resume(path, ended)


@pytest.mark.long
def test_weights_do_not_depend_on_the_number_of_loader_processes(
    toy_set: Path, tmp_path: Path
) -> None:
    weights = []
    for num_workers in (0, 1, 2):
        out = tmp_path / str(num_workers)
        run_train([*smoke(toy_set, out), "--run.threads", "0", "--data.num_workers",
                   str(num_workers), "--optim.epochs", "1", "--data.val_split", ""])  # fmt: skip
        state = checkpoint.load(out / "last.pt")
        assert state.rounding is not None
        assert state.rounding.threads == len(os.sched_getaffinity(0))
        weights.append(state.model)
    for other in weights[1:]:
        assert all(torch.equal(other[name], tensor) for name, tensor in weights[0].items())


def test_bfloat16_trains_on_a_cpu(toy_set: Path, finished: Path, tmp_path: Path) -> None:
    run_train([*smoke(toy_set, tmp_path), "--run.precision", "bf16", "--optim.epochs", "1",
               "--data.val_split", ""])  # fmt: skip
    full, reduced = losses(finished), losses(tmp_path)
    assert len(reduced) == 5
    # The first loss is of the same weights; the others follow other learning rates.
    assert reduced[0, 0] == pytest.approx(full[0, 0], rel=0.02)
    assert all(0 < loss < 2 * full[0, 0] for loss in reduced.values())


def test_a_run_that_goes_on_elsewhere_says_so(
    toy_set: Path, finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "moved"
    shutil.copytree(finished, out)
    state = checkpoint.load(out / "last.pt")
    assert state.rounding is not None
    run_train(smoke(toy_set, out))
    assert "last digits" not in capsys.readouterr().out
    checkpoint.save(out / "last.pt", replace(state, rounding=replace(state.rounding, threads=7)))
    run_train(smoke(toy_set, out))
    assert "(threads 7 -> 1)" in " ".join(capsys.readouterr().out.split())


def test_another_configuration_does_not_go_on_from_a_run(toy_set: Path, finished: Path) -> None:
    with pytest.raises(CheckpointError, match=r"optim\.lr 0\.002 -> 0\.1"):
        run_train(smoke(toy_set, finished, "--optim.lr", "0.1"))


def test_a_run_does_not_go_on_with_other_clips(
    toy_set: Path, finished: Path, tmp_path: Path
) -> None:
    other = tmp_path / "manifest"
    train_split = read_manifest(toy_set, "train")
    write_manifest(
        other,
        classes=train_split.classes,
        protocol=train_split.protocol,
        splits={"train": train_split.entries[::-1]},
    )
    state = checkpoint.load(finished / "last.pt")
    moved = replace(state, config=replace(state.config, data=replace(
        state.config.data, manifest=str(other))))  # fmt: skip
    checkpoint.save(tmp_path / "run/last.pt", moved)
    with pytest.raises(CheckpointError, match="the clips of the train split"):
        run_train(smoke(toy_set, tmp_path / "run", "--data.manifest", str(other)))


def wait_for_steps(process: "subprocess.Popen[bytes]", out: Path, num_steps: int) -> None:
    metrics = out / "metrics.jsonl"
    while not metrics.exists() or metrics.read_text().count('"kind": "step"') < num_steps:
        assert process.poll() is None, "the run ended before it could be killed"
        with suppress(subprocess.TimeoutExpired):
            process.wait(0.005)


@pytest.mark.parametrize("save_every", [pytest.param("0", marks=pytest.mark.long), "2"])
def test_killed_in_the_middle_and_resumed_is_bit_identical(
    toy_set: Path, finished: Path, tmp_path: Path, save_every: str
) -> None:
    arguments = smoke(toy_set, tmp_path / "run", "--run.save_every", save_every)
    process = subprocess.Popen([sys.executable, str(ROOT / "train.py"), *arguments])
    wait_for_steps(process, tmp_path / "run", 8)  # three steps into the second epoch
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL

    state = checkpoint.load(tmp_path / "run/last.pt")
    assert (state.epoch, state.step) >= (1, 0)
    assert (state.epoch, state.step) < (2, 0)
    done = script("train.py", arguments)
    assert done.returncode == 0, done.stderr
    assert f"resumed at epoch {state.epoch + 1}, step {state.step}" in done.stdout
    assert losses(tmp_path / "run") == losses(finished)
    of_epochs = [
        [row["loss"] for row in rows(out, "epoch")] for out in (tmp_path / "run", finished)
    ]
    assert of_epochs[0] == of_epochs[1]
    starts = json.loads((tmp_path / "run/environment.json").read_text())
    assert [(s["epoch"], s["step"]) for s in starts] == [(0, 0), (state.epoch, state.step)]
    mine, other = (checkpoint.load(out / "last.pt") for out in (tmp_path / "run", finished))
    assert all(mine.model[name].equal(other.model[name]) for name in other.model)


@pytest.mark.long
def test_the_losses_do_not_depend_on_the_number_of_loaders(
    toy_set: Path, finished: Path, tmp_path: Path
) -> None:
    run_train(smoke(toy_set, tmp_path / "run", "--data.num_workers", "2"))
    assert losses(tmp_path / "run") == losses(finished)


@pytest.mark.long
def test_a_killed_run_leaves_no_process_behind(toy_set: Path, tmp_path: Path) -> None:
    arguments = smoke(toy_set, tmp_path / "run", "--data.num_workers", "1")
    command = [sys.executable, str(ROOT / "train.py"), *arguments]
    process = subprocess.Popen(command, start_new_session=True)
    wait_for_steps(process, tmp_path / "run", 1)
    process.send_signal(signal.SIGKILL)
    process.wait()

    def gone() -> bool:
        try:
            os.killpg(process.pid, 0)
        except ProcessLookupError:
            return True
        return False

    waiter = threading.Event()
    assert any(gone() or waiter.wait(0.05) for _ in range(200))  # 10 s at most


@pytest.mark.long
def test_a_folder_in_which_another_trainer_works_is_refused(toy_set: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    with run_folder_lock(out):
        second = script("train.py", smoke(toy_set, out))
        assert [path.name for path in out.iterdir()] == ["run.lock"]
    assert second.returncode == 1
    assert second.stderr == (
        f"error: {out}: process {os.getpid()} on {socket.gethostname()} is running in it; wait "
        "for its end, or choose another run.out\n"
    )


@pytest.mark.long
def test_what_a_killed_trainer_left_is_taken_over_and_cleared(
    toy_set: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    process = subprocess.Popen([sys.executable, str(ROOT / "train.py"), *smoke(toy_set, out)])
    wait_for_steps(process, out, 1)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert json.loads((out / "run.lock").read_text())["pid"] == process.pid
    (out / "last.pt.0123456789ab.partial").write_bytes(b"half of")
    run_train(smoke(toy_set, out))
    assert len(losses(out)) == 10
    assert not list(out.glob("*.partial"))
    assert not (out / "run.lock").exists()


@pytest.mark.long
def test_a_validation_that_fails_does_not_cost_the_epoch(
    toy_set: Path, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, away, out = tmp_path / "data", tmp_path / "away", tmp_path / "run"
    shutil.copytree(toy_set, data)
    done = RunLog.step_done

    def unplugged(log: RunLog, record: StepRecord, watch: Stopwatch) -> None:
        done(log, record, watch)
        if (record.epoch, record.step) == (0, 4):
            (data / "val").rename(away)

    with monkeypatch.context() as patch:
        patch.setattr(RunLog, "step_done", unplugged)
        with pytest.raises(
            TooManyBadClips, match=r"none of the 10 clips of 'val' can be evaluated"
        ):
            run_train(smoke(data, out))
    state = checkpoint.load(out / "last.pt")
    assert (state.epoch, state.step) == (0, 5)  # all of it is done, but for the validation
    away.rename(data / "val")
    run_train(smoke(data, out))
    assert losses(out) == losses(finished)
    timeless = [
        [
            {k: v for k, v in row.items() if k in ("epoch", "loss", "loss_fused", "val")}
            for row in of
        ]
        for of in (rows(out, "epoch"), rows(finished, "epoch"))
    ]
    assert timeless[0] == timeless[1]
    assert checkpoint.load(out / "best.pt").best == checkpoint.load(finished / "best.pt").best


@pytest.mark.long
@pytest.mark.parametrize("num_workers", ["0", "1"])
def test_a_val_split_that_cannot_be_read_stops_the_run_before_its_first_step(
    toy_set: Path, tmp_path: Path, num_workers: str
) -> None:
    data, out = tmp_path / "data", tmp_path / "run"
    shutil.copytree(toy_set, data)
    for path in (data / "val").iterdir():
        path.write_bytes(b"not a video")
    arguments = smoke(data, out, "--data.num_workers", num_workers)
    with pytest.raises(TooManyBadClips, match=r"none of the 10 clips of 'val' .*can be read"):
        run_train(arguments)
    assert not (out / "metrics.jsonl").exists()
    # One that can be read is enough.
    first = read_manifest(toy_set, "val").entries[7].path
    shutil.copy(toy_set / first, data / first)
    run_train(arguments)
    assert rows(out, "epoch")[0]["val"]["fused"]["nll"] > 0


def test_one_class_is_nothing_to_train(toy_set: Path, tmp_path: Path) -> None:
    entries = [replace(e, labels=("clap",)) for e in read_manifest(toy_set, "train").entries]
    write_manifest(tmp_path / "manifest", classes=["clap"], protocol="one class",
                   splits={"train": entries})  # fmt: skip
    arguments = smoke(toy_set, tmp_path / "run", "--data.manifest", str(tmp_path / "manifest"))
    with pytest.raises(ManifestError, match=r"manifest: its only class is 'clap'; training needs"):
        run_train(arguments)


@pytest.fixture
def damaged(toy_set: Path, tmp_path: Path) -> Path:
    """The toy set with one train file garbled, one gone, and one test file gone."""
    data = tmp_path / "damaged"
    shutil.copytree(toy_set, data)
    trained, tested = sorted((data / "train").iterdir()), sorted((data / "test").iterdir())
    trained[0].write_bytes(b"not a video")
    trained[1].unlink()
    tested[0].unlink()
    return data


def unreadable_of(data: Path) -> list[str]:
    """Paths of the train split that are gone, or far too small for a video."""
    lines = (data / "train.jsonl").read_text().splitlines()
    files = [json.loads(line)["path"] for line in lines]
    return sorted(p for p in files if not (data / p).exists() or (data / p).stat().st_size < 100)


def test_unreadable_clips_are_named_replaced_and_counted(damaged: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    run_train(smoke(damaged, out, "--data.max_bad_share", "0.05"))
    bad = [row["path"] for row in rows(out, "unreadable")]
    assert sorted(bad) == unreadable_of(damaged)
    assert len(bad) == 2
    assert len(losses(out)) == 10  # no step is lost

    evaluation.evaluate(EvalConfig(checkpoint=str(out), num_views=1, num_workers=0))
    result = json.loads((out / "eval_test/result.json").read_text())
    assert (result["num_evaluated"], result["num_missing"]) == (19, 1)
    assert result["missing"][0]["reason"].startswith("FileNotFoundError")


@pytest.fixture
def fragile(toy_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The toy set with a train clip that crashes its decoder, and one that it never finishes."""
    data = tmp_path / "fragile"
    shutil.copytree(toy_set, data)
    entries = read_manifest(data, "train").entries
    (data / entries[7].path).write_bytes(b"crash")
    (data / entries[30].path).write_bytes(b"hangs")
    monkeypatch.setattr(run_data, "TrainSet", FragileSet)
    return data


@pytest.mark.long
def test_files_that_crash_or_hang_the_decoder_end_no_run(
    fragile: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def arguments(out: str, num_workers: int = 2) -> list[str]:
        return [*smoke(fragile, tmp_path / out), "--data.num_workers", str(num_workers),
                "--data.max_bad_share", "0.05", "--data.clip_seconds", "4",
                "--data.val_split", ""]  # fmt: skip

    run_train(arguments("whole"))
    assert len(losses(tmp_path / "whole")) == 10
    entries = read_manifest(fragile, "train").entries
    hint = "; in quarantine, not read again"
    crashed = "the decoder crashed (signal 11, SIGSEGV)"
    hung = "took longer than 4 s and was killed"
    assert {row["path"]: row["reason"] for row in rows(tmp_path / "whole", "unreadable")} == {
        entries[7].path: crashed + hint,
        entries[30].path: hung + hint,
    }
    lines = (tmp_path / "whole/quarantine.jsonl").read_text().splitlines()
    listed = {line["path"]: line for line in map(json.loads, lines)}
    assert len(lines) == len(listed) == 2
    assert listed[entries[7].path] == {
        "clip_id": entries[7].clip_id, "path": entries[7].path, "sha256": entries[7].sha256,
        "bytes": entries[7].bytes, "split": "train", "epoch": 0, "reason": crashed,
    }  # fmt: skip
    assert not multiprocessing.active_children()

    # Stopped in its second epoch and gone on with: the same to the bit. It does not meet the clips
    # again: there is no loader process that they could end.
    done = RunLog.step_done

    def interrupted(log: RunLog, record: StepRecord, watch: Stopwatch) -> None:
        done(log, record, watch)
        if (record.epoch, record.step) == (1, 2):
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(RunLog, "step_done", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run_train(arguments("resumed"))
    assert not multiprocessing.active_children()
    assert checkpoint.load(tmp_path / "resumed/last.pt").epoch == 1
    run_train(arguments("resumed", num_workers=0))
    assert losses(tmp_path / "resumed") == losses(tmp_path / "whole")

    # Evaluation of the run does not meet them either, and says so.
    scores = EvalConfig(checkpoint=str(tmp_path / "whole"), split="train", num_views=1,
                        num_workers=0)  # fmt: skip
    evaluation.evaluate(scores)
    result = json.loads((tmp_path / "whole/eval_train/result.json").read_text())
    assert (result["num_evaluated"], result["num_missing"]) == (38, 2)
    assert [m["reason"] for m in result["missing"]] == [crashed + hint, hung + hint]


@pytest.mark.long
def test_two_processes_train_one_network(damaged: Path, tmp_path: Path) -> None:
    arguments = smoke(damaged, tmp_path / "run", "--optim.batch_size", "4",
                      "--data.max_bad_share", "0.05")  # fmt: skip
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone",
               "--nproc_per_node", "2", str(ROOT / "train.py"), *arguments]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len(losses(tmp_path / "run")) == 10
    assert "2 processes" in done.stdout
    # Each process meets clips of its own; the main one names those of both, once each.
    bad = [row["path"] for row in rows(tmp_path / "run", "unreadable")]
    assert sorted(bad) == unreadable_of(damaged)


def test_too_many_unreadable_clips_stop_the_run(damaged: Path, tmp_path: Path) -> None:
    with pytest.raises(
        TooManyBadClips, match=r"2 of 40 clips cannot be read.*max_bad_share"
    ) as error:
        run_train(smoke(damaged, tmp_path / "run", "--data.max_bad_share", "0.03"))
    assert str(error.value).count(".mp4") >= 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data.root", "nowhere"], "nowhere/dataset.json: not found. Prepare the dataset"),
        (["--data.train_split", "dev"], "no split 'dev'; it has: train, val, test"),
        (["--optim.batch_size", "64"], "a step reads 64 clips (optim.batch_size"),
        (["--frontend.num_mels", "400"], "frontend.num_mels (=400)"),
    ],
)
def test_bad_input_is_one_clear_error(
    toy_set: Path, tmp_path: Path, arguments: list[str], message: str
) -> None:
    with pytest.raises(ValueError) as error:  # noqa: PT011
        run_train(smoke(toy_set, tmp_path / "run", *arguments))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.long
def test_the_scripts_end_with_one_line(toy_set: Path, tmp_path: Path) -> None:
    typo = script("train.py", smoke(toy_set, tmp_path / "run", "--mix.alhpa", "1"))
    assert typo.returncode == 2
    assert typo.stderr.startswith("error: no option 'mix.alhpa'; did you mean 'mix.alpha'?")
    assert typo.stderr.count("\n") == 1
    missing = script("eval.py", ["--checkpoint", str(tmp_path / "nothing.pt")])
    assert missing.returncode == 1
    assert missing.stderr == f"error: {tmp_path / 'nothing.pt'}: no such checkpoint\n"


def test_a_split_to_validate_on_that_does_not_exist_is_an_error(
    toy_set: Path, tmp_path: Path
) -> None:
    arguments = smoke(toy_set, tmp_path / "run", "--data.val_split", "vall")
    with pytest.raises(ManifestError, match=r"no split 'vall'; it has: train, val, test"):
        run_train(arguments)


@pytest.mark.parametrize("name", ["val", ""])
def test_a_run_without_validation_says_so(
    toy_set: Path, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = read_manifest(toy_set, "train")
    folder = tmp_path / "manifest"
    write_manifest(folder, classes=manifest.classes, protocol="no val",
                   splits={"train": manifest.entries})  # fmt: skip
    run_train(smoke(toy_set, tmp_path / "run", "--data.manifest", str(folder),
                    "--data.val_split", name, "--optim.epochs", "1"))  # fmt: skip
    why = f"{folder} has no split 'val' (data.val_split)" if name else "data.val_split is empty"
    assert f"no validation: {why}; best.pt is not written" in capsys.readouterr().out
    assert not (tmp_path / "run/best.pt").exists()


@pytest.mark.long
def test_a_run_says_what_a_later_option_switched_off(
    toy_set: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "ramp.yaml").write_text("mix: {ramp_epochs: 1}")
    out = tmp_path / "run"
    arguments = smoke(toy_set, out, "--config", str(tmp_path / "ramp.yaml"), "--mix.method",
                      "none", "--data.val_split", "")  # fmt: skip
    first = train.train(load_config(TrainConfig, arguments))
    message = (
        "mix.ramp_epochs cannot act without a mix.method that mixes or drops (not none), got 1"
    )
    assert f"switched off: {message}" in capsys.readouterr().out
    # The resolved configuration, which does not name it, is of the same run.
    again = load_config(TrainConfig, ["--config", str(out / "config.yaml")])
    assert again.mix.ramp_epochs == 0
    ended = train.TrainResult(checkpoint=out / "last.pt", best=None, epochs=2, val=None)
    assert train.train(again) == first == ended
