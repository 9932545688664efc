"""`avmix export`: arguments, printing and exit codes; `export_network` does the work and brings
torch."""

import argparse
from pathlib import Path

from avmix.system.printing import echo
from avmix.system.unused_arguments import Needs

EPILOG = """\
exit:   0 written and checked   1 the network cannot be exported, or the file does not compute the
        same: then there is no file   2 wrong usage   130 interrupted
"""
NEEDS: tuple[Needs, ...] = ()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what `run` reads."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = EPILOG
    add = parser.add_argument
    add("checkpoint", metavar="CHECKPOINT",
        help="checkpoint, folder of a run or of avmix push, or file of safetensors")  # fmt: skip
    add("--out", type=Path, required=True, metavar="PATH",
        help="file (.onnx, .pt2), or a folder for model.onnx or model.pt2; its description (.json) "
        "and a model card (.md) are written beside it")  # fmt: skip
    add("--format", choices=("onnx", "torch"), default=None,
        help="onnx (the default for a folder), or torch: a program of torch.export")  # fmt: skip
    add("--clips", nargs="+", default=[], metavar="FILE|DIR",
        help="media files that the export is checked with (two synthetic ones)")  # fmt: skip
    add("--json", action="store_true", help="print what was measured as JSON, and nothing else")
    add("--own-code", action="store_true", help="import the module of a python: encoder")


def run(args: argparse.Namespace) -> int:
    """Export, check and print; returns the exit code."""
    from dataclasses import asdict

    from avmix.exporting.export_network import export  # brings torch, which takes seconds
    from avmix.system import strict_json

    try:
        found = export(args.checkpoint, args.out, format=args.format, clips=args.clips,
                       own_code=args.own_code)  # fmt: skip
    except (ValueError, OSError) as error:
        echo(f"error: {error}", error=True)
        return 1
    except KeyboardInterrupt:
        echo("stopped; nothing was published. The same command begins again", error=True)
        return 130
    if args.json:
        said = {**asdict(found), "path": str(found.path)}
        echo(strict_json.dumps(said, indent=2), keep="\n")
        return 0
    which = "" if args.clips else "synthetic "
    echo(f"wrote {found.path}: {found.num_bytes / 1e6:.1f} MB")
    echo(f"checked with {found.num_clips} {which}clips: probabilities differ from the network's by "
         f"at most {found.largest_difference:.1e}")  # fmt: skip
    echo(f"one clip takes {found.milliseconds:.1f} ms on this CPU, decoding not included; in avmix "
         f"{found.network_milliseconds:.1f} ms")  # fmt: skip
    return 0
