"""AVE: the published split, which leaks, and a version without the leak.

    avmix prepare ave --root AVE_Dataset/AVE --annotations AVE_Dataset \
        --out data/ave --protocol ave/official

`ave/official` and `ave/disjoint` take the whole file, ten seconds, as published results do;
`ave/official_event` and `ave/disjoint_event` the segment in which the event is visible and audible.
"""

from argparse import Namespace

from avmix.prepare.annotation_rows import Row
from avmix.prepare.annotations import Annotations, read_classes
from avmix.prepare.protocol import Protocol
from avmix.recipes import CLASS_LISTS

CLASSES = read_classes(CLASS_LISTS / "ave.txt")
PUBLISHED = {"train": 3339, "val": 402, "test": 402}
COLUMNS = ("Category", "VideoID", "Quality", "StartTime", "EndTime")


def protocols(options: Namespace) -> list[Protocol]:
    """As published, and disjoint; of the file, and of the event."""
    return [
        protocol
        for event in (False, True)
        for protocol in _protocols(Annotations(options.annotations, official=True), event)
    ]


def _protocols(read: Annotations, event: bool) -> list[Protocol]:
    for split in ("test", "val", "train"):
        for row in read.csv(read.need(f"{split}Set.txt"), COLUMNS, delimiter="&"):
            _clip(read, row, split, event)
    kind = "_event" if event else ""
    return read.protocols(f"ave/official{kind}", CLASSES, published=PUBLISHED, sources="videos",
                          disjoint=f"ave/disjoint{kind}")  # fmt: skip


def _clip(read: Annotations, row: Row, split: str, event: bool) -> None:
    label = read.label(row, row["Category"], CLASSES)
    low, high = read.number(row, "StartTime"), read.number(row, "EndTime")
    if label is None or low is None or high is None:
        return
    video = row["VideoID"]
    read.add(
        row,
        clip_id=f"{video}/{label}/{low:g}-{high:g}",  # a video may have several events
        split=split,
        labels=[label],
        source_id=video,
        names=[f"AVE/{video}.mp4", f"{video}.mp4"],
        video=video,
        start_seconds=low if event else None,
        end_seconds=high if event else None,
        seconds=None if event else 10.0,
    )
