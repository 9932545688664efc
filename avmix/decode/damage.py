"""Stretches of a video that may show the effect of damaged data."""

from bisect import bisect_right, insort
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float64

_SUSPECT_SECONDS = 0.14
"""A decoder notices damage some frames late; this far before the notice nothing is trusted."""


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
    """Tracker of damaged stretches: frames are predicted from one another up to the next keyframe,
    and decoders conceal what they cannot read, so all that is decoded between damage and that
    keyframe is suspect."""

    to_the_end: bool
    """True when times come from counting frames: a lost one shifts all that follow."""
    _packets: list[tuple[float, bool]] = field(default_factory=list)
    _keys: list[float] = field(default_factory=list)
    """Times of the keyframes, ascending."""
    _events: list[_Event] = field(default_factory=list)

    @property
    def found(self) -> bool:
        """True when there was any."""
        return bool(self._events)

    @property
    def only_said(self) -> bool:
        """True when nothing but lines in libav's log tells of damage."""
        return all(event.only_said for event in self._events)

    @property
    def num_packets(self) -> int:
        """Number of packets noted."""
        return len(self._packets)

    def packet(self, seconds: float, is_key: bool) -> None:
        """Note the next packet, in the order of decoding."""
        self._packets.append((seconds, is_key))
        if is_key:
            insort(self._keys, seconds)

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

    def stretches(self) -> list[tuple[float, float]]:
        """Begin and end of every stretch that is suspect; they may overlap, or be infinite."""
        found = map(self._stretch, self._events)
        return [(since, until) for since, until in found if since < until]

    def touches(self, seconds: Float64[np.ndarray, " t"]) -> float | None:
        """The first of `seconds` that is suspect, or None."""
        for since, until in map(self._stretch, self._events):
            hit = seconds[(seconds >= since) & (seconds < until)]
            if hit.size:
                return float(hit[0])
        return None

    def _stretch(self, event: _Event) -> tuple[float, float]:
        at, since = event.at_seconds, event.since_seconds
        # Leading frames of an open group lack their reference after a seek; they are not shown.
        if self._packets and self._packets[0][1] and at < self._packets[0][0]:
            return np.inf, -np.inf
        later = bisect_right(self._keys, at)
        until = np.inf if self.to_the_end or later == len(self._keys) else self._keys[later]
        for index in range(event.index + 1, len(self._packets)):
            seconds, is_key = self._packets[index]
            if is_key:
                break
            since = min(since, seconds)
        return since, until
