"""Evaluate a checkpoint: `python eval.py`, `avmix evaluate` and `avmix.evaluate(config)`."""

from contextlib import closing
from dataclasses import replace
from pathlib import Path

from avmix.commands.evaluation_report import print_report, write_report
from avmix.config import EvalConfig
from avmix.config.unset import is_unset, plain
from avmix.data.dataset import EvalSet
from avmix.data.feature_loader import feature_eval_loader
from avmix.data.kept_features import KeptFeatures, changed_identity, open_features
from avmix.data.loader import EvalLoader, eval_loader, read_limits
from avmix.data.manifest import Manifest, read_manifest
from avmix.data.quarantine import Quarantine
from avmix.evaluation.metrics import AllScores, all_scores
from avmix.models import LateFusionClassifier, build_model
from avmix.models.frontend import Frontend
from avmix.models.on_features import AnyFrontend, KeptFrontend, build_on_features
from avmix.system.paths import unmakable
from avmix.system.printing import console_of, echo_on
from avmix.training import checkpoint, engine, runtime
from avmix.training.checkpoint import Checkpoint, CheckpointError
from avmix.training.runtime import Runtime


def evaluate(config: EvalConfig) -> AllScores:
    """Evaluate, print, write; returns the metrics of each row of the table, None where no clip has
    its modality.

    Raises ValueError (`ManifestError`, `FeaturesError`, `CheckpointError`, an option that does not
    fit the machine), `TooManyBadClips` when no clip can be read, and `LoaderError`.
    """
    path = Path(config.checkpoint)
    path = path / "last.pt" if path.is_dir() else path
    state = checkpoint.load(path)
    trained, several = state.config, state.config.loss.labels == "multi"
    if config.raw_weights and state.average is None:
        raise CheckpointError(f"raw_weights cannot act: {path} has no average of its weights")
    manifest, kept = _split(config, path, state)
    if len(state.classes) < 2:
        raise CheckpointError(
            f"{path}: its only class is {state.classes[0]!r}; there is nothing to evaluate"
        )
    out = Path(config.out) if config.out else path.parent / f"eval_{config.split}"
    if why := unmakable(out):
        raise ValueError(f"out: {out} {why}")
    quarantine = Quarantine(out / "quarantine.jsonl", also=[path.parent / "quarantine.jsonl"])
    with runtime.start(device=config.device, threads=config.threads) as here:
        model, frontend, loader = _parts(config, state, manifest, kept, quarantine, here)
        averaged = state.average is not None and not config.raw_weights
        checkpoint.load_weights(path, state, model, average=averaged)
        with closing(loader):
            found = engine.evaluate(
                model.to(here.device), frontend.to(here.device), loader, here, several
            )
        scores = all_scores(found.predictions)
        config = replace(config, num_views=loader.num_views)
        if here.is_main:
            threads = runtime.omp_notice(here.threads, "threads")
            for notice in (threads, quarantine.notice(), state.notice()):
                if notice:
                    echo_on(console_of(), notice)
            if path != Path(config.checkpoint) and (best := path.with_name("best.pt")).exists():
                echo_on(console_of(), f"evaluated {path}, the last epoch; {best} is the one that "
                        f"was best on val: --checkpoint {best} evaluates it")  # fmt: skip
            if averaged:
                echo_on(console_of(), "evaluated the average of the weights (optim.ema_decay "
                        f"{trained.optim.ema_decay:g}); --raw_weights true evaluates the last "
                        "ones")  # fmt: skip
            write_report(out, manifest, found, scores, config, state)  # first: `| head` may end us
            print_report(manifest, found, scores, config.num_views, state)
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
        manifest = read_manifest(folder, config.split)
        _check_classes(manifest, folder, path, state)
        return manifest, None
    for name in ("root", "manifest", "num_workers", "clip_seconds"):
        if getattr(config, name) != getattr(EvalConfig, name):
            raise CheckpointError(f"{name} cannot act: {path} was trained on features")
    folder = Path(config.features or trained.features)
    kept = open_features(folder, config.split, verify=config.verify == "first")
    _check_classes(kept.manifest, folder, path, state)
    if changed := changed_identity(state.features, kept.header.identity_text):
        raise CheckpointError(
            f"{path} was trained on other features than {folder} holds ({', '.join(changed)})"
        )
    if not is_unset(config.num_views) and config.num_views != kept.num_views:
        raise CheckpointError(
            f"num_views must be {kept.num_views}, the views that {folder} holds of each clip, got "
            f"{config.num_views}"
        )
    return kept.manifest, kept


def _check_classes(manifest: Manifest, folder: Path, path: Path, state: Checkpoint) -> None:
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
            binary=trained.loss.binary,
        )  # fmt: skip
        return model, KeptFrontend(), feature_eval_loader(
            kept, manifest, modalities=trained.model.modalities, batch_size=config.batch_size,
            rank=here.rank, world_size=here.world_size, pin=pin,
        )  # fmt: skip
    model = build_model(
        trained.model, len(state.classes), clip=trained.clip, frontend=trained.frontend,
        load_weights=False, binary=trained.loss.binary,
    )  # fmt: skip
    views = EvalSet(
        manifest=manifest, root=Path(config.root or trained.data.root), clip=trained.clip,
        num_views=plain(config.num_views), verify=config.verify,
        limits=read_limits(config.num_workers, config.clip_seconds),
        several_labels=trained.loss.labels == "multi", modalities=trained.model.modalities,
    )  # fmt: skip
    loader = eval_loader(
        views, batch_size=config.batch_size, num_workers=config.num_workers,
        clip_seconds=config.clip_seconds, quarantine=quarantine,
        rank=here.rank, world_size=here.world_size, pin=pin,
    )  # fmt: skip
    return model, Frontend(trained.frontend, trained.clip.sample_rate, model.pixels), loader
