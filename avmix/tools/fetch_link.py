"""Download of one link: a file over http(s), or the video of a page with yt-dlp."""

import gzip
import shutil
import time
import urllib.error
import urllib.parse
import urllib.request
import zlib
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path, PurePosixPath
from typing import Any

from avmix.data.manifest import ManifestError
from avmix.system.atomic_files import replacing_path
from avmix.tools.link_list import Item

_PIECE = 1 << 16


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestLimits:
    """How much is asked of a server."""

    bytes_per_second: float = 2e6
    pause_seconds: float = 1.0
    """Between two items."""
    timeout_seconds: float = 30.0
    tries: int = 3
    """Of one item, each after twice the pause of the one before."""


def fetch_file(item: Item, out: Path, manners: RequestLimits) -> Path:
    """Fetch one link over http(s), from where an earlier try was stopped.

    Raises OSError, also for answers that are errors, and ValueError where the file is shorter than
    the server said.
    """
    path = out / item.name
    path.parent.mkdir(parents=True, exist_ok=True)
    partial, mark = path.with_name(path.name + ".partial"), path.with_name(path.name + ".mark")
    have, version = bytes_there(partial), mark.read_text() if mark.exists() else ""
    headers = {"User-Agent": "avmix", "Accept-Encoding": "identity"}
    if have > 0 and version:
        headers |= {"Range": f"bytes={have}-", "If-Range": version}
    request = urllib.request.Request(item.url, headers=headers)
    with urllib.request.urlopen(request, timeout=manners.timeout_seconds) as answer:
        ranged = answer.headers.get("Content-Range", "")
        goes_on = answer.status == 206 and ranged.startswith(f"bytes {have}-")
        if answer.status == 206 and not goes_on:
            raise ValueError(f"the server sent other bytes than asked for: {ranged!r}")
        length = answer.headers.get("Content-Length")
        packed = answer.headers.get("Content-Encoding") == "gzip"  # though nobody asked for it
        start = have if goes_on else 0
        if not goes_on:
            # Weak versions do not promise the same bytes.
            tag = answer.headers.get("ETag") or ""
            mark.write_text("" if tag.startswith("W/") else tag)
        began, got = time.monotonic(), 0
        with partial.open("ab" if goes_on else "wb") as file:
            while piece := answer.read(_PIECE):
                file.write(piece)
                got += len(piece)
                ahead = got / manners.bytes_per_second - (time.monotonic() - began)
                if ahead > 0:
                    time.sleep(ahead)
        if length is not None and got != int(length):
            raise ValueError(f"ended after {start + got} of {start + int(length)} bytes")
    if packed:
        try:
            with (
                gzip.open(partial) as data,
                replacing_path(path) as whole,
                whole.open("wb") as file,
            ):
                shutil.copyfileobj(data, file)
        except (gzip.BadGzipFile, zlib.error, EOFError) as error:
            raise ValueError(f"its gzip cannot be unpacked: {error}") from None
        finally:
            partial.unlink()  # all of it is here: there is nothing to go on with
    else:
        partial.replace(path)
    mark.unlink(missing_ok=True)
    return path


def fetch_page(item: Item, out: Path, manners: RequestLimits) -> Path:
    """Fetch the video of a page with yt-dlp, which has to be installed (`pip install yt-dlp`).

    Raises OSError and ValueError as `fetch_file`.
    """
    try:
        yt_dlp: Any = import_module("yt_dlp")
    except ImportError:
        raise ManifestError("--with yt-dlp: not installed; pip install yt-dlp") from None
    template = str(out / item.name).replace("%", "%%") + ".%(ext)s"
    options: dict[str, Any] = {
        "outtmpl": {"default": template},
        "format": "bv*[height<=480]+ba/b[height<=480]/b",
        "merge_output_format": "mp4",
        "ratelimit": manners.bytes_per_second,
        "socket_timeout": manners.timeout_seconds,
        "continuedl": True,
        "noplaylist": True,
        "quiet": True,
        "no_warnings": True,
        "noprogress": True,
        "cachedir": False,
        "usenetrc": False,
    }
    try:
        with yt_dlp.YoutubeDL(options) as program:
            program.extract_info(item.url, download=True)
    except yt_dlp.utils.DownloadError as error:
        raise ValueError(" ".join(str(error).split())) from None
    folder = (out / item.name).parent
    base = PurePosixPath(item.name).name + "."
    found = [p for p in sorted(folder.iterdir())
             if p.name.startswith(base) and p.suffix not in (".part", ".ytdl")]  # fmt: skip
    if not found:
        raise ValueError("yt-dlp wrote no file")
    return found[0]


def bytes_there(path: Path) -> int:
    """Bytes of a file; -1 where there is none."""
    return path.stat().st_size if path.is_file() else -1
