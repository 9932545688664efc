"""Class-balanced sampling: how often clips come, by hand, and that a run of it goes on exactly."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from avmix.config import AugmentConfig, ClipConfig
from avmix.data.balance import balanced_order, earlier_visits, mean_visits
from avmix.data.dataset import TrainSet
from avmix.data.manifest import Manifest


def test_how_often_a_clip_comes_by_hand(make_entry: Any) -> None:
    # Class x has four clips, y one.
    one = [make_entry(c, labels=("x",)) for c in "abcd"] + [make_entry("e", labels=("y",))]
    assert mean_visits(one, "none").tolist() == [1, 1, 1, 1, 1]
    assert mean_visits(one, "class") == pytest.approx([0.625] * 4 + [2.5])
    # sqrt(4) : sqrt(1) = 2 : 1, of five visits 10/3 and 5/3.
    assert mean_visits(one, "sqrt") == pytest.approx([10 / 12] * 4 + [5 / 3])
    # x has three clips, y two; what has both counts for both: 1/3, 1/3, 1/3 + 1/2, 1/2; and one of
    # which nothing is known comes as often as the rarest: 7/3 in all.
    several = [*(make_entry(c, labels=labels) for c, labels in
                 (("a", ("x",)), ("b", ("x",)), ("c", ("x", "y")), ("d", ("y",)))),
               make_entry("e", labels=(), unknown_labels=("x",))]  # fmt: skip
    expected = np.array([1 / 3, 1 / 3, 5 / 6, 1 / 2, 1 / 3]) * 5 / (7 / 3)
    assert mean_visits(several, "class") == pytest.approx(expected)


def test_each_clip_comes_as_often_as_its_mean_rounded() -> None:
    visits = np.array([0.2, 0.5, 1.0, 1.3, 3.0, 0.75, 0.25])
    counts = np.zeros(7)
    orders = [balanced_order(3, epoch, visits) for epoch in range(400)]
    for order in orders:
        assert len(order) == 7
        found = np.bincount(order, minlength=7)
        assert (np.abs(found - visits) < 1).all()
        counts += found / 400
    assert counts == pytest.approx(visits, abs=0.08)
    assert (balanced_order(3, 5, visits) == orders[5]).all()
    assert (balanced_order(4, 5, visits) != orders[5]).any()


def test_how_often_a_row_has_come_before() -> None:
    assert earlier_visits(np.array([4, 1, 4, 4, 1, 0])).tolist() == [0, 0, 1, 2, 1, 0]


def test_a_clip_that_comes_again_has_another_window_and_the_order_has_an_address(
    make_entry: Any,
) -> None:
    entries = tuple(make_entry(c, labels=("x",)) for c in "abcdefg")
    manifest = Manifest(classes=("x", "y"), protocol="p", split="train", sha256="",
                        entries=(*entries, make_entry("h", labels=("y",))))  # fmt: skip

    def data() -> TrainSet:
        return TrainSet(manifest=manifest, root=Path(), clip=ClipConfig(), seed=0,
                        augment=AugmentConfig(), balance="class")  # fmt: skip

    first, again = data(), data()
    for epoch in (0, 1, 2):
        order, earlier = first._order(epoch)
        assert Counter(order.tolist())[7] == 4  # half of eight
        assert sorted(earlier[order == 7].tolist()) == [0, 1, 2, 3]
    for epoch in (2, 0):  # a run that goes on asks for no epoch before
        for ours, theirs in zip(first._order(epoch), again._order(epoch), strict=True):
            assert (ours == theirs).all()
    assert [first._address(7, earlier) for earlier in range(3)] == [7, 15, 23]
