"""VGGSounder: the test split of VGGSound with all labels of a clip, audible and visible.

    pip download vggsounder --no-deps && unzip -d lists vggsounder-*.whl
    avmix prepare vggsounder --root vggsound/video --annotations lists/vggsounder/data \
        --out data/vggsounder --protocol vggsounder

`vggsounder` has the clips without background music; `vggsounder/background_music` all. Both have a
test split only, and the classes of VGGSound in the same order: networks are trained on that.
"""

import re
from argparse import Namespace

from avmix.prepare.annotation_rows import Row
from avmix.prepare.annotations import Annotations, asked_of
from avmix.prepare.protocol import Protocol
from avmix.recipes.vggsound import CLASSES, CLIP_SECONDS

FILES = {
    "vggsounder": "vggsounder.csv",
    "vggsounder/background_music": "vggsounder+background-music.csv",
}
HEARD, SEEN = ("A", "AV"), ("V", "AV")


def protocols(options: Namespace) -> list[Protocol]:
    """Both, or those that are asked for."""
    return [
        _protocol(Annotations(options.annotations, official=True), name)
        for name in asked_of(options.protocol, FILES) or FILES
    ]


def _protocol(read: Annotations, name: str) -> Protocol:
    """Of rows (clip, label, modality), those of one clip together."""
    rows: dict[str, list[tuple[Row, str]]] = {}
    for row in read.csv(read.need(FILES[name]), ("video_id", "label", "modality"), header=True):
        if row["modality"] not in (*HEARD, "V"):
            read.drop(row, f"modality {row['modality']!r} is none of A, V and AV")
            continue
        label = read.label(row, row["label"], CLASSES)
        if label is None:
            continue
        if label in (known for _, known in rows.get(row["video_id"], ())):
            read.drop(row, f"{row['video_id']} has the label {label!r} already")
            continue
        rows.setdefault(row["video_id"], []).append((row, label))
    for stem, of_clip in rows.items():
        _clip(read, stem, of_clip)
    return read.protocol(name, CLASSES)


def _clip(read: Annotations, stem: str, rows: list[tuple[Row, str]]) -> None:
    first = rows[0][0]
    found = re.fullmatch(r"(.+)_(\d{6})", stem)
    if found is None:
        for row, _ in rows:
            read.drop(row, "not ID_000030")
        return
    start = float(found[2])
    read.add(
        first,
        clip_id=stem,
        split="test",
        labels=[label for _, label in rows],
        source_id=found[1],
        names=[f"{stem}.mp4"],
        video=found[1],
        cut_seconds=(start, start + CLIP_SECONDS),
        seconds=CLIP_SECONDS,
        video_labels=[label for row, label in rows if row["modality"] in SEEN],
        audio_labels=[label for row, label in rows if row["modality"] in HEARD],
    )
