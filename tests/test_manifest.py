"""Manifests: what is written is read, and everything that can be wrong with one is said."""

import hashlib
import json
from dataclasses import replace

import pytest

from avmix.data.manifest import (
    ManifestError,
    read_manifest,
    splits_of,
    write_manifest,
)
from avmix.data.manifest_rows import _check_types

CLASSES = ("x", "y")


@pytest.fixture
def splits(make_entry):
    train = [make_entry("a"), make_entry("b", labels=("y",)), make_entry("c", audio=None)]
    return {"train": train, "test": [make_entry("d", video=None)]}


@pytest.fixture
def folder(tmp_path, splits):
    write_manifest(
        tmp_path, classes=CLASSES, protocol="made/1", splits=splits, notes={"made_from": "nothing"}
    )
    return tmp_path


def edit_line(folder, change, *, split="train"):
    """Change the second line of a split, and make the hash in the header fit again."""
    path, header_path = folder / f"{split}.jsonl", folder / "dataset.json"
    lines = path.read_text().splitlines()
    row = json.loads(lines[1])
    lines[1] = change if isinstance(change, str) else json.dumps(change(row))
    path.write_text("\n".join(lines) + "\n")
    header = json.loads(header_path.read_text())
    header["splits"][split]["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    header_path.write_text(json.dumps(header))


def test_what_is_written_is_read(folder, splits):
    for split, entries in splits.items():
        manifest = read_manifest(folder, split)
        assert manifest.entries == tuple(entries)
        assert (manifest.classes, manifest.protocol, manifest.split) == (CLASSES, "made/1", split)
        content = (folder / f"{split}.jsonl").read_bytes()
        assert manifest.sha256 == hashlib.sha256(content).hexdigest()
    assert splits_of(folder) == ("train", "test")


def test_the_header_counts_the_clips(folder):
    header = json.loads((folder / "dataset.json").read_text())
    train = header["splits"]["train"]
    assert (train["num_clips"], train["num_with_audio"]) == (3, 2)
    assert train["per_class"] == {"x": 2, "y": 1}
    assert header["notes"] == {"made_from": "nothing"}
    assert not list(folder.glob("*.partial"))


@pytest.mark.parametrize("name", ["ä b/ü.mp4", 'quote".mp4', "line\u2028end.mp4", "next\x85.mp4"])
def test_any_name_of_a_file_survives(tmp_path, make_entry, name):
    entry = make_entry("a", path=name)
    write_manifest(tmp_path, classes=("x",), protocol="p", splits={"train": [entry]})
    assert read_manifest(tmp_path, "train").entries == (entry,)


def test_several_labels_are_kept_in_order(tmp_path, make_entry):
    entry = make_entry("a", labels=("y", "x"))
    write_manifest(tmp_path, classes=CLASSES, protocol="p", splits={"train": [entry]})
    assert read_manifest(tmp_path, "train").entries[0].labels == ("y", "x")


def test_a_missing_header_says_what_to_do(tmp_path):
    with pytest.raises(ManifestError, match=r"dataset\.json: not found\. Prepare the dataset"):
        read_manifest(tmp_path, "train")


def test_a_missing_split_names_those_there_are(folder):
    with pytest.raises(ManifestError, match="no split 'val'; it has: train, test"):
        read_manifest(folder, "val")


def test_a_missing_file_is_named(folder):
    (folder / "train.jsonl").unlink()
    with pytest.raises(ManifestError, match=r"train\.jsonl: not found"):
        read_manifest(folder, "train")


def test_a_changed_file_is_noticed(folder):
    path = folder / "train.jsonl"
    path.write_text(path.read_text().replace('"y"', '"x"'))
    with pytest.raises(ManifestError, match=r"train\.jsonl: its hash differs"):
        read_manifest(folder, "train")


def header_with(**changes):
    return json.dumps({"format": 1, "protocol": "p", "classes": ["x"], "splits": {}} | changes)


def test_a_file_that_is_no_text_is_named(folder):
    header = json.loads((folder / "dataset.json").read_text())
    header["splits"]["train"]["sha256"] = hashlib.sha256(b"\xff\n").hexdigest()
    (folder / "dataset.json").write_text(json.dumps(header))
    (folder / "train.jsonl").write_bytes(b"\xff\n")
    with pytest.raises(ManifestError, match=r"train\.jsonl: not UTF-8"):
        read_manifest(folder, "train")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not valid JSON"),
        ("[]", "lacks classes, format, protocol, splits"),
        ('{"format": 1, "classes": [], "splits": {}}', "lacks protocol"),
        ('{"format": 2, "classes": [], "splits": {}, "protocol": "p"}', "format 2, this avmix rea"),
        ("[" * 100_000, "not valid JSON: .*recursion"),
        ("3", "lacks classes, format, protocol, splits"),
        (header_with(classes=["x", "y", "x"]), "classes must be names, each once"),
        (header_with(classes=["x", []]), "classes must be names, each once"),
        (header_with(protocol=[]), "protocol must be a name"),
        (header_with(splits=["train"]), "splits must say the sha256 of each"),
        (header_with(splits={"train": {}}), "splits must say the sha256 of each"),
    ],
)
def test_a_damaged_header_is_named(folder, text, message):
    (folder / "dataset.json").write_text(text)
    with pytest.raises(ManifestError, match=rf"dataset\.json: .*{message}"):
        read_manifest(folder, "train")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("{", "not a manifest row"),
        ("3", "not a manifest row"),
        (lambda row: {k: v for k, v in row.items() if k != "video"}, "not a manifest row.*video"),
        (lambda row: {k: v for k, v in row.items() if k != "path"}, "not a manifest row.*path"),
        (lambda row: row | {"colour": 1}, "not a manifest row.*colour"),
        (lambda row: row | {"path": 3}, "path.*3"),
        (lambda row: row | {"bytes": 1.5}, "bytes.*1.5"),
        (lambda row: row | {"bytes": True}, "bytes.*True"),
        (lambda row: row | {"end_seconds": "9"}, "end_seconds.*'9'"),
        (lambda row: row | {"labels": []}, "labels.*wrong type"),
        (lambda row: row | {"labels": [1]}, "labels.*1"),
        (lambda row: row | {"audio": row["audio"] | {"silent": 0}}, "silent.*0"),
        (lambda row: row | {"video": row["video"] | {"fps": None}}, "fps.*None"),
        (lambda row: row | {"end_seconds": 0.0}, "0 <= start < end"),
        (lambda row: row | {"start_seconds": -1.0}, "0 <= start < end"),
        ("[" * 100_000, "not a manifest row: .*recursion"),
        (lambda row: row | {"video_labels": "y", "audio_labels": ["y"]}, "must be a list, got 'y'"),
        (lambda row: row | {"video_labels": {"y": 1}, "audio_labels": []}, "must be a list"),
        (lambda row: row | {"video_labels": [1], "audio_labels": []}, "video_labels"),
        (lambda row: row | {"unknown_labels": 3}, "unknown_labels must be a list, got 3"),
        (lambda row: row | {"unknown_labels": [["y"]]}, "unknown_labels"),
        (lambda row: row | {"usable_until_seconds": float("nan")}, "usable_until_seconds"),
        (lambda row: row | {"usable_until_seconds": 10**400}, "usable_until_seconds"),
        (lambda row: row | {"labels": "xy"}, "labels must be a list, got 'xy'"),
    ],
)
def test_a_bad_line_is_named_by_its_number(folder, change, message):
    edit_line(folder, change)
    with pytest.raises(ManifestError, match=rf"(?s)train\.jsonl:2: .*{message}"):
        read_manifest(folder, "train")


@pytest.mark.parametrize(
    ("part", "field", "value"),
    [
        ("entry", "path", 3),
        ("entry", "bytes", True),
        ("entry", "labels", ("a", 1)),
        ("entry", "audio", "none"),
        ("video", "fps", None),
        ("video", "vfr", 1),
        ("audio", "rate_hz", 44_100.0),
    ],
)
def test_types_are_checked_outside_tests_too(make_entry, part, field, value):
    # Here beartype refuses such values before the reader can; users run without it.
    entry = make_entry()
    assert entry.video is not None
    entry = replace(entry, video=replace(entry.video), audio=replace(entry.audio))
    wrong = entry if part == "entry" else getattr(entry, part)
    object.__setattr__(wrong, field, value)
    with pytest.raises(ManifestError, match=f"here: {field} has the wrong type: "):
        _check_types(wrong, "here")


def test_a_number_that_no_float_holds_is_not_finite(make_entry):
    entry = replace(make_entry())
    object.__setattr__(entry, "end_seconds", 10**400)
    with pytest.raises(ManifestError, match="here: end_seconds is not finite: 1000"):
        _check_types(entry, "here")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda row: row | {"labels": ["z"]}, "clip 'b' has label 'z', which is not a class"),
        (lambda row: row | {"clip_id": "a"}, "clip_id 'a' occurs more than once"),
        (lambda row: row | {"unknown_labels": ["z"]}, "clip 'b' has label 'z', which is not a "),
        (lambda row: row | {"video_labels": ["z"], "audio_labels": []}, "must be those of video_l"),
        (lambda row: row | {"video_labels": row["labels"]}, "given both or not at all"),
        (lambda row: row | {"unknown_labels": row["labels"]}, "is in labels and in unknown_label"),
    ],
)
def test_contradictions_are_found_on_reading(folder, change, message):
    edit_line(folder, change)
    with pytest.raises(ManifestError, match=message):
        read_manifest(folder, "train")


def test_a_part_of_a_data_set_keeps_the_classes_of_the_whole(tmp_path, make_entry):
    write_manifest(tmp_path, classes=["x", "y"], protocol="p", splits={"test": [make_entry("a")]})
    assert splits_of(tmp_path) == ("test",)
    found = read_manifest(tmp_path, "test")
    assert found.classes == ("x", "y")
    assert found.empty_classes == ["y"]
    write_manifest(tmp_path, classes=["x", "y"], protocol="p", splits={"train": [make_entry("a")]})
    assert read_manifest(tmp_path, "train").classes == ("x", "y")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda e: {"train": []}, "'train' has no clips"),
        (lambda e: {"train": [e("a", labels=("z",))]}, "has label 'z'"),
        (lambda e: {"train": [e("a"), e("a", labels=("y",))]}, "'a' occurs more than once"),
        (
            lambda e: {
                "train": [e("a"), e("b", labels=("y",))],
                "val": [e("c", source_id="a")],
            },
            "source 'a' is in 'train' and in 'val': a leak",
        ),
    ],
)
def test_a_manifest_with_a_mistake_is_not_written(tmp_path, make_entry, change, message):
    with pytest.raises(ManifestError, match=message):
        write_manifest(tmp_path, classes=CLASSES, protocol="p", splits=change(make_entry))
    assert not list(tmp_path.iterdir())


def test_only_train_needs_every_class(tmp_path, make_entry, splits):
    splits["test"] = [make_entry("d")]
    write_manifest(tmp_path, classes=CLASSES, protocol="p", splits=splits)
    assert len(read_manifest(tmp_path, "test").entries) == 1


def test_the_same_source_may_occur_often_in_one_split(tmp_path, make_entry):
    entries = [make_entry("a"), replace(make_entry("b", labels=("y",)), source_id="a")]
    write_manifest(tmp_path, classes=CLASSES, protocol="p", splits={"train": entries})
    assert len(read_manifest(tmp_path, "train").entries) == 2
