"""Linear probes: logistic regressions on kept features, one per modality, and their late fusion.

scikit-learn fits them. Features are standardised by the clips that are trained on; every view of a
clip is an example, and a clip is judged by the mean of the probabilities of its views.
"""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, NamedTuple

import numpy as np

from avmix.data.few_shot import ShotsBy, few_shot
from avmix.data.kept_features import KeptFeatures

HEADS = ("video", "audio", "concatenated", "average")
"""One head per modality; one on both features side by side; the mean of the probabilities of the
first two."""
C_GRID = (0.001, 0.01, 0.1, 1.0, 10.0)
"""Inverse strengths of regularisation that are tried."""
FALLBACK_C = 1.0
"""Where there are too few sources to choose by: the default of scikit-learn."""
_MOST_FOLDS = 5
_MAX_ITERATIONS = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One head, trained on one choice of clips."""

    head: str
    """One of `HEADS`."""
    top1: float
    """Share of clips that are right."""
    half_interval: float | None
    """Half of a 95 % interval of `top1` over sources of the test split; None with one source."""
    num_train: int
    """Clips it was trained on."""
    num_test: int
    """Clips that it judged: those that have its modality."""
    c: float | None
    """C of its regression; None for `average`."""
    converged: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """A head over all draws."""

    head: str
    top1: float
    """Mean."""
    half_interval: float | None
    """Half of a 95 % interval: over draws, or with one draw over sources of the test split."""
    num_train: tuple[int, int]
    """Fewest and most clips of a draw."""
    num_test: int
    c: tuple[float, ...]
    """Every C that was chosen, ascending."""
    num_not_converged: int


class Probability(NamedTuple):
    """What a head says of every clip of a split."""

    value: np.ndarray
    """(n k); zeros where the clip lacks the modality."""
    counted: np.ndarray
    """(n): has the modality."""


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

    C is chosen on the clips that are trained on alone, by cross-validation over their sources.
    Raises ValueError where scikit-learn is missing, or fewer than two classes have clips.
    """
    rows = _rows(train, shots, seed, by)
    labels, classes = train.labels[rows], len(train.manifest.classes)
    if len(set(labels.tolist())) < 2:
        raise ValueError("a probe needs clips of two classes at least")
    inputs = {name: (_inputs(train, name)[rows], _inputs(test, name)) for name in _inputs_of(train)}
    sources = train.sources[rows]
    found: dict[str, Probability] = {}
    results: list[Result] = []
    for name, (given, asked) in inputs.items():
        there, judged = _present(given).any(1), _present(asked)
        if not there.any() or not judged.any() or len(set(labels[there].tolist())) < 2:
            continue
        x, y, group = _examples(given, labels, sources)
        model, c, converged = fit(x, y, group, grid)
        probability = np.zeros((*judged.shape, classes))
        seen = np.zeros((int(judged.sum()), classes))
        seen[:, model.classes_] = model.predict_proba(asked[judged])
        probability[judged] = seen
        mean = probability.sum(1) / judged.sum(1).clip(min=1)[:, None]
        found[name] = Probability(mean, np.asarray(judged.any(1)))
        results.append(_judge(name, found[name], test, int(there.sum()), c, converged))
    if {"video", "audio"} <= found.keys():
        value = sum(found[name].value for name in ("video", "audio"))
        counted = np.logical_or(found["video"].counted, found["audio"].counted)
        average = Probability(np.asarray(value), counted)
        converged = all(result.converged for result in results if result.head != "concatenated")
        results.append(_judge("average", average, test, len(rows), None, converged))
    return results


def fit(
    x: np.ndarray, y: np.ndarray, group: np.ndarray, grid: Sequence[float]
) -> tuple[Any, float, bool]:
    """Standardise and fit; returns the pipeline, its C, and whether every fit converged.

    x (n d) is nan where a feature is missing, which counts as its mean. Of several C the one with
    the best mean accuracy over folds is taken, of equal ones the smallest; the standardisation is
    fitted in each fold again. No group is in two folds.
    """
    sklearn = _sklearn()
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        folds, c = [], float(grid[0])
        if len(grid) > 1:
            folds = _folds(x, y, group)
            c = FALLBACK_C
        if folds:
            search = sklearn.GridSearchCV(
                _pipeline(c),
                {"logisticregression__C": sorted(grid)},
                scoring="accuracy",
                cv=folds,
                refit=False,
            )
            search.fit(x, y)
            c = float(search.best_params_["logisticregression__C"])
        model = _pipeline(c).fit(x, y)
    failed = [warning for warning in said if warning.category is sklearn.ConvergenceWarning]
    return model, c, not failed


def summarise(draws: Sequence[Sequence[Result]]) -> list[Summary]:
    """Mean and interval of each head over draws."""
    found: dict[str, list[Result]] = {}
    for results in draws:
        for result in results:
            found.setdefault(result.head, []).append(result)
    return [
        Summary(
            head=head,
            top1=float(np.mean([r.top1 for r in found[head]])),
            half_interval=_over_draws([r.top1 for r in found[head]])
            if len(draws) > 1
            else found[head][0].half_interval,
            num_train=(
                min(r.num_train for r in found[head]),
                max(r.num_train for r in found[head]),
            ),
            num_test=found[head][0].num_test,
            c=tuple(sorted({r.c for r in found[head] if r.c is not None})),
            num_not_converged=sum(not r.converged for r in found[head]),
        )
        for head in HEADS
        if head in found
    ]


def half_interval_over_sources(right: np.ndarray, source: np.ndarray) -> float | None:
    """Half of a 95 % interval of the share that is right, (n) bool, over sources, (n): clips of one
    are no independent trials.

    The ratio estimator of a sample of clusters (Cochran, "Sampling Techniques", 1977, 9.3), with
    the t distribution.
    """
    names, number = np.unique(source, return_inverse=True)
    if len(names) < 2:
        return None
    clips = np.bincount(number)
    rest = np.bincount(number, weights=right) - right.mean() * clips
    variance = len(names) / (len(names) - 1) * np.square(rest).sum() / len(right) ** 2
    return float(_sklearn().t.ppf(0.975, len(names) - 1) * variance**0.5)


def _over_draws(values: Sequence[float]) -> float | None:
    if len(values) < 2:
        return None
    t = _sklearn().t.ppf(0.975, len(values) - 1)
    return float(t * np.std(values, ddof=1) / len(values) ** 0.5)


def _rows(train: KeptFeatures, shots: int, seed: int, by: ShotsBy) -> np.ndarray:
    """Rows of the clips to train on, ascending."""
    chosen = few_shot(train.manifest, shots, seed, by).entries
    ids = {entry.clip_id for entry in chosen}
    return np.array([i for i, e in enumerate(train.manifest.entries) if e.clip_id in ids])


def _inputs_of(kept: KeptFeatures) -> list[str]:
    names = [name for name in ("video", "audio") if name in kept.features]
    return [*names, "concatenated"] if len(names) > 1 else names


def _inputs(kept: KeptFeatures, head: str) -> np.ndarray:
    """(n views d), float64; nan where the modality is missing."""
    if head == "concatenated":
        return np.concatenate([_inputs(kept, "video"), _inputs(kept, "audio")], 2)
    value = np.asarray(kept.features[head], np.float64)
    return np.where(kept.has_audio[:, :, None], value, np.nan) if head == "audio" else value


def _present(x: np.ndarray) -> np.ndarray:
    """(n views): there is anything."""
    return np.asarray(~np.isnan(x).all(2))


def _examples(
    given: np.ndarray, labels: np.ndarray, sources: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Every view that is there, with its class and source."""
    there = _present(given)
    views = given.shape[1]
    return (
        given[there],
        np.repeat(labels, views).reshape(-1, views)[there],
        np.repeat(sources, views).reshape(-1, views)[there],
    )


def _folds(x: np.ndarray, y: np.ndarray, group: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """At most five; as few as the sources of the class that has the fewest; none below two."""
    count = min(len(np.unique(group[y == k])) for k in np.unique(y))
    if count < 2:
        return []
    split = _sklearn().StratifiedGroupKFold(min(_MOST_FOLDS, count))
    return list(split.split(x, y, group))


def _pipeline(c: float) -> Any:
    sklearn = _sklearn()
    return sklearn.make_pipeline(
        sklearn.StandardScaler(),
        sklearn.FunctionTransformer(np.nan_to_num),
        sklearn.LogisticRegression(C=c, max_iter=_MAX_ITERATIONS),
    )


def _judge(
    head: str, said: Probability, test: KeptFeatures, num_train: int, c: float | None, ok: bool
) -> Result:
    right = (said.value.argmax(1) == test.labels)[said.counted]
    return Result(
        head=head,
        top1=float(right.mean()),
        half_interval=half_interval_over_sources(right, test.sources[said.counted]),
        num_train=num_train,
        num_test=len(right),
        c=c,
        converged=ok,
    )


class _Sklearn(NamedTuple):
    """What is taken of scikit-learn and scipy."""

    StandardScaler: Any
    FunctionTransformer: Any
    LogisticRegression: Any
    make_pipeline: Any
    GridSearchCV: Any
    StratifiedGroupKFold: Any
    ConvergenceWarning: Any
    t: Any


_WHERE: Mapping[str, str] = {
    "StandardScaler": "sklearn.preprocessing",
    "FunctionTransformer": "sklearn.preprocessing",
    "LogisticRegression": "sklearn.linear_model",
    "make_pipeline": "sklearn.pipeline",
    "GridSearchCV": "sklearn.model_selection",
    "StratifiedGroupKFold": "sklearn.model_selection",
    "ConvergenceWarning": "sklearn.exceptions",
    "t": "scipy.stats",
}


def _sklearn() -> _Sklearn:
    """Raises ValueError where it is not installed."""
    try:
        found = {name: getattr(import_module(module), name) for name, module in _WHERE.items()}
    except ImportError as error:
        raise ValueError(
            f"avmix probe needs scikit-learn, which cannot be imported ({error}): "
            "pip install 'avmix[probe]'"
        ) from None
    return _Sklearn(**found)
