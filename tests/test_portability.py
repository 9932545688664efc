"""What stands in for what other operating systems lack, and how little `avmix --help` imports."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from avmix.system import portability

ROOT = Path(__file__).parents[1]

# Takes away, in this process and in all that it starts, what macOS and Windows do not have. Of the
# fork server, what Windows says when it is asked for.
ELSEWHERE = """
import os, signal, sys
for name in ("sched_getaffinity", "memfd_create", "pread", "pwrite", "killpg"):
    delattr(os, name)
del signal.setitimer
sys.modules["fcntl"] = None
sys.modules["decord"] = None
from multiprocessing import context
context._concrete_contexts.pop("forkserver", None)
"""
TRAIN = """
import sys
from avmix.config import TrainConfig, load_config
from avmix.commands import train
if __name__ == "__main__":
    train.train(load_config(TrainConfig, sys.argv[1:]))
"""


def elsewhere(folder: Path) -> dict[str, str]:
    """An environment whose Python lacks what `ELSEWHERE` takes away."""
    (folder / "sitecustomize.py").write_text(ELSEWHERE)
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)])}


@pytest.mark.long
def test_training_with_loaders_works_without_what_only_linux_has(toy_set: Path, tmp_path: Path):
    script = tmp_path / "run.py"
    script.write_text(TRAIN)
    options = ["--config", str(ROOT / "configs/smoke.yaml"), "--data.root", str(toy_set),
               "--data.num_workers", "1", "--data.val_split", "", "--optim.epochs", "1",
               "--run.out", str(tmp_path / "run"), "--run.threads", "1"]  # fmt: skip
    done = subprocess.run([sys.executable, str(script), *options], env=elsewhere(tmp_path),
                          capture_output=True, text=True)  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = [json.loads(x) for x in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert [row["kind"] for row in lines] == ["step"] * 5 + ["epoch"]
    assert not (tmp_path / "run/run.lock").exists()


@pytest.mark.long
def test_files_are_probed_without_what_only_linux_has(toy_set: Path, tmp_path: Path):
    command = [sys.executable, str(ROOT / "datasets/folder/prepare.py"), "--workers", "1",
               "--media", str(toy_set / "val"), "--out", str(tmp_path / "out")]  # fmt: skip
    folder = toy_set / "val"
    table = tmp_path / "clips.csv"
    names = sorted(path.name for path in folder.glob("*.mp4"))[:2]
    table.write_text(
        "path,label,split\n" + "".join(f"{n},{i},train\n" for i, n in enumerate(names))
    )
    done = subprocess.run([*command, "--annotations", str(table)], env=elsewhere(tmp_path),
                          capture_output=True, text=True)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert len((tmp_path / "out/train.jsonl").read_text().splitlines()) == 2


def test_a_locked_file_is_held_until_it_is_closed(tmp_path: Path):
    path = tmp_path / "lock"
    with path.open("w") as one, path.open("w") as two:
        portability.lock_file(one.fileno())
        with pytest.raises(BlockingIOError):
            portability.lock_file(two.fileno())
        one.close()
        portability.lock_file(two.fileno())


@pytest.mark.parametrize("words", [["--help"], []])
def test_help_needs_no_torch(words: list[str]):
    code = f"""
import sys
from avmix.cli import main
try:
    main({words!r})
except SystemExit:
    heavy = {{"torch", "av", "numpy", "matplotlib", "rich", "yaml"}} & set(sys.modules)
    print("imported:", heavy)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "imported: set()", done.stderr
