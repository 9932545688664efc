"""Selection of training clips: the train split without what is held out of it, a few-shot subset,
and additional sets.

Further sets are what `avmix synth` writes. A synthetic clip derived from one that is evaluated on
would be a leak, so the parents of every synthetic clip are looked up in the main dataset.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from avmix.config import DataConfig
from avmix.data.few_shot import few_shot
from avmix.data.holdout import HeldOut, hold_out
from avmix.data.manifest import (
    Manifest,
    ManifestError,
    open_manifest,
    read_manifest,
    splits_of,
)
from avmix.system.printing import listed
from avmix.types import Entry


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainClips:
    """The clips of a training run."""

    manifest: Manifest
    """The chosen clips of the train split, then those of each further set; its hash is of all."""
    roots: Mapping[str, Path]
    """Folder of each clip of a further set, by `clip_id`; of the others it is `data.root`."""
    held_out: HeldOut | None
    """What `data.holdout` took from the train split; None where it is 0."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Main:
    """What a further set is checked against."""

    folder: Path
    classes: tuple[str, ...]
    label_sets: tuple[str, ...]
    train: frozenset[str]
    """Ids of the clips of the train split."""
    chosen: frozenset[str]
    """The ones of these that are used in training."""
    held_out: Mapping[str, str]
    """Split of each clip that is not in the train split, by id."""
    held_out_sources: Mapping[str, str]
    """The same of each source."""


def train_clips(data: DataConfig) -> TrainClips:
    """Read the manifests that `data` selects for training.

    Raises `ManifestError` as `read_manifest` does, and where a further set has other classes, a
    clip_id that is there already, or a clip that leaks what is evaluated on: its source is in
    another split, or one of its parents is, or is not in the dataset, or is not among the few
    that `data.shots` chose. Also where `data.shots` leaves no clip of a class that has some.
    """
    folder = data.manifest_folder
    train = (open_manifest if data.features else read_manifest)(folder, data.train_split)
    held_out = hold_out(train, data.holdout, data.holdout_seed) if data.holdout else None
    if held_out is not None:
        train = held_out.train
    chosen = few_shot(train, data.shots, data.shots_seed, data.shots_by)
    absent = train.empty_classes
    if lost := [c for c in chosen.empty_classes if c not in absent]:
        raise ManifestError(f"{folder}: no clip to train on of class {listed([*map(repr, lost)])}")
    if not data.extra:
        return TrainClips(manifest=chosen, roots={}, held_out=held_out)
    others = {s: read_manifest(folder, s) for s in splits_of(folder) if s != data.train_split}
    if held_out is not None:
        others["data.holdout"] = held_out.val
    main = _Main(
        folder=folder,
        classes=train.classes,
        label_sets=train.label_sets,
        train=frozenset(e.clip_id for e in train.entries),
        chosen=frozenset(e.clip_id for e in chosen.entries),
        held_out={e.clip_id: s for s, other in others.items() for e in other.entries},
        held_out_sources={e.source_id: s for s, other in others.items() for e in other.entries},
    )
    entries, hashes = list(chosen.entries), [chosen.sha256]
    several = chosen.several_labels
    roots: dict[str, Path] = {}
    taken = dict.fromkeys([*main.train, *main.held_out], folder)
    for root in map(Path, data.extra):
        extra = read_manifest(root, "train")
        _check_classes(extra, root, main)
        for entry in extra.entries:
            if entry.clip_id in taken:
                raise ManifestError(
                    f"{root}: clip_id {entry.clip_id!r} is in {taken[entry.clip_id]} too"
                )
            _check_leak(entry, root, main)
            taken[entry.clip_id] = roots[entry.clip_id] = root
        several = several or extra.several_labels
        entries += extra.entries
        hashes.append(extra.sha256)
    sha256 = hashlib.sha256("\n".join(hashes).encode()).hexdigest()
    manifest = replace(chosen, entries=tuple(entries), sha256=sha256, several_labels=several)
    return TrainClips(manifest=manifest, roots=roots, held_out=held_out)


def _check_classes(extra: Manifest, root: Path, main: _Main) -> None:
    if extra.label_sets != main.label_sets:
        raise ManifestError(
            f"{root}: its label sets are {', '.join(extra.label_sets) or 'none'}, those of "
            f"{main.folder} {', '.join(main.label_sets) or 'none'}"
        )
    if extra.classes == main.classes:
        return
    differ = sorted({*extra.classes} ^ {*main.classes})
    what = f"for example {differ[0]!r}" if differ else "they are in another order"
    raise ManifestError(
        f"{root}: its classes are not those of {main.folder} ({what}); make it from that dataset"
    )


def _check_leak(entry: Entry, root: Path, main: _Main) -> None:
    where = f"{root}: clip {entry.clip_id!r}"
    if entry.source_id in main.held_out_sources:
        split = main.held_out_sources[entry.source_id]
        raise ManifestError(
            f"{where} is of source {entry.source_id!r}, which is in {split!r} of {main.folder}: a "
            "leak; make the set from the train split only"
        )
    if entry.synthetic is None:
        return
    for parent in entry.synthetic.parents:
        if parent in main.held_out:
            raise ManifestError(
                f"{where} was made from {parent!r}, which is in {main.held_out[parent]!r} of "
                f"{main.folder}: a leak; make the set from the train split only"
            )
        # Backgrounds of composed clips carry no label and may be of a dataset of their own.
        if parent not in main.train and entry.synthetic.method != "compose":
            raise ManifestError(
                f"{where} was made from {parent!r}, which is in no split of {main.folder}; make "
                "the set from that dataset"
            )
        if parent in main.train and parent not in main.chosen:
            raise ManifestError(
                f"{where} was made from {parent!r}, which data.shots did not choose; make the set "
                "with the same --shots, --shots-seed and --shots-by"
            )
