"""Late fusion of heads: against Bayes' rule on heads of known calibration, and by hand."""

import numpy as np
import pytest

from avmix.features.late_fusion import LateFusion, equal_fusion, fit_late_fusion
from avmix.features.regression import Probability

CLASSES = 4


def power(value: np.ndarray, exponent: float) -> np.ndarray:
    value = value**exponent
    return value / value.sum(-1, keepdims=True)


def calibrated(draw: np.random.Generator, labels: np.ndarray, scale: float) -> np.ndarray:
    """What Bayes' rule says of one measurement of each class, 1 for its own and 0 for others, with
    noise: probabilities in proportion to exp(measurement / variance)."""
    seen = np.eye(CLASSES)[labels] + scale * draw.normal(size=(len(labels), CLASSES))
    return power(np.exp(seen - seen.max(1, keepdims=True)), 1 / scale**2)


def all_of(value: np.ndarray) -> Probability:
    return Probability(value, np.ones(len(value), bool))


@pytest.fixture
def draw() -> np.random.Generator:
    return np.random.default_rng(0)


def test_independent_heads_are_fused_by_bayes(draw: np.random.Generator) -> None:
    """Each head is too sure or not sure enough by a known power: its temperature. Weight 1 each."""
    labels = draw.integers(CLASSES, size=4000)
    exact = [calibrated(draw, labels, scale) for scale in (0.6, 1.0)]
    heads = [all_of(power(exact[0], 2.0)), all_of(power(exact[1], 0.5))]
    found = fit_late_fusion(heads, labels)
    assert found.temperatures == pytest.approx((2.0, 0.5), rel=0.13)  # its grid has steps of 12 %
    assert found.weights[0] == 1.0
    assert found.weights[1] == pytest.approx(1.0, abs=0.1)
    value = found(heads).value
    np.testing.assert_allclose(value.sum(1), 1)
    wanted = power(exact[0] * exact[1], 1.0)
    assert np.abs(value - wanted).mean() < 0.02
    tops = [float((said.argmax(1) == labels).mean()) for said in (*exact, value)]
    assert tops[2] > max(tops[:2]) + 0.02


def test_a_head_that_adds_nothing_has_no_weight(draw: np.random.Generator) -> None:
    labels = draw.integers(CLASSES, size=300)
    good = all_of(calibrated(draw, labels, 0.6))
    assert fit_late_fusion([good, good], labels).weights == (1.0, 0.0)
    noise = all_of(power(draw.random((300, CLASSES)), 3.0))
    found = fit_late_fusion([noise, good], labels)
    assert found.weights[0] / found.temperatures[0] < 0.05
    labels = draw.integers(CLASSES, size=4000)
    good, noise = calibrated(draw, labels, 0.6), power(draw.random((4000, CLASSES)), 3.0)
    tops = [
        float((said.argmax(1) == labels).mean())
        for said in (good, found([all_of(noise), all_of(good)]).value)
    ]
    assert tops[1] > tops[0] - 0.003


def test_few_clips_leave_the_best_head_alone() -> None:
    """One head is right on 9 of 10 clips, the other on 7, where it says 0.6. Ten clips do not prove
    it; 400 of the same do."""
    labels = np.tile([0, 1], 5)
    best, other = np.eye(2)[labels], np.eye(2)[labels]
    best[0], other[3:6] = 1 - best[0], 1 - other[3:6]
    best, other = 0.1 + 0.8 * best, 0.4 + 0.2 * other
    few = fit_late_fusion([all_of(best), all_of(other)], labels)
    assert few.weights == (1.0, 0.0)
    both = [all_of(np.tile(head, (40, 1))) for head in (best, other)]
    assert fit_late_fusion(both, np.tile(labels, 40)).weights[1] > 0.5


def test_a_product_of_powers_by_hand() -> None:
    """0.8^(1/2) 0.5 = 0.447 and 0.2^(1/2) 0.5 = 0.224: two to one. A head that lacks its modality
    has no say; without any head with a weight the others decide."""
    heads = [
        Probability(np.array([[0.8, 0.2], [0.8, 0.2], [0.0, 0.0], [0.0, 0.0]]),
                    np.array([True, True, False, False])),
        Probability(np.array([[0.5, 0.5], [0.0, 0.0], [0.3, 0.7], [0.0, 0.0]]),
                    np.array([True, False, True, False])),
    ]  # fmt: skip
    value, counted = LateFusion((2.0, 1.0), (1.0, 0.0))(heads)
    assert counted.tolist() == [True, True, True, False]
    np.testing.assert_allclose(value, [[2 / 3, 1 / 3], [2 / 3, 1 / 3], [0.3, 0.7], [0, 0]])
    value, _ = LateFusion((2.0, 0.5), (0.0, 0.5))(heads)
    np.testing.assert_allclose(value, [[0.5, 0.5], [2 / 3, 1 / 3], [0.3, 0.7], [0, 0]])


def test_clips_without_a_modality_do_not_fit(draw: np.random.Generator) -> None:
    labels = draw.integers(CLASSES, size=200)
    heads = [all_of(calibrated(draw, labels, scale)) for scale in (0.6, 0.8)]
    counted = np.arange(200) < 150
    wanted = fit_late_fusion(
        [Probability(*(v[:150] for v in head)) for head in heads], labels[:150]
    )
    lacking = Probability(heads[1].value * counted[:, None], counted)
    assert fit_late_fusion([heads[0], lacking], labels) == wanted
    nothing = Probability(np.zeros((200, CLASSES)), np.zeros(200, bool))
    assert fit_late_fusion([heads[0], nothing], labels) == equal_fusion(2)
