"""`avmix model`: what a network costs and where it mixes, and its weights as safetensors."""

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.table import Table

from avmix.config import TrainConfig, load_files
from avmix.models import LateFusionClassifier, build_model
from avmix.models.input_options import with_expected_input
from avmix.models.measure import Measured, Stage, measure, mixing_of, shape_text
from avmix.system import strict_json
from avmix.system.paths import unwritable
from avmix.system.printing import console_of, counted, echo, printable
from avmix.system.unused_arguments import Needs
from avmix.training import runtime
from avmix.training.run_environment import environment
from avmix.training.trained import load

EPILOG = """\
exit:   0 done   1 the network cannot be built, or a file not be read or written   2 wrong usage
"""
_CLASSES = 10
NEEDS = (
    Needs(option="--save", default=None, says="--checkpoint", met=lambda args: args.checkpoint),
    Needs(option="--own-code", default=False, says="--checkpoint",
          met=lambda args: args.checkpoint),
    Needs(option="--classes", default=_CLASSES, says="--config", met=lambda args: args.config),
    Needs(option="--json", default=False, says="a network to be measured (no --save)",
          met=lambda args: not args.save),
    Needs(option="--figure", default=None, says="a network to be measured (no --save)",
          met=lambda args: not args.save),
)  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what `run` reads."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = EPILOG
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--config", type=Path, action="append", metavar="FILE",
                       help="YAML file of the configuration; several are combined")  # fmt: skip
    which.add_argument("--checkpoint", type=Path, metavar="PATH",
                       help="checkpoint, folder of a run, or file of safetensors")  # fmt: skip
    parser.add_argument("options", nargs="*", metavar="KEY=VALUE",
                        help="options over those of --config, as model.fusion=sum")  # fmt: skip
    parser.add_argument("--classes", type=int, default=_CLASSES, metavar="N",
                        help=f"--config: number of classes ({_CLASSES})")  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print JSON, and nothing else")
    parser.add_argument("--figure", type=Path, metavar="FILE",
                        help="draw the towers, mixing and fusion (.png, .svg, .pdf)")  # fmt: skip
    parser.add_argument("--save", type=Path, metavar="FILE.safetensors",
                        help="write weights and configuration, for avmix.load")  # fmt: skip
    parser.add_argument("--own-code", action="store_true",
                        help="--checkpoint: import the module of a python: encoder")  # fmt: skip


def run(args: argparse.Namespace) -> int:
    """Measure the network and print, or write its weights; returns the exit code."""
    if wrong := _wrong_usage(args):
        echo(f"error: {wrong}", error=True)
        return 2
    try:
        for path in (args.figure, args.save):
            if path is not None and (why := unwritable(path)):
                raise ValueError(f"{path} {why}")
        if args.save:
            trained = load(args.checkpoint, own_code=args.own_code)
            trained.save(args.save)
            count = sum(parameter.numel() for parameter in trained.network.parameters())
            echo(
                f"wrote {args.save}: {count:,} parameters, {counted(len(trained.classes), 'class')}"
            )
            return 0
        config, model = _network(args)
        with runtime.start(device=config.run.device, threads=config.run.threads) as here:
            found = measure(model.to(here.device), config.clip, config.frontend)
            said = description(config, found) | {
                "published_size": model.video.published_size,
                "device": str(here.device),
            }
        if args.figure:
            from avmix.tools.model_figure import draw_model

            draw_model(config, found, args.figure)
        if args.json:
            echo(strict_json.dumps(said, indent=2), keep="\n")
        else:
            _print(config, found, said)
            if args.config:
                echo(f"for {args.classes} classes; --classes N for another number")
            if args.figure:
                echo(f"wrote {args.figure}")
    except (ValueError, OSError) as error:
        echo(f"error: {error}", error=True)
        return 1
    return 0


def _wrong_usage(args: argparse.Namespace) -> str:
    """What no file is needed to see, or an empty string."""
    if args.classes < 2:
        return f"--classes must be at least 2, got {args.classes}"
    if args.checkpoint and args.options:
        return f"{args.options[0]}: a checkpoint has its configuration; --config"
    if wrong := [word for word in args.options if "=" not in word]:
        return f"{wrong[0]}: options are KEY=VALUE, as model.fusion=sum"
    if args.save and args.save.suffix != ".safetensors":
        return f"--save {args.save}: the name of such a file ends with .safetensors"
    return ""


def _network(args: argparse.Namespace) -> tuple[TrainConfig, LateFusionClassifier]:
    """Of a checkpoint, or fresh of a configuration. Raises ValueError."""
    if args.checkpoint:
        trained = load(args.checkpoint, own_code=args.own_code)
        return trained.config, trained.network
    config = with_expected_input(load_files(TrainConfig, args.config, args.options))
    model = build_model(
        config.model, args.classes, clip=config.clip, frontend=config.frontend, load_weights=False,
        binary=config.loss.binary,
    )  # fmt: skip
    return config, model


def description(config: TrainConfig, found: Measured) -> dict[str, Any]:
    """What is printed as JSON: counts of one clip, seconds, bytes."""
    return {
        **{f"{name}_encoder": part.encoder for name, part in config.model.encoders.items()},
        "fusion": config.model.fusion,
        "missing": config.model.missing,
        "heads": config.model.heads,
        "mixing": mixing_of(config.mix),
        "parameters": found.parameters,
        "flops": found.flops,
        "activation_bytes": found.activation_bytes,
        **asdict(found),
        "environment": environment(),
    }


def _print(config: TrainConfig, found: Measured, said: dict[str, Any]) -> None:
    console = console_of()
    parts = Table(title="parameters")
    for heading in ("part", "", "parameters", "learning"):
        parts.add_column(
            heading, justify="right" if heading in ("parameters", "learning") else "left"
        )
    encoders = {name: part.encoder for name, part in config.model.encoders.items()}
    names = {**encoders, "to_shared": f"to {config.model.shared_width} each",
             "fusion": config.model.fusion}  # fmt: skip
    for part in found.parts:
        parts.add_row(part.name, printable(names[part.name]), f"{part.parameters:,}",
                      f"{part.learning:,}")  # fmt: skip
    learning = sum(part.learning for part in found.parts)
    parts.add_row("all", "", f"{found.parameters:,}", f"{learning:,}")
    console.print(parts)
    stages = Table(title="one clip")
    for heading in ("stage", "gives", "MFLOPs", "kept for backward, MB"):
        stages.add_column(heading, justify="left" if heading in ("stage", "gives") else "right")
    joint = "joint" in encoders
    for modality, shape in found.inputs.items():
        stages.add_row(modality, shape_text(shape), "", "")
        for stage in found.stages:
            in_tower = stage.part == modality or stage.name == f"projection of {modality}"
            if in_tower and not joint:
                stages.add_row(*_cells(stage))
    for stage in found.stages[:-1] if joint else []:
        stages.add_row(*_cells(stage))
    stages.add_row(*_cells(found.stages[-1]))
    stages.add_row("all", "", *_costs(found.flops, found.activation_bytes))
    console.print(stages)
    if (published := said["published_size"]) and {*published} != {config.clip.crop}:
        echo(f"{config.model.video.encoder}: its library published weights for frames of "
             f"{published[0]}x{published[1]} pixels; clip.crop is {config.clip.crop}, which is "
             "taken, too")  # fmt: skip
    for way in said["mixing"]:
        after = f", after {way['after_stages']} stages" if way["after_stages"] else ""
        echo(f"mixing: {way['method']} in {way['share']:.0%} of the batches: {way['mixed']}{after}")
    echo(f"on {said['device']}: {1000 * found.eval_seconds:.2f} ms a clip in evaluation, "
         f"{1000 * found.train_seconds:.2f} ms in training (without front end)")  # fmt: skip


def _cells(stage: Stage) -> list[str]:
    shapes = " ".join(shape_text(shape) for shape in stage.shapes)
    return [f"  {stage.part}: {stage.name}", shapes, *_costs(stage.flops, stage.activation_bytes)]


def _costs(flops: int, size: int) -> tuple[str, str]:
    return f"{flops / 1e6:,.2f}", f"{size / 1e6:,.2f}"
