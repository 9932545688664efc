"""Few-shot subsets: a fixed number of clips per class."""

import hashlib
from dataclasses import replace
from typing import Literal, get_args

import numpy as np
from jaxtyping import Int64

from avmix.data.clip_list import taken
from avmix.data.manifest import Manifest
from avmix.rng import rng

ShotsBy = Literal["source", "clip"]
"""`clip`: any clips of a class. `source`: each of another source, for those of one are often nearly
the same."""
SHOTS_BY = get_args(ShotsBy)


def few_shot(manifest: Manifest, shots: int, seed: int, by: ShotsBy = "clip") -> Manifest:
    """Few-shot subset: at most `shots` clips of each class of a split, in the order of the
    manifest; 0: all.

    Every class has a stream of its own at (seed, number of the class), and more shots contain fewer
    with the same seed. A clip with several labels counts for its first; with label sets it counts
    for the one of each set, and a class may have more than `shots`. With `by` source a class that
    has fewer sources than `shots` gives one clip of each. The hash of what is returned is of the
    split and of the choice.
    """
    if shots == 0:
        return manifest
    entries = taken(manifest.entries, few_shot_rows(manifest, shots, seed, by))
    said = "\n".join([manifest.sha256, *(entry.clip_id for entry in entries)])
    return replace(manifest, entries=entries, sha256=hashlib.sha256(said.encode()).hexdigest())


def few_shot_rows(
    manifest: Manifest, shots: int, seed: int, by: ShotsBy = "clip"
) -> Int64[np.ndarray, " m"]:
    """Places of these clips in the manifest, ascending."""
    if shots == 0:
        return np.arange(len(manifest.entries))
    sources, chosen = manifest.source_numbers, set[int]()
    for number, rows in enumerate(_rows_of_classes(manifest)):
        order = rows[rng(seed, 0, "shots", number).permutation(len(rows))]
        if by == "source":
            _, first = np.unique(sources[order], return_index=True)
            order = order[np.sort(first)]
        chosen.update(order[:shots].tolist())
    return np.array(sorted(chosen), np.int64)


def reshuffled_rows(
    labels: Int64[np.ndarray, " n"], shots: int, draw: int, seed: int = 42
) -> Int64[np.ndarray, " m"]:
    """Places of at most `shots` clips of each class in draw number `draw`, counted from 0, as MTEB
    2.26 draws them (`AbsTaskClassification._undersample_data`): the same permutation, of
    RandomState(seed), is applied once more for each draw, and the first clips of each class are
    taken, in that order."""
    order = list(range(len(labels)))
    for _ in range(draw + 1):
        np.random.RandomState(seed).shuffle(order)
    found, taken_of = [], dict[int, int]()
    for row in order:
        label = int(labels[row])
        if taken_of.get(label, 0) < shots:
            taken_of[label] = taken_of.get(label, 0) + 1
            found.append(row)
    return np.array(found, np.int64)


def _rows_of_classes(manifest: Manifest) -> list[Int64[np.ndarray, " m"]]:
    """Places of the clips of each class: of its first label, or with label sets of that of each."""
    if not manifest.label_sets:
        labels = manifest.label_numbers
        return [np.flatnonzero(labels == number) for number in range(len(manifest.classes))]
    found: dict[str, list[int]] = {name: [] for name in manifest.classes}
    for row, entry in enumerate(manifest.entries):
        for name in entry.labels:
            found[name].append(row)
    return [np.array(rows, np.int64) for rows in found.values()]
