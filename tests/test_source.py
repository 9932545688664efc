"""Bytes and file objects give what the path gives: frames, audio, errors and limits."""

import hashlib
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from avmix.decode import (
    ClipError,
    ClipRangeError,
    Limits,
    MediaOpenError,
    UnsupportedMediaError,
    decode_clip,
    decode_clips,
    decode_sound,
)
from avmix.prepare.probe import probe
from avmix.types import Clip
from tests.media import write_flash_beep

FORM: dict[str, Any] = {"duration_seconds": 0.6, "fps": 25}
CONTAINERS: dict[str, dict[str, Any]] = {
    ".mp4": {},
    ".mov": {},
    ".mkv": {},
    ".webm": {},
    ".avi": {},
    ".ts": {"audio_codec": "aac"},
    ".mpg": {"video_codec": "mpeg2video", "audio_codec": "mp2"},
    ".flv": {"audio_codec": "aac"},
    ".wmv": {"video_codec": "msmpeg4v3", "audio_codec": "wmav2"},
}


def assert_same(one: Clip, other: Clip) -> None:
    np.testing.assert_array_equal(one.video, other.video)
    np.testing.assert_array_equal(one.audio, other.audio)
    np.testing.assert_array_equal(one.pts_seconds, other.pts_seconds)
    assert (one.audio_valid, one.num_held) == (other.audio_valid, other.num_held)


@pytest.mark.parametrize("suffix", CONTAINERS)
def test_the_same_as_from_the_path(tmp_path: Path, suffix: str) -> None:
    path = write_flash_beep(tmp_path / f"x{suffix}", seconds=2, b_frames=0, **CONTAINERS[suffix])
    data = path.read_bytes()
    sha256 = hashlib.sha256(data).hexdigest()
    starts = (1.2, 0.3, 5.0)
    want = decode_clips(path, starts_seconds=starts, **FORM)
    with path.open("rb") as file:
        file.seek(100)
        for source in (data, bytearray(data), io.BytesIO(data), file):
            got = decode_clips(source, starts_seconds=starts, sha256=sha256, **FORM)
            for one, other in zip(got[:2], want[:2], strict=True):
                assert isinstance(one, Clip)
                assert isinstance(other, Clip)
                assert_same(one, other)
            assert isinstance(got[2], ClipRangeError)
            assert isinstance(want[2], ClipRangeError)
            assert got[2].problem == want[2].problem
        assert file.tell() == 100
    assert probe(data) == probe(path)
    sound: dict[str, Any] = {"start_seconds": 0.3, "duration_seconds": 0.6}
    np.testing.assert_array_equal(
        decode_sound(data, **sound).audio, decode_sound(path, **sound).audio
    )


def test_errors_name_the_source_and_limits_hold(tmp_path: Path) -> None:
    path = write_flash_beep(tmp_path / "x.mp4", seconds=1)
    data = path.read_bytes()
    with pytest.raises(MediaOpenError, match="<9 bytes>: cannot be opened"):
        decode_clip(b"not media", start_seconds=0, **FORM)
    with pytest.raises(MediaOpenError, match="<0 bytes>: is empty"):
        probe(b"")
    with pytest.raises(ClipRangeError, match=f"<{len(data)} bytes>: the window begins"):
        decode_clip(data, start_seconds=3, **FORM)
    with path.open("rb") as file, pytest.raises(ClipError) as caught:
        decode_clip(file, start_seconds=3, **FORM)
    assert caught.value.path == str(path)
    with pytest.raises(UnsupportedMediaError, match="give a path"):
        decode_clip(data, start_seconds=0, limits=Limits(max_source_bytes=len(data) - 1), **FORM)
    assert decode_clip(data, start_seconds=0, limits=Limits(max_source_bytes=len(data)), **FORM)
