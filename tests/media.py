"""Media files whose truth is known: every frame carries its number, every event is seen and heard.

At each event the whole frame flashes white and a short tone burst has its middle. Frame k is drawn
as black and white blocks, so that a decoded frame says which one it is.
"""

import math
import struct
from collections.abc import Callable, Collection
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any, Literal

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.packet import Packet
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter

NUM_BITS = 10
TONE_HZ = 1500.0
BURST_SECONDS = 0.016
AUDIO_OF = {".mp4": "aac", ".mov": "aac", ".mkv": "libopus", ".webm": "libopus", ".avi": "mp3"}
VIDEO_OF = {".webm": "libvpx-vp9", ".avi": "mpeg4"}


def draw_frame(number: int, *, size: tuple[int, int], flash: bool) -> np.ndarray:
    """Frame `number` as (h, w, 3) uint8: rows of bits, of inverted bits, the rest."""
    width, height = size
    frame = np.full((height, width, 3), 255 if flash else 60, np.uint8)
    if not flash:
        # Something that moves, so that codecs predict from frame to frame.
        left = number * 3 % (width - 16)
        frame[height * 2 // 3 : height * 5 // 6, left : left + 16] = (200, 90, 30)
    row, column = height // 4, width // NUM_BITS
    for bit in range(NUM_BITS):
        value = 235 if number >> bit & 1 else 20
        at = slice(bit * column, (bit + 1) * column)
        frame[:row, at] = value
        frame[row : 2 * row, at] = 255 - value
    return frame


def read_counter(frame: np.ndarray) -> int:
    """Number drawn in a decoded (h, w, 3) frame; ValueError where it cannot be read safely."""
    gray = frame.mean(axis=2)
    row, column = gray.shape[0] / 4, gray.shape[1] / NUM_BITS
    number = 0
    for bit in range(NUM_BITS):
        x = slice(int((bit + 0.3) * column), int((bit + 0.7) * column) + 1)
        high = gray[int(0.3 * row) : int(0.7 * row) + 1, x].mean()
        low = gray[int(1.3 * row) : int(1.7 * row) + 1, x].mean()
        if abs(high - low) < 60:
            raise ValueError(f"bit {bit} is unreadable: {high:.0f} against {low:.0f}")
        number |= int(high > low) << bit
    return number


def draw_audio(
    *, seconds: float, rate: int, start_seconds: float, events_seconds: Collection[float]
) -> np.ndarray:
    """Mono float32: a Hann-shaped tone burst with its middle at each event, silence between."""
    time = start_seconds + np.arange(round(seconds * rate)) / rate
    wave = np.zeros(len(time), np.float32)
    for event in events_seconds:
        u = (time - event) / BURST_SECONDS
        shape = np.where(np.abs(u) < 0.5, np.cos(np.pi * u) ** 2, 0)
        wave += (0.5 * shape * np.cos(2 * np.pi * TONE_HZ * (time - event))).astype(np.float32)
    return wave


def beep_times(audio: np.ndarray, rate: int) -> np.ndarray:
    """Middle of every tone burst, seconds from the first sample, to a fraction of a sample."""
    if not len(audio) or np.abs(audio).max() < 0.05:
        return np.zeros(0)
    window = max(int(BURST_SECONDS * rate), 1)
    loud = np.flatnonzero(np.abs(audio) > 0.1)
    groups = np.split(loud, np.flatnonzero(np.diff(loud) > 2 * window) + 1)
    times = []
    for group in groups:
        low, high = max(group[0] - window // 2, 0), min(group[-1] + window // 2 + 1, len(audio))
        energy = audio[low:high].astype(np.float64) ** 2
        times.append((np.arange(low, high) @ energy) / energy.sum() / rate)
    return np.array(times)


def write_flash_beep(
    path: Path,
    *,
    fps: float = 25,
    seconds: float = 4,
    events_seconds: Collection[float] = (0.4, 1.2, 2.0, 2.8, 3.6),
    sample_rate: int = 48_000,
    layout: str = "mono",
    video_codec: str | None = "",
    audio_codec: str | None = "",
    video_start_seconds: float = 0.0,
    audio_start_seconds: float = 0.0,
    audio_seconds: float | None = None,
    size: tuple[int, int] = (160, 96),
    rotation: int = 0,
    gop: int = 20,
    b_frames: int = 2,
    skip_frames: Collection[int] = (),
) -> Path:
    """Write `path`; its ending chooses the container. Events are on the clock of the container.

    `events_seconds` should be at times of frames. A codec of "" is the usual one of the container,
    None leaves the stream out. Frames of `skip_frames` are not written: the frame rate varies.
    `rotation` (counter-clockwise degrees to be applied when shown) works in mp4 and mov.
    """
    suffix = path.suffix
    video_codec = VIDEO_OF.get(suffix, "libx264") if video_codec == "" else video_codec
    audio_codec = AUDIO_OF[suffix] if audio_codec == "" else audio_codec
    with av.open(str(path), "w") as container:
        video = audio = None
        if video_codec is not None:
            video = _add_video(container, video_codec, fps, size, gop, b_frames)
        if audio_codec is not None:
            audio = container.add_stream(audio_codec, rate=sample_rate)
            audio.layout = layout  # type: ignore[attr-defined]
            audio.bit_rate = 128_000  # type: ignore[attr-defined]
        frames = (
            []
            if video is None
            else _video_frames(fps, seconds, video_start_seconds, events_seconds, size, skip_frames)
        )
        wave = draw_audio(
            seconds=seconds if audio_seconds is None else audio_seconds,
            rate=sample_rate,
            start_seconds=audio_start_seconds,
            events_seconds=events_seconds,
        )
        chunks = (
            [] if audio is None else _audio_frames(wave, sample_rate, layout, audio_start_seconds)
        )
        for frame in sorted([*frames, *chunks], key=lambda f: f.time or 0.0):
            stream: Any = video if isinstance(frame, VideoFrame) else audio
            container.mux(stream.encode(frame))
        for stream in (video, audio):
            if stream is not None:
                container.mux(stream.encode(None))
    if rotation:
        _set_rotation(path, rotation)
    return path


def _add_video(
    container: Any, codec: str, fps: float, size: tuple[int, int], gop: int, b_frames: int
) -> Any:
    options = {
        "libx264": {"preset": "veryfast", "crf": "18", "sc_threshold": "0"},
        "libvpx-vp9": {"deadline": "realtime", "cpu-used": "8", "lag-in-frames": "0"},
    }.get(codec, {})
    rate = Fraction(fps).limit_denominator(1001)
    stream = container.add_stream(codec, rate=rate, options=options)
    stream.width, stream.height = size
    stream.pix_fmt = "yuv420p"
    stream.gop_size = gop
    stream.bit_rate = 800_000
    stream.thread_count = 1
    if codec != "libvpx-vp9":
        stream.max_b_frames = b_frames
    return stream


def _video_frames(
    fps: float,
    seconds: float,
    start_seconds: float,
    events_seconds: Collection[float],
    size: tuple[int, int],
    skip_frames: Collection[int],
) -> list[VideoFrame]:
    rate = Fraction(fps).limit_denominator(1001)
    flashes = {round((event - start_seconds) * fps) for event in events_seconds}
    frames = []
    for number in range(round(seconds * fps)):
        if number in skip_frames:
            continue
        main_video = draw_frame(number, size=size, flash=number in flashes)
        frame = VideoFrame.from_ndarray(main_video, format="rgb24")
        frame.pts = number + round(start_seconds * fps)
        frame.time_base = 1 / rate
        frames.append(frame)
    return frames


def _audio_frames(
    wave: np.ndarray, rate: int, layout: str, start_seconds: float
) -> list[AudioFrame]:
    num_channels = av.AudioLayout(layout).nb_channels
    frames = []
    for at in range(0, len(wave), 960):
        samples = np.tile(wave[at : at + 960], (num_channels, 1))
        frame = AudioFrame.from_ndarray(samples, format="fltp", layout=layout)
        frame.sample_rate = rate
        frame.time_base = Fraction(1, rate)
        frame.pts = at + round(start_seconds * rate)
        frames.append(frame)
    return frames


def _set_rotation(path: Path, rotation: int, *, mirrored: bool = False) -> None:
    """Put a display matrix into the header of the first track: turned, then mirrored."""
    data = bytearray(path.read_bytes())
    turns = rotation // 90 % 4
    cos, sin = (1, 0, -1, 0)[turns], (0, -1, 0, 1)[turns]
    one, side = 1 << 16, -1 if mirrored else 1
    rows = (side * cos * one, sin * one, 0, -side * sin * one, cos * one, 0, 0, 0, 1 << 30)
    at = data.index(b"tkhd") + 44
    data[at : at + 36] = struct.pack(">9i", *rows)
    path.write_bytes(data)


# Files of the table in tests/truth.py: each is written from a recipe that also states its truth.

TONES_HZ = tuple(700.0 + 220.0 * index for index in range(12))
"""Beeps take turns, so that one that is found far from its place is still known to be out."""
EVENTS_SECONDS = tuple(Fraction(n, 100) for n in (20, 62, 108, 140, 193, 230, 275, 295))
PATCHES = ((200, 40, 40), (40, 180, 60), (50, 60, 200), (210, 160, 40))
"""Colours, RGB, of the four patches in the lower half of frames of a known colour space."""
_LUMA = {"601": (0.299, 0.114), "709": (0.2126, 0.0722)}
_QUICK = {
    "libx264": {"preset": "ultrafast", "crf": "20", "sc_threshold": "0", "x264-params": "cabac=1"},
    "libx265": {"preset": "ultrafast", "x265-params": "log-level=none:pools=1:frame-threads=1"},
    "libvpx": {"deadline": "realtime", "cpu-used": "8"},
    "libvpx-vp9": {"deadline": "realtime", "cpu-used": "8", "lag-in-frames": "0"},
    "libsvtav1": {"preset": "8", "crf": "10", "svtav1-params": "lp=1"},
    "vorbis": {"strict": "experimental"},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Edit:
    """A row of an mp4 edit list; seconds are from the first frame or sample of the track."""

    media_seconds: Fraction | None
    """What is presented; None is an empty edit: nothing."""
    seconds: Fraction
    rate: Fraction = Fraction(1)


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoSpec:
    """A video track, as it is written."""

    codec: str = "libx264"
    fps: Fraction = Fraction(25)
    seconds: Fraction = Fraction(16, 5)
    start_seconds: Fraction = Fraction(0)
    """Time of the first frame on the clock of the container."""
    times: tuple[Fraction, ...] = ()
    """Of the frames, from the first; () for a constant rate."""
    skipped: tuple[int, ...] = ()
    """Numbers of frames that were never encoded."""
    lost: tuple[float, float] = (0.0, 0.0)
    """Packets of these seconds, from the first frame, are left out."""
    size: tuple[int, int] = (160, 96)
    """Width and height as shown, in pixels as stored."""
    pix_fmt: str = "yuv420p"
    gop: int = 24
    b_frames: int | None = 0
    options: tuple[tuple[str, str], ...] = ()
    quarter_turns: int = 0
    """Counter-clockwise, to be applied when shown."""
    mirrored: bool = False
    """To be mirrored left to right when shown, after turning."""
    aspect: Fraction = Fraction(1)
    """Width of a pixel over its height, as stored."""
    colour: Literal["", "601", "709", "601_full", "709_full", "601_untagged", "709_untagged"] = ""
    """Where given, the frame has `PATCHES`, converted and, unless it says so, tagged so."""
    edits: tuple[Edit, ...] = ()
    default: bool = True
    packed: bool = False
    """Two frames in one packet, as DivX put B-frames into AVI."""

    @property
    def frames(self) -> list[tuple[int, Fraction]]:
        """Number of each frame in the file, and its time from the first."""
        times = self.times or [k / self.fps for k in range(int(self.seconds * self.fps))]
        low, high = self.lost
        return [
            (number, time)
            for number, time in enumerate(times)
            if number not in self.skipped and not low <= time < high
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class AudioSpec:
    """An audio track, as it is written."""

    codec: str = "aac"
    rate: int = 48_000
    layout: str = "mono"
    seconds: Fraction = Fraction(16, 5)
    start_seconds: Fraction = Fraction(0)
    lost: tuple[float, float] = (0.0, 0.0)
    """Packets of these seconds, from the first sample, are left out."""
    levels: tuple[float, ...] = ()
    """Of each channel; () for 1 in all of them."""
    bit_rate: int = 128_000
    options: tuple[tuple[str, str], ...] = ()
    edits: tuple[Edit, ...] = ()
    default: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """A file: how it is written. The first default-flagged track of each kind is the one meant."""

    name: str
    """With the ending."""
    video: tuple[VideoSpec, ...] = (VideoSpec(),)
    audio: tuple[AudioSpec, ...] = (AudioSpec(),)
    format: str | None = None
    """Of the muxer, where the ending does not say."""
    options: tuple[tuple[str, str], ...] = ()
    """Of the muxer."""
    extra: tuple[Literal["cover", "subtitle", "data", "attachment"], ...] = ()
    audio_first: bool = False
    """True when the audio tracks have the lower indices."""
    undeclared_delay_seconds: float = 0.0
    """By how much the audio comes late without that the file says so."""
    slow: bool = False

    @property
    def main_video(self) -> VideoSpec | None:
        """The video track that is meant."""
        return next((p for p in self.video if p.default), None)

    @property
    def main_audio(self) -> AudioSpec | None:
        """The audio track that is meant."""
        return next((s for s in self.audio if s.default), None)

    @property
    def events(self) -> list[Fraction]:
        """Times of flash and beep, on the clock of the container."""
        main_video = self.main_video
        if main_video is None:
            return [*EVENTS_SECONDS]
        times = [time for _, time in main_video.frames]
        wanted = [*EVENTS_SECONDS]
        while wanted[-1] + 1 < times[-1]:  # a long file
            wanted.append(wanted[-1] + Fraction(83, 100))
        first = [next((t for t in times if t >= event), None) for event in wanted]
        return [main_video.start_seconds + t for t in sorted({t for t in first if t is not None})]


def write_media(path: Path, recipe: Recipe) -> Path:
    """Write `path` as the recipe says."""
    events = recipe.events
    with av.open(str(path), "w", format=recipe.format, options=dict(recipe.options)) as container:
        encoders: list[Callable[[], list[Packet]]] = []
        tracks = [*recipe.video, *recipe.audio]
        for track in tracks[:: -1 if recipe.audio_first else 1]:
            decoy = track is not recipe.main_video and track is not recipe.main_audio
            if isinstance(track, VideoSpec):
                stream = _frame_stream(container, track)
                encoders.append(partial(_encode_frames, stream, track, events, decoy))
            else:
                stream = _audio_stream(container, track)
                encoders.append(partial(_encode_audio, stream, track, events, decoy))
            if not track.default:
                stream.disposition = Disposition(0)
            elif len(recipe.audio) > 1 or len(recipe.video) > 1:
                stream.disposition = Disposition.default
        extra = [_extra_packets(container, kind) for kind in recipe.extra]
        packets = [packet for encode in encoders for packet in encode()]
        packets += [packet for some in extra for packet in some]
        for packet in sorted(packets, key=_decoding_seconds):
            container.mux(packet)
    tracks = [(i, p) for i, p in enumerate(tracks[:: -1 if recipe.audio_first else 1]) if p.edits]
    for index, track in tracks:
        set_edits(path, index, track.edits)
    main_video = recipe.main_video
    if main_video is not None and (main_video.quarter_turns or main_video.mirrored):
        _set_rotation(path, 90 * main_video.quarter_turns, mirrored=main_video.mirrored)
    return path


def _decoding_seconds(packet: Packet) -> Fraction:
    return _seconds(packet) if packet.dts is None else packet.dts * packet.time_base


def _seconds(packet: Packet) -> Fraction:
    assert packet.pts is not None
    return packet.pts * packet.time_base


def _frame_stream(container: Any, track: VideoSpec) -> Any:
    options = {**_QUICK.get(track.codec, {}), **dict(track.options)}
    stream = container.add_stream(track.codec, rate=track.fps, options=options)
    width, height = track.size[:: -1 if track.quarter_turns % 2 else 1]
    stream.width, stream.height, stream.pix_fmt = width, height, track.pix_fmt
    stream.thread_count = 1
    stream.codec_context.gop_size = track.gop
    stream.codec_context.bit_rate = 0 if "crf" in options else 1_500_000
    if track.b_frames is not None:
        stream.codec_context.max_b_frames = track.b_frames
    if track.aspect != 1:
        stream.codec_context.sample_aspect_ratio = track.aspect
    if track.colour and not track.colour.endswith("untagged"):
        stream.codec_context.colorspace = 1 if track.colour.startswith("709") else 5
        stream.codec_context.color_range = 2 if track.colour.endswith("full") else 1
    # AVI and MPEG-2 need ticks of one frame; where frames lie between those, ticks that fit all.
    times = [track.start_seconds + time for _, time in track.frames]
    ticks = math.lcm(*(time.denominator for time in times))
    fits = all((time * track.fps).denominator == 1 for time in times)
    stream.codec_context.time_base = 1 / track.fps if fits else Fraction(1, ticks)
    return stream


def _encode_frames(
    stream: Any, track: VideoSpec, events: Collection[Fraction], decoy: bool
) -> list[Packet]:
    tick = stream.codec_context.time_base
    flashes = {event - track.start_seconds for event in events}
    times = track.times or [k / track.fps for k in range(int(track.seconds * track.fps))]
    packets: list[Packet] = []
    reformatter = VideoReformatter()  # one, because it is slow to set up
    for number, time in enumerate(times):
        if number in track.skipped:
            continue
        flash = time in flashes
        main_video = _frame(512 + number if decoy else number, track, flash=flash)
        frame = _colour_frame(main_video, track, reformatter)
        frame.pts = int((track.start_seconds + time) / tick)
        frame.time_base = tick
        packets += stream.encode(frame)
    packets += stream.encode(None)
    if track.packed:
        packets = pack_b_frames(packets)
    low, high = track.lost
    return [p for p in packets if not low <= _seconds(p) - track.start_seconds < high]


def _frame(number: int, track: VideoSpec, *, flash: bool) -> np.ndarray:
    width, height = track.size
    if width < 4 * NUM_BITS:
        main_video = np.full((height, width, 3), 20 + 40 * number, np.uint8)  # no room for blocks
    else:
        main_video = draw_frame(number, size=track.size, flash=flash)
        if track.colour:
            for index, patch in enumerate(PATCHES):
                main_video[height // 2 :, index * width // 4 : (index + 1) * width // 4] = patch
    if track.mirrored:
        main_video = main_video[:, ::-1]
    return np.ascontiguousarray(np.rot90(main_video, -track.quarter_turns))


def _colour_frame(
    main_video: np.ndarray, track: VideoSpec, reformatter: VideoReformatter
) -> VideoFrame:
    if not track.colour:
        frame = VideoFrame.from_ndarray(main_video, format="rgb24")
        return reformatter.reformat(frame, format=track.pix_fmt, threads=1)
    # By the definition of the colour space, not by the library that is to be tested.
    red, blue = _LUMA[track.colour[:3]]
    r, g, b = np.moveaxis(main_video / 255.0, 2, 0)
    y = red * r + (1 - red - blue) * g + blue * b
    chroma = [(b - y) / (2 - 2 * blue), (r - y) / (2 - 2 * red)]
    height, width = y.shape
    chroma = [c.reshape(height // 2, 2, width // 2, 2).mean((1, 3)) for c in chroma]
    full = track.colour.endswith("full")
    planes = [255 * y if full else 16 + 219 * y]
    planes += [128 + (255 if full else 224) * c.reshape(-1, width) for c in chroma]
    data = np.clip(np.rint(np.concatenate(planes)), 0, 255).astype(np.uint8)
    frame = VideoFrame.from_ndarray(data, format="yuv420p")
    if not track.colour.endswith("untagged"):
        frame.colorspace = 1 if track.colour.startswith("709") else 5
        frame.color_range = 2 if full else 1
    return frame


def pack_b_frames(packets: list[Packet]) -> list[Packet]:
    """Put each B-frame behind the frame it needs, and "no frame" where it was, as DivX does."""
    nothing = bytes.fromhex("000001b6504f")  # a P-VOP that is not coded, 25 ticks a second
    mark = b"\0\0\1\xb2DivX503b1393p\0\0\1\xb6"  # by this, decoders know
    out: list[Packet] = []
    index = 0
    while index < len(packets):
        packet = packets[index]
        if packet.is_keyframe:
            packet = _replaced(packet, bytes(packet).replace(b"\0\0\1\xb6", mark, 1))
        follower = packets[index + 1] if index + 1 < len(packets) else None
        if follower is None or _seconds(follower) >= _seconds(packet):
            out.append(packet)
            index += 1
            continue
        out.append(_replaced(packet, bytes(packet) + bytes(follower)))
        out.append(_replaced(follower, nothing))
        index += 2
    return out


def _replaced(packet: Packet, data: bytes) -> Packet:
    """The same packet with other data."""
    new = Packet(data)
    new.stream, new.time_base = packet.stream, packet.time_base
    new.pts, new.dts, new.is_keyframe = packet.pts, packet.dts, packet.is_keyframe
    return new


def _audio_stream(container: Any, track: AudioSpec) -> Any:
    options = {**_QUICK.get(track.codec, {}), **dict(track.options)}
    stream = container.add_stream(track.codec, rate=track.rate, options=options)
    stream.layout = track.layout
    stream.bit_rate = track.bit_rate
    return stream


def _encode_audio(
    stream: Any, track: AudioSpec, events: Collection[Fraction], decoy: bool
) -> list[Packet]:
    shift = 0.13 if decoy else 0.0
    wave = draw_beeps(
        [(float(event) + shift, index) for index, event in enumerate(events)],
        seconds=float(track.seconds),
        rate=track.rate,
        start_seconds=float(track.start_seconds),
    )
    num_channels = av.AudioLayout(track.layout).nb_channels
    levels = np.array(track.levels or [1.0] * num_channels, np.float32)
    packets: list[Packet] = []
    for at in range(0, len(wave), 960):
        samples = (wave[at : at + 960, None] * levels).reshape(1, -1)
        frame = AudioFrame.from_ndarray(samples, format="flt", layout=track.layout)
        frame.sample_rate = track.rate
        frame.time_base = Fraction(1, track.rate)
        frame.pts = at + round(track.start_seconds * track.rate)
        packets += stream.encode(frame)
    packets += stream.encode(None)
    low, high = track.lost
    return [p for p in packets if not low <= _seconds(p) - track.start_seconds < high]


def _extra_packets(container: Any, kind: str) -> list[Packet]:
    """Add a stream that is neither the frames nor the audio, and make what is in it."""
    if kind == "attachment":
        container.add_attachment("notes.txt", "text/plain", b"not media")
        return []
    if kind == "cover":
        cover = container.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt = 64, 64, "yuvj420p"
        cover.disposition = Disposition.attached_pic
        frame = VideoFrame.from_ndarray(np.full((64, 64, 3), 120, np.uint8), format="rgb24")
        frame.pts, frame.time_base = 0, Fraction(1)
        return [*cover.encode(frame), *cover.encode(None)]
    if kind == "data":
        stream, data = container.add_data_stream("bin_data"), b"data"
    else:
        stream, data = container.add_mux_stream("subrip"), b"words"
    packets = []
    for second in range(3):
        packet = Packet(data)
        packet.stream, packet.time_base = stream, Fraction(1, 1000)
        packet.pts = packet.dts = 1000 * second
        packet.duration = 900
        packets.append(packet)
    return packets


def draw_beeps(
    beeps: Collection[tuple[float, int]], *, seconds: float, rate: int, start_seconds: float
) -> np.ndarray:
    """Mono float32: at each (seconds, index) the middle of a burst of the tone of that index."""
    wave = np.zeros(round(seconds * rate), np.float32)
    for event, index in beeps:
        first = math.ceil((event - BURST_SECONDS / 2 - start_seconds) * rate)
        at = np.arange(max(first, 0), min(first + round(BURST_SECONDS * rate), len(wave)))
        time = start_seconds + at / rate - event
        tone = np.cos(2 * np.pi * TONES_HZ[index % len(TONES_HZ)] * time)
        wave[at] += (0.5 * np.cos(np.pi * time / BURST_SECONDS) ** 2 * tone).astype(np.float32)
    return wave


@dataclass(frozen=True, slots=True)
class Beep:
    """A tone burst that was heard."""

    seconds: float
    """Of its middle."""
    tone: int
    """Index of its tone."""
    level: float
    """Amplitude over that with which mono files are written."""


def find_beeps(audio: np.ndarray, rate: int) -> list[Beep]:
    """Every tone burst in a mono waveform, times from its first sample."""
    beeps = []
    half = round(BURST_SECONDS * rate / 2)
    loud = np.flatnonzero(np.abs(audio) > 0.03)
    groups = np.split(loud, np.flatnonzero(np.diff(loud) > half) + 1) if len(loud) else []
    for group in groups:
        low, high = max(group[0] - half // 2, 0), min(group[-1] + half // 2 + 1, len(audio))
        burst = audio[low:high].astype(np.float64)
        energy = burst**2
        if energy.max() < 0.01:
            continue  # what a lossy codec smears
        middle = (np.arange(low, high) @ energy) / energy.sum() / rate
        pitch = np.argmax(np.abs(np.fft.rfft(burst, 8192))) * rate / 8192
        tone = int(np.argmin(np.abs(np.array(TONES_HZ) - pitch)))
        # The energy of a Hann-shaped burst of amplitude a is 3/16 a^2 times its length.
        level = math.sqrt(energy.sum() / (rate * BURST_SECONDS * 3 / 16)) / 0.5
        beeps.append(Beep(middle, tone, level))
    return beeps


def read_number(frame: np.ndarray) -> int:
    """Number of a frame that was written from a recipe, also where it has no room for blocks."""
    if frame.shape[1] < 4 * NUM_BITS:
        return round((float(frame.mean()) - 20) / 40)
    return read_counter(frame)


def read_patches(frame: np.ndarray) -> np.ndarray:
    """Mean colour (4, 3) of the middle of each patch."""
    height, width = frame.shape[:2]
    rows = slice(height * 5 // 8, height * 7 // 8)
    columns = [slice(width * (4 * i + 1) // 16, width * (4 * i + 3) // 16) for i in range(4)]
    return np.array([frame[rows, at].mean((0, 1)) for at in columns])


def set_edits(path: Path, track: int, edits: Collection[Edit]) -> None:
    """Replace the edit list of one track of an mp4 whose header is behind its data."""
    data = path.read_bytes()
    kind, moov = unpack_boxes(data)[-1]
    assert kind == b"moov"  # else the offsets of the data would have to change, too
    movie = unpack_boxes(moov)
    scale = struct.unpack_from(">I", _child(movie, b"mvhd"), 12)[0]
    traks = [i for i, (kind, _) in enumerate(movie) if kind == b"trak"]
    movie[traks[track]] = (b"trak", _edited(movie[traks[track]][1], scale, edits))
    path.write_bytes(data[: -8 - len(moov)] + pack_boxes([(b"moov", pack_boxes(movie))]))


def _edited(trak: bytes, movie_scale: int, edits: Collection[Edit]) -> bytes:
    boxes = unpack_boxes(trak)
    media_scale = struct.unpack_from(
        ">I", _child(unpack_boxes(_child(boxes, b"mdia")), b"mdhd"), 12
    )
    first = 0  # tick of the first frame or sample: B-frames and priming come before
    if any(kind == b"edts" for kind, _ in boxes):
        table = _child(unpack_boxes(_child(boxes, b"edts")), b"elst")
        first = struct.unpack_from(">i", table, len(table) - 8)[0]
    rows = b"".join(
        struct.pack(
            ">IiI",
            round(edit.seconds * movie_scale),
            -1
            if edit.media_seconds is None
            else first + round(edit.media_seconds * media_scale[0]),
            round(edit.rate * 65_536),
        )
        for edit in edits
    )
    table = pack_boxes([(b"elst", struct.pack(">II", 0, len(edits)) + rows)])
    boxes = [box for box in boxes if box[0] != b"edts"]
    return pack_boxes([boxes[0], (b"edts", table), *boxes[1:]])


def unpack_boxes(data: bytes) -> list[tuple[bytes, bytes]]:
    """Kind and content of each box of an mp4."""
    boxes, at = [], 0
    while at < len(data):
        size, kind = struct.unpack_from(">I4s", data, at)
        header = 8
        if size == 1:
            size, header = struct.unpack_from(">Q", data, at + 8)[0], 16
        boxes.append((kind, data[at + header : at + size]))
        at += size
    return boxes


def pack_boxes(boxes: Collection[tuple[bytes, bytes]]) -> bytes:
    """Boxes of an mp4 from kind and content."""
    return b"".join(struct.pack(">I4s", len(body) + 8, kind) + body for kind, body in boxes)


def _child(boxes: Collection[tuple[bytes, bytes]], kind: bytes) -> bytes:
    return next(body for name, body in boxes if name == kind)
