"""What is found in a file, as values: small, picklable, and the same in text and in JSON."""

from dataclasses import dataclass
from typing import Literal

SCHEMA = 1
"""Version of the JSON; raised when an old reader would misread a new file."""

Level = Literal["ok", "note", "warning", "error"]
LEVELS: tuple[Level, ...] = ("error", "warning", "note", "ok")
"""The worst first."""

Code = Literal[
    "unreadable", "unsupported", "no_picture", "crashed", "time_limit", "failed",
    "damaged_picture", "damaged_sound", "truncated", "seek_differs", "noise_drawn", "refused",
    "manifest", "missing", "changed", "row_differs", "window_outside", "no_sound", "silent",
    "mono_cancels", "sound_broken", "sound_short", "long_gop", "vfr", "rotated", "av_start",
    "sound_ends_early", "sound_gaps", "picture_gaps", "cut_start", "from_beginning", "no_pts",
    "trimmed", "aspect", "interlaced", "hdr", "late_in_avi", "several_streams", "cover_art",
    "version", "in_part", "unusable",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Kind:
    """What is the same for all findings with one code."""

    level: Level
    title: str
    hint: str
    """What to do."""


KINDS: dict[Code, Kind] = {
    "unreadable": Kind("error", "cannot be opened", "get the file again, or leave it out"),
    "unsupported": Kind(
        "error", "cannot be read in sync", "transcode: ffmpeg -i IN -c:v libx264 -c:a aac OUT.mp4"
    ),
    "no_picture": Kind("error", "no video", "a clip needs video: leave the file out"),
    "crashed": Kind(
        "error", "the decoder crashed", "leave the file out or transcode it: it kills loaders too"
    ),
    "time_limit": Kind(
        "error", "not finished in time", "long file: raise --seconds; short file: leave it out"
    ),
    "failed": Kind("error", "could not be examined", "a bug in avmix: report it with the file"),
    "damaged_picture": Kind(
        "error", "damaged frames", "get the file again; windows on the damage are refused"
    ),
    "damaged_sound": Kind(
        "warning", "damaged audio", "get the file again; what is lost becomes silence"
    ),
    "truncated": Kind("error", "cut off", "get the file again: it ends before it says it does"),
    "seek_differs": Kind(
        "error", "windows differ from the whole", "transcode the file, and report it: a bug"
    ),
    "in_part": Kind(
        "error", "usable in part", "prepare keeps the longest good stretch; or get the file again"
    ),
    "unusable": Kind("error", "nothing can be used", "get the file again, or leave it out"),
    "refused": Kind("error", "windows are refused", "transcode the file, or leave it out"),
    "manifest": Kind("error", "the manifest is not valid", "prepare the dataset again"),
    "missing": Kind("error", "missing", "check --root; restore the file, or prepare again"),
    "changed": Kind(
        "error", "not the file of the manifest", "restore the file, or prepare the dataset again"
    ),
    "row_differs": Kind(
        "error", "the manifest says otherwise", "prepare the dataset again with this avmix"
    ),
    "window_outside": Kind(
        "error", "labelled stretch outside the file", "correct start and end in the annotations"
    ),
    "no_sound": Kind(
        "warning", "no audio", "trains frames only; leave it out if audio is the point"
    ),
    "silent": Kind("warning", "silent audio", "counts as without audio in training"),
    "mono_cancels": Kind(
        "warning", "channels cancel in mono", "mono takes the left one alone; or set clip.stereo"
    ),
    "sound_broken": Kind(
        "error", "samples that are no audio", "the file is refused: encode its audio again"
    ),
    "sound_short": Kind(
        "warning", "audio covers less than 90 %", "windows without audio are masked, or set limits"
    ),
    "long_gop": Kind(
        "warning", "keyframes far apart", "slow to read: transcode with one a second (-g FPS)"
    ),
    "noise_drawn": Kind(
        "note", "noise drawn by the decoder", "nothing: the codec says only how loud it is"
    ),
    "vfr": Kind("note", "variable frame rate", "nothing: frames are chosen by time"),
    "rotated": Kind("note", "turned or mirrored", "nothing: frames are shown as they should be"),
    "av_start": Kind("note", "audio and video start apart", "nothing: both are on one clock"),
    "sound_ends_early": Kind("note", "audio ends early", "no action needed; padded with silence"),
    "sound_gaps": Kind(
        "note", "gaps in the audio", "no action needed; gaps are filled with silence and counted"
    ),
    "picture_gaps": Kind("note", "frames stand still", "no action needed; the last frame is held"),
    "cut_start": Kind(
        "note", "begins in the middle", "no action needed; frames before a keyframe are left out"
    ),
    "from_beginning": Kind(
        "note", "read from its beginning", "late windows of long files are slow: remux to mp4"
    ),
    "no_pts": Kind(
        "note", "frames without times", "nothing: they are counted, the frame rate is constant"
    ),
    "trimmed": Kind("note", "trimmed by an edit list", "nothing: what is cut away is not used"),
    "aspect": Kind("note", "pixels are not square", "nothing: scaling makes them square"),
    "interlaced": Kind(
        "note", "interlaced", "moving edges are combed: deinterlace when it matters"
    ),
    "hdr": Kind(
        "note", "high dynamic range", "colours come out flat, as stored: see docs/decoding.md"
    ),
    "late_in_avi": Kind(
        "note", "audio late in AVI", "nothing: the encoder's delay is not written in the file"
    ),
    "several_streams": Kind(
        "note",
        "several streams to choose from",
        "check the one chosen; of audio --audio-track of a recipe takes another",
    ),
    "cover_art": Kind("note", "cover art", "nothing: it is not taken for the video"),
    "version": Kind("note", "version", "install the versions of constraints.txt"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing worth saying about a file or the environment."""

    level: Level
    code: Code
    text: str
    """One line, without the name of the file."""
    hint: str
    """What to do."""

    @classmethod
    def of(cls, code: Code, text: str, level: Level | None = None) -> "Finding":
        """A finding of the usual level of its kind, or of another."""
        return cls(level=level or KINDS[code].level, code=code, text=text, hint=KINDS[code].hint)


def worst(findings: tuple[Finding, ...]) -> Level:
    """The worst level among `findings`."""
    for level in LEVELS:
        if any(f.level == level for f in findings):
            return level
    return "ok"


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamReport:
    """One stream of the file."""

    index: int
    type: str
    codec: str
    chosen: bool
    why: str
    """Why it was chosen, or left."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """A stretch in which nothing new comes; time of the clip clock."""

    start_seconds: float
    seconds: float
    """Its length; below zero where time jumps back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoReport:
    """The chosen frames; `start_seconds` on the container's clock."""

    codec: str
    width: int
    """Pixels as stored."""
    height: int
    pixel_format: str
    fps: float
    num_frames: int
    start_seconds: float
    duration_seconds: float
    declared_seconds: float | None
    """Length by the header."""
    frame_ms: tuple[float, float, float]
    """Least, median and largest time between frames."""
    vfr: bool
    rotation: int
    """Degrees, counter-clockwise, to be applied."""
    mirrored: bool
    pixel_aspect: str
    interlaced: bool
    color_range: str
    color_matrix: str
    color_tagged: bool
    """False where range or matrix is a guess by the size of the frames."""
    key_seconds: tuple[float, float]
    """Median and largest distance of keyframes."""
    num_without_pts: int
    """Frames of which the file tells no time, or a wrong one."""
    gaps: tuple[Gap, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class AudioReport:
    """The chosen audio; `start_seconds` on the container's clock."""

    codec: str
    rate_hz: int
    channels: int
    layout: str
    start_seconds: float
    duration_seconds: float
    covers: float | None
    """Share of the frames' time with audio, 0 to 1; None without video."""
    peak_dbfs: float
    """Of all channels; -120 at the lowest."""
    rms_dbfs: float
    """Of the mono mix; -120 at the lowest."""
    digital_silence: bool
    """True when every sample of every channel is zero."""
    mono_cancels: bool
    """As `AudioInfo.mono_cancels`."""
    num_broken: int
    """Samples that are not finite, or beyond `avmix.decode.downmix.MAX_SAMPLE`."""
    gaps: tuple[Gap, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Damage:
    """Complaints while one stream was decoded from end to end."""

    stream: Literal["picture", "sound"]
    num: int
    first_seconds: float
    first: str
    """What was said first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowReport:
    """One window read by `decode_clip` and compared with the whole."""

    start_seconds: float
    duration_seconds: float
    outcome: Literal["same", "differs", "refused"]
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgementReport:
    """What the file is worth (`avmix.media.judgement`), every frame looked at."""

    worth: Literal["whole", "part", "nothing"]
    good: tuple[tuple[float, float], ...]
    """Stretches that can be read, seconds; 0 is the first presented frame."""
    reasons: tuple[str, ...]
    """Why it is not whole."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileReport:
    """All that is said about one file."""

    path: str
    level: Level
    findings: tuple[Finding, ...]
    bytes: int | None = None
    container: str | None = None
    streams: tuple[StreamReport, ...] = ()
    video: VideoReport | None = None
    audio: AudioReport | None = None
    av_start_ms: float | None = None
    """Start of the audio less that of the frames."""
    av_end_ms: float | None = None
    """End of the audio less that of the frames."""
    damage: tuple[Damage, ...] = ()
    edits: tuple[str, ...] = ()
    windows: tuple[WindowReport, ...] = ()
    judgement: JudgementReport | None = None
    """None where it was not come to."""
    clip_ms: float | None = None
    """Median time to decode a clip: 2 s, 16 frames at 224 pixels, audio at 16 kHz."""
    examined_seconds: float | None = None
