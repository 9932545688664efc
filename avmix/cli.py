"""The `avmix` command: which command is asked for, and what there is."""

import argparse
import difflib
import sys
from collections.abc import Sequence

from avmix import __version__
from avmix.commands.catalogue import BY_NAME, COMMANDS, GROUPS, Command
from avmix.isolate.process_pool import CannotStart
from avmix.system.broken_pipe import readers_may_leave
from avmix.system.paths import with_home
from avmix.system.printing import echo
from avmix.system.unused_arguments import unused_argument

_INTERRUPTED = 128 + 2
"""As a shell says of a program that SIGINT ended."""


def main(argv: Sequence[str] | None = None) -> None:
    """Entry of the `avmix` command; ends with one line and an exit code of its own on bad input."""
    with readers_may_leave():
        try:
            code = _main(with_home(sys.argv[1:] if argv is None else argv))
        except KeyboardInterrupt:  # commands whose work can be continued say so themselves
            echo("stopped", error=True)
            code = _INTERRUPTED
        sys.exit(code)


def _main(words: Sequence[str]) -> int:
    first, *others = words or ("--help",)
    if first in ("-h", "--help"):
        echo(overview(), keep="\n")
        return 0
    if first == "--version":
        echo(f"avmix {__version__}")
        return 0
    command = BY_NAME.get(first)
    if command is None:
        echo(f"error: {_unknown(first)}", error=True)
        return 2
    if command.reads_words:
        return command.main()(others)
    args = _parsed(command, others)
    try:
        return command.run(args)
    except CannotStart as error:
        echo(f"error: {error}", error=True)
        return 1


def overview() -> str:
    """The commands in their groups, a line each."""
    width = max(len(command.name) for command in COMMANDS)
    lines = ["usage: avmix COMMAND ...", "", "Audio-visual action recognition."]
    for group, heading in GROUPS.items():
        lines += ["", f"{group}: {heading}"]
        lines += [f"  {c.name:{width}}  {c.summary}" for c in COMMANDS if c.group == group]
    lines += ["", "avmix COMMAND --help describes a command; avmix --version prints the version."]
    return "\n".join(lines)


def _parsed(command: Command, words: Sequence[str]) -> argparse.Namespace:
    """The arguments of a command; wrong ones end the program with exit code 2."""
    what = f"{command.summary[0].upper()}{command.summary[1:]}."
    parser = argparse.ArgumentParser(prog=command.prog, description=what)
    command.add_arguments(parser)
    if any(action.metavar == "KEY=VALUE" for action in parser._actions):
        args = _parsed_with_options(parser, words)
    else:
        args = parser.parse_args(words)
    if message := unused_argument(args, command.needs):
        parser.error(message)
    return args


def _parsed_with_options(
    parser: argparse.ArgumentParser, words: Sequence[str]
) -> argparse.Namespace:
    """Of a command that takes options of a training configuration: as `avmix train` takes them,
    --key VALUE, or as words KEY=VALUE, wherever they are."""
    from avmix.config import TrainConfig, as_key_values

    try:
        words = as_key_values(TrainConfig, words)
    except ValueError as error:
        parser.error(str(error))
    return parser.parse_intermixed_args(words)


def _unknown(word: str) -> str:
    """What to say of a word that is no command."""
    kind = "option" if word.startswith("-") else "command"
    close = difflib.get_close_matches(word, BY_NAME, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else "."
    return f"unknown {kind} {word!r}{hint} Commands: {', '.join(BY_NAME)}"


if __name__ == "__main__":
    main()
