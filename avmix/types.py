"""Data types passed between the stages, from file to loss, and the legend of axis letters.

    b  clips of a batch        t  frames             h w  pixels, rows and columns
    c  colours or channels     s  audio samples      m    mel bins
    f  mel frames (columns)    k  classes            d    features

An `Entry` is a row of a manifest; a `Clip` is one decoded window of it; a `Batch` is what one step
trains on; `Heads` holds one value per head of the network. (`MixPlan` lives in
`avmix.mix.mix_plan`.)
"""

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Float64, Int64, UInt8
from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoInfo:
    """Properties of a video stream, as probing measured them; times are on the clock of the
    container."""

    fps: float
    """Mean frame rate, frames / second."""
    num_frames: int
    """Frames presented; counted, not read from the header."""
    width: int
    """Pixels, after rotation."""
    height: int
    """Pixels, after rotation."""
    start_seconds: float
    """Time of the first presented frame: zero of the clip clock."""
    duration_seconds: float
    """From the first presented frame to the end of the last."""
    codec: str
    """libav name of the codec, for example `h264`."""
    rotation: int
    """Degrees, counter-clockwise, that were applied: 0, 90, 180 or 270."""
    vfr: bool
    """True when the time between frames varies."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AudioInfo:
    """Properties of an audio stream, as probing measured them; times are on the clock of the
    container."""

    rate_hz: int
    """Samples / second as stored."""
    channels: int
    """Channels as stored."""
    start_seconds: float
    """Time of the first sample that is played, after codec priming."""
    duration_seconds: float
    """Length of the audio that is played."""
    codec: str
    """libav name of the codec, for example `aac`."""
    rms_dbfs: float
    """Root mean square of the mono mix, dB relative to full scale; -120 at the lowest. Where the
    channels cancel in it, of the first of them alone, which is taken in its place."""
    silent: bool
    """True when every sample of every channel is (digitally) silent, below -80 dBFS."""
    mono_cancels: bool = False
    """True when the mono mix has less than a hundredth of the mean power of its channels, as where
    one is the other inverted: in mono the left channel is taken alone."""
    log_mel_mean: float | None = None
    """Mean of the log-mel of the whole file (`avmix.media.log_mel_stats`); None: not measured."""
    log_mel_std: float | None = None
    """Its standard deviation."""
    track: int | None = None
    """Which of the file's audio tracks, from 0, all of this is of; None: the one players take."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Synthetic:
    """Origin of a synthetic clip; such clips are for training only."""

    method: Literal["repair", "compose", "external"]
    """The command of `avmix synth` that made it."""
    parents: tuple[str, ...]
    """`clip_id` of the real clips that it was derived from; none where it was made from words."""
    recipe: str
    """How it was made, in one line: what of which parent, arguments, versions where they count."""
    score: float | None
    """How well video and audio go together by the measure of the method; None: not measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """Row of a manifest: a labelled stretch of one file, probed once."""

    clip_id: str
    """Unique within the dataset."""
    path: str
    """Relative to the media root, with forward slashes."""
    start_seconds: float
    """Start of the labelled stretch; 0 is the first presented frame."""
    end_seconds: float
    """End of the labelled stretch."""
    labels: tuple[str, ...]
    """Names of classes: one, or several for multi-label data; of everything that is in the clip,
    visible or audible."""
    source_id: str
    """Recording, person or group the clip was cut from: never in two splits."""
    video: VideoInfo | None
    """None when the file has no video stream."""
    audio: AudioInfo | None
    """None when the file has no audio stream."""
    bytes: int
    """Size of the file."""
    sha256: str
    """Content hash of the file, hexadecimal."""
    synthetic: Synthetic | None = None
    """How the clip was made; None for a real one."""
    usable_until_seconds: float | None = None
    """Where reading has to end, for the file cannot be read from here on; None: no such place."""
    video_labels: tuple[str, ...] | None = None
    """Those of `labels` that are visible; None: all of them, as far as anybody knows."""
    audio_labels: tuple[str, ...] | None = None
    """Those of `labels` that are audible; given where `video_labels` is."""
    unknown_labels: tuple[str, ...] = ()
    """Classes that may or may not be in the clip: neither positives nor negatives."""
    subsets: tuple[str, ...] = ()
    """Parts of the split that evaluation also reports by themselves, for example `unseen`."""

    @property
    def duration_seconds(self) -> float:
        """Length of the labelled stretch."""
        return self.end_seconds - self.start_seconds

    @property
    def has_one_label(self) -> bool:
        """True where one class says all of the clip, in both modalities."""
        return len(self.labels) == 1 and self.video_labels is None and not self.unknown_labels


@dataclass(frozen=True, slots=True, kw_only=True)
class Clip:
    """Decoded window of a file: video and audio of the same seconds."""

    video: UInt8[np.ndarray, "t h w c"]
    """RGB frames, exactly as many as were asked for."""
    audio: Float32[np.ndarray, "*c s"]
    """Waveform, (s) mono or (2, s) left and right; sample k is played at
    `start_seconds + k / sample_rate`, unless another shift was asked for."""
    pts_seconds: Float64[np.ndarray, " t"]
    """Real presentation time of each frame; 0 is the first frame of the file."""
    start_seconds: float
    """Start of the window on the same clock."""
    duration_seconds: float
    """Length of the window."""
    sample_rate: int
    """Sample rate of `audio`, samples / second."""
    audio_valid: float
    """Share of the window for which the file has audio, 0 to 1; the rest is zeros."""
    num_held: int
    """Frames asked for after the last one of the file, which is held in their place."""
    interlaced: bool = False
    """True when frames consist of two fields of different moments; they are left as they are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Batch of clips, or of kept features of clips; `video` and `audio` are of the same seconds of
    the same file."""

    video: UInt8[Tensor, "b t h w c"] | Float[Tensor, "b d"]
    """As decoded; the frontend normalises it on the device. Or one feature per clip."""
    audio: Float[Tensor, "b *c s"]
    """Waveforms: (b, s) mono, (b, 2, s) left and right. Or one feature per clip, (b, d)."""
    has_video: Bool[Tensor, " b"]
    """False where the file has no frame: those pixels are zeros and mean nothing."""
    has_audio: Bool[Tensor, " b"]
    """False where the file has no audio, or only digital silence, or none in this window."""
    target: Float[Tensor, "b k"]
    """One-hot, soft or multi-hot: always float; nan where it is unknown whether the class is in the
    clip."""
    row: Int64[Tensor, " b"]
    """Row of each clip in its manifest: who it is, for evaluation and for error messages."""
    source: Int64[Tensor, " b"]
    """Number of the recording that each clip is of: those of one are never mixed together."""
    audio_target: Float[Tensor, "b k"] | None = None
    """Label of the audio, which differs from `target` where another clip's audio is mixed in as
    background, or the dataset says what is audible. None: `target` holds."""
    video_target: Float[Tensor, "b k"] | None = None
    """Label of the video, where the dataset says what is visible. None: `target` holds."""
    frame_visible: Bool[Tensor, "b t"] | None = None
    """False where augmentation hides a frame; None: all are shown."""
    column_visible: Bool[Tensor, "b f"] | None = None
    """False where augmentation hides a column of the spectrogram."""
    bin_visible: Bool[Tensor, "b m"] | None = None
    """False where augmentation hides a mel bin."""

    def __post_init__(self) -> None:
        """Raises ValueError where a tensor is of another type, shape or number of clips."""
        for name, kinds in _BATCH.items():
            tensor: Tensor | None = getattr(self, name)
            if tensor is None and name in _OPTIONAL:
                continue
            assert tensor is not None
            if not any(tensor.ndim == kind.ndim and tensor.dtype in kind.dtypes for kind in kinds):
                raise ValueError(
                    f"{name} of a batch must be {' or '.join(map(str, kinds))}, got "
                    f"{_names((tensor.dtype,))} {tuple(tensor.shape)}"
                )
            if len(tensor) != self.size:
                raise ValueError(f"{name} is of {len(tensor)} clips, video of {self.size}")

    @property
    def size(self) -> int:
        """Number of clips."""
        return self.video.shape[0]

    def to(self, device: torch.device) -> "Batch":
        """Copy to `device`; asynchronously where the memory is pinned. Itself, where it is
        there."""
        if all(tensor.device == device for tensor in self.tensors().values()):
            return self
        return self._each(lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self) -> "Batch":
        """Copy into page-locked memory, from which copies to a GPU are asynchronous."""
        return self._each(Tensor.pin_memory)

    def tensors(self) -> dict[str, Tensor]:
        """Tensors that are not None, by name."""
        named = {f.name: getattr(self, f.name) for f in fields(self)}
        return {name: tensor for name, tensor in named.items() if tensor is not None}

    def _each(self, change: Callable[[Tensor], Tensor]) -> "Batch":
        return Batch(**{name: change(tensor) for name, tensor in self.tensors().items()})


_FLOATS = (torch.float32, torch.float64, torch.float16, torch.bfloat16)


@dataclass(frozen=True, slots=True)
class _Kind:
    """A kind of tensor."""

    letters: str
    """Of its axes."""
    ndim: int
    dtypes: tuple[torch.dtype, ...]

    def __str__(self) -> str:
        return f"{_names(self.dtypes)} ({self.letters})"


def _kinds(dtypes: tuple[torch.dtype, ...], *letters: str) -> tuple[_Kind, ...]:
    return tuple(_Kind(axes, len(axes.split()), dtypes) for axes in letters)


_BATCH: dict[str, tuple[_Kind, ...]] = {
    "video": (*_kinds((torch.uint8,), "b t h w c"), *_kinds(_FLOATS, "b d")),
    "audio": _kinds(_FLOATS, "b s", "b c s"),
    "has_video": _kinds((torch.bool,), "b"),
    "has_audio": _kinds((torch.bool,), "b"),
    "target": _kinds(_FLOATS, "b k"),
    "row": _kinds((torch.int64,), "b"),
    "source": _kinds((torch.int64,), "b"),
    "audio_target": _kinds(_FLOATS, "b k"),
    "video_target": _kinds(_FLOATS, "b k"),
    "frame_visible": _kinds((torch.bool,), "b t"),
    "column_visible": _kinds((torch.bool,), "b f"),
    "bin_visible": _kinds((torch.bool,), "b m"),
}
"""What each tensor of a `Batch` may be."""
_OPTIONAL = ("audio_target", "video_target", "frame_visible", "column_visible", "bin_visible")


def _names(dtypes: tuple[torch.dtype, ...]) -> str:
    return " or ".join(str(dtype).removeprefix("torch.") for dtype in dtypes)


class Heads(NamedTuple):
    """One value per head: logits (b k), targets (b k), presence (b) or losses ()."""

    fused: Tensor
    """Value of the head on both modalities."""
    video: Tensor
    """Value of the head on video alone."""
    audio: Tensor
    """Value of the head on audio alone."""
