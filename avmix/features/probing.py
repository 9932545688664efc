"""Linear probes: logistic regressions on kept features, one per modality, and their late fusion.

Features are standardised by the clips that are trained on; every view of a clip is an example, and
a clip is judged by the mean of the probabilities of its evaluation views. Beside the score on the
test split stands one of the train split alone, by cross-validation over its sources: windows,
encoders and C can be chosen by that, without the test split.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from avmix.data.few_shot import ShotsBy, few_shot_rows
from avmix.data.kept_features import KeptFeatures
from avmix.features.late_fusion import fit_late_fusion
from avmix.features.regression import (
    C_GRID,
    Fold,
    Probability,
    fit_head,
    folds_of,
    parts_of_sklearn,
    probability,
)

HEADS = ("video", "audio", "concatenated", "average", "fused")
"""One head per modality; one on both features side by side; the mean of the probabilities of the
first two; and their late fusion, fitted to held-out clips."""
_SAME = 1e-12
"""Difference of two shares that is rounding alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One head, trained on one choice of clips."""

    head: str
    """One of `HEADS`."""
    top1: float
    """Share of clips that are right."""
    half_interval: float | None
    """Half of a 95 % interval of `top1` over sources of the test split; None with one source, and
    where all have the same share."""
    cv_top1: float | None
    """The same of the clips that it was trained on, each judged by a fit without its source; None
    where a class has one source."""
    cv_half_interval: float | None
    """Over sources of these clips."""
    num_train: int
    """Clips it was trained on."""
    num_test: int
    """Clips that it judged: those that have its modality."""
    c: float | None
    """C of its regression; None for `average` and `fused`."""
    fusion: dict[str, tuple[float, float]] | None
    """Temperature and weight of each head in `fused`; None for others."""
    converged: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """A head over all draws."""

    head: str
    top1: float
    """Mean."""
    half_interval: float | None
    """Half of a 95 % interval: over draws, or with one draw over sources of the test split; None
    where they do not differ."""
    cv_top1: float | None
    """Mean, where every draw has one."""
    cv_half_interval: float | None
    """Over draws, or with one draw over sources of the train split."""
    num_train: tuple[int, int]
    """Fewest and most clips of a draw."""
    num_test: int
    c: tuple[float, ...]
    """Every C that was chosen, ascending."""
    weights: dict[str, float] | None
    """Mean weight of each head in `fused`; None for others."""
    num_not_converged: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """What a head says of both splits, and how it was fitted, as in `Result`."""

    test: Probability
    held_out: Probability
    """Of the clips that it was trained on."""
    num_train: int
    c: float | None = None
    fusion: dict[str, tuple[float, float]] | None = None
    converged: bool


def probe(
    train: KeptFeatures,
    test: KeptFeatures,
    *,
    shots: int = 0,
    seed: int = 0,
    by: ShotsBy = "source",
    grid: Sequence[float] = C_GRID,
) -> list[Result]:
    """Fit and judge all heads that the features allow, on all clips or on `shots` of each class.

    C, temperatures and weights are chosen on the clips that are trained on alone, by
    cross-validation over their sources. Raises ValueError where scikit-learn is missing, or fewer
    than two classes have clips.
    """
    rows = few_shot_rows(train.manifest, shots, seed, by)
    heads = fitted_heads(train, test, rows, grid=grid)
    labels, sources = train.labels[rows], train.sources[rows]
    return [_judge(name, head, test, labels, sources) for name, head in heads.items()]


def fitted_heads(
    train: KeptFeatures,
    test: KeptFeatures,
    rows: np.ndarray,
    *,
    grid: Sequence[float] = C_GRID,
    plain: bool = False,
) -> dict[str, Head]:
    """All heads that the features allow, by name, fitted to these rows of the train split. `plain`:
    the features as they are, not standardised (`avmix.features.regression`). Raises as `probe`
    does."""
    labels, classes = train.labels[rows], len(train.manifest.classes)
    if len(set(labels.tolist())) < 2:
        raise ValueError("a probe needs clips of two classes at least")
    folds = folds_of(labels, train.sources[rows])
    heads: dict[str, Head] = {}
    for name in _inputs_of(train):
        asked = _inputs(test, name)[:, : test.num_eval_views]
        fitted = fit_head(
            _inputs(train, name)[rows], labels, folds, grid, plain=plain,
            num_classes=classes, num_judged=train.num_eval_views,
        )  # fmt: skip
        if fitted is not None and not np.isnan(asked).all():
            heads[name] = Head(
                test=probability(fitted.model, asked, classes), held_out=fitted.held_out,
                num_train=fitted.num_clips, c=fitted.c, converged=fitted.converged,
            )  # fmt: skip
    if {"video", "audio"} <= heads.keys():
        heads |= _fused({"video": heads["video"], "audio": heads["audio"]}, labels, folds)
    return heads


def _fused(heads: dict[str, Head], labels: np.ndarray, folds: Sequence[Fold]) -> dict[str, Head]:
    """`average` and `fused` of these heads."""
    tests = [head.test for head in heads.values()]
    held_outs = [head.held_out for head in heads.values()]
    fusion = fit_late_fusion(held_outs, labels)
    pairs = zip(fusion.temperatures, fusion.weights, strict=True)
    average = Head(
        test=_mean(tests), held_out=_mean(held_outs), num_train=len(labels),
        converged=all(head.converged for head in heads.values()),
    )  # fmt: skip
    fused = replace(
        average, test=fusion(tests), held_out=_cross_fused(held_outs, labels, folds),
        fusion=dict(zip(heads, pairs, strict=True)),
    )  # fmt: skip
    return {"average": average, "fused": fused}


def _judge(
    name: str, head: Head, test: KeptFeatures, labels: np.ndarray, sources: np.ndarray
) -> Result:
    """`labels` and `sources` of the clips that it was trained on."""
    top1, half_interval = _score(head.test, test.labels, test.sources)
    cv_top1, cv_half_interval = _score(head.held_out, labels, sources)
    assert top1 is not None  # a clip of the test split has the modality
    return Result(
        head=name, top1=top1, half_interval=half_interval, cv_top1=cv_top1,
        cv_half_interval=cv_half_interval, num_train=head.num_train,
        num_test=int(head.test.counted.sum()), c=head.c, fusion=head.fusion,
        converged=head.converged,
    )  # fmt: skip


def summarise(draws: Sequence[Sequence[Result]]) -> list[Summary]:
    """Mean and interval of each head over draws."""
    found: dict[str, list[Result]] = {}
    for results in draws:
        for result in results:
            found.setdefault(result.head, []).append(result)
    return [_summary(head, found[head]) for head in HEADS if head in found]


def _summary(head: str, results: Sequence[Result]) -> Summary:
    first = results[0]
    held_out = [r.cv_top1 for r in results if r.cv_top1 is not None]
    whole = len(held_out) == len(results)
    cv_half = _over_draws(held_out) if len(results) > 1 else first.cv_half_interval
    fusions = [r.fusion for r in results if r.fusion is not None]
    return Summary(
        head=head,
        top1=float(np.mean([r.top1 for r in results])),
        half_interval=_over_draws([r.top1 for r in results])
        if len(results) > 1
        else first.half_interval,
        cv_top1=float(np.mean(held_out)) if whole else None,
        cv_half_interval=cv_half if whole else None,
        num_train=(min(r.num_train for r in results), max(r.num_train for r in results)),
        num_test=first.num_test,
        c=tuple(sorted({r.c for r in results if r.c is not None})),
        weights={n: float(np.mean([f[n][1] for f in fusions])) for n in fusions[0]}
        if fusions
        else None,
        num_not_converged=sum(not r.converged for r in results),
    )


def half_interval_over_sources(right: np.ndarray, source: np.ndarray) -> float | None:
    """Half of a 95 % interval of the share that is right, (n) bool, over sources, (n): clips of one
    are no independent trials. None with one source, and where all have the same share, as of clips
    that are all right: they do not say how much others differ.

    The ratio estimator of a sample of clusters (Cochran, "Sampling Techniques", 1977, 9.3), with
    the t distribution.
    """
    names, number = np.unique(source, return_inverse=True)
    if len(names) < 2:
        return None
    clips = np.bincount(number)
    rest = np.bincount(number, weights=right) - right.mean() * clips
    if np.abs(rest).max() < _SAME * len(right):
        return None
    variance = len(names) / (len(names) - 1) * np.square(rest).sum() / len(right) ** 2
    return float(parts_of_sklearn().t.ppf(0.975, len(names) - 1) * variance**0.5)


def _over_draws(values: Sequence[float]) -> float | None:
    if np.ptp(values) < _SAME:
        return None
    t = parts_of_sklearn().t.ppf(0.975, len(values) - 1)
    return float(t * np.std(values, ddof=1) / len(values) ** 0.5)


def _score(
    said: Probability, labels: np.ndarray, sources: np.ndarray
) -> tuple[float | None, float | None]:
    """Share of the clips that it judged that are right, and half of its interval."""
    if not said.counted.any():
        return None, None
    right = (said.value.argmax(1) == labels)[said.counted]
    return float(right.mean()), half_interval_over_sources(right, sources[said.counted])


def _mean(heads: Sequence[Probability]) -> Probability:
    """Over the heads that have their modality."""
    counted = np.stack([head.counted for head in heads])
    total = np.sum([head.value for head in heads], 0)
    there = np.asarray(counted.any(0))
    return Probability(total / counted.sum(0).clip(min=1)[:, None], there)


def _cross_fused(
    heads: Sequence[Probability], labels: np.ndarray, folds: Sequence[Fold]
) -> Probability:
    """What the fused head says of held-out clips: each fold fused by what the others say."""
    found = Probability(np.zeros_like(heads[0].value), np.zeros(len(labels), bool))
    for fit_rows, held_rows in folds:
        others = [Probability(head.value[fit_rows], head.counted[fit_rows]) for head in heads]
        mine = [Probability(head.value[held_rows], head.counted[held_rows]) for head in heads]
        found.value[held_rows], found.counted[held_rows] = fit_late_fusion(
            others, labels[fit_rows]
        )(mine)
    return found


def _inputs_of(kept: KeptFeatures) -> list[str]:
    names = [name for name in ("video", "audio") if name in kept.features]
    return [*names, "concatenated"] if len(names) > 1 else names


def _inputs(kept: KeptFeatures, head: str) -> np.ndarray:
    """(n views d), float64; nan where the modality is missing."""
    if head == "concatenated":
        return np.concatenate([_inputs(kept, "video"), _inputs(kept, "audio")], 2)
    value = np.asarray(kept.features[head], np.float64)
    return np.where(kept.has_audio[:, :, None], value, np.nan) if head == "audio" else value
