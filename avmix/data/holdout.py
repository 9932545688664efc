"""Validation clips of a dataset without a split for them: some sources of its train split."""

import hashlib
from collections import defaultdict
from dataclasses import dataclass, replace

from avmix.data.clip_list import taken
from avmix.data.manifest import Manifest, ManifestError
from avmix.system.printing import listed

HELD_OUT = "val"
"""Name of the split that is held out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldOut:
    """A train split in two parts that share no source."""

    train: Manifest
    """To train on. Its hash is of the split and of the choice."""
    val: Manifest
    """To validate on; likewise."""
    notice: str
    """What is to be said of the choice."""


def hold_out(manifest: Manifest, share: float, seed: int) -> HeldOut:
    """Hold out `share` (above 0, below 1) of the sources of each class, at least one and never all:
    a class of one source stays whole. The order of the clips is kept.

    Sources are taken in the order of a hash of `seed` and their name, the rarest class first, so
    that with other clips few of them change sides. Raises `ManifestError` where clips are synthetic
    (they could descend from clips of the other side), or no class has two sources.
    """
    where = f"data.holdout of the split {manifest.split!r} of {manifest.protocol}"
    if made := next((e.clip_id for e in manifest.entries if e.synthetic is not None), None):
        raise ManifestError(f"{where}: clip {made!r} is synthetic; only real clips are held out")
    held = _choose(manifest, share, seed)
    sources = {entry.source_id for entry in manifest.entries}
    if not held:
        raise ManifestError(f"{where}: no class has two sources, so that none can be held out")
    parts: list[Manifest] = []
    for is_held in (False, True):
        rows = [row for row, e in enumerate(manifest.entries) if (e.source_id in held) == is_held]
        entries = taken(manifest.entries, rows)
        said = "\n".join([manifest.sha256, *(entry.clip_id for entry in entries)])
        sha256 = hashlib.sha256(said.encode()).hexdigest()
        parts.append(replace(manifest, entries=entries, sha256=sha256))
    train, val = parts[0], replace(parts[1], split=HELD_OUT)
    lacks = {label for e in train.entries for label in e.labels}
    lacks -= {label for e in val.entries for label in e.labels}
    without = f"; too few sources of: {listed(sorted(lacks))}" if lacks else ""
    notice = (
        f"held out for validation: {len(held)} of {len(sources)} sources of the split "
        f"{manifest.split!r}, {len(val.entries)} of {len(manifest.entries)} clips (data.holdout "
        f"{share:g}, data.holdout_seed {seed}){without}"
    )
    return HeldOut(train=train, val=val, notice=notice)


def _choose(manifest: Manifest, share: float, seed: int) -> set[str]:
    """The sources that are held out."""
    labels: dict[str, set[str]] = defaultdict(set)
    for entry in manifest.entries:
        labels[entry.source_id].update(entry.labels)
    of_class: dict[str, list[str]] = defaultdict(list)
    for source in sorted(
        labels, key=lambda name: hashlib.sha256(f"{seed} {name}".encode()).digest()
    ):
        for label in labels[source]:
            of_class[label].append(source)
    held: set[str] = set()
    left = {label: len(group) for label, group in of_class.items()}
    for label in sorted(of_class, key=lambda label: (len(of_class[label]), label)):
        count = len(of_class[label])
        wanted = max(1, round(count * share))
        for source in of_class[label]:
            if count - left[label] >= wanted:
                break
            if source not in held and all(left[other] > 1 for other in labels[source]):
                held.add(source)
                for other in labels[source]:
                    left[other] -= 1
    return held
