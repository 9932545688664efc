"""Options of `clip` and `frontend` that were not set are as the encoders expect them."""

from dataclasses import fields, replace
from typing import Any, TypeVar

from avmix.config import ClipConfig, FrontendConfig, ModelConfig, TrainConfig
from avmix.config.unset import is_unset, plain
from avmix.models.encoder import AudioSpec, VideoSpec
from avmix.models.encoder_names import any_audio_encoder, any_video_encoder, expected
from avmix.models.joint_names import any_joint_encoder

CROP_SHARE = 0.875
"""Of the shorter side of a frame, by which `clip.short_side` follows the crop of an encoder: 256
and 224 pixels, as networks for images are evaluated."""

S = TypeVar("S", ClipConfig, FrontendConfig)


def with_expected_input(config: TrainConfig) -> TrainConfig:
    """`config` with a value for each option of `clip` and `frontend` that was not set
    (`avmix.config.unset`): what the encoder requires, or else the default. What was set stays;
    where an encoder cannot take it, `build_model` raises ValueError.

    Of avmix's own encoders all options keep their defaults. Of others, `clip.short_side` follows
    the crop (`CROP_SHARE`), and `clip.duration_seconds` the columns that the audio encoder takes.
    Raises ValueError, which names the option, for an encoder that there is none of.
    """
    video, audio = specs_of(config.model, config.clip, config.frontend)
    names = {section: f"model.{section}.encoder {part.encoder}"
             for section, part in config.model.encoders.items()}  # fmt: skip
    which = names.get("audio") or names["joint"]
    _check_numbers(config.frontend, audio, which)
    frontend = _filled(config.frontend, _spectrogram(audio), which)
    which = names.get("video") or names["joint"]
    clip = _filled(config.clip, _clip(video, audio, config.clip, frontend, which), which)
    return replace(config, clip=clip, frontend=frontend)


def specs_of(
    model: ModelConfig, clip: ClipConfig, frontend: FrontendConfig
) -> tuple[VideoSpec, AudioSpec]:
    """What the encoders of `model` expect. They are built for that, without weights. Raises
    ValueError as `build_model` does, but for what contradicts `clip` and `frontend`."""
    if (joint := model.joint).encoder:
        spec = expected(joint.encoder, lambda: any_joint_encoder(joint, clip, frontend)[1].spec)
        return spec.video, spec.audio
    of_video, of_audio = VideoSpec(), AudioSpec()
    if model.modalities != "audio":
        video = model.video
        of_video = expected(video.encoder, lambda: any_video_encoder(video, clip)[2])
    if model.modalities != "video":
        audio = model.audio
        of_audio = expected(audio.encoder, lambda: any_audio_encoder(audio, clip, frontend)[2])
    return of_video, of_audio


def in_words(before: TrainConfig, after: TrainConfig) -> str:
    """What `with_expected_input` has taken from the encoders; empty where nothing."""
    changed = [
        f"{section}.{f.name} {getattr(getattr(after, section), f.name)}"
        for section in ("clip", "frontend")
        for f in fields(getattr(after, section))
        if getattr(getattr(after, section), f.name) != getattr(getattr(before, section), f.name)
    ]
    return f"as the encoders expect: {', '.join(changed)}" if changed else ""


def _spectrogram(audio: AudioSpec) -> dict[str, Any]:
    """Options of `frontend`."""
    return {"kind": audio.front_end, "num_mels": audio.num_mels, "n_fft": audio.n_fft,
            "hop_length": audio.hop_length, "mel_mean": audio.mel_mean,
            "mel_std": audio.mel_std}  # fmt: skip


def _clip(
    video: VideoSpec, audio: AudioSpec, clip: ClipConfig, frontend: FrontendConfig, which: str
) -> dict[str, Any]:
    """Options of `clip`; `frontend` with a value for each of its own."""
    rate = audio.sample_rate if is_unset(clip.sample_rate) and audio.sample_rate else None
    seconds = audio.seconds
    if audio.num_columns is not None:
        seconds = frontend.samples_of(audio.num_columns) / (rate or clip.sample_rate)
    side = None
    if video.size is not None and is_unset(clip.crop):
        side = round(video.size / CROP_SHARE)
        if not is_unset(clip.short_side) and clip.short_side < video.size:
            raise ValueError(
                f"{which} takes {video.size} pixels (height and width), clip.short_side gives "
                f"{clip.short_side}"
            )
    return {"num_frames": video.num_frames, "crop": video.size, "short_side": side,
            "sample_rate": rate, "duration_seconds": seconds}  # fmt: skip


def _check_numbers(frontend: FrontendConfig, audio: AudioSpec, which: str) -> None:
    """Raise ValueError for a mean or deviation that was set for the default spectrogram, where the
    encoder takes another one, and for any option of spectrograms where it takes none."""
    if audio.front_end in (None, frontend.kind) or not is_unset(frontend.kind):
        return
    if audio.front_end == "waveform":
        keys = ("num_mels", "n_fft", "hop_length", "mel_mean", "mel_std")
        if given := [key for key in keys if not is_unset(getattr(frontend, key))]:
            raise ValueError(
                f"{which} takes the waveform, frontend.{given[0]} is of spectrograms: leave it "
                "out, or set frontend.kind waveform, too"
            )
    for key in ("mel_mean", "mel_std"):
        if not is_unset(value := getattr(frontend, key)):
            raise ValueError(
                f"{which} takes {audio.front_end} spectrograms, frontend.{key} gives {value} for "
                f"those of {frontend.kind}: leave it out, or set frontend.kind "
                f"{audio.front_end}, too"
            )


def _filled(section: S, expected: dict[str, Any], which: str) -> S:
    """A value for each option that was not set: that of `expected`, unless it is None. Raises
    ValueError that begins with `which` where the section cannot have them."""
    values = {f.name: getattr(section, f.name) for f in fields(section)}
    chosen = {
        name: plain(value if expected.get(name) is None else expected[name])
        for name, value in values.items()
        if is_unset(value)
    }
    try:
        return replace(section, **chosen)
    except ValueError as error:
        raise ValueError(f"{which} does not go with options that are set: {error}") from None
