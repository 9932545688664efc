"""`avmix download`: fetches the files of a list of links at a limited rate and reports the outcome
of each.

The list is plain: a URL a line, after it, where wanted, a tab and the name of the file, and another
tab and `30-40`: the seconds of the video that are kept, as `missing.txt` of the recipes has them.
What arrives is probed: a login page, an empty file or half a video is a failure, and tried again by
the next run. Links that are files are fetched over http(s), and go on where they were stopped, if
the server can; what is on pages of video sites needs another program: `--with yt-dlp` asks the
package of that name, which is imported only then. Every item has a line in `download.jsonl`; what
is there is not fetched again. Nothing here logs in: links with a password are refused, and no
cookie is sent or kept.

Fetch only what its owners allow you to; many datasets are distributed as links for that reason.
"""

import argparse
import gzip
import hashlib
import json
import os
import re
import shutil
import tarfile
import time
import urllib.error
import urllib.parse
import urllib.request
import zipfile
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import asdict, dataclass, replace
from http.client import HTTPException
from importlib import import_module
from pathlib import Path, PurePosixPath
from typing import Any

from avmix.data.manifest import ManifestError
from avmix.decode import ClipError
from avmix.isolate.process_pool import Failure, run_each
from avmix.media.folder_walk import ARCHIVES, NO_MEDIA
from avmix.system import strict_json
from avmix.system.atomic_files import DISK_REFUSES, naming, replacing, replacing_path
from avmix.system.printing import echo, printable

JOURNAL = "download.jsonl"
_PIECE = 1 << 16
_LOOK_SECONDS = 600.0
"""Limit for probing and cutting one file."""
_PRELOAD = ("avmix.tools.download", "avmix.media.probe", "avmix.tools.transcode")
"""Imported once, not by the process of every file."""
_WHOLE_SIZE = 1 << 14
"""Pixels: cut files keep the size of their frames."""

EPILOG = """\
exit:   0 everything is there   1 some are not (download.jsonl says why); the same command tries them
        again   2 wrong usage   130 interrupted; the same command continues
"""  # noqa: E501


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """Something to fetch."""

    url: str
    name: str
    """Path of the file, relative to the folder; for yt-dlp without its ending."""
    cut_seconds: tuple[float, float] | None = None
    """From where to where it is cut once it is there; None: it stays whole."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of an item."""

    url: str
    name: str
    path: str = ""
    """Path of the file, relative to the folder; empty where there is none."""
    bytes: int = 0
    sha256: str = ""
    problem: str = ""
    """Why it is not there; empty where it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestLimits:
    """How much is asked of a server."""

    bytes_per_second: float = 2e6
    pause_seconds: float = 1.0
    """Between two items."""
    timeout_seconds: float = 30.0
    tries: int = 3
    """Attempts per item, each after twice the pause of the one before."""


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


Look = Callable[[Path, Item], tuple[str, Path]]
"""What is wrong with a file that arrived, and the file, as `arrived`."""
Fetch = Callable[[Item, Path, RequestLimits], Path]
"""Fetches an item into a folder and returns the file; raises OSError or ValueError."""


def download(
    items: Sequence[Item], out: Path, manners: RequestLimits, fetch: Fetch, *,
    look: Look | None = None,
    say: Callable[[str], None] = lambda text: None,
    sleep: Callable[[float], None] = time.sleep,
) -> tuple[Outcome, ...]:  # fmt: skip
    """Fetch each item that is not there yet, and look at it (`arrived`); what became of all of
    them, in order.

    Raises OSError where the disk refuses.
    """
    out.mkdir(parents=True, exist_ok=True)
    known = _read_journal(out)
    outcomes: list[Outcome] = []
    fetched = 0
    with (out / JOURNAL).open("a", encoding="utf-8") as journal:
        for number, item in enumerate(items, 1):
            if is_there(item, out, known):
                outcomes.append(known[item.url, item.name])
                continue
            if fetched:
                sleep(manners.pause_seconds)
            fetched += 1
            outcomes.append(_try(item, out, manners, fetch, look or arrived, sleep))
            line = strict_json.dumps(asdict(outcomes[-1]))
            with naming(out / JOURNAL):
                # A line that a kill cut in two must not swallow this one.
                journal.write("\n" + line + "\n")
                journal.flush()
            say(f"{number}/{len(items)} {item.name}: {outcomes[-1].problem or 'there'}")
    return tuple(outcomes)


def dry_run(items: Sequence[Item], out: Path) -> list[str]:
    """A line for each item, what `download` would do, and one for all of them."""
    known = _read_journal(out)
    there = [is_there(item, out, known) for item in items]
    lines = [
        f"{item.url} -> {out / item.name}: {'there' if here else 'to be fetched'}"
        for item, here in zip(items, there, strict=True)
    ]
    return [*map(printable, lines), f"{sum(there)} of {len(items)} are there; nothing was fetched"]


def is_there(item: Item, out: Path, known: Mapping[tuple[str, str], Outcome]) -> bool:
    """Whether the journal `known` says that an item was fetched, and its file is as it was."""
    old = known.get((item.url, item.name))
    return old is not None and bool(old.path) and _size(out / old.path) == old.bytes


def fetch_file(item: Item, out: Path, manners: RequestLimits) -> Path:
    """Fetch one link over http(s), from where an earlier try was stopped.

    Raises OSError, also for answers that are errors, and ValueError where the file is shorter than
    the server said.
    """
    path = out / item.name
    path.parent.mkdir(parents=True, exist_ok=True)
    partial, mark = path.with_name(path.name + ".partial"), path.with_name(path.name + ".mark")
    have, version = _size(partial), mark.read_text() if mark.exists() else ""
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
        packed = answer.headers.get("Content-Encoding") == "gzip"  # though not asked for
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


def arrived(path: Path, item: Item) -> tuple[str, Path]:
    """Look at what was fetched, in a process that it cannot harm, and cut it where that is asked
    for: why it is no use, else nothing, and the file."""
    with path.open("rb") as file:
        head = file.read(512)
    name = path.name.lower()
    if not head:
        return "it is empty", path
    if head.lstrip()[:1] == b"<" and not name.endswith((".xml", ".html", ".svg")):
        return "it is a web page and no file; is a login needed?", path
    if name.endswith(ARCHIVES):
        whole = zipfile.is_zipfile(path) or tarfile.is_tarfile(path)
        return "" if whole else "it is no archive that can be read", path
    if path.suffix.lower() in NO_MEDIA:
        return "", path
    if head.startswith(b"\x1f\x8b"):
        return "it is compressed (gzip), and no media file", path
    with closing(run_each(_probe_and_cut, [(path, item.cut_seconds)], workers=1,
                          seconds=lambda task: _LOOK_SECONDS,
                          preload=_PRELOAD)) as running:  # fmt: skip
        _, outcome = next(iter(running))
    return (outcome.text, path) if isinstance(outcome, Failure) else outcome


def _probe_and_cut(task: tuple[Path, tuple[float, float] | None]) -> tuple[str, Path]:
    from avmix.media.judgement import entry_of  # only this process needs them
    from avmix.tools.transcode import Job, TargetFormat, make_one

    path, cut = task
    try:
        entry = entry_of(path, path.parent, clip_id=path.name, labels=("",), source_id=path.name)
    except ClipError as error:
        return error.problem.splitlines()[0], path
    if cut is None or entry.duration_seconds <= 1.1 * (cut[1] - cut[0]) + 0.5:
        return "", path
    if entry.end_seconds < cut[1] - 0.5:
        return f"{entry.end_seconds:.2f} s long: it does not reach second {cut[1]:g}", path
    stretch = replace(entry, start_seconds=cut[0], end_seconds=min(cut[1], entry.end_seconds))
    target = path.with_suffix(".mp4")
    job = Job(entry=stretch, path=f"{path.stem}.cut.mp4")
    made = make_one(path.parent, path.parent, job, form=TargetFormat(short_side=_WHOLE_SIZE))
    if made.entry is None:
        return f"it cannot be cut: {made.reason}", path
    path.unlink()
    (path.parent / job.path).replace(target)
    return "", target


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


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what `run` reads."""
    usual = RequestLimits()
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = EPILOG
    parser.add_argument(
        "--list",
        type=Path,
        required=True,
        metavar="FILE",
        help="list of links, one per line; after a tab, the file name (default: end of the link)",
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for the files")
    parser.add_argument("--dry-run", action="store_true",
                        help="fetch nothing; print what would be done with each link")  # fmt: skip
    parser.add_argument("--with", dest="program", choices=("http", "yt-dlp"), default="http",
                        help="links are files (http) or pages of videos (yt-dlp)")  # fmt: skip
    parser.add_argument("--rate", type=float, default=usual.bytes_per_second / 1e6, metavar="MB",
                        help="largest rate, megabytes per second (2)")  # fmt: skip
    parser.add_argument("--pause", type=float, default=usual.pause_seconds, metavar="SECONDS",
                        help="pause between two items (1)")  # fmt: skip


def run(args: argparse.Namespace) -> int:
    """Fetch what is missing, say what became of it, and return the exit code."""
    try:
        if not args.rate > 0 or not args.pause >= 0:
            raise ManifestError("--rate must be above 0, and --pause 0 or more")
        manners = RequestLimits(bytes_per_second=1e6 * args.rate, pause_seconds=args.pause)
        fetch = fetch_page if args.program == "yt-dlp" else fetch_file
        items = read_list(args.list)
        if args.dry_run:
            print("\n".join(dry_run(items, args.out)))
            return 0
        outcomes = download(items, args.out, manners, fetch, say=echo)
    except (ManifestError, OSError) as error:
        echo(f"error: {error}", error=True)
        return 2
    except KeyboardInterrupt:
        echo("stopped; the same command continues", error=True)
        return 130
    bad = sum(bool(outcome.problem) for outcome in outcomes)
    echo(f"{args.out}: {len(outcomes) - bad} of {len(outcomes)} are there")
    return int(bad > 0)


def _try(
    item: Item,
    out: Path,
    manners: RequestLimits,
    fetch: Fetch,
    look: Look,
    sleep: Callable[[float], None],
) -> Outcome:
    problem = ""
    for turn in range(manners.tries):
        if turn:
            sleep(manners.pause_seconds * 2**turn)
        try:
            problem, path = look(fetch(item, out, manners), item)
            if problem:
                path.unlink(missing_ok=True)  # or it would be taken for the file
                break
            with path.open("rb") as file:
                sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            return Outcome(url=item.url, name=item.name, path=path.relative_to(out).as_posix(),
                           bytes=path.stat().st_size, sha256=sha256)  # fmt: skip
        except urllib.error.HTTPError as error:
            problem = f"HTTP {error.code} {error.reason}"
            if error.code == 416:  # more is here than there
                with suppress(FileNotFoundError):
                    os.unlink(out / f"{item.name}.partial")
            elif error.code < 500 and error.code not in (408, 429):
                break  # it will say the same again
        except ManifestError:
            raise
        except (OSError, ValueError, HTTPException) as error:
            if isinstance(error, OSError) and error.errno in DISK_REFUSES:
                raise
            problem = f"{type(error).__name__}: {error}"
    return Outcome(url=item.url, name=item.name, problem=problem)


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else -1


def _read_journal(out: Path) -> Mapping[tuple[str, str], Outcome]:
    known: dict[tuple[str, str], Outcome] = {}
    path = out / JOURNAL
    for text in path.read_text().split("\n") if path.exists() else ():
        with suppress(ValueError, TypeError):  # cut by a kill: that one is looked at once more
            outcome = Outcome(**json.loads(text))
            known[outcome.url, outcome.name] = outcome
    return known
