"""Writing of a folder of features: what it may continue, its splits, and what it says of itself."""

import json
import shutil
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np

from avmix.config import AugmentConfig
from avmix.data.augmented_views import augmented_views
from avmix.data.clip_list import write_index
from avmix.data.dataset import TrainSet
from avmix.data.eval_set import EvalSet
from avmix.data.kept_features import (
    FeaturesError,
    Header,
    changes,
    open_features,
    read_header,
    tensors_path,
    write_header,
)
from avmix.data.loader import eval_loader, read_limits
from avmix.data.manifest import Manifest, open_manifest, read_manifest, write_manifest
from avmix.data.quarantine import Quarantine
from avmix.data.sample import WORTH_HINT, BadClip, TooManyBadClips
from avmix.features.extraction import PART_CLIPS, Extraction, PartFile, half_error, join
from avmix.features.frozen_encoders import FrozenEncoders
from avmix.mix.frame_mixer import kernel_of
from avmix.system import strict_json
from avmix.system.atomic_files import remove_partial
from avmix.system.printing import listed
from avmix.training import run_lock
from avmix.training.runtime import Rounding, Runtime

_PARTS = "parts"


@dataclass(frozen=True, slots=True, kw_only=True)
class Augmented:
    """Augmented views of one split, which follow the evaluation views of each clip."""

    split: str
    num_views: int
    """At least 1."""
    augment: AugmentConfig
    seed: int
    events_seconds: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    """By clip_id, for `augment.window` event."""
    events_sha256: str = ""

    def identity(self) -> dict[str, Any]:
        """All that decides which views are drawn; `augment.repeats` does not."""
        said = {"split": self.split, "views": self.num_views, "seed": self.seed}
        said |= asdict(self.augment)
        del said["repeats"]
        return said | ({"events_sha256": self.events_sha256} if self.events_sha256 else {})


@dataclass(frozen=True, slots=True, kw_only=True)
class Keeping:
    """What is kept, and how it is read."""

    manifest_folder: Path
    root: Path
    out: Path
    num_views: int = 1
    """As evaluation takes them, of every split."""
    augmented: Augmented | None = None
    half: bool = False
    batch_size: int = 32
    """Windows that are encoded together, at least the views of a clip."""
    num_workers: int = 1
    clip_seconds: float = 60.0
    verify: Literal["first", "never"] = "first"
    part_clips: int = PART_CLIPS

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the features on the disk."""
        return np.dtype("<f2" if self.half else "<f4")

    def num_views_of(self, split: str) -> int:
        """With the augmented ones."""
        more = self.augmented
        return self.num_views + (more.num_views if more and more.split == split else 0)

    def clips_per_batch(self, split: str) -> int:
        """All views of a clip are in one batch."""
        return max(1, self.batch_size // self.num_views_of(split))


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Where a split is told about; by default nowhere."""

    clips: Callable[[int, bool], None] = lambda number, computed: None
    """How many more clips are done, and whether they were computed now or are from before."""
    notice: Callable[[str], None] = lambda text: None


def begin(keeping: Keeping, encoders: FrozenEncoders, here: Runtime) -> tuple[Header, str]:
    """The header of a new folder, or of the one that is there and is continued; and what is to be
    said of settings that differ from those it was begun with.

    Raises `FeaturesError` where the folder holds features of another kind: the message names what
    differs.
    """
    identity = encoders.identity(keeping.num_views, keeping.dtype.name)
    if keeping.augmented:
        identity["augmented"] = keeping.augmented.identity()
    with_ = computed_with(keeping, encoders, here)
    remove_partial(keeping.out)
    there = read_header(keeping.out)
    if there is None:
        _check_new(keeping.out)
        return Header(identity=identity, computed_with=with_, splits={}), ""
    # As it is read back: tuples are lists in JSON.
    changed = changes(there.identity, json.loads(strict_json.dumps(identity)))
    if changed:
        raise FeaturesError(
            f"{keeping.out} holds other features ({', '.join(changed)}); choose another --out, or "
            "delete the folder"
        )
    moved = changes(there.computed_with, with_)
    if not moved:
        return there, ""
    return there, (
        f"it continues with other settings ({', '.join(moved)}): features may differ in their last "
        "digits from those of an uninterrupted run"
    )


def _check_new(out: Path) -> None:
    """Raises `FeaturesError` for a folder that holds anything else, such as a run."""
    names = {path.name for path in out.iterdir()} if out.exists() else set()
    if others := sorted(names - {_PARTS, run_lock.NAME}):
        raise FeaturesError(f"{out} has other files ({listed(others)}); name a new folder")


def computed_with(keeping: Keeping, encoders: FrozenEncoders, here: Runtime) -> dict[str, Any]:
    """What changes last digits of features."""
    kernel = kernel_of(encoders.config.frontend.kernel, here.device)
    rounding = asdict(Rounding.here(here.device, kernel))
    sizes = {"clips_per_batch": keeping.clips_per_batch("")}
    if keeping.augmented:
        sizes["augmented_clips_per_batch"] = keeping.clips_per_batch(keeping.augmented.split)
    return {"avmix": version("avmix"), **sizes, **rounding}


def check_frames(manifest: Manifest) -> None:
    """Raises `FeaturesError` for clips without video: features of black frames would be kept."""
    if blind := [entry.path for entry in manifest.entries if entry.video is None]:
        raise FeaturesError(
            f"{manifest.split}: {len(blind)} clips have no video stream, of which there are no "
            f"features, the first {blind[0]}; leave them out"
        )


def keep_split(
    split: str,
    keeping: Keeping,
    encoders: FrozenEncoders,
    header: Header,
    here: Runtime,
    progress: Progress,
) -> Header:
    """Compute what is missing of a split, and store it; returns the header with it.

    Raises `FeaturesError` where other clips, or files, were begun; `TooManyBadClips` where no clip
    has features; `LoaderError`, and OSError that names the file.
    """
    manifest = read_manifest(keeping.manifest_folder, split)
    check_frames(manifest)
    begun = {"complete": False, "manifest_sha256": manifest.sha256}
    said = header.splits.get(split, begun)
    if said["manifest_sha256"] != manifest.sha256:
        raise FeaturesError(
            f"{keeping.out}: the clips of {split!r}, or their files, are not those it was begun "
            f"with{_changed_clip(keeping.out, split, said, manifest)}; choose another --out, or "
            "delete the folder"
        )
    parts = keeping.out / _PARTS / split
    if said["complete"]:
        open_features(keeping.out, split)  # raises where it is damaged
        shutil.rmtree(parts, ignore_errors=True)
        progress.clips(len(manifest.entries), False)
        return header
    header = replace(header, splits={**header.splits, split: begun})
    parts.mkdir(parents=True, exist_ok=True)
    remove_partial(parts)
    write_header(keeping.out, header)
    dataset = _dataset(manifest, keeping, encoders)
    quarantine = Quarantine(keeping.out / "quarantine.jsonl")
    loader = eval_loader(
        dataset, batch_size=keeping.clips_per_batch(split) * dataset.num_views,
        num_workers=keeping.num_workers, clip_seconds=keeping.clip_seconds, quarantine=quarantine,
        pin=here.device.type == "cuda",
    )  # fmt: skip
    with closing(loader):
        extraction = Extraction(folder=parts, encoders=encoders, loader=loader,
                                device=here.device, dtype=keeping.dtype,
                                part_clips=keeping.part_clips)  # fmt: skip
        found = extraction.run(
            progress.clips, lambda why: progress.notice(f"{why}; it is computed again")
        )
    if notice := quarantine.notice():
        progress.notice(notice)
    header = _finish(split, keeping, header, manifest, found, extraction)
    shutil.rmtree(parts)
    return header


def _dataset(manifest: Manifest, keeping: Keeping, encoders: FrozenEncoders) -> EvalSet:
    """Reader of all views of a split."""
    plain = EvalSet(
        manifest=manifest, root=keeping.root, clip=encoders.config.clip,
        num_views=keeping.num_views, verify=keeping.verify,
        limits=read_limits(keeping.num_workers, keeping.clip_seconds),
    )  # fmt: skip
    more = keeping.augmented
    if more is None or more.split != manifest.split:
        return plain
    drawn = TrainSet(
        manifest=manifest, root=plain.root, clip=plain.clip, verify=plain.verify,
        limits=plain.limits, frontend=encoders.config.frontend, augment=more.augment,
        seed=more.seed, events_seconds=more.events_seconds,
    )  # fmt: skip
    return augmented_views(plain, drawn, more.num_views)


def _finish(
    split: str,
    keeping: Keeping,
    header: Header,
    manifest: Manifest,
    parts: list[PartFile],
    extraction: Extraction,
) -> Header:
    """Join the parts and list their clips. A kill between any two of the files that are written
    here leaves a folder in which the split is not complete."""
    rows = [row for part in parts for row in part.rows]
    bad = [clip for part in parts for clip in part.bad]
    backgrounds = {clip.row: clip for part in parts for clip in part.backgrounds}
    if not rows:
        raise TooManyBadClips(
            f"none of the {len(bad)} clips of {split!r} has features; the first: {bad[0].path}: "
            f"{bad[0].reason}{WORTH_HINT}"
        )
    path = tensors_path(keeping.out, split)
    sha256 = join(parts, extraction.shapes, path)
    others = [name for name, said in header.splits.items() if said["complete"]]
    kept = {name: tuple(open_manifest(keeping.out, name).entries) for name in others}
    kept[split] = tuple(manifest.entries[row] for row in rows)
    source = json.loads((keeping.manifest_folder / "dataset.json").read_bytes())
    write_manifest(
        keeping.out, classes=manifest.classes, protocol=manifest.protocol,
        splits=dict(sorted(kept.items())), leaks=source.get("leaks", ""),
        label_sets=manifest.label_sets, tail_classes=manifest.tail_classes,
        notes={"features": "features.json says of what the rows of SPLIT.safetensors are"},
    )  # fmt: skip
    written = read_manifest(keeping.out, split)
    done = {
        "complete": True,
        "manifest_sha256": manifest.sha256,
        "rows_sha256": written.sha256,
        "index_sha256": write_index(
            keeping.out,
            split,
            label=written.label_numbers,
            source=written.source_numbers,
            sha256=written.sha256,
        ),
        "sha256": sha256,
        "bytes": path.stat().st_size,
        "num_clips": len(rows),
        "num_left_out": len(bad),
        "left_out": [_named(clip, manifest) for clip in bad],
        "unread_backgrounds": [_named(clip, manifest) for clip in backgrounds.values()],
        "half_error": half_error(parts),
    }
    header = replace(header, splits={**header.splits, split: done})
    write_header(keeping.out, header)
    return header


def _named(clip: BadClip, manifest: Manifest) -> dict[str, str]:
    clip_id = manifest.entries[clip.row].clip_id
    return {"clip_id": clip_id, "path": clip.path, "reason": clip.reason}


def _changed_clip(out: Path, split: str, said: Mapping[str, Any], now: Manifest) -> str:
    """The first clip with another file, to follow in a message; empty where that is not known."""
    if not said["complete"]:
        return ""
    before = {entry.clip_id: entry for entry in open_manifest(out, split).entries}
    for entry in now.entries:
        old = before.get(entry.clip_id)
        if old is not None and old.sha256 != entry.sha256:
            return f" (the first file that differs: {entry.path})"
    return ""
