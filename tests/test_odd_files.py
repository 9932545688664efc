"""Files of which a decoder that begins in the middle is easily wrong: alone, together and from the
start, a window is the same, and what it shows is what was written."""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.video.frame import VideoFrame

from avmix.decode import ClipError, decode_clip, decode_clips
from avmix.types import Clip
from tests.media import draw_frame, read_counter, write_flash_beep

STARTS = (0.0, 0.4, 1.0, 1.7, 2.62)
FORM: dict[str, Any] = {"duration_seconds": 1.0, "fps": 25}
EVENTS = (0.4, 1.2, 2.0, 2.8, 3.6)


def _palettized(path: Path) -> Path:
    """Frames of 256 colours, which the header states once."""
    shades = np.full((256, 4), 255, np.uint8)  # opacity first, then the inverted levels
    shades[:, 1:] = 255 - np.arange(256, dtype=np.uint8)[:, None]
    with av.open(str(path), "w") as container:
        video: Any = container.add_stream("rawvideo", rate=25)
        video.width, video.height, video.pix_fmt = 160, 96, "pal8"
        audio: Any = container.add_stream("pcm_s16le", rate=16_000, layout="mono")
        for number in range(100):
            levels = 255 - draw_frame(number, size=(160, 96), flash=False)[..., 0]
            picture: Any = (np.ascontiguousarray(levels), shades)
            frame = VideoFrame.from_ndarray(picture, format="pal8")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            container.mux(video.encode(frame))
            sound = av.AudioFrame.from_ndarray(
                np.full((1, 640), number * 100, np.int16), format="s16", layout="mono"
            )
            sound.sample_rate, sound.pts = 16_000, number * 640
            container.mux(audio.encode(sound))
    return path


FILES: dict[str, Callable[[Path], Path]] = {
    "palette.mov": _palettized,
}


@pytest.fixture(scope="module")
def file_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    folder = tmp_path_factory.mktemp("odd")

    def make(name: str) -> Path:
        path = folder / name
        return path if path.exists() else FILES[name](path)

    return make


@pytest.mark.parametrize("name", FILES)
def test_alone_together_and_from_the_start_are_the_same(
    file_of: Callable[[str], Path], name: str
) -> None:
    path = file_of(name)
    together = decode_clips(path, starts_seconds=STARTS, **FORM)
    whole = decode_clip(path, start_seconds=0, duration_seconds=4, fps=25)
    for start, clip in zip(STARTS, together, strict=True):
        alone = decode_clip(path, start_seconds=start, **FORM)
        assert isinstance(clip, Clip)
        np.testing.assert_array_equal(clip.video, alone.video)
        np.testing.assert_array_equal(clip.pts_seconds, alone.pts_seconds)
        np.testing.assert_allclose(clip.audio, alone.audio, atol=2e-3)
        times = start + np.arange(25) / 25
        rows = np.rint(times * 25 - 0.25).astype(int)  # the start need not be at a frame
        np.testing.assert_array_equal(alone.video, whole.video[rows])
        first = round(start * alone.sample_rate)
        np.testing.assert_allclose(
            alone.audio, whole.audio[first : first + len(alone.audio)], atol=2e-3
        )
        assert alone.audio_valid > 0.99


@pytest.mark.parametrize("name", FILES)
def test_every_output_ascends_and_is_what_was_written(
    file_of: Callable[[str], Path], name: str
) -> None:
    for start in STARTS:
        clip = decode_clip(file_of(name), start_seconds=start, **FORM)
        numbers = np.array([read_counter(frame) for frame in clip.video])
        assert (np.diff(clip.pts_seconds) >= 0).all()
        np.testing.assert_array_equal(numbers, np.rint(clip.pts_seconds * 25))
        times = start + np.arange(25) / 25
        np.testing.assert_array_equal(numbers, np.floor(times * 25 + 0.02))


def test_what_the_first_packet_says_of_all_frames_counts_after_a_seek(tmp_path: Path) -> None:
    # Builds of x264 before 151 wrote 4:4:4 in another way; that of a later one, said to be of such
    # a build, is therefore damaged, wherever reading begins.
    path = tmp_path / "late.mp4"
    with av.open(str(path), "w") as container:
        video: Any = container.add_stream("libx264", rate=25, options={"crf": "10", "g": "25"})
        video.width, video.height, video.pix_fmt = 160, 96, "yuv444p"
        rng = np.random.default_rng(0)
        for number in range(75):
            picture = draw_frame(number, size=(160, 96), flash=False)
            picture[48:] += rng.integers(0, 40, (48, 160, 3), np.uint8)
            frame = VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
    data, mark = path.read_bytes(), b"x264 - core "
    at = data.index(mark) + len(mark)
    path.write_bytes(data[:at] + b"120" + data[at + 3 :])
    for start in (0.0, 1.5):
        with pytest.raises(ClipError, match="damaged"):
            decode_clip(path, start_seconds=start, duration_seconds=1, fps=5, audio="silence")
    path.write_bytes(data)
    clip = decode_clip(path, start_seconds=1.5, duration_seconds=1, fps=25, audio="silence")
    assert [read_counter(frame) for frame in clip.video] == list(range(37, 62))


def _with_times_of_decoding(path: Path, *, b_frames: int = 2) -> Path:
    """What is left when a stream with B-frames has passed a container without times (AVI)."""
    whole = write_flash_beep(
        path.with_name(f"source{path.suffix}.mp4"), events_seconds=EVENTS, b_frames=b_frames
    )
    with av.open(str(whole)) as source, av.open(str(path), "w") as target:
        streams = {s.index: target.add_stream_from_template(s) for s in source.streams}
        for packet in source.demux():
            if packet.dts is not None and packet.size:
                packet.stream = streams[packet.stream_index]
                packet.pts = packet.dts
                target.mux(packet)
    return path


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".flv"])
@pytest.mark.parametrize("num_frames", [1, 3, 25])
def test_times_of_decoding_are_refused(tmp_path: Path, suffix: str, num_frames: int) -> None:
    path = _with_times_of_decoding(tmp_path / f"order{suffix}")
    for start in (0.0, 0.52, 1.0, 1.7):
        with pytest.raises(ClipError, match="times"):
            decode_clip(
                path, start_seconds=start, duration_seconds=num_frames / 25, num_frames=num_frames
            )


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_times_of_decoding_are_right_without_b_frames(tmp_path: Path, suffix: str) -> None:
    path = _with_times_of_decoding(tmp_path / f"order{suffix}", b_frames=0)
    clip = decode_clip(path, start_seconds=1.5, duration_seconds=1, fps=25)
    assert [read_counter(frame) for frame in clip.video] == list(range(37, 62))
