"""`avmix transcode`: re-encodes a prepared dataset into files that training reads fast.

Each clip becomes a file of its own: its stretch and a margin, its short side made smaller where it
is larger, a keyframe every few frames, H.264 and AAC (or Opus) in mp4. Video and audio come
through `avmix.decode`, so both are written on one clock from 0: frame k at k / fps, whatever the
source did, and its audio to the sample beside it. A constant rate is kept, and the times of its
frames; where it varies, frames are those on the screen at the mean rate. The ffmpeg
program may do it instead (`--ffmpeg`): once its files are checked, that saves 10 % at most, and of
AVI files as UCF101's it gets many wrong, which PyAV then makes (benchmarks/results/prepare.json).
What was written is read again and compared with the source, whoever wrote it, and what does not
hold is left out with its reason (`excluded.jsonl`).
"""

import argparse
import json
import math
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import av
import av.error
import numpy as np

from avmix.data.manifest import (
    Manifest,
    ManifestError,
    parse_row,
    read_manifest,
    row_of,
    splits_of,
    write_manifest,
)
from avmix.decode import ClipError, Limits, decode_audio, decode_clip
from avmix.decode.mono_track import channels_to_read, one_channel, track_of
from avmix.isolate.clip_pool import failure_text, for_each_clip
from avmix.isolate.process_pool import Failure
from avmix.media.fingerprint import shrunk
from avmix.media.judgement import entry_of
from avmix.media.probe import probe
from avmix.media.whole_clip import fps_of, frames_of, num_frames_of
from avmix.media.write_mp4 import audio_rate, write_mp4
from avmix.system import strict_json
from avmix.system.atomic_files import DISK_REFUSES, PARTIAL, replace_text, replacing_path
from avmix.system.printing import echo
from avmix.types import Entry

Codec = Literal["aac", "opus"]

MIN_PSNR_DB = 25.0
"""Smallest PSNR of frames of 32 x 32: real clips have 30 to 46, by crf 20."""
MAX_SHIFT_SECONDS = 0.002
"""Largest shift of the audio against its source."""

_JOURNAL = "transcode.jsonl"
_LOOK_PX = 64
"""Shorter side of what is decoded to compare."""
_LOOK_SECONDS = 1.0
_LISTEN_SECONDS = 4.0
_LISTEN_HZ = 16_000
_LOW_HZ = 60.0
_QUIET = 10 ** (-60 / 20)
_OPUS_HZ = 48_000
_LIMITS = Limits(seconds=600.0)
_MAX_LISTED = 20

EPILOG = """\
Interrupted or killed, the same command continues. Needs some 0.2 s of a core per second of video.
exit:   0 all clips were written   1 some were not (excluded.jsonl says why), or none could be   2 wrong
        usage   130 interrupted
"""  # noqa: E501


class TranscodeError(ValueError):
    """A clip, or the set, cannot be written; one line says why."""


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


def transcode(
    folder: Path,
    root: Path,
    out: Path,
    form: TargetFormat,
    *,
    workers: int = 0,
    seconds: float = 900.0,
) -> dict[str, Any]:
    """Make `out`, a dataset with the clips of `folder`: same ids, labels, sources and splits.

    Returns counts. `workers` processes, each limited to `seconds` for one clip; 0: none but this.
    Raises `TranscodeError` where `out` holds something else or nothing can be made, `ManifestError`
    as reading and writing manifests do, OSError where the disk refuses.
    """
    _check(form)
    manifests = {split: read_manifest(folder, split) for split in splits_of(folder)}
    notes = _notes(manifests, form)
    jobs = _jobs([e for m in manifests.values() for e in m.entries])
    done = _begin(out, notes)
    kept = {
        key: made for key, made in done.items()
        if made.entry is not None and _is_there(out, made.entry)
    }  # fmt: skip
    todo = [job for job in jobs if _key(job) not in kept]
    make = partial(make_one, root, out, form=form)
    with (out / _JOURNAL).open("a", encoding="utf-8") as journal:
        for at, made in for_each_clip(
            make, todo, workers=workers, seconds=seconds, what="transcoding"
        ):
            if isinstance(made, Failure):
                made = Transcoded(entry=None, reason=failure_text(made))
            if made.fatal:
                raise OSError(f"{out}: {made.reason}; the same command continues")
            kept[_key(todo[at])] = made
            row = None if made.entry is None else row_of(made.entry)
            line = {"key": _key(todo[at]), "row": row, "reason": made.reason, "by": made.by}
            # A line that a kill cut in two must not swallow this one.
            journal.write("\n" + strict_json.dumps(line) + "\n")
            journal.flush()
    return _finish(folder, out, manifests, notes, jobs, kept)


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


def check(root: Path, stretch: Entry, path: Path, num: int) -> None:
    """Compare a new file with the stretch of the source that it was made of.

    Raises `TranscodeError` where frames are missing or too many, its first or last second does
    not look like the source's or looks like it at another time, or its audio is not where the
    source's is, to `MAX_SHIFT_SECONDS`.
    """
    video, audio = probe(path)
    if video is None or video.num_frames != num:
        raise TranscodeError(f"has {video.num_frames if video else 0} frames, not {num}")
    if abs(video.start_seconds) > 1e-3 or video.vfr:
        raise TranscodeError(f"frames begin at {video.start_seconds:.3f} s or at no steady rate")
    if (audio is None) != (stretch.audio is None):
        raise TranscodeError("has audio where the source has none, or the other way round")
    fps, seconds = float(fps_of(stretch)), num / float(fps_of(stretch))
    look = max(min(round(_LOOK_SECONDS * fps), num), 1)
    for first in dict.fromkeys((0, num - look)):
        _check_frames(root, stretch, path, first, look, fps)
    if audio is not None:
        listen = min(_LISTEN_SECONDS, seconds)
        for start in dict.fromkeys((0.0, seconds - listen)):
            _check_audio(root, stretch, path, start, listen)


def audio_shift(
    source: np.ndarray, result: np.ndarray, rate_hz: int, max_seconds: float = MAX_SHIFT_SECONDS
) -> float | None:
    """By how many seconds `result` (s) is later than `source` (s), by correlation.

    0 where it fits about as well within `max_seconds` as anywhere, as what repeats itself fits at
    many places, and where the source is quiet. Inaudible parts do not count: codecs leave
    them out. None where they have nothing in common.
    """
    size = 1 << (2 * len(source) - 1).bit_length()
    audible = np.fft.rfftfreq(size, 1 / rate_hz) >= _LOW_HZ
    mine = np.fft.rfft(source.astype(np.float64), size) * audible
    other = np.fft.rfft(result.astype(np.float64), size) * audible
    fit = np.fft.irfft(np.conj(mine) * other, size)
    energies = [float(np.sum(np.fft.irfft(spectrum, size) ** 2)) for spectrum in (mine, other)]
    if energies[0] < len(source) * _QUIET**2:
        return 0.0
    norm = math.sqrt(energies[0] * energies[1])
    best = int(np.argmax(fit))
    if norm <= 0 or fit[best] < 0.5 * norm:
        return None
    reach = math.floor(max_seconds * rate_hz)
    close = np.concatenate([fit[: reach + 1], fit[size - reach :]])
    if close.max() >= 0.98 * fit[best]:
        return 0.0
    return (best if best < size // 2 else best - size) / rate_hz


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what `run` reads."""
    usual = TargetFormat()
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = EPILOG
    parser.add_argument("--root", "--media", type=Path, required=True, help="media folder")
    parser.add_argument("--manifest", type=Path, help="folder with dataset.json (--root)")
    parser.add_argument("--out", type=Path, required=True, help="folder for media and manifest")
    parser.add_argument("--short-side", type=int, default=usual.short_side, metavar="N",
                        help=f"short side of the frames, pixels ({usual.short_side})")  # fmt: skip
    parser.add_argument("--gop", type=int, default=usual.gop, metavar="N",
                        help=f"distance of keyframes, frames ({usual.gop})")  # fmt: skip
    parser.add_argument("--audio", choices=("aac", "opus"), default=usual.audio,
                        help=f"codec of the audio ({usual.audio})")  # fmt: skip
    parser.add_argument("--margin", type=float, default=usual.margin_seconds, metavar="SECONDS",
                        help="seconds kept before and after each stretch (0)")  # fmt: skip
    parser.add_argument("--crf", type=int, default=usual.crf, metavar="N",
                        help=f"quality of H.264, less is better ({usual.crf})")  # fmt: skip
    parser.add_argument("--ffmpeg", default="never", metavar="auto|never|PATH", help="ffmpeg to "
                        "encode with in place of PyAV, if its result verifies (never)")  # fmt: skip
    parser.add_argument("--workers", type=int, default=1, help="processes (1)")


def run(args: argparse.Namespace) -> int:
    """Make the set, say what was written, and return the exit code."""
    folder = args.manifest or args.root
    try:
        if args.workers < 1:
            raise TranscodeError(f"--workers must be at least 1, got {args.workers}")
        form = TargetFormat(
            short_side=args.short_side, gop=args.gop, audio=args.audio, crf=args.crf,
            margin_seconds=args.margin, ffmpeg=find_ffmpeg(args.ffmpeg),
        )  # fmt: skip
        counts = transcode(folder, args.root, args.out, form, workers=args.workers)
    except (TranscodeError, ManifestError, OSError) as error:
        echo(f"error: {error}", error=True)
        return 1
    except KeyboardInterrupt:
        echo("stopped; the same command continues", error=True)
        return 130
    echo(f"{args.out}: {counts['made']} clips, {counts['bytes'] / 1e6:.1f} MB "
          f"(were {counts['bytes_before'] / 1e6:.1f}); {counts['resampled']} of a varying rate are "
          "at their mean rate")  # fmt: skip
    if counts["excluded"]:
        where = args.out / "excluded.jsonl"
        echo(f"excluded {counts['excluded']}; see {where}", error=True)
    return int(bool(counts["excluded"]))


def find_ffmpeg(wanted: str) -> str:
    """Path of the program; "" for `never`, and for `auto` where there is none."""
    if wanted == "never":
        return ""
    found = shutil.which("ffmpeg" if wanted == "auto" else wanted)
    if found is None and wanted != "auto":
        raise TranscodeError(f"--ffmpeg {wanted}: no such program")
    return found or ""


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
            limits=_LIMITS,
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
    options = [
        form.ffmpeg, "-nostdin", "-v", "error", "-y", "-seek_timestamp", "1",
        "-ss", f"{stretch.video.start_seconds + stretch.start_seconds:.6f}",
        "-i", str((root / stretch.path).absolute()), "-map", "0:v:0",
        *(["-map", f"0:a:{track}"] if stretch.audio is not None else []), "-map_metadata", "-1",
        "-vf", f"scale=iw*sar:ih,setsar=1,scale={size},fps={fps}:start_time=0",
        "-frames:v", str(num), "-c:v", "libx264", "-preset", "veryfast", "-crf", str(form.crf),
        "-g", str(form.gop), "-bf", "0", "-pix_fmt", "yuv420p", "-threads", "1", *audio,
        "-movflags", "+faststart", "-f", "mp4",
    ]  # fmt: skip
    with replacing_path(path) as unfinished:
        command = [*options, str(unfinished.absolute())]
        done = subprocess.run(command, capture_output=True, text=True, errors="replace")
        if done.returncode:
            raise TranscodeError(f"ffmpeg: {' '.join(done.stderr.split())[-200:]}")


def _check_frames(root: Path, stretch: Entry, path: Path, first: int, num: int, fps: float) -> None:
    def small(file: Path, start: float, until: float | None = None) -> np.ndarray:
        clip = decode_clip(
            file,
            start_seconds=start + first / fps,
            duration_seconds=num / fps,
            num_frames=num,
            short_side=_LOOK_PX,
            audio="skip",
            until_seconds=until,
            limits=_LIMITS,
        )
        return shrunk(clip.video)  # whose sizes may differ by a row or column

    source = small(root / stretch.path, stretch.start_seconds, stretch.usable_until_seconds)
    result = small(path, 0.0)
    error = float(np.mean((source - result) ** 2))
    psnr = 10 * math.log10(255**2 / max(error, 1e-6))
    at = f"at {first / fps:.2f} s"
    if psnr < MIN_PSNR_DB:
        raise TranscodeError(f"{at} frames are not the source's: {psnr:.1f} dB")
    if num > 2:
        own = float(np.mean((source[1:-1] - result[1:-1]) ** 2))
        beside = min(float(np.mean((source[1:-1] - other) ** 2))
                     for other in (result[:-2], result[2:]))  # fmt: skip
        if own > 1.1 * beside + 1.0:
            raise TranscodeError(f"{at} frames are the source's of another moment")


def _check_audio(root: Path, stretch: Entry, path: Path, start: float, seconds: float) -> None:
    def heard(file: Path, first: float, track: int | None, until: float | None) -> np.ndarray:
        wave = decode_audio(
            file,
            start_seconds=first + start,
            duration_seconds=seconds,
            sample_rate=_LISTEN_HZ,
            channels=channels_to_read(stretch.audio),
            audio_track=track,
            until_seconds=until,
            limits=_LIMITS,
        ).audio
        return one_channel(stretch.audio, wave)

    source = heard(
        root / stretch.path,
        stretch.start_seconds,
        track_of(stretch.audio),
        stretch.usable_until_seconds,
    )
    result = heard(path, 0.0, None, None)
    shift = audio_shift(source, result, _LISTEN_HZ)
    if shift is None:
        raise TranscodeError(f"at {start:.2f} s the audio is not the source's")
    if abs(shift) > MAX_SHIFT_SECONDS:
        raise TranscodeError(f"at {start:.2f} s the audio is {1000 * shift:.1f} ms late")


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
    )


def _jobs(entries: Sequence[Entry]) -> list[Job]:
    """Files named as theirs were; where one file has several stretches, with their seconds."""
    names: dict[str, int] = {}
    for entry in entries:
        name = str(PurePosixPath(entry.path).with_suffix(""))
        names[name] = names.get(name, 0) + 1
    taken: set[str] = set()
    jobs: list[Job] = []
    for entry in entries:
        name = str(PurePosixPath(entry.path).with_suffix(""))
        if names[name] > 1:
            name += f"_{round(1000 * entry.start_seconds):06}_{round(1000 * entry.end_seconds):06}"
        while name in taken:
            name += "_"
        taken.add(name)
        jobs.append(Job(entry=entry, path=f"clips/{name}.mp4"))
    return jobs


def _check(form: TargetFormat) -> None:
    if form.short_side < 32 or form.short_side % 2:
        raise TranscodeError(f"--short-side must be even and at least 32, got {form.short_side}")
    if not 1 <= form.gop <= 300:
        raise TranscodeError(f"--gop must be from 1 to 300, got {form.gop}")
    if not 0 <= form.margin_seconds < 3600:
        raise TranscodeError(f"--margin must be in [0, 3600), got {form.margin_seconds}")
    if not 0 <= form.crf <= 51:
        raise TranscodeError(f"--crf must be from 0 to 51, got {form.crf}")


def _notes(manifests: Mapping[str, Manifest], form: TargetFormat) -> dict[str, Any]:
    """All that the files depend on."""
    arguments = {**asdict(form), "ffmpeg": bool(form.ffmpeg)}
    return {
        "made_by": "avmix transcode",
        "arguments": arguments,
        "from": {split: m.sha256 for split, m in manifests.items()},
        "pyav": av.__version__,
    }


def _begin(out: Path, notes: Mapping[str, Any]) -> dict[tuple, Transcoded]:
    """What an earlier run has made; an empty journal where there was none."""
    path = out / _JOURNAL
    if not path.exists():
        if out.exists() and any(out.iterdir()):
            raise TranscodeError(
                f"{out} is not empty and is not a transcoded dataset; choose another"
            )
        out.mkdir(parents=True, exist_ok=True)
        replace_text(path, strict_json.dumps(notes) + "\n")
        return {}
    for left in out.rglob(f"*{PARTIAL}"):  # by a kill
        left.unlink()
    lines = [_parsed(text) for text in path.read_text().split("\n")]
    if not lines or lines[0] is None or "made_by" not in lines[0]:
        raise TranscodeError(f"{path} is damaged; remove {out}")
    differ = [k for k in notes if json.loads(strict_json.dumps(notes[k])) != lines[0].get(k)]
    if differ:
        raise TranscodeError(
            f"{out} was written with other options ({', '.join(differ)}); choose another --out"
        )
    done: dict[tuple, Transcoded] = {}
    for line in lines[1:]:
        if line is not None:
            entry = parse_row(line["row"], str(path)) if line["row"] else None
            done[tuple(line["key"])] = Transcoded(entry=entry, reason=line["reason"], by=line["by"])
    return done


def _parsed(text: str) -> dict[str, Any] | None:
    try:
        return json.loads(text)
    except ValueError:
        return None  # cut by a kill: that clip is made once more


def _key(job: Job) -> tuple[str, str, float, float]:
    return (job.entry.clip_id, job.entry.sha256, job.entry.start_seconds, job.entry.end_seconds)


def _is_there(out: Path, entry: Entry) -> bool:
    path = out / entry.path
    return path.exists() and path.stat().st_size == entry.bytes


def _finish(
    folder: Path,
    out: Path,
    manifests: Mapping[str, Manifest],
    notes: Mapping[str, Any],
    jobs: Sequence[Job],
    made: Mapping[tuple, Transcoded],
) -> dict[str, Any]:
    """Write the manifest and what was left out; returns counts."""
    by_id = {job.entry.clip_id: made[_key(job)] for job in jobs}
    splits: dict[str, list[Entry]] = {}
    excluded: list[dict[str, str]] = []
    for split, manifest in manifests.items():
        for old in manifest.entries:
            one = by_id[old.clip_id]
            if one.entry is not None:
                splits.setdefault(split, []).append(one.entry)
            else:
                excluded.append({"clip_id": old.clip_id, "path": old.path, "split": split,
                                 "reason": one.reason})  # fmt: skip
    text = strict_json.lines(excluded)
    replace_text(out / "excluded.jsonl", text)
    if not splits:
        raise TranscodeError(f"{out}: no clip could be written; the first: {excluded[0]['reason']}")
    first = next(iter(manifests.values()))
    header = json.loads((folder / "dataset.json").read_bytes())
    old_entries = [e for m in manifests.values() for e in m.entries]
    resampled = sum(e.video is not None and e.video.vfr for e in old_entries)
    counts = {
        "made": sum(map(len, splits.values())),
        "excluded": len(excluded),
        "resampled": resampled,
        "by_ffmpeg": sum(one.by == "ffmpeg" for one in by_id.values()),
        "bytes": sum(e.bytes for es in splits.values() for e in es),
        "bytes_before": sum({e.path: e.bytes for e in old_entries}.values()),
    }
    write_manifest(
        out,
        classes=first.classes,
        protocol=first.protocol,
        splits=splits,
        notes={**notes, "counts": counts, "source": header.get("notes", {})},
        leaks=header.get("leaks", ""),
    )
    return counts
