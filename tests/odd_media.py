"""Files of which a decoder that begins in the middle is easily wrong, each with its truth.

Frames carry their numbers (tests/media.py). The audio is noise, a sweep and clicks: every
stretch of it is like no other, and most coding tools are used for it.
"""

import subprocess
import zlib
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cache, partial
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.packet import Packet
from av.video.frame import VideoFrame

from tests.media import (
    Edit,
    draw_frame,
    pack_b_frames,
    pack_boxes,
    set_edits,
    unpack_boxes,
)

FPS = 25
SIZE = (160, 96)
_QUICK: dict[str, dict[str, str]] = {
    "libx264": {"preset": "ultrafast", "crf": "18", "sc_threshold": "0"},
    "libx265": {"preset": "ultrafast"},
    "libvpx-vp9": {"deadline": "realtime", "cpu-used": "8"},
}
_ROUNDED = 5e-5
"""Two of 16 bits: what decoders of whole numbers (MP2) round differently after another start."""
_OF_16_BITS = {"tta": "s16", "wavpack": "s16p"}
"""Encoders that take other formats first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Odd:
    """How a file is written, and what is known of it."""

    write: Callable[[Path], object]
    first: int = 0
    """Number of the frame at time 0."""
    skipped: frozenset[int] = frozenset()
    """Numbers of frames that were never encoded."""
    rate: int = 16_000
    """Of the audio, samples / second."""
    is_lossless: bool = True
    """True when the audio is that of `audio_of` to the bit."""
    differs: float = _ROUNDED
    """By how much (rms, full scale 1) the audio of a window may differ from that of the same time
    in another one, where it is not lossless."""
    silent_seconds: float = 0.0
    """At the start, of which the decoder gives nothing."""
    shift_seconds: float = 0.0
    """By how much the audio may be off, where the file rounds its times."""
    program: str = ""
    """Without which it cannot be written."""
    starts: tuple[float, ...] = (0.0, 0.4, 1.0, 1.7, 2.62)
    """Of the windows, seconds."""


@cache
def audio_of(rate: int, seconds: int = 4) -> np.ndarray:
    """Mono int16, (seconds * rate)."""
    time = np.arange(seconds * rate) / rate
    sweep = 0.2 * np.sin(2 * np.pi * (200 * time + 0.05 * rate * time**2 / seconds))
    noise = np.random.default_rng(0).normal(0, 0.03, len(time))
    clicks = 0.5 * (np.arange(len(time)) % (rate * 4 // 10) == rate // 5)
    return np.rint((sweep + noise + clicks) * 32_000).astype(np.int16)


def write_odd(
    path: Path,
    *,
    video: str = "libx264",
    audio: str | None = "pcm_s16le",
    pix_fmt: str = "yuv420p",
    rate: int = 16_000,
    seconds: int = 4,
    b_frames: int = 0,
    gop: int = 25,
    chunk: int = 960,
    skipped: Collection[int] = (),
    bit_rate: int = 64_000,
    change: Callable[[bytes], bytes] | None = None,
    arrange: Callable[[list[Packet]], list[Packet]] = list,
    **options: str,
) -> Path:
    """Write `path`: its ending chooses the container, `options` are the video encoder's.

    Every packet of the video is replaced by what `change` makes of it; `chunk` samples are given to
    the audio encoder at a time.
    """
    with av.open(str(path), "w") as container:
        frames: Any = container.add_stream(
            video, rate=FPS, options={**_QUICK.get(video, {}), **options}
        )
        frames.width, frames.height, frames.pix_fmt = *SIZE, pix_fmt
        frames.thread_count, frames.gop_size, frames.bit_rate = 1, gop, 900_000
        if video in ("libx264", "mpeg4", "mpeg2video"):
            frames.max_b_frames = b_frames
        sound: Any = None
        if audio is not None:
            sound = container.add_stream(audio, rate=rate, options=_QUICK.get(audio, {}))
            sound.layout, sound.bit_rate = "mono", bit_rate
            if audio in _OF_16_BITS:
                sound.format = _OF_16_BITS[audio]
        packets: list[Packet] = []
        for number in [n for n in range(seconds * FPS) if n not in skipped]:
            frame = VideoFrame.from_ndarray(
                draw_frame(number, size=SIZE, flash=False), format="rgb24"
            )
            frame.pts, frame.time_base = number, Fraction(1, FPS)
            packets += frames.encode(frame)
        packets += frames.encode(None)
        if change is not None:
            packets = [replaced(packet, change(bytes(packet))) for packet in packets]
        packets = arrange(packets)
        if sound is not None:
            packets += encoded(sound, audio_of(rate, seconds), rate, chunk)
        for packet in packets:
            container.mux(packet)
    return path


def encoded(stream: Any, wave: np.ndarray, rate: int, chunk: int) -> list[Packet]:
    """The packets of mono int16 samples, `chunk` given to the encoder at a time."""
    packets: list[Packet] = []
    for at in range(0, len(wave), chunk):
        frame = av.AudioFrame.from_ndarray(wave[None, at : at + chunk], "s16", "mono")
        frame.sample_rate, frame.time_base, frame.pts = rate, Fraction(1, rate), at
        packets += stream.encode(frame)
    return [*packets, *stream.encode(None)]


def replaced(packet: Packet, data: bytes) -> Packet:
    """The same packet with other data."""
    one = Packet(data)
    one.pts, one.dts, one.time_base = packet.pts, packet.dts, packet.time_base
    one.stream, one.is_keyframe, one.duration = packet.stream, packet.is_keyframe, packet.duration
    return one


def copied(
    source: Path, path: Path, change: Callable[[Packet], Packet | None] = lambda packet: packet
) -> Path:
    """The packets of `source` in another file, as `change` gives them; None leaves one out."""
    with av.open(str(source)) as old, av.open(str(path), "w") as new:
        streams = {s.index: new.add_stream_from_template(s) for s in old.streams}
        for packet in old.demux():
            changed = change(packet) if packet.size and packet.dts is not None else None
            if changed is not None:
                changed.stream = streams[packet.stream_index]
                new.mux(changed)
    return path


def write_palettized(path: Path) -> Path:
    """Frames of 256 colours, which the header states once."""
    shades = np.full((256, 4), 255, np.uint8)  # opacity first, then the inverted levels
    shades[:, 1:] = 255 - np.arange(256, dtype=np.uint8)[:, None]
    with av.open(str(path), "w") as container:
        video: Any = container.add_stream("rawvideo", rate=FPS)
        video.width, video.height, video.pix_fmt = *SIZE, "pal8"
        audio: Any = container.add_stream("pcm_s16le", rate=16_000, layout="mono")
        for number in range(100):
            levels = 255 - draw_frame(number, size=SIZE, flash=False)[..., 0]
            indexed: Any = (np.ascontiguousarray(levels), shades)
            frame = VideoFrame.from_ndarray(indexed, format="pal8")
            frame.pts, frame.time_base = number, Fraction(1, FPS)
            container.mux(video.encode(frame))
        for packet in encoded(audio, audio_of(16_000), 16_000, 640):
            container.mux(packet)
    return path


def write_times_of_decoding(path: Path, *, b_frames: int = 2) -> Path:
    """What is left when a stream with B-frames has passed a container without times (AVI)."""
    whole = write_odd(
        path.with_name(f"source{path.suffix}.mp4"), audio="aac", gop=20, b_frames=b_frames
    )

    def decoding(packet: Packet) -> Packet:
        packet.pts = packet.dts
        return packet

    return copied(whole, path, decoding)


def write_cut(path: Path) -> Path:
    """Of 4 s with a key frame every 0.8 s what follows the first 0.32 s."""
    whole = write_odd(path.with_name("whole.ts"), audio="mp2", gop=20)
    with av.open(str(whole)) as source:
        begin = (source.streams.video[0].start_time or 0) + round(0.32 * 90_000)
    return copied(whole, path, lambda packet: packet if (packet.dts or 0) >= begin - 1 else None)


def write_two_passes(path: Path, *, codec: str) -> None:
    """VP8 or VP9 with frames that are never shown, which libvpx writes in a second pass only."""
    source = write_odd(path.with_name("source.mkv"), audio="libopus", rate=48_000)
    words = f"-c:v {codec} -b:v 400k -deadline good -cpu-used 4 -auto-alt-ref 1 -lag-in-frames 16"
    begin = ["ffmpeg", "-v", "error", "-y", "-i", str(source), *words.split(), "-c:a", "copy"]
    log = ["-passlogfile", str(path.with_suffix(""))]
    subprocess.run([*begin, *log, "-pass", "1", "-f", "null", "-"], check=True)
    subprocess.run([*begin, *log, "-pass", "2", str(path)], check=True)


def stuffed(data: bytes) -> bytes:
    """A frame of MPEG-1 or MPEG-2 that zeros fill up to a constant rate."""
    return data.replace(b"\0\0\1", bytes(40) + b"\0\0\1") + bytes(40)


def compress_header(path: Path) -> None:
    """Compress the header of a QuickTime file, which is behind its data."""
    *before, (kind, moov) = unpack_boxes(path.read_bytes())
    assert kind == b"moov"
    whole = pack_boxes([(b"moov", moov)])
    inner = [(b"dcom", b"zlib"), (b"cmvd", len(whole).to_bytes(4) + zlib.compress(whole))]
    packed = pack_boxes([(b"cmov", pack_boxes(inner))])
    path.write_bytes(pack_boxes([*before, (b"moov", packed)]))


def _write_gif(path: Path) -> None:
    source = write_odd(path.with_name("gif.mov"), video="gif", audio="alac", pix_fmt="gray")
    # PyAV does not write it into Matroska.
    subprocess.run(["ffmpeg", "-v", "error", "-i", source, "-c", "copy", path], check=True)


def _write_trimmed(path: Path) -> None:
    """Video and audio begin 0.8 s into their tracks, as a header says that is compressed."""
    write_odd(path, gop=20)
    for track in (0, 1):
        set_edits(path, track, [Edit(media_seconds=Fraction(4, 5), seconds=Fraction(16, 5))])
    compress_header(path)


def _x264(words: str) -> dict[str, str]:
    return {"x264-params": f"{words}:scenecut=0:threads=1"}


_MANY = tuple(np.linspace(0.0, 2.9, 10).round(3).tolist())
_OPEN = "open-gop=1:keyint=14:min-keyint=14:bframes=3:ref=5:b-adapt=0:b-pyramid=2"
_OPEN_LONG = "open-gop=1:keyint=12:min-keyint=12:bframes=8:ref=5:b-adapt=0"
_X265 = (
    "log-level=none:pools=1:frame-threads=1:open-gop=1:keyint=14:min-keyint=14:bframes=3:b-adapt=0"
)
_UNEVEN = frozenset([3, 4, 20, 21, 22, 40, 41, 60, 61, 62, 63, 64, 80, 97])


def _lossy(codec: str, *, bit_rate: int = 96_000, differs: float = _ROUNDED) -> Odd:
    return Odd(
        write=partial(write_odd, audio=codec, rate=48_000, bit_rate=bit_rate),
        rate=48_000,
        is_lossless=False,
        differs=differs,
    )


FILES: dict[str, Odd] = {
    "palette.mov": Odd(write=write_palettized),
    # Matroska marks no frame of it as a key frame.
    "palette.mkv": Odd(write=_write_gif, program="ffmpeg"),
    "chunks.avi": Odd(write=partial(write_odd, video="mpeg4", chunk=2400)),
    "half_second.avi": Odd(write=partial(write_odd, video="mpeg4", chunk=8000)),
    "packed.avi": Odd(
        write=partial(write_odd, video="mpeg4", b_frames=1, arrange=pack_b_frames, chunk=2048)
    ),
    "open_gop.mp4": Odd(
        write=partial(write_odd, audio="aac", b_frames=3, **_x264(_OPEN)),
        is_lossless=False,
        starts=_MANY,
    ),
    "open_gop.mkv": Odd(
        write=partial(write_odd, b_frames=8, **_x264(_OPEN_LONG)),
        starts=_MANY,
    ),
    "open_gop.ts": Odd(
        write=partial(write_odd, audio="mp2", b_frames=3, **_x264(_OPEN)),
        is_lossless=False,
        starts=_MANY,
    ),
    "refresh.mp4": Odd(
        write=partial(write_odd, audio="alac", **_x264("intra-refresh=1:keyint=25:bframes=0")),
        starts=_MANY,
    ),
    "refresh.ts": Odd(
        write=partial(write_odd, audio="mp2", **_x264("intra-refresh=1:keyint=25:bframes=0")),
        is_lossless=False,
        starts=_MANY,
    ),
    "open_gop_hevc.mp4": Odd(
        write=partial(write_odd, video="libx265", audio="alac", **{"x265-params": _X265}),
        starts=_MANY,
    ),
    "constant_rate.ts": Odd(
        write=partial(
            write_odd, video="mpeg2video", audio="mp2", b_frames=2, gop=12, change=stuffed
        ),
        is_lossless=False,
    ),
    "constant_rate_1.mpg": Odd(
        write=partial(
            write_odd, video="mpeg1video", audio="mp2", rate=32_000, gop=12, change=stuffed
        ),
        rate=32_000,
        is_lossless=False,
    ),
    "hidden_frames_8.webm": Odd(
        write=partial(write_two_passes, codec="libvpx"),
        rate=48_000,
        is_lossless=False,
        shift_seconds=0.001,
        program="ffmpeg",
    ),
    "flac.mkv": Odd(write=partial(write_odd, audio="flac", rate=8000), rate=8000),
    "alac.mov": Odd(write=partial(write_odd, audio="alac", rate=8000), rate=8000),
    "tta.mkv": Odd(
        write=partial(write_odd, audio="tta", rate=8000), rate=8000, shift_seconds=0.001
    ),
    "wavpack.mkv": Odd(write=partial(write_odd, audio="wavpack", rate=8000), rate=8000),
    "flac_16k.mkv": Odd(write=partial(write_odd, audio="flac")),
    "wma.wmv": Odd(
        write=partial(write_odd, video="msmpeg4v3", audio="wmav2", rate=8000),
        rate=8000,
        is_lossless=False,
        silent_seconds=0.064,
    ),
    "wma_16k.wmv": Odd(
        write=partial(write_odd, video="msmpeg4v3", audio="wmav2"),
        is_lossless=False,
        differs=1e-3,  # noise of a table, which goes on from packet to packet
        silent_seconds=0.032,
    ),
    "cut.ts": Odd(write=write_cut, first=20, is_lossless=False, starts=(0.0, 0.2, 1.0, 2.1)),
    "compressed_header.mov": Odd(write=_write_trimmed, first=20, starts=(0.0, 0.4, 1.0, 1.7)),
    "hidden_frames.webm": Odd(
        write=partial(write_two_passes, codec="libvpx-vp9"),
        rate=48_000,
        is_lossless=False,
        shift_seconds=0.001,
        program="ffmpeg",
    ),
    "opus.mp4": Odd(
        write=partial(write_odd, audio="libopus", b_frames=2, rate=48_000),
        rate=48_000,
        is_lossless=False,
    ),
    "uneven.mkv": Odd(
        write=partial(write_odd, audio="flac", b_frames=2, skipped=_UNEVEN), skipped=_UNEVEN
    ),
    "ac3.mp4": _lossy("ac3"),
    "eac3.mkv": replace(_lossy("eac3"), shift_seconds=0.001),
    "mp3.mp4": _lossy("libmp3lame", bit_rate=32_000),
    # The encoder leaves the noise, of 0.03, to the decoder: other numbers from every start.
    "noise.mp4": _lossy("aac", bit_rate=32_000, differs=0.03),
}
