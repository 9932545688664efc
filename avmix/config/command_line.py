"""Loading of configurations from YAML files and command-line overrides."""

import difflib
import os
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal, NoReturn, get_args, get_origin

from jsonargparse import ArgumentParser, DefaultHelpFormatter, Namespace, set_parsing_settings

from avmix.config.robustness_rows import ALL
from avmix.config.unused_options import unused_options, value_at
from avmix.config.yaml_files import RENAMED, C, read_yaml
from avmix.system.paths import home, with_home

set_parsing_settings(docstring_parse_attribute_docstrings=True)


def _keys(cls: Any, prefix: str = "") -> list[str]:
    """Dotted path of every option of `cls`."""
    keys: list[str] = []
    for f in fields(cls):
        path = prefix + f.name
        keys += _keys(f.type, path + ".") if is_dataclass(f.type) else [path]
    return keys


def _gap(cls: Any, values: Namespace, prefix: str = "") -> str | None:
    """What is wrong with the first section that is no section, or option that is null."""
    for f in fields(cls):
        path, value = prefix + f.name, values.get(f.name)
        if is_dataclass(f.type):
            if not isinstance(value, Namespace):
                names = ", ".join(_keys(f.type, path + "."))
                return f"{path} is a section and must hold options ({names}), got {value!r}"
            if gap := _gap(f.type, value, path + "."):
                return gap
        elif value is None:
            return f"{path} must have a value, got null"
    return None


def _unknown_key(message: str) -> str | None:
    """Dotted path of the key that the parser did not know, if that is what `message` says."""
    if found := re.search(r"Group '([\w.]+)' does not accept option '([\w.]+)'", message):
        return f"{found[1]}.{found[2]}"
    found = re.search(
        r"Option '([\w.]+)' is not accepted|unrecognized arguments: --([\w.]+)", message
    )
    return (found[1] or found[2]) if found else None


class _EpilogInLines(DefaultHelpFormatter):
    """The help of jsonargparse, with the lines of the epilog as they are."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        if "\n" in text.strip():
            return "".join(indent + line for line in text.splitlines(keepends=True))
        return super()._fill_text(text, width, indent)


class _Parser(ArgumentParser):
    """Says what is wrong in one line, with the choices, and ends with exit code 2."""

    keys: tuple[str, ...] = ()

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:  # type: ignore[override]
        line = " ".join(str(message).split()).replace("a typing.Literal", "one of ")
        line = re.sub(r"<class '(\w+)'>", r"\1", line)
        line = re.sub(r"arguments are required: (\w)", r"arguments are required: --\1", line)
        if key := _unknown_key(line):
            section = key.rpartition(".")[0]
            choices = [k for k in self.keys if section and k.startswith(section + ".")]
            choices = choices or sorted({k.partition(".")[0] for k in self.keys})
            close = difflib.get_close_matches(key, self.keys, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            if key in RENAMED:
                hint = f"; it is {RENAMED[key]!r} now."
            line = f"no option {key!r}{hint} Choices: {', '.join(choices)}"
        print(f"error: {line}", file=sys.stderr)
        sys.exit(2)


def load_config(
    cls: type[C],
    argv: Sequence[str] | None = None,
    *,
    prog: str | None = None,
    epilog: str | None = None,
) -> C:
    """Load a configuration from YAML files given by `--config` (later files win) and
    `--dotted.overrides`, which may as well be words KEY=VALUE.

    A key that does not exist or is there twice, a value of the wrong type, a value out of range and
    an option that cannot act (`avmix.config.unused_options`) end the program with exit code 2 and
    one line that names the key and what it may be. An option that acts where it is set, and that a
    later file or override switches off, is taken. `prog` and `epilog` are for `--help`: the name
    of the command, and what is said after the options.
    """
    given = with_home(_as_flags(sys.argv[1:] if argv is None else argv))
    parser = _parser_of(cls, prog, epilog)
    try:
        args = parser.parse_args(given)
        _refuse_repeated_keys(given)
    except OverflowError:
        parser.error("an option is a number too large for a float")
    except ValueError as error:
        parser.error(str(error))
    if gap := _gap(cls, args):
        parser.error(gap)
    try:
        config = _instance(parser, cls, args)
    except ValueError as error:
        parser.error(str(error))
    config = _at_home(config)
    for key, message in unused_options(config).items():
        if not _was_switched_off(parser, cls, given, key):
            parser.error(message)
    return config


def load_files(cls: type[C], files: Sequence[Path], options: Sequence[str]) -> C:
    """Load a configuration from YAML files and words KEY=VALUE, for commands that have options of
    their own. Raises ValueError for a word of another form; ends the program as `load_config`."""
    words = [word for path in files for word in ("--config", str(path))]
    for option in options:
        if "=" not in option or option.startswith("-"):
            raise ValueError(f"{option}: options are KEY=VALUE, as model.fusion=sum")
        words.append(f"--{option}")
    return load_config(cls, words)


def as_key_values(cls: Any, words: Sequence[str]) -> list[str]:
    """`--section.name VALUE` and `--section.name=VALUE` as `section.name=VALUE`, for commands that
    have options of their own (`load_files`); other words as they are. Raises ValueError where the
    value is missing."""
    sections = tuple(f"--{f.name}." for f in fields(cls) if is_dataclass(f.type))
    found: list[str] = []
    rest = iter(words)
    for word in rest:
        if not word.startswith(sections):
            found.append(word)
        elif "=" in word:
            found.append(word.removeprefix("--"))
        elif (value := next(rest, None)) is None:
            raise ValueError(f"{word} needs a value")
        else:
            found.append(f"{word.removeprefix('--')}={value}")
    return found


def _as_flags(words: Sequence[str]) -> list[str]:
    """Words KEY=VALUE as `--KEY=VALUE`; not where the word is the value of the option before."""
    found: list[str] = []
    is_value = False
    for word in words:
        is_pair = not is_value and re.match(r"[A-Za-z_][\w.]*=", word) is not None
        found.append(f"--{word}" if is_pair else word)
        is_value = not is_value and word.startswith("--") and "=" not in word and len(word) > 2
    return found


@cache
def _parser_of(cls: type, prog: str | None = None, epilog: str | None = None) -> _Parser:
    """One for all calls: most of the time of a call is reading the documentation of the options."""
    parser = _Parser(
        prog=prog,
        description=cls.__doc__,
        epilog=epilog,
        formatter_class=_EpilogInLines,
        allow_abbrev=False,
    )
    parser.keys = tuple(_keys(cls))
    parser.add_argument("--config", action="config", help="YAML file; may be given more than once")
    parser.add_class_arguments(cls)
    for action in parser._actions:
        if action.dest in _WITHOUT_VALUE:
            action.nargs, action.const = "?", _WITHOUT_VALUE[action.dest]
        if (alias := _ALIASES.get(action.dest)) is not None:
            action.option_strings = [*action.option_strings, alias]
            parser._option_string_actions[alias] = action
    return parser


_WITHOUT_VALUE = {"robustness": ALL}
"""What options stand for that are typed without a value."""
_ALIASES = {"predictions": "--from"}
"""Further names of options, that Python does not allow as names of fields."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """An option of a configuration, as it is typed."""

    flag: str
    """`--section.name`."""
    summary: str
    choices: tuple[str, ...] | None
    """None where any value of its type is one."""
    is_path: bool


def options_of(cls: type) -> list[Option]:
    """Every option that `load_config` reads for `cls`, `--config` first; for shell completion."""
    said = {action.dest: action.help or "" for action in _parser_of(cls)._actions}
    options = [Option(flag="--config", summary=said["config"], choices=None, is_path=True)]
    for key in _keys(cls):
        kind = _type_at(cls, key)
        choices = get_args(kind) if get_origin(kind) is Literal else ()
        options.append(
            Option(
                flag=f"--{key}",
                summary=said.get(key, ""),
                choices=choices if choices and all(isinstance(c, str) for c in choices) else None,
                is_path=key.rpartition(".")[2] in _PATHS,
            )
        )
    return options


def _type_at(cls: Any, key: str) -> Any:
    """The type of the option with this dotted path."""
    for name in key.split("."):
        cls = {f.name: f.type for f in fields(cls)}[name]
    return cls


_PATHS = ("root", "manifest", "features", "table", "extra", "out", "checkpoint", "weights",
          "predictions", "alone")  # fmt: skip
"""Options that are paths, in whatever section."""


def _at_home(config: C) -> C:
    """`~` in full also where a YAML file says it."""
    changes: dict[str, Any] = {}
    for f in fields(config):  # type: ignore[arg-type]
        value = getattr(config, f.name)
        if is_dataclass(value):
            changes[f.name] = _at_home(value)
        elif f.name in _PATHS:
            changes[f.name] = [*map(home, value)] if isinstance(value, list) else home(value)
    return replace(config, **changes)  # type: ignore[type-var]


def _instance(parser: _Parser, cls: type[C], args: Namespace) -> C:
    args = args.clone()
    args.pop("config", None)
    return cls(**vars(parser.instantiate(args)))


def _refuse_repeated_keys(argv: Sequence[str]) -> None:
    """Raises ValueError where a file of YAML, or a value in YAML, holds a key twice."""
    before = ""
    for word in argv:
        option, _, value = word.partition("=") if word.startswith("--") else (before, "", word)
        before = word
        if option == "--config" and os.path.isfile(value):
            where, text = value, Path(value).read_text()
        elif "{" in value:
            where, text = option.removeprefix("--"), value
        else:
            continue
        try:
            read_yaml(text)
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from None


def _was_switched_off(parser: _Parser, cls: type, argv: Sequence[str], key: str) -> bool:
    """True where the option acted as of one of the files, and nothing after that file sets it."""
    files = [i + 1 + (word == "--config") for i, word in enumerate(argv)
             if word == "--config" or word.startswith("--config=")]  # fmt: skip
    for end in files:
        try:
            before = _instance(parser, cls, parser.parse_args(argv[:end]))
        except ValueError:
            continue  # it was not complete yet
        set_again = parser.parse_args(argv[end:])[key] != parser.get_defaults()[key]
        value = value_at(before, key)
        is_set = value != parser.get_defaults()[key]
        if is_set and key not in unused_options(before) and not set_again:
            return True
    return False
