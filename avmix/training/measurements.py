"""Measurements of training: losses and gradient norms of a step, time of an epoch."""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

from avmix.types import Heads

T = TypeVar("T")

_NORMS = ("grad_norm", "grad_norm_video", "grad_norm_audio", "grad_norm_fusion")
"""Of `GradNorms`, as a line of metrics.jsonl names them."""


class GradNorms(NamedTuple):
    """Norm of the gradient before clipping: of all parameters, and of each part's."""

    total: Tensor
    video: Tensor
    """Of the video encoder."""
    audio: Tensor
    """Of the audio encoder."""
    fusion: Tensor
    """Of everything else."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepRecord:
    """What one step of training measured; tensors stay on the device until they are written."""

    epoch: int
    step: int
    lr: float
    loss: Tensor
    losses: Heads
    consistency: Mapping[str, Tensor]
    """Consistency losses that have a weight, before weighing."""
    grad_norms: GradNorms | None
    """None on steps that only accumulate."""
    rows: Tensor
    """Rows of the clips, on the CPU: named when the loss is not finite."""


@dataclass
class Stopwatch:
    """Where the time of an epoch goes."""

    started: float = field(default_factory=time.perf_counter)
    stopped: float | None = None
    waited_seconds: float = 0.0
    """Spent waiting for the next batch."""
    num_clips: int = 0
    """Done since the start, in all processes."""

    def waiting(self, items: Iterable[T]) -> Iterator[T]:
        """The same items; counts the time it takes to get each."""
        iterator = iter(items)
        while True:
            before = time.perf_counter()
            try:
                item = next(iterator)
            except StopIteration:
                return
            finally:
                self.waited_seconds += time.perf_counter() - before
            yield item

    @property
    def seconds(self) -> float:
        """Since the start, or until `stop`."""
        return (self.stopped or time.perf_counter()) - self.started

    def stop(self) -> "Stopwatch":
        """Time no longer counts."""
        self.stopped = time.perf_counter()
        return self


class LossSum(NamedTuple):
    """Of the losses of the steps of an epoch: what its mean needs when the epoch is resumed."""

    total: float
    """Losses are float32: in float64 their sum is exact, however often it was interrupted."""
    num_steps: int

    @property
    def mean(self) -> float | None:
        """None: there was no step."""
        return self.total / self.num_steps if self.num_steps else None

    def plus(self, losses: Sequence[float]) -> "LossSum":
        """With those of further steps."""
        return LossSum(sum(losses, self.total), self.num_steps + len(losses))


NO_STEP = LossSum(0.0, 0)
"""Where an epoch begins."""


def step_numbers(record: StepRecord) -> Tensor:
    """What has to be fetched from the device."""
    norms = record.grad_norms or [torch.zeros_like(record.loss)] * len(_NORMS)
    return torch.stack([record.loss, *record.losses, *record.consistency.values(), *norms])


def step_row(record: StepRecord, numbers: Sequence[float]) -> dict[str, Any]:
    """A line of metrics.jsonl."""
    loss, fused, video, audio, *others = numbers
    consistency, norms = others[:-4], others[-4:]
    row = {
        "kind": "step",
        "epoch": record.epoch,
        "step": record.step,
        "lr": record.lr,
        "loss": loss,
        "loss_fused": fused,
        "loss_video": video,
        "loss_audio": audio,
        **{f"loss_{n}": x for n, x in zip(record.consistency, consistency, strict=True)},
    }
    return row if record.grad_norms is None else row | dict(zip(_NORMS, norms, strict=True))
