"""Encoders by name, LIBRARY:NAME, for example `timm:tf_efficientnet_lite0`.

A library is imported where one of its encoders is asked for, not before.
"""

import inspect
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from typing import Any, get_type_hints

import torch
from torch import Tensor

from avmix.config import (
    AudioEncoderConfig,
    ClipConfig,
    FrontendConfig,
    ModelConfig,
    VideoEncoderConfig,
)
from avmix.mix.clip_grid import clip_grids
from avmix.models.audio_encoder import AudioEncoder
from avmix.models.encoder import AudioSpec, Encoder, VideoSpec
from avmix.models.video_encoder import VideoEncoder

_OWN = {"video": "r2plus1d", "audio": "cnn"}


def video_encoder(
    config: VideoEncoderConfig, clip: ClipConfig, *, load_weights: bool = True
) -> Encoder:
    """Build the encoder named by `model.video`, for frames as described by `clip`. Raises
    ValueError as `build_model` does."""
    which, found, spec = _video(config, clip)
    _compare(
        which,
        ("frames", "clip.num_frames", spec.num_frames, clip.num_frames),
        ("pixels (height and width)", "clip.crop", spec.size, clip.crop),
    )
    _finish(found, "video", config, 3, load_weights)
    if not is_own(config):
        given = torch.zeros(1, 3, clip.num_frames, clip.crop, clip.crop)
        _try(found, given, which, f"clip.num_frames {clip.num_frames}, clip.crop {clip.crop}")
    return found


def audio_encoder(
    config: AudioEncoderConfig,
    clip: ClipConfig,
    frontend: FrontendConfig,
    *,
    load_weights: bool = True,
) -> Encoder:
    """Build the encoder named by `model.audio`, for spectrograms as described by `clip` and
    `frontend`. Raises ValueError as `build_model` does."""
    which, found, spec = _audio(config, clip, frontend)
    num_mels, num_columns = clip_grids(clip, frontend, "log_mel")["audio"].shape
    if spec.front_end not in (None, frontend.kind):
        raise ValueError(
            f"{which} takes {spec.front_end} spectrograms, frontend.kind gives {frontend.kind}"
        )
    _compare(
        which,
        ("samples a second", "clip.sample_rate", spec.sample_rate, clip.sample_rate),
        ("channels", "clip.stereo", spec.channels, clip.audio_channels),
        ("mel bins", "frontend.num_mels", spec.num_mels, num_mels),
        ("samples of a window", "frontend.n_fft", spec.n_fft, frontend.n_fft),
        ("samples from column to column", "frontend.hop_length", spec.hop_length,
         frontend.hop_length),
    )  # fmt: skip
    if spec.num_columns not in (None, num_columns):
        seconds = frontend.samples_of(spec.num_columns) / clip.sample_rate
        raise ValueError(
            f"{which} takes {spec.num_columns} columns, clip.duration_seconds and "
            f"frontend.hop_length gives {num_columns}; {seconds:g} seconds have as many"
        )
    _finish(found, "audio", config, clip.audio_channels, load_weights)
    if not is_own(config):
        given = torch.zeros(1, clip.audio_channels, num_mels, num_columns)
        options = f"{num_mels} mel bins, {num_columns} columns, {clip.audio_channels} channels"
        _try(found, given, which, options)
    return found


def is_own(config: VideoEncoderConfig | AudioEncoderConfig) -> bool:
    """Whether the encoder is one of avmix, which takes clips of any kind."""
    return config.encoder.startswith("avmix:")


def specs_of(
    config: ModelConfig, clip: ClipConfig, frontend: FrontendConfig
) -> tuple[VideoSpec, AudioSpec]:
    """What both encoders of `model` expect. They are built for that, of a library without memory
    for their weights; torch's generator does not know of it. Raises ValueError as `build_model`
    does, but for what contradicts `clip` and `frontend`."""

    def expected(part: VideoEncoderConfig | AudioEncoderConfig, build: Callable[[], Any]) -> Any:
        with torch.random.fork_rng(devices=[]):
            if not part.encoder.startswith("python:"):
                with suppress(ValueError, RuntimeError), torch.device("meta"):
                    return build()[2]
            # An encoder of the user's own, or one that reads numbers as it is built.
            return build()[2]

    video, audio = VideoSpec(), AudioSpec()
    if config.modalities != "audio":
        video = expected(config.video, lambda: _video(config.video, clip))
    if config.modalities != "video":
        audio = expected(config.audio, lambda: _audio(config.audio, clip, frontend))
    return video, audio


def _video(config: VideoEncoderConfig, clip: ClipConfig) -> tuple[str, Encoder, VideoSpec]:
    """What errors call it, the encoder, and what it expects."""
    library, _, name = config.encoder.partition(":")
    match library:
        case "avmix":
            _check_own(name, "video")
            found: Encoder = VideoEncoder(config.channels)
        case "python":
            found = _of_user("video", name, config.options)
        case _:
            found = import_module(f"avmix.models.{library}").video(name, config, clip)
    which, spec = f"model.video.encoder {config.encoder}", found.spec
    if not isinstance(spec, VideoSpec):
        raise ValueError(f"{which} takes no frames: its spec is {spec}")
    return which, found, spec


def _audio(
    config: AudioEncoderConfig, clip: ClipConfig, frontend: FrontendConfig
) -> tuple[str, Encoder, AudioSpec]:
    library, _, name = config.encoder.partition(":")
    match library:
        case "avmix":
            _check_own(name, "audio")
            found: Encoder = AudioEncoder(config.channels, clip.audio_channels)
        case "python":
            found = _of_user("audio", name, config.options)
        case _:
            found = import_module(f"avmix.models.{library}").audio(name, config, clip, frontend)
    which, spec = f"model.audio.encoder {config.encoder}", found.spec
    if not isinstance(spec, AudioSpec):
        raise ValueError(f"{which} takes no spectrograms: its spec is {spec}")
    return which, found, spec


def _check_own(name: str, modality: str) -> None:
    if name != _OWN[modality]:
        raise ValueError(
            f"model.{modality}.encoder: avmix has {_OWN[modality]!r} only, got {name!r}"
        )


def _of_user(modality: str, name: str, options: dict[str, Any]) -> Encoder:
    """What the function `MODULE:FUNCTION` returns for `options`."""
    which = f"model.{modality}.encoder python:{name}"
    module, _, function = name.partition(":")
    try:
        build = getattr(import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"{which}: {error} (MODULE:FUNCTION, MODULE on PYTHONPATH)") from None
    # Configurations come inside of files that others wrote: `python:os:system` is not called.
    if not _makes_encoders(build):
        raise ValueError(
            f"{which} must be a subclass of avmix.models.encoder.Encoder, or a function that is "
            f"annotated to return one, got {build!r:.100}"
        )
    try:
        inspect.signature(build).bind(**options)
    except TypeError as error:
        raise ValueError(f"{which} does not take the options {options}: {error}") from None
    found = build(**options)
    if not isinstance(found, Encoder):
        raise ValueError(
            f"{which} must return an avmix.models.encoder.Encoder, got {type(found).__name__}"
        )
    return found


def _makes_encoders(build: Any) -> bool:
    """Whether it says of itself that it does."""
    if not isinstance(build, type):
        try:
            build = get_type_hints(build).get("return")
        except (TypeError, NameError):
            return False
    return isinstance(build, type) and issubclass(build, Encoder)


def _finish(
    encoder: Encoder,
    modality: str,
    config: VideoEncoderConfig | AudioEncoderConfig,
    channels: int,
    load_weights: bool,
) -> None:
    """The weights to begin with, what of them stays as it is, and what is kept for the gradient."""
    if config.weights and load_weights:
        from avmix.models.weights import load_into

        encoder.notice = load_into(encoder, modality, config, channels)
    if config.frozen:
        encoder.freeze()
    which = f"model.{modality}.encoder {config.encoder}"
    if config.frozen_norm:
        try:
            encoder.freeze_norms()
        except ValueError as error:
            raise ValueError(f"model.{modality}.frozen_norm cannot act: {which} {error}") from None
    if config.gradient_checkpointing and not encoder.stages:
        raise ValueError(
            f"model.{modality}.gradient_checkpointing cannot act: {which} cannot be cut into stages"
        )
    encoder.gradient_checkpointing = config.gradient_checkpointing


def _compare(which: str, *facts: tuple[str, str, int | None, int]) -> None:
    """Raises ValueError for the first of (what, option, wanted, given) that is not as wanted."""
    for what, option, wanted, given in facts:
        if wanted is not None and wanted != given:
            raise ValueError(f"{which} takes {wanted} {what}, {option} gives {given}")


@torch.no_grad()
def _try(encoder: Encoder, given: Tensor, which: str, options: str) -> None:
    """Encode one empty clip: what a network cannot take is an error now, not an hour later.

    Neither its statistics nor torch's generator know of it.
    """
    mode = encoder.training
    encoder.eval()
    with torch.random.fork_rng(devices=[]):
        try:
            found = encoder(given)
        except (RuntimeError, ValueError, AssertionError, IndexError, TypeError) as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise ValueError(f"{which} cannot take such clips ({options}): {reason}") from error
    encoder.train(mode)
    if tuple(found.shape) != (1, encoder.num_features):
        raise ValueError(
            f"{which} gives {tuple(found.shape)} for a clip, not (1, {encoder.num_features}), "
            "as its num_features says"
        )
