"""Few-shot subsets: a fixed number of clips per class."""

import hashlib
from dataclasses import replace

from avmix.data.manifest import Manifest
from avmix.rng import rng


def few_shot(manifest: Manifest, shots: int, seed: int) -> Manifest:
    """Few-shot subset: at most `shots` clips of each class of a split, in the order of the
    manifest; 0: all.

    Every class has a stream of its own at (seed, number of the class), and more shots contain fewer
    with the same seed. A clip with several labels counts for its first. The hash of what is
    returned is of the split and of the choice.
    """
    if shots == 0:
        return manifest
    chosen: set[int] = set()
    for number, name in enumerate(manifest.classes):
        rows = [row for row, e in enumerate(manifest.entries) if e.labels[0] == name]
        order = rng(seed, 0, "shots", number).permutation(len(rows))
        chosen |= {rows[place] for place in order[:shots]}
    entries = tuple(entry for row, entry in enumerate(manifest.entries) if row in chosen)
    said = "\n".join([manifest.sha256, *(entry.clip_id for entry in entries)])
    return replace(manifest, entries=entries, sha256=hashlib.sha256(said.encode()).hexdigest())
