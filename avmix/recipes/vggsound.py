"""VGGSound: the published split, which leaks, and a version without the leak.

    avmix prepare vggsound --root vggsound/video --annotations vggsound \
        --out data/vggsound --protocol vggsound

`vggsound` is the published split, in which videos are in train and test; `vggsound/disjoint` is the
same test without the train rows of those videos.
"""

import re
from argparse import Namespace

from avmix.prepare.annotation_rows import Row
from avmix.prepare.annotations import Annotations, read_classes
from avmix.prepare.protocol import Protocol
from avmix.recipes import CLASS_LISTS

CLASSES = read_classes(CLASS_LISTS / "vggsound.txt")
NOT_A_CLASS = "extending ladders"
"""The 310th line of some lists of classes: no clip of the test split has it."""
CLIP_SECONDS = 10.0


def protocols(options: Namespace) -> list[Protocol]:
    """Of `vggsound.csv`, or where it is missing of `train.csv` and `test.csv`; and disjoint."""
    read = Annotations(options.annotations, official=True)
    whole = read.find("vggsound.csv")
    if whole is not None:
        for row in read.csv(whole, ("youtube_id", "start", "label", "split"), header=False):
            if row["split"] not in ("train", "test"):
                read.drop(row, f"split {row['split']!r} is neither train nor test")
                continue
            start = read.number(row, "start")
            if start is not None:
                _clip(read, row, row["youtube_id"], start, row["split"])
    else:
        for split in ("train", "test"):
            path = read.need(f"{split}.csv", f"vggsound_{split}.csv")
            for row in read.csv(path, ("file", "label"), header=False):
                found = re.fullmatch(r"(.+)_(\d{6})(\.\w+)?", row["file"])
                if found is None:
                    read.drop(row, "not ID_000030.mp4,label")
                    continue
                _clip(read, row, found[1], float(found[2]), split)
    _check_310(read)
    return read.protocols("vggsound", CLASSES, published={"test": 15_446}, sources="videos")


def _clip(read: Annotations, row: Row, youtube_id: str, start: float, split: str) -> None:
    if row["label"] == NOT_A_CLASS:
        read.drop(row, f"{NOT_A_CLASS!r} is no class of VGGSound: nothing of it is in the test")
        return
    label = read.label(row, row["label"], CLASSES)
    if label is None:
        return
    stem = f"{youtube_id}_{int(start):06d}"
    read.add(
        row,
        clip_id=stem,
        split=split,
        labels=[label],
        source_id=youtube_id,
        names=[f"{stem}.mp4"],
        video=youtube_id,
        cut_seconds=(start, start + CLIP_SECONDS),
        seconds=CLIP_SECONDS,
    )


def _check_310(read: Annotations) -> None:
    """A list of classes beside the rows that has a line too many is said, not used."""
    for name in ("labels.csv", "stat.csv"):
        path = read.find(name)
        if path is not None:
            labels = [row["label"] for row in read.csv(path, ("label", "number"), header=False)]
            more = sorted(set(labels) - set(CLASSES))
            if len(labels) != len(CLASSES):
                read.remark(
                    path.name,
                    f"{len(labels)} lines, and VGGSound has {len(CLASSES)} classes: not used; "
                    f"no class is: {', '.join(more) or 'none of them'}",
                )
