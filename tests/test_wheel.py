"""The wheel, built from the sdist, outside the repository: prepares, trains, evaluates, tells."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest
from media import write_flash_beep

ROOT = Path(__file__).parents[1]
CONFIG = """\
data: {root: my_clips, manifest: data/mine, num_workers: 0}
clip: {num_frames: 4, short_side: 36, crop: 32, duration_seconds: 1.0}
mix: {ramp_epochs: 0}
model: {video: {channels: [8, 16]}, audio: {channels: [8, 16]}}
optim: {epochs: 1, batch_size: 4}
run: {out: runs/mine, device: cpu, threads: 1}
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the wheel of the sdist; everything else is that of the interpreter."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    shutil.copytree(ROOT / "avmix", source / "avmix", ignore=shutil.ignore_patterns("__pycache__"))
    code = "from setuptools import build_meta; build_meta.build_sdist('..')"
    subprocess.run([sys.executable, "-c", code], cwd=source, check=True, capture_output=True)
    (sdist,) = folder.glob("avmix-*.tar.gz")
    pip = [sys.executable, "-m", "pip"]
    done = subprocess.run(
        [*pip, "wheel", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir",
         str(folder), str(sdist)],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = folder.glob("avmix-*.whl")
    shutil.rmtree(source)

    there = folder / "venv"
    venv.create(there, symlinks=True)
    done = subprocess.run(
        [*pip, "--python", str(there), "install", "--no-deps", "--no-index", str(wheel)],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    # A .pth file in a folder that a .pth file names is not read: the editable avmix stays out.
    (packages,) = there.glob("lib/python*/site-packages")
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return there


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ten small clips of two classes and a configuration."""
    folder = tmp_path_factory.mktemp("work")
    for label, size in (("small", (64, 48)), ("wide", (96, 48))):
        (folder / "my_clips" / label).mkdir(parents=True)
        for number in range(5):
            at = 0.2 * (number + 1)  # no two files are alike
            write_flash_beep(folder / f"my_clips/{label}/{number}.mp4", fps=10, seconds=2,
                             size=size, events_seconds=(at,), gop=10)  # fmt: skip
    (folder / "configs").mkdir()
    (folder / "configs/own.yaml").write_text(CONFIG)
    return folder


def run(installed: Path, work: Path, program: str, *words: str) -> str:
    """The output of a program of the environment, run in `work`; it must end with 0."""
    env = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    done = subprocess.run([str(installed / "bin" / program), *words], cwd=work, env=env,
                          capture_output=True, text=True)  # fmt: skip
    assert done.returncode == 0, f"{program} {' '.join(words)}\n{done.stdout}{done.stderr}"
    return done.stdout


@pytest.mark.long
def test_the_installed_command_does_the_whole_job(installed: Path, work: Path) -> None:
    code = "import avmix, avmix.recipes.ucf101 as u; print(avmix.__file__, len(u.CLASSES))"
    path, num_classes = run(installed, work, "python", "-c", code).split()
    assert Path(path).is_relative_to(installed)
    assert num_classes == "101"  # the class lists travel with the recipes
    assert "  train " in run(installed, work, "avmix")

    run(installed, work, "avmix", "prepare", "folder", "--root", "my_clips", "--out", "data/mine")
    rows = [(work / f"data/mine/{split}.jsonl").read_text().splitlines()
            for split in ("train", "val", "test")]  # fmt: skip
    assert list(map(len, rows)) == [6, 2, 2]

    said = run(installed, work, "avmix", "train", "--config", "configs/own.yaml")
    assert "runs/mine: folder/my_clips, 6 clips, 2 classes" in said
    for name in ("last.pt", "best.pt", "config.yaml", "metrics.jsonl"):
        assert (work / "runs/mine" / name).stat().st_size > 0

    said = run(installed, work, "avmix", "evaluate", "--checkpoint", "runs/mine",
               "--num_workers", "0")  # fmt: skip
    assert "2 clips evaluated, 0 missing" in said
    for name in ("result.json", "predictions.safetensors", "confusion.png", "reliability.png"):
        assert (work / "runs/mine/eval_test" / name).stat().st_size > 0

    said = run(installed, work, "avmix", "predict", "my_clips", "--checkpoint", "runs/mine",
               "--csv", "predicted.csv")  # fmt: skip
    assert len((work / "predicted.csv").read_text().splitlines()) == 1 + 10 * 2  # two classes

    said = run(installed, work, "avmix", "doctor", "my_clips")
    assert "10 files" in said


@pytest.mark.long
def test_the_python_of_the_page_trains_and_evaluates(installed: Path, work: Path) -> None:
    """docs/training.md, as it is, as a script of its own with loader processes."""
    run(installed, work, "avmix", "prepare", "folder", "--root", "my_clips", "--out", "data/mine")
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs/training.md").read_text(), re.DOTALL)
    assert len([line for line in code.splitlines() if line and "__main__" not in line]) <= 5
    (work / "mine.py").write_text(code)
    said = run(installed, work, "python", "mine.py")
    assert re.search(r"^top-1 \d+\.\d%$", said, re.MULTILINE)
    assert (work / "runs/mine/last.pt").exists()
    assert (work / "runs/mine/eval_test/result.json").exists()
