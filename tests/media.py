"""Media files whose truth is known: every frame carries its number, every event is seen and heard.

At each event the whole frame flashes white and a short tone burst has its middle. Frame k is drawn
as black and white blocks, so that a decoded picture says which one it is.
"""

import struct
from collections.abc import Collection
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.video.frame import VideoFrame

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


def draw_sound(
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
        wave = draw_sound(
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
        picture = draw_frame(number, size=size, flash=number in flashes)
        frame = VideoFrame.from_ndarray(picture, format="rgb24")
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


def _set_rotation(path: Path, rotation: int) -> None:
    """Put a display matrix into the header of the first track."""
    data = bytearray(path.read_bytes())
    turns = rotation // 90 % 4
    cos, sin = (1, 0, -1, 0)[turns], (0, -1, 0, 1)[turns]
    one = 1 << 16
    matrix = struct.pack(">9i", cos * one, sin * one, 0, -sin * one, cos * one, 0, 0, 0, 1 << 30)
    at = data.index(b"tkhd") + 44
    data[at : at + 36] = matrix
    path.write_bytes(data)
