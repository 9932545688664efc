"""Schedules, optimizers, what decays, and how fast each stage learns, by hand."""

import re
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from avmix.config import (
    AudioEncoderConfig,
    ClipConfig,
    FrontendConfig,
    ModelConfig,
    OptimConfig,
    VideoEncoderConfig,
)
from avmix.models import build_model
from avmix.models.encoder import Encoder, VideoSpec
from avmix.models.image_encoders import FrameEncoder
from avmix.training.layer_decay import empty_clip, layer_factors
from avmix.training.optimizer import build_optimizer, lr_at

CLIP = ClipConfig(num_frames=2, crop=16, short_side=20)
EMPTY = empty_clip(CLIP, FrontendConfig())


def rates(**options: Any) -> list[float]:
    """Of ten epochs of two steps at rate 1."""
    optim = OptimConfig(epochs=10, lr=1.0, **options)
    return [lr_at(optim, step, 2) for step in range(20)]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, [1 / 3, 2 / 3, *[1.0] * 8, *[0.1] * 5, *[0.01] * 5]),
        (
            {"milestones": [0.3, 0.6, 0.95], "gamma": 0.5, "warmup_epochs": 0.0},
            [*[1.0] * 6, *[0.5] * 6, *[0.25] * 7, 0.125],
        ),
        # A milestone within the warm-up acts after it.
        (
            {"milestones": [0.05], "warmup_epochs": 2.0},
            [0.2, 0.4, 0.6, 0.8, *[0.1] * 16],
        ),
    ],
)
def test_steps_of_the_learning_rate_by_hand(options, expected):
    assert rates(schedule="step", **options) == pytest.approx(expected)


def test_steps_are_those_of_torch():
    parameter = nn.Parameter(torch.zeros(()))
    optimizer = torch.optim.SGD([parameter], lr=1.0)
    theirs = torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones=[7, 14], gamma=0.3)
    expected = []
    for _ in range(100):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        theirs.step()
    # 0.07 * 100 is 7.000000000000001, and 0.14 * 100 is 14.000000000000002.
    optim = OptimConfig(schedule="step", milestones=[0.07, 0.14], gamma=0.3, lr=1.0, epochs=100,
                        warmup_epochs=0.0)  # fmt: skip
    assert [lr_at(optim, step, 1) for step in range(100)] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, [1 / 3, 2 / 3, *[1.0] * 15, 0.75, 0.5, 0.25]),
        ({"decay_share": 0.5, "warmup_epochs": 5.0},
         [*[i / 11 for i in range(1, 11)], *[1 - i / 10 for i in range(10)]]),
        ({"decay_share": 1.0, "warmup_epochs": 0.0}, [1 - i / 20 for i in range(20)]),
        ({"decay_share": 0.04, "warmup_epochs": 0.0}, [1.0] * 20),
    ],
)  # fmt: skip
def test_warm_up_stable_decay_by_hand(options, expected):
    assert rates(schedule="wsd", **options) == pytest.approx(expected)


def test_the_decay_cannot_begin_before_the_warm_up_has_ended():
    with pytest.raises(ValueError, match=r"^optim\.warmup_epochs must be <= 4 epochs, where sch"):
        OptimConfig(schedule="wsd", epochs=10, decay_share=0.6, warmup_epochs=4.5)


@pytest.mark.parametrize("nesterov", [False, True])
def test_sgd_by_hand(nesterov: bool) -> None:
    optim = OptimConfig(name="sgd", momentum=0.8, nesterov=nesterov, weight_decay=0.1, lr=0.5)
    model = nn.Linear(3, 2).double()
    optimizer = build_optimizer(model, optim)
    weight, bias = (p.detach().numpy().copy() for p in (model.weight, model.bias))
    speed = {"weight": np.zeros_like(weight), "bias": np.zeros_like(bias)}
    draw = np.random.default_rng(0)
    for rate in (0.5, 0.5, 0.2):
        x = draw.standard_normal((4, 3))
        for group in optimizer.param_groups:
            group["lr"] = rate
        model(torch.tensor(x)).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()
        y = x @ weight.T + bias
        slope = {"weight": 2 * y.T @ x + 0.1 * weight, "bias": 2 * y.sum(0)}  # the bias: no decay
        for name, value in (("weight", weight), ("bias", bias)):
            speed[name] = 0.8 * speed[name] + slope[name]
            value -= rate * (slope[name] + 0.8 * speed[name] if nesterov else speed[name])
    np.testing.assert_allclose(model.weight.detach(), weight, rtol=1e-12)
    np.testing.assert_allclose(model.bias.detach(), bias, rtol=1e-12)


SMALL = ModelConfig(
    video=VideoEncoderConfig(channels=[4, 5, 6]), audio=AudioEncoderConfig(channels=[4, 5])
)


def decaying(no_decay: list[str]) -> set[str]:
    """Names of the parameters that decay."""
    model = build_model(SMALL, 3)
    names = {p: name for name, p in model.named_parameters()}
    optim = OptimConfig(weight_decay=0.25, no_decay=no_decay)
    groups = build_optimizer(model, optim).param_groups
    assert {group["weight_decay"] for group in groups} == {0.25, 0.0}
    assert sorted(names[p] for g in groups for p in g["params"]) == sorted(names.values())
    return {names[p] for g in groups if g["weight_decay"] for p in g["params"]}


def test_what_does_not_decay_is_named():
    parameters = dict(build_model(SMALL, 3).named_parameters())
    matrices = {name for name, p in parameters.items() if p.ndim > 1}
    assert decaying(["1d"]) == matrices
    assert decaying([]) == set(parameters)
    assert decaying(["1d", "video.stages"]) == {n for n in matrices if "video.stages." not in n}
    assert decaying(["bias"]) == {n for n in parameters if not n.endswith(".bias")}
    assert decaying(["video.stages.1"]) == {
        name for name in parameters if not name.startswith("video.stages.1.")
    }
    one = "fusion.fused.weight"
    assert decaying([one]) == {name for name in parameters if name != one}


@pytest.mark.parametrize("word", ["stage", "video.stages.9", "bia"])
def test_a_name_that_no_parameter_has_is_refused(word):
    with pytest.raises(ValueError, match=rf"^optim\.no_decay: no parameter .* {word!r}, or has"):
        build_optimizer(build_model(SMALL, 3), OptimConfig(no_decay=["1d", word]))


def test_earlier_stages_learn_more_slowly():
    config = ModelConfig(
        video=VideoEncoderConfig(channels=[4, 5, 6], layer_decay=0.5, lr_scale=0.1),
        audio=AudioEncoderConfig(channels=[4, 5], lr_scale=2.0),
    )
    model = build_model(config, 3).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    optimizer = build_optimizer(model, OptimConfig(), config, EMPTY)
    assert all(before[name].equal(value) for name, value in model.state_dict().items())
    assert model.video.training
    names = {p: name for name, p in model.named_parameters()}
    found = {names[p]: g["lr_scale"] for g in optimizer.param_groups for p in g["params"]}
    by_hand = {"video.stages.0": 0.0125, "video.stages.1": 0.025, "video.stages.2": 0.05,
               "audio": 2.0, "fusion": 1.0}  # fmt: skip
    for name, scale in found.items():
        (expected,) = [s for beginning, s in by_hand.items() if name.startswith(f"{beginning}.")]
        assert scale == pytest.approx(expected), name
    assert len(found) == len(names)


class Methods(Encoder):
    """Stages that are methods: nothing but the computation says whose the parameters are."""

    def __init__(self) -> None:
        super().__init__()
        self.stages, self.num_features = [self.begin, self.go_on], 4
        self.spec = VideoSpec()
        self.first, self.second, self.tail = (nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 4))
        self.everywhere = nn.Parameter(torch.ones(3))
        self.second.bias.requires_grad_(False)

    def begin(self, x: Tensor) -> list[Tensor]:
        x = self.first(x.mean((2, 3, 4))) * self.everywhere
        return [x, x.relu()]

    def go_on(self, x: list[Tensor]) -> Tensor:
        return self.second(x[0]) + x[1] * self.everywhere

    def pool(self, x: Tensor) -> Tensor:
        return self.tail(x)


def test_stages_that_are_methods_are_told_apart_by_what_they_compute():
    encoder = Methods()
    factors = layer_factors(encoder, 0.1, torch.zeros(1, 3, 2, 4, 4), "x")
    found = {name: factors[p] for name, p in encoder.named_parameters() if p.requires_grad}
    assert found == pytest.approx(
        {"first.weight": 0.01, "first.bias": 0.01, "everywhere": 0.01, "second.weight": 0.1,
         "tail.weight": 1.0, "tail.bias": 1.0}
    )  # fmt: skip


def test_layer_decay_of_a_vision_transformer_is_that_of_beit():
    pytest.importorskip("timm")
    from avmix.models.timm import image_network

    image = image_network("test_vit", {}, 3, "x")  # six blocks, in four stages after the embedding
    encoder = FrameEncoder(image, "attention", 1, "x")
    factors = layer_factors(encoder, 0.8, torch.zeros(1, 3, 1, 160, 160), "x")
    stage_of_block = {0: 1, 1: 1, 2: 2, 3: 3, 4: 4, 5: 4}
    for name, parameter in encoder.named_parameters():
        if block := re.match(r"net\.blocks\.(\d)\.", name):
            expected = 0.8 ** (5 - stage_of_block[int(block[1])])
        elif name.startswith(("net.patch_embed.", "net.pos_embed", "net.cls_token")):
            expected = 0.8**5
        else:
            assert name.startswith(("net.norm.", "net.fc_norm.", "score."))
            expected = 1.0
        assert factors[parameter] == pytest.approx(expected), name


def test_layer_decay_of_what_cannot_be_cut_is_refused():
    pytest.importorskip("timm")
    video = VideoEncoderConfig(encoder="timm:ghostnet_050", layer_decay=0.7)
    config = ModelConfig(video=video)
    model = build_model(config, 3)
    with pytest.raises(ValueError, match=r"^model\.video\.layer_decay: .*ghostnet_050 cannot be"):
        build_optimizer(model, OptimConfig(), config, EMPTY)
