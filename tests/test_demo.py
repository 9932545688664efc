"""The demo as published: seeds that once failed learn; `make demo` prints what README states."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROWS = ("fused", "video head", "audio head", "audio missing", "video missing")

pytestmark = pytest.mark.slow  # minutes a run


@pytest.fixture(scope="module")
def demo_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The toy set in its default size."""
    out = tmp_path_factory.mktemp("data") / "toy"
    command = [sys.executable, str(ROOT / "datasets/toy/make.py"), "--out", str(out)]
    subprocess.run(command, check=True, capture_output=True)
    return out


# With the former recipe, 2 and 4 failed on one kind of processor, 2 and 5 on another.
@pytest.mark.parametrize("seed", [2, 4, 5])
def test_seeds_that_once_failed_learn(seed: int, demo_set: Path, tmp_path: Path) -> None:
    run = ["--config", "configs/demo.yaml", "--data.root", str(demo_set), "--run.seed", str(seed),
           "--run.out", str(tmp_path)]  # fmt: skip
    for command in (["train.py", *run], ["eval.py", "--checkpoint", str(tmp_path)]):
        done = subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "eval_test/result.json").read_text())
    top1 = {row: scores["top1"] for row, scores in result["scores"].items()}
    assert top1["fused"] >= 0.85
    # The best possible is 0.40; a head that knows nothing has 0.10.
    assert min(top1["video head"], top1["audio head"]) >= 0.33
    assert max(result["at_chance"].values()) < 4  # of 20 epochs


def test_make_demo_prints_what_the_readme_states(tmp_path: Path) -> None:
    """In a fresh clone, with the environment that is there."""
    clone, venv = tmp_path / "avmix", Path(sys.prefix)
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
    installed = venv / ".installed"  # as old as it may be: -o keeps make from installing again
    done = subprocess.run(
        ["make", "demo", f"VENV={venv}", "-o", str(installed), f"PYTHON={sys.executable}"],
        cwd=clone, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (clone / "runs/demo/mix.png").read_bytes().startswith(b"\x89PNG")
    printed = {
        row: float(value)
        for row in ROWS
        for value in re.findall(rf"^│ {row} +│ +([\d.]+) │", done.stdout, re.MULTILINE)
    }
    stated = stated_ranges()
    assert set(printed) == set(stated)
    for row, (least, most) in stated.items():
        assert least <= printed[row] <= most, row


def stated_ranges() -> dict[str, tuple[float, float]]:
    """Smallest and largest top-1, in %, of each row of the demo's table in README.md."""
    block = (ROOT / "README.md").read_text().partition("<!-- result demo -->")[2]
    lines = block.partition("<!-- end -->")[0].splitlines()
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if "|" in line]
    assert cells[0][1:4] == ["median top-1 %", "min", "max"]
    return {row[0]: (float(row[2]), float(row[3])) for row in cells[2:7]}
