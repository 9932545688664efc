"""Several folders of kept features side by side: joined by the id of the clip, or refused."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from avmix.cli import main
from avmix.data.joined_features import open_joined
from avmix.data.kept_features import FeaturesError, Header, open_features, write_header
from avmix.data.manifest import read_manifest, write_manifest
from avmix.data.tensor_file import Shape, write_tensors
from avmix.types import Entry

IDS = {"train": tuple(f"a{i}" for i in range(12)), "test": tuple(f"b{i}" for i in range(8))}
Write = Callable[..., Path]


def value_of(clip_id: str, view: int, modality: str, width: int) -> np.ndarray:
    """Features that say of which clip and view they are."""
    number = sum(map(ord, clip_id)) + 100 * view + 1000 * (modality == "audio") + 10_000 * width
    return number + np.arange(width) / 10


@pytest.fixture
def write(tmp_path: Path, make_entry: Callable[..., Entry]) -> Write:
    def writer(
        name: str,
        widths: dict[str, int],
        *,
        ids: dict[str, Sequence[str]] | None = None,
        views: int = 1,
        silent: Sequence[str] = (),
        sha256: str = "0" * 64,
        labels: str = "ab",
        protocol: str = "toy",
        augmented: dict[str, Any] | None = None,
    ) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        chosen, said = ids or IDS, {}
        count = views + (augmented or {}).get("views", 0)
        entries = {
            split: [
                replace(make_entry(clip_id), labels=(labels[int(clip_id[1:]) % 2],),
                        source_id=clip_id, sha256=sha256)
                for clip_id in of_split
            ]
            for split, of_split in chosen.items()
        }  # fmt: skip
        write_manifest(folder, classes=["a", "b"], protocol=protocol, splits=entries)
        for split, of_split in chosen.items():
            arrays = {
                modality: np.array(
                    [[value_of(i, v, modality, width) for v in range(count)] for i in of_split],
                    "<f4",
                )
                for modality, width in widths.items()
            } | {"has_audio": np.array([[i not in silent] * count for i in of_split])}
            shapes = {key: Shape(value.dtype, value.shape) for key, value in arrays.items()}
            sha256 = write_tensors(
                folder / f"{split}.safetensors", shapes, lambda key, all=arrays: [all[key]], {}
            )
            said[split] = {"complete": True, "sha256": sha256, "manifest_sha256": "0" * 64,
                           "rows_sha256": read_manifest(folder, split).sha256}  # fmt: skip
        identity: dict[str, Any] = {"views": views, "clip": {"duration_seconds": len(name)}}
        if augmented:
            identity["augmented"] = augmented
        write_header(folder, Header(identity=identity, computed_with={}, splits=said))
        return folder

    return writer


def test_features_are_joined_by_clip(write: Write) -> None:
    """The second folder has another order, other windows, and lacks two clips; one clip has audio
    in the first alone."""
    order = [i for i in reversed(IDS["train"]) if i not in ("a3", "a7")]
    first = write("first", {"video": 3, "audio": 2}, views=2)
    second = write("second", {"video": 4, "audio": 1}, views=2, silent=["a5"],
                   ids={"train": [*order, "x1"], "test": IDS["test"]})  # fmt: skip
    third = write("third", {"video": 5}, views=2, silent=["a1"])
    joined = open_joined([first, second, third], "train")
    assert [tuple(clip) for clip in joined.lacking] == [
        ("a3", second), ("a7", second), ("x1", first)]  # fmt: skip
    kept = joined.kept
    ids = [entry.clip_id for entry in kept.manifest.entries]
    assert ids == [i for i in IDS["train"] if i not in ("a3", "a7")]
    for row, clip_id in enumerate(ids):
        for view in range(2):
            for modality, widths in (("video", (3, 4, 5)), ("audio", (2, 1))):
                wanted = [value_of(clip_id, view, modality, width) for width in widths]
                np.testing.assert_array_equal(
                    kept.features[modality][row, view], np.concatenate(wanted).astype("f4")
                )
    # The third has no audio features; what it says of audio does not count.
    assert kept.has_audio.tolist() == [[i != "a5"] * 2 for i in ids]
    assert kept.labels.tolist() == [int(i[1:]) % 2 for i in ids]
    assert kept.num_eval_views == 2
    assert [part["clip"] for part in kept.header.identity["joined"]] == [
        {"duration_seconds": len(name)} for name in ("first", "second", "third")
    ]


def test_one_folder_stays_mapped(write: Write) -> None:
    folder = write("one", {"video": 3, "audio": 2})
    joined = open_joined([folder], "test")
    assert isinstance(joined.kept.features["video"], np.memmap)
    assert joined.kept.header == open_features(folder, "test").header


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"views": 2}, "1 views of each clip, and 2; compute the same number"),
        ({"protocol": "other"}, "one is of toy, the other of other"),
        ({"sha256": "1" * 64}, "clip 'a0' has another file"),
        ({"labels": "ba"}, "clip 'a0' has another label"),
        ({"ids": {"train": ["x1", "x2"]}}, "have no clip of 'train' in common"),
    ],
    ids=["views", "protocol", "file", "label", "no clip"],
)
def test_what_is_of_other_clips_is_refused(
    options: dict[str, Any], reason: str, write: Write
) -> None:
    first, second = write("first", {"video": 3}), write("second", {"video": 3}, **options)
    with pytest.raises(FeaturesError) as caught:
        open_joined([first, second], "train")
    assert str(caught.value).startswith(f"{first} and {second} ")
    assert str(caught.value).endswith(reason)


def test_augmented_views_must_be_drawn_alike(write: Write) -> None:
    drawn = {"split": "train", "views": 2, "seed": 0}
    first = write("first", {"video": 3}, augmented=drawn)
    same = write("second", {"video": 4}, augmented=drawn)
    kept = open_joined([first, same], "train").kept
    assert kept.features["video"].shape == (12, 3, 7)
    other = write("third", {"video": 4}, augmented={**drawn, "seed": 1})
    with pytest.raises(FeaturesError, match="their augmented views are drawn otherwise"):
        open_joined([first, other], "train")


def test_the_same_folder_twice_is_a_slip(write: Write) -> None:
    folder = write("one", {"video": 3})
    with pytest.raises(FeaturesError, match="one is named twice"):
        open_joined([folder, folder], "train")


def test_a_probe_of_two_folders(
    write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("sklearn", reason="the extra [probe] is not installed")
    first = write("first", {"video": 3})
    second = write("second", {"video": 4, "audio": 2},
                   ids={"train": IDS["train"][1:], "test": IDS["test"]})  # fmt: skip
    path = tmp_path / "probe.json"
    with pytest.raises(SystemExit) as stop:
        main(["probe", str(first), str(second), "--c", "0.1", "--json", str(path)])
    assert stop.value.code == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "train: 1 clip left out, not in every folder: a0 (not in" in said
    found = json.loads(path.read_text())
    assert found["left_out"] == {"train": [["a0", str(second)]], "test": []}
    assert {head["head"]: head["num_train"] for head in found["draws"][0]} == dict.fromkeys(
        ("video", "audio", "concatenated", "average", "fused"), 11
    )
    assert len(found["features"]["joined"]) == 2
