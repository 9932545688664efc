"""Truth of many kinds of files, by construction, and how far a decoder is from it.

`RECIPES` is the table of files that must decode exactly, `REFUSED` that of files that must not
decode at all. `truth_of` states what is on the screen and to be heard, from what was written;
`measure` compares with it what any decoder returns for a window. Time 0 is the first frame
presented.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction as F
from pathlib import Path
from typing import Any, Literal

import av
import numpy as np

from avmix.decode.avi_index import LATE_SAMPLES
from tests.media import (
    PATCHES,
    AudioSpec,
    Beep,
    Edit,
    Recipe,
    VideoSpec,
    find_beeps,
    read_number,
    read_patches,
)

RATE_HZ = 16_000
"""Of the audio that decoders under test return."""
EPSILON_SECONDS = 0.0005
"""A frame may begin this late and still count as shown: containers round times."""
BEEP_TOLERANCE_SECONDS = 0.001
PATCH_TOLERANCE = 4.0
"""Of 255; coding and chroma of half the size cost some."""
LEVEL_TOLERANCE = 0.03
"""Of the level of a beep; lossy codecs stay within it."""
_HALF_BEEP_SECONDS = 0.012
_ROUNDING = {"mkv": 0.0005, "webm": 0.0005, "flv": 0.0005, "wmv": 0.0005, "asf": 0.0005,
             "ts": 0.5 / 90_000, "m2ts": 0.5 / 90_000, "mpg": 0.5 / 90_000, "vob": 0.5 / 90_000,
             }  # fmt: skip
"""Half a tick, of containers that round times; the others hold those of the table exactly."""
_CODEC_FRAME = {"aac": 1024, "libmp3lame": 1152, "mp2": 1152, "libopus": 960, "vorbis": 2048,
                "ac3": 1536, "eac3": 1536, "flac": 4608, "alac": 4096, "wmav2": 2048, "wmav1": 2048,
                }  # fmt: skip
"""Samples in one packet; of PCM as the muxers write it."""
_CODEC_LEVEL = {"libmp3lame": 0.95}
"""LAME turns everything down by so much, whoever decodes it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Truth:
    """What a file presents; all times are seconds after its first frame."""

    frame_seconds: tuple[float, ...]
    """When each frame appears, ascending from 0."""
    frame_numbers: tuple[int, ...]
    """What is drawn in each frame."""
    end_seconds: float
    """When the last frame goes."""
    beeps: tuple[Beep, ...]
    """Those whose middle is presented; level is that of the mean of all channels but the LFE."""
    audio_seconds: tuple[tuple[float, float], ...]
    """Stretches that have audio."""
    codec_frame_seconds: float
    """Length of what the audio codec puts into one packet."""
    rounding_seconds: float
    """By how much the container may round a time."""
    size: tuple[int, int]
    """Width and height as shown, in pixels as stored."""
    shape: float
    """Width over height of what is seen, with square pixels."""
    coloured: bool
    """True when the frames have `PATCHES`."""

    @property
    def beep_seconds(self) -> tuple[float, ...]:
        """Middle of each beep."""
        return tuple(beep.seconds for beep in self.beeps)

    def num_held(self, window: "Window") -> tuple[int, int]:
        """Fewest and most frames of the window after the end; one number but for rounding."""
        slack = EPSILON_SECONDS + self.rounding_seconds + 2e-6
        after = window.times[:, None] >= self.end_seconds + np.array([2e-6, -slack])
        low, high = after.sum(0)
        return int(low), int(high)

    def audio_valid(self, window: "Window") -> float:
        """Share of the window that has audio."""
        begin, end = window.start_seconds, window.start_seconds + window.duration_seconds
        covered = sum(max(min(b, end) - max(a, begin), 0.0) for a, b in self.audio_seconds)
        return covered / window.duration_seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """What is asked of a decoder."""

    start_seconds: float
    duration_seconds: float
    num_frames: int
    grid: Literal["middles", "starts"] = "middles"
    """Where in `num_frames` equal parts of the window the wanted times lie."""

    @property
    def times(self) -> np.ndarray:
        """Wanted times, seconds."""
        shift = 0.5 if self.grid == "middles" else 0.0
        parts = (np.arange(self.num_frames) + shift) * self.duration_seconds / self.num_frames
        return self.start_seconds + parts


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How far a decoder was from the truth in one window."""

    av_error_seconds: float = 0.0
    """Worst distance of a beep from its flash; infinite when a beep is missing or made up."""
    num_beeps: int = 0
    """On which that rests."""
    num_wrong_frames: int = 0
    """Frames that were not on the screen at the wanted time, or not readable."""
    pts_error_seconds: float = 0.0
    """Worst error of the times that the decoder states, where it states any."""
    level_error: float = 0.0
    """Worst |level / true level - 1| of a beep."""
    colour_error: float = 0.0
    """Worst difference of a patch from its colour, of 255."""
    problem: str = ""
    """What else is wrong: shapes, an exception."""


Decode = Callable[[Path, float, float, int], tuple[np.ndarray, np.ndarray | None, np.ndarray]]
"""(path, start_seconds, duration_seconds, num_frames) to frames (t, h, w, 3), their times or
None, and mono audio at `RATE_HZ`."""


def truth_of(recipe: Recipe) -> Truth:
    """What the file of a recipe presents; it must have video."""
    frame, audio = recipe.main_video, recipe.main_audio
    assert frame is not None
    shown, end = _presented_frames(frame)
    zero = shown[0][0]
    stretches = [] if audio is None else _presented_audio(audio)
    level = 0.0 if audio is None else _level(audio)
    beeps = []
    for index, event in enumerate(recipe.events):
        for at, media, seconds in stretches:
            assert audio is not None
            from_first = event - audio.start_seconds
            if media <= from_first < media + seconds:
                heard = float(at + from_first - media - zero) + recipe.undeclared_delay_seconds
                beeps.append(Beep(heard, index % 12, level))
    width, height = frame.size
    stored_aspect = 1 / frame.aspect if frame.quarter_turns % 2 else frame.aspect
    samples = 0 if audio is None else _CODEC_FRAME.get(audio.codec, 1024)
    return Truth(
        frame_seconds=tuple(float(at - zero) for at, _ in shown),
        frame_numbers=tuple(number for _, number in shown),
        end_seconds=float(end - zero),
        beeps=tuple(beeps),
        audio_seconds=tuple(
            # What is late without saying so begins with what nobody should hear.
            (float(at - zero), float(at + s - zero) + recipe.undeclared_delay_seconds)
            for at, _, s in stretches
        ),
        codec_frame_seconds=samples / (audio.rate if audio else RATE_HZ),
        rounding_seconds=_ROUNDING.get(recipe.name.rsplit(".", 1)[1], 0.0),
        size=frame.size,
        shape=width / height * float(stored_aspect),
        coloured=bool(frame.colour),
    )


def _presented_frames(track: VideoSpec) -> tuple[list[tuple[F, int]], F]:
    """(time, number) of each frame presented, and the end, on the clock of the container."""
    frames = track.frames
    times = [time for _, time in frames]
    ends = [*times[1:], times[-1] + 1 / track.fps]
    shown: list[tuple[F, int]] = []
    at = track.start_seconds
    for edit in track.edits or (Edit(media_seconds=F(0), seconds=ends[-1]),):
        if edit.media_seconds is not None:
            low, high = edit.media_seconds, edit.media_seconds + edit.seconds
            for (number, time), end in zip(frames, ends, strict=True):
                same = bool(shown) and shown[-1][1] == number
                if time < high and end > low and not same:
                    shown.append((at + max(time - low, F(0)), number))
            at += min(edit.seconds, ends[-1] - low)
        else:
            at += edit.seconds
    return shown, at


def _presented_audio(track: AudioSpec) -> list[tuple[F, F, F]]:
    """(time on the clock of the container, time from the first sample, length) of each stretch."""
    lost = [F(second).limit_denominator(1000) for second in track.lost]
    kept = [(F(0), lost[0]), (lost[1], track.seconds)] if lost[1] else [(F(0), track.seconds)]
    stretches: list[tuple[F, F, F]] = []
    at = track.start_seconds
    for edit in track.edits or (Edit(media_seconds=F(0), seconds=track.seconds),):
        media = edit.media_seconds
        if media is not None:
            for low, high in kept:
                low, high = max(low, media), min(high, media + edit.seconds)
                if low < high:
                    stretches.append((at + low - media, low, high - low))
        at += edit.seconds
    return stretches


def _level(track: AudioSpec) -> float:
    names = [channel.name for channel in av.AudioLayout(track.layout).channels]
    levels = track.levels or (1.0,) * len(names)
    heard = [level for level, name in zip(levels, names, strict=True) if "LFE" not in name]
    return sum(heard) / len(heard) * _CODEC_LEVEL.get(track.codec, 1.0)


def windows_of(truth: Truth, seed: int) -> dict[str, Window]:
    """Windows of a file: its start, its middle, exact boundaries, across the end, random ones."""
    times, end = truth.frame_seconds, truth.end_seconds
    last = end - times[-1]
    rng = np.random.default_rng(seed)
    windows = {
        "start": Window(start_seconds=0.0, duration_seconds=1.0, num_frames=10),
        "inside": Window(start_seconds=0.3071 * end, duration_seconds=0.9, num_frames=7),
        "end": Window(start_seconds=max(end - 0.43, 0.0), duration_seconds=0.8, num_frames=8),
        # Just before the last frame goes, and just after.
        "last": Window(
            start_seconds=max(end - 0.4 * last, 0.0), duration_seconds=0.8 * last, num_frames=2
        ),
    }
    middle = len(times) // 3
    period = float(np.median(np.diff([*times, end])))
    if middle:
        windows["boundary"] = Window(
            start_seconds=times[middle] - period / 2, duration_seconds=12 * period, num_frames=12
        )
    num_frames = max(round(0.9 / period), 1)
    windows["every frame"] = Window(
        start_seconds=times[middle],
        duration_seconds=num_frames * period,
        num_frames=num_frames,
        grid="starts",
    )
    for number in range(3):
        windows[f"random {number}"] = Window(
            start_seconds=float(rng.uniform(0, end - 0.01)),
            duration_seconds=float(rng.uniform(0.2, 1.2)),
            num_frames=int(rng.integers(1, 13)),
            grid="middles" if number % 2 else "starts",
        )
    return windows


def measure(decode: Decode, path: Path, truth: Truth, window: Window) -> Outcome:
    """Compare what `decode` returns for a window with the truth; its exceptions are reported."""
    try:
        frames, pts, audio = decode(
            path, window.start_seconds, window.duration_seconds, window.num_frames
        )
    except Exception as error:  # any library may raise anything
        return Outcome(problem=f"{type(error).__name__}: {error}", av_error_seconds=math.nan)
    num_samples = round(window.duration_seconds * RATE_HZ)
    problem = ""
    if frames.shape != (window.num_frames, truth.size[1], truth.size[0], 3):
        problem = f"frames have the shape {frames.shape}"
    elif audio.shape != (num_samples,):
        problem = f"{audio.shape} samples instead of {num_samples}"
    wanted, numbers = window.times, _read(frames)
    shifts = np.array([_shift(n, t, truth) for n, t in zip(numbers, wanted, strict=False)])
    beeps, error = _match(truth, window, find_beeps(audio, RATE_HZ))
    for true, found in beeps:
        nearest = shifts[int(np.argmin(np.abs(wanted[: len(shifts)] - true.seconds)))]
        error = max(error, abs(found.seconds + window.start_seconds - true.seconds - nearest))
    return Outcome(
        av_error_seconds=error,
        num_beeps=len(beeps),
        num_wrong_frames=int(np.sum(shifts != 0)) + window.num_frames - len(shifts),
        pts_error_seconds=0.0 if pts is None else _pts_error(truth, numbers, pts),
        level_error=max((abs(f.level / t.level - 1) for t, f in beeps), default=0.0),
        colour_error=_colour_error(truth, numbers, frames),
        problem=problem,
    )


def _read(frames: np.ndarray) -> list[int | None]:
    numbers: list[int | None] = []
    for frame in frames:
        try:
            numbers.append(read_number(frame))
        except ValueError:
            numbers.append(None)
    return numbers


def _shift(number: int | None, wanted: float, truth: Truth) -> float:
    """By how much a frame is shown too late (above 0) or too early; 0 where it is right."""
    if number not in truth.frame_numbers:
        return math.inf
    index = truth.frame_numbers.index(number)
    begin = truth.frame_seconds[index]
    if wanted < begin - EPSILON_SECONDS - truth.rounding_seconds - 2e-6:
        return wanted - begin
    if index + 1 == len(truth.frame_seconds) or wanted < truth.frame_seconds[index + 1] - 2e-6:
        return 0.0
    return wanted - truth.frame_seconds[index + 1]


def _match(
    truth: Truth, window: Window, found: list[Beep]
) -> tuple[list[tuple[Beep, Beep]], float]:
    """Pairs of true and found beeps; the second is infinite when one has no partner."""
    pairs, error, left = [], 0.0, list(found)
    begin, end = window.start_seconds, window.start_seconds + window.duration_seconds
    for true in truth.beeps:
        at = true.seconds
        inside = begin < at - _HALF_BEEP_SECONDS and at + _HALF_BEEP_SECONDS < end
        # Codecs fade what is within a packet of a cut.
        margin = _HALF_BEEP_SECONDS + truth.codec_frame_seconds
        whole = any(low + margin < at < high - margin for low, high in truth.audio_seconds)
        same = [b for b in left if b.tone == true.tone]
        nearest = min(same, key=lambda b: abs(b.seconds + begin - at), default=None)
        if nearest is not None and abs(nearest.seconds + begin - at) < 3:
            left.remove(nearest)
            if inside and whole:
                pairs.append((true, nearest))
        elif inside and whole:
            error = math.inf
    for beep in left:
        if _HALF_BEEP_SECONDS < beep.seconds < end - begin - _HALF_BEEP_SECONDS:
            error = math.inf
    return pairs, error


def _pts_error(truth: Truth, numbers: list[int | None], pts: np.ndarray) -> float:
    true = dict(zip(truth.frame_numbers, truth.frame_seconds, strict=True))
    # A frame that an edit cuts into is presented from 0 and may say when it would have begun.
    errors = [abs(max(t, 0.0) - true[n]) for n, t in zip(numbers, pts, strict=True) if n in true]
    return max(errors, default=0.0)


def _colour_error(truth: Truth, numbers: list[int | None], frames: np.ndarray) -> float:
    if not truth.coloured:
        return 0.0
    return max(float(np.abs(read_patches(f) - PATCHES).max()) for f in frames)


def _video(**what: Any) -> tuple[VideoSpec, ...]:
    return (VideoSpec(**what),)


def _audio(codec: str, **what: Any) -> tuple[AudioSpec, ...]:
    return (AudioSpec(codec=codec, **what),)


def _edit(media_seconds: float | None, seconds: float, rate: float = 1.0) -> Edit:
    media = None if media_seconds is None else F(media_seconds).limit_denominator(1000)
    return Edit(media_seconds=media, seconds=F(seconds).limit_denominator(1000), rate=F(rate))


_B: dict[str, Any] = {"b_frames": 2}
_PYRAMID: dict[str, Any] = {
    "b_frames": 3,
    "options": (("preset", "veryfast"), ("b-pyramid", "normal")),
}
_OPEN: dict[str, Any] = {"b_frames": 2, "gop": 12, "options": (("x264-params", "open-gop=1"),)}
_ALT_REF = (("auto-alt-ref", "1"), ("lag-in-frames", "12"), ("deadline", "good"), ("cpu-used", "8"))
_DROPS = (3, 4, 11, 12, 13, 27, 31, 32, 40, 52, 53, 66, 67, 68, 69, 77)
_ALTERNATING = tuple(F(2 * k + k % 2, 50) for k in range(78))
_LONG_FRAME = tuple(F(k, 25) + (F(13, 10) if k > 20 else 0) for k in range(48))
_MILLISECONDS = tuple(F(40 * k + (7 * k * k) % 23, 1000) for k in range(80))
_PCM = _audio("pcm_s16le")
_FLAC = _audio("flac")
_OPUS = _audio("libopus")
_VP9 = _video(codec="libvpx-vp9")
_MPEG4 = _video(codec="mpeg4")
_AVI = (("avoid_negative_ts", "disabled"),)
_MPEG2 = _video(codec="mpeg2video", gop=12, b_frames=2)
_FRAGMENTS = (("movflags", "frag_keyframe+empty_moov+default_base_moof"),)
_LATE_MOOV = (("movflags", "frag_keyframe+delay_moov+default_base_moof"),)
_CLEAR: dict[str, Any] = {"options": (("crf", "8"),)}
_LEVELS = (0.9, 0.3, 0.5, 0.95, 0.2, 0.6)
_LEVELS_8 = (0.9, 0.3, 0.5, 0.95, 0.2, 0.6, 0.7, 0.1)


def _rates() -> list[Recipe]:
    rates = {"10": F(10), "12_5": F(25, 2), "15": F(15), "23_976": F(24000, 1001), "24": F(24),
             "29_97": F(30000, 1001), "30": F(30), "50": F(50), "59_94": F(60000, 1001),
             "60": F(60)}  # fmt: skip
    suffixes = ("mp4", "mkv", "mov", "ts", "avi", "flv", "webm")
    made = []
    for index, (name, fps) in enumerate(rates.items()):
        suffix = suffixes[index % len(suffixes)]
        audio = {"webm": _OPUS, "avi": _PCM, "flv": _audio("aac", rate=44_100)}
        video = _VP9 if suffix == "webm" else _video(b_frames=0 if suffix == "avi" else 2)
        made.append(
            Recipe(
                name=f"rate_{name}.{suffix}",
                video=(replace(video[0], fps=fps),),
                audio=audio.get(suffix, _audio("aac")),
            )
        )
    return made


RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in [
        # Containers.
        Recipe(name="plain.mp4", video=_video(**_B)),
        Recipe(name="plain.mov", video=_video(**_B)),
        Recipe(name="plain.m4v", video=_video(**_B), format="ipod"),
        Recipe(name="plain.mkv", video=_video(**_B)),
        Recipe(name="plain.webm", video=_VP9, audio=_OPUS),
        Recipe(name="plain.avi", video=_MPEG4, audio=_PCM),
        Recipe(name="plain.ts", video=_video(**_B)),
        Recipe(name="plain.m2ts", video=_video(**_B), audio=_audio("ac3"),
               options=(("mpegts_m2ts_mode", "1"),)),
        Recipe(name="plain.mpg", video=_MPEG2, audio=_audio("mp2")),
        Recipe(name="plain.vob", video=_MPEG2, audio=_audio("ac3")),
        Recipe(name="plain.flv", video=_video(**_B), audio=_audio("aac", rate=44_100)),
        Recipe(name="plain.wmv", video=_video(codec="wmv2"), audio=_audio("wmav2")),
        Recipe(name="plain.ogv", video=_video(codec="libvpx"), audio=_audio("libopus")),
        # Coarser, because H.263 clips the coefficients of a finer counter beyond reading.
        Recipe(name="plain.3gp", video=_video(codec="h263", size=(176, 144), gop=12,
                                              options=(("qmin", "6"),)),
               audio=_audio("aac", rate=16_000)),
        Recipe(name="faststart.mp4", video=_video(**_B),
               options=(("movflags", "faststart"),)),
        Recipe(name="fragments.mp4", video=_video(**_B), options=_FRAGMENTS),
        Recipe(name="fragments_late_moov.mp4", video=_video(**_B), options=_LATE_MOOV),
        Recipe(name="fragments_dash.mp4", video=_video(**_B),
               options=(("movflags", "dash+frag_keyframe+delay_moov+global_sidx"),)),
        Recipe(name="fragments_first_in_moov.mp4", video=_video(**_B),
               options=(("movflags", "frag_keyframe"),)),
        Recipe(name="no_edit_list.mp4", video=_video(**_B), options=(("use_editlist", "0"),)),
        Recipe(name="live.mkv", video=_video(**_B), options=(("live", "1"),)),
        Recipe(name="live.webm", video=_VP9, audio=_OPUS, options=(("live", "1"),)),
        Recipe(name="clock_wraps.ts", video=_video(**_B),
               options=(("output_ts_offset", "95442"),)),
        Recipe(name="negative_cts.mp4", video=_video(**_B),
               options=(("movflags", "negative_cts_offsets"),)),
        Recipe(name="audio_first.mkv", video=_video(**_B), audio_first=True),
        Recipe(name="audio_first.mp4", video=_video(**_B), audio_first=True),
        # Codecs of frames, and how their frames depend on one another.
        Recipe(name="no_b.mp4", video=_video()),
        Recipe(name="pyramid.mp4", video=_video(**_PYRAMID)),
        Recipe(name="pyramid.mkv", video=_video(**_PYRAMID)),
        Recipe(name="open_gop.mp4", video=_video(**_OPEN)),
        Recipe(name="open_gop.mkv", video=_video(**_OPEN)),
        Recipe(name="open_gop.ts", video=_video(**_OPEN)),
        Recipe(name="intra.mp4", video=_video(gop=1)),
        Recipe(name="intra.avi", video=_video(gop=1), audio=_PCM),
        Recipe(name="gop_250.mp4", video=_video(gop=250, **_B)),
        Recipe(name="gop_250.webm", video=_video(codec="libvpx-vp9", gop=250), audio=_OPUS),
        Recipe(name="gop_12.mkv", video=_video(gop=12, **_B)),
        Recipe(name="gop_30.ts", video=_video(gop=30, **_B)),
        Recipe(name="intra_refresh.mp4",
               video=_video(gop=20, options=(("intra-refresh", "1"),))),
        Recipe(name="ten_bit.mp4", video=_video(pix_fmt="yuv420p10le", **_B)),
        Recipe(name="lossless_444.mkv",
               video=_video(pix_fmt="yuv444p", options=(("qp", "0"),))),
        Recipe(name="hevc.mp4", video=_video(codec="libx265", b_frames=None)),
        Recipe(name="hevc_b.mkv", video=_video(
            codec="libx265", b_frames=None, options=(
                ("x265-params", "log-level=none:pools=1:frame-threads=1:bframes=3:keyint=24"),))),
        Recipe(name="hevc.ts", video=_video(codec="libx265", b_frames=None)),
        Recipe(name="mpeg4_b.mp4", video=_video(codec="mpeg4", **_B)),
        Recipe(name="mpeg4_b.avi", video=_video(codec="mpeg4", **_B), audio=_PCM),
        Recipe(name="mpeg4_packed.avi", audio=_PCM,
               video=_video(codec="mpeg4", b_frames=1, packed=True)),
        Recipe(name="mpeg4_b.mkv", video=_video(codec="mpeg4", **_B)),
        Recipe(name="h264_b.avi", video=_video(**_B), audio=_PCM),
        Recipe(name="msmpeg4.avi", video=_video(codec="msmpeg4"), audio=_PCM),
        Recipe(name="mpeg1.mpg", video=_video(codec="mpeg1video", gop=12, b_frames=2),
               audio=_audio("mp2")),
        Recipe(name="mpeg2.ts", video=_MPEG2, audio=_audio("mp2")),
        Recipe(name="mpeg2.mkv", video=_MPEG2, audio=_audio("ac3")),
        Recipe(name="vp8_alt_ref.webm", audio=_audio("vorbis", layout="stereo"),
               video=_video(codec="libvpx", options=_ALT_REF)),
        Recipe(name="vp9_alt_ref.webm", audio=_OPUS,
               video=_video(codec="libvpx-vp9", options=_ALT_REF)),
        Recipe(name="vp9_alt_ref.mp4", video=_video(codec="libvpx-vp9", options=_ALT_REF)),
        Recipe(name="av1.webm", video=_video(codec="libsvtav1", b_frames=None), audio=_OPUS),
        Recipe(name="av1.mp4", video=_video(codec="libsvtav1", b_frames=None)),
        Recipe(name="mjpeg.avi", audio=_PCM,
               video=_video(codec="mjpeg", pix_fmt="yuvj420p")),
        Recipe(name="mjpeg.mov", audio=_PCM,
               video=_video(codec="mjpeg", pix_fmt="yuvj420p")),
        Recipe(name="ffv1.mkv", video=_video(codec="ffv1"), audio=_FLAC),
        Recipe(name="prores.mov", audio=_audio("pcm_s24le"),
               video=_video(codec="prores_ks", pix_fmt="yuv422p10le", b_frames=None)),
        Recipe(name="huffyuv.avi", video=_video(codec="huffyuv", pix_fmt="yuv422p"),
               audio=_audio("pcm_u8", rate=22_050)),
        Recipe(name="sorenson.flv", video=_video(codec="flv"),
               audio=_audio("libmp3lame", rate=44_100)),
        Recipe(name="interlaced.ts",
               video=_video(options=(("x264-params", "tff=1"),), size=(160, 128))),
        Recipe(name="interlaced_mpeg2.mpg", audio=_audio("mp2"), video=_video(
            codec="mpeg2video", gop=12, b_frames=2, options=(("flags", "+ilme+ildct"),))),
        # Audio: codecs, rates, channels.
        Recipe(name="mp3.mp4", audio=_audio("libmp3lame")),
        Recipe(name="mp3.mkv", audio=_audio("libmp3lame", rate=44_100)),
        Recipe(name="mp3.avi", video=_MPEG4, audio=_audio("libmp3lame"), options=_AVI,
               undeclared_delay_seconds=LATE_SAMPLES["mp3"] / 48_000),
        *(Recipe(name=f"{codec}.avi", video=_MPEG4, audio=_audio(codec), options=_AVI,
                 undeclared_delay_seconds=LATE_SAMPLES[codec] / 48_000)
          for codec in ("mp2", "aac", "ac3", "eac3")),
        # As ffmpeg does it: the second frame comes one late, to make room for the delay.
        Recipe(name="mp3_room.avi", video=_video(codec="mpeg4", skipped=(1,)),
               audio=_audio("libmp3lame"), options=_AVI,
               undeclared_delay_seconds=1105 / 48_000),
        Recipe(name="ac3.mp4", audio=_audio("ac3")),
        Recipe(name="eac3.mkv", audio=_audio("eac3", layout="stereo")),
        Recipe(name="opus.mp4", audio=_OPUS),
        Recipe(name="flac.mkv", audio=_audio("flac", rate=96_000)),
        Recipe(name="flac.mp4", audio=_audio("flac", rate=44_100)),
        Recipe(name="alac.mov", audio=_audio("alac", rate=44_100, layout="stereo")),
        Recipe(name="vorbis.mkv", audio=_audio("vorbis", rate=44_100, layout="stereo")),
        Recipe(name="float_8000.mkv", audio=_audio("pcm_f32le", rate=8000)),
        Recipe(name="pcm_24.mov", audio=_audio("pcm_s24le", rate=88_200, layout="stereo")),
        Recipe(name="pcm_24.mkv", audio=_audio("pcm_s24le", rate=32_000)),
        Recipe(name="aac_8000.mp4", audio=_audio("aac", rate=8000, bit_rate=32_000)),
        Recipe(name="aac_11025.mp4", audio=_audio("aac", rate=11_025, bit_rate=48_000)),
        Recipe(name="aac_22050.mkv", audio=_audio("aac", rate=22_050)),
        Recipe(name="aac_96000.mp4", audio=_audio("aac", rate=96_000)),
        Recipe(name="stereo_levels.mkv",
               audio=_audio("flac", layout="stereo", levels=(0.9, 0.3))),
        Recipe(name="stereo_levels.mp4", audio=_audio("aac", layout="stereo", levels=(0.9, 0.3))),
        Recipe(name="surround.mkv", audio=_audio("flac", layout="5.1", levels=_LEVELS)),
        Recipe(name="surround.mp4",
               audio=_audio("aac", layout="5.1", levels=_LEVELS, bit_rate=384_000)),
        Recipe(name="surround_ac3.ts",
               audio=_audio("ac3", layout="5.1", levels=_LEVELS, bit_rate=448_000)),
        Recipe(name="surround_8.mov", audio=_audio("pcm_s16le", layout="7.1", levels=_LEVELS_8)),
        Recipe(name="surround_8.webm", video=_VP9, audio=_audio(
            "libopus", layout="7.1", levels=_LEVELS_8, bit_rate=512_000,
            options=(("mapping_family", "1"),))),
        # Where the streams begin and end.
        Recipe(name="video_late.mp4", video=_video(start_seconds=F(1, 5), **_B)),
        Recipe(name="video_late.mkv", video=_video(start_seconds=F(7, 10), **_B)),
        Recipe(name="video_late.webm", audio=_OPUS,
               video=_video(codec="libvpx-vp9", start_seconds=F(1, 10))),
        Recipe(name="video_late.ts", video=_video(start_seconds=F(18, 25), **_B)),
        Recipe(name="video_late.mpg", audio=_audio("mp2"), video=_video(
            codec="mpeg2video", gop=12, b_frames=2, start_seconds=F(2, 5))),
        Recipe(name="video_late.flv", video=_video(start_seconds=F(2, 5)),
               audio=_audio("aac", rate=44_100)),
        Recipe(name="audio_late.mp4", audio=_audio("aac", start_seconds=F(32, 100))),
        Recipe(name="audio_late.mov", audio=_audio("pcm_s16le", start_seconds=F(3, 2))),
        Recipe(name="audio_late.mkv", audio=_audio("aac", start_seconds=F(1, 10))),
        Recipe(name="audio_late.webm", video=_VP9,
               audio=_audio("libopus", start_seconds=F(1, 2))),
        Recipe(name="audio_late.ts", audio=_audio("aac", start_seconds=F(3, 2))),
        Recipe(name="audio_late.flv", audio=_audio("aac", rate=44_100, start_seconds=F(1, 2))),
        Recipe(name="audio_late.mpg", video=_MPEG2,
               audio=_audio("mp2", start_seconds=F(1, 2))),
        Recipe(name="both_late.mp4", video=_video(start_seconds=F(833, 100), **_B),
               audio=_audio("aac", start_seconds=F(833, 100))),
        Recipe(name="both_late.mkv", video=_video(start_seconds=F(833, 100), **_B),
               audio=_audio("aac", start_seconds=F(843, 100))),
        Recipe(name="both_late.ts", video=_video(start_seconds=F(208, 25), **_B),
               audio=_audio("aac", start_seconds=F(8))),
        Recipe(name="both_late_fragments.mp4", video=_video(start_seconds=F(833, 100)),
               audio=_audio("aac", start_seconds=F(863, 100)), options=_LATE_MOOV),
        Recipe(name="short_sound.mp4", video=_video(**_B),
               audio=_audio("aac", seconds=F(1, 2))),
        Recipe(name="short_sound.mkv", audio=_audio("libopus", seconds=F(13, 10))),
        Recipe(name="short_video.mp4", video=_video(seconds=F(4, 5), **_B)),
        Recipe(name="short_video.ts", video=_video(seconds=F(4, 5), **_B)),
        Recipe(name="no_sound.mp4", video=_video(**_B), audio=()),
        Recipe(name="no_sound.ts", video=_video(**_B), audio=()),
        Recipe(name="one_frame.mp4", video=_video(seconds=F(1, 25))),
        Recipe(name="one_frame.mkv", video=_video(seconds=F(1, 25))),
        Recipe(name="three_frames.mp4", video=_video(seconds=F(3, 25), **_B)),
        Recipe(name="three_frames.avi", video=_video(codec="mpeg4", seconds=F(3, 25)),
               audio=_PCM),
        # Edit lists.
        Recipe(name="trim_both.mp4", video=_video(edits=(_edit(1, 2.2),), **_B),
               audio=_audio("aac", edits=(_edit(1, 2.2),))),
        Recipe(name="trim_between_frames.mp4", video=_video(edits=(_edit(0.725, 2.4),), **_B),
               audio=_audio("aac", edits=(_edit(0.725, 2.4),))),
        Recipe(name="trim_video.mp4", video=_video(edits=(_edit(0.52, 2.68),), **_B)),
        Recipe(name="trim_audio.mp4", video=_video(**_B),
               audio=_audio("aac", edits=(_edit(0.5, 2.7),))),
        Recipe(name="trim_audio.mov", audio=_audio("pcm_s16le", edits=(_edit(0.5, 2.7),))),
        Recipe(name="trim_ends.mp4", video=_video(edits=(_edit(0, 2),), **_B),
               audio=_audio("aac", edits=(_edit(0, 1.6),))),
        Recipe(name="trim_audio_end.mp4", audio=_audio("aac", edits=(_edit(0, 2.1),))),
        Recipe(name="late_and_trimmed_audio.mp4", video=_video(**_B), audio=_audio(
            "aac", edits=(_edit(None, 1.5), _edit(1.2, 1.5)))),
        Recipe(name="late_and_trimmed_video.mp4", video=_video(
            edits=(_edit(None, 0.4), _edit(0.8, 2.4)), **_B)),
        Recipe(name="empty_edits.mov", video=_video(edits=(_edit(None, 0.3), _edit(0, 3.2))),
               audio=_audio("pcm_s16le", edits=(_edit(None, 0.75), _edit(0, 2.4)))),
        Recipe(name="contiguous_edits.mp4",
               video=_video(edits=(_edit(0.4, 1), _edit(1.4, 1.4)), **_B),
               audio=_audio("aac", edits=(_edit(0.4, 0.5), _edit(0.9, 1), _edit(1.9, 0.9)))),
        Recipe(name="trim_inside_gop.mov",
               video=_video(gop=250, edits=(_edit(2, 1.2),), **_PYRAMID),
               audio=_audio("alac", edits=(_edit(2, 1.2),))),
        # Gaps and varying rates.
        Recipe(name="sound_gap.mp4", video=_video(**_B),
               audio=_audio("aac", lost=(1.2, 1.8))),
        Recipe(name="sound_gap.mkv", audio=_audio("libopus", lost=(1.2, 1.8))),
        Recipe(name="sound_gap.ts", audio=_audio("aac", lost=(1.2, 1.8))),
        Recipe(name="sound_gap.flv", audio=_audio("aac", rate=44_100, lost=(1.2, 1.8))),
        Recipe(name="video_gap.mp4", video=_video(gop=10, lost=(1.2, 2.0), **_B)),
        Recipe(name="video_gap.mkv", video=_video(gop=10, lost=(1.2, 2.0))),
        Recipe(name="video_gap.webm", audio=_OPUS,
               video=_video(codec="libvpx-vp9", gop=10, lost=(1.2, 2.0))),
        Recipe(name="video_gap.ts", video=_video(gop=10, lost=(1.2, 2.0))),
        Recipe(name="drops.mp4", video=_video(skipped=_DROPS, **_B)),
        Recipe(name="drops.mkv", video=_video(skipped=_DROPS, **_B)),
        Recipe(name="drops.webm", video=_video(codec="libvpx-vp9", skipped=_DROPS),
               audio=_OPUS),
        Recipe(name="drops.ts", video=_video(skipped=_DROPS)),
        Recipe(name="drops.avi", video=_video(codec="mpeg4", skipped=_DROPS), audio=_PCM),
        Recipe(name="drops.flv", video=_video(skipped=_DROPS),
               audio=_audio("aac", rate=44_100)),
        Recipe(name="alternating.mp4", video=_video(times=_ALTERNATING, **_B)),
        Recipe(name="alternating.mkv", video=_video(times=_ALTERNATING)),
        Recipe(name="long_frame.mp4", video=_video(times=_LONG_FRAME, **_B)),
        Recipe(name="long_frame.mkv", video=_video(times=_LONG_FRAME)),
        Recipe(name="milliseconds.mp4", video=_video(times=_MILLISECONDS)),
        Recipe(name="milliseconds.webm", audio=_OPUS,
               video=_video(codec="libvpx-vp9", times=_MILLISECONDS)),
        # Other streams.
        Recipe(name="two_sounds.mp4", audio=(AudioSpec(default=False), AudioSpec())),
        Recipe(name="two_sounds.mkv", audio=(AudioSpec(default=False), AudioSpec(codec="libopus"))),
        Recipe(name="two_videos.mp4", video=(VideoSpec(default=False), VideoSpec())),
        Recipe(name="two_videos.mkv", video=(VideoSpec(default=False), VideoSpec(**_B))),
        Recipe(name="cover.mp4", extra=("cover",)),
        Recipe(name="subtitle.mkv", extra=("subtitle", "attachment")),
        Recipe(name="data.ts", extra=("data",)),
        # How frames are shown.
        Recipe(name="turned_90.mp4", video=_video(quarter_turns=1)),
        Recipe(name="turned_180.mov", video=_video(quarter_turns=2)),
        Recipe(name="turned_270.mp4", video=_video(quarter_turns=3)),
        Recipe(name="mirrored.mp4", video=_video(mirrored=True)),
        Recipe(name="mirrored_90.mp4", video=_video(mirrored=True, quarter_turns=1)),
        Recipe(name="wide_pixels.mp4", video=_video(aspect=F(2))),
        Recipe(name="tall_pixels.mkv", video=_video(aspect=F(1, 2))),
        Recipe(name="wide_pixels_turned.mp4", video=_video(aspect=F(3, 2), quarter_turns=1)),
        Recipe(name="colour_601.mp4", video=_video(colour="601", **_CLEAR)),
        Recipe(name="colour_709.mp4", video=_video(colour="709", **_CLEAR)),
        Recipe(name="colour_601_full.mp4", video=_video(colour="601_full", **_CLEAR)),
        Recipe(name="colour_709_full.mkv", video=_video(colour="709_full", **_CLEAR)),
        Recipe(name="colour_709_full.webm", audio=_OPUS,
               video=_video(codec="libvpx-vp9", colour="709_full")),
        # Without a tag, players go by the size.
        Recipe(name="colour_untagged.mp4", video=_video(colour="601_untagged", **_CLEAR)),
        Recipe(name="colour_untagged_wide.mp4",
               video=_video(colour="709_untagged", size=(1280, 96), **_CLEAR)),
        Recipe(name="odd_size.webm", video=_video(codec="libvpx-vp9", size=(161, 97)),
               audio=_OPUS),
        Recipe(name="odd_size.mkv", video=_video(codec="ffv1", size=(163, 99)), audio=_FLAC),
        Recipe(name="odd_size_444.mp4", video=_video(size=(161, 97), pix_fmt="yuv444p")),
        Recipe(name="tiny.mkv", video=_video(codec="ffv1", size=(2, 2), seconds=F(1, 5))),
        Recipe(name="long.mp4", slow=True,
               video=_video(fps=F(5), seconds=F(200), gop=250, **_B),
               audio=_audio("aac", seconds=F(200))),
        Recipe(name="long.mkv", slow=True, video=_video(fps=F(5), seconds=F(200), gop=250),
               audio=_audio("libopus", seconds=F(200))),
        *_rates(),
    ]
}  # fmt: skip
"""Files that must decode exactly, by name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """A file that must not be decoded, and what says so."""

    recipes: tuple[Recipe, ...]
    """Written one behind the other, which MPEG-TS allows."""
    error: tuple[str, ...]
    """Names of the classes in `avmix.decode` of which the error may be."""

    @property
    def name(self) -> str:
        """Of the file."""
        return self.recipes[0].name


WHOLE = Window(start_seconds=0.5, duration_seconds=2.0, num_frames=8)
"""What is asked of the files that must be refused: the place where they change lies in it."""
_EDITS = ("UnsupportedMediaError",)
_CHANGES = ("UnsupportedMediaError", "DecodeError")
_HALF = F(8, 5)


def _refused(error: tuple[str, ...], *recipes: Recipe) -> Refused:
    return Refused(recipes=recipes, error=error)


REFUSED: dict[str, Refused] = {
    refused.name: refused
    for refused in [
        _refused(_EDITS, Recipe(name="pieces.mp4", video=_video(
            edits=(_edit(0, 1), _edit(1.6, 1.4))))),
        _refused(_EDITS, Recipe(name="pieces_of_sound.mp4", audio=_audio(
            "aac", edits=(_edit(0, 1), _edit(1.6, 1.4))))),
        _refused(_EDITS, Recipe(name="piece_twice.mov", video=_video(
            edits=(_edit(0, 1.5), _edit(0, 1.5))), audio=_PCM)),
        _refused(_EDITS, Recipe(name="pieces_swapped.mp4", video=_video(
            edits=(_edit(1.6, 1.6), _edit(0, 1.6))))),
        _refused(_EDITS, Recipe(name="pause.mp4", video=_video(
            edits=(_edit(0, 1), _edit(None, 0.5), _edit(1, 2))))),
        _refused(_EDITS, Recipe(name="pause_of_sound.mp4", audio=_audio(
            "aac", edits=(_edit(0, 1), _edit(None, 0.5), _edit(1, 2))))),
        _refused(_EDITS, Recipe(name="half_speed.mp4", video=_video(
            edits=(_edit(0, 3.2, rate=0.5),)))),
        _refused(_EDITS, Recipe(name="double_speed_sound.mov", audio=_audio(
            "pcm_s16le", edits=(_edit(0, 1.6, rate=2),)))),
        _refused(_EDITS, Recipe(name="frozen.mov", audio=_PCM, video=_video(
            edits=(_edit(0.4, 1, rate=0), _edit(0.4, 2))))),
        # Its packets differ in length, and the first gives no samples: AVI counts bytes.
        _refused(("UnsupportedMediaError",), Recipe(name="vorbis.avi", video=_MPEG4,
                                                    audio=_audio("vorbis", layout="stereo"))),
        _refused(
            _CHANGES,
            Recipe(name="size_changes.ts", video=_video(seconds=_HALF),
                   audio=_audio("aac", seconds=_HALF)),
            Recipe(name="size_changes.ts",
                   video=_video(size=(192, 128), seconds=_HALF, start_seconds=_HALF),
                   audio=_audio("aac", seconds=_HALF, start_seconds=_HALF)),
        ),
        _refused(
            _CHANGES,
            Recipe(name="rate_changes.ts", video=_video(seconds=_HALF),
                   audio=_audio("mp2", seconds=_HALF)),
            Recipe(name="rate_changes.ts", video=_video(seconds=_HALF, start_seconds=_HALF),
                   audio=_audio("mp2", rate=32_000, seconds=_HALF, start_seconds=_HALF)),
        ),
        _refused(("NoVideoStreamError",), Recipe(name="sound_only.mp4", video=())),
        _refused(("NoVideoStreamError",),
                 Recipe(name="sound_only.mkv", video=(), audio=_OPUS)),
        _refused(("NoVideoStreamError",),
                 Recipe(name="cover_only.mp4", video=(), extra=("cover",))),
        _refused(("NoAudioStreamError",), Recipe(name="silent.mp4", audio=())),
        _refused(("NoAudioStreamError",),
                 Recipe(name="silent.avi", video=_MPEG4, audio=())),
    ]
}  # fmt: skip
"""Files of which no window may be returned, by name."""
