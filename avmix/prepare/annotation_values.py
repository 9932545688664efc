"""Values in annotations: names of classes and splits, times, paths of clips."""

import functools
import os
import re
import unicodedata
from pathlib import Path

SPLIT_WORDS = {
    "train": "train", "training": "train",
    "val": "val", "valid": "val", "validation": "val", "dev": "val", "development": "val",
    "test": "test", "testing": "test",
}  # fmt: skip
"""What people call a split, as `plain` leaves it."""


def plain(name: str) -> str:
    """What is left of a name without case, commas, underscores and doubled spaces."""
    folded = unicodedata.normalize("NFC", name).casefold()
    return " ".join(folded.replace(",", " ").replace("_", " ").split())


@functools.lru_cache(maxsize=8)
def by_plain_name(classes: tuple[str, ...]) -> dict[str, str]:
    """Each class by its `plain` name."""
    return {plain(name): name for name in classes}


def seconds_of(timestamp: str) -> float:
    """Seconds of `HH:MM:SS.fff`; raises ValueError where it is not one."""
    found = re.fullmatch(r"(\d+):([0-5]?\d):([0-5]?\d(\.\d*)?)", timestamp.strip())
    if found is None:
        raise ValueError(f"{timestamp!r} is not HH:MM:SS")
    return int(found[1]) * 3600 + int(found[2]) * 60 + float(found[3])


def clock_seconds(text: str) -> float:
    """Seconds of `12.5`, `12,5`, `m:ss` or `h:mm:ss.f`; raises ValueError where it is none."""
    found = re.fullmatch(r"(?:(?:(\d+):)?([0-5]?\d):)?(\d+(?:[.,]\d*)?)", text.strip())
    if found is None or (found[2] is not None and float(found[3].replace(",", ".")) >= 60):
        raise ValueError(f"{text!r} is not a number of seconds, nor m:ss or h:mm:ss")
    seconds = float(found[3].replace(",", "."))
    return 3600 * int(found[1] or 0) + 60 * int(found[2] or 0) + seconds


def path_below(text: str, root: Path) -> str | None:
    """The path of a table relative to `root`, however it is written; None: it is elsewhere."""
    if Path(text).is_absolute():
        for folder in (root.absolute(), root.resolve()):
            if Path(text).is_relative_to(folder):
                return Path(text).relative_to(folder).as_posix()
        return None
    name = text.removeprefix("./")
    slashed = name.replace("\\", "/")
    inside = slashed.removeprefix(f"{root.resolve().name}/")
    return next((n for n in (name, slashed, inside) if (root / n).exists()), name)


def leaves(name: str) -> bool:
    """Whether a relative path leads out of the folder that it is relative to."""
    parts = name.replace("\\", "/").split("/")
    # `C:/x` is another disk's in a table of Windows; `a:b/x` is a folder, but for Windows.
    is_drive = name[1:2] == ":" and (os.name == "nt" or name[2:3] in ("/", "\\"))
    return parts[0] == "" or is_drive or ".." in parts or "\0" in name
