"""Your own clips: one folder per class, or a table of files and labels.

    avmix prepare folder --root my_clips --out data/mine
    avmix prepare folder --root my_clips --annotations clips.csv --out data/mine

The first reads my_clips/CLASS/anything.mp4, or my_clips/train/CLASS/..., my_clips/val/CLASS/...,
my_clips/test/CLASS/... The table has the columns path and label, and may have start, end, split and
source. Where no split is given, the sources of each class are dealt out to train, val and test, so
that what was cut from one recording stays in one split. `--source` says which part of a file name
is the source; without it every file is a source of its own.
"""

import glob
import hashlib
import re
from argparse import ArgumentParser, Namespace
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from avmix.media.folder_walk import walk
from avmix.prepare.annotation_rows import AnnotationError, Row
from avmix.prepare.annotation_values import SPLIT_WORDS, clock_seconds, path_below, plain
from avmix.prepare.annotations import Annotations
from avmix.prepare.protocol import Expected, Protocol
from avmix.system.printing import listed

SPLITS = ("train", "val", "test")
COLUMNS = {
    "path": ("file", "filename", "file name", "filepath", "file path", "video", "video path",
             "clip", "clip path"),
    "label": ("class", "class name", "label name", "category", "action"),
    "start": ("start seconds", "start time", "begin", "onset"),
    "end": ("end seconds", "end time", "stop", "offset"),
    "split": ("subset", "set", "partition", "usage"),
    "source": ("group", "recording", "person", "subject", "speaker", "session"),
    "video_label": ("visible",),
    "audio_label": ("audible",),
    "unknown_label": ("unknown",),
}  # fmt: skip
"""Columns, and what else they are called in tables where none is called so."""
_LABELS = ("label", "video_label", "audio_label", "unknown_label")


VAL_SHARE, TEST_SHARE = 0.1, 0.2


def arguments(parser: ArgumentParser) -> None:
    """What only this recipe has."""
    for name, share in (("--val", VAL_SHARE), ("--test", TEST_SHARE)):
        parser.add_argument(name, type=float, default=share, help=f"share of the sources ({share})")
    parser.add_argument(
        "--source",
        type=_pattern,
        help="regular expression at the start of a file name (without ending) whose first group, "
        r"or whole match, is the source, whatever the class; UCF101: '(v_\w+_g\d+)'. "
        "Default: every file is its own source",
    )


def protocols(options: Namespace) -> list[Protocol]:
    """Of the table where there is one, else of the folders."""
    media = Path(options.media)
    table = Path(options.annotations)
    read = Annotations(media)
    if table.is_dir():
        _from_folders(read, media, options)
    else:
        _from_table(read, table, media, options)
    if read.clips and all(clip.split for clip in read.clips.values()):
        for name, share in (("val", VAL_SHARE), ("test", TEST_SHARE)):
            if getattr(options, name) != share:
                raise AnnotationError(f"--{name} cannot act: every clip has its split already")
    split_of = deal(read.clips.values(), options.val, options.test)
    read.clips = {
        clip_id: replace(clip, split=clip.split or split_of[clip.source_id])
        for clip_id, clip in read.clips.items()
    }
    clips = read.clips.values()
    classes = sorted({name for clip in clips for name in (*clip.labels, *clip.unknown_labels)})
    _remark(read, classes)
    return [read.protocol(f"folder/{media.resolve().name}", classes)]


def _from_folders(read: Annotations, media: Path, options: Namespace) -> None:
    found = walk(media)
    paths = [Path(file.path) for file in found.files]
    splits = _splits_of(media, {path.parts[0] for path in paths if len(path.parts) > 1})
    depth = 2 if splits else 1
    for path in paths:
        name = path.as_posix()
        row = Row(cells={}, where=name, text=name)
        if len(path.parts) <= depth:
            read.drop(row, f"lies in no folder of a class ({'SPLIT/' if splits else ''}CLASS/FILE)")
        elif name in found.links_again:
            read.drop(row, f"is a link to {found.links_again[name]}, which is used")
        else:
            source = _source(path, options.source)
            if source is None:
                raise AnnotationError(
                    f"{media / path}: --source {options.source!r} does not match its name"
                )
            read.add(
                row,
                clip_id=name,
                split=SPLIT_WORDS[plain(path.parts[0])] if splits else "",
                labels=[path.parts[depth - 1]],
                source_id=source,
                names=[name],
            )
    if not read.clips:
        others = (
            ", ".join(f"{n} {ending}" for ending, n in found.others.most_common(5)) or "nothing"
        )
        raise AnnotationError(
            f"{media}: no CLASS/FILE that is a media file; {len(paths)} media files lie in no "
            f"folder of a class; else there are: {others}"
        )


def _splits_of(media: Path, folders: set[str]) -> bool:
    """Whether the uppermost folders are splits; `AnnotationError` where only some of them are."""
    named = {name for name in folders if plain(name) in SPLIT_WORDS}
    splits = {SPLIT_WORDS[plain(name)] for name in named}
    if len(splits) > 1 and named != folders:
        rest = listed(sorted(folders - named))
        raise AnnotationError(
            f"{media}: {', '.join(sorted(named))} look like splits, and beside them are: {rest}; "
            "put the classes into the splits, or name the clips in a table (--annotations)"
        )
    return bool(named) and named == folders


def _from_table(read: Annotations, table: Path, media: Path, options: Namespace) -> None:
    for row in _rows(read, table):
        path = path_below(row["path"], media)
        if path is None:
            read.drop(row, f"{row['path']!r} does not lie below {media}")
            continue
        if row.where.endswith(":1") and not _is_there(media / path):
            known = "; ".join(f"{c}: {', '.join(names[:4])}" for c, names in COLUMNS.items())
            read.drop(row, "the first row names no file: a heading? Call the columns path and "
                      f"label (known, too, are {known})")  # fmt: skip
            continue
        stretch: dict[str, float | None] = {}
        for column in ("start", "end"):
            if row[column]:
                try:
                    stretch[column] = clock_seconds(row[column])
                except ValueError as error:
                    read.drop(row, f"{column} {error}")
                    break
        else:
            source = row["source"] or _source(Path(path), options.source)
            if source is None:
                read.drop(row, f"--source {options.source!r} does not match its name")
                continue
            split = SPLIT_WORDS.get(plain(row["split"]), "")
            if row["split"] and not split:
                read.drop(row, f"split {row['split']!r} is not one of {', '.join(SPLITS)}")
                continue
            low, high = stretch.get("start"), stretch.get("end")
            part = "" if low is None and high is None else f"@{row['start']}-{row['end']}"
            labels = {column: _names(row[column]) for column in _LABELS}
            of_all, seen, heard, unknown = labels.values()
            both = list(dict.fromkeys([*seen, *heard]))
            if both and {*of_all} != {*both}:
                read.drop(row, f"label {'|'.join(of_all)} must be those of video_label and "
                          f"audio_label together: {'|'.join(both)}")  # fmt: skip
                continue
            read.add(
                row,
                clip_id=path + part,
                split=split,
                labels=of_all,
                video_labels=seen if both else None,
                audio_labels=heard if both else None,
                unknown_labels=unknown,
                source_id=source,
                names=[path],
                start_seconds=low,
                end_seconds=high,
            )


def _names(cell: str) -> list[str]:
    """The labels of a cell, divided by |."""
    return [name.strip() for name in cell.split("|") if name.strip()]


def _rows(read: Annotations, table: Path) -> Iterable[Row]:
    """Rows with the columns of a table; of `FILE CLASS` with blanks between them, too."""
    first = next(iter(Annotations(read.folder).lines(table)))["line"]
    remark = first.startswith("# ") and not re.search(r"[,;|\t]", first)
    if re.fullmatch(r"[^,;|\t]+\.\w+ +[^,;|\t ]+", first):
        for row in read.lines(table):
            path, _, label = row["line"].rpartition(" ")
            if path.strip():
                cells = {**dict.fromkeys(_LABELS, ""), "path": path.strip(), "label": label}
                yield Row(cells=cells, where=row.where, text=row.text)
            else:
                read.drop(row, "not FILE CLASS")
        return
    optional = ("start", "end", "split", "source", *_LABELS[1:])
    yield from read.csv(table, ("path", "label"), optional=optional, aliases=COLUMNS,
                        comment="# " if remark else "")  # fmt: skip


def _is_there(path: Path) -> bool:
    """Whether a file may be called so; one without ending stands for any."""
    return (
        bool(path.suffix) or path.exists() or any(path.parent.glob(f"{glob.escape(path.name)}.*"))
    )


def deal(clips: Iterable[Expected], val_share: float, test_share: float) -> dict[str, str]:
    """The split of each source, so that every class has its share of its sources in each.

    Sources of a class are taken in the order of their hashes, the rarest class first: with other
    files few of them change their split. A source that has a split keeps it. Of two sources of a
    class one is for test, of three one for val, too.
    """
    labels: dict[str, set[str]] = defaultdict(set)
    split_of: dict[str, str] = {}
    for clip in clips:
        labels[clip.source_id].update(clip.labels)
        if clip.split:
            split_of.setdefault(clip.source_id, clip.split)
    sources = sorted(labels, key=lambda source: hashlib.sha256(source.encode()).digest())
    of_class: dict[str, list[str]] = defaultdict(list)
    for source in sources:
        for label in labels[source]:
            of_class[label].append(source)
    for label in sorted(of_class, key=lambda label: (len(of_class[label]), label)):
        group = of_class[label]
        wanted = _wanted(len(group), val_share, test_share)
        has = Counter(split_of[source] for source in group if source in split_of)
        for source in group:
            if source not in split_of:
                split = next((s for s in ("test", "val") if has[s] < wanted[s]), "train")
                split_of[source] = split
                has[split] += 1
    return split_of


def _wanted(count: int, val_share: float, test_share: float) -> Mapping[str, int]:
    """How many of so many sources of a class are for test and for val; one is left for train."""
    test = min(max(1, round(count * test_share)), count - 1) if test_share > 0 else 0
    left = count - test
    val = min(max(1, round(count * val_share)), left - 1) if val_share > 0 else 0
    return {"test": test, "val": val}


def _remark(read: Annotations, classes: list[str]) -> None:
    """Say which splits lack which classes, and which classes may be one."""
    clips = read.clips.values()
    splits = {clip.split for clip in clips}
    for split in SPLITS:
        there = {label for clip in clips if clip.split == split for label in clip.labels}
        lacks = [label for label in classes if label not in there]
        if split in splits and lacks:
            named = listed(lacks)
            read.remark(split, f"{len(lacks)} of {len(classes)} classes have no clip in it, having "
                        f"too few sources or other splits: {named}")  # fmt: skip
    same: dict[str, list[str]] = defaultdict(list)
    for label in classes:
        same[plain(label)].append(label)
    for names in same.values():
        if len(names) > 1:
            read.remark("classes", f"{' and '.join(names)} are different classes: they differ only "
                        "in case, blanks or signs")  # fmt: skip


def _pattern(text: str) -> str:
    re.compile(text)
    return text


def _source(path: Path, pattern: str | None) -> str | None:
    """The recording that the file was cut from; None where `--source` does not match."""
    if pattern is None:
        return path.as_posix()
    found = re.match(pattern, path.stem)
    return None if found is None else found.group(1) if found.re.groups else found.group(0)
