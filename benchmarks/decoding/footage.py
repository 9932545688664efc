"""Files to measure on: made ones, in motion and textured like real ones, and folders of others."""

import math
import random
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import av.error
import numpy as np

from decoding.decoders import Job

FPS = 30
SIZE = (340, 256)
SECONDS = 10
LONG_SECONDS = 600
AUDIO_RATE = 44_100
SHORT_SIDE = 224
WINDOW_SECONDS = 64 / FPS
"""16 frames with a stride of 4, or 8 with a stride of 8."""
_SUFFIXES = {
    ".mp4",
    ".m4v",
    ".mov",
    ".mkv",
    ".webm",
    ".avi",
    ".ts",
    ".mpg",
    ".mpeg",
    ".flv",
    ".wmv",
}


def made_clips(folder: Path, gop: int, num_files: int) -> list[Path]:
    """H.264 and AAC, 10 s, 340x256, 30 frames a second; those that exist are kept."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"gop{gop}_{number}.mp4" for number in range(num_files)]
    for number, path in enumerate(paths):
        if not path.exists():
            part = path.with_suffix(".part.mp4")
            _write_clip(part, gop, number)
            part.rename(path)
    return paths


def long_clip(folder: Path, source: Path) -> Path:
    """600 s of it: the packets of `source` over and over, nothing encoded again."""
    path = folder / f"long_{source.name}"
    if not path.exists():
        part = path.with_suffix(".part.mp4")
        _repeat(source, part)
        part.rename(path)
    return path


def made_jobs(
    paths: list[Path], num_frames: int, rng: random.Random, low: float, high: float
) -> list[Job]:
    """One window in each file, its start drawn from [low, high)."""
    return [
        Job(
            path=str(path),
            start_seconds=rng.uniform(low, high),
            duration_seconds=WINDOW_SECONDS,
            num_frames=num_frames,
            grid="starts",
            size=_scaled(*SIZE),
        )
        for path in paths
    ]


def folder_jobs(
    folder: Path,
    num_files: int,
    rng: random.Random,
    num_frames: int = 16,
    short_side: int | None = None,
) -> tuple[list[Job], dict[str, str]]:
    """2 s windows at random places, each in another file; and why other files were left out.

    `short_side` None: what networks take, half of it where the files are smaller.
    """
    files = sorted(p for p in folder.rglob("*") if p.suffix.lower() in _SUFFIXES)
    rng.shuffle(files)
    jobs, left_out = [], {}
    for path in files:
        if len(jobs) == num_files:
            break
        try:
            jobs.append(_folder_job(path, rng, num_frames, short_side))
        except (ValueError, StopIteration, IndexError, av.error.FFmpegError) as error:
            left_out[path.name] = str(error).replace(str(path), path.name) or type(error).__name__
    return jobs, left_out


def _folder_job(path: Path, rng: random.Random, num_frames: int, short_side: int | None) -> Job:
    duration = 2.0
    with av.open(str(path)) as container:
        if not container.streams.audio:
            raise ValueError("has no audio")
        video = container.streams.video[0]
        seconds = (container.duration or 0) / av.time_base
        frame = next(container.decode(video))
    if seconds < duration + 0.1:
        raise ValueError("is shorter than the window, or does not say how long it is")
    aspect = float(video.sample_aspect_ratio or 1) or 1.0
    width, height = frame.width * aspect, frame.height
    if round(frame.rotation / 90) % 2:
        width, height = height, width
    return Job(
        path=str(path),
        start_seconds=rng.uniform(0, seconds - duration - 0.1),
        duration_seconds=duration,
        num_frames=num_frames,
        size=_scaled(width, height, short_side),
    )


def _scaled(width: float, height: float, short_side: int | None = None) -> tuple[int, int]:
    """The size with the short side that networks take; small frames are not enlarged."""
    wanted = short_side or (SHORT_SIDE if min(width, height) >= SHORT_SIDE else SHORT_SIDE // 2)
    scale = wanted / min(width, height)
    return max(round(width * scale), wanted), max(round(height * scale), wanted)


def _write_clip(path: Path, gop: int, seed: int) -> None:
    with av.open(str(path), "w") as container:
        video: Any = container.add_stream("libx264", rate=FPS, options={"crf": "23"})
        video.width, video.height = SIZE
        video.pix_fmt, video.gop_size = "yuv420p", gop
        video.thread_count = 1  # the same file on every machine
        audio: Any = container.add_stream("aac", rate=AUDIO_RATE)
        audio.layout, audio.bit_rate = "stereo", 128_000
        for number, image in enumerate(_frames(seed)):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, FPS)
            container.mux(video.encode(frame))
        wave = _audio(seed)
        for at in range(0, wave.shape[1], 1024):
            samples = np.ascontiguousarray(wave[:, at : at + 1024])
            frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout="stereo")
            frame.sample_rate, frame.time_base = AUDIO_RATE, Fraction(1, AUDIO_RATE)
            frame.pts = at
            container.mux(audio.encode(frame))
        container.mux(video.encode(None))
        container.mux(audio.encode(None))


def _frames(seed: int) -> Iterator[np.ndarray]:
    """A background that pans, something before it that moves otherwise, and the camera's noise."""
    rng = np.random.default_rng(seed)
    width, height = SIZE
    back, front = _texture(rng, 1024), _texture(rng, 512)
    # The outline of what moves: irregular, as wide as a third of the frame.
    outline = _smooth_noise(rng, 512, 2.5)[: height // 2, : width // 3] > 0
    speed, turn = rng.uniform(0.4, 1.6, 2), rng.uniform(0, 2 * math.pi, 4)
    for number in range(FPS * SECONDS):
        t = number / FPS
        x = int(300 + 200 * math.sin(0.5 * speed[0] * t + turn[0]) + 15 * t)
        y = int(300 + 120 * math.sin(0.6 * speed[1] * t + turn[1]))
        image = back[y : y + height, x : x + width].copy()
        left = int((width - outline.shape[1]) * (0.5 + 0.5 * math.sin(speed[0] * t + turn[2])))
        top = int((height - outline.shape[0]) * (0.5 + 0.5 * math.sin(1.3 * t + turn[3])))
        part = image[top : top + outline.shape[0], left : left + outline.shape[1]]
        part[outline] = front[: outline.shape[0], : outline.shape[1]][outline]
        noise = rng.normal(0, 1.5, (height, width, 1))
        yield np.clip(image + noise, 0, 255).astype(np.uint8)


def _texture(rng: np.random.Generator, size: int) -> np.ndarray:
    """Colours that vary at every scale as in photographs (1/f), with hard edges."""
    planes = [_smooth_noise(rng, size, 1.6) for _ in range(3)]
    grey = _smooth_noise(rng, size, 1.3)
    edges = np.where(_smooth_noise(rng, size, 2.0) > 0.6, 1.2, 0.0)
    return np.stack([128 + 40 * (0.8 * grey + 0.4 * plane + edges) for plane in planes], axis=2)


def _smooth_noise(rng: np.random.Generator, size: int, power: float) -> np.ndarray:
    """Noise (size, size) of mean 0 and deviation 1 whose amplitude falls as frequency^-power."""
    frequency = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None])
    frequency[0, 0] = np.inf
    spectrum = np.fft.rfft2(rng.normal(size=(size, size))) / frequency**power
    noise = np.fft.irfft2(spectrum, s=(size, size))
    return (noise - noise.mean()) / noise.std()


def _audio(seed: int) -> np.ndarray:
    """Stereo float32: tones that come and go over noise."""
    rng = np.random.default_rng(1000 + seed)
    t = np.arange(SECONDS * AUDIO_RATE) / AUDIO_RATE
    wave = np.zeros((2, len(t)))
    for hz in rng.uniform(100, 5000, 6):
        swell = np.maximum(np.sin(2 * np.pi * rng.uniform(0.3, 2) * t + rng.uniform(0, 6)), 0)
        wave += 0.05 * rng.uniform(0, 1, (2, 1)) * swell * np.sin(2 * np.pi * hz * t)
    return (wave + rng.normal(0, 0.01, wave.shape)).astype(np.float32)


def _repeat(source: Path, path: Path) -> None:
    with av.open(str(source)) as container:
        packets = [p for p in container.demux() if p.size]
        video, audio = container.streams.video[0], container.streams.audio[0]
        with av.open(str(path), "w") as out:
            streams = {s.index: out.add_stream_from_template(s) for s in (video, audio)}
            # Audio is counted on: 10 s are not a whole number of its packets.
            wave = [p for p in packets if p.stream_index == audio.index][1:-1]
            frames = [p for p in packets if p.stream_index == video.index]
            assert video.time_base is not None
            assert audio.time_base is not None
            num_ticks = int(SECONDS / video.time_base)
            num_packets = 0
            for number in range(LONG_SECONDS // SECONDS):
                for packet in frames:
                    copy = _copied(packet, streams[video.index])
                    assert packet.pts is not None
                    assert packet.dts is not None
                    copy.pts, copy.dts = (t + number * num_ticks for t in (packet.pts, packet.dts))
                    out.mux(copy)
                while num_packets * 1024 < (number + 1) * SECONDS * AUDIO_RATE:
                    packet = wave[num_packets % len(wave)]
                    copy = _copied(packet, streams[audio.index])
                    copy.pts = copy.dts = num_packets * 1024
                    out.mux(copy)
                    num_packets += 1


def _copied(packet: av.Packet, stream: Any) -> av.Packet:
    copy = av.Packet(bytes(packet))
    copy.stream, copy.time_base = stream, packet.time_base
    copy.duration, copy.is_keyframe = packet.duration, packet.is_keyframe
    return copy
