"""`avmix download`: fetch what a list of links names, slowly, and say what became of each.

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
import hashlib
import json
import os
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from http.client import HTTPException
from pathlib import Path

from avmix.data.manifest import ManifestError
from avmix.system import strict_json
from avmix.system.atomic_files import DISK_REFUSES, naming
from avmix.system.printing import echo, printable
from avmix.tools.fetch_link import RequestLimits, bytes_there, fetch_file, fetch_page
from avmix.tools.fetched_file import arrived
from avmix.tools.link_list import Item, read_list

JOURNAL = "download.jsonl"

EPILOG = """\
exit:   0 everything is there   1 some are not (download.jsonl says why); the same command tries them
        again   2 wrong usage   130 interrupted; the same command goes on
"""  # noqa: E501


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of an item."""

    url: str
    name: str
    path: str = ""
    """Of the file, relative to the folder; empty where there is none."""
    bytes: int = 0
    sha256: str = ""
    problem: str = ""
    """Why it is not there; empty where it is."""


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
    return old is not None and bool(old.path) and bytes_there(out / old.path) == old.bytes


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
        help="a link a line and, after a tab, the name that its file gets (the end of the link)",
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for the files")
    parser.add_argument("--dry-run", action="store_true",
                        help="fetch nothing; print what would become of each link")  # fmt: skip
    parser.add_argument("--with", dest="program", choices=("http", "yt-dlp"), default="http",
                        help="links are files (http) or pages of videos (yt-dlp)")  # fmt: skip
    parser.add_argument("--rate", type=float, default=usual.bytes_per_second / 1e6, metavar="MB",
                        help="megabytes per second, at most (2)")  # fmt: skip
    parser.add_argument("--pause", type=float, default=usual.pause_seconds, metavar="SECONDS",
                        help="between two items (1)")  # fmt: skip


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
        echo("stopped; the same command goes on", error=True)
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


def _read_journal(out: Path) -> Mapping[tuple[str, str], Outcome]:
    known: dict[tuple[str, str], Outcome] = {}
    path = out / JOURNAL
    for text in path.read_text().split("\n") if path.exists() else ():
        with suppress(ValueError, TypeError):  # cut by a kill: that one is looked at once more
            outcome = Outcome(**json.loads(text))
            known[outcome.url, outcome.name] = outcome
    return known
