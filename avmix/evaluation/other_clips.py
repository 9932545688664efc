"""Which other clips a row of the robustness table takes for each clip, and the random streams of
its corruptions: all of it addressed by (condition, clip), never by the order of reading."""

from zlib import crc32

import numpy as np
from jaxtyping import Bool, Int64

from avmix.rng import rng
from avmix.types import Entry

_SEED = 0
"""Of all corruptions: every network is given the same ones, so that networks can be compared."""


def stream_of(name: str, row: int, view: int) -> np.random.Generator:
    """The stream of a condition for one view of a clip: the same at each of its levels."""
    return rng(_SEED, crc32(name.encode()), "corruption", row, 1 + view)


def draw_other_clips(
    name: str,
    number: int,
    label: Int64[np.ndarray, " n"],
    source: Int64[np.ndarray, " n"],
    audible: Bool[np.ndarray, " n"],
) -> dict[int, tuple[int, ...]]:
    """For each clip `number` others, all different and equally likely: with audio, of another class
    and another source. A clip for which there are not so many has no entry."""
    found = {}
    for row in range(len(label)):
        fit = np.flatnonzero(audible & (label != label[row]) & (source != source[row]))
        if len(fit) >= number:
            stream = rng(_SEED, crc32(name.encode()), "corruption", row, 0)
            found[row] = tuple(stream.choice(fit, number, replace=False).tolist())
    return found


def audio_span(entry: Entry, start_seconds: float, duration_seconds: float) -> tuple[float, float]:
    """Which part (first, stop) of a window of the file lies inside of its audio, as shares 0 to 1
    of the window; (0, 0) where none does."""
    if entry.audio is None:
        return 0.0, 0.0
    video_start = entry.video.start_seconds if entry.video else 0.0
    begin = entry.audio.start_seconds - video_start
    end = begin + entry.audio.duration_seconds
    if entry.usable_until_seconds is not None:
        end = min(end, entry.usable_until_seconds)
    first, stop = ((t - start_seconds) / duration_seconds for t in (begin, end))
    first, stop = max(0.0, first), min(1.0, stop)
    return (first, stop) if first < stop else (0.0, 0.0)
