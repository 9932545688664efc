"""Which stretches of a video may show the effect of damaged data."""

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float64

_SUSPECT_SECONDS = 0.14
"""A decoder notices damage some pictures late; this far before the notice nothing is trusted."""


@dataclass(frozen=True, slots=True)
class _Event:
    at_seconds: float
    since_seconds: float
    index: int
    """The packet, in the order of decoding, at which it was noticed."""
    only_said: bool
    """True when nothing but a line in libav's log tells of it."""


@dataclass(slots=True)
class Damage:
    """Pictures are predicted from one another up to the next key picture, and decoders patch up
    what they cannot read. So all that is decoded between damage and that key picture is suspect.
    """

    to_the_end: bool
    """True when times come from counting pictures: a lost one shifts all that follow."""
    _packets: list[tuple[float, bool]] = field(default_factory=list)
    _events: list[_Event] = field(default_factory=list)

    @property
    def found(self) -> bool:
        """True when there was any."""
        return bool(self._events)

    @property
    def only_said(self) -> bool:
        """True when nothing but lines in libav's log tells of damage."""
        return all(event.only_said for event in self._events)

    def packet(self, seconds: float, is_key: bool) -> None:
        """Note the next packet, in the order of decoding."""
        self._packets.append((seconds, is_key))

    def event(
        self,
        seconds: float,
        *,
        index: int | None = None,
        since_seconds: float | None = None,
        only_said: bool = False,
    ) -> None:
        """Note that what is shown at `seconds` is damaged.

        `index` of the packet at which it was noticed (the last one noted); `since_seconds` when
        everything from there on is known to be damaged; `only_said` when only libav's log tells.
        """
        self._events.append(
            _Event(
                seconds,
                seconds - _SUSPECT_SECONDS if since_seconds is None else since_seconds,
                len(self._packets) - 1 if index is None else index,
                only_said,
            )
        )

    def touches(self, seconds: Float64[np.ndarray, " t"]) -> float | None:
        """The first of `seconds` that is suspect, or None."""
        for since, until in map(self._stretch, self._events):
            hit = seconds[(seconds >= since) & (seconds < until)]
            if hit.size:
                return float(hit[0])
        return None

    def _stretch(self, event: _Event) -> tuple[float, float]:
        at, since = event.at_seconds, event.since_seconds
        # Leading pictures of an open group lack their reference after a seek; they are not shown.
        if self._packets and self._packets[0][1] and at < self._packets[0][0]:
            return np.inf, -np.inf
        later_keys = [s for s, is_key in self._packets if is_key and s > at]
        until = np.inf if self.to_the_end or not later_keys else min(later_keys)
        for seconds, is_key in self._packets[event.index + 1 :]:
            if is_key:
                break
            since = min(since, seconds)
        return since, until
