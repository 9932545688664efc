"""Networks of one modality each as one: the mean of their probabilities, from kept predictions.

The floor that fusion must beat: two networks that were trained apart know nothing of each other.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from avmix.config import TrainConfig, from_yaml
from avmix.evaluation.kept_predictions import KeptPredictions, PredictionsError
from avmix.evaluation.score_table import check_comparable, common_clips


def mean_of_both(first: KeptPredictions, second: KeptPredictions) -> KeptPredictions:
    """Predictions of a network of the video alone and of one of the audio alone (in any order) as
    those of one network: fused p = (p_v + p_a) / 2, of a clip that lacks a modality that of the
    other one; heads and missing rows are those of each network.

    Raises `PredictionsError` where they are of another split, did not judge the same clips, or are
    not one of each modality.
    """
    check_comparable(first, second, "the second")
    of = {_modality(kept): kept for kept in (first, second)}
    if of.keys() != {"video", "audio"}:
        said = " and ".join(_modality(kept) for kept in (first, second))
        raise PredictionsError(
            f"averages a network of the video alone and one of the audio alone "
            f"(model.modalities), got {said}"
        )
    video, audio = of["video"], of["audio"]
    mine, theirs = common_clips([video, audio])
    if len(mine) != len(video.clips) or len(theirs) != len(audio.clips):
        lacks = len(video.clips) + len(audio.clips) - 2 * len(mine)
        raise PredictionsError(f"{lacks} clips were judged by one of both networks only")
    p_v, p_a = video.probability["fused"], audio.probability["fused"][theirs]
    sees, hears = video.counted["fused"], audio.counted["fused"][theirs]
    both = (sees & hears)[:, None]
    fused = np.where(both, (p_v + p_a) / 2, np.where(sees[:, None], p_v, p_a))
    probability = {"fused": fused, "video head": p_v, "audio head": p_a,
                   "audio missing": p_v, "video missing": p_a}  # fmt: skip
    counted = {"fused": sees | hears, "video head": sees, "audio head": hears,
               "audio missing": sees, "video missing": hears}  # fmt: skip
    target = video.target
    if target is not None:
        assert audio.target is not None
        of_audio = audio.target.get("audio", audio.target["fused"])[theirs]
        target = {**target, "audio": of_audio}
    digests = [kept.origin.checkpoint for kept in (video, audio)]
    # Of a network that is two: none has this hash, and the same two have it again.
    joined = hashlib.sha256("\n".join(digests).encode()).hexdigest() if all(digests) else ""
    return replace(
        video,
        probability={name: p.astype(np.float32) for name, p in probability.items()},
        counted=counted,
        target=target,
        missing=_all_missing([video, audio]),
        origin=replace(
            video.origin,
            checkpoint=joined,
            chance=None,
            views={**video.origin.views, "separate_networks": ", ".join(digests)},
        ),
    )


def _modality(kept: KeptPredictions) -> str:
    return from_yaml(TrainConfig, kept.origin.config).model.modalities


def _all_missing(several: Sequence[KeptPredictions]) -> tuple:
    found = {bad.row: bad for kept in several for bad in kept.missing}
    return tuple(found[row] for row in sorted(found))
