"""Every random draw is keyed by its address, and the numbers there never change."""

import itertools
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from avmix.rng import rng
from avmix.training.condition_passes import groups_of

ADDRESS = (7, 3, "mix", 41, 2)


@pytest.mark.parametrize(
    ("address", "uniform", "integers"),
    [
        ((0, 0, "order"), [0.9645594021303441, 0.38009964438079247], [199, 964, 836, 380]),
        (ADDRESS, [0.044275386069699496, 0.13661089943053273], [187, 44, 331, 136]),
    ],
)
def test_the_numbers_at_an_address_never_change(address, uniform, integers):
    # Published runs depend on these: a change here changes every one of them.
    assert rng(*address).random(2).tolist() == uniform
    assert rng(*address).integers(1000, size=4).tolist() == integers


def test_asking_again_gives_a_fresh_stream_of_the_same_numbers():
    first = rng(*ADDRESS)
    first.random(100)
    np.testing.assert_array_equal(rng(*ADDRESS).random(5), rng(*ADDRESS).random(5))
    assert first.random() != rng(*ADDRESS).random()


@pytest.mark.parametrize(
    "other",
    [
        (8, 3, "mix", 41, 2),
        (7, 4, "mix", 41, 2),
        (7, 3, "torch", 41, 2),
        (7, 3, "mix", 42, 2),
        (7, 3, "mix", 41, 3),
        (7, 3, "mix", 2, 41),
        (3, 7, "mix", 41, 2),
    ],
)
def test_another_address_gives_other_numbers(other):
    assert not np.any(rng(*ADDRESS).random(8) == rng(*other).random(8))


def test_all_purposes_have_streams_of_their_own():
    purposes = ("order", "window", "augment", "mix", "torch", "synthesis")
    first = [rng(1, 2, purpose, 3).random() for purpose in purposes]
    assert len(set(first)) == len(purposes)


def test_neighbouring_rows_are_uncorrelated():
    draws = np.array([rng(0, 0, "window", row).random(2) for row in range(2000)])
    assert abs(draws[:, 0].mean() - 0.5) < 0.02
    neighbours = np.corrcoef(draws[:-1, 0], draws[1:, 0])[0, 1]
    assert abs(neighbours) < 0.07  # three standard deviations of 2000 independent draws


@given(st.lists(st.integers(0, 2**32 - 1), min_size=4, max_size=4, unique=True))
def test_the_order_of_an_address_matters(numbers):
    orders = list(itertools.permutations(numbers))
    assert len({rng(a, b, "window", c, d).random() for a, b, c, d in orders}) == len(orders)


def test_negative_numbers_are_refused():
    with pytest.raises(ValueError, match=r"in \[0, 2\*\*32\)"):
        rng(0, -1, "mix")


def test_checks_of_types_do_not_disturb_the_global_generator():
    before = random.getstate()
    groups_of([1, 2, 3, 4], {}, num_views=1, batch_size=2)  # lists, of which beartype checks items
    assert random.getstate() == before


def test_nothing_is_taken_from_the_global_generator():
    np.random.seed(0)  # noqa: NPY002
    before = np.random.random()  # noqa: NPY002
    np.random.seed(0)  # noqa: NPY002
    rng(0, 0, "mix").random(10)
    assert np.random.random() == before  # noqa: NPY002
