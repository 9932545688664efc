"""Kinetics-Sounds, in every published split.

    avmix prepare kinetics_sounds --root k400 --annotations ks_lists \
        --out data/ks_ogm --protocol kinetics_sounds/ogm

Every protocol whose lists are in the folder is made; `--protocol` chooses.
"""

import re
from argparse import Namespace
from pathlib import Path
from typing import Any

from avmix.prepare.annotation_rows import AnnotationError, Row
from avmix.prepare.annotations import Annotations, asked_of, read_classes
from avmix.prepare.clip_file_names import kinetics_names, kinetics_stem
from avmix.prepare.protocol import Protocol
from avmix.recipes import CLASS_LISTS

KS32 = read_classes(CLASS_LISTS / "kinetics_sounds.txt")
KS31 = tuple(name for name in KS32 if name != "strumming guitar")

OGM_TRAIN, OGM_TEST, BML_VAL = ("my_train.txt",), ("my_test.txt",), ("KS_train_val.json",)
LISTS: dict[str, dict[str, tuple[str, ...]]] = {
    # Trains on K400 train, reports on clips of K400 test (OGM-GE, BalanceBenchmark).
    "kinetics_sounds/ogm": {"train": OGM_TRAIN, "test": OGM_TEST},
    # The same, and chooses on clips of K400 val.
    "kinetics_sounds/ogm_val": {"train": OGM_TRAIN, "val": BML_VAL, "test": OGM_TEST},
    # Trains on K400 train, reports on K400 val (BML, KS_train_val.json).
    "kinetics_sounds/bml_val": {"train": BML_VAL, "val": BML_VAL},
    # Trains on K400 train and test, reports on K400 val (BML, KS.json).
    "kinetics_sounds/bml": {"train": ("KS.json",), "val": ("KS.json",)},
    # 32 classes of the dump of CVDF (AV-SUPERB).
    "kinetics_sounds/av_superb_32": {
        "train": ("train_data_path.csv", "train.csv"),
        "val": ("val_data_path.csv", "val.csv"),
        "test": ("test_data_path.csv", "test.csv"),
    },
}
PUBLISHED = {
    "kinetics_sounds/ogm": {"train": 14_799, "test": 2_597},
    "kinetics_sounds/ogm_val": {"train": 14_799, "val": 1_320, "test": 2_597},
    "kinetics_sounds/bml_val": {"train": 14_799, "val": 1_320},
    "kinetics_sounds/bml": {"train": 17_396, "val": 1_320},
    "kinetics_sounds/av_superb_32": {"train": 22_861, "val": 1_594, "test": 3_113},
}
SUBSETS = {"training": "train", "train": "train", "validation": "val", "val": "val",
           "testing": "test", "test": "test"}  # fmt: skip


def protocols(options: Namespace) -> list[Protocol]:
    """Those that are asked for; without a wish all whose lists are there."""
    wanted = asked_of(options.protocol, LISTS)
    made = [
        protocol
        for name in wanted or LISTS
        for protocol in _protocols(options.annotations, name, must=bool(wanted))
    ]
    if not made:
        files = " ".join(
            sorted({f for lists in LISTS.values() for fs in lists.values() for f in fs})
        )
        raise AnnotationError(f"{options.annotations}: has none of: {files}")
    return made


def _protocols(folder: Path, name: str, *, must: bool) -> list[Protocol]:
    read = Annotations(folder, official=True)
    classes = KS32 if name.endswith("_32") else KS31
    files = {s: read.need(*f) if must else read.find(*f) for s, f in LISTS[name].items()}
    for split, path in files.items():
        if path is None:
            return []
        if path.suffix == ".json":
            _from_json(read, path, split, classes)
        else:
            for row in read.csv(path, ("clip", "second"), optional=("third",), header=False):
                # CLIP,10,INDEX in the lists of OGM-GE; PATH,INDEX in those of AV-SUPERB
                _clip(read, row, split, row["clip"], row["third"] or row["second"], classes)
    return read.protocols(name, classes, published=PUBLISHED[name], needs_audio=True,
                          sources="videos")  # fmt: skip


def _from_json(read: Annotations, path: Path, split: str, classes: tuple[str, ...]) -> None:
    """`{"labels": [..], "database": {CLIP: {"subset", "label"}}}`."""
    try:
        database: dict[str, dict[str, Any]] = read.json(path)["database"]
        items = [(clip, str(d["subset"]), str(d["label"])) for clip, d in database.items()]
    except (TypeError, KeyError, AttributeError) as error:
        raise AnnotationError(f"{path}: not a list of clips: {error!r}") from None
    for number, (clip, subset, label) in enumerate(items, 1):
        row = Row(cells={}, where=f"{path.name}:entry {number}", text=f"{clip} {subset} {label}")
        if SUBSETS.get(subset) == split:
            _clip(read, row, split, clip, label, classes)
        elif subset not in SUBSETS and split == "train":
            read.drop(row, f"subset {subset!r} is not training, validation or testing")


def _clip(
    read: Annotations, row: Row, split: str, clip: str, label: str, classes: tuple[str, ...]
) -> None:
    # ID_000030_000040, or ID_30: ten seconds from there. An id has eleven characters, "_" and "-"
    # among them.
    stem = clip.rpartition("/")[2].removesuffix(".mp4")
    padded = re.fullmatch(r"(.{11})_(\d{6})_(\d{6})", stem)
    bare = re.fullmatch(r"(.{11})_(\d+)", stem)
    found = padded or bare
    if found is None:
        read.drop(row, "neither ID_000030_000040 nor ID_30")
        return
    low = float(found[2])
    high = float(padded[3]) if padded else low + 10
    if not re.fullmatch(r"\d+", label):
        name = read.label(row, label, classes)
    elif int(label) < len(classes):
        name = classes[int(label)]
    else:
        name = None
        read.drop(row, f"class {label} of {len(classes)}")
    if name is None:
        return
    kinetics_split = clip.partition("/")[0] if "/" in clip else split
    read.add(
        row,
        clip_id=kinetics_stem(found[1], low, high),
        split=split,
        labels=[name],
        source_id=found[1],
        names=kinetics_names(found[1], low, high, split=kinetics_split, label=name),
        video=found[1],
        cut_seconds=(low, high),
        seconds=high - low,
    )
