"""`avmix features`: the embeddings of every clip by frozen encoders, computed once and kept."""

import argparse
import os
import time
from dataclasses import replace
from pathlib import Path

from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from avmix.config import DataConfig, TrainConfig, load_files
from avmix.data.event_times import read_events
from avmix.data.kept_features import MODALITIES
from avmix.data.loader_pool import LoaderError
from avmix.data.manifest import read_manifest, splits_of
from avmix.data.sample import TooManyBadClips
from avmix.features.frozen_encoders import FrozenEncoders, of_checkpoint, of_config
from avmix.features.keep import Augmented, Keeping, Progress, begin, keep_split
from avmix.isolate.process_pool import CannotStart
from avmix.models.input_options import with_expected_input
from avmix.prepare.csv_table import prepare_table
from avmix.system.paths import unmakable
from avmix.system.printing import console_of, counted, echo, echo_on
from avmix.system.unused_arguments import Needs
from avmix.training import runtime
from avmix.training.run_lock import run_folder_lock
from avmix.training.runtime import Runtime
from avmix.training.training_setup import with_measured

EPILOG = """\
Interrupted or killed, the same command continues.
exit:   0 every clip has features   1 some were left out (they are named, and listed in
        features.json), or nothing can be computed   2 wrong usage   130 interrupted
"""
_MAX_LISTED = 20
NEEDS = (
    Needs(option="--own-code", default=False, says="--checkpoint",
          met=lambda args: args.checkpoint),
)  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what `run` reads."""
    usual = Keeping(manifest_folder=Path(), root=Path(), out=Path())
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = EPILOG
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--config", type=Path, action="append", metavar="FILE",
                       help="YAML file of the configuration; several are combined")  # fmt: skip
    which.add_argument("--checkpoint", type=Path, metavar="PATH",
                       help="checkpoint, folder of a run, or file of safetensors")  # fmt: skip
    parser.add_argument("options", nargs="*", metavar="KEY=VALUE",
                        help="options over those of --config, as clip.num_frames=3")  # fmt: skip
    parser.add_argument("--out", type=Path, required=True, help="folder for the features")
    parser.add_argument("--split", action="append", metavar="NAME",
                        help="split to compute, may be given again (all)")  # fmt: skip
    parser.add_argument("--modality", action="append", choices=MODALITIES,
                        help="modality to keep, may be given again (both)")  # fmt: skip
    parser.add_argument("--views", type=int, default=usual.num_views, metavar="N",
                        help="windows of each clip, as evaluation takes them (1)")  # fmt: skip
    parser.add_argument("--augmented-views", type=int, default=0, metavar="N",
                        help="augmented views of each clip of data.train_split beside these, "
                        "drawn as augment.* and run.seed say (0)")  # fmt: skip
    parser.add_argument("--half", action="store_true",
                        help="store half precision; the difference is reported")  # fmt: skip
    parser.add_argument("--batch-size", type=int, default=usual.batch_size, metavar="N",
                        help=f"windows that are encoded together ({usual.batch_size})")  # fmt: skip
    parser.add_argument("--root", "--media", type=Path, help="media folder (data.root)")
    parser.add_argument("--manifest", type=Path, help="folder with dataset.json (data.manifest)")
    parser.add_argument("--own-code", action="store_true",
                        help="--checkpoint: import the module of a python: encoder")  # fmt: skip


def run(args: argparse.Namespace) -> int:
    """Compute and store what is missing; returns the exit code."""
    try:
        return _run(args)
    except (ValueError, OSError, TooManyBadClips, LoaderError, CannotStart) as error:
        echo(f"error: {error}", error=True)
        return 1
    except KeyboardInterrupt:
        echo("stopped; the same command continues", error=True)
        return 130


def _run(args: argparse.Namespace) -> int:
    for name, least in (("views", 1), ("augmented_views", 0), ("batch_size", 1)):
        if (value := getattr(args, name)) < least:
            raise ValueError(f"--{name.replace('_', '-')} must be at least {least}, got {value}")
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ValueError("avmix features is one process; run it without torchrun")
    if why := unmakable(args.out):
        raise ValueError(f"--out {args.out} {why}")
    modalities = [name for name in MODALITIES if name in (args.modality or MODALITIES)]
    if args.checkpoint and args.options:
        raise ValueError(f"{args.options[0]}: a checkpoint has its configuration; --config")
    encoders = None
    if args.checkpoint:
        encoders = of_checkpoint(args.checkpoint, modalities, own_code=args.own_code)
    config = (
        encoders.config
        if encoders
        else with_expected_input(load_files(TrainConfig, args.config, args.options))
    )
    data = _data(config.data, args)
    with (
        runtime.start(device=config.run.device, threads=config.run.threads) as here,
        run_folder_lock(args.out),
    ):
        if data.table:
            prepare_table(data)
        folder = data.manifest_folder
        if folder.resolve() == args.out.resolve():
            raise ValueError(f"--out {args.out} is the folder of the manifest; name another")
        if encoders is None:
            measured = with_measured(config.frontend, folder)
            encoders = of_config(replace(config, frontend=measured), modalities)
        keeping = Keeping(manifest_folder=folder, root=Path(data.root), out=args.out,
                          num_views=args.views, augmented=_augmented(config, args, folder),
                          half=args.half, batch_size=args.batch_size,
                          num_workers=data.num_workers, clip_seconds=data.clip_seconds,
                          verify=data.verify)  # fmt: skip
        splits = list(dict.fromkeys(args.split or splits_of(folder)))
        return _keep(splits, keeping, encoders.to(here.device), here)


def _data(data: DataConfig, args: argparse.Namespace) -> DataConfig:
    """With the folders that the command line names."""
    if args.manifest:
        data = replace(data, manifest=str(args.manifest))
    elif args.root and args.checkpoint:
        data = replace(data, manifest="")
    return replace(data, root=str(args.root)) if args.root else data


def _augmented(config: TrainConfig, args: argparse.Namespace, folder: Path) -> Augmented | None:
    """The augmented views that the command line asks for."""
    if not args.augmented_views:
        return None
    split = config.data.train_split
    if split not in splits_of(folder):
        raise ValueError(
            f"--augmented-views are of data.train_split {split!r}, and {folder} has "
            f"{', '.join(splits_of(folder))}"
        )
    events, sha256 = read_events(folder) if config.augment.window == "event" else ({}, "")
    return Augmented(
        split=split, num_views=args.augmented_views, augment=config.augment, seed=config.run.seed,
        events_seconds=events, events_sha256=sha256,
    )  # fmt: skip


def _keep(splits: list[str], keeping: Keeping, encoders: FrozenEncoders, here: Runtime) -> int:
    """All splits, one after the other; says what was written."""
    console = console_of()
    header, notice = begin(keeping, encoders, here)
    if all(header.splits.get(split, {}).get("complete") for split in splits):
        notice = ""  # nothing is continued
    for text in (notice, *(str(getattr(e, "notice", "")) for e in encoders.encoders.values())):
        if text:
            echo_on(console, text)
    totals = {split: len(read_manifest(keeping.manifest_folder, split).entries) for split in splits}
    widths = " + ".join(f"{name} {width}" for name, width in encoders.widths.items())
    size = keeping.dtype.itemsize * sum(encoders.widths.values()) / 1000
    of_split = ""
    if more := keeping.augmented:
        views = keeping.num_views_of(more.split)
        augmented = counted(more.num_views, "augmented view")
        of_split = f", of {more.split} with {augmented} {size * views:.1f} MB"
    total = sum(count * keeping.num_views_of(split) for split, count in totals.items())
    echo_on(console, f"{widths} numbers a view, {counted(keeping.num_views, 'view')}, "
            f"{keeping.dtype.name}: {size * keeping.num_views:.1f} MB per 1,000 clips{of_split}; "
            f"{sum(totals.values()):,} clips, {size * total / 1000:.1f} MB")  # fmt: skip
    left_out = 0
    bars = console_of(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
               TimeRemainingColumn())  # fmt: skip
    for split in splits:
        begun = time.perf_counter()
        with Bar(*columns, console=bars, transient=True, disable=not bars.is_terminal) as bar:
            task = bar.add_task(split, total=totals[split])
            counts = {True: 0, False: 0}

            def clips(number: int, computed: bool, bar=bar, task=task, counts=counts) -> None:
                counts[computed] += number
                bar.advance(task, number)

            watch = Progress(clips=clips, notice=lambda text: echo_on(console, text))
            header = keep_split(split, keeping, encoders, header, here, watch)
        said, computed = header.splits[split], counts[True]
        seconds = time.perf_counter() - begun
        pace = f"; {seconds:.1f} s, {1000 * seconds / max(1, computed):.1f} s per 1,000 clips"
        before = f"; {counts[False]} of them computed before" if counts[False] else ""
        echo_on(console, f"{keeping.out}: {split}, {counted(said['num_clips'], 'clip')} of "
                f"{totals[split]}, {said['bytes'] / 1e6:.1f} MB{before}"
                f"{pace if computed else ''}")  # fmt: skip
        for name, error in said["half_error"].items():
            echo_on(console, f"half precision changes the {name} features by {error:.1e} of their "
                    "root mean square")  # fmt: skip
        for clip in said["left_out"][:_MAX_LISTED]:
            echo_on(console, f"left out: {clip['clip_id']}: {clip['path']}: {clip['reason']}")
        if (more := said["num_left_out"] - _MAX_LISTED) > 0:
            echo_on(console, f"and {more} more; see {keeping.out / 'features.json'}")
        if said["unread_backgrounds"]:
            first = said["unread_backgrounds"][0]
            echo_on(console, f"{counted(len(said['unread_backgrounds']), 'clip')} could not be "
                    "read as the background of augmented views, which go without; the first: "
                    f"{first['path']}: {first['reason']}")  # fmt: skip
        left_out += said["num_left_out"]
    if left_out:
        echo(f"left out: {counted(left_out, 'clip')}", error=True)
    return int(left_out > 0)
