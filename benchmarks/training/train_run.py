"""One run of train.py and eval.py, as a person would start them, and what it says."""

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any, TypeVar

from shared.paths import ROOT

from avmix.system.git_commit import same_code
from avmix.training.chance_level import is_often_at_chance

Job = TypeVar("Job")


def measure(
    out: str,
    arguments: list[str],
    commit: str,
    *,
    to_file: bool = False,
    evaluation: Sequence[str] = (),
) -> dict[str, Any]:
    """Train with `arguments` of train.py into the folder `out`, evaluate, return the figures.

    A run of the same code that was interrupted goes on, one of other code is deleted. `to_file`:
    what the scripts print goes to OUT.log. `evaluation`: options of eval.py. Raises RuntimeError
    where a script fails or the checkout changed meanwhile.
    """
    folder = ROOT / out
    if not all(_same(commit, found) for found in _commits(folder)):
        print(f"{out} is of other code: started from the beginning", flush=True)
        shutil.rmtree(folder)
    script(["train.py", *arguments, "--run.out", out], out, to_file)
    began = time.perf_counter()
    script(["eval.py", "--checkpoint", out, *evaluation], out, to_file)
    eval_seconds = time.perf_counter() - began
    result = json.loads((folder / "eval_test/result.json").read_text())
    for found in {*_commits(folder), result["environment"]["git_commit"]}:
        if found != commit and not _same(commit, found):
            raise RuntimeError(f"{out}: code changed from {commit} to {found} while it ran")
    return figures_of(folder, result, eval_seconds)


def figures_of(folder: Path, result: dict[str, Any], eval_seconds: float) -> dict[str, Any]:
    """What is kept of the run in `folder`, whose evaluation says `result` (result.json)."""
    lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    epochs = [row for row in lines if row["kind"] == "epoch"]
    clips = [row["clips"] for row in result["per_class"]]
    # Medians: an epoch during which the machine did something else says nothing of the others.
    seconds = statistics.median(row["seconds"] for row in epochs) * len(epochs)
    kept = ("scores", "num_evaluated", "num_missing", "protocol", "split", "split_sha256",
            "num_views", "environment")  # fmt: skip
    return {
        **{key: result[key] for key in kept},
        "fusion": fusion_of(result),
        "epochs": result["epochs_trained"],
        "at_chance": result.get("at_chance"),
        "failed": failed(result.get("at_chance"), result["epochs_trained"]),
        "chance": max(clips) / sum(clips),
        "train_minutes": round(seconds / 60, 2),
        "eval_minutes": round(eval_seconds / 60, 2),
        "waiting_share": statistics.median(row["waiting_share"] for row in epochs),
    }


def evaluate_again(run: dict[str, Any], folder: Path, commit: str) -> dict[str, Any]:
    """A run that was measured before evaluation said what fusion is worth: the network in `folder`
    is evaluated by the present code, not trained.

    Returns `run` with its scores, `fusion` and `evaluated`, the commit that evaluated it. Top-1 and
    NLL of each row of the table must be what they were, to one clip and to rounding, but of rows
    about fewer clips now.
    Raises RuntimeError where they have not, and where the folder holds another network.
    """
    trained_at = run["environment"]["git_commit"]
    if set(_commits(folder)) != {trained_at}:
        raise RuntimeError(f"{folder}: no run of commit {trained_at[:7]}, which is to be evaluated")
    with tempfile.TemporaryDirectory() as out:
        script(["eval.py", "--checkpoint", str(folder), "--out", out], str(folder), False)
        result = json.loads((Path(out) / "result.json").read_text())
    for row, new in result["scores"].items():
        old = run["scores"].get(row) or {}
        if new is None or new["num_clips"] != old.get("num_clips", run["num_evaluated"]):
            continue
        # Rounding may move one clip between two classes, and clips between the bins of ECE.
        for metric, most in (("top1", 1.5 / new["num_clips"]), ("nll", 1e-3)):
            if abs(new[metric] - old[metric]) > most:
                raise RuntimeError(f"{folder}: {metric} of {row} was {old[metric]} and is "
                                   f"{new[metric]}: this code evaluates otherwise; train it "
                                   "again")  # fmt: skip
    again = {"scores": result["scores"], "fusion": fusion_of(result)}
    return {**run, **again, "evaluated": {"commit": commit}}


def fusion_of(result: dict[str, Any]) -> dict[str, Any]:
    """What result.json says fusion is worth: each figure with its interval over sources."""
    kept = ("value", "low", "high", "num_clips", "num_sources")
    return {name: {key: figure[key] for key in kept} for name, figure in result["fusion"].items()}


def failed(at_chance: dict[str, int | None] | None, epochs: int) -> bool | None:
    """Whether train.py would warn of a head: `at_chance` counts epochs of each (None: not judged).
    None where that is not known."""
    if at_chance is None:
        return None
    return any(is_often_at_chance(number, epochs) for number in at_chance.values())


FAILED = (
    "a head whose training loss is no better than guessing by class frequencies for at least a "
    "third of the epochs"
)
"""What `failed` means, in words."""


def earlier(path: Path, settings: dict[str, Any], commit: str) -> dict[str, Any] | None:
    """The result so far, to go on with; None where there is none of the same code and settings."""
    if not path.exists():
        return None
    old = json.loads(path.read_text())
    same = same_code(ROOT, old.get("measured", {}).get("commit", "+"), commit)
    if same and all(old[key] == value for key, value in settings.items()):
        return old
    print(f"{path.name} is of other code or settings: measured from the start", flush=True)
    return None


def run_all(
    waiting: Sequence[Job],
    run: Callable[[Job], dict[str, Any]],
    keep: Callable[[dict[str, Any]], None],
    *,
    jobs: int,
) -> None:
    """`keep(run(job))` of each, up to `jobs` at a time; `keep` is called by one thread.

    The others go on where one fails. Exits with a message then, and where a person interrupts it.
    """
    failures = []
    with ThreadPoolExecutor(jobs) as pool:
        futures = [pool.submit(run, job) for job in waiting]
        try:
            for future in as_completed(futures):
                if error := future.exception():
                    failures.append(str(error))
                    print(f"error: {error}", file=sys.stderr, flush=True)
                else:
                    keep(future.result())
        except KeyboardInterrupt:
            pool.shutdown(cancel_futures=True)
            sys.exit("stopped; the same command continues")
    if failures:
        sys.exit(f"error: {len(failures)} of {len(waiting)} runs did not end: {failures[0]}")


def portable(words: list[str]) -> list[str]:
    """Arguments as others can use them: folders of this machine become DIR."""
    found = []
    for word in words:
        option, equals, value = word.rpartition("=")
        found.append(f"{option}{equals}DIR" if os.path.isabs(value) else word)
    return found


def _commits(folder: Path) -> list[str | None]:
    """Of every start of a run."""
    path = folder / "environment.json"
    return [start["git_commit"] for start in json.loads(path.read_text())] if path.exists() else []


def _same(one: str, other: str | None) -> bool:
    return other is not None and same_code(ROOT, one, other)


def script(command: list[str], out: str, to_file: bool) -> None:
    """Run a script of the checkout; `to_file`: what it prints goes to OUT.log. Raises RuntimeError
    where it fails."""
    command = [sys.executable, *command]
    if to_file:
        log = ROOT / f"{out}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("a") as file:
            done = subprocess.run(command, cwd=ROOT, stdout=file, stderr=file)
    else:
        done = subprocess.run(command, cwd=ROOT)
    if done.returncode:
        where = f"; see {out}.log" if to_file else ""
        raise RuntimeError(f"{out}: {command[1]} ended with exit code {done.returncode}{where}")
