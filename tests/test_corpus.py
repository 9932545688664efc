"""No clean file is refused: every encoder of the ffmpeg program, in every container that takes it.

Verdicts about damage rest on what decoders say and on bytes that encoders do not write. Each file
here is as an encoder wrote it, so every verdict would be a false one.
"""

import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from avmix.decode import ClipError, decode_clips
from tests.media import read_counter, write_flash_beep

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="the ffmpeg program is missing"),
]

FPS, SECONDS, SIZE = 25, 2.4, (176, 144)
STARTS = (0.0, 0.31, 0.8, 1.17, 1.6)
WINDOW_SECONDS = 0.8

HEADED: dict[str, tuple[str, tuple[str, ...]]] = {
    "mp4": ("mp4", ("aac", "libmp3lame", "ac3", "libopus")),
    "mov": ("mov", ("pcm_s16le", "aac", "alac")),
    "mkv": ("matroska", ("libopus", "flac", "libvorbis", "pcm_s16le", "wavpack", "libmp3lame")),
    "webm": ("webm", ("libopus", "libvorbis")),
    "flv": ("flv", ("aac", "libmp3lame")),
    "wmv": ("asf", ("wmav2", "libmp3lame")),
    "3gp": ("3gp", ("aac",)),
}
"""Ending, muxer, audio in turns: containers whose header holds what a decoder has to know."""
HEADLESS: dict[str, tuple[str, tuple[str, ...]]] = {
    "avi": ("avi:avoid_negative_ts=disabled", ("libmp3lame", "pcm_s16le", "ac3", "adpcm_ms")),
    "ts": ("mpegts", ("aac", "mp2", "ac3")),
    "mpg": ("mpeg", ("mp2", "ac3")),
    "vob": ("vob", ("mp2", "ac3")),
    "ogv": ("ogg", ("libvorbis", "libopus", "flac")),
}
"""Those in which the stream says it. Where audio begins before 0, AVI would show frame 0 twice."""


ONLY = {suffix: ("mpeg1video", "mpeg2video", "libx264", "libx265") for suffix in ("mpg", "vob")}
"""The muxers of MPEG-PS take anything, and then nobody knows what it is."""


@dataclass(frozen=True, slots=True)
class How:
    """What an encoder needs beyond its defaults."""

    options: tuple[str, ...] = ()
    size: tuple[int, int] = SIZE


HOW: dict[str, How] = {
    "libx264": How(("-preset", "veryfast", "-g", "20")),
    "libx264rgb": How(("-preset", "veryfast", "-g", "20")),
    "libx265": How(("-preset", "ultrafast", "-x265-params", "log-level=none:pools=none:keyint=20")),
    "libvpx": How(("-deadline", "realtime", "-cpu-used", "8", "-b:v", "1M", "-g", "20")),
    "libvpx-vp9": How(("-deadline", "realtime", "-cpu-used", "8", "-b:v", "1M", "-g", "20")),
    "libaom-av1": How(("-cpu-used", "8", "-usage", "realtime", "-g", "20")),
    "libsvtav1": How(("-preset", "12", "-g", "20")),
    "librav1e": How(("-speed", "10", "-g", "20")),
    "dnxhd": How(("-profile:v", "dnxhr_lb", "-pix_fmt", "yuv422p"), (352, 288)),
    "dvvideo": How(("-pix_fmt", "yuv420p"), (720, 576)),
}
LOSSY_BITS = ("-b:v", "1500k")
EXCLUDED: dict[str, str] = {
    "libx264.wmv": "B-frames: ASF loses in which order they are shown; refused by name",
    "libx264rgb.wmv": "B-frames, as libx264",
    "libx265.wmv": "B-frames, as libx264",
    "mpeg1video.wmv": "one time for each frame, and libav takes it for another; refused by name",
    "mpeg2video.wmv": "as mpeg1video",
    "smc.mkv": "Matroska does not hold its palette: all is black",
}
"""Files that no program on libav reads as they were written."""
_HARDWARE = re.compile(r"_(nvenc|omx|qsv|v4l2m2m|vaapi|cuvid|amf|mf)$")


@cache
def encoders() -> tuple[str, ...]:
    """Video encoders of the ffmpeg program that run anywhere."""
    if shutil.which("ffmpeg") is None:
        return ()
    listed = subprocess.run(
        ["ffmpeg", "-hide_banner", "-encoders"], capture_output=True, text=True, check=True
    ).stdout
    names = re.findall(r"^ V\S{5} (\w\S*)", listed, re.MULTILINE)
    return tuple(n for n in names if not _HARDWARE.search(n))


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_source(tmp_path_factory.mktemp("source"))


def write_source(folder: Path) -> Path:
    """Frames with their numbers and some beeps, without loss."""
    return write_flash_beep(
        folder / "source.mkv",
        video_codec="ffv1",
        audio_codec="pcm_s16le",
        size=SIZE,
        sample_rate=44_100,
        seconds=SECONDS,
        events_seconds=(0.4, 1.2, 2.0),
        b_frames=0,
    )


def write_corpus(source: Path, encoder: str, turn: int, folder: Path) -> list[Path]:
    """What the encoder writes, in each container that takes it; encoded once for each table."""
    how = HOW.get(encoder, How(LOSSY_BITS))
    for containers, flags in ((HEADED, "+global_header"), (HEADLESS, "-global_header")):
        outputs: list[str] = []
        tracks: list[str] = []
        for place, (suffix, (muxer, audios)) in enumerate(containers.items()):
            if encoder not in ONLY.get(suffix, (encoder,)):
                continue
            name = audios[(turn + place) % len(audios)]
            tracks += [name] if name not in tracks else []
            track = tracks.index(name)
            path = folder / f"{encoder}_{name}.{suffix}"
            outputs.append(f"[f={muxer}:onfail=ignore:select=\\'v:0,a:{track}\\']{path}")
        audio = [part for k, name in enumerate(tracks) for part in (f"-c:a:{k}", name)]
        command = ["ffmpeg", "-v", "error", "-y", "-i", str(source), "-map", "0:v"]
        command += ["-map", "0:a"] * len(tracks)
        command += ["-c:v", encoder, "-strict", "-2", "-threads", "1", *how.options]
        command += ["-s", "{}x{}".format(*how.size), "-sws_flags", "bilinear"]
        command += [*audio, "-b:a", "96k", "-flags", flags, "-f", "tee", "|".join(outputs)]
        subprocess.run(command, capture_output=True, timeout=120, check=False)
    written = sorted(folder.glob(f"{encoder}_*"))
    return [p for p in written if f"{encoder}{p.suffix}" not in EXCLUDED and _is_clean(p)]


def _is_clean(path: Path) -> bool:
    """True where the ffmpeg program finds every frame, of a codec of its own.

    What a muxer refused is no file. Into AVI it writes any codec; what has no tag there is read as
    raw video.
    """
    found = subprocess.run(
        ["ffprobe", "-v", "error", "-count_frames", "-select_streams", "v:0", "-show_entries",
         "stream=codec_name,nb_read_frames", "-of", "default=nw=1:nk=1", str(path)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    codec, num_frames, *_ = [*found.stdout.split(), "", ""]
    is_own = codec != "rawvideo" or path.name.startswith("rawvideo_")
    return is_own and num_frames == str(round(SECONDS * FPS)) and not found.stderr


@dataclass(slots=True)
class Tally:
    """What came of the windows of some files."""

    num_files: int = 0
    num_windows: int = 0
    num_unread: int = 0
    """Frames whose number is not readable: the codec keeps too little of them."""
    num_frames: int = 0
    wrong: list[str] = field(default_factory=list)
    """Refused windows, and frames that are others."""
    least_valid: float = 1.0


def look(path: Path, tally: Tally) -> None:
    """Decode the windows of a clean file."""
    tally.num_files += 1
    num = round(WINDOW_SECONDS * FPS)
    try:
        clips = decode_clips(path, starts_seconds=STARTS, duration_seconds=WINDOW_SECONDS, fps=FPS)
    except ClipError as error:
        clips = [error] * len(STARTS)
    for start, clip in zip(STARTS, clips, strict=True):
        tally.num_windows += 1
        if isinstance(clip, ClipError):
            tally.wrong.append(f"{path.name} {start}: {clip.problem}")
            continue
        tally.least_valid = min(tally.least_valid, clip.audio_valid)
        expected = np.floor((start + np.arange(num) / FPS) * FPS + 0.02).astype(int)
        for row, number in enumerate(expected):
            tally.num_frames += 1
            try:
                found = read_counter(clip.video[row])
            except ValueError:
                tally.num_unread += 1
                continue
            if found != number:
                tally.wrong.append(f"{path.name} {start}: frame {found} for {number}")
                break


@pytest.mark.parametrize("encoder", encoders())
def test_no_clean_file_is_refused(
    source: Path, tmp_path: Path, encoder: str, record_property: Callable[[str, object], None]
) -> None:
    tally = Tally()
    for path in write_corpus(source, encoder, encoders().index(encoder), tmp_path):
        look(path, tally)
    record_property("files", tally.num_files)
    assert not tally.wrong
    assert tally.num_unread <= tally.num_frames * 0.02
