"""Runs on kept features whose mixing knows something: they train, act, and resume exactly."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from kept_folder import write_kept
from test_every_option import with_options

from avmix.commands import evaluate as evaluation
from avmix.commands import train
from avmix.config import EvalConfig, TrainConfig
from avmix.evaluation.metrics import Scores
from avmix.training import checkpoint

USUAL: dict[str, Any] = {
    "run.device": "cpu", "run.threads": 1, "run.log_every": 1, "run.save_plans": True,
    "optim.epochs": 2, "optim.batch_size": 8, "mix.alpha": 1.0,
}  # fmt: skip
CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "by_share": ({"mix.method": "by_share@feature"}, {"mix.method": "mixup@feature"}),
    "by_share of several": (
        {"mix.method": "by_share@feature", "mix.partners": 2},
        {"mix.method": "mixup@feature", "mix.partners": 2},
    ),
    "share_power": (
        {"mix.method": "by_share@feature", "mix.share_power": 2.0},
        {"mix.method": "by_share@feature"},
    ),
    "partners": (
        {"mix.method": "mixup@feature", "mix.partners": 3}, {"mix.method": "mixup@feature"},
    ),
    "nearest": (
        {"mix.method": "mixup@feature", "mix.pairing": "nearest"},
        {"mix.method": "mixup@feature", "mix.pairing": "different_source"},
    ),
    "neighbours": (
        {"mix.method": "mixup@feature", "mix.pairing": "nearest", "mix.neighbours": 1},
        {"mix.method": "mixup@feature", "mix.pairing": "nearest"},
    ),
    "translate": (
        {"mix.method": "mixup@feature+dropout", "model.missing": "translate"},
        {"mix.method": "mixup@feature+dropout", "model.missing": "mean"},
    ),
    "translate, shared heads": (
        {"mix.method": "dropout", "model.missing": "translate", "model.heads": "shared"},
        {"mix.method": "dropout", "model.missing": "mask", "model.heads": "shared"},
    ),
    "translate of several": (
        {"mix.method": "independent@feature+dropout", "mix.partners": 2,
         "model.missing": "translate", "model.fusion": "gated"},
        {"mix.method": "independent@feature+dropout", "mix.partners": 2, "model.fusion": "gated"},
    ),
}  # fmt: skip

QUICK = ("by_share", "partners", "nearest", "translate")
"""The others by `make long`."""


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Video that is easy, audio that is not, and clips without audio."""
    folder = tmp_path_factory.mktemp("kept") / "features"
    return write_kept(folder, {"train": 24, "val": 9, "test": 12}, widths=(12, 4))


def run(kept: Path, out: Path, options: dict[str, Any]) -> checkpoint.Checkpoint:
    config = with_options(
        TrainConfig(), {"data.features": str(kept), "run.out": str(out), **USUAL, **options}
    )
    return checkpoint.load(train.train(config).checkpoint)


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.long
@pytest.mark.parametrize(
    "name",
    [name if name in QUICK else pytest.param(name, marks=pytest.mark.long) for name in CASES],
)
def test_a_run_trains_acts_and_resumes_exactly(
    kept: Path, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    options, without = CASES[name]
    whole = run(kept, tmp_path / "whole", options)
    assert all(bool(tensor.isfinite().all()) for tensor in whole.model.values())
    assert not same(whole.model, run(kept, tmp_path / "other", without).model)
    stopped = {**options, "run.save_every": 1}
    saved, last = 0, checkpoint.save

    def stop(path: Path, state: checkpoint.Checkpoint) -> None:
        nonlocal saved
        last(path, state)
        saved += 1
        if saved == 3:  # at the beginning, after the first and after the second of three steps
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save", stop)
        with pytest.raises(KeyboardInterrupt):
            run(kept, tmp_path / "resumed", stopped)
    middle = checkpoint.load(tmp_path / "resumed/last.pt")
    assert (middle.epoch, middle.step) == (0, 2)
    resumed = run(kept, tmp_path / "resumed", stopped)
    assert same(resumed.model, whole.model)
    assert resumed.mix_sums == whole.mix_sums
    assert (whole.mix_sums != (0.0, 0.0, 0.0, 0.0)) == ("by_share" in options["mix.method"])


def test_nothing_is_known_of_an_older_checkpoint(kept: Path, tmp_path: Path) -> None:
    found = run(kept, tmp_path / "run", CASES["by_share"][0])
    older = replace(found, mix_sums=None, digest="")
    checkpoint.save(tmp_path / "run/last.pt", older)
    assert checkpoint.load(tmp_path / "run/last.pt").mix_sums is None
    longer = run(kept, tmp_path / "run", {**CASES["by_share"][0], "optim.epochs": 3})
    assert longer.mix_sums is not None


def test_plans_say_which_clips_were_mixed(kept: Path, tmp_path: Path) -> None:
    run(kept, tmp_path / "run", CASES["partners"][0])
    first = json.loads((tmp_path / "run/plans_rank0.jsonl").read_text().splitlines()[0])
    assert [len(row) for row in first["plan"]["partners"]] == [3] * 8


def test_the_error_of_translation_is_logged_and_shown_in_the_missing_rows(
    kept: Path, tmp_path: Path
) -> None:
    options = {**CASES["translate"][0], "optim.epochs": 6, "optim.lr": 0.02}
    run(kept, tmp_path / "run", options)
    lines = map(json.loads, (tmp_path / "run/metrics.jsonl").read_text().splitlines())
    errors = [line["loss_translation"] for line in lines if line["kind"] == "step"]
    assert sum(errors[-3:]) < sum(errors[:3])
    asked = EvalConfig(checkpoint=str(tmp_path / "run"), device="cpu", threads=1, resamples=0)
    scores = evaluation.evaluate(asked)
    missing = scores["audio missing"]
    assert isinstance(missing, Scores)
    assert missing.num_clips == 12


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"mix.pairing": "nearest", "data.features": ""}, "mix.pairing must not be nearest"),
        ({"mix.method": "by_share@feature", "loss.audio": 0.0}, "goes by the modality heads"),
        ({"mix.method": "by_share@feature", "model.modalities": "video"}, "nothing is ahead"),
        ({"mix.partners": 2, "loss.agreement": 0.1}, "loss of pairs"),
        ({"mix.partners": 2, "loss.interpolation": 0.1}, "loss of pairs"),
        ({"model.missing": "translate", "model.joint.encoder": "avmix:mbt", "data.features": ""},
         "has seen the other"),
    ],
)  # fmt: skip
def test_what_cannot_act_is_refused(options: dict[str, Any], says: str) -> None:
    usual = {"data.features": "x", "mix.method": "mixup@feature"}
    with pytest.raises(ValueError, match=says):
        with_options(TrainConfig(), usual | options)
