"""What decoding keeps between frames, windows and files, to be fast, must not show in results."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from avmix.decode import decode_clip, decode_clips, file_reader
from avmix.decode.bitstream import damage_check
from avmix.decode.container import open_media
from avmix.decode.selective import _stretches
from avmix.decode.video import SeekMissed
from avmix.types import Clip
from tests.media import write_media
from tests.truth import RECIPES

KINDS = ("colour_601.mp4", "ten_bit.mp4", "colour_709_full.mkv", "odd_size.mkv")
"""Files whose frames differ in size, format, matrix and levels."""


@pytest.fixture(scope="module")
def file_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Path of a file of the table of truth, written when it is first asked for."""
    folder = tmp_path_factory.mktemp("reuse")

    def make(name: str) -> Path:
        path = folder / name
        return path if path.exists() else write_media(path, RECIPES[name])

    return make


def first_second(path: Path) -> Clip:
    return decode_clip(path, start_seconds=0.0, duration_seconds=1.0, num_frames=2, short_side=40)


def test_frames_do_not_depend_on_the_files_that_were_scaled_before(
    file_of: Callable[[str], Path],
) -> None:
    paths = [file_of(name) for name in KINDS]

    def alone(path: Path) -> Clip:
        with ThreadPoolExecutor(1) as fresh:  # scalers belong to a thread
            return fresh.submit(first_second, path).result()

    expected = [alone(path) for path in paths]
    assert len({clip.video.shape for clip in expected}) > 1
    for _ in range(2):
        for path, one in zip(paths, expected, strict=True):
            np.testing.assert_array_equal(first_second(path).video, one.video)


def test_times_that_fall_together_have_the_same_frame(file_of: Callable[[str], Path]) -> None:
    """Four times less than the precision of numbers apart are one."""
    clip = decode_clip(
        file_of("plain.mp4"), start_seconds=1.0, duration_seconds=1e-16, num_frames=4, audio="skip"
    )
    one = decode_clip(
        file_of("plain.mp4"), start_seconds=1.0, duration_seconds=0.01, num_frames=1, audio="skip"
    )
    assert clip.video.shape[0] == 4
    assert clip.pts_seconds.tolist() == one.pts_seconds.tolist() * 4
    np.testing.assert_array_equal(clip.video, np.repeat(one.video, 4, axis=0))


def test_the_share_of_audio_is_a_number_of_python(file_of: Callable[[str], Path]) -> None:
    assert type(first_second(file_of("plain.mp4")).audio_valid) is float


def test_an_mp4_is_known_by_its_first_bytes(tmp_path: Path, file_of: Callable[[str], Path]) -> None:
    renamed = tmp_path / "film.avi"
    renamed.write_bytes(file_of("plain.mp4").read_bytes())
    for path, name in ((renamed, "mov"), (file_of("plain.mkv"), "matroska")):
        with open_media(str(path)) as media:
            assert name in media.container.format.name.split(",")


def test_where_decoding_begins() -> None:
    # An open group: the frames of packets 4 and 5 are shown before the key frame of packet 3.
    is_key = [True, False, False, True, False, False, False, False, False, False]
    seconds = [0.0, 0.2, 0.1, 0.5, 0.3, 0.4, 0.6, 0.7, 0.8, 0.9]
    assert _stretches([2], is_key, seconds) == [(0, 2)]
    assert _stretches([4], is_key, seconds) == [(0, 4)]
    assert _stretches([6, 9], is_key, seconds) == [(3, 9)]
    assert _stretches([1, 9], is_key, seconds) == [(0, 9)]  # too near for another beginning
    with pytest.raises(SeekMissed):
        _stretches([0], [False, True], [0.0, 0.1])
    with pytest.raises(SeekMissed):
        _stretches([1], [True, False], [0.1, 0.0])


@pytest.mark.parametrize(
    ("unit", "broken"),
    [
        (b"\x65abc", False),
        (b"\x65a\0b", False),
        (b"\x65a\0\0\3b", False),  # as encoders write two zeros
        (b"\x65a\0\0\1b", True),
        (b"\x65a\0\0\2b", True),
        (b"\x65a\0\0\0b", True),
        (b"\x65a\0\0\0", False),  # zeros may end a unit
    ],
)
def test_forbidden_bytes_in_the_second_unit(unit: bytes, broken: bool) -> None:
    is_broken = damage_check("h264", b"\1\0\0\0\xff\xe1\0")  # lengths of four bytes
    first = b"\x09\xf0"
    data = b"".join(len(part).to_bytes(4) + part for part in (first, unit))
    assert is_broken(data) == broken


def write_long(path: Path) -> Path:
    """24 seconds of frames and audio that differ from second to second, in closed groups."""
    draw = np.random.default_rng(0)
    with av.open(path, "w") as container:
        video = container.add_stream("libx264", rate=10, options={"g": "10"})
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        audio = container.add_stream("aac", rate=16_000, layout="mono")
        for second in range(24):
            for _ in range(10):
                image = draw.integers(0, 255, (6, 8, 3), np.uint8).repeat(8, 0).repeat(8, 1)
                container.mux(video.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
            wave = np.sin(np.arange(16_000) * (0.05 + 0.01 * second)) * 9000
            frame = av.AudioFrame.from_ndarray(wave.astype(np.int16)[None], "s16", "mono")
            frame.sample_rate = 16_000
            container.mux(audio.encode(frame))
        container.mux([*video.encode(), *audio.encode()])
    return path


@pytest.mark.parametrize("ending", ["mp4", "mkv", "ts"])
def test_windows_far_apart_are_read_from_one_open_file_as_each_alone(
    ending: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_long(tmp_path / f"long.{ending}")
    kinds = {"duration_seconds": 1.0, "num_frames": 3, "short_side": 32}
    starts = (0.0, 20.5, 8.25, 23.5, 14.0)
    alone = [decode_clip(path, start_seconds=start, **kinds) for start in starts]
    opened: list[str] = []

    def counted(name: str, *args: Any, **more: Any) -> Any:
        opened.append(name)
        return open_media(name, *args, **more)

    monkeypatch.setattr(file_reader, "open_media", counted)
    together = decode_clips(path, starts_seconds=starts, **kinds)
    assert len(opened) == 1
    for one, other in zip(alone, together, strict=True):
        assert isinstance(other, Clip)
        np.testing.assert_array_equal(one.video, other.video)
        np.testing.assert_array_equal(one.audio, other.audio)
        assert one.pts_seconds.tolist() == other.pts_seconds.tolist()
