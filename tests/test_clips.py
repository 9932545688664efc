"""The public call beyond one plain window: several windows, hashes, limits, clocks."""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from avmix.decode import (
    ClipError,
    ClipRangeError,
    DecodeError,
    Limits,
    MediaOpenError,
    UnsupportedMediaError,
    decode_clip,
    decode_clips,
)
from avmix.decode.request import MAX_SECONDS
from avmix.decode.selective import SelectiveFrames
from avmix.types import Clip
from tests.media import read_counter, write_flash_beep

EVENTS = tuple(round(0.4 + 0.8 * k, 1) for k in range(25))
FORM: dict[str, Any] = {"duration_seconds": 1.0, "fps": 25}


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """20 seconds with a keyframe every two, in any container."""
    folder = tmp_path_factory.mktemp("films")

    def make(suffix: str) -> Path:
        path = folder / f"film{suffix}"
        if not path.exists():
            how: dict[str, Any] = {"audio_codec": "aac"} if suffix == ".ts" else {}
            write_flash_beep(path, seconds=20, events_seconds=EVENTS, gop=50, **how)
        return path

    return make


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".webm", ".avi", ".ts"])
def test_windows_read_together_equal_windows_read_alone(
    film: Callable[[str], Path], suffix: str
) -> None:
    # Unordered, overlapping, twice the same, far apart.
    starts = [9.3, 0.0, 9.9, 18.77, 0.4, 9.3]
    together = decode_clips(film(suffix), starts_seconds=starts, **FORM)
    for start, clip in zip(starts, together, strict=True):
        alone = decode_clip(film(suffix), start_seconds=start, **FORM)
        assert isinstance(clip, Clip)
        assert clip.start_seconds == start
        np.testing.assert_array_equal(clip.video, alone.video)
        np.testing.assert_array_equal(clip.pts_seconds, alone.pts_seconds)
        # A codec that overlaps its blocks rounds otherwise when it begins elsewhere.
        np.testing.assert_allclose(clip.audio, alone.audio, atol=2e-3)
        assert (clip.num_held, clip.audio_valid) == (alone.num_held, alone.audio_valid)


@pytest.mark.parametrize("suffix", [".mp4", ".avi"])
def test_one_outcome_for_each_window(film: Callable[[str], Path], suffix: str) -> None:
    first, late, last = decode_clips(film(suffix), starts_seconds=[19.0, 20.5, 3.0], **FORM)
    assert isinstance(first, Clip)
    assert isinstance(late, ClipRangeError)
    assert "ends at 20.000 s" in str(late)
    assert isinstance(last, Clip)
    assert decode_clips(film(suffix), starts_seconds=[], **FORM) == []


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".avi", ".ts"])
def test_a_time_that_no_file_has_is_after_the_end(film: Callable[[str], Path], suffix: str) -> None:
    form: dict[str, Any] = {"start_seconds": MAX_SECONDS, "duration_seconds": 1e9, "num_frames": 2}
    with pytest.raises(ClipRangeError, match="the window begins at 1000000000"):
        decode_clip(film(suffix), audio="skip", **form)
    clip = decode_clip(film(suffix), start_seconds=0, audio_shift_seconds=-MAX_SECONDS, **FORM)
    assert clip.audio_valid == 0
    clip = decode_clip(film(suffix), start_seconds=0, audio_shift_seconds=MAX_SECONDS, **FORM)
    assert clip.audio_valid == 0


def test_overlapping_windows_are_decoded_once(
    film: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[int] = []
    original = SelectiveFrames._decode_one

    def spy(self: SelectiveFrames, packet: Any, *rest: Any) -> None:
        decoded.append(packet is not None)
        original(self, packet, *rest)

    monkeypatch.setattr(SelectiveFrames, "_decode_one", spy)
    decode_clips(film(".mp4"), starts_seconds=[8.1, 8.4, 8.7], **FORM)
    assert sum(decoded) <= 45  # keyframes are at 8.0 and 10.0, the last window ends at 9.7


def test_only_what_is_needed_is_decoded(
    film: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    fed: list[str] = []
    for name in ("feed", "_decode_one"):
        original = getattr(SelectiveFrames, name)

        def spy(
            self: SelectiveFrames,
            packet: Any,
            *rest: Any,
            name: str = name,
            original: Any = original,
        ) -> None:
            fed.append(name)
            original(self, packet, *rest)

        monkeypatch.setattr(SelectiveFrames, name, spy)
    clip = decode_clip(film(".mp4"), start_seconds=17.0, duration_seconds=1.0, num_frames=2)
    assert [read_counter(frame) for frame in clip.video] == [431, 443]
    # Read from the keyframe at 16 s; decoded to 17.75 s, not to 18.
    assert fed.count("feed") < 60
    assert fed.count("_decode_one") < 48


def test_a_file_is_checked_against_its_hash(tmp_path: Path, film: Callable[[str], Path]) -> None:
    path = tmp_path / "a.webm"
    data = bytearray(film(".webm").read_bytes())
    path.write_bytes(data)
    sha256 = hashlib.sha256(data).hexdigest()
    decode_clip(path, start_seconds=0, sha256=sha256.upper(), **FORM)
    data[-1000] ^= 1  # within VP9, which does not notice
    path.write_bytes(data)
    os.utime(path, ns=(1, 1))  # whatever the resolution of the file system's clock is
    with pytest.raises(DecodeError, match="has changed: its SHA-256 begins") as caught:
        decode_clip(path, start_seconds=0, sha256=sha256, **FORM)
    assert str(path) in str(caught.value)
    decode_clip(path, start_seconds=0, **FORM)


@pytest.mark.parametrize(
    ("limits", "error", "says"),
    [
        (Limits(max_pixels=160 * 95), UnsupportedMediaError, "160 x 96"),
        (Limits(max_streams=1), MediaOpenError, "cannot be opened"),
        (
            Limits(max_clip_bytes=160 * 96 * 3 * 24),
            UnsupportedMediaError,
            "25 frames of 160 x 96",
        ),
        (Limits(max_held_bytes=1000), UnsupportedMediaError, "compressed frames"),
        (Limits(seconds=0.0), UnsupportedMediaError, "longer than 0 s"),
    ],
)
def test_limits(
    film: Callable[[str], Path], limits: Limits, error: type[ClipError], says: str
) -> None:
    with pytest.raises(error, match=says) as caught:
        decode_clip(film(".mp4"), start_seconds=5, limits=limits, **FORM)
    assert str(film(".mp4")) in str(caught.value)


def test_time_may_begin_with_the_container(tmp_path: Path) -> None:
    # Audio begins at 0, frames at 0.4: number 0 is there early, and again at its time.
    path = write_flash_beep(tmp_path / "late.mkv", video_start_seconds=0.4, seconds=2)
    clip = decode_clip(path, start_seconds=0, duration_seconds=1, fps=10, origin="container")
    assert [read_counter(frame) for frame in clip.video] == [0, 0, 0, 0, 0, 2, 5, 7, 10, 12]
    clip = decode_clip(path, start_seconds=0, duration_seconds=1, fps=10)
    assert [read_counter(frame) for frame in clip.video] == [0, 2, 5, 7, 10, 12, 15, 17, 20, 22]


@pytest.mark.parametrize("wrong", [{"audio": "maybe"}, {"origin": "start"}, {"sample_rate": 0}])
def test_wrong_choices(film: Callable[[str], Path], wrong: dict[str, Any]) -> None:
    # beartype reports it first where the tests have it look.
    with pytest.raises(Exception, match=r"audio|origin|sample_rate"):
        decode_clip(film(".mp4"), start_seconds=0, **FORM, **wrong)
