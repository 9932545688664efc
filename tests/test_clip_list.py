"""Lists of clips that are read line by line: the same clips, without holding them."""

import hashlib
import json
import tracemalloc
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from kept_folder import write_kept

from avmix.data.clip_list import ClipList, index_path, write_index
from avmix.data.feature_loader import FeatureSource
from avmix.data.few_shot import few_shot
from avmix.data.holdout import hold_out
from avmix.data.kept_features import FeaturesError, open_features
from avmix.data.manifest import (
    Manifest,
    ManifestError,
    open_manifest,
    read_manifest,
    write_manifest,
)
from avmix.data.tensor_file import open_tensors


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_kept(tmp_path_factory.mktemp("listed"), {"train": 40, "test": 12})


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return write_kept(tmp_path, {"train": 9})


@pytest.fixture(scope="module")
def both(folder: Path) -> tuple[Manifest, Manifest]:
    """The whole list, and the one that is read when it is asked."""
    return read_manifest(folder, "train"), open_manifest(folder, "train")


def test_the_clips_are_those_of_the_list(both: tuple[Manifest, Manifest]) -> None:
    whole, lazy = both
    assert isinstance(lazy.entries, ClipList)
    assert (len(lazy.entries), *lazy.entries) == (40, *whole.entries)
    assert lazy.entries[-1] == whole.entries[-1]
    assert tuple(lazy.entries[3:31:9]) == whole.entries[3:31:9]
    with pytest.raises(IndexError):
        lazy.entries[40]
    assert lazy.label_numbers.tolist() == whole.label_numbers.tolist() == [0, 1, 2, 3] * 10
    assert lazy.source_numbers.tolist() == whole.source_numbers.tolist() == [*range(40)]
    for key in ("classes", "protocol", "split", "sha256", "several_labels", "empty_classes"):
        assert getattr(lazy, key) == getattr(whole, key)


@pytest.mark.parametrize("by", ["clip", "source"])
def test_what_is_chosen_of_it_is_the_same(both: tuple[Manifest, Manifest], by) -> None:
    few = [few_shot(manifest, 3, 5, by) for manifest in both]
    held = [hold_out(manifest, 0.3, 1) for manifest in both]
    for of_whole, of_lazy in (few, [h.train for h in held], [h.val for h in held]):
        assert tuple(of_lazy.entries) == of_whole.entries
        assert of_lazy.sha256 == of_whole.sha256
        assert of_lazy.label_numbers.tolist() == of_whole.label_numbers.tolist()
    assert len(few[0].entries) == 12


def test_the_index_says_where_lines_begin(folder: Path) -> None:
    """By hand: each line from its byte to the next one is the JSON of its clip."""
    index, text = open_tensors(index_path(folder, "test")), (folder / "test.jsonl").read_bytes()
    begins = index.tensors["offset"].tolist()
    lines = [text[a:b] for a, b in pairwise(begins)]
    assert [json.loads(line)["clip_id"] for line in lines] == [f"test{n}" for n in range(12)]
    assert begins[-1] == len(text)
    assert index.metadata == {"list_sha256": hashlib.sha256(text).hexdigest()}


def test_a_folder_without_an_index_is_read_as_a_whole(copy: Path) -> None:
    listed = tuple(open_features(copy, "train").manifest.entries)
    index_path(copy, "train").unlink()
    header = json.loads((copy / "features.json").read_bytes())
    del header["splits"]["train"]["index_sha256"]
    (copy / "features.json").write_text(json.dumps(header))
    kept = open_features(copy, "train")
    assert kept.manifest.entries == listed
    assert kept.labels.tolist() == [0, 1, 2, 3, 0, 1, 2, 3, 0]


def test_an_index_of_another_list_is_refused(copy: Path, folder: Path) -> None:
    index = index_path(copy, "train")
    own = index.read_bytes()
    index.write_bytes(index_path(folder, "test").read_bytes())
    with pytest.raises(ManifestError, match=r"train\.index\.safetensors: it is not the index of"):
        open_features(copy, "train")
    damaged = bytearray(own)
    damaged[-8] ^= 1  # a source
    index.write_bytes(damaged)
    with pytest.raises(FeaturesError, match=r"train\.index\.safetensors: damaged: its hash"):
        open_features(copy, "train")
    index.write_bytes(own[:-8])
    with pytest.raises(ManifestError, match="not a readable file of tensors"):
        open_features(copy, "train")


def test_a_list_that_was_changed_is_refused(copy: Path) -> None:
    path = copy / "train.jsonl"
    text = path.read_bytes()
    path.write_bytes(text.replace(b'"train3"', b'"train_"'))  # of the same length
    with pytest.raises(ManifestError, match=r"train\.jsonl: its hash differs from dataset\.json"):
        open_features(copy, "train")
    path.write_bytes(text + b"\n")
    with pytest.raises(ManifestError, match="not the index of"):
        open_features(copy, "train", verify=False)


def test_a_clip_takes_no_memory_before_it_is_asked_for(tmp_path: Path) -> None:
    count = 600
    write_kept(tmp_path, {"train": count}, widths=(1, 1))
    tracemalloc.start()
    try:
        manifest = open_manifest(tmp_path, "train")
        ids = sum(len(entry.clip_id) for entry in manifest.entries)
        chosen = few_shot(manifest, 2, 0)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert ids == sum(len(f"train{n}") for n in range(count))
    assert len(chosen.entries) == 8
    assert peak / count < 200  # an entry has about 2,000 bytes
    assert np.array_equal(manifest.label_numbers, np.arange(count) % 4)


def test_clips_with_a_label_of_each_set_are_not_taken_for_clips_of_one(
    folder: Path, tmp_path: Path, both: tuple[Manifest, Manifest]
) -> None:
    """Of a list that is not read as a whole, the header has to say it: labels are not read."""
    clips = [replace(e, labels=("verb:a", "noun:x")) for e in both[0].entries]
    write_manifest(tmp_path, classes=["verb:a", "verb:b", "noun:x", "noun:y"], protocol="sets",
                   splits={"train": clips}, label_sets=["verb", "noun"])  # fmt: skip
    whole = read_manifest(tmp_path, "train")
    write_index(tmp_path, "train", label=whole.label_numbers, source=whole.source_numbers,
                sha256=whole.sha256)  # fmt: skip
    lazy = open_manifest(tmp_path, "train")
    assert isinstance(lazy.entries, ClipList)
    assert whole.not_one_label == lazy.not_one_label == clips[0]
    assert both[0].not_one_label is both[1].not_one_label is None
    kept = replace(open_features(folder, "train"), manifest=lazy)
    with pytest.raises(FeaturesError, match="clip 'train0' has not exactly one label"):
        _ = kept.labels
    with pytest.raises(ManifestError, match="clip 'train0' has several labels"):
        FeatureSource(kept, lazy)
