"""What benchmarks/learning.py measures and edits of a network, by hand."""

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from avmix.config import AudioEncoderConfig, ModelConfig, OptimConfig, VideoEncoderConfig
from avmix.models import build_model
from avmix.rng import rng
from avmix.training.engine import seed_torch

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def load() -> Any:
    """Import a module of benchmarks/, as the script that is run there does."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "benchmarks"))
        yield importlib.import_module


def test_shares_by_hand(load: Any) -> None:
    look = load("training.network_look")
    # Mean 2, variance 1, mean square 5; all zero, which does not count; the same for both clips.
    features = torch.tensor([[1.0, 0.0, 2.0], [3.0, 0.0, 2.0]])
    assert look.clip_share(features) == pytest.approx((1 / 5 + 0) / 2)
    assert look.clip_share(torch.tensor([[-1.0], [1.0]])) == 1
    assert look.clip_share(torch.zeros(2, 3)) is None
    # Two clips, two channels, two positions: the first channel is zero everywhere.
    outputs = torch.tensor([[[0.0, 0.0], [0.0, 5.0]], [[0.0, 0.0], [1.0, 2.0]]])
    assert look.zero_share(outputs) == 5 / 8
    assert look.dead_share(outputs) == 1 / 2


def test_what_gradients_have_in_common_by_hand(load: Any) -> None:
    common = load("training.network_look").common_gradient
    assert common(torch.tensor([[3.0, 4.0], [3.0, 4.0]])) == pytest.approx(1)
    assert common(torch.tensor([[1.0, 0.0], [-1.0, 0.0]])) == 0
    assert common(torch.tensor([[1.0, 0.0], [0.0, 1.0]])) == pytest.approx(0.5**0.5)
    assert common(torch.zeros(2, 2)) is None
    agreement = load("training.network_look").agreement
    assert agreement(torch.tensor([1.0, 0.0]), torch.tensor([2.0, 2.0])) == pytest.approx(0.5**0.5)
    assert agreement(torch.tensor([1.0]), torch.tensor([0.0])) is None


def test_an_update_by_hand(load: Any) -> None:
    before, now = [torch.tensor([3.0]), torch.tensor([4.0])], [torch.tensor([6.0]), torch.zeros(1)]
    assert load("training.network_look").relative_update(before, now, 4) == pytest.approx(1 / 4)


@pytest.fixture
def network() -> Callable[[], Any]:
    """Build the network of the demo as `training_setup.build` does, with seed 3."""

    def build() -> Any:
        seed_torch(rng(3, 0, "weights"))
        return build_model(
            ModelConfig(
                video=VideoEncoderConfig(channels=[4, 8]), audio=AudioEncoderConfig(channels=[4, 8])
            ),
            10,
        )

    return build


def test_drawing_again_gives_the_weights_of_the_package(load: Any, network: Any) -> None:
    model, expected = network(), network().state_dict()
    for parameter in model.parameters():
        torch.nn.init.zeros_(parameter)
    model.fusion.norm_video.weight.data.fill_(1)
    model.fusion.norm_audio.weight.data.fill_(1)
    load("training.variants").redraw(model, 3)
    assert all(torch.equal(value, expected[name]) for name, value in model.state_dict().items())


def test_the_former_recipe_normalises_each_clip_by_itself(load: Any, network: Any) -> None:
    variants, model = load("training.variants"), network()
    variants.edit(model, variants.VARIANTS["former"], OptimConfig(), 3)
    stem = model.video.stages[0].shrink[0]
    assert (stem.kernel_size, stem.stride) == ((1, 3, 3), (1, 2, 2))
    features, present = torch.rand(3, 8) + 5, torch.tensor([True, True, False])
    found = model.fusion.norm_video(features, present)
    expected = F.layer_norm(features, (8,))
    assert torch.equal(found, expected * present[:, None])
    assert found[:2].mean(1).tolist() == pytest.approx([0, 0], abs=1e-5)
    assert torch.equal(found[:1], model.fusion.norm_video(features[:1], present[:1]))
    # With the statistics of the clips, that would not be so.
    assert not torch.allclose(network().fusion.norm_video(features, present), found)


def test_every_variant_builds_and_every_weight_is_trained(load: Any, network: Any) -> None:
    variants, optim = load("training.variants"), OptimConfig()
    video, audio, has = (
        torch.randn(2, 3, 4, 32, 32),
        torch.randn(2, 1, 16, 16),
        torch.ones(2).bool(),
    )
    for name, variant in variants.VARIANTS.items():
        model = network()
        optimizer = variants.edit(model, variant, optim, 3)
        held = {id(p) for group in optimizer.param_groups for p in group["params"]}
        assert held == {id(p) for p in model.parameters()}, name
        logits = model(video, audio, has, has).logits
        (logits.fused.square().sum() + logits.video.square().sum()).backward()
        idle = {n.split(".")[0] for n, p in model.named_parameters() if p.grad is None}
        assert ("audio" in idle) == name.endswith("no audio"), name
        assert "video" not in idle, name
    zero = network()
    variants.edit(zero, variants.VARIANTS["former + norm, zero-init residual"], optim, 3)
    x = torch.rand(2, 4, 4, 8, 8)
    refined = zero.video.stages[1].refine(zero.video.stages[1].shrink(x))
    assert not refined.any()
