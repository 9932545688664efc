"""Command line of the dataset recipes: annotations and media in, manifest and inventory out."""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import get_args

from avmix.data.manifest import ManifestError
from avmix.isolate.process_pool import CannotStart
from avmix.media.frame_scan import Check
from avmix.prepare.after_prepare import FOLLOW, NEEDS, add_follow_arguments, after
from avmix.prepare.annotations import read_classes
from avmix.prepare.fetch_annotations import fetch_annotations
from avmix.prepare.pipeline import Options, folder_of, prepare, restricted
from avmix.prepare.protocol import Protocol
from avmix.system.argument_types import at_least_one, positive
from avmix.system.broken_pipe import readers_may_leave
from avmix.system.paths import with_home
from avmix.system.printing import echo
from avmix.system.unused_arguments import unused_argument

EPILOG = """\
After an interruption, the same command continues. excluded.jsonl lists excluded clips with the
reason; inventory.html shows what was found.
exit: 0 prepared   1 something is wrong   2 wrong usage   130 interrupted
"""

Protocols = Callable[[argparse.Namespace], Sequence[Protocol]]


def run_recipe(
    name: str,
    doc: str | None,
    protocols: Protocols,
    *,
    arguments: Callable[[argparse.ArgumentParser], None] | None = None,
    argv: Sequence[str] | None = None,
    prog: str | None = None,
) -> int:
    """Prepare the dataset `name`; returns the exit code.

    `protocols` reads the annotations (`options.annotations`; without `--annotations` they are
    looked for in the media folder) and nothing of the media. `arguments` adds options of its own,
    which it finds in `options`. `prog`: how the command is called (`avmix prepare NAME`).
    Errors are one line on the standard error.
    """
    with readers_may_leave():
        parser = argparse.ArgumentParser(prog=prog or f"avmix prepare {name}", description=doc)
        add_arguments(parser)
        if arguments is not None:
            arguments(parser)
        return _run(parser, protocols, sys.argv[1:] if argv is None else argv)


def _run(parser: argparse.ArgumentParser, protocols: Protocols, argv: Sequence[str]) -> int:
    try:
        options = parser.parse_args(with_home(argv))
    except SystemExit as stop:
        return int(stop.code or 0)
    try:
        if message := unused_argument(options, NEEDS):
            raise _UsageError(message)
        if options.fetch:
            folder = options.annotations or options.out / "annotations"
            options.annotations = fetch_annotations(options.fetch, folder)
        if options.annotations is None:
            options.annotations = options.media
        chosen = _chosen(protocols(options), options.protocol)
        if options.classes:
            names = _names_of(options.classes)
            chosen = [restricted(protocol, names) for protocol in chosen]
        prepare(chosen, _options(options))
        if options.dry_run:
            return 0
        return after(options, [folder_of(options.out, p, len(chosen)) for p in chosen])
    except _UsageError as error:
        echo(f"error: {error}", error=True)
        return 2
    except (ManifestError, CannotStart) as error:
        echo(f"error: {error}", error=True)
        return 1
    except OSError as error:
        named = f"{error.filename}: " if error.filename else f"{options.out}: "
        echo(f"error: {named}{error.strerror or error}", error=True)
        return 1
    except KeyboardInterrupt:
        echo("interrupted; the same command continues from here", error=True)
        return 130


class _UsageError(Exception):
    pass


def _chosen(all_of_them: Sequence[Protocol], names: Sequence[str] | None) -> list[Protocol]:
    known = {protocol.name: protocol for protocol in all_of_them}
    unknown = [name for name in names or () if name not in known]
    if unknown:
        whole = unknown[0].removesuffix("/disjoint")
        if whole in known and whole != unknown[0] and not known[whole].leaks:
            raise _UsageError(f"--protocol {unknown[0]}: {whole} is disjoint already; use that")
        raise _UsageError(f"--protocol {unknown[0]}: unknown; choices: {', '.join(known)}")
    return [known[name] for name in dict.fromkeys(names or known)]


def _names_of(words: Sequence[str]) -> list[str]:
    """Names of classes, or those in a file with one a line."""
    if len(words) == 1 and Path(words[0]).is_file():
        return list(read_classes(Path(words[0])))
    return list(words)


def _options(options: argparse.Namespace) -> Options:
    own = {"media", "annotations", "out", "protocol", "workers", "ray", "overwrite", "archives",
           "dry_run", "classes", "seconds", "fetch", "check", *FOLLOW}  # fmt: skip
    return Options(
        media=options.media,
        out=options.out,
        workers=options.workers,
        ray=options.ray,
        seconds=options.seconds,
        check=options.check,
        audio_track=options.audio_track,
        min_seconds=options.min_seconds,
        keep_audio_only=options.keep_audio_only,
        archives=options.archives,
        overwrite=options.overwrite,
        dry_run=options.dry_run,
        # Paths, processes and their limits are of this machine and change nothing of the result.
        arguments={
            key: str(value) if isinstance(value, Path) else value
            for key, value in sorted(vars(options).items())
            if key not in own
            and not (key == "audio_track" and value is None)
            and not (key == "keep_audio_only" and not value)
        },
    )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what all recipes read."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = EPILOG
    add = parser.add_argument
    add("--root", "--media", dest="media", type=Path, required=True,
        help="folder of the media files, in any layout (as data.root in training)")  # fmt: skip
    add("--annotations", type=Path, help="folder of the annotation files (--root)")
    add("--fetch", nargs="+", metavar="URL#sha256=HEX", help="first download these files "
        "to --annotations and unpack archives; only with the right checksum")  # fmt: skip
    add("--out", type=Path, required=True, help="folder for the manifest; several "
        "protocols have a folder each in it")  # fmt: skip
    add("--protocol", nargs="+", metavar="NAME", help="prepare only these protocols (all)")
    add("--classes", nargs="+", metavar="NAME", help="prepare only these classes, or "
        "those in a file with one per line; renames the protocol (all, even empty)")  # fmt: skip
    add("--workers", type=at_least_one, default=2, help="processes that probe files (2)")
    add("--ray", metavar="ADDRESS", help="probe on a Ray cluster: its address, `auto`, or `local` "
        "to start one here; every machine must see --root under the same path")  # fmt: skip
    add("--seconds", type=positive, default=120.0, help="time limit per file, seconds (120)")
    add("--check", choices=get_args(Check), default="fast", help="fast: read the packets and "
        "decode the audio of every file, and frames only where there are signs of damage; full: "
        "decode every frame, so that training can read everything that is kept (fast)")  # fmt: skip
    add("--min-seconds", "--min_seconds", type=positive, default=0.5,
        help="minimum length of a clip, seconds (0.5)")  # fmt: skip
    add("--keep-audio-only", "--keep_audio_only", action="store_true", help="keep files without a "
        "video stream for their audio; they are counted (they are excluded)")  # fmt: skip
    add("--audio-track", "--audio_track", type=_track, metavar="N|LANG", help="audio track of "
        "files with several: its number from 0, or its language in the file, `eng` (the one that "
        "players choose); a file without that track is unreadable, and its tracks are "
        "listed")  # fmt: skip
    add("--archives", metavar="FOLDER", help="unpack media files of archives (zip, tar) in --root "
        "into this folder of it; existing files are kept")  # fmt: skip
    add("--dry-run", "--dry_run", action="store_true", help="only match files to clips by name, "
        "read no media, and write mapping.csv and missing.txt")  # fmt: skip
    add("--overwrite", action="store_true", help="replace an existing, different dataset")
    add_follow_arguments(parser)


def _track(text: str) -> int | str:
    if not text.strip():
        raise argparse.ArgumentTypeError("must be a number from 0, or a language")
    return int(text) if text.isdecimal() else text
