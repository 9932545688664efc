"""Predictions of a trained network for files that no manifest describes, as evaluation makes them:
the same windows, read by the same loader, averaged by the same function."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import torch

from avmix.config import TrainConfig
from avmix.data.eval_set import EvalSet
from avmix.data.loader import BatchSource, eval_loader, read_limits
from avmix.data.manifest import Manifest
from avmix.data.sample import Loaded, Place, TooManyBadClips
from avmix.data.whole_files import entry_of_file
from avmix.decode import DecodeError, Limits
from avmix.decode.source import Source, as_file, name_of
from avmix.evaluation.file_prediction import FilePrediction
from avmix.evaluation.metrics import Predictions
from avmix.models import LateFusionClassifier
from avmix.models.frontend import Frontend
from avmix.training import evaluation_loop
from avmix.training.runtime import Runtime
from avmix.types import Entry

BATCH_SIZE = 32
"""Windows per batch, as in evaluation."""


@runtime_checkable
class Network(Protocol):
    """What a `TrainedNetwork` is, as far as predictions need it."""

    @property
    def network(self) -> LateFusionClassifier:
        """On the device of the runtime."""
        ...

    @property
    def frontend(self) -> Frontend:
        """Its front end."""
        ...

    @property
    def config(self) -> TrainConfig:
        """What it was trained with."""
        ...

    @property
    def classes(self) -> tuple[str, ...]:
        """In the order of its outputs."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """How files are read."""

    num_views: int = 3
    """Evenly spaced windows of each entry."""
    batch_size: int = BATCH_SIZE
    """Windows per batch."""
    num_workers: int = 1
    """Loader processes; 0: none, and a file that crashes the decoder takes the program along."""
    clip_seconds: float = 60.0
    """Time limit for reading the windows of one entry."""

    def __post_init__(self) -> None:
        """Raises ValueError for a number of windows that cannot be."""
        if self.num_views < 1:
            raise ValueError(f"num_views must be at least 1, got {self.num_views}")
        if self.batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {self.batch_size}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Predicted:
    """Predictions by the number of the entry, and the reasons where there is none."""

    found: Mapping[int, FilePrediction]
    bad: Mapping[int, str]


def predict_entries(
    trained: Network,
    entries: Sequence[Entry],
    here: Runtime,
    reading: Reading = Reading(),
    *,
    names: Sequence[str] | None = None,
    tick: Callable[[int], None] = lambda count: None,
) -> Predicted:
    """Predictions for entries, whose labels do not count; `names`: of the files, for reports.

    `tick` is told how many windows were read. Raises `LoaderError`.
    """
    config = trained.config
    if not entries:
        return Predicted(found={}, bad={})
    views = EvalSet(
        manifest=Manifest(
            classes=trained.classes, protocol="files", split="files", entries=tuple(entries),
            sha256="", several_labels=True,
        ),
        root=Path(), clip=config.clip, num_views=reading.num_views, verify="never",
        limits=read_limits(reading.num_workers, reading.clip_seconds),
        several_labels=True, modalities=config.model.modalities,
    )  # fmt: skip
    loader = eval_loader(
        views, batch_size=reading.batch_size, num_workers=reading.num_workers,
        clip_seconds=reading.clip_seconds, pin=here.device.type == "cuda",
    )  # fmt: skip
    loader = replace(loader, source=_Counted(loader.source, tick))
    with closing(loader):
        try:
            found = evaluation_loop.evaluate(
                trained.network, trained.frontend, loader, here, config.loss.several_labels,
                sets=config.loss.label_sets(trained.classes),
            )  # fmt: skip
        except TooManyBadClips as error:
            return Predicted(found={}, bad={clip.row: clip.reason for clip in error.bad})
    bad = {clip.row: clip.reason for clip in found.bad}
    named = list(names or (entry.path for entry in entries))
    predictions: dict[int, FilePrediction] = {}
    for i, row in enumerate(map(int, found.predictions.row)):
        if not found.predictions.counted["fused"][i]:
            bad[row] = _nothing(config)
            continue
        predictions[row] = _prediction(
            found.predictions, i, named[row], entries[row], trained.classes, reading.num_views
        )
    return Predicted(found=predictions, bad=bad)


def predict_source(
    trained: Network, source: Source, *, num_views: int = 3, limits: Limits | None = None
) -> FilePrediction:
    """Prediction for one file, its bytes or a file object, in this process.

    Raises as `decode_clip` does, and `DecodeError` where the network reads nothing of what the file
    has, or one of its windows cannot be read.
    """
    reading = Reading(num_views=num_views, num_workers=0)
    limits = limits or Limits()
    device = next(trained.network.parameters()).device
    here = Runtime(device=device, threads=torch.get_num_threads())
    with as_file(source, limits) as path:
        entry, note = entry_of_file(path, limits)
        predicted = predict_entries(trained, [entry], here, reading, names=[name_of(source)])
        if 0 not in predicted.found:
            raise DecodeError(path, predicted.bad[0])
    return replace(predicted.found[0], note=note)


class _Counted:
    """`BatchSource` that says how many windows were asked for."""

    def __init__(self, source: BatchSource, tick: Callable[[int], None]) -> None:
        self._source, self._tick = source, tick

    def read(self, batches: Iterable[Sequence[Place]], epoch: int | None) -> Iterator[Loaded]:
        asked = list(batches)
        for places, loaded in zip(asked, self._source.read(asked, epoch), strict=True):
            yield loaded
            self._tick(len(places))

    def close(self) -> None:
        self._source.close()


def _prediction(
    predictions: Predictions, i: int, name: str, entry: Entry, classes: tuple[str, ...], views: int
) -> FilePrediction:
    def of(row: str) -> np.ndarray | None:
        counted = predictions.counted[row][i]
        return predictions.probability[row][i].numpy() if counted else None

    return FilePrediction(
        path=name,
        classes=classes,
        start_seconds=entry.start_seconds,
        end_seconds=entry.end_seconds,
        num_views=views,
        fused=predictions.probability["fused"][i].numpy(),
        video=of("video head"),
        audio=of("audio head"),
        without_video=of("video missing"),
        without_audio=of("audio missing"),
        label_sets=predictions.sets,
    )


def _nothing(config: TrainConfig) -> str:
    match config.model.modalities:
        case "both":
            return "it has no video, and no audio that is not silent"
        case "audio":
            return "it has no audio that is not silent, and the network reads only audio"
    return "it has no video, and the network reads only video"
