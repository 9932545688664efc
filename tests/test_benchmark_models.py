"""The step that benchmarks/models.py times: both arms train one network; what is said of them."""

import importlib
import math
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from avmix.training import runtime

ROOT = Path(__file__).parents[1]


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Import a module of benchmarks/, as the script that is run there does."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module


CASES = ("avmix", "lite0", "tsm", "r2plus1d", "swin", "x3d", "videomae", "ast")


@pytest.mark.filterwarnings("ignore:'saved_variables' is deprecated")  # Swish of pytorchvideo
@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=() if n == "avmix" else pytest.mark.long) for n in CASES]
)
def test_both_arms_train_one_network(name: str, load: Any, tmp_path: Path) -> None:
    """That their features are equal is checked where they are built."""
    steps = load("training.model_steps")
    case = load("training.model_cases").CASES[name]
    if lacking := [package for package in case.packages if not find_spec(package)]:
        pytest.skip(f"{lacking[0]} is not here")
    task = steps.Task(case=name, quick=True, rounds=1)
    with runtime.start(device="cpu", threads=1) as here:
        bench = steps.Bench(task, here, tmp_path)
        assert bench.frontend(bench.batch)[0].shape[0] == case.batch
        assert bench.arms.keys() == {"plain", "from bytes", "avmix"}
        for arm in bench.arms.values():
            arm()
        bench.log.close()
    # The log has every step of avmix's arm.
    rows = (tmp_path / "run/metrics.jsonl").read_text().splitlines()
    assert len(rows) == case.steps
    assert bench.parameters > 1_000_000


def test_times_are_of_the_rounds_that_count(load: Any) -> None:
    steps = load("training.model_steps")
    done: list[str] = []

    arms = {name: lambda name=name: done.append(name) for name in ("plain", "avmix")}
    bench = SimpleNamespace(
        here=runtime.Runtime(device=torch.device("cpu"), threads=1), steps=2, arms=arms,
        given_to_the_network=lambda: done.append("input"),
    )  # fmt: skip
    found = steps.times(bench, steps.Task(case="avmix", rounds=3))
    assert found["ms"].keys() == found["wall_ms"].keys() == {"plain", "avmix", "input"}
    assert all(len(ms) == 3 for ms in found["ms"].values())
    assert sorted(done) == sorted(["plain", "avmix", "input"] * 5)  # two rounds to warm up


def test_another_network_is_noticed(load: Any, tmp_path: Path) -> None:
    steps, cases = load("training.model_steps"), load("training.model_cases")
    task = steps.Task(case="avmix", quick=True, memory_of="avmix")
    with runtime.start(device="cpu", threads=1) as here:
        bench = steps.Bench(task, here, tmp_path)
        bench.log.close()
    models = [steps.build_model(bench.config.model, cases.CLASSES) for _ in range(2)]
    prepared = cases.Prepared(bench.config, None)
    with torch.no_grad():
        given = [x.clone() for x in bench.frontend(bench.batch)]
    raw = bench.batch.video, bench.batch.audio
    steps.check_same(models[0], cases.Plain(models[0]), prepared, given, raw)
    with pytest.raises(RuntimeError, match="does not run the same network"):
        steps.check_same(models[0], cases.Plain(models[1]), prepared, given, raw)
    with pytest.raises(AssertionError):
        steps.check_same(models[0], cases.Plain(models[0]), prepared, [given[0], given[1] + 1], raw)


def row(**more: Any) -> dict[str, Any]:
    ms = {"plain": [100.0, 200.0, 100.0], "from bytes": [104.0, 206.0, 110.0],
          "avmix": [104.0, 212.0, 103.0], "input": [2.0, 3.0, 2.5]}  # fmt: skip
    return {"name": "a", "label": "`a:b` + cnn", "batch": 4, "steps_a_round": 1,
            "clip": {"num_frames": 8, "crop": 64, "seconds": 2.0}, "parameters": 5,
            "wall_ms": {}, "bytes": {"plain": 150_400_000, "avmix": 160_000_000}, "ms": ms,
            **more}  # fmt: skip


def test_ratios_are_of_one_round(load: Any, capsys: pytest.CaptureFixture[str]) -> None:
    found = load("models").summary(row()["ms"])
    assert found["plain_ms"] == 100.0
    assert found["ratio"] == 1.04  # of 1.04, 1.06 and 1.03, not 104 / 100 of medians by chance
    assert found["ratio_quartiles"] == [1.035, 1.05]
    assert math.isclose(found["ratio_from_bytes"], 1.0)
    result = {
        "kind": "models", "rounds": 3, "limit_percent": 5.0, "absent": {"ast": ["transformers"]},
        "rows": [row(**found), row(**{**found, "ratio": 1.07})],
        "environment": {"cpu": "a cpu", "cores": 2, "versions": {"torch": "2"},
                        "load_average_at_the_start": 0.5},
        "load_average_at_the_end": 1.5,
        "cuda": {"gpu": "a gpu", "rows": [row(**found, precision="bf16", compile=True)]},
    }  # fmt: skip
    text = load("report.tables").table(result)
    lines = text.splitlines()
    assert lines[2] == (
        "| `a:b` + cnn | 4 of 8 x 64² | 100 | 1.04 (1.03 to 1.05) | 1.00 (0.97 to 1.01) | 2.5 | "
        "150 | 160 |"
    )
    assert "At most 5 % above the plain loop: 1 of 2; avmix takes 1.04 to 1.07 of its time" in text
    assert "Without transformers: no ast." in text
    assert "On a gpu, wall time:" in text
    assert "| `a:b` + cnn, bf16, compiled | 4 of 8 x 64² |" in text
    assert "On CUDA: not measured." in load("report.tables").table({**result, "cuda": None})
