"""Data of a training run: which clips it trains and validates on, and the loaders of them, or of
their kept features."""

from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

from jaxtyping import Float32
from torch import Tensor

from avmix.config import DataConfig, TrainConfig
from avmix.data.dataset import TrainSet
from avmix.data.eval_set import EvalSet
from avmix.data.feature_loader import feature_eval_loader, feature_train_loader
from avmix.data.holdout import HeldOut
from avmix.data.kept_features import KeptFeatures, open_features
from avmix.data.loader import EvalLoader, TrainLoader, eval_loader, read_limits, train_loader
from avmix.data.manifest import Manifest, ManifestError, read_events, read_manifest, splits_of
from avmix.data.quarantine import Quarantine
from avmix.data.train_clips import TrainClips
from avmix.training.label_setup import class_weights
from avmix.training.runtime import Runtime


@dataclass(frozen=True, slots=True, kw_only=True)
class RunData:
    """What a run reads."""

    train: Manifest
    """The clips that are trained on."""
    trained_on: str
    """Hash of them, and of what else decides what is read."""
    loader: TrainLoader
    val: EvalLoader | None
    """None where the dataset has no such split, and nothing is held out."""
    held_out: HeldOut | None
    """What `data.holdout` took from the train split."""
    class_weight: Float32[Tensor, " k"] | None
    """As `loss.class_weights` says; None: all alike."""
    kept: KeptFeatures | None = None
    """The features of the train split; None: files are read."""


def of_clips(
    config: TrainConfig,
    clips: TrainClips,
    here: Runtime,
    quarantine: Quarantine,
    at_end: ExitStack,
) -> RunData:
    """Loaders of files; their processes end with `at_end`. Raises as `train` does."""
    data, root, folder = config.data, Path(config.data.root), config.data.manifest_folder
    limits = read_limits(data.num_workers, data.clip_seconds)
    several = config.loss.several_labels
    _check_classes(clips.manifest, folder)
    train, trained_on, events = clips.manifest, clips.manifest.sha256, {}
    if config.augment.window == "event":
        events, events_sha256 = read_events(folder, *map(Path, data.extra))
        trained_on += f" events {events_sha256}"
    class_weight, weights_sha256 = class_weights(config, train)
    if weights_sha256:
        trained_on += f" class_weights {weights_sha256}"
    loader = train_loader(
        TrainSet(manifest=train, root=root, roots=clips.roots, clip=config.clip,
                 frontend=config.frontend, verify=data.verify, limits=limits,
                 augment=config.augment, seed=config.run.seed, events_seconds=events,
                 several_labels=several, modalities=config.model.modalities,
                 balance=data.balance),
        batch_size=_clips_of_a_step(config),
        num_workers=data.num_workers,
        max_bad_share=data.max_bad_share, clip_seconds=data.clip_seconds, quarantine=quarantine,
        rank=here.rank, world_size=here.world_size, pin=here.device.type == "cuda",
    )  # fmt: skip
    at_end.enter_context(closing(loader))
    val, val_manifest = None, _val_manifest(config, clips.held_out)
    if val_manifest is not None:
        val = eval_loader(
            EvalSet(manifest=val_manifest, root=root, clip=config.clip, verify=data.verify,
                    limits=limits, num_views=1, several_labels=several,
                    modalities=config.model.modalities),
            batch_size=2 * config.optim.batch_size, num_workers=data.num_workers,
            clip_seconds=data.clip_seconds, quarantine=quarantine,
            rank=here.rank, world_size=here.world_size, pin=here.device.type == "cuda",
        )  # fmt: skip
        at_end.enter_context(closing(val))
    return RunData(train=train, trained_on=trained_on, loader=loader, val=val,
                   held_out=clips.held_out, class_weight=class_weight)  # fmt: skip


def of_features(config: TrainConfig, clips: TrainClips, here: Runtime) -> RunData:
    """Loaders of kept features. Raises as `train` does, and `FeaturesError`."""
    data, folder, pin = config.data, config.data.manifest_folder, here.device.type == "cuda"
    verify = data.verify == "first" and here.is_main
    kept = open_features(folder, data.train_split, verify=verify)
    train, modalities = clips.manifest, config.model.modalities
    _check_classes(train, folder)
    class_weight, weights_sha256 = class_weights(config, train)
    loader = feature_train_loader(
        kept, train, batch_size=_clips_of_a_step(config), seed=config.run.seed,
        modalities=modalities, balance=data.balance,
        rank=here.rank, world_size=here.world_size, pin=pin,
    )  # fmt: skip
    val, val_manifest = None, _val_manifest(config, clips.held_out)
    if val_manifest is not None:
        held_out = clips.held_out is not None
        val = feature_eval_loader(
            kept if held_out else open_features(folder, data.val_split, verify=verify),
            val_manifest,
            modalities=modalities,
            batch_size=2 * config.optim.batch_size,
            rank=here.rank, world_size=here.world_size, pin=pin,
        )  # fmt: skip
    trained_on = f"{train.sha256} features {kept.sha256}"
    if weights_sha256:
        trained_on += f" class_weights {weights_sha256}"
    return RunData(train=train, trained_on=trained_on, loader=loader, val=val,
                   held_out=clips.held_out, class_weight=class_weight, kept=kept)  # fmt: skip


def _check_classes(train: Manifest, folder: Path) -> None:
    if len(train.classes) < 2:
        only = ", ".join(map(repr, train.classes))
        raise ManifestError(
            f"{folder}: its only class is {only}; training needs at least two classes"
        )


def _clips_of_a_step(config: TrainConfig) -> int:
    return config.optim.batch_size * config.mix.clips_per_mix


def _val_manifest(config: TrainConfig, held_out: HeldOut | None) -> Manifest | None:
    """What is evaluated after each epoch; raises `ManifestError` where that is said twice, and
    where a fusion needs it and there is none."""
    data = config.data
    folder, name = data.manifest_folder, data.val_split
    # Only the default may name a split that the dataset does not have; the headline says so.
    named = name in splits_of(folder) or name not in ("", DataConfig.val_split)
    fitted = {"model.fusion weighted": config.model.fusion == "weighted",
              "model.guard": config.model.guard}  # fmt: skip
    if held_out is None and not named and (what := [n for n, is_so in fitted.items() if is_so]):
        raise ManifestError(
            f"{what[0]} is fitted to validation clips, and {no_val(data)}: name a "
            "split, or data.holdout 0.1 holds out a tenth of the sources of the train split"
            + ("" if what[0] == "model.guard" else "; model.fusion average needs none")
        )
    if held_out is None:
        return read_manifest(folder, name) if named else None
    if named:
        raise ManifestError(
            f"data.holdout cannot act: validation is on the split {name!r} of {folder} "
            "(data.val_split); an empty data.val_split validates on what is held out"
        )
    return held_out.val


def no_val(data: DataConfig) -> str:
    """Why there is nothing to validate on."""
    if not data.val_split:
        return "data.val_split is empty"
    return f"{data.manifest_folder} has no split {data.val_split!r} (data.val_split)"
