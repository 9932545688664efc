"""Every figure, page and list of names, of any number of classes and with names of any length.

The tables of evaluation are in test_eval.py.
"""

import importlib
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import ENTRY
from PIL import Image

from avmix.evaluation.figures import draw_confusion
from avmix.prepare.clip_status import Judged
from avmix.prepare.inventory import inventory_of
from avmix.prepare.inventory_html import page_of
from avmix.prepare.inventory_text import lines_of, show_inventory
from avmix.prepare.media_folder import MediaIndex
from avmix.prepare.probe_counts import probe_counts
from avmix.prepare.protocol import Expected, Problem, Protocol
from avmix.system.printing import listed
from avmix.types import Entry

ROOT = Path(__file__).parents[1]
LONG = "a class with a name that $never_ends$ and that [/] nobody would | give to a class " * 3
EVERY = pytest.mark.parametrize(
    ("number", "long"), [(1, LONG), (2, LONG), (2, ""), (50, LONG), (400, LONG), (1000, LONG)]
)


def names_of(number: int, long: str) -> tuple[str, ...]:
    return tuple(f"c{k:04} {long}".strip() for k in range(number))


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Any]:
    """Import a module of benchmarks/, as the script that is run there does."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module


@EVERY
def test_figures_are_bounded_and_laid_out(
    number: int, long: str, load: Callable[[str], Any], tmp_path: Path
) -> None:
    dots, names = load("report.dots"), names_of(number, long)
    rows = tuple((name, (0.2, 0.6), 0.4) for name in names)
    what = dots.Dots(title=f"top-1 % {long}", rows=rows, chance=0.1, ceilings={names[-1]: 0.7})
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # of a layout that is given up for want of room
        draw_confusion(torch.eye(number, dtype=torch.int64), names, long, tmp_path / "c.png")
        dots.draw(what, tmp_path / "d.png", "0")
    for name in ("c.png", "d.png"):
        with Image.open(tmp_path / name) as image:
            assert max(image.size) <= 2600, name
            assert np.asarray(image.convert("L")).std() > 5, name


@EVERY
def test_markdown_has_a_line_of_as_many_cells_for_each(
    number: int, long: str, load: Callable[[str], Any]
) -> None:
    rows = [[name, "1", "2\n3"] for name in names_of(number, long)]
    lines = load("report.tables.cells").table(["", "a", "b"], rows)
    assert len(lines) == number + 2
    assert {line.replace(r"\|", "").count("|") for line in lines} == {4}
    assert {line.count("\n") for line in lines} == {0}


def inventory(names: tuple[str, ...]) -> tuple[dict[str, Any], list[Entry]]:
    """Of a clip for each class; those of every other class are there."""
    clips = tuple(
        Expected(clip_id=f"{k}", split=("train", "test")[k // 2 % 2], labels=(name,),
                 source_id=f"{k}", names=(f"{k}",), where=f"list.txt:{k + 1}")
        for k, name in enumerate(names)
    )  # fmt: skip
    problems = tuple(
        Problem(where=clip.where, reason="not a time", text=clip.labels[0], dropped=True)
        for clip in clips
    )
    protocol = Protocol(name="p/1", classes=names, expected=clips, problems=problems)
    judged = [
        Judged(clip=clip, status="found", entry=replace(ENTRY, labels=clip.labels))
        if k % 2
        else Judged(clip=clip, status="missing", reason="no file")
        for k, clip in enumerate(clips)
    ]
    data = inventory_of(protocol, judged, MediaIndex(Path()), (), (), min_seconds=0.5,
                        looks=probe_counts("fast", (), {}))  # fmt: skip
    return data, [one.entry for one in judged if one.entry is not None]


@EVERY
def test_an_inventory_is_short_on_a_terminal_and_whole_on_its_page(
    number: int, long: str, capsys: pytest.CaptureFixture[str]
) -> None:
    names = names_of(number, long)
    data, entries = inventory(names)
    show_inventory(data)
    said = capsys.readouterr().out.splitlines()
    assert len(said) < 30
    assert max(map(len, (*said, *lines_of(data)))) < 1200
    page = page_of(data, entries).decode()
    classes = page[page.index("<h2>Classes") : page.index("<details>")]
    assert all(classes.count(f"<td>{name}<td>") == 1 for name in names)
    assert len(page) < 400_000 + 1_000 * number


def test_a_list_of_names_says_how_many_more_there_are() -> None:
    assert listed(["a", "b"], most=2) == "a, b"
    assert listed(["a", "b", "c"], most=2) == "a, b and 1 more"
    assert listed(["a", "b", "c"], 9, most=2) == "a, b and 7 more"
    assert listed([]) == ""
    assert len(listed(["x" * 500])) == 120
