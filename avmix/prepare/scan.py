"""One walk of the media folder, and which of its files a clip may be."""

import os
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from avmix.data.manifest import ManifestError
from avmix.prepare.expected import Expected

ENDINGS = frozenset({
    ".mp4", ".m4v", ".mov", ".3gp", ".3g2", ".f4v", ".mkv", ".webm", ".avi", ".ts", ".mts", ".m2ts",
    ".mpg", ".mpeg", ".vob", ".flv", ".wmv", ".asf", ".ogv", ".ogg",
})  # fmt: skip
"""Of files that hold pictures in a container that avmix reads."""
ARCHIVES = (".zip", ".tar", ".tgz", ".tar.gz", ".tar.bz2", ".tar.xz")


@dataclass(frozen=True, slots=True, order=True)
class File:
    """A file as the walk saw it."""

    path: str
    """Relative to the media folder, with forward slashes, as the disk spells it."""
    bytes: int
    mtime_ns: int
    """Time of its last change."""


@dataclass(slots=True)
class Index:
    """The files of a media folder, by every name that may mean them."""

    root: Path
    files: dict[str, File] = field(default_factory=dict)
    """By path, in the order of paths."""
    archives: list[str] = field(default_factory=list)
    links_outside: list[str] = field(default_factory=list)
    """Links to files or folders elsewhere: followed, and listed."""
    unusable: list[tuple[str, str]] = field(default_factory=list)
    """What cannot be read or named, and why."""
    num_others: int = 0
    """Files that are neither media nor archives."""
    _by_path: dict[str, list[File]] = field(default_factory=lambda: defaultdict(list))
    _by_name: dict[str, list[File]] = field(default_factory=lambda: defaultdict(list))
    _by_stem: dict[str, list[File]] = field(default_factory=lambda: defaultdict(list))

    def candidates(self, clip: Expected, shared: frozenset[str] = frozenset()) -> list[File]:
        """The files that may be this clip, the one to take first.

        An earlier name of the clip comes before a later one. For one name, the exact path comes
        first, then the same name in another folder, then the same name with another media ending;
        of equals the larger file, then the one whose path sorts first. A name with a folder means
        the end of a path; the bare name in any other folder does for it only where no other clip
        has a file of that name, whatever its ending (`shared` are the stems that several have).
        """
        found: dict[str, tuple[int, int, int, str]] = {}
        for number, name in enumerate(clip.names):
            for level, file in self._named(normal(name), shared):
                rank = (number, level, -file.bytes, file.path)
                if file.path not in found or rank < found[file.path]:
                    found[file.path] = rank
        return [self.files[path] for path in sorted(found, key=lambda path: found[path])]

    def _named(self, name: str, shared: frozenset[str]) -> Iterable[tuple[int, File]]:
        parts = PurePosixPath(name).parts
        bare = parts[-1] if parts else ""
        stem, _ = split_ending(bare)
        for file in self._by_path.get("/".join(parts), ()):
            yield 0, file
        for level, files in ((1, self._by_name.get(bare, ())), (2, self._by_stem.get(stem, ()))):
            for file in files:
                at = PurePosixPath(normal(file.path)).parts
                same_folder = len(parts) > 1 and at[-len(parts) : -1] == parts[:-1]
                if same_folder or stem not in shared:
                    yield level, file

    def _add(self, file: File) -> None:
        path = normal(file.path)
        bare = path.rpartition("/")[2]
        self.files[file.path] = file
        self._by_path[path].append(file)
        self._by_name[bare].append(file)
        self._by_stem[split_ending(bare)[0]].append(file)


def scan(root: Path) -> Index:
    """Walk the folder once, links followed. Raises `ManifestError` where there is no folder."""
    if not root.is_dir():
        raise ManifestError(f"{root}: no such folder; --media is wrong")
    index = Index(root)
    found: list[File] = []
    top = os.path.realpath(root)
    walked = {top}
    said: list[OSError] = []
    for folder, folders, names in os.walk(root, followlinks=True, onerror=said.append):
        relative = Path(folder).relative_to(root)
        for name in sorted(folders):
            path = os.path.join(folder, name)
            real = os.path.realpath(path) if os.path.islink(path) else ""
            if name.startswith(".") or real in walked:  # hidden, or a ring of links
                folders.remove(name)
            elif real:
                walked.add(real)
                if _is_outside(real, top):
                    index.links_outside.append((relative / name).as_posix())
        for name in names:
            if not name.startswith("._"):  # what macOS leaves beside files on other disks
                _look(index, found, folder, (relative / name).as_posix(), top)
    index.unusable += [(str(e.filename), e.strerror or str(e)) for e in said]
    for file in sorted(found):
        index._add(file)
    for listed in (index.archives, index.links_outside, index.unusable):
        listed.sort()
    return index


def shared_names(clips: Sequence[Expected]) -> frozenset[str]:
    """Stems that clips expect in different folders: `1` of `a/1.mp4` and `b/1.avi`."""
    folders: dict[str, set[str]] = defaultdict(set)
    for clip in clips:
        best: dict[str, str] = {}
        for name in clip.names:
            folder, _, bare = normal(name).rpartition("/")
            best.setdefault(split_ending(bare)[0], folder)
        for stem, folder in best.items():
            folders[stem].add(folder)
    return frozenset(stem for stem, found in folders.items() if len(found) > 1)


def normal(name: str) -> str:
    """The name in composed unicode (NFC), as most disks and no annotations agree on."""
    return unicodedata.normalize("NFC", name)


def split_ending(name: str) -> tuple[str, str]:
    """Name and media ending; an id with a dot keeps what is behind it."""
    stem, ending = os.path.splitext(name)
    return (stem, ending) if ending.lower() in ENDINGS else (name, "")


def _look(index: Index, found: list[File], folder: str, relative: str, top: str) -> None:
    name = relative.rpartition("/")[2]
    if name.lower().endswith(ARCHIVES):
        index.archives.append(relative)
        return
    if not split_ending(name)[1]:
        index.num_others += 1
        return
    try:
        relative.encode()
    except UnicodeEncodeError:
        index.unusable.append((ascii(relative), "its name is not UTF-8: rename it"))
        return
    path = os.path.join(folder, name)
    try:
        stat = os.stat(path)
    except OSError as error:
        index.unusable.append((relative, error.strerror or str(error)))
        return
    if os.path.islink(path) and _is_outside(os.path.realpath(path), top):
        index.links_outside.append(relative)
    found.append(File(relative, stat.st_size, stat.st_mtime_ns))


def _is_outside(real: str, top: str) -> bool:
    return os.path.commonpath([real, top]) != top
