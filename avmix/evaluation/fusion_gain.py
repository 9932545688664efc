"""What fusing two modalities is worth: gain, modality confusion, dominance.

All of it is about clips that have both modalities, and every head is asked the same question: the
labels are those of the fused head. Audio never hurts where no gain is below 0 and the modality
confusion is 0.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from avmix.evaluation.clip_statistics import Answers, hits_at, statistics
from avmix.evaluation.resampling import Statistic, difference, divided, ratio


@dataclass(frozen=True, slots=True, kw_only=True)
class Meaning:
    """What a figure of fusion says."""

    title: str
    unit: str
    """`points` (of 100), `%`, or `nats`."""
    higher_is_better: bool | None
    """None: neither is."""


MEANINGS: dict[str, Meaning] = {
    "gain": Meaning(title="gain over the better head, top-1", unit="points", higher_is_better=True),
    "gain_map": Meaning(
        title="gain over the better head, mAP", unit="points", higher_is_better=True
    ),
    "gain_nll": Meaning(title="gain over the better head, NLL", unit="nats", higher_is_better=True),
    "gain_alone": Meaning(
        title="gain over the better trained alone, top-1",
        unit="points",
        higher_is_better=True,
    ),
    "audio_adds": Meaning(
        title="audio adds to the fused head, top-1", unit="points", higher_is_better=True
    ),
    "video_adds": Meaning(
        title="video adds to the fused head, top-1", unit="points", higher_is_better=True
    ),
    "mu": Meaning(title="modality confusion (mu)", unit="%", higher_is_better=False),
    "mu_video": Meaning(title="  of them the video head right", unit="%", higher_is_better=False),
    "mu_audio": Meaning(title="  of them the audio head right", unit="%", higher_is_better=False),
    "mu_both": Meaning(title="  of them both right", unit="%", higher_is_better=False),
    "mu_inputs": Meaning(
        title="modality confusion of inputs (mu)",
        unit="%",
        higher_is_better=False,
    ),
    **{
        f"mu_inputs_{name}": Meaning(title=f"  of them {said}", unit="%", higher_is_better=False)
        for name, said in (
            ("video", "video alone right"),
            ("audio", "audio alone right"),
            ("both", "each alone right"),
        )
    },
    "dominance": Meaning(title="dominance of video", unit="%", higher_is_better=None),
}
"""Every figure of `fusion_statistics`, in the order of the table."""


def fusion_statistics(
    rows: Mapping[str, Answers], alone: Sequence[Answers] = ()
) -> dict[str, Statistic]:
    """The figures of `MEANINGS`, as shares, from the answers of each row of the table about the
    same clips, which have both modalities.

    `gain`: fused minus the better of the two heads; which one that is, is decided in every resample
    again, so that the choice is in the interval. `audio_adds`: fused minus the fused head that is
    given no audio. `mu`: clips that one head has right and the fused one wrong, of all clips, as
    VGGSounder counts (Zverev et al., ICCV 2025); `mu_inputs` by the fused head that is given one
    modality, which is what VGGSounder asks of networks (its mu of A, V and AV are
    `mu_inputs_audio`, `mu_inputs_video`, `mu_inputs_both`). `dominance`: of the clips of which the
    fused head gives the answer of one head and not of the other, those where it is that of video.
    `alone`: answers of other networks, each trained on one modality.
    """
    fused, video, audio = (rows[name] for name in ("fused", "video head", "audio head"))
    of_fused, of_video, of_audio = (statistics(one) for one in (fused, video, audio))

    def gain(name: str) -> Statistic:
        return difference(of_fused[name], best([of_video[name], of_audio[name]]))

    found = {"gain": gain("top1")}
    if not fused.single:
        found["gain_map"] = gain("map")
    lower = best([of_video["nll"], of_audio["nll"]], least=True)
    found["gain_nll"] = difference(lower, of_fused["nll"])
    if alone:
        others = best([statistics(one)["top1"] for one in alone])
        found["gain_alone"] = difference(of_fused["top1"], others)
    for name, missing in (("audio_adds", "audio missing"), ("video_adds", "video missing")):
        if missing in rows:
            found[name] = difference(of_fused["top1"], statistics(rows[missing])["top1"])
    found |= _confusions(rows)
    found["dominance"] = dominance(fused, video, audio)
    return {name: found[name] for name in MEANINGS if name in found}


def best(several: Sequence[Statistic], *, least: bool = False) -> Statistic:
    """The largest, or the least, of several figures in each resample."""
    choose = np.min if least else np.max

    def of(weights: np.ndarray) -> np.ndarray:
        return choose([one.of(weights) for one in several], axis=0)

    return Statistic(of=of, cost=sum(one.cost for one in several))


def _confusions(rows: Mapping[str, Answers]) -> dict[str, Statistic]:
    fused, counted = hits_at(rows["fused"], 1)
    right = {name: hits_at(answers, 1)[0] > 0 for name, answers in rows.items()}
    wrong = (fused == 0) & (counted > 0)
    video, audio = right["video head"], right["audio head"]
    clips = {"mu": video | audio, "mu_video": video, "mu_audio": audio, "mu_both": video & audio}
    if {"audio missing", "video missing"} <= rows.keys():
        seen, heard = right["audio missing"], right["video missing"]
        clips |= {"mu_inputs": seen | heard, "mu_inputs_video": seen, "mu_inputs_audio": heard,
                  "mu_inputs_both": seen & heard}  # fmt: skip
    return {name: ratio((wrong & some).astype(np.float64), counted) for name, some in clips.items()}


def dominance(fused: Answers, video: Answers, audio: Answers) -> Statistic:
    """Of the clips where fused follows one head against the other, the share of video."""
    said = fused.probability.argmax(1)
    seen, played = video.probability.argmax(1), audio.probability.argmax(1)
    of_video = ((said == seen) & (said != played)).astype(np.float64)
    of_audio = ((said == played) & (said != seen)).astype(np.float64)

    def of(weights: np.ndarray) -> np.ndarray:
        follows_video, follows_audio = weights @ of_video, weights @ of_audio
        return divided(follows_video, follows_video + follows_audio)

    return Statistic(of=of)
