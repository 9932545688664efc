"""`avmix predict`: arguments and exit codes; `predict_files` does the work and brings torch."""

import argparse
from argparse import ArgumentTypeError
from pathlib import Path

from avmix.system.argument_types import at_least_one, positive
from avmix.system.printing import echo
from avmix.system.unused_arguments import Needs

EPILOG = """\
decided: which modality decided the answer, the class with the highest fused probability. A
        modality's drop is that probability minus the fused one of the same class when the modality
        is removed. The one with the larger drop decided; where they differ by at most 5 points:
        both, if the larger drop is more than that, else either (each alone gives the answer)
exit:   0 every file was predicted   1 none could be, or the checkpoint cannot be used   2 wrong
        usage   3 some files could not be predicted: they are named, with the reason;
        with --live: windows were lost, or the stream ended with an error
        130 interrupted
"""
_STEP, _TIMEOUT, _SECONDS, _BATCH_SIZE = 1.0, 30.0, 60.0, 32


def _count(text: str) -> int:
    """A whole number, 0 or more."""
    value = int(text)
    if value < 0:
        raise ArgumentTypeError(f"must be at least 0: {text}")
    return value


def _share(text: str) -> float:
    """A number in [0, 1]."""
    value = float(text)
    if not 0 <= value <= 1:
        raise ArgumentTypeError(f"must be in [0, 1]: {text}")
    return value


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what `run` reads."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = EPILOG
    add = parser.add_argument
    add("paths", nargs="*", metavar="FILE|DIR", help="media files, and folders of them")
    add("--checkpoint", type=Path, required=True, metavar="PATH",
        help="checkpoint, folder of a run, or file of safetensors")  # fmt: skip
    add("--top", type=_count, default=None, metavar="K",
        help="classes to report; 0: all (5). Not for a network of several labels")  # fmt: skip
    add("--threshold", type=_share, default=None, metavar="P",
        help="network of several labels: report the classes with at least this probability "
        "(0.5)")  # fmt: skip
    add(
        "--label-set",
        default=None,
        metavar="NAME",
        help="network of label sets, for example verb and noun: the set that is reported",
    )
    add("--views", "--num_views", type=at_least_one, default=None, metavar="N", dest="views",
        help="evenly spaced windows of each file, averaged as avmix evaluate does (3)")  # fmt: skip
    add(
        "--along-time",
        action="store_true",
        help="a prediction for every window along each file, in place of one for the file",
    )
    add("--live", default=None, metavar="SOURCE",
        help="read a stream instead of files: - for the standard input, or a named pipe; MPEG-TS, "
        "Matroska and others that need no seeking. A line for each window as it comes")  # fmt: skip
    add("--timeout", type=positive, default=_TIMEOUT, metavar="SECONDS",
        help="--live: end where nothing comes for so long (30)")  # fmt: skip
    add("--step", type=positive, default=_STEP, metavar="SECONDS",
        help="--along-time, --live: from one window to the next (1)")  # fmt: skip
    add("--figures", type=Path, default=None, metavar="DIR",
        help="--along-time: draw the probabilities of each file over time")  # fmt: skip
    add("--video-out", type=Path, default=None, metavar="DIR",
        help="write a copy of each video with its predictions as captions (mp4)")  # fmt: skip
    add(
        "--json",
        metavar="FILE",
        help="write everything as JSON, with --live as JSON Lines; - for standard output",
    )
    add("--csv", metavar="FILE", help="write a row per class of each file; - for standard output")
    add("--workers", type=_count, default=1, metavar="N",
        help="processes that read files; 0: none, a file may crash the program (1)")  # fmt: skip
    add("--seconds", type=positive, default=_SECONDS, help="time limit per file, seconds (60)")
    add("--batch-size", type=at_least_one, default=_BATCH_SIZE, metavar="N",
        help="windows per batch (32)")  # fmt: skip
    add("--device", default="auto", help="auto, cpu, cuda or cuda:N (auto)")
    add("--threads", type=_count, default=0, metavar="N", help="CPU threads; 0: one per core (0)")
    add("--own-code", action="store_true", help="import the module of a python: encoder")


NEEDS = (
    Needs(option="--step", default=_STEP, says="--along-time or --live",
          met=lambda a: a.along_time or a.live is not None),
    Needs(option="--timeout", default=_TIMEOUT, says="--live", met=lambda a: a.live is not None),
    *(Needs(option=option, default=default, says="files: it means nothing for --live",
            met=lambda a: a.live is None)
      for option, default in (("--along-time", False), ("--video-out", None), ("--csv", None),
                              ("--workers", 1), ("--seconds", _SECONDS),
                              ("--batch-size", _BATCH_SIZE))),
    Needs(option="--figures", default=None, says="--along-time", met=lambda a: a.along_time),
    Needs(option="--views", default=None, says="a prediction per file: --along-time has one window "
          "at a time", met=lambda a: not a.along_time and a.live is None),
    Needs(option="--csv", default=None, says="an output of its own: --json is - as well",
          met=lambda a: not (a.csv == a.json == "-")),
)  # fmt: skip
"""Options that cannot act without others."""


def run(args: argparse.Namespace) -> int:
    """Predict, print, write; returns the exit code."""
    if bool(args.paths) == (args.live is not None):
        echo("error: name files or folders, or a stream with --live SOURCE, and not both",
             error=True)  # fmt: skip
        return 2
    if args.live is not None:
        from avmix.commands.predict_live import predict_live  # brings torch, which takes seconds

        return predict_live(args)
    from avmix.commands.predict_files import predict_files  # brings torch, which takes seconds

    return predict_files(args)
