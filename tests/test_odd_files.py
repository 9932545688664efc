"""Files of which a decoder that begins in the middle is easily wrong: alone, together and from the
start, a window is the same, and what it shows is what was written."""

import os
import shutil
import struct
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import av
import numpy as np
import pytest
from av.packet import Packet
from av.video.frame import VideoFrame

from avmix.decode import (
    ClipError,
    ClipRangeError,
    DecodeError,
    Limits,
    UnsupportedMediaError,
    decode_audio,
    decode_clip,
    decode_clips,
    pyav,
)
from avmix.decode.bitstream import damage_check, units
from avmix.decode.container import open_media
from avmix.decode.request import checked_request
from avmix.media.probe import probe
from avmix.types import Clip
from tests.media import (
    Edit,
    beep_times,
    draw_frame,
    read_counter,
    set_edits,
    write_flash_beep,
)
from tests.odd_media import (
    FILES,
    Odd,
    audio_of,
    compress_header,
    copied,
    replaced,
    write_odd,
    write_times_of_decoding,
)

EVENTS = (0.4, 1.2, 2.0, 2.8, 3.6)


@pytest.fixture(scope="module")
def file_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    folder = tmp_path_factory.mktemp("odd")

    def make(name: str) -> Path:
        path = folder / name
        if FILES[name].program and shutil.which(FILES[name].program) is None:
            pytest.skip(f"needs the program {FILES[name].program}")
        if not path.exists():
            FILES[name].write(path)
        return path

    return make


def _numbers_at(odd: Odd, times: np.ndarray) -> list[int]:
    """Numbers of the frames on the screen."""
    there = np.array([n for n in range(100) if n not in odd.skipped and n >= odd.first])
    at = np.floor(times * 25 + 0.02).astype(int) + odd.first
    return there[np.searchsorted(there, at, side="right") - 1].tolist()


def _rms(samples: np.ndarray) -> float:
    return float(np.sqrt(np.mean(samples.astype(np.float64) ** 2)))


@pytest.mark.parametrize("name", FILES)
def test_alone_together_and_from_the_start_are_the_same(
    file_of: Callable[[str], Path], name: str
) -> None:
    path, odd = file_of(name), FILES[name]
    form: dict[str, Any] = {"fps": 25, "sample_rate": odd.rate}
    together = decode_clips(path, starts_seconds=odd.starts, duration_seconds=1.0, **form)
    seconds = (100 - odd.first) / 25
    whole = decode_clip(path, start_seconds=0, duration_seconds=seconds, **form)
    for start, clip in zip(odd.starts, together, strict=True):
        alone = decode_clip(path, start_seconds=start, duration_seconds=1.0, **form)
        assert isinstance(clip, Clip)
        np.testing.assert_array_equal(clip.video, alone.video)
        np.testing.assert_array_equal(clip.pts_seconds, alone.pts_seconds)
        times = start + np.arange(25) / 25
        rows = np.rint(times * 25 - 0.25).astype(int)  # the start need not be at a frame
        np.testing.assert_array_equal(alone.video, whole.video[rows])
        silent = max(odd.silent_seconds - start, 0.0)
        assert clip.audio_valid == alone.audio_valid
        assert alone.audio_valid == pytest.approx(1 - silent, abs=odd.shift_seconds + 1e-9)
        if odd.is_lossless:
            np.testing.assert_array_equal(clip.audio, alone.audio)
        first = round(start * odd.rate)
        if not odd.shift_seconds:
            same = whole.audio[first : first + len(alone.audio)]
            assert _rms(alone.audio - same) <= (0.0 if odd.is_lossless else odd.differs)
        assert _rms(alone.audio - clip.audio) <= odd.differs


@pytest.mark.parametrize("name", FILES)
def test_every_output_ascends_and_is_what_was_written(
    file_of: Callable[[str], Path], name: str
) -> None:
    odd = FILES[name]
    wave = audio_of(odd.rate)[round(odd.first / 25 * odd.rate) :] / np.float32(32_768)
    for start in odd.starts:
        clip = decode_clip(
            file_of(name), start_seconds=start, duration_seconds=1.0, fps=25, sample_rate=odd.rate
        )
        numbers = [read_counter(frame) for frame in clip.video]
        assert numbers == _numbers_at(odd, start + np.arange(25) / 25)
        np.testing.assert_allclose(
            clip.pts_seconds, (np.array(numbers) - odd.first) / 25, atol=6e-4
        )
        # At the very start and end, a shift leaves nothing to compare with.
        low, high = round((start + 0.07) * odd.rate), round((start + 0.97) * odd.rate)
        heard = clip.audio[low - round(start * odd.rate) :][: high - low]
        most = round(odd.shift_seconds * odd.rate)
        errors = [_rms(heard - wave[low + s : high + s]) for s in range(-most, most + 1)]
        assert min(errors) <= (0.0 if odd.is_lossless else 0.05)  # of 0.14


@pytest.mark.parametrize(
    "name", ["open_gop.mp4", "open_gop.mkv", "open_gop.ts", "open_gop_hevc.mp4"]
)
def test_groups_are_open(file_of: Callable[[str], Path], name: str) -> None:
    # Else the tests above show nothing.
    with av.open(str(file_of(name))) as container:
        packets = [p for p in container.demux(video=0) if p.pts is not None]
    keys = [at for at, packet in enumerate(packets) if packet.is_keyframe]
    late = [packets[at + 1 : at + 9] for at in keys[1:]]
    assert len(keys) > 6
    leading = [
        any((p.pts or 0) < (packets[at].pts or 0) for p in after)
        for at, after in zip(keys[1:], late, strict=True)
    ]
    assert sum(leading) >= 2


@pytest.mark.parametrize("name", ["hidden_frames.webm", "hidden_frames_8.webm"])
def test_frames_are_hidden(file_of: Callable[[str], Path], name: str) -> None:
    with av.open(str(file_of(name))) as container:
        data = [bytes(p) for p in container.demux(video=0) if p.size]
    # VP8: a bit of the first byte (RFC 6386, 9.1). VP9: several frames in a packet (annex B).
    is_hidden = (lambda d: not d[0] & 0x10) if "8" in name else (lambda d: d[-1] & 0xE0 == 0xC0)
    assert sum(map(is_hidden, data)) >= 2


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".flv"])
@pytest.mark.parametrize("how", ["keyint=25:min-keyint=25:bframes=3", "keyint=12:bframes=8:ref=5"])
def test_a_cut_before_a_key_frame_that_others_came_before(
    tmp_path: Path, suffix: str, how: str
) -> None:
    # The first frames order to forget frames that were cut away; what is shown needs none of them.
    options: dict[str, Any] = {"x264-params": f"open-gop=1:{how}:b-adapt=0:scenecut=0:threads=1"}
    whole = write_odd(tmp_path / "whole.mp4", audio="aac", b_frames=3, **options)
    with av.open(str(whole)) as container:
        packets = [p for p in container.demux(video=0) if p.size]
    second = [p for p in packets if p.is_keyframe][1]
    assert second.dts is not None
    assert second.pts is not None
    begin, first = second.dts * second.time_base, round(second.pts * second.time_base * 25)

    def cut(packet: Packet) -> Packet | None:
        assert packet.dts is not None
        return packet if packet.dts * packet.time_base >= begin else None

    path = copied(whole, tmp_path / f"cut{suffix}", cut)
    for start in (0.0, 0.4, 0.9, 1.6):
        clip = decode_clip(path, start_seconds=start, duration_seconds=1, fps=25)
        number = first + round(start * 25 - 0.25)
        assert [read_counter(f) for f in clip.video] == list(range(number, number + 25))
        assert clip.num_held == 0


def test_a_gap_between_joined_recordings_is_named(tmp_path: Path) -> None:
    part = write_odd(tmp_path / "part.ts", audio="mp2", gop=20)

    def later(packet: Packet) -> Packet:
        assert packet.pts is not None
        assert packet.dts is not None
        packet.pts, packet.dts = packet.pts + 14 * 90_000, packet.dts + 14 * 90_000
        return packet

    path = tmp_path / "joined.ts"
    path.write_bytes(part.read_bytes() + copied(part, tmp_path / "later.ts", later).read_bytes())
    for start in (3.8, 4.5, 9.0, 13.0):
        with pytest.raises(DecodeError, match=r"no frames between 4\.000 and 14\.\d+ s"):
            decode_clip(path, start_seconds=start, duration_seconds=0.5, fps=25)
    clip = decode_clip(path, start_seconds=15.0, duration_seconds=0.5, fps=25, audio="skip")
    offset = round(clip.pts_seconds[0] * 25) - read_counter(clip.video[0])
    assert abs(offset / 25 - 14) < 1.5  # wherever the writer let the second begin
    assert all(np.diff([read_counter(frame) for frame in clip.video]) == 1)


def test_what_the_first_packet_says_of_all_frames_counts_after_a_seek(tmp_path: Path) -> None:
    # Builds of x264 before 151 wrote 4:4:4 in another way; that of a later one, said to be of such
    # a build, is therefore damaged, wherever reading begins.
    path = tmp_path / "late.mp4"
    with av.open(str(path), "w") as container:
        video: Any = container.add_stream("libx264", rate=25, options={"crf": "10", "g": "25"})
        video.width, video.height, video.pix_fmt = 160, 96, "yuv444p"
        rng = np.random.default_rng(0)
        for number in range(75):
            image = draw_frame(number, size=(160, 96), flash=False)
            image[48:] += rng.integers(0, 40, (48, 160, 3), np.uint8)
            frame = VideoFrame.from_ndarray(image, format="rgb24")
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


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".flv"])
@pytest.mark.parametrize("num_frames", [1, 3, 25])
def test_times_of_decoding_are_refused(tmp_path: Path, suffix: str, num_frames: int) -> None:
    path = write_times_of_decoding(tmp_path / f"order{suffix}")
    for start in (0.0, 0.52, 1.0, 1.7):
        with pytest.raises(ClipError, match="times"):
            decode_clip(
                path, start_seconds=start, duration_seconds=num_frames / 25, num_frames=num_frames
            )


@pytest.mark.parametrize("codec", ["mpeg1video", "mpeg2video"])
@pytest.mark.parametrize("b_frames", [0, 2])
def test_guessed_times_are_refused(tmp_path: Path, codec: str, b_frames: int) -> None:
    # libav gives all frames but the first a time one frame late, whether they are reordered or not.
    path = write_odd(tmp_path / "x.wmv", video=codec, audio="wmav2", b_frames=b_frames, seconds=1)
    for start in (0.0, 0.5):
        with pytest.raises(UnsupportedMediaError, match="in ASF may be those of decoding"):
            decode_clip(path, start_seconds=start, duration_seconds=0.2, fps=25)
    good = write_odd(tmp_path / "y.mkv", video=codec, b_frames=b_frames, seconds=1)
    clip = decode_clip(good, start_seconds=0.4, duration_seconds=0.2, fps=25)
    assert [read_counter(frame) for frame in clip.video] == [10, 11, 12, 13, 14]


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_times_of_decoding_are_right_without_b_frames(tmp_path: Path, suffix: str) -> None:
    path = write_times_of_decoding(tmp_path / f"order{suffix}", b_frames=0)
    clip = decode_clip(path, start_seconds=1.5, duration_seconds=1, fps=25)
    assert [read_counter(frame) for frame in clip.video] == list(range(37, 62))


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
            image = draw_frame(number, size=(160, 96), flash=False)
            frame = VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            for packet in video.encode(frame):
                data = bytes(packet)
                one = av.Packet(data[:2] + exif + data[2:])
                one.pts, one.dts, one.time_base = packet.pts, packet.dts, packet.time_base
                one.stream, one.is_keyframe = video, True
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
    path = write_odd(
        tmp_path / f"sei{suffix}",
        audio=None,
        change=lambda data: _before_the_slice(data, _SHORT_SEI),
        b_frames=2,
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
    path = write_odd(
        tmp_path / "exif.mov",
        video="mjpeg",
        audio=None,
        change=lambda data: data[:2] + exif + data[2:],
        pix_fmt="yuvj420p",
    )
    clip = decode_clip(path, start_seconds=1, duration_seconds=1, fps=25, audio="silence")
    assert [read_counter(f) for f in clip.video] == list(range(25, 50))


def _joined(data: bytes, *, first: bytes = b"", length: bool = True) -> bytes:
    """The units of a packet behind start codes, after `first`; `length` states one for them all."""
    parts = [data[begin:end] for begin, end in units(data, 4)]
    whole = first + b"".join(b"\0\0\0\1" + part for part in parts)
    return len(whole).to_bytes(4) + whole if length else whole


@pytest.mark.parametrize(
    ("how", "codec"),
    [
        ({"length": False}, "libx264"),
        ({}, "libx264"),
        ({"first": b"\x09\xf0"}, "libx264"),
        ({"first": b"\x46\x01\x50"}, "libx265"),
    ],
    ids=["start codes", "start codes in one length", "delimiter first", "H.265"],
)
def test_start_codes_among_lengths(tmp_path: Path, how: dict[str, Any], codec: str) -> None:
    options: dict[str, Any] = (
        {"slices": "2"} if codec == "libx264" else {"x265-params": "log-level=none:pools=1"}
    )
    whole = write_odd(tmp_path / "whole.mp4", video=codec, audio=None, b_frames=2, **options)
    numbers = iter(range(1000))

    def change(packet: Packet) -> Packet:
        is_left = next(numbers) % 3
        return packet if is_left else replaced(packet, _joined(bytes(packet), **how))

    path = copied(whole, tmp_path / "mixed.mp4", change)
    form: dict[str, Any] = {"start_seconds": 1.5, "duration_seconds": 1, "fps": 25, "audio": "skip"}
    clip = decode_clip(path, **form)
    assert [read_counter(f) for f in clip.video] == list(range(37, 62))
    np.testing.assert_array_equal(clip.video, decode_clip(whole, **form).video)
    # A hole of zeros in such a packet is seen as in any other.
    with av.open(str(path)) as container:
        packets = [p for p in container.demux(video=0) if p.size]
    hit = next(p for p in packets[40:] if b"\0\0\0\1" in bytes(p)[:12])
    data = bytearray(path.read_bytes())
    assert hit.pos is not None
    data[hit.pos + 40 : hit.pos + 60] = bytes(20)
    path.write_bytes(data)
    with pytest.raises(DecodeError, match="damaged"):
        decode_clip(path, **form)


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


def test_a_compressed_header_says_the_same(tmp_path: Path) -> None:
    path = write_flash_beep(tmp_path / "plain.mov", events_seconds=EVENTS, b_frames=0)
    packed = tmp_path / "packed.mov"
    edit = Edit(media_seconds=Fraction(4, 5), seconds=Fraction(2))
    set_edits(path, 0, [edit])
    packed.write_bytes(path.read_bytes())
    compress_header(packed)
    clips = [
        decode_clip(each, start_seconds=0, duration_seconds=1.5, fps=25, audio="skip")
        for each in (path, packed)
    ]
    assert [read_counter(f) for f in clips[0].video[:5]] == [20, 21, 22, 23, 24]
    np.testing.assert_array_equal(clips[1].video, clips[0].video)
    set_edits(path, 0, [edit, Edit(media_seconds=Fraction(0), seconds=Fraction(1))])
    compress_header(path)
    with pytest.raises(UnsupportedMediaError, match="several pieces"):
        decode_clip(path, start_seconds=0, duration_seconds=1, fps=5, audio="skip")


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


@pytest.mark.parametrize(("codec", "rate"), [("pcm_s16le", 16_000), ("ac3", 48_000)])
def test_avi_cut_in_its_last_chunk_of_audio(tmp_path: Path, codec: str, rate: int) -> None:
    # Where there is no index, libav reads ahead of packets of AC-3: they come out of their order.
    path = write_odd(tmp_path / "cut.avi", video="mpeg4", audio=codec, rate=rate, chunk=1600)
    data = path.read_bytes()
    at = data.rindex(b"01wb", 0, data.rindex(b"idx1"))
    size = int.from_bytes(data[at + 4 : at + 8], "little")
    form: dict[str, Any] = {"duration_seconds": 0.4, "fps": 25, "sample_rate": rate}
    starts = (0.0, 1.0, 3.6)
    whole = decode_clips(path, starts_seconds=starts, **form)
    path.write_bytes(data[: at + 8 + size // 2])
    for start, before in zip(starts, whole, strict=True):
        clip = decode_clip(path, start_seconds=start, **form)
        assert isinstance(before, Clip)
        there = 10 - clip.num_held
        assert clip.num_held <= (2 if start == 3.6 else 0)  # the last frames follow that chunk
        np.testing.assert_array_equal(clip.video[:there], before.video[:there])
        valid = round(clip.audio_valid * 0.4 * rate)
        assert (clip.audio_valid == 1) == (start < 3.6)
        assert clip.audio_valid > 0.6
        np.testing.assert_array_equal(clip.audio[:valid], before.audio[:valid])
        assert not clip.audio[valid:].any()


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
    good, bad = pyav.decode_audio_windows(
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
    alone = decode_audio(path, start_seconds=0.3, duration_seconds=1.0)
    np.testing.assert_array_equal(good[0], alone.audio)
    assert isinstance(bad, ClipError)
    with pytest.raises(ClipError, match="clock starts again"):
        decode_audio(path, start_seconds=3.5, duration_seconds=1.0)


def test_a_bad_window_leaves_the_others_alone(tmp_path: Path) -> None:
    # Together the frames of the windows are more than the limit, each alone is not.
    path = write_flash_beep(tmp_path / "x.mp4", seconds=4, events_seconds=EVENTS)
    few = Limits(max_clip_bytes=6 * 160 * 96 * 3)
    clips = decode_clips(
        path, starts_seconds=(0.0, 1.0, 2.0, 9.0), duration_seconds=0.1, num_frames=5, limits=few
    )
    assert [isinstance(clip, Clip) for clip in clips] == [True, True, True, False]
