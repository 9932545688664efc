"""Joint encoders: frames and audio of a clip together to a feature vector of each modality.

Inside, the modalities may look at each other, so that the feature of one depends on both. What must
not depend on anything is a modality that a clip does not have: its input is zeros, whatever stands
in the batch, and `Joint.has_video` and `Joint.has_audio` tell the stages to leave it out.
"""

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, NamedTuple

from jaxtyping import Bool, Float
from torch import Tensor

from avmix.models.encoder import AnyEncoder, AudioSpec, VideoSpec
from avmix.models.hidden import Joint


@dataclass(frozen=True, slots=True, kw_only=True)
class JointSpec:
    """Input that a joint encoder requires."""

    video: VideoSpec
    audio: AudioSpec


class Widths(NamedTuple):
    """Of the feature vectors."""

    video: int
    audio: int


class JointEncoder(AnyEncoder):
    """Base class of joint encoders: `stages` map a `Joint` to a `Joint`, one after the other, and
    `pool` the last one to a `Joint` of feature vectors. A subclass sets the declared attributes and
    defines `pool`.

    Between two stages clips are mixed, `video` and `audio` each with its own weight.
    """

    spec: JointSpec
    """What the encoder must be given."""
    num_features: Widths
    """Widths of the feature vectors."""

    def forward(
        self,
        video: Float[Tensor, "b c t h w"],
        audio: Float[Tensor, "b channels *rest"],
        has_video: Bool[Tensor, " b"],
        has_audio: Bool[Tensor, " b"],
    ) -> Joint:
        """Feature vectors (b dv) and (b da)."""
        x = whole(video, audio, has_video, has_audio)
        for stage in self.stages:
            x = self.run_stage(stage, x)
        return self.pool(x)

    @abstractmethod
    def pool(self, x: Any) -> Joint:
        """Reduce the output of the last stage to the feature vectors."""


def whole(video: Tensor, audio: Tensor, has_video: Tensor, has_audio: Tensor) -> Joint:
    """What the first stage is given: zeros for what a clip does not have."""
    return Joint(blank(video, has_video), blank(audio, has_audio), has_video, has_audio)


def blank(x: Tensor, has: Tensor) -> Tensor:
    """`x` (b ...) with zeros for the clips that do not have it: not even nan gets through."""
    return x.masked_fill(~has.view(-1, *[1] * (x.ndim - 1)), 0)
