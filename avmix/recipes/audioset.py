"""AudioSet: several labels per clip.

    avmix prepare audioset --root audioset --annotations audioset/csv \
        --out data/audioset --protocol audioset/balanced

`audioset/balanced` trains on the balanced segments, `audioset/unbalanced` on the others,
`audioset/full` on both; all are evaluated on the eval segments.
"""

from argparse import Namespace
from collections import Counter

from avmix.prepare.annotation_rows import AnnotationError, Row
from avmix.prepare.annotations import Annotations, asked_of
from avmix.prepare.protocol import Protocol

COLUMNS = ("YTID", "start_seconds", "end_seconds", "positive_labels")
BALANCED, UNBALANCED = "balanced_train_segments.csv", "unbalanced_train_segments.csv"
TRAIN = {
    "audioset/balanced": (BALANCED,),
    "audioset/unbalanced": (UNBALANCED,),
    "audioset/full": (BALANCED, UNBALANCED),
}
NUM_CLIPS = {BALANCED: 22_160, UNBALANCED: 2_041_789}
NUM_CLASSES = 527


def protocols(options: Namespace) -> list[Protocol]:
    """Those that are asked for; without a wish those whose files are there."""
    read = Annotations(options.annotations)
    found = asked_of(options.protocol, TRAIN) or [
        name for name, files in TRAIN.items() if all(map(read.find, files))
    ]
    if not found:
        raise AnnotationError(f"{read.folder}: neither {BALANCED} nor {UNBALANCED} in it")
    return [
        protocol
        for name in found
        for protocol in _protocols(Annotations(options.annotations, official=True), name)
    ]


def _protocols(read: Annotations, name: str) -> list[Protocol]:
    names = _class_names(read)
    for split, files in {"train": TRAIN[name], "test": ("eval_segments.csv",)}.items():
        for file in files:
            for row in read.csv(read.need(file), COLUMNS, comment="#", header=False):
                _clip(read, row, split, names)
    return read.protocols(
        name,
        list(names.values()),
        published={"train": sum(NUM_CLIPS[file] for file in TRAIN[name]), "test": 20_371},
        sources="videos",
    )


def _class_names(read: Annotations) -> dict[str, str]:
    """Display names by mid, in the order of the index; with the mid where two are called alike."""
    path = read.need("class_labels_indices.csv")
    rows = list(read.csv(path, ("index", "mid", "display_name"), header=True))
    rows.sort(key=lambda row: int(row["index"]) if row["index"].isdecimal() else len(rows))
    if len(rows) != NUM_CLASSES:
        read.remark(path.name, f"{len(rows)} classes; AudioSet has {NUM_CLASSES}")
    times = Counter(row["display_name"] for row in rows)
    return {
        row["mid"]: row["display_name"]
        + (f" {row['mid']}" if times[row["display_name"]] > 1 else "")
        for row in rows
    }


def _clip(read: Annotations, row: Row, split: str, names: dict[str, str]) -> None:
    low, high = read.number(row, "start_seconds"), read.number(row, "end_seconds")
    if low is None or high is None:
        return
    mids = list(dict.fromkeys(mid.strip() for mid in row["positive_labels"].split(",")))
    unknown = [mid for mid in mids if mid not in names]
    if unknown:
        say = f"no class has the mid {', '.join(unknown)}"
        if len(unknown) == len(mids):
            read.drop(row, say)
            return
        read.note(row, f"{say}: the others are used")
    youtube_id = row["YTID"]
    read.add(
        row,
        clip_id=f"{youtube_id}_{round(low * 1000)}",
        split=split,
        labels=[names[mid] for mid in mids if mid in names],
        source_id=youtube_id,
        names=(),  # any form of id and seconds; of two million rows none has a text of its own
        video=youtube_id,
        cut_seconds=(low, high),
        seconds=high - low,
    )
