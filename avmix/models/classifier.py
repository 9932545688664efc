"""The whole network: two encoders, late fusion, three heads; and mixing inside of it."""

from typing import Any, NamedTuple

from jaxtyping import Bool, Float
from torch import Tensor, nn

from avmix.config import ModelConfig
from avmix.mix.hidden import HiddenMix
from avmix.models.audio import AudioEncoder
from avmix.models.encoder import Encoder
from avmix.models.fusion import ConcatFusion
from avmix.models.video import VideoEncoder
from avmix.types import Heads


class Features(NamedTuple):
    """What goes into fusion: one vector per clip and modality."""

    video: Float[Tensor, "b dv"]
    audio: Float[Tensor, "b da"]


class Output(NamedTuple):
    """What the network says of a batch."""

    logits: Heads
    """(b k) of each head."""
    features: Features
    """That the logits were made from."""


class LateFusionClassifier(nn.Module):
    """One encoder per modality; fused, video and audio logits."""

    def __init__(
        self, video: Encoder, audio: Encoder, fusion: ConcatFusion, shared_width: int = 0
    ) -> None:
        """Takes the parts; `build_model` makes them from a configuration.

        With `shared_width`, features of both encoders are projected into one space of that width,
        from which `fusion` takes them.
        """
        super().__init__()
        self.video = video
        self.audio = audio
        self.to_shared = nn.ModuleList(
            nn.Linear(encoder.num_features, shared_width)
            for encoder in (video, audio)
            if shared_width
        )
        self.fusion = fusion

    def encode(
        self,
        video: Float[Tensor, "b c t h w"],
        audio: Float[Tensor, "b channels m f"],
        mix: HiddenMix | None = None,
    ) -> Features:
        """The features before fusion; with `fusion`, several questions cost one encoding.

        `mix`: what is mixed on the way, after the same number of stages in both encoders, or of the
        features themselves; of n clips, then, where the plan has fewer than it reads.
        """
        v = _run(self.video, video, mix, mix.video if mix else None)
        a = _run(self.audio, audio, mix, mix.audio if mix else None)
        if self.to_shared:
            v, a = self.to_shared[0](v), self.to_shared[1](a)
        return Features(*mix.features(v, a)) if mix else Features(v, a)

    def forward(
        self,
        video: Float[Tensor, "b c t h w"],
        audio: Float[Tensor, "b channels m f"],
        has_video: Bool[Tensor, " n"],
        has_audio: Bool[Tensor, " n"],
        mix: HiddenMix | None = None,
    ) -> Output:
        """Logits of each head and the features under them; `has_*`: what of a clip, after mixing,
        may be used."""
        features = self.encode(video, audio, mix)
        return Output(self.fusion(*features, has_video, has_audio), features)


def _run(encoder: Encoder, x: Any, mix: HiddenMix | None, weight: Tensor | None) -> Tensor:
    """The encoder stage by stage, mixed where `mix` says."""
    for number, stage in enumerate(encoder.stages):
        if mix is not None and weight is not None and mix.stage == number:
            x = mix.blend(x, weight)
        x = stage(x)
    if mix is not None and weight is not None and mix.stage == len(encoder.stages):
        x = mix.blend(x, weight)
    return encoder.pool(x)


def build_model(
    config: ModelConfig, num_classes: int, *, audio_inputs: int = 1
) -> LateFusionClassifier:
    """The network of `config`, freshly initialised from torch's generator.

    `audio_inputs`: spectrograms of a clip, 2 for stereo (`ClipConfig.audio_channels`).
    """
    video = VideoEncoder(config.video_channels)
    audio = AudioEncoder(config.audio_channels, audio_inputs)
    widths = [config.shared_width or encoder.num_features for encoder in (video, audio)]
    fusion = ConcatFusion(widths[0], widths[1], num_classes, config.dropout)
    return LateFusionClassifier(video, audio, fusion, config.shared_width)
