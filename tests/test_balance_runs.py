"""Runs with each method of balancing: with every way of mixing, accumulated, resumed, refused."""

import itertools
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from kept_folder import write_kept
from options import OPTIONS
from test_every_option import BASE, with_options, write_set
from test_on_features import on, rows, weights

from avmix.commands import evaluate as evaluation
from avmix.commands import train
from avmix.config import EvalConfig, TrainConfig, load_config
from avmix.evaluation.kept_predictions import PredictionsError
from avmix.evaluation.prediction_file import read_predictions
from avmix.training import checkpoint
from avmix.training.checkpoint import CheckpointError
from avmix.training.measurements import StepRecord, Stopwatch
from avmix.training.runlog import RunLog

pytestmark = pytest.mark.long

SHARED = {"model.shared_width": 4, "optim.epochs": 2, "optim.warmup_epochs": 0.0,
          "optim.lr": 0.02, "run.save_every": 1, "data.val_split": ""}  # fmt: skip
METHODS: dict[str, dict[str, Any]] = {
    "none": {},
    "ogm_ge": {"balance.noise": 1.0},
    "mmpareto": {},
    "opm": {"balance.drop_batches": 0.9},
    "umt": {"balance.distill": 0.1},
    "g_blend": {"balance.super_epoch": 1, "data.val_split": "val"},
}
MIXING: dict[str, dict[str, Any]] = {
    "none": {"mix.method": "none"},
    **{word: {"mix.method": word} for word in (
        "mixup@feature", "independent@feature", "video@feature", "audio@feature", "cross",
        "dropout", "mixup@feature+dropout", "cross+dropout")},
    "switch": {"mix.switch": {"mixup@feature": 0.5, "none": 0.5}},
    "second batch": {"mix.method": "mixup@feature", "mix.pairing": "second_batch"},
}  # fmt: skip


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_kept(tmp_path_factory.mktemp("kept") / "features",
                      {"train": 16, "val": 8, "test": 9}, views=2)  # fmt: skip


@pytest.fixture(scope="module")
def teachers(kept: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Networks of one modality, evaluated too."""
    found = {}
    for name in ("video", "audio"):
        out = tmp_path_factory.mktemp("teachers") / name
        train.train(on(kept, out, {**SHARED, "model.modalities": name}))
        evaluation.evaluate(EvalConfig(checkpoint=str(out), threads=1, resamples=0))
        found[f"balance.{name}_teacher"] = str(out)
    return found


def options(method: str, teachers: dict[str, Any], **more: Any) -> dict[str, Any]:
    taught = teachers if method == "umt" else {}
    return {**SHARED, "balance.method": method, **METHODS[method], **taught, **more}


def interrupted(config: TrainConfig, at: tuple[int, int], patch: pytest.MonkeyPatch) -> None:
    """Train to just after a step, which is lost."""
    note = RunLog.step_done

    def stop(log: RunLog, record: StepRecord, watch: Stopwatch) -> None:
        note(log, record, watch)
        if (record.epoch, record.step) == at:
            raise KeyboardInterrupt

    with patch.context() as here:
        here.setattr(RunLog, "step_done", stop)
        with pytest.raises(KeyboardInterrupt):
            train.train(config)


SHORT = [("ogm_ge", "mixup@feature"), ("mmpareto", "cross+dropout"), ("opm", "mixup@feature"),
         ("umt", "cross"), ("g_blend", "none")]  # fmt: skip
CASES = [
    pytest.param(*case, marks=[] if case in SHORT else [pytest.mark.long])
    for case in itertools.product(METHODS, MIXING)
]


@pytest.mark.parametrize(("method", "mixing"), CASES)
def test_every_method_trains_with_every_mixing_and_resumes_exactly(
    kept: Path, teachers: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    method: str, mixing: str,
) -> None:  # fmt: skip
    for fraction in ("whole", "two"):
        config = on(kept, tmp_path / fraction, options(method, teachers, **MIXING[mixing]))
        if fraction == "two":
            interrupted(config, (1, 1), monkeypatch)
            state = checkpoint.load(tmp_path / "two/last.pt")
            assert (state.epoch, state.step) == (1, 1)
        train.train(config)
    ours, whole = weights(tmp_path / "two"), weights(tmp_path / "whole")
    assert all(ours[name].equal(whole[name]) for name in whole)
    assert rows(tmp_path / "two") == rows(tmp_path / "whole")
    states = [checkpoint.load(tmp_path / name / "last.pt").balance for name in ("two", "whole")]
    assert states[0] == states[1]
    num_steps = len(rows(tmp_path / "whole"))
    assert num_steps == (4 if mixing == "second batch" else 8)


@pytest.mark.parametrize("method", [name for name in METHODS if name != "none"])
def test_every_method_acts(
    kept: Path, teachers: dict[str, Any], tmp_path: Path, method: str
) -> None:
    """Other weights than without it, also with updates of several steps."""
    more = {"optim.accumulate": 2, "mix.method": "none", "optim.epochs": 3}
    train.train(on(kept, tmp_path / "with", options(method, teachers, **more)))
    plain = options("none", {}, **more)
    train.train(on(kept, tmp_path / "without", plain))
    ours, theirs = weights(tmp_path / "with"), weights(tmp_path / "without")
    assert any(not ours[name].equal(theirs[name]) for name in theirs)
    assert all(one.isfinite().all() for one in ours.values())


@pytest.mark.parametrize("key", [key for key in OPTIONS if key.startswith("balance.")
                                 and "teacher" not in key and key != "balance.method"])  # fmt: skip
def test_every_option_acts(kept: Path, teachers: dict[str, Any], tmp_path: Path, key: str) -> None:
    value, enables, _ = OPTIONS[key]
    more = {"mix.method": "none", "optim.epochs": 3}
    usual = options(enables["balance.method"], teachers, **more)
    if key == "balance.super_epoch":
        usual |= {key: 3}
    train.train(on(kept, tmp_path / "with", {**usual, key: value}))
    train.train(on(kept, tmp_path / "without", usual))
    ours, theirs = weights(tmp_path / "with"), weights(tmp_path / "without")
    assert any(not ours[name].equal(theirs[name]) for name in theirs)


INPUT = {"none": {}, "mixup": {}, "cutmix_temporal": {}, "mixup@layer": {}, "mixup+dropout": {},
         "energy": {"mix.audio_domain": "power"}}  # fmt: skip


@pytest.mark.long
@pytest.mark.parametrize("mixing", INPUT)
def test_every_method_trains_on_clips(tmp_path: Path, mixing: str) -> None:
    """With every kind of mixing of frames and spectrograms, and with encoders that learn."""
    data = write_set(tmp_path / "data", 0, {"train": 8, "val": 4})
    usual = {"data.root": str(data), "mix.method": mixing, **INPUT[mixing]}
    taught = {}
    for name in ("video", "audio"):
        alone = {"model.modalities": name, "mix.method": "none", "run.out": str(tmp_path / name)}
        train.train(with_options(BASE, {"data.root": str(data), **alone}))
        taught[f"balance.{name}_teacher"] = str(tmp_path / name)
    for method, more in METHODS.items():
        words = {**usual, **more, "balance.method": method, "run.out": str(tmp_path / method)}
        words |= taught if method == "umt" else {}
        train.train(with_options(BASE, words))
        lines = rows(tmp_path / method)
        assert len(lines) == 4
        assert all(math.isfinite(line["loss"]) for line in lines)
        same = weights(tmp_path / method).items()
        if method in ("ogm_ge", "mmpareto", "umt"):
            theirs = weights(tmp_path / "none")
            moved = {name.partition(".")[0] for name, one in same if not one.equal(theirs[name])}
            assert {"video", "audio"} <= moved


def test_every_run_logs_how_far_one_modality_is_ahead(teachers: dict[str, Any], kept: Path,
                                                      tmp_path: Path) -> None:  # fmt: skip
    train.train(on(kept, tmp_path, options("none", {}, **{"mix.method": "none"})))
    for line in rows(tmp_path, "epoch"):
        ratio = torch.tensor(line["loss_audio"] - line["loss_video"]).exp().item()
        assert line["confidence_ratio"] == pytest.approx(ratio)
    alone = Path(teachers["balance.video_teacher"])
    assert all(line["confidence_ratio"] is None for line in rows(alone, "epoch"))


def test_weights_that_g_blend_finds_are_logged(kept: Path, tmp_path: Path) -> None:
    train.train(on(kept, tmp_path, options("g_blend", {}, **{"mix.method": "none"})))
    found = rows(tmp_path, "loss_weights")
    assert [line["epoch"] for line in found] == [1]
    assert sum(found[0][name] for name in ("fused", "video", "audio")) == pytest.approx(2.0)


# What is refused ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"balance.method": "ogm_ge", "loss.video": 0.0},
         "loss.video and loss.audio must be > 0 for balance.method ogm_ge"),
        ({"balance.method": "opm", "model.modalities": "video"},
         "balance.method needs two modalities"),
        ({"balance.method": "mmpareto", "loss.audio": 0.0}, "must be > 0 for balance.method mmp"),
        ({"balance.method": "mmpareto", "run.compile": True}, "run.compile must be false"),
        ({"balance.method": "mmpareto", "model.joint.encoder": "avmix:mbt"},
         "model.joint.encoder avmix:mbt is of both"),
        ({"balance.method": "opm", "model.joint.encoder": "avmix:mbt",
          "mix.method": "mixup@feature"}, "the other modality has seen what is left out"),
        ({"balance.method": "g_blend", "loss.label_smoothing": 0.1}, "loss.label_smoothing must"),
        ({"balance.method": "g_blend", "loss.class_weights": "counts"}, "loss.class_weights must"),
        ({"balance.method": "g_blend", "loss.kind": "binary"}, "must not be g_blend for several"),
        ({"balance.method": "umt"}, "balance.video_teacher must name a checkpoint"),
        ({"balance.method": "opm", "balance.drop": 0.9}, "balance.drop_rise must leave"),
    ],
)  # fmt: skip
def test_what_a_method_cannot_work_with_is_named(more: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        with_options(TrainConfig(), more)


def test_a_branch_that_cannot_learn_is_refused(kept: Path, tmp_path: Path) -> None:
    more = {"model.shared_width": 0, "mix.method": "none"}
    with pytest.raises(ValueError, match=r"between the video and its feature.*shared_width > 0"):
        train.train(on(kept, tmp_path, options("ogm_ge", {}, **more)))


def test_g_blend_without_validation_clips_is_refused(kept: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"g_blend needs validation clips.*data.holdout"):
        train.train(on(kept, tmp_path, options("g_blend", {}, **{"data.val_split": ""})))


def test_g_blend_never_learns_from_the_test_set(kept: Path, tmp_path: Path) -> None:
    """As the ports do: without test clips the weights are the same."""
    found = []
    for number, splits in enumerate(({"train": 16, "val": 8, "test": 9}, {"train": 16, "val": 8})):
        folder = write_kept(tmp_path / f"features{number}", splits, views=2)
        out = tmp_path / f"run{number}"
        train.train(on(folder, out, options("g_blend", {}, **{"mix.method": "none"})))
        found.append(rows(out, "loss_weights"))
    assert found[0] == found[1]


def test_teachers_that_do_not_fit_are_refused(
    kept: Path, teachers: dict[str, Any], tmp_path: Path
) -> None:
    video, audio = teachers.values()
    cases = [
        ({"balance.video_teacher": audio}, "is a network of model.modalities audio, not video"),
        ({"model.shared_width": 5}, "otherwise than this run .model.shared_width 4 -> 5"),
        ({"balance.audio_teacher": str(tmp_path / "none.pt")}, "no such checkpoint"),
    ]
    for more, reason in cases:
        with pytest.raises(CheckpointError, match=reason):
            train.train(on(kept, tmp_path / "run", options("umt", teachers, **more)))
    other = write_kept(tmp_path / "other", {"train": 16}, views=2, weights="b")
    with pytest.raises(CheckpointError, match=r"balance.video_teacher: .*weights_sha256"):
        train.train(on(other, tmp_path / "run", options("umt", teachers)))
    config = on(kept, tmp_path / "run", options("umt", teachers))
    train.train(config)
    swapped = tmp_path / "video.pt"
    state = checkpoint.load(Path(video) / "last.pt")
    checkpoint.save(swapped, state)  # the same network: only its file is another one
    more = {"balance.video_teacher": str(swapped)}
    with pytest.raises(CheckpointError, match=r"balance.video_teacher '.*' -> '.*video.pt'"):
        train.train(on(kept, tmp_path / "run", options("umt", teachers, **more)))


@pytest.mark.parametrize("key", [key for key in OPTIONS if key.startswith("balance.")
                                 and key != "balance.method"])  # fmt: skip
def test_an_option_of_another_method_is_named(key: str, capsys: pytest.CaptureFixture) -> None:
    value = OPTIONS[key][0]
    with pytest.raises(SystemExit):
        load_config(TrainConfig, [f"--{key}", str(value)])
    assert f"{key} cannot act without balance.method" in capsys.readouterr().err


# Separate networks --------------------------------------------------------------------------------


def test_separate_networks_are_evaluated_as_one(
    teachers: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    folders = [Path(one) / "eval_test" for one in teachers.values()]
    video, audio = map(read_predictions, folders)
    ask = EvalConfig(predictions=str(folders[1]), mean_with=str(folders[0]),
                     out=str(tmp_path), resamples=0)  # fmt: skip
    scores = evaluation.evaluate(ask)
    both = read_predictions(tmp_path)
    hears = audio.counted["fused"]
    assert 0 < hears.sum() < len(hears)  # a clip without audio is the video network's alone
    p_v, p_a = video.probability["fused"], audio.probability["fused"]
    assert both.probability["fused"][hears] == pytest.approx((p_v + p_a)[hears] / 2)
    assert (both.probability["fused"][~hears] == p_v[~hears]).all()
    assert (both.probability["video missing"] == p_a).all()
    assert both.counted["audio head"].tolist() == hears.tolist()
    fused = scores["fused"]
    assert fused is not None
    right = both.probability["fused"].argmax(1) == both.label
    assert fused.main == pytest.approx(right.mean())
    assert json.loads((tmp_path / "result.json").read_text())["num_evaluated"] == 9
    with pytest.raises(PredictionsError, match="got video and video"):
        evaluation.evaluate(EvalConfig(predictions=str(folders[0]), mean_with=str(folders[0]),
                                       out=str(tmp_path)))  # fmt: skip
    with pytest.raises(ValueError, match="out must name a folder for mean_with"):
        EvalConfig(predictions=str(folders[0]), mean_with=str(folders[1]))
    with pytest.raises(ValueError, match="mean_with cannot act without --from"):
        EvalConfig(checkpoint="x", mean_with="y", out="z")


def test_a_prediction_does_not_depend_on_its_neighbours(
    teachers: dict[str, Any], tmp_path: Path
) -> None:
    """As MLA's does, whose fusion takes a softmax over the batch."""
    found = []
    for size in (1, 4, 32):
        out = tmp_path / str(size)
        evaluation.evaluate(EvalConfig(checkpoint=teachers["balance.video_teacher"], threads=1,
                                       batch_size=size, resamples=0, out=str(out)))  # fmt: skip
        found.append(read_predictions(out).probability["fused"])
    assert found[1] == pytest.approx(found[0], abs=1e-6)
    assert found[2] == pytest.approx(found[0], abs=1e-6)
