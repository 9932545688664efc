"""Benchmarks of training on kept features: what is chosen, what is arranged, what tables say."""

import importlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kept_folder import write_kept

from avmix.config import DataConfig, TrainConfig
from avmix.data.kept_features import open_features
from avmix.data.manifest import read_manifest, write_manifest

ROOT = Path(__file__).parents[1]


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Import a module of benchmarks/, as the script that is run there does."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module


def test_the_best_on_held_out_clips_is_chosen(load: Any) -> None:
    """By top-1, and of equal ones by negative log-likelihood."""

    def tried(decay: float, *found: tuple[float, float]) -> list[dict[str, Any]]:
        options = {"clip.num_frames": 3, "optim.weight_decay": decay, "model.dropout": 0.2}
        return [{"options": options, "holdout_seed": seed,
                 "scores": {"fused": {"top1": top1, "nll": nll},
                            "video head": {"top1": 1.0, "nll": 0.0}}}
                for seed, (top1, nll) in enumerate(found)]  # fmt: skip

    low = tried(1, (0.9, 0.1), (0.7, 0.1))
    high = tried(5, (0.8, 0.4), (0.9, 0.5))
    sure = tried(20, (0.9, 0.4), (0.8, 0.3))
    chosen = load("trained_features").chosen
    for runs in (low + high + sure, sure + high + low):
        assert chosen(runs) == {"clip.num_frames": 3, "optim.weight_decay": 20,
                                "model.dropout": 0.2}  # fmt: skip


def test_features_are_arranged_as_another_split_has_them(load: Any, tmp_path: Path) -> None:
    source = write_kept(tmp_path / "first", {"train": 10, "test": 6})
    train, test = (open_features(source, split) for split in ("train", "test"))
    entries = [*train.manifest.entries, *test.manifest.entries]
    features = np.concatenate([train.features["audio"], test.features["audio"]])
    splits = {"train": [12, 3, 0, 15], "test": [7, 11]}
    write_manifest(
        tmp_path / "other",
        classes=train.manifest.classes,
        protocol="other",
        splits={name: [entries[i] for i in rows] for name, rows in splits.items()},
    )
    config = replace(TrainConfig(), data=DataConfig(manifest=str(tmp_path / "other")))
    out = load("training.lite0_features").arranged(source, config, 2)
    for name, rows in splits.items():
        found = open_features(out, name)
        assert np.array_equal(found.features["audio"], features[rows])
        assert found.labels.tolist() == [row % 4 if row < 10 else (row - 10) % 4 for row in rows]
        assert [*found.manifest.entries] == [*read_manifest(tmp_path / "other", name).entries]


def test_tables_by_hand(load: Any) -> None:
    """Two draws of 0.5 and 0.7: 60 ± 127.1 (t of one degree of freedom 12.706, deviation
    0.1 sqrt 2 over sqrt 2)."""
    tables = load("report.tables.few_shot_training")

    def runs(shots: int, arm: str, *fused: float) -> list[dict[str, Any]]:
        heads = {"video head": {"top1": 0.5}, "audio head": {"top1": 0.25}}
        return [{"split": 1, "shots": shots, "arm": arm, "seed": seed,
                 "scores": {"fused": {"top1": top1}, **heads}}
                for seed, top1 in enumerate(fused)]  # fmt: skip

    result = {"options": {"no mixing": [], "mixup": []}, "epochs": {"3": 50}, "config": "c.yaml",
              "trained": runs(3, "no mixing", 0.5, 0.7) + runs(3, "mixup", 0.4, 0.6)
              + runs(0, "no mixing", 0.9) + runs(0, "mixup", 0.9)}  # fmt: skip
    summary = tables.few_shot_training_summary(result).splitlines()
    assert summary[0].split(" | ")[1] == "fused, 3 clips a class"
    assert summary[2] == "| no mixing | 60.0 ± 127.1 | 50.0 ± 0.0 |"
    assert len([line for line in summary if line.startswith("|")]) == 4
    few = {**result, "trained": [run for run in result["trained"] if run["shots"]]}
    whole = tables.few_shot_training_table(few)
    assert "| 3 a class | mixup | 50.0 ± 127.1 |" in whole
    assert "mean over seeds, with 95 % intervals over seeds" in whole
    assert "of all clips" not in whole

    tuned = {"grid": {"optim.weight_decay": [5, 20]}, "fixed": ["--optim.epochs", "20"],
             "holdout": 0.25, "config": "c.yaml", "chosen": {"1": {"optim.weight_decay": 20}},
             "tried": [{"split": 1, "options": {"optim.weight_decay": 20}, "holdout_seed": 0,
                        "scores": {"fused": {"top1": 0.8}}}],
             "trained": runs(0, "", 0.5, 0.7)}  # fmt: skip
    lines = tables.trained_features_table(tuned).splitlines()
    assert lines[2] == "| 1 | 20 | 80.0 | 60.0 ± 127.1 | 50.0 ± 0.0 | 25.0 ± 0.0 | +10.0 |"
    assert lines[3] == "| mean |  |  | 60.0 ± 127.1 | 50.0 ± 0.0 | 25.0 ± 0.0 | +10.0 |"

    guarded = {**tuned, "guarded": runs(0, "", 0.3, 0.5)}
    lines = tables.trained_features_table(guarded).splitlines()
    assert lines[2].endswith("| +10.0 | 40.0 ± 127.1 | 50.0 ± 0.0 | 25.0 ± 0.0 | -10.0 |")
