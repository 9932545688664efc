"""Rounds in which candidates take turns, so that what disturbs the machine disturbs all alike."""

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Round:
    """One turn of every candidate."""

    number: int
    """From 0; negative: warming up."""
    order: tuple[str, ...]
    """The candidates, in another order in every round."""

    @property
    def counts(self) -> bool:
        """Whether it is measured: first calls load, compile and allocate."""
        return self.number >= 0


def rounds_in_turn(names: Iterable[str], count: int, *, warm_up: int) -> Iterator[Round]:
    """`warm_up` rounds that do not count, then `count` that do; orders depend on numbers only."""
    candidates = list(names)
    for number in range(-warm_up, count):
        order = random.Random(number).sample(candidates, len(candidates))
        yield Round(number, tuple(order))
