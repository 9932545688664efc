"""On a GPU the stage and a whole run give what they give on the CPU."""

import json
from pathlib import Path

import pytest
import torch

import train
from avmix.config import FrontendConfig, TrainConfig, load_config
from avmix.frontend import Frontend
from avmix.mix import apply, mixed_targets, mixup_plan
from avmix.types import Batch

ROOT = Path(__file__).parents[1]

pytestmark = pytest.mark.needs_cuda


def test_frontend_and_mix_give_the_same_on_both_devices() -> None:
    torch.manual_seed(0)
    here = torch.ones(4, dtype=torch.bool)
    batch = Batch(
        video=torch.randint(0, 256, (4, 8, 32, 32, 3), dtype=torch.uint8),
        audio=torch.randn(4, 16_000) * 0.1,
        has_video=here,
        has_audio=here,
        target=torch.eye(4),
        row=torch.arange(4),
        source=torch.arange(4),
    )
    plan = mixup_plan(
        [1, 0, 3, 2], [0.3, 0.8, 1.0, 0.5], has_video=[True] * 4, has_audio=[True] * 4
    )

    def outcome(device: str) -> list[torch.Tensor]:
        moved = batch.to(torch.device(device))
        video, audio = Frontend(FrontendConfig(), 16_000).to(device)(moved)
        mixed = apply(plan, video=video, audio=audio)
        return [x.cpu() for x in (*mixed, *mixed_targets(plan, moved.target))]

    for ours, theirs in zip(outcome("cuda"), outcome("cpu"), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_run_on_the_gpu_starts_as_the_golden_one(
    toy_set: Path, tmp_path: Path, precision: str
) -> None:
    arguments = ["--config", str(ROOT / "configs/smoke.yaml"), "--data.root", str(toy_set),
                 "--run.out", str(tmp_path), "--run.device", "cuda", "--run.precision", precision,
                 "--model.dropout", "0", "--optim.epochs", "1"]  # fmt: skip
    train.main(load_config(TrainConfig, arguments))
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    on_gpu = [row["loss"] for row in rows if row["kind"] == "step"]
    cpu = tmp_path / "cpu"
    arguments[arguments.index("cuda")] = "cpu"
    arguments[arguments.index(str(tmp_path))] = str(cpu)
    arguments[arguments.index(precision)] = "fp32"
    train.main(load_config(TrainConfig, arguments))
    rows = [json.loads(line) for line in (cpu / "metrics.jsonl").read_text().splitlines()]
    on_cpu = [row["loss"] for row in rows if row["kind"] == "step"]
    assert len(on_gpu) == len(on_cpu) == 5
    # Only the first steps: small differences of rounding grow with every update.
    assert on_gpu[0] == pytest.approx(on_cpu[0], rel=1e-4 if precision == "fp32" else 2e-2)
    assert on_gpu[1] == pytest.approx(on_cpu[1], rel=1e-2 if precision == "fp32" else 5e-2)
