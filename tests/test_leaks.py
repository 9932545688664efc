"""Leaks with the structure of those that are known are found, and nothing else is."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from avmix.cli import main
from avmix.data.manifest import ManifestError, read_manifest, row_of
from avmix.media.fingerprint import Fingerprint
from avmix.media.judgement import entry_of
from avmix.tools import fingerprint_journal, leak_search
from avmix.tools.fingerprint_journal import fingerprints
from avmix.tools.leak_search import (
    MAX_AUDIO_SHARE,
    MAX_FRAME_BITS,
    near_duplicate_audio,
    near_duplicate_frames,
    near_duplicates,
    shared_keys,
)
from avmix.tools.leaks import read_groups
from avmix.types import Entry
from tests.scenes import write_scene

Make = Callable[..., Entry]


def _write(folder: Path, splits: Mapping[str, Sequence[Entry]]) -> Path:
    """A manifest as another program might write it: `write_manifest` refuses what leaks."""
    folder.mkdir(parents=True, exist_ok=True)
    header: dict = {"format": 1, "protocol": "made/leaking", "classes": ["x"], "splits": {}}
    for split, entries in splits.items():
        text = "".join(row_of(e) + "\n" for e in entries).encode()
        (folder / f"{split}.jsonl").write_bytes(text)
        header["splits"][split] = {"sha256": hashlib.sha256(text).hexdigest()}
    (folder / "dataset.json").write_text(json.dumps(header))
    return folder


def _run(*words: str | Path) -> int:
    with pytest.raises(SystemExit) as end:
        main(["leaks", *map(str, words)])
    assert isinstance(end.value.code, int)
    return end.value.code


def _unlike(make_entry: Make, clip_id: str, **changes: object) -> Entry:
    return make_entry(clip_id, sha256=hashlib.sha256(clip_id.encode()).hexdigest(), **changes)


def test_the_actors_of_crema_d_by_the_split_of_ogm(
    tmp_path: Path, make_entry: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    # 91 actors say sentences in six moods; every tenth clip is tested on: all actors are in both.
    names = [
        f"{1001 + actor}_{sentence}_{mood}_HI"
        for actor in range(91)
        for sentence in ("IEO", "DFA")
        for mood in ("NEU", "HAP", "SAD", "FEA", "DIS")
    ]
    test = [name for k, name in enumerate(names) if k % 10 == 3]
    splits = {
        "train": [_unlike(make_entry, name) for name in names if name not in test],
        "test": [_unlike(make_entry, name) for name in test],
    }
    folder = _write(tmp_path / "m", splits)
    assert shared_keys(splits) == ()  # every clip is a source of its own: nobody would notice
    words = ("--root", folder, "--group", r"actor=^(\d{4})_")
    assert _run(*words, "--enforce") == 1
    report = json.loads((folder / "leaks.json").read_text())
    assert [leak["value"] for leak in report["leaks"]] == [f"actor={1001 + i}" for i in range(91)]
    assert {(leak["kind"], leak["num_a"], leak["num_b"]) for leak in report["leaks"]} == {
        ("group", 9, 1)
    }
    assert report["groups"] == {"actor": 91}
    printed = capsys.readouterr().out
    assert "and 71 more" in printed
    assert printed.startswith(read_manifest(folder, "train").protocol + "\n")
    # By actor there is none.
    apart = {
        "train": [e for es in splits.values() for e in es if e.clip_id < "1080"],
        "test": [e for es in splits.values() for e in es if e.clip_id >= "1080"],
    }
    folder = _write(tmp_path / "apart", apart)
    assert _run("--root", folder, "--group", r"actor=^(\d{4})_", "--enforce") == 0


def test_the_videos_of_ave(tmp_path: Path, make_entry: Make) -> None:
    # One video gives several stretches: 8 videos are in train and test, 10 in train and val.
    def stretches(first: int, num: int, at: int) -> list[Entry]:
        return [
            _unlike(make_entry, f"video{v}_{at}", source_id=f"video{v}")
            for v in range(first, first + num)
        ]

    splits = {
        "train": stretches(0, 60, 0) + stretches(0, 3, 5),
        "val": stretches(20, 10, 30) + stretches(100, 5, 30),
        "test": stretches(40, 8, 60) + stretches(200, 5, 60),
    }
    found = shared_keys(splits)
    by_pair = [(leak.split_a, leak.split_b) for leak in found]
    assert by_pair.count(("train", "test")) == 8
    assert by_pair.count(("train", "val")) == 10
    assert len(found) == 18
    folder = _write(tmp_path, splits)
    assert _run("--root", folder, "--enforce") == 1
    summary = json.loads((folder / "leaks.json").read_text())["summary"]
    rows = {(r["kind"], r["split_a"], r["split_b"]): r for r in summary}
    assert rows["source", "train", "test"]["clips_b"] == 8
    assert rows["source", "train", "val"]["leaks"] == 10
    assert rows["source", "val", "test"]["leaks"] == 0


def test_one_file_under_two_names(make_entry: Make) -> None:
    first, other = _unlike(make_entry, "a"), _unlike(make_entry, "b")
    copy = replace(_unlike(make_entry, "c"), sha256=first.sha256)
    (found,) = shared_keys({"train": [other, first], "test": [copy]})
    assert (found.kind, found.clip_a, found.clip_b) == ("file", "a", "c")
    assert found.value == first.sha256


def test_groups_come_from_a_table(tmp_path: Path, make_entry: Make) -> None:
    entries = [_unlike(make_entry, name) for name in ("a", "b", "ü,1")]
    table = tmp_path / "groups.csv"
    text = '\ufeffclip_id,person,place\r\na,Ada,\r\n"ü,1",Ada,here\r\nunknown,Bob,here\r\n'
    table.write_text(text, encoding="utf-8", newline="")
    groups = read_groups(table, (), entries)
    assert groups == {"person": {"a": "Ada", "ü,1": "Ada"}, "place": {"ü,1": "here"}}
    (found,) = shared_keys({"train": entries[:2], "test": entries[2:]}, groups)
    assert (found.value, found.clip_a, found.clip_b) == ("person=Ada", "a", "ü,1")


@pytest.mark.parametrize(
    ("patterns", "table", "reason"),
    [
        (["actor=("], None, "--group"),
        (["actor=abc"], None, "bracket"),
        ([r"=(\d)"], None, "NAME=REGEX"),
        ([r"actor=^(\d{4})_"], None, "matches no clip_id, as 'a'"),
        ([], "who\na\n", "clip_id"),
        ([], "clip_id,who\nz,Ada\n", "none of the clips"),
    ],
)
def test_groups_that_cannot_be_read(
    tmp_path: Path, make_entry: Make, patterns: list[str], table: str | None, reason: str
) -> None:
    path = None
    if table is not None:
        path = tmp_path / "groups.csv"
        path.write_text(table)
    with pytest.raises(ManifestError, match=reason):
        read_groups(path, patterns, [_unlike(make_entry, "a")])


def _print(clip_id: str, frames: object = (), audio: object = ()) -> Fingerprint:
    return Fingerprint(
        clip_id=clip_id,
        frames=np.array(frames, np.uint64).reshape(-1, 2),
        audio=np.array(audio, np.uint32),
    )


def test_near_frames_by_hand() -> None:
    train = [_print("a", [[0, 0], [2**10 - 1, 0]]), _print("b"), _print("c", [[2**63 - 1, 7]])]
    test = [_print("x", [[2**10 - 1, 1]]), _print("y", [[0, 3], [0, 1]])]
    # a, second frame: 1 bit from x; a, first: 1 from y. c: 60 bits and more from all.
    assert near_duplicate_frames(train, test, 5).tolist() == [[0, 0, 1], [0, 1, 1]]
    assert near_duplicate_frames(train, test, 0).tolist() == []
    assert near_duplicate_frames(train, test, 60).tolist() == [[0, 0, 1], [0, 1, 1], [2, 0, 55]]
    assert near_duplicate_frames([], test, 5).shape == (0, 3)


def test_pieces_of_the_comparison_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = np.random.default_rng(0)
    train = [_print(str(i), draw.integers(0, 2**63, (n, 2))) for i, n in enumerate([3, 0, 1, 5])]
    test = [_print(str(i), draw.integers(0, 2**63, (2, 2))) for i in range(5)]
    whole = near_duplicate_frames(train, test, 58)
    assert 0 < len(whole) < 15
    monkeypatch.setattr(leak_search, "_ROWS", 2)
    monkeypatch.setattr(leak_search, "_COLUMNS", 3)
    assert (near_duplicate_frames(train, test, 58) == whole).all()
    audio = [_print("s", audio=draw.integers(1, 2**32, 200))]
    again = [_print("t", audio=np.roll(audio[0].audio, 5)), _print("u", audio=[3] * 100)]
    assert near_duplicate_audio(audio, again, 0.1).tolist() == [[0, 0, 0]]
    monkeypatch.setattr(leak_search, "_HASHES", 7)
    assert near_duplicate_audio(audio, again, 0.1).tolist() == [[0, 0, 0]]


def test_audio_are_found_at_any_place_and_with_some_bits_wrong() -> None:
    draw = np.random.default_rng(1)
    music = draw.integers(1, 2**32, 400, dtype=np.uint32)
    flips = (draw.random((400, 32)) < 0.1).astype(np.uint32) << np.arange(32, dtype=np.uint32)
    spoilt = music ^ flips.sum(1, dtype=np.uint32)
    train = [_print("other", audio=draw.integers(1, 2**32, 400)), _print("music", audio=music)]
    test = [_print("late", audio=spoilt[150:300]), _print("short", audio=music[:40]),
            _print("quiet", audio=np.zeros(300))]  # fmt: skip
    (found,) = near_duplicate_audio(train, test, MAX_AUDIO_SHARE)
    assert found[:2].tolist() == [1, 0]
    assert found[2] == pytest.approx(0.1, abs=0.02)


def test_the_nearest_stands_for_all_that_are_near() -> None:
    train = [_print("a", [[7, 0]]), _print("b", [[1, 0]]), _print("c", [[3, 0]])]
    (found,) = near_duplicates({"train": train, "test": [_print("x", [[1, 0]])]})
    assert (found.kind, found.clip_a, found.clip_b, found.distance) == ("pictures", "b", "x", 0)
    assert found.num_a == 3


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Entry]:
    """`again` is `first` at another size and bit rate; `dubbed` has its audio only."""
    root = tmp_path_factory.mktemp("clips")
    made = {
        "first": write_scene(root / "first.mp4", seed=0, seconds=3),
        "second": write_scene(root / "second.mp4", seed=1, seconds=3),
        "again": write_scene(root / "again.mkv", seed=0, seconds=3, size=(96, 72), crf=34,
                             audio_bit_rate=32_000),
        "dubbed": write_scene(root / "dubbed.mp4", seed=2, audio_seed=1, seconds=3),
        "other": write_scene(root / "other.mp4", seed=3, seconds=3),
    }  # fmt: skip
    return {
        name: entry_of(path, root, clip_id=name, labels=("x",), source_id=name)
        for name, path in made.items()
    } | {"root": root}  # type: ignore[dict-item]


def test_near_duplicates_are_found_in_files(tmp_path: Path, clips: dict) -> None:
    root = clips["root"]
    train = [clips["first"], clips["second"]]
    test = [clips["again"], clips["dubbed"], clips["other"]]
    folder = _write(tmp_path, {"train": train, "test": test})
    words = ("--manifest", folder, "--root", root)
    assert _run(*words, "--enforce") == 0  # by what is given there is nothing
    assert _run(*words, "--near", "--enforce") == 1
    report = json.loads((folder / "leaks.json").read_text())
    found = {(x["kind"], x["clip_a"], x["clip_b"]): x["distance"] for x in report["leaks"]}
    assert set(found) == {
        ("pictures", "first", "again"),
        ("sound", "first", "again"),
        ("sound", "second", "dubbed"),
    }
    assert found["pictures", "first", "again"] <= MAX_FRAME_BITS / 2
    assert _run(*words, "--near", "--max-picture-bits", "127") == 2
    assert _run(*words, "--workers", "0") == 2


def test_fingerprints_are_made_once_and_a_killed_run_goes_on(
    tmp_path: Path, clips: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, journal = clips["root"], tmp_path / "f.jsonl"
    entries = [clips["first"], clips["second"], clips["other"]]
    whole = fingerprints(root, entries, journal)
    made: list[str] = []
    real = fingerprint_journal.fingerprint_of

    def counted(root: Path, entry: Entry) -> Fingerprint:
        made.append(entry.clip_id)
        return real(root, entry)

    monkeypatch.setattr(fingerprint_journal, "fingerprint_of", counted)
    again = fingerprints(root, entries, journal)
    assert made == []
    journal.write_text(journal.read_text()[:-300])  # as a kill cuts it
    after = fingerprints(root, entries, journal)
    assert made == ["other"]
    fingerprints(root, entries, journal)
    assert made == ["other"]
    for found in (again, after):
        for a, b in zip(whole, found, strict=True):
            assert (a.frames == b.frames).all()
            assert (a.audio == b.audio).all()
    # Another stretch or another file is another clip.
    fingerprints(root, [replace(entries[0], end_seconds=2.0)], journal)
    assert made == ["other", "first"]
    # And so is another channel or track.
    audio = entries[0].audio
    for other in (replace(audio, mono_cancels=True), replace(audio, track=0)):
        for _ in range(2):  # the second time it is known
            fingerprints(root, [replace(entries[0], audio=other)], journal)
    assert made == ["other", "first", "first", "first"]


def test_what_cannot_be_compared_is_named(
    tmp_path: Path, clips: dict, capsys: pytest.CaptureFixture[str]
) -> None:
    gone = replace(clips["other"], clip_id="gone", path="gone.mp4", sha256="ab", source_id="gone")
    folder = _write(tmp_path, {"train": [clips["first"]], "test": [gone]})
    words = ("--manifest", folder, "--root", clips["root"], "--near")
    assert _run(*words) == 0
    assert "not compared: gone: FileNotFoundError" in capsys.readouterr().err
    assert _run(*words, "--enforce") == 1
    report = json.loads((folder / "leaks.json").read_text())
    assert [row["clip_id"] for row in report["unreadable"]] == ["gone"]
    assert "gone" not in (folder / "fingerprints.jsonl").read_text()  # tried again next time


def test_no_manifest(tmp_path: Path) -> None:
    assert _run("--root", tmp_path) == 2
