"""Measures of robustness against values by hand and independent implementations."""

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, log_loss

from avmix.evaluation.metrics import scores
from avmix.evaluation.other_clips import audio_span, draw_other_clips, stream_of
from avmix.evaluation.resampling import Resampling, figures, ratio
from avmix.evaluation.retrieval import (
    chance_by_class,
    chance_by_clip,
    embedding,
    ranks_by_class,
    ranks_by_clip,
    retrieval_statistic,
)
from avmix.evaluation.robustness_metrics import (
    WINS,
    conflict_statistic,
    head_scores,
    scores_of_clips,
    sweep_of_clips,
)
from avmix.evaluation.source_bootstrap import intervals, mean_of

ONCE = np.ones


@pytest.fixture(scope="module")
def drawn() -> tuple[np.ndarray, np.ndarray]:
    """Probabilities of 60 clips, 3 heads, 7 classes, and labels."""
    draw = np.random.default_rng(0)
    return draw.dirichlet(np.full(7, 0.3), (60, 3)), draw.integers(0, 7, 60)


def test_scores_are_those_of_evaluation_and_of_sklearn(drawn) -> None:
    probability, label = drawn
    clips = scores_of_clips(probability, label)
    for head in range(3):
        top1, nll, ece = head_scores(clips[:, head])(ONCE((1, 60)))[0]
        expected = scores(torch.from_numpy(probability[:, head]).float(), torch.from_numpy(label))
        assert (top1, nll, ece) == pytest.approx(
            (expected.top1, expected.nll, expected.ece), rel=1e-5
        )
        assert top1 == accuracy_score(label, probability[:, head].argmax(1))
        assert nll == pytest.approx(log_loss(label, probability[:, head], labels=range(7)))


def test_a_weight_is_how_often_a_clip_counts(drawn) -> None:
    probability, label = drawn
    weight = np.random.default_rng(1).integers(0, 4, 60)
    again = np.repeat(np.arange(60), weight)
    of, repeated = (
        head_scores(scores_of_clips(probability[rows], label[rows])[:, 0])
        for rows in (np.arange(60), again)
    )
    assert of(weight[None].astype(float))[0] == pytest.approx(repeated(ONCE((1, len(again))))[0])


def test_who_wins_by_hand() -> None:
    """Four clips of classes (video, audio): 0, 1 each; the fused head says 0, 1, 2, 0."""
    said = np.array([[0, 0, 1], [1, 0, 1], [2, 0, 1], [0, 2, 1]])
    probability = 0.1 + 0.7 * np.eye(3)[said]
    zeros = np.zeros(4, dtype=int)
    found = conflict_statistic(probability, zeros, zeros + 1)(ONCE((1, 4)))[0]
    assert dict(zip(WINS, found, strict=True)) == pytest.approx({
        "video": 2 / 4, "audio": 1 / 4, "neither": 1 / 4, "both_right": 3 / 4,
        "video_of_both_right": 1 / 3, "audio_of_both_right": 1 / 3,
        "probability_video": (0.8 + 0.1 + 0.1 + 0.8) / 4,
        "probability_audio": (0.1 + 0.8 + 0.1 + 0.1) / 4,
    })  # fmt: skip


def test_a_line_has_no_bend_and_a_step_has_the_area_of_two_triangles() -> None:
    lam = np.linspace(0, 1, 11)[None, :, None, None]
    own, partner = np.eye(3)[[0]], np.eye(3)[[1]]
    line = np.broadcast_to(lam * own + (1 - lam) * partner, (1, 11, 3, 3))
    step = np.where(lam > 0.45, own, partner) + np.zeros((1, 11, 3, 3))
    zero, one = np.array([0]), np.array([1])
    straight = sweep_of_clips(line, zero, one)
    assert straight.bend.max() == pytest.approx(0, abs=1e-12)
    assert straight.off_label.max() == pytest.approx(0, abs=1e-12)
    assert straight.own[0, 0] == pytest.approx(lam.ravel())
    bent = sweep_of_clips(step, zero, one)
    expected = [0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.4, 0.3, 0.2, 0.1, 0]
    assert bent.bend[0, 1] == pytest.approx(expected)
    assert bent.off_label[0, 1] == pytest.approx(expected)
    mixed = np.concatenate([line[:, :, :2], step[:, :, :1]], 2)  # video is straight, audio steps
    found = sweep_of_clips(mixed, zero, one)
    assert found.same_side[0].tolist() == [True] * 5 + [False] + [True] * 5  # a tie is no `more`
    assert found.agree[0].all() or not found.agree[0, 5]


def test_ranks_against_sorting(drawn) -> None:
    probability, label = drawn
    query, gallery = embedding(probability[:, 1]), embedding(probability[:, 2])
    by_clip, by_class = (
        ranks_by_clip(query, gallery),
        ranks_by_class(query, gallery, label),
    )
    for i in range(60):
        similar = [float(query[i] @ g) for g in gallery]
        order = sorted(range(60), key=lambda j: -similar[j])
        assert by_clip[i] == order.index(i) + 1
        others = [j for j in order if j != i]
        expected = next(n for n, j in enumerate(others, 1) if label[j] == label[i])
        assert by_class[i] == expected


def test_who_says_the_same_of_every_clip_has_found_none() -> None:
    same = embedding(np.full((8, 4), 0.25))
    assert ranks_by_clip(same, same).tolist() == [8] * 8
    label = np.array([0, 0, 1, 1, 2, 2, 3, 4])
    assert ranks_by_class(same, same, label)[:6].tolist() == [7] * 6
    assert np.isnan(ranks_by_class(same, same, label)[6:]).all()
    found = retrieval_statistic(np.full(8, np.nan))(ONCE((1, 8)))
    assert np.isnan(found).all()


def test_recall_and_median_rank_by_hand() -> None:
    ranks = np.array([1, 1, 3, 6, 11, 40, np.nan])
    of = retrieval_statistic(ranks)
    assert of(ONCE((1, 7)))[0] == pytest.approx([2 / 6, 3 / 6, 4 / 6, 3])
    assert of(np.array([[0, 0, 0, 1, 1, 1, 5.0]]))[0] == pytest.approx([0, 0, 1 / 3, 11])


def test_guessing_is_simulated() -> None:
    label = np.array([0] * 5 + [1] * 3 + [2] * 2 + [3])
    draw = np.random.default_rng(0)
    hits, tries = np.zeros(3), 4000
    for _ in range(tries):
        i = draw.integers(10)  # class 3 has no other clip
        order = label[draw.permutation(np.delete(np.arange(11), i))]
        hits += [label[i] in order[:k] for k in (1, 5, 10)]
    assert chance_by_class(label) == pytest.approx(list(hits / tries), abs=0.03)
    assert chance_by_clip(20) == [1 / 20, 1 / 4, 1 / 2]


def test_an_interval_over_sources_is_that_of_the_means_of_sources() -> None:
    """Forty sources of five clips that all say the same: the spread is that of forty numbers."""
    numbers = np.repeat(np.random.default_rng(0).normal(size=40), 5)
    (found,) = intervals(mean_of(numbers[:, None]), np.repeat(np.arange(40), 5))
    half = 1.96 * numbers.std() / math.sqrt(40)
    assert found.value == pytest.approx(numbers.mean())
    assert (found.high - found.low) / 2 == pytest.approx(half, rel=0.1)
    naive = intervals(mean_of(numbers[:, None]), np.arange(200))[0]
    assert (naive.high - naive.low) * 2 < found.high - found.low


def test_intervals_are_those_of_the_tables_of_evaluation() -> None:
    draw = np.random.default_rng(1)
    numbers, source = draw.normal(size=60), draw.integers(0, 9, 60)
    (found,) = intervals(mean_of(numbers[:, None]), source)
    resampling = Resampling(source=np.unique(source, return_inverse=True)[1])
    wanted = figures({"mean": ratio(numbers)}, resampling)
    assert found.low == pytest.approx(wanted["mean"].low)
    assert found.high == pytest.approx(wanted["mean"].high)


def test_without_spread_or_sources_there_is_no_interval() -> None:
    numbers = np.arange(8.0)[:, None]
    (few,) = intervals(mean_of(numbers), np.repeat(np.arange(4), 2))
    (equal,) = intervals(mean_of(np.ones((8, 1))), np.arange(8))
    assert few == (3.5, None, None)
    assert equal == (1.0, None, None)


def test_other_clips_are_of_other_classes_and_sources_whatever_is_read_first() -> None:
    draw = np.random.default_rng(0)
    label, source = draw.integers(0, 3, 50), draw.integers(0, 12, 50)
    audible = draw.random(50) < 0.8
    found = draw_other_clips("conflict", 3, label, source, audible)
    assert set(found) == set(range(50))
    for row, others in found.items():
        assert len({*others}) == 3
        for other in others:
            assert audible[other]
            assert label[other] != label[row]
            assert source[other] != source[row]
    assert len({others[0] for others in found.values()}) > 20
    assert draw_other_clips("conflict", 3, label, source, audible) == found
    assert draw_other_clips("lambda_sweep", 3, label, source, audible) != found
    assert draw_other_clips("conflict", 1, np.zeros(5, int), np.arange(5), np.ones(5, bool)) == {}


def test_streams_differ_by_condition_clip_and_view() -> None:
    addresses = [("reverb", 0, 0), ("reverb", 0, 1), ("reverb", 1, 0), ("noise_white", 0, 0)]
    assert len({stream_of(*address).random() for address in addresses}) == 4
    assert stream_of("reverb", 3, 1).random() == stream_of("reverb", 3, 1).random()


def test_the_audio_of_a_window(make_entry) -> None:
    entry = make_entry()  # 10 s of both, from 0 on
    assert audio_span(entry, 0.0, 2.0) == (0.0, 1.0)
    assert audio_span(entry, -0.5, 2.0) == (0.25, 1.0)
    assert audio_span(entry, 9.0, 2.0) == (0.0, 0.5)
    assert audio_span(entry, 10.0, 2.0) == (0.0, 0.0)
    assert audio_span(make_entry(usable_until_seconds=1.5), 0.0, 2.0) == (0.0, 0.75)
    assert audio_span(make_entry(audio=None), 0.0, 2.0) == (0.0, 0.0)
