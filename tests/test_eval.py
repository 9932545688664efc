"""What eval.py prints and writes, for any number of classes."""

import json
from dataclasses import replace

import pytest
import torch

from avmix.commands.evaluation_report import print_report, write_report
from avmix.config import EvalConfig, TrainConfig
from avmix.data.manifest import Manifest
from avmix.evaluation.metrics import EVAL_ROWS, Predictions, all_scores
from avmix.training.checkpoint import Checkpoint
from avmix.training.engine import Evaluation

NAME = "a long name of a class [/] $x_ that goes on and on " * 2


@pytest.mark.parametrize("classes", [2, 50, 400, 1000])
def test_the_tables_are_bounded_for_any_number_of_classes(classes, make_entry, tmp_path, capsys):
    """Every clip of an odd class is taken for class 0; only clip 1 has audio."""
    names = tuple(f"{k:04} {NAME}" for k in range(classes))
    label = torch.arange(classes)
    probability = torch.eye(classes)[label * (label % 2 == 0)]
    everyone, one = torch.ones(classes, dtype=torch.bool), label == 1
    counted = {"audio head": one, "video missing": torch.zeros(classes, dtype=torch.bool)}
    found = Evaluation(
        predictions=Predictions(
            row=label, label=label, probability=dict.fromkeys(EVAL_ROWS, probability),
            counted={name: counted.get(name, everyone) for name in EVAL_ROWS},
        ),
        bad=(),
    )  # fmt: skip
    entries = [replace(make_entry(str(k)), labels=(names[k],)) for k in range(classes)]
    manifest = Manifest(
        classes=names, protocol="p", split="test", entries=tuple(entries), sha256=""
    )
    state = Checkpoint(
        config=TrainConfig(), classes=list(names), split_sha256="", num_steps=1, epoch=1, step=0,
        best=0.0, model={}, optimizer={},
    )  # fmt: skip
    scores = all_scores(found.predictions)
    print_report(manifest, found, scores, 1, state)
    write_report(tmp_path, manifest, found, scores, EvalConfig(checkpoint="x"), state)

    said = capsys.readouterr().out
    assert len(said.splitlines()) < 700
    assert ("top-5" in said) == (classes > 5)
    rows = {line.split("│")[1].strip(): line.split("│")[2:] for line in said.splitlines()
            if "│" in line}  # fmt: skip
    assert [cell.strip() for cell in rows["video missing"][:2]] == ["0", "-"]
    assert rows["audio head"][0].strip() == "1"
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["scores"]["video missing"] is None
    assert result["scores"]["audio head"]["num_clips"] == 1
    assert len(result["per_class"]) == classes
    assert result["per_class"][0]["audio head"] is None
    first = result["most_confused"][0]
    assert (first["true"], first["predicted"], first["clips"]) == (names[1], names[0], 1)
    assert len(result["most_confused"]) == min(10, classes // 2)
    last = json.loads((tmp_path / "predictions.jsonl").read_text().splitlines()[-1])
    assert "audio missing" in last["probability"]
    assert "video missing" not in last["probability"]
