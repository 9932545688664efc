"""HMDB51: three official splits, video only.

    avmix prepare hmdb51 --root hmdb51 --annotations testTrainMulti_7030_splits \
        --out data/hmdb51 --protocol hmdb51/split1
"""

import re
from argparse import Namespace

from avmix.prepare.annotation_rows import AnnotationError, Row
from avmix.prepare.annotations import Annotations
from avmix.prepare.protocol import Protocol

SPLITS = {"1": "train", "2": "test"}
UNUSED = "0"  # in neither list of this split
TAIL = r"_[a-z]+_[a-z]+_np\d+_[a-z]+_[a-z]+_\d+"
"""Visible body parts, camera, people, view, quality, number."""


def protocols(options: Namespace) -> list[Protocol]:
    """Splits 1 to 3, each as published and disjoint."""
    return [
        protocol
        for number in (1, 2, 3)
        for protocol in _protocols(Annotations(options.annotations, official=True), number)
    ]


def _protocols(read: Annotations, number: int) -> list[Protocol]:
    ending = f"_test_split{number}.txt"
    files = {path.name.removesuffix(ending): path for path in read.folder.rglob(f"*{ending}")}
    if not files:
        raise AnnotationError(f"{read.folder}: no CLASS{ending} in it")
    for label, path in sorted(files.items()):
        for row in read.lines(path):  # names begin with "#": nothing is a comment
            _clip(read, row, label)
    return read.protocols(f"hmdb51/split{number}", sorted(files), sources="films")


def _clip(read: Annotations, row: Row, label: str) -> None:
    name, _, kind = row["line"].rpartition(" ")
    name = name.strip()
    if kind == UNUSED:
        return
    if kind not in SPLITS or not name.endswith(".avi"):
        read.drop(row, "not FILE.avi and 0, 1 or 2")
        return
    stem = name.removesuffix(".avi")
    film = re.fullmatch(rf"(.+)_{re.escape(label)}{TAIL}", stem)
    if film is None:
        read.note(row, "its name does not say which film it is from: taken for one of its own")
    read.add(
        row,
        clip_id=f"{label}/{stem}",
        split=SPLITS[kind],
        labels=[label],
        source_id=film[1] if film else f"{label}/{stem}",
        names=[f"{label}/{name}", name, f"{label}/{stem}", stem],
    )
