"""Fusions of what the modality heads say: mean of their scores, product of experts.

The modality heads are what is combined, so they share nothing else with the fused head.
"""

import math
from abc import abstractmethod

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from avmix.config import Missing
from avmix.models.fusion import Fusion
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
    ) -> None:
        """As `Fusion`; `binary`: logits are of sigmoids, a decision for each class by itself."""
        super().__init__(num_video, num_audio, num_classes, dropout, missing)
        self._binary = binary
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
        of_video, of_audio = video.float().log_softmax(1), audio.float().log_softmax(1)
        uniform = torch.full_like(of_video, -math.log(of_video.shape[1]))
        # In place of a modality that is not there, the other one: their mean is then that one.
        first = torch.where(use_video, of_video, torch.where(use_audio, of_audio, uniform))
        second = torch.where(use_audio, of_audio, torch.where(use_video, of_video, uniform))
        return torch.logaddexp(first, second) - math.log(2)


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
