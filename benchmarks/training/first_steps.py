"""One run of benchmarks/learning.py: the first steps of a variant with one seed.

    PYTHONPATH=benchmarks python -m training.first_steps --variant "former + norm" --seed 3 \\
        --steps 6 --out runs/try

Everything is as train.py does it but for the edits of the network, the looks into it, and that no
epoch is followed by an evaluation. OUT has the log of a run and run.json, which is what
benchmarks/learning.py keeps.
"""

import argparse
import json
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import fingerprint
from shared import result_files

from avmix.config import TrainConfig, to_yaml
from avmix.data.loader import BatchSource
from avmix.data.sample import Loaded, Place
from avmix.training import runtime, training_setup
from avmix.training.chance_level import HEADS, HeadEpoch
from avmix.training.engine import train_one_epoch
from avmix.training.runlog import RunLog
from avmix.training.training_setup import Training
from training import network_look, variants

COLUMNS = ("loss_fused", "loss_video", "loss_audio",
           "grad_norm_video", "grad_norm_audio", "grad_norm_fusion")  # fmt: skip
"""Of the steps in metrics.jsonl: losses in nats, norms of the gradient before clipping."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """Which run, and how closely it is looked at."""

    variant: str
    """One of `VARIANTS`."""
    seed: int
    steps: int
    """Of training, from the first; learning rate and mixing follow the schedule of all epochs."""
    look_every: int
    """Steps of an epoch between two looks; 0: none."""
    overrides: tuple[str, ...] = ()
    """Further options of train.py."""


class First(BatchSource):
    """The first batches of a source: an epoch that ends early, with the schedule of a whole one."""

    def __init__(self, source: BatchSource, most: int) -> None:
        """At most `most` batches are read of each epoch."""
        self._source, self._most = source, most

    def read(self, batches: Iterable[Sequence[Place]], epoch: int | None) -> Iterator[Loaded]:
        """As `BatchSource`."""
        return self._source.read(islice(batches, self._most), epoch)

    def close(self) -> None:
        """As `BatchSource`."""
        self._source.close()


def configured(question: Question, out: Path) -> TrainConfig:
    """The options of the run; exits as train.py does."""
    variant = variants.VARIANTS[question.variant]
    words = ["--run.device", "cpu", "--run.threads", "1", "--data.num_workers", "0",
             "--run.save_every", str(question.look_every), "--run.seed", str(question.seed),
             "--run.out", str(out)]  # fmt: skip
    return fingerprint.configured(
        variants.CONFIG, [*variant.overrides, *question.overrides, *words]
    )


def one_run(question: Question, out: Path) -> dict[str, Any]:
    """Train; returns what is kept of it. A folder of an earlier run is deleted.

    Raises what train.py raises, and ValueError where the schedule has fewer steps.
    """
    shutil.rmtree(out, ignore_errors=True)
    config, began = configured(question, out), time.perf_counter()
    looks: list[network_look.Look] = []
    with runtime.start(device="cpu", threads=1) as here, ExitStack() as at_end:
        run = training_setup.build(config, here, at_end)
        variant = variants.VARIANTS[question.variant]
        optimizer = variants.edit(run.model, variant, config.optim, question.seed)
        run = replace(run, optimizer=optimizer)
        log = RunLog(out, here, config.run.log_every)
        at_end.callback(log.close)
        log.begin(to_yaml(config), epoch=0, step=0, steps_per_epoch=run.loader.num_steps)
        looker = network_look.Looker(run)

        def look(step: int) -> None:
            looks.append(looker.look(step))

        if question.look_every:
            look(0)
        epochs = train_steps(run, log, question.steps, look)
        protocol = run.train.protocol
    last = epochs[-1][HEADS.index("video")]
    lines = map(json.loads, (out / "metrics.jsonl").read_text().splitlines())
    steps = [row for row in lines if row["kind"] == "step"]
    (start,) = json.loads((out / "environment.json").read_text())
    return {
        "variant": question.variant,
        "seed": question.seed,
        "commit": start["git_commit"],
        "protocol": protocol,
        "seconds": round(time.perf_counter() - began, 1),
        "video_at_chance": last.at_chance,
        "guessing_video": last.guessing,
        "epoch_losses": {name: [epoch[n].loss for epoch in epochs] for n, name in enumerate(HEADS)},
        "steps": {name: [rounded(row[name]) for row in steps] for name in COLUMNS},
        "looks": {
            name: [rounded(value) for value in values]
            for name, values in network_look.series(looks).items()
        },
    }


def train_steps(
    run: Training, log: RunLog, num_steps: int, look: Callable[[int], None]
) -> list[tuple[HeadEpoch, ...]]:
    """The first `num_steps` steps; returns each head of each epoch, of the last as far as it went.

    `look(n)` is called after n steps, wherever train.py would save. Raises ValueError where the
    run has fewer steps.
    """
    config, per_epoch = run.config, run.loader.num_steps
    if not 1 <= num_steps <= config.optim.epochs * per_epoch:
        raise ValueError(f"{num_steps} steps of {config.optim.epochs} epochs of {per_epoch}")
    found = []
    for epoch, done in enumerate(range(0, num_steps, per_epoch)):
        watch = train_one_epoch(
            run.network, run.frontend, run.optimizer,
            replace(run.loader, source=First(run.loader.source, num_steps - done)),
            config, run.here, log, epoch=epoch, first_step=0,
            save=lambda step, done=done: look(done + step), meter=run.meter,
        )  # fmt: skip
        found.append(run.meter.epoch_done())
        log.epoch_done(epoch, watch, {}, [head.loss for head in found[-1]])
    return found


def rounded(value: float | None) -> float | None:
    """Four significant digits."""
    return None if value is None else float(f"{value:.4g}")


def main() -> None:
    """Write what is kept of one run to OUT/run.json."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--variant", choices=variants.VARIANTS, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--look-every", type=int, default=20, help="steps; 0: never (20)")
    parser.add_argument("--out", type=Path, required=True, help="folder of the run")
    parser.add_argument("overrides", nargs="*", help="after --: options of train.py")
    args = parser.parse_args()
    question = Question(variant=args.variant, seed=args.seed, steps=args.steps,
                        look_every=args.look_every, overrides=tuple(args.overrides))  # fmt: skip
    found = one_run(question, args.out)
    result_files.write(args.out / "run.json", found)


if __name__ == "__main__":
    main()
