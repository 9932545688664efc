"""Pairings: which clip of a batch is the partner of which."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from avmix.config import MixConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class Clips:
    """Facts about the clips of a batch that drawing a plan depends on."""

    present: tuple[tuple[str, tuple[bool, ...]], ...]
    """(modality, which clips have it); the order of the modalities is that of the plan's parts."""
    source: tuple[int, ...]
    """Recording that each clip is of: clips of one are never mixed with each other."""
    labels: tuple[frozenset[int], ...]
    """Classes of each clip."""
    near: tuple[tuple[int, ...], ...] | None = None
    """For pairing `nearest`: the others of each clip, the most alike first."""

    def __post_init__(self) -> None:
        """Raises ValueError where lengths differ."""
        for name, has in (*self.present, ("labels", self.labels), ("near", self.near)):
            if has is not None and len(has) != self.size:
                raise ValueError(f"{name} is told of {len(has)} clips, source of {self.size}")

    @property
    def size(self) -> int:
        """Number of clips."""
        return len(self.source)


def draw_partners(config: MixConfig, clips: Clips, rng: np.random.Generator) -> list[int]:
    """Draw the partner of each clip; a clip without one is its own.

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
        case "different_class" | "same_class" | "different_source":
            choices = [_choices(config, clips, i) for i in range(size)]
        case "nearest":
            choices = nearest_choices(clips, config.neighbours)
    return [row[0] for row in _distinct(choices, 1, rng)]


def involution(order: Sequence[int]) -> list[int]:
    """Pairs of neighbours in `order`, a permutation; in an odd batch the last is its own
    partner."""
    partner = list(range(len(order)))
    for i, j in zip(order[0::2], order[1::2], strict=False):
        partner[i], partner[j] = j, i
    return partner


def derangement(order: Sequence[int]) -> list[int]:
    """Partner = next one in `order`, a permutation: one cycle, so no clip is its own partner."""
    partner = list(range(len(order)))
    for i, j in zip(order, [*order[1:], *order[:1]], strict=True):
        partner[i] = j
    return partner


def draw_several_partners(
    config: MixConfig, clips: Clips, rng: np.random.Generator
) -> list[list[int]]:
    """Draw `mix.partners` partners of each clip, a list for each; where there are not so many, the
    rest is the clip itself.

    `involution`: random groups in which each clip has all others as partners; `permutation`: one
    after the other, so that some may be the same clip; `roll`: the next clips; `derangement`: the
    next ones in a random order; `second_batch`: so many of the second half; otherwise different
    clips of those that one partner is drawn from. Raises ValueError as `draw_partners`.
    """
    size, count = clips.size, config.partners
    order = rng.permutation(size).tolist()
    match config.pairing:
        case "involution":
            groups = [order[at : at + count + 1] for at in range(0, size, count + 1)]
            found = {one: _others(group, at, count)
                     for group in groups for at, one in enumerate(group)}  # fmt: skip
            return [found[i] for i in range(size)]
        case "permutation":
            more = [rng.permutation(size).tolist() for _ in range(count - 1)]
            return [list(row) for row in zip(order, *more, strict=True)]
        case "roll":
            return [_others(range(size), i, count) for i in range(size)]
        case "derangement":
            found = {one: _others(order, at, count) for at, one in enumerate(order)}
            return [found[i] for i in range(size)]
        case "second_batch":
            first = draw_partners(config, clips, rng)
            return [[first[(i + j) % len(first)] if j < len(first) else i for j in range(count)]
                    for i in range(len(first))]  # fmt: skip
        case "different_class" | "same_class" | "different_source":
            choices = [_choices(config, clips, i) for i in range(size)]
        case "nearest":
            choices = nearest_choices(clips, config.neighbours)
    return _distinct(choices, count, rng)


def nearest_choices(clips: Clips, neighbours: int) -> list[list[int]]:
    """The nearest clips of other sources, of each clip. Raises ValueError where `clips` does not
    say which are near."""
    if clips.near is None:
        raise ValueError("mix.pairing nearest is for training on kept features")
    return [
        [j for j in near if clips.source[i] != clips.source[j]][:neighbours]
        for i, near in enumerate(clips.near)
    ]


def _others(group: Sequence[int], at: int, count: int) -> list[int]:
    """The next `count` of `group` after the one at `at`, in a circle; itself once it is round."""
    return [group[(at + j) % len(group)] if j < len(group) else group[at]
            for j in range(1, count + 1)]  # fmt: skip


def _choices(config: MixConfig, clips: Clips, i: int) -> list[int]:
    """The clips that may be partners of clip `i`, of the pairings by class and source."""
    wanted = {"same_class": True, "different_class": False}.get(config.pairing)
    return [
        j for j in range(clips.size)
        if clips.source[i] != clips.source[j]
        and wanted in (None, bool(clips.labels[i] & clips.labels[j]))
    ]  # fmt: skip


def _distinct(
    choices: Sequence[Sequence[int]], count: int, rng: np.random.Generator
) -> list[list[int]]:
    """`count` different ones of each clip's choices, all equally likely; then itself."""
    draws, found = rng.random((len(choices), count)), []
    for i, some in enumerate(choices):
        left, row = list(some), []
        for draw in draws[i]:
            row.append(left.pop(int(draw * len(left))) if left else i)
        found.append(row)
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairs:
    """Pairs of clips to mix, and the modalities that both have."""

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
        """Names of the modalities."""
        return tuple(name for name, _ in self.shared)


def pairs_of(partner: Sequence[int], clips: Clips) -> Pairs:
    """Pairs of `clips` with these partners. ValueError for a partner that does not exist."""
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
