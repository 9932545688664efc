"""A folder is held by one process, and by none that is gone."""

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from avmix.training.run_lock import NAME, LockedError, run_folder_lock

HOLD = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
import importlib.util
path = Path(sys.argv[2]) / "avmix/training/run_lock.py"
spec = importlib.util.spec_from_file_location("lock", path)
lock = importlib.util.module_from_spec(spec)
spec.loader.exec_module(lock)
with lock.run_folder_lock(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""
ROOT = Path(__file__).parents[1]


def holder(folder: Path) -> "subprocess.Popen[str]":
    """A process that holds `folder` until its input ends."""
    command = [sys.executable, "-c", HOLD, str(folder), str(ROOT)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_the_owner_is_named_while_it_works_and_nothing_is_left_of_it(tmp_path):
    folder = tmp_path / "new"
    with holder(folder) as process:
        owner = json.loads((folder / NAME).read_text())
        assert owner == {"host": socket.gethostname(), "pid": process.pid}
        message = rf"new: process {process.pid} on {socket.gethostname()} is running in it"
        with pytest.raises(LockedError, match=message), run_folder_lock(folder):
            pass
        assert json.loads((folder / NAME).read_text()) == owner  # the one who failed left it
        process.communicate("")
    assert process.returncode == 0
    assert not folder.exists()
    with run_folder_lock(folder):
        assert json.loads((folder / NAME).read_text())["pid"] == os.getpid()
        (folder / "kept").touch()
    assert [path.name for path in folder.iterdir()] == ["kept"]


def test_where_an_open_file_cannot_be_deleted_it_is_closed_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on Windows: `os.unlink` refuses what this process has open."""
    unlink = os.unlink

    def refusing(path: Path, **options: Any) -> None:
        for number in Path("/proc/self/fd").iterdir():
            if number.is_symlink() and os.readlink(number) == str(path):
                raise PermissionError(13, "in use", str(path))
        unlink(path, **options)

    monkeypatch.setattr(os, "unlink", refusing)
    folder = tmp_path / "run"
    with run_folder_lock(folder), pytest.raises(PermissionError):
        (folder / NAME).unlink()
    assert not folder.exists()


def test_what_a_killed_process_left_is_taken_over(tmp_path):
    with holder(tmp_path) as process:
        process.send_signal(signal.SIGKILL)
    assert json.loads((tmp_path / NAME).read_text())["pid"] == process.pid
    with run_folder_lock(tmp_path):
        assert json.loads((tmp_path / NAME).read_text())["pid"] == os.getpid()


def test_a_process_number_that_another_program_has_now_does_not_hold(tmp_path):
    # Process 1 lives, but it is not who wrote this: it does not hold the file.
    (tmp_path / NAME).write_text(json.dumps({"host": socket.gethostname(), "pid": 1}))
    with run_folder_lock(tmp_path):
        pass


def test_of_another_host_only_a_person_knows(tmp_path):
    text = json.dumps({"host": "elsewhere", "pid": 7})
    (tmp_path / NAME).write_text(text)
    with (
        pytest.raises(LockedError, match=r"process 7 on elsewhere .* if it is gone, delete .*lock"),
        run_folder_lock(tmp_path),
    ):
        pass
    assert (tmp_path / NAME).read_text() == text
    (tmp_path / NAME).unlink()
    with run_folder_lock(tmp_path):
        pass


@pytest.mark.parametrize("text", ["", "{", "[]", '{"host": 3}'])
def test_a_file_that_says_nothing_is_taken_over(tmp_path, text):
    (tmp_path / NAME).write_text(text)
    with run_folder_lock(tmp_path):
        pass


def test_it_ends_with_an_error_too(tmp_path):
    with pytest.raises(KeyError), run_folder_lock(tmp_path):
        raise KeyError
    with run_folder_lock(tmp_path):
        pass


def test_one_process_does_not_take_it_twice(tmp_path):
    own = str(os.getpid())
    with (
        run_folder_lock(tmp_path),
        pytest.raises(LockedError, match=own),
        run_folder_lock(tmp_path),
    ):
        pass
