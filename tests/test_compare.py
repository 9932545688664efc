"""`avmix compare`: differences of the same clips, and what cannot be compared."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kept import drawn, drawn_several

from avmix.cli import main
from avmix.evaluation.comparison import compare
from avmix.evaluation.kept_predictions import KeptPredictions, PredictionsError
from avmix.evaluation.prediction_file import NAME, write_predictions


def some_of(kept: KeptPredictions, clips: np.ndarray) -> KeptPredictions:
    """Of these clips alone, in this order."""
    values = {name: getattr(kept, name) for name in KeptPredictions.__dataclass_fields__}
    assert kept.label is not None
    values |= {
        "clips": tuple(kept.clips[i] for i in clips), "label": kept.label[clips],
        "probability": {n: p[clips] for n, p in kept.probability.items()},
        "counted": {n: c[clips] for n, c in kept.counted.items()},
    }  # fmt: skip
    return KeptPredictions(**values)


def top1(kept: KeptPredictions, clips: np.ndarray) -> float:
    assert kept.label is not None
    return (kept.probability["fused"].argmax(1) == kept.label)[clips].mean()


def test_a_run_does_not_differ_from_itself():
    found = compare({"one": drawn(), "same": drawn()}, num_resamples=100)
    assert {"top1", "nll", "gain", "mu"} <= found.differences.keys()
    for (figure,) in found.differences.values():
        assert (figure.value, figure.low) == (0, None)  # every resample says 0


def test_differences_are_of_the_clips_that_all_have_judged():
    one, other = drawn(0), drawn(1, skill=0.3)
    clips = np.random.default_rng(0).permutation(60)[:50]
    found = compare({"a": one, "b": some_of(other, clips)}, num_resamples=200)
    assert (found.num_clips, found.num_left_out) == (50, (10, 0))
    (less,) = found.differences["top1"]
    assert less.value == pytest.approx(top1(other, clips) - top1(one, clips))
    a, b = found.values["top1"]
    assert (a.value, b.value) == pytest.approx((top1(one, clips), top1(other, clips)))
    assert less.value is not None
    assert less.holds(less.value)
    assert found.values["gain"][0].num_clips == one.counted["audio head"][clips].sum()


def test_a_difference_is_known_better_than_its_parts():
    """The second run is the first with two answers changed."""
    one, other = drawn(n=150), drawn(n=150)
    fused = other.probability["fused"]
    fused[:2] = np.roll(fused[:2], 1, axis=1)
    found = compare({"a": one, "b": other})
    (less,), (a, _) = found.differences["nll"], found.values["nll"]
    assert less.width
    assert a.width
    assert less.width < a.width / 2


def test_several_labels_are_compared_too():
    found = compare({"a": drawn_several(), "b": drawn_several()}, num_resamples=100)
    assert "map" in found.values
    assert "mean_class" not in found.values


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        ({"split_sha256": "0" * 64}, r"its manifest of the split \(SHA-256\) is 000"),
        ({"split": "val"}, "its protocol and split is p val, the first's p test"),
        ({"classes": tuple("abcd")}, "its classes have other names"),
        ({"k": 5}, "its classes is 5, the first's 4"),
    ],
)
def test_what_cannot_be_compared_is_refused(other: dict[str, Any], reason: str):
    with pytest.raises(PredictionsError, match=f"^b: not comparable: {reason}"):
        compare({"a": drawn(), "b": drawn(**other)})


def test_other_labels_and_kinds_of_labels_are_refused():
    changed = drawn()
    assert changed.label is not None
    changed.label[0] = 3
    with pytest.raises(PredictionsError, match="b: not comparable: it has other labels"):
        compare({"a": drawn(), "b": changed})
    several = drawn_several(n=60, k=4)
    with pytest.raises(PredictionsError, match="its kind of label is any number of classes"):
        compare({"a": drawn(), "b": several})


def code_of(words: list[str]) -> object:
    with pytest.raises(SystemExit) as end:
        main(words)
    return end.value.code


@pytest.fixture
def runs(tmp_path: Path) -> list[str]:
    for name, seed, skill in (("none", 0, 1.0), ("mixup", 1, 0.2), ("cutmix", 2, 1.1)):
        write_predictions(tmp_path / name / "eval_test" / NAME, drawn(seed, n=120, skill=skill))
    return [str(tmp_path / name) for name in ("none", "mixup", "cutmix")]


def test_the_command_prints_writes_and_draws(runs, tmp_path, capsys):
    words = [*runs, "--resamples", "200", "--json", str(tmp_path / "c.json"),
             "--figure", str(tmp_path / "c.png")]  # fmt: skip
    assert code_of(["compare", *words]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "120 clips; differences to" in said
    assert "bootstrap over 40 sources, paired" in said
    assert "worse" in said
    found = json.loads((tmp_path / "c.json").read_text())
    less = found["differences"]["top1"][runs[1]]
    assert found["runs"] == runs
    assert less["high"] < 0
    assert less["value"] == pytest.approx(
        found["values"]["top1"][runs[1]]["value"] - found["values"]["top1"][runs[0]]["value"]
    )
    assert found["differences"]["top1"].keys() == {*runs[1:]}
    assert (tmp_path / "c.png").read_bytes().startswith(b"\x89PNG")
    assert code_of(["compare", *runs, "--resamples", "200", "--json", "-"]) == 0
    assert json.loads(capsys.readouterr().out) == found


def test_wrong_usage_and_missing_predictions(runs, tmp_path, capsys):
    for words, code, reason in (
        ([*runs, "--split", "val"], 1, "no predictions"),
        ([runs[0], str(tmp_path / "c.json")], 1, "no predictions"),
        ([*runs, "--json", str(tmp_path)], 1, "is a folder; name a file"),
        (runs[:1], 2, "two runs or more"),
        ([*runs, "--resamples", "5"], 2, "--resamples must be >= 100, got 5"),
        ([*runs, "--seed", "-1"], 2, "--seed must be in"),
    ):
        assert code_of(["compare", *words]) == code
        assert reason in capsys.readouterr().err
