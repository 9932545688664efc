"""Probing must agree with what was written into the file, and with what decoding finds."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from avmix.decode import ClipRangeError, MediaOpenError, decode_clip
from avmix.media.judgement import entry_of
from avmix.media.probe import probe
from tests.media import write_flash_beep

DATA = Path(__file__).parents[2] / "shared" / "data"


@pytest.mark.parametrize(
    ("suffix", "codecs"),
    [
        (".mp4", ("h264", "aac")),
        (".mov", ("h264", "aac")),
        (".mkv", ("h264", "opus")),
        (".webm", ("vp9", "opus")),
        (".avi", ("mpeg4", "mp3float")),
    ],
)
def test_containers(tmp_path: Path, suffix: str, codecs: tuple[str, str]) -> None:
    video, audio = probe(write_flash_beep(tmp_path / f"a{suffix}", seconds=2))
    assert video is not None
    assert audio is not None
    assert (video.codec, audio.codec) == codecs
    assert video.num_frames == 50
    assert video.fps == pytest.approx(25)
    assert video.duration_seconds == pytest.approx(2)
    assert (video.width, video.height, video.rotation, video.vfr) == (160, 96, 0, False)
    assert (audio.rate_hz, audio.channels, audio.silent) == (48_000, 1, False)
    assert audio.duration_seconds == pytest.approx(2, abs=0.06)
    assert audio.start_seconds == pytest.approx(0, abs=0.001)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_offsets(tmp_path: Path, suffix: str) -> None:
    late_video, _ = probe(
        write_flash_beep(tmp_path / f"v{suffix}", video_start_seconds=0.2, seconds=1)
    )
    _, late_audio = probe(
        write_flash_beep(tmp_path / f"a{suffix}", audio_start_seconds=0.32, seconds=1)
    )
    assert late_video is not None
    assert late_audio is not None
    assert late_video.start_seconds == pytest.approx(0.2, abs=0.001)
    assert late_video.num_frames == 25
    assert late_video.duration_seconds == pytest.approx(1)
    # AAC moves back by its priming, which is not heard.
    assert late_audio.start_seconds == pytest.approx(0.32, abs=0.025)


def test_variable_frame_rate_and_rotation(tmp_path: Path) -> None:
    path = write_flash_beep(tmp_path / "phone.mp4", skip_frames=(3, 4, 9), rotation=90, seconds=1)
    video, _ = probe(path)
    assert video is not None
    assert video.vfr
    assert video.num_frames == 22
    assert video.fps == pytest.approx(22)
    assert (video.width, video.height, video.rotation) == (96, 160, 90)


@pytest.mark.parametrize("layout", ["mono", "stereo", "5.1"])
def test_level(tmp_path: Path, layout: str) -> None:
    # One burst of peak 0.5: energy 0.25 * 1/2 (cosine) * 3/8 (Hann squared) * 16 ms, in one second.
    path = write_flash_beep(
        tmp_path / "level.mov",
        audio_codec="pcm_s16le",
        layout=layout,
        seconds=1,
        events_seconds=(0.4,),
    )
    _, audio = probe(path)
    assert audio is not None
    assert audio.rms_dbfs == pytest.approx(-31.2, abs=0.1)
    assert audio.channels == {"mono": 1, "stereo": 2, "5.1": 6}[layout]


def test_silence(tmp_path: Path) -> None:
    _, audio = probe(write_flash_beep(tmp_path / "quiet.mp4", events_seconds=(), seconds=1))
    assert audio is not None
    assert audio.silent
    assert audio.rms_dbfs == -120


def test_missing_streams_are_none(tmp_path: Path) -> None:
    video, audio = probe(write_flash_beep(tmp_path / "v.mp4", audio_codec=None, seconds=1))
    assert video is not None
    assert audio is None
    video, audio = probe(write_flash_beep(tmp_path / "a.mp4", video_codec=None, seconds=1))
    assert video is None
    assert audio is not None


def test_no_media(tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("not a film\n" * 100)
    with pytest.raises(MediaOpenError, match=r"text\.mp4"):
        probe(tmp_path / "text.mp4")
    with pytest.raises(FileNotFoundError):
        probe(tmp_path / "none.mp4")


def test_entry(tmp_path: Path) -> None:
    (tmp_path / "clips").mkdir()
    path = write_flash_beep(tmp_path / "clips" / "x y.mp4", seconds=1)
    entry = entry_of(path, tmp_path, clip_id="x", labels=["flash"], source_id="one")
    assert entry.path == "clips/x y.mp4"
    assert (entry.start_seconds, entry.end_seconds) == (0, pytest.approx(1))
    assert entry.labels == ("flash",)
    assert entry.bytes == path.stat().st_size
    assert entry.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert (entry.video, entry.audio) == probe(path)
    with pytest.raises(ValueError, match="subpath"):
        entry_of(path, tmp_path / "elsewhere", clip_id="x", labels=["flash"], source_id="one")


def test_the_end_probed_is_the_end_decoded(tmp_path: Path) -> None:
    files: list[tuple[str, dict[str, Any]]] = [
        ("a.mp4", {"skip_frames": (1, 24)}),
        ("b.mkv", {}),
        ("c.avi", {}),
        ("d.webm", {}),
    ]
    for name, how in files:
        check_end(write_flash_beep(tmp_path / name, seconds=1, **how))


REAL = sorted((DATA / "real_clips").glob("*")) + sorted((DATA / "ucf101_orig").glob("*g01*"))


@pytest.mark.parametrize("path", REAL, ids=lambda path: path.name)
def test_the_end_of_real_files(path: Path) -> None:
    if path.name == "corrupted.mp4":
        pytest.skip("its last frames cannot be decoded, which only decoding tells")
    check_end(path)


def check_end(path: Path) -> None:
    """A window is accepted just before the probed end, and refused after it."""
    video, _ = probe(path)
    assert video is not None
    decode: Callable[[float], Any] = lambda start: decode_clip(  # noqa: E731
        path, start_seconds=start, duration_seconds=0.1, num_frames=1, audio="skip"
    )
    assert decode(video.duration_seconds - 0.01).video.shape[1:3] == (video.height, video.width)
    with pytest.raises(ClipRangeError):
        decode(video.duration_seconds + 0.001)


def test_real_files_are_there() -> None:
    if not REAL:
        pytest.skip(f"no real files in {DATA}: their tests did not run")
