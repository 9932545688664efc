"""The average of the weights, and batch normalisation re-estimated, by independent loops."""

import copy
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
from test_every_option import Runs, with_options
from torch import Tensor, nn

import avmix
from avmix.config import (
    AudioEncoderConfig,
    EvalConfig,
    FrontendConfig,
    ModelConfig,
    VideoEncoderConfig,
    to_yaml,
)
from avmix.data.sample import TooManyBadClips
from avmix.evaluation.metrics import Scores
from avmix.models import LateFusionClassifier, build_model
from avmix.models.frontend import Frontend
from avmix.models.fusion import FeatureNorm
from avmix.models.weights import read_state
from avmix.training import checkpoint, runtime, training_setup
from avmix.training.checkpoint import CheckpointError
from avmix.training.precise_bn import measure_norms
from avmix.training.runlog import RunLog, StepRecord, Stopwatch
from avmix.training.runtime import Runtime
from avmix.training.weight_average import WeightAverage
from avmix.types import Batch

HERE = Runtime(device=torch.device("cpu"), threads=1)
FRONTEND = Frontend(FrontendConfig(num_mels=4, n_fft=64, hop_length=64), 1000)
SMALL = ModelConfig(
    video=VideoEncoderConfig(channels=[4, 5]), audio=AudioEncoderConfig(channels=[4, 6]),
    dropout=0.5,
)  # fmt: skip


def test_the_average_is_that_of_a_loop_by_hand() -> None:
    torch.manual_seed(0)
    model = build_model(SMALL, 3)
    average = WeightAverage(model, 0.7)
    by_hand = {name: value.double().numpy() for name, value in model.state_dict().items()}
    for step in range(4):
        with torch.no_grad():
            for value in (*model.parameters(), *model.buffers()):
                if value.is_floating_point():
                    value.add_(torch.randn(value.shape))
                else:
                    value.add_(3)
        average.update(model)
        assert not average.model.training
        now = {name: value.numpy() for name, value in model.state_dict().items()}
        by_hand = {name: 0.7 * by_hand[name] + 0.3 * value if value.dtype.kind == "f" else value
                   for name, value in now.items()}  # fmt: skip
        for name, value in average.model.state_dict().items():
            np.testing.assert_allclose(value, by_hand[name], rtol=1e-6, atol=1e-6, err_msg=name)
        assert average.model.state_dict()["audio.stages.0.1.num_batches_tracked"] == 3 * (step + 1)
    assert not any(p.requires_grad for p in average.model.parameters())
    assert all(p.requires_grad for p in model.parameters())


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    return Runs(tmp_path_factory.mktemp("averages"))


AVERAGED = {"optim.ema_decay": 0.6, "optim.precise_bn_batches": 2, "data.val_split": "val",
            "run.save_every": 1}  # fmt: skip


@pytest.fixture(scope="module")
def averaged(runs: Runs) -> Path:
    """The folder of a run that keeps an average and measures its statistics at the end."""
    return runs.train(AVERAGED)[0]


def same(a: dict[str, Tensor] | None, b: dict[str, Tensor] | None) -> bool:
    assert a is not None
    assert b is not None
    return a.keys() == b.keys() and all(a[name].equal(b[name]) for name in a)


def differing(a: dict[str, Tensor], b: dict[str, Tensor]) -> set[str]:
    """Names of what differs, but for counts of batches."""
    return {name for name in a if a[name].is_floating_point() and not a[name].equal(b[name])}


NORMS = ("mean", "var", "running_mean", "running_var")


def test_a_run_keeps_the_average_of_its_updates(
    runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    states: list[dict[str, Tensor]] = []
    update = WeightAverage.update

    def noted(average: WeightAverage, model: LateFusionClassifier) -> None:
        if not states:
            states.append(copy.deepcopy(average.model.state_dict()))  # as the run begins
        update(average, model)
        states.append(copy.deepcopy(model.state_dict()))

    monkeypatch.setattr(WeightAverage, "update", noted)
    options = {"optim.ema_decay": 0.6, "optim.accumulate": 2}
    state = checkpoint.load(runs.train(options)[0] / "last.pt")
    assert len(states) == 3  # four steps, two updates
    by_hand = {name: value.double() for name, value in states[0].items()}
    for now in states[1:]:
        by_hand = {name: 0.6 * by_hand[name] + 0.4 * value for name, value in now.items()}
    assert state.average is not None
    for name, value in state.average.items():
        if value.is_floating_point():
            torch.testing.assert_close(value.double(), by_hand[name], rtol=1e-5, atol=1e-6)
    assert same(state.model, states[-1])
    assert not same(state.model, state.average)


def interrupted(at: tuple[int, int]) -> Callable[..., None]:
    done = RunLog.step_done

    def step_done(log: RunLog, record: StepRecord, watch: Stopwatch) -> None:
        done(log, record, watch)
        if (record.epoch, record.step) == at:
            raise KeyboardInterrupt

    return step_done


@pytest.mark.long
def test_a_run_that_was_interrupted_ends_with_the_same_bits(
    runs: Runs, averaged: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = runs.config(AVERAGED)
    out = str(runs.folder / "interrupted")
    config = replace(config, run=replace(config.run, out=out))
    for at in ((0, 1), (1, 0)):
        if at == (1, 0):  # which is where a run happens, not what it does
            config = with_options(config, {"model.video.gradient_checkpointing": True})
        with monkeypatch.context() as patch:
            patch.setattr(RunLog, "step_done", interrupted(at))
            with pytest.raises(KeyboardInterrupt):
                avmix.train(config)
    # And before the statistics are measured, and before the last validation.
    for name in ("_measure_norms", "_validate"):

        def unplugged(*_: Any) -> None:
            raise TooManyBadClips("unplugged")

        with monkeypatch.context() as patch:
            patch.setattr(f"avmix.commands.train.{name}", unplugged)
            with pytest.raises(TooManyBadClips, match="unplugged"):
                avmix.train(config)
    ours, theirs = (
        checkpoint.load(avmix.train(config).checkpoint),
        checkpoint.load(averaged / "last.pt"),
    )
    assert (ours.epoch, ours.step, ours.best) == (theirs.epoch, theirs.step, theirs.best)
    assert same(ours.model, theirs.model)
    assert same(ours.average, theirs.average)


def test_weights_are_those_of_a_run_without_and_statistics_are_not(
    runs: Runs, averaged: Path
) -> None:
    with_both = checkpoint.load(averaged / "last.pt")
    plain = runs.train({})[1]
    changed = differing(with_both.model, plain)
    assert changed == {name for name in plain if name.rpartition(".")[2] in NORMS}
    # Of the average too, which was not measured in the run without.
    alone = checkpoint.load(runs.train({"optim.ema_decay": 0.6})[0] / "last.pt").average
    assert alone is not None
    assert with_both.average is not None
    assert differing(with_both.average, alone) == changed


def scores(run: Path, **options: Any) -> tuple[float, str]:
    """NLL of the fused head on the val split, and what result.json says was evaluated."""
    config = EvalConfig(checkpoint=str(run), split="val", num_views=1, num_workers=0, threads=1,
                        device="cpu", **options)  # fmt: skip
    found = avmix.evaluate(config)["fused"]
    assert isinstance(found, Scores)
    return found.nll, json.loads((run / "eval_val/result.json").read_text())["weights"]


@pytest.mark.long
def test_the_average_is_what_is_validated_and_evaluated(runs: Runs, averaged: Path) -> None:
    nll, which = scores(averaged)
    assert which == "average"
    last, which = scores(averaged, raw_weights=True)
    assert which == "last"
    assert last != nll
    rows = [json.loads(line) for line in (averaged / "metrics.jsonl").read_text().splitlines()]
    validated = [row["val"]["fused"]["nll"] for row in rows if row["kind"] == "epoch"][-1]
    assert validated == pytest.approx(nll, rel=1e-6)
    plain = runs.train({})[0]
    assert scores(plain)[1] == "last"
    with pytest.raises(
        CheckpointError, match=r"^raw_weights cannot act: .*last\.pt has no average"
    ):
        scores(plain, raw_weights=True)


def test_another_run_begins_with_the_average(runs: Runs, averaged: Path) -> None:
    state = checkpoint.load(averaged / "last.pt")
    assert same(read_state(str(averaged / "last.pt")), state.average)
    plain, weights = runs.train({})
    assert same(read_state(str(plain / "last.pt")), weights)


@pytest.mark.long
def test_two_processes_measure_the_clips_of_both(runs: Runs) -> None:
    config = runs.config(AVERAGED)
    out = runs.folder / "two"
    config = replace(config, run=replace(config.run, out=str(out)),
                     optim=replace(config.optim, batch_size=2))  # fmt: skip
    (runs.folder / "two.yaml").write_text(to_yaml(config))
    root = Path(__file__).parents[1]
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node",
               "2", str(root / "train.py"), "--config", str(runs.folder / "two.yaml")]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    state = checkpoint.load(out / "last.pt")
    assert state.average is not None
    # One process that reads what both did: the first normalisation does not depend on the batches.
    alone = replace(config, run=replace(config.run, out=str(runs.folder / "alone")),
                    optim=replace(config.optim, batch_size=4))  # fmt: skip
    with runtime.start(device="cpu", threads=1) as here, ExitStack() as at_end:
        run = training_setup.build(alone, here, at_end)
        batches = [batch for batch, _ in run.loader.epoch(2)]
        for weights in (state.model, state.average):
            run.model.load_state_dict(weights)
            first = run.model.audio.stages[0][0]  # pyright: ignore[reportIndexIssue]
            with torch.no_grad():
                parts = [first(run.frontend(batch)[1]).double().numpy() for batch in batches]
            values = np.moveaxis(np.concatenate(parts), 1, -1).reshape(-1, 4)
            for name, value in (("mean", values.mean(0)), ("var", values.var(0, ddof=1))):
                found = weights[f"audio.stages.0.1.running_{name}"]
                np.testing.assert_allclose(found, value, rtol=1e-4, atol=1e-5)


def batch_of(seed: int, size: int = 6) -> Batch:
    """The video is missing in every third clip, the audio in every second."""
    draw = torch.Generator().manual_seed(seed)
    return Batch(
        video=torch.randint(256, (size, 2, 8, 8, 3), generator=draw, dtype=torch.uint8),
        audio=torch.randn(size, 256, generator=draw),
        has_video=torch.arange(size) % 3 != 0, has_audio=torch.arange(size) % 2 != 0,
        target=torch.eye(3)[torch.arange(size) % 3], row=torch.arange(size),
        source=torch.arange(size),
    )  # fmt: skip


def given_to_norms(model: LateFusionClassifier, batches: list[Batch]) -> dict[str, np.ndarray]:
    """What each normalisation of the network without dropout is given in training, (values
    channels)."""
    model = copy.deepcopy(model).train()
    model.fusion.dropout.p = 0.0
    found: dict[str, list[np.ndarray]] = {}
    for name, module in model.named_modules():
        if isinstance(module, nn.BatchNorm2d | nn.BatchNorm3d | FeatureNorm):

            def note(_: nn.Module, given: tuple[Any, ...], name: str = name) -> None:
                x = given[0].detach().double().numpy()
                if len(given) == 2:
                    x = x[given[1].numpy()]
                found.setdefault(name, []).append(np.moveaxis(x, 1, -1).reshape(-1, x.shape[1]))

            module.register_forward_pre_hook(note)
    for batch in batches:
        model(*FRONTEND(batch), batch.has_video, batch.has_audio)
    return {name: np.concatenate(parts) for name, parts in found.items()}


def test_statistics_are_those_of_numpy_over_all_batches() -> None:
    torch.manual_seed(1)
    model = build_model(SMALL, 3).train()
    before, state = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    batches = [batch_of(1), batch_of(2), batch_of(3, size=4)]
    expected = given_to_norms(model, batches)
    measure_norms([model], FRONTEND, batches, HERE)
    assert len(expected) == 2 * 4 + 2 * 2 + 2
    for name, values in expected.items():
        norm = model.get_submodule(name)
        mean, var = (norm.mean, norm.var) if isinstance(norm, FeatureNorm) else (
            norm.running_mean, norm.running_var)  # fmt: skip
        assert isinstance(mean, Tensor)
        assert isinstance(var, Tensor)
        np.testing.assert_allclose(mean, values.mean(0), rtol=1e-4, atol=1e-5, err_msg=name)
        np.testing.assert_allclose(var, values.var(0, ddof=1), rtol=1e-4, err_msg=name)
    changed = differing(before, model.state_dict())
    assert changed == {name for name in before if name.rpartition(".")[2] in NORMS}
    assert torch.equal(state, torch.get_rng_state())
    assert not any(m._forward_pre_hooks or m.training for m in model.modules())


def test_statistics_that_are_frozen_or_of_nothing_are_left() -> None:
    torch.manual_seed(1)
    model = build_model(SMALL, 3)
    model.video.freeze()
    model.audio.freeze_norms()
    before = copy.deepcopy(model.state_dict())
    batch = replace(batch_of(1), has_audio=torch.zeros(6, dtype=torch.bool))
    measure_norms([model], FRONTEND, [batch], HERE)
    changed = differing(before, model.state_dict())
    assert changed == {"fusion.norm_video.mean", "fusion.norm_video.var"}
