"""The inventory as text: a table of splits, then one line per problem."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from avmix.prepare.probe_counts import probe_summary
from avmix.system.printing import console_of, listed, printable

TITLES = {
    "expected": "expected",
    "published": "published",
    "found": "kept",
    "missing": "missing",
    "unreadable": "unreadable",
    "no_pictures": "no video",
    "too_short": "too short",
    "too_long": "too long",
    "no_audio": "no audio",
    "silent": "silent",
    "annotation": "annotation",
    "kept_no_audio": "no audio*",
    "kept_silent": "silent*",
    "kept_duplicate": "duplicate*",
    "kept_av_offset": "A-V offset*",
    "kept_wrong_duration": "length*",
    "kept_id_alone": "id*",
    "kept_other_folder": "folder*",
    "kept_in_part": "in part*",
    "kept_damaged_audio": "audio damage*",
    "kept_audio_only": "audio only*",
    "kept_separate_audio": "separate audio*",
}
"""Headings of the counts; a star marks remarks on clips that are kept."""
_MOST = 8


def show_inventory(data: Mapping[str, Any]) -> None:
    """Print it to the standard output."""
    console = console_of(tables=True)
    for line in (table_of(data), *lines_of(data)):
        if isinstance(line, str):
            console.print(printable(line), soft_wrap=True)
        else:
            console.print(line)


def columns_of(rows: Sequence[Mapping[str, int | None]]) -> list[str]:
    """The counts worth a column: the first three, and those that are not 0 everywhere."""
    return [
        key
        for key in TITLES
        if key in ("expected", "found", "missing") or any(row.get(key) for row in rows)
    ]


def table_of(data: Mapping[str, Any]) -> Table:
    """Splits as rows, counts as columns."""
    rows = {**data["splits"], "all": data["counts"]}
    columns = columns_of(list(rows.values()))
    table = Table(box=SIMPLE_HEAD, pad_edge=False, title=printable(data["protocol"]))
    table.add_column("split", no_wrap=True)
    for key in columns:
        table.add_column(TITLES[key], justify="right")
    for name, row in rows.items():
        table.add_row(
            printable(name), *("" if row.get(k) is None else f"{row[k]}" for k in columns)
        )
    return table


def lines_of(data: Mapping[str, Any]) -> list[str]:
    """What the table does not say, one line each."""
    media, out = data["media"], [probe_summary(data["looks"])]
    if any(key.startswith("kept_") for key in columns_of([data["counts"]])):
        out.append("* kept, with a remark in inventory.json")
    if data["leaks"]:
        out.append(f"LEAK by definition of this protocol: {data['leaks']}")
    if untrained := data["untrained_classes"]:
        out.append(f"{len(untrained)} classes have clips, but none in train, so they cannot be "
                   f"learned: {listed(untrained)}")  # fmt: skip
    absent, total = data["absent_classes"], len(data["classes"])
    if absent:
        out.append(f"{len(absent)} of {total} classes have no clip: {listed(absent)}")
        if num_missing := data["missing_of_present_classes"]:
            out.append(f"of the other {total - len(absent)} classes, {num_missing} clips are "
                       "missing: they are listed in excluded.jsonl")  # fmt: skip
    out += [
        f"{split} has one clip per class, {num} in all: each changes its accuracy by "
        f"{100 / num:.1f} points"
        for split in ("val", "test")
        if (num := _one_of_each(data, split))
    ]
    if media["num_unexpected"]:
        out.append(f"{media['num_unexpected']} of {media['num_files']} media files are not "
                   "in the annotations: "
                   f"{listed(media['unexpected'], media['num_unexpected'])}")  # fmt: skip
    if like := data["like_missing"]:
        files = listed([f"{row['path']} (as {row['clip_id']})" for row in like])
        out.append(f"{len(like)} of them have names that begin like missing clips: {files}; "
                   "rename them")  # fmt: skip
    if media["num_hidden"]:
        out.append(f"{media['num_hidden']} hidden files and folders were skipped")
    if media["links_outside"]:
        files = listed(media["links_outside"], media["num_links_outside"])
        out.append(f"followed links to outside the media folder: {files}")
    out += [f"{bad['path']}: {bad['reason']}" for bad in media["unusable"][:_MOST]]
    for archive in media["archives"]:
        if archive["refused"]:
            out.append(f"{archive['path']}: refused: {archive['refused']}")
        elif archive["num_wanted"]:
            out.append(f"{archive['path']}: may hold {archive['num_wanted']} of the excluded "
                       "clips; unpack it, or add --archives FOLDER")  # fmt: skip
    problems = data["annotation_problems"]
    out += [f"{p['where']}: {p['reason']}{'' if p['dropped'] else ' (used)'}"
            for p in problems[:_MOST]]  # fmt: skip
    if len(problems) > _MOST:
        out.append(f"and {len(problems) - _MOST} more rows of annotations: see inventory.json")
    return out


def _one_of_each(data: Mapping[str, Any], split: str) -> int:
    """Clips of a split that has one clip of each class and no more; 0 where it has more."""
    counts = [splits.get(split, {}).get("found", 0) for splits in data["classes"].values()]
    return sum(counts) if max(counts, default=0) == 1 else 0
