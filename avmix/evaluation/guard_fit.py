"""What a fusion guard is fitted to: held-out clips, and whether their fusion is surely better than
the best modality head.

Two predictions are compared. One is the better of the two modality heads, its logits scaled. The
other is the pool of all three heads (`avmix.models.fusion_guard`). Both are cross-fitted: in each
of five folds of sources by numbers that were fitted to the other four. The pool is taken where

* the 95 % interval over sources of the difference of their negative log-likelihoods, a paired
  bootstrap (`avmix.evaluation.resampling`), lies above 0, and
* it has no fewer clips right.

Otherwise the better head is taken, as it is where there are too few sources for an interval. The
numbers that are returned are then fitted to all clips.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float64, Int64

from avmix.evaluation.resampling import Figure, Resampling, figures, numbered, ratio

HEADS = ("fused", "video", "audio")
FOLDS = 5
_PRIOR = 1.0
"""Precision of the normal prior of each number, mean 0: with it they are finite where every clip is
right. It weighs as much as one clip does, and less."""
_LEAST_SCALE = 1 / 16
"""A head that knows nothing keeps an order of its classes."""
_MOST_STEPS = 50

Logits = Float64[np.ndarray, "heads n k"]


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardFit:
    """What was fitted, and why."""

    pool: tuple[float, float, float]
    """Of the logits of the fused, video and audio head, for clips with both modalities; where the
    better head is taken, its scale and zeros."""
    scale: tuple[float, float]
    """Of the logits of the video and the audio head."""
    better: Literal["video", "audio"]
    """The modality head with the lower negative log-likelihood."""
    fuses: bool
    """Whether the pool is taken, and not the better head."""
    nll_head: float | None
    """Of the better head, cross-fitted, nats; None without clips of both modalities."""
    nll_pool: float | None
    """Of the pool, likewise."""
    gain_nll: Figure
    """Their difference with its interval over sources; above 0 the pool is better."""
    gain_top1: float
    """Top-1 of the pool minus that of the better head, cross-fitted."""
    num_clips: int
    """With both modalities."""
    num_sources: int
    """Of these clips."""

    def __str__(self) -> str:
        """In one line."""
        if self.nll_head is None or self.nll_pool is None:
            return (
                f"fusion guard: the {self.better} head alone; no held-out clip has both modalities"
            )
        pool = ", ".join(f"{n} {p:.2f}" for n, p in zip(HEADS, self.pool, strict=True))
        taken = f"pool of {pool}" if self.fuses else f"the {self.better} head alone"
        low, high = self.gain_nll.low, self.gain_nll.high
        over = f"{self.num_clips} held-out clips with both modalities, {self.num_sources} sources"
        interval = "no interval" if low is None or high is None else f"{low:.3f} to {high:.3f}"
        return (
            f"fusion guard: {taken}. NLL of the {self.better} head {self.nll_head:.3f}, of the "
            f"pool {self.nll_pool:.3f}: better by {self.nll_head - self.nll_pool:.3f} ({interval}"
            f"), top-1 by {100 * self.gain_top1:.1f} points; {over}"
        )


def fit_guard(
    probability: Mapping[str, np.ndarray],
    has_video: Bool[np.ndarray, " n"],
    has_audio: Bool[np.ndarray, " n"],
    label: Int64[np.ndarray, " n"],
    source: Int64[np.ndarray, " n"],
) -> GuardFit:
    """Fit to probabilities (n k) of each of `HEADS`; `source`: a number of the source of each
    clip. Clips with one modality only have a part in the scale of its head."""
    logits = np.stack([_logits(probability[head]) for head in HEADS])
    source = numbered(source.tolist())
    both = has_video & has_audio
    has = {"video": has_video, "audio": has_audio}

    def scales(fitted: np.ndarray) -> tuple[float, float]:
        video, audio = (
            _scale(logits[number, fitted & has[name]], label[fitted & has[name]])
            for number, name in ((1, "video"), (2, "audio"))
        )
        return video, audio

    said = {name: np.zeros(logits.shape[1:]) for name in ("video", "audio", "pool")}
    folds = source % FOLDS
    for fold in np.unique(folds[both]):
        held, others = both & (folds == fold), folds != fold
        video, audio = scales(others)
        said["video"][held] = video * logits[1, held]
        said["audio"][held] = audio * logits[2, held]
        pool = _coefficients(logits[:, both & others], label[both & others])
        said["pool"][held] = np.tensordot(pool, logits[:, held], 1)
    losses = {name: _losses(one[both], label[both]) for name, one in said.items()}
    means = {name: float(one.mean()) if len(one) else None for name, one in losses.items()}
    better: Literal["video", "audio"] = "video"
    if _less(means["audio"], means["video"]):
        better = "audio"
    difference = losses[better] - losses["pool"]
    gain = figures(
        {"nll": ratio(difference)}, Resampling(source=numbered(source[both].tolist())), naive=False
    )["nll"]
    right = {name: one[both].argmax(1) == label[both] for name, one in said.items()}
    gain_top1 = float((right["pool"].mean() - right[better].mean()) if both.any() else 0.0)
    scale, everyone = scales(np.ones(len(label), dtype=bool)), logits[:, both]
    pool = _coefficients(everyone, label[both])
    fuses = gain.low is not None and gain.low > 0 and gain_top1 >= 0 and bool(pool.any())
    alone = (0.0, scale[0], 0.0) if better == "video" else (0.0, 0.0, scale[1])
    taken = (float(pool[0]), float(pool[1]), float(pool[2])) if fuses else alone
    return GuardFit(
        pool=taken, scale=scale, better=better, fuses=fuses, nll_head=means[better],
        nll_pool=means["pool"], gain_nll=gain, gain_top1=gain_top1, num_clips=int(both.sum()),
        num_sources=len(np.unique(source[both])),
    )  # fmt: skip


def _less(one: float | None, other: float | None) -> bool:
    return one is not None and other is not None and one < other


def _logits(probability: np.ndarray) -> Float64[np.ndarray, "n k"]:
    """Up to a constant for each clip: of the probabilities that float32 can tell from 0."""
    return np.log(probability.astype(np.float64).clip(min=float(np.finfo(np.float32).tiny)))


def _scale(logits: Float64[np.ndarray, "n k"], label: np.ndarray) -> float:
    """Of one head alone; 1 without clips."""
    if not len(label):
        return 1.0
    return max(_LEAST_SCALE, float(_coefficients(logits[None], label)[0]))


def _coefficients(logits: Logits, label: np.ndarray) -> Float64[np.ndarray, " heads"]:
    """Those >= 0 of the weighted sum of logits that minimise the negative log-likelihood of the
    labels with the prior, which is convex: the minimum over some of the heads, without the bound,
    is tried for each choice of heads, and the least of those above 0 is it."""
    count = len(logits)
    best, least = np.zeros(count), _loss(np.zeros(count), logits, label)
    if not len(label):
        return best
    for size in range(1, count + 1):
        for chosen in combinations(range(count), size):
            found = _minimum(logits[[*chosen]], label)
            if (found > 0).all() and (loss := _loss(found, logits[[*chosen]], label)) < least:
                best, least = np.zeros(count), loss
                best[[*chosen]] = found
    return best


def _minimum(logits: Logits, label: np.ndarray) -> np.ndarray:
    """Of the loss of `_coefficients` without a bound, by Newton's method with halved steps."""
    at = np.full(len(logits), 1 / len(logits))
    of_label = logits[:, np.arange(len(label)), label]
    for _ in range(_MOST_STEPS):
        p = np.exp(_log_softmax(np.tensordot(at, logits, 1)))
        mean = (p * logits).sum(-1)
        slope = (mean - of_label).sum(1) + _PRIOR * at
        centred = logits - mean[:, :, None]
        curve = np.einsum("hnk,nk,jnk->hj", centred, p, centred, optimize=True)
        step = np.linalg.solve(curve + _PRIOR * np.eye(len(at)), slope)
        now, size = _loss(at, logits, label), 1.0
        while _loss(at - size * step, logits, label) > now and size > 1e-6:
            size /= 2
        at = at - size * step
        if np.abs(size * step).max() < 1e-10:
            break
    return at


def _loss(at: np.ndarray, logits: Logits, label: np.ndarray) -> float:
    """Sum over clips, with the prior."""
    losses = _losses(np.tensordot(at, logits, 1), label)
    return float(losses.sum() + 0.5 * _PRIOR * (at @ at))


def _losses(logits: Float64[np.ndarray, "n k"], label: np.ndarray) -> Float64[np.ndarray, " n"]:
    """Negative log-likelihood of each clip."""
    return -_log_softmax(logits)[np.arange(len(label)), label]


def _log_softmax(logits: Float64[np.ndarray, "n k"]) -> Float64[np.ndarray, "n k"]:
    top = logits - logits.max(1, keepdims=True)
    return top - np.log(np.exp(top).sum(1, keepdims=True))
