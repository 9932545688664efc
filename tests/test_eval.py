"""What eval.py prints and writes, for any number of classes."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from kept import clips_of, drawn, drawn_several, kept_of_arrays

from avmix.commands.evaluate import evaluate
from avmix.commands.evaluation_report import print_report, write_report
from avmix.config import EvalConfig
from avmix.evaluation.kept_predictions import KeptPredictions, PredictionsError
from avmix.evaluation.metrics import EVAL_ROWS, all_scores
from avmix.evaluation.prediction_file import NAME, write_predictions
from avmix.evaluation.score_table import score_table

NAME_OF_CLASS = "a long name of a class [/] $x_ that goes on and on " * 2


def reported(out: Path, kept: KeptPredictions) -> None:
    table = score_table(kept, num_resamples=100)
    write_report(
        out, kept, all_scores(kept.predictions()), table, EvalConfig(checkpoint="x", resamples=100)
    )
    print_report(kept, table)


def cells(said: str) -> dict[str, list[str]]:
    """Cells of each line of the tables that were printed, by its name, where that first occurs."""
    lines = [line.split("│")[1:-1] for line in reversed(said.splitlines()) if "│" in line]
    return {line[0].strip(): [cell.strip() for cell in line[1:]] for line in lines}


@pytest.mark.parametrize("classes", [2, 50, 400, 1000])
def test_the_tables_are_bounded_for_any_number_of_classes(classes, tmp_path, capsys):
    """Every clip of an odd class is taken for class 0; only clip 1 has audio."""
    names = tuple(f"{k:04} {NAME_OF_CLASS}" for k in range(classes))
    label = np.arange(classes)
    probability = np.eye(classes)[label * (label % 2 == 0)]
    counted = {"audio head": label == 1, "video missing": np.zeros(classes, dtype=bool)}
    kept = kept_of_arrays(
        dict.fromkeys(EVAL_ROWS, probability), label, counted=counted, classes=names
    )
    reported(tmp_path, kept)

    said = capsys.readouterr().out
    assert len(said.splitlines()) < 700
    assert ("top-5" in said) == (classes > 5)
    rows = cells(said)
    assert rows["video missing"][:2] == ["0", "-"]
    assert rows["audio head"][0] == "1"
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["scores"]["video missing"] is None
    assert result["intervals"]["rows"]["video missing"] is None
    assert result["scores"]["audio head"]["num_clips"] == 1
    assert len(result["per_class"]) == classes
    assert result["per_class"][0]["audio head"] is None
    first = result["most_confused"][0]
    assert (first["true"], first["predicted"], first["clips"]) == (names[1], names[0], 1)
    assert len(result["most_confused"]) == min(10, classes // 2)
    for name in ("confusion.png", "reliability.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")


def test_what_fusion_is_worth_is_in_every_table(tmp_path, capsys):
    kept = drawn(n=90, skill=0.5)
    reported(tmp_path, kept)
    result = json.loads((tmp_path / "result.json").read_text())
    both = kept.counted["audio head"]
    right = {row: kept.probability[row].argmax(1) == kept.label for row in EVAL_ROWS}
    shares = {row: one[both].mean() for row, one in right.items()}
    gain = shares["fused"] - max(shares["video head"], shares["audio head"])
    mu = (~right["fused"] & (right["video head"] | right["audio head"]))[both].mean()
    assert result["fusion"]["gain"]["value"] == pytest.approx(gain)
    assert result["fusion"]["mu"]["value"] == pytest.approx(mu)
    assert result["fusion"]["gain"]["num_clips"] == both.sum() == 72
    assert result["fusion"]["gain"]["low"] < gain < result["fusion"]["gain"]["high"]
    said = capsys.readouterr().out
    rows = cells(said)
    value, ends, unit = rows["gain over the better head, top-1"]
    assert float(value) == pytest.approx(100 * gain, abs=0.05)
    assert (float(ends.split(" to ")[0]), unit) == (
        pytest.approx(100 * result["fusion"]["gain"]["low"], abs=0.05), "points",
    )  # fmt: skip
    assert "bootstrap over 30 sources; as if the 90 clips were independent" in " ".join(
        said.split()
    )
    assert "missing: é/7.mp4: damaged" in said


def test_a_narrow_interval_is_whole_in_a_terminal_of_80_letters(tmp_path, capsys):
    """Which has one digit more than a wide one; top-5 takes a column from six classes on."""
    reported(tmp_path, drawn(n=900, k=10, skill=4.5))
    first = json.loads((tmp_path / "result.json").read_text())["intervals"]["rows"]["fused"]["top1"]
    assert 0.9 < first["low"] < first["high"] < 1
    ends = f"{100 * first['low']:.1f}-{100 * first['high']:.1f}"
    said = capsys.readouterr().out
    assert cells(said)["fused"][2] == ends
    assert max(len(line) for line in said.splitlines() if "│" in line) <= 80


@pytest.mark.parametrize("make", [drawn, drawn_several])
def test_kept_predictions_give_the_same_bytes_again(make, tmp_path, capsys):
    """Without a checkpoint, a network or a clip."""
    first, again = tmp_path / "first", tmp_path / "again"
    kept = make(n=60)
    write_predictions(first / NAME, kept)
    reported(first, kept)
    said = capsys.readouterr().out
    scores = evaluate(EvalConfig(predictions=str(first), out=str(again), resamples=100))
    assert scores.keys() == {*EVAL_ROWS}
    said_again = capsys.readouterr().out
    assert said_again.splitlines()[1:] == said.splitlines()[1:]  # but for the names of the files
    result, result_again = (json.loads((out / "result.json").read_text()) for out in (first, again))
    assert result_again == result
    for name in [path.name for path in first.glob("*.png")]:
        assert (again / name).read_bytes() == (first / name).read_bytes()
    assert not (again / NAME).exists()


def test_the_tables_of_several_labels(tmp_path, capsys):
    kept = drawn_several(n=40)
    reported(tmp_path, kept)
    said = capsys.readouterr().out
    assert "mAP %" in said
    assert "accuracy per class" not in said
    assert "gain over the better head, mAP" in said
    result = json.loads((tmp_path / "result.json").read_text())
    assert kept.target is not None
    assert result["per_class"][1]["clips"] == (kept.target["fused"][:, 1] == 1).sum()
    assert result["intervals"]["rows"]["fused"]["map"]["low"] is not None
    assert not (tmp_path / "confusion.png").exists()


def test_networks_trained_alone_are_compared_with(tmp_path, capsys):
    for name, skill, seed in (("joint", 1.0, 0), ("video", 0.4, 1), ("audio", 0.2, 2)):
        write_predictions(tmp_path / name / "eval_test" / NAME, drawn(seed, skill=skill))
    kept, video, audio = (
        drawn(seed, skill=skill) for seed, skill in ((0, 1.0), (1, 0.4), (2, 0.2))
    )
    evaluate(EvalConfig(predictions=str(tmp_path / "joint/eval_test"), resamples=100,
                        alone=[str(tmp_path / "video"), str(tmp_path / "audio")]))  # fmt: skip
    found = json.loads((tmp_path / "joint/eval_test/result.json").read_text())
    both = kept.counted["audio head"]
    shares = [(k.probability["fused"].argmax(1) == k.label)[both].mean()
              for k in (kept, video, audio)]  # fmt: skip
    assert found["fusion"]["gain_alone"]["value"] == pytest.approx(shares[0] - max(shares[1:]))
    assert "gain over the better trained alone" in capsys.readouterr().out
    assert found["alone"] == [str(tmp_path / "video"), str(tmp_path / "audio")]


def test_a_network_of_another_split_is_refused(tmp_path):
    write_predictions(tmp_path / "a" / NAME, drawn())
    write_predictions(tmp_path / "b" / NAME, drawn(split_sha256="0" * 64))
    config = EvalConfig(predictions=str(tmp_path / "a"), alone=[str(tmp_path / "b")])
    with pytest.raises(PredictionsError, match=r"b: not comparable: its manifest of the split"):
        evaluate(config)


def test_without_resamples_there_are_no_intervals(tmp_path, capsys):
    write_predictions(tmp_path / NAME, drawn())
    evaluate(EvalConfig(predictions=str(tmp_path / NAME), resamples=0))
    found = json.loads((tmp_path / "result.json").read_text())
    top1 = found["intervals"]["rows"]["fused"]["top1"]
    assert top1["value"] == found["scores"]["fused"]["top1"]
    assert (top1["low"], top1["num_resamples"]) == (None, 0)
    assert "bootstrap" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "arguments are required: --checkpoint"),
        ({"checkpoint": "x", "predictions": "y"}, "predictions stand in place of a checkpoint"),
        ({"predictions": "y", "num_views": 5}, "num_views cannot act with --from"),
        ({"predictions": "y", "root": "z"}, "root cannot act with --from"),
        ({"checkpoint": "x", "resamples": 50}, "resamples must be 0 or >= 100"),
        ({"checkpoint": "x", "seed": -1}, r"seed must be in \[0, 2\*\*32\)"),
    ],
)
def test_options_that_do_not_go_together(options, message):
    with pytest.raises(ValueError, match=message):
        EvalConfig(**options)


def test_predictions_without_one_row_have_a_table_without_it(tmp_path, capsys):
    kept = drawn()
    some = ("fused", "video head")
    kept = replace(kept, probability={row: kept.probability[row] for row in some})
    reported(tmp_path, kept)
    assert json.loads((tmp_path / "result.json").read_text())["fusion"] == {}
    rows = cells(capsys.readouterr().out)
    assert "audio head" not in rows
    assert rows["class 0"][-1] == "-"


def test_silent_clips_are_counted(tmp_path, capsys):
    clips = clips_of(60)
    reported(tmp_path, drawn(clips=(*clips[:-2], *(replace(c, audible=False) for c in clips[-2:]))))
    assert "60 clips evaluated, 1 missing; 2 without audio; 1 view" in " ".join(
        capsys.readouterr().out.split()
    )
