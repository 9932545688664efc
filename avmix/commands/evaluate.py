"""Evaluate a checkpoint: `python eval.py`, `avmix evaluate` and `avmix.evaluate(config)`."""

from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from avmix.commands.evaluation_report import print_report, write_page, write_report
from avmix.commands.evaluation_shots import shots_of
from avmix.commands.label_set_report import report_sets
from avmix.commands.robustness import measure_robustness, subject_of
from avmix.config import DataConfig, EvalConfig, TrainConfig, to_yaml
from avmix.config.unset import is_unset, plain
from avmix.data.eval_set import EvalSet
from avmix.data.feature_loader import feature_eval_loader
from avmix.data.holdout import HELD_OUT, hold_out
from avmix.data.kept_features import KeptFeatures, changed_identity, open_features
from avmix.data.loader import EvalLoader, eval_loader, read_limits
from avmix.data.manifest import Manifest, read_manifest, splits_of
from avmix.data.quarantine import Quarantine
from avmix.evaluation.clip_shots import write_shots
from avmix.evaluation.kept_predictions import KeptPredictions, Origin, kept_of
from avmix.evaluation.metrics import AllScores, all_scores
from avmix.evaluation.prediction_file import NAME, found_in, read_predictions, write_predictions
from avmix.evaluation.score_table import check_comparable, score_table
from avmix.evaluation.separate_networks import mean_of_both
from avmix.models import LateFusionClassifier, build_model
from avmix.models.frontend import Frontend
from avmix.models.on_features import AnyFrontend, KeptFrontend, build_on_features
from avmix.system.paths import unmakable
from avmix.system.printing import console_of, echo_on
from avmix.training import checkpoint, evaluation_loop, runtime
from avmix.training.checkpoint import Checkpoint, CheckpointError
from avmix.training.run_environment import environment
from avmix.training.runtime import Runtime


def evaluate(config: EvalConfig) -> AllScores:
    """Evaluate, print, write; returns the metrics of each row of the table, None where no clip has
    its modality.

    Raises ValueError (`ManifestError`, `FeaturesError`, `CheckpointError`, `PredictionsError`, an
    option that does not fit the machine), `TooManyBadClips` when no clip can be read, and
    `LoaderError`.
    """
    if config.predictions:
        path = Path(config.predictions)
        kept = read_predictions(path)
        out = Path(config.out) if config.out else path if path.is_dir() else path.parent
        _refuse(out)
        if config.mean_with:
            kept = mean_of_both(kept, read_predictions(Path(config.mean_with)))
            write_predictions(out / NAME, kept)
            return _report(config, out, kept)[0]
        return _report(config, out, kept, path if path.is_dir() else path.parent)[0]
    return _evaluate(config)


class _Found(NamedTuple):
    path: Path
    state: Checkpoint
    averaged: bool
    """Whether the average of the weights was evaluated."""


def _report(
    config: EvalConfig, out: Path, kept: KeptPredictions, beside: Path | None = None
) -> tuple[AllScores, dict[str, Any]]:
    """Tables and files of predictions; returns the metrics of each row and what is in result.json.
    `beside`: the folder of the predictions, where it is another one."""
    alone = [read_predictions(found_in(Path(run), kept.split)) for run in config.alone]
    for run, other in zip(config.alone, alone, strict=True):
        check_comparable(kept, other, run)
    if kept.set_names:
        return report_sets(out, kept, config, alone, beside)
    table = score_table(kept, num_resamples=config.resamples, seed=config.seed, alone=alone)
    scores = all_scores(kept.predictions())
    # First: `| head` may end us.
    result = write_report(out, kept, scores, table, config, beside)
    print_report(kept, table)
    return scores, result


def _evaluate(config: EvalConfig) -> AllScores:
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
    manifest, kept = _split(config, path, state)
    num_views = plain(config.num_views) if kept is None else kept.num_eval_views
    config = replace(config, num_views=num_views)
    several = _several(trained, manifest)
    if config.robustness and trained.loss.multi_hot:
        raise ValueError(f"robustness is of clips of one label; {path} was trained on several")
    if config.robustness and several:
        raise ValueError(f"robustness is of clips of one label; {manifest.protocol} has several")
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
        model, frontend, loader = _parts(config, state, manifest, kept, quarantine, here)
        averaged = state.average is not None and not config.raw_weights
        checkpoint.load_weights(path, state, model, average=averaged)
        views = None if kept is not None else _views(config, trained, manifest)
        with closing(loader):
            found = evaluation_loop.evaluate(
                model.to(here.device), frontend.to(here.device), loader, here, several,
                average=config.average, sets=trained.loss.label_sets(state.classes),
                one_of_many=several and not trained.loss.several_labels,
            )  # fmt: skip
            if not here.is_main:
                return all_scores(found.predictions)
            which = _Found(path, state, averaged)
            predictions = kept_of(manifest, found.predictions, found.bad, _origin(config, which))
            write_predictions(out / NAME, predictions)
            if views is not None:
                for folder, one in _pages(out, predictions):
                    folder.mkdir(parents=True, exist_ok=True)
                    write_shots(folder, shots_of(one, views, loader, trained.frontend), one)
        threads = runtime.omp_notice(here.threads, "threads")
        for notice in (threads, quarantine.notice(), state.notice()):
            if notice:
                echo_on(console_of(), notice)
        _say_which(config, which)
        scores, result = _report(config, out, predictions)
        if config.robustness:
            assert isinstance(frontend, Frontend)  # `_split` refuses it for features
            assert views is not None
            windows = replace(views, crops="centre", flip=False)
            with subject_of(config, trained, model, frontend, windows, quarantine, here) as subject:
                origin = predictions.origin
                measure_robustness(config.robustness, subject, out, checkpoint=origin.checkpoint,
                                   weights=origin.weights)  # fmt: skip
            write_page(out, predictions, result)
        return scores


def _split(
    config: EvalConfig, path: Path, state: Checkpoint
) -> tuple[Manifest, KeptFeatures | None]:
    """The clips of the split, and their features where the network was trained on features."""
    trained = state.config.data
    if state.features is None:
        if config.features:
            raise CheckpointError(f"features cannot act: {path} was trained on clips")
        folder = Path(config.manifest or trained.manifest or config.root or trained.root)
        manifest = _clips(config, trained, folder)
        _check_classes(manifest, folder, path, state)
        return manifest, None
    for name in ("root", "manifest", "num_workers", "clip_seconds", "crops", "flip",
                 "robustness"):  # fmt: skip
        if getattr(config, name) != getattr(EvalConfig, name):
            raise CheckpointError(f"{name} cannot act: {path} was trained on features")
    folder = Path(config.features or trained.features)
    held_out = _is_held_out(config, trained, folder)
    split = trained.train_split if held_out else config.split
    kept = open_features(folder, split, verify=config.verify == "first")
    manifest = kept.manifest
    if held_out:
        manifest = hold_out(manifest, trained.holdout, trained.holdout_seed).val
    _check_classes(manifest, folder, path, state)
    if changed := changed_identity(state.features, kept.header.identity_text):
        raise CheckpointError(
            f"{path} was trained on other features than {folder} holds ({', '.join(changed)})"
        )
    if not is_unset(config.num_views) and config.num_views != kept.num_eval_views:
        raise CheckpointError(
            f"num_views must be {kept.num_eval_views}, the views that {folder} holds of each clip, "
            f"got {config.num_views}"
        )
    return manifest, kept


def _clips(config: EvalConfig, trained: DataConfig, folder: Path) -> Manifest:
    """Of the split; of `val`, where the dataset has none, what the run held out (data.holdout)."""
    if _is_held_out(config, trained, folder):
        train = read_manifest(folder, trained.train_split)
        return hold_out(train, trained.holdout, trained.holdout_seed).val
    return read_manifest(folder, config.split)


def _is_held_out(config: EvalConfig, trained: DataConfig, folder: Path) -> bool:
    asked = config.split == HELD_OUT and trained.holdout > 0
    return asked and HELD_OUT not in splits_of(folder)


def _several(trained: TrainConfig, manifest: Manifest) -> bool:
    """Whether clips are judged by several labels: the network was trained so, or the clips are
    labelled so, as those of VGGSounder for a network that was trained on VGGSound."""
    sets = trained.loss.labels == "sets"
    return trained.loss.several_labels or (manifest.several_labels and not sets)


def _pages(out: Path, kept: KeptPredictions) -> list[tuple[Path, KeptPredictions]]:
    """Folders of pages, and what each is of: one for each label set, where there are such."""
    if not kept.set_names:
        return [(out, kept)]
    return [(out / name, kept.of_set(name)) for name in kept.set_names]


def _check_classes(manifest: Manifest, folder: Path, path: Path, state: Checkpoint) -> None:
    wanted = {one.name for one in state.config.loss.label_sets(state.classes)}
    if wanted and wanted != {*manifest.label_sets}:
        raise CheckpointError(
            f"{path} was trained on the label sets {', '.join(sorted(wanted))}; {folder} has "
            f"{', '.join(manifest.label_sets) or 'none'}: prepare it again"
        )
    if list(manifest.classes) != state.classes:
        raise CheckpointError(
            f"{path} was trained on other classes ({len(state.classes)}) than {folder} has "
            f"({len(manifest.classes)})"
        )


def _parts(
    config: EvalConfig,
    state: Checkpoint,
    manifest: Manifest,
    kept: KeptFeatures | None,
    quarantine: Quarantine,
    here: Runtime,
) -> tuple[LateFusionClassifier, AnyFrontend, EvalLoader]:
    """The network, without its weights, its front end, and the loader of all views."""
    trained, pin = state.config, here.device.type == "cuda"
    if kept is not None:
        widths = kept.widths
        model = build_on_features(
            trained.model, widths.video, widths.audio, len(state.classes),
            binary=trained.loss.binary, sets=trained.loss.label_sets(state.classes),
        )  # fmt: skip
        return model, KeptFrontend(), feature_eval_loader(
            kept, manifest, modalities=trained.model.modalities, batch_size=config.batch_size,
            rank=here.rank, world_size=here.world_size, pin=pin,
        )  # fmt: skip
    model = build_model(
        trained.model, len(state.classes), clip=trained.clip, frontend=trained.frontend,
        load_weights=False, binary=trained.loss.binary,
        sets=trained.loss.label_sets(state.classes),
    )  # fmt: skip
    loader = eval_loader(
        _views(config, trained, manifest), batch_size=config.batch_size,
        num_workers=config.num_workers, clip_seconds=config.clip_seconds, quarantine=quarantine,
        rank=here.rank, world_size=here.world_size, pin=pin,
    )  # fmt: skip
    return model, Frontend(trained.frontend, trained.clip.sample_rate, model.pixels), loader


def _views(config: EvalConfig, trained: TrainConfig, manifest: Manifest) -> EvalSet:
    """What is read of the clips."""
    return EvalSet(
        manifest=manifest, root=Path(config.root or trained.data.root), clip=trained.clip,
        num_views=config.num_views, crops=config.crops, flip=config.flip,
        verify=config.verify, limits=read_limits(config.num_workers, config.clip_seconds),
        several_labels=trained.loss.multi_hot or manifest.several_labels,
        modalities=trained.model.modalities,
    )  # fmt: skip


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
