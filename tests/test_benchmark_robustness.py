"""benchmarks/robustness.py: what it runs, keeps and goes on with, and its table and figure."""

import importlib
import json
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Import a module of benchmarks/, as the script that is run there does."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "benchmarks"))
    return importlib.import_module


def figure(value: float) -> dict[str, float]:
    return {"value": value, "low": value - 0.1, "high": value + 0.1}


def report(top1: float) -> dict[str, Any]:
    """A robustness.json with one row of each kind; the audio head has nothing at the last level."""
    said = {"definition": "", "source": "", "of": "audio", "num_missing": 0, "missing": [],
            "num_without_other": 0}  # fmt: skip
    level = {key: figure(top1) for key in ("top1", "nll", "ece")} | {"num_clips": 8}
    heads = {"fused": [level] * 3, "video": [level] * 3, "audio": [level, level, None]}
    at = {"at": [figure(0.0)] * 11, "mean": figure(top1 / 2)}
    by_class = {f"recall_at_{k}": figure(top1) for k in (1, 5, 10)}
    return {
        "num_resamples": 1000,
        "rows": {
            "noise_white": {**said, "kind": "curve", "title": "white noise", "unit": "dB SNR",
                            "levels": [10.0, 0.0, -10.0], "heads": heads},
            "conflict": {**said, "kind": "conflict", "title": "audio of another class", "unit": "",
                         "levels": [0.0], "video": figure(top1), "audio": figure(0.25),
                         "neither": figure(0.125), "num_clips": 8},
            "lambda_sweep": {**said, "kind": "sweep", "title": "lambda sweep", "unit": "lambda",
                             "levels": [0.0], "bend": {"fused": at}, "off_label": {"fused": at},
                             "same_side": at, "num_pairs": 8},
            "retrieval": {**said, "kind": "retrieval", "title": "retrieval", "unit": "",
                          "levels": [0.0], "video_to_audio": {"by_class": by_class},
                          "audio_to_video": {"by_class": by_class}, "num_clips": 8},
        },
    }  # fmt: skip


@pytest.fixture
def measure(load: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run the script with runs that take no time; returns what it started and its result."""
    module = load("robustness")
    asked: list[tuple[str, list[str], list[str]]] = []

    def run(
        out: str, words: list[str], commit: str, *, to_file: bool, evaluation: list[str]
    ) -> Any:
        asked.append((out, words, evaluation))
        path = tmp_path / out / "eval_test/robustness.json"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(report(0.5 + 0.25 * int(out[-1]))))
        return {"protocol": "toy", "split": "test", "num_evaluated": 8, "chance": 0.1,
                "train_minutes": 3.5, "eval_minutes": 1.0}  # fmt: skip

    monkeypatch.setattr(module, "ROOT", tmp_path)
    monkeypatch.setattr(module, "RESULTS", tmp_path)
    monkeypatch.setattr(module.train_run, "measure", run)
    monkeypatch.setattr(module.train_run, "same_code", lambda root, one, other: one == other)
    origin = {"commit": "a" * 40, "sources": {}}
    monkeypatch.setattr(module.provenance, "measured", lambda args, kind: origin)

    def main(*words: str) -> tuple[list[Any], dict[str, Any]]:
        monkeypatch.setattr("sys.argv", ["robustness.py", *words])
        asked.clear()
        module.main()
        return list(asked), json.loads((tmp_path / "robustness.json").read_text())

    return main


def test_runs_are_added_and_not_repeated(measure: Any) -> None:
    asked, result = measure("--variants", "none", "dropout", "--seeds", "0", "--", "--optim.epochs",
                            "1")  # fmt: skip
    assert [out for out, *_ in asked] == ["runs/robustness_none_seed0",
                                          "runs/robustness_dropout_seed0"]  # fmt: skip
    assert asked[1][1] == ["--config", "configs/demo.yaml", "--mix.method", "dropout",
                           "--optim.epochs", "1", "--run.seed", "0"]  # fmt: skip
    assert asked[1][2] == ["--robustness", "all", "--num_views", "1"]
    assert len(result["trained"]) == 2
    asked, result = measure("--variants", "none", "dropout", "--seeds", "0..1", "--",
                            "--optim.epochs", "1")  # fmt: skip
    assert [out[-5:] for out, *_ in asked] == ["seed1", "seed1"]
    found = [(run["variant"], run["seed"]) for run in result["trained"]]
    assert found == [("none", 0), ("none", 1), ("dropout", 0), ("dropout", 1)]
    assert result["command"].endswith("--seeds 0..1 --rows all --num_views 1 -- --optim.epochs 1")
    kept = result["trained"][1]["rows"]
    assert kept["noise_white"]["heads"]["audio"]["top1"] == [0.75, 0.75, None]
    assert kept["noise_white"]["heads"]["fused"]["top1_low"] == [0.65] * 3
    assert kept["conflict"]["figures"] == {"video": 0.75, "audio": 0.25, "neither": 0.125,
                                           "num_clips": 8}  # fmt: skip


def test_the_table_and_the_figure(measure: Any, load: Any, tmp_path: Path) -> None:
    _, result = measure("--variants", "none", "mixup", "--seeds", "0..1")
    lines = load("report.tables").table(result).splitlines()
    assert lines[0] == "|  | none | mixup |"
    cell = "62.5 (50.0 to 75.0)"
    assert f"| white noise, 0 dB SNR: fused top-1 % | {cell} | {cell} |" in lines
    assert f"| white noise, -10 dB SNR: fused top-1 % | {cell} | {cell} |" in lines
    assert f"| audio of another class: class of the video wins, % | {cell} | {cell} |" in lines
    distance = "0.312 (0.250 to 0.375)"
    assert f"| lambda sweep: distance from the line | {distance} | {distance} |" in lines
    assert "seeds 0, 1: mean over seeds" in lines[-1]
    what = load("report.tables").figure(result)
    (panel,) = what.panels
    assert panel.lines[1].values == ((0.5, 0.75),) * 3
    load("report.curves").draw_level_curves(what, tmp_path / "robustness.png", "a hash")
    assert load("report.dots").drawn_from(tmp_path / "robustness.png") == "a hash"


def test_a_row_that_there_is_not_is_refused(load: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["robustness.py", "--rows", "jpg"])
    with pytest.raises(SystemExit):
        load("robustness").arguments()


@pytest.mark.parametrize(
    ("method", "seed", "said"),
    [("mixup", 0, "mix.method is mixup, not none"), ("none", 1, "run.seed is 1, not 0")],
)
def test_a_run_of_another_method_or_seed_is_not_evaluated(
    measure: Any, tmp_path: Path, method: str, seed: int, said: str, capsys: Any
) -> None:
    folder = tmp_path / "run0"
    folder.mkdir()
    (folder / "config.yaml").write_text(f"{{mix: {{method: {method}}}, run: {{seed: {seed}}}}}")
    with pytest.raises(SystemExit):
        measure("--variants", "none", "--seeds", "0", "--trained", f"none={tmp_path}/run{{seed}}")
    assert said in capsys.readouterr().err


def test_the_table_says_which_networks_were_there(measure: Any, load: Any) -> None:
    _, result = measure("--variants", "none", "mixup", "--seeds", "0")
    result["trained"][0]["trained_at"] = "b" * 40
    last = load("report.tables").table(result).splitlines()[-1]
    assert last.endswith("evaluated, not trained again: none at commit bbbbbbb.")
