"""Copies of videos with captions: the frames, lines of text over them, and the audio."""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from pathlib import Path

import matplotlib
import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

from avmix.decode import Limits, decode_audio, decode_clip
from avmix.decode.mono_track import track_of
from avmix.media.write_mp4 import write_mp4
from avmix.system.printing import printable, shortened
from avmix.types import Entry

_RATE_HZ = 16_000
_MOST_FPS = 60.0
"""A rate beyond this is a mistake of the file."""
_PIECE_FRAMES = 48
"""Frames in memory at a time."""
_LEAST_SIDE_PX, _MOST_SIDE_PX = 240, 480
"""Shorter side of the copy: captions must be readable, and frames few bytes."""
_BOX_DARKNESS = 0.65
"""How much of the frame behind a caption is taken away."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Caption:
    """Lines that are shown from a time on."""

    from_seconds: float
    """0 is the first presented frame."""
    lines: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptionTask:
    """A video to be copied with captions."""

    entry: Entry
    """A file with video, its path absolute; the stretch that is copied."""
    captions: tuple[Caption, ...]
    """At least one, in the order of their times; before the first time the first is shown."""
    out: str
    seconds: float
    """Time limit."""


def write_captioned(task: CaptionTask) -> int:
    """Write the mp4 file of a task; returns its number of frames.

    Raises ValueError where the entry has no video; OSError and `ClipError` as `decode_clip`.
    """
    entry = task.entry
    if entry.video is None:
        raise ValueError(f"{entry.path}: it has no video to caption")
    limits = Limits(seconds=task.seconds)
    wave = None
    if entry.audio is not None:
        wave = decode_audio(
            entry.path, start_seconds=entry.start_seconds,
            duration_seconds=entry.duration_seconds, sample_rate=_RATE_HZ,
            audio_track=track_of(entry.audio), until_seconds=entry.usable_until_seconds,
            limits=limits,
        ).audio  # fmt: skip
    fps = Fraction(min(entry.video.fps, _MOST_FPS)).limit_denominator(1001)
    return write_mp4(Path(task.out), _pieces(task, fps, limits), wave, fps=fps, rate_hz=_RATE_HZ)


def _pieces(task: CaptionTask, fps: Fraction, limits: Limits) -> Iterator[UInt8[np.ndarray, "..."]]:
    entry = task.entry
    assert entry.video is not None
    side = min(entry.video.width, entry.video.height)
    side = min(max(side, _LEAST_SIDE_PX), _MOST_SIDE_PX)
    starts = [caption.from_seconds for caption in task.captions]
    total = max(1, round(entry.duration_seconds * fps))
    for first in range(0, total, _PIECE_FRAMES):
        count = min(_PIECE_FRAMES, total - first)
        begin = entry.start_seconds + float(first / fps)
        clip = decode_clip(
            entry.path, start_seconds=begin, duration_seconds=float(count / fps),
            num_frames=count, short_side=side, audio="skip",
            until_seconds=entry.usable_until_seconds, limits=limits,
        )  # fmt: skip
        frames = clip.video.copy()
        for number in range(count):
            seconds = begin + float(number / fps)
            caption = task.captions[max(0, bisect_right(starts, seconds) - 1)]
            lay(frames[number], caption.lines)
        yield frames


def lay(frame: UInt8[np.ndarray, "h w 3"], lines: Sequence[str]) -> None:
    """Draw lines of text over the lower left of a frame, white on dark, in place."""
    strip = _strip(frame.shape[1], max(11, frame.shape[0] // 18), tuple(lines))[-frame.shape[0] :]
    below = frame[-len(strip) :]
    dark = below * (1 - _BOX_DARKNESS) * (1 - strip) + 255 * strip
    below[:] = np.round(dark)


@lru_cache(maxsize=8)
def _strip(width: int, size: int, lines: tuple[str, ...]) -> np.ndarray:
    """How much of each pixel is text, (h, width, 1), 0 to 1."""
    # The font of matplotlib has more letters than that of Pillow.
    font = ImageFont.truetype(f"{matplotlib.get_data_path()}/fonts/ttf/DejaVuSans.ttf", size)
    line_height, margin = round(1.3 * size), size // 2
    image = Image.new("L", (width, line_height * len(lines) + margin))
    draw = ImageDraw.Draw(image)
    for number, line in enumerate(lines):
        text = printable(line)
        letters = len(text)
        while letters > 4 and font.getlength(shortened(text, letters)) > width - 2 * margin:
            letters -= 1
        position = (margin, margin // 2 + number * line_height)
        draw.text(position, shortened(text, letters), fill=255, font=font)
    return np.asarray(image, np.float32)[:, :, None] / 255
