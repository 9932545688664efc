"""Video and audio with the structure of real ones, each seed another, for comparing clips."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

RATE_HZ = 16_000


def scene(seed: int, num: int, size: tuple[int, int] = (192, 144)) -> np.ndarray:
    """Frames (num, h, w, 3) of coloured blobs, of which one moves."""
    draw = np.random.default_rng([seed, 1])
    width, height = size
    y, x = np.mgrid[:height, :width] / np.array([height, width])[:, None, None]
    video = np.full((num, height, width, 3), draw.uniform(60, 160, 3), np.float64)
    for blob in range(14):
        place, reach = draw.uniform(0, 1, 2), draw.uniform(0.08, 0.3)
        colour = draw.uniform(-110, 110, 3)
        for k in range(num):
            moved = place + (np.array([0.01, 0.02]) * k % 0.5 if blob == 0 else 0)
            near = np.exp(-((x - moved[0]) ** 2 + (y - moved[1]) ** 2) / reach**2)
            video[k] += near[..., None] * colour
    return np.clip(video, 0, 255).astype(np.uint8)


def speech(seed: int, seconds: float, rate: int = 8000) -> np.ndarray:
    """Mono float32: noise whose bands swell and fade, each on its own, some times a second."""
    draw = np.random.default_rng([seed, 2])
    num = round(seconds * rate)
    time = np.arange(num) / rate
    wave = np.zeros(num)
    for low in np.geomspace(250, 2400, 24):
        hz = low * draw.uniform(1, 1.1)
        swell = np.clip(np.sin(2 * np.pi * (draw.uniform(0.7, 4) * time + draw.uniform())), 0, None)
        wave += swell * np.sin(2 * np.pi * (hz * time + draw.uniform()))
    return (0.05 * wave).astype(np.float32)


def write_scene(
    path: Path, *, seed: int, seconds: float, size: tuple[int, int] = (192, 144), fps: int = 10,
    crf: int = 20, audio_bit_rate: int = 96_000, audio_seed: int | None = None,
) -> Path:  # fmt: skip
    """A file of `scene` and `speech`; its ending chooses the container."""
    frames = scene(seed, round(seconds * fps))
    wave = speech(seed if audio_seed is None else audio_seed, seconds, RATE_HZ)
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as file:
        video: Any = file.add_stream("libx264", rate=fps, options={"crf": str(crf)})
        video.width, video.height = size
        video.pix_fmt, video.thread_count = "yuv420p", 1
        audio: Any = file.add_stream("aac", rate=RATE_HZ, layout="mono")
        audio.bit_rate = audio_bit_rate
        for number, image in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, fps)
            file.mux(video.encode(frame.reformat(*size, format="yuv420p")))
        sound = av.AudioFrame.from_ndarray(wave[None], format="fltp", layout="mono")
        sound.sample_rate, sound.pts, sound.time_base = RATE_HZ, 0, Fraction(1, RATE_HZ)
        file.mux(audio.encode(sound))
        file.mux(video.encode(None))
        file.mux(audio.encode(None))
    return path
