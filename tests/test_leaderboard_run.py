"""Runs of a protocol, as real processes: killed and continued, failing in part, on a cluster."""

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from avmix.leaderboard.admission import admit
from avmix.leaderboard.card import PROTOCOLS
from avmix.leaderboard.result import result_files

pytestmark = pytest.mark.slow
COMMAND = [sys.executable, "-m", "avmix", "leaderboard"]


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *words], capture_output=True, text=True)


def smoke(root: Path, work: Path, *more: str) -> list[str]:
    return ["run", "toy/smoke", "--seeds", "0", "--root", str(root), "--work", str(work), *more]


def table(work: Path) -> list[dict]:
    """Figures of all rows, without what differs between any two runs: times and hashes."""
    done = run("table", "toy/smoke", "--format", "json", "--results", str(work / "results"))
    assert done.returncode == 0, done.stderr
    (found,) = json.loads(done.stdout)
    return [{k: row[k] for k in ("method", "figures", "differences")} for row in found["rows"]]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The toy clips, and the work of an uninterrupted run."""
    folder = tmp_path_factory.mktemp("whole")
    done = run(*smoke(folder / "toy", folder / "work"))
    assert done.returncode == 0, done.stderr
    return folder / "toy", folder / "work"


def test_a_run_that_is_killed_again_and_again_gives_the_same_table(
    whole: tuple[Path, Path], tmp_path: Path
) -> None:
    root, work = whole
    draw, killed = random.Random(4), tmp_path / "work"
    for number in range(2):
        began = time.perf_counter()
        child = subprocess.Popen([*COMMAND, *smoke(root, killed)])
        # Once during the first cell, once in the middle of whatever is next.
        started = killed / "cells/toy/smoke/default/none/only-seed0/log.txt"
        while not started.exists() and child.poll() is None:
            time.sleep(0.01)
        try:
            child.wait(draw.uniform(0.5, 12))
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
        assert number or time.perf_counter() - began > 0.5
    assert len(result_files(killed / "results")) < 2  # it was killed before its end
    done = run(*smoke(root, killed))
    assert done.returncode == 0, done.stderr
    assert table(killed) == table(work)
    paths = result_files(killed / "results")
    assert [p.name for p in paths] == ["mixup.json", "none.json"]
    for path in paths:
        admit(path)
    done = run(*smoke(root, killed))
    assert "0 cells done, 2 before" in done.stdout


def test_a_cell_that_fails_is_named_and_the_others_finish(
    whole: tuple[Path, Path], tmp_path: Path
) -> None:
    root, _ = whole
    (tmp_path / "toy").mkdir()
    text = (PROTOCOLS / "toy/smoke.yaml").read_text()
    broken = "methods:\n  broken: {options: {mix.method: none, loss.class_weights: nowhere.json}}\n"
    (tmp_path / "toy/smoke.yaml").write_text(text.replace("methods:\n", broken))
    work = tmp_path / "work"
    done = run("--protocols", str(tmp_path), *smoke(root, work, "--methods", "broken", "none",
                                                     "--jobs", "2"))  # fmt: skip
    assert done.returncode == 1
    assert "failed: toy/smoke/default/broken/only-seed0: training ended with exit code 1" in (
        done.stderr
    )
    assert "nowhere.json" in done.stderr
    assert "1 cells done, 0 before, 1 failed" in done.stdout
    assert [path.stem for path in result_files(work / "results")] == ["none"]


def test_nobody_trains_on_when_the_command_is_killed(
    whole: tuple[Path, Path], tmp_path: Path
) -> None:
    root, _ = whole
    child = subprocess.Popen([*COMMAND, *smoke(root, tmp_path / "work")])
    lock = tmp_path / "work/cells/toy/smoke/default/none/only-seed0/run/run.lock"
    while not lock.exists() and child.poll() is None:
        time.sleep(0.01)
    pid = json.loads(lock.read_text())["pid"]
    child.kill()
    child.wait()
    until = time.monotonic() + 30
    while time.monotonic() < until:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        time.sleep(0.05)
    pytest.fail(f"process {pid} trains on")


def test_the_epoch_that_the_test_split_chose_is_marked(
    whole: tuple[Path, Path], tmp_path: Path
) -> None:
    root, _ = whole
    work = tmp_path / "work"
    done = run(*smoke(root, work, "--variant", "oracle", "--methods", "none"))
    assert done.returncode == 0, done.stderr
    (path,) = result_files(work / "results")
    result = admit(path).result
    assert result.selection == "oracle on test"
    assert result.leaks == ("The epoch is chosen on the test split",)
    curve = result.runs[0].curves["val.top1"]
    assert len(curve) == 2
    told = run("table", "--results", str(work / "results"))
    assert "epoch chosen on the test split" in told.stdout


def test_a_cluster_gives_the_same_predictions(whole: tuple[Path, Path], tmp_path: Path) -> None:
    pytest.importorskip("ray")
    root, work = whole
    there = tmp_path / "work"
    done = run(*smoke(root, there, "--methods", "none", "--ray", "local"))
    assert done.returncode == 0, done.stderr
    (path,) = result_files(there / "results")
    mine, theirs = (admit(p).result.runs[0] for p in (work / "results/toy/smoke/default/none.json",
                                                      path))  # fmt: skip
    assert mine.figures == theirs.figures
