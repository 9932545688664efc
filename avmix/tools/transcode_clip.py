"""Transcoding of one clip, with PyAV or the ffmpeg program."""

import math
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import av
import av.error

from avmix.decode import ClipError, decode_audio
from avmix.decode.mono_track import track_of
from avmix.decode.source import as_file
from avmix.media.judgement import entry_of
from avmix.media.whole_clip import fps_of, frames_of, num_frames_of
from avmix.media.write_mp4 import audio_rate, write_mp4
from avmix.system.atomic_files import DISK_REFUSES, replacing_path
from avmix.tools.transcode_check import LIMITS, TranscodeError, check
from avmix.types import Entry

Codec = Literal["aac", "opus"]
_OPUS_HZ = 48_000


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetFormat:
    """What the new files are like."""

    short_side: int = 256
    """Pixels, even; of smaller frames nothing is made larger."""
    gop: int = 12
    """Frames from one keyframe to the next, at most."""
    audio: Codec = "aac"
    margin_seconds: float = 0.0
    """Kept before and after the stretch, where the file has it."""
    crf: int = 20
    """Quality of H.264: less is better and larger."""
    ffmpeg: str = ""
    """The program, by path; "" for PyAV alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One clip and where it goes."""

    entry: Entry
    path: str
    """Path of the new file, relative to the new root."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Transcoded:
    """What became of a clip."""

    entry: Entry | None
    """Its new row; None where there is none."""
    reason: str = ""
    """Why there is none."""
    by: str = ""
    """`pyav` or `ffmpeg`."""
    fatal: bool = False
    """True where the disk refuses, and no other clip can be made either."""


def make_one(root: Path, out: Path, job: Job, *, form: TargetFormat) -> Transcoded:
    """Write and check one clip; nothing is left of one that does not hold."""
    path = out / job.path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        stretch, num = stretch_of(job.entry, form.margin_seconds)
        by = "pyav"
        if form.ffmpeg:
            by = "ffmpeg"
            try:
                _by_ffmpeg(root, stretch, path, num, form)
                check(root, stretch, path, num)
            except (TranscodeError, ClipError):
                by = "pyav"  # which the program gets wrong: times that are missing, edit lists
        if by == "pyav":
            _by_pyav(root, stretch, path, form)
            check(root, stretch, path, num)
        entry = _row(job, stretch, path, out)
    except (ClipError, TranscodeError) as error:
        path.unlink(missing_ok=True)
        what = error.problem if isinstance(error, ClipError) else str(error)
        reason = f"{type(error).__name__}: {' '.join(what.split())}"
        return Transcoded(entry=None, reason=reason)
    except (OSError, av.error.FFmpegError) as error:
        reason = f"{type(error).__name__}: {error.strerror or error}"
        return Transcoded(entry=None, reason=reason, fatal=error.errno in DISK_REFUSES)
    return Transcoded(entry=entry, by=by)


def stretch_of(entry: Entry, margin_seconds: float) -> tuple[Entry, int]:
    """What is kept of the file of `entry`, as an entry, and how many frames that is.

    The stretch with its margin, from the beginning of a frame to the end of one, so that frames
    keep their times against the audio.
    """
    if entry.video is None:
        raise TranscodeError("has no video")
    fps, limit = float(fps_of(entry)), entry.usable_until_seconds or entry.video.duration_seconds
    first = max(math.floor((entry.start_seconds - margin_seconds) * fps + 0.01), 0)
    last = math.ceil((min(entry.end_seconds + margin_seconds, limit)) * fps - 0.01)
    last = max(min(last, math.floor(limit * fps + 0.01)), first + 1)
    stretch = replace(entry, start_seconds=first / fps, end_seconds=last / fps)
    return stretch, num_frames_of(stretch)


def _by_pyav(root: Path, stretch: Entry, path: Path, form: TargetFormat) -> None:
    rate, wave = _OPUS_HZ, None
    if stretch.audio is not None:
        rate = _OPUS_HZ if form.audio == "opus" else min(audio_rate(stretch.audio.rate_hz), 48_000)
        wave = decode_audio(
            root / stretch.path,
            start_seconds=stretch.start_seconds,
            duration_seconds=stretch.duration_seconds,
            sample_rate=rate,
            channels=2 if stretch.audio.channels > 1 else 1,
            audio_track=track_of(stretch.audio),
            until_seconds=stretch.usable_until_seconds,
            limits=LIMITS,
        ).audio
    pieces = frames_of(root, stretch, short_side=form.short_side)
    write_mp4(path, pieces, wave, fps=fps_of(stretch), rate_hz=rate, gop=form.gop, crf=form.crf,
              codec=form.audio)  # fmt: skip


def _by_ffmpeg(root: Path, stretch: Entry, path: Path, num: int, form: TargetFormat) -> None:
    """The same by the program. Raises `TranscodeError` where it fails."""
    assert stretch.video is not None
    side = min(form.short_side, stretch.video.width, stretch.video.height) // 2 * 2
    tall = stretch.video.height > stretch.video.width
    size = f"{side}:-2" if tall else f"-2:{side}"
    fps = fps_of(stretch)
    audio: list[str] = ["-an"]
    track = track_of(stretch.audio) or 0
    if stretch.audio is not None:
        rate = _OPUS_HZ if form.audio == "opus" else min(audio_rate(stretch.audio.rate_hz), 48_000)
        channels = 2 if stretch.audio.channels > 1 else 1
        seconds = f"{stretch.duration_seconds:.6f}"
        audio = [
            "-af", f"aresample=async=1:first_pts=0,apad,atrim=end={seconds}",
            "-c:a", "libopus" if form.audio == "opus" else "aac", "-ar", str(rate),
            "-ac", str(channels), "-b:a", "128k" if channels == 2 else "96k",
        ]  # fmt: skip
    begin = [
        form.ffmpeg, "-nostdin", "-v", "error", "-y", "-seek_timestamp", "1",
        "-ss", f"{stretch.video.start_seconds + stretch.start_seconds:.6f}",
    ]  # fmt: skip
    options = [
        "-map", "0:v:0",
        *(["-map", f"0:a:{track}"] if stretch.audio is not None else []), "-map_metadata", "-1",
        "-vf", f"scale=iw*sar:ih,setsar=1,scale={size},fps={fps}:start_time=0",
        "-frames:v", str(num), "-c:v", "libx264", "-preset", "veryfast", "-crf", str(form.crf),
        "-g", str(form.gop), "-bf", "0", "-pix_fmt", "yuv420p", "-threads", "1", *audio,
        "-movflags", "+faststart", "-f", "mp4",
    ]  # fmt: skip
    with (
        as_file((root / stretch.path).absolute(), LIMITS) as source,
        replacing_path(path) as unfinished,
    ):
        command = [*begin, "-i", source, *options, str(unfinished.absolute())]
        done = subprocess.run(command, capture_output=True, text=True, errors="replace")
        if done.returncode:
            raise TranscodeError(f"ffmpeg: {' '.join(done.stderr.split())[-200:]}")


def _row(job: Job, stretch: Entry, path: Path, out: Path) -> Entry:
    old = job.entry
    new = entry_of(path, out, clip_id=old.clip_id, labels=old.labels, source_id=old.source_id,
                   check="full")  # fmt: skip
    return replace(
        new,
        start_seconds=round(old.start_seconds - stretch.start_seconds, 6),
        end_seconds=min(
            round(old.end_seconds - stretch.start_seconds, 6), round(new.end_seconds, 6)
        ),
        synthetic=old.synthetic,
        video_labels=old.video_labels,
        audio_labels=old.audio_labels,
        unknown_labels=old.unknown_labels,
        subsets=old.subsets,
    )
