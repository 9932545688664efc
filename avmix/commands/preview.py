"""`avmix preview`: arguments, what they ask to be drawn, exit code."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from avmix.system.paths import unwritable
from avmix.system.printing import counted, echo

if TYPE_CHECKING:
    from avmix.config import AudioDomain, MixConfig, TrainConfig
    from avmix.mix import MixPlan

EPILOG = """\
exit:   0 drawn   1 a file cannot be read or written, or options do not go together   2 wrong usage
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what `run` reads."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = EPILOG
    parser.add_argument("own", type=Path, nargs="?", help="video file A")
    what = "video file B: the partner, or the background for --augment and --grid"
    parser.add_argument("partner", type=Path, nargs="?", help=what)
    what = "draw A before and after this instead of a mix, and write both as videos: a YAML file "
    what += "with a section augment, or options as '{speed: 1.25, reverse: 1.0}'"
    parser.add_argument("--augment", metavar="SPEC", help=what)
    what = "draw every augmentation by itself, DIR/NAME.jpg, instead of a mix"
    parser.add_argument("--grid", type=Path, metavar="DIR", help=what)
    parser.add_argument("--epoch", type=int, default=0, help="--augment: epoch of the draw (0)")
    parser.add_argument("--no-videos", "--no-films", action="store_true",
                         help="--augment: only the figure")  # fmt: skip
    parser.add_argument(
        "--method", default="mixup", help="mixing method, as mix.method, or all (mixup)"
    )
    parser.add_argument(
        "--audio-domain",
        choices=("log_mel", "power", "waveform"),
        help="representation of the audio that is mixed (log_mel; energy: waveform)",
    )
    parser.add_argument("--lam", type=float, default=0.5, help="weight of A, 0 to 1 (0.5)")
    parser.add_argument("--seed", type=int, default=0, help="random seed (0)")
    parser.add_argument(
        "--config", type=Path, help="config.yaml of a run, for its clip and frontend options"
    )
    plan_help = (
        "mixing plan: JSON file, or plans_rankN.jsonl of a run; in place of --method, --lam, --seed"
    )
    parser.add_argument("--plan", type=Path, help=plan_help)
    what = "folder of a run with saved plans (run.save_plans): draw --clip of batch --line, with "
    what += "the files, names and settings of the run; from the beginning of each labelled stretch"
    parser.add_argument("--run", type=Path, metavar="DIR", help=what)
    parser.add_argument("--rank", type=int, default=0, help="--run: rank of the process (0)")
    parser.add_argument(
        "--line", type=int, default=1, help="line of --plan or --run: the batch (1)"
    )
    parser.add_argument("--clip", type=int, default=0, help="place of A in the plan (0)")
    parser.add_argument("--save-plan", type=Path, metavar="FILE", help="write the plan as JSON")
    parser.add_argument(
        "--start", type=float, default=0.0, help="start of the window in both files, seconds (0)"
    )
    parser.add_argument("--labels", nargs=2, metavar=("A", "B"), help="class names (file names)")
    parser.add_argument("-o", "--out", type=Path, help="PNG (mix.png, augment.png)")


def run(args: argparse.Namespace) -> int:
    """Draw what is asked for, say where, and return the exit code."""
    # These bring torch and matplotlib, which `--help` does not need.
    from avmix.config import TrainConfig, from_yaml
    from avmix.decode import ClipError
    from avmix.models.input_options import with_expected_input
    from avmix.preview import PREVIEW_CLIP, preview_mix

    try:
        _check_preview(args)
        for option, path in (("-o", args.out), ("--save-plan", args.save_plan)):
            if path is not None and (why := unwritable(path)):
                raise ValueError(f"{option} {path} {why}")
        if args.out is not None and not args.out.suffix:
            args.out = args.out.with_name(f"{args.out.name}.png")  # what is drawn is called so
        config = None
        if args.config:
            config = with_expected_input(from_yaml(TrainConfig, args.config.read_text()))
        if args.augment or args.grid:
            _preview_augment(args, config)
            return 0
        out = args.out or Path("mix.png")
        if args.run:
            _preview_run(args, out)
            return 0
        mixes = [_plan(args.plan, args.line, args.clip)] if args.plan else _mixes(args)
        plans = preview_mix(
            args.own,
            args.partner,
            mixes=mixes,
            seed=args.seed,
            out=out,
            start_seconds=args.start,
            labels=tuple(args.labels) if args.labels else None,
            clip=config.clip if config else PREVIEW_CLIP,
            frontend=config.frontend if config else None,
        )
        if args.save_plan:
            args.save_plan.write_text("".join(plan.to_json() + "\n" for plan in plans))
    except (ClipError, OSError, ValueError) as error:
        sys.exit(f"error: {error}")
    echo(f"wrote {out}")
    return 0


def _preview_run(args: argparse.Namespace, out: Path) -> None:
    from avmix.preview import of_run, preview_mix

    found = of_run(args.run, args.line, args.clip, args.rank)
    first, second = (start + args.start for start in found.start_seconds)
    plans = preview_mix(
        *found.paths,
        mixes=[found.plan],
        out=out,
        start_seconds=(first, second),
        labels=tuple(args.labels) if args.labels else found.labels,
        clip=found.config.clip,
        frontend=found.config.frontend,
        tracks=found.tracks,
        until_seconds=found.until_seconds,
    )
    if args.save_plan:
        args.save_plan.write_text("".join(plan.to_json() + "\n" for plan in plans))
    echo(f"wrote {out}: {found.paths[0]} with {found.paths[1]}")


_MIX, _PLAN, _RUN, _AUGMENT, _GRID = "a mix", "--plan", "--run", "--augment", "--grid"
"""What `avmix preview` can draw."""
_OF_PREVIEW: dict[str, tuple[object, tuple[str, ...]]] = {
    "--method": ("mixup", (_MIX,)),
    "--audio-domain": (None, (_MIX,)),
    "--lam": (0.5, (_MIX,)),
    "--seed": (0, (_MIX, _AUGMENT, _GRID)),
    "--config": (None, (_MIX, _PLAN, _AUGMENT, _GRID)),
    "--line": (1, (_PLAN, _RUN)),
    "--clip": (0, (_PLAN, _RUN)),
    "--rank": (0, (_RUN,)),
    "--save-plan": (None, (_MIX, _PLAN, _RUN)),
    "--start": (0.0, (_MIX, _PLAN, _RUN)),
    "--labels": (None, (_MIX, _PLAN, _RUN)),
    "--epoch": (0, (_AUGMENT,)),
    "--no-videos": (False, (_AUGMENT,)),
    "--out": (None, (_MIX, _PLAN, _RUN, _AUGMENT)),
}
"""Default of each option, and for what it can act."""


def _check_preview(args: argparse.Namespace) -> None:
    """Raise ValueError for what is missing, and for options that cannot act."""
    kinds = [kind for kind in (_PLAN, _RUN, _AUGMENT, _GRID) if getattr(args, kind[2:])]
    if len(kinds) > 1:
        raise ValueError(f"{kinds[0]} and {kinds[1]} exclude each other; give one")
    kind = kinds[0] if kinds else _MIX
    for option, (default, acts_for) in _OF_PREVIEW.items():
        given = getattr(args, option[2:].replace("-", "_")) != default
        if given and kind not in acts_for:
            raise ValueError(f"{option} means nothing for {kind}, only for {', '.join(acts_for)}")
    if args.epoch < 0:
        raise ValueError(f"--epoch must be >= 0, got {args.epoch}")
    if not 0 <= args.seed < 2**32:
        raise ValueError(f"--seed must be in [0, 2**32), got {args.seed}")
    if kind == _RUN:
        if args.own is not None:
            raise ValueError("A and B mean nothing for --run, which names them")
    elif args.own is None:
        raise ValueError("name a video file, or a --run")
    elif args.partner is None and kind != _AUGMENT:
        raise ValueError(f"{kind} needs a second file")


def _preview_augment(args: argparse.Namespace, config: "TrainConfig | None") -> None:
    from avmix.preview import PREVIEW_CLIP, draw_grid, preview_augment, read_augment

    clip = config.clip if config else PREVIEW_CLIP
    frontend = config.frontend if config else None
    if args.grid:
        paths = draw_grid(
            args.own, args.partner, args.grid, clip=clip, frontend=frontend, seed=args.seed
        )
        echo(f"wrote {counted(len(paths), 'image')} to {args.grid}")
        return
    out = args.out or Path("augment.png")
    preview_augment(
        args.own,
        args.partner,
        out=out,
        augment=read_augment(args.augment),
        clip=clip,
        frontend=frontend,
        videos=not args.no_videos,
        seed=args.seed,
        epoch=args.epoch,
    )
    videos = "" if args.no_videos else f", {out.stem}_before.mp4 and {out.stem}_after.mp4"
    echo(f"wrote {out}{videos}")


def _mixes(args: argparse.Namespace) -> "list[MixConfig]":
    """The methods asked for; `all`: those that mix both modalities before the network."""
    from avmix.config import MixConfig
    from avmix.config.mix_method import METHODS

    left_out = ["none", "cross", "independent", "by_share", "video", "audio"]
    if args.audio_domain == "waveform":
        left_out.append("cutmix_frequency")  # a waveform has no bands
    words = [m for m in METHODS if m not in left_out] if args.method == "all" else [args.method]
    return [
        MixConfig(
            method=word,
            law="fixed",
            lam=args.lam,
            audio_domain=_domain(word, args.audio_domain),
        )
        for word in words
    ]


def _domain(word: str, asked: "AudioDomain | None") -> "AudioDomain":
    """What was asked for; else what the method can do."""
    return asked or ("waveform" if word.startswith("energy") else "log_mel")


def _plan(path: Path, line: int, clip: int) -> "MixPlan":
    from avmix.mix import MixPlan

    lines = path.read_text().splitlines()
    if not 1 <= line <= len(lines):
        raise ValueError(f"{path} has {len(lines)} lines, not a line {line}")
    try:
        return MixPlan.from_json(lines[line - 1]).of_one(clip)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
