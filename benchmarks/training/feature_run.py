"""One run on kept features, in this process: training without validation between epochs, then an
evaluation."""

import contextlib
import io
import shutil
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from avmix.config import TrainConfig, load_config, to_yaml
from avmix.data.feature_loader import feature_eval_loader
from avmix.data.kept_features import open_features
from avmix.data.loader import EvalLoader
from avmix.data.manifest import Manifest
from avmix.data.train_clips import train_clips
from avmix.evaluation.kept_predictions import KeptPredictions, Origin, kept_of
from avmix.evaluation.metrics import Scores, all_scores
from avmix.evaluation.score_table import score_table
from avmix.training import runtime
from avmix.training.engine import train_one_epoch
from avmix.training.evaluation_loop import evaluate
from avmix.training.runlog import RunLog
from avmix.training.training_setup import Training, build

ROWS = ("fused", "video head", "audio head", "audio missing", "video missing")


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """A run."""

    kept: KeptPredictions
    """Of the split that was asked for."""
    seconds: float
    """Of the steps."""
    steps: int
    ratio: list[float]
    """Logarithm of the ratio of the confidences of video and audio, epoch by epoch."""


def run(words: Mapping[str, Any], *, test: bool, keep: Path | None = None) -> Done:
    """Train with these options; evaluate the last epoch on the test split of the features, or else
    on what is held out. `keep`: folder for its checkpoint."""
    config = config_of_run(words, keep)
    with (
        contextlib.redirect_stdout(io.StringIO()),
        runtime.start(device="cpu", threads=1) as here,
        ExitStack() as at_end,
    ):
        training = build(config, here, at_end)
        seconds, ratio = _epochs(training)
        loader, manifest = _test(training) if test else _held_out(training)
        found = evaluate(training.model, training.frontend, loader, here)
        if keep is not None:
            training.save("last.pt", config.optim.epochs, 0, -1.0)
    origin = Origin(checkpoint="", config=to_yaml(training.config), weights="last",
                    epochs_trained=config.optim.epochs, chance=None, views={"num_views": 1},
                    environment={})  # fmt: skip
    return Done(
        kept=kept_of(manifest, found.predictions, found.bad, origin), seconds=seconds,
        steps=training.loader.num_steps * config.optim.epochs, ratio=ratio,
    )  # fmt: skip


def config_of_run(words: Mapping[str, Any], out: Path | None = None) -> TrainConfig:
    """Of a run with these options into an empty folder."""
    folder = out or Path("runs/feature_run")
    shutil.rmtree(folder, ignore_errors=True)
    options = {"run.out": folder, "run.threads": 1, "run.device": "cpu", "data.verify": "never",
               "run.log_every": 1000, **words}  # fmt: skip
    arguments = [word for key, value in options.items() if key != "config"
                 for word in (f"--{key}", str(value))]  # fmt: skip
    return load_config(TrainConfig, ["--config", str(words["config"]), *arguments])


def _epochs(training: Training) -> tuple[float, list[float]]:
    """Train all epochs; the seconds of the steps, and the ratios of confidences."""
    config, here, seconds, ratios = training.config, training.here, 0.0, []
    log = RunLog(Path(config.run.out), here, config.run.log_every)
    log.begin("", epoch=0, step=0, steps_per_epoch=training.loader.num_steps)
    try:
        for epoch in range(config.optim.epochs):
            watch = train_one_epoch(
                training.network, training.frontend, training.optimizer, training.loader, config,
                here, log, epoch=epoch, first_step=0, save=lambda step: None, meter=training.meter,
                average=training.average, class_weight=training.class_weight,
                sets=training.sets, balancing=training.balancing,
            )  # fmt: skip
            seconds += watch.seconds
            losses = [head.loss for head in training.meter.epoch_done()]
            if losses[1] is not None and losses[2] is not None:
                ratios.append(round(losses[2] - losses[1], 4))
            if config.balance.method == "g_blend":
                began = time.perf_counter()
                assert training.val is not None
                found = evaluate(training.model, training.frontend, training.val, here)
                scores = all_scores(found.predictions)
                nll = [one.nll if isinstance(one := scores[row], Scores) else None
                       for row in ROWS[:3]]  # fmt: skip
                training.balancing.epoch_done(epoch, config.loss, losses, nll)
                seconds += time.perf_counter() - began
    finally:
        log.close()
    return seconds, ratios


def _test(training: Training) -> tuple[EvalLoader, Manifest]:
    kept = open_features(Path(training.config.data.features), "test", verify=False)
    modalities = training.config.model.modalities
    return feature_eval_loader(kept, kept.manifest, modalities=modalities,
                               batch_size=256), kept.manifest  # fmt: skip


def _held_out(training: Training) -> tuple[EvalLoader, Manifest]:
    held_out = train_clips(training.config.data).held_out
    assert held_out is not None
    assert training.val is not None
    return training.val, held_out.val


def scores_of(kept: KeptPredictions) -> dict[str, dict[str, float]]:
    """Top-1 and negative log-likelihood of each row of the table."""
    table = score_table(kept, num_resamples=0)
    return {row: {"top1": of["top1"].value, "nll": of["nll"].value}
            for row in ROWS if (of := table.rows[row])}  # fmt: skip
