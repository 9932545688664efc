"""What a configuration computes: the first numbers of its training, on a small synthetic dataset.

    python benchmarks/fingerprint.py --config configs/demo.yaml [-- --mix.method none]

A published table is true as long as the code trains as it did when the table was measured. Training
again takes hours; the first steps of it take seconds, and nearly every change of what is computed
(draws, decoding, scaling, mixing, losses, schedule, evaluation) shows in their numbers. A
fingerprint is these numbers. `benchmarks/seeds.py` writes it into every result of training, and the
tests take it again: where it differs, the result must be measured again.

Everything is as configured but for where the data come from: 40 train, 10 val and 20 test clips of
datasets/toy, through the real decoder, on the CPU with one thread.
"""

import argparse
import contextlib
import copy
import io
import json
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Self

import torch
from shared.paths import ROOT

from avmix.commands import evaluate as evaluation
from avmix.config import DataConfig, EvalConfig, TrainConfig, load_config
from avmix.system import strict_json
from avmix.training import runtime, training_setup
from avmix.training.engine import train_one_epoch
from avmix.training.runlog import RunLog

STAND_IN = ("--train", "40", "--val", "10", "--test", "20")
"""Options of datasets/toy/make.py."""
MOST_FILES = 20
"""Read in a step: a larger batch is cut down, so that an epoch has at least two steps."""
MOST_STEPS = 2
"""Of an epoch: one with the initial weights, one that shows the update. What processors round
differently grows about tenfold with every update, until nothing can be told from it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fingerprint:
    """Numbers that a configuration gives on the stand-in for its data."""

    stand_in: str
    """The command that makes the data."""
    batch_size: int
    """Clips per step: as configured, or fewer where the stand-in is too small for it."""
    steps: tuple[dict[str, float], ...]
    """Rows of metrics.jsonl, of the first steps of the first epoch, of the first that is wholly
    mixed and of the last: learning rate, losses, gradient norms. Also the root mean square of what
    goes into either encoder: batch normalisation hides a scale from losses and gradients."""
    nll: dict[str, float]
    """Of each row of the evaluation of the val split after these steps."""

    @classmethod
    def of(cls, saved: dict[str, Any]) -> Self:
        """The one whose `asdict` was saved as JSON."""
        return cls(**{**saved, "steps": tuple(saved["steps"])})


def configured(config: str, overrides: list[str]) -> TrainConfig:
    """The options of `train.py --config CONFIG OVERRIDES`; exits as that does."""
    with contextlib.chdir(ROOT):
        return load_config(TrainConfig, ["--config", config, *overrides])


def on_stand_in(config: TrainConfig, folder: Path) -> TrainConfig:
    """The same training on the toy set in `folder`, in this process on the CPU."""
    per_clip = config.mix.clips_per_mix / config.augment.repeats  # files
    num_files = min(MOST_FILES, round(config.optim.batch_size * per_clip))
    return replace(
        config,
        data=DataConfig(root=str(folder), num_workers=0),
        optim=replace(config.optim, batch_size=round(num_files / per_clip)),
        run=replace(config.run, out="", device="cpu", threads=1, save_every=0, save_plans=False),
    )


def make_stand_in(folder: Path) -> Path:
    """Write the toy set that fingerprints are taken on; returns `folder`."""
    make = [sys.executable, str(ROOT / "datasets/toy/make.py"), "--out", str(folder), *STAND_IN]
    subprocess.run(make, check=True, capture_output=True)
    return folder


def of_config(config: str, overrides: list[str]) -> Fingerprint:
    """The fingerprint of a configuration; the stand-in is made and deleted."""
    chosen = configured(config, overrides)
    with tempfile.TemporaryDirectory() as folder:
        return take(on_stand_in(chosen, make_stand_in(Path(folder) / "toy")))


def take(config: TrainConfig) -> Fingerprint:
    """Train a few steps and evaluate; `config` is from `on_stand_in`. Seconds.

    Raises what train.py and eval.py raise.
    """
    threads = torch.get_num_threads()
    with tempfile.TemporaryDirectory() as out:
        config = replace(config, run=replace(config.run, out=out))
        try:
            inputs = _train(config)
            with contextlib.redirect_stdout(io.StringIO()):
                scores = evaluation.evaluate(
                    EvalConfig(checkpoint=out, split="val", num_workers=0, threads=1, device="cpu")
                )
        finally:
            torch.set_num_threads(threads)
        rows = map(json.loads, (Path(out) / "metrics.jsonl").read_text().splitlines())
        steps = tuple(
            {k: v for k, v in row.items() if k != "kind"} | rms
            for row, rms in zip(rows, inputs, strict=True)
        )
    return Fingerprint(
        stand_in=f"datasets/toy/make.py {' '.join(STAND_IN)}",
        batch_size=config.optim.batch_size,
        steps=steps,
        nll={row: score.nll for row, score in scores.items() if score},
    )


def _train(config: TrainConfig) -> list[dict[str, float]]:
    """The first steps of the first epoch, whose checkpoint is kept; then, from the initial weights
    as well, those of the first that is wholly mixed and of the last. Returns what went in."""
    inputs: list[dict[str, float]] = []

    def look(network: torch.nn.Module, arguments: tuple[torch.Tensor, ...]) -> None:
        if network.training:  # not the pass of clips as they are, for consistency losses
            video, audio = (x.float().square().mean().sqrt().item() for x in arguments[:2])
            inputs.append({"rms_video": video, "rms_audio": audio})

    with runtime.start(device="cpu", threads=1) as here, ExitStack() as at_end:
        run = training_setup.build(config, here, at_end)
        run.loader.sampler.num_steps = min(run.loader.num_steps, MOST_STEPS)
        run.network.register_forward_pre_hook(look)
        initial = copy.deepcopy(run.state)
        log = RunLog(Path(config.run.out), here, config.run.log_every)
        at_end.callback(log.close)
        log.begin("", epoch=0, step=0, steps_per_epoch=run.loader.num_steps)
        last = config.optim.epochs - 1
        for epoch in sorted({0, min(config.mix.ramp_epochs, last), last}):
            run.model.load_state_dict(initial.model)
            run.optimizer.load_state_dict(initial.optimizer)
            train_one_epoch(
                run.network, run.frontend, run.optimizer, run.loader, config, here, log,
                epoch=epoch, first_step=0, save=lambda _: None, meter=run.meter,
                average=run.average,
            )  # fmt: skip
            if epoch == 0:
                run.save("last.pt", 1, 0, 0.0)
    return inputs


def main() -> None:
    """Print the fingerprint of a configuration."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--config", required=True, help="YAML file")
    parser.add_argument("overrides", nargs="*", help="after --: options of train.py")
    args = parser.parse_args()
    found = of_config(args.config, args.overrides)
    print(strict_json.dumps(asdict(found), indent=2))


if __name__ == "__main__":
    main()
