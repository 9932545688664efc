"""Clips that are not read again: which, from when on, and how they come back."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from avmix.config import AugmentConfig, ClipConfig
from avmix.data.dataset import TrainSet
from avmix.data.loader import train_loader
from avmix.data.manifest import read_manifest
from avmix.data.quarantine import Quarantine
from avmix.types import Entry

HINT = "; in quarantine, not read again"


@pytest.fixture
def entries(make_entry) -> tuple[Entry, ...]:
    return tuple(make_entry(name, sha256=f"5a{name}", bytes=100) for name in "abcd")


def test_a_line_says_which_clip_which_file_and_why(tmp_path: Path, entries) -> None:
    path = tmp_path / "run/quarantine.jsonl"
    listed = Quarantine(path)
    assert listed.rows(entries, 0) == {}
    assert listed.notice() == ""
    assert not path.parent.exists()
    assert listed.add(entries[1], "it hung", split="train", epoch=3) == f"it hung{HINT}"
    listed.add(entries[3], "ä \u2028", split="val", epoch=None)
    assert [json.loads(line) for line in path.read_text().split("\n")[:-1]] == [
        {"clip_id": "b", "path": "b.mp4", "sha256": "5ab", "bytes": 100, "split": "train",
         "epoch": 3, "reason": "it hung"},
        {"clip_id": "d", "path": "d.mp4", "sha256": "5ad", "bytes": 100, "split": "val",
         "epoch": None, "reason": "ä \u2028"},
    ]  # fmt: skip
    again = Quarantine(path)
    assert again.rows(entries, 3) == {1: f"it hung{HINT}", 3: f"ä \u2028{HINT}"}
    assert again.notice().startswith("2 clips in quarantine")
    assert str(path) in again.notice()
    path.unlink()
    assert again.rows(entries, 3) == {}


def test_a_clip_counts_from_the_epoch_in_which_it_was_met(tmp_path: Path, entries) -> None:
    listed = Quarantine(tmp_path / "quarantine.jsonl")
    listed.add(entries[0], "it hung", split="train", epoch=3)
    listed.add(entries[0], "it hung", split="train", epoch=5)  # in another process of the run
    assert [set(listed.rows(entries, epoch)) for epoch in (0, 2, 3, 4, 9)] == [
        set(), set(), {0}, {0}, {0}]  # fmt: skip
    assert set(listed.rows(entries, None)) == {0}


@pytest.mark.parametrize(
    "changed", [{"sha256": "5e"}, {"bytes": 101}, {"path": "x.mp4"}, {"clip_id": "x"}]
)
def test_a_repaired_file_is_tried_again(tmp_path: Path, entries, changed) -> None:
    listed = Quarantine(tmp_path / "quarantine.jsonl")
    listed.add(entries[2], "it hung", split="train", epoch=0)
    assert set(listed.rows(entries, 0)) == {2}
    # In another place of another manifest the same clip is the same.
    assert set(listed.rows(entries[::-1], 0)) == {1}
    assert listed.rows([replace(entries[2], **changed)], 0) == {}


@pytest.mark.parametrize("cut", [1, 30, -1])
def test_a_line_that_a_kill_cut_costs_that_clip_only(tmp_path: Path, entries, cut) -> None:
    path = tmp_path / "quarantine.jsonl"
    listed = Quarantine(path)
    listed.add(entries[0], "one", split="train", epoch=0)
    line = path.read_text()
    path.write_text(line + line.replace('"a', '"b')[:cut])
    listed.add(entries[2], "three", split="train", epoch=0)
    assert set(listed.rows(entries, 0)) == {0, 2}
    assert len(path.read_text().splitlines()) == 3


def test_another_runs_list_counts_and_is_left_alone(tmp_path: Path, entries) -> None:
    theirs, ours = tmp_path / "run/quarantine.jsonl", tmp_path / "eval/quarantine.jsonl"
    Quarantine(theirs).add(entries[0], "it hung", split="train", epoch=7)
    before = theirs.read_bytes()
    both = Quarantine(ours, also=[theirs])
    both.add(entries[1], "it crashed", split="test", epoch=None)
    assert set(both.rows(entries, None)) == {0, 1}
    assert theirs.read_bytes() == before
    assert str(theirs) in both.notice()
    assert str(ours) in both.notice()


def test_a_list_without_a_file_ends_with_the_program(entries) -> None:
    listed = Quarantine()
    listed.add(entries[1], "it hung", split="train", epoch=0)
    assert set(listed.rows(entries, 0)) == {1}
    assert Quarantine().rows(entries, 0) == {}


def test_loading_goes_past_what_is_in_quarantine(toy_set: Path, tmp_path: Path) -> None:
    manifest = read_manifest(toy_set, "train")
    dataset = TrainSet(
        manifest=manifest, root=toy_set, clip=ClipConfig(num_frames=4, short_side=36, crop=32),
        augment=AugmentConfig(), seed=1,
    )  # fmt: skip
    listed = Quarantine(tmp_path / "quarantine.jsonl")
    order = [[s.row for s in dataset.samples([(e, p) for p in range(9)])] for e in (0, 1)]
    gone = order[1][2]
    listed.add(manifest.entries[gone], "it hung", split="train", epoch=1)

    def load(first_epoch: int) -> dict[int, list]:
        loader = train_loader(
            dataset, batch_size=8, num_workers=0, max_bad_share=0.1, quarantine=listed
        )
        return {epoch: list(loader.epoch(epoch)) for epoch in range(first_epoch, 2)}

    whole, resumed = load(0), load(1)
    assert whole[0][0][0].row.tolist() == order[0][:8]  # before it was met nothing is different
    batch, bad = whole[1][0]
    assert batch.row.tolist() == [*order[1][:2], order[1][3], *order[1][3:8]]
    assert [(b.row, b.reason) for b in bad] == [(gone, f"it hung{HINT}")]
    for (ours, _), (theirs, _) in zip(resumed[1], whole[1], strict=True):
        assert np.array_equal(ours.video, theirs.video)
        assert np.array_equal(ours.audio, theirs.audio)
