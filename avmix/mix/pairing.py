"""Who is whose partner."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from avmix.config import MixConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class Clips:
    """What drawing a plan must know of the clips of a batch."""

    present: tuple[tuple[str, tuple[bool, ...]], ...]
    """(modality, which clips have it); the order of the modalities is that of the plan's parts."""
    source: tuple[int, ...]
    """Recording that each clip is of: clips of one are never mixed with each other."""
    labels: tuple[frozenset[int], ...]
    """Classes of each clip."""

    def __post_init__(self) -> None:
        """Raises ValueError where lengths differ."""
        for name, has in (*self.present, ("labels", self.labels)):
            if len(has) != self.size:
                raise ValueError(f"{name} is told of {len(has)} clips, source of {self.size}")

    @property
    def size(self) -> int:
        """Number of clips."""
        return len(self.source)


def draw_partners(config: MixConfig, clips: Clips, rng: np.random.Generator) -> list[int]:
    """Place of each clip's partner; a clip that has none is its own.

    `second_batch` gives partners to the first half of the clips only. Raises ValueError when it is
    to halve an odd number.
    """
    size, order = clips.size, rng.permutation(clips.size).tolist()
    match config.pairing:
        case "involution":
            return involution(order)
        case "permutation":
            return order
        case "roll":
            return [(i + 1) % size for i in range(size)]
        case "derangement":
            return derangement(order)
        case "second_batch":
            if size % 2:
                raise ValueError(
                    f"mix.pairing second_batch halves a batch; {size} clips are not even"
                )
            return [size // 2 + place for place in order if place < size // 2]
        case "different_class":
            return _any_of(clips, lambda i, j: not clips.labels[i] & clips.labels[j], rng)
        case "same_class":
            return _any_of(clips, lambda i, j: bool(clips.labels[i] & clips.labels[j]), rng)
        case "different_source":
            return _any_of(clips, lambda i, j: True, rng)


def involution(order: Sequence[int]) -> list[int]:
    """Neighbours in `order`, a permutation, are each other's partners; in an odd batch the last
    stays alone."""
    partner = list(range(len(order)))
    for i, j in zip(order[0::2], order[1::2], strict=False):
        partner[i], partner[j] = j, i
    return partner


def derangement(order: Sequence[int]) -> list[int]:
    """The next one in `order`, a permutation: one cycle through all, so that nobody is alone."""
    partner = list(range(len(order)))
    for i, j in zip(order, [*order[1:], *order[:1]], strict=True):
        partner[i] = j
    return partner


def _any_of(clips: Clips, allowed, rng: np.random.Generator) -> list[int]:
    """Each clip draws one of those it may be mixed with, all equally likely; itself if none."""
    draws = rng.random(clips.size)
    partner = []
    for i in range(clips.size):
        choices = [
            j for j in range(clips.size) if clips.source[i] != clips.source[j] and allowed(i, j)
        ]
        partner.append(choices[int(draws[i] * len(choices))] if choices else i)
    return partner


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairs:
    """Who is mixed with whom, and which modalities both have."""

    num_inputs: int
    partner: tuple[int, ...]
    shared: tuple[tuple[str, tuple[bool, ...]], ...]
    """(modality, whether clip and partner both have it and are of two sources)"""
    present: tuple[tuple[str, tuple[bool, ...]], ...]
    """(modality, whether the clip itself has it)"""

    @property
    def size(self) -> int:
        """Number of mixed clips."""
        return len(self.partner)

    @property
    def names(self) -> tuple[str, ...]:
        """Of the modalities."""
        return tuple(name for name, _ in self.shared)


def pairs_of(partner: Sequence[int], clips: Clips) -> Pairs:
    """What mixing `clips` with these partners can be. ValueError for a partner that is none."""
    if not all(0 <= j < clips.size for j in partner):
        raise ValueError(f"partner must be in [0, {clips.size}), got {tuple(partner)}")
    places = tuple(enumerate(partner))
    two = [clips.source[i] != clips.source[j] for i, j in places]
    return Pairs(
        num_inputs=clips.size,
        partner=tuple(partner),
        shared=tuple(
            (name, tuple(two[i] and has[i] and has[j] for i, j in places))
            for name, has in clips.present
        ),
        present=tuple((name, tuple(has[: len(partner)])) for name, has in clips.present),
    )
