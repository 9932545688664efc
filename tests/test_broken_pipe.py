"""Whoever reads a command's output may leave: `avmix ... | head` ends without a word."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from avmix.cli import main
from avmix.prepare.command import run_recipe
from avmix.system.broken_pipe import readers_may_leave
from tests.recipes_media import load_recipe


@contextmanager
def nobody_reads(buffering: int) -> Iterator[None]:
    """The standard output is a pipe that was left; with `buffering` 1 each line is written."""
    reads, writes = os.pipe()
    os.close(reads)
    usual, sys.stdout = sys.stdout, os.fdopen(writes, "w", buffering=buffering)
    try:
        yield
    finally:
        with suppress(BrokenPipeError):
            sys.stdout.close()
        sys.stdout = usual


def download(folder: Path) -> None:
    (folder / "list").write_text("http://127.0.0.1:9/x\tx.mp4\n")
    main(["download", "--list", str(folder / "list"), "--out", str(folder), "--dry-run"])


def recipe(folder: Path) -> None:
    (folder / "media/x").mkdir(parents=True)
    (folder / "media/x/a.mp4").write_bytes(b"no video")
    found = load_recipe("folder")
    argv = ["--root", str(folder / "media"), "--out", str(folder / "out"), "--dry-run"]
    run_recipe("folder", "", found.protocols, arguments=found.arguments, argv=argv)


@pytest.mark.parametrize("buffering", [1, -1], ids=["at_each_line", "at_the_end"])
@pytest.mark.parametrize("command", [download, recipe])
def test_a_command_does_not_blame_its_files(
    command: Callable[[Path], None],
    buffering: int,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as end, nobody_reads(buffering):
        command(tmp_path)
    assert end.value.code == 141
    assert not capsys.readouterr().err


def test_the_interpreter_says_nothing_at_its_end() -> None:
    reads, writes = os.pipe()
    os.close(reads)
    code = "from avmix.cli import main; main(['--help'])"
    done = subprocess.run([sys.executable, "-c", code], stdout=writes, stderr=subprocess.PIPE)
    os.close(writes)
    assert (done.returncode, done.stderr) == (141, b"")


def test_other_broken_pipes_are_errors(tmp_path: Path) -> None:
    reads, writes = os.pipe()
    os.close(reads)
    with pytest.raises(BrokenPipeError), readers_may_leave():
        os.write(writes, b"x")  # as to a program that has ended
    os.close(writes)
