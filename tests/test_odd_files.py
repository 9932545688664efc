"""Files of which a decoder that begins in the middle is easily wrong: alone, together and from the
start, a window is the same, and what it shows is what was written."""

import os
import struct
import zlib
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import av
import numpy as np
import pytest
from av.video.frame import VideoFrame

from avmix.decode import (
    ClipError,
    ClipRangeError,
    DecodeError,
    Limits,
    UnsupportedMediaError,
    decode_clip,
    decode_clips,
    decode_sound,
    pyav,
)
from avmix.decode.bitstream import damage_check
from avmix.decode.container import open_media
from avmix.decode.request import checked_request
from avmix.prepare.probe import probe
from avmix.types import Clip
from tests.media import (
    Edit,
    beep_times,
    draw_frame,
    draw_sound,
    pack_boxes,
    read_counter,
    set_edits,
    write_flash_beep,
)

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


@pytest.mark.parametrize(
    ("name", "codec", "rate"),
    [
        ("flac.mkv", "flac", 8000),
        ("alac.mov", "alac", 8000),
        ("wavpack.mkv", "wavpack", 8000),
        ("tta.mkv", "tta", 8000),
        ("wma.wmv", "wmav2", 8000),
        ("wma.wmv", "wmav2", 16_000),
    ],
)
def test_long_audio_packets_leave_no_hole_and_no_offset(
    tmp_path: Path, name: str, codec: str, rate: int
) -> None:
    path = write_flash_beep(
        tmp_path / name,
        video_codec="msmpeg4v3" if name.endswith(".wmv") else "libx264",
        audio_codec=codec,
        sample_rate=rate,
        b_frames=0,
        seconds=8,
        events_seconds=[round(0.4 * k + 0.2, 1) for k in range(20)],
    )
    form: dict[str, Any] = {"fps": 5, "sample_rate": rate}
    whole = decode_clip(path, start_seconds=0, duration_seconds=7.5, **form)
    for start in (1.0, 2.3, 3.7, 5.1):
        clip = decode_clip(path, start_seconds=start, duration_seconds=1.0, **form)
        assert clip.audio_valid > 0.995
        if not name.startswith("tta"):  # of whose few packets the times are rounded to 1 ms
            same = whole.audio[round(start * rate) : round((start + 1) * rate)]
            np.testing.assert_allclose(clip.audio, same, atol=0.02)
        found = start + beep_times(clip.audio, rate)
        inside = [t for t in found if start + 0.02 < t < start + 0.98]
        assert len(inside) >= 2
        for beep in inside:
            assert abs((beep - 0.2) / 0.4 - round((beep - 0.2) / 0.4)) * 0.4 < 0.004


@pytest.mark.parametrize("codec", ["wavpack", "tta"])
def test_packets_of_a_second_give_the_same_alone_and_together(tmp_path: Path, codec: str) -> None:
    # In Matroska those of WavPack do not say how long they last. Those of TTA are 46,080 samples,
    # and their times are rounded to 1 ms, which is 44.1 samples.
    rate, events = 44_100, [round(0.4 * k + 0.2, 1) for k in range(20)]
    path = write_flash_beep(
        tmp_path / "long.mkv",
        audio_codec=codec,
        sample_rate=rate,
        seconds=8,
        fps=5,
        gop=5,
        events_seconds=events,
    )
    form: dict[str, Any] = {"duration_seconds": 0.7, "num_frames": 1, "sample_rate": rate}
    starts = (0.4, 1.7, 2.61, 3.3, 4.4, 6.4, 7.3)
    together = decode_clips(path, starts_seconds=starts, **form)
    for start, same in zip(starts, together, strict=True):
        alone = decode_clip(path, start_seconds=start, **form)
        assert isinstance(same, Clip)
        np.testing.assert_array_equal(alone.audio, same.audio)
        assert alone.audio_valid == same.audio_valid > 0.999
        inside = [e for e in events if start + 0.02 < e < start + 0.68]
        found = start + beep_times(alone.audio, rate)
        found = [t for t in found if start + 0.02 < t < start + 0.68]
        np.testing.assert_allclose(found, inside, atol=2e-3)


def test_a_wrong_length_of_packets_loses_no_audio(tmp_path: Path) -> None:
    # Each packet lasts 46,080 samples; the header says 1 ms (DefaultDuration, in nanoseconds).
    path = write_flash_beep(
        tmp_path / "x.mkv", audio_codec="tta", sample_rate=44_100, seconds=6, fps=5, gop=5
    )
    data, lasts = path.read_bytes(), struct.pack(">3sBI", b"\x23\xe3\x83", 0x84, 1_044_897_959)
    assert data.count(lasts) == 1
    form: dict[str, Any] = {"duration_seconds": 0.7, "num_frames": 1}
    before = [decode_clip(path, start_seconds=start, **form) for start in (1.7, 3.3, 4.3)]
    path.write_bytes(data.replace(lasts, lasts[:4] + struct.pack(">I", 1_000_000)))
    for clip in before:
        other = decode_clip(path, start_seconds=clip.start_seconds, **form)
        np.testing.assert_array_equal(other.audio, clip.audio)
        assert other.audio_valid == 1


def test_times_that_jitter_are_no_gaps_and_a_lost_packet_is_one(tmp_path: Path) -> None:
    whole = write_flash_beep(tmp_path / "whole.mkv", audio_codec="aac", events_seconds=EVENTS)
    rng = np.random.default_rng(0)
    for name, lost in (("jitter.mkv", range(0)), ("lost.mkv", range(80, 82))):
        with av.open(str(whole)) as source, av.open(str(tmp_path / name), "w") as target:
            streams = {s.index: target.add_stream_from_template(s) for s in source.streams}
            number, latest = 0, -1
            for packet in source.demux():
                if not packet.size:
                    continue
                if packet.stream.type == "audio":
                    number += 1
                    if number in lost:
                        continue
                    if name == "jitter.mkv" and number > 2:
                        assert packet.pts is not None
                        latest = max(packet.pts + int(rng.integers(-10, 11)), latest + 1)
                        packet.pts = packet.dts = latest
                packet.stream = streams[packet.stream_index]
                target.mux(packet)
    plain = decode_clip(whole, start_seconds=0.9, duration_seconds=2.0, fps=5)
    clip = decode_clip(tmp_path / "jitter.mkv", start_seconds=0.9, duration_seconds=2.0, fps=5)
    assert clip.audio_valid == 1
    times = beep_times(clip.audio, clip.sample_rate)
    np.testing.assert_allclose(times, beep_times(plain.audio, clip.sample_rate), atol=0.003)
    clip = decode_clip(tmp_path / "lost.mkv", start_seconds=0.9, duration_seconds=2.0, fps=5)
    assert clip.audio_valid == pytest.approx(1 - 2 * 1024 / 48_000 / 2.0, abs=0.001)
    times = beep_times(clip.audio, clip.sample_rate)
    np.testing.assert_allclose(times, beep_times(plain.audio, clip.sample_rate), atol=0.001)


def test_a_recording_that_begins_between_two_key_frames(tmp_path: Path) -> None:
    # Of 4 s with a key frame every 0.8 s what follows the first 0.32 s is left.
    whole = write_flash_beep(
        tmp_path / "whole.ts", audio_codec="aac", events_seconds=EVENTS, b_frames=0
    )
    path = tmp_path / "cut.ts"
    with av.open(str(whole)) as source, av.open(str(path), "w") as target:
        streams = {s.index: target.add_stream_from_template(s) for s in source.streams}
        begin = (source.streams.video[0].start_time or 0) / 90_000
        for packet in source.demux():
            if packet.size and (packet.dts or 0) / 90_000 >= begin + 0.32 - 1e-6:
                packet.stream = streams[packet.stream_index]
                target.mux(packet)
    for start in (0.0, 0.2, 1.0):
        clip = decode_clip(path, start_seconds=start, duration_seconds=1, fps=25)
        assert [read_counter(f) for f in clip.video] == [
            20 + round(start * 25) + k for k in range(25)
        ]
        assert clip.pts_seconds[0] == pytest.approx(start, abs=1e-4)
        beeps = beep_times(clip.audio, clip.sample_rate) + start + 0.8
        for event in EVENTS:
            if start + 0.82 < event < start + 1.78:
                assert np.min(np.abs(beeps - event)) < 0.001


@pytest.mark.parametrize(
    ("suffix", "how"),
    [
        (".ts", {"audio_codec": "aac"}),
        (".mpg", {"video_codec": "mpeg2video", "audio_codec": "mp2"}),
        (".webm", {}),
        (".mkv", {}),
    ],
)
def test_a_clock_that_starts_again_is_never_two_recordings_in_one(
    tmp_path: Path, suffix: str, how: dict[str, Any]
) -> None:
    part = write_flash_beep(tmp_path / f"part{suffix}", b_frames=0, events_seconds=EVENTS, **how)
    other = write_flash_beep(tmp_path / f"other{suffix}", b_frames=0, events_seconds=(), **how)
    path = tmp_path / f"joined{suffix}"
    path.write_bytes(part.read_bytes() + other.read_bytes())
    for start, duration in ((0.3, 1.0), (2.1, 1.0), (3.2, 1.5), (5.0, 1.0)):
        try:
            clip = decode_clip(path, start_seconds=start, duration_seconds=duration, fps=25)
        except ClipError:
            assert start > 2 or suffix != ".ts"
            continue
        # Of the first recording, or nothing: the other has no beeps.
        found = beep_times(clip.audio, clip.sample_rate) + start
        inside = [e for e in EVENTS if start + 0.02 < e < start + duration - 0.02]
        assert start + duration <= 4 or clip.num_held
        np.testing.assert_allclose(found, inside, atol=1e-3)


def _with_exif(path: Path, orientation: int) -> Path:
    """MJPEG of a camera, which describes every frame."""
    entry = struct.pack("<HHIHH", 0x0112, 3, 1, orientation, 0)
    tiff = b"II*\0" + struct.pack("<IH", 8, 1) + entry + bytes(4)
    exif = b"\xff\xe1" + struct.pack(">H", len(tiff) + 8) + b"Exif\0\0" + tiff
    with av.open(str(path), "w") as container:
        video: Any = container.add_stream("mjpeg", rate=25, options={"q": "2"})
        video.width, video.height, video.pix_fmt = 160, 96, "yuvj420p"
        for number in range(75):
            picture = draw_frame(number, size=(160, 96), flash=False)
            frame = VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            for packet in video.encode(frame):
                data = bytes(packet)
                one = av.Packet(data[:2] + exif + data[2:])
                one.pts, one.dts, one.time_base = packet.pts, packet.dts, packet.time_base
                one.stream, one.is_keyframe = video, True
                container.mux(one)
    return path


def _recoded(
    path: Path,
    codec: str,
    change: Callable[[bytes], bytes] = bytes,
    *,
    pix_fmt: str = "yuv420p",
    size: tuple[int, int] = (160, 96),
    seconds: int = 4,
    **options: Any,
) -> Path:
    """Frames with their numbers in `codec`, each packet changed."""
    with av.open(str(path), "w") as container:
        video: Any = container.add_stream(codec, rate=25, options=options)
        video.width, video.height, video.pix_fmt = *size, pix_fmt
        video.thread_count = 1
        for number in [*range(seconds * 25), None]:
            frame = None
            if number is not None:
                picture = draw_frame(number, size=size, flash=False)
                frame = VideoFrame.from_ndarray(picture, format="rgb24")
                frame.pts, frame.time_base = number, Fraction(1, 25)
            for packet in video.encode(frame):
                one = av.Packet(change(bytes(packet)))
                one.pts, one.dts, one.time_base = packet.pts, packet.dts, packet.time_base
                one.stream, one.is_keyframe = video, packet.is_keyframe
                container.mux(one)
    return path


_SHORT_SEI = b"\0\0\0\1\x06\x04\x48" + bytes(range(1, 20)) + b"\x80"
"""Says that it has 72 bytes, and has 19."""


def _before_the_slice(data: bytes, unit: bytes) -> bytes:
    """`unit` put before the first slice of H.264."""
    at = min(at for kind in b"\x41\x61\x65\x01" if (at := data.find(bytes([0, 0, 1, kind]))) >= 0)
    at -= data[at - 1] == 0
    return data[:at] + unit + data[at:]


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts"])
def test_descriptions_cut_short_are_no_damage(tmp_path: Path, suffix: str) -> None:
    path = _recoded(
        tmp_path / f"sei{suffix}",
        "libx264",
        lambda data: _before_the_slice(data, _SHORT_SEI),
        g="25",
        bf="2",
    )
    for start in (0.0, 1.5):
        clip = decode_clip(path, start_seconds=start, duration_seconds=1, fps=25, audio="silence")
        first = round(start * 25 - 0.25)
        assert [read_counter(f) for f in clip.video] == list(range(first, first + 25))
    # The same file with a slice that is damaged: still refused.
    data = bytearray(path.read_bytes())
    begin = len(data) // 2
    data[begin : begin + 700] = np.random.default_rng(0).integers(0, 256, 700, np.uint8).tobytes()
    path.write_bytes(data)
    refused = 0
    for start in (0.0, 1.0, 2.0, 3.0):
        try:
            decode_clip(path, start_seconds=start, duration_seconds=1, fps=25, audio="silence")
        except ClipError:
            refused += 1
    assert refused


def test_exif_that_is_no_tiff_is_no_damage(tmp_path: Path) -> None:
    body = b"Exif\0\0" + b"no tiff at all" * 3
    exif = b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body
    path = _recoded(
        tmp_path / "exif.mov",
        "mjpeg",
        lambda data: data[:2] + exif + data[2:],
        pix_fmt="yuvj420p",
        q="2",
    )
    clip = decode_clip(path, start_seconds=1, duration_seconds=1, fps=25, audio="silence")
    assert [read_counter(f) for f in clip.video] == list(range(25, 50))


@pytest.mark.parametrize("codec", ["mpeg1video", "mpeg2video"])
def test_zeros_that_fill_up_a_constant_rate_are_no_damage(tmp_path: Path, codec: str) -> None:
    def stuffed(data: bytes) -> bytes:
        return data.replace(b"\0\0\1", bytes(40) + b"\0\0\1") + bytes(40)

    path = _recoded(tmp_path / "cbr.ts", codec, stuffed, g="12", b="900000")
    for start in (0.0, 1.5):
        clip = decode_clip(path, start_seconds=start, duration_seconds=1, fps=25, audio="silence")
        first = round(start * 25 - 0.25)
        assert [read_counter(f) for f in clip.video] == list(range(first, first + 25))


@pytest.mark.parametrize("suffix", [".mp4", ".ts"])
@pytest.mark.parametrize(
    "how",
    [
        "open-gop=1:keyint=25:bframes=3",
        "open-gop=1:keyint=12:bframes=8:ref=5",
        "intra-refresh=1:keyint=25:bframes=0",
    ],
)
def test_open_groups_and_intra_refresh(tmp_path: Path, suffix: str, how: str) -> None:
    options: dict[str, Any] = {"x264-params": f"{how}:scenecut=0:threads=1", "crf": "18"}
    path = _recoded(tmp_path / f"open{suffix}", "libx264", seconds=6, **options)
    for start in np.linspace(0.0, 4.9, 10):
        clip = decode_clip(path, start_seconds=start, duration_seconds=1, fps=25, audio="silence")
        expected = np.floor((start + np.arange(25) / 25) * 25 + 0.02).astype(int)
        assert [read_counter(f) for f in clip.video] == expected.tolist()


def test_one_length_for_a_prefix_and_its_slice() -> None:
    # What phones write in slow motion: unit 14, and after a start code the slice, in one length.
    header = b"\x01\x64\x00\x0a\xff\xe1\x00"
    is_broken = damage_check("h264", header)
    prefix, piece = b"\x6e\x40\x80\x3f", b"\x41\x9a\x3b\x10\xaf"

    def packet(unit: bytes) -> bytes:
        return len(unit).to_bytes(4) + unit

    assert not is_broken(packet(prefix + b"\0\0\0\1" + piece))
    assert is_broken(packet(piece + b"\0\0\0\1" + piece))
    assert is_broken(packet(prefix + b"\0\0\2" + piece))


def _header_of(path: Path) -> tuple[bytes, bytes, bytes]:
    """What is before the `moov` box at the end of an mp4, its content, and what follows."""
    data = path.read_bytes()
    at = data.rindex(b"moov") - 4
    size = int.from_bytes(data[at : at + 4])
    return data[:at], data[at + 8 : at + size], data[at + size :]


def test_a_compressed_header_says_the_same(tmp_path: Path) -> None:
    path = write_flash_beep(tmp_path / "plain.mov", events_seconds=EVENTS, b_frames=0)
    edit = Edit(media_seconds=Fraction(4, 5), seconds=Fraction(2))
    set_edits(path, 0, [edit])
    before, moov, after = _header_of(path)
    whole = pack_boxes([(b"moov", moov)])
    inner = [(b"dcom", b"zlib"), (b"cmvd", len(whole).to_bytes(4) + zlib.compress(whole))]
    packed = tmp_path / "packed.mov"
    packed.write_bytes(
        before + pack_boxes([(b"moov", pack_boxes([(b"cmov", pack_boxes(inner))]))]) + after
    )
    clips = [
        decode_clip(each, start_seconds=0, duration_seconds=1.5, fps=25, audio="skip")
        for each in (path, packed)
    ]
    assert [read_counter(f) for f in clips[0].video[:5]] == [20, 21, 22, 23, 24]
    np.testing.assert_array_equal(clips[1].video, clips[0].video)
    set_edits(path, 0, [edit, Edit(media_seconds=Fraction(0), seconds=Fraction(1))])
    before, moov, after = _header_of(path)
    whole = pack_boxes([(b"moov", moov)])
    inner = [(b"dcom", b"zlib"), (b"cmvd", len(whole).to_bytes(4) + zlib.compress(whole))]
    packed.write_bytes(
        before + pack_boxes([(b"moov", pack_boxes([(b"cmov", pack_boxes(inner))]))]) + after
    )
    with pytest.raises(UnsupportedMediaError, match="several pieces"):
        decode_clip(packed, start_seconds=0, duration_seconds=1, fps=5, audio="skip")


def test_a_window_after_the_end_of_a_trimmed_file_is_not_a_cut_file(tmp_path: Path) -> None:
    path = write_flash_beep(tmp_path / "trim.mp4", b_frames=0)
    set_edits(path, 0, [Edit(media_seconds=Fraction(0), seconds=Fraction(2))])
    with pytest.raises(ClipRangeError, match="the video ends at 2"):
        decode_clip(path, start_seconds=3, duration_seconds=1, fps=5)


def test_a_limit_of_time_is_no_cut_file(tmp_path: Path) -> None:
    path = write_flash_beep(tmp_path / "tail.mkv", seconds=1)
    os.truncate(path, 16 << 30)
    with open_media(str(path), Limits(seconds=0.3)) as media:
        assert media.video is not None
        with pytest.raises(UnsupportedMediaError, match=r"longer than 0\.3 s"):
            list(media.packets(media.video))


def test_a_stream_that_appears_in_the_middle_is_an_error_that_names_the_file(
    tmp_path: Path,
) -> None:
    # After more than libav looks at to find the streams.
    frames = write_flash_beep(
        tmp_path / "frames.flv", audio_codec=None, b_frames=0, seconds=8, events_seconds=()
    )
    both = write_flash_beep(tmp_path / "both.flv", audio_codec="aac", b_frames=0, seconds=1)
    data, later, at = bytearray(frames.read_bytes()), both.read_bytes(), 13
    data[4] = 1  # the header says: video only
    while at + 11 < len(later):
        end = at + 15 + int.from_bytes(later[at + 1 : at + 4])
        data += later[at:end] if later[at] == 8 else b""  # audio
        at = end
    path = tmp_path / "joined.flv"
    path.write_bytes(data)
    with pytest.raises(DecodeError, match=r"joined\.flv: a stream appears in the middle"):
        probe(path)


def test_side_data_that_pyav_does_not_know(tmp_path: Path) -> None:
    path = _with_exif(tmp_path / "camera.mov", orientation=1)
    with av.open(str(path)) as container, pytest.raises(ValueError, match="valid"):
        next(container.decode(video=0)).side_data.get("DISPLAYMATRIX")
    clip = decode_clip(path, start_seconds=1, duration_seconds=1, fps=25, audio="silence")
    assert [read_counter(f) for f in clip.video] == list(range(25, 50))
    turned = _with_exif(tmp_path / "turned.mov", orientation=6)  # a quarter turn clockwise
    clip = decode_clip(turned, start_seconds=1, duration_seconds=1, fps=25, audio="silence")
    stored = np.rot90(clip.video, 1, axes=(1, 2))
    assert [read_counter(f) for f in stored] == list(range(25, 50))


def test_frames_beside_audio_without_a_decoder(tmp_path: Path) -> None:
    path = write_flash_beep(tmp_path / "unknown.mkv", seconds=2)
    path.write_bytes(path.read_bytes().replace(b"A_OPUS", b"A_ZZZZ"))
    clip = decode_clip(path, start_seconds=1, duration_seconds=0.4, fps=25, audio="skip")
    assert [read_counter(f) for f in clip.video] == list(range(25, 35))
    modes: list[Literal["require", "silence"]] = ["require", "silence"]
    for audio in modes:
        with pytest.raises(ClipError, match="no decoder for its audio"):
            decode_clip(path, start_seconds=1, duration_seconds=0.4, fps=25, audio=audio)


@pytest.mark.parametrize("num_samples", [512, 1920, 24_000])
def test_avi_with_long_chunks_of_audio(tmp_path: Path, num_samples: int) -> None:
    path = tmp_path / "chunks.avi"
    wave = draw_sound(seconds=4, rate=48_000, start_seconds=0, events_seconds=EVENTS)
    with av.open(str(path), "w") as container:
        video: Any = container.add_stream("mpeg4", rate=25)
        video.width, video.height, video.pix_fmt, video.bit_rate = 160, 96, "yuv420p", 900_000
        audio: Any = container.add_stream("pcm_s16le", rate=48_000, layout="mono")
        for number in range(100):
            picture = draw_frame(number, size=(160, 96), flash=False)
            frame = VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        for at in range(0, len(wave), num_samples):
            samples = (wave[None, at : at + num_samples] * 32767).astype(np.int16)
            sound = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
            sound.sample_rate, sound.pts = 48_000, at
            container.mux(audio.encode(sound))
    for start in (0.0, 1.5):
        clip = decode_clip(path, start_seconds=start, duration_seconds=1.0, fps=25)
        first = round(start * 25 - 0.25)
        assert [read_counter(f) for f in clip.video] == list(range(first, first + 25))
        assert clip.audio_valid == 1
        inside = [e for e in EVENTS if start + 0.02 < e < start + 0.98]
        found = start + beep_times(clip.audio, clip.sample_rate)
        np.testing.assert_allclose(found, inside, atol=1e-3)


def test_audio_counts_among_the_bytes_of_a_window(tmp_path: Path) -> None:
    path = write_flash_beep(tmp_path / "x.mov", audio_codec="pcm_s16le", seconds=2)
    form: dict[str, Any] = {"start_seconds": 0, "num_frames": 1, "short_side": 2}
    with pytest.raises(UnsupportedMediaError, match="5273 MiB"):
        decode_clip(path, duration_seconds=86_400, **form)
    few = Limits(max_clip_bytes=150_000)  # 0.5 s are 8,000 samples of the result, 24,000 stored
    assert len(decode_clip(path, duration_seconds=0.5, limits=few, **form).audio) == 8000
    with pytest.raises(UnsupportedMediaError, match="at 48000 Hz"):
        decode_clip(path, duration_seconds=1.0, limits=few, **form)


def test_frames_and_audio_count_together(tmp_path: Path) -> None:
    path = write_flash_beep(tmp_path / "x.mov", audio_codec="pcm_s16le", seconds=2)
    # 5 frames are 230,400 bytes; 0.5 s of audio 32,000, and 103,684 at the rate of the file.
    form: dict[str, Any] = {"start_seconds": 0, "duration_seconds": 0.5, "num_frames": 5}
    for audio, num_bytes in (("require", 366_084), ("skip", 230_400)):
        form["audio"] = audio
        clip = decode_clip(path, limits=Limits(max_clip_bytes=num_bytes), **form)
        assert clip.video.nbytes == 230_400
        with pytest.raises(UnsupportedMediaError, match="MiB"):
            decode_clip(path, limits=Limits(max_clip_bytes=num_bytes - 1), **form)


def test_a_bad_window_leaves_the_audio_of_the_others_alone(tmp_path: Path) -> None:
    part = write_flash_beep(tmp_path / "part.ts", audio_codec="aac", b_frames=0)
    path = tmp_path / "joined.ts"
    path.write_bytes(part.read_bytes() * 2)
    good, bad = pyav.decode_sounds(
        checked_request(
            path,
            starts_seconds=(0.3, 3.5),
            duration_seconds=1.0,
            num_frames=1,
            fps=None,
            sample_rate=16_000,
            short_side=None,
            audio="require",
            origin="video",
            max_held=None,
            min_audio_valid=0.0,
            sha256=None,
            limits=Limits(),
        )
    )
    assert not isinstance(good, ClipError)
    alone = decode_sound(path, start_seconds=0.3, duration_seconds=1.0)
    np.testing.assert_array_equal(good[0], alone.audio)
    assert isinstance(bad, ClipError)
    with pytest.raises(ClipError, match="clock starts again"):
        decode_sound(path, start_seconds=3.5, duration_seconds=1.0)


def test_a_bad_window_leaves_the_others_alone(tmp_path: Path) -> None:
    # Together the frames of the windows are more than the limit, each alone is not.
    path = write_flash_beep(tmp_path / "x.mp4", seconds=4, events_seconds=EVENTS)
    few = Limits(max_clip_bytes=6 * 160 * 96 * 3)
    clips = decode_clips(
        path, starts_seconds=(0.0, 1.0, 2.0, 9.0), duration_seconds=0.1, num_frames=5, limits=few
    )
    assert [isinstance(clip, Clip) for clip in clips] == [True, True, True, False]
