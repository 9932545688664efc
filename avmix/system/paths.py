"""Path checks: `~` expansion, and whether an output can be written."""

import os
from collections.abc import Sequence
from pathlib import Path


def home(word: str) -> str:
    """Expand `~/x` and `~user/x` as a shell does; other paths are unchanged.

    A shell does not see `--out=~/x`, nor what a YAML file says.
    """
    return os.path.expanduser(word)


def with_home(argv: Sequence[str]) -> list[str]:
    """The words of a command line, `~` at the beginning of a value in full."""
    words = []
    for word in argv:
        option, equals, value = word.partition("=")
        is_option = word.startswith("-") and equals
        words.append(f"{option}={home(value)}" if is_option else home(word))
    return words


def unwritable(path: Path) -> str:
    """Reason why no file can be written there, to follow its name; empty where one can be."""
    if path.is_dir():
        return "is a folder; name a file"
    if not path.parent.is_dir():
        return "cannot be written: there is no such folder"
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        return "cannot be written: the disk or its rights forbid it"
    return ""


def unmakable(folder: Path) -> str:
    """Reason why no folder of this name can be created, or written into, to follow its name; empty
    where one can be. Missing parent folders are created with it."""
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not there.is_dir():
        return (
            "is a file; name a folder"
            if there == folder
            else f"cannot be written: {there} is a file"
        )
    if not os.access(there, os.W_OK | os.X_OK):
        return "cannot be written: the disk or its rights forbid it"
    return ""
