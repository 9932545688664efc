"""The `avmix` command."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from avmix.decode import ClipError
from avmix.doctor.command import UsageError, add_arguments, run


def main(argv: Sequence[str] | None = None) -> None:
    """Entry of the `avmix` command; ends with one line and an exit code of its own on bad input."""
    parser = argparse.ArgumentParser(prog="avmix", description="Audio-visual action recognition.")
    commands = parser.add_subparsers(dest="command", required=True)
    preview = commands.add_parser("preview", help="picture of two clips and of their mix")
    preview.add_argument("own", type=Path, help="video file A")
    preview.add_argument("partner", type=Path, help="video file B")
    preview.add_argument("--lam", type=float, default=0.5, help="weight of A, 0 to 1 (0.5)")
    preview.add_argument("--start", type=float, default=0.0, help="seconds into both files (0)")
    preview.add_argument("--labels", nargs=2, metavar=("A", "B"), help="class names (file names)")
    preview.add_argument("-o", "--out", type=Path, default=Path("mix.png"), help="PNG (mix.png)")
    what = "what is in media files, what is wrong with them, and with this environment"
    doctor = commands.add_parser("doctor", help=what, description=f"Say {what}.")
    add_arguments(doctor)
    args = parser.parse_args(argv)
    match args.command:
        case "preview":
            _preview(args)
        case "doctor":
            try:
                sys.exit(run(args))
            except UsageError as error:
                doctor.error(str(error))


def _preview(args: argparse.Namespace) -> None:
    from avmix.preview import preview_mix  # brings matplotlib, which nothing else here needs

    try:
        preview_mix(
            args.own,
            args.partner,
            lam=args.lam,
            out=args.out,
            start_seconds=args.start,
            labels=tuple(args.labels) if args.labels else None,
        )
    except (ClipError, OSError, ValueError) as error:
        sys.exit(f"error: {error}")
    print(f"wrote {args.out}")
