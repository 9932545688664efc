"""Tables: figures, intervals and differences, each against another computation; and their texts."""

import csv
import io
import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
import yaml
from leaderboard_case import predictions, two_rows, with_clips, write_cards, write_row
from scipy import stats

from avmix.leaderboard.card import card_of
from avmix.leaderboard.estimates import estimate_row, samples_of
from avmix.leaderboard.exports import export
from avmix.leaderboard.table_text import cell, latex, markdown, text_of
from avmix.leaderboard.tables import Table, tables_of

pytestmark = pytest.mark.long

PLACES = [(split, seed) for split in ("one", "two") for seed in (0, 1)]
SKILL, FIRST = {"plain": 0.8, "mixed": 1.6}, {"plain": 0, "mixed": 100}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return two_rows(tmp_path_factory.mktemp("leaderboard"))


@pytest.fixture(scope="module")
def table(folders: tuple[Path, Path]) -> Table:
    cards, out = folders
    (found,), refused = tables_of(out, cards=cards)
    assert not refused
    return found


def _right(method: str, split: str, seed: int, row: str = "fused") -> np.ndarray:
    kept = predictions(FIRST[method] + seed, split=split, skill=SKILL[method])
    assert kept.label is not None
    return kept.probability[row].argmax(1) == kept.label


def test_a_row_is_the_mean_over_splits_and_seeds(table: Table) -> None:
    assert [row.method for row in table.rows] == ["plain", "mixed"]  # as of the card
    for row in table.rows:
        for name, of_row in (("fused.top1", "fused"), ("audio head.top1", "audio head")):
            shares = [_right(row.method, split, seed, of_row).mean() for split, seed in PLACES]
            assert row.figures[name].value == pytest.approx(np.mean(shares), abs=1e-12)
        right = {head: [_right(row.method, *place, head) for place in PLACES]
                 for head in ("fused", "video head", "audio head")}  # fmt: skip
        mu = [np.mean(~f & (v | a)) for f, v, a in zip(*right.values(), strict=True)]
        assert row.figures["fusion.mu"].value == pytest.approx(np.mean(mu), abs=1e-12)
        gain = [f.mean() - max(v.mean(), a.mean())
                for f, v, a in zip(*right.values(), strict=True)]  # fmt: skip
        assert row.figures["fusion.gain"].value == pytest.approx(np.mean(gain), abs=1e-12)


def test_the_part_of_seeds_is_an_interval_of_student(table: Table) -> None:
    for row in table.rows:
        means = [np.mean([_right(row.method, split, seed).mean() for split in ("one", "two")])
                 for seed in (0, 1)]  # fmt: skip
        low, high = stats.t.interval(0.95, 1, np.mean(means), stats.sem(means))
        half = row.figures["fused.top1"].half_of_seeds
        assert half == pytest.approx((high - low) / 2, rel=1e-4)


def test_both_parts_add_as_squares(table: Table) -> None:
    for row in table.rows:
        one = row.figures["fused.nll"]
        assert None not in (one.low, one.high, one.sources_low, one.sources_high, one.half_of_seeds)
        assert one.half_of_seeds is not None
        assert one.sources_low is not None
        assert one.low == pytest.approx(
            one.value - math.hypot(one.value - one.sources_low, one.half_of_seeds), abs=1e-12
        )


def test_the_part_of_sources_is_a_bootstrap_over_sources() -> None:
    kept = {("one", 0): predictions(0, clips=360, sources=60)}
    found = estimate_row(samples_of({"plain": kept}, ["fused.top1"])["plain"], "fused.top1")
    assert found is not None
    assert found.half_of_seeds is None
    assert found.low == found.sources_low
    right, sources = _right_of(kept["one", 0])
    stream = np.random.default_rng(5)
    means = []
    for _ in range(4000):
        drawn = stream.integers(60, size=60)
        means.append(np.concatenate([right[sources == s] for s in drawn]).mean())
    low, high = np.quantile(means, [0.025, 0.975])
    assert found.low is not None
    assert found.high is not None
    # Ours is wider by the quantile of Student with 59 degrees of freedom: 1.021 times.
    assert (found.high - found.low) / (high - low) == pytest.approx(1.03, abs=0.08)
    assert (found.high + found.low) / 2 == pytest.approx((low + high) / 2, abs=0.01)


def _right_of(kept) -> tuple[np.ndarray, np.ndarray]:
    names = sorted({clip.source_id for clip in kept.clips})
    sources = np.array([names.index(clip.source_id) for clip in kept.clips])
    return (kept.probability["fused"].argmax(1) == kept.label).astype(float), sources


def test_differences_are_of_the_same_seeds_and_clips(tmp_path: Path) -> None:
    cards, out = write_cards(tmp_path / "cards"), tmp_path / "results"
    plain, mixed = predictions(0), predictions(1, skill=3.0)
    write_row(cards, out, "plain", {("one", 0): plain, ("two", 5): predictions(2, split="two")})
    seen = [i for i in range(36) if i % 7]  # the other row has not judged every clip
    write_row(cards, out, "mixed", {("one", 0): with_clips(mixed, seen)})
    (found,), _ = tables_of(out, cards=cards)
    less = found.rows[1].differences["fused.top1"]
    right = [_right_of(one)[0][seen] for one in (mixed, plain)]
    assert less.value == pytest.approx(np.mean(right[0] - right[1]), abs=1e-12)
    assert less.num_runs == 1
    assert found.rows[1].marks
    assert found.rows[1].verdict("fused.top1") in ("better", "")


def test_a_clear_difference_is_told_and_none_is_not(tmp_path: Path) -> None:
    cards, out = write_cards(tmp_path / "cards"), tmp_path / "results"
    write_row(cards, out, "plain", {("one", n): predictions(n, skill=0.2) for n in range(3)})
    write_row(cards, out, "mixed", {("one", n): predictions(9 + n, skill=5.0) for n in range(3)})
    (found,), _ = tables_of(out, cards=cards)
    row = found.rows[1]
    assert (row.verdict("fused.top1"), row.verdict("fused.nll")) == ("better", "better")
    write_row(cards, out, "mixed", {("one", n): predictions(n, skill=0.2) for n in range(3)})
    (found,), _ = tables_of(out, cards=cards)
    assert found.rows[1].verdict("fused.top1") == ""


def test_published_rows_stand_beside_ours_and_unverified_ones_apart(table: Table) -> None:
    assert [one.value for one in table.rows[0].published] == [0.61]
    assert not table.rows[1].published
    assert [one.method for one in table.only_published] == ["other"]
    assert [one.value for one in table.unverified] == [0.99]
    text = text_of([table], "markdown")
    published, unverified = text.split("Unverified, from memory; not among the published:")
    assert "0.99" not in published
    assert "hearsay" in unverified
    rows = list(csv.DictReader(io.StringIO(text_of([table], "csv"))))
    assert {row["kind"] for row in rows if row["value"] == "0.99"} == {"unverified"}


def test_csv_and_json_have_the_numbers_of_the_table(table: Table) -> None:
    rows = {(row["method"], row["figure"]): row
            for row in csv.DictReader(io.StringIO(text_of([table], "csv")))
            if row["kind"] == "ours"}  # fmt: skip
    (said,) = json.loads(text_of([table], "json"))
    for row, told in zip(table.rows, said["rows"], strict=True):
        for name, one in row.figures.items():
            assert float(rows[row.method, name]["value"]) == one.value
            assert told["figures"][name]["low"] == one.low
    less = table.rows[1].differences["fused.top1"].value
    assert float(rows["mixed", "fused.top1"]["difference"]) == less


def test_names_of_others_are_text_in_every_format() -> None:
    hostile = "a|b`c*_<script>$x&y%z#{}\\~^\n\x1b[31m"
    assert "\n" not in markdown(hostile)
    assert re.search(r"(?<!\\)[|`*_<>$&#]", markdown(hostile)) is None
    without_commands = re.sub(r"\\text\w+\{\}|\\[&%$#_{}]", "", latex(hostile))
    assert re.search(r"[&%$#_{}~^|<>]", without_commands) is None
    assert latex("50% & more") == r"50\% \& more"
    for name in ("=1+1", "+1", "-1", "@x"):
        assert cell(name) == f"'{name}"


def test_exports_hold_the_figures_of_the_predictions(
    folders: tuple[Path, Path], tmp_path: Path
) -> None:
    cards, out = folders
    where = dict(variant="default", method="mixed", results=out, to=tmp_path, name="net",
                 cards=cards)  # fmt: skip
    card = card_of("mini", cards)
    path = export(card, format="mteb", **where)  # type: ignore[arg-type]
    assert path.name == "MiniTask.json"
    (scores,) = json.loads(path.read_text())["scores"]["test"]
    shares = sorted(_right("mixed", *place).mean() for place in PLACES)
    told = sorted(one["accuracy"] for one in scores["scores_per_experiment"])
    assert told == pytest.approx(shares, abs=1e-12)
    assert scores["main_score"] == pytest.approx(np.mean(shares), abs=1e-12)
    path = export(card, format="eval-results", **where)  # type: ignore[arg-type]
    assert path.parent.name == ".eval_results"
    (one,) = yaml.safe_load(path.read_text())
    assert one["dataset"] == {"id": "somebody/mini", "task_id": "MiniTask"}
    assert one["value"] == pytest.approx(np.mean(shares), abs=1e-6)
    assert {*one} <= {"dataset", "value", "date", "notes", "source", "verify_token"}
    text = export(card, format="card", **where).read_text()  # type: ignore[arg-type]
    header = yaml.safe_load(text.split("---")[1])
    (metric,) = header["model-index"][0]["results"][0]["metrics"]
    assert metric["value"] == pytest.approx(np.mean(shares), abs=1e-4)
    assert "overlap with the test split: unknown" in text
