"""The clips of a split without reading its list: a line of the file is read when it is asked for.

`avmix features` writes an index beside the list, `SPLIT.index.safetensors`: where each line begins,
and the label and the source of each clip as numbers. Of millions of clips it takes 24 bytes each.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import overload

import numpy as np
from jaxtyping import Int64

from avmix.data.tensor_file import Shape, open_tensors, write_tensors
from avmix.types import Entry

_NAMES = ("offset", "label", "source")


class ClipListError(ValueError):
    """An index does not fit its list; the message names the file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipIndex:
    """What is known of every line of a list without reading it."""

    offset: Int64[np.ndarray, " n_plus_1"]
    """Byte at which each line begins; last, the length of the file."""
    label: Int64[np.ndarray, " n"]
    """Number of the first class of each clip; -1 where it has none."""
    source: Int64[np.ndarray, " n"]
    """Number of the source of each clip, in the order in which they come."""


class ClipList(Sequence[Entry]):
    """Clips of a list in the order of its lines, or some of them; each access reads one line."""

    def __init__(
        self,
        path: Path,
        known: ClipIndex,
        parse: Callable[[str, str], Entry],
        rows: Int64[np.ndarray, " m"] | None = None,
    ) -> None:
        """`parse`: a line to a clip, with where it is from; `rows`: the lines that are meant, in
        this order; None: all."""
        self.path, self.known, self._parse = path, known, parse
        self.rows = np.arange(len(known.label)) if rows is None else rows
        self._file = path.open("rb", buffering=0)

    def __del__(self) -> None:
        """Close the file; there is none where it could not be opened."""
        if hasattr(self, "_file"):
            self._file.close()

    def __len__(self) -> int:
        """Number of clips."""
        return len(self.rows)

    @overload
    def __getitem__(self, index: int) -> Entry: ...
    @overload
    def __getitem__(self, index: slice) -> "ClipList": ...
    def __getitem__(self, index: int | slice) -> "Entry | ClipList":
        """One clip, or a list of some. Raises what `parse` raises."""
        if isinstance(index, slice):
            return self.taken(np.arange(len(self))[index])
        return self._read(int(self.rows[index]))

    def __iter__(self) -> Iterator[Entry]:
        """All clips; none of them is kept."""
        return (self._read(int(row)) for row in self.rows)

    def taken(self, chosen: Int64[np.ndarray, " m"]) -> "ClipList":
        """The clips at these places of this list."""
        return ClipList(self.path, self.known, self._parse, self.rows[chosen])

    def _read(self, row: int) -> Entry:
        begin, end = (int(byte) for byte in self.known.offset[row : row + 2])
        self._file.seek(begin)
        line = self._file.read(end - begin)
        return self._parse(line.decode(errors="replace"), f"{self.path}:{row + 1}")


def taken(entries: Sequence[Entry], chosen: Sequence[int] | np.ndarray) -> Sequence[Entry]:
    """The clips at these places, of a `ClipList` without reading them."""
    if isinstance(entries, ClipList):
        return entries.taken(np.asarray(chosen, np.int64))
    return tuple(entries[place] for place in chosen)


def index_path(folder: Path, split: str) -> Path:
    """Where the index of a split is."""
    return folder / f"{split}.index.safetensors"


def write_index(
    folder: Path,
    split: str,
    *,
    label: Int64[np.ndarray, " n"],
    source: Int64[np.ndarray, " n"],
    sha256: str,
) -> str:
    """Write the index of the list of a split, atomically; returns the hash of the index. `label`
    and `source` as `ClipIndex`; `sha256`: of the list. Raises OSError that names the file."""
    offset = np.zeros(len(label) + 1, np.int64)
    with (folder / f"{split}.jsonl").open("rb") as file:
        for row, line in enumerate(file, 1):
            offset[row] = offset[row - 1] + len(line)
    arrays = {"offset": offset, "label": label.astype(np.int64), "source": source.astype(np.int64)}
    shapes = {name: Shape(array.dtype, array.shape) for name, array in arrays.items()}
    path = index_path(folder, split)
    return write_tensors(path, shapes, lambda name: [arrays[name]], {"list_sha256": sha256})


def read_index(folder: Path, split: str, *, num_classes: int, sha256: str) -> ClipIndex:
    """Map the index of a split; `sha256`: of the list. Raises `TensorFileError` where it is missing
    or damaged, and `ClipListError` where it is not of that list."""
    path, lines = index_path(folder, split), folder / f"{split}.jsonl"
    file = open_tensors(path)
    found = file.tensors
    if {*found} != {*_NAMES} or any(t.dtype != np.int64 or t.ndim != 1 for t in found.values()):
        raise ClipListError(f"{path}: not the index of a list of clips")
    offset, label, source = (found[name] for name in _NAMES)
    size = lines.stat().st_size
    fits = len(label) == len(source) == len(offset) - 1 > 0 and offset[-1] == size
    if not fits or file.metadata.get("list_sha256") != sha256:
        raise ClipListError(f"{path}: it is not the index of {lines}, which was changed after it")
    rising = offset[0] == 0 and np.diff(offset).min() > 0
    if not rising or label.min() < -1 or label.max() >= num_classes:
        raise ClipListError(f"{path}: damaged; delete it, and the list is read as a whole")
    return ClipIndex(offset=offset, label=label, source=source)
