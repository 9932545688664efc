"""Training and evaluation on kept features: the same engine, and the same numbers as on clips."""

import json
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from kept_folder import write_kept
from options import OF_CLIPS, OPTIONS, words
from test_every_option import BASE, with_options, write_set, write_weights
from test_features import HERE, keep, keeping

import avmix
from avmix.commands import evaluate as evaluation
from avmix.commands import train
from avmix.config import EvalConfig, ModelConfig, TrainConfig, load_config, to_yaml
from avmix.config.unused_options import NEEDS, unused_options
from avmix.data.feature_loader import FeatureSource, feature_eval_loader, feature_train_loader
from avmix.data.kept_features import FeaturesError, open_features
from avmix.data.manifest import ManifestError
from avmix.data.tensor_file import Shape, open_tensors, write_tensors
from avmix.evaluation.metrics import Scores
from avmix.evaluation.prediction_file import read_predictions
from avmix.features.frozen_encoders import of_config
from avmix.features.network_for_clips import network_for_clips
from avmix.mix.mix_plan import unmixed_plan
from avmix.models.on_features import KeptFrontend, build_on_features
from avmix.rng import rng
from avmix.training import checkpoint
from avmix.training.checkpoint import CheckpointError
from avmix.training.measurements import StepRecord, Stopwatch
from avmix.training.runlog import RunLog
from avmix.training.training_setup import build

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """23 clips to train on, 9 for validation, 11 to test on; three views of each."""
    return write_kept(tmp_path_factory.mktemp("kept") / "features",
                      {"train": 23, "val": 9, "test": 11}, views=3)  # fmt: skip


def on(features: Path, out: Path, options: dict[str, Any] | None = None) -> TrainConfig:
    usual: dict[str, Any] = {
        "data.features": str(features), "run.out": str(out), "run.device": "cpu", "run.threads": 1,
        "run.log_every": 1, "optim.epochs": 3, "optim.batch_size": 4, "mix.method": "mixup@feature",
    }  # fmt: skip
    return with_options(TrainConfig(), usual | (options or {}))


def rows(out: Path, kind: str = "step") -> list[dict[str, Any]]:
    lines = map(json.loads, (out / "metrics.jsonl").read_text().splitlines())
    return [row for row in lines if row["kind"] == kind]


def weights(out: Path) -> dict[str, torch.Tensor]:
    return checkpoint.load(out / "last.pt").model


# Equal to clips -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> TrainConfig:
    """A run on tiny clips as long as its window, with frozen encoders and without augmentation."""
    data = write_set(tmp_path_factory.mktemp("equal") / "data", 0, {"train": 12, "val": 5})
    write_weights(data)
    return with_options(BASE, {
        "data.root": str(data), "data.num_workers": 0, "data.val_split": "val",
        "clip.duration_seconds": 1.0, "clip.short_side": 16,
        "augment.crop": "centre", "augment.flip": 0.0,
        "frontend.mel_mean": -0.3, "frontend.mel_std": 3.7,
        "model.video.weights": str(data / "video.pt"), "model.video.frozen": True,
        "model.audio.weights": str(data / "audio.pt"), "model.audio.frozen": True,
        "optim.epochs": 3, "optim.lr": 0.02,
    })  # fmt: skip


@pytest.fixture(scope="module")
def features_of_clips(clips: TrainConfig) -> Path:
    data = Path(clips.data.root)
    what = keeping(data, data.parent / "features", num_views=1)
    for split in ("train", "val"):
        keep(what, of_config(clips, ["video", "audio"]), split=split)
    return what.out


@pytest.mark.parametrize(
    "options",
    [
        {"mix.method": "mixup@feature"},
        {"mix.switch": {"cross+dropout": 0.5, "independent@feature+dropout": 0.5},
         "mix.cross_with": "partner", "mix.alpha": 1.0, "mix.drop_video": 0.3,
         "mix.pairing": "second_batch", "model.shared_width": 3, "loss.interpolation": 0.5,
         "loss.agreement": 0.5, "loss.contrastive": 0.5, "optim.ema_decay": 0.5},
    ],
    ids=["mixup@feature", "all that mixes features"],
)  # fmt: skip
def test_features_and_clips_give_the_same_numbers(
    clips: TrainConfig, features_of_clips: Path, tmp_path: Path, options: dict[str, Any]
) -> None:
    """Losses of every step, final weights and evaluation. The fusion begins with the same weights:
    of the same seed the encoders of the clips draw first."""
    from_clips = with_options(clips, options | {"run.out": str(tmp_path / "clips")})
    from_features = on(features_of_clips, tmp_path / "features", options | {
        "optim.lr": 0.02})  # fmt: skip
    begun = {}
    for config in (from_clips, from_features):
        with ExitStack() as at_end:
            run = build(config, HERE, at_end)
            found = run.model.load_state_dict(begun, strict=False)
            assert not begun or not found.missing_keys
            begun = begun or run.model.state_dict()
            if config is from_features:
                assert {name.partition(".")[0] for name in found.unexpected_keys} == {
                    "video", "audio"}  # fmt: skip
                if run.average is not None:
                    run.average.model.load_state_dict(run.model.state_dict())
                run.save("last.pt", 0, 0, -1.0)
    for config in (from_clips, from_features):
        train.train(config)
    ours, theirs = rows(tmp_path / "features"), rows(tmp_path / "clips")
    assert len(ours) == len(theirs) == (9 if "mix.method" in options else 3)
    for mine, other in zip(ours, theirs, strict=True):
        assert mine.keys() == other.keys()
        assert (mine["epoch"], mine["step"]) == (other["epoch"], other["step"])
        for name in mine.keys() - {"kind"}:
            value = mine[name]
            assert value == pytest.approx(other[name], abs=1e-5, rel=1e-5), name
    assert max(row["loss"] for row in ours) - min(row["loss"] for row in ours) > 0.01
    after, wanted = weights(tmp_path / "features"), weights(tmp_path / "clips")
    assert len(after) > 8
    for name, value in after.items():
        torch.testing.assert_close(value, wanted[name], atol=1e-5, rtol=1e-5)
    for mine, other in zip(rows(tmp_path / "features", "epoch"), rows(tmp_path / "clips", "epoch"),
                           strict=True):  # fmt: skip
        for head, scores in other["val"].items():
            assert mine["val"][head] == pytest.approx(scores, abs=1e-5)
    found = []
    for name, num_workers in (("clips", 0), ("features", 1)):
        asked = EvalConfig(checkpoint=str(tmp_path / name), split="val", device="cpu", threads=1,
                           num_views=1, num_workers=num_workers)  # fmt: skip
        found.append(evaluation.evaluate(asked)["fused"])
    assert found[0] is not None
    assert found[1] is not None
    assert found[0].num_clips == 5
    assert found[0].nll == pytest.approx(found[1].nll, abs=1e-5)


@pytest.mark.long
def test_windows_mixed_before_frozen_encoders_train_as_clips_do(
    clips: TrainConfig, features_of_clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """benchmarks/training/frozen_windows.py: the losses of every step and the weights of a run on
    clips whose frames and spectrograms are mixed, and of none that mixes otherwise."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    from training.frozen_windows import train_on_windows  # type: ignore[import-not-found]

    mixup = {"mix.method": "mixup", "mix.alpha": 1.0}
    from_clips = with_options(clips, mixup | {"run.out": str(tmp_path / "clips")})
    plain = on(features_of_clips, tmp_path / "windows", {"mix.method": "none", "optim.lr": 0.02})
    with ExitStack() as at_end:
        begun = build(from_clips, HERE, at_end).model.state_dict()
        run = build(plain, HERE, at_end)
        assert run.model.load_state_dict(begun, strict=False).missing_keys == []
        run.save("last.pt", 0, 0, -1.0)
    train.train(from_clips)
    encoders = of_config(clips, ["video", "audio"])
    train_on_windows(plain, from_clips.mix, encoders, Path(clips.data.root))
    ours, theirs = rows(tmp_path / "windows"), rows(tmp_path / "clips")
    assert len(ours) == len(theirs) == 9
    for mine, other in zip(ours, theirs, strict=True):
        for name in ("loss", "loss_fused", "loss_video", "loss_audio", "grad_norm_fusion"):
            assert mine[name] == pytest.approx(other[name], abs=1e-5, rel=1e-5), name
    after, wanted = weights(tmp_path / "windows"), weights(tmp_path / "clips")
    for name, value in after.items():
        torch.testing.assert_close(value, wanted[name], atol=1e-5, rtol=1e-5)
        assert "." not in name or not torch.equal(value, begun[name]), name


# The loader ---------------------------------------------------------------------------------------


def test_a_view_of_each_clip_is_drawn_by_seed_epoch_and_row(kept: Path) -> None:
    found = open_features(kept, "train")
    order = rng(5, 2, "order").permutation(23)
    drawn = rng(5, 2, "view").integers(3, size=23)
    assert set(drawn.tolist()) == {0, 1, 2}
    for rank in (0, 1):
        loader = feature_train_loader(found, found.manifest, batch_size=4, seed=5, rank=rank,
                                      world_size=2)  # fmt: skip
        batches = [batch for batch, _ in loader.epoch(2)]
        assert len(batches) == 2
        for step, batch in enumerate(batches):
            rows = order[8 * step + rank : 8 * (step + 1) : 2]
            assert batch.row.tolist() == rows.tolist()
            for name in ("video", "audio"):
                wanted = found.features[name][rows, drawn[rows]]
                np.testing.assert_array_equal(getattr(batch, name), wanted)
            assert batch.target.argmax(1).tolist() == (rows % 4).tolist()
            assert batch.has_audio.tolist() == (rows % 7 != 6).tolist()
            assert batch.has_video.all()
        again = [batch for batch, _ in loader.epoch(2, 1)]
        assert again[0].row.equal(batches[1].row)
        assert again[0].video.equal(batches[1].video)


def test_evaluation_reads_every_view_of_every_clip_once(kept: Path) -> None:
    found = open_features(kept, "test")
    batches = [
        loaded.batch
        for loaded in feature_eval_loader(found, found.manifest, batch_size=7, world_size=2)
    ]
    assert all(batch is not None for batch in batches)
    rows = [row for batch in batches if batch is not None for row in batch.row.tolist()]
    assert rows == [row for row in range(0, 11, 2) for _ in range(3)]
    video = torch.cat([batch.video for batch in batches if batch is not None])
    np.testing.assert_array_equal(video, found.features["video"][::2].reshape(-1, 6))


def test_few_shots_take_the_features_of_their_clips(kept: Path, tmp_path: Path) -> None:
    config = on(kept, tmp_path, {"data.shots": 3, "data.shots_seed": 4})
    found = open_features(kept, "train")
    with ExitStack() as at_end:
        run = build(config, HERE, at_end)
        assert len(run.train.entries) == 12
        ids = [entry.clip_id for entry in found.manifest.entries]
        for batch, _ in run.loader.epoch(0):
            rows = [ids.index(run.train.entries[row].clip_id) for row in batch.row.tolist()]
            drawn = rng(0, 0, "view").integers(3, size=12)[batch.row]
            np.testing.assert_array_equal(batch.audio, found.features["audio"][rows, drawn])
            assert batch.has_audio.tolist() == [row % 7 != 6 for row in rows]


def test_half_precision_is_read_as_float32(tmp_path: Path) -> None:
    found = open_features(write_kept(tmp_path, {"train": 8}, dtype="<f2"), "train")
    batch, _ = next(
        iter(feature_train_loader(found, found.manifest, batch_size=8, seed=0).epoch(0))
    )
    assert batch.video.dtype == torch.float32
    np.testing.assert_array_equal(batch.video, found.features["video"][batch.row, 0])


def test_one_modality_alone_is_refused(kept: Path) -> None:
    found = open_features(kept, "train")
    found = replace(found, features={"video": found.features["video"]})
    with pytest.raises(FeaturesError, match="there are no audio features; `avmix features`"):
        FeatureSource(found, found.manifest)


@pytest.mark.parametrize(
    "more",
    [{"unknown_labels": ("c1",)}, {"video_labels": ("c0",), "audio_labels": ()},
     {"labels": ("c0", "c1")}],
)  # fmt: skip
def test_labels_that_features_cannot_have_are_refused(kept: Path, more: dict[str, Any]) -> None:
    """What is unknown must not be trained on as absent, nor what is visible as audible."""
    found = open_features(kept, "train")
    first = replace(found.manifest.entries[0], **more)
    manifest = replace(found.manifest, entries=(first, *found.manifest.entries[1:]))
    with pytest.raises(ManifestError, match="'train0' has several labels, unknown ones or some"):
        FeatureSource(found, manifest)


# Runs ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def finished(kept: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("finished") / "run"
    result = train.train(on(kept, out))
    assert result.epochs == 3
    return out


@pytest.mark.long
def test_a_run_learns_validates_and_says_what_it_reads(
    kept: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = train.train(on(kept, tmp_path, {"optim.epochs": 30, "optim.lr": 0.03}))
    said = " ".join(capsys.readouterr().out.split())
    assert f"features of {kept}" in said
    assert "log-mels" not in said
    assert " loader" not in said
    assert result.best is not None
    assert result.val is not None
    fused = result.val["fused"]
    assert isinstance(fused, Scores)
    assert fused.top1 > 0.8  # of four classes
    assert len(rows(tmp_path, "epoch")) == 30
    assert rows(tmp_path, "at_chance") == []


def test_interrupted_and_resumed_it_is_the_same_to_the_bit(
    kept: Path, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, note = on(kept, tmp_path, {"run.save_every": 2}), RunLog.step_done

    def interrupted(log: RunLog, record: StepRecord, watch: Stopwatch) -> None:
        note(log, record, watch)
        if (record.epoch, record.step) == (1, 3):
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(RunLog, "step_done", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train.train(config)
    state = checkpoint.load(tmp_path / "last.pt")
    assert (state.epoch, state.step) == (1, 2)
    train.train(config)
    assert rows(tmp_path) == rows(finished)
    ours, theirs = weights(tmp_path), weights(finished)
    assert all(ours[name].equal(theirs[name]) for name in theirs)


@pytest.mark.long
def test_two_processes_train_one_network(kept: Path, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(to_yaml(on(kept, tmp_path / "run")))
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2",
         str(ROOT / "train.py"), "--config", str(tmp_path / "config.yaml")],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "2 processes" in done.stdout
    assert len(rows(tmp_path / "run")) == 3 * (23 // 8)


def test_a_network_is_evaluated_by_the_mean_over_views(
    kept: Path, finished: Path, tmp_path: Path
) -> None:
    evaluation.evaluate(EvalConfig(checkpoint=str(finished), out=str(tmp_path), threads=1))
    result = json.loads((tmp_path / "result.json").read_text())
    assert (result["num_evaluated"], result["num_views"]) == (11, 3)
    found, state = open_features(kept, "test"), checkpoint.load(finished / "last.pt")
    model = build_on_features(state.config.model, 6, 4, 4)
    model.load_state_dict(state.model)
    model.eval()
    here = torch.ones(11, dtype=torch.bool)
    total = torch.zeros(11, 4)
    for view in range(3):
        video, audio = (torch.from_numpy(found.features[n][:, view].copy())
                        for n in ("video", "audio"))  # fmt: skip
        has_audio = torch.from_numpy(found.has_audio[:, view].copy())
        with torch.no_grad():
            total += model(video, audio, here, has_audio).logits.fused.softmax(1)
    ours = read_predictions(tmp_path).probability["fused"]
    np.testing.assert_allclose(ours, total / 3, atol=1e-5)


def test_other_features_are_refused_with_the_reason(
    kept: Path, finished: Path, tmp_path: Path
) -> None:
    splits = {"train": 23, "val": 9, "test": 11}
    other = write_kept(tmp_path / "other", splits, views=3, weights="b")
    reason = r"\(audio.weights_sha256 aaaaaaaaaaaa -> bbbbbbbbbbbb, video.weights_sha256 "
    with pytest.raises(CheckpointError, match=f"belongs to a run with another .*{reason}"):
        train.train(on(other, finished))
    with pytest.raises(CheckpointError, match=f"trained on other features than {other}.*{reason}"):
        evaluation.evaluate(EvalConfig(checkpoint=str(finished), features=str(other)))
    digits = write_kept(tmp_path / "digits", splits, views=3, seed=1)
    with pytest.raises(CheckpointError, match="the clips of the train split, or their features"):
        train.train(on(digits, finished))
    moved = write_kept(tmp_path / "moved", splits, views=3)
    assert train.train(on(moved, finished)).epochs == 3  # the same, elsewhere
    assert evaluation.evaluate(EvalConfig(checkpoint=str(finished), features=str(moved),
                                          out=str(tmp_path), threads=1))["fused"]  # fmt: skip


@pytest.mark.parametrize(
    ("option", "reason"),
    [
        ({"root": "x"}, "root cannot act: .* was trained on features"),
        ({"manifest": "x"}, "manifest cannot act"),
        ({"num_workers": 3}, "num_workers cannot act"),
        ({"clip_seconds": 3.0}, "clip_seconds cannot act"),
        ({"num_views": 2}, "num_views must be 3, the views that .* holds of each clip, got 2"),
        ({"split": "train2"}, "no features of a split 'train2'; it has: test, train, val"),
    ],
)
def test_evaluation_names_what_cannot_act(
    finished: Path, option: dict[str, Any], reason: str
) -> None:
    with pytest.raises(ValueError, match=reason):
        evaluation.evaluate(EvalConfig(checkpoint=str(finished), **option))


def test_who_wants_frames_refuses_a_network_on_features(finished: Path) -> None:
    with pytest.raises(CheckpointError, match="it was trained on features and has no encoders"):
        avmix.load(finished)


def _header(folder: Path, **changes: Any) -> None:
    path = folder / "features.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def _of_train(folder: Path, **changes: Any) -> None:
    said = json.loads((folder / "features.json").read_text())["splits"]["train"]
    _header(folder, splits={"train": said | changes})


def _tensors(folder: Path, **changes: np.ndarray) -> None:
    """Other tensors, with their hash."""
    path = folder / "train.safetensors"
    found = {name: np.array(t) for name, t in open_tensors(path).tensors.items()} | changes
    found = {name: t for name, t in found.items() if t.size}
    shapes = {name: Shape(t.dtype, t.shape) for name, t in found.items()}
    _of_train(folder, sha256=write_tensors(path, shapes, lambda name: [found[name]], {}))


TAMPERED: dict[str, tuple[Callable[[Path], object], str]] = {
    "deep": (lambda f: (f / "features.json").write_text("[" * 100_000) and None, "not a header"),
    "list": (lambda f: _header(f, identity=[1]), "not a header of features"),
    "no views": (lambda f: _header(f, identity={}), "KeyError.'views'"),
    "views": (lambda f: _header(f, identity={"views": "2"}), "views '2'"),
    "0 views": (lambda f: _header(f, identity={"views": 0}), "views 0"),
    "more views": (lambda f: _header(f, identity={"views": 10**9}),
                   "2 views of each clip; features.json says 1000000000"),
    "splits": (lambda f: _header(f, splits=["train"]), "not a header of features"),
    "split": (lambda f: _header(f, splits={"train": 3}), "not a header of features"),
    "complete": (lambda f: _of_train(f, complete="no"), "'train' is complete: 'no'"),
    "hash": (lambda f: _of_train(f, sha256=None), "the hashes of 'train' are no words"),
    "no has_audio": (lambda f: _tensors(f, has_audio=np.zeros((0, 2), bool)), "no has_audio"),
    "kind of has_audio": (lambda f: _tensors(f, has_audio=np.ones((8, 2), np.uint8)), "has_audio"),
    "flat": (lambda f: _tensors(f, video=np.ones((8, 6), "<f4")), "video is float32 .8, 6., not"),
    "other views": (lambda f: _tensors(f, audio=np.ones((8, 3, 4), "<f4")), "audio is float32"),
    "whole numbers": (lambda f: _tensors(f, audio=np.ones((8, 2, 4), "<i8")), "audio is int64"),
    "rows": (lambda f: _tensors(f, audio=np.ones((9, 2, 4), "<f4")), "rows, and 8 clips"),
}  # fmt: skip


@pytest.mark.parametrize("name", TAMPERED)
def test_a_folder_that_somebody_changed_is_refused(name: str, tmp_path: Path) -> None:
    folder = write_kept(tmp_path / "x", {"train": 8}, views=2)
    change, reason = TAMPERED[name]
    change(folder)
    with pytest.raises(FeaturesError, match=f"x(/.*)?: .*{reason}"):
        open_features(folder, "train")


# Options ------------------------------------------------------------------------------------------

ON = ["--data.features", "x", "--mix.method"]


@pytest.mark.parametrize("word", ["mixup", "mixup@input", "video", "cutmix_temporal", "energy",
                                  "mixup@layer", "cutmix_spatial+dropout"])  # fmt: skip
def test_mixing_of_frames_is_refused(word: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        load_config(TrainConfig, [*ON, word, "--mix.audio_domain", "power"])
    said = capsys.readouterr().err
    assert said.startswith("error: mix.method must mix @feature for data.features, which are ")
    assert repr(word) in said


@pytest.mark.parametrize("word", ["none", "dropout", "mixup@feature", "independent@feature+dropout",
                                  "audio@feature"])  # fmt: skip
def test_mixing_of_features_is_taken(word: str) -> None:
    assert load_config(TrainConfig, [*ON, word]).data.features == "x"


def test_a_switch_between_methods_is_looked_through(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        load_config(TrainConfig, ["--data.features", "x", "--mix.switch",
                                  "{mixup@feature: 0.5, cutmix_spatial: 0.5}"])  # fmt: skip
    assert "mix.switch must mix @feature" in capsys.readouterr().err


@pytest.mark.parametrize("key", OF_CLIPS)
def test_options_of_clips_are_named(key: str) -> None:
    value, enables, _ = OPTIONS[key]
    on_features = {"data.features": "x", "mix.method": "none"}
    config = with_options(TrainConfig(), {**enables, key: value, **on_features})
    said = unused_options(config)[key]
    assert said.startswith(f"{key} cannot act without clips (an empty data.features), got ")


def test_a_later_option_switches_clips_off(kept: Path, tmp_path: Path,
                                           capsys: pytest.CaptureFixture[str]) -> None:  # fmt: skip
    """Of a configuration for clips, all that concerns them is switched off, and said."""
    config = load_config(TrainConfig, [
        "--config", str(ROOT / "configs/smoke.yaml"),
        *words({"data.features": str(kept), "mix.method": "mixup@feature", "optim.epochs": 1,
                "optim.batch_size": 4, "mix.ramp_epochs": 0, "run.out": str(tmp_path / "run"),
                "run.threads": 1, "run.device": "cpu"}),
    ])  # fmt: skip
    train.train(config)
    said = " ".join(capsys.readouterr().out.split())
    assert "switched off: clip.num_frames cannot act without clips" in said
    assert "switched off: model.video.channels cannot act without clips" in said
    state = checkpoint.load(tmp_path / "run/last.pt").config
    assert state.clip == TrainConfig().clip
    assert state.model.video == ModelConfig().video


def test_every_need_of_clips_is_in_the_table() -> None:
    with_need = {key for key, needs in NEEDS.items() if any("clips" in n.says for n in needs)}
    assert with_need == {*OF_CLIPS}


def test_a_plan_that_mixes_input_is_refused_by_the_front_end(kept: Path) -> None:
    found = open_features(kept, "train")
    batch, _ = next(
        iter(feature_train_loader(found, found.manifest, batch_size=4, seed=0).epoch(0))
    )
    plan = unmixed_plan({"video": [True] * 4, "audio": [True] * 4})
    video, audio = KeptFrontend()(batch, plan.to(torch.device("cpu")))
    assert video.equal(batch.video)
    assert audio.equal(batch.audio)
    mixed = replace(plan, method="mixup", parts=tuple(
        replace(part, weight=(0.5,) * 4) for part in plan.parts))  # fmt: skip
    with pytest.raises(ValueError, match="mixes mixup@input, features are mixed @feature"):
        KeptFrontend()(batch, mixed.to(torch.device("cpu")))


def test_encoders_and_what_was_trained_on_their_features_take_clips(
    clips: TrainConfig, features_of_clips: Path, tmp_path: Path
) -> None:
    train.train(on(features_of_clips, tmp_path / "run", {"model.shared_width": 3}))
    evaluation.evaluate(EvalConfig(checkpoint=str(tmp_path / "run"), split="val", threads=1))
    said = read_predictions(tmp_path / "run/eval_val")
    ids = [clip.clip_id for clip in said.clips]
    wanted = dict(zip(ids, said.probability["fused"].tolist(), strict=True))
    assert len(wanted) == 5
    network_for_clips(tmp_path / "run", clips).save(tmp_path / "whole.safetensors")
    network = avmix.load(tmp_path / "whole.safetensors")
    for clip_id, probability in wanted.items():
        clip = avmix.decode_clip(Path(clips.data.root) / clip_id, start_seconds=0.0,
                                 **network.decoding)  # fmt: skip
        with torch.no_grad():
            heads = network(network.frames(clip), network.waveform(clip))
        np.testing.assert_allclose(heads.fused.softmax(1)[0], probability, atol=1e-5)
    other = with_options(clips, {"clip.num_frames": 3})
    with pytest.raises(CheckpointError, match=r"of other encoders \(clip.num_frames 2 -> 3\)"):
        network_for_clips(tmp_path / "run", other)
