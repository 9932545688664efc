"""Clips of a split as evaluation reads them: every view of every clip."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Literal

from avmix.augment import (
    TimePlan,
    along,
    apply_video,
    centred,
    whole_window,
)
from avmix.data.clip_reader import ClipReader, error_reason
from avmix.data.eval_windows import view_windows
from avmix.data.sample import NO_ROWS, BadClip, Place, Sample, no_watcher
from avmix.decode import ClipError
from avmix.types import Clip


@dataclass(frozen=True, kw_only=True)
class EvalSet(ClipReader):
    """Evenly spaced views of every clip, in the order of the manifest; without randomness.

    Views are numbered window after window, in each the crops from left to right, each crop as it is
    and then mirrored. All of one window have the audio of its seconds.
    """

    num_views: int
    """Windows of each clip."""
    crops: Literal["centre", "three"] = "centre"
    """Crops of each window."""
    flip: bool = False
    """Every crop also mirrored, left and right, and with it the channels of stereo audio."""
    audio_shift_seconds: float = 0.0
    """How much later in the file than the frames the audio is read: 0, but to measure what that
    does (`avmix.evaluation.robustness_table`). What lies outside of the file's audio is zeros."""

    @property
    def views_per_window(self) -> int:
        """Crops of a window, mirrored ones included."""
        return (3 if self.crops == "three" else 1) * (2 if self.flip else 1)

    @property
    def views_per_clip(self) -> int:
        """Views that are averaged."""
        return self.num_views * self.views_per_window

    @property
    def bytes_per_clip(self) -> int:
        """Bytes of a clip in a `Batch`."""
        return self._bytes_as_decoded

    def samples(
        self,
        places: Sequence[Place],
        skip: Mapping[int, str] = NO_ROWS,
        begin: Callable[[int], None] = no_watcher,
    ) -> list[Sample]:
        """The views at (row, number of the view).

        Views of one file that follow each other are read together, those of several rows only
        where all of them can be read and none is in `skip`; else each row is read by itself, so
        that it has a reason of its own. `clip` is None where a view cannot be read, or `skip` has a
        reason for the row; a row of which nothing can be read is one such sample. `begin` is told
        each row before its file is touched, of rows that are read together the first.
        """
        found: list[Sample] = []
        for group in self.groups(places):
            rows = list(dict.fromkeys(row for row, _ in group))
            if len(rows) > 1 and not any(row in skip for row in rows):
                begin(rows[0])
                if together := self._read_together(group):
                    found += together
                    continue
            for part in self.apart(group):
                row = part[0][0]
                if row in skip:
                    found.append(self._missing(row, skip[row]))
                    continue
                begin(row)
                try:
                    found += self._read(part)
                except Exception as error:
                    found.append(self._missing(row, error_reason(error)))
        return found

    def groups(self, places: Sequence[Place]) -> list[list[Place]]:
        """Views of one file that follow each other are read together: its groups of frames are
        then decoded once for all clips that they are in."""
        return [list(group) for _, group in groupby(places, key=lambda p: self._file(p[0]))]

    def apart(self, places: Sequence[Place]) -> list[list[Place]]:
        """Views of each row by themselves."""
        return [list(group) for _, group in groupby(places, key=lambda place: place[0])]

    def _file(self, row: int) -> tuple[object, ...]:
        """What clips have in common that can be read together."""
        e = self.manifest.entries[row]
        root = self.roots.get(e.clip_id, self.root)
        return root, e.path, e.video, e.audio, e.sha256, e.usable_until_seconds

    def _read_together(self, places: Sequence[Place]) -> list[Sample]:
        """Empty where a view, or the file, cannot be read so."""
        try:
            found = self._read(places)
        except Exception:  # whatever it is, each row says it for itself
            return []
        return found if all(sample.clip is not None for sample in found) else []

    def _read(self, places: Sequence[Place]) -> list[Sample]:
        """Views of one file."""
        each = self.views_per_window
        asked = list(dict.fromkeys((row, view // each) for row, view in places))  # once each
        times = [self._time(row, number) for row, number in asked]
        entry = self.manifest.entries[places[0][0]]
        clips = dict(zip(asked, self.decode(entry, times), strict=True))
        found: list[Sample] = []
        for row, view in places:
            clip = clips[row, view // each]
            if isinstance(clip, ClipError):
                found.append(self._missing(row, error_reason(clip)))
            else:
                found.append(Sample(row, self._viewed(clip, view % each), ()))
        return found

    def _time(self, row: int, number: int) -> TimePlan:
        """When a window of a row is."""
        entry = self.manifest.entries[row]
        window = view_windows(entry, self.clip.duration_seconds, self.num_views)[number]
        plan = whole_window(self.clip, window.start_seconds)
        return replace(plan, audio_shift_seconds=self.audio_shift_seconds)

    def _viewed(self, clip: Clip, number: int) -> Clip:
        """A crop of a window."""
        height, width = clip.video.shape[1:3]
        squares = along(height, width) if self.crops == "three" else (centred(height, width),)
        flipped = self.flip and number % 2 == 1
        plan = replace(squares[number // 2 if self.flip else number], flip=flipped)
        audio = clip.audio[::-1].copy() if flipped and clip.audio.ndim == 2 else clip.audio
        return replace(clip, video=apply_video(clip.video, plan, self.clip.crop), audio=audio)

    def _missing(self, row: int, reason: str) -> Sample:
        return Sample(row, None, (BadClip(row, self.manifest.entries[row].path, reason),))
