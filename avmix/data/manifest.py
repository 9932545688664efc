"""Manifests: the clips of a dataset and what probing measured of their files, as JSON lines.

A dataset is a folder with `dataset.json` (classes, protocol, counts, hash of every split) and one
JSON Lines file per split (`train.jsonl`, `val.jsonl`, `test.jsonl`), one `Entry` a line. The format
is described for people in `datasets/README.md`.
"""

import hashlib
import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from avmix.data.manifest_rows import ManifestError, parse_row, row_of
from avmix.label_sets import has_one_of_each, label_sets
from avmix.media.log_mel import log_mel_of_clips
from avmix.system import strict_json
from avmix.system.atomic_files import replace_text, replacing
from avmix.types import Entry

FORMAT = 1
"""Version of the format, in `dataset.json`; raised when an old reader would misread a new file."""
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
    entries: tuple[Entry, ...]
    """The clips, in the order of the file."""
    sha256: str
    """Hash of the split's file, as noted in `dataset.json` and checked on reading."""
    several_labels: bool = False
    """Clips may have several labels: `dataset.json` says so, or one of them has."""
    label_sets: tuple[str, ...] = ()
    """Names of the sets (`avmix.label_sets`) of each of which every clip has one label; none: of
    all classes."""
    tail_classes: tuple[str, ...] = ()
    """Rare classes, whose clips are also evaluated by themselves."""


def splits_of(folder: Path) -> tuple[str, ...]:
    """Names of the splits of the dataset in `folder`; `ManifestError` where there is none."""
    names = tuple(_read_header(folder)["splits"])
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
    header = _read_header(folder)
    if split not in header["splits"]:
        known = ", ".join(header["splits"]) or "none"
        raise ManifestError(f"{folder / 'dataset.json'}: no split {split!r}; it has: {known}")
    path = folder / f"{split}.jsonl"
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        raise ManifestError(f"{path}: not found, though dataset.json lists the split") from None
    sha256 = hashlib.sha256(text).hexdigest()
    if sha256 != header["splits"][split]["sha256"]:
        raise ManifestError(
            f"{path}: its hash differs from dataset.json: the file was changed after it was "
            "written; prepare the dataset again"
        )
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
    said = _read_header(folder).get("log_mel")
    if said is None:
        return None
    try:
        found = LogMel(float(said["mean"]), float(said["std"]))
    except (TypeError, KeyError, ValueError) as error:
        raise ManifestError(f"{folder / 'dataset.json'}: log_mel: {error!r}") from None
    if not (math.isfinite(found.mean) and 0 < found.std < math.inf):
        raise ManifestError(f"{folder / 'dataset.json'}: log_mel: {said} are not finite")
    return found


def read_events(*folders: Path) -> tuple[dict[str, tuple[float, ...]], str]:
    """Event times of each clip, and the hash of the files they were read from.

    `events.jsonl` beside each manifest, one `{"clip_id", "event_seconds"}` a line; seconds on the
    clock of the file, 0 is the first presented frame. Raises `ManifestError` where one is missing
    or a line is not of this form.
    """
    found: dict[str, tuple[float, ...]] = {}
    sha256 = hashlib.sha256()
    for path in (folder / "events.jsonl" for folder in folders):
        try:
            text = path.read_bytes()
        except FileNotFoundError:
            raise ManifestError(f"{path}: not found; `avmix events` writes it") from None
        sha256.update(hashlib.sha256(text).digest())
        for number, line in enumerate(text.split(b"\n"), 1):
            if line.strip():
                clip_id, seconds = _events(line, f"{path}:{number}")
                found[clip_id] = seconds
    return found, sha256.hexdigest()


def _events(line: bytes, where: str) -> tuple[str, tuple[float, ...]]:
    try:
        row = json.loads(line)
        seconds = tuple(float(second) for second in row["event_seconds"])
        if not all(map(math.isfinite, seconds)):
            raise ValueError(f"event_seconds {seconds}")
        return str(row["clip_id"]), seconds
    except (ValueError, TypeError, KeyError) as error:
        raise ManifestError(f"{where}: not a line of events: {error!r}") from None


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


def _read_header(folder: Path) -> dict[str, Any]:
    path = folder / "dataset.json"
    try:
        header = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise ManifestError(
            f"{path}: not found. Prepare the dataset first (see datasets/README.md), or set "
            "data.manifest to the folder that has it"
        ) from None
    except (ValueError, RecursionError) as error:
        raise ManifestError(f"{path}: not valid JSON: {error}") from None
    said = header if isinstance(header, dict) else {}
    missing = {"format", "protocol", "classes", "splits"} - said.keys()
    if missing:
        raise ManifestError(f"{path}: lacks {', '.join(sorted(missing))}")
    if header["format"] != FORMAT:
        raise ManifestError(f"{path}: format {header['format']}, this avmix reads {FORMAT}")
    classes, splits = header["classes"], header["splits"]
    named = isinstance(classes, list) and all(isinstance(name, str) for name in classes)
    if not named or len({*classes}) < len(classes):
        raise ManifestError(f"{path}: classes must be names, each once")
    if not isinstance(header["protocol"], str):
        raise ManifestError(f"{path}: protocol must be a name")
    if not isinstance(splits, dict) or not all(
        isinstance(split, dict) and isinstance(split.get("sha256"), str)
        for split in splits.values()
    ):
        raise ManifestError(f"{path}: splits must say the sha256 of each")
    return header


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


def empty_classes(entries: Sequence[Entry], classes: Sequence[str]) -> list[str]:
    """Classes without any clip."""
    present = {label for entry in entries for label in entry.labels}
    return [c for c in classes if c not in present]


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
