"""Samples: what reading one place in the sampling order gives, or why it gives nothing."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from avmix.augment import AugmentPlan, VisibleParts
from avmix.types import Batch, Clip

Place = tuple[int, int]
"""What one clip of a batch is: (epoch, position) to train on, (row, view) to evaluate. With
`augment.repeats` R, positions R * n to R * n + R - 1 are windows of the n-th file of the epoch."""

NO_ROWS: Mapping[int, str] = MappingProxyType({})
"""To skip none."""

WORTH_HINT = (
    ". `avmix doctor` reports what is wrong with files; a dataset prepared with --check full holds "
    "only readable clips"
)
"""Ends messages about many clips that cannot be read."""


class BadClip(NamedTuple):
    """A clip that could not be read, and why."""

    row: int
    path: str
    reason: str


class TooManyBadClips(RuntimeError):
    """More clips of a split are unreadable than `data.max_bad_share` allows; names them."""

    def __init__(self, message: str, bad: Sequence[BadClip] = ()) -> None:
        """`bad`: all of them, where the message names but the first."""
        super().__init__(message)
        self.bad = tuple(bad)


class Sample(NamedTuple):
    """Result of reading one index of the sampling order."""

    row: int
    """Row in the manifest of the clip that was read."""
    clip: Clip | None
    """None in evaluation, where nothing is substituted, and when nothing can be read at all."""
    bad: tuple[BadClip, ...]
    """The clips that could not be read on the way to `clip`, or to its background."""
    plan: AugmentPlan | None = None
    """How it was augmented; None in evaluation."""
    shown: VisibleParts | None = None
    """What of it the network is shown; None: all."""
    background: tuple[int, float] | None = None
    """Row of the clip whose audio is the background, and that clip's share of the audio label;
    None where such shares are not asked for."""


class Loaded(NamedTuple):
    """Samples of one step."""

    batch: Batch | None
    """None when no clip of this step could be read."""
    bad: tuple[BadClip, ...]


def no_watcher(row: int) -> None:
    """Report the row that is being read to no one."""
