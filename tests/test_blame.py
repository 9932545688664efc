"""Loaders killed and stopped from outside during a real training: nothing of it is left."""

import multiprocessing
import os
import signal
import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from avmix.commands import train
from avmix.config import TrainConfig, load_config
from avmix.training import checkpoint
from avmix.training.measurements import StepRecord, Stopwatch
from avmix.training.runlog import RunLog

ROOT = Path(__file__).parents[1]
CLIP_SECONDS = 1.0


def run(data: Path, out: Path, epochs: int) -> dict[str, torch.Tensor]:
    """Weights after so many epochs of five steps."""
    arguments = ["--config", str(ROOT / "configs/smoke.yaml"), "--data.root", str(data),
                 "--run.out", str(out), "--run.threads", "1", "--data.num_workers", "2",
                 "--data.clip_seconds", str(CLIP_SECONDS), "--data.val_split", "",
                 "--optim.epochs", str(epochs)]  # fmt: skip
    return checkpoint.load(train.train(load_config(TrainConfig, arguments)).checkpoint).model


@pytest.mark.parametrize(
    ("epochs", "kills", "pauses"),
    [(2, 3, 1), pytest.param(10, 30, 10, marks=pytest.mark.slow)],
)
def test_loaders_killed_and_stopped_cost_no_clip_and_change_no_weight(
    toy_set: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    epochs: int,
    kills: int,
    pauses: int,
) -> None:
    undisturbed = run(toy_set, tmp_path / "undisturbed", epochs)
    random = np.random.default_rng(0)
    acts = random.permutation(["kill"] * kills + ["pause"] * pauses).tolist()
    done, timers = RunLog.step_done, []

    def disturbed(log: RunLog, record: StepRecord, watch: Stopwatch) -> None:
        done(log, record, watch)
        loaders = sorted(p.pid for p in multiprocessing.active_children() if p.pid)
        if acts and loaders:
            pid = int(random.choice(loaders))
            if acts.pop() == "kill":
                os.kill(pid, signal.SIGKILL)
            else:
                os.kill(pid, signal.SIGSTOP)
                timers.append(threading.Timer(1.5 * CLIP_SECONDS, _go_on, [pid]))
                timers[-1].start()

    monkeypatch.setattr(RunLog, "step_done", disturbed)
    weights = run(toy_set, tmp_path / "disturbed", epochs)
    for timer in timers:
        timer.join()
    assert not acts
    assert not (tmp_path / "disturbed/quarantine.jsonl").exists()
    assert weights.keys() == undisturbed.keys()
    for name, tensor in weights.items():
        assert torch.equal(tensor, undisturbed[name]), name


def _go_on(pid: int) -> None:
    """It may have been ended for its silence meanwhile."""
    try:
        os.kill(pid, signal.SIGCONT)
    except ProcessLookupError:
        return
