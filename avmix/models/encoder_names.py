"""Encoders by name, LIBRARY:NAME, for example `timm:tf_efficientnet_lite0`.

A library is imported where one of its encoders is asked for, not before.
"""

import inspect
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from typing import Any, TypeVar, get_type_hints

import torch
from torch import Tensor

from avmix.config import (
    LIBRARIES,
    AudioEncoderConfig,
    ClipConfig,
    EncoderConfig,
    FrontendConfig,
    VideoEncoderConfig,
)
from avmix.mix.clip_grid import clip_grids, input_shapes
from avmix.models.encoder import AnyEncoder, AudioSpec, Encoder, VideoSpec

_ADAPTERS = {name: name for name in LIBRARIES} | {"avmix": "own_encoders"}
"""Modules that build the encoders of a library."""
E = TypeVar("E")
K = TypeVar("K", bound=AnyEncoder)


def video_encoder(
    config: VideoEncoderConfig, clip: ClipConfig, *, load_weights: bool = True
) -> Encoder:
    """Build the encoder named by `model.video`, for frames as described by `clip`. Raises
    ValueError as `build_model` does."""
    which, found, spec = any_video_encoder(config, clip)
    check_video(which, spec, clip)
    finish(found, "video", config, 3, load_weights)
    if not is_own(config):
        given = torch.zeros(1, 3, clip.num_frames, clip.crop, clip.crop)
        options = f"clip.num_frames {clip.num_frames}, clip.crop {clip.crop}"
        check_shape(attempt(found, (given,), which, options), found.num_features, which)
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
    which, found, spec = any_audio_encoder(config, clip, frontend)
    check_audio(which, spec, clip, frontend)
    finish(found, "audio", config, clip.audio_channels, load_weights)
    if not is_own(config):
        shape = input_shapes(clip, frontend)["audio"]
        options = audio_options(shape)
        given = torch.zeros(1, *shape)
        check_shape(attempt(found, (given,), which, options), found.num_features, which)
    return found


def audio_options(shape: tuple[int, ...]) -> str:
    """What errors say of the audio of a clip."""
    channels, *rest = shape
    size = f"{rest[0]} samples" if len(rest) == 1 else f"{rest[0]} mel bins, {rest[1]} columns"
    return f"{size}, {channels} channels"


def check_video(which: str, spec: VideoSpec, clip: ClipConfig) -> None:
    """Raise ValueError, naming option and encoder (`which`), for other frames than `spec` wants."""
    _compare(
        which,
        ("frames", "clip.num_frames", spec.num_frames, clip.num_frames),
        ("pixels (height and width)", "clip.crop", spec.size, clip.crop),
    )


def check_audio(which: str, spec: AudioSpec, clip: ClipConfig, frontend: FrontendConfig) -> None:
    """Likewise for other spectrograms, or another waveform, than `spec` wants."""
    wants_waveform = spec.front_end == "waveform"
    if spec.front_end not in (None, frontend.kind) or (
        frontend.kind == "waveform" and not wants_waveform
    ):
        takes = "the waveform" if wants_waveform else f"{spec.front_end or 'any'} spectrograms"
        raise ValueError(f"{which} takes {takes}, frontend.kind gives {frontend.kind}")
    _compare(
        which,
        ("samples a second", "clip.sample_rate", spec.sample_rate, clip.sample_rate),
        ("channels", "clip.stereo", spec.channels, clip.audio_channels),
    )
    if wants_waveform:
        return
    num_mels, num_columns = clip_grids(clip, frontend, "log_mel")["audio"].shape
    _compare(
        which,
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


def is_own(config: EncoderConfig) -> bool:
    """Whether the encoder is one of the convolutional ones of avmix, which take clips of any
    kind."""
    return config.encoder in ("avmix:r2plus1d", "avmix:cnn")


def expected(encoder: str, build: Callable[[], E]) -> E:
    """What `build` makes, of which only the specification is looked at: of a library, without
    memory for the weights; torch's generator does not know of it."""
    with torch.random.fork_rng(devices=[]):
        if not encoder.startswith("python:"):
            with suppress(ValueError, RuntimeError), torch.device("meta"):
                return build()
        # An encoder of the user's own, or one that reads numbers as it is built.
        return build()


def any_video_encoder(
    config: VideoEncoderConfig, clip: ClipConfig
) -> tuple[str, Encoder, VideoSpec]:
    """What errors call it, the encoder, and what it expects, which need not be as `clip` is. Raises
    ValueError as `build_model` does, but for that."""
    library, _, name = config.encoder.partition(":")
    if library == "python":
        found = of_user("video", name, config.options, Encoder)
    else:
        found = import_module(f"avmix.models.{_ADAPTERS[library]}").video(name, config, clip)
    which, spec = f"model.video.encoder {config.encoder}", found.spec
    if not isinstance(spec, VideoSpec):
        raise ValueError(f"{which} takes no frames: its spec is {spec}")
    return which, found, spec


def any_audio_encoder(
    config: AudioEncoderConfig, clip: ClipConfig, frontend: FrontendConfig
) -> tuple[str, Encoder, AudioSpec]:
    """As `any_video_encoder`."""
    library, _, name = config.encoder.partition(":")
    if library == "python":
        found = of_user("audio", name, config.options, Encoder)
    else:
        adapter = import_module(f"avmix.models.{_ADAPTERS[library]}")
        found = adapter.audio(name, config, clip, frontend)
    which, spec = f"model.audio.encoder {config.encoder}", found.spec
    if not isinstance(spec, AudioSpec):
        raise ValueError(f"{which} takes no spectrograms: its spec is {spec}")
    return which, found, spec


def of_user(section: str, name: str, options: dict[str, Any], kind: type[K]) -> K:
    """What the function `MODULE:FUNCTION` returns for `options`, a `kind` of encoder."""
    which = f"model.{section}.encoder python:{name}"
    called = f"{kind.__module__}.{kind.__name__}"
    module, _, function = name.partition(":")
    try:
        build = getattr(import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"{which}: {error} (MODULE:FUNCTION, MODULE on PYTHONPATH)") from None
    # Configurations come inside of files that others wrote: `python:os:system` is not called.
    if not _makes(build, kind):
        raise ValueError(
            f"{which} must be a subclass of {called}, or a function that is annotated to return "
            f"one, got {build!r:.100}"
        )
    try:
        inspect.signature(build).bind(**options)
    except TypeError as error:
        raise ValueError(f"{which} does not take the options {options}: {error}") from None
    found = build(**options)
    if not isinstance(found, kind):
        raise ValueError(f"{which} must return an {called}, got {type(found).__name__}")
    return found


def _makes(build: Any, kind: type) -> bool:
    """Whether it says of itself that it makes such encoders."""
    if not isinstance(build, type):
        try:
            build = get_type_hints(build).get("return")
        except (TypeError, NameError):
            return False
    return isinstance(build, type) and issubclass(build, kind)


def finish(
    encoder: AnyEncoder,
    section: str,
    config: EncoderConfig,
    channels: int,
    load_weights: bool,
) -> None:
    """The weights to begin with, what of them stays as it is, and what is kept for the gradient."""
    if config.weights and load_weights:
        from avmix.models.weights import load_into

        encoder.notice = load_into(encoder, section, config, channels)
    if config.frozen:
        encoder.freeze()
    which = f"model.{section}.encoder {config.encoder}"
    if config.frozen_norm:
        try:
            encoder.freeze_norms()
        except ValueError as error:
            raise ValueError(f"model.{section}.frozen_norm cannot act: {which} {error}") from None
    if config.gradient_checkpointing and not encoder.stages:
        raise ValueError(
            f"model.{section}.gradient_checkpointing cannot act: {which} cannot be cut into stages"
        )
    encoder.gradient_checkpointing = config.gradient_checkpointing


def _compare(which: str, *facts: tuple[str, str, int | None, int]) -> None:
    """Raises ValueError for the first of (what, option, wanted, given) that is not as wanted."""
    for what, option, wanted, given in facts:
        if wanted is not None and wanted != given:
            raise ValueError(f"{which} takes {wanted} {what}, {option} gives {given}")


@torch.no_grad()
def attempt(encoder: AnyEncoder, given: tuple[Tensor, ...], which: str, options: str) -> Any:
    """Encode one empty clip: what a network cannot take is an error now, not an hour later.

    Neither its statistics nor torch's generator know of it.
    """
    mode = encoder.training
    encoder.eval()
    with torch.random.fork_rng(devices=[]):
        try:
            found = encoder(*given)
        except (RuntimeError, ValueError, AssertionError, IndexError, TypeError) as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise ValueError(f"{which} cannot take such clips ({options}): {reason}") from error
    encoder.train(mode)
    return found


def check_shape(found: Tensor, num_features: int, which: str, says: str = "num_features") -> None:
    """Raise ValueError where an encoder gives other features of one clip than it says."""
    if tuple(found.shape) != (1, num_features):
        raise ValueError(
            f"{which} gives {tuple(found.shape)} for a clip, not (1, {num_features}), as its "
            f"{says} says"
        )
