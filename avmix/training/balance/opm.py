"""OPM: the modality that is ahead is left out of some clips, by score.

Wei et al., "On-the-fly modulation for balanced multimodal learning" (TPAMI 2024), feed-forward
stage. With the mean confidences s of the modality heads in the step before:

    r_m = tanh(max(0, s_m / s_other - 1))
    share of the clips that lose m:  drop * (1 + drop_rise * r_m)  where r_m > 0, else 0

in a share `drop_batches` of the batches. Only one modality is ever ahead, so that no clip loses
both. What differs from the original: the scores are of the step before, so that what is left out is
drawn as data, with the plan; a feature is left out by mask, as by `+dropout`, so that nothing is
rescaled by 1 / (1 - theta). (BalanceBenchmark's port divides the scores in place while it still
needs them, and drops the weaker modality too.)
"""

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from avmix.config import BalanceConfig
from avmix.mix import MixPlan
from avmix.mix.methods import draw_dropout


class Scores(NamedTuple):
    """Mean confidence of each modality head in a step; nan where no clip had the modality."""

    video: float
    audio: float


def drop_shares(scores: Scores | None, config: BalanceConfig) -> dict[str, float]:
    """Share of the clips that lose each modality; None: nothing is known yet, and none does."""
    if scores is None or not (scores.video > 0 and scores.audio > 0):  # nan, too
        return {"video": 0.0, "audio": 0.0}
    pairs = {"video": scores.video / scores.audio, "audio": scores.audio / scores.video}
    return {
        name: config.drop * (1 + config.drop_rise * math.tanh(ratio - 1)) if ratio > 1 else 0.0
        for name, ratio in pairs.items()
    }


def leave_out(
    plan: MixPlan, shares: Mapping[str, float], drop_batches: float, rng: np.random.Generator
) -> MixPlan:
    """`plan` without the modality of the clips that lose it; only clips that have both can."""
    if rng.random() >= drop_batches or not any(shares.values()):
        return plan
    return draw_dropout(shares, plan, rng)
