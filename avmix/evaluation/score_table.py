"""The table of an evaluation: every metric of every row and what fusion is worth, with intervals.

It is computed from kept predictions alone, the same for an evaluation that has just been done as
for one that is read again.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from avmix.evaluation.clip_statistics import statistics
from avmix.evaluation.fusion_gain import fusion_statistics
from avmix.evaluation.kept_predictions import KeptPredictions, PredictionsError
from avmix.evaluation.label_set_statistics import set_statistics
from avmix.evaluation.resampling import Figure, Resampling, Statistic, figures

_BOTH = ("fused", "video head", "audio head")


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreTable:
    """Figures by row, and what fusion is worth."""

    rows: dict[str, dict[str, Figure] | None]
    """For each row the metrics of `avmix.evaluation.clip_statistics.statistics`; None without a
    clip that has its modality."""
    fusion: dict[str, Figure]
    """Those of `avmix.evaluation.fusion_gain.MEANINGS`; empty where no clip has both modalities."""
    num_without_positive: int
    """Classes without a clip, which count in no mean over classes."""


def score_table(
    kept: KeptPredictions,
    *,
    num_resamples: int,
    seed: int = 0,
    alone: Sequence[KeptPredictions] = (),
) -> ScoreTable:
    """The figures of kept predictions; `alone`: of networks trained on one modality, with which the
    clips are compared that they have judged, too.

    Raises `PredictionsError` where those are of another split.
    """
    resampling = Resampling(source=kept.source, num_resamples=num_resamples, seed=seed)
    rows: dict[str, dict[str, Figure] | None] = {}
    for row in kept.probability:
        clips = kept.clips_of(row)
        of_row = statistics(kept.answers(row, clips)) if len(clips) else None
        rows[row] = None if of_row is None else figures(of_row, resampling, clips=clips)
    everyone = kept.answers("fused", np.arange(len(kept.clips)))
    return ScoreTable(
        rows=rows,
        fusion=_fusion(kept, resampling, alone),
        num_without_positive=int((~everyone.positive.any(0)).sum()),
    )


def joint_table(
    kept: KeptPredictions, *, num_resamples: int, seed: int = 0
) -> dict[str, dict[str, Figure] | None]:
    """For each row the figures of `avmix.evaluation.label_set_statistics.set_statistics`: of every
    label set and of their combination; None without a clip that has its modality."""
    resampling = Resampling(source=kept.source, num_resamples=num_resamples, seed=seed)
    assert kept.label is not None
    rare = {*kept.tail_classes}
    tail = [np.array([name in rare for name in kept.classes[one.columns]]) for one in kept.sets]
    rows: dict[str, dict[str, Figure] | None] = {}
    for row, probability in kept.probability.items():
        clips = kept.clips_of(row)
        if not len(clips):
            rows[row] = None
            continue
        of_row = set_statistics(
            [probability[clips][:, one.columns] for one in kept.sets],
            list(kept.label[clips].T),
            kept.set_names,
            tail=tail if rare else (),
            subsets={name: inside[clips] for name, inside in kept.subsets.items()},
        )
        rows[row] = figures(of_row, resampling, clips=clips)
    return rows


def _fusion(
    kept: KeptPredictions, resampling: Resampling, alone: Sequence[KeptPredictions]
) -> dict[str, Figure]:
    for other in alone:
        check_comparable(kept, other)
    if not {*_BOTH} <= kept.probability.keys():
        return {}
    clips = kept.clips_of(*_BOTH)
    if not len(clips):
        return {}
    found = figures(fusion_of(kept, clips), resampling, clips=clips)
    if alone:
        own, *others = common_clips([kept, *alone], clips)
        if len(own):
            answers = [o.answers("fused", c, "fused") for o, c in zip(alone, others, strict=True)]
            rows = {row: kept.answers(row, own, "fused") for row in _BOTH}
            gain = {"gain_alone": fusion_statistics(rows, answers)["gain_alone"]}
            found |= figures(gain, resampling, clips=own)
    return found


def fusion_of(kept: KeptPredictions, clips: np.ndarray) -> dict[str, Statistic]:
    """What fusion is worth for these clips, which have both modalities."""
    return fusion_statistics({row: kept.answers(row, clips, "fused") for row in kept.probability})


def check_comparable(first: KeptPredictions, other: KeptPredictions, name: str = "") -> None:
    """Raises `PredictionsError` unless both are about the same clips and classes."""
    who = f"{name}: " if name else ""
    for what, one, two in (
        (
            "protocol and split",
            f"{first.protocol} {first.split}",
            f"{other.protocol} {other.split}",
        ),
        ("manifest of the split (SHA-256)", first.split_sha256, other.split_sha256),
        ("classes", len(first.classes), len(other.classes)),
        ("kind of label", _kind(first), _kind(other)),
    ):
        if one != two:
            raise PredictionsError(f"{who}not comparable: its {what} is {two}, the first's {one}")
    if first.classes != other.classes:
        raise PredictionsError(f"{who}not comparable: its classes have other names")


def _kind(kept: KeptPredictions) -> str:
    if kept.set_names:
        return f"one of each of {', '.join(kept.set_names)}"
    return "one of the classes" if kept.single else "any number of classes"


def common_clips(
    several: Sequence[KeptPredictions], of_first: np.ndarray | None = None
) -> list[np.ndarray]:
    """Numbers of the clips that all of them have judged, in each of them, in the same order.
    `of_first`: only these clips of the first one."""
    places = [{clip.clip_id: i for i, clip in enumerate(one.clips)} for one in several]
    wanted = range(len(several[0].clips)) if of_first is None else of_first.tolist()
    ids = [several[0].clips[i].clip_id for i in wanted]
    common = [i for i in ids if all(i in place for place in places)]
    return [np.array([place[i] for i in common], dtype=np.int64) for place in places]
