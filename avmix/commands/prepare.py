"""`avmix prepare NAME`, and `python datasets/NAME/prepare.py`: which recipe, and its exit code."""

import argparse
import ast
import difflib
import pkgutil
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

import avmix.recipes
from avmix.system.broken_pipe import readers_may_leave
from avmix.system.printing import echo

_USAGE = """\
usage: avmix prepare NAME --root DIR --out DIR ...

Write the manifest of a dataset: which files are its clips, of which class, split and source, and
what cannot be used. Training reads the manifest.

datasets:
{datasets}

avmix prepare NAME --help describes the options of a dataset.

example:
  avmix prepare folder --root my_clips --out data/mine

exit:   0 prepared   1 something is wrong   2 wrong usage   130 interrupted"""


def main(argv: Sequence[str] | None = None) -> int:
    """Prepare the dataset that the first word names, or list them; returns the exit code."""
    with readers_may_leave():
        name, *words = (sys.argv[1:] if argv is None else argv) or ("--help",)
        if name in ("-h", "--help"):
            echo(_USAGE.format(datasets=_listed()), keep="\n")
            return 0
        if name not in (known := names()):
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else "."
            echo(f"error: unknown dataset {name!r}{hint} Datasets: {', '.join(known)}", error=True)
            return 2
        return run(name, words)


def run(name: str, argv: Sequence[str] | None = None, *, prog: str | None = None) -> int:
    """Prepare the dataset `name` with the words of a command line; returns the exit code.

    `prog`: how the command is called, where it is not `avmix prepare NAME`.
    """
    # These bring torch, which the list of datasets does not need.
    from avmix.prepare.command import run_recipe

    recipe = import_module(f"avmix.recipes.{name}")
    usual = f"avmix prepare {name}"
    prog = prog or usual
    doc = (recipe.__doc__ or "").replace(usual, prog)
    if hasattr(recipe, "main"):
        with readers_may_leave():
            return recipe.main(argv, prog=prog, doc=doc)
    return run_recipe(
        name,
        doc,
        recipe.protocols,
        arguments=getattr(recipe, "arguments", None),
        argv=argv,
        prog=prog,
    )


def add_arguments(name: str, parser: argparse.ArgumentParser) -> None:
    """Declare the options of `avmix prepare NAME`, for shell completion."""
    from avmix.prepare import command

    recipe = import_module(f"avmix.recipes.{name}")
    if hasattr(recipe, "main"):
        recipe.add_arguments(parser)
        return
    command.add_arguments(parser)
    if hasattr(recipe, "arguments"):
        recipe.arguments(parser)


def names() -> list[str]:
    """The datasets that there are recipes for."""
    return sorted(module.name for module in pkgutil.iter_modules(avmix.recipes.__path__))


def summary(name: str) -> str:
    """The first line of a recipe, read without importing it."""
    source = (Path(avmix.recipes.__path__[0]) / f"{name}.py").read_text(encoding="utf-8")
    return (ast.get_docstring(ast.parse(source)) or "").partition("\n")[0]


def _listed() -> str:
    width = max(map(len, names()))
    return "\n".join(f"  {name:{width}}  {summary(name)}" for name in names())
