"""What the benchmarks share: rounds in turn, result files, facts about the machine, folders."""

import importlib
import importlib.util
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
BENCHMARKS = ROOT / "benchmarks"


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Any]:
    """Import a module of benchmarks/, as the script that is run there does."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module


def test_every_candidate_has_its_turn_in_every_round(load: Any) -> None:
    rounds = list(load("shared.rounds").rounds_in_turn("abcd", 20, warm_up=2))
    assert [turn.number for turn in rounds] == list(range(-2, 20))
    assert [turn.counts for turn in rounds] == [False] * 2 + [True] * 20
    assert all(sorted(turn.order) == ["a", "b", "c", "d"] for turn in rounds)


def test_the_order_is_another_one_in_every_round_and_the_same_in_every_run(load: Any) -> None:
    rounds_in_turn = load("shared.rounds").rounds_in_turn
    orders = [turn.order for turn in rounds_in_turn("abcdefgh", 20, warm_up=0)]
    assert len(set(orders)) == 20
    assert {order[0] for order in orders} == set("abcdefgh")  # nobody is always first
    assert orders == [turn.order for turn in rounds_in_turn("abcdefgh", 20, warm_up=0)]


RESULT = {
    "kind": "some",
    "measured": {"commit": "abc", "sources": {"avmix/rng.py": "1f"}},
    "values": [1, 2.5, None],
    "rounds": [{"round": 0, "ms": {"ä": [1, 2]}}, {"round": 1, "ms": {}}],
    "nothing": {},
}
TEXT = """{
  "kind": "some",
  "measured": {
    "commit": "abc",
    "sources": {"avmix/rng.py": "1f"}
  },
  "values": [1, 2.5, null],
  "rounds": [
    {"round": 0, "ms": {"ä": [1, 2]}},
    {"round": 1, "ms": {}}
  ],
  "nothing": {}
}"""


def test_a_result_is_one_line_for_each_part_and_round(load: Any) -> None:
    assert load("shared.result_files").text_of(RESULT) == TEXT
    assert json.loads(TEXT) == RESULT


def test_what_lies_deep_is_one_line(load: Any) -> None:
    deep = {"a": {"b": {"c": {"d": {"e": {"f": 1}}}}}}
    lines = load("shared.result_files").text_of(deep).splitlines()
    assert [line.strip() for line in lines] == [
        "{", '"a": {', '"b": {', '"c": {', '"d": {"e": {"f": 1}}', "}", "}", "}", "}",
    ]  # fmt: skip


def test_a_result_is_written_whole_or_not_at_all(load: Any, tmp_path: Path) -> None:
    write, path = load("shared.result_files").write, tmp_path / "new/some.json"
    write(path, RESULT)
    assert path.read_text() == TEXT + "\n"
    with pytest.raises(ValueError, match="not JSON compliant"):
        write(path, {"ms": float("nan")})
    assert path.read_text() == TEXT + "\n"
    assert os.listdir(path.parent) == ["some.json"]


def test_facts_about_the_machine(load: Any) -> None:
    facts = load("shared.machine").facts(["pytest", "no-such-package"])
    assert list(facts) == ["cpu", "cores", "python", "versions", "load_average_at_the_start"]
    assert facts["cores"] == os.cpu_count()
    assert facts["versions"] == {"pytest": pytest.__version__, "no-such-package": None}


def test_medians_and_quartiles(load: Any) -> None:
    medians = load("shared.medians")
    assert medians.median([1.0, 2.0, 4.00049]) == 2.0
    assert medians.median([1.0, 2.0006]) == 1.5
    assert medians.quartiles([0, 1, 2, 3, 4.4444], 2) == [1.0, 3.0]


def test_older_results_name_the_processor_elsewhere(load: Any) -> None:
    cpu_of = load("report.tables.cells").cpu_of
    assert cpu_of({"environment": {"cpu": "new"}}) == "new"
    assert cpu_of({"machine": "of prepare"}) == "of prepare"
    assert cpu_of({"cpu": "of rows"}) == "of rows"


def test_modules_that_run_by_name_are_there(load: Any) -> None:
    texts = [path.read_text() for path in BENCHMARKS.rglob("*.py")]
    names = {name for text in texts for name in re.findall(r'"-m", "([\w.]+)"', text)}
    assert names >= {"decoding.workers", "mixing.cpu_speed", "training.first_steps"}
    assert all(importlib.util.find_spec(name) for name in names)


def test_no_script_hides_a_folder_of_its_name() -> None:
    scripts = {path.stem for path in BENCHMARKS.glob("*.py")}
    folders = {path.parent.name for path in BENCHMARKS.glob("*/__init__.py")}
    assert len(folders) == 8
    assert not scripts & folders
    assert not {path.name for path in ROOT.iterdir()} & folders
