"""`avmix push`: arguments, printing and exit codes; `push` does the work and brings torch."""

import argparse
from dataclasses import asdict
from pathlib import Path

from avmix.system import strict_json
from avmix.system.printing import echo
from avmix.system.unused_arguments import Needs

EPILOG = """\
exit:   0 written   1 the checkpoint cannot be read, or the folder or the Hub not be written
        2 wrong usage   130 interrupted
"""
NEEDS = (
    Needs(option="--private", default=False, says="--hub", met=lambda args: args.hub),
)  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what `run` reads."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = EPILOG
    add = parser.add_argument
    add("checkpoint", metavar="CHECKPOINT",
        help="checkpoint, folder of a run, or file of safetensors")  # fmt: skip
    add(
        "folder",
        type=Path,
        metavar="DIR",
        help="folder for model.safetensors, config.json and the model card, for avmix.load",
    )
    add("--hub", default="", metavar="USER/NAME",
        help="upload the folder into this repository of the Hub, too")  # fmt: skip
    add("--private", action="store_true", help="--hub: readable for its owner alone")
    add("--license", default="", metavar="ID",
        help="under which the network is published, as the Hub names it: apache-2.0")  # fmt: skip
    add("--json", action="store_true", help="print what was written as JSON, and nothing else")
    add("--own-code", action="store_true", help="import the module of a python: encoder")


def run(args: argparse.Namespace) -> int:
    """Write, upload and print; returns the exit code."""
    from avmix.exporting.push import push  # brings torch, which takes seconds

    try:
        done = push(args.checkpoint, args.folder, hub=args.hub, private=args.private,
                    licence=args.license, own_code=args.own_code)  # fmt: skip
    except (ValueError, OSError) as error:
        echo(f"error: {error}", error=True)
        return 1
    except KeyboardInterrupt:
        echo("stopped. The same command begins again", error=True)
        return 130
    if args.json:
        echo(strict_json.dumps({**asdict(done), "folder": str(done.folder)}, indent=2), keep="\n")
        return 0
    size = done.num_bytes / 1e6
    echo(f"wrote {done.folder}: {size:.1f} MB of weights, config.json and the model card")
    if done.url:
        echo(f"uploaded: {done.url}")
    return 0
