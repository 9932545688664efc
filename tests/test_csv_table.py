"""A table of clips: what is read of it, and every mistake in one is named."""

import json

import pytest
from media import write_flash_beep

from avmix.config import DataConfig
from avmix.data.manifest import ManifestError, read_manifest
from avmix.prepare.csv_table import Row, Table, prepare_table, read_table

TABLE = """path,class,group,split1
a/1.mp4,clap,g1,train
a/2.mp4,clap,g2,test
b/3.mp4,drum,g1,train
b/4.mp4,drum,g9,unused
"""


def config_of(root, text: str | bytes, **changes) -> DataConfig:
    content = text if isinstance(text, bytes) else text.encode()
    (root / "clips.csv").write_bytes(content)
    options = {"table_label": "class", "table_split": "split1", "table_source": ["class", "group"]}
    return DataConfig(root=str(root), table="clips.csv", **{**options, **changes})


ROWS = (
    Row(path="a/1.mp4", label="clap", split="train", source_id="clap/g1"),
    Row(path="a/2.mp4", label="clap", split="test", source_id="clap/g2"),
    Row(path="b/3.mp4", label="drum", split="train", source_id="drum/g1"),
)


@pytest.mark.parametrize(
    "text",
    [
        TABLE,
        "\ufeff" + TABLE,  # as spreadsheets write it
        TABLE.replace("\n", "\r\n"),
        TABLE.replace(",clap,", " , clap , ").replace("train\n", " train \n"),
        TABLE.replace("a/1.mp4", '"a/1.mp4"') + "\n\n",
        TABLE.replace(",", ";"),
        "sep=|\n" + TABLE.replace(",", "|"),
        TABLE.encode("utf-16"),
        TABLE.replace("train\n", "Training\n").replace("path,", "Path,"),
        TABLE.replace("a/", "./a/"),
        TABLE.replace("\n", ",,\n"),
    ],
    ids=[
        "plain",
        "byte order mark",
        "line ends",
        "spaces",
        "quotes",
        "semicolons",
        "sep",
        "utf-16",
        "words",
        "here",
        "empty columns",
    ],
)
def test_the_rows_of_a_split_are_read(tmp_path, text):
    assert read_table(config_of(tmp_path, text)) == Table(rows=ROWS, problems=())


def test_sources_are_made_of_the_columns_that_are_named(tmp_path):
    rows = read_table(config_of(tmp_path, TABLE, table_source=["group"])).rows
    assert [row.source_id for row in rows] == ["g1", "g2", "g1"]


def test_a_missing_table_is_named(tmp_path):
    with pytest.raises(ManifestError, match=r"nothing\.csv: not found; data\.root or data\.table"):
        read_table(DataConfig(root=str(tmp_path), table="nothing.csv"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"clips\.csv: the file is empty"),
        (
            TABLE.replace("path,", "file,"),
            r"no column 'path'; its first line is: file,class,group,",
        ),
        (TABLE.replace("group,", "person,"), "no column 'group'"),
        (TABLE.replace(",split1", ",split2"), "no column 'split1'"),
        (TABLE.replace("train", "one").replace("test", "2"), "no row says train, val, test in"),
        (
            "path,class,group,split1\n,clap,g1,train\n",
            r"in column 'split1'\n  clips.csv:2: path is",
        ),
    ],
)
def test_a_table_of_which_nothing_can_be_used_is_refused(tmp_path, text, message):
    with pytest.raises(ManifestError, match=message):
        read_table(config_of(tmp_path, text))


@pytest.mark.parametrize(
    ("text", "problem", "num_rows"),
    [
        (TABLE.replace("drum,g1", "drum,"), r"clips.csv:4: group is empty", 2),
        (TABLE.replace("a/2.mp4", " "), "clips.csv:3: path is empty", 2),
        (
            TABLE.replace(",g2,test", ""),
            "clips.csv:3: 2 cells; expected are: path, class, group",
            2,
        ),
        (
            TABLE.replace("a/2.mp4", "/elsewhere/2.mp4"),
            "clips.csv:3: '/elsewhere/2.mp4' does not",
            2,
        ),
        (TABLE.replace("a/2.mp4", "../2.mp4"), "clips.csv:3: '../2.mp4' does not lie below", 2),
        (TABLE.replace("a/2.mp4", '"a/2.mp4'), "clips.csv:3: not a row of a CSV", 2),
    ],
)
def test_a_row_that_cannot_be_used_is_named_by_its_line(tmp_path, text, problem, num_rows):
    read = read_table(config_of(tmp_path, text))
    assert len(read.rows) == num_rows
    assert len(read.problems) == 1
    assert read.problems[0].startswith(problem)


def test_a_table_of_another_encoding_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"clips\.csv"):
        read_table(config_of(tmp_path, TABLE.replace("clap", "kläpp").encode("latin-1")))


@pytest.fixture
def table_with_a_bad_file(tmp_path):
    """Two clips that can be read and one that cannot; all of one class."""
    for path in ("a/1.mp4", "a/2.mp4"):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        write_flash_beep(tmp_path / path, seconds=1, events_seconds=(0.4,), size=(80, 48))
    (tmp_path / "b").mkdir()
    (tmp_path / "b/3.mp4").write_bytes(b"not a video")
    return TABLE.replace("b/3.mp4,drum", "b/3.mp4,clap")


def test_a_table_becomes_a_manifest_once(tmp_path, table_with_a_bad_file):
    text = table_with_a_bad_file + "a/4.mp4,,g1,train\n"
    changes = {"manifest": str(tmp_path / "m"), "max_bad_share": 0.5}
    config = config_of(tmp_path, text, **changes)
    prepare_table(config)
    train = read_manifest(tmp_path / "m", "train")
    assert (train.classes, len(train.entries)) == (("clap",), 1)
    assert train.entries[0].source_id == "clap/g1"
    assert train.entries[0].duration_seconds == pytest.approx(1.0)
    excluded = (tmp_path / "m/excluded.jsonl").read_text().splitlines()
    reasons = [json.loads(line)["reason"] for line in excluded]
    assert [json.loads(line)["path"] for line in excluded] == ["", "b/3.mp4"]
    assert reasons[0] == "clips.csv:6: class is empty"

    before = (tmp_path / "m/dataset.json").stat().st_mtime_ns
    prepare_table(config)
    assert (tmp_path / "m/dataset.json").stat().st_mtime_ns == before
    with pytest.raises(ManifestError, match=r"was not made from .* as it is now"):
        prepare_table(config_of(tmp_path, text.replace("g2", "g3"), **changes))


@pytest.mark.slow  # the processes that probe start with importing torch
def test_too_many_files_that_cannot_be_used_stop_it(tmp_path, table_with_a_bad_file):
    config = config_of(tmp_path, table_with_a_bad_file, manifest=str(tmp_path / "m"),
                       max_bad_share=0.3)  # fmt: skip
    with pytest.raises(ManifestError, match=r"1 of 3 files cannot be used(?s:.*)b/3\.mp4: Media"):
        prepare_table(config)
    assert not (tmp_path / "m").exists()
