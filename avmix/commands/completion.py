"""`avmix completion SHELL`: a script that completes commands, options, choices and file names."""

import argparse
from pathlib import Path

import shtab

from avmix.commands import prepare
from avmix.commands.catalogue import COMMANDS, Command
from avmix.config import EvalConfig, TrainConfig
from avmix.config.command_line import options_of
from avmix.system.printing import echo

EPILOG = """\
The script is for the commands that are there now: print it again after an update.

exit:   0 printed   2 wrong usage
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what `run` reads."""
    parser.epilog = EPILOG
    parser.add_argument("shell", choices=shtab.SUPPORTED_SHELLS, help="the shell of your terminal")


def run(args: argparse.Namespace) -> int:
    """Print the script and return the exit code."""
    echo(shtab.complete(_whole_parser(), args.shell), keep="\n\t")
    return 0


def _whole_parser() -> argparse.ArgumentParser:
    """One parser with all commands; shtab reads it, nothing is parsed by it."""
    parser = argparse.ArgumentParser(prog="avmix")
    parser.add_argument("--version", action="store_true", help="print the version")
    commands = parser.add_subparsers(dest="command")
    for command in COMMANDS:
        _declare(command, commands.add_parser(command.name, help=command.summary))
    _complete_files(parser)
    return parser


def _declare(command: Command, parser: argparse.ArgumentParser) -> None:
    if command.name == "prepare":
        datasets = parser.add_subparsers(dest="dataset")
        for name in prepare.names():
            prepare.add_arguments(name, datasets.add_parser(name, help=prepare.summary(name)))
    elif command.name in _CONFIGS:
        for option in options_of(_CONFIGS[command.name]):
            action = parser.add_argument(
                option.flag, choices=option.choices, help=option.summary.replace("%", "%%")
            )
            if option.is_path:
                action.complete = shtab.FILE  # type: ignore[attr-defined]
    else:
        command.add_arguments(parser)


_CONFIGS = {"train": TrainConfig, "evaluate": EvalConfig}


def _complete_files(parser: argparse.ArgumentParser) -> None:
    """Name files for the arguments that are paths, in all subparsers."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for child in action.choices.values():
                _complete_files(child)
        elif action.type is Path or action.dest in _FILES:
            action.complete = shtab.FILE  # type: ignore[attr-defined]


_FILES = ("paths", "json")
"""Arguments that are paths and are read as text."""
