"""Runs compared with each other: paired differences of what they say of the same clips."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from avmix.evaluation.clip_statistics import statistics
from avmix.evaluation.kept_predictions import KeptPredictions, PredictionsError
from avmix.evaluation.resampling import Figure, Resampling, Statistic, difference, figures
from avmix.evaluation.score_table import check_comparable, common_clips, fusion_of

OF_FUSED = ("top1", "top5", "mean_class", "exact", "map", "f1", "nll", "brier", "ece", "ks")
"""Figures of the fused head that are compared, where runs have them."""
OF_FUSION = ("gain", "gain_nll", "audio_adds", "mu")
"""Figures of fusion that are compared: of the clips with both modalities."""
LOWER_IS_BETTER = ("nll", "brier", "ece", "ks", "mu")


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Figures of several runs over the clips that all of them have judged."""

    runs: tuple[str, ...]
    """Names; the first is what the others are compared with."""
    protocol: str
    split: str
    num_clips: int
    num_left_out: tuple[int, ...]
    """Clips of each run that another one has not judged."""
    values: dict[str, tuple[Figure, ...]]
    """Of each of `OF_FUSED` and `OF_FUSION` that all runs have: of every run."""
    differences: dict[str, tuple[Figure, ...]]
    """Of the same: every run but the first, minus the first. Both are resampled together."""


def compare(
    runs: Mapping[str, KeptPredictions], *, num_resamples: int = 1000, seed: int = 0
) -> Comparison:
    """Compare two runs or more, by their names, with the first.

    Raises `PredictionsError` where one is of another split, other classes or another kind of label,
    and where no clip was judged by all.
    """
    names, kept = tuple(runs), list(runs.values())
    first = kept[0]
    for name, other in zip(names[1:], kept[1:], strict=True):
        check_comparable(first, other, name)
        _check_labels(first, other, name)
    clips = common_clips(kept)
    if not len(clips[0]):
        raise PredictionsError(f"no clip was judged by all of {', '.join(names)}")
    fused = [statistics(one.answers("fused", c)) for one, c in zip(kept, clips, strict=True)]
    resampling = Resampling(source=first.source, num_resamples=num_resamples, seed=seed)
    values, differences = _paired(fused, OF_FUSED, resampling, clips[0])
    both = _with_both(kept, clips)
    if both is not None:
        fusion = [fusion_of(one, c) for one, c in zip(kept, both, strict=True)]
        more, of_more = _paired(fusion, OF_FUSION, resampling, both[0])
        values, differences = values | more, differences | of_more
    return Comparison(
        runs=names, protocol=first.protocol, split=first.split, num_clips=len(clips[0]),
        num_left_out=tuple(len(one.clips) - len(clips[0]) for one in kept),
        values=values, differences=differences,
    )  # fmt: skip


def _paired(
    of_runs: list[dict[str, Statistic]],
    names: tuple[str, ...],
    resampling: Resampling,
    clips: np.ndarray,
) -> tuple[dict[str, tuple[Figure, ...]], dict[str, tuple[Figure, ...]]]:
    shared = [name for name in names if all(name in one for one in of_runs)]
    asked: dict[str, Statistic] = {}
    for i, one in enumerate(of_runs):
        for name in shared:
            asked[f"{i} {name}"] = one[name]
            if i:
                asked[f"{i} {name} -"] = difference(one[name], of_runs[0][name])
    found = figures(asked, resampling, clips=clips)
    every = range(len(of_runs))
    values = {name: tuple(found[f"{i} {name}"] for i in every) for name in shared}
    differences = {name: tuple(found[f"{i} {name} -"] for i in every[1:]) for name in shared}
    return values, differences


def _with_both(kept: list[KeptPredictions], clips: list[np.ndarray]) -> list[np.ndarray] | None:
    """Of the common clips those that have both modalities in all runs; None without one, and where
    a run has no such rows."""
    rows = ("fused", "video head", "audio head")
    if not all({*rows} <= one.probability.keys() for one in kept):
        return None
    counted = [np.all([one.counted[row][c] for row in rows], axis=0)
               for one, c in zip(kept, clips, strict=True)]  # fmt: skip
    here = np.all(counted, axis=0)
    return [c[here] for c in clips] if here.any() else None


def _check_labels(first: KeptPredictions, other: KeptPredictions, name: str) -> None:
    """Raises `PredictionsError` where a clip has other labels or another source. The manifest is
    the same, so one of the files is not as it was written."""
    here, there = common_clips([first, other])
    one, two = first.answers("fused", here).target, other.answers("fused", there).target
    if not np.array_equal(one, two, equal_nan=True):
        raise PredictionsError(f"{name}: not comparable: it has other labels for the same clips")
    sources = [[k.clips[i].source_id for i in c] for k, c in ((first, here), (other, there))]
    if sources[0] != sources[1]:
        raise PredictionsError(f"{name}: not comparable: it has other sources for the same clips")
