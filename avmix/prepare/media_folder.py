"""Index of a media folder, and the candidate files of each clip."""

import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from avmix.data.manifest import ManifestError
from avmix.decode.parquet_cells import cells_of
from avmix.media.folder_walk import ENDINGS, File, walk
from avmix.prepare.clip_file_names import Times, name_match_rank, times_in, videos_in
from avmix.prepare.protocol import Expected


@dataclass(slots=True)
class MediaIndex:
    """The files of a media folder, by every name that may mean them."""

    root: Path
    files: dict[str, File] = field(default_factory=dict)
    """By path, in the order of paths."""
    archives: list[str] = field(default_factory=list)
    links_outside: list[str] = field(default_factory=list)
    """Links to files or folders elsewhere: followed, and listed."""
    links_again: dict[str, str] = field(default_factory=dict)
    """Links to what the walk comes by anyway, and where that is."""
    unusable: list[tuple[str, str]] = field(default_factory=list)
    """What cannot be read or named, and why."""
    num_others: int = 0
    """Files that are neither media nor archives."""
    num_hidden: int = 0
    """Files and folders that begin with a dot, or that a system keeps for itself."""
    _by_path: dict[str, list[File]] = field(default_factory=lambda: defaultdict(list))
    _by_name: dict[str, list[File]] = field(default_factory=lambda: defaultdict(list))
    _by_stem: dict[str, list[File]] = field(default_factory=lambda: defaultdict(list))
    _by_video: dict[str, list[tuple[File, Times]]] = field(default_factory=dict)

    def candidates(self, clip: Expected, shared: frozenset[str] = frozenset()) -> list[File]:
        """The files that may be this clip, the one to take first.

        An earlier name of the clip comes before a later one. For one name, the exact path comes
        first, then the same name in another folder, then the same name with another media ending;
        of equals the larger file, then the one whose path sorts first. A name with a folder means
        the end of a path; the bare name in any other folder does for it only where no other clip
        has a file of that name, whatever its ending (`shared` are the stems that several have).
        Last come the files that are called by the id of its video (`know_videos`) and its seconds,
        in any form, and of these those that have no seconds.
        """
        found: dict[str, tuple[int, int, int, str]] = {}
        for number, name in enumerate(clip.names):
            for level, file in self._named(nfc_name(name), shared):
                rank = (number, level, -file.bytes, file.path)
                if file.path not in found or rank < found[file.path]:
                    found[file.path] = rank
        for file, times in self._by_video.get(clip.video, ()):
            level = name_match_rank(times, clip.cut_seconds)
            if level is not None and file.path not in found:
                found[file.path] = (len(clip.names), level, -file.bytes, file.path)
        return [self.files[path] for path in sorted(found, key=lambda path: found[path])]

    def know_videos(self, videos: Iterable[str]) -> None:
        """Look in the names of all files for the ids of these videos."""
        known = frozenset(videos) - {""}
        lengths = frozenset(map(len, known))
        self._by_video = defaultdict(list)
        for stem, files in self._by_stem.items() if known else ():
            for video in videos_in(stem, known, lengths):
                times = times_in(stem, video)
                assert times is not None
                self._by_video[video] += [(file, times) for file in files]

    def add_cells(self, clips: Iterable[Expected]) -> None:
        """Know what the names of these clips mean within Parquet files of the folder."""
        stats: dict[str, os.stat_result | None] = {}
        for clip in clips:
            for name in clip.names:
                if (cells := cells_of(name)) is None or name in self.files:
                    continue
                if cells.file not in stats:
                    path = self.root / cells.file
                    stats[cells.file] = path.stat() if path.is_file() else None
                if (stat := stats[cells.file]) is not None:
                    self._add(File(name, stat.st_size, stat.st_mtime_ns))

    def forget_names(self) -> None:
        """Drop what `candidates` looks in: of millions of files that is a gigabyte."""
        for names in (self._by_path, self._by_name, self._by_stem, self._by_video):
            names.clear()

    def is_at(self, path: str, name: str) -> bool:
        """Whether the file of this path is exactly where a name says."""
        return any(file.path == path for file in self._by_path.get(nfc_name(name), ()))

    def _named(self, name: str, shared: frozenset[str]) -> Iterable[tuple[int, File]]:
        parts = PurePosixPath(name).parts
        bare = parts[-1] if parts else ""
        stem, _ = split_ending(bare)
        for file in self._by_path.get("/".join(parts), ()):
            yield 0, file
        for level, files in ((1, self._by_name.get(bare, ())), (2, self._by_stem.get(stem, ()))):
            for file in files:
                at = PurePosixPath(nfc_name(file.path)).parts
                same_folder = len(parts) > 1 and at[-len(parts) : -1] == parts[:-1]
                if same_folder or stem not in shared:
                    yield level, file

    def _add(self, file: File) -> None:
        path = nfc_name(file.path)
        bare = path.rpartition("/")[2]
        self.files[file.path] = file
        self._by_path[path].append(file)
        self._by_name[bare].append(file)
        self._by_stem[stem_of(bare)].append(file)


def scan(root: Path) -> MediaIndex:
    """Walk the folder once, and index it. Raises `ManifestError` where there is no folder."""
    if not root.is_dir():
        raise ManifestError(f"{root}: no such folder (--root)")
    found = walk(root)
    index = MediaIndex(
        root,
        archives=found.archives,
        links_outside=found.links_outside,
        links_again=found.links_again,
        unusable=found.unusable,
        num_others=found.others.total(),
        num_hidden=found.num_hidden,
    )
    for file in found.files:
        index._add(file)
    return index


def shared_names(clips: Sequence[Expected]) -> frozenset[str]:
    """Stems that clips expect in different folders: `1` of `a/1.mp4` and `b/1.avi`."""
    folders: dict[str, set[str]] = defaultdict(set)
    for clip in clips:
        best: dict[str, str] = {}
        for name in clip.names:
            folder, _, bare = nfc_name(name).rpartition("/")
            best.setdefault(split_ending(bare)[0], folder)
        for stem, folder in best.items():
            folders[stem].add(folder)
    return frozenset(stem for stem, found in folders.items() if len(found) > 1)


def nfc_name(name: str) -> str:
    """The name in composed unicode (NFC), as most disks and no annotations agree on."""
    return unicodedata.normalize("NFC", name)


def split_ending(name: str) -> tuple[str, str]:
    """Name and media ending; an id with a dot keeps what is behind it."""
    stem, ending = os.path.splitext(name)
    return (stem, ending) if ending.lower() in ENDINGS else (name, "")


def stem_of(name: str) -> str:
    """The name without what is taken for its media ending, known by name or by content."""
    stem, ending = split_ending(name)
    if not ending and _OTHER.fullmatch(os.path.splitext(name)[1]):
        return os.path.splitext(name)[0]
    return stem


_OTHER = re.compile(r"\.\w{2,5}", re.ASCII)
