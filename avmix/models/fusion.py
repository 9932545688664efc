"""Base class of fusions, and concatenation, the default.

A fusion normalises each feature over clips, puts something in place of a missing one, and returns
the logits of three heads. Those of the modality heads depend on their own modality only.
"""

from abc import ABC, abstractmethod

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from avmix.config import Missing, ModalityHeads
from avmix.models.translation import Translation
from avmix.types import Heads

MOMENTUM = 0.1
"""Share of a batch in the running statistics, as in torch's batch normalisation."""
_HUGE = 1e30
"""From here on normalisation could overflow."""


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
        dtype, x = x.dtype, x.float()
        absent = None if _nothing_to_blank(x, present) else ~present[:, None]
        mean, var = (self.mean, self.var)
        if self.training:
            mean, var = self._statistics(x, present.sum(), absent)
        if absent is not None:
            # What an encoder gives for a missing modality may be nan, and nan times a gradient of
            # zero is nan, too. After the statistics, and nothing else is replaced: another order
            # of the same sums has other last digits.
            x = x.masked_fill(absent & ~(x.abs() < _HUGE), 0)
        normalised = (x - mean) * (var + 1e-5).rsqrt() * self.weight + self.bias
        return _blanked(normalised, absent).to(dtype)

    def _statistics(self, x: Tensor, num: Tensor, absent: Tensor | None) -> tuple[Tensor, Tensor]:
        x = _blanked(x, absent)  # whatever it is: not even nan times zero is zero
        mean = x.sum(0) / num.clamp(min=1)
        var = _blanked(x - mean, absent).square().sum(0) / num.clamp(min=1)
        with torch.no_grad():
            share = MOMENTUM * (num >= 2)  # on the device: nothing waits for how many there are
            unbiased = var * num / (num - 1).clamp(min=1)
            for running, found in ((self.mean, mean), (self.var, unbiased)):
                running.copy_(torch.lerp(running.float(), found, share))
        return mean, var


def _nothing_to_blank(x: Tensor, present: Tensor) -> bool:
    """True where every clip has the modality, if that is worth asking: on a GPU it would wait, and
    with a gradient of `x` the terms of that would be added up in another order."""
    if x.is_cuda or x.requires_grad or torch.compiler.is_compiling():
        return False
    return bool(present.all())


def _blanked(x: Tensor, absent: Tensor | None) -> Tensor:
    """Zeros for the clips that are `absent`; None: there are none."""
    return x if absent is None else x.masked_fill(absent, 0)


class Fusion(nn.Module, ABC):
    """Features of both modalities to logits of the fused, the video and the audio head.

    What stands in place of a missing feature (`missing`), after its normalisation:

    * `mask`: zeros, and the modality is left out of every mean, gate and attention;
    * `mean`: the mean of the feature over clips, which is the bias of its normalisation;
    * `learned`: a vector that is learned, zeros at first;
    * `translate`: what a network predicts from the other feature, normalised as well.

    With all but `mask` the modality then takes part as if the clip had it.
    """

    def __init__(
        self, num_video: int, num_audio: int, num_classes: int, dropout: float, missing: Missing
    ) -> None:
        """Widths of the two features, number of classes, dropout probability before each head."""
        super().__init__()
        self.norm_video = FeatureNorm(num_video)
        self.norm_audio = FeatureNorm(num_audio)
        self.dropout = nn.Dropout(dropout)
        self.missing: Missing = missing
        if missing == "learned":
            self.missing_video = nn.Parameter(torch.zeros(num_video))
            self.missing_audio = nn.Parameter(torch.zeros(num_audio))
        self.translation = Translation(num_video, num_audio) if missing == "translate" else None

    def forward(
        self,
        video: Float[Tensor, "b dv"],
        audio: Float[Tensor, "b da"],
        has_video: Bool[Tensor, " b"],
        has_audio: Bool[Tensor, " b"],
    ) -> Heads:
        """Logits (b k) of each head."""
        return self.with_translation(video, audio, has_video, has_audio)[0]

    def with_translation(
        self,
        video: Float[Tensor, "b dv"],
        audio: Float[Tensor, "b da"],
        has_video: Bool[Tensor, " b"],
        has_audio: Bool[Tensor, " b"],
    ) -> tuple[Heads, Float[Tensor, ""] | None]:
        """Logits (b k) of each head, and in training with `missing` translate the loss of the
        predictions (`Translation.loss`)."""
        video = self.norm_video(video, has_video)
        audio = self.norm_audio(audio, has_audio)
        loss = None
        if self.translation is not None and self.training:
            loss = self.translation.loss(video, audio, has_video & has_audio)
        if self.missing != "mask":
            no_video, no_audio = self._in_place(video, audio)
            video = torch.where(has_video[:, None], video, no_video)
            audio = torch.where(has_audio[:, None], audio, no_audio)
            has_video, has_audio = torch.ones_like(has_video), torch.ones_like(has_audio)
        video, audio = self.dropout(video), self.dropout(audio)
        return self.heads(video, audio, has_video, has_audio), loss

    def _in_place(self, video: Tensor, audio: Tensor) -> tuple[Tensor, Tensor]:
        """What stands in place of each feature where it is missing, as large as the features."""
        match self.missing:
            case "mask":
                return torch.zeros_like(video), torch.zeros_like(audio)
            case "mean":
                found = self.norm_video.bias, self.norm_audio.bias
            case "learned":
                found = self.missing_video, self.missing_audio
            case "translate":
                assert self.translation is not None
                return self.translation(video, audio)
        return found[0].to(video.dtype).expand_as(video), found[1].to(audio.dtype).expand_as(audio)

    @abstractmethod
    def heads(
        self,
        video: Float[Tensor, "b dv"],
        audio: Float[Tensor, "b da"],
        use_video: Bool[Tensor, " b"],
        use_audio: Bool[Tensor, " b"],
    ) -> Heads:
        """Logits of each head from the normalised features; one that is not to be used is zeros."""


class JointFusion(Fusion):
    """Joins both features into one vector, on which a linear layer is the fused head.

    Modality heads: `own`, a linear layer on each feature; or `shared`, the fused head on the joint
    vector of a clip whose other modality is missing.
    """

    def __init__(
        self,
        num_video: int,
        num_audio: int,
        num_classes: int,
        dropout: float,
        missing: Missing = "mask",
        heads: ModalityHeads = "own",
    ) -> None:
        """As `Fusion`; `heads` as above."""
        super().__init__(num_video, num_audio, num_classes, dropout, missing)
        self.fused = nn.Linear(self.joint_width(num_video, num_audio), num_classes)
        self._shared = heads == "shared"
        if not self._shared:
            self.video = nn.Linear(num_video, num_classes)
            self.audio = nn.Linear(num_audio, num_classes)
        self.add_parts(num_video, num_audio)

    def heads(self, video: Tensor, audio: Tensor, use_video: Tensor, use_audio: Tensor) -> Heads:
        """As `Fusion.heads`."""
        fused = self.fused(self.joint(video, audio, use_video, use_audio))
        if not self._shared:
            return Heads(fused=fused, video=self.video(video), audio=self.audio(audio))
        no_video, no_audio = self._in_place(video, audio)
        filled = torch.full_like(use_video, self.missing != "mask")
        return Heads(
            fused=fused,
            video=self.fused(self.joint(video, no_audio, use_video, filled)),
            audio=self.fused(self.joint(no_video, audio, filled, use_audio)),
        )

    def add_parts(self, num_video: int, num_audio: int) -> None:
        """Modules that `joint` needs; none by default."""

    @abstractmethod
    def joint_width(self, num_video: int, num_audio: int) -> int:
        """d of the joint vector."""

    @abstractmethod
    def joint(
        self,
        video: Float[Tensor, "b dv"],
        audio: Float[Tensor, "b da"],
        use_video: Bool[Tensor, " b"],
        use_audio: Bool[Tensor, " b"],
    ) -> Float[Tensor, "b d"]:
        """The vector that the fused head sees; a feature that is not to be used is zeros."""


class ConcatFusion(JointFusion):
    """Concatenates both features: logits W [v; a] + c.

    With `missing` mask a missing modality adds nothing to the logits, whatever the encoder returns
    for the empty input.
    """

    def joint_width(self, num_video: int, num_audio: int) -> int:
        """Both."""
        return num_video + num_audio

    def joint(
        self, video: Tensor, audio: Tensor, use_video: Tensor, use_audio: Tensor
    ) -> Float[Tensor, "b d"]:
        """[v; a]"""
        return torch.cat([video, audio], 1)


MOST_WIDTH = 512
"""Of a space that features are brought into."""


def common_width(num_video: int, num_audio: int) -> int:
    """Width of the space in which two features meet: of the wider one, at most `MOST_WIDTH`."""
    return min(max(num_video, num_audio), MOST_WIDTH)
