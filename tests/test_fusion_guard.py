"""The guard of a fusion: when it lets audio in, what it then says, and that every path says it."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from kept import ORIGIN, clips_of, kept_of_arrays
from scipy.optimize import minimize

import avmix
from avmix.cli import main
from avmix.commands import evaluate as evaluation
from avmix.commands import train
from avmix.config import EvalConfig, LossConfig, ModelConfig, TrainConfig, load_config
from avmix.data.holdout import hold_out
from avmix.data.manifest import ManifestError, read_manifest, write_manifest
from avmix.evaluation.clip_statistics import single_label
from avmix.evaluation.fusion_gain import fusion_statistics
from avmix.evaluation.guard_fit import GuardFit, fit_guard
from avmix.evaluation.kept_predictions import KeptPredictions
from avmix.evaluation.metrics import EVAL_ROWS
from avmix.evaluation.prediction_file import read_predictions, write_predictions
from avmix.evaluation.resampling import Resampling, figures
from avmix.models import build_model
from avmix.models.fusion_guard import FusionGuard
from avmix.training import checkpoint
from avmix.types import Heads

ROOT = Path(__file__).parents[1]
K = 4


def softmax(logits: np.ndarray) -> np.ndarray:
    p = np.exp(logits - logits.max(1, keepdims=True))
    return p / p.sum(1, keepdims=True)


def head(seed: int, label: np.ndarray, skill: float, noise: float = 1.0) -> np.ndarray:
    """Logits that know `skill` of the labels; sources of four clips err together."""
    stream = np.random.default_rng(seed)
    n = len(label)
    shared = np.repeat(stream.normal(size=(n // 4, K)), 4, axis=0)
    logits = noise * (0.6 * shared + 0.8 * stream.normal(size=(n, K)))
    logits[np.arange(n), label] += skill
    return logits


class Case:
    """Held-out clips and test clips of the same heads: logits of video, audio and fused."""

    def __init__(self, seed: int, video: float, audio: float, fused_audio: float) -> None:
        """Skills; the fused head is the sum of both, audio times `fused_audio`."""
        self.label = np.arange(200) % K
        self.source = np.arange(200) // 4
        v, a = head(seed, self.label, video), head(seed + 1000, self.label, audio)
        self.logits = {"fused": v + fused_audio * a, "video": v, "audio": a}
        self.held, self.test = self.source % 2 == 0, self.source % 2 == 1

    def fit(self, has: np.ndarray | None = None) -> GuardFit:
        n = int(self.held.sum())
        has = np.ones((n, 2), bool) if has is None else has
        probability = {h: softmax(x[self.held]) for h, x in self.logits.items()}
        return fit_guard(probability, has[:, 0], has[:, 1], self.label[self.held],
                         self.source[self.held])  # fmt: skip

    def gain(self, fit: GuardFit | None) -> Any:
        """On the test clips; None: as the network is."""
        said = {h: torch.from_numpy(x[self.test]) for h, x in self.logits.items()}
        heads = Heads(said["fused"], said["video"], said["audio"])
        here = torch.ones(len(heads.fused), dtype=torch.bool)
        if fit is not None:
            heads = guard_of(fit)(heads, here, here)
        label = self.label[self.test]
        rows = {
            name: single_label(logits.softmax(1).float().numpy(), label)
            for name, logits in zip(("fused", "video head", "audio head"), heads, strict=True)
        }
        resampling = Resampling(source=np.unique(self.source[self.test], return_inverse=True)[1])
        return figures({"gain": fusion_statistics(rows)["gain"]}, resampling)["gain"]


def guard_of(fit: GuardFit) -> FusionGuard:
    guard = FusionGuard()
    guard.set(fit.pool, fit.scale)
    return guard.eval()


# What is fitted ----------------------------------------------------------------------------------


def test_audio_that_is_noise_is_left_alone() -> None:
    """The fused head listens to it and loses; with the guard fused is the video head, to the bit:
    the gain is 0 on every clip, so that it has no interval."""
    lost = []
    for seed in range(4):
        case = Case(seed, video=2.0, audio=0.0, fused_audio=1.5)
        fit = case.fit()
        assert (fit.fuses, fit.better) == (False, "video")
        assert fit.pool == (0.0, fit.scale[0], 0.0)
        assert fit.scale[1] < 0.3
        gain = case.gain(fit)
        assert (gain.value, gain.low, gain.high) == (0.0, None, None)
        lost.append(case.gain(None).value)
    assert np.mean(lost) < -0.05


def test_audio_that_helps_is_let_in() -> None:
    gains = []
    for seed in range(4):
        case = Case(seed, video=1.5, audio=1.5, fused_audio=1.0)
        fit = case.fit()
        assert fit.fuses
        assert fit.gain_nll.low is not None
        assert fit.gain_nll.low > 0
        gains.append(case.gain(fit).value)
    assert min(gains) > 0
    assert np.mean(gains) > 0.1


def test_the_better_head_may_be_audio() -> None:
    fit = Case(0, video=0.0, audio=2.0, fused_audio=0.5).fit()
    assert (fit.fuses, fit.better, fit.pool) == (False, "audio", (0.0, 0.0, fit.scale[1]))


def test_useless_audio_is_seldom_let_in() -> None:
    """The interval promises 2.5 % of sets of clips at most; of 12, more than one would be far
    beyond it. What the fused head adds to the video head is noise."""
    fits = [Case(seed, video=1.5, audio=0.0, fused_audio=0.3).fit() for seed in range(12)]
    assert sum(fit.fuses for fit in fits) <= 1


def by_scipy(logits: np.ndarray, label: np.ndarray) -> np.ndarray:
    """Numbers >= 0 that minimise the loss with its prior, by another method."""

    def loss(at: np.ndarray) -> float:
        p = softmax(np.tensordot(at, logits, 1))
        return float(-np.log(p[np.arange(len(label)), label]).sum() + 0.5 * at @ at)

    bounds = [(0, None)] * len(logits)
    return minimize(loss, np.full(len(logits), 0.5), bounds=bounds, tol=1e-12).x


def test_the_numbers_are_those_of_another_minimiser() -> None:
    for seed, skills in enumerate([(1.5, 1.5), (2.0, 0.6), (0.5, 1.8)]):
        case = Case(seed, *skills, fused_audio=0.7)
        fit = case.fit()
        label = case.label[case.held]
        logits = {h: np.log(softmax(x[case.held])) for h, x in case.logits.items()}
        for number, name in enumerate(("video", "audio")):
            assert fit.scale[number] == pytest.approx(by_scipy(logits[name][None], label)[0],
                                                      rel=1e-4)  # fmt: skip
        if fit.fuses:
            expected = by_scipy(np.stack([logits[h] for h in ("fused", "video", "audio")]), label)
            # The fused head is a sum of the two others: only what it adds up to is determined.
            ours, theirs = (
                (p[0] + p[1], 0.7 * p[0] + p[2]) for p in (np.array(fit.pool), expected)
            )
            assert ours == pytest.approx(theirs, abs=2e-3)


def test_few_sources_and_clips_without_a_modality() -> None:
    case = Case(0, video=1.5, audio=1.5, fused_audio=1.0)
    n = int(case.held.sum())
    few = fit_guard({h: softmax(x[case.held]) for h, x in case.logits.items()}, np.ones(n, bool),
                    np.ones(n, bool), case.label[case.held], np.arange(n) % 4)  # fmt: skip
    assert (few.fuses, few.gain_nll.low, few.num_sources) == (False, None, 4)
    assert "(no interval)" in str(few)
    has = np.ones((n, 2), bool)
    has[::3, 1] = False
    some = case.fit(has)
    assert some.num_clips == n - len(has[::3])
    assert some.scale[0] == case.fit().scale[0]  # of all clips with video
    has[:, 1] = False
    none = case.fit(has)
    assert (none.fuses, none.better, none.nll_head, none.scale[1]) == (False, "video", None, 1.0)
    assert str(none).endswith("no held-out clip has both modalities")


def test_sure_heads_have_finite_numbers() -> None:
    label, everyone = np.arange(40) % K, np.ones(40, bool)
    sure = np.eye(K)[label]
    probability = {"fused": sure, "video": sure, "audio": np.full((40, K), 1 / K)}
    fit = fit_guard(probability, everyone, everyone, label, np.arange(40) // 2)
    assert all(0 <= number < 16 for number in fit.pool)
    assert fit.scale[1] == 1 / 16  # says nothing, and is kept


# What the network then says ----------------------------------------------------------------------


def test_logits_by_hand() -> None:
    heads = Heads(*(torch.tensor([[float(i), 10.0 * i, -1.0]]).repeat(4, 1) for i in (1, 2, 3)))
    guard = FusionGuard()
    has_video, has_audio = torch.tensor([1, 1, 0, 0]).bool(), torch.tensor([1, 0, 1, 0]).bool()
    for same in (guard.eval()(heads, has_video, has_audio),):
        assert all(torch.equal(new, old) for new, old in zip(same, heads, strict=True))
    guard.set((0.5, 2.0, 1.0), (3.0, 0.25))
    assert guard.train()(heads, has_video, has_audio) is heads  # while the network learns
    found = guard.eval()(heads, has_video, has_audio)
    both = [0.5 + 2 * 2 + 3, 5.0 + 2 * 20 + 30, -0.5 - 2 - 1]
    assert found.fused.tolist() == [both, [6.0, 60.0, -3.0], [0.75, 7.5, -0.25], [0.0, 0.0, 0.0]]
    assert found.video[0].tolist() == [6.0, 60.0, -3.0]
    assert found.audio[0].tolist() == [0.75, 7.5, -0.25]
    guard.clear()
    cleared = guard.eval()(heads, has_video, has_audio)
    assert all(torch.equal(new, old) for new, old in zip(cleared, heads, strict=True))


def test_what_a_missing_modality_may_hold_does_not_reach_the_answer() -> None:
    model = build_model(ModelConfig(guard=True), K).eval()
    assert model.guard is not None
    model.guard.set((0.3, 0.6, 0.4), (2.0, 0.5))
    features = torch.randn(3, 128), torch.randn(3, 128)
    here, none = torch.ones(3, dtype=torch.bool), torch.zeros(3, dtype=torch.bool)
    broken = features[0], torch.full((3, 128), float("nan"))
    alone = model.guard(model.fusion(*broken, here, none), here, none)
    expected = model.guard(model.fusion(*features, here, none), here, none)
    assert torch.equal(alone.fused, expected.fused)
    assert torch.equal(alone.fused, alone.video)


# The whole way ------------------------------------------------------------------------------------


def smoke(data: Path, out: Path, *more: str) -> TrainConfig:
    return load_config(TrainConfig, [
        "--config", str(ROOT / "configs/smoke.yaml"), "--data.root", str(data), "--run.out",
        str(out), "--run.threads", "1", "--data.num_workers", "0", *more,
    ])  # fmt: skip


def evaluate(path: Path, split: str, out: Path) -> KeptPredictions:
    evaluation.evaluate(EvalConfig(checkpoint=str(path), split=split, num_views=1, out=str(out),
                                   num_workers=0, threads=1))  # fmt: skip
    return read_predictions(out)


@pytest.fixture(scope="module")
def plain(toy_set: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run without a guard, two epochs."""
    out = tmp_path_factory.mktemp("plain") / "run"
    train.train(smoke(toy_set, out))
    return out


@pytest.fixture(scope="module")
def learned(toy_set: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with one that is fitted after each epoch."""
    out = tmp_path_factory.mktemp("guarded") / "run"
    train.train(smoke(toy_set, out, "--model.guard", "true"))
    return out


BUFFERS = {"guard.on", "guard.pool", "guard.scale"}


def test_the_guard_has_no_part_in_what_is_learned(plain: Path, learned: Path) -> None:
    with_guard, without = (checkpoint.load(run / "last.pt").model for run in (learned, plain))
    assert with_guard.keys() - without.keys() == BUFFERS
    assert all(torch.equal(with_guard[name], without[name]) for name in without)
    assert bool(with_guard["guard.on"])
    lines = map(json.loads, (learned / "metrics.jsonl").read_text().splitlines())
    fits = [row for row in lines if row["kind"] == "guard_fit"]
    assert [row["epoch"] for row in fits] == [0, 1]
    assert with_guard["guard.pool"].tolist() == pytest.approx(fits[1]["pool"])


def test_a_trained_network_gets_the_guard_that_training_would_have_fitted(
    plain: Path, learned: Path, toy_set: Path, tmp_path: Path
) -> None:
    """`avmix guard` from kept predictions; and what the run said of validation, evaluation, the
    loaded network and its exported file all say."""
    kept = evaluate(plain, "val", plain / "eval_val")
    assert run_command("--checkpoint", str(plain), "--json", str(tmp_path / "fit.json")) == 0
    ours, theirs = (checkpoint.load(p).model for p in (plain / "guarded.pt", learned / "last.pt"))
    assert json.loads((tmp_path / "fit.json").read_text())["num_clips"] == 10
    for name in BUFFERS:
        torch.testing.assert_close(ours[name], theirs[name], rtol=1e-4, atol=1e-5)
    after = evaluate(plain / "guarded.pt", "val", tmp_path / "after")
    lines = map(json.loads, (learned / "metrics.jsonl").read_text().splitlines())
    said = [row for row in lines if row["kind"] == "epoch"][1]["val"]
    label = after.label
    assert label is not None
    for row in EVAL_ROWS:
        nll = -np.log(after.probability[row][np.arange(len(label)), label][after.counted[row]])
        assert nll.mean() == pytest.approx(said[row]["nll"], abs=1e-4), row
    assert np.array_equal(after.probability["audio missing"], after.probability["video head"])
    assert not np.array_equal(kept.probability["video head"], after.probability["video head"])
    network = avmix.load(plain / "guarded.pt")
    network.save(tmp_path / "network.safetensors")
    again = avmix.load(tmp_path / "network.safetensors")
    frames = torch.randint(0, 256, (2, 4, 32, 32, 3), dtype=torch.uint8)
    audio = torch.randn(2, 32_000)
    with torch.no_grad():
        assert torch.equal(network(frames, audio).fused, again(frames, audio).fused)
        assert torch.equal(network(frames, None).fused, network(frames, None).video)
        assert torch.equal(network(None, audio).fused, network(None, audio).audio)
    clip = kept.clips[0]
    whole = network.predict(toy_set / clip.path, num_views=1)
    expected = after.probability["fused"][0]
    assert whole.fused == pytest.approx(expected, abs=1e-5)
    assert whole.without_audio is not None
    assert whole.video is not None
    assert np.array_equal(whole.without_audio, whole.video)


def run_command(*words: str) -> int:
    with pytest.raises(SystemExit) as done:
        main(["guard", *words])
    return int(done.value.code or 0)


def test_predictions_that_may_not_choose_are_refused(
    plain: Path, learned: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = checkpoint.load(plain / "last.pt")

    def refused(where: Path, checkpoint_path: Path = plain, **others: Any) -> str:
        n = 12
        p = np.full((n, K), 1 / K)
        origin = {name: getattr(ORIGIN, name) for name in ORIGIN.__slots__}
        origin |= {"checkpoint": state.digest, **others.pop("origin", {})}
        kept = kept_of_arrays(dict.fromkeys(EVAL_ROWS, p), np.arange(n) % K, clips=clips_of(n),
                              origin=type(ORIGIN)(**origin),
                              **{"split": "val", **others})  # fmt: skip
        write_predictions(where, kept)
        out = tmp_path / "out.pt"
        assert run_command("--checkpoint", str(checkpoint_path), "--from", str(where), "--out",
                           str(out)) == 1  # fmt: skip
        assert not out.exists()
        return capsys.readouterr().err

    file = tmp_path / "kept.safetensors"
    assert "is of the test split, which must not choose anything" in refused(file, split="test")
    assert "'train', which the network was trained on" in refused(file, split="train")
    assert "which the network was trained on" in refused(file, split_sha256=state.split_sha256)
    assert "is of another checkpoint" in refused(file, origin={"checkpoint": "0" * 64})
    assert "is guarded already" in refused(file, learned)
    assert "no predictions" in refused_without(tmp_path / "nothing", plain, capsys)


def refused_without(folder: Path, run: Path, capsys: pytest.CaptureFixture[str]) -> str:
    folder.mkdir()
    assert run_command("--checkpoint", str(run), "--from", str(folder)) == 1
    return capsys.readouterr().err


@pytest.mark.long
def test_folds_guard_a_network_that_was_trained_on_all_clips(
    plain: Path, toy_set: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def fold(seed: int, *more: str) -> Path:
        out = tmp_path / f"fold{seed}"
        train.train(smoke(toy_set, out, "--data.holdout", "0.3", "--data.holdout_seed", str(seed),
                          "--data.val_split", "", "--run.seed", str(seed), *more))  # fmt: skip
        evaluate(out, "val", out / "eval_val")
        return out / "eval_val"

    def fitted(*folds: Path) -> int:
        words = ["--checkpoint", plain, "--out", tmp_path / "out.pt", "--json",
                 tmp_path / "fit.json", "--from", *folds]  # fmt: skip
        return run_command(*map(str, words))

    folds = [fold(0), fold(1)]
    assert fitted(*folds) == 0
    found = [read_predictions(path) for path in folds]
    rows = {"fused": "fused", "video": "video head", "audio": "audio head"}
    labels = [kept.label for kept in found if kept.label is not None]
    names = [clip.source_id for kept in found for clip in kept.clips]
    expected = fit_guard(
        {h: np.concatenate([k.probability[row] for k in found]) for h, row in rows.items()},
        np.concatenate([k.counted["video head"] for k in found]),
        np.concatenate([k.counted["audio head"] for k in found]),
        np.concatenate(labels),
        np.unique(names, return_inverse=True)[1],
    )
    said = json.loads((tmp_path / "fit.json").read_text())
    assert said["num_clips"] == expected.num_clips == sum(len(kept.clips) for kept in found)
    guard = checkpoint.load(tmp_path / "out.pt").model
    assert guard["guard.pool"].tolist() == pytest.approx(expected.pool, rel=1e-5)

    capsys.readouterr()
    evaluate(plain, "val", plain / "eval_val")
    assert fitted(folds[0], plain / "eval_val") == 1
    assert "folds are of other networks" in capsys.readouterr().err
    assert fitted(folds[0], fold(2, "--model.dropout", "0.7")) == 1
    assert "another model.dropout: 0.7" in capsys.readouterr().err


@pytest.mark.long
def test_what_a_run_held_out_is_its_val_split(toy_set: Path, tmp_path: Path) -> None:
    """Of a dataset without one, evaluated as such; and without any, a guard is an error at once."""
    manifest = read_manifest(toy_set, "train")
    folder = tmp_path / "no_val"
    write_manifest(folder, classes=manifest.classes, protocol="toy",
                   splits={"train": manifest.entries})  # fmt: skip
    where = ("--data.manifest", str(folder), "--optim.epochs", "1", "--model.guard", "true")
    with pytest.raises(ManifestError, match=r"^model\.guard is fitted to validation clips"):
        train.train(smoke(toy_set, tmp_path / "none", *where))
    out = tmp_path / "run"
    train.train(smoke(toy_set, out, *where, "--data.holdout", "0.25"))
    kept = evaluate(out, "val", tmp_path / "eval")
    state = checkpoint.load(out / "last.pt")
    held = hold_out(read_manifest(folder, "train"), 0.25, state.config.data.holdout_seed)
    assert [clip.clip_id for clip in kept.clips] == [e.clip_id for e in held.val.entries]
    assert kept.split_sha256 == held.val.sha256 != state.split_sha256


def test_options_that_exclude_a_guard() -> None:
    with pytest.raises(ValueError, match=r"model\.guard must be False for model\.modalities video"):
        ModelConfig(modalities="video", guard=True)
    with pytest.raises(ValueError, match=r"model\.guard compares distributions over classes"):
        TrainConfig(model=ModelConfig(guard=True), loss=LossConfig(kind="binary"))
