"""Evaluate a checkpoint: `python eval.py`, `avmix evaluate` and `avmix.evaluate(config)`."""

from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from avmix.commands.evaluation_report import print_report, write_report
from avmix.config import EvalConfig, to_yaml
from avmix.data.dataset import EvalSet
from avmix.data.loader import eval_loader, read_limits
from avmix.data.manifest import read_manifest
from avmix.data.quarantine import Quarantine
from avmix.evaluation.kept_predictions import KeptPredictions, Origin, kept_of
from avmix.evaluation.metrics import Scores, all_scores
from avmix.evaluation.prediction_file import NAME, found_in, read_predictions, write_predictions
from avmix.evaluation.score_table import check_comparable, score_table
from avmix.models import build_model
from avmix.models.frontend import Frontend
from avmix.system.paths import unmakable
from avmix.system.printing import console_of, echo_on
from avmix.training import checkpoint, engine, runtime
from avmix.training.checkpoint import Checkpoint, CheckpointError
from avmix.training.run_environment import environment


def evaluate(config: EvalConfig) -> dict[str, Scores | None]:
    """Evaluate, print, write; returns the metrics of each row of the table, None where no clip has
    its modality.

    Raises ValueError (`ManifestError`, `CheckpointError`, `PredictionsError`, an option that does
    not fit the machine), `TooManyBadClips` when no clip can be read, and `LoaderError`.
    """
    if config.predictions:
        path = Path(config.predictions)
        kept = read_predictions(path)
        out = Path(config.out) if config.out else path if path.is_dir() else path.parent
        _refuse(out)
        return _report(config, out, kept)
    return _evaluate(config)


class _Found(NamedTuple):
    path: Path
    state: Checkpoint
    averaged: bool
    """Whether the average of the weights was evaluated."""


def _report(config: EvalConfig, out: Path, kept: KeptPredictions) -> dict[str, Scores | None]:
    """Tables and files of predictions; returns the metrics of each row."""
    alone = [read_predictions(found_in(Path(run), kept.split)) for run in config.alone]
    for run, other in zip(config.alone, alone, strict=True):
        check_comparable(kept, other, run)
    table = score_table(kept, num_resamples=config.resamples, seed=config.seed, alone=alone)
    scores = all_scores(kept.predictions()) if kept.single else dict.fromkeys(kept.probability)
    write_report(out, kept, scores, table, config)  # first: `| head` may end us
    print_report(kept, table)
    return scores


def _evaluate(config: EvalConfig) -> dict[str, Scores | None]:
    path = Path(config.checkpoint)
    path = path / "last.pt" if path.is_dir() else path
    state = checkpoint.load(path)
    trained = state.config
    if config.raw_weights and state.average is None:
        raise CheckpointError(f"raw_weights cannot act: {path} has no average of its weights")
    if config.flip and trained.augment.never_flip:
        raise ValueError(
            f"flip: {path} was trained with augment.never_flip; which clips may be mirrored would "
            "depend on their labels, which evaluation must not know"
        )
    root = Path(config.root or trained.data.root)
    folder = Path(config.manifest or trained.data.manifest or root)
    manifest = read_manifest(folder, config.split)
    if list(manifest.classes) != state.classes:
        raise CheckpointError(
            f"{path} was trained on other classes ({len(state.classes)}) than {folder} has "
            f"({len(manifest.classes)})"
        )
    if len(state.classes) < 2:
        raise CheckpointError(
            f"{path}: its only class is {state.classes[0]!r}; there is nothing to evaluate"
        )
    out = Path(config.out) if config.out else path.parent / f"eval_{config.split}"
    _refuse(out)
    for run in config.alone:
        found_in(Path(run), config.split)  # before hours of work
    quarantine = Quarantine(out / "quarantine.jsonl", also=[path.parent / "quarantine.jsonl"])
    with runtime.start(device=config.device, threads=config.threads) as here:
        model = build_model(
            trained.model, len(state.classes), clip=trained.clip, frontend=trained.frontend,
            load_weights=False,
        )  # fmt: skip
        averaged = state.average is not None and not config.raw_weights
        checkpoint.load_weights(path, state, model, average=averaged)
        views = EvalSet(
            manifest=manifest, root=root, clip=trained.clip, num_views=config.num_views,
            crops=config.crops, flip=config.flip,
            verify=config.verify, limits=read_limits(config.num_workers, config.clip_seconds),
        )  # fmt: skip
        loader = eval_loader(
            views, batch_size=config.batch_size, num_workers=config.num_workers,
            clip_seconds=config.clip_seconds, quarantine=quarantine,
            rank=here.rank, world_size=here.world_size, pin=here.device.type == "cuda",
        )  # fmt: skip
        frontend = Frontend(trained.frontend, trained.clip.sample_rate, model.pixels)
        frontend = frontend.to(here.device)
        with closing(loader):
            found = engine.evaluate(
                model.to(here.device), frontend, loader, here, average=config.average
            )
        if not here.is_main:
            return all_scores(found.predictions)
        for notice in (quarantine.notice(), state.notice()):
            if notice:
                echo_on(console_of(), notice)
        _say_which(config, _Found(path, state, averaged))
        origin = _origin(config, _Found(path, state, averaged))
        kept = kept_of(manifest, found.predictions, found.bad, origin)
        write_predictions(out / NAME, kept)
        return _report(config, out, kept)


def _origin(config: EvalConfig, found: _Found) -> Origin:
    state = found.state
    return Origin(
        checkpoint=state.digest or "",
        config=to_yaml(state.config),
        weights="average" if found.averaged else "last",
        epochs_trained=state.epoch,
        chance=None if state.chance is None else state.chance.epochs,
        views={name: getattr(config, name) for name in ("num_views", "crops", "flip", "average")},
        environment=environment(),
    )


def _say_which(config: EvalConfig, found: _Found) -> None:
    """Which checkpoint and which weights were evaluated, where there are others."""
    path, state, averaged = found
    if path != Path(config.checkpoint) and (best := path.with_name("best.pt")).exists():
        echo_on(console_of(), f"evaluated {path}, the last epoch; {best} is the one that "
                f"was best on val: --checkpoint {best} evaluates it")  # fmt: skip
    if averaged:
        echo_on(console_of(), "evaluated the average of the weights (optim.ema_decay "
                f"{state.config.optim.ema_decay:g}); --raw_weights true evaluates the last "
                "ones")  # fmt: skip


def _refuse(out: Path) -> None:
    """Raises ValueError where nothing can be written."""
    if why := unmakable(out):
        raise ValueError(f"out: {out} {why}")
