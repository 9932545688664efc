"""Metrics by hand, and against numpy code of another shape."""

import math

import numpy as np
import pytest
import torch
from jaxtyping import TypeCheckError

from avmix.evaluation.metrics import (
    EVAL_ROWS,
    Predictions,
    Scores,
    all_scores,
    class_accuracy,
    confusion_matrix,
    most_confused,
    scores,
)

# Clips of classes 0, 0, 1, 1, 3 of four classes; class 2 has none. Predicted: 0, 1, 1, 1, 2.
LABEL = torch.tensor([0, 0, 1, 1, 3])
PROBABILITY = torch.tensor(
    [
        [0.90, 0.05, 0.03, 0.02],
        [0.30, 0.55, 0.10, 0.05],
        [0.20, 0.62, 0.10, 0.08],
        [0.02, 0.90, 0.04, 0.04],
        [0.05, 0.10, 0.69, 0.16],
    ]
)


def test_accuracies_by_hand():
    found = scores(PROBABILITY, LABEL)
    assert found.top1 == pytest.approx(3 / 5)
    assert found.num_clips == 5
    assert found.top5 is None  # there are only four classes
    assert found.mean_class == pytest.approx((1 / 2 + 1 + 0) / 3)  # class 2 does not count
    expected = -sum(math.log(p) for p in (0.90, 0.30, 0.62, 0.90, 0.16)) / 5
    assert found.nll == pytest.approx(expected, rel=1e-6)


def test_calibration_by_hand():
    # Bins of 1/15: 0.9 twice (both right), 0.55 (wrong), 0.62 (right), 0.69 (wrong).
    gaps = [2 * abs(0.9 - 1), 0.55, abs(0.62 - 1), 0.69]
    assert scores(PROBABILITY, LABEL).ece == pytest.approx(sum(gaps) / 5, rel=1e-5)


def test_confusion_by_hand():
    expected = torch.zeros(4, 4, dtype=torch.int64)
    expected[0, 0] = expected[0, 1] = expected[3, 2] = 1
    expected[1, 1] = 2
    assert torch.equal(confusion_matrix(PROBABILITY, LABEL), expected)


def test_the_most_confused_pairs_by_hand():
    confusion = torch.tensor([[7, 3, 0], [0, 0, 4], [3, 0, 1]])
    found = [tuple(pair) for pair in most_confused(confusion)]
    assert found == [(1, 2, 4, 1.0), (2, 0, 3, 0.75), (0, 1, 3, 0.3)]
    assert most_confused(confusion, 1) == most_confused(confusion)[:1]
    assert most_confused(torch.eye(1000, dtype=torch.int64)) == []


def test_a_class_without_clips_has_no_accuracy():
    found = class_accuracy(PROBABILITY, LABEL).tolist()
    assert found[:2] == [0.5, 1.0]
    assert math.isnan(found[2])
    assert found[3] == 0.0


def test_the_right_class_must_be_among_the_five_best():
    probability = torch.tensor([[0.3, 0.25, 0.15, 0.12, 0.1, 0.08]] * 3)
    found = scores(probability, torch.tensor([4, 5, 0]))
    assert found.top5 == pytest.approx(2 / 3)
    assert found.top1 == pytest.approx(1 / 3)


def test_certainty_in_a_wrong_class_costs_much_but_not_everything():
    found = scores(torch.tensor([[1.0, 0.0]]), torch.tensor([1]))
    assert found.nll == pytest.approx(-math.log(1.1754944e-38))
    assert (found.top1, found.ece) == (0.0, 1.0)


@pytest.mark.parametrize("classes", [2, 7, 30])
def test_all_of_them_against_numpy(classes):
    generator = np.random.default_rng(classes)
    logits = generator.normal(size=(200, classes)) * 2
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    label = generator.integers(classes, size=200)
    found = scores(torch.tensor(p, dtype=torch.float32), torch.tensor(label))
    order = np.argsort(-p, axis=1)
    right = order[:, 0] == label
    assert found.top1 == pytest.approx(right.mean())
    top5 = (order[:, :5] == label[:, None]).any(1).mean()
    assert found.top5 == (None if classes == 2 else pytest.approx(top5))
    per_class = [right[label == k].mean() for k in range(classes) if (label == k).any()]
    assert found.mean_class == pytest.approx(np.mean(per_class))
    assert found.nll == pytest.approx(-np.log(p[np.arange(200), label]).mean(), rel=1e-5)
    best, ece = p.max(1), 0.0
    for low in np.arange(15) / 15:
        inside = (best > low) & (best <= low + 1 / 15)
        ece += abs(best[inside].sum() - right[inside].sum()) / 200
    assert found.ece == pytest.approx(ece, abs=1e-5)


def test_confidence_at_the_edge_of_a_bin_is_of_the_upper_bin():
    p = torch.tensor([[k / 15, 1 - k / 15] for k in (9, 10)])
    # 9/15 in [9/15, 10/15) is wrong, 10/15 in [10/15, 11/15) right: |9/15| + |10/15 - 1|, halved.
    assert scores(p, torch.tensor([1, 0])).ece == pytest.approx((9 + 5) / 30, rel=1e-6)
    # Just below 10/15 it shares the bin of 9/15: |9/15 + 10/15 - 1|, halved.
    below = torch.tensor([[9 / 15, 6 / 15], [10 / 15 - 1e-5, 5 / 15 + 1e-5]])
    assert scores(below, torch.tensor([1, 0])).ece == pytest.approx(4 / 30, rel=1e-3)


def test_a_probability_that_rounding_lifts_above_one_changes_nothing():
    exact = torch.tensor([[1.0, 0.0], [0.7, 0.3]])
    rounded = torch.tensor([[1.0000001, 0.0], [0.7, 0.3]])
    label = torch.tensor([0, 1])
    assert scores(rounded, label).ece == pytest.approx(scores(exact, label).ece, abs=1e-5)


def test_every_row_has_its_own_scores():
    probability = {name: torch.eye(2)[torch.tensor([k % 2, 1])] for k, name in enumerate(EVAL_ROWS)}
    predictions = Predictions(
        row=torch.tensor([0, 3]), label=torch.tensor([0, 1]), probability=probability,
        counted=dict.fromkeys(EVAL_ROWS, torch.tensor([True, True])),
    )  # fmt: skip
    found = all_scores(predictions)
    assert list(found) == list(EVAL_ROWS)
    assert [s.top1 for s in found.values() if isinstance(s, Scores)] == [1.0, 0.5, 1.0, 0.5, 1.0]


def test_a_row_is_about_the_clips_that_have_its_modality():
    """By hand: of three clips, the audio head is right on the one that has audio."""
    right, wrong = torch.eye(6)[[0, 1, 2]], torch.eye(6)[[0, 5, 5]]
    audio = torch.tensor([True, False, False])
    predictions = Predictions(
        row=torch.arange(3), label=torch.arange(3),
        probability={"fused": right, "audio head": wrong, "video missing": wrong},
        counted={"fused": torch.ones(3, dtype=torch.bool), "audio head": audio,
                 "video missing": torch.zeros(3, dtype=torch.bool)},
    )  # fmt: skip
    found = all_scores(predictions)
    assert found["video missing"] is None
    assert [(s.num_clips, s.top1, s.top5) for s in found.values() if isinstance(s, Scores)] == [
        (3, 1, 1),
        (1, 1, 1),
    ]


def test_a_label_per_clip_is_needed():
    with pytest.raises(TypeCheckError):
        scores(PROBABILITY, LABEL[:3])


def test_of_equally_probable_classes_the_first_five_are_the_top_five() -> None:
    alike = torch.full((12, 12), 1 / 12)
    for label in range(12):
        assert scores(alike, torch.full((12,), label)).top5 == (label < 5)
