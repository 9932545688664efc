"""What the pages say in code: each block runs or parses, and each message is in the code."""

import argparse
import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from test_commands import PAGES as COMMAND_PAGES
from test_commands import shell_lines

from avmix.commands.catalogue import BY_NAME
from avmix.commands.prepare import names
from avmix.config import EvalConfig, TrainConfig, load_config
from avmix.config.command_line import _keys

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md")),
         *sorted((ROOT / "datasets").rglob("*.md"))]  # fmt: skip
BLOCK = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.DOTALL | re.MULTILINE)
RUN = {
    "README.md": "test_project.py: test_the_code_of_the_readme_runs",
    "docs/dropin.md": "test_cross_modal_mixup.py: test_the_example_of_the_documentation_runs",
    "docs/predicting.md": "test_predict.py: test_the_lines_of_the_page_run",
    "docs/training.md": "test_wheel.py: test_the_python_of_the_page_trains_and_evaluates",
}
"""Pages whose Python runs in a test of the subject."""


def blocks(kinds: tuple[str, ...]) -> list[tuple[str, str]]:
    """(page, text) of every block of code in these languages."""
    return [
        (page.relative_to(ROOT).as_posix(), re.sub(rf"^{indent}", "", text, flags=re.MULTILINE))
        for page in PAGES
        for indent, kind, text in BLOCK.findall(page.read_text())
        if kind in kinds
    ]


def test_every_block_of_code_is_found_and_of_a_known_language() -> None:
    for page in PAGES:
        text = page.read_text()
        assert len(re.findall(r"^ *```", text, re.MULTILINE)) == 2 * len(BLOCK.findall(text)), page
    kinds = {kind for page in PAGES for _, kind, _ in BLOCK.findall(page.read_text())}
    assert kinds <= {"", "sh", "text", "python", "yaml"}


# Python -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("page", "code"), blocks(("python",)))
def test_the_python_of_the_pages_compiles_and_imports_what_is_there(page: str, code: str) -> None:
    tree = ast.parse(code)
    found: list[ast.stmt] = [
        node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)
    ]
    exec(compile(ast.Module(found, []), page, "exec"), {})


def test_the_python_of_a_page_runs_in_the_test_that_is_named() -> None:
    for page, test in RUN.items():
        file, name = test.split(": ")
        text = (ROOT / "tests" / file).read_text()
        assert f"def {name}(" in text
        assert page.removeprefix("docs/") in text


# Shell --------------------------------------------------------------------------------------------


def lines() -> Iterator[tuple[str, list[str]]]:
    """(page, words) of every command line, with what a shell would put in as it stands."""
    for page, block in blocks(("sh", "")):
        joined = block.replace("\\\n", " ")
        for line in joined.splitlines():
            first = line.strip().split(" ")[0]
            if first in ("avmix", "python", "torchrun"):
                yield page, shlex.split(line, comments=True)


def known_options(words: list[str]) -> tuple[set[str], list[str]] | None:
    """Options of the program that `words` call, and the words after it; None for those of
    benchmarks and examples."""
    if words[0] == "torchrun":
        words = words[words.index("-m") + 1 :]
    script = Path(words[1] if words[0] == "python" else words[0])
    if words[0] == "python" and script.parts[0] in ("benchmarks", "examples"):
        assert (ROOT / script).is_file(), script
        return None
    if words[0] == "python":
        assert (ROOT / script).is_file(), script
        if script.parts[0] == "datasets":
            name = script.parts[1].replace("-", "_")
            assert name in names(), name
            return recipe_options(name), words[2:]
        words = ["avmix", {"train.py": "train", "eval.py": "evaluate"}[script.name], *words[2:]]
    command = BY_NAME[words[1]]
    if command.name == "prepare":
        assert words[2] in (*names(), "NAME"), words
        return recipe_options("folder" if words[2] == "NAME" else words[2]), words[3:]
    if command.name in ("train", "evaluate"):
        kind = TrainConfig if command.name == "train" else EvalConfig
        return {"--config", "--help", "--from", *(f"--{key}" for key in _keys(kind))}, words[2:]
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    options = {"--help", *options_of(parser, words[2:])}
    return options | {f"--{key}" for key in _keys(TrainConfig)}, words[2:]


def options_of(parser: argparse.ArgumentParser, words: list[str]) -> Iterator[str]:
    """Of a parser, and of those of its subcommands that `words` name."""
    for action in parser._actions:
        yield from action.option_strings
        if isinstance(action, argparse._SubParsersAction):
            for word in words:
                if word in action.choices:
                    yield from options_of(action.choices[word], words)


def recipe_options(name: str) -> set[str]:
    """What the help of a recipe lists."""
    if name not in _recipes:
        import contextlib
        import io

        out = io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.suppress(SystemExit):
            BY_NAME["prepare"].main()([name, "--help"])
        _recipes[name] = {"--help", *re.findall(r"--[a-z][\w-]*", out.getvalue())}
    return _recipes[name]


_recipes: dict[str, set[str]] = {}


def test_every_option_of_the_command_lines_exists() -> None:
    checked, wrong = 0, []
    for page, words in lines():
        known = known_options(words)
        if known is None:
            continue
        options, rest = known
        for word in rest:
            if word.startswith("--"):
                checked += 1
                if word.split("=")[0] not in options:
                    wrong.append(f"{page}: {word} in {' '.join(words)}")
    assert checked > 120
    assert not wrong, "\n".join(wrong)


def test_a_wrong_option_is_found_out() -> None:
    for line in ("avmix train --optim.learning_rate 1", "avmix predict a.mp4 --model runs/x",
                 "python datasets/folder/prepare.py --folder x"):  # fmt: skip
        known = known_options([*line.split()])
        assert known is not None
        assert [word for word in known[1] if word.startswith("--") and word not in known[0]]


@pytest.mark.long
def test_the_configurations_that_the_pages_train_with_are_valid() -> None:
    """Of every line that names a configuration: what is in it and on the line goes together."""
    checked = 0
    for _, words in lines():
        named = [words[i + 1] for i, word in enumerate(words[:-1]) if word == "--config"]
        program = " ".join(words[:2]) in ("python train.py", "avmix train")
        if program and named and all((ROOT / name).is_file() for name in named):
            rest = [
                str(ROOT / word) if words[i - 1] == "--config" else word
                for i, word in enumerate(words)
            ]
            load_config(TrainConfig, rest[2:])
            checked += 1
    assert checked >= 8


def test_command_lines_within_the_text_name_commands_and_options_that_exist() -> None:
    """`avmix NAME --option` between backticks."""
    wrong = []
    for page in PAGES:
        for text in re.findall(r"`(avmix [a-z][^`]*)`", BLOCK.sub("", page.read_text())):
            words = " ".join(text.split()).split(" ")
            if words[1] not in BY_NAME:
                wrong.append(f"{page.name}: {text}")
                continue
            if words[1] == "prepare" and (len(words) < 3 or words[2] not in (*names(), "NAME")):
                continue  # of the command as such
            known = known_options(words)
            assert known is not None
            wrong += [
                f"{page.name}: {text}"
                for word in known[1]
                if word.startswith("--") and word.split("=")[0] not in known[0]
            ]
    assert not wrong, "\n".join(wrong)


def test_every_page_of_docs_has_its_lines_run() -> None:
    """`test_commands.py` runs the blocks ```sh of every page."""
    assert {page for page, _ in blocks(("sh",))} <= {*COMMAND_PAGES, "CONTRIBUTING.md"}
    assert all(shell_lines((ROOT / page).read_text()) for page, _ in blocks(("sh",)))


# YAML ---------------------------------------------------------------------------------------------


def keys_of(values: object, prefix: str = "") -> Iterator[str]:
    """Dotted paths of the leaves of a mapping; those of `options` belong to libraries."""
    assert isinstance(values, dict)
    for key, value in values.items():
        path = f"{prefix}{key}"
        if isinstance(value, dict) and path not in KEYS:
            yield from keys_of(value, f"{path}.")
        else:
            yield path


KEYS = {*_keys(TrainConfig)}


@pytest.mark.parametrize(("page", "text"), blocks(("yaml",)))
def test_the_options_of_yaml_blocks_exist(page: str, text: str) -> None:
    unknown = {*keys_of(yaml.safe_load(text))} - KEYS
    assert not unknown


OPTION = re.compile(
    r"`(?:--)?((?:data|clip|augment|frontend|mix|model|loss|balance|optim|run)\.[a-z_.]+[a-z_])\b"
)


def test_options_that_the_pages_name_exist() -> None:
    """`SECTION.OPTION` between backticks, in every page."""
    sections = {
        "data",
        "clip",
        "augment",
        "frontend",
        "mix",
        "model",
        "loss",
        "balance",
        "optim",
        "run",
    }
    for key in KEYS:
        parts = key.split(".")
        sections |= {".".join(parts[:i]) for i in range(1, len(parts))}
    files = {"run.lock", "mix.png", "augment.png", "clip.mp4", "model.safetensors"}
    wrong = [
        f"{page.relative_to(ROOT)}: {name}"
        for page in PAGES
        for name in OPTION.findall(BLOCK.sub("", page.read_text()))
        if name not in KEYS | sections | files
    ]
    assert not wrong, "\n".join(wrong)


# Messages -----------------------------------------------------------------------------------------


def texts_of(code: str) -> Iterator[str]:
    """Every string of a module; `{}` stands for what is put into it."""
    inner: set[int] = set()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.JoinedStr):
            inner |= {id(part) for part in node.values}
            yield "".join(
                str(p.value) if isinstance(p, ast.Constant) else "{}" for p in node.values
            )
        elif (
            isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inner
        ):
            yield node.value


def messages() -> list[str]:
    """The headings of the page that are quoted."""
    page = (ROOT / "docs/troubleshooting.md").read_text()
    return re.findall(r"^### `(.*)`$", page, re.MULTILINE)


def test_every_message_of_the_troubleshooting_page_is_printed_by_the_code() -> None:
    said = [
        " ".join(text.split())
        for path in sorted((ROOT / "avmix").rglob("*.py"))
        for text in texts_of(path.read_text())
    ]
    found = messages()
    assert 15 <= len(found) == len({*found})
    for message in found:
        parts = [re.escape(part.strip()) for part in message.split("...") if part.strip()]
        pattern = re.compile(r"[^\0]*?".join(parts))
        assert any(pattern.search(text) for text in said), message


def test_a_message_that_is_not_in_the_code_is_found_out() -> None:
    code = 'raise ValueError(f"{x}: no such checkpoint, " f"of {y} bytes")'
    assert list(texts_of(code)) == ["{}: no such checkpoint, of {} bytes"]
