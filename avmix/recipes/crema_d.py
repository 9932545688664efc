"""CREMA-D: the split of OGM-GE, which leaks, and one by actor, which does not.

    avmix prepare crema_d --root CREMA-D/VideoFlash --annotations CREMA-D \
        --out data/crema_d --protocol crema_d/speaker_independent
"""

import re
from argparse import Namespace

from avmix.prepare.annotation_rows import AnnotationError, Row
from avmix.prepare.annotations import Annotations, asked_of, read_classes
from avmix.prepare.protocol import Protocol
from avmix.recipes import CLASS_LISTS

CLASSES = read_classes(CLASS_LISTS / "crema_d.txt")
OGM, SPEAKERS = "crema_d/ogm", "crema_d/speaker_independent"
LISTS = ("SentenceFilenames.csv", "summaryTable.csv")
"""Files that name all 7,442 clips, in the column `FileName`."""


def protocols(options: Namespace) -> list[Protocol]:
    """Those that are asked for; without a wish those whose files are there."""
    read = Annotations(options.annotations)
    wanted = asked_of(options.protocol, (OGM, SPEAKERS))
    if not wanted:
        wanted = [OGM] if read.find("train.csv", "my_train.csv") else []
        wanted += [SPEAKERS] if read.find("VideoDemographics.csv") else []
    if not wanted:
        raise AnnotationError(
            f"{read.folder}: needs train.csv and test.csv (of OGM-GE), or VideoDemographics.csv "
            f"and {' or '.join(LISTS)} (of CREMA-D)"
        )
    make = {OGM: _ogm, SPEAKERS: _speaker_independent}
    return [
        protocol
        for name in wanted
        for protocol in make[name](Annotations(options.annotations, official=True))
    ]


def _ogm(read: Annotations) -> list[Protocol]:
    for split, files in {"train": ("train.csv", "my_train.csv"), "test": ("test.csv",)}.items():
        for row in read.csv(read.need(*files), ("name", "label")):
            _clip(read, row, row["name"], split, row["label"])
    return read.protocols(OGM, CLASSES, published={"train": 6698, "test": 744}, sources="actors")


def _speaker_independent(read: Annotations) -> list[Protocol]:
    split_of = _split_of_actors(read)
    path = read.find(*LISTS)
    if path is None:
        paths = [read.need("train.csv", "my_train.csv"), read.need("test.csv")]
        rows = [row for path in paths for row in read.csv(path, ("name", "label"))]
        named = [(row, row["name"]) for row in rows]
    else:
        named = [(row, row["FileName"]) for row in read.csv(path, ("FileName",), header=True)]
    for row, name in named:
        split = split_of.get(name.partition("_")[0])
        if split is None:
            read.drop(row, f"actor {name.partition('_')[0]} is not in VideoDemographics.csv")
        else:
            _clip(read, row, name, split)
    return read.protocols(SPEAKERS, CLASSES, sources="actors")


def _split_of_actors(read: Annotations) -> dict[str, str]:
    """Women and men apart, sorted by age and then number: of every ten in this order the 3rd and
    the 8th are for test, the 5th for val. So sexes and ages are alike in all splits."""
    path = read.need("VideoDemographics.csv")
    people: dict[str, list[tuple[float, str]]] = {}
    for row in read.csv(path, ("ActorID", "Age", "Sex"), header=True):
        age = read.number(row, "Age")
        if age is not None:
            people.setdefault(row["Sex"], []).append((age, row["ActorID"]))
    return {
        actor: {2: "test", 7: "test", 4: "val"}.get(place % 10, "train")
        for sex in sorted(people)
        for place, (_, actor) in enumerate(sorted(people[sex]))
    }


def _clip(read: Annotations, row: Row, name: str, split: str, label: str | None = None) -> None:
    stem = re.sub(r"\.(flv|mp4|wav)$", "", name, flags=re.IGNORECASE)
    found = re.fullmatch(r"(\d{4})_[A-Z]{3}_([A-Z]{3})_[A-Z]{2}", stem)
    if found is None:
        read.drop(row, "not ACTOR_SENTENCE_EMOTION_LEVEL, as 1001_IEO_ANG_HI")
        return
    emotion = read.label(row, label or found[2], CLASSES)
    if emotion is None:
        return
    if emotion != found[2]:
        read.drop(row, f"labelled {emotion}, and its name says {found[2]}")
        return
    read.add(
        row,
        clip_id=stem,
        split=split,
        labels=[emotion],
        source_id=found[1],
        names=[f"VideoFlash/{stem}.flv", stem],
    )
