"""From a place in the order of an epoch to a decoded, augmented clip.

Everything random about a clip has the address (seed, epoch, row), never (worker, rank, call), so
that the data of a run do not depend on how it is loaded or where it was resumed.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from itertools import groupby
from pathlib import Path
from types import MappingProxyType
from typing import Literal, NamedTuple

import numpy as np
import torch

from avmix.config import AugmentConfig, ClipConfig
from avmix.data.augment import apply_crop_flip, centre_crop, draw_crop_flip
from avmix.data.manifest import Manifest, ManifestError
from avmix.data.windows import Window, draw_window, view_windows
from avmix.decode import ClipError, Limits, decode_clips
from avmix.rng import rng
from avmix.types import Batch, Clip, Entry

Place = tuple[int, int]
"""What one clip of a batch is: (epoch, position) to train on, (row, view) to evaluate."""

NO_ROWS: Mapping[int, str] = MappingProxyType({})
"""To skip none."""

MAX_IN_A_ROW = 100
"""Unreadable clips of one order after which training looks no further."""


class TooManyBadClips(RuntimeError):
    """More clips of a split are unreadable than `data.max_bad_share` allows; names them."""


class BadClip(NamedTuple):
    """A clip that could not be read, and why."""

    row: int
    path: str
    reason: str


class Sample(NamedTuple):
    """What reading one place of the order gave."""

    row: int
    """Row in the manifest of the clip that was read."""
    clip: Clip | None
    """None in evaluation, where nothing is substituted, and when nothing can be read at all."""
    bad: tuple[BadClip, ...]
    """The clips that could not be read on the way to `clip`."""


class Loaded(NamedTuple):
    """One step's worth of samples."""

    batch: Batch | None
    """None when no clip of this step could be read."""
    bad: tuple[BadClip, ...]


def unwatched(row: int) -> None:
    """Nobody is told which row is being read."""


@dataclass(frozen=True, kw_only=True)
class _Reader:
    """What training and evaluation share: a manifest and how its clips are decoded."""

    manifest: Manifest
    root: Path
    clip: ClipConfig
    verify: Literal["first", "never"] = "first"
    """As `data.verify`."""
    limits: Limits = Limits()  # noqa: RUF009  frozen
    """What a file may cost before the decoder refuses it."""
    roots: Mapping[str, Path] = field(default_factory=dict)
    """Folder of each clip, by `clip_id`, that is not below `root`."""

    def __post_init__(self) -> None:
        """Check what the network cannot do without."""
        for entry in self.manifest.entries:
            where = f"{self.manifest.protocol} {self.manifest.split}: clip {entry.clip_id!r}"
            if entry.video is None:
                raise ManifestError(f"{where}: {entry.path} has no video stream; leave it out")
            if len(entry.labels) != 1:
                raise ManifestError(f"{where} has {len(entry.labels)} labels; one is needed")

    @property
    def bytes_per_clip(self) -> int:
        """Of a clip in a `Batch`."""
        c = self.clip
        pictures, samples = c.num_frames * c.crop**2 * 3, round(c.duration_seconds * c.sample_rate)
        return pictures + 4 * samples + 4 * len(self.manifest.classes) + 1 + 1 + 8 + 8

    @cached_property
    def _sources(self) -> list[int]:
        """Number of the source of each row."""
        numbers: dict[str, int] = {}
        return [numbers.setdefault(e.source_id, len(numbers)) for e in self.manifest.entries]

    def decode(self, entry: Entry, windows: Sequence[Window]) -> list[Clip | ClipError]:
        """One outcome per window; raises what concerns the file as a whole."""
        return decode_clips(
            self.roots.get(entry.clip_id, self.root) / entry.path,
            starts_seconds=[window.start_seconds for window in windows],
            duration_seconds=self.clip.duration_seconds,
            num_frames=self.clip.num_frames,
            sample_rate=self.clip.sample_rate,
            short_side=self.clip.short_side,
            audio="silence" if entry.audio is None else "require",
            sha256=(entry.sha256 or None) if self.verify == "first" else None,
            limits=self.limits,
        )

    def collate(self, samples: list[Sample]) -> Loaded:
        """Stack `samples`, in order, into a `Batch` with one-hot targets.

        Those without a clip are left out of the batch, not of `bad`.
        """
        bad = tuple(b for s in samples for b in s.bad)
        read = [(s.row, s.clip) for s in samples if s.clip is not None]
        if not read:
            return Loaded(None, bad)
        classes = {name: k for k, name in enumerate(self.manifest.classes)}
        target = torch.zeros(len(read), len(classes))
        for i, (row, _) in enumerate(read):
            target[i, classes[self.manifest.entries[row].labels[0]]] = 1.0
        batch = Batch(
            video=torch.from_numpy(np.stack([clip.video for _, clip in read])),
            audio=torch.from_numpy(np.stack([clip.audio for _, clip in read])),
            has_video=torch.ones(len(read), dtype=torch.bool),
            has_audio=torch.tensor(
                [
                    has_sound(self.manifest.entries[row]) and clip.audio_valid > 0
                    for row, clip in read
                ]
            ),
            target=target,
            row=torch.tensor([row for row, _ in read]),
            source=torch.tensor([self._sources[row] for row, _ in read]),
        )
        return Loaded(batch, bad)


@dataclass(frozen=True, kw_only=True)
class TrainSet(_Reader):
    """Clips of the train split in the shuffled order of each epoch."""

    augment: AugmentConfig
    seed: int

    def samples(
        self,
        places: Sequence[Place],
        skip: Mapping[int, str] = NO_ROWS,
        begin: Callable[[int], None] = unwatched,
    ) -> list[Sample]:
        """The clips at (epoch, position in the epoch's order), randomly windowed and cropped.

        A clip that cannot be read, or that `skip` has a reason for, is replaced by the next one of
        the same order, and reported. After `MAX_IN_A_ROW` such clips `clip` is None: the media
        folder is wrong, or gone. `begin` is told each row before its file is touched.
        """
        return [self._sample(epoch, position, skip, begin) for epoch, position in places]

    def _sample(
        self, epoch: int, position: int, skip: Mapping[int, str], begin: Callable[[int], None]
    ) -> Sample:
        order = _epoch_order(self.seed, epoch, len(self.manifest.entries))
        bad: list[BadClip] = []
        for offset in range(min(MAX_IN_A_ROW, len(order))):
            row = int(order[(position + offset) % len(order)])
            entry = self.manifest.entries[row]
            if row in skip:
                bad.append(BadClip(row, entry.path, skip[row]))
                continue
            begin(row)
            try:
                return Sample(row, self._read(entry, epoch, row), tuple(bad))
            except Exception as error:
                bad.append(BadClip(row, entry.path, _reason(error)))
        return Sample(bad[-1].row, None, tuple(bad))

    def _read(self, entry: Entry, epoch: int, row: int) -> Clip:
        seconds = self.clip.duration_seconds
        window = draw_window(entry, seconds, rng(self.seed, epoch, "window", row))
        (clip,) = self.decode(entry, [window])
        if isinstance(clip, ClipError):
            raise clip
        stream = rng(self.seed, epoch, "augment", row)
        crop = draw_crop_flip(self.augment, clip.video.shape[1], clip.video.shape[2], stream)
        return replace(clip, video=apply_crop_flip(clip.video, crop, self.clip.crop))


@dataclass(frozen=True, kw_only=True)
class EvalSet(_Reader):
    """Evenly spaced views of every clip, in the order of the manifest; nothing random."""

    num_views: int

    def samples(
        self,
        places: Sequence[Place],
        skip: Mapping[int, str] = NO_ROWS,
        begin: Callable[[int], None] = unwatched,
    ) -> list[Sample]:
        """The views at (row, number of the view), centre-cropped.

        Views of one row that follow each other are read together. `clip` is None where a view
        cannot be read, or `skip` has a reason for the row; a file that cannot be read at all is
        one such sample. `begin` is told each row before its file is touched.
        """
        found: list[Sample] = []
        for row, group in groupby(places, key=lambda place: place[0]):
            if row in skip:
                found.append(self._missing(row, skip[row]))
                continue
            begin(row)
            try:
                found += self._read(row, [view for _, view in group])
            except Exception as error:
                found.append(self._missing(row, _reason(error)))
        return found

    def _read(self, row: int, views: Sequence[int]) -> list[Sample]:
        entry = self.manifest.entries[row]
        windows = view_windows(entry, self.clip.duration_seconds, self.num_views)
        found: list[Sample] = []
        for clip in self.decode(entry, [windows[view] for view in views]):
            if isinstance(clip, ClipError):
                found.append(self._missing(row, _reason(clip)))
                continue
            crop = centre_crop(clip.video.shape[1], clip.video.shape[2])
            video = apply_crop_flip(clip.video, crop, self.clip.crop)
            found.append(Sample(row, replace(clip, video=video), ()))
        return found

    def _missing(self, row: int, reason: str) -> Sample:
        return Sample(row, None, (BadClip(row, self.manifest.entries[row].path, reason),))


def has_sound(entry: Entry) -> bool:
    """True when there is something to hear: a track of digital silence counts as none."""
    return entry.audio is not None and not entry.audio.silent


def _reason(error: Exception) -> str:
    """In one line, and without the path, which a `BadClip` names already.

    Whatever a decoder raises is the fault of its file until proved otherwise: a file must not end a
    run of days. A mistake of ours concerns many files, and `data.max_bad_share` stops it.
    """
    what = str(error)
    if isinstance(error, ClipError):
        what = error.problem
    elif isinstance(error, OSError) and error.strerror:
        what = error.strerror
    return f"{type(error).__name__}: {' '.join(what.split())}"


@lru_cache(maxsize=2)
def _epoch_order(seed: int, epoch: int, num_clips: int) -> np.ndarray:
    return rng(seed, epoch, "order").permutation(num_clips)
