"""Late fusion of the features of both modalities, with masks for missing ones."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from avmix.types import Heads

MOMENTUM = 0.1
"""Share of a batch in the running statistics, as in torch's batch normalisation."""


class FeatureNorm(nn.Module):
    """Normalisation of each feature to mean 0 and deviation 1 over clips, then an affine map; zeros
    where missing.

    y = (x - mean) / sqrt(var + 1e-5) * weight + bias, as in batch normalisation (Ioffe and Szegedy,
    2015), with statistics of the clips that have the modality only. What all clips have in common
    is removed from each feature, and from its gradient, which layer normalisation, over the
    features of one clip, does not do: an encoder then leaves its first plateau sooner
    (docs/learning.md).
    """

    def __init__(self, num_features: int) -> None:
        """Weight 1, bias 0; running statistics of mean 0 and variance 1."""
        super().__init__()
        self.weight = nn.Parameter(torch.ones(num_features))
        self.bias = nn.Parameter(torch.zeros(num_features))
        self.mean: Tensor
        self.var: Tensor
        self.register_buffer("mean", torch.zeros(num_features))
        self.register_buffer("var", torch.ones(num_features))

    def forward(self, x: Float[Tensor, "b d"], present: Bool[Tensor, " b"]) -> Float[Tensor, "b d"]:
        """Computed in float32; in training with the statistics of the batch, which the running ones
        follow where at least two clips have the modality."""
        dtype, x, keep = x.dtype, x.float(), present[:, None]
        mean, var = self._statistics(x, keep) if self.training else (self.mean, self.var)
        normalised = (x - mean) * (var + 1e-5).rsqrt() * self.weight + self.bias
        return normalised.masked_fill(~keep, 0).to(dtype)

    def _statistics(self, x: Tensor, keep: Tensor) -> tuple[Tensor, Tensor]:
        x = x.masked_fill(~keep, 0)  # whatever it is: not even nan times zero is zero
        num = keep.sum()
        mean = x.sum(0) / num.clamp(min=1)
        var = (x - mean).masked_fill(~keep, 0).square().sum(0) / num.clamp(min=1)
        with torch.no_grad():
            share = MOMENTUM * (num >= 2)  # on the device: nothing waits for how many there are
            unbiased = var * num / (num - 1).clamp(min=1)
            for running, found in ((self.mean, mean), (self.var, unbiased)):
                running.copy_(torch.lerp(running.float(), found, share))
        return mean, var


class ConcatFusion(nn.Module):
    """Fusion by concatenation: one linear head on both features, and one on each feature alone.

    The feature of a missing modality is zeros, after its normalisation, whatever the encoder
    returns for the empty input: a missing modality adds nothing but the bias of the head.
    """

    def __init__(self, num_video: int, num_audio: int, num_classes: int, dropout: float) -> None:
        """Widths of the two features, number of classes, dropout probability before each head."""
        super().__init__()
        self.norm_video = FeatureNorm(num_video)
        self.norm_audio = FeatureNorm(num_audio)
        self.dropout = nn.Dropout(dropout)
        self.fused = nn.Linear(num_video + num_audio, num_classes)
        self.video = nn.Linear(num_video, num_classes)
        self.audio = nn.Linear(num_audio, num_classes)

    def forward(
        self,
        video: Float[Tensor, "b dv"],
        audio: Float[Tensor, "b da"],
        has_video: Bool[Tensor, " b"],
        has_audio: Bool[Tensor, " b"],
    ) -> Heads:
        """Logits of each head."""
        video = self.norm_video(video, has_video)
        audio = self.norm_audio(audio, has_audio)
        video, audio = self.dropout(video), self.dropout(audio)
        return Heads(
            fused=self.fused(torch.cat([video, audio], 1)),
            video=self.video(video),
            audio=self.audio(audio),
        )
