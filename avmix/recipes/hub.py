"""Copies of datasets on the Hub: Parquet files with the bytes of video, as mteb/UCF101-51VA.

    avmix prepare hub --root UCF101-51VA --out data/hub_ucf101
    avmix prepare hub --snapshot mteb/UCF101-51VA@COMMIT --root UCF101-51VA --out data/hub_ucf101

Clips are read out of the Parquet files, in training too: nothing is unpacked. The split of a file
is in its name (train-00000-of-00004.parquet) or its folder (train/0000.parquet). The audio of a
further column is used where the media file of a row has none; such clips are counted as
separate_audio. Needs pyarrow (pip install '.[parquet]' in the checkout), and for --snapshot
huggingface_hub.
"""

import json
import re
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from avmix.decode.errors import ClipError
from avmix.decode.parquet_cells import Cells, leaf_of, open_parquet
from avmix.media.folder_walk import is_hidden
from avmix.prepare.annotation_rows import AnnotationError, Row
from avmix.prepare.annotation_values import SPLIT_WORDS, plain
from avmix.prepare.annotations import Annotations
from avmix.prepare.protocol import Protocol

if TYPE_CHECKING:
    from pyarrow.parquet import ParquetFile

_LABELS = ("label", "labels", "class", "action", "category")
"""What the column of labels may be called, the one to take first."""
_SNAPSHOT = re.compile(r"([\w.-]+/[\w.-]+)@([0-9a-f]{40})", re.ASCII)
_COLUMN = re.compile(r"\w{1,64}", re.ASCII)
_MOST_LETTERS = 512
"""Of a label, a source, or the name of a file."""
_ROWS_PER_READ = 1024
_LARGE_GROUP = 128 << 20


@dataclass(frozen=True, slots=True)
class _Columns:
    """What is read of a Parquet file."""

    video: str
    audio: str
    """Empty where there is none."""
    label: str
    names: tuple[str, ...]
    """Of the classes, where labels are numbers and the file says what they mean."""
    source: str
    """Column of the source, or the field of the video column with the name of its file; empty:
    neither."""


def arguments(parser: ArgumentParser) -> None:
    """What only this recipe has."""
    add = parser.add_argument
    add("--snapshot", metavar="REPO@COMMIT", help="first download the Parquet files of this "
        "dataset of the Hub, at this commit (40 hex digits), into --root")  # fmt: skip
    add(
        "--video-column",
        "--video_column",
        default="video",
        help="column of the media files (video)",
    )
    add("--audio-column", "--audio_column", default="audio", help="column of separate audio, which "
        "may be absent; an empty name: it is not used (audio)")  # fmt: skip
    add("--label-column", "--label_column", default="", help="column of the label: a name, a "
        f"number, or a list of them (the first of {', '.join(_LABELS)})")  # fmt: skip
    add("--source-column", "--source_column", default="", help="column of the recording, person or "
        "group that a clip is of (the name of its media file, where there is one)")  # fmt: skip
    add("--source", type=_pattern, help="regular expression at the start of what the column of the "
        "source says, without ending, whose first group, or whole match, is the source; UCF101: "
        r"'(v_\w+_g\d+)'. Default: every row is its own source")  # fmt: skip


def protocols(options: Namespace) -> list[Protocol]:
    """One, of all Parquet files below the media folder."""
    media, name = Path(options.media), f"hub/{Path(options.media).resolve().name}"
    for option in ("video", "audio", "label", "source"):
        column = getattr(options, f"{option}_column")
        if not _COLUMN.fullmatch(column) and (column or option == "video"):
            raise AnnotationError(
                f"--{option}-column {column!r}: letters, digits and _ only; rename the column"
            )
    if options.snapshot:
        name = f"hub/{_download(options.snapshot, media)}"
    read = Annotations(media, official=True)
    numbers: tuple[str, ...] | None = None
    of_numbers: set[str] = set()
    for relative in _files_of(media):
        path = str(media / relative)
        try:
            file = open_parquet(path)
            columns = _columns_of(file, path, options)
        except ImportError as error:
            raise AnnotationError(str(error)) from None
        except ClipError as error:
            raise AnnotationError(str(error)) from None
        if numbers is not None and numbers != columns.names:
            raise AnnotationError(f"{path}: its names of classes are not those of the files before")
        numbers = columns.names
        _remark_groups(read, file, relative, columns)
        of_numbers |= _read_file(read, file, relative, columns, options.source)
    used = {label for clip in read.clips.values() for label in clip.labels}
    if of_numbers and of_numbers != used:
        raise AnnotationError(f"{media}: labels are numbers in some files and names in others")
    if of_numbers:
        read.remark("classes", "the files do not say what the numbers of the classes mean: "
                    "they are called by them")  # fmt: skip
        return read.protocols(name, sorted(used, key=int), sources="sources")
    return read.protocols(name, numbers or sorted(used), sources="sources")


def _read_file(
    read: Annotations, file: "ParquetFile", relative: str, columns: _Columns, source: str | None
) -> set[str]:
    """Add the rows of a file; the labels that are numbers without a name."""
    import pyarrow as pa

    split = _split_of(relative)
    of_numbers: set[str] = set()
    try:
        for group, number, row in _rows_of(file, columns):
            where = f"{relative}: row {number} of row group {group}"
            said = Row(cells={}, where=where, text=where)
            labels = _labels_of(row["label"], columns.names)
            if isinstance(labels, str):
                read.drop(said, labels)
                continue
            if not columns.names and not isinstance(labels[0], str):
                of_numbers |= set(map(str, labels))
            clip_id = f"{relative}/{group}/{number}"
            of = _source_of(row["source"], source)
            if of is None:
                raise AnnotationError(f"{where}: --source does not match {row['source']!r}")
            read.add(
                said,
                clip_id=clip_id,
                split=split,
                labels=list(dict.fromkeys(map(str, labels))),
                source_id=of or clip_id,
                names=[str(Cells(relative, group, number, columns.video, columns.audio))],
            )
    except (pa.ArrowException, OSError) as error:
        raise AnnotationError(f"{read.folder / relative}: cannot be read: {error}") from None
    return of_numbers


def _rows_of(file: "ParquetFile", columns: _Columns) -> Iterator[tuple[int, int, dict[str, Any]]]:
    """Row group, row in it, and what it says of the clip; the bytes of media are not read."""
    wanted = [columns.label, *([columns.source] if columns.source else [])]
    for group in range(file.num_row_groups):
        number = 0
        for batch in file.iter_batches(
            _ROWS_PER_READ, row_groups=[group], columns=wanted, use_threads=False
        ):
            labels = batch.column(batch.schema.get_field_index(columns.label)).to_pylist()
            sources: list[Any] = [None] * len(labels)
            if columns.source:
                outer, _, field = columns.source.partition(".")
                sources = batch.column(batch.schema.get_field_index(outer)).to_pylist()
                if field:
                    sources = [None if s is None else s[field] for s in sources]
            for label, source in zip(labels, sources, strict=True):
                yield group, number, {"label": label, "source": source}
                number += 1


def _columns_of(file: "ParquetFile", path: str, options: Namespace) -> _Columns:
    """Which columns are read; `MediaOpenError` and `AnnotationError` where one is missing."""
    schema = file.schema_arrow
    video = leaf_of(file, path, options.video_column)
    names = schema.names
    audio = options.audio_column if options.audio_column in names else ""
    if audio:
        leaf_of(file, path, audio)
    elif options.audio_column not in ("", "audio"):
        raise AnnotationError(f"{path}: has no column {options.audio_column!r} (--audio-column)")
    wanted = [options.label_column] if options.label_column else _LABELS
    label = next((name for name in wanted if names.count(name) == 1), None)
    if label is None:
        raise AnnotationError(
            f"{path}: no column {' or '.join(wanted)}; it has: {', '.join(names[:12])}; name the "
            "column of the label with --label-column"
        )
    source = options.source_column
    if source and names.count(source) != 1:
        raise AnnotationError(f"{path}: has no column {source!r} (--source-column)")
    if not source and options.source and video.endswith(".bytes"):
        kind = schema.field(options.video_column).type
        if kind.get_field_index("path") >= 0:
            source = f"{options.video_column}.path"
    if options.source and not source:
        raise AnnotationError(
            f"{path}: --source cannot act: no column has names of files; use --source-column"
        )
    return _Columns(options.video_column, audio, label, _names_of(schema, path, label), source)


def _names_of(schema: Any, path: str, label: str) -> tuple[str, ...]:
    """Names of the classes, as `datasets` notes them in the header; empty where it does not."""
    said = (schema.metadata or {}).get(b"huggingface")
    try:
        feature = json.loads(said)["info"]["features"][label] if said else {}
        feature = feature.get("feature", feature)  # of a list
        names = feature.get("names")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return ()
    if names is None:
        return ()
    good = isinstance(names, list) and all(isinstance(n, str) and n.strip() for n in names)
    if not good or len({*names}) < len(names) or max(map(len, names), default=0) > _MOST_LETTERS:
        raise AnnotationError(f"{path}: the names of the classes in its header are not names")
    return tuple(names)


def _labels_of(value: Any, names: Sequence[str]) -> Sequence[str] | Sequence[int] | str:
    """The labels of a row, or why there is none."""
    values = value if isinstance(value, list) else [value]
    if not values or any(one is None for one in values):
        return "has no label"
    if all(isinstance(one, str) for one in values):
        labels = [str(one).strip() for one in values]
        if not all(0 < len(one) <= _MOST_LETTERS for one in labels):
            return "its label is empty or too long"
        if names and (more := [one for one in labels if one not in names]):
            return f"label {more[0]!r} is not one of the {len(names)} classes in the header"
        return labels
    if all(type(one) is int for one in values):
        if not names:
            return [int(one) for one in values]
        if not all(0 <= one < len(names) for one in values):
            return f"label {values} is not below {len(names)}, the number of classes in the header"
        return [str(names[int(one)]) for one in values]
    return f"label {str(value)[:80]!r} is neither a name nor a number"


def _source_of(value: Any, pattern: str | None) -> str | None:
    """The source that a column states; empty: the row is one of its own. None: no match."""
    if value is None or value == "":
        return ""
    text = str(value)[:_MOST_LETTERS]
    if pattern is None:
        return text
    found = re.match(pattern, Path(text).stem)
    return None if found is None else found[1] if found.re.groups else found[0]


def _files_of(media: Path) -> list[str]:
    """The Parquet files below a folder, relative to it."""
    if not media.is_dir():
        raise AnnotationError(f"{media}: no such folder (--root)")
    found = sorted(path.relative_to(media) for path in media.rglob("*.parquet") if path.is_file())
    shown = [path.as_posix() for path in found if not any(map(is_hidden, path.parts))]
    if not shown:
        raise AnnotationError(f"{media}: no .parquet file in it; is --root the right folder?")
    return shown


def _split_of(relative: str) -> str:
    """The split that the name of a file or its folder says."""
    path = Path(relative)
    words = [re.split(r"[-.]", path.name)[0], *reversed(path.parts[:-1])]
    found = next((SPLIT_WORDS[plain(word)] for word in words if plain(word) in SPLIT_WORDS), None)
    if found is None:
        raise AnnotationError(
            f"{relative}: neither its name nor a folder of it is train, val or test; rename it, as "
            "test-00000-of-00001.parquet"
        )
    return found


def _remark_groups(
    read: Annotations, file: "ParquetFile", relative: str, columns: _Columns
) -> None:
    """Say where training in random order has much to read for each clip."""
    sizes = [
        sum(
            chunk.total_compressed_size
            for chunk in map(group.column, range(group.num_columns))
            if chunk.path_in_schema.split(".")[0] in (columns.video, columns.audio)
        )
        for group in map(file.metadata.row_group, range(file.num_row_groups))
    ]
    if sizes and max(sizes) > _LARGE_GROUP:
        read.remark(relative, f"a row group has up to {max(sizes) >> 20} MiB of media, half of "
                    "which is read for a clip in random order: write it with fewer rows a group, "
                    "or use --transcode")  # fmt: skip


def _download(reference: str, folder: Path) -> str:
    """Fetch the Parquet files of `REPO@COMMIT`; returns the name of the repository."""
    found = _SNAPSHOT.fullmatch(reference)
    if found is None:
        raise AnnotationError(
            f"--snapshot {reference}: must be USER/NAME@COMMIT with the 40 hex digits of a commit"
        )
    try:
        hub: Any = import_module("huggingface_hub")
    except ImportError:
        raise AnnotationError(
            f"--snapshot {reference}: huggingface_hub is not installed: pip install '.[hub]' in "
            "the checkout"
        ) from None
    try:
        hub.snapshot_download(
            found[1], repo_type="dataset", revision=found[2], local_dir=folder,
            allow_patterns=["*.parquet", "README.md"], library_name="avmix",
        )  # fmt: skip
    except Exception as error:  # whatever a client raises that finds no server
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise AnnotationError(f"--snapshot {reference}: {reason}") from None
    return found[1]


def _pattern(text: str) -> str:
    re.compile(text)
    return text
