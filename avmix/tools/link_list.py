"""Link lists: a URL per line, the name of its file, and the seconds that are kept."""

import re
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from avmix.data.manifest import ManifestError
from avmix.system.atomic_files import replacing


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """Something to fetch."""

    url: str
    name: str
    """Of the file, relative to the folder; for yt-dlp without its ending."""
    cut_seconds: tuple[float, float] | None = None
    """From where to where it is cut once it is there; None: it stays whole."""


def read_list(path: Path) -> tuple[Item, ...]:
    """The items of a list. Raises `ManifestError` naming the line that is none."""
    items: list[Item] = []
    taken: dict[str, Item] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8-sig").splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        url, name, cut, *more = [*(part.strip() for part in line.split("\t")), "", ""][:4]
        if any(more):
            raise ManifestError(f"{path}:{number}: more than link, name and seconds")
        parts = urllib.parse.urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ManifestError(f"{path}:{number}: not an http(s) link: {url!r}")
        if parts.username is not None or parts.password is not None:
            raise ManifestError(f"{path}:{number}: the link holds a name or password; take it out")
        name = name or urllib.parse.unquote(PurePosixPath(parts.path).name)
        pure = PurePosixPath(name)
        if not name or pure.is_absolute() or ".." in pure.parts or "\\" in name or "\0" in name:
            raise ManifestError(f"{path}:{number}: {name!r} is no name for a file; give one")
        item = Item(url=url, name=name, cut_seconds=_cut_of(cut, f"{path}:{number}"))
        if taken.setdefault(name, item) != item:
            raise ManifestError(f"{path}:{number}: {name!r} is the name of another link, too")
        items.append(item)
    return tuple(dict.fromkeys(items))


def _cut_of(text: str, where: str) -> tuple[float, float] | None:
    if not text:
        return None
    found = re.fullmatch(r"(\d+(?:\.\d+)?)-(\d+(?:\.\d+)?)", text)
    if found is None or float(found[1]) >= float(found[2]):
        raise ManifestError(f"{where}: {text!r} is no stretch of seconds as 30-40")
    return float(found[1]), float(found[2])


def write_list(path: Path, items: Iterable[Item]) -> int:
    """Write a list that `read_list` reads: what is missing, for this or any other program.

    Returns how many there are; one by one, for there may be millions.
    """
    count = 0
    with replacing(path) as file:
        for item in items:
            cut = "" if item.cut_seconds is None else "\t{:g}-{:g}".format(*item.cut_seconds)
            file.write(f"{item.url}\t{item.name}{cut}\n".encode())
            count += 1
    return count
