"""`avmix compare`: paired differences between evaluated runs, with intervals."""

import argparse
from dataclasses import asdict
from pathlib import Path

from rich.table import Table

from avmix.commands.evaluation_report import interval, number
from avmix.evaluation.comparison import LOWER_IS_BETTER, Comparison, compare
from avmix.evaluation.comparison_figure import draw_comparison
from avmix.evaluation.kept_predictions import KeptPredictions
from avmix.evaluation.prediction_file import found_in, read_predictions
from avmix.evaluation.resampling import Figure
from avmix.system import strict_json
from avmix.system.atomic_files import replace_text
from avmix.system.paths import unwritable
from avmix.system.printing import console_of, counted, echo, printable

EPILOG = """\
Runs must have been evaluated on the same split of the same manifest; what is compared are the clips
that all of them have judged. A difference is of the same clips, resampled together: its interval is
narrower than those of the two runs.
exit:   0 compared   1 predictions cannot be read or compared; one line says why   2 wrong usage
        130 interrupted
"""
_PERCENT, _POINTS, _PLAIN = (100, 1), (100, 1), (1, 3)
_ROWS = {
    "top1": ("top-1 %", _PERCENT),
    "top5": ("top-5 %", _PERCENT),
    "mean_class": ("mean class %", _PERCENT),
    "exact": ("exact %", _PERCENT),
    "map": ("mAP %", _PERCENT),
    "f1": ("F1 %", _PERCENT),
    "nll": ("NLL", _PLAIN),
    "brier": ("Brier", _PLAIN),
    "ece": ("ECE", _PLAIN),
    "ks": ("KS calibration error", _PLAIN),
    "gain": ("fusion gain, points", _POINTS),
    "gain_nll": ("fusion gain, NLL", _PLAIN),
    "audio_adds": ("audio adds, points", _POINTS),
    "mu": ("modality confusion %", _PERCENT),
}
_PANELS = ("top1", "map", "nll", "gain", "mu")
"""What is drawn."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what `run` reads."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = EPILOG
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN",
                        help="folders of runs that were evaluated, or files of predictions; the "
                        "others are compared with the first")  # fmt: skip
    parser.add_argument("--split", default="test", metavar="NAME",
                        help="split that is taken from folders of runs (test)")  # fmt: skip
    parser.add_argument("--label-set", metavar="NAME",
                        help="label set that is compared, of runs that have several (verb, "
                        "noun)")  # fmt: skip
    parser.add_argument("--resamples", type=int, default=1000, metavar="N",
                        help="resamples behind the intervals (1000)")  # fmt: skip
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the resamples (0)")
    parser.add_argument("--figure", type=Path, metavar="FILE", help="draw the differences")
    parser.add_argument("--json", metavar="FILE", help="write all figures; - for standard output")


def run(args: argparse.Namespace) -> int:
    """Compare; returns the exit code."""
    if wrong := _wrong_usage(args):
        echo(f"error: {wrong}", error=True)
        return 2
    try:
        for option, path in (("--figure", args.figure), ("--json", args.json)):
            if path and str(path) != "-" and (why := unwritable(Path(path))):
                raise ValueError(f"{option} {path} {why}")
        paths = [found_in(path, args.split) for path in args.runs]
        kept = [_of_set(read_predictions(path), args.label_set, path) for path in paths]
        found = compare(_named(args.runs, kept), num_resamples=args.resamples, seed=args.seed)
        if args.figure:
            panels = {name: (_ROWS[name][0], float(_ROWS[name][1][0])) for name in _PANELS}
            draw_comparison(found, panels, LOWER_IS_BETTER, args.figure)
        if args.json:
            text = strict_json.dumps(as_json(found, args), indent=2)
            if args.json == "-":
                print(text)
                return 0
            replace_text(Path(args.json), text + "\n")
        _print(found)
    except (ValueError, OSError) as error:
        echo(f"error: {error}", error=True, keep="\n")
        return 1
    return 0


def as_json(found: Comparison, args: argparse.Namespace) -> dict:
    """Everything that was computed, by run."""
    names = found.runs

    def by_run(figures: tuple[Figure, ...], of: tuple[str, ...]) -> dict:
        return {name: asdict(figure) for name, figure in zip(of, figures, strict=True)}

    return {
        "protocol": found.protocol, "split": found.split, "runs": list(names),
        "num_clips": found.num_clips, "num_left_out": list(found.num_left_out),
        "resamples": args.resamples, "seed": args.seed,
        "values": {n: by_run(f, names) for n, f in found.values.items()},
        "differences": {n: by_run(f, names[1:]) for n, f in found.differences.items()},
    }  # fmt: skip


def _wrong_usage(args: argparse.Namespace) -> str:
    """What no file is needed to see, or an empty string."""
    if len(args.runs) < 2:
        return "name two runs or more: the others are compared with the first"
    if args.resamples < 100:
        return f"--resamples must be >= 100, got {args.resamples}"
    if not 0 <= args.seed < 2**32:
        return f"--seed must be in [0, 2**32), got {args.seed}"
    return ""


def _of_set(kept: KeptPredictions, name: str | None, path: Path) -> KeptPredictions:
    """The label set to compare. Raises ValueError where there is none, or one must be named."""
    if name is None and not kept.set_names:
        return kept
    if name is None:
        sets = ", ".join(kept.set_names)
        raise ValueError(f"{path}: clips have a label of each of {sets}: name one, --label-set")
    try:
        return kept.of_set(name)
    except ValueError as error:
        raise ValueError(f"{path}: --label-set: {error}") from None


def _named(paths: list[Path], kept: list[KeptPredictions]) -> dict[str, KeptPredictions]:
    """By the words of the command line; one that is given twice has a number, too."""
    named: dict[str, KeptPredictions] = {}
    for path, one in zip(paths, kept, strict=True):
        name, number_of = str(path), 2
        while name in named:
            name, number_of = f"{path} ({number_of})", number_of + 1
        named[name] = one
    return named


def _print(found: Comparison) -> None:
    table = Table(title=printable(
        f"{found.protocol}, {found.split}: {counted(found.num_clips, 'clip')}; "
        f"differences to {found.runs[0]}"
    ))  # fmt: skip
    for heading in ("", "run", "value", "95 %", "difference", "95 %", ""):
        table.add_column(heading, justify="left" if heading in ("", "run") else "right")
    for name, values in found.values.items():
        heading, scale = _ROWS[name]
        for i, (run_name, value) in enumerate(zip(found.runs, values, strict=True)):
            cells = [heading if i == 0 else "", printable(run_name), number(value, scale),
                     interval(value, scale)]  # fmt: skip
            if i:
                less = found.differences[name][i - 1]
                sign = "+" if (less.value or 0) > 0 else ""
                cells += [sign + number(less, scale), interval(less, scale), _verdict(less, name)]
            table.add_row(*cells, end_section=i == len(values) - 1)
    console_of(tables=True).print(table)
    sources = found.values["top1"][0].num_sources
    echo(f"intervals: 95 %, bootstrap over {sources} sources, paired")
    for name, number_of in zip(found.runs, found.num_left_out, strict=True):
        if number_of:
            echo(f"{name}: {number_of} of its clips were left out: another run has not judged them")


def _verdict(less: Figure, name: str) -> str:
    """What the interval of a difference says, in a word."""
    if less.low is None or less.high is None or less.low <= 0 <= less.high:
        return ""
    return "better" if (less.low > 0) != (name in LOWER_IS_BETTER) else "worse"
