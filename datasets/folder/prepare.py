"""Make a manifest of your own clips: one folder per class, or a CSV that names them.

    python datasets/folder/prepare.py --media my_clips --out data/mine
    python datasets/folder/prepare.py --media my_clips --annotations clips.csv --out data/mine

The first reads my_clips/CLASS/anything.mp4. The CSV has the columns path and label, and may have
start, end (seconds), split and source. Where no split is given, clips are dealt out to train, val
and test by source, so that what was cut from one recording stays in one split. `--source` says
which part of a file name is the source; without it every file is a source of its own.
"""

import hashlib
import re
import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path

from avmix.prepare.annotations import AnnotationError, Annotations, Row
from avmix.prepare.expected import Protocol
from avmix.prepare.recipe import run_recipe

ENDINGS = {".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".ts", ".mpg", ".mpeg", ".flv"}
SPLITS = ("train", "val", "test")


def arguments(parser: ArgumentParser) -> None:
    """What only this recipe has."""
    parser.add_argument("--val", type=float, default=0.1, help="share of the sources (0.1)")
    parser.add_argument("--test", type=float, default=0.2, help="share of the sources (0.2)")
    parser.add_argument(
        "--source",
        type=_pattern,
        help="regular expression at the start of a file name (without ending) whose first group, "
        r"or whole match, is the source, whatever the class; UCF101: '(v_\w+_g\d+)'. "
        "Default: every file is its own source",
    )


def protocols(options: Namespace) -> list[Protocol]:
    """Of the CSV where there is one, else of the folders."""
    media = Path(options.media)
    table = Path(options.annotations)
    read = Annotations(media)
    if table.is_dir():
        _from_folders(read, media, options)
    else:
        _from_table(read, table, options)
    classes = sorted({label for clip in read.clips.values() for label in clip.labels})
    return [read.protocol(f"folder/{media.resolve().name}", classes)]


def _from_folders(read: Annotations, media: Path, options: Namespace) -> None:
    for path in sorted(media.glob("*/**/*")):
        if path.suffix.lower() in ENDINGS:
            name = path.relative_to(media)
            row = Row(cells={}, where=name.as_posix(), text=name.as_posix())
            source = _source(name, options.source)
            if source is None:
                raise AnnotationError(
                    f"{path}: --source {options.source!r} does not match its name"
                )
            read.add(
                row,
                clip_id=name.as_posix(),
                split=split_of(source, options.val, options.test),
                labels=[name.parts[0]],
                source_id=source,
                names=[name.as_posix()],
            )
    if not read.clips:
        known = " ".join(sorted(ENDINGS))
        raise AnnotationError(f"{media}: no CLASS/FILE with one of the endings {known}")


def _from_table(read: Annotations, table: Path, options: Namespace) -> None:
    optional = ("start", "end", "split", "source")
    for row in read.csv(table, ("path", "label"), optional=optional):
        stretch = {c: read.number(row, c) for c in ("start", "end") if row[c]}
        if None in stretch.values():
            continue
        path = Path(row["path"])
        source = row["source"] or _source(path, options.source)
        if source is None:
            read.drop(row, f"--source {options.source!r} does not match its name")
            continue
        split = row["split"].casefold() or split_of(source, options.val, options.test)
        if split not in SPLITS:
            read.drop(row, f"split {row['split']!r} is not one of {', '.join(SPLITS)}")
            continue
        labels = [label.strip() for label in row["label"].split("|") if label.strip()]
        low, high = stretch.get("start"), stretch.get("end")
        part = "" if low is None and high is None else f"@{row['start']}-{row['end']}"
        read.add(
            row,
            clip_id=row["path"] + part,
            split=split,
            labels=labels,
            source_id=source,
            names=[row["path"]],
            start_seconds=low,
            end_seconds=high,
        )


def _pattern(text: str) -> str:
    re.compile(text)
    return text


def _source(path: Path, pattern: str | None) -> str | None:
    """The recording that the file was cut from; None where `--source` does not match."""
    if pattern is None:
        return path.as_posix()
    found = re.match(pattern, path.stem)
    return None if found is None else found.group(1) if found.re.groups else found.group(0)


def split_of(source_id: str, val_share: float, test_share: float) -> str:
    """`train`, `val` or `test`: by a hash of the source, so that more files change nothing."""
    digest = hashlib.sha256(source_id.encode()).digest()
    at = int.from_bytes(digest[:8], "big") / 2**64
    return "test" if at < test_share else "val" if at < test_share + val_share else "train"


if __name__ == "__main__":
    sys.exit(run_recipe("folder", __doc__, protocols, arguments=arguments))
