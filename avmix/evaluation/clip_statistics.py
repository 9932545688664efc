"""Metrics of one set of predictions as functions of how often each clip counts.

Of single-label clips: top-1, top-5, mean class accuracy, F1, NLL, Brier score, calibration; of
multi-label clips: hit@1, hit@5, F1 at threshold 0.5 and the others over every known pair of clip
and class. An unknown label is left out, never taken for a negative one. Rankings of clips (mAP,
AUC, d') are in `avmix.evaluation.ranking`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float, Float64, Int64

from avmix.evaluation.ranking import calibration_gap, rankings
from avmix.evaluation.resampling import Statistic, divided, ratio

TOP_K = (1, 3, 5, 10)
"""Most probable classes that are looked at where clips have several labels, as VGGSounder does
(Zverev et al., ICCV 2025)."""
NUM_BINS = 15
"""Of the expected calibration error, all of one width (Guo et al., ICML 2017)."""
_TINY = float(np.finfo(np.float32).tiny)


@dataclass(frozen=True, kw_only=True)
class Answers:
    """What one head says of some clips, and what is right."""

    probability: Float[np.ndarray, "n k"]
    target: Float[np.ndarray, "n k"]
    """0 to 1, above 0.5 positive; nan: unknown."""
    single: bool
    """Every clip has one label, and its probabilities add up to 1; else each class is judged of its
    own."""

    @cached_property
    def known(self) -> Bool[np.ndarray, "n k"]:
        """Where it is known whether the clip has the label."""
        return ~np.isnan(self.target)

    @cached_property
    def positive(self) -> Bool[np.ndarray, "n k"]:
        """Where it is known that the clip has the label."""
        return self.target > 0.5  # nan is not

    @cached_property
    def label(self) -> Int64[np.ndarray, " n"]:
        """Of single-label clips."""
        return self.target.argmax(1)


def single_label(probability: Float[np.ndarray, "n k"], label: Int64[np.ndarray, " n"]) -> Answers:
    """Answers for clips of one label each."""
    target = np.zeros(probability.shape, dtype=np.float32)
    target[np.arange(len(label)), label] = 1
    return Answers(probability=probability, target=target, single=True)


def statistics(answers: Answers) -> dict[str, Statistic]:
    """Every metric, by its name: top1, top5 (from 6 classes on), mean_class, f1, nll, brier, ece,
    ks, map, auc, d_prime; mean_class only of single-label clips. Of others also `exact`, `hit_at_K`
    and `f1_at_K` (`TOP_K`, below the number of classes).

    `brier` of single-label clips is the sum over classes, 0 to 2 (Brier, 1950); `ks` the
    calibration error without bins (`avmix.evaluation.ranking.calibration_gap`). What is over
    classes is over those with a positive clip, and of AUC with a negative one, too.
    """
    num_classes = answers.probability.shape[1]
    found = {"top1": hit_at(answers, 1)}
    if num_classes > 5:
        found["top5"] = hit_at(answers, 5)
    if answers.single:
        found["mean_class"] = _mean_class(answers)
    else:
        ks = [k for k in TOP_K if k < num_classes]
        found["exact"] = _exact(answers)
        found |= {f"hit_at_{k}": hit_at(answers, k) for k in ks if k not in (1, 5)}
        found |= {f"f1_at_{k}": f1_at(answers, k) for k in ks}
    found["f1"] = _f1(answers)
    found |= _likelihoods(answers)
    confidence, right, counted = calibration_pairs(answers)
    found["ece"] = _ece(confidence, right, counted)
    found["ks"] = calibration_gap(confidence, right, counted)
    return found | rankings(answers.probability, answers.positive, answers.known)


def hit_at(answers: Answers, most: int) -> Statistic:
    """Share of clips that have a label among the `most` most probable classes (hit@k); of clips
    without a known label there is none. Of equally probable classes the first comes first."""
    hits, counted = hits_at(answers, most)
    return ratio(hits * counted, counted)


def f1_at(answers: Answers, most: int) -> Statistic:
    """F1 over all pairs of clip and class (micro) where the `most` most probable known classes of
    each clip are predicted; of the clips with a known label, as VGGSounder has it."""
    shown = np.where(answers.known, answers.probability, -np.inf)
    first = (-shown).argsort(1, kind="stable")[:, :most]
    counted = answers.positive.max(1)
    right = np.take_along_axis(answers.positive, first, 1).sum(1) * counted
    said = np.take_along_axis(answers.known, first, 1).sum(1) * counted
    return ratio(2.0 * right, (said + answers.positive.sum(1)).astype(np.float64))


def hits_at(answers: Answers, most: int) -> tuple[np.ndarray, np.ndarray]:
    """Of each clip, whether it is a hit and whether it counts."""
    shown = np.where(answers.known, answers.probability, -np.inf)
    first = (-shown).argsort(1, kind="stable")[:, :most]
    hits = np.take_along_axis(answers.positive, first, 1).max(1)
    return hits.astype(np.float64), answers.positive.max(1).astype(np.float64)


def _exact(answers: Answers) -> Statistic:
    """Share of clips whose m labels are their m most probable classes, in any order; of clips
    without a known label there is none. Of equally probable classes the first comes first."""
    shown = np.where(answers.known, answers.probability, -np.inf)
    place = (-shown).argsort(1, kind="stable").argsort(1)
    many = answers.positive.sum(1)
    right = ((place < many[:, None]) == answers.positive).all(1)
    counted = many > 0
    return ratio((right & counted).astype(np.float64), counted.astype(np.float64))


def _mean_class(answers: Answers) -> Statistic:
    right = answers.probability.argmax(1) == answers.label
    sums = _by_class(answers.label, answers.probability.shape[1])

    def of(weights: np.ndarray) -> np.ndarray:
        return mean_known(divided(sums(weights * right), sums(weights)))

    return Statistic(of=of)


def _f1(answers: Answers) -> Statistic:
    """The mean over classes of 2 TP / (2 TP + FP + FN): of single-label clips, of their most
    probable class; of others, of probabilities above 0.5."""
    k = answers.probability.shape[1]
    if answers.single:
        said = answers.probability.argmax(1)
        by_label, by_said = _by_class(answers.label, k), _by_class(said, k)
        right = said == answers.label

        def of_single(weights: np.ndarray) -> np.ndarray:
            positives = by_label(weights)
            twice = 2 * by_label(weights * right)
            f1 = divided(twice, positives + by_said(weights))
            return mean_known(np.where(positives > 0, f1, np.nan))

        return Statistic(of=of_single)
    positive = answers.positive.astype(np.float64)
    said = ((answers.probability > 0.5) & answers.known).astype(np.float64)

    def of(weights: np.ndarray) -> np.ndarray:
        positives = weights @ positive
        f1 = divided(2 * (weights @ (positive * said)), positives + weights @ said)
        return mean_known(np.where(positives > 0, f1, np.nan))

    return Statistic(of=of, cost=k)


def clip_losses(
    answers: Answers,
) -> tuple[Float64[np.ndarray, " n"], Float64[np.ndarray, " n"]]:
    """Of each clip the sum of -ln(probability of what is right) over its known labels, of a
    single-label clip over its class, and how many these are."""
    p = answers.probability.astype(np.float64)
    if answers.single:
        own = p[np.arange(len(p)), answers.label]
        return -np.log(np.maximum(own, _TINY)), np.ones(len(p))
    target, known = np.nan_to_num(answers.target), answers.known
    cost = -(target * np.log(np.maximum(p, _TINY)) + (1 - target) * np.log(
        np.maximum(1 - p, _TINY)))  # fmt: skip
    return (cost * known).sum(1), known.sum(1).astype(np.float64)


def _likelihoods(answers: Answers) -> dict[str, Statistic]:
    loss, pairs = clip_losses(answers)
    apart = (answers.probability.astype(np.float64) - np.nan_to_num(answers.target)) ** 2
    return {"nll": ratio(loss, pairs), "brier": ratio((apart * answers.known).sum(1), pairs)}


def calibration_pairs(
    answers: Answers,
) -> tuple[Float64[np.ndarray, "n m"], Float64[np.ndarray, "n m"], Float64[np.ndarray, "n m"]]:
    """Confidences, whether they are of something right, and whether they count: of a single-label
    clip its largest probability, of others the probability of every known class."""
    if answers.single:
        best = answers.probability.argmax(1)
        confidence = answers.probability[np.arange(len(best)), best][:, None].astype(np.float64)
        right = (best == answers.label)[:, None].astype(np.float64)
        return np.clip(confidence, 0, 1), right, np.ones_like(right)
    confidence = np.clip(answers.probability.astype(np.float64), 0, 1)
    known = answers.known.astype(np.float64)
    return confidence, answers.positive.astype(np.float64), known


def _ece(confidence: np.ndarray, right: np.ndarray, counted: np.ndarray) -> Statistic:
    """Mean over pairs of |mean confidence - share that is right| of their bin."""
    place = bin_of(confidence)
    gap, of_bin = (confidence - right) * counted, np.zeros((len(place), NUM_BINS))
    clip = np.broadcast_to(np.arange(len(place))[:, None], place.shape)
    np.add.at(of_bin, (clip, place), gap)
    pairs = counted.sum(1)

    def of(weights: np.ndarray) -> np.ndarray:
        return divided(np.abs(weights @ of_bin).sum(1), weights @ pairs)

    return Statistic(of=of, cost=NUM_BINS)


def bin_of(confidence: np.ndarray) -> np.ndarray:
    """The bin of each confidence; its lower edge belongs to it, and 1 to the last one. The edges
    are the float32 numbers next to k / 15: torch.linspace, and so torchmetrics, has others."""
    edges = np.linspace(0, 1, NUM_BINS + 1, dtype=np.float32)
    place = np.searchsorted(edges, confidence.astype(np.float32), side="right") - 1
    return np.minimum(place, NUM_BINS - 1)


def mean_known(by_class: Float64[np.ndarray, "r k"]) -> Float64[np.ndarray, " r"]:
    """Mean over the classes that have a figure; nan where none has."""
    known = ~np.isnan(by_class)
    return divided(np.where(known, by_class, 0).sum(1), known.sum(1).astype(np.float64))


def _by_class(index: np.ndarray, k: int) -> Callable[[np.ndarray], np.ndarray]:
    """Sums the weights (r n) of the clips of each class (r k)."""
    order = index.argsort(kind="stable")
    present, starts = np.unique(index[order], return_index=True)

    def sums(weights: np.ndarray) -> np.ndarray:
        found = np.zeros((len(weights), k))
        if len(present):
            found[:, present] = np.add.reduceat(weights[:, order], starts, axis=1)
        return found

    return sums
