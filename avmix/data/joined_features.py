"""Ensembles of kept features: several folders side by side, clip by clip.

The features of each modality are concatenated in the order of the folders. A joined split lies in
memory; that of one folder stays mapped.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from avmix.data.kept_features import (
    MODALITIES,
    FeaturesError,
    Header,
    KeptFeatures,
    open_features,
)


class Lacking(NamedTuple):
    """A clip that not all folders have."""

    clip_id: str
    folder: Path
    """The first that lacks it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Joined:
    """Features of one split of several folders."""

    kept: KeptFeatures
    """Of the clips that all folders have, in the order of the first; its header has the identity of
    every folder."""
    lacking: tuple[Lacking, ...]
    """The clips that were left out."""


def open_joined(folders: Sequence[Path], split: str, *, verify: bool = True) -> Joined:
    """Open the features of a split in several folders, side by side; of one as they are.

    Windows, front ends and encoders may differ. Raises `FeaturesError` where folders are of other
    classes, numbers of views, files or augmentations, or have no clip in common; and as
    `open_features` does.
    """
    if doubled := [folder for i, folder in enumerate(folders) if folder in folders[:i]]:
        raise FeaturesError(f"{doubled[0]} is named twice")
    parts = [open_features(folder, split, verify=verify) for folder in folders]
    if len(parts) == 1:
        return Joined(kept=parts[0], lacking=())
    first = parts[0]
    for folder, part in zip(folders[1:], parts[1:], strict=True):
        if why := _mismatch(first, part):
            raise FeaturesError(f"{folders[0]} and {folder} cannot be side by side: {why}")
    rows_of = [{e.clip_id: row for row, e in enumerate(p.manifest.entries)} for p in parts]
    lacking: dict[str, Lacking] = {}
    for rows in rows_of:
        for clip_id in rows:
            if missing := [f for f, other in zip(folders, rows_of, strict=True)
                           if clip_id not in other]:  # fmt: skip
                lacking.setdefault(clip_id, Lacking(clip_id, missing[0]))
    ids = [clip_id for clip_id in rows_of[0] if clip_id not in lacking]
    if not ids:
        raise FeaturesError(f"{folders[0]} and {folders[1]} have no clip of {split!r} in common")
    chosen = [np.array([rows[clip_id] for clip_id in ids]) for rows in rows_of]
    for folder, part, rows in zip(folders[1:], parts[1:], chosen[1:], strict=True):
        for row, other in zip(chosen[0], rows, strict=True):
            mine, theirs = first.manifest.entries[row], part.manifest.entries[other]
            if (mine.sha256, mine.labels) != (theirs.sha256, theirs.labels):
                raise FeaturesError(
                    f"{folders[0]} and {folder} cannot be side by side: clip {mine.clip_id!r} has "
                    f"another {'label' if mine.sha256 == theirs.sha256 else 'file'}"
                )
    pairs = list(zip(parts, chosen, strict=True))
    features = {
        name: np.concatenate([p.features[name][rows] for p, rows in pairs if name in p.features], 2)
        for name in MODALITIES
        if any(name in part.features for part in parts)
    }
    with_audio = [pair for pair in pairs if "audio" in pair[0].features] or pairs
    manifest = replace(
        first.manifest, entries=tuple(first.manifest.entries[row] for row in chosen[0])
    )
    kept = replace(
        first, manifest=manifest, features=features, header=_header(parts, split, len(ids)),
        has_audio=np.all([part.has_audio[rows] for part, rows in with_audio], 0),
    )  # fmt: skip
    return Joined(kept=kept, lacking=tuple(lacking.values()))


def _mismatch(first: KeptFeatures, other: KeptFeatures) -> str:
    """Why rows of two folders are not of the same views; empty where they are."""
    if first.manifest.classes != other.manifest.classes:
        return "their classes differ"
    if first.manifest.protocol != other.manifest.protocol:
        return f"one is of {first.manifest.protocol}, the other of {other.manifest.protocol}"
    counts = first.has_audio.shape[1], other.has_audio.shape[1]
    if counts[0] != counts[1] or first.num_eval_views != other.num_eval_views:
        return f"{counts[0]} views of each clip, and {counts[1]}; compute the same number"
    if counts[0] > first.num_eval_views and _augmented(first) != _augmented(other):
        return "their augmented views are drawn otherwise"
    return ""


def _augmented(kept: KeptFeatures) -> Any:
    """What decides the draws: rows of the manifest, too, are part of their address."""
    said = kept.header.splits[kept.manifest.split]
    return kept.header.identity.get("augmented"), said.get("manifest_sha256")


def _header(parts: Sequence[KeptFeatures], split: str, num_clips: int) -> Header:
    headers = [part.header for part in parts]
    return Header(
        identity={
            "views": headers[0].identity["views"],
            "joined": [header.identity for header in headers],
        },
        computed_with={"joined": [header.computed_with for header in headers]},
        splits={split: {"complete": True, "num_clips": num_clips,
                        "joined": [header.splits[split] for header in headers]}},
    )  # fmt: skip
