"""Encoders of transformers: VideoMAE, V-JEPA 2, VideoPrism, TimeSformer, ViViT, X-CLIP's vision
tower; the audio spectrogram transformer, CLAP, Wav2Vec2 and HuBERT.

The name is a folder with config.json, or an id of the Hub (from its cache, or its server). Number
and size of frames are those of its configuration, over which the options are put; mean and
deviation those of its processor.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from avmix.config import AudioEncoderConfig, ClipConfig, FrontendConfig, VideoEncoderConfig
from avmix.models.encoder import AudioSpec, Encoder, Positions, VideoSpec
from avmix.models.library_encoder import Chain, Cut, LibraryEncoder, built, chain, groups, imported
from avmix.models.spectrograms import PANNS_HZ
from avmix.models.transformers_config import pixels_of, place_of, processor_of, settings_of
from avmix.models.transformers_waveform import WAVEFORM

AUDIOSET = (-4.2677393, 4.5689974)
"""Mean and deviation of filterbanks where there is no processor."""


class _Network(NamedTuple):
    """How a kind of network is built and cut."""

    classes: str
    """The class of transformers."""
    cut: Callable[[Any], Cut]
    """Takes the classifier away, and whatever else has no part in the features."""
    expects: Callable[..., VideoSpec | AudioSpec]
    """By its configuration; of frames, number and size. Of spectrograms, by that of its processor
    (a mapping, which may be empty), too."""


def video(name: str, config: VideoEncoderConfig, clip: ClipConfig) -> Encoder:
    """`transformers:FOLDER_OR_ID` of `VIDEO`."""
    which = f"model.video.encoder transformers:{name}"
    settings, kind = _configuration(name, config.options, which, VIDEO)
    net = _built(kind, settings, which)
    cut, spec = kind.cut(net), kind.expects(settings)
    assert isinstance(spec, VideoSpec)
    mean, std = pixels_of(name)
    spec = VideoSpec(num_frames=spec.num_frames, size=spec.size, mean=mean, std=std)
    return LibraryEncoder(net, cut, spec)


def audio(
    name: str, config: AudioEncoderConfig, clip: ClipConfig, frontend: FrontendConfig
) -> Encoder:
    """`transformers:FOLDER_OR_ID` of `AUDIO`."""
    which = f"model.audio.encoder transformers:{name}"
    settings, kind = _configuration(name, config.options, which, AUDIO)
    net = _built(kind, settings, which)
    return LibraryEncoder(net, kind.cut(net), kind.expects(settings, processor_of(name)))


def pretrained(
    name: str, config: VideoEncoderConfig | AudioEncoderConfig, channels: int
) -> dict[str, Tensor]:
    """The weights of the folder or of the Hub, under the names that this version of transformers
    has for them, in the shapes of their own configuration. Those that it would make up are left
    out."""
    which = f"transformers:{name}"
    settings, kind = _configuration(name, {}, which, {**VIDEO, **AUDIO})
    found = imported("transformers", which)
    net, said = getattr(found, kind.classes).from_pretrained(
        place_of(name), config=settings, output_loading_info=True, weights_only=True
    )  # fmt: skip
    made_up = {*said["missing_keys"]}
    return {key: value for key, value in net.state_dict().items() if key not in made_up}


def _configuration(
    name: str, options: dict[str, Any], which: str, kinds: dict[str, _Network]
) -> tuple[Any, _Network]:
    settings = settings_of(name, options, which)
    if settings.model_type not in kinds:
        raise ValueError(
            f"{which} is of the kind {settings.model_type!r}; there are {', '.join(kinds)}"
        )
    return settings, kinds[settings.model_type]


def _built(kind: _Network, settings: Any, which: str) -> Any:
    build = getattr(imported("transformers", which), kind.classes)
    return built(lambda: build(settings), which, {})


def _square(size: Any) -> int:
    """Of one number, or of two that are the same."""
    if isinstance(size, int):
        return size
    height, width = size
    if height != width:
        raise ValueError(f"frames are square, the configuration says {height}x{width}")
    return height


# Video --------------------------------------------------------------------------------------------


def _by_image_size(settings: Any) -> VideoSpec:
    return VideoSpec(num_frames=settings.num_frames, size=_square(settings.image_size))


def _by_crop_size(settings: Any) -> VideoSpec:
    return VideoSpec(num_frames=settings.frames_per_clip, size=_square(settings.crop_size))


def _by_vision(settings: Any) -> VideoSpec:
    return _by_image_size(settings.vision_config)


@dataclass(frozen=True, slots=True)
class _Frames:
    """A module that takes frames before colours: (b t c h w)."""

    embed: Any

    def __call__(self, x: Tensor) -> Tensor:
        return self.embed(x.transpose(1, 2))


def _first_token(x: Tensor) -> Tensor:
    return x[:, 0]


def _mean_of_tokens(x: Tensor) -> Tensor:
    return x.mean(1)


def _cut_videomae(net: Any) -> Cut:
    net.classifier, inner = nn.Identity(), net.videomae
    stages = [_Frames(partial(inner.embeddings, bool_masked_pos=None)),
              *groups(inner.encoder.layer)]  # fmt: skip
    pool = (chain(_mean_of_tokens, net.fc_norm) if net.fc_norm is not None
            else chain(inner.layernorm, _first_token))  # fmt: skip
    return Cut(stages=stages, pool=pool, num_features=net.config.hidden_size)


def _cut_vjepa2(net: Any) -> Cut:
    net.classifier, inner = nn.Identity(), net.vjepa2.encoder
    net.vjepa2.predictor = nn.Identity()  # of what is masked: in pre-training only
    return Cut(stages=[_Frames(inner.embeddings), *groups(inner.layer)],
               pool=chain(inner.layernorm, net.pooler),
               num_features=net.config.hidden_size)  # fmt: skip


def _cut_timesformer(net: Any) -> Cut:
    net.classifier, inner = nn.Identity(), net.timesformer
    settings, prefix = net.config, "timesformer.embeddings."
    return Cut(
        stages=[_Frames(inner.embeddings), *groups(inner.encoder.layer)],
        pool=chain(inner.layernorm, _first_token),
        num_features=settings.hidden_size,
        positions={
            f"{prefix}position_embeddings": _patches(settings.image_size, settings.patch_size),
            f"{prefix}time_embeddings": Positions(grid=(settings.num_frames, 1, 1)),
        },
    )


def _patches(image_size: Any, patch_size: int, frames: int = 1, first: int = 1) -> Positions:
    side = _square(image_size) // patch_size
    return Positions(grid=(frames, side, side), first=first)


def _cut_vivit(net: Any) -> Cut:
    net.classifier, inner = nn.Identity(), net.vivit
    depth, patch_size = net.config.tubelet_size[:2]
    at = _patches(net.config.image_size, patch_size, net.config.num_frames // depth)
    return Cut(
        stages=[_Frames(inner.embeddings), *groups(inner.layers)],
        pool=chain(inner.layernorm, _first_token),
        num_features=net.config.hidden_size,
        positions={"vivit.embeddings.position_embeddings": at},
    )


@dataclass(frozen=True, slots=True)
class _PerFrame:
    """Layers that see each frame by itself, of clips (b t n d)."""

    layers: Chain

    def __call__(self, x: Tensor) -> Tensor:
        return self.layers(x.flatten(0, 1)).unflatten(0, x.shape[:2])


@dataclass(frozen=True, slots=True)
class _FrameTokens:
    """Frames (b c t h w) to tokens (b t n d), by a module that gives (b * t n d)."""

    embed: Any
    flat: bool
    """The module takes frames of all clips in a row."""

    def __call__(self, x: Tensor) -> Tensor:
        frames = x.transpose(1, 2)
        given = frames.reshape(-1, *frames.shape[2:]) if self.flat else frames
        return self.embed(given).unflatten(0, (x.shape[0], -1))


def _cut_videoprism(net: Any) -> Cut:
    """Four layers over time follow those over space; between the two, and behind, tokens change
    places."""
    net.classifier, inner = nn.Identity(), net.vision_model
    spatial = [_PerFrame(part) for part in groups(inner.spatial_layers, 3)]
    settings, prefix = net.config, "vision_model."
    at = _patches(settings.image_size, settings.tubelet_size[1], first=0)
    return Cut(
        stages=[_FrameTokens(inner.spatial_embeddings, False), *spatial],
        pool=partial(_prism_over_time, net),
        num_features=settings.hidden_size,
        positions={
            f"{prefix}spatial_embeddings.position_embeddings": at,
            f"{prefix}temporal_embeddings.position_embeddings": Positions(
                grid=(settings.num_frames, 1, 1)
            ),
        },
    )


def _prism_over_time(net: Any, x: Tensor) -> Tensor:
    inner, (size, frames) = net.vision_model, x.shape[:2]
    x = inner.layernorm1(x.flatten(0, 1))
    x = inner.temporal_embeddings(x, torch.Size((size, frames, 3, 0, 0)), False)
    for layer in inner.temporal_layers:
        x = layer(x)
    x = inner.layernorm2(x)
    x = x.view(size, -1, *x.shape[1:]).transpose(1, 2).contiguous().flatten(1, 2)
    return net.head_layernorm(net.head(x)[0])[:, 0]


def _cut_xclip(net: Any) -> Cut:
    """What `get_video_features` runs; the text tower is taken away."""
    unused = ("text_model", "text_projection", "prompts_generator", "prompts_visual_layernorm")
    for name in unused:
        setattr(net, name, nn.Identity())
    del net.logit_scale, net.prompts_visual_projection
    inner = net.vision_model
    layers = [partial(layer, attention_mask=None) for layer in inner.encoder.layers]
    first = chain(inner.embeddings, inner.pre_layernorm)
    settings = net.config.vision_config
    at = _patches(settings.image_size, settings.patch_size)
    return Cut(
        stages=[_FrameTokens(first, True), *(_PerFrame(part) for part in groups(layers))],
        pool=partial(_xclip_over_time, net),
        num_features=net.config.projection_dim,
        positions={
            "vision_model.embeddings.position_embedding.weight": at,
            "mit.position_embedding": Positions(grid=(settings.num_frames, 1, 1)),
        },
    )


def _xclip_over_time(net: Any, x: Tensor) -> Tensor:
    token = net.vision_model.post_layernorm(x.flatten(0, 1)[:, 0, :])
    frames = net.visual_projection(token).view(*x.shape[:2], -1)
    return net.mit(frames).pooler_output


VIDEO = {
    "videomae": _Network("VideoMAEForVideoClassification", _cut_videomae, _by_image_size),
    "vjepa2": _Network("VJEPA2ForVideoClassification", _cut_vjepa2, _by_crop_size),
    "timesformer": _Network("TimesformerForVideoClassification", _cut_timesformer, _by_image_size),
    "vivit": _Network("VivitForVideoClassification", _cut_vivit, _by_image_size),
    "videoprism_vision_model": _Network(
        "VideoPrismForVideoClassification", _cut_videoprism, _by_image_size
    ),
    "xclip": _Network("XCLIPModel", _cut_xclip, _by_vision),
}
"""By the `model_type` of the configuration."""


# Audio --------------------------------------------------------------------------------------------


def _by_ast(settings: Any, said: dict[str, Any]) -> AudioSpec:
    """Windows of 25 ms every 10 ms; the processor divides by twice the deviation."""
    rate = said.get("sampling_rate", 16_000)
    mean, std = said.get("mean", AUDIOSET[0]), said.get("std", AUDIOSET[1])
    if said.get("do_normalize") is False:
        mean, std = 0.0, 0.5
    return AudioSpec(front_end="kaldi", sample_rate=rate, channels=1,
                     num_mels=settings.num_mel_bins, num_columns=settings.max_length,
                     n_fft=round(0.025 * rate), hop_length=round(0.01 * rate),
                     mel_mean=float(mean), mel_std=2 * float(std))  # fmt: skip


def _by_clap(settings: Any, said: dict[str, Any]) -> AudioSpec:
    """The network normalises by itself. What is shorter is stretched to as many columns as its
    square of patches holds."""
    given = (said.get("frequency_min", PANNS_HZ[0]), said.get("frequency_max", PANNS_HZ[1]))
    if given != PANNS_HZ or said.get("truncation", "rand_trunc") != "rand_trunc":
        raise ValueError(
            f"the processor of CLAP has mel filters from {given[0]} to {given[1]} Hz, truncation "
            f"{said.get('truncation')!r}; frontend.kind panns has {PANNS_HZ[0]:g} to "
            f"{PANNS_HZ[1]:g} Hz, truncation 'rand_trunc'"
        )
    rate = said.get("sampling_rate", 48_000)
    return AudioSpec(front_end="panns", sample_rate=rate, channels=1,
                     num_mels=settings.num_mel_bins, n_fft=said.get("fft_window_size", 1024),
                     hop_length=said.get("hop_length", 480), mel_mean=0.0, mel_std=1.0,
                     seconds=said.get("nb_max_samples", 10 * rate) / rate)  # fmt: skip


def _columns_first(x: Tensor) -> Tensor:
    """(b 1 m f) to (b f m)."""
    return x.squeeze(1).transpose(1, 2)


def _two_tokens(x: Tensor) -> Tensor:
    return (x[:, 0] + x[:, 1]) / 2


def _cut_ast(net: Any) -> Cut:
    rows, columns = net.embeddings.get_shape(net.config)
    return Cut(
        stages=[chain(_columns_first, net.embeddings), *groups(net.layers)],
        pool=chain(net.layernorm, _two_tokens),
        num_features=net.config.hidden_size,
        positions={"embeddings.position_embeddings": Positions(grid=(1, rows, columns), first=2)},
    )


def _cut_clap(net: Any) -> Cut:
    """Not cut: its stages hand on sizes beside tokens."""
    if net.config.enable_fusion:
        raise ValueError("CLAP with enable_fusion takes four spectrograms of a clip; not supported")
    features = net.config.patch_embeds_hidden_size * 2 ** (len(net.config.depths) - 1)
    return Cut(stages=[], pool=partial(_clap_features, net), num_features=features)


def _clap_features(net: Any, x: Tensor) -> Tensor:
    return net(x.transpose(2, 3)).pooler_output


AUDIO = {
    "audio-spectrogram-transformer": _Network("ASTModel", _cut_ast, _by_ast),
    "clap_audio_model": _Network("ClapAudioModel", _cut_clap, _by_clap),
    **{kind: _Network(*found) for kind, found in WAVEFORM.items()},
}
"""By the `model_type` of the configuration."""
