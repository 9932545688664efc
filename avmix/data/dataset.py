"""From a place in the order of an epoch to a decoded, augmented clip.

Everything random about a clip has the address (seed, epoch, row), never (worker, rank, call), so
that the data of a run do not depend on how it is loaded or where it was resumed.
"""

from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from avmix.config import AugmentConfig, ClipConfig
from avmix.data.augment import apply_crop_flip, centre_crop, draw_crop_flip
from avmix.data.manifest import Manifest, ManifestError
from avmix.data.windows import Window, draw_window, view_windows
from avmix.decode import ClipError, decode_clip
from avmix.rng import rng
from avmix.types import Batch, Clip, Entry

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


@dataclass(frozen=True)
class _Reader:
    """What training and evaluation share: a manifest and how its clips are decoded."""

    manifest: Manifest
    root: Path
    clip: ClipConfig

    def __post_init__(self) -> None:
        """Check what the network cannot do without."""
        for entry in self.manifest.entries:
            where = f"{self.manifest.protocol} {self.manifest.split}: clip {entry.clip_id!r}"
            if entry.video is None:
                raise ManifestError(f"{where}: {entry.path} has no video stream; leave it out")
            if len(entry.labels) != 1:
                raise ManifestError(f"{where} has {len(entry.labels)} labels; one is needed")

    def decode(self, entry: Entry, window: Window) -> Clip:
        return decode_clip(
            self.root / entry.path,
            start_seconds=window.start_seconds,
            duration_seconds=window.duration_seconds,
            num_frames=self.clip.num_frames,
            sample_rate=self.clip.sample_rate,
            short_side=self.clip.short_side,
            audio="silence" if entry.audio is None else "require",
        )


@dataclass(frozen=True)
class TrainSet(_Reader, torch.utils.data.Dataset[Sample]):
    """Clips of the train split in the shuffled order of each epoch."""

    augment: AugmentConfig
    seed: int

    def __getitem__(self, place: tuple[int, int]) -> Sample:
        """The clip at (epoch, position in the epoch's order), randomly windowed and cropped.

        A clip that cannot be read is replaced by the next one of the same order, and reported.
        After `MAX_IN_A_ROW` such clips `clip` is None: the media folder is wrong, or gone.
        """
        epoch, position = place
        order = _epoch_order(self.seed, epoch, len(self.manifest.entries))
        bad: list[BadClip] = []
        for offset in range(min(MAX_IN_A_ROW, len(order))):
            row = int(order[(position + offset) % len(order)])
            entry = self.manifest.entries[row]
            try:
                return Sample(row, self._read(entry, epoch, row), tuple(bad))
            except (ClipError, OSError) as error:
                bad.append(_bad_clip(row, entry, error))
        return Sample(bad[-1].row, None, tuple(bad))

    def _read(self, entry: Entry, epoch: int, row: int) -> Clip:
        seconds = self.clip.duration_seconds
        window = draw_window(entry, seconds, rng(self.seed, epoch, "window", row))
        clip = self.decode(entry, window)
        stream = rng(self.seed, epoch, "augment", row)
        crop = draw_crop_flip(self.augment, clip.video.shape[1], clip.video.shape[2], stream)
        return replace(clip, video=apply_crop_flip(clip.video, crop, self.clip.crop))


@dataclass(frozen=True)
class EvalSet(_Reader, torch.utils.data.Dataset[Sample]):
    """Evenly spaced views of every clip, in the order of the manifest; nothing random."""

    num_views: int

    def __getitem__(self, place: tuple[int, int]) -> Sample:
        """The view at (row, number of the view), centre-cropped; `clip` None if unreadable."""
        row, view = place
        entry = self.manifest.entries[row]
        window = view_windows(entry, self.clip.duration_seconds, self.num_views)[view]
        try:
            clip = self.decode(entry, window)
        except (ClipError, OSError) as error:
            return Sample(row, None, (_bad_clip(row, entry, error),))
        crop = centre_crop(clip.video.shape[1], clip.video.shape[2])
        return Sample(
            row, replace(clip, video=apply_crop_flip(clip.video, crop, self.clip.crop)), ()
        )


def has_sound(entry: Entry) -> bool:
    """True when there is something to hear: a track of digital silence counts as none."""
    return entry.audio is not None and not entry.audio.silent


def _bad_clip(row: int, entry: Entry, error: ClipError | OSError) -> BadClip:
    """The reason without the path, which a `BadClip` names already."""
    what = error.problem if isinstance(error, ClipError) else error.strerror
    return BadClip(row, entry.path, f"{type(error).__name__}: {what}")


@lru_cache(maxsize=2)
def _epoch_order(seed: int, epoch: int, num_clips: int) -> np.ndarray:
    return rng(seed, epoch, "order").permutation(num_clips)


@dataclass(frozen=True)
class Collate:
    """Stacks samples into a `Batch` with one-hot targets."""

    manifest: Manifest

    def __call__(self, samples: list[Sample]) -> Loaded:
        """`samples` in order; those without a clip are left out of the batch, not of `bad`."""
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
        )
        return Loaded(batch, bad)
