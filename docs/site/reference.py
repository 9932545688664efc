"""Pages of the site that are generated from the code: Python names, options and commands."""

import argparse
import ast
import contextlib
import inspect
import io
import os
import re
import sys
from collections.abc import Iterator
from dataclasses import MISSING, Field, fields, is_dataclass
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[2]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

import avmix  # noqa: E402
from avmix.commands.catalogue import COMMANDS, GROUPS, Command  # noqa: E402
from avmix.commands.prepare import names  # noqa: E402
from avmix.config import EvalConfig, TrainConfig  # noqa: E402
from avmix.config.unset import plain  # noqa: E402

WIDTH = "100"


def python_page() -> str:
    """The public names of avmix, for mkdocstrings."""
    names = "\n".join(f"::: avmix.{name}\n" for name in avmix.__all__)
    return (
        "# Python\n\nThe names that `import avmix` gives. Those of the modules below it may change "
        f"between versions.\n\n{names}"
    )


def options_page() -> str:
    """Every option of training and evaluation."""
    head = (
        "# Options\n\nOptions are set in YAML files or as `--KEY VALUE` ([training](../training.md#"
        "options)). `python train.py --help` prints the same.\n"
    )
    return "\n".join([
        head,
        *_section(TrainConfig, ""),
        "## avmix evaluate",
        "",
        *_options(EvalConfig, ""),
    ])  # fmt: skip


def _section(kind: type, prefix: str) -> Iterator[str]:
    """Markdown of the sections in a configuration."""
    for each in fields(kind):
        section = _types(kind)[each.name]
        if is_dataclass(section):
            assert isinstance(section, type)
            yield f"## {prefix}{each.name}\n\n{_prose(inspect.getdoc(section) or '')}\n"
            yield from _options(section, f"{prefix}{each.name}.")
            yield from _section(section, f"{prefix}{each.name}.")


def _options(kind: type, prefix: str) -> Iterator[str]:
    """Markdown of the options of one section."""
    texts = _texts(kind)
    for each in fields(kind):
        name, of = prefix + each.name, _types(kind)[each.name]
        if not is_dataclass(of):
            yield f"### `{name}`\n\n{_type(of)}, default `{_default(each)}`\n\n{texts[each.name]}\n"


def _types(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)


def _texts(kind: type) -> dict[str, str]:
    """What follows each field of a dataclass, and of those it inherits from."""
    found: dict[str, str] = {}
    for each in reversed(kind.__mro__):
        if not is_dataclass(each):
            continue
        body = ast.parse(inspect.getsource(each)).body[0]
        assert isinstance(body, ast.ClassDef)
        for field, text in zip(body.body, body.body[1:], strict=False):
            if (
                isinstance(field, ast.AnnAssign)
                and isinstance(field.target, ast.Name)
                and isinstance(text, ast.Expr)
                and isinstance(text.value, ast.Constant)
                and isinstance(text.value.value, str)
            ):
                found[field.target.id] = _prose(inspect.cleandoc(text.value.value))
    return found


def _prose(text: str) -> str:
    """Text of a docstring as Markdown: what stands outside of backticks is meant literally."""
    parts = text.split("`")
    parts[::2] = [
        part.replace("*", r"\*").replace("<", "&lt;").replace("[", r"\[") for part in parts[::2]
    ]
    return re.sub(r"\bdocs/(\w+)\.md\b", r"[\1](../\1.md)", "`".join(parts))


def _type(of: Any) -> str:
    """A type in words."""
    if get_origin(of) is Literal:
        return " or ".join(f"`{value}`" for value in get_args(of))
    if get_origin(of) in (Union, UnionType):
        return " or ".join(map(_type, get_args(of)))
    return f"`{of.__name__ if isinstance(of, type) and not get_args(of) else of}`"


def _default(each: "Field[Any]") -> str:
    """A default as it is written in YAML."""
    value = each.default if each.default is not MISSING else each.default_factory()  # type: ignore
    value = plain(value)
    if isinstance(value, bool):
        return str(value).lower()
    return '""' if value == "" else str(value)


def commands_page() -> str:
    """The help of every command."""
    parts = ["# Commands\n\n`avmix` lists its commands; each prints this with `--help`.\n"]
    os.environ["COLUMNS"] = WIDTH
    for group, heading in GROUPS.items():
        parts.append(f"## {heading[0].upper()}{heading[1:]}\n")
        for command in COMMANDS:
            if command.group == group:
                parts += [f"### avmix {command.name}\n", *_help(command)]
    return "\n".join(parts)


def _help(command: Command) -> Iterator[str]:
    """The help of a command, or what it does where the help lists every option of a run."""
    if command.name in ("train", "evaluate"):
        where = "#avmix-evaluate" if command.name == "evaluate" else ""
        yield f"{command.summary[0].upper()}{command.summary[1:]}. [Options](options.md{where}).\n"
        yield f"```sh\n{command.example}\n```\n"
    elif command.reads_words:
        for words in ([], *([name] for name in names())):
            yield _fenced(_said(lambda words=words: command.main()([*words, "--help"])))
    else:
        parser = argparse.ArgumentParser(prog=command.prog)
        command.add_arguments(parser)
        parser.description = f"{command.summary[0].upper()}{command.summary[1:]}."
        yield _fenced(parser.format_help())


def _said(call: Any) -> str:
    """What a call prints."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.suppress(SystemExit):
        call()
    return out.getvalue()


def _fenced(text: str) -> str:
    return f"```text\n{text.strip()}\n```\n"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages."""
    pages = {"python": python_page, "options": options_page, "commands": commands_page}
    for name, page in pages.items():
        files.append(File.generated(config, f"reference/{name}.md", content=page()))
    return files
