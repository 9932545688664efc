"""Predictions of every clip of an evaluation, kept: what any table can be computed from again.

The file that holds them is described in `avmix.evaluation.prediction_file`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float32, Int64

from avmix.data.clip_reader import is_audible
from avmix.data.manifest import Manifest
from avmix.data.sample import BadClip
from avmix.evaluation.clip_statistics import Answers, single_label
from avmix.evaluation.metrics import NEEDS, Predictions
from avmix.evaluation.resampling import numbered
from avmix.label_sets import LabelSet, label_sets, set_of


class PredictionsError(ValueError):
    """A file has no predictions, or damaged ones; the message names it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptClip:
    """A clip that was evaluated."""

    row: int
    """Of the manifest."""
    clip_id: str
    path: str
    """Relative to the media folder."""
    start_seconds: float
    end_seconds: float
    source_id: str
    audible: bool
    subsets: tuple[str, ...] = ()
    """As of `avmix.types.Entry`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """What computed the predictions."""

    checkpoint: str
    """SHA-256 of the checkpoint's content; empty: of an older version, unknown."""
    config: str
    """YAML of the configuration that it was trained with."""
    weights: str
    """`last` or `average`."""
    epochs_trained: int
    chance: tuple[int | None, ...] | None
    """Epochs that each head was at chance in (`avmix.training.chance_level`)."""
    views: dict[str, Any]
    """How clips were looked at; as words and numbers."""
    environment: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class KeptPredictions:
    """Probabilities of every evaluated clip for every row of the table."""

    protocol: str
    split: str
    split_sha256: str
    """Hash of the manifest of the split."""
    classes: tuple[str, ...]
    clips: tuple[KeptClip, ...]
    missing: tuple[BadClip, ...]
    """Clips without a prediction, with the reason."""
    origin: Origin
    probability: Mapping[str, Float32[np.ndarray, "n k"]]
    """By row: some of `EVAL_ROWS`, `fused` among them."""
    counted: Mapping[str, Bool[np.ndarray, " n"]]
    label: Int64[np.ndarray, "n *s"] | None = None
    """Of single-label clips; of clips with label sets that of each set (n s), counted within it."""
    target: Mapping[str, Float32[np.ndarray, "n k"]] | None = None
    """Of others: `fused`, and `video` and `audio` where they differ from it."""
    set_names: tuple[str, ...] = ()
    """Names of label sets; none where all classes are of one. Tables are of one set (`of_set`), or
    of all together (`avmix.evaluation.label_set_statistics`)."""
    tail_classes: tuple[str, ...] = ()
    """Rare classes, which the dataset names."""

    @property
    def single(self) -> bool:
        """Whether every clip has exactly one label."""
        return self.label is not None and not self.set_names

    @cached_property
    def sets(self) -> tuple[LabelSet, ...]:
        """The label sets."""
        return label_sets(self.classes, self.set_names)

    def of_set(self, name: str) -> "KeptPredictions":
        """Predictions for one label set, as of clips of one label; class names are without that of
        the set. Raises ValueError where there is no such set."""
        one = set_of(name, self.sets)
        assert self.label is not None
        rare = {*self.tail_classes}
        return replace(
            self,
            classes=one.classes(self.classes),
            probability={row: p[:, one.columns] for row, p in self.probability.items()},
            label=np.ascontiguousarray(self.label[:, self.sets.index(one)]),
            set_names=(),
            tail_classes=tuple(
                short
                for whole, short in zip(
                    self.classes[one.columns], one.classes(self.classes), strict=True
                )
                if whole in rare
            ),
        )

    @cached_property
    def subsets(self) -> dict[str, Bool[np.ndarray, " n"]]:
        """Which clips are in each subset that one of them is in."""
        names = sorted({name for clip in self.clips for name in clip.subsets})
        return {name: np.array([name in clip.subsets for clip in self.clips]) for name in names}

    @cached_property
    def source(self) -> Int64[np.ndarray, " n"]:
        """Number of the source of each clip."""
        return numbered([clip.source_id for clip in self.clips])

    def answers(self, row: str, clips: np.ndarray, labels_of: str = "") -> Answers:
        """What a row says of these clips (their numbers), and what is right.

        `labels_of`: `fused`, `video` or `audio`; empty: of the modality of the row.
        """
        probability = self.probability[row][clips]
        if self.label is not None:
            return single_label(probability, self.label[clips])
        assert self.target is not None
        of = labels_of or NEEDS.get(row, "fused")
        target = self.target.get(of, self.target["fused"])[clips]
        return Answers(probability=probability, target=target, single=False)

    def predictions(self) -> Predictions:
        """As evaluation found them."""
        label = np.full(len(self.clips), -1) if self.label is None else self.label
        target = None if self.target is None else {
            row: torch.from_numpy(self.target.get(NEEDS.get(row, "fused"), self.target["fused"]))
            for row in self.probability
        }  # fmt: skip
        return Predictions(
            row=torch.tensor([clip.row for clip in self.clips]),
            label=torch.from_numpy(label),
            probability={row: torch.from_numpy(p) for row, p in self.probability.items()},
            counted={row: torch.from_numpy(c) for row, c in self.counted.items()},
            target=target,
            sets=self.sets,
        )

    def clips_of(self, *rows: str) -> Int64[np.ndarray, " m"]:
        """Numbers of the clips that count in all of these rows."""
        return np.all([self.counted[row] for row in rows], axis=0).nonzero()[0]


def kept_of(
    manifest: Manifest, found: Predictions, missing: Sequence[BadClip], origin: Origin
) -> KeptPredictions:
    """What is kept of the predictions for the clips of a manifest."""
    clips = []
    for row in found.row.tolist():
        e = manifest.entries[row]
        clips.append(KeptClip(
            row=row, clip_id=e.clip_id, path=e.path, start_seconds=e.start_seconds,
            end_seconds=e.end_seconds, source_id=e.source_id, audible=is_audible(e),
            subsets=e.subsets,
        ))  # fmt: skip
    target = None
    if found.target is not None:
        rows = {"fused": "fused", "video": "video head", "audio": "audio head"}
        target = {name: found.target[row].float().numpy() for name, row in rows.items()}
        both = target["fused"]
        same = [n for n in ("video", "audio") if np.array_equal(target[n], both, equal_nan=True)]
        target = {name: one for name, one in target.items() if name not in same}
    return KeptPredictions(
        protocol=manifest.protocol, split=manifest.split, split_sha256=manifest.sha256,
        classes=manifest.classes, clips=tuple(clips), missing=tuple(missing), origin=origin,
        probability={name: p.float().numpy() for name, p in found.probability.items()},
        counted={name: c.numpy() for name, c in found.counted.items()},
        label=found.label.numpy() if found.target is None else None,
        target=target,
        set_names=tuple(one.name for one in found.sets), tail_classes=manifest.tail_classes,
    )  # fmt: skip
