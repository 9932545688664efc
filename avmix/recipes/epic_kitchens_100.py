"""EPIC-KITCHENS-100: verbs and nouns of segments of long videos.

    avmix prepare epic_kitchens_100 --root EPIC-KITCHENS \
        --annotations epic-kitchens-100-annotations --out data/epic \
        --protocol epic_kitchens_100/verb_noun

`verb_noun` has two label sets: every clip has a label `verb:...` and a label `noun:...`; with
`verb` and `noun` it has one.
"""

from argparse import Namespace
from dataclasses import replace

from avmix.prepare.annotation_rows import Row
from avmix.prepare.annotation_values import seconds_of
from avmix.prepare.annotations import Annotations, asked_of
from avmix.prepare.protocol import Protocol

FILES = {"train": "EPIC_100_train.csv", "val": "EPIC_100_validation.csv"}
COLUMNS = ("narration_id", "participant_id", "video_id", "start_timestamp", "stop_timestamp",
           "verb_class", "noun_class")  # fmt: skip
KINDS = {
    "epic_kitchens_100/verb_noun": ("verb", "noun"),
    "epic_kitchens_100/verb": ("verb",),
    "epic_kitchens_100/noun": ("noun",),
}
CLASS_FILES = {
    "verb": ("EPIC_100_verb_classes.csv", "EPIC_100_verb_classes_v2.csv"),
    "noun": ("EPIC_100_noun_classes_v2.csv", "EPIC_100_noun_classes.csv"),
}
TAIL_FILES = {"verb": "EPIC_100_tail_verbs.csv", "noun": "EPIC_100_tail_nouns.csv"}
UNSEEN_FILE = "EPIC_100_unseen_participant_ids_validation.csv"
UNSEEN = "unseen"
"""Subset of the validation segments: of participants who are not in the train split."""


def protocols(options: Namespace) -> list[Protocol]:
    """Verb and noun together, and each alone; or those that are asked for."""
    return [
        protocol
        for name in asked_of(options.protocol, KINDS) or KINDS
        for protocol in _protocols(Annotations(options.annotations, official=True), name)
    ]


def _protocols(read: Annotations, name: str) -> list[Protocol]:
    classes = {kind: _class_names(read, kind) for kind in KINDS[name]}
    durations, unseen = _durations(read), _unseen(read)
    for split, file in FILES.items():
        for row in read.csv(read.need(file), COLUMNS, header=True):
            _clip(read, row, split, classes, durations, unseen)
    unlabelled = read.find("EPIC_100_test_timestamps.csv")
    if unlabelled is not None:
        count = sum(1 for _ in read.lines(unlabelled)) - 1
        read.remark(unlabelled.name, f"{count} rows without labels: not used", dropped=True)
    tail = _tail(read, classes)
    return [
        replace(protocol, label_sets=tuple(classes) if len(classes) > 1 else (), tail_classes=tail)
        for protocol in read.protocols(
            name,
            [label for names in classes.values() for label in names.values()],
            published={"val": 9_668},
            sources="videos",
        )
    ]


def _class_names(read: Annotations, kind: str) -> dict[str, str]:
    """`verb:cut` by its number, as text."""
    path = read.need(*CLASS_FILES[kind])
    rows = read.csv(path, ("id", "key"), header=True)
    return {row["id"]: f"{kind}:{row['key']}" for row in rows}


def _tail(read: Annotations, classes: dict[str, dict[str, str]]) -> tuple[str, ...]:
    """Classes of the tail, of the files that are there."""
    found = []
    for kind, names in classes.items():
        path = read.find(TAIL_FILES[kind])
        for row in read.csv(path, (kind,), header=True) if path is not None else ():
            if row[kind] in names:
                found.append(names[row[kind]])
            else:
                read.drop(row, f"{kind} {row[kind]} has no name")
    return tuple(found)


def _unseen(read: Annotations) -> frozenset[str]:
    """Participants who are only in the validation split, where the file of them is there."""
    path = read.find(UNSEEN_FILE)
    rows = read.csv(path, ("participant_id",), header=True) if path is not None else ()
    return frozenset(row["participant_id"] for row in rows)


def _durations(read: Annotations) -> dict[str, float]:
    path = read.find("EPIC_100_video_info.csv")
    if path is None:
        return {}
    rows = read.csv(path, ("video_id", "duration"), header=True)
    found = {row["video_id"]: read.number(row, "duration") for row in rows}
    return {video: seconds for video, seconds in found.items() if seconds is not None}


def _clip(
    read: Annotations,
    row: Row,
    split: str,
    classes: dict[str, dict[str, str]],
    durations: dict[str, float],
    unseen: frozenset[str],
) -> None:
    try:
        # Never frame / 60: videos have 59.94 or 50 frames a second.
        low, high = seconds_of(row["start_timestamp"]), seconds_of(row["stop_timestamp"])
    except ValueError as error:
        read.drop(row, str(error))
        return
    unknown = [kind for kind in classes if row[f"{kind}_class"] not in classes[kind]]
    if unknown:
        read.drop(row, f"{unknown[0]}_class {row[f'{unknown[0]}_class']} has no name")
        return
    person, video = row["participant_id"], row["video_id"]
    seconds = durations.get(video)
    if seconds is not None and low >= seconds:
        read.drop(row, f"begins at {low:g} s, and {video} is {seconds:g} s long")
        return
    read.add(
        row,
        clip_id=row["narration_id"],
        split=split,
        labels=[names[row[f"{kind}_class"]] for kind, names in classes.items()],
        source_id=video,
        names=[
            f"{person}/videos/{video}.MP4",
            video,
        ],
        start_seconds=low,
        end_seconds=high,
        subsets=(UNSEEN,) if split == "val" and person in unseen else (),
    )
