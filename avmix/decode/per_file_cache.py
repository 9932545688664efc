"""Cache of facts about a file, kept in the process until the file changes."""

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

T = TypeVar("T")

_MOST = 1 << 16
"""Files that are remembered; then all are forgotten."""


@dataclass(slots=True)
class PerFile(Generic[T]):
    """Cache of one value per file, keyed by path, size, modification time and inode."""

    _known: dict[tuple[object, ...], T] = field(default_factory=dict)

    def get(self, path: str, find: Callable[[], T], *more: object) -> T:
        """Value of `find` for `path` (and `more`, on which it depends); exceptions are not cached.
        Raises OSError as the system does."""
        info = os.stat(path)
        key = (path, info.st_size, info.st_mtime_ns, info.st_ino, info.st_dev, *more)
        if key not in self._known:
            found = find()
            if len(self._known) >= _MOST:
                self._known.clear()
            self._known[key] = found
        return self._known[key]
