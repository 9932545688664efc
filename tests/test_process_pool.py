"""Work in processes that die: what they worked on is a failure, everything else a result."""

import importlib
import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest

from avmix.isolate.process_pool import CannotStart, Failure, held_up, run_each


def act(task: str) -> str:
    """Runs in the child: `ok`, `pid`, `hang`, `raise`, `die`, `die_second` ..."""
    word, _, rest = task.partition(" ")
    if word == "hang":
        time.sleep(60)
    if word == "raise":
        raise ValueError(rest)
    if word == "die":
        os.kill(os.getpid(), signal.SIGSEGV)
    if word in ("killed", "stop", "segv"):  # as often as `times` says, or always
        path, _, times = rest.partition(" ")
        with open(path, "ab") as file:
            file.write(b".")
        if not times or os.path.getsize(path) <= int(times):
            number = {"killed": signal.SIGKILL, "stop": signal.SIGSTOP, "segv": signal.SIGSEGV}
            os.kill(os.getpid(), number[word])
    if word == "leave":  # as a decoder that a damaged file has left broken
        os.environ["BROKEN"] = "1"
    if word == "fragile" and "BROKEN" in os.environ:
        os._exit(3)
    return f"{word} {os.getpid()}" if word == "pid" else word


def outcomes(tasks: list[str], **options) -> list:
    options = {
        "workers": 1,
        "seconds": lambda task: 20.0,
        "preload": ("avmix.isolate.process_pool",),
    } | options
    found = dict(run_each(act, tasks, **options))
    assert not multiprocessing.active_children()
    return [found[index] for index in range(len(tasks))]


@pytest.mark.parametrize("per_process", [1, 10])
def test_failures_are_results_and_nothing_else_is_lost(per_process: int) -> None:
    found = outcomes(
        ["ok", "raise no", "die", "ok", "hang", "ok"],
        seconds=lambda task: 0.3 if task == "hang" else 20.0,
        per_process=per_process,
    )
    assert found == [
        "ok",
        Failure("failed", "ValueError: no"),
        Failure("crashed", "killed by SIGSEGV while it was read"),
        "ok",
        Failure("time_limit", "not finished within 0.3 s"),
        "ok",
    ]


def test_a_process_does_as_many_tasks_as_it_may() -> None:
    assert len(set(outcomes(["pid"] * 6, per_process=3))) == 2
    assert len(set(outcomes(["pid"] * 3))) == 3


def test_no_file_pays_for_what_another_left_behind() -> None:
    assert outcomes(["leave", "fragile", "ok"], per_process=10) == ["leave", "fragile", "ok"]


def test_what_is_not_the_fault_of_a_task_is_told_apart(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert outcomes([f"killed {tmp_path / 'killed'}"])[0].passing  # as for want of memory
    assert (tmp_path / "killed").stat().st_size == 10
    assert not outcomes([f"segv {tmp_path / 'segv'}"])[0].passing
    assert (tmp_path / "segv").stat().st_size == 2  # alone, and twice
    monkeypatch.setattr("avmix.isolate.process_pool.START_SECONDS", 0.0)
    assert outcomes(["hang"]) == [Failure("time_limit", "not begun within 0 s", passing=True)]


@pytest.mark.parametrize(("word", "times"), [("killed", 4), ("stop", 2), ("segv", 1)])
def test_a_task_that_succeeds_in_the_end_was_not_at_fault(
    tmp_path: Path, word: str, times: int
) -> None:
    seconds = 0.5 if word == "stop" else 20.0
    assert outcomes(
        ["ok", f"{word} {tmp_path / word} {times}"], seconds=lambda _: seconds, per_process=9
    ) == ["ok", word]
    assert (tmp_path / word).stat().st_size == times + 1


def test_a_process_that_could_not_work_is_told_from_one_that_did() -> None:
    context = multiprocessing.get_context("fork")
    process = context.Process(target=_spin)
    process.start()
    assert process.pid
    try:
        while held_up(process.pid, 0.2):  # it wants to run and hardly did yet
            pass
        assert not held_up(process.pid, 0.2)
        assert held_up(process.pid, 1e6)
        os.kill(process.pid, signal.SIGSTOP)
        os.waitpid(process.pid, os.WUNTRACED)
        assert held_up(process.pid, 0.2)
    finally:
        process.kill()
        process.join()
    assert not held_up(process.pid, 0.2)  # nothing is known of it


def _spin() -> None:
    while True:
        pass


def test_processes_that_never_begin_are_not_the_fault_of_a_task(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    module = tmp_path / "vanishing.py"
    module.write_text("def work(task):\n    return task\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("sys.dont_write_bytecode", True)
    work = importlib.import_module("vanishing").work
    module.unlink()  # so that no child can import it
    said = "no process can start, the last because the process ended with code 1 before"
    with pytest.raises(CannotStart, match=said):
        list(run_each(work, ["a", "b"], workers=2, seconds=lambda task: 20.0,
                      preload=("avmix.isolate.process_pool",)))  # fmt: skip
    assert not multiprocessing.active_children()


def test_closing_kills_what_runs() -> None:
    running = run_each(act, ["ok", *["hang"] * 3], workers=3, seconds=lambda task: 60.0,
                       preload=("avmix.isolate.process_pool",))  # fmt: skip
    assert next(running) == (0, "ok")
    running.close()
    assert not multiprocessing.active_children()


def test_nothing_to_do_starts_nothing() -> None:
    assert outcomes([]) == []
