"""Loaders of kept features: batches are gathered from the mapped file, in this process.

They give what the loaders of clips give (`avmix.data.loader`), in the same order: step s of an
epoch holds the same clips, whether their files are decoded or their features are taken.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Literal, overload

import numpy as np
import torch
from torch.nn.functional import one_hot

from avmix.config import Balance, Modalities
from avmix.data.balance import balanced_order, earlier_visits, mean_visits
from avmix.data.clip_list import ClipList
from avmix.data.dataset import epoch_order
from avmix.data.kept_features import KeptFeatures
from avmix.data.loader import BadClips, EpochSampler, EvalLoader, TrainLoader, whole_clips
from avmix.data.manifest import Manifest, ManifestError
from avmix.data.sample import Loaded, Place
from avmix.rng import rng
from avmix.types import Batch, Entry


class FeatureSource:
    """`BatchSource` of the features of the clips of a manifest."""

    def __init__(
        self,
        kept: KeptFeatures,
        manifest: Manifest,
        *,
        seed: int = 0,
        modalities: Modalities = "both",
        balance: Balance = "none",
        pin: bool = False,
    ) -> None:
        """`manifest`: all clips of `kept`, or some of them; `seed`: of the order of training;
        `modalities`: the other one is missing from every clip; `balance`: as `data.balance`; `pin`:
        batches go to a CUDA device.

        Raises `FeaturesError` where one modality was not kept, `ManifestError` for a clip without
        exactly one label.
        """
        if (entry := manifest.not_one_label) is not None:
            raise ManifestError(
                f"{manifest.protocol} {manifest.split}: clip {entry.clip_id!r} has several "
                "labels, unknown ones or some for each modality; features need one label"
            )
        widths, views = kept.widths, kept.num_views
        mine = _rows_in(kept.manifest, manifest)
        self._first = mine * views  # of the views of each clip, one after the other
        self._video = np.asarray(kept.features["video"]).reshape(-1, widths.video)
        self._audio = np.asarray(kept.features["audio"]).reshape(-1, widths.audio)
        self._has_audio = np.asarray(kept.has_audio).reshape(-1) & (modalities != "video")
        self._has_video = modalities != "audio"
        self._label = torch.from_numpy(kept.labels[mine])
        self._source = torch.from_numpy(kept.sources[mine])
        self._num_classes, self._num_views = len(manifest.classes), views
        self._visits = None if balance == "none" else mean_visits(manifest.entries, balance)
        self._seed, self._pin = seed, pin

    def read(self, batches: Iterable[Sequence[Place]], epoch: int | None) -> Iterator[Loaded]:
        """As `BatchSource`; a training clip gives one of its views, drawn by (seed, epoch, row)."""
        if epoch is None:
            for places in batches:
                rows, views = np.array(places).T
                yield Loaded(self._batch(rows, views), ())
            return
        num_clips = len(self._first)
        drawn = rng(self._seed, epoch, "view").integers(self._num_views, size=num_clips)
        if self._visits is None:
            order = epoch_order(self._seed, epoch, num_clips)
            views = drawn[order]
        else:  # a clip that comes again gives its next view
            order = balanced_order(self._seed, epoch, self._visits)
            views = (drawn[order] + earlier_visits(order)) % self._num_views
        for places in batches:
            positions = [position for _, position in places]
            yield Loaded(self._batch(order[positions], views[positions]), ())

    def close(self) -> None:
        """There are no background processes."""

    def _batch(self, rows: np.ndarray, views: np.ndarray) -> Batch:
        places, row = self._first[rows] + views, torch.from_numpy(rows)
        batch = Batch(
            video=_taken(self._video, places),
            audio=_taken(self._audio, places),
            has_video=torch.full((len(rows),), self._has_video),
            has_audio=torch.from_numpy(self._has_audio[places]),
            target=one_hot(self._label[row], self._num_classes).float(),
            row=row,
            source=self._source[row],
        )
        return batch.pin_memory() if self._pin else batch


def _rows_in(whole: Manifest, part: Manifest) -> np.ndarray:
    """Where the clips of a part are in the whole."""
    mine, theirs = part.entries, whole.entries
    if isinstance(mine, ClipList) and isinstance(theirs, ClipList) and mine.path == theirs.path:
        return mine.rows  # of a list of which the whole is all lines
    rows = {entry.clip_id: row for row, entry in enumerate(theirs)}
    return np.array([rows[entry.clip_id] for entry in mine])


_Field = Literal["path", "source_id"]


class _Said(Sequence[str]):
    """A text of each clip; of a `ClipList` they are read when they are asked for."""

    def __init__(self, entries: Sequence[Entry], name: "_Field") -> None:
        self._entries = entries
        self._name: _Field = name

    def __len__(self) -> int:
        return len(self._entries)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[str]: ...
    def __getitem__(self, index: int | slice) -> str | Sequence[str]:
        if isinstance(index, slice):
            return _Said(self._entries[index], self._name)
        return getattr(self._entries[index], self._name)


def _taken(features: np.ndarray, places: np.ndarray) -> torch.Tensor:
    """Some rows, read from the file; float32."""
    return torch.from_numpy(features.take(places, 0).astype(np.float32, copy=False))


def feature_train_loader(
    kept: KeptFeatures,
    manifest: Manifest,
    *,
    batch_size: int,
    seed: int,
    modalities: Modalities = "both",
    balance: Balance = "none",
    rank: int = 0,
    world_size: int = 1,
    pin: bool = False,
) -> TrainLoader:
    """Build the loader of shuffled training batches; raises as `FeatureSource` and
    `EpochSampler`."""
    num_clips = len(manifest.entries)
    return TrainLoader(
        source=FeatureSource(
            kept, manifest, seed=seed, modalities=modalities, balance=balance, pin=pin
        ),
        sampler=EpochSampler(num_clips, batch_size, rank, world_size),
        bad=BadClips(num_clips, 0.0),
        paths=_Said(manifest.entries, "path"),
    )


def feature_eval_loader(
    kept: KeptFeatures,
    manifest: Manifest,
    *,
    batch_size: int,
    modalities: Modalities = "both",
    rank: int = 0,
    world_size: int = 1,
    pin: bool = False,
) -> EvalLoader:
    """Build the loader of every view of the clips of `manifest`, all of `kept` or some of them, but
    for augmented views; the clips are divided among the processes."""
    rows = range(rank, len(manifest.entries), world_size)
    return EvalLoader(
        source=FeatureSource(kept, manifest, modalities=modalities, pin=pin),
        batches=whole_clips(rows, kept.num_eval_views, batch_size),
        num_views=kept.num_eval_views,
        split=manifest.split,
        paths=_Said(manifest.entries, "path"),
        sources=_Said(manifest.entries, "source_id"),
    )
