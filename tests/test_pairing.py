"""Who is whose partner."""

from collections import Counter
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from avmix.config import MixConfig
from avmix.mix import Clips, pairs_of
from avmix.mix.pairing import derangement, draw_partners, involution
from avmix.rng import rng

BY_CLASS = ("different_class", "same_class", "different_source")
PAIRINGS = ("involution", "permutation", "roll", "derangement", "second_batch", *BY_CLASS)


def clips(source, labels=None) -> Clips:
    size = len(source)
    has = (True,) * size
    return Clips(
        present=(("video", has), ("audio", has)),
        source=tuple(source),
        labels=tuple(map(frozenset, labels or [{i} for i in range(size)])),
    )


def drawn(pairing, of: Clips | int, seed: int = 0) -> list[int]:
    of = clips(range(of)) if isinstance(of, int) else of
    return draw_partners(MixConfig(pairing=pairing), of, rng(seed, 0, "mix"))


def counted(pairing, of: Clips | int, number: int) -> Counter[tuple[int, ...]]:
    """How often each way of pairing is drawn."""
    of = clips(range(of)) if isinstance(of, int) else of
    stream, config = rng(1, 0, "mix"), MixConfig(pairing=pairing)
    return Counter(tuple(draw_partners(config, of, stream)) for _ in range(number))


def check_uniform(counts: Counter, choices: int) -> None:
    """All `choices` occur, each about as often: within five standard deviations."""
    number = sum(counts.values())
    assert len(counts) == choices
    spread = 5 * (number / choices * (1 - 1 / choices)) ** 0.5
    assert max(abs(count - number / choices) for count in counts.values()) <= spread


def test_involution_by_hand():
    assert involution([2, 0, 3, 1]) == [2, 3, 0, 1]
    assert involution([4, 2, 0, 1, 3]) == [1, 0, 4, 3, 2]  # 3 comes last and stays alone
    assert involution([0]) == [0]


def test_derangement_by_hand():
    assert derangement([2, 0, 3, 1]) == [3, 2, 0, 1]  # 2 -> 0 -> 3 -> 1 -> 2
    assert derangement([0]) == [0]


@given(st.integers(1, 70), st.integers(0, 10_000))
def test_partners_are_pairs_and_one_alone_when_odd(size, seed):
    partner = drawn("involution", size, seed)
    assert all(partner[partner[i]] == i for i in range(size))
    assert sum(partner[i] == i for i in range(size)) == size % 2


@given(st.integers(1, 70), st.integers(0, 10_000))
def test_a_permutation_has_everybody_once(size, seed):
    assert sorted(drawn("permutation", size, seed)) == list(range(size))


@given(st.integers(2, 70), st.integers(0, 10_000))
def test_a_derangement_is_one_round_through_everybody(size, seed):
    partner = drawn("derangement", size, seed)
    place, seen = 0, []
    for _ in range(size):
        place = partner[place]
        seen.append(place)
    assert sorted(seen) == list(range(size))
    assert place == 0


@pytest.mark.parametrize("size", [2, 3, 64])
def test_roll_takes_the_next_one(size):
    assert drawn("roll", size) == [*range(1, size), 0]


@given(st.integers(1, 35), st.integers(0, 10_000))
def test_the_second_batch_gives_each_of_the_first_its_own_partner(half, seed):
    assert sorted(drawn("second_batch", 2 * half, seed)) == list(range(half, 2 * half))


@pytest.mark.parametrize("size", [1, 3, 63])
def test_an_odd_number_is_no_two_batches(size):
    with pytest.raises(ValueError, match=f"second_batch halves a batch; {size} clips"):
        drawn("second_batch", size)


@pytest.mark.parametrize("pairing", [p for p in PAIRINGS if p != "second_batch"])
def test_one_clip_is_its_own_partner(pairing):
    assert drawn(pairing, 1) == [0]


def test_every_pair_is_as_likely_as_any_other():
    check_uniform(counted("involution", 4, 900), 3)
    # Odd: 5 who stay alone, 3 ways to pair the rest.
    check_uniform(counted("involution", 5, 1500), 15)


def test_every_permutation_is_as_likely_as_any_other():
    check_uniform(counted("permutation", 4, 2400), 24)
    check_uniform(counted("second_batch", 6, 1200), 6)


def test_one_clip_of_a_permutation_is_its_own_partner_on_average():
    counts = counted("permutation", 8, 2000)
    alone = [sum(i == j for i, j in enumerate(partner)) for partner in counts.elements()]
    assert np.mean(alone) == pytest.approx(1.0, abs=5 / 2000**0.5)  # its variance is 1


def test_every_round_is_as_likely_as_any_other_and_no_other_derangement_occurs():
    counts = counted("derangement", 4, 1200)
    check_uniform(counts, 6)  # 3! rounds; swapping two pairs is a derangement, but no round
    assert all(partner[partner[i]] != i for partner in counts for i in range(4))
    assert sum(all(p[i] != i for i in range(4)) for p in permutations(range(4))) == 9


def test_partners_of_another_class():
    of = clips(range(5), [{0}, {0}, {1}, {1, 2}, {2}])
    may = [{2, 3, 4}, {2, 3, 4}, {0, 1, 4}, {0, 1}, {0, 1, 2}]  # several labels: none in common
    check_choices("different_class", of, may)


def test_partners_of_the_same_class():
    of = clips(range(6), [{0}, {0}, {1}, {1, 2}, {2}, {3}])
    may = [{1}, {0}, {3}, {2, 4}, {3}, {5}]  # any class in common; nobody else is of class 3
    check_choices("same_class", of, may)


def test_partners_of_another_source():
    check_choices("different_source", clips([7, 7, 8, 9]), [{2, 3}, {2, 3}, {0, 1, 3}, {0, 1, 2}])


def test_no_partner_by_class_is_of_the_same_source():
    check_choices("same_class", clips([7, 7, 8], [{0}] * 3), [{2}, {2}, {0, 1}])
    check_choices("different_class", clips([7, 7, 8]), [{2}, {2}, {0, 1}])


@pytest.mark.parametrize(
    ("pairing", "of"),
    [
        ("different_class", clips(range(3), [{0}, {0, 1}, {0}])),
        ("same_class", clips(range(3), [{0}, {1}, {2}])),
        ("same_class", clips(range(3), [{}, {}, {}])),
        ("different_source", clips([4, 4, 4])),
    ],
)
def test_who_has_no_candidate_stays_alone(pairing, of):
    assert all(drawn(pairing, of, seed) == [0, 1, 2] for seed in range(20))


def check_choices(pairing, of: Clips, may: list[set[int]]) -> None:
    """Clip i draws each of `may[i]` equally often, and nobody else."""
    counts = counted(pairing, of, 900)
    for i, choices in enumerate(may):
        found = Counter(partner[i] for partner in counts.elements())
        assert set(found) == choices, (pairing, i)
        check_uniform(found, len(choices))


@pytest.mark.parametrize("pairing", PAIRINGS)
def test_the_same_stream_gives_the_same_partners_and_another_does_not(pairing):
    of = clips(range(16), [{i % 4} for i in range(16)])
    assert drawn(pairing, of, 3) == drawn(pairing, of, 3)
    if pairing != "roll":
        assert drawn(pairing, of, 3) != drawn(pairing, of, 4)


@pytest.mark.parametrize("pairing", PAIRINGS)
def test_the_stream_goes_on_from_the_same_place_whatever_the_clips(pairing):
    after = []
    for labels in ([{0}] * 4, [{0}, {1}, {0}, {1}]):
        stream = rng(0, 0, "mix")
        draw_partners(MixConfig(pairing=pairing), clips(range(4), labels), stream)
        after.append(stream.random())
    assert after[0] == after[1]


def test_what_both_have_is_mixed_unless_they_are_of_one_source():
    of = Clips(
        present=(
            ("video", (True, True, True, False, True)),
            ("audio", (True, False, True, True, True)),
        ),
        source=(0, 1, 2, 3, 2),
        labels=(frozenset(),) * 5,
    )
    pairs = pairs_of([2, 0, 4, 0, 4], of)
    assert pairs.num_inputs == pairs.size == 5
    assert pairs.names == ("video", "audio")
    # 0 with 2: both; 1 with 0: 1 has no audio; 2 with 4: one source; 3: no video; 4: itself
    assert pairs.shared == (
        ("video", (True, True, False, False, False)),
        ("audio", (True, False, False, True, False)),
    )
    assert pairs.present == of.present


def test_of_two_batches_only_the_first_comes_out():
    of = clips([0, 1, 2, 0])
    pairs = pairs_of([3, 2], of)
    assert (pairs.num_inputs, pairs.size) == (4, 2)
    assert dict(pairs.shared) == {"video": (False, True), "audio": (False, True)}
    assert dict(pairs.present) == {"video": (True, True), "audio": (True, True)}


@pytest.mark.parametrize("partner", [(0, 3), (-1, 0)])
def test_a_partner_that_is_nobody_is_refused(partner):
    with pytest.raises(ValueError, match=r"partner must be in \[0, 3\), got \("):
        pairs_of(partner, clips(range(3)))


def test_clips_of_which_not_all_is_told_are_refused():
    with pytest.raises(ValueError, match="audio is told of 1 clips, source of 2"):
        Clips(present=(("video", (True, True)), ("audio", (True,))), source=(0, 1),
              labels=(frozenset(),) * 2)  # fmt: skip
    with pytest.raises(ValueError, match="labels is told of 3 clips, source of 2"):
        Clips(present=(("video", (True, True)),), source=(0, 1), labels=(frozenset(),) * 3)
