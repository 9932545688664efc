"""The classifier: an encoder of each modality or one of both, late fusion, three heads, and mixing
of hidden representations."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from avmix.config import ClipConfig, FrontendConfig, ModelConfig, TrainConfig
from avmix.config.mix_method import parse_mix_method
from avmix.config.unused_options import value_at
from avmix.label_sets import LabelSet
from avmix.mix.hidden_mix import HiddenMix
from avmix.models.absent_encoder import AbsentEncoder
from avmix.models.encoder import AnyEncoder, AudioSpec, Encoder, VideoSpec
from avmix.models.encoder_names import audio_encoder, video_encoder
from avmix.models.fusion import Fusion
from avmix.models.fusion_guard import FusionGuard
from avmix.models.fusion_names import build_fusion
from avmix.models.hidden import Joint
from avmix.models.joint_encoder import JointEncoder, whole
from avmix.models.joint_names import joint_encoder
from avmix.types import Heads

Frames = Float[Tensor, "b c t h w"] | Float[Tensor, "b dv"]
"""Input of the video encoder; or kept features of it."""
Spectrograms = Float[Tensor, "b channels *rest"] | Float[Tensor, "b da"]
"""Input of the audio encoder, spectrograms or waveforms; or kept features of it."""
Has = tuple[Bool[Tensor, " n"], Bool[Tensor, " n"]]
"""Which clips have frames, and which have audio."""


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
    translation: Float[Tensor, ""] | None = None
    """In training with model.missing translate: error of the predicted features."""


class LateFusionClassifier(nn.Module):
    """Late-fusion network: one encoder per modality; fused, video and audio logits."""

    def __init__(
        self,
        video: Encoder,
        audio: Encoder,
        fusion: Fusion,
        shared_width: int = 0,
        guard: bool = False,
    ) -> None:
        """Takes the parts; `build_model` makes them from a configuration.

        With `shared_width`, features of both encoders are projected into one space of that width,
        from which `fusion` takes them. With `guard`, its logits go through a `FusionGuard`.
        """
        super().__init__()
        self.video = video
        self.audio = audio
        widths = video.num_features, audio.num_features
        self._add_fusion(widths, fusion, shared_width, guard)

    def _add_fusion(
        self, widths: tuple[int, int], fusion: Fusion, shared_width: int, guard: bool
    ) -> None:
        self.to_shared = nn.ModuleList(
            nn.Linear(width, shared_width) for width in widths if shared_width
        )
        self.fusion = fusion
        self.guard = FusionGuard() if guard else None

    @property
    def encoders(self) -> dict[str, AnyEncoder]:
        """By their section of the configuration: `video` and `audio`, or `joint`."""
        return {"video": self.video, "audio": self.audio}

    @property
    def pixels(self) -> VideoSpec | None:
        """Mean and deviation by which frames must be normalised; None: any."""
        return self.video.spec if isinstance(self.video.spec, VideoSpec) else None

    def encode(
        self,
        video: Frames,
        audio: Spectrograms,
        mix: HiddenMix | None = None,
        has: Has | None = None,
    ) -> Features:
        """The features before fusion; with `fusion`, several questions cost one encoding.

        `mix`: what is mixed on the way, after the same number of stages in both encoders, or of the
        features themselves; of n clips, then, where the plan has fewer than it reads. `has`: which
        of the n have frames, and which audio; a joint encoder looks at nothing else.
        """
        v = _run(self.video, video, mix, mix.video if mix else None)
        a = _run(self.audio, audio, mix, mix.audio if mix else None)
        return self._features(v, a, mix)

    def _features(self, v: Tensor, a: Tensor, mix: HiddenMix | None) -> Features:
        if self.to_shared:
            v, a = self.to_shared[0](v), self.to_shared[1](a)
        return Features(*mix.features(v, a)) if mix else Features(v, a)

    def forward(
        self,
        video: Frames,
        audio: Spectrograms,
        has_video: Bool[Tensor, " n"],
        has_audio: Bool[Tensor, " n"],
        mix: HiddenMix | None = None,
    ) -> Output:
        """Logits of each head and the features under them; `has_*`: what of a clip, after mixing,
        may be used."""
        features = self.encode(video, audio, mix, (has_video, has_audio))
        heads, translation = self.fusion.with_translation(*features, has_video, has_audio)
        if self.guard is not None:
            heads = self.guard(heads, has_video, has_audio)
        return Output(heads, features, translation)

    def _heads(self, features: Features, has: Has) -> Heads:
        """Logits of each head from the features."""
        heads = self.fusion(*features, *has)
        return heads if self.guard is None else self.guard(heads, *has)

    def heads_of(
        self,
        video: Frames,
        audio: Spectrograms,
        several: Sequence[Has],
    ) -> list[Heads]:
        """Logits of the same clips for each of `several`: what of them may be used."""
        features = self.encode(video, audio)
        return [self._heads(features, has) for has in several]


class JointClassifier(LateFusionClassifier):
    """One encoder of both modalities, then late fusion of its two features, as of any.

    Its modality heads see their own feature only; but what the encoder has put into it depends on
    both modalities of a clip that has both.
    """

    def __init__(
        self, joint: JointEncoder, fusion: Fusion, shared_width: int = 0, guard: bool = False
    ) -> None:
        """As `LateFusionClassifier`; there is no `video` and no `audio`."""
        nn.Module.__init__(self)
        self.joint = joint
        self._add_fusion(joint.num_features, fusion, shared_width, guard)

    @property
    def encoders(self) -> dict[str, AnyEncoder]:
        """The one, as `joint`."""
        return {"joint": self.joint}

    @property
    def pixels(self) -> VideoSpec | None:
        """As of `LateFusionClassifier`."""
        return self.joint.spec.video

    def encode(
        self,
        video: Frames,
        audio: Spectrograms,
        mix: HiddenMix | None = None,
        has: Has | None = None,
    ) -> Features:
        """As of `LateFusionClassifier`; without `has`, clips have both. What `mix.has` says that
        the clips have before they are mixed is what the stages before the mix look at."""
        everything = video.new_ones(video.shape[0], dtype=torch.bool)
        after = has or (everything, everything)
        before = mix.has if mix is not None and mix.has is not None else after
        x = whole(video, audio, *before)
        for number, stage in enumerate(self.joint.stages):
            x = self.joint.run_stage(stage, _mixed(x, mix, number, after))
        x = self.joint.pool(_mixed(x, mix, len(self.joint.stages), after))
        return self._features(x.video, x.audio, mix)

    def heads_of(
        self,
        video: Frames,
        audio: Spectrograms,
        several: Sequence[Has],
    ) -> list[Heads]:
        """As of `LateFusionClassifier`, with an encoding for each of `several`: the feature of a
        modality is another one without the other."""
        return [self._heads(self.encode(video, audio, None, has), has) for has in several]


def _mixed(x: Joint, mix: HiddenMix | None, number: int, has: Has) -> Joint:
    """`x`, mixed where `mix` says that it is after so many stages."""
    if mix is None or mix.stage != number:
        return x
    return Joint(mix.blend(x.video, mix.video), mix.blend(x.audio, mix.audio), *has)


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
    sets: Sequence[LabelSet] = (),
) -> LateFusionClassifier:
    """Build the network of `config`, randomly initialised from torch's generator, for clips as
    described by `clip` and `frontend`.

    `load_weights`: begin with those that `config` names; not where a checkpoint gives them all.
    `binary`: logits are of sigmoids (loss.kind binary), or `sets`: of a distribution over the
    classes of each label set, which matters to the fusion `average`.
    Raises ValueError, which names the option, for an encoder that there is none of, that wants
    other clips, or whose weights do not fit.
    """
    if config.joint.encoder:
        joint = joint_encoder(config.joint, clip, frontend, load_weights=load_weights)
        of_video, of_audio = (config.shared_width or width for width in joint.num_features)
        fusion = build_fusion(config, of_video, of_audio, num_classes, binary, sets)
        return JointClassifier(joint, fusion, config.shared_width, config.guard)
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
    fusion = build_fusion(config, widths[0], widths[1], num_classes, binary, sets)
    return LateFusionClassifier(video, audio, fusion, config.shared_width, config.guard)


def check_layers(model: LateFusionClassifier, config: TrainConfig) -> None:
    """Raise ValueError where clips are to be mixed after more stages than an encoder has."""
    if all(parse_mix_method(word).level != "layer" for word in config.mix.mix_methods):
        return
    stages = {name: len(encoder.stages) for name, encoder in model.encoders.items()}
    least = min(stages, key=lambda name: stages[name])
    if max(config.mix.layers) <= stages[least]:
        return
    which = value_at(config.model, least).encoder
    why = "" if stages[least] else ", which cannot be cut"
    whose = "of the encoder" if least == "joint" else "of both encoders"
    raise ValueError(
        f"mix.layers must be <= the number of stages {whose} (={stages[least]}: "
        f"model.{least}.encoder {which}{why}), got {config.mix.layers}"
    )
