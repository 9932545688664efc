"""Clips of a split as evaluation reads them: every view of every clip."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Literal

from avmix.augment import (
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

        Views of one row that follow each other are read together. `clip` is None where a view
        cannot be read, or `skip` has a reason for the row; a file that cannot be read at all is
        one such sample. `begin` is told each row before its file is touched.
        """
        found: list[Sample] = []
        for group in self.groups(places):
            row = group[0][0]
            if row in skip:
                found.append(self._missing(row, skip[row]))
                continue
            begin(row)
            try:
                found += self._read(row, [view for _, view in group])
            except Exception as error:
                found.append(self._missing(row, error_reason(error)))
        return found

    def groups(self, places: Sequence[Place]) -> list[list[Place]]:
        """Views of one row that follow each other are read together."""
        return [list(group) for _, group in groupby(places, key=lambda place: place[0])]

    def _read(self, row: int, views: Sequence[int]) -> list[Sample]:
        entry = self.manifest.entries[row]
        windows = view_windows(entry, self.clip.duration_seconds, self.num_views)
        each = self.views_per_window
        asked = list(dict.fromkeys(view // each for view in views))  # each is decoded once
        shift = self.audio_shift_seconds
        plans = [whole_window(self.clip, windows[number].start_seconds) for number in asked]
        times = [replace(plan, audio_shift_seconds=shift) for plan in plans]
        clips = dict(zip(asked, self.decode(entry, times), strict=True))
        found: list[Sample] = []
        for view in views:
            clip = clips[view // each]
            if isinstance(clip, ClipError):
                found.append(self._missing(row, error_reason(clip)))
            else:
                found.append(Sample(row, self._viewed(clip, view % each), ()))
        return found

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
