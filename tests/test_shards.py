"""Shards: the layout that others read, the same bytes every time, and where each clip is."""

import hashlib
import json
import re
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from avmix.cli import main
from avmix.data.manifest import ManifestError, parse_row, read_manifest, write_manifest
from avmix.tools.shards import write_shards
from avmix.types import Entry

Make = Callable[..., Entry]


@pytest.fixture
def root(tmp_path: Path, make_entry: Make) -> Path:
    """Five clips in train, of 1 to 1,500 bytes, whose names are awkward; one in test."""
    root = tmp_path / "root"
    paths = {"a": "x.y/a.b.MP4", "b": "x.y/a_b.mp4", "c": "-ü.mp4", "d": "d.avi",
             "e": "n" * 120 + ".mp4", "t": "t.mp4"}  # fmt: skip
    entries = {}
    for number, (name, path) in enumerate(paths.items()):
        data = bytes([number]) * (1 + 300 * number)
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(data)
        entries[name] = make_entry(name, path=path, bytes=len(data),
                                   sha256=hashlib.sha256(data).hexdigest())  # fmt: skip
    test = entries.pop("t")
    write_manifest(root, classes=("x",), protocol="made/1",
                   splits={"train": list(entries.values()), "test": [test]})  # fmt: skip
    return root


def _groups(path: Path) -> list[dict[str, bytes]]:
    """Samples as WebDataset's reader forms them: members that follow each other and have the same
    name up to the first dot of their base name; what is after that dot is the kind."""
    samples: list[dict[str, bytes]] = []
    key = None
    with tarfile.open(path) as tar:
        for member in tar:
            match = re.fullmatch(r"((?:.*/|)[^.]+)[.]([^/]*)", member.name)
            assert match
            if match[1] != key:
                key = match[1]
                samples.append({"__key__": key.encode()})
            assert match[2] not in samples[-1]
            file = tar.extractfile(member)
            assert file is not None
            samples[-1][match[2].lower()] = file.read()
    return samples


def test_each_clip_is_one_sample_with_its_row(root: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    index = write_shards(root, root, out, 2)
    names = ["train-000000.tar", "train-000001.tar", "train-000002.tar", "test-000000.tar"]
    assert list(index["shards"]) == names
    assert index["splits"]["train"]["shards"] == names[:3]
    samples = [s for name in names for s in _groups(out / name)]
    entries = [e for split in ("train", "test") for e in read_manifest(root, split).entries]
    assert len(samples) == len(entries) == len({s["__key__"] for s in samples})
    for sample, entry in zip(samples, entries, strict=True):
        kind = "avi" if entry.path.endswith("avi") else "mp4"
        assert set(sample) == {"__key__", kind, "json"}
        assert sample[kind] == (root / entry.path).read_bytes()
        row = json.loads(sample["json"])
        assert row.pop("split") in ("train", "test")
        assert row.pop("key").encode() == sample["__key__"]
        assert parse_row(json.dumps(row), "json") == entry


def test_the_index_says_where_bytes_are(root: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    write_shards(root, root, out, 3)
    index = json.loads((out / "index.json").read_text())
    assert index["complete"]
    entries = {e.clip_id: e for s in ("train", "test") for e in read_manifest(root, s).entries}
    found = 0
    for name, shard in index["shards"].items():
        data = (out / name).read_bytes()
        assert len(data) == shard["bytes"]
        for clip in shard["clips"]:
            part = data[clip["offset"] : clip["offset"] + clip["bytes"]]
            assert hashlib.sha256(part).hexdigest() == entries[clip["clip_id"]].sha256
            found += 1
    assert found == 6


def test_bytes_are_the_same_every_time_and_a_stopped_run_goes_on(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = tmp_path / "1", tmp_path / "2"
    write_shards(root, root, first, 2)
    (root / "x.y/a.b.MP4").touch()
    gone = root / "t.mp4"
    data = gone.read_bytes()
    gone.unlink()
    with pytest.raises(FileNotFoundError):
        write_shards(root, root, second, 2)
    assert not list(second.glob("*.partial"))
    assert not (second / "test-000000.tar").exists()
    (second / "train-000000.tar.0123456789ab.partial").write_bytes(b"half of")  # of a kill
    gone.write_bytes(data)
    kept = (second / "train-000001.tar").stat().st_mtime_ns
    write_shards(root, root, second, 2)
    assert (second / "train-000001.tar").stat().st_mtime_ns == kept  # not written again
    names = sorted(p.name for p in first.iterdir())
    assert names == sorted(p.name for p in second.iterdir())
    assert all((first / n).read_bytes() == (second / n).read_bytes() for n in names)
    with tarfile.open(first / "train-000000.tar") as tar:
        assert {(m.mtime, m.uid, m.gid, m.uname, m.mode) for m in tar} == {(0, 0, 0, "", 0o644)}


def test_what_is_not_the_manifests_is_refused(root: Path, tmp_path: Path) -> None:
    (root / "d.avi").write_bytes(b"another")
    with pytest.raises(ManifestError, match=r"d\.avi: is not the file"):
        write_shards(root, root, tmp_path / "out", 10)
    with pytest.raises(ManifestError, match="--per-shard"):
        write_shards(root, root, tmp_path / "out", 0)


def test_stretches_of_one_file_are_sent_to_transcode(tmp_path: Path, make_entry: Make) -> None:
    clips = [make_entry("a"), replace(make_entry("b"), path="a.mp4")]
    write_manifest(tmp_path, classes=("x",), protocol="p", splits={"train": clips})
    with pytest.raises(ManifestError, match="avmix transcode"):
        write_shards(tmp_path, tmp_path, tmp_path / "out", 10)


def test_command(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["shards", "--root", str(root), "--out", str(tmp_path / "out"), "--per-shard", "4"]
    with pytest.raises(SystemExit) as end:
        main(words)
    assert end.value.code == 0
    assert "6 clips in 3 shards" in capsys.readouterr().out
    with pytest.raises(SystemExit) as end:
        main([*words[:-1], "5"])
    assert end.value.code == 0
    names = sorted(p.name for p in (tmp_path / "out").iterdir())
    assert names == ["index.json", "test-000000.tar", "train-000000.tar"]  # none is left over
    (root / "d.avi").unlink()
    with pytest.raises(SystemExit) as end:
        main([*words[:-1], "3"])
    assert end.value.code == 1
