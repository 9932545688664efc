"""Figures of the robustness table from what the passes found: values with intervals, for a file."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int64

from avmix.evaluation.retrieval import (
    AT,
    chance_by_class,
    chance_by_clip,
    embedding,
    ranks_by_class,
    ranks_by_clip,
    retrieval_statistic,
)
from avmix.evaluation.robustness_metrics import (
    HEADS,
    LAMBDAS,
    SCORES,
    WINS,
    conflict_statistic,
    head_scores,
    sweep_of_clips,
)
from avmix.evaluation.source_bootstrap import as_json, intervals, mean_of

_INNER = slice(1, len(LAMBDAS) - 1)
"""Of `LAMBDAS`: at 0 and 1 nothing is mixed."""


class Labels(NamedTuple):
    """Of every row of the manifest."""

    label: Int64[np.ndarray, " n"]
    source: Int64[np.ndarray, " n"]


def curve_figures(clips: Mapping[int, Any], labels: Labels) -> dict[str, Any]:
    """Of `scores_pass`: `SCORES` of each head at each level, over the clips of which it says
    something; None at a level at which it says nothing of any."""
    rows = np.array(sorted(clips))
    scores, says = (np.stack([clips[row][k] for row in rows]) for k in (0, 1))
    heads = {}
    for h, head in enumerate(HEADS):
        levels = []
        for level in range(scores.shape[1]):
            counted = says[:, level, h]
            if not counted.any():
                levels.append(None)
                continue
            of = head_scores(scores[counted, level, h])
            found = intervals(of, labels.source[rows[counted]])
            figures = dict(zip(SCORES, as_json(found), strict=True))
            levels.append({"num_clips": int(counted.sum()), **figures})
        heads[head] = levels
    return {"heads": heads}


def conflict_figures(
    clips: Mapping[int, Any], others: Mapping[int, Sequence[int]], labels: Labels
) -> dict[str, Any]:
    """Of `conflict_pass`: `WINS`."""
    rows = np.array(sorted(clips))
    other = np.array([others[row][0] for row in rows])
    of = conflict_statistic(
        np.stack([clips[row] for row in rows]), labels.label[rows], labels.label[other]
    )
    found = as_json(intervals(of, labels.source[rows]))
    return {"num_clips": len(rows), **dict(zip(WINS, found, strict=True))}


def sweep_figures(
    clips: Mapping[int, Any], others: Mapping[int, Sequence[int]], labels: Labels
) -> dict[str, Any]:
    """Of `sweep_pass`: each measure at each lambda, and the mean of its inner ones."""
    rows = np.array(sorted(clips))
    other = np.array([others[row][0] for row in rows])
    sweep = sweep_of_clips(
        np.stack([clips[row] for row in rows]), labels.label[rows], labels.label[other]
    )
    source = labels.source[rows]

    def found(numbers: np.ndarray) -> dict[str, Any]:
        """Of (n lambdas)."""
        with_mean = np.concatenate([numbers, numbers[:, _INNER].mean(1, keepdims=True)], 1)
        *by_lambda, mean = as_json(intervals(mean_of(with_mean), source))
        return {"at": by_lambda, "mean": mean}

    by_head = {
        name: {head: found(getattr(sweep, name)[:, h]) for h, head in enumerate(HEADS)}
        for name in ("bend", "off_label", "own", "partner")
    }
    agreement = {name: found(getattr(sweep, name).astype(float)) for name in ("agree", "same_side")}
    return {"num_pairs": len(rows), **by_head, **agreement}


def retrieval_figures(clips: Mapping[int, Any], labels: Labels) -> dict[str, Any]:
    """Of the probabilities of a pass over the clips as they are: both directions, by clip and by
    class, over the clips that have both modalities."""
    rows = np.array([row for row in sorted(clips) if clips[row][1][0].all()])
    if not len(rows):
        return {"num_clips": 0}
    p = np.stack([clips[row][0][0] for row in rows])
    label, source = labels.label[rows], labels.source[rows]
    sees, plays = (embedding(p[:, HEADS.index(head)]) for head in ("video", "audio"))
    names = [*(f"recall_at_{k}" for k in AT), "median_rank"]
    result: dict[str, Any] = {"num_clips": len(rows)}
    for name, query, gallery in (("video_to_audio", sees, plays), ("audio_to_video", plays, sees)):
        ranks = {
            "by_clip": ranks_by_clip(query, gallery),
            "by_class": ranks_by_class(query, gallery, label),
        }
        result[name] = {
            kind: dict(zip(names, as_json(intervals(retrieval_statistic(of), source)), strict=True))
            for kind, of in ranks.items()
        }
    chance = {"by_clip": chance_by_clip(len(rows)), "by_class": chance_by_class(label)}
    result["chance"] = {k: dict(zip(names, found, strict=False)) for k, found in chance.items()}
    return result
