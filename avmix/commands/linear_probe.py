"""`avmix probe`: linear classifiers on kept features, per modality and fused late."""

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.progress import track
from rich.table import Table

from avmix.data.few_shot import SHOTS_BY
from avmix.data.joined_features import Joined, open_joined
from avmix.data.kept_features import KeptFeatures
from avmix.features.probing import Result, Summary, probe, summarise
from avmix.features.regression import C_GRID
from avmix.system import strict_json
from avmix.system.atomic_files import replace_text
from avmix.system.paths import unwritable
from avmix.system.printing import console_of, counted, echo
from avmix.system.unused_arguments import Needs

EPILOG = """\
C of the regressions, of the values of --c, and the weights of the fused head are chosen by
cross-validation over the sources of the clips that are trained on. The same gives the score of the
held-out clips, by which to choose windows and encoders; the test split is judged once, at the end.
exit:   0 done   1 the features cannot be read, or nothing be fitted   2 wrong usage
        130 interrupted
"""
_MAX_LISTED = 20
NEEDS = tuple(
    Needs(option=option, default=default, says="--shots", met=lambda args: args.shots)
    for option, default in (("--draws", 1), ("--by", "source"), ("--seed", 0))
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what `run` reads."""
    grid = ", ".join(f"{c:g}" for c in C_GRID)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = EPILOG
    parser.add_argument("folder", type=Path, nargs="+", metavar="DIR",
                        help="what `avmix features` wrote; of several the features are side by "
                        "side")  # fmt: skip
    parser.add_argument("--train-split", default="train", metavar="NAME",
                        help="split to fit on (train)")  # fmt: skip
    parser.add_argument("--test-split", default="test", metavar="NAME",
                        help="split to judge on (test)")  # fmt: skip
    parser.add_argument("--shots", type=int, default=0, metavar="N",
                        help="clips of each class to fit on (0: all)")  # fmt: skip
    parser.add_argument("--draws", type=int, default=1, metavar="D",
                        help="choices of these clips; the table has means (1)")  # fmt: skip
    parser.add_argument("--by", choices=SHOTS_BY, default="source",
                        help="each clip of another source, or any clips (source)")  # fmt: skip
    parser.add_argument("--seed", type=int, default=0, metavar="S",
                        help="of the first draw; the next has S + 1 (0)")  # fmt: skip
    parser.add_argument("--c", type=float, action="append", metavar="C",
                        help="inverse strength of regularisation to try, may be given again "
                        f"({grid})")  # fmt: skip
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all results as JSON")


def run(args: argparse.Namespace) -> int:
    """Fit, print the table, write JSON; returns the exit code."""
    try:
        _check(args)
        joined = {
            split: open_joined(args.folder, split) for split in (args.train_split, args.test_split)
        }
        train, test = (joined[split].kept for split in (args.train_split, args.test_split))
        grid = tuple(sorted(set(args.c or C_GRID)))
        console = console_of(stderr=True)
        seeds = [args.seed + number for number in range(args.draws)]
        draws = [
            probe(train, test, shots=args.shots, seed=seed, by=args.by, grid=grid)
            for seed in track(seeds, "draws", console=console, transient=True,
                              disable=not console.is_terminal)
        ]  # fmt: skip
        if not draws[0]:
            raise ValueError(f"{args.folder[0]}: nothing can be fitted to its features")
        summary = summarise(draws)
        _print(args, train, test, summary)
        for split, found in joined.items():
            _print_lacking(split, found)
        if args.json:
            said = report(args, train, seeds, grid, draws, summary)
            said["left_out"] = {
                split: [[clip.clip_id, str(clip.folder)] for clip in found.lacking]
                for split, found in joined.items()
            }
            replace_text(args.json, strict_json.dumps(said, indent=2) + "\n")
    except (ValueError, OSError) as error:
        echo(f"error: {error}", error=True)
        return 1
    except KeyboardInterrupt:
        echo("stopped", error=True)
        return 130
    return 0


def report(
    args: argparse.Namespace,
    train: KeptFeatures,
    seeds: Sequence[int],
    grid: Sequence[float],
    draws: Sequence[Sequence[Result]],
    summary: Sequence[Summary],
) -> dict[str, Any]:
    """All that was fitted, for programs."""
    return {
        "protocol": train.manifest.protocol,
        "train_split": args.train_split,
        "test_split": args.test_split,
        "shots": args.shots,
        "by": args.by if args.shots else None,
        "seeds": list(seeds) if args.shots else None,
        "c_grid": list(grid),
        "interval": _interval(args),
        "features": train.header.identity,
        "summary": [asdict(head) for head in summary],
        "draws": [[asdict(result) for result in results] for results in draws],
    }


def _check(args: argparse.Namespace) -> None:
    for name, least in (("shots", 0), ("draws", 1), ("seed", 0)):
        if (value := getattr(args, name)) < least:
            raise ValueError(f"--{name} must be at least {least}, got {value}")
    if any(not 0 < c < float("inf") for c in args.c or ()):
        raise ValueError(f"--c must be above 0, got {args.c}")
    if args.train_split == args.test_split:
        raise ValueError(f"--test-split {args.test_split} is what is fitted on; name another")
    if args.json and (why := unwritable(args.json)):
        raise ValueError(f"--json {args.json} {why}")


def _interval(args: argparse.Namespace) -> str:
    return "over draws" if args.draws > 1 else "over sources"


def _print_lacking(split: str, joined: Joined) -> None:
    if joined.lacking:
        said = [f"{clip.clip_id} (not in {clip.folder})" for clip in joined.lacking]
        more = f" and {len(said) - _MAX_LISTED} more" if len(said) > _MAX_LISTED else ""
        echo(f"{split}: {counted(len(said), 'clip')} left out, not in every folder: "
             f"{', '.join(said[:_MAX_LISTED])}{more}")  # fmt: skip


def _percent(share: float | None, half_interval: float | None) -> str:
    if share is None:
        return "-"
    return f"{100 * share:.1f}" + ("" if half_interval is None else f" ± {100 * half_interval:.1f}")


def _print(
    args: argparse.Namespace, train: KeptFeatures, test: KeptFeatures, summary: Sequence[Summary]
) -> None:
    of = f"all clips of {args.train_split}"
    if args.shots:
        how = "each of another source" if args.by == "source" else "any of them"
        of = f"{counted(args.shots, 'clip')} a class of {args.train_split}, drawn by "
        of += f"{args.by} ({how}), {counted(args.draws, 'draw')} from seed {args.seed}"
    table = Table(title=f"{train.manifest.protocol}: {of}; judged on {args.test_split}")
    for heading in ("head", "fitted on", "held out, top-1 %", "judged", "top-1 %", "C"):
        table.add_column(heading, justify="left" if heading == "head" else "right")
    for head in summary:
        fitted = " to ".join(dict.fromkeys(map(str, head.num_train)))
        table.add_row(head.head, fitted, _percent(head.cv_top1, head.cv_half_interval),
                      str(head.num_test), _percent(head.top1, head.half_interval),
                      ", ".join(f"{c:g}" for c in head.c) or "-")  # fmt: skip
    console_of(tables=True).print(table)
    judged = counted(len(test.manifest.entries), "clip")
    echo(f"intervals {_interval(args)}; {judged} in {args.test_split}")
    echo(f"held out: clips of {args.train_split}, each judged by a fit without its source")
    for head in summary:
        if head.weights:
            said = ", ".join(f"{name} {weight:.2f}" for name, weight in head.weights.items())
            echo(f"mean weights of {head.head}: {said}")
        if head.num_not_converged:
            echo(f"{head.head}: {head.num_not_converged} of {args.draws} did not converge")
