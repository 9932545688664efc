"""Paths that people give: their home, and outputs that are checked before any work is done."""

import os
from pathlib import Path

import pytest

from avmix.cli import main
from avmix.config import EvalConfig, TrainConfig, load_config
from avmix.prepare.command import run_recipe
from avmix.system.paths import home, unmakable, unwritable, with_home
from tests.mini_recipe import protocols


@pytest.fixture
def at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_home_is_spelled_out_in_every_word(at_home: Path) -> None:
    words = ["--out=~/x", "~/y", "--root", "~", "a~", "-o=~/z", "--lam=0.5", "~~none"]
    assert with_home(words) == [f"--out={at_home}/x", f"{at_home}/y", "--root", str(at_home), "a~",
                                f"-o={at_home}/z", "--lam=0.5", "~~none"]  # fmt: skip
    assert home("") == ""


def test_configs_know_the_home_on_the_command_line_and_in_yaml(at_home: Path) -> None:
    (at_home / "c.yaml").write_text("data: {root: ~/clips, table: ~/t.csv, extra: [~/more, b]}\n")
    config = load_config(TrainConfig, ["--config", "~/c.yaml", "--run.out=~/runs/a"])
    assert (config.data.root, config.data.extra) == (f"{at_home}/clips", [f"{at_home}/more", "b"])
    assert (config.run.out, config.data.manifest) == (f"{at_home}/runs/a", "")
    assert config.data.table == f"{at_home}/t.csv"
    config = load_config(EvalConfig, ["--checkpoint=~/runs/a", "--out", "~/e"])
    assert (config.checkpoint, config.out) == (f"{at_home}/runs/a", f"{at_home}/e")


def test_commands_and_recipes_know_the_home(at_home: Path, capsys) -> None:
    (at_home / "list").write_text("")
    with pytest.raises(SystemExit) as end:
        main(["download", "--list=~/list", "--out", "~/out"])
    assert end.value.code == 0
    assert (at_home / "out/download.jsonl").is_file()
    assert run_recipe("mini", "", protocols, argv=["--media=~/none", "--out", "~/o"]) == 1
    assert f"{at_home}/none/list.csv" in capsys.readouterr().err
    assert not (at_home / "~").exists()


def test_where_nothing_can_be_written_is_said(tmp_path: Path) -> None:
    assert unwritable(tmp_path) == "is a folder; name a file"
    assert unwritable(tmp_path / "none/x").endswith("no such folder")
    assert unwritable(tmp_path / "x") == ""
    (tmp_path / "x").write_text("")
    assert unwritable(tmp_path / "x") == ""
    if os.geteuid():  # root may write everywhere
        (tmp_path / "x").chmod(0o400)
        assert "forbid" in unwritable(tmp_path / "x")


def test_where_no_folder_can_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert unmakable(tmp_path) == unmakable(tmp_path / "none/x/y") == ""
    assert unmakable(tmp_path / "file") == "is a file; name a folder"
    assert unmakable(tmp_path / "file/x/y") == f"cannot be written: {tmp_path}/file is a file"
    if os.geteuid():  # root may write everywhere
        tmp_path.chmod(0o500)
        assert "forbid" in unmakable(tmp_path / "x")
        tmp_path.chmod(0o700)


@pytest.mark.parametrize(
    "words",
    [
        ["doctor", "--json", "FOLDER", "a.mp4"],
        ["doctor", "--json", "none/x.json", "a.mp4"],
        ["preview", "a.mp4", "b.mp4", "-o", "FOLDER"],
        ["preview", "a.mp4", "b.mp4", "--save-plan", "FOLDER"],
        ["preview", "a.mp4", "--augment", "{reverse: 1.0}", "-o", "none/x.png"],
        ["leaks", "--root", ".", "--out", "FOLDER"],
        ["events", "--root", ".", "--manifest", "none"],
        ["synth", "repair", "--root", ".", "--out", "FILE"],
        ["synth", "compose", "--background-root", ".", "--out", "FILE/x/y"],
        [
            "synth",
            "external",
            "--root",
            ".",
            "--jobs",
            "x",
            "--command",
            "x",
            "--kind",
            "text-to-video",
            "--out",
            "FILE",
        ],
    ],
)
def test_outputs_are_checked_before_any_file_is_looked_for(words, at_home: Path, capsys) -> None:
    # None of the inputs is there: what is said is of the output.
    (at_home / "FOLDER").mkdir()
    (at_home / "FILE").touch()
    with pytest.raises(SystemExit) as end:
        main(words)
    said = f"{end.value.code} {capsys.readouterr().err}"
    reasons = ("FOLDER is a folder; name a file", "cannot be written", "FILE is a file")
    assert any(reason in said for reason in reasons)
    there = {p.name for p in at_home.iterdir() if not p.name.startswith(".")}  # of libraries
    assert there == {"FOLDER", "FILE"}


@pytest.mark.parametrize(("threads", "rule"), [("100000", "<= 1024"), ("-1", ">= 0")])
def test_no_machine_has_so_many_threads(threads: str, rule: str, capsys) -> None:
    for cls, words in ((TrainConfig, ["--run.threads"]), (EvalConfig, ["--checkpoint", "x",
                                                                       "--threads"])):  # fmt: skip
        with pytest.raises(SystemExit):
            load_config(cls, [*words, threads])
        assert f"threads must be {rule}, got {threads}" in capsys.readouterr().err
