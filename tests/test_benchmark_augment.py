import importlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

ROOT = Path(__file__).parents[1]
CASES = ["reverse", "flip", "gain", "window_uniform", "repeats_4", "repeats_4_apart", "background",
         "stereo", "default", "preset_none"]  # fmt: skip


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Import a module of benchmarks/, as the script that is run there does."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module


@pytest.mark.slow
def test_a_quick_run_measures_what_was_really_done(tmp_path: Path, load: Any) -> None:
    command = [sys.executable, "benchmarks/augment.py", "--quick", "--work", str(tmp_path / "work"),
               "--allow-uncommitted", "--out", str(tmp_path / "augment.json"),
               "--only", *CASES]  # fmt: skip
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    text = (tmp_path / "augment.json").read_text()
    assert str(tmp_path) not in text  # no folders of this machine
    result = json.loads(text)
    assert set(result["loads"]) == set(result["costs"]) == {"made_small"}
    assert result["loads"]["made_small"]["decode_ms"] > result["loads"]["made_small"]["crop_ms"] > 0
    costs = result["costs"]["made_small"]
    assert set(costs) == {"plain", *CASES}
    always = {"reverse", "flip", "gain", "background", "stereo"}
    for name, cost in costs.items():
        assert cost["num_windows"] == (8 if name.startswith("repeats") else 2)
        if name in always:
            assert cost["num_applied"] == cost["num_windows"], name
        low, high = cost["added_quartiles"]
        assert low <= cost["added_ms"] <= high
    assert costs["plain"]["num_applied"] == 2  # the central crop is not the random one
    assert costs["plain"]["added_ms"] == 0
    assert costs["default"]["num_applied"] == 2
    assert costs["repeats_4"]["num_applied"] >= 6
    reads = {name for name, cost in costs.items() if cost["reads_otherwise"]}
    assert reads == {"window_uniform", "repeats_4", "repeats_4_apart", "stereo"}
    # What decodes the same is not charged with the noise of decoding.
    assert costs["flip"]["added_ms"] == costs["flip"]["work_ms"]
    assert result["claim"]["with_the_crop"]["percent_of_decoding"]["made_small"] > 0
    assert result["repeats"]["made_small"]["ratio"] > 0
    assert result["frontend"]["sizes"]["small"]["specaugment"]["ms"] > 0
    device = result["device"]["cpu"]["small"]
    assert device["faster"] in device["ways"]
    assert all(way["mean_difference"] < 3 for way in device["ways"].values())  # of 255
    if not torch.cuda.is_available():
        assert result["device"]["cuda"] is None
    peers = result["peers"]["small"]
    assert all(row["ours_one_draw"] for row in peers.values() if row["of"] == "pictures")
    assert all(row["ours_steady"] for row in peers.values() if row["of"] == "pictures")
    assert all(row.get("ours_moves_ms", 0) < 1 for row in peers.values())

    table = load("paste").table(result)
    rows = [line for line in table.splitlines() if line.startswith("| ")]
    assert len(rows) == (1 + 2 + len(CASES)) + (1 + len(peers))
    assert any(line.startswith("| **the default** | ") for line in rows)
    assert "On CUDA instead of in the worker: not measured." in table or torch.cuda.is_available()


def test_batched_ways_do_what_the_worker_does(load: Any) -> None:
    """Smooth frames, on which antialiasing changes little: the rest must agree."""
    device = load("augmenting.device")
    y, x = np.mgrid[:72, :96]
    planes = [128 + 100 * np.sin(y / 17 + k) * np.cos(x / 23 - k) for k in range(3)]
    clip = np.repeat(np.stack(planes, 2)[None], 3, axis=0).astype(np.uint8)
    clips = [clip, clip[:, ::-1].copy(), clip[:, :, ::-1].copy()]
    plans = device.draw_plans(clips, 64, 0)
    assert {op.name for op in plans[0].ops} == {"brightness", "contrast", "saturation", "hue"}
    made = {name: way(clips, plans, 64, torch.device("cpu")) for name, way in device.WAYS.items()}
    for name, frames in made.items():
        assert frames.shape == (3, 3, 3, 64, 64)
        error = 255 * 0.225 * (frames - made["worker"]).abs().mean()
        assert error < 2.5, (name, error)  # whole numbers after each operation


def test_what_is_said_of_peers_is_seen_in_the_result(load: Any) -> None:
    peers = load("augmenting.peers")

    def each_its_own(video: np.ndarray, step: int) -> np.ndarray:
        return np.stack([np.roll(frame, k, 1) for k, frame in enumerate(video)])

    assert not peers._one_draw(each_its_own, 16)

    def measures_each(video: np.ndarray, step: int) -> np.ndarray:
        mean = video.astype(float).mean((1, 2, 3), keepdims=True)
        return (mean + 0.5 * (video - mean)).astype(np.uint8)

    assert not peers._steady(measures_each, 16)
    assert peers._one_draw(lambda video, step: video, 16)
    assert peers._steady(lambda video, step: video, 16)

    def late(wave: np.ndarray) -> np.ndarray:
        return np.roll(wave, 80)

    moved, spread = peers._moved(late, 16_000, 16_000, 16_000)
    assert moved == pytest.approx(5.0, abs=0.05)
    assert 0 < spread < 1
