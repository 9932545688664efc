"""Weights of the weighted fusion: fitted as another optimiser fits them, and to validation only."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from torch import Tensor

import avmix
from avmix.commands import evaluate as evaluation
from avmix.commands import train
from avmix.config import EvalConfig, ModelConfig, TrainConfig, load_config
from avmix.data.manifest import ManifestError, read_manifest, write_manifest
from avmix.evaluation.metrics import Predictions, Scores, all_scores
from avmix.models import build_model
from avmix.models.score_fusion import WeightedFusion
from avmix.training import checkpoint
from avmix.training.score_weights import fit, fit_networks

ROOT = Path(__file__).parents[1]
CLIPS, CLASSES = 400, 7
HERE = torch.ones(CLIPS).bool()


def said(seed: int, right: float, scale: float) -> tuple[Tensor, Tensor]:
    """Logits, of which the right class has `right` more, all times `scale`; and the classes, which
    are those of every seed."""
    label = torch.arange(CLIPS) % CLASSES
    noise = torch.randn(CLIPS, CLASSES, generator=torch.Generator().manual_seed(seed))
    return scale * (noise + right * torch.eye(CLASSES)[label]), label


def nll(x: np.ndarray, video: np.ndarray, audio: np.ndarray, has: np.ndarray, y: np.ndarray) -> Any:
    """The formula in numpy; x: weight of video and both temperatures."""
    p = []
    for logits, hot in ((video, x[1]), (audio, x[2])):
        e = np.exp(logits / hot - (logits / hot).max(1, keepdims=True))
        p.append((e / e.sum(1, keepdims=True))[np.arange(len(y)), y])
    share = np.where(has.all(1), x[0], np.where(has[:, 0], 1.0, 0.0))
    there = has.any(1)
    return -np.log(share * p[0] + (1 - share) * p[1])[there].mean()


PATTERNS = {"all": (1.0, 1.0), "some lack audio": (1.0, 0.6), "some lack either": (0.8, 0.7)}


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize(("right", "scale"), [((2.0, 2.0), (1.0, 1.0)), ((2.5, 1.0), (4.0, 0.5)),
                                              ((0.8, 1.6), (0.3, 6.0))])  # fmt: skip
def test_the_fit_is_that_of_scipy(right: Any, scale: Any, pattern: str) -> None:
    (video, label), (audio, _) = (said(i, right[i], scale[i]) for i in (0, 1))
    draw = torch.rand(CLIPS, 2, generator=torch.Generator().manual_seed(2))
    has = draw < torch.tensor(PATTERNS[pattern])
    found = fit(video, audio, has[:, 0], has[:, 1], label)
    given = (video.double().numpy(), audio.double().numpy(), has.numpy(), label.numpy())
    bounds = [(1e-6, 1 - 1e-6), (1 / 16, 16), (1 / 16, 16)]
    best = min(
        (minimize(nll, start, given, method="L-BFGS-B", bounds=bounds,
                  options={"ftol": 1e-15, "gtol": 1e-9})
         for start in ([0.5, 1, 1], [0.9, 3, 3], [0.2, 0.5, 5], [0.9, 4, 0.5])),
        key=lambda one: one.fun,
    )  # fmt: skip
    assert found.nll == pytest.approx(best.fun, abs=1e-8)
    assert 0.02 < found.video_weight < 0.98
    ours = [found.video_weight, found.video_temperature, found.audio_temperature]
    assert ours == pytest.approx(best.x, rel=1e-3)
    assert found.nll_average == pytest.approx(nll(np.array([0.5, 1, 1]), *given), abs=1e-12)
    assert found.nll < found.nll_average
    assert found.num_clips == int(has.all(1).sum())


def test_a_modality_that_says_nothing_gets_no_weight() -> None:
    (video, label), (audio, _) = said(0, 2.0, 1.0), said(1, 0.0, 3.0)
    for which, share in (((video, audio), 1.0), ((audio, video), 0.0)):
        found = fit(*which, HERE, HERE, label)
        assert found.video_weight == share
        alone = [found.video_temperature, found.audio_temperature][which[0] is audio]
        one = video.double().numpy()
        given = one, one, np.ones((CLIPS, 2), bool), label.numpy()
        best = minimize(lambda t, given=given: nll(np.array([1, t[0], 1]), *given), [1.0])
        assert alone == pytest.approx(best.x[0], rel=1e-3)
        assert found.nll == pytest.approx(best.fun, abs=1e-8)


def test_both_are_never_worse_than_one_or_the_plain_average() -> None:
    for seed in range(6):
        draw = np.random.default_rng(seed)
        (video, label), (audio, _) = (
            said(9 + 2 * seed + i, draw.uniform(0, 3), draw.uniform(0.2, 5)) for i in (0, 1)
        )
        found = fit(video, audio, HERE, HERE, label)
        given = (video.double().numpy(), audio.double().numpy(), np.ones((CLIPS, 2), bool),
                 label.numpy())  # fmt: skip
        least = min(nll(np.array([share, t, t]), *given)
                    for share in (0, 0.5, 1) for t in np.geomspace(1 / 16, 16, 40))  # fmt: skip
        assert found.nll <= least + 1e-6


def test_degenerate_validation_gives_numbers() -> None:
    sure, label = said(0, 9.0, 1.0)  # every clip is right: the best temperature is the least
    other, _ = said(1, 1.0, 1.0)
    assert (sure.argmax(1) == label).all()
    found = fit(sure, sure, HERE, HERE, label)
    assert 1 / 16 <= found.video_temperature < 0.5
    assert found.nll < 1e-6
    never = fit(sure, torch.full_like(other, float("nan")), HERE, ~HERE, label)
    assert (never.video_weight, never.audio_temperature, never.num_clips) == (0.5, 1.0, 0)
    nobody = fit(sure, other, ~HERE, ~HERE, label)
    assert (nobody.video_weight, nobody.nll, nobody.num_clips) == (0.5, 0.0, 0)


def test_predictions_are_those_of_the_network_with_its_weights() -> None:
    """What is said of validation after the fit is what the network gives when it is asked again."""
    torch.manual_seed(0)
    config = ModelConfig(fusion="weighted")
    models = [build_model(config, CLASSES) for _ in range(2)]
    fusion = models[0].fusion.eval()
    assert isinstance(fusion, WeightedFusion)
    video, audio = torch.randn(60, 128), torch.randn(60, 128)
    has = torch.rand(60, 2) < 0.7
    nothing = torch.zeros(60).bool()

    def ask() -> dict[str, Tensor]:
        heads = fusion(video, audio, has[:, 0], has[:, 1])
        logits = {"fused": heads.fused, "video head": heads.video, "audio head": heads.audio,
                  "audio missing": fusion(video, audio, has[:, 0], nothing).fused,
                  "video missing": fusion(video, audio, nothing, has[:, 1]).fused}  # fmt: skip
        return {n: x.softmax(1).where(counted[n][:, None], 0) for n, x in logits.items()}

    here = {"video": has[:, 0], "audio": has[:, 1]}
    counted = {"fused": ~nothing, "video head": here["video"], "audio head": here["audio"],
               "audio missing": here["video"], "video missing": here["audio"]}  # fmt: skip
    with torch.inference_mode():
        before = ask()
        found = Predictions(row=torch.arange(60), label=torch.arange(60) % CLASSES,
                            probability=before, counted=counted)  # fmt: skip
    after, weights = fit_networks(models, found)
    assert weights is not None
    assert weights.nll < weights.nll_average
    with torch.no_grad():
        again = ask()
    for name, expected in again.items():
        torch.testing.assert_close(after.probability[name], expected)
    assert not torch.allclose(before["fused"], again["fused"])
    assert torch.equal(models[0].fusion.video_weight, models[1].fusion.video_weight)  # type: ignore[arg-type]
    # Of the fused row all clips count; of those without any modality nothing was fitted.
    fused = all_scores(after)["fused"]
    assert fused is not None
    some = has.any(1)
    on_some = -after.probability["fused"][some].gather(1, found.label[some, None]).log().mean()
    assert float(on_some) == pytest.approx(weights.nll, abs=1e-5)


# The whole way ------------------------------------------------------------------------------------


def smoke(data: Path, out: Path, *more: str) -> TrainConfig:
    return load_config(TrainConfig, [
        "--config", str(ROOT / "configs/smoke.yaml"), "--data.root", str(data), "--run.out",
        str(out), "--run.threads", "1", "--data.num_workers", "0", "--model.fusion", "weighted",
        *more,
    ])  # fmt: skip


def rows(out: Path, kind: str) -> list[dict[str, Any]]:
    lines = map(json.loads, (out / "metrics.jsonl").read_text().splitlines())
    return [row for row in lines if row["kind"] == kind]


INTERPOLATES = ("--loss.interpolation", "0.5")
"""Which compares with the network in evaluation mode."""
BUFFERS = {"fusion.video_weight", "fusion.video_temperature", "fusion.audio_temperature"}


@pytest.fixture(scope="module")
def trained(toy_set: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two epochs."""
    out = tmp_path_factory.mktemp("weighted") / "run"
    train.train(smoke(toy_set, out, *INTERPOLATES))
    return out


def test_a_run_fits_saves_and_exports_its_weights(
    trained: Path, toy_set: Path, tmp_path: Path
) -> None:
    fits = rows(trained, "score_weights")
    assert [row["epoch"] for row in fits] == [0, 1]
    state = checkpoint.load(trained / "last.pt").model
    last = {name: fits[1][name.removeprefix("fusion.")] for name in BUFFERS}
    assert {name: float(state[name]) for name in BUFFERS} == pytest.approx(last, rel=1e-6)
    assert last["fusion.video_weight"] != 0.5
    # What the run said of its last epoch is what evaluation says of the checkpoint.
    said = rows(trained, "epoch")[1]["val"]
    found = evaluation.evaluate(EvalConfig(checkpoint=str(trained), split="val", num_views=1,
                                           out=str(tmp_path / "eval"), num_workers=0,
                                           threads=1))  # fmt: skip
    for name, scores in found.items():
        assert isinstance(scores, Scores)
        assert scores.nll == pytest.approx(said[name]["nll"], abs=1e-5), name
    network = avmix.load(trained)
    network.save(tmp_path / "network.safetensors")
    again = avmix.load(tmp_path / "network.safetensors")
    frames = torch.randint(0, 256, (2, 4, 32, 32, 3), dtype=torch.uint8)
    audio = torch.randn(2, 32_000)
    with torch.no_grad():
        assert torch.equal(network(frames, audio).fused, again(frames, audio).fused)
    assert float(again.network.fusion.video_weight) == float(state["fusion.video_weight"])  # type: ignore[arg-type]


@pytest.mark.long
def test_what_is_learned_does_not_depend_on_the_clips_to_validate_on(
    trained: Path, toy_set: Path, tmp_path: Path
) -> None:
    splits = {name: read_manifest(toy_set, name).entries for name in ("train", "test")}
    classes = read_manifest(toy_set, "train").classes
    write_manifest(tmp_path / "other", classes=classes, protocol="other",
                   splits={"train": splits["train"], "val": splits["test"]})  # fmt: skip
    out = tmp_path / "run"
    train.train(smoke(toy_set, out, *INTERPOLATES, "--data.manifest", str(tmp_path / "other")))
    ours, theirs = (checkpoint.load(run / "last.pt").model for run in (trained, out))
    differ = {name for name in ours if not torch.equal(ours[name], theirs[name])}
    assert differ
    assert differ <= BUFFERS


@pytest.mark.long
def test_a_run_that_goes_on_has_the_weights_of_one_that_did_not_stop(
    trained: Path, toy_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    saves = train.Training.save
    calls: list[tuple[int, int]] = []

    def stopping(self: Any, name: str, epoch: int, step: int, *rest: Any) -> None:
        saves(self, name, epoch, step, *rest)
        calls.append((epoch, step))
        if (epoch, step) == (1, 3):
            raise KeyboardInterrupt

    monkeypatch.setattr(train.Training, "save", stopping)
    config = smoke(toy_set, out, *INTERPOLATES, "--run.save_every", "3")
    with pytest.raises(KeyboardInterrupt):
        train.train(config)
    half = checkpoint.load(out / "last.pt").model  # within an epoch: the plain average
    assert {float(half[name]) for name in BUFFERS} == {0.5, 1.0}
    monkeypatch.undo()
    train.train(config)
    ours, theirs = (checkpoint.load(run / "last.pt").model for run in (trained, out))
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert [row["epoch"] for row in rows(out, "score_weights")] == [0, 1]


@pytest.mark.long
def test_the_average_of_the_weights_is_what_is_fitted(toy_set: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    train.train(smoke(toy_set, out, "--optim.ema_decay", "0.5", "--optim.epochs", "1"))
    state = checkpoint.load(out / "last.pt")
    assert state.average is not None
    for name in BUFFERS:
        assert torch.equal(state.model[name], state.average[name])
    found = evaluation.evaluate(EvalConfig(checkpoint=str(out), split="val", num_views=1,
                                           num_workers=0, threads=1))["fused"]  # fmt: skip
    assert isinstance(found, Scores)
    assert found.nll == pytest.approx(rows(out, "score_weights")[0]["nll"], abs=1e-5)


def test_without_validation_it_is_an_error_before_training(toy_set: Path, tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"^model\.fusion weighted .*data\.holdout 0\.1") as one:
        train.train(smoke(toy_set, tmp_path / "run", "--data.val_split", ""))
    assert "data.val_split is empty" in str(one.value)
    assert not (tmp_path / "run/last.pt").exists()
    out = tmp_path / "held"
    config = smoke(toy_set, out, "--data.val_split", "", "--data.holdout", "0.2", "--optim.epochs",
                   "1")  # fmt: skip
    assert train.train(replace(config)).val is not None
    assert rows(out, "score_weights")[0]["num_clips"] == 16
