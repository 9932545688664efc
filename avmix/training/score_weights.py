"""Weights of the `weighted` fusion, fitted to what the modality heads say of validation clips.

Three numbers: the weight of video and a temperature for each modality. They minimise the negative
log-likelihood of the fused prediction. Training never sees them: while the network learns they are
those of the plain average.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from avmix.evaluation.metrics import Predictions
from avmix.models import LateFusionClassifier
from avmix.models.score_fusion import WeightedFusion

_MOST = math.log(16.0)
"""Temperatures are within 1 / 16 and 16: where every clip is right, the best one is 0."""
_TIE = 1e-6
"""Nats by which two modalities must be better than one to get a share each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreWeights:
    """What was fitted."""

    video_weight: float
    """In [0, 1]; audio has the rest."""
    video_temperature: float
    audio_temperature: float
    nll: float
    """Of the fused prediction, mean over the clips that have a modality, nats."""
    nll_average: float
    """The same of the plain average."""
    num_clips: int
    """That have both modalities: what the weight is fitted to."""

    def __str__(self) -> str:
        """In one line."""
        return (
            f"fusion weighted: video {self.video_weight:.2f}, audio {1 - self.video_weight:.2f}; "
            f"temperatures {self.video_temperature:.2f} and {self.audio_temperature:.2f}; NLL "
            f"{self.nll:.3f}, of the plain average {self.nll_average:.3f}; {self.num_clips} "
            "validation clips with both"
        )


def plain_average(networks: Sequence[LateFusionClassifier]) -> None:
    """Let `weighted` fusions be the plain average, as they are trained."""
    for network in networks:
        if isinstance(network.fusion, WeightedFusion):
            network.fusion.set_weights()


def fit_networks(
    networks: Sequence[LateFusionClassifier], found: Predictions
) -> tuple[Predictions, ScoreWeights | None]:
    """Fit the `weighted` fusion of `networks` to `found`, predictions of the first one with one
    view a clip; returns the predictions with those weights, and the weights. Other fusions are left
    as they are, and the weights are None.
    """
    fusion = networks[0].fusion
    if not isinstance(fusion, WeightedFusion):
        return found, None
    video, audio = found.log_probability("video head"), found.log_probability("audio head")
    seen, heard = found.counted["video head"], found.counted["audio head"]
    weights = fit(video, audio, seen, heard, found.label)
    for network in networks:
        if isinstance(network.fusion, WeightedFusion):
            network.fusion.set_weights(
                weights.video_weight, weights.video_temperature, weights.audio_temperature
            )
    device, nothing = fusion.video_weight.device, torch.zeros_like(seen)
    rows = {"fused": (seen, heard), "audio missing": (seen, nothing),
            "video missing": (nothing, heard)}  # fmt: skip
    probability = {
        name: fusion.combined(
            video.float().to(device), audio.float().to(device), use_video[:, None].to(device),
            use_audio[:, None].to(device),
        ).softmax(1).cpu().where(found.counted[name][:, None], 0)
        for name, (use_video, use_audio) in rows.items()
    }  # fmt: skip
    return replace(found, probability=found.probability | probability), weights


def fit(
    video: Float[Tensor, "b k"],
    audio: Float[Tensor, "b k"],
    has_video: Bool[Tensor, " b"],
    has_audio: Bool[Tensor, " b"],
    label: Int64[Tensor, " b"],
) -> ScoreWeights:
    """The weights that minimise the negative log-likelihood of the labels, from the logits of both
    modality heads, in float64.

    The whole weight goes to one modality where the other one adds nothing to it. A modality that no
    clip has keeps temperature 1; where no clip has both, the weight stays 1 / 2.
    """
    # Copies: what was computed in inference mode has no part in a gradient.
    label, has_video, has_audio = label.clone(), has_video.clone(), has_audio.clone()
    both, some = has_video & has_audio, has_video | has_audio
    video = video.double().masked_fill(~has_video[:, None], 0)
    audio = audio.double().masked_fill(~has_audio[:, None], 0)

    def loss(share: Tensor, logs: Tensor) -> Tensor:
        """Mean over the clips that have a modality; `logs`: of the temperatures."""
        of_video, of_audio = _of_label(video, logs[0], label), _of_label(audio, logs[1], label)
        mixed = torch.logaddexp(of_video + share.log(), of_audio + (1 - share).log())
        said = torch.where(both, mixed, torch.where(has_video, of_video, of_audio))
        return -said.masked_fill(~some, 0).sum() / some.sum().clamp(min=1)

    # Each modality alone says where to look for both.
    alone = [_log_temperature(video[has_video], label[has_video]),
             _log_temperature(audio[has_audio], label[has_audio])]  # fmt: skip
    if both.any():
        best = min((_minimised(loss, 0.5, start) for start in (alone, [0.0, 0.0])),
                   key=lambda one: one.nll)  # fmt: skip
        end = min((_minimised(loss, share, alone, fixed=True) for share in (1.0, 0.0)),
                  key=lambda one: one.nll)  # fmt: skip
        best = end if end.nll <= best.nll + _TIE else best
    else:
        best = _minimised(loss, 0.5, alone, fixed=True)
    zero = torch.zeros(2, dtype=torch.float64)
    return ScoreWeights(
        video_weight=best.share, video_temperature=math.exp(best.logs[0]),
        audio_temperature=math.exp(best.logs[1]), nll=best.nll,
        nll_average=float(loss(torch.tensor(0.5).double(), zero)), num_clips=int(both.sum()),
    )  # fmt: skip


class _Point(NamedTuple):
    """A local minimum."""

    nll: float
    share: float
    logs: tuple[float, float]


def _of_label(logits: Tensor, log_temperature: Tensor, label: Tensor) -> Tensor:
    """Logarithm of the probability (b) of the right class."""
    return (logits * (-log_temperature).exp()).log_softmax(1).gather(1, label[:, None])[:, 0]


def _log_temperature(logits: Tensor, label: Tensor) -> float:
    """Of one modality alone; 0 without clips."""
    if not len(label):
        return 0.0
    free = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    _descend(lambda: -_of_label(logits, _bounded(free[0]), label).mean(), free)
    return _bounded(free.detach()[0]).item()


def _minimised(
    loss: Callable[[Tensor, Tensor], Tensor],
    share: float,
    logs: Sequence[float],
    *,
    fixed: bool = False,
) -> _Point:
    """The minimum that lies below this start; `fixed`: of the temperatures only."""
    start = torch.tensor(logs, dtype=torch.float64) / _MOST
    unbounded = _MOST * start.clamp(-0.999, 0.999).atanh()
    given = torch.tensor(share, dtype=torch.float64)
    free = torch.cat([torch.zeros(1).double(), unbounded]).requires_grad_()

    def at() -> tuple[Tensor, Tensor]:
        return given if fixed else free[0].sigmoid(), _bounded(free[1:])

    _descend(lambda: loss(*at()), free)
    with torch.no_grad():
        found, temperatures = at()
        nll = float(loss(found, temperatures))
    return _Point(nll, float(found), (float(temperatures[0]), float(temperatures[1])))


def _bounded(free: Tensor) -> Tensor:
    """A logarithm of a temperature within its limits, smooth, and as it is near 0."""
    return _MOST * (free / _MOST).tanh()


def _descend(loss: Callable[[], Tensor], free: Tensor) -> None:
    """Minimise over `free`, in place."""
    optimizer = torch.optim.LBFGS(
        [free], max_iter=200, tolerance_grad=1e-9, tolerance_change=1e-12,
        line_search_fn="strong_wolfe",
    )  # fmt: skip

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = loss()
        value.backward()
        return value

    optimizer.step(closure)
