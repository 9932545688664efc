"""Recursive listing of a media folder: its media files, archives and links."""

import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

ENDINGS = frozenset({
    ".mp4", ".m4v", ".mov", ".3gp", ".3g2", ".f4v", ".mkv", ".webm", ".avi", ".ts", ".mts", ".m2ts",
    ".mpg", ".mpeg", ".vob", ".flv", ".wmv", ".asf", ".ogv", ".ogg",
})  # fmt: skip
"""Extensions of containers that avmix reads."""


ARCHIVES = (".zip", ".tar", ".tgz", ".tar.gz", ".tar.bz2", ".tar.xz")


@dataclass(frozen=True, slots=True, order=True)
class File:
    """A file found in a media folder."""

    path: str
    """Relative to the media folder, with forward slashes, as the disk spells it."""
    bytes: int
    mtime_ns: int
    """Time of its last change."""


@dataclass(slots=True)
class Walk:
    """Contents of a folder and its subfolders."""

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


def walk(root: Path | str) -> Walk:
    """List everything below a folder, following links, each link to a folder once.

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
    """True for hidden files and folders: a leading dot, or a name that systems use."""
    return name.startswith(".") or name in _OF_SYSTEMS


_OF_SYSTEMS = frozenset(
    {"__MACOSX", "@eaDir", "$RECYCLE.BIN", "System Volume Information", "lost+found"}
)


def is_media_file(path: str) -> bool:
    """True when the first bytes of a file are those of a media container, whatever its name."""
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
    if ending not in ENDINGS and (ending in NO_MEDIA or not is_media_file(path)):
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
