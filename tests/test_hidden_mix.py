"""Mixing inside the network: the same as doing it by hand, compiled, half precise, distributed."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from avmix.config import AudioEncoderConfig, ModelConfig, VideoEncoderConfig
from avmix.mix import MixPlan
from avmix.mix.hidden_mix import HiddenMix
from avmix.models import LateFusionClassifier, build_model

ROOT = Path(__file__).parents[1]
PARTNER, VIDEO, AUDIO = (2, 0, 1, 1), (0.3, 1.0, 0.0, 0.6), (0.8, 0.25, 1.0, 0.6)
HERE = torch.ones(4, dtype=torch.bool)


def model_of(shared_width: int = 0) -> LateFusionClassifier:
    torch.manual_seed(0)
    config = ModelConfig(
        video=VideoEncoderConfig(channels=[4, 6]),
        audio=AudioEncoderConfig(channels=[4, 5]),
        shared_width=shared_width,
    )
    return build_model(config, 3).eval()


def inputs(size: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return (
        torch.randn(size, 3, 4, 16, 16, generator=generator),
        torch.randn(size, 1, 16, 20, generator=generator),
    )


def hidden(stage: int | None, path=None) -> HiddenMix:
    return HiddenMix(stage=stage, path=path, partner=torch.tensor(PARTNER, dtype=torch.int32),
                     video=torch.tensor(VIDEO), audio=torch.tensor(AUDIO))  # fmt: skip


def by_hand(x: torch.Tensor, weight: tuple[float, ...]) -> torch.Tensor:
    mixed = [
        w * x[i] + (1 - w) * x[j] for i, (j, w) in enumerate(zip(PARTNER, weight, strict=True))
    ]
    return torch.stack(mixed)


@pytest.mark.parametrize("size", [4, 7])
@pytest.mark.parametrize("stage", [0, 1, 2, None])
def test_it_is_the_same_as_stopping_mixing_and_going_on(stage: int | None, size: int) -> None:
    # With seven clips in and four out, the last three are only partners; here nobody's.
    model = model_of()
    video, audio = inputs(size)
    expected = []
    for encoder, x, weight in ((model.video, video, VIDEO), (model.audio, audio, AUDIO)):
        for number in range(3):
            if number == stage:
                x = by_hand(x, weight)
            x = encoder.stages[number](x) if number < 2 else encoder.pool(x)
        expected.append(by_hand(x, weight) if stage is None else x)
    found = model(video, audio, HERE, HERE, hidden(stage))
    for ours, theirs in zip(found.features, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    for ours, theirs in zip(found.logits, model.fusion(*expected, HERE, HERE), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    plain = model(video, audio, torch.ones(size).bool(), torch.ones(size).bool()).features
    assert not torch.allclose(found.features.video, plain.video[:4])
    assert not torch.allclose(found.features.audio, plain.audio[:4])


def test_tensors_of_several_pathways_are_mixed_alike() -> None:
    slow, fast = torch.randn(4, 3, 2, 5, 5), torch.randn(4, 2, 8, 5, 5)
    found = hidden(1).blend([slow, fast], torch.tensor(VIDEO))
    for ours, x in zip(found, (slow, fast), strict=True):
        torch.testing.assert_close(ours, by_hand(x, VIDEO), rtol=1e-4, atol=1e-5)


def test_features_are_mixed_across_modalities_in_the_shared_space() -> None:
    model = model_of(shared_width=5)
    plain = model.encode(*inputs())
    assert [f.shape for f in plain] == [(4, 5), (4, 5)]
    video, audio = model.encode(*inputs(), hidden(None, "linear"))
    for i, (j, w) in enumerate(zip(PARTNER, VIDEO, strict=True)):
        torch.testing.assert_close(video[i], w * plain.video[i] + (1 - w) * plain.audio[j])
        torch.testing.assert_close(audio[i], w * plain.audio[i] + (1 - w) * plain.video[j])
    sphere = model.encode(*inputs(), hidden(None, "sphere")).video
    assert torch.equal(sphere[1], plain.video[1])  # weight 1
    assert torch.equal(sphere[2], plain.audio[1])  # weight 0
    angles = [
        torch.cosine_similarity(sphere[0], x, 0).acos() for x in (plain.video[0], plain.audio[2])
    ]
    whole = torch.cosine_similarity(plain.video[0], plain.audio[2], 0).acos()
    assert angles[0].item() == pytest.approx(0.7 * whole.item(), rel=1e-3)
    assert angles[1].item() == pytest.approx(0.3 * whole.item(), rel=1e-3)


@pytest.mark.parametrize("stage", [1, None])
def test_half_precision_stays_half_and_lambda_does_not(stage: int | None) -> None:
    model = model_of()
    with torch.autocast("cpu", torch.bfloat16):
        half = model.encode(*inputs(), hidden(stage))
    exact = model.encode(*inputs(), hidden(stage))
    for ours, theirs in zip(half, exact, strict=True):
        assert ours.dtype == torch.bfloat16
        torch.testing.assert_close(ours.float(), theirs, rtol=0.05, atol=0.05)
    # In bfloat16 itself 0.7 would be 0.6992 and a constant mixed with itself another one.
    x = torch.full((4, 3), 1.0, dtype=torch.bfloat16)
    assert torch.equal(hidden(None).blend(x, torch.tensor([0.7, 0.1, 0.3, 0.9])), x)


def test_gradients_reach_both_clips_with_their_weights() -> None:
    x = torch.randn(4, 3, requires_grad=True)
    hidden(None).blend(x, torch.tensor(VIDEO))[3].sum().backward()
    assert x.grad is not None
    torch.testing.assert_close(x.grad[:, 0], torch.tensor([0.0, 0.4, 0.0, 0.6]))


@pytest.mark.long
def test_a_compiled_network_is_compiled_once_for_each_place() -> None:
    # In a process of its own: the checks of shapes that tests run under cannot be compiled.
    code = """
import torch, torch._dynamo
from avmix.config import (AudioEncoderConfig, ModelConfig, VideoEncoderConfig)
from avmix.mix.hidden_mix import HiddenMix
from avmix.models import build_model

torch.manual_seed(0)
config = ModelConfig(
    video=VideoEncoderConfig(channels=[4, 6]),
    audio=AudioEncoderConfig(channels=[4, 5]),
    shared_width=5,
)
model = build_model(config, 3).eval()
compiles = []

def backend(graph, example):
    compiles.append(graph)
    return graph.forward

compiled = torch.compile(model, backend=backend, fullgraph=True, dynamic=False)
video, audio, here = torch.randn(4, 3, 4, 16, 16), torch.randn(4, 1, 16, 20), torch.ones(4).bool()
places = [(0, None), (1, None), (2, None), (None, None), (None, "linear"), (None, "sphere")]
for stage, path in places:
    before = len(compiles)
    for seed in range(4):
        generator = torch.Generator().manual_seed(seed)
        partner = torch.randperm(4, generator=generator).to(torch.int32)
        weights = torch.rand(2, 4, generator=generator)
        mix = HiddenMix(stage, path, partner, *weights)
        for ours, theirs in zip(compiled(video, audio, here, here, mix).logits,
                                model(video, audio, here, here, mix).logits):
            torch.testing.assert_close(ours, theirs)
    assert len(compiles) == before + 1, (stage, path, len(compiles) - before)
print("compiled", len(compiles))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout == "compiled 6\n", done.stderr


@pytest.mark.long
def test_two_processes_mix_at_the_same_place_with_their_own_partners(
    toy_set: Path, tmp_path: Path
) -> None:
    switch = "{mixup@layer: 0.4, mixup@feature+dropout: 0.2, cross: 0.2, cutmix_spatial: 0.2}"
    arguments = ["--config", str(ROOT / "configs/smoke.yaml"), "--data.root", str(toy_set),
                 "--run.out", str(tmp_path), "--run.threads", "1", "--data.num_workers", "0",
                 "--optim.batch_size", "4", "--optim.epochs", "2", "--run.save_plans", "true",
                 "--model.shared_width", "6", "--loss.contrastive", "0.1",
                 "--loss.interpolation", "0.1", "--mix.switch", switch]  # fmt: skip
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone",
               "--nproc_per_node", "2", str(ROOT / "train.py"), *arguments]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    both = [
        [
            MixPlan.from_json(line)
            for line in (tmp_path / f"plans_rank{rank}.jsonl").read_text().splitlines()
        ]
        for rank in range(2)
    ]
    assert [len(plans) for plans in both] == [10, 10]
    assert [(p.method, p.stage) for p in both[0]] == [(p.method, p.stage) for p in both[1]]
    assert len({(p.method, p.level) for p in both[0]}) >= 3
    assert all(a != b for a, b in zip(*both, strict=True))
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert sum(row["kind"] == "step" for row in rows) == 10
