"""Logistic regression of one head: standardised, its C chosen by cross-validation over sources.

scikit-learn fits it. Every view of a clip is an example; a clip is judged by the mean of the
probabilities of its evaluation views.
"""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, NamedTuple

import numpy as np

C_GRID = (0.001, 0.01, 0.1, 1.0, 10.0)
"""Inverse strengths of regularisation that are tried."""
FALLBACK_C = 1.0
"""Where there are too few sources to choose by: the default of scikit-learn."""
_MOST_FOLDS = 5
_MAX_ITERATIONS = 2000
_PLAIN_ITERATIONS = 100
"""As MTEB and MVEB have it."""

Fold = tuple[np.ndarray, np.ndarray]
"""Rows that are fitted on, and rows that are held out."""


class Probability(NamedTuple):
    """What a head says of clips."""

    value: np.ndarray
    """(n k); zeros where the clip lacks the modality."""
    counted: np.ndarray
    """(n): has the modality."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitted:
    """The regression of one head."""

    model: Any
    """Pipeline of scikit-learn."""
    c: float
    num_clips: int
    """Clips with examples."""
    held_out: Probability
    """Of the clips that were fitted on, each by the regression of the folds without its source."""
    converged: bool
    """Whether every fit did."""


def folds_of(labels: np.ndarray, sources: np.ndarray) -> list[Fold]:
    """Folds in which no source is in two; at most five, as few as the sources of the class that has
    the fewest; none below two."""
    count = min(len(np.unique(sources[labels == k])) for k in np.unique(labels))
    if count < 2:
        return []
    split = parts_of_sklearn().StratifiedGroupKFold(min(_MOST_FOLDS, count))
    return list(split.split(labels, labels, sources))


def fit_head(
    given: np.ndarray,
    labels: np.ndarray,
    folds: Sequence[Fold],
    grid: Sequence[float],
    *,
    num_classes: int,
    num_judged: int,
    plain: bool = False,
) -> Fitted | None:
    """Fit to `given` (n views d), which is nan where a modality is missing: one that is missing in
    part counts as its mean. None where fewer than two classes have examples. `plain`: as given, not
    standardised, with at most 100 iterations; what is missing counts as 0.

    Of several C the one with the best mean accuracy over `folds` is taken, of equal ones the
    smallest; the standardisation is fitted in each fold again. Held-out clips are judged by their
    first `num_judged` views, as those of the test split are.
    """
    sklearn = parts_of_sklearn()
    x, y = _examples(given, labels)
    if len(set(y.tolist())) < 2:
        return None
    said = {c: np.zeros((len(labels), num_classes)) for c in grid}
    shares: dict[float, list[float]] = {c: [] for c in grid}
    counted = np.zeros(len(labels), bool)
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        for fit_rows, held_rows in folds:
            a, b = _examples(given[fit_rows], labels[fit_rows])
            if len(set(b.tolist())) < 2:
                continue
            for c in grid:
                found = probability(
                    _pipeline(c, plain).fit(a, b), given[held_rows][:, :num_judged], num_classes
                )
                said[c][held_rows], counted[held_rows] = found
                if found.counted.any():
                    right = found.value.argmax(1) == labels[held_rows]
                    shares[c].append(float(right[found.counted].mean()))
        c = float(grid[0])
        if len(grid) > 1:
            known = {c: np.mean(shares[c]) for c in sorted(grid) if shares[c]}
            c = float(max(known, key=lambda c: known[c])) if known else FALLBACK_C
        model = _pipeline(c, plain).fit(x, y)
    failed = [warning for warning in warned if warning.category is sklearn.ConvergenceWarning]
    return Fitted(
        model=model,
        c=c,
        num_clips=int(_present(given).any(1).sum()),
        held_out=Probability(said.get(c, said[grid[0]]), counted),
        converged=not failed,
    )


def probability(model: Any, asked: np.ndarray, num_classes: int) -> Probability:
    """What a regression says of clips (n views d): the mean over the views that are there."""
    there = _present(asked)
    value = np.zeros((*there.shape, num_classes))
    if there.any():
        seen = np.zeros((int(there.sum()), num_classes))
        seen[:, model.classes_] = model.predict_proba(asked[there])
        value[there] = seen
    mean = value.sum(1) / there.sum(1).clip(min=1)[:, None]
    return Probability(mean, np.asarray(there.any(1)))


def _present(x: np.ndarray) -> np.ndarray:
    """(n views): there is anything."""
    return np.asarray(~np.isnan(x).all(2))


def _examples(given: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Every view that is there, with its class."""
    there = _present(given)
    views = given.shape[1]
    return given[there], np.repeat(labels, views).reshape(-1, views)[there]


def _pipeline(c: float, plain: bool) -> Any:
    sklearn = parts_of_sklearn()
    if plain:
        return sklearn.make_pipeline(
            sklearn.FunctionTransformer(np.nan_to_num),
            sklearn.LogisticRegression(C=c, max_iter=_PLAIN_ITERATIONS),
        )
    return sklearn.make_pipeline(
        sklearn.StandardScaler(),
        sklearn.FunctionTransformer(np.nan_to_num),
        sklearn.LogisticRegression(C=c, max_iter=_MAX_ITERATIONS),
    )


class _Sklearn(NamedTuple):
    """What is taken of scikit-learn and scipy."""

    StandardScaler: Any
    FunctionTransformer: Any
    LogisticRegression: Any
    make_pipeline: Any
    StratifiedGroupKFold: Any
    ConvergenceWarning: Any
    t: Any


_WHERE: Mapping[str, str] = {
    "StandardScaler": "sklearn.preprocessing",
    "FunctionTransformer": "sklearn.preprocessing",
    "LogisticRegression": "sklearn.linear_model",
    "make_pipeline": "sklearn.pipeline",
    "StratifiedGroupKFold": "sklearn.model_selection",
    "ConvergenceWarning": "sklearn.exceptions",
    "t": "scipy.stats",
}


def parts_of_sklearn() -> _Sklearn:
    """Raises ValueError where it is not installed."""
    try:
        found = {name: getattr(import_module(module), name) for name, module in _WHERE.items()}
    except ImportError as error:
        raise ValueError(
            f"avmix probe needs scikit-learn, which cannot be imported ({error}): "
            "pip install 'avmix[probe]' ('.[probe]' in the checkout)"
        ) from None
    return _Sklearn(**found)
