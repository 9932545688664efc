"""Kinetics-400, -600 or -700-2020.

    avmix prepare kinetics --root k400 --annotations k400/annotations --out data/k400

The release is known by the number of classes; where rows are a part of it, `--protocol` says it:
kinetics/400, kinetics/600 or kinetics/700_2020.
"""

from argparse import Namespace
from collections import Counter
from pathlib import Path
from statistics import median

from avmix.prepare.annotation_rows import AnnotationError, Row
from avmix.prepare.annotations import Annotations, asked_of
from avmix.prepare.clip_file_names import kinetics_names, kinetics_stem
from avmix.prepare.protocol import Protocol

COLUMNS = ("label", "youtube_id", "time_start", "time_end")
NUM_CLASSES = {"kinetics/400": 400, "kinetics/600": 600, "kinetics/700_2020": 700}
PUBLISHED = {"kinetics/400": {"train": 246_534, "val": 19_906, "test": 39_805}}
SPLITS = {
    "train": ("train", "kinetics_train", "kinetics*train"),
    "val": ("val", "validate", "validation", "kinetics_val", "kinetics*val*"),
    "test": ("test", "kinetics_test", "kinetics*test"),
}


def protocols(options: Namespace) -> list[Protocol]:
    """The release whose annotations these are, and where it leaks the same without what leaks."""
    read = Annotations(options.annotations, official=True)
    rows: list[tuple[str, Row]] = []
    for split, names in SPLITS.items():
        # Of Kinetics-600 the .txt is complete and the .csv is not.
        files = [f"{name}{ending}" for name in names for ending in (".txt", ".csv")]
        path = read.need(*files) if split == "train" else read.find(*files)
        if path is not None:
            rows += [(split, row) for row in _rows(read, path)]
    classes = _classes(read, rows)
    name = _release(options, classes, read)
    for split, row in rows:
        label = row["label"] if row["label"] in classes else read.label(row, row["label"], classes)
        if label is not None:
            _clip(read, row, split, label)
    return read.protocols(name, classes, published=PUBLISHED.get(name), sources="videos")


def _rows(read: Annotations, path: Path) -> list[Row]:
    """The rows; none, and a remark, where the labels of the test split are withheld."""
    header = next(read.lines(path))["line"].casefold()
    if "youtube_id" in header and "label" not in header:
        count = sum(1 for _ in read.lines(path)) - 1
        read.remark(path.name, f"{count} rows without labels: not used", dropped=True)
        return []
    return list(read.csv(path, COLUMNS, optional=("split", "is_cc")))


def _classes(read: Annotations, rows: list[tuple[str, Row]]) -> list[str]:
    """The labels of train; without those of a single row where the usual class has many: typos."""
    counts = Counter(row["label"] for split, row in rows if split == "train")
    if not counts:
        raise AnnotationError(f"{read.folder}: no row of train can be used")
    usual = median(counts.values())
    return sorted(label for label, count in counts.items() if count > 1 or usual < 5)


def _release(options: Namespace, classes: list[str], read: Annotations) -> str:
    asked = asked_of(options.protocol, NUM_CLASSES)
    counted = [name for name, number in NUM_CLASSES.items() if number == len(classes)]
    if not asked and not counted:
        raise AnnotationError(
            f"{read.folder}: {len(classes)} classes, not 400, 600 or 700; say which release this "
            f"is a part of: --protocol {' or '.join(NUM_CLASSES)}"
        )
    name = (asked or counted)[0]
    if len(classes) != NUM_CLASSES[name]:
        read.remark(read.folder.name, f"{len(classes)} classes; {name} has {NUM_CLASSES[name]}")
    return name


def _clip(read: Annotations, row: Row, split: str, label: str) -> None:
    low, high = read.number(row, "time_start"), read.number(row, "time_end")
    if low is None or high is None:
        return
    youtube_id = row["youtube_id"]
    if high <= low:
        read.drop(row, f"from {low:g} s to {high:g} s is no stretch of time")
        return
    read.add(
        row,
        clip_id=kinetics_stem(youtube_id, low, high),
        split=split,
        labels=[label],
        source_id=youtube_id,
        names=kinetics_names(youtube_id, low, high, split=split, label=label),
        video=youtube_id,
        cut_seconds=(low, high),
        seconds=high - low,
    )
