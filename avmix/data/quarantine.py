"""Quarantine: a list of clips that crashed or blocked a loader process and are not read again until
a person removes them.

`quarantine.jsonl` in the folder of a run has one line for each: which clip, the hash and size that
its manifest gives for the file, the split and epoch in which it happened, and the reason. Lines are
only added. To have a clip tried again, delete its line, or the file; a repaired file, whose hash in
the manifest is another, is tried again by itself.
"""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from avmix.system import strict_json
from avmix.system.atomic_files import naming
from avmix.system.printing import counted
from avmix.types import Entry

_IDENTITY = ("clip_id", "path", "sha256", "bytes")
"""Fields of an `Entry` that a line repeats: where one differs it is about another clip, or file."""


class Quarantine:
    """Quarantined clips of a run; several processes may add to it."""

    def __init__(self, path: Path | None = None, *, also: Sequence[Path] = ()) -> None:
        """`path`: the file, which need not exist; None: a list that ends with the program.

        `also`: files of other runs that count too, and are not written to.
        """
        self.path = path
        self._also = tuple(also)
        self._lines: list[dict[str, Any]] = []  # where there is no file

    def rows(self, entries: Sequence[Entry], epoch: int | None) -> dict[int, str]:
        """Rows of `entries` that must not be read, with reasons.

        A clip counts from the epoch on in which it was met, so that a run that goes on from an
        earlier place gives the batches that it gave before. `epoch` None: evaluation; all count.
        """
        reasons = {
            _identity(line): line["reason"]
            for line in self._read()
            if epoch is None or line["epoch"] is None or line["epoch"] <= epoch
        }
        if not reasons:
            return {}
        keys = (
            (row, tuple(getattr(e, name) for name in _IDENTITY)) for row, e in enumerate(entries)
        )
        return {row: _explained(reasons[key]) for row, key in keys if key in reasons}

    def add(self, entry: Entry, reason: str, *, split: str, epoch: int | None) -> str:
        """Note `entry`; returns the reason as reports should give it. Raises OSError."""
        identity = {name: getattr(entry, name) for name in _IDENTITY}
        line = {**identity, "split": split, "epoch": epoch, "reason": reason}
        if self.path is None:
            self._lines.append(line)
        else:
            _append(self.path, strict_json.dumps(line))
        return _explained(reason)

    def notice(self) -> str:
        """Message that says how many clips are not read and how to change that; empty when there
        are none."""
        found = {_identity(line) for line in self._read()}
        if not found:
            return ""
        files = ", ".join(str(p) for p in self._files() if p.exists())
        return (
            f"{counted(len(found), 'clip')} in quarantine, not read; to try again, delete {files}"
        )

    def _files(self) -> list[Path]:
        return [*self._also, *([self.path] if self.path else [])]

    def _read(self) -> list[dict[str, Any]]:
        texts = [path.read_text() for path in self._files() if path.exists()]
        lines = list(self._lines)
        for text in "\n".join(texts).split("\n"):
            try:
                line = json.loads(text)
                hash((_identity(line), line["epoch"], line["reason"]))
            except (ValueError, KeyError, TypeError):
                continue  # cut by a kill: that clip is met, and noted, once more
            lines.append(line)
        return lines


def _identity(line: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(line[name] for name in _IDENTITY)


def _explained(reason: str) -> str:
    return f"{reason}; in quarantine, not read again"


def _append(path: Path, line: str) -> None:
    """In one write, so that processes do not cut each other's lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with naming(path), path.open("a+b") as file:
        end = file.seek(0, os.SEEK_END)
        cut = end > 0 and os.pread(file.fileno(), 1, end - 1) != b"\n"  # by a kill
        os.write(file.fileno(), ("\n" * cut + line + "\n").encode())
        os.fsync(file.fileno())
