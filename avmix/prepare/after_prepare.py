"""What a recipe does with a manifest once it is written: look for leaks, transcode, make shards.

The same as `avmix leaks`, `avmix transcode` and `avmix shards`, with their usual options; those
commands have more.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from avmix.system.unused_arguments import Needs
from avmix.tools import leaks, shards, transcode
from avmix.tools.transcode_clip import TargetFormat

FOLLOW = ("leaks", "transcode", "short_side", "shards", "per_shard")
"""Options that change nothing of the manifest itself."""


def add_follow_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what `after` reads."""
    add = parser.add_argument
    add("--leaks", choices=("report", "near", "enforce", "off"), default="report",
        help="what is in two splits: report it (report), look also for clips that look or sound "
        "alike (near), or do so and end with 1 where there is any (enforce)")  # fmt: skip
    add("--transcode", type=Path, metavar="DIR", help="then write the clips anew, small and on one "
        "clock, with a manifest, to DIR; training reads that faster")  # fmt: skip
    add("--short-side", "--short_side", type=int, 
        default=TargetFormat().short_side, metavar="N",
        help=f"of transcoded frames, pixels ({TargetFormat().short_side})")  # fmt: skip
    add("--shards", type=Path, metavar="DIR", help="then write WebDataset tars of the clips, "
        "transcoded where that is asked for, to DIR")  # fmt: skip
    add(
        "--per-shard",
        "--per_shard",
        type=int,
        default=1000,
        metavar="N",
        help="clips in a tar (1000)",
    )


NEEDS = (
    Needs(option="--short-side", default=TargetFormat().short_side, says="--transcode",
          met=lambda options: options.transcode),
    Needs(option="--per-shard", default=1000, says="--shards", met=lambda options: options.shards),
)  # fmt: skip
"""Options that cannot act without others."""


def after(options: argparse.Namespace, folders: Sequence[Path]) -> int:
    """Do what `options` ask for with the manifests in `folders`; the first exit code that is not 0
    ends it."""
    for folder in folders:
        below = folder.name if len(folders) > 1 else "."
        if options.leaks != "off":
            words = ["--root", str(options.media), "--manifest", str(folder)]
            words += ["--workers", str(options.workers)]
            words += ["--near"] if options.leaks != "report" else []
            words += ["--enforce"] if options.leaks == "enforce" else []
            if code := leaks.run(_parsed(leaks, words)):
                return code
        root, manifest = options.media, folder
        if options.transcode is not None:
            target = options.transcode / below
            words = ["--root", str(root), "--manifest", str(manifest), "--out", str(target)]
            words += ["--short-side", str(options.short_side), "--workers", str(options.workers)]
            if code := transcode.run(_parsed(transcode, words)):
                return code
            root = manifest = target
        if options.shards is not None:
            words = ["--root", str(root), "--manifest", str(manifest)]
            words += ["--out", str(options.shards / below), "--per-shard", str(options.per_shard)]
            if code := shards.run(_parsed(shards, words)):
                return code
    return 0


def _parsed(command: object, words: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)  # type: ignore[attr-defined]
    return parser.parse_args(words)
