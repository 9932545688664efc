"""Data loader: batches of a split in an order that does not depend on the number of processes."""

from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from math import inf
from typing import Protocol, runtime_checkable

from avmix.data.dataset import MAX_IN_A_ROW, TrainSet
from avmix.data.eval_set import EvalSet
from avmix.data.loader_pool import Pool
from avmix.data.quarantine import Quarantine
from avmix.data.sample import WORTH_HINT, BadClip, Loaded, Place, TooManyBadClips
from avmix.decode import Limits
from avmix.types import Batch

_MAX_LISTED = 100
"""Clips that the message of an error names; it says how many more there are."""


class BadClips:
    """Counts unreadable clips of a split and stops a run that has too many.

    Each clip counts once, however often it is met.
    """

    def __init__(self, num_clips: int, max_share: float) -> None:
        """`num_clips` in the split, of which at most `max_share` (0 to 1) may be unreadable."""
        self._num_clips = num_clips
        self._max_share = max_share
        self._found: dict[int, BadClip] = {}

    @property
    def found(self) -> tuple[BadClip, ...]:
        """The unreadable clips, in the order they were met."""
        return tuple(self._found.values())

    def add(self, bad: Sequence[BadClip]) -> tuple[BadClip, ...]:
        """Note `bad`; returns those not met before. Raises `TooManyBadClips`, naming them."""
        new = tuple({b.row: b for b in bad if b.row not in self._found}.values())
        self._found.update({b.row: b for b in new})
        if len(self._found) / self._num_clips > self._max_share:
            lines = [f"  {b.path}: {b.reason}" for b in self.found[:_MAX_LISTED]]
            if len(self._found) > _MAX_LISTED:
                lines.append(f"  and {len(self._found) - _MAX_LISTED} more")
            raise TooManyBadClips(
                f"{len(self._found)} of {self._num_clips} clips cannot be read, more than "
                f"data.max_bad_share (={self._max_share}) allows:\n" + "\n".join(lines)
            )
        return new


class EpochSampler:
    """Sampler of batches of (epoch, position) for one process of `world_size`."""

    def __init__(
        self,
        num_clips: int,
        batch_size: int,
        rank: int = 0,
        world_size: int = 1,
        repeats: int = 1,
    ) -> None:
        """`repeats` windows are read of each of `num_clips` files. The last, incomplete step of an
        epoch is dropped, so that all steps weigh the same. Raises ValueError where there is no
        whole step, or `repeats` does not divide `batch_size`."""
        if batch_size % repeats:
            raise ValueError(f"{repeats} windows of a file do not divide a step of {batch_size}")
        self._files = batch_size // repeats
        self.num_steps = num_clips // (self._files * world_size)
        if self.num_steps == 0:
            of_file = f"; {repeats} windows of each clip" if repeats > 1 else ""
            processes = f" in each of {world_size} processes" if world_size > 1 else ""
            raise ValueError(
                f"a step reads {batch_size} clips (optim.batch_size, or twice as many with "
                f"mix.pairing second_batch{of_file}){processes}, more than the {num_clips} clips "
                "of the train split; set a smaller --optim.batch_size"
            )
        self.batch_size = batch_size
        self._rank = rank
        self._world_size = world_size
        self._repeats = repeats

    def steps(self, epoch: int, first_step: int = 0) -> Iterator[list[Place]]:
        """Step s holds files [s*F*W, (s+1)*F*W), of which each process takes every W-th; all
        windows of a file are in one step of one process."""
        together = self._files * self._world_size
        for step in range(first_step, self.num_steps):
            first = step * together + self._rank
            files = range(first, (step + 1) * together, self._world_size)
            yield [(epoch, f * self._repeats + r) for f in files for r in range(self._repeats)]


@runtime_checkable
class BatchSource(Protocol):
    """Interface of what loaders read from."""

    def read(self, batches: Iterable[Sequence[Place]], epoch: int | None) -> Iterator[Loaded]:
        """One `Loaded` for each of `batches`, in order; `epoch` None: evaluation."""
        ...

    def close(self) -> None:
        """End background processes."""
        ...


class ClipSource:
    """`BatchSource` that reads files in a pool of processes and honours a quarantine."""

    def __init__(self, dataset: TrainSet | EvalSet, pool: Pool, quarantine: Quarantine) -> None:
        """`pool` reads `dataset`."""
        self._dataset = dataset
        self._pool = pool
        self._quarantine = quarantine

    def read(self, batches: Iterable[Sequence[Place]], epoch: int | None) -> Iterator[Loaded]:
        """As `BatchSource`. A clip that takes a process down goes into quarantine."""
        manifest = self._dataset.manifest

        def lost(row: int, reason: str) -> str:
            entry = manifest.entries[row]
            return self._quarantine.add(entry, reason, split=manifest.split, epoch=epoch)

        # Asked for at the start of every epoch: other processes of the run add to the list too.
        skip = self._quarantine.rows(manifest.entries, epoch)
        with closing(self._pool.read(batches, skip, lost)) as loaded:
            yield from loaded

    def close(self) -> None:
        """End the processes."""
        self._pool.close()


@dataclass(frozen=True)
class TrainLoader:
    """Loader of training batches from any step of any epoch; epochs are requested in rising
    order."""

    source: BatchSource
    sampler: EpochSampler
    bad: BadClips
    paths: Sequence[str]
    """Path of each row of the manifest, for messages."""

    @property
    def num_steps(self) -> int:
        """Number of steps per epoch."""
        return self.sampler.num_steps

    def epoch(
        self, epoch: int, first_step: int = 0, most_steps: int | None = None
    ) -> Iterator[tuple[Batch, tuple[BadClip, ...]]]:
        """Steps `first_step` to the last of `epoch`, or the first `most_steps` of them, each with
        the clips newly found unreadable.

        Raises `TooManyBadClips` when they are more than the limit, or hide a whole stretch;
        `LoaderError` when loader processes cannot run.
        """
        steps = islice(self.sampler.steps(epoch, first_step), most_steps)
        for batch, bad in self.source.read(steps, epoch):
            new = self.bad.add(bad)
            if batch is None or batch.size < self.sampler.batch_size:
                raise TooManyBadClips(
                    f"{len(self.bad.found)} clips cannot be read, among them {MAX_IN_A_ROW} in a "
                    f"row; check data.root. The first: {bad[0].path}: {bad[0].reason}"
                    f"{WORTH_HINT}"
                )
            yield batch, new

    def close(self) -> None:
        """End the loader processes."""
        self.source.close()


def train_loader(
    dataset: TrainSet,
    *,
    batch_size: int,
    num_workers: int,
    max_bad_share: float,
    clip_seconds: float = 60.0,
    quarantine: Quarantine | None = None,
    rank: int = 0,
    world_size: int = 1,
    pin: bool = False,
) -> TrainLoader:
    """Build the loader of shuffled, augmented training batches; without `quarantine`, with one of
    its own. `pin`: they go to a CUDA device."""
    num_clips = len(dataset.manifest.entries)
    pool = Pool(dataset, num_workers=num_workers, batch_size=batch_size, clip_seconds=clip_seconds,
                pin=pin)  # fmt: skip
    return TrainLoader(
        source=ClipSource(dataset, pool, quarantine or Quarantine()),
        sampler=EpochSampler(num_clips, batch_size, rank, world_size, dataset.augment.repeats),
        bad=BadClips(num_clips, max_bad_share),
        paths=[entry.path for entry in dataset.manifest.entries],
    )


@dataclass(frozen=True)
class EvalLoader:
    """Loader of every view of this process's share of the clips, once per iteration."""

    source: BatchSource
    batches: Sequence[Sequence[Place]]
    """(row, view), clip after clip."""
    num_views: int
    """Views of each clip."""
    split: str
    """Which split it reads."""
    paths: Sequence[str]
    """Path of each row of the manifest, for messages."""
    sources: Sequence[str]
    """Source of each row."""

    def __iter__(self) -> Iterator[Loaded]:
        """Clip after clip, view after view."""
        return self.source.read(self.batches, None)

    def unreadable(self) -> tuple[BadClip, ...] | None:
        """None as soon as a clip of this process can be read; else all of its clips, unreadable.

        Reads the first view of one clip after the other: one, where the split is as it should be.
        """
        firsts = {row: [(row, view)] for places in self.batches[::-1] for row, view in places[::-1]}
        bad: list[BadClip] = []
        loaded = self.source.read([firsts[row] for row in sorted(firsts)], None)
        try:
            for batch, found in loaded:
                if batch is not None:
                    return None
                bad += found
        finally:
            if isinstance(loaded, Generator):  # what it has begun in the background ends here
                loaded.close()
        return tuple(bad)

    def close(self) -> None:
        """End the loader processes."""
        self.source.close()


def eval_loader(
    dataset: EvalSet,
    *,
    batch_size: int,
    num_workers: int,
    clip_seconds: float = 60.0,
    quarantine: Quarantine | None = None,
    rank: int = 0,
    world_size: int = 1,
    pin: bool = False,
) -> EvalLoader:
    """Build the loader of every view of every clip; the clips are divided among the processes.
    `pin` as for `train_loader`."""
    rows = range(rank, len(dataset.manifest.entries), world_size)
    pool = Pool(dataset, num_workers=num_workers, batch_size=batch_size, clip_seconds=clip_seconds,
                pin=pin)  # fmt: skip
    return EvalLoader(
        source=ClipSource(dataset, pool, quarantine or Quarantine()),
        batches=whole_clips(rows, dataset.views_per_clip, batch_size),
        num_views=dataset.views_per_clip,
        split=dataset.manifest.split,
        paths=[entry.path for entry in dataset.manifest.entries],
        sources=[entry.source_id for entry in dataset.manifest.entries],
    )


def read_limits(num_workers: int, clip_seconds: float) -> Limits:
    """Limits that the decoder enforces itself. A process that is ended after `clip_seconds` has no
    other clock: with two, a slow clip's reason would depend on a race."""
    return Limits(seconds=inf if num_workers else clip_seconds)


def whole_clips(rows: Sequence[int], num_views: int, batch_size: int) -> list[list[Place]]:
    """Batches of (row, view): all views of a clip in one, so that its file is opened once, where
    they fit."""
    if num_views > batch_size:
        return [
            [(row, view) for view in range(first, min(first + batch_size, num_views))]
            for row in rows
            for first in range(0, num_views, batch_size)
        ]
    clips = batch_size // num_views
    return [
        [(row, view) for row in rows[i : i + clips] for view in range(num_views)]
        for i in range(0, len(rows), clips)
    ]
