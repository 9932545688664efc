"""Features of a split: computed in parts, each written atomically, then joined into one file."""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch

from avmix.data.loader import EvalLoader
from avmix.data.sample import BadClip
from avmix.data.tensor_file import Shape, TensorFileError, open_tensors, write_tensors
from avmix.features.frozen_encoders import FrozenEncoders
from avmix.system import strict_json
from avmix.types import Batch

T = TypeVar("T")
PART_CLIPS = 256
"""Clips of a part: what a kill costs at most, about."""


class HalfError(NamedTuple):
    """Squares of what half precision changes, and of the features."""

    of_error: float
    of_value: float

    @property
    def relative(self) -> float:
        """Root mean square of the change, relative to that of the features."""
        return (self.of_error / self.of_value) ** 0.5 if self.of_value else 0.0


@dataclass(kw_only=True)
class _Part:
    """What is gathered for one part."""

    rows: list[int] = field(default_factory=list)
    arrays: dict[str, list[np.ndarray]] = field(default_factory=dict)
    """By name, an array of some clips each."""
    bad: dict[int, BadClip] = field(default_factory=dict)
    backgrounds: dict[int, BadClip] = field(default_factory=dict)
    half: dict[str, HalfError] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class PartFile:
    """A part on the disk."""

    path: Path
    rows: tuple[int, ...]
    """Rows of the manifest of the split that it has features of."""
    bad: tuple[BadClip, ...]
    """Clips of it that were left out."""
    backgrounds: tuple[BadClip, ...]
    """Clips whose audio could not be read as the background of augmented views."""
    half: dict[str, HalfError]


@dataclass(frozen=True, slots=True, kw_only=True)
class Extraction:
    """How the features of one split are computed and stored."""

    folder: Path
    """For the parts; it belongs to this split."""
    encoders: FrozenEncoders
    loader: EvalLoader
    """Of all clips; each of its batches holds all views of its clips."""
    device: torch.device
    dtype: np.dtype[Any]
    """float32 or float16."""
    part_clips: int = PART_CLIPS

    def run(
        self, done: Callable[[int, bool], None], damaged: Callable[[str], None]
    ) -> list[PartFile]:
        """Compute the parts that are not there yet; returns all, in order.

        `done` is told how many more clips have features, or were left out, and whether that was
        computed now; `damaged` the reason why a part that is there has to be computed again.
        """
        parts = self._parts()
        found: dict[int, PartFile] = {}
        for number, batches in enumerate(parts):
            path = self._path(number)
            if not path.exists():
                continue
            try:
                found[number] = self._read(path, batches)
            except TensorFileError as error:
                damaged(str(error))
                continue
            done(_num_clips(batches), False)
        todo = [number for number in range(len(parts)) if number not in found]
        if todo:
            wanted = [batch for number in todo for batch in parts[number]]
            loaded = iter(replace(self.loader, batches=wanted))
            for number in todo:
                found[number] = self._compute(number, parts[number], loaded, done)
        return [found[number] for number in range(len(parts))]

    def _parts(self) -> list[list[Sequence[tuple[int, int]]]]:
        """Batches of each part; the same whatever was done before, and so are the bits.

        Which clips a part has does not depend on the size of a batch, with which a run may be
        continued that was begun with another one.
        """
        clips: dict[int, list[tuple[int, int]]] = {}
        for place in chain.from_iterable(self.loader.batches):
            clips.setdefault(place[0], []).append(place)
        size = _num_clips(self.loader.batches[:1])
        return [
            [list(chain.from_iterable(batch)) for batch in _cut(part, size)]
            for part in _cut(list(clips.values()), self.part_clips)
        ]

    def _read(self, path: Path, batches: Sequence[Sequence[tuple[int, int]]]) -> PartFile:
        """A part that is there. Raises `TensorFileError` where it is not of the clips of these
        batches, each once."""
        part = read_part(path)
        has = sorted([*part.rows, *(clip.row for clip in part.bad)])
        if has != sorted({row for places in batches for row, _ in places}):
            raise TensorFileError(f"{path}: a part of other clips")
        return part

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:06}.safetensors"

    def _compute(
        self,
        number: int,
        batches: Sequence[Sequence[tuple[int, int]]],
        loaded: Iterator[Any],
        done: Callable[[int, bool], None],
    ) -> PartFile:
        part = _Part()
        for places in batches:
            batch, bad = next(loaded)
            whole = self._whole(batch) if batch is not None else []
            mine = {row for row, _ in places}.difference(whole)
            for clip in bad:
                # What is reported of a clip that is there, or of another, concerns a background.
                found = part.bad if clip.row in mine else part.backgrounds
                found.setdefault(clip.row, clip)
            if batch is not None:
                self._add(part, batch, whole)
            done(_num_clips([places]), True)
        return self._write(self._path(number), part)

    def _whole(self, batch: Batch) -> list[int]:
        """Rows of a batch with all of their views."""
        rows = batch.row.tolist()
        return [row for row in dict.fromkeys(rows) if rows.count(row) == self.loader.num_views]

    def _add(self, part: _Part, batch: Batch, whole: Sequence[int]) -> None:
        """Features of the clips of a batch that are `whole`, where all are finite."""
        features = {n: t.cpu().numpy() for n, t in self.encoders(batch.to(self.device)).items()}
        with np.errstate(over="ignore"):  # what is too large becomes infinite, and is left out
            stored = {name: value.astype(self.dtype) for name, value in features.items()}
        rows = batch.row.numpy()
        for row in whole:
            mine = rows == row
            if reason := self._not_finite({n: v[mine] for n, v in features.items()}, stored, mine):
                part.bad.setdefault(row, BadClip(row, self.loader.paths[int(row)], reason))
        kept = [row for row in whole if row not in part.bad]
        mine = np.isin(rows, kept)
        if not kept:
            return
        part.rows += kept
        for name, value in stored.items():
            self._append(part, name, value[mine])
            if self.dtype != np.float32:
                exact, old = features[name][mine].astype(np.float64), part.half.get(name, (0, 0))
                error = np.square(exact - value[mine]).sum(), np.square(exact).sum()
                part.half[name] = HalfError(
                    *(float(a + b) for a, b in zip(old, error, strict=True))
                )
        self._append(part, "has_audio", batch.has_audio.numpy()[mine])

    def _append(self, part: _Part, name: str, value: np.ndarray) -> None:
        views = self.loader.num_views
        clips = value.reshape(len(value) // views, views, *value.shape[1:])
        part.arrays.setdefault(name, []).append(clips)

    def _not_finite(
        self, exact: Mapping[str, np.ndarray], stored: Mapping[str, np.ndarray], mine: np.ndarray
    ) -> str:
        for name, value in exact.items():
            if not np.isfinite(value).all():
                return f"its {name} feature is not finite"
            if not np.isfinite(stored[name][mine]).all():
                return f"its {name} feature has values beyond half precision; store it in full"
        return ""

    @property
    def shapes(self) -> dict[str, Shape]:
        """Of the tensors of no clips."""
        views = self.loader.num_views
        features = {
            name: Shape(self.dtype, (0, views, width))
            for name, width in self.encoders.widths.items()
        }
        return features | {"has_audio": Shape(np.dtype("?"), (0, views))}

    def _write(self, path: Path, part: _Part) -> PartFile:
        count = len(part.rows)
        arrays = {
            name: np.concatenate(part.arrays[name]) if count else np.empty(s.shape, s.dtype)
            for name, s in self.shapes.items()
        }
        said = {
            "rows": part.rows,
            "bad": [list(part.bad[row]) for row in sorted(part.bad)],
            "backgrounds": [list(part.backgrounds[row]) for row in sorted(part.backgrounds)],
            "half": {name: list(error) for name, error in sorted(part.half.items())},
        }
        said["sha256"] = _digest(arrays, said)
        shapes = {name: Shape(s.dtype, (count, *s.shape[1:])) for name, s in self.shapes.items()}
        write_tensors(path, shapes, lambda name: [arrays[name]], {"part": strict_json.dumps(said)})
        return read_part(path, verify=False)


def read_part(path: Path, *, verify: bool = True) -> PartFile:
    """Read what a part says, and compare its hash. Raises `TensorFileError`."""
    found = open_tensors(path)
    try:
        said = json.loads(found.metadata["part"])
        if verify and said.pop("sha256") != _digest(found.tensors, said):
            raise ValueError("its hash differs")
        return PartFile(
            path=path,
            rows=tuple(said["rows"]),
            bad=tuple(BadClip(*clip) for clip in said["bad"]),
            backgrounds=tuple(BadClip(*clip) for clip in said["backgrounds"]),
            half={name: HalfError(*error) for name, error in said["half"].items()},
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise TensorFileError(f"{path}: not a part of features: {error!r}") from None


def join(parts: Sequence[PartFile], shapes: Mapping[str, Shape], path: Path) -> str:
    """Write the features of all parts to one file, a part at a time; returns its SHA-256."""
    count = sum(len(part.rows) for part in parts)
    whole = {name: Shape(s.dtype, (count, *s.shape[1:])) for name, s in shapes.items()}
    return write_tensors(
        path, whole, lambda name: (open_tensors(part.path).tensors[name] for part in parts), {}
    )


def half_error(parts: Sequence[PartFile]) -> dict[str, float]:
    """What half precision changes of each modality, relative; empty where nothing."""
    names = sorted({name for part in parts for name in part.half})
    found = {name: [part.half[name] for part in parts if name in part.half] for name in names}
    return {
        name: HalfError(sum(e.of_error for e in errors), sum(e.of_value for e in errors)).relative
        for name, errors in found.items()
    }


def _num_clips(batches: Sequence[Sequence[tuple[int, int]]]) -> int:
    return len({row for places in batches for row, _ in places})


def _cut(items: Sequence[T], size: int) -> list[Sequence[T]]:
    return [items[i : i + size] for i in range(0, len(items), size)]


def _digest(arrays: Mapping[str, np.ndarray], said: Mapping[str, Any]) -> str:
    """Of the arrays, with their names and shapes, and of what is said of their clips."""
    sha256 = hashlib.sha256(strict_json.dumps(said, sort_keys=True).encode())
    for name in sorted(arrays):
        sha256.update(f"\n{name} {arrays[name].dtype} {arrays[name].shape}\n".encode())
        sha256.update(np.ascontiguousarray(arrays[name]).tobytes())
    return sha256.hexdigest()
