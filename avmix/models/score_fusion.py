"""Fusions of what the modality heads say: mean of their scores, weighted mean, product of experts.

The modality heads are what is combined, so they share nothing else with the fused head.
"""

import math
from abc import abstractmethod
from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from avmix.config import Missing
from avmix.label_sets import LabelSet
from avmix.models.fusion import Fusion
from avmix.models.set_softmax import log_softmax
from avmix.types import Heads


class ScoreFusion(Fusion):
    """One linear layer on each feature; the fused logits are made from their logits alone."""

    def __init__(
        self,
        num_video: int,
        num_audio: int,
        num_classes: int,
        dropout: float,
        missing: Missing = "mask",
        binary: bool = False,
        sets: Sequence[LabelSet] = (),
    ) -> None:
        """As `Fusion`; `binary`: logits are of sigmoids, a decision for each class by itself;
        `sets`: a distribution over the classes of each of these."""
        super().__init__(num_video, num_audio, num_classes, dropout, missing)
        self._binary = binary
        self._sets = sets
        self.video = nn.Linear(num_video, num_classes)
        self.audio = nn.Linear(num_audio, num_classes)

    def heads(self, video: Tensor, audio: Tensor, use_video: Tensor, use_audio: Tensor) -> Heads:
        """As `Fusion.heads`."""
        of_video, of_audio = self.video(video), self.audio(audio)
        fused = self.combined(of_video, of_audio, use_video[:, None], use_audio[:, None])
        return Heads(fused=fused, video=of_video, audio=of_audio)

    @abstractmethod
    def combined(
        self,
        video: Float[Tensor, "b k"],
        audio: Float[Tensor, "b k"],
        use_video: Bool[Tensor, "b 1"],
        use_audio: Bool[Tensor, "b 1"],
    ) -> Float[Tensor, "b k"]:
        """The fused logits."""


class AverageFusion(ScoreFusion):
    """Mean of the probabilities of the modalities that are there:
    softmax(fused) = (softmax(l_v) + softmax(l_a)) / 2.

    The sum rule of Kittler et al., "On combining classifiers" (PAMI 1998), and what two-stream
    networks do (Simonyan and Zisserman, NeurIPS 2014). Fused logits are logarithms of the mean;
    without any modality, uniform. Computed in float32. For sigmoids likewise, class by class:
    sigmoid(fused) = (sigmoid(l_v) + sigmoid(l_a)) / 2, and 1/2 without any modality.
    """

    def combined(
        self, video: Tensor, audio: Tensor, use_video: Tensor, use_audio: Tensor
    ) -> Float[Tensor, "b k"]:
        """ln of the mean probability; of sigmoids ln(p / (1 - p)) of the mean p."""
        if self._binary:
            # In place of a modality that is not there the other one, in place of both a half.
            of_video = torch.where(use_video, video.float(), audio.float() * use_audio)
            of_audio = torch.where(use_audio, audio.float(), video.float() * use_video)
            yes = torch.logaddexp(logsigmoid(of_video), logsigmoid(of_audio))
            return yes - torch.logaddexp(logsigmoid(-of_video), logsigmoid(-of_audio))
        of_video = log_softmax(video.float(), self._sets)
        of_audio = log_softmax(audio.float(), self._sets)
        first, second = _in_place_of_each_other(
            of_video, of_audio, use_video, use_audio, self._sets
        )
        return torch.logaddexp(first, second) - math.log(2)


class WeightedFusion(ScoreFusion):
    """Weighted mean of the probabilities, each at a temperature of its own:
    softmax(fused) = w softmax(l_v / T_v) + (1 - w) softmax(l_a / T_a).

    The linear opinion pool (Stone, 1961) of two calibrated predictions (temperature scaling, Guo
    et al., ICML 2017). w, T_v and T_a are no parameters: `avmix.training.score_weights` fits them
    to validation clips; until then they are those of the plain average, 1 / 2, 1 and 1. A missing
    modality leaves its weight to the other one, whatever `missing` says; without any modality,
    uniform. Computed in float32.
    """

    def __init__(
        self,
        num_video: int,
        num_audio: int,
        num_classes: int,
        dropout: float,
        missing: Missing = "mask",
        binary: bool = False,
        sets: Sequence[LabelSet] = (),
    ) -> None:
        """As `Fusion`; `missing` cannot act. Raises ValueError for sigmoids (`binary`) and label
        sets."""
        if binary:
            raise ValueError("weighted fusion averages distributions over classes, not sigmoids")
        if sets:
            raise ValueError("weighted fusion is of one distribution, not one for each label set")
        super().__init__(num_video, num_audio, num_classes, dropout, "mask")
        self.video_weight: Tensor
        self.video_temperature: Tensor
        self.audio_temperature: Tensor
        self.register_buffer("video_weight", torch.tensor(0.5))
        self.register_buffer("video_temperature", torch.tensor(1.0))
        self.register_buffer("audio_temperature", torch.tensor(1.0))

    def set_weights(
        self,
        video_weight: float = 0.5,
        video_temperature: float = 1.0,
        audio_temperature: float = 1.0,
    ) -> None:
        """w in [0, 1], T_v > 0 and T_a > 0; by default those of the plain average."""
        self.video_weight.fill_(video_weight)
        self.video_temperature.fill_(video_temperature)
        self.audio_temperature.fill_(audio_temperature)

    def combined(
        self, video: Tensor, audio: Tensor, use_video: Tensor, use_audio: Tensor
    ) -> Float[Tensor, "b k"]:
        """ln of the weighted mean probability."""
        of_video = (video.float() / self.video_temperature).log_softmax(1)
        of_audio = (audio.float() / self.audio_temperature).log_softmax(1)
        first, second = _in_place_of_each_other(of_video, of_audio, use_video, use_audio)
        weight = self.video_weight.float()
        return torch.logaddexp(first + weight.log(), second + (1 - weight).log())


class ProductFusion(ScoreFusion):
    """Product of experts: softmax(fused) is proportional to softmax(l_v) softmax(l_a), of the
    modalities that are there; fused = l_v + l_a.

    Hinton, "Training products of experts by minimizing contrastive divergence" (Neural Computation
    2002); the product rule of Kittler et al. (PAMI 1998) for equally frequent classes. For sigmoids
    likewise, class by class. Without any modality, all logits are zero.
    """

    def combined(
        self, video: Tensor, audio: Tensor, use_video: Tensor, use_audio: Tensor
    ) -> Float[Tensor, "b k"]:
        """The sum of logits."""
        return video * use_video + audio * use_audio


def _in_place_of_each_other(
    video: Tensor,
    audio: Tensor,
    use_video: Tensor,
    use_audio: Tensor,
    sets: Sequence[LabelSet] = (),
) -> tuple[Tensor, Tensor]:
    """Logarithms of probabilities (b k); in place of a modality that is not to be used, the other
    one, so that any mean of both is that one; of none, uniform (in each of `sets`)."""
    uniform = torch.full_like(video, -math.log(video.shape[1]))
    for one in sets:
        uniform[:, one.columns] = -math.log(one.num_classes)
    first = torch.where(use_video, video, torch.where(use_audio, audio, uniform))
    second = torch.where(use_audio, audio, torch.where(use_video, video, uniform))
    return first, second
