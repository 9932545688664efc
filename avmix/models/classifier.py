"""The classifier: two encoders, late fusion, three heads, and mixing of hidden representations."""

from typing import Any, NamedTuple

from jaxtyping import Bool, Float
from torch import Tensor, nn

from avmix.config import ClipConfig, FrontendConfig, ModelConfig, TrainConfig
from avmix.config.mix_method import parse_mix_method
from avmix.config.unused_options import value_at
from avmix.mix.hidden_mix import HiddenMix
from avmix.models.absent_encoder import AbsentEncoder
from avmix.models.encoder import AudioSpec, Encoder, VideoSpec
from avmix.models.encoder_names import audio_encoder, video_encoder
from avmix.models.fusion import Fusion
from avmix.models.fusion_names import build_fusion
from avmix.types import Heads


class Features(NamedTuple):
    """Inputs of fusion: one feature vector per clip and modality."""

    video: Float[Tensor, "b dv"]
    audio: Float[Tensor, "b da"]


class Output(NamedTuple):
    """Output of the network for a batch."""

    logits: Heads
    """(b k) of each head."""
    features: Features
    """That the logits were made from."""


class LateFusionClassifier(nn.Module):
    """Late-fusion network: one encoder per modality; fused, video and audio logits."""

    def __init__(
        self, video: Encoder, audio: Encoder, fusion: Fusion, shared_width: int = 0
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

    @property
    def pixels(self) -> VideoSpec | None:
        """Mean and deviation by which frames must be normalised; None: any."""
        return self.video.spec if isinstance(self.video.spec, VideoSpec) else None

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
        x = encoder.run_stage(stage, x)
    if mix is not None and weight is not None and mix.stage == len(encoder.stages):
        x = mix.blend(x, weight)
    return encoder.pool(x)


_CLIP, _FRONTEND = ClipConfig(), FrontendConfig()


def build_model(
    config: ModelConfig,
    num_classes: int,
    *,
    clip: ClipConfig = _CLIP,
    frontend: FrontendConfig = _FRONTEND,
    load_weights: bool = True,
    binary: bool = False,
) -> LateFusionClassifier:
    """Build the network of `config`, randomly initialised from torch's generator, for clips as
    described by `clip` and `frontend`.

    `load_weights`: begin with those that `config` names; not where a checkpoint gives them all.
    `binary`: logits are of sigmoids (loss.kind binary), which matters to the fusion `average`.
    Raises ValueError, which names the option, for an encoder that there is none of, that wants
    other clips, or whose weights do not fit.
    """
    video: Encoder | None = None
    audio: Encoder | None = None
    if config.modalities != "audio":
        video = video_encoder(config.video, clip, load_weights=load_weights)
    if config.modalities != "video":
        audio = audio_encoder(config.audio, clip, frontend, load_weights=load_weights)
    if video is None or audio is None:
        num_stages = sum(len(one.stages) for one in (video, audio) if one is not None)
        video = video or AbsentEncoder(VideoSpec(), num_stages)
        audio = audio or AbsentEncoder(AudioSpec(), num_stages)
    widths = [config.shared_width or encoder.num_features for encoder in (video, audio)]
    fusion = build_fusion(config, widths[0], widths[1], num_classes, binary)
    return LateFusionClassifier(video, audio, fusion, config.shared_width)


def check_layers(model: LateFusionClassifier, config: TrainConfig) -> None:
    """Raise ValueError where clips are to be mixed after more stages than an encoder has."""
    if all(parse_mix_method(word).level != "layer" for word in config.mix.mix_methods):
        return
    encoders = {"video": model.video, "audio": model.audio}
    stages = {name: len(encoder.stages) for name, encoder in encoders.items()}
    least = min(stages, key=lambda name: stages[name])
    if max(config.mix.layers) <= stages[least]:
        return
    which = value_at(config.model, least).encoder
    why = "" if stages[least] else ", which cannot be cut"
    raise ValueError(
        f"mix.layers must be <= the number of stages of both encoders (={stages[least]}: "
        f"model.{least}.encoder {which}{why}), got {config.mix.layers}"
    )
