"""Metrics by hand, against torchmetrics and against scikit-learn, on random and adversarial
inputs: ties, classes without a clip, clips without a label, unknown labels."""

import math
import warnings
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torchmetrics.functional import classification as theirs

from avmix.evaluation.clip_statistics import Answers, bin_of, single_label, statistics
from avmix.evaluation.metrics import scores
from avmix.evaluation.resampling import Statistic

sklearn = pytest.importorskip("sklearn.metrics")


def value(statistic: Statistic, weights: np.ndarray | None = None, n: int = 0) -> float:
    return float(statistic.of(np.ones((1, n)) if weights is None else weights[None])[0])


def values(answers: Answers, weights: np.ndarray | None = None) -> dict[str, float]:
    n = len(answers.probability)
    return {name: value(s, weights, n) for name, s in statistics(answers).items()}


class Case(NamedTuple):
    seed: int
    n: int = 120
    k: int = 7
    ties: bool = False
    """Probabilities take few values: many clips and classes are equal."""
    absent: int = 0
    """Classes without a positive clip."""
    unknown: float = 0.0
    """Share of labels that are unknown."""


CASES = [Case(0), Case(1, ties=True), Case(2, absent=3), Case(3, n=9, k=12, absent=2),
         Case(4, n=300, k=3, ties=True, absent=1)]  # fmt: skip


def single(case: Case) -> tuple[np.ndarray, np.ndarray]:
    stream = np.random.default_rng(case.seed)
    label = stream.integers(case.k - case.absent, size=case.n)
    logits = stream.normal(size=(case.n, case.k))
    logits[np.arange(case.n), label] += 1
    if case.ties:
        logits = np.round(logits)
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    return p.astype(np.float32), label


def several(case: Case) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities and targets; every fifth clip has no label at all."""
    stream = np.random.default_rng(case.seed)
    target = (stream.random((case.n, case.k)) < 0.3).astype(np.float32)
    target[:, case.k - case.absent :] = 0
    target[::5] = 0
    p = np.clip(0.5 * target + 0.7 * stream.random(target.shape), 0, 1)
    if case.ties:
        p = np.round(p, 1)
    target[stream.random(target.shape) < case.unknown] = np.nan
    return p.astype(np.float32), target


@pytest.mark.parametrize("case", CASES)
def test_single_labels_against_two_libraries(case):
    p, label = single(case)
    found = values(single_label(p, label))
    pt, lt = torch.from_numpy(p), torch.from_numpy(label)
    args = {"num_classes": case.k}
    present = np.unique(label)
    assert found["top1"] == pytest.approx(sklearn.accuracy_score(label, p.argmax(1)))
    assert found["top1"] == pytest.approx(
        theirs.multiclass_accuracy(pt, lt, average="micro", **args).item()
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of classes without clips
        recall = sklearn.recall_score(label, p.argmax(1), labels=present, average="macro")
        f1 = sklearn.f1_score(label, p.argmax(1), labels=present, average="macro")
    assert found["mean_class"] == pytest.approx(recall)
    assert found["f1"] == pytest.approx(f1)
    each = theirs.multiclass_f1_score(pt, lt, average=None, **args)[torch.from_numpy(present)]
    assert found["f1"] == pytest.approx(each.mean().item(), rel=1e-5)
    assert found["nll"] == pytest.approx(sklearn.log_loss(label, p, labels=range(case.k)), rel=1e-5)
    assert found["brier"] == pytest.approx(((p - np.eye(case.k)[label]) ** 2).sum() / case.n)
    assert found["ece"] == pytest.approx(
        theirs.multiclass_calibration_error(pt, lt, n_bins=15, norm="l1", **args).item(), abs=1e-6
    )
    one_hot = np.eye(case.k)[label]
    average = [sklearn.average_precision_score(one_hot[:, c], p[:, c]) for c in present]
    area = [sklearn.roc_auc_score(one_hot[:, c], p[:, c]) for c in present]
    assert found["map"] == pytest.approx(np.mean(average))
    assert found["auc"] == pytest.approx(np.mean(area))
    each = theirs.multiclass_average_precision(pt, lt, average=None, **args)
    assert found["map"] == pytest.approx(each[torch.from_numpy(present)].mean().item(), abs=1e-5)
    old = scores(pt, lt)  # the metrics that training reports
    assert found["mean_class"] == pytest.approx(old.mean_class)
    assert found["nll"] == pytest.approx(old.nll, rel=1e-5)
    assert found["ece"] == pytest.approx(old.ece, abs=1e-6)


@pytest.mark.parametrize("k", [1, 5])
@pytest.mark.parametrize("case", [c for c in CASES if not c.ties and c.k > 5])
def test_top_k_against_scikit_learn(case, k):
    p, label = single(case)
    name = f"top{k}"
    assert values(single_label(p, label))[name] == pytest.approx(
        sklearn.top_k_accuracy_score(label, p, k=k, labels=range(case.k))
    )


@pytest.mark.parametrize("unknown", [0.0, 0.3])
@pytest.mark.parametrize("case", CASES)
def test_several_labels_against_two_libraries(case, unknown):
    p, target = several(case._replace(unknown=unknown))
    found = values(Answers(probability=p, target=target, single=False))
    known = ~np.isnan(target)
    average, area, f1 = [], [], []
    for c in range(case.k):
        own, score = target[known[:, c], c], p[known[:, c], c]
        if not own.any():
            continue  # without a positive clip: left out
        average.append(sklearn.average_precision_score(own, score))
        f1.append(sklearn.f1_score(own, score > 0.5))
        if not own.all():
            area.append(sklearn.roc_auc_score(own, score))
        ours = theirs.binary_average_precision(torch.from_numpy(score), torch.tensor(own).long())
        assert average[-1] == pytest.approx(ours.item(), abs=1e-5)
        ours = theirs.binary_f1_score(torch.from_numpy(score), torch.tensor(own).long())
        assert f1[-1] == pytest.approx(ours.item(), abs=1e-6)
    assert found["map"] == pytest.approx(np.mean(average))
    assert found["auc"] == pytest.approx(np.mean(area))
    assert found["f1"] == pytest.approx(np.mean(f1))
    said, own = p[known], target[known]
    assert (
        found["nll"]
        == pytest.approx(
            torch.nn.functional.binary_cross_entropy(
                torch.from_numpy(said).double(), torch.from_numpy(own).double()
            ).item(),
            rel=1e-6,
        )
        or said.max() == 1
    )  # torch stops at exp(-100)
    assert found["brier"] == pytest.approx(np.mean((said - own) ** 2), rel=1e-5)
    assert "mean_class" not in found


@pytest.mark.parametrize("k", [1, 5])
@pytest.mark.parametrize("unknown", [0.0, 0.4])
def test_a_hit_is_any_label_among_the_most_probable_known_classes(k, unknown):
    p, target = several(Case(5, k=9, unknown=unknown))
    hits = []
    for score, own in zip(p, target, strict=True):
        order = sorted((c for c in range(9) if not np.isnan(own[c])), key=lambda c: -score[c])
        if any(own[c] == 1 for c in range(9)):  # a clip without a label cannot be a hit
            hits.append(any(own[c] == 1 for c in order[:k]))
    assert len(hits) < len(p)
    found = values(Answers(probability=p, target=target, single=False))
    assert found[f"top{k}"] == pytest.approx(np.mean(hits))


@pytest.mark.parametrize("case", [*CASES, Case(6, k=14), Case(7, k=14, ties=True, absent=5)])
def test_top_k_of_several_labels_as_vggsounder_counts(case):
    """Its package sets the k highest scores of each clip to 1 and asks scikit-learn, for the clips
    that have a label; of equal scores the first ones here."""
    p, target = several(case)
    found = values(Answers(probability=p, target=target, single=False))
    here = target.any(1)
    for k in (1, 3, 5, 10):
        if k >= case.k:
            assert f"f1_at_{k}" not in found
            continue
        said = np.zeros(p.shape, int)
        for i, score in enumerate(p):
            said[i, sorted(range(case.k), key=lambda c, score=score: (-score[c], c))[:k]] = 1
        wanted = sklearn.f1_score(target[here], said[here], average="micro", zero_division=0)
        assert found[f"f1_at_{k}"] == pytest.approx(wanted)
        hits = (target[here] * said[here]).any(1).mean()
        assert found[{1: "top1", 5: "top5"}.get(k, f"hit_at_{k}")] == pytest.approx(hits)


def test_among_few_known_classes_no_unknown_one_is_predicted():
    p = np.array([[0.9, 0.8, 0.7, 0.6]], np.float32)
    target = np.array([[np.nan, 1, np.nan, 0]], np.float32)
    found = values(Answers(probability=p, target=target, single=False))
    assert found["f1_at_1"] == 1
    assert found["f1_at_3"] == pytest.approx(2 / 3)  # two are known: one right, one wrong


def test_exact_is_every_label_before_any_other_class() -> None:
    nan = float("nan")
    p = np.array([
        [0.9, 0.1, 0.8, 0.2],  # both labels lead
        [0.9, 0.8, 0.1, 0.2],  # one of the two
        [0.3, 0.3, 0.1, 0.2],  # equal: the first class comes first, and it is the label
        [0.3, 0.3, 0.1, 0.2],  # and here it is not
        [0.9, 0.8, 0.1, 0.2],  # what leads is unknown: left out of the order
        [0.9, 0.8, 0.1, 0.2],  # no label: does not count
    ])  # fmt: skip
    target = np.array([[1, 0, 1, 0], [1, 0, 1, 0], [1, 0, 0, 0], [0, 1, 0, 0], [nan, 1, 0, 0],
                       [0, 0, 0, nan]])  # fmt: skip
    found = values(Answers(probability=p, target=target, single=False))
    assert found["exact"] == pytest.approx(3 / 5)
    assert "exact" not in values(single_label(p, np.zeros(6, dtype=np.int64)))


@pytest.mark.parametrize("k", [3, 6])
def test_exact_is_as_sets_say(k: int) -> None:
    p, target = several(Case(8, k=k, unknown=0.3))
    right = []
    for score, own in zip(p, target, strict=True):
        labels = {c for c in range(k) if own[c] == 1}
        order = sorted((c for c in range(k) if not np.isnan(own[c])), key=lambda c: -score[c])
        if labels:
            right.append({*order[: len(labels)]} == labels)
    found = values(Answers(probability=p, target=target, single=False))
    assert found["exact"] == pytest.approx(np.mean(right))
    assert 0 < np.mean(right) < 1


@pytest.mark.parametrize("few", [0, 12, 1000])
@pytest.mark.parametrize("is_single", [True, False])
def test_a_weight_is_as_good_as_a_repetition(is_single, few, monkeypatch):
    """Every metric of weights 0 to 3 is that of clips which are there so often, whichever way the
    curves of classes are computed."""
    monkeypatch.setattr("avmix.evaluation.ranking._FEW", few)
    case = Case(6, n=60, k=6, ties=True, unknown=0.0 if is_single else 0.2)
    weights = np.random.default_rng(0).integers(4, size=case.n)
    if is_single:
        p, label = single(case)
        one = single_label(p, label)
        again = single_label(np.repeat(p, weights, 0), np.repeat(label, weights))
    else:
        p, target = several(case)
        one = Answers(probability=p, target=target, single=False)
        again = Answers(probability=np.repeat(p, weights, 0),
                        target=np.repeat(target, weights, 0), single=False)  # fmt: skip
    weighted, repeated = values(one, weights.astype(float)), values(again)
    assert weighted.keys() == repeated.keys()
    for name in weighted:
        assert weighted[name] == pytest.approx(repeated[name], rel=1e-9), name


def test_unknown_is_not_negative():
    """By hand: the only mistake concerns a label that is not known."""
    p = np.array([[0.9, 0.8], [0.1, 0.7]], np.float32)
    unknown = np.array([[1, np.nan], [0, 1]], np.float32)
    found = values(Answers(probability=p, target=unknown, single=False))
    assert found["map"] == found["f1"] == found["top1"] == 1
    negative = np.nan_to_num(unknown)
    assert values(Answers(probability=p, target=negative, single=False))["map"] == 0.75


def test_d_prime_by_hand():
    """An AUC of 0.75 is 0.9539 deviations of a normal distribution from chance."""
    p = np.array([[0.1], [0.4], [0.35], [0.8]], np.float32)
    target = np.array([[0], [0], [1], [1]], np.float32)
    found = values(Answers(probability=p, target=target, single=False))
    assert found["auc"] == 0.75
    assert found["d_prime"] == pytest.approx(0.6744898 * math.sqrt(2))
    assert found["map"] == pytest.approx(1 / 2 * 1 + 1 / 2 * 2 / 3)
    assert math.isfinite(
        values(Answers(probability=target, target=target, single=False))["d_prime"]
    )


def test_calibration_without_bins_by_hand():
    """Confidences .6, .7, .9, the first one wrong: sums of the gap .6, .3, .2 of three clips."""
    p = np.array([[0.6, 0.4], [0.7, 0.3], [0.1, 0.9]], np.float32)
    found = values(single_label(p, np.array([1, 0, 1])))
    assert found["ks"] == pytest.approx(0.6 / 3)


@pytest.mark.parametrize("case", CASES)
def test_calibration_without_bins_is_the_largest_of_all_gaps(case):
    p, label = single(case)
    best, right = p.max(1).astype(float), p.argmax(1) == label
    gaps = [abs(best[best <= c].sum() - right[best <= c].sum()) / case.n for c in best]
    assert values(single_label(p, label))["ks"] == pytest.approx(max(gaps))


def test_the_edges_of_bins():
    found = bin_of(np.array([0.0, 1 / 15, 0.5, 14 / 15, 1.0]))
    assert found.tolist() == [0, 1, 7, 14, 14]


def test_without_a_clip_nothing_has_a_value():
    found = values(Answers(probability=np.ones((2, 6), np.float32) / 6,
                           target=np.full((2, 6), np.nan, np.float32), single=False))  # fmt: skip
    assert all(math.isnan(v) for v in found.values())
