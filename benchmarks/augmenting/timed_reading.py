"""Clips read as in training, with the CPU time of decoding apart from the rest."""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from augmenting.cases import PLAIN, SIZES, Case
from avmix.augment import AudioPlan, AugmentPlan, TimePlan, centred
from avmix.config import AugmentConfig
from avmix.data.dataset import TrainSet
from avmix.data.manifest import Manifest
from avmix.data.sample import Sample
from avmix.decode import ClipError
from avmix.media.judgement import entry_of
from avmix.rng import rng
from avmix.types import Clip, Entry


@dataclass(frozen=True, kw_only=True)
class TimedSet(TrainSet):
    """A `TrainSet` that knows how long it decodes."""

    spent: list[float] = field(default_factory=list)
    """CPU seconds of each call of `decode`."""

    def decode(self, entry: Entry, times: Sequence[TimePlan]) -> list[Clip | ClipError]:
        """As `TrainSet`."""
        began = time.process_time()
        found = super().decode(entry, times)
        self.spent.append(time.process_time() - began)
        return found


class PlainSet(TimedSet):
    """Plain decoding and the central crop of what is decoded."""

    def draw(self, row: int, visit: int, time: TimePlan, clip: Clip) -> AugmentPlan:
        """Nothing."""
        _, height, width, _ = clip.video.shape
        return AugmentPlan(time=time, video=centred(height, width), audio=AudioPlan())


@dataclass(frozen=True, slots=True)
class Reading:
    """One visit to one file."""

    decode_ms: float
    """CPU time of `TrainSet.decode`, per window."""
    around_ms: float
    """CPU time of everything else in `read_row`, per window."""
    samples: list[Sample]


def read(train: TimedSet, epoch: int, row: int, *, apart: bool = False) -> Reading:
    """The windows of a row in an epoch, timed."""
    numbers = range(train.augment.repeats)
    visits = [(n,) for n in numbers] if apart else [tuple(numbers)]
    train.spent.clear()
    began = time.process_time()
    samples = [sample for visit in visits for sample in train.read_row(epoch, row, visit)]
    total = time.process_time() - began
    decode, scale = sum(train.spent), 1e3 / len(numbers)
    return Reading(scale * decode, scale * (total - decode), samples)


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """Files, and the clips that are read of them."""

    about: str
    files: str
    size: str
    entries: tuple[Entry, ...]

    def train_set(self, case: Case | None) -> TimedSet:
        """None: plain."""
        clip = replace(SIZES[self.size], stereo=case is not None and case.stereo)
        made: type[TimedSet] = PlainSet if case is None else TimedSet
        return made(
            manifest=Manifest(
                classes=tuple(entry.labels[0] for entry in self.entries),
                protocol="benchmark",
                split="train",
                entries=self.entries,
                sha256="",
            ),
            root=Path("/"),
            clip=clip,
            augment=AugmentConfig(**PLAIN) if case is None else case.augment,
            seed=0,
            verify="never",  # hashing is done once per file, not per clip
            events_seconds={
                entry.clip_id: tuple(
                    entry.duration_seconds * rng(0, 0, "window", row).uniform(size=3)
                )
                for row, entry in enumerate(self.entries)
            },
        )


def entries_of(paths: Iterable[Path]) -> tuple[Entry, ...]:
    """Of files, each its own class and source; probed."""
    return tuple(
        entry_of(path.resolve(), "/", clip_id=f"{n}", labels=[f"{n}"], source_id=f"{n}")
        for n, path in enumerate(paths)
    )


def decoded_frames(load: Load, count: int) -> list[np.ndarray]:
    """Decoded clips (t h w c) of one size, not cropped yet."""
    train = load.train_set(None)
    found = []
    for number in range(count):
        row, epoch = number % len(load.entries), number // len(load.entries)
        plan = train.read_row(epoch, row)[0].plan
        assert plan is not None
        clip = train.decode(load.entries[row], [plan.time])[0]
        if isinstance(clip, ClipError):
            raise clip
        found.append(clip.video)
    return found
