"""`avmix explore`: arguments and exit codes; `avmix.explore` shows the page and brings torch."""

import argparse
import sys
from pathlib import Path

from avmix.system.printing import echo
from avmix.system.unused_arguments import Needs

EPILOG = """\
exit:   0 ended by Ctrl-C   1 the folder, the checkpoint or the port cannot be used, or NiceGUI is
        not installed (the extra explore)   2 wrong usage
"""


def _port(text: str) -> int:
    """A port, or 0."""
    value = int(text)
    if not 0 <= value < 65_536:
        raise argparse.ArgumentTypeError(f"must be in [0, 65535]: {text}")
    return value


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what `run` reads."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = EPILOG
    add = parser.add_argument
    add("checkpoint", type=Path, nargs="?", default=None, metavar="CHECKPOINT",
        help="checkpoint, folder of a run, or file of safetensors, for predictions; without it "
        "clips and mixes are only shown")  # fmt: skip
    add("--root", type=Path, required=True, metavar="DIR",
        help="folder of the clips to choose from; nothing outside of it is shown")  # fmt: skip
    add("--worst", type=Path, default=None, metavar="DIR",
        help="folder of an evaluation, or of a run that was evaluated: show the clips that it is "
        "most wrong about")  # fmt: skip
    add("--split", default=None, help="--worst: split that was evaluated (test)")
    add("--port", type=_port, default=8420, help="port on 127.0.0.1; 0: a free one (8420)")
    add("--no-browser", action="store_true", help="only print the address")
    add("--device", default="auto", help="auto, cpu, cuda or cuda:N (auto)")
    add("--threads", type=int, default=0, metavar="N", help="CPU threads; 0: one per core (0)")
    add("--own-code", action="store_true", help="import the module of a python: encoder")


NEEDS = (
    Needs(option="--split", default=None, says="--worst", met=lambda a: a.worst),
    Needs(option="--own-code", default=False, says="a checkpoint", met=lambda a: a.checkpoint),
)
"""Options that cannot act without others."""


def run(args: argparse.Namespace) -> int:
    """Serve the page until Ctrl-C; returns the exit code."""
    # These bring torch, which `--help` does not need.
    from avmix.evaluation.prediction_file import found_in
    from avmix.explore.clip_shelf import ClipShelf
    from avmix.explore.explored_mix import Explorer
    from avmix.explore.local_server import serve
    from avmix.training import runtime
    from avmix.training.trained import load

    try:
        shelf = ClipShelf.of_folder(args.root)
        predictions = found_in(args.worst, args.split or "test") if args.worst else None
        with runtime.start(device=args.device, threads=args.threads) as here:
            trained = None
            if args.checkpoint is not None:
                trained = load(args.checkpoint, device=here.device, own_code=args.own_code)
            try:
                serve(shelf, Explorer(trained), predictions=predictions, port=args.port,
                      opens_browser=not args.no_browser)  # fmt: skip
            finally:
                shelf.close()
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        pass
    echo("ended")
    return 0
