"""UCF101: three official splits, all 101 classes or the 51 with audio.

    avmix prepare ucf101 --root UCF-101 --annotations ucfTrainTestlist \
        --out data/ucf101 --protocol ucf101/split1
"""

import re
from argparse import Namespace

from avmix.prepare.annotation_rows import Row
from avmix.prepare.annotations import Annotations, asked_of, read_classes
from avmix.prepare.protocol import Protocol
from avmix.recipes import CLASS_LISTS

CLASSES = read_classes(CLASS_LISTS / "ucf101.txt")
WITH_AUDIO = read_classes(CLASS_LISTS / "ucf101_with_audio.txt")
NAMES = [f"ucf101/{audio}split{number}" for audio in ("", "sound51_") for number in (1, 2, 3)]
PUBLISHED = {
    "ucf101/split1": {"train": 9537, "test": 3783},
    "ucf101/split2": {"train": 9586, "test": 3734},
    "ucf101/split3": {"train": 9624, "test": 3696},
    "ucf101/sound51_split1": {"train": 4893, "test": 1944},
}


def protocols(options: Namespace) -> list[Protocol]:
    """Splits 1 to 3 of all classes, and of those with audio; or those that are asked for."""
    return [
        protocol
        for name in asked_of(options.protocol, NAMES) or NAMES
        for protocol in _protocols(Annotations(options.annotations, official=True), name)
    ]


def _protocols(read: Annotations, name: str) -> list[Protocol]:
    with_audio, number = "sound51" in name, name[-1]
    classes = WITH_AUDIO if with_audio else CLASSES
    for split in ("train", "test"):
        for row in read.lines(read.need(f"{split}list0{number}.txt")):
            _clip(read, row, split, classes)
    return read.protocols(name, classes, published=PUBLISHED.get(name), needs_audio=with_audio,
                          sources="groups")  # fmt: skip


def _clip(read: Annotations, row: Row, split: str, classes: tuple[str, ...]) -> None:
    path, _, number = row["line"].partition(" ")  # lists of the test split have no number
    found = re.fullmatch(r"([^/]+)/((v_\w+_g\d+)_c\d+)\.avi", path)
    if found is None:
        read.drop(row, "not Class/v_Class_gNN_cNN.avi")
        return
    label = read.label(row, found[1], CLASSES)
    if label is None or label not in classes:
        return
    right = CLASSES.index(label) + 1
    if number.strip() not in ("", str(right)):
        read.drop(row, f"{label} is class {right} of classInd.txt, not {number.strip()}")
        return
    stem = found[2]
    # Lists say HandstandPushups/v_HandStandPushups_...: copies spell the file as the folder.
    as_folder = re.sub(r"^v_[A-Za-z]+", f"v_{label}", stem)
    read.add(
        row,
        clip_id=stem,
        split=split,
        labels=[label],
        source_id=found[3],
        names=[f"{label}/{stem}.avi", f"{stem}.avi", stem, as_folder],
    )
