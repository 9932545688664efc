"""On a GPU the stage and a whole run give what they give on the CPU."""

import json
from pathlib import Path

import pytest
import torch

from avmix.commands import train
from avmix.config import (
    AudioEncoderConfig,
    ClipConfig,
    FrontendConfig,
    LossConfig,
    MixConfig,
    ModelConfig,
    TrainConfig,
    VideoEncoderConfig,
    load_config,
)
from avmix.mix import MixPlan, clip_grids, draw_plan, mixed_targets
from avmix.mix.hidden_mix import hidden_mix
from avmix.models import build_model
from avmix.models.frontend import Frontend
from avmix.rng import rng
from avmix.training import chance_level
from avmix.training.chance_level import ChanceMeter
from avmix.training.engine import clean_pass, clips_of
from avmix.training.losses import consistency_losses, head_losses, objective, presence
from avmix.types import Batch

ROOT = Path(__file__).parents[1]

pytestmark = pytest.mark.needs_cuda


CLIP = ClipConfig(duration_seconds=1.0, num_frames=8, crop=32, short_side=32)
PLANS = {
    "mixup": MixConfig(alpha=1.0),
    "power": MixConfig(alpha=1.0, audio_domain="power"),
    "waveform": MixConfig(alpha=1.0, audio_domain="waveform"),
    "energy": MixConfig(method="energy", alpha=1.0, audio_domain="waveform"),
    "energy, power": MixConfig(method="energy", alpha=1.0, audio_domain="power"),
    "roll": MixConfig(alpha=1.0, pairing="roll"),
    "second_batch": MixConfig(alpha=1.0, pairing="second_batch"),
    **{
        f"cutmix_{kind}": MixConfig(method=f"cutmix_{kind}+dropout", alpha=1.0)
        for kind in ("temporal", "spatial", "spatiotemporal", "frequency")
    },
}


def batch_of() -> Batch:
    torch.manual_seed(0)
    return Batch(
        video=torch.randint(0, 256, (6, 8, 32, 32, 3), dtype=torch.uint8),
        audio=torch.randn(6, 16_000) * 0.1,
        has_video=torch.ones(6, dtype=torch.bool),
        has_audio=torch.tensor([True, True, False, True, True, True]),
        target=torch.eye(6),
        row=torch.arange(6),
        source=torch.arange(6),
    )


def plan_of(config: MixConfig, batch: Batch) -> MixPlan:
    grids = clip_grids(CLIP, FrontendConfig(), config.audio_domain)
    return draw_plan(config, clips_of(batch), grids, shared=rng(0, 0, "mix_shared", 0),
                     own=rng(0, 0, "mix", 0, 0))  # fmt: skip


@pytest.mark.parametrize("kernel", ["torch", "triton"])
@pytest.mark.parametrize("name", PLANS)
def test_the_stage_gives_the_same_on_both_devices_and_never_waits(name: str, kernel) -> None:
    batch = batch_of()
    plan = plan_of(PLANS[name], batch)
    expected = Frontend(FrontendConfig(kernel="torch"), 16_000)(batch, plan.to(torch.device("cpu")))
    expected = *expected, *mixed_targets(plan.to(torch.device("cpu")), batch.target)

    cuda = torch.device("cuda")
    frontend = Frontend(FrontendConfig(kernel=kernel), 16_000).to(cuda)
    moved = batch.pin_memory().to(cuda)
    frontend(moved, plan.to(cuda))  # kernels are compiled, tables of the transform made
    torch.cuda.set_sync_debug_mode("error")
    try:
        placed = plan.to(cuda)
        found = *frontend(moved, placed), *mixed_targets(placed, moved.target)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours.cpu(), theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("method", ["mixup@layer+dropout", "mixup@feature", "cross"])
def test_network_and_losses_never_wait_for_the_gpu(method: str) -> None:
    cuda, batch = torch.device("cuda"), batch_of()
    plan = plan_of(MixConfig(method=method, alpha=1.0), batch)
    config = ModelConfig(
        video=VideoEncoderConfig(channels=[4, 6, 8]),
        audio=AudioEncoderConfig(channels=[4, 6, 8]),
        shared_width=5,
    )
    network = build_model(config, 6).to(cuda)
    frontend = Frontend(FrontendConfig(), 16_000).to(cuda)
    options = LossConfig(agreement=1.0, interpolation=1.0, contrastive=1.0)
    meter = ChanceMeter(chance_level.initial_history(6), options, 6, cuda)

    def step(moved: Batch) -> torch.Tensor:
        placed = plan.to(cuda)
        has = placed.part("video").present, placed.part("audio").present
        mixed = network(*frontend(moved, placed), *has, hidden_mix(placed))
        clean = clean_pass(network, frontend, moved)
        target, present = mixed_targets(placed, moved.target), presence(*has)
        losses = head_losses(mixed.logits, target, present, 0.1)
        meter.add(losses, target, present)
        more = consistency_losses(options, placed, mixed, clean, moved.has_video, moved.has_audio)
        loss = objective(options, losses, more)
        loss.backward()
        return loss

    moved = batch.pin_memory().to(cuda)
    step(moved)  # algorithms are chosen, kernels compiled
    torch.cuda.set_sync_debug_mode("error")
    try:
        loss = step(moved)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert loss.isfinite()


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_run_on_the_gpu_starts_as_the_golden_one(
    toy_set: Path, tmp_path: Path, precision: str
) -> None:
    arguments = ["--config", str(ROOT / "configs/smoke.yaml"), "--data.root", str(toy_set),
                 "--run.out", str(tmp_path), "--run.device", "cuda", "--run.precision", precision,
                 "--model.dropout", "0", "--optim.epochs", "1"]  # fmt: skip
    train.train(load_config(TrainConfig, arguments))
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    on_gpu = [row["loss"] for row in rows if row["kind"] == "step"]
    cpu = tmp_path / "cpu"
    arguments[arguments.index("cuda")] = "cpu"
    arguments[arguments.index(str(tmp_path))] = str(cpu)
    arguments[arguments.index(precision)] = "fp32"
    train.train(load_config(TrainConfig, arguments))
    rows = [json.loads(line) for line in (cpu / "metrics.jsonl").read_text().splitlines()]
    on_cpu = [row["loss"] for row in rows if row["kind"] == "step"]
    assert len(on_gpu) == len(on_cpu) == 5
    # Only the first steps: small differences of rounding grow with every update.
    assert on_gpu[0] == pytest.approx(on_cpu[0], rel=1e-4 if precision == "fp32" else 2e-2)
    assert on_gpu[1] == pytest.approx(on_cpu[1], rel=1e-2 if precision == "fp32" else 5e-2)
