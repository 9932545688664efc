"""The commands of `avmix`: groups, what each does, an example, and the module that does it."""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module

from avmix.system.unused_arguments import Needs

GROUPS = {
    "data": "prepare datasets",
    "train": "train and evaluate",
    "look": "look into files and mixes",
    "tools": "download, copy, check",
}
"""Headings of `avmix`, in this order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """One command. Its module is imported when it is asked for: most bring torch, which takes
    seconds."""

    name: str
    group: str
    """One of `GROUPS`."""
    summary: str
    """What it does, in one line: a verb first, without a full stop."""
    example: str
    module: str
    """Has `add_arguments(parser)` and `run(args) -> exit code`, and may have `NEEDS`; of a command
    that `reads_words`, `main(words) -> exit code` instead."""
    reads_words: bool = False
    """Whether it parses its own words, and has its own `--help`."""

    @property
    def prog(self) -> str:
        """As it is called."""
        return f"avmix {self.name}"

    def main(self) -> Callable[[Sequence[str]], int]:
        """What reads the words of a command that `reads_words`."""
        module, _, function = self.module.partition(":")
        return getattr(import_module(module), function)

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare its options, with the example before its exit codes."""
        parser.formatter_class = argparse.RawDescriptionHelpFormatter
        import_module(self.module).add_arguments(parser)
        parser.epilog = f"example:\n  {self.example}\n\n{parser.epilog or ''}"

    @property
    def needs(self) -> Sequence[Needs]:
        """Options that cannot act without others."""
        return getattr(import_module(self.module), "NEEDS", ())

    def run(self, args: argparse.Namespace) -> int:
        """Do it; returns the exit code."""
        return import_module(self.module).run(args)


COMMANDS = (
    Command(
        name="prepare",
        group="data",
        summary="write the manifest of a dataset: your own clips, UCF101, Kinetics and others",
        example="avmix prepare folder --root my_clips --out data/mine",
        module="avmix.commands.prepare:main",
        reads_words=True,
    ),
    Command(
        name="synth",
        group="data",
        summary="generate synthetic clips for additional training data",
        example="avmix synth repair --root data/toy --out data/repaired",
        module="avmix.synth.synth_command",
    ),
    Command(
        name="events",
        group="data",
        summary="detect the onsets of audio events in the clips of a dataset",
        example="avmix events --root my_clips --manifest data/mine",
        module="avmix.events.events_command",
    ),
    Command(
        name="train",
        group="train",
        summary="train a network; the same command again resumes it",
        example="avmix train --config configs/own.yaml --run.out runs/mine",
        module="avmix.commands.from_options:train",
        reads_words=True,
    ),
    Command(
        name="evaluate",
        group="train",
        summary="evaluate a checkpoint: both modalities, each alone, each removed",
        example="avmix evaluate --checkpoint runs/mine",
        module="avmix.commands.from_options:evaluate",
        reads_words=True,
    ),
    Command(
        name="predict",
        group="train",
        summary="predict the classes of files, whole or along time, and which modality decided",
        example="avmix predict my_clips --checkpoint runs/mine --csv predictions.csv\n"
        "  avmix predict long.mp4 --checkpoint runs/mine --along-time --step 0.5 --figures out",
        module="avmix.commands.predict",
    ),
    Command(
        name="export",
        group="train",
        summary="write a network as one ONNX or torch.export file, checked on decoded clips",
        example="avmix export runs/mine --out exported\n"
        "  avmix export runs/mine --out mine.pt2 --clips my_clips",
        module="avmix.exporting.export_command",
    ),
    Command(
        name="push",
        group="train",
        summary="write weights, configuration and model card to a folder, or to the Hub",
        example="avmix push runs/mine published/mine --license apache-2.0\n"
        "  avmix push runs/mine published/mine --hub USER/NAME",
        module="avmix.exporting.push_command",
    ),
    Command(
        name="compare",
        group="train",
        summary="compare evaluated runs: paired differences with intervals",
        example="avmix compare runs/none runs/mixup --figure compare.png",
        module="avmix.commands.compare",
    ),
    Command(
        name="guard",
        group="train",
        summary="fit to held-out clips how far fusion may leave the better modality head",
        example="avmix guard --checkpoint runs/mine --from runs/mine/eval_val",
        module="avmix.commands.guard",
    ),
    Command(
        name="features",
        group="train",
        summary="compute the embeddings of every clip once, by frozen encoders",
        example="avmix features --config configs/own.yaml --modality video --out features/mine\n"
        "  avmix features --checkpoint runs/mine --views 3 --half --out features/mine",
        module="avmix.commands.features",
    ),
    Command(
        name="probe",
        group="train",
        summary="fit linear classifiers to kept features, of all clips or of few a class",
        example="avmix probe features/mine --shots 8 --draws 10 --by clip",
        module="avmix.commands.linear_probe",
    ),
    Command(
        name="leaderboard",
        group="train",
        summary="run published protocols, and compute tables of results again from predictions",
        example="avmix leaderboard list\n"
        "  avmix leaderboard run toy --methods none mixup --seeds 0 1\n"
        "  avmix leaderboard table toy",
        module="avmix.leaderboard.leaderboard_command",
    ),
    Command(
        name="doctor",
        group="look",
        summary="report contents and problems of media files, and what is installed",
        example="avmix doctor my_clips",
        module="avmix.doctor.doctor_command",
    ),
    Command(
        name="preview",
        group="look",
        summary="draw two clips and their mix, or one clip before and after augmentation",
        example="avmix preview one.mp4 other.mp4 --lam 0.3 -o mix.png\n"
        "  avmix preview one.mp4 --augment '{speed: 1.25}' -o augment.png",
        module="avmix.commands.preview",
    ),
    Command(
        name="explore",
        group="look",
        summary="show a local page on which two clips are mixed, seen, played and predicted",
        example="avmix explore runs/mine --root my_clips --worst runs/mine",
        module="avmix.commands.explore",
    ),
    Command(
        name="model",
        group="look",
        summary="report cost and structure of a network; or write its weights as safetensors",
        example="avmix model --config configs/demo.yaml model.fusion=gated model.shared_width=64\n"
        "  avmix model --config configs/demo.yaml --json --figure network.png\n"
        "  avmix model --checkpoint runs/demo --save demo.safetensors",
        module="avmix.tools.model_command",
    ),
    Command(
        name="download",
        group="tools",
        summary="fetch the files of a list of links",
        example="avmix download --list missing.txt --out my_clips",
        module="avmix.tools.download",
    ),
    Command(
        name="leaks",
        group="tools",
        summary="find sources, files or people shared between splits",
        example="avmix leaks --root my_clips --manifest data/mine --near",
        module="avmix.tools.leaks",
    ),
    Command(
        name="transcode",
        group="tools",
        summary="re-encode a dataset into small, fast-to-read files",
        example="avmix transcode --root my_clips --manifest data/mine --out data/small",
        module="avmix.tools.transcode",
    ),
    Command(
        name="shards",
        group="tools",
        summary="pack a dataset into tar files in the layout of WebDataset",
        example="avmix shards --root my_clips --manifest data/mine --out data/shards",
        module="avmix.tools.shards",
    ),
    Command(
        name="completion",
        group="tools",
        summary="print a script that completes these commands in your shell",
        example="avmix completion bash > ~/.local/share/bash-completion/completions/avmix",
        module="avmix.commands.completion",
    ),
)
BY_NAME = {command.name: command for command in COMMANDS}
