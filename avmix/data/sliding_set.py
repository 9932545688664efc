"""Windows along files, each an entry of its own, those of one file read in one go."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from avmix.augment import whole_window
from avmix.data.eval_set import EvalSet
from avmix.data.sample import NO_ROWS, Place, Sample, no_watcher
from avmix.decode import ClipError


@dataclass(frozen=True, kw_only=True)
class SlidingSet(EvalSet):
    """`EvalSet` of one view whose neighbouring entries are windows of one file: frames between two
    keyframes are decoded once for all windows of a batch that they are in.

    Where that fails, each window is read by itself, so that each has its own reason. A file that
    takes the process down is blamed on the first of its windows that are read together, and from
    then on they are read by themselves.
    """

    def groups(self, places: Sequence[Place]) -> list[list[Place]]:
        """Windows of one file that follow each other are read together."""
        entries = self.manifest.entries
        return [list(group) for _, group in groupby(places, key=lambda p: entries[p[0]].path)]

    def samples(
        self,
        places: Sequence[Place],
        skip: Mapping[int, str] = NO_ROWS,
        begin: Callable[[int], None] = no_watcher,
    ) -> list[Sample]:
        """As `EvalSet.samples`."""
        found: list[Sample] = []
        for group in self.groups(places):
            rows = [row for row, _ in group]
            if len(rows) > 1 and not any(row in skip for row in rows):
                begin(rows[0])
                if together := self._read_together(rows):
                    found += together
                    continue
            for place in group:
                found += super().samples([place], skip, begin)
        return found

    def _read_together(self, rows: Sequence[int]) -> list[Sample]:
        """Empty where a window, or the file, cannot be read so."""
        entries = [self.manifest.entries[row] for row in rows]
        times = [whole_window(self.clip, entry.start_seconds) for entry in entries]
        try:
            clips = self.decode(entries[0], times)
        except Exception:  # whatever it is, each window says it for itself
            return []
        whole = [clip for clip in clips if not isinstance(clip, ClipError)]
        if len(whole) < len(rows):
            return []
        return [
            Sample(row, self._viewed(clip, 0), ()) for row, clip in zip(rows, whole, strict=True)
        ]
