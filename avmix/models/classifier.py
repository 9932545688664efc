"""The whole network: two encoders, late fusion, three heads."""

from typing import NamedTuple

from jaxtyping import Bool, Float
from torch import Tensor, nn

from avmix.config import ModelConfig
from avmix.models.audio import AudioEncoder
from avmix.models.fusion import ConcatFusion
from avmix.models.video import VideoEncoder
from avmix.types import Heads


class Features(NamedTuple):
    """What the encoders give: one vector per clip and modality."""

    video: Float[Tensor, "b dv"]
    audio: Float[Tensor, "b da"]


class LateFusionClassifier(nn.Module):
    """One encoder per modality; fused, video and audio logits."""

    def __init__(self, video: VideoEncoder, audio: AudioEncoder, fusion: ConcatFusion) -> None:
        """Takes the parts; `build_model` makes them from a configuration."""
        super().__init__()
        self.video = video
        self.audio = audio
        self.fusion = fusion

    def encode(
        self, video: Float[Tensor, "b c t h w"], audio: Float[Tensor, "b 1 m f"]
    ) -> Features:
        """The features before fusion; with `fusion`, several questions cost one encoding."""
        return Features(self.video(video), self.audio(audio))

    def forward(
        self,
        video: Float[Tensor, "b c t h w"],
        audio: Float[Tensor, "b 1 m f"],
        has_video: Bool[Tensor, " b"],
        has_audio: Bool[Tensor, " b"],
    ) -> Heads:
        """Logits of each head."""
        return self.fusion(*self.encode(video, audio), has_video, has_audio)


def build_model(config: ModelConfig, num_classes: int) -> LateFusionClassifier:
    """The network of `config`, freshly initialised from torch's generator."""
    video = VideoEncoder(config.video_channels)
    audio = AudioEncoder(config.audio_channels)
    fusion = ConcatFusion(video.num_features, audio.num_features, num_classes, config.dropout)
    return LateFusionClassifier(video, audio, fusion)
