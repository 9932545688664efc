"""Make manifests of AVE: the published split, which leaks, and the same without what leaks.

    python datasets/ave/prepare.py --media AVE_Dataset/AVE --annotations AVE_Dataset \
        --out data/ave --protocol ave/official

`ave/official` and `ave/disjoint` take the whole file, ten seconds, as published results do;
`ave/official_event` and `ave/disjoint_event` the stretch in which the event is seen and heard.
"""

import sys
from argparse import Namespace
from pathlib import Path

from avmix.prepare.annotations import Annotations, Row, in_two_splits, read_classes
from avmix.prepare.expected import Protocol
from avmix.prepare.recipe import run_recipe

CLASSES = read_classes(Path(__file__).with_name("classes.txt"))
PUBLISHED = {"train": 3339, "val": 402, "test": 402}
COLUMNS = ("Category", "VideoID", "Quality", "StartTime", "EndTime")


def protocols(options: Namespace) -> list[Protocol]:
    """As published, and disjoint; of the file, and of the event."""
    return [
        _protocol(Annotations(options.annotations), disjoint=disjoint, event=event)
        for event in (False, True)
        for disjoint in (False, True)
    ]


def _protocol(read: Annotations, *, disjoint: bool, event: bool) -> Protocol:
    rows = {
        split: list(read.csv(read.need(f"{split}Set.txt"), COLUMNS, delimiter="&"))
        for split in ("test", "val", "train")
    }
    kept: set[str] = set()
    for split, found in rows.items():
        for row in found:
            if disjoint and row["VideoID"] in kept:
                read.drop(row, "its video is in a split that is evaluated on")
            else:
                _clip(read, row, split, event)
        kept.update(row["VideoID"] for row in found)
    torn = in_two_splits(read.clips.values()).values()
    with_train = {s: sum({"train", s} <= set(t) for t in torn) for s in ("test", "val")}
    return read.protocol(
        f"ave/{'disjoint' if disjoint else 'official'}{'_event' if event else ''}",
        CLASSES,
        published={} if disjoint else PUBLISHED,
        leaks=f"{with_train['test']} videos are in train and test, {with_train['val']} in train "
        "and val, as published"
        if torn
        else "",
    )


def _clip(read: Annotations, row: Row, split: str, event: bool) -> None:
    label = read.label(row, row["Category"], CLASSES)
    low, high = read.number(row, "StartTime"), read.number(row, "EndTime")
    if label is None or low is None or high is None:
        return
    video = row["VideoID"]
    # A video may have several events, and may be in several splits.
    clip_id = f"{video}/{label}/{low:g}-{high:g}"
    first = read.clips.get(clip_id)
    if first is not None and first.split != split:
        clip_id = f"{clip_id}/{split}"
    read.add(
        row,
        clip_id=clip_id,
        split=split,
        labels=[label],
        source_id=video,
        names=[f"AVE/{video}.mp4", f"{video}.mp4", video],
        start_seconds=low if event else None,
        end_seconds=high if event else None,
        seconds=None if event else 10.0,
    )


if __name__ == "__main__":
    sys.exit(run_recipe("ave", __doc__, protocols))
