"""Figures of one run, from its predictions: those of every row, and what fusion is worth."""

from collections.abc import Collection, Mapping

import numpy as np

from avmix.evaluation.clip_statistics import statistics
from avmix.evaluation.kept_predictions import KeptPredictions, PredictionsError
from avmix.evaluation.resampling import Statistic
from avmix.evaluation.score_table import fusion_of

FUSION = "fusion"
"""Prefix of what fusion is worth: `fusion.gain`, `fusion.mu`."""
BOTH = ("fused", "video head", "audio head")


def run_statistics(
    kept: KeptPredictions, only: Collection[str] | None = None
) -> dict[str, tuple[Statistic, np.ndarray]]:
    """ROW.FIGURE -> the statistic and the numbers of the clips that it is about: all figures of
    `avmix.evaluation.clip_statistics.statistics` of every row, and those of
    `avmix.evaluation.fusion_gain.MEANINGS` of the clips with both modalities.

    `only`: ids of the clips that count; None: all. Raises `PredictionsError` for clips with a label
    of each of several sets.
    """
    if kept.set_names:
        raise PredictionsError(
            "clips have a label of each of several sets: a leaderboard is of one"
        )
    counts = np.array([only is None or clip.clip_id in only for clip in kept.clips])
    found: dict[str, tuple[Statistic, np.ndarray]] = {}
    for row in kept.probability:
        clips = kept.clips_of(row)
        clips = clips[counts[clips]]
        if len(clips):
            of_row = statistics(kept.answers(row, clips))
            found |= {f"{row}.{name}": (one, clips) for name, one in of_row.items()}
    if {*BOTH} <= kept.probability.keys():
        clips = kept.clips_of(*BOTH)
        if len(clips := clips[counts[clips]]):
            of_fusion = fusion_of(kept, clips)
            found |= {f"{FUSION}.{name}": (one, clips) for name, one in of_fusion.items()}
    return found


def figures_of(kept: KeptPredictions) -> dict[str, float]:
    """The value of each; those that these clips do not have are left out."""
    return values_of(run_statistics(kept))


def values_of(found: Mapping[str, tuple[Statistic, np.ndarray]]) -> dict[str, float]:
    """The same of statistics that are at hand."""
    values = {n: float(one.of(np.ones((1, len(clips))))[0]) for n, (one, clips) in found.items()}
    return {name: value for name, value in values.items() if not np.isnan(value)}
