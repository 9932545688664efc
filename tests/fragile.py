"""Datasets whose reading crashes or hangs, for tests: loader processes import them by name."""

import ctypes
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from avmix.augment import TimePlan
from avmix.data.clip_reader import ClipReader
from avmix.data.dataset import TrainSet
from avmix.data.eval_set import EvalSet
from avmix.data.sample import BadClip, Loaded, Place, Sample
from avmix.types import Batch, Clip, Entry

Fate = Literal["crash", "exit", "hang", "hang on", "killed", "stop", "mistake", "die in between"]


def meet(fate: Fate) -> None:
    """Do to this process what a bad file can do to it."""
    match fate:
        case "crash":
            os.kill(os.getpid(), signal.SIGSEGV)
        case "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        case "stop":
            os.kill(os.getpid(), signal.SIGSTOP)
        case "exit":
            os._exit(3)
        case "hang":
            # In C and with the interpreter's lock held, so that no thread of ours can do anything.
            while True:
                ctypes.PyDLL(None).pause()
        case "hang on":
            signal.setitimer(signal.ITIMER_REAL, 0)
            meet("hang")
        case "mistake":
            raise KeyError("a mistake of ours")


@dataclass(frozen=True)
class Numbers:
    """Row n is a frame full of n; some rows have a fate. Writes down which rows it reads."""

    fates: Mapping[int, Fate]
    log: Path
    bytes_per_clip: int = 1000
    side: int = 4
    times: Mapping[int, int] = field(default_factory=dict)
    """How often a row meets its fate; without a number here always."""

    def name(self, row: int) -> str:
        return f"{row}.mp4"

    def groups(self, places: Sequence[Place]) -> list[list[Place]]:
        return [[place] for place in places]

    def apart(self, places: Sequence[Place]) -> list[list[Place]]:
        return [[place] for place in places]

    def samples(
        self, places: Sequence[Place], skip: Mapping[int, str], begin: Callable[[int], None]
    ) -> list[Sample]:
        found: list[Sample] = []
        for _, row in places:
            if row in skip:
                found.append(Sample(row, None, (BadClip(row, f"{row}.mp4", skip[row]),)))
                continue
            if self.fates.get(row) == "die in between":
                os._exit(7)
            begin(row)
            with self.log.open("a") as file:
                file.write(f"{row} {os.getpid()}\n")
            begun = [line.split()[0] for line in self.log.read_text().splitlines()]
            if row in self.fates and begun.count(str(row)) <= self.times.get(row, 1000):
                meet(self.fates[row])
            found.append(Sample(row, clip_of(row, self.side), ()))
        return found

    def collate(self, samples: list[Sample]) -> Loaded:
        bad = tuple(b for sample in samples for b in sample.bad)
        clips = {s.row: s.clip for s in samples if s.clip is not None}
        if not clips:
            return Loaded(None, bad)
        here = torch.ones(len(clips), dtype=torch.bool)
        batch = Batch(
            video=torch.from_numpy(np.stack([clip.video for clip in clips.values()])),
            audio=torch.from_numpy(np.stack([clip.audio for clip in clips.values()])),
            has_video=here,
            has_audio=~here,
            target=torch.eye(3)[[row % 3 for row in clips]],
            row=torch.tensor(list(clips)),
            source=torch.tensor(list(clips)),
        )
        return Loaded(batch, bad)


def clip_of(row: int, side: int = 4) -> Clip:
    return Clip(
        video=np.full((2, side, side, 3), row, np.uint8),
        audio=np.full(50, row / 7, np.float32),
        pts_seconds=np.zeros(2),
        start_seconds=0.0,
        duration_seconds=1.0,
        sample_rate=50,
        audio_valid=1.0,
        num_held=0,
    )


class Fragile(ClipReader):
    """The real thing, but where a file begins with the word for a fate, the decoder meets it."""

    def decode(self, entry: Entry, times: Sequence[TimePlan]) -> list:
        content = (self.root / entry.path).read_bytes()[:5]
        if content == b"crash":
            meet("crash")
        if content == b"hangs":
            meet("hang")
        return super().decode(entry, times)


@dataclass(frozen=True)
class Together(Numbers):
    """All rows of a batch are of one file, which is read at once: only the first is told of."""

    def groups(self, places: Sequence[Place]) -> list[list[Place]]:
        return [list(places)]

    def samples(
        self, places: Sequence[Place], skip: Mapping[int, str], begin: Callable[[int], None]
    ) -> list[Sample]:
        if len(places) > 1 and not any(row in skip for _, row in places):
            begin(places[0][1])
            for _, row in places:
                if row in self.fates:
                    meet(self.fates[row])
            return [Sample(row, clip_of(row, self.side), ()) for _, row in places]
        return super().samples(places, skip, begin)


@dataclass(frozen=True, kw_only=True)
class FragileSet(Fragile, TrainSet):
    """To train on."""


@dataclass(frozen=True, kw_only=True)
class FragileEvalSet(Fragile, EvalSet):
    """To evaluate on."""


def tell_about_parent(pipe: Connection) -> None:
    """How many threads the fork server has, whether it had loaded torch, which avmix we have."""
    server = Path(f"/proc/{os.getppid()}")
    num_threads, maps = len(list((server / "task").iterdir())), (server / "maps").read_text()
    pipe.send((num_threads, "libtorch" in maps, sys.modules["avmix"].__file__))
