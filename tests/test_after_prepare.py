"""What recipes do after the manifest: the real commands, in order, on the toy set."""

import argparse
import json
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest

from avmix.data.manifest import read_manifest, write_manifest
from avmix.prepare.after_prepare import FOLLOW, add_follow_arguments, after


def options_of(media: Path, *words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_follow_arguments(parser)
    options = parser.parse_args(words)
    assert set(vars(options)) == set(FOLLOW)
    options.media, options.workers = media, 1
    return options


def small_set(toy_set: Path, folder: Path, leak: bool = False) -> Path:
    """A manifest of two train and two test clips; with `leak` a file is in both."""
    train, test = (read_manifest(toy_set, split) for split in ("train", "test"))
    names = train.entries[0].labels
    chosen = [e for e in train.entries if e.labels == names][:2]
    tested = [e for e in test.entries if e.labels == names][:2]
    if leak:
        tested = [*tested[:1], replace(chosen[0], clip_id="again", source_id="again")]
    write_manifest(folder, classes=names, protocol="small", leaks="on purpose" if leak else "",
                   splits={"train": chosen, "test": tested})  # fmt: skip
    return folder


def test_transcoded_clips_are_what_the_shards_hold(toy_set: Path, tmp_path: Path) -> None:
    folder = small_set(toy_set, tmp_path / "m")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    made, shards = tmp_path / "made", tmp_path / "shards"
    words = ["--transcode", str(made), "--short_side", "48", "--shards", str(shards)]
    assert after(options_of(toy_set, *words, "--per_shard", "1"), [folder]) == 0
    for split in ("train", "test"):
        rows = read_manifest(made, split).entries
        given = read_manifest(folder, split).entries
        assert [e.clip_id for e in rows] == [e.clip_id for e in given]
        assert {e.video.height for e in rows if e.video} == {48}
        tars = sorted(shards.glob(f"{split}-*.tar"))
        assert len(tars) == 2
        for tar, entry in zip(tars, rows, strict=True):
            with tarfile.open(tar) as file:
                held = {Path(m.name).suffix: file.extractfile(m) for m in file.getmembers()}
                assert held[".mp4"] is not None
                assert held[".mp4"].read() == (made / entry.path).read_bytes()
    assert {p.name: p.read_bytes() for p in folder.iterdir() if p.name in before} == before
    assert (folder / "leaks.json").exists()


def test_several_protocols_have_folders_of_their_own(toy_set: Path, tmp_path: Path) -> None:
    folders = [small_set(toy_set, tmp_path / name) for name in ("one", "two")]
    options = options_of(toy_set, "--leaks", "off", "--shards", str(tmp_path / "shards"))
    assert after(options, folders) == 0
    assert {path.name for path in (tmp_path / "shards").iterdir()} == {"one", "two"}
    assert not (folders[0] / "leaks.json").exists()


@pytest.mark.parametrize(("leaks", "code"), [("report", 0), ("near", 0), ("enforce", 1)])
def test_a_leak_is_reported_and_ends_the_rest_where_it_is_enforced(
    toy_set: Path, tmp_path: Path, leaks: str, code: int
) -> None:
    folder = small_set(toy_set, tmp_path / "m", leak=True)
    words = ["--leaks", leaks, "--transcode", str(tmp_path / "made"), "--short_side", "32"]
    assert after(options_of(toy_set, *words), [folder]) == code
    found = json.loads((folder / "leaks.json").read_text())
    assert any(row["kind"] == "file" for row in found["leaks"])
    assert any(row["kind"] == "pictures" for row in found["leaks"]) == (leaks != "report")
    assert (tmp_path / "made/dataset.json").exists() == (code == 0)
