"""Measures of robustness: accuracy and calibration of a head, which modality wins where they
contradict each other, and how straight the predictions run from one clip to another.

Arrays are numpy, probabilities (n k) of n clips and k classes, averaged over the views of a clip.
Heads are in the order of `HEADS`.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float64, Int64

from avmix.evaluation.clip_statistics import NUM_BINS, bin_of
from avmix.evaluation.source_bootstrap import Statistic, mean_of

HEADS = ("fused", "video", "audio")
SCORES = ("top1", "nll", "ece")
"""Figures of `head_scores`: share of clips, nats, share."""
LAMBDAS = tuple(step / 10 for step in range(11))
"""Of the sweep: the weight of a clip's own signal, 0 is the partner alone."""
WINS = ("video", "audio", "neither", "both_right", "video_of_both_right", "audio_of_both_right",
        "probability_video", "probability_audio")  # fmt: skip
"""Figures of `conflict_statistic`."""
_TINY = float(np.finfo(np.float32).tiny)


def scores_of_clips(
    probability: Float[np.ndarray, "n heads k"], label: Int64[np.ndarray, " n"]
) -> Float64[np.ndarray, "n heads 3"]:
    """Of each clip and head: whether it is right (1 or 0), the NLL, and the confidence, the largest
    probability. `head_scores` makes figures of them."""
    p = probability.astype(np.float64)
    own = np.take_along_axis(p, label[:, None, None], 2)[..., 0]
    right = p.argmax(2) == label[:, None]
    return np.stack([right, -np.log(np.maximum(own, _TINY)), np.clip(p.max(2), 0, 1)], 2)


def head_scores(clips: Float64[np.ndarray, "n 3"]) -> Statistic:
    """`SCORES` of one head: top-1, NLL and ECE (15 bins of one width; Guo et al., ICML 2017), as
    in `avmix.evaluation.metrics`. `clips`: of `scores_of_clips`."""
    right, confidence, means = clips[:, 0], clips[:, 2], mean_of(clips[:, :2])
    gap = np.zeros((len(clips), NUM_BINS))
    gap[np.arange(len(clips)), bin_of(confidence)] = confidence - right

    def of(weights: Float64[np.ndarray, "r n"]) -> np.ndarray:
        with np.errstate(invalid="ignore"):
            ece = np.abs(weights @ gap).sum(1) / weights.sum(1)
        return np.concatenate([means(weights), ece[:, None]], 1)

    return of


def conflict_statistic(
    probability: Float[np.ndarray, "n heads k"],
    video_class: Int64[np.ndarray, " n"],
    audio_class: Int64[np.ndarray, " n"],
) -> Statistic:
    """`WINS`: the share of clips in which the fused head names the class of the video, that of the
    audio, or neither; the share in which each modality head names the class of its own, and of
    these the share in which either wins; the mean probability that the fused head gives to both."""
    said = probability.argmax(2)
    fused, clip = said[:, 0], np.arange(len(said))
    both_right = (said[:, 1] == video_class) & (said[:, 2] == audio_class)
    video, audio = fused == video_class, fused == audio_class
    plain = np.stack([video, audio, ~(video | audio), both_right], 1).astype(np.float64)
    given = np.stack([video & both_right, audio & both_right], 1).astype(np.float64)
    mass = np.stack([probability[clip, 0, c] for c in (video_class, audio_class)], 1)
    means, masses = mean_of(plain), mean_of(mass)

    def of(weights: Float64[np.ndarray, "r n"]) -> np.ndarray:
        with np.errstate(invalid="ignore"):
            shares = weights @ given / (weights @ both_right)[:, None]
        return np.concatenate([means(weights), shares, masses(weights)], 1)

    return of


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepOfClips:
    """What a sweep says of each pair of clips, at each of `LAMBDAS`."""

    bend: Float64[np.ndarray, "n heads 11"]
    """Total variation, half the sum of absolute differences, between the prediction and the line
    between the predictions of both clips: 0 is linear, 1 the most."""
    off_label: Float64[np.ndarray, "n heads 11"]
    """The same between the prediction and the mixed label."""
    own: Float64[np.ndarray, "n heads 11"]
    """Probability of the own class."""
    partner: Float64[np.ndarray, "n heads 11"]
    """Probability of the partner's class."""
    agree: Bool[np.ndarray, "n 11"]
    """Video head and audio head name the same class."""
    same_side: Bool[np.ndarray, "n 11"]
    """Both of them give more to the own class than to the partner's, or both less."""


def sweep_of_clips(
    probability: Float[np.ndarray, "n lambdas heads k"],
    own: Int64[np.ndarray, " n"],
    partner: Int64[np.ndarray, " n"],
) -> SweepOfClips:
    """Of the predictions at `LAMBDAS`, and the classes of both clips."""
    p = probability.transpose(0, 2, 1, 3).astype(np.float64)  # n heads lambdas k
    lam = np.array(LAMBDAS)[:, None]
    line = lam * p[:, :, -1:] + (1 - lam) * p[:, :, :1]
    clip = np.arange(len(p))
    label = np.zeros((len(p), len(LAMBDAS), p.shape[-1]))
    label[clip, :, own] += lam[:, 0]
    label[clip, :, partner] += 1 - lam[:, 0]
    p_own, p_partner = (p[clip, :, :, c] for c in (own, partner))
    said, side = p.argmax(3), p_own > p_partner
    return SweepOfClips(
        bend=np.abs(p - line).sum(3) / 2,
        off_label=np.abs(p - label[:, None]).sum(3) / 2,
        own=p_own,
        partner=p_partner,
        agree=said[:, 1] == said[:, 2],
        same_side=side[:, 1] == side[:, 2],
    )
