"""Manifests: the clips of a dataset and what probing measured of their files, as JSON lines.

A dataset is a folder with `dataset.json` (classes, protocol, counts, hash of every split) and one
JSON Lines file per split (`train.jsonl`, `val.jsonl`, `test.jsonl`), one `Entry` a line. The format
is described for people in `datasets/README.md`.
"""

import hashlib
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64

from avmix.data.clip_list import ClipList, ClipListError, index_path, read_index
from avmix.data.dataset_header import (
    FORMAT,
    ManifestError,
    check_hash,
    header_with,
    read_header,
)
from avmix.data.manifest_rows import parse_row, row_of
from avmix.data.tensor_file import TensorFileError
from avmix.label_sets import has_one_of_each, label_sets
from avmix.media.log_mel import log_mel_of_clips
from avmix.system import strict_json
from avmix.system.atomic_files import replace_text, replacing
from avmix.types import Entry

_ONE, _SEVERAL = "single", "multi"
"""How many labels a clip has, in `dataset.json`; without a word, one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """One split of a dataset."""

    classes: tuple[str, ...]
    """Names of all classes, in the order of the network's outputs."""
    protocol: str
    """Which split of which dataset this is, for example `ucf101_av8/split1`."""
    split: str
    """`train`, `val` or `test`."""
    entries: Sequence[Entry]
    """The clips, in the order of the file: a tuple, or a `ClipList` that reads each when asked."""
    sha256: str
    """Hash of the split's file, as noted in `dataset.json` and checked on reading."""
    several_labels: bool = False
    """Clips may have several labels: `dataset.json` says so, or one of them has."""
    label_sets: tuple[str, ...] = ()
    """Names of the sets (`avmix.label_sets`) of each of which every clip has one label; none: of
    all classes."""
    tail_classes: tuple[str, ...] = ()
    """Rare classes, whose clips are also evaluated by themselves."""

    @property
    def label_numbers(self) -> Int64[np.ndarray, " n"]:
        """Number of the first class of each clip; -1 where it has none."""
        if isinstance(self.entries, ClipList):
            return self.entries.known.label[self.entries.rows]
        number = {name: k for k, name in enumerate(self.classes)}
        return np.array([number[e.labels[0]] if e.labels else -1 for e in self.entries], np.int64)

    @property
    def source_numbers(self) -> Int64[np.ndarray, " n"]:
        """A number for each clip, the same for clips of one source."""
        if isinstance(self.entries, ClipList):
            return self.entries.known.source[self.entries.rows]
        numbers: dict[str, int] = {}
        found = [numbers.setdefault(e.source_id, len(numbers)) for e in self.entries]
        return np.array(found, np.int64)

    @property
    def not_one_label(self) -> Entry | None:
        """The first clip that has not exactly one label, if there is one. A `ClipList` is not read
        where the header says that there is none."""
        several = self.several_labels or self.label_sets
        if isinstance(self.entries, ClipList) and not several:
            return None
        return next((entry for entry in self.entries if not entry.has_one_label), None)

    @property
    def empty_classes(self) -> list[str]:
        """Classes without any clip."""
        if self.several_labels or self.label_sets:
            present = {label for entry in self.entries for label in entry.labels}
        else:
            present = {self.classes[number] for number in np.unique(self.label_numbers)}
        return [name for name in self.classes if name not in present]


def splits_of(folder: Path) -> tuple[str, ...]:
    """Names of the splits of the dataset in `folder`; `ManifestError` where there is none."""
    names = tuple(read_header(folder)["splits"])
    if not names:
        raise ManifestError(f"{folder / 'dataset.json'}: lists no split; prepare the dataset again")
    return names


def read_manifest(folder: Path, split: str) -> Manifest:
    """Read and validate one split of a dataset.

    Raises `ManifestError` where a file is missing or was changed since it was written, a line is
    not a valid `Entry`, an id occurs twice, a label is not a class, the split is empty, or a
    synthetic clip is in another split than train. A class may have no clip: a part of a dataset
    keeps the classes of the whole, so that networks for one fit the other; training says which.
    """
    header, path = header_with(folder, split), folder / f"{split}.jsonl"
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        raise ManifestError(f"{path}: not found, though dataset.json lists the split") from None
    sha256 = hashlib.sha256(text).hexdigest()
    check_hash(sha256, header, split, path)
    entries = tuple(
        parse_row(line, f"{path}:{number}")
        for number, line in enumerate(_decoded(text, path).split("\n"), 1)  # not at U+2028
        if line.strip()
    )
    classes = tuple(header["classes"])
    sets = _names_of(header, "label_sets", path.parent)
    _check(entries, classes, split, path, sets)
    return Manifest(
        classes=classes,
        protocol=header["protocol"],
        split=split,
        entries=entries,
        sha256=sha256,
        several_labels=_several(header, path.parent) or not all(e.has_one_label for e in entries),
        label_sets=sets,
        tail_classes=_names_of(header, "tail_classes", path.parent),
    )


def open_manifest(folder: Path, split: str, *, verify: bool = False) -> Manifest:
    """As `read_manifest`; but where the list has an index, which `avmix features` writes, no clip
    is read before it is asked for. `verify`: read the list once and compare its hash."""
    if not index_path(folder, split).exists():
        return read_manifest(folder, split)
    header, path = header_with(folder, split), folder / f"{split}.jsonl"
    classes, sha256 = tuple(header["classes"]), header["splits"][split]["sha256"]
    try:
        if verify:
            with path.open("rb") as file:
                check_hash(hashlib.file_digest(file, "sha256").hexdigest(), header, split, path)
        index = read_index(folder, split, num_classes=len(classes), sha256=sha256)
    except FileNotFoundError:
        raise ManifestError(f"{path}: not found, though dataset.json lists the split") from None
    except (ClipListError, TensorFileError) as error:
        raise ManifestError(str(error)) from None
    return Manifest(
        classes=classes,
        protocol=header["protocol"],
        split=split,
        entries=ClipList(path, index, parse_row),
        sha256=sha256,
        several_labels=_several(header, folder),
        label_sets=_names_of(header, "label_sets", folder),
        tail_classes=_names_of(header, "tail_classes", folder),
    )


def write_manifest(
    folder: Path,
    *,
    classes: Sequence[str],
    protocol: str,
    splits: Mapping[str, Sequence[Entry]],
    notes: Mapping[str, Any] | None = None,
    leaks: str = "",
    label_sets: Sequence[str] = (),
    tail_classes: Sequence[str] = (),
) -> None:
    """Write a dataset: every split, then `dataset.json`, validated as reading would.

    `notes` go into `dataset.json` as they are: how the set was generated, from what. `leaks` says
    why sources are in two splits where the protocol is defined so: it is kept in the header, and
    without it a source in two splits is an error. `label_sets` and `tail_classes` are those of
    `Manifest`. The header is written last and atomically, so that a killed run leaves no dataset
    rather than half of one. Raises `ManifestError` as `read_manifest` does, before anything is
    written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for split, entries in splits.items():
        _check(tuple(entries), tuple(classes), split, folder / f"{split}.jsonl", label_sets)
    if not leaks:
        _check_disjoint(splits, folder)
    header: dict[str, Any] = {
        "format": FORMAT,
        "protocol": protocol,
        **({"leaks": leaks} if leaks else {}),
        "classes": list(classes),
        **(
            {}
            if all(e.has_one_label for some in splits.values() for e in some)
            else {"labels": _SEVERAL}
        ),
        **({"label_sets": list(label_sets)} if label_sets else {}),
        **({"tail_classes": list(tail_classes)} if tail_classes else {}),
        "splits": {},
        **({"log_mel": found} if (found := log_mel_of_clips(splits.get("train", ()))) else {}),
        "notes": dict(notes or {}),
    }
    _names_of(header, "tail_classes", folder)
    for split, entries in splits.items():
        sha256 = hashlib.sha256()
        with replacing(folder / f"{split}.jsonl") as file:
            for entry in entries:  # not all at once: there may be millions
                line = row_of(entry).encode() + b"\n"
                sha256.update(line)
                file.write(line)
        header["splits"][split] = {
            "num_clips": len(entries),
            "num_with_audio": sum(e.audio is not None for e in entries),
            "per_class": dict(sorted(Counter(c for e in entries for c in e.labels).items())),
            "sha256": sha256.hexdigest(),
        }
    replace_text(folder / "dataset.json", strict_json.dumps(header, indent=2) + "\n")


@dataclass(frozen=True, slots=True)
class LogMel:
    """Mean and standard deviation of the log-mels of a train split, as preparation measured
    them."""

    mean: float
    std: float
    """Standard deviation, > 0."""


def read_log_mel(folder: Path) -> LogMel | None:
    """Log-mel statistics in the header of the dataset in `folder`; None where it was prepared by an
    older version or has no audio. Raises `ManifestError` for invalid numbers."""
    said = read_header(folder).get("log_mel")
    if said is None:
        return None
    try:
        found = LogMel(float(said["mean"]), float(said["std"]))
    except (TypeError, KeyError, ValueError) as error:
        raise ManifestError(f"{folder / 'dataset.json'}: log_mel: {error!r}") from None
    if not (math.isfinite(found.mean) and 0 < found.std < math.inf):
        raise ManifestError(f"{folder / 'dataset.json'}: log_mel: {said} are not finite")
    return found


def _check_labels(entry: Entry, where: str) -> None:
    """Raise `ManifestError` for lists of labels that contradict each other."""
    seen, heard = entry.video_labels, entry.audio_labels
    if (seen is None) != (heard is None):
        raise ManifestError(f"{where}: video_labels and audio_labels are given both or not at all")
    if seen is not None and heard is not None and {*seen, *heard} != {*entry.labels}:
        raise ManifestError(
            f"{where}: labels {list(entry.labels)} must be those of video_labels {list(seen)} and "
            f"audio_labels {list(heard)} together"
        )
    if both := sorted({*entry.unknown_labels} & {*entry.labels}):
        raise ManifestError(f"{where}: {both[0]!r} is in labels and in unknown_labels")


def _several(header: Mapping[str, Any], folder: Path) -> bool:
    """Whether the header says that clips may have several labels."""
    said = header.get("labels", _ONE)
    if said not in (_ONE, _SEVERAL):
        raise ManifestError(
            f"{folder / 'dataset.json'}: labels must be {_ONE} or {_SEVERAL}, got {said!r}"
        )
    return said == _SEVERAL


def _names_of(header: Mapping[str, Any], key: str, folder: Path) -> tuple[str, ...]:
    """A list of names that the header may have; `tail_classes` are classes."""
    found = header.get(key, [])
    named = isinstance(found, list) and all(isinstance(name, str) for name in found)
    if not named or len({*found}) < len(found):
        raise ManifestError(f"{folder / 'dataset.json'}: {key} must be names, each once")
    if key == "tail_classes" and (more := sorted({*found} - {*header["classes"]})):
        raise ManifestError(f"{folder / 'dataset.json'}: {key}: {more[0]!r} is not a class")
    return tuple(found)


def _decoded(text: bytes, path: Path) -> str:
    try:
        return text.decode()
    except UnicodeDecodeError as error:
        raise ManifestError(f"{path}: not UTF-8: {error}") from None


def _check(
    entries: tuple[Entry, ...],
    classes: tuple[str, ...],
    split: str,
    path: Path,
    set_names: Sequence[str] = (),
) -> None:
    if not entries:
        raise ManifestError(f"{path}: the split {split!r} has no clips")
    if len({entry.clip_id for entry in entries}) < len(entries):
        twice = [i for i, n in Counter(e.clip_id for e in entries).items() if n > 1]
        raise ManifestError(f"{path}: clip_id {twice[0]!r} occurs more than once")
    known = frozenset(classes)
    try:
        sets = label_sets(classes, set_names)
    except ValueError as error:
        raise ManifestError(f"{path.parent / 'dataset.json'}: {error}") from None
    for entry in entries:
        unknown = [x for x in (*entry.labels, *entry.unknown_labels) if x not in known]
        if unknown:
            raise ManifestError(
                f"{path}: clip {entry.clip_id!r} has label {unknown[0]!r}, which is not a class"
            )
        _check_labels(entry, f"{path}: clip {entry.clip_id!r}")
        plain = entry.video_labels is None and not entry.unknown_labels
        if sets and not (plain and has_one_of_each(entry.labels, sets)):
            raise ManifestError(
                f"{path}: clip {entry.clip_id!r} must have one label of each of the label sets "
                f"{', '.join(set_names)}, none unknown and none for one modality alone; it has "
                f"{', '.join(entry.labels) or 'none'}"
            )
    made = [entry.clip_id for entry in entries if entry.synthetic is not None]
    if made and split != "train":
        raise ManifestError(
            f"{path}: clip {made[0]!r} is synthetic and in split {split!r}: "
            "synthetic clips are for training only; leave it out"
        )


def _check_disjoint(splits: Mapping[str, Sequence[Entry]], folder: Path) -> None:
    seen: dict[str, str] = {}
    for split, entries in splits.items():
        for source in {e.source_id for e in entries}:
            if source in seen:
                raise ManifestError(
                    f"{folder}: source {source!r} is in {seen[source]!r} and in {split!r}: "
                    "a leak; split by source"
                )
            seen[source] = split
