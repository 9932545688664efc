"""`avmix synth`: arguments of its methods, exit code."""

import argparse
from pathlib import Path

from avmix.data.few_shot import SHOTS_BY
from avmix.data.manifest import ManifestError, read_manifest
from avmix.decode import ClipError
from avmix.synth.synthetic_set import SynthError
from avmix.system.paths import unmakable
from avmix.system.printing import echo
from avmix.system.unused_arguments import Needs

EPILOG = """\
exit:   0 generated   1 could not be written; one line says why   2 wrong usage   130 interrupted
        After an interruption, the same command continues.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what `run` reads."""
    parser.epilog = EPILOG
    methods = parser.add_subparsers(dest="method", required=True)
    _repair_arguments(_method(methods, "repair", "frames of one clip with the audio of another of "
                              "its class, shifted to the best alignment"))  # fmt: skip
    _compose_arguments(
        _method(methods, "compose", "synthetic actions, with audio, over real clips")
    )
    _external_arguments(_method(methods, "external", "output of an external program, "
                                "verified and re-encoded"))  # fmt: skip


NEEDS = (
    Needs(option="--shots-seed", default=0, says="--shots above 0", met=lambda args: args.shots),
)
"""Options that cannot act without others."""


def run(args: argparse.Namespace) -> int:
    """Make a set of clips, say what was written, and return the exit code."""
    try:
        if args.workers < 1:
            raise SynthError(f"--workers must be at least 1, got {args.workers}")
        if not 0 <= args.max_bad_share <= 1:
            raise SynthError(f"--max-bad-share must be from 0 to 1, got {args.max_bad_share}")
        if why := unmakable(args.out):
            raise SynthError(f"--out: {args.out} {why}")
        echo(_MAKE[args.method](args), keep="\n")
    except (SynthError, ManifestError, ClipError, OSError) as error:
        echo(f"error: {error}", error=True)
        return 1
    except KeyboardInterrupt:
        echo("stopped; the same command continues", error=True)
        return 130
    return 0


_EXAMPLES = {
    "repair": "--root data/toy --out data/repaired --shots 10",
    "compose": "--background-root my_clips --out data/composed",
    "external": "--root my_clips --manifest data/mine --jobs jobs.jsonl --kind video-to-audio "
    "--out data/foley --command 'foley --video {input_video} --out {output}'",
}


def _method(methods: "argparse._SubParsersAction", name: str, what: str) -> argparse.ArgumentParser:
    parser = methods.add_parser(name, help=what, description=f"Generate clips: {what}.")
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = f"example:\n  avmix synth {name} {_EXAMPLES[name]}\n\n{EPILOG}"
    parser.add_argument("--out", type=Path, required=True, help="folder of the set to write")
    parser.add_argument("--seed", type=int, default=0, help="random seed (0)")
    parser.add_argument("--workers", type=int, default=1, help="processes (1)")
    parser.add_argument("--max-bad-share", type=float, default=0.01,
                        help="share of the clips that may fail, 0 to 1 (0.01)")  # fmt: skip
    parser.add_argument("--overwrite", action="store_true", help="replace the set in --out")
    return parser


def _shots(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--shots", type=int, default=0, metavar="N",
                        help="few-shot: clips per class, as data.shots; 0: all (0)")  # fmt: skip
    parser.add_argument("--shots-seed", type=int, default=0, metavar="S",
                        help="random seed of the selection, as data.shots_seed (0)")  # fmt: skip
    parser.add_argument("--shots-by", choices=SHOTS_BY, default="clip",
                        help="of other sources, or any, as data.shots_by (clip)")  # fmt: skip


def _repair_arguments(parser: argparse.ArgumentParser) -> None:
    from avmix.synth.repair import RepairOptions

    usual = RepairOptions()
    parser.add_argument(
        "--root", "--media", type=Path, required=True, help="media folder of the real clips"
    )
    parser.add_argument("--manifest", type=Path, help="folder with dataset.json (--root)")
    _shots(parser)
    parser.add_argument("--per-class", type=int, default=usual.per_class,
                        help=f"largest number of pairs per class ({usual.per_class})")  # fmt: skip
    parser.add_argument("--min-score", type=float, default=usual.min_score,
                        help=f"smallest alignment score, -1 to 1 ({usual.min_score})")  # fmt: skip
    parser.add_argument("--min-cover", type=float, default=usual.min_cover,
                        help="smallest share of the frames that must have audio "
                        f"({usual.min_cover})")  # fmt: skip
    parser.add_argument("--balanced", action="store_true",
                        help="equally many pairs per class: as the smallest has")  # fmt: skip


def _repair(args: argparse.Namespace) -> str:
    from avmix.synth.parent_clips import read_parents
    from avmix.synth.repair import RepairOptions, repair

    options = RepairOptions(
        per_class=args.per_class, min_score=args.min_score, min_cover=args.min_cover,
        balanced=args.balanced, seed=args.seed,
    )  # fmt: skip
    parents = read_parents(args.root, args.manifest, args.shots, args.shots_seed, args.shots_by)
    return repair(parents, args.out, options, workers=args.workers, overwrite=args.overwrite,
                  max_bad_share=args.max_bad_share)  # fmt: skip


def _compose_arguments(parser: argparse.ArgumentParser) -> None:
    from avmix.synth.compose import ComposeOptions

    usual = ComposeOptions()
    parser.add_argument(
        "--background-root", type=Path, required=True, help="media folder of the background clips"
    )
    parser.add_argument("--background-manifest", type=Path,
                        help="folder with their dataset.json (--background-root)")  # fmt: skip
    _shots(parser)
    parser.add_argument("--manifest", type=Path, help="dataset to add to: a toy set; the "
                        "new set has its classes, in its order (the toy's own)")  # fmt: skip
    parser.add_argument("--actions", nargs="+", default=[], metavar="NAME", help="actions (all)")
    parser.add_argument("--per-class", type=int, default=usual.per_class,
                        help=f"clips per action ({usual.per_class})")  # fmt: skip
    parser.add_argument("--difficulty", type=float, default=usual.difficulty,
                        help=f"as of the toy set: 0 (clean) to 1 ({usual.difficulty})")  # fmt: skip
    parser.add_argument("--background-db", type=float, default=usual.background_db,
                        help="level of the background's audio relative to the action's, at most 0 "
                        f"({usual.background_db:g})")  # fmt: skip


def _compose(args: argparse.Namespace) -> str:
    from avmix.synth.compose import ComposeOptions, compose
    from avmix.synth.parent_clips import read_parents

    options = ComposeOptions(
        actions=tuple(args.actions), per_class=args.per_class, difficulty=args.difficulty,
        background_db=args.background_db, seed=args.seed,
    )  # fmt: skip
    parents = read_parents(args.background_root, args.background_manifest, args.shots,
                           args.shots_seed, args.shots_by)  # fmt: skip
    classes = read_manifest(args.manifest, "train").classes if args.manifest else None
    return compose(parents, args.out, options, classes=classes, workers=args.workers,
                   overwrite=args.overwrite, max_bad_share=args.max_bad_share)  # fmt: skip


def _external_arguments(parser: argparse.ArgumentParser) -> None:
    from avmix.synth.external import ExternalOptions
    from avmix.synth.external_jobs import USUALLY, kinds

    parser.add_argument(
        "--root", "--media", type=Path, required=True, help="media folder of the real clips"
    )
    parser.add_argument("--manifest", type=Path, help="folder with dataset.json (--root)")
    _shots(parser)
    parser.add_argument("--jobs", type=Path, required=True, help="JSON Lines: id, label and, as "
                        "needed, text, parent, duration_seconds, seed")  # fmt: skip
    parser.add_argument("--command", required=True, dest="program", help="program and "
                        "arguments, run without a shell; {input_video} {input_audio} {text} "
                        "{output} {seed} {duration} are replaced")  # fmt: skip
    usual = ", ".join(f"{kind}: {makes}" for kind, makes in USUALLY.items())
    parser.add_argument("--kind", choices=kinds(), required=True, help="kind of the program")
    parser.add_argument("--makes", choices=("both", "video", "audio"), help="modality "
                        f"that it writes; the other is the parent's ({usual})")  # fmt: skip
    limit, tolerance = (ExternalOptions.__dataclass_fields__[name].default
                        for name in ("seconds_per_clip", "tolerance"))  # fmt: skip
    parser.add_argument("--seconds-per-clip", type=float, default=limit,
                        help=f"time limit for one clip, seconds ({limit:g})")  # fmt: skip
    parser.add_argument("--tolerance", type=float, default=tolerance, help="largest "
                        f"error of the requested length, seconds ({tolerance:g})")  # fmt: skip


def _external(args: argparse.Namespace) -> str:
    from avmix.synth.external import ExternalOptions, external
    from avmix.synth.parent_clips import read_parents

    options = ExternalOptions(
        jobs=args.jobs, command=args.program, kind=args.kind, makes=args.makes,
        seconds_per_clip=args.seconds_per_clip, tolerance=args.tolerance, seed=args.seed,
    )  # fmt: skip
    parents = read_parents(args.root, args.manifest, args.shots, args.shots_seed, args.shots_by)
    return external(parents, args.out, options, workers=args.workers, overwrite=args.overwrite,
                    max_bad_share=args.max_bad_share)  # fmt: skip


_MAKE = {"repair": _repair, "compose": _compose, "external": _external}
