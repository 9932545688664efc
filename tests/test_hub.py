"""Parquet files with the bytes of video: read as files are, and the recipe that prepares them."""

import hashlib
import json
import os
import random
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from avmix import decode_clip
from avmix.data.manifest import read_manifest
from avmix.decode import Limits
from avmix.decode.errors import (
    ClipError,
    DecodeError,
    MediaOpenError,
    NoAudioStreamError,
    UnsupportedMediaError,
)
from avmix.decode.parquet_cells import Cells, cells_of
from avmix.decode.source import as_file, media_in_parquet
from avmix.doctor.examine import Task, examine
from avmix.media.fingerprint import fingerprint_of
from avmix.media.probe import probe
from avmix.media.whole_clip import audio_of
from avmix.recipes import hub
from tests.command_line import main
from tests.media import beep_times, draw_audio, write_flash_beep
from tests.recipes_media import ROOT

pytestmark = pytest.mark.long

SMALL = {"fps": 25, "seconds": 2, "events_seconds": (0.4, 1.2), "size": (64, 48)}
STRUCT = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def media(folder: Path, name: str, **changed: Any) -> bytes:
    return write_flash_beep(folder / name, **{**SMALL, **changed}).read_bytes()


def wav(seconds: float = 2, rate: int = 48_000) -> bytes:
    """What `media` writes as audio, in a file of its own."""
    samples = draw_audio(seconds=seconds, rate=rate, start_seconds=0, events_seconds=(0.4, 1.2))
    path = f"/dev/shm/avmix_{os.getpid()}.wav"
    try:
        with wave.open(path, "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(rate)
            file.writeframes((np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes())
        return Path(path).read_bytes()
    finally:
        os.unlink(path)


def parquet(path: Path, columns: dict[str, Any], *, per_group: int = 2, note: Any = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.table(columns)
    if note is not None:
        table = table.replace_schema_metadata({"huggingface": json.dumps(note)})
    pq.write_table(table, path, row_group_size=per_group, compression="snappy",
                   write_page_checksum=True)  # fmt: skip
    return path


def structs(*values: bytes | None) -> pa.Array:
    rows = [None if v is None else {"bytes": v, "path": f"v_A_g{n:02}_c01.mp4"}
            for n, v in enumerate(values)]  # fmt: skip
    return pa.array(rows, STRUCT)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """Five files of different content."""
    folder = tmp_path_factory.mktemp("files")
    return [media(folder, f"{n}.mp4", events_seconds=(0.2 * n,)) for n in range(1, 6)]


def window(source: Any) -> Any:
    return decode_clip(source, start_seconds=0.2, duration_seconds=1.0, num_frames=5)


@pytest.mark.parametrize("kind", ["struct", "binary", "large"])
def test_a_row_is_decoded_as_its_file(kind: str, files: list[bytes], tmp_path: Path) -> None:
    column = {"struct": structs(*files), "binary": pa.array(files, pa.binary()),
              "large": pa.array(files, pa.large_binary())}[kind]  # fmt: skip
    path = parquet(tmp_path / "x.parquet", {"video": column})
    order = [0, 1, 2, 3, 4, 3, 0, 4, 4, 2]
    for row in order:  # forward, backward, again
        found = window(path / f"{row // 2}/{row % 2}/video")
        expected = window(files[row])
        np.testing.assert_array_equal(found.video, expected.video)
        np.testing.assert_array_equal(found.audio, expected.audio)
        assert probe(path / f"{row // 2}/{row % 2}/video") == probe(files[row])
    assert not np.array_equal(window(files[0]).audio, window(files[4]).audio)


def test_only_paths_into_parquet_files_are_cells(tmp_path: Path) -> None:
    assert cells_of("a/b.parquet/3/17/video+audio") == Cells("a/b.parquet", 3, 17, "video", "audio")
    assert str(cells_of(Path("a/b.parquet/3/17/video"))) == "a/b.parquet/3/17/video"
    for other in ("a.parquet", "a.parquet/x/1/video", "a.parquet/0/1/vi deo", "a/0/1/video",
                  "a.parquet/0/1/video+", "a.parquet/0/-1/video", b"x.parquet/0/1/video",
                  3):  # fmt: skip
        assert cells_of(other) is None
    (tmp_path / "spark.parquet/0/1").mkdir(parents=True)
    (tmp_path / "spark.parquet/0/1/video").write_bytes(b"a file in folders that are called so")
    assert cells_of(tmp_path / "spark.parquet/0/1/video") is None


@pytest.mark.parametrize("begins", [0.0, 0.48])
def test_separate_audio_begins_with_the_frames(begins: float, tmp_path: Path) -> None:
    # mpeg4: x264 gives other bytes for the same frames now and then.
    both = media(tmp_path, "both.mov", video_codec="mpeg4", audio_codec="pcm_s16le")
    bare = media(tmp_path, "bare.mov", video_codec="mpeg4", audio_codec=None,
                 video_start_seconds=begins,
                 events_seconds=(0.4 + begins, 1.2 + begins))  # fmt: skip
    row = parquet(tmp_path / "x.parquet", {"video": structs(bare), "audio": structs(wav())})
    path = row / "0/0/video+audio"
    found, expected = window(path), window(both)
    np.testing.assert_array_equal(found.video, expected.video)
    np.testing.assert_allclose(found.pts_seconds, expected.pts_seconds, atol=6e-4)
    video, audio = probe(path)
    assert video is not None
    assert audio is not None
    assert (audio.codec, audio.rate_hz) == ("pcm_s16le", 48_000)
    assert audio.start_seconds == pytest.approx(video.start_seconds, abs=1e-3)
    assert audio.duration_seconds == pytest.approx(2, abs=1e-3)
    heard = decode_clip(path, start_seconds=0, duration_seconds=2.0, num_frames=2,
                        sample_rate=48_000)  # fmt: skip
    np.testing.assert_allclose(beep_times(heard.audio, 48_000), [0.4, 1.2], atol=1e-3)
    with as_file(path, Limits()) as one:
        first = hashlib.sha256(Path(one).read_bytes()).digest()
    with as_file(path, Limits()) as one:
        assert hashlib.sha256(Path(one).read_bytes()).digest() == first
    with pytest.raises(NoAudioStreamError):
        window(row / "0/0/video")


def test_a_file_with_audio_keeps_its_own(files: list[bytes], tmp_path: Path) -> None:
    row = parquet(
        tmp_path / "x.parquet", {"video": structs(*files[:2]), "audio": structs(wav(9), None)}
    )
    for number in (0, 1):
        found = media_in_parquet(Cells(str(row), 0, number, "video", "audio"), Limits())
        assert (found.data, found.is_joined) == (files[number], False)


@pytest.mark.parametrize(
    ("name", "audio", "error", "says"),
    [
        ("bare.mov", wav(9), UnsupportedMediaError, "lasts 9.00 s, its video 2.00 s"),
        ("bare.avi", wav(), UnsupportedMediaError, "carry no times"),
        ("bare.mov", b"RIFF nonsense", MediaOpenError, "cannot be opened"),
        ("bare.mov", b"#EXTM3U\nfile:///etc/passwd\n", MediaOpenError, "cannot be opened"),
    ],
)
def test_audio_that_does_not_belong_is_refused(
    name: str, audio: bytes, error: type[ClipError], says: str, tmp_path: Path
) -> None:
    bare = media(tmp_path, name, audio_codec=None)
    row = parquet(tmp_path / "x.parquet", {"video": structs(bare), "audio": structs(audio)})
    with pytest.raises(error, match=says) as raised:
        window(row / "0/0/video+audio")
    assert raised.value.path == str(row / "0/0/video+audio")


def test_what_is_no_row_names_file_and_row(files: list[bytes], tmp_path: Path) -> None:
    path = parquet(
        tmp_path / "x.parquet",
        {"video": structs(files[0], None, b"no media"), "text": ["a"] * 3, "many": [[b"a"]] * 3},
    )
    cut = tmp_path / "cut.parquet"
    cut.write_bytes(path.read_bytes()[:-9])
    (tmp_path / "text.parquet").write_text("PAR1")
    damaged = bytearray(path.read_bytes())
    damaged[60:400] = bytes(340)
    (tmp_path / "damaged.parquet").write_bytes(damaged)
    for name, error, says in (
        ("x.parquet/0/1/video", MediaOpenError, "column video has no bytes in this row"),
        ("x.parquet/1/0/video", MediaOpenError, "cannot be opened as media"),
        ("x.parquet/1/1/video", MediaOpenError, "row group 1 has 1 rows"),
        ("x.parquet/2/0/video", MediaOpenError, "the file has 2 row groups"),
        ("x.parquet/0/0/vidoe", MediaOpenError, "no column 'vidoe' of bytes"),
        ("x.parquet/0/0/text", MediaOpenError, "no column 'text' of bytes"),
        ("x.parquet/0/0/many", MediaOpenError, "no column 'many' of bytes"),
        ("cut.parquet/0/0/video", MediaOpenError, "is no Parquet file"),
        ("text.parquet/0/0/video", MediaOpenError, "is no Parquet file"),
        ("damaged.parquet/0/0/video", DecodeError, "column video cannot be read"),
    ):
        with pytest.raises(error, match=says) as raised:
            window(tmp_path / name)
        assert name.split("/")[0] in raised.value.path
    with pytest.raises(FileNotFoundError):
        window(tmp_path / "none.parquet/0/0/video")
    with pytest.raises(UnsupportedMediaError, match="more than the limit"):
        decode_clip(path / "0/0/video", start_seconds=0, duration_seconds=1, num_frames=1,
                    limits=Limits(max_source_bytes=1000))  # fmt: skip
    window(path / "0/0/video")  # an error before leaves nothing behind


def test_damaged_parquet_never_gives_other_bytes(files: list[bytes], tmp_path: Path) -> None:
    path = parquet(tmp_path / "x.parquet", {"video": structs(*files)})
    data, draw = path.read_bytes(), random.Random(0)
    good = {hashlib.sha256(file).digest() for file in files}
    for number in range(60):
        changed = bytearray(data)
        for _ in range(20):  # in the header at the end, where offsets and sizes are
            changed[-draw.randrange(1, 900)] = draw.randrange(256)
        (tmp_path / f"{number}.parquet").write_bytes(changed)
        try:
            found = media_in_parquet(
                Cells(str(tmp_path / f"{number}.parquet"), 1, 1, "video"), Limits()
            )
        except (ClipError, OSError):
            continue
        assert hashlib.sha256(found.data).digest() in good


def copy_of_hub(root: Path, files: list[bytes]) -> Path:
    """Two splits, numbers with names in the header, one file without audio and one without any."""
    root.mkdir()
    bare = media(root, "bare.mov", audio_codec=None)
    (root / "bare.mov").unlink()
    feature = {"label": {"names": ["wave", "clap"], "_type": "ClassLabel"}}
    note = {"info": {"features": feature}}
    train = {"video": structs(*files[:3], bare, None), "label": [0, 1, 0, 1, 1],
             "audio": structs(wav(), None, wav(9), wav(), None)}  # fmt: skip
    parquet(root / "data/train-00000-of-00001.parquet", train, note=note)
    test = {"video": structs(*files[3:]), "label": [1, 0], "audio": structs(None, None)}
    parquet(root / "data/test-00000-of-00001.parquet", test, note=note)
    return root


def avmix(*words: object) -> None:
    main([str(word) for word in words])


def prepared(root: Path, out: Path) -> None:
    avmix("prepare", "hub", "--root", root, "--out", out, "--workers", "1")


def test_the_recipe_ends_in_a_manifest_that_is_read(
    files: list[bytes], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = copy_of_hub(tmp_path / "copy", files)
    out = tmp_path / "out"
    prepared(root, out)
    train, test = (read_manifest(out, split) for split in ("train", "test"))
    assert train.classes == ("wave", "clap")
    assert train.protocol == "hub/copy"
    name = "data/train-00000-of-00001.parquet"
    assert [(e.path, e.labels) for e in train.entries] == [
        (f"{name}/0/0/video+audio", ("wave",)),
        (f"{name}/0/1/video+audio", ("clap",)),
        (f"{name}/1/0/video+audio", ("wave",)),
        (f"{name}/1/1/video+audio", ("clap",)),
    ]
    assert [e.sha256 for e in test.entries] == [hashlib.sha256(f).hexdigest() for f in files[3:]]
    assert [e.bytes for e in test.entries] == [len(f) for f in files[3:]]
    assert [e.audio is not None and e.audio.codec for e in train.entries] == [
        "aac", "aac", "aac", "pcm_s16le"]  # fmt: skip
    counts = json.loads((out / "inventory.json").read_bytes())["counts"]
    assert (counts["found"], counts["unreadable"], counts["kept_separate_audio"]) == (6, 1, 1)
    (bad,) = map(json.loads, (out / "excluded.jsonl").read_text().splitlines())
    assert (bad["clip_id"], bad["status"]) == (f"{name}/2/0", "unreadable")
    assert bad["reason"] == "column video has no bytes in this row"
    for entry in (*train.entries, *test.entries):
        report = examine(Task(path=str(root / entry.path), seconds=60.0, entries=(entry,)))
        assert report.path == str(root / entry.path)
        assert not [f for f in report.findings if f.level == "error"], report.findings
        assert not fingerprint_of(root, entry).problem
        assert np.abs(audio_of(root, entry, 16_000)).max() > 0.1
    capsys.readouterr()
    prepared(root, out)
    assert "7 known from before" in capsys.readouterr().out


def asked(root: Path, *words: str) -> Any:
    from argparse import ArgumentParser

    parser = ArgumentParser()
    hub.arguments(parser)
    found = parser.parse_args(words)
    found.media = root
    return found


def test_labels_splits_and_sources_of_other_copies(tmp_path: Path) -> None:
    video = structs(b"a", b"b", b"c")
    parquet(tmp_path / "train/0000.parquet", {"video": video, "action": ["b", "a", None],
                                              "who": ["x", "y", "y"]})  # fmt: skip
    parquet(tmp_path / "validation-0.parquet", {"video": video, "action": [["a", "b"]] * 3,
                                                "who": ["z", None, "x"]})  # fmt: skip
    whole, apart = hub.protocols(asked(tmp_path, "--source-column", "who"))
    assert whole.classes == ("a", "b")
    assert [(c.split, c.labels, c.source_id) for c in whole.expected] == [
        ("train", ("b",), "x"),
        ("train", ("a",), "y"),
        ("val", ("a", "b"), "z"),
        ("val", ("a", "b"), "validation-0.parquet/0/1"),
        ("val", ("a", "b"), "x"),
    ]
    assert [p.where for p in whole.problems] == ["train/0000.parquet: row 0 of row group 1"]
    assert apart.name.endswith("/disjoint")
    (named,) = hub.protocols(asked(tmp_path, "--source", r"v_\w_(g\d)"))
    assert {c.source_id for c in named.expected} == {"g0"}


@pytest.mark.parametrize(
    ("columns", "name", "words", "says"),
    [
        ({"label": ["a"]}, "test.parquet", (), "no column 'video' of bytes"),
        ({"video": structs(b"a")}, "test.parquet", (), "--label-column"),
        ({"video": structs(b"a"), "label": ["a"]}, "0000.parquet", (), "train, val or test"),
        ({"video": structs(b"a"), "label": ["a"], "audio": ["x"]}, "test.parquet", (),
         "no column 'audio' of bytes"),
        ({"video": structs(b"a"), "label": ["a"]}, "test.parquet", ("--source", "xyz"),
         "does not match"),
        ({"video": structs(b"a"), "label": ["a"]}, "test.parquet", ("--video-column", "a/b"),
         "letters, digits"),
        ({"video": structs(b"a"), "label": ["a"]}, "test.parquet", ("--snapshot", "a/b@main"),
         "40 hex digits"),
    ],
)  # fmt: skip
def test_copies_that_cannot_be_used_say_why(
    columns: Any, name: str, words: tuple[str, ...], says: str, tmp_path: Path
) -> None:
    parquet(tmp_path / name, columns)
    with pytest.raises(hub.AnnotationError, match=says):
        hub.protocols(asked(tmp_path, *words))


def test_numbers_without_names_are_said(tmp_path: Path) -> None:
    columns = {"video": structs(b"a", b"b", b"c"), "label": [10, 2, 2]}
    parquet(tmp_path / "test.parquet", columns)
    (found,) = hub.protocols(asked(tmp_path))
    assert found.classes == ("2", "10")
    assert [p.reason for p in found.problems] == [
        "the files do not say what the numbers of the classes mean: they are called by them"
    ]


def test_the_card_has_every_heading() -> None:
    card, other = (
        [
            x
            for x in (ROOT / f"datasets/{name}/README.md").read_text().splitlines()
            if x[:3] == "## "
        ]
        for name in ("hub", "ucf101")
    )
    assert card == other


@pytest.mark.long
def test_training_evaluation_and_features_read_a_copy(files: list[bytes], tmp_path: Path) -> None:
    root, out, run = copy_of_hub(tmp_path / "copy", files), tmp_path / "out", tmp_path / "run"
    prepared(root, out)
    data = ("--data.root", root, "--data.manifest", out)
    small = ("--optim.epochs", "1", "--optim.batch_size", "2", "--clip.duration_seconds", "1",
             "--clip.num_frames", "2", "--clip.short_side", "48", "--clip.crop", "32",
             "--run.threads", "1", "--data.num_workers", "1", "--data.val_split", "",
             "--mix.ramp_epochs", "0")  # fmt: skip
    avmix("train", "--config", ROOT / "configs/own_scratch.yaml", *data, *small,
                 "--run.out", run)  # fmt: skip
    avmix("evaluate", "--checkpoint", run)
    result = json.loads((run / "eval_test/result.json").read_bytes())
    assert result["num_evaluated"] == 2
    assert result["num_missing"] == 0
    avmix("doctor", out, "--root", root)
