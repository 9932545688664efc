"""The clips that a page may choose from: files of one folder, and uploads, each by its name only.

No path is ever taken from the page: it names an item of this list, or nothing.
"""

import os
import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from avmix.evaluation.most_wrong import WrongClip
from avmix.media.folder_walk import walk

MOST_LISTED = 5000
"""Files that are offered; more would fill a page."""
_MOST_UPLOADS = 8
"""Uploads that are kept; of more, the oldest is deleted."""
_ENDING_LETTERS = 8


class NotOnShelf(ValueError):
    """What is asked for is not in the list, or is no longer in the folder."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShelfItem:
    """A clip that can be chosen."""

    name: str
    """As the page shows it."""
    path: Path
    label: str
    """Name of the class: of the folder it is in; directly in the root, the name of the file."""
    start_seconds: float | None = None
    """Stretch of the file; None: all of it."""
    end_seconds: float | None = None


@dataclass(slots=True)
class ClipShelf:
    """Items by name: those of a folder, and what was uploaded."""

    root: Path
    num_left_out: int = 0
    """Files of the folder beyond `MOST_LISTED`."""
    problems: list[str] = field(default_factory=list)
    """Files of the folder that are not offered, with the reason."""
    _real_root: str = ""
    _items: dict[str, ShelfItem] = field(default_factory=dict)
    _uploads: dict[str, ShelfItem] = field(default_factory=dict)
    _num_uploads: int = 0
    _folder: tempfile.TemporaryDirectory | None = None

    @classmethod
    def of_folder(cls, root: Path) -> "ClipShelf":
        """The media files below `root`. Links that lead out of it are not offered.

        Raises ValueError where it is no folder, or has no media file.
        """
        if not root.is_dir():
            raise ValueError(f"--root {root}: no such folder")
        shelf = cls(root=root, _real_root=os.path.realpath(root))
        found = walk(root)
        shelf.problems = [f"{name}: {why}" for name, why in found.unusable]
        for file in found.files:
            if not shelf._is_inside(root / file.path):
                shelf.problems.append(f"{file.path}: a link that leads out of the folder")
            elif len(shelf._items) >= MOST_LISTED:
                shelf.num_left_out += 1
            else:
                shelf._add(file.path)
        if not shelf._items:
            raise ValueError(f"--root {root}: no media file in this folder")
        return shelf

    @property
    def names(self) -> list[str]:
        """What can be chosen: uploads first, then files in the order of their paths."""
        return [*reversed(self._uploads), *self._items]

    def item(self, name: object) -> ShelfItem:
        """The item of a name; raises `NotOnShelf` for anything else, and where a file of the folder
        has become a link that leads out of it."""
        found = self._uploads.get(name) or self._items.get(name) if isinstance(name, str) else None
        if found is None:
            raise NotOnShelf("not in the list")
        if name in self._items and not self._is_inside(found.path):
            raise NotOnShelf(f"{name}: a link that leads out of the folder")
        return found

    def wrong_clip(self, clip: WrongClip) -> str | None:
        """Name under which a clip of an evaluation can be chosen; None where the folder does not
        have it."""
        found = self._items.get(PurePosixPath(clip.path).as_posix())
        if found is None:
            return None
        name = f"{clip.path}, {clip.start_seconds:.2f} to {clip.end_seconds:.2f} s"
        self._items[name] = ShelfItem(
            name=name, path=found.path, label=clip.labels[0] if clip.labels else found.label,
            start_seconds=clip.start_seconds, end_seconds=clip.end_seconds,
        )  # fmt: skip
        return name

    def upload_place(self, name: str) -> tuple[str, Path]:
        """Name and path of an upload that is about to be written; `add_upload` offers it."""
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="avmix-explore-")
        self._num_uploads += 1
        ending = PurePosixPath(name.replace("\\", "/")).suffix[:_ENDING_LETTERS]
        ending = ending if ending[1:].isascii() and ending[1:].isalnum() else ""
        shown = f"upload {self._num_uploads}: {PurePosixPath(name.replace(chr(92), '/')).name}"
        return shown, Path(self._folder.name) / f"{self._num_uploads}{ending}"

    def add_upload(self, shown: str, path: Path) -> None:
        """Offer a file that was uploaded; the oldest makes room for it."""
        while len(self._uploads) >= _MOST_UPLOADS:
            oldest = self._uploads.pop(next(iter(self._uploads)))
            oldest.path.unlink(missing_ok=True)
        label = PurePosixPath(shown.partition(": ")[2]).stem
        self._uploads[shown] = ShelfItem(name=shown, path=path, label=label or shown)

    def close(self) -> None:
        """Delete the uploads."""
        if self._folder is not None:
            shutil.rmtree(self._folder.name, ignore_errors=True)
            self._folder.cleanup()

    def _add(self, relative: str) -> None:
        way = PurePosixPath(relative)
        label = way.parts[-2] if len(way.parts) > 1 else way.stem
        self._items[relative] = ShelfItem(name=relative, path=self.root / relative, label=label)

    def _is_inside(self, path: Path) -> bool:
        real = os.path.realpath(path)
        return real.startswith(self._real_root.rstrip(os.sep) + os.sep)
