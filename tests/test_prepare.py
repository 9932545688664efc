"""Manifests made of files on disk: from a table on first use, and from a folder of classes."""

import csv
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from avmix.config import DataConfig
from avmix.data.manifest import ManifestError, read_manifest, splits_of
from avmix.prepare.csv_table import prepare_table

ROOT = Path(__file__).parents[1]


@pytest.fixture
def media(toy_set: Path, tmp_path: Path) -> Path:
    """Twelve clips in folders of three classes, one of them garbled."""
    root = tmp_path / "clips"
    for number, path in enumerate(sorted((toy_set / "train").iterdir())[:12]):
        folder = root / f"class{number % 3}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"source{number // 3}_{number}.mp4").symlink_to(path)
    (root / "class0/source9_99.mp4").write_bytes(b"not a video")
    (root / "class0/notes.txt").write_text("not media")
    return root


def write_table(root: Path) -> DataConfig:
    with (root / "clips.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "class", "fold", "person"])
        for path in sorted(root.glob("*/*.mp4")):
            person = path.stem.split("_")[0]
            split = {"source2": "val", "source3": "test"}.get(person, "train")
            writer.writerow([path.relative_to(root), path.parent.name, split, person])
    return DataConfig(
        root=str(root),
        manifest=str(root / "manifest"),
        table="clips.csv",
        table_label="class",
        table_split="fold",
        table_source=["person"],
        max_bad_share=0.1,
    )


def test_a_table_is_probed_once_and_what_is_left_out_is_named(media: Path) -> None:
    config = write_table(media)
    prepare_table(config)
    assert splits_of(media / "manifest") == ("train", "val", "test")
    train = read_manifest(media / "manifest", "train")
    assert train.classes == ("class0", "class1", "class2")
    assert Counter(e.labels for e in train.entries) == {(c,): 2 for c in train.classes}
    assert {e.source_id for e in train.entries} == {"source0", "source1"}
    assert all(e.video is not None and e.video.num_frames == 80 for e in train.entries)
    excluded = (media / "manifest/excluded.jsonl").read_text().splitlines()
    assert [json.loads(line)["path"] for line in excluded] == ["class0/source9_99.mp4"]

    written = (media / "manifest/dataset.json").stat().st_mtime_ns
    prepare_table(config)
    assert (media / "manifest/dataset.json").stat().st_mtime_ns == written


def test_a_table_that_changed_is_not_taken_for_the_old_one(media: Path) -> None:
    config = write_table(media)
    prepare_table(config)
    table = media / "clips.csv"
    table.write_text(table.read_text().replace("source3_9.mp4,class0", "source3_9.mp4,class1"))
    with pytest.raises(ManifestError, match=r"clips\.csv as it is now"):
        prepare_table(config)


def test_too_many_unusable_files_are_an_error_that_names_them(media: Path) -> None:
    config = DataConfig(**{**vars(write_table(media)), "max_bad_share": 0.05})
    with pytest.raises(ManifestError, match=r"1 of 13 files(.|\n)*source9_99\.mp4: MediaOpenError"):
        prepare_table(config)
    assert not (media / "manifest/dataset.json").exists()


def prepare_folder(*arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, str(ROOT / "datasets/folder/prepare.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.mark.long
def test_a_folder_is_split_by_source(media: Path, tmp_path: Path) -> None:
    out = tmp_path / "manifest"
    done = prepare_folder("--media", str(media), "--out", str(out), "--source", r"(\w+)_",
                          "--val", "0.45", "--test", "0.2")  # fmt: skip
    assert done.returncode == 0, done.stderr
    sources = {s: {e.source_id for e in read_manifest(out, s).entries} for s in splits_of(out)}
    # First 8 bytes of the SHA-256 of each name, as a share of 2**64: .78, .77, .60, .12. Of the
    # four sources of every class, in this order from the lowest, one (.8) is for test, two (1.8)
    # are for val.
    assert sources == {"train": {"source0"}, "val": {"source1", "source2"}, "test": {"source3"}}
    assert sum(len(read_manifest(out, split).entries) for split in sources) == 12


def test_a_folder_without_classes_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"x")
    done = prepare_folder("--media", str(tmp_path), "--out", str(tmp_path / "out"))
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: {tmp_path}: no CLASS/FILE that is a media file")
