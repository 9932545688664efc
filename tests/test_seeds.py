"""benchmarks/seeds.py in a checkout of its own: what it refuses, keeps and measures again."""

import argparse
import importlib
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from avmix.config import DataConfig
from avmix.data.manifest import write_manifest

ROOT = Path(__file__).parents[1]


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Import a module of benchmarks/, as the script that is run there does."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module


def git(folder: Path, *args: str) -> str:
    identity = ["-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false"]
    command = ["git", *identity, *args]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The files as they are here, committed in a repository of their own."""
    folder = tmp_path / "checkout"
    files = git(ROOT, "ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0")
    for name in filter(None, files):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    git(folder, "init", "-q")
    commit(folder)
    return folder


def commit(folder: Path) -> str:
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "some")
    return git(folder, "rev-parse", "HEAD").strip()


def test_data_without_a_test_split_are_refused_before_the_first_run(
    load: Any, toy_set: Path, tmp_path: Path, make_entry: Any
) -> None:
    seeds, entry = load("seeds"), make_entry("a")
    write_manifest(tmp_path, classes=entry.labels, protocol="p", splits={"train": [entry]})
    args = argparse.Namespace(name="none", config="configs/smoke.yaml", table="", title="",
                              ceilings={}, overrides=["--data.root", str(tmp_path)])  # fmt: skip
    with pytest.raises(SystemExit, match=r"has no split 'test'.*it has: train"):
        seeds.begin(args, "commit")
    (tmp_path / "clips.csv").write_text("path,label,split,source\na.mp4,x,train,a\nb.mp4,x,val,b\n")
    data = DataConfig(root=str(tmp_path), manifest=str(tmp_path / "later"), table="clips.csv",
                      table_label="label", table_split="split",
                      table_source=["source"])  # fmt: skip
    assert seeds.splits_that_will_be(data) == ["train", "val"]
    assert "test" in seeds.splits_that_will_be(DataConfig(root=str(toy_set)))


def measure(checkout: Path, data: Path, *options: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "benchmarks/seeds.py", "--config", "configs/smoke.yaml", "--name",
               "try", *options, "--", "--data.root", str(data), "--data.num_workers", "0",
               "--run.threads", "1"]  # fmt: skip
    return subprocess.run(command, cwd=checkout, capture_output=True, text=True)


def test_numbers_of_seeds(load: Any) -> None:
    seed_numbers = load("training.seed_numbers").seed_numbers
    assert seed_numbers(["7", "0..3", "2"]) == [0, 1, 2, 3, 7]
    assert seed_numbers(["5..5"]) == [5]
    for wrong in ("3..1", "-1", "a", "1..", ".."):
        with pytest.raises(ValueError, match=r".+"):
            seed_numbers([wrong])


def test_folders_of_this_machine_are_not_recorded(load: Any) -> None:
    words = ["--data.root", "/folder/of/clips", "--data.manifest=/x/y", "--mix.alpha", "0.4"]
    expected = ["--data.root", "DIR", "--data.manifest=DIR", "--mix.alpha", "0.4"]
    assert load("training.train_run").portable(words) == expected


def test_another_network_is_not_evaluated_in_place_of_one(load: Any, tmp_path: Path) -> None:
    (tmp_path / "environment.json").write_text('[{"git_commit": "abc"}, {"git_commit": "def"}]')
    run = {"environment": {"git_commit": "abc"}, "scores": {}}
    with pytest.raises(RuntimeError, match=r"no run of commit abc, which is to be evaluated"):
        load("training.train_run").evaluate_again(run, tmp_path, "later")


@pytest.mark.long
def test_code_that_is_not_committed_is_not_measured(checkout: Path) -> None:
    for name in ("README.md", "benchmarks/results/new.json", "avmix/rng.py", "configs/new.yaml"):
        with (checkout / name).open("a") as file:
            file.write("\n")
    done = measure(checkout, Path("nowhere"))
    assert done.returncode == 1
    assert done.stderr == (
        "error: not committed: avmix/rng.py, configs/new.yaml. A result must name the code it was "
        "measured with: commit first (or --allow-uncommitted for a trial)\n"
    )
    assert not (checkout / "benchmarks/results/try.json").exists()


@pytest.mark.slow
def test_seeds_are_measured_once_for_every_code(checkout: Path, toy_set: Path) -> None:
    path, head = (
        checkout / "benchmarks/results/try.json",
        git(checkout, "rev-parse", "HEAD").strip(),
    )
    done = measure(checkout, toy_set, "--seeds", "0..1", "--jobs", "2", "--title", "small")
    assert done.returncode == 0, done.stderr
    result = json.loads(path.read_text())
    assert result["measured"] == {"commit": head}
    assert result["command"] == (
        "python benchmarks/seeds.py --config configs/smoke.yaml --name try --seeds 0..1 --title "
        "small -- --data.root DIR --data.num_workers 0 --run.threads 1"
    )
    assert str(toy_set) not in path.read_text()
    assert [run["seed"] for run in result["runs"]] == [0, 1]
    assert result["runs"][0]["scores"] != result["runs"][1]["scores"]
    assert result["runs"][0]["chance"] == pytest.approx(0.1)
    assert result["fingerprint"]["batch_size"] == 8

    # What fusion is worth can be had of the same networks later, and of no others.
    older = json.loads(path.read_text())
    fusion = [run.pop("fusion") for run in older["runs"]]
    assert fusion[0]["gain"]["num_clips"] == 20
    path.write_text(json.dumps(older))
    done = measure(checkout, toy_set, "--evaluate-again", "runs")
    assert done.returncode == 0, done.stderr
    again = json.loads(path.read_text())
    assert [run.pop("fusion") for run in again["runs"]] == fusion
    assert [run.pop("evaluated") for run in again["runs"]] == 2 * [{"commit": head}]
    assert again == older
    older["runs"][0]["scores"]["fused"]["top1"] += 0.05
    path.write_text(json.dumps(older))
    done = measure(checkout, toy_set, "--evaluate-again", "runs")
    assert "top1 of fused was " in done.stderr
    path.write_text(json.dumps(result))

    # A result that is committed is no other code; what is there is kept, what is not is added.
    commit(checkout)
    done = measure(checkout, toy_set, "--seeds", "1..2", "--title", "small")
    assert done.returncode == 0, done.stderr
    more = json.loads(path.read_text())
    assert [run["seed"] for run in more["runs"]] == [0, 1, 2]
    assert more["runs"][:2] == result["runs"]
    assert "--seeds 0..2" in more["command"]

    # Of other code, neither the result nor the folder of a run is believed.
    with (checkout / "avmix/rng.py").open("a") as file:
        file.write("\n")
    head = commit(checkout)
    done = measure(checkout, toy_set, "--seeds", "0")
    assert done.returncode == 0, done.stderr
    assert "try.json is of other code or settings: measured from the start" in done.stdout
    assert "runs/try_seed0 is of other code: started from the beginning" in done.stdout
    again = json.loads(path.read_text())
    assert again["measured"]["commit"] == again["runs"][0]["environment"]["git_commit"] == head
    assert [run["seed"] for run in again["runs"]] == [0]
