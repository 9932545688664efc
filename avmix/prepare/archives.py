"""Archives in a media folder: listing, safety checks and unpacking."""

import lzma
import os
import re
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from avmix.data.manifest import ManifestError
from avmix.prepare.media_folder import split_ending
from avmix.system.atomic_files import partial_of

_MOST_MEMBERS = 2_000_000
_KEPT_FREE = 0.05
"""Share of the disk that unpacking leaves free."""
_BROKEN = (tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError,
           RuntimeError, ValueError)  # fmt: skip
"""What reading a broken archive raises. RuntimeError: a zip with a password or, as
NotImplementedError, of a method that zipfile does not have; ValueError: names and sizes that are
none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Archive:
    """What an archive holds."""

    path: str
    """Relative to the media folder."""
    media: tuple[str, ...] = ()
    """Media files in it."""
    num_members: int = 0
    media_bytes: int = 0
    """Bytes of the media files, unpacked."""
    refused: str = ""
    """Why nothing is taken from it; empty where it is safe."""


@dataclass(frozen=True, slots=True)
class _Member:
    name: str
    size: int
    is_file: bool
    is_link: bool
    open: Callable[[], IO[bytes] | None]


def look_into(root: Path, path: str) -> Archive:
    """List an archive without unpacking it.

    It is refused as a whole where a member is absolute, leaves its folder by `..`, or is a link or
    a device: such an archive was not made to hold clips.
    """
    media: list[str] = []
    num_members = num_bytes = 0
    try:
        with _members(root / path) as members:
            for member in members:
                num_members += 1
                problem = _unsafe(member)
                if num_members > _MOST_MEMBERS:
                    problem = f"it has more than {_MOST_MEMBERS} members"
                if problem:
                    return Archive(path=path, num_members=num_members, refused=problem)
                if member.is_file and split_ending(member.name)[1]:
                    media.append(PurePosixPath(member.name).as_posix())
                    num_bytes += member.size
    except _BROKEN as error:
        return Archive(path=path, refused=f"it cannot be read: {error}")
    return Archive(path=path, media=tuple(media), num_members=num_members, media_bytes=num_bytes)


def unpack(root: Path, archive: Archive, folder: str) -> int:
    """Unpack the media files into a folder of the media folder; returns how many were new.

    They come into a folder named after the archive. A file that is there already is left as it is;
    each is written whole or not at all. Raises `ManifestError` where the archive is refused, holds
    more than it says or more than fits on the disk.
    """
    if archive.refused:
        raise ManifestError(f"{root / archive.path}: refused: {archive.refused}")
    out = root / folder / re.sub(r"(\.tar)?\.\w+$", "", PurePosixPath(archive.path).name)
    out.mkdir(parents=True, exist_ok=True)
    disk = shutil.disk_usage(out)
    if archive.media_bytes > disk.free - _KEPT_FREE * disk.total:
        raise ManifestError(
            f"{root / archive.path}: its media files need {archive.media_bytes} bytes and "
            f"{disk.free} are free on the disk of {out}; make room, or leave --archives out"
        )
    wanted, num_new = set(archive.media), 0
    with _members(root / archive.path) as members:
        for member in members:
            path = out / member.name
            if PurePosixPath(member.name).as_posix() not in wanted or path.exists():
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                _copy(member, path)
            except _BROKEN as error:
                raise ManifestError(f"{root / archive.path}: {member.name}: {error}") from None
            num_new += 1
    return num_new


def _copy(member: _Member, path: Path) -> None:
    partial = partial_of(path)
    source = member.open()
    if source is None:
        raise ValueError("it cannot be read")
    try:
        with source, partial.open("wb") as file:
            left = member.size
            while block := source.read(1 << 20):
                left -= len(block)
                if left < 0:
                    raise ValueError("it is longer than the archive says")
                file.write(block)
        os.link(partial, path)  # fails where another has put the file there: never overwritten
    finally:
        partial.unlink(missing_ok=True)


def _unsafe(member: _Member) -> str:
    path = PurePosixPath(member.name.replace("\\", "/"))
    if path.is_absolute() or re.match("[A-Za-z]:", member.name):
        return f"member {member.name!r} has an absolute path"
    if ".." in path.parts:
        return f"member {member.name!r} leaves its folder"
    if member.is_link:
        return f"member {member.name!r} is a link or a device"
    return "" if "\0" not in member.name else f"member {member.name!r} has no name for a file"


@contextmanager
def _members(path: Path) -> Iterator[Iterator[_Member]]:
    if path.name.lower().endswith(".zip"):
        with zipfile.ZipFile(path) as file:
            yield _of_zip(file)
    else:
        with tarfile.open(path) as file:
            yield _of_tar(file)


def _of_zip(file: zipfile.ZipFile) -> Iterator[_Member]:
    for info in file.infolist():
        kind = stat.S_IFMT(info.external_attr >> 16)
        yield _Member(
            info.orig_filename,
            info.file_size,
            not info.is_dir(),
            kind not in (0, stat.S_IFREG, stat.S_IFDIR),
            lambda info=info: file.open(info),
        )


def _of_tar(file: tarfile.TarFile) -> Iterator[_Member]:
    for info in file:
        yield _Member(
            info.name,
            info.size,
            info.isreg(),
            not (info.isreg() or info.isdir()),
            lambda info=info: file.extractfile(info),
        )
