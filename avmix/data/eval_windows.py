"""Evaluation windows: evenly spaced views of a clip. (`avmix.augment` draws training windows.)"""

from dataclasses import dataclass

from avmix.types import Entry


@dataclass(frozen=True, slots=True)
class Window:
    """A stretch of one file, on its own clock: 0 is the first presented frame."""

    start_seconds: float
    """Where the window begins."""
    duration_seconds: float
    """How long it is; the decoder pads what lies after the end of the file."""


def view_windows(entry: Entry, duration_seconds: float, num_views: int) -> tuple[Window, ...]:
    """Windows that evaluation averages: centres of `num_views` equal parts of the clip.

    The windows are moved inwards as far as needed to lie in the stretch, so that one view is the
    middle of the clip and many views cover it from the first to the last second.
    """
    slack = max(0.0, entry.duration_seconds - duration_seconds)
    share = entry.duration_seconds / num_views
    starts = [(view + 0.5) * share - duration_seconds / 2 for view in range(num_views)]
    return tuple(
        Window(entry.start_seconds + min(max(start, 0.0), slack), duration_seconds)
        for start in starts
    )
