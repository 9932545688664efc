"""One walk of the media folder, and which of its files a clip may be."""

import os
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from avmix.data.manifest import ManifestError
from avmix.prepare.expected import Expected
from avmix.prepare.names import Times, fit, times_in, videos_in

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
class Walk:
    """What is in a folder and below it."""

    files: list[File] = field(default_factory=list)
    """Media files, in the order of paths."""
    archives: list[str] = field(default_factory=list)
    links_outside: list[str] = field(default_factory=list)
    """Links to files or folders elsewhere: followed, and listed."""
    links_again: dict[str, str] = field(default_factory=dict)
    """Links to what the walk comes by anyway, and where that is: a file of two paths."""
    unusable: list[tuple[str, str]] = field(default_factory=list)
    """What cannot be read or named, and why."""
    misnamed: list[str] = field(default_factory=list)
    """Media files among them that have no name in UTF-8, as the system gives it."""
    others: Counter[str] = field(default_factory=Counter)
    """Endings of files that are neither media nor archives."""
    num_hidden: int = 0
    """Files and folders that begin with a dot, or that a system keeps for itself: not looked at."""


@dataclass(slots=True)
class Index:
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
            for level, file in self._named(normal(name), shared):
                rank = (number, level, -file.bytes, file.path)
                if file.path not in found or rank < found[file.path]:
                    found[file.path] = rank
        for file, times in self._by_video.get(clip.video, ()):
            level = fit(times, clip.cut_seconds)
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

    def forget_names(self) -> None:
        """Drop what `candidates` looks in: of millions of files that is a gigabyte."""
        for names in (self._by_path, self._by_name, self._by_stem, self._by_video):
            names.clear()

    def is_at(self, path: str, name: str) -> bool:
        """Whether the file of this path is exactly where a name says."""
        return any(file.path == path for file in self._by_path.get(normal(name), ()))

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
        self._by_stem[stem_of(bare)].append(file)


def scan(root: Path) -> Index:
    """Walk the folder once, and index it. Raises `ManifestError` where there is no folder."""
    if not root.is_dir():
        raise ManifestError(f"{root}: no such folder; --root is wrong")
    found = walk(root)
    index = Index(
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


def walk(root: Path | str) -> Walk:
    """Everything below a folder, links followed, each link to a folder once.

    A file is media by its ending or, where the ending says nothing, by how it begins. Hidden files
    and folders, and those that systems keep for themselves, are counted and not looked at.
    """
    out = Walk()
    top = os.path.realpath(root)
    walked = {top}
    real_of = {os.fspath(root): top}
    reals: dict[str, str] = {}
    said: list[OSError] = []
    for folder, folders, names in os.walk(root, followlinks=True, onerror=said.append):
        here = real_of.pop(folder)
        below = os.path.relpath(folder, root)
        below = "" if below == "." else below.replace(os.sep, "/") + "/"
        plain = here == os.path.join(top, below).rstrip(os.sep)
        folders.sort()
        for name in folders[:]:
            path = os.path.join(folder, name)
            real = os.path.join(here, name)
            if is_hidden(name):
                out.num_hidden += 1
                folders.remove(name)
                continue
            if os.path.islink(path):
                real = os.path.realpath(path)
                if real in walked or _within(here, real) or _within(top, real):  # maybe a ring
                    out.links_again[below + name] = _shown(real, top)
                    folders.remove(name)
                    continue
                walked.add(real)
                if not _within(real, top):
                    out.links_outside.append(below + name)
            real_of[path] = real
        for name in sorted(names):
            if is_hidden(name):
                out.num_hidden += 1
            else:
                _look(out, os.path.join(folder, name), below + name, here, top, reals, plain)
    out.unusable += [(str(e.filename), e.strerror or str(e)) for e in said]
    for listed in (out.files, out.archives, out.links_outside, out.unusable):
        listed.sort()
    return out


def is_hidden(name: str) -> bool:
    """Whether a file or folder is not meant to be seen: a dot at its beginning, or a system's."""
    return name.startswith(".") or name in _OF_SYSTEMS


_OF_SYSTEMS = frozenset(
    {"__MACOSX", "@eaDir", "$RECYCLE.BIN", "System Volume Information", "lost+found"}
)


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


def stem_of(name: str) -> str:
    """The name without what is taken for its media ending, known by name or by content."""
    stem, ending = split_ending(name)
    if not ending and _OTHER.fullmatch(os.path.splitext(name)[1]):
        return os.path.splitext(name)[0]
    return stem


def holds_pictures(path: str) -> bool:
    """Whether a file begins as one that holds frames and audio does, whatever it is called."""
    try:
        with open(path, "rb") as file:
            head = file.read(4 * 192 + 5)
    except OSError:
        return False
    if head[4:8] in (b"ftyp", b"moov", b"wide"):
        return head[8:11] not in (b"M4A", b"M4B", b"hei", b"hev", b"mif", b"avi", b"jxl")
    if any(all(head[k + n * step : k + n * step + 1] == b"\x47" for n in range(4))
           for step, k in ((188, 0), (192, 4))):  # fmt: skip
        return True
    return head.startswith(_BEGINNINGS) or (head[:4] == b"RIFF" and head[8:12] == b"AVI ")


_BEGINNINGS = (
    b"\x1a\x45\xdf\xa3",  # Matroska, WebM
    b"\x00\x00\x01\xba", b"\x00\x00\x01\xb3",  # MPEG program stream, MPEG video
    b"FLV\x01", b"OggS",
    b"\x30\x26\xb2\x75\x8e\x66\xcf\x11",  # ASF, WMV
    b"\x06\x0e\x2b\x34\x02\x05\x01\x01",  # MXF
    b".RMF",
)  # fmt: skip
_OTHER = re.compile(r"\.\w{2,5}", re.ASCII)
NO_MEDIA = frozenset({
    ".txt", ".csv", ".tsv", ".json", ".jsonl", ".xml", ".html", ".md", ".pdf", ".py", ".sh", ".log",
    ".yaml", ".yml", ".srt", ".vtt", ".ass", ".jpg", ".jpeg", ".png", ".gif", ".bmp", ".webp",
    ".tif", ".tiff", ".heic", ".svg", ".wav", ".mp3", ".flac", ".aac", ".m4a", ".oga", ".opus",
    ".npy", ".npz", ".pt", ".pth", ".pkl", ".h5", ".hdf5", ".parquet", ".part", ".partial", ".ytdl",
    ".tmp", ".mark",
})  # fmt: skip
"""Endings of files whose content is not asked: there may be millions of them."""


def _look(
    out: Walk,
    path: str,
    relative: str,
    here: str,
    top: str,
    reals: dict[str, str],
    plain: bool,
) -> None:
    """Sort one file into `out`; `here` is the real path of its folder (`plain`: no link leads to
    it), and `reals` has the real paths of the files that were come by through links, and how."""
    name = relative.rpartition("/")[2]
    ending = os.path.splitext(name)[1].lower()
    if name.lower().endswith(ARCHIVES):
        out.archives.append(relative)
        return
    if ending not in ENDINGS and (ending in NO_MEDIA or not holds_pictures(path)):
        out.others[ending or "(no ending)"] += 1
        return
    try:
        relative.encode()
    except UnicodeEncodeError:
        out.unusable.append((ascii(relative), "its name is not UTF-8: rename it"))
        out.misnamed.append(relative)
        return
    try:
        stat = os.stat(path)
    except OSError as error:
        out.unusable.append((relative, error.strerror or str(error)))
        return
    link = os.path.islink(path)
    real = os.path.realpath(path) if link else os.path.join(here, name)
    if link or not plain:
        if _within(real, top) and not _is_hidden_below(real, top):
            out.links_again[relative] = _shown(real, top)
        elif real in reals:
            out.links_again[relative] = reals[real]
        else:
            reals[real] = relative
            if link and not _within(real, top):
                out.links_outside.append(relative)
    out.files.append(File(relative, stat.st_size, stat.st_mtime_ns))


def _is_hidden_below(real: str, top: str) -> bool:
    return any(is_hidden(part) for part in os.path.relpath(real, top).split(os.sep))


def _shown(real: str, top: str) -> str:
    return os.path.relpath(real, top).replace(os.sep, "/") if _within(real, top) else real


def _within(real: str, top: str) -> bool:
    return real == top or real.startswith(top.rstrip(os.sep) + os.sep)
