"""Records of rows: their schema, and which of them a table takes."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from leaderboard_case import predictions, two_rows, write_cards, write_row

from avmix.leaderboard.admission import admit, admit_all
from avmix.leaderboard.packed_predictions import pack, unpack
from avmix.leaderboard.result import SCHEMA, ResultError, read_result, result_files, write_result
from avmix.leaderboard.result_schema import schema

pytestmark = pytest.mark.long

COMMITTED = Path(__file__).parents[1] / "benchmarks/results/leaderboard"


def test_the_schema_is_that_of_the_dataclasses() -> None:
    assert json.loads(SCHEMA.read_text()) == schema()


@pytest.mark.parametrize("path", result_files(COMMITTED), ids=lambda p: p.stem)
def test_committed_results_follow_the_schema_and_are_admitted(path: Path) -> None:
    jsonschema.validate(json.loads(path.read_text()), schema())
    found = admit(path)
    assert not any(run.dirty for run in found.result.runs)


def test_all_that_is_committed_is_small() -> None:
    assert sum(path.stat().st_size for path in COMMITTED.rglob("*") if path.is_file()) < 30e6


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    cards, out = two_rows(tmp_path)
    paths = result_files(out)
    assert [path.relative_to(out).as_posix() for path in paths] == [
        "mini/default/mixed.json", "mini/default/plain.json"]  # fmt: skip
    result = read_result(paths[0])
    assert write_result(tmp_path / "again", result).read_bytes() == paths[0].read_bytes()
    jsonschema.validate(json.loads(paths[0].read_text()), schema())
    found, refused = admit_all(paths, cards)
    assert len(found) == 2
    assert not refused
    assert b"private" not in paths[0].read_bytes()  # nor in the predictions:
    assert "private" not in found[0].kept[0].origin.config
    assert "command" not in found[0].kept[0].origin.environment
    (weights,) = result.pretraining
    assert weights.overlap.found == "unknown"


def _no_runs(said: dict[str, Any]) -> None:
    said["runs"] = []


def _no_test_hash(said: dict[str, Any]) -> None:
    del said["runs"][0]["split_sha256"]["test"]


def _no_predictions(said: dict[str, Any]) -> None:
    del said["runs"][1]["predictions"]


def _better(said: dict[str, Any]) -> None:
    said["runs"][0]["figures"]["fused.top1"] += 0.01


def _silent(said: dict[str, Any]) -> None:
    del said["runs"][0]["figures"]["fused.top1"]


def _other_protocol(said: dict[str, Any]) -> None:
    said["protocol"] = "toy"


def _no_protocol(said: dict[str, Any]) -> None:
    del said["protocol"]


def _older(said: dict[str, Any]) -> None:
    said["protocol_version"] = 2


def _other_rule(said: dict[str, Any]) -> None:
    said["selection"] = "oracle on test"


def _twice(said: dict[str, Any]) -> None:
    said["runs"].append(said["runs"][0])


def _another_file(said: dict[str, Any]) -> None:
    first, second = said["runs"][:2]
    first["predictions"] = second["predictions"]


def _path(said: dict[str, Any]) -> None:
    said["runs"][0]["predictions"]["file"] = "../plain.one.seed0.safetensors.xz"


def _more(said: dict[str, Any]) -> None:
    said["accuracy"] = 1.0


def _no_weights(said: dict[str, Any]) -> None:
    said["pretraining"] = []


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (_no_runs, "no seeds"), (_no_test_hash, "no hash of the split test"),
        (_no_predictions, "'runs.1..predictions' is missing"), (_better, "top1 is stated as"),
        (_silent, "top1 is stated as None"), (_other_protocol, "no protocol 'toy'"),
        (_no_protocol, "'protocol' is missing"), (_older, "version 2 of mini"),
        (_other_rule, "not that of the card"), (_twice, "a split and seed twice"),
        (_another_file, "is stated as"), (_path, "without folders"),
        (_more, "no key 'accuracy'"), (_no_weights, "the card names weights"),
    ],
)  # fmt: skip
def test_a_record_that_lacks_something_is_refused_with_the_reason(
    tmp_path: Path, change: Callable[[dict[str, Any]], None], why: str
) -> None:
    cards, out = two_rows(tmp_path)
    path = out / "mini/default/plain.json"
    said = json.loads(path.read_text())
    change(said)
    path.write_text(json.dumps(said))
    with pytest.raises(ResultError, match=why) as error:
        admit(path, cards)
    assert str(path) in str(error.value)
    assert len(admit_all(result_files(out), cards)[1]) == 1


@pytest.mark.parametrize("how", ["edited", "shortened", "removed", "repacked"])
def test_predictions_that_were_touched_are_refused(tmp_path: Path, how: str) -> None:
    cards, out = two_rows(tmp_path)
    path = out / "mini/default/plain.one.seed0.safetensors.xz"
    content = bytearray(path.read_bytes())
    if how == "edited":
        content[len(content) // 2] ^= 1
    if how == "repacked":  # whole, and of the same clips: only its hash and figures tell
        content = bytearray(pack(predictions(55, skill=9.0)).content)
    path.write_bytes(content[: -10 if how == "shortened" else None])
    if how == "removed":
        path.unlink()
    with pytest.raises(ResultError, match=r"edited or damaged|no predictions"):
        admit(out / "mini/default/plain.json", cards)


def test_packing_keeps_the_best_class_and_little_else_changes(tmp_path: Path) -> None:
    kept = predictions(3, clips=400, sources=20)
    packed = pack(kept)
    assert packed.rounded
    path = tmp_path / "x.safetensors.xz"
    path.write_bytes(packed.content)
    found = unpack(path, packed.sha256)
    assert found.clips == kept.clips
    for row, exact in kept.probability.items():
        np.testing.assert_array_equal(found.probability[row].argmax(1), exact.argmax(1))
        np.testing.assert_allclose(found.probability[row], exact, rtol=2**-12)
    # Where rounding makes two classes equal, nothing is rounded.
    close = kept.probability["fused"].copy()
    close[0] = (0.4, 0.40001, 0.19999)
    kept.probability["fused"][:] = close
    assert not pack(kept).rounded


def test_runs_are_added_and_those_of_other_code_are_left_out(tmp_path: Path) -> None:
    cards, out = write_cards(tmp_path / "cards"), tmp_path / "results"
    write_row(cards, out, "plain", {("one", 0): predictions(0)})
    path = write_row(cards, out, "plain", {("one", 1): predictions(1)})
    assert [run.seed for run in read_result(path).runs] == [0, 1]
    path.write_text(path.read_text().replace("e" * 64, "f" * 64))
    write_row(cards, out, "plain", {("one", 2): predictions(2)})
    assert [run.seed for run in read_result(path).runs] == [2]
