"""Few-shot subsets: a fixed number of clips per class."""

import hashlib
from dataclasses import replace
from typing import Literal, get_args

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
    counts_for = None if manifest.label_sets else 1
    chosen: set[int] = set()
    for number, name in enumerate(manifest.classes):
        rows = [row for row, e in enumerate(manifest.entries) if name in e.labels[:counts_for]]
        order = [rows[i] for i in rng(seed, 0, "shots", number).permutation(len(rows))]
        if by == "source":
            first: dict[str, int] = {}
            for row in order:
                first.setdefault(manifest.entries[row].source_id, row)
            order = list(first.values())
        chosen.update(order[:shots])
    entries = tuple(entry for row, entry in enumerate(manifest.entries) if row in chosen)
    said = "\n".join([manifest.sha256, *(entry.clip_id for entry in entries)])
    return replace(manifest, entries=entries, sha256=hashlib.sha256(said.encode()).hexdigest())
