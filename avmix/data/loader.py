"""Loader processes around a data set, in an order that does not depend on how many there are."""

import multiprocessing
import os
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.data import DataLoader, Sampler

from avmix.data.dataset import (
    MAX_IN_A_ROW,
    BadClip,
    Collate,
    EvalSet,
    Loaded,
    TooManyBadClips,
    TrainSet,
)
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


class EpochSampler(Sampler[list[tuple[int, int]]]):
    """Batches of (epoch, position) for one process of `world_size`, from any step on."""

    def __init__(self, num_clips: int, batch_size: int, rank: int = 0, world_size: int = 1) -> None:
        """The last, incomplete step of an epoch is dropped, so that all steps weigh the same."""
        self.num_steps = num_clips // (batch_size * world_size)
        if self.num_steps == 0:
            raise ValueError(
                f"optim.batch_size (={batch_size}) x {world_size} processes is more than the "
                f"{num_clips} clips of the train split"
            )
        self.batch_size = batch_size
        self._rank = rank
        self._world_size = world_size
        self._epoch = 0
        self._first_step = 0

    def start_at(self, epoch: int, step: int) -> None:
        """What the next iteration yields first."""
        self._epoch = epoch
        self._first_step = step

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        """Step s holds positions [s*B*W, (s+1)*B*W), of which each process takes every W-th."""
        global_batch = self.batch_size * self._world_size
        for step in range(self._first_step, self.num_steps):
            first = step * global_batch + self._rank
            yield [
                (self._epoch, p) for p in range(first, (step + 1) * global_batch, self._world_size)
            ]

    def __len__(self) -> int:
        """Steps of the next iteration."""
        return self.num_steps - self._first_step


@dataclass(frozen=True)
class TrainLoader:
    """The batches of any epoch, from any step on."""

    loader: DataLoader[Any]
    sampler: EpochSampler
    bad: BadClips

    @property
    def num_steps(self) -> int:
        """Steps of a whole epoch."""
        return self.sampler.num_steps

    def epoch(self, epoch: int, first_step: int = 0) -> Iterator[tuple[Batch, tuple[BadClip, ...]]]:
        """Steps `first_step` to the last of `epoch`, each with the clips newly found unreadable.

        Raises `TooManyBadClips` when they are more than the limit, or hide a whole stretch.
        """
        self.sampler.start_at(epoch, first_step)
        for batch, bad in self.loader:
            new = self.bad.add(bad)
            if batch is None or batch.size < self.sampler.batch_size:
                raise TooManyBadClips(
                    f"{len(self.bad.found)} clips cannot be read, among them {MAX_IN_A_ROW} in a "
                    f"row; is data.root right? The first: {bad[0].path}: {bad[0].reason}"
                )
            yield batch, new


def train_loader(
    dataset: TrainSet,
    *,
    batch_size: int,
    num_workers: int,
    max_bad_share: float,
    rank: int = 0,
    world_size: int = 1,
) -> TrainLoader:
    """Shuffled, augmented batches for training."""
    num_clips = len(dataset.manifest.entries)
    sampler = EpochSampler(num_clips, batch_size, rank, world_size)
    return TrainLoader(
        loader=DataLoader(
            dataset,
            batch_sampler=sampler,
            collate_fn=Collate(dataset.manifest),
            **_process_options(num_workers),
        ),
        sampler=sampler,
        bad=BadClips(num_clips, max_bad_share),
    )


@dataclass(frozen=True)
class EvalLoader:
    """Every view of this process's share of the clips, once per iteration."""

    loader: DataLoader[Any]
    num_views: int
    """Views of each clip."""
    split: str
    """Which split it reads."""

    def __iter__(self) -> Iterator[Loaded]:
        """Clip after clip, view after view."""
        return iter(self.loader)


def eval_loader(
    dataset: EvalSet, *, batch_size: int, num_workers: int, rank: int = 0, world_size: int = 1
) -> EvalLoader:
    """Every view of every clip once; the clips are dealt out to the processes."""
    rows = range(rank, len(dataset.manifest.entries), world_size)
    places = [(row, view) for row in rows for view in range(dataset.num_views)]
    batches = [places[i : i + batch_size] for i in range(0, len(places), batch_size)]
    return EvalLoader(
        loader=DataLoader(
            dataset,
            batch_sampler=batches,
            collate_fn=Collate(dataset.manifest),
            **_process_options(num_workers),
        ),
        num_views=dataset.num_views,
        split=dataset.manifest.split,
    )


def _process_options(num_workers: int) -> dict[str, Any]:
    options: dict[str, Any] = {
        "num_workers": num_workers,
        "pin_memory": torch.cuda.is_available(),
    }
    if num_workers > 0:
        # fork would copy the state of OpenMP's and CUDA's threads into the worker; a fork server is
        # started before there are any.
        options |= {
            "multiprocessing_context": "forkserver",
            "worker_init_fn": _start_worker,
            "persistent_workers": True,
            "prefetch_factor": 4,
        }
    return options


def _start_worker(_: int) -> None:
    torch.set_num_threads(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Do not outlive a training process that was killed: torch's own watch looks at the fork
    server, which lives as long as its workers do."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
