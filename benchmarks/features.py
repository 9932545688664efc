"""How fast training on kept features is, beside a plain torch loop and scikit-learn.

    python benchmarks/features.py        writes benchmarks/results/features.json

As many synthetic features as UCF101's eight classes have clips, as wide as those of two
EfficientNet-Lite0. A turn is an epoch: of `train_one_epoch`, with its plans, log and curves; of a
loop as it is usually written, with the same network, AdamW and mixup by hand, on tensors in memory;
of scikit-learn's `SGDClassifier`, which fits the concatenated features in the same batches.
One thread; candidates take turns, in another order every round. What counts is CPU time, of which
other work on the machine takes less away than of the time on the clock. The whole command,
50 epochs with validation and checkpoints, and a logistic regression to its end are measured once.
"""

import argparse
import contextlib
import io
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from shared import machine, provenance
from shared.medians import median
from shared.paths import RESULTS, ROOT
from shared.rounds import rounds_in_turn
from sklearn.linear_model import LogisticRegression, SGDClassifier
from torch import nn
from torch.nn import functional as F

from avmix.commands.train import train
from avmix.config import DataConfig, MixConfig, ModelConfig, OptimConfig, RunConfig, TrainConfig
from avmix.data.kept_features import open_features
from avmix.models.on_features import build_on_features
from avmix.system import strict_json
from avmix.system.atomic_files import replace_text
from avmix.training import runtime
from avmix.training.engine import train_one_epoch
from avmix.training.runlog import RunLog
from avmix.training.runtime import Runtime
from avmix.training.training_setup import build
from tests.kept_folder import write_kept

RESULT = RESULTS / "features.json"
CLIPS, VAL_CLIPS, CLASSES, WIDTHS = 1049, 300, 8, (2560, 2560)
EPOCHS = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """Options that decide what a step costs."""

    batch_size: int
    dropout: float

    @property
    def name(self) -> str:
        """As tables and results call it."""
        return f"batch {self.batch_size}, dropout {self.dropout:g}"


WORKLOADS = (
    Workload(batch_size=64, dropout=0.0),
    Workload(batch_size=64, dropout=0.2),
    Workload(batch_size=256, dropout=0.0),
    Workload(batch_size=256, dropout=0.2),
)


def config_of(folder: Path, out: Path, work: Workload, method: str) -> TrainConfig:
    """A run on the features in `folder`."""
    return TrainConfig(
        data=DataConfig(features=str(folder)),
        mix=MixConfig(method=method),
        model=ModelConfig(dropout=work.dropout),
        optim=OptimConfig(epochs=EPOCHS, batch_size=work.batch_size),
        run=RunConfig(out=str(out), device="cpu", threads=1),
    )


Epoch = Callable[[], None]
"""Trains on all whole batches once."""


def ours(config: TrainConfig, here: Runtime, at_end: ExitStack) -> Epoch:
    """`train_one_epoch`, again and again."""
    run = build(config, here, at_end)
    log = RunLog(Path(config.run.out), here, config.run.log_every)
    at_end.callback(log.close)
    log.begin("", epoch=0, step=0, steps_per_epoch=run.loader.num_steps)
    epochs = iter(range(10_000))

    def epoch() -> None:
        train_one_epoch(
            run.network, run.frontend, run.optimizer, run.loader, config, here, log,
            epoch=next(epochs), first_step=0, save=lambda _: None, meter=run.meter,
        )  # fmt: skip

    return epoch


def loop(folder: Path, work: Workload, *, mixes: bool) -> Epoch:
    """A training loop as it is usually written."""
    kept = open_features(folder, "train")
    video, audio = (torch.from_numpy(kept.features[n][:, 0].copy()) for n in ("video", "audio"))
    target = F.one_hot(torch.from_numpy(kept.labels), CLASSES).float()
    here = torch.ones(work.batch_size, dtype=torch.bool)
    model = build_on_features(ModelConfig(dropout=work.dropout), *WIDTHS, CLASSES)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.05)
    law = torch.distributions.Beta(0.2, 0.2)

    def epoch() -> None:
        model.train()
        order = torch.randperm(CLIPS)
        for first in range(0, CLIPS - work.batch_size + 1, work.batch_size):
            rows = order[first : first + work.batch_size]
            v, a, y = video[rows], audio[rows], target[rows]
            if mixes:
                partner, lam = torch.randperm(len(rows)), law.sample((len(rows), 1))
                v, a, y = (lam * x + (1 - lam) * x[partner] for x in (v, a, y))
            logits = model(v, a, here, here).logits
            loss = torch.stack([F.cross_entropy(one, y) for one in logits]).sum()
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 5.0)
            optimizer.step()

    return epoch


def concatenated(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Standardised features of both modalities side by side, and the classes."""
    kept = open_features(folder, "train")
    x = np.concatenate([kept.features["video"][:, 0], kept.features["audio"][:, 0]], 1)
    return (x - x.mean(0)) / x.std(0), kept.labels


def scikit(folder: Path, work: Workload) -> Epoch:
    """`SGDClassifier`: one head, no dropout, no mixing."""
    x, y = concatenated(folder)
    model, draw = SGDClassifier(loss="log_loss"), np.random.default_rng(0)

    def epoch() -> None:
        order = draw.permutation(CLIPS)
        for first in range(0, CLIPS - work.batch_size + 1, work.batch_size):
            rows = order[first : first + work.batch_size]
            model.partial_fit(x[rows], y[rows], classes=np.arange(CLASSES))

    return epoch


def measure(folder: Path, work: Workload, rounds: int, here: Runtime) -> dict[str, Any]:
    """Median CPU seconds, and seconds on the clock, of an epoch of each candidate."""
    with tempfile.TemporaryDirectory() as out, ExitStack() as at_end:

        def run(method: str) -> Epoch:
            config = config_of(folder, Path(out) / method, work, method)
            config = replace(config, data=replace(config.data, val_split=""))
            return ours(config, here, at_end)

        epochs = {
            "avmix, none": run("none"),
            "avmix, mixup@feature": run("mixup@feature"),
            "torch loop, none": loop(folder, work, mixes=False),
            "torch loop, mixup": loop(folder, work, mixes=True),
            "SGDClassifier": scikit(folder, work),
        }
        cpu: dict[str, list[float]] = {name: [] for name in epochs}
        clock: dict[str, list[float]] = {name: [] for name in epochs}
        for turn in rounds_in_turn(epochs, rounds, warm_up=2):
            for name in turn.order:
                began = time.process_time(), time.perf_counter()
                epochs[name]()
                spent = time.process_time() - began[0], time.perf_counter() - began[1]
                if turn.counts:
                    cpu[name].append(spent[0])
                    clock[name].append(spent[1])
    clips = CLIPS // work.batch_size * work.batch_size
    found = {name: {"clips_per_cpu_second": round(clips / median(cpu[name], 6)),
                    "best_clips_per_cpu_second": round(clips / min(cpu[name])),
                    "best_clips_per_second": round(clips / min(clock[name]))}
             for name in epochs}  # fmt: skip
    # Of neighbours in time: what disturbs the machine disturbs both.
    pairs = zip(cpu["avmix, none"], cpu["avmix, mixup@feature"], strict=True)
    shares = [1 - plain / mixed for plain, mixed in pairs]
    print(work.name, {name: numbers["clips_per_cpu_second"] for name, numbers in found.items()},
          f"mixing {median(shares):.1%}", flush=True)  # fmt: skip
    return {"batch_size": work.batch_size, "dropout": work.dropout,
            "candidates": found, "mixing_share": median(shares, 4)}  # fmt: skip


def whole(folder: Path) -> dict[str, float]:
    """CPU seconds of the whole command, and of a logistic regression to its end."""
    work = WORKLOADS[0]
    with tempfile.TemporaryDirectory() as out, contextlib.redirect_stdout(io.StringIO()):
        began, clock = time.process_time(), time.perf_counter()
        train(config_of(folder, Path(out), work, "mixup@feature"))
        ours, ours_clock = time.process_time() - began, time.perf_counter() - clock
    x, y = concatenated(folder)
    began = time.process_time()
    LogisticRegression(C=0.01, max_iter=5000).fit(x, y)
    return {"train_cpu_seconds": round(ours, 2), "train_seconds": round(ours_clock, 2),
            "logistic_regression_cpu_seconds": round(time.process_time() - began, 2)}  # fmt: skip


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=61, help="epochs of each candidate (61)")
    provenance.add_option(parser)
    args = parser.parse_args()
    origin = provenance.measured(args, "features")
    environment = machine.facts(["torch", "numpy", "scikit-learn"])
    with tempfile.TemporaryDirectory() as folder, runtime.start(device="cpu", threads=1) as here:
        features = write_kept(
            Path(folder) / "features", {"train": CLIPS, "val": VAL_CLIPS}, widths=WIDTHS,
            num_classes=CLASSES, signal=0.05, silent_every=0,
        )  # fmt: skip
        result = {
            "kind": "features",
            "command": "python benchmarks/features.py",
            "measured": origin,
            "environment": environment,
            "num_clips": CLIPS,
            "widths": list(WIDTHS),
            "num_classes": CLASSES,
            "epochs": EPOCHS,
            "rounds": args.rounds,
            "workloads": [measure(features, work, args.rounds, here) for work in WORKLOADS],
            "whole": whole(features),
            "load_average_at_the_end": machine.load_average(),
        }
    replace_text(RESULT, strict_json.dumps(result, indent=1) + "\n")
    print(f"wrote {RESULT.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
