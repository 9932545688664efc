"""Gradient checkpointing, and batch normalisation that is frozen or synchronised."""

import copy
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from avmix.config import AudioEncoderConfig, ModelConfig, VideoEncoderConfig
from avmix.mix.hidden_mix import HiddenMix
from avmix.models import LateFusionClassifier, build_model
from avmix.models.encoder import Encoder, VideoSpec
from avmix.training.runtime import Runtime
from avmix.training.sync_norm import synchronise_norms, to_sync_norm

HERE = torch.ones(4, dtype=torch.bool)
MIX = HiddenMix(
    stage=1, path=None, partner=torch.tensor([1, 2, 3, 0], dtype=torch.int32),
    video=torch.tensor([0.7, 0.2, 1.0, 0.5]), audio=torch.tensor([0.7, 0.2, 1.0, 0.5]),
)  # fmt: skip


class Dropping(Encoder):
    """With what draws random numbers and what counts, in a list between its stages."""

    def __init__(self) -> None:
        super().__init__()
        self.stages, self.num_features = [self.first, self.second], 6
        self.spec = VideoSpec()
        self.convolution, self.norm = nn.Conv3d(3, 6, 3), nn.BatchNorm3d(6, momentum=None)
        self.drop = nn.Dropout(0.5)
        self.calls: Tensor
        self.register_buffer("calls", torch.zeros((), dtype=torch.long))

    def first(self, x: Tensor) -> list[Tensor]:
        if self.training:
            self.calls += 1
        x = self.norm(self.convolution(x))
        return [x, self.drop(x)]

    def second(self, x: list[Tensor]) -> Tensor:
        return self.drop(x[0].tanh() * x[1])

    def pool(self, x: Tensor) -> Tensor:
        return x.mean((2, 3, 4))


def model_of(video: dict[str, Any], checkpointing: bool) -> LateFusionClassifier:
    torch.manual_seed(3)
    config = ModelConfig(
        video=VideoEncoderConfig(gradient_checkpointing=checkpointing, **video),
        audio=AudioEncoderConfig(channels=[4, 6], gradient_checkpointing=checkpointing),
    )
    return build_model(config, 3).train()


def two_steps(model: LateFusionClassifier, *, bf16: bool) -> list[Tensor]:
    """All gradients of two steps of other clips; statistics and counts move."""
    found = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        given = torch.randn(4, 3, 4, 16, 16), torch.randn(4, 1, 16, 20)
        with torch.autocast("cpu", torch.bfloat16) if bf16 else nullcontext():
            logits = model(*given, HERE, HERE, MIX).logits
        torch.cat(logits).float().square().sum().backward()
        found += [p.grad for p in model.parameters()]
        model.zero_grad()
    return found


@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize(
    "video", [{"channels": [4, 5, 6]}, {"encoder": f"python:{__name__}:Dropping"}]
)
def test_gradients_are_the_same_and_statistics_move_once(video: Any, bf16: bool) -> None:
    kept, anew = (model_of(video, checkpointing) for checkpointing in (False, True))
    calls: dict[str, int] = {}
    for name, model in (("kept", kept), ("anew", anew)):
        first = next(m for m in model.video.modules() if isinstance(m, nn.Conv3d))

        def count(*_: Any, name: str = name) -> None:
            calls[name] = calls.get(name, 0) + 1

        first.register_forward_pre_hook(count)
    buffers = [b for m in anew.modules() for b in m._buffers.values()]
    for a, b in zip(two_steps(kept, bf16=bf16), two_steps(anew, bf16=bf16), strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-7)
    assert calls == {"kept": 2, "anew": 4}  # it is computed twice
    for name, value in kept.state_dict().items():
        assert value.equal(anew.state_dict()[name]), name
    assert kept.state_dict()["audio.stages.0.1.num_batches_tracked"] == 2
    # DDP sends the tensors that it knew at first.
    assert all(a is b for a, b in zip(
        buffers, (b for m in anew.modules() for b in m._buffers.values()), strict=True
    ))  # fmt: skip


def test_less_is_kept_for_the_gradient() -> None:
    def kept(checkpointing: bool) -> int:
        """Bytes of all tensors that the gradient waits for, but for the input."""
        model, sizes = model_of({"channels": [4, 5, 6]}, checkpointing), {}

        def keep(x: Tensor) -> Tensor:
            if x is not given:
                sizes[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
            return x

        given = torch.randn(4, 3, 4, 32, 32)
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
            features = model.video(given)
            assert features.requires_grad
            return sum(sizes.values())

    assert kept(True) < kept(False) / 3


def test_evaluation_computes_once() -> None:
    model = model_of({"channels": [4, 5]}, True).eval()
    with torch.no_grad():
        expected = model_of({"channels": [4, 5]}, False).eval().video(torch.ones(1, 3, 4, 16, 16))
        assert model.video(torch.ones(1, 3, 4, 16, 16)).equal(expected)


class Overwriting(Dropping):
    """Its second stage writes over what the first gave."""

    def second(self, x: list[Tensor]) -> Tensor:
        return x[0].relu_() + x[1].tanh()


def test_a_stage_that_overwrites_its_input_is_an_error() -> None:
    model = model_of({"encoder": f"python:{__name__}:Overwriting"}, True)
    with pytest.raises(RuntimeError, match=r"^a stage of Overwriting changes its input in place"):
        two_steps(model, bf16=False)


class Whole(Dropping):
    """Without stages, and without batch normalisation."""

    def __init__(self) -> None:
        super().__init__()
        self.stages, self.norm = [], nn.Identity()

    def pool(self, x: Tensor) -> Tensor:
        return super().pool(self.second(self.first(x)))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (
            {"gradient_checkpointing": True},
            r"^model\.video\.gradient_checkpointing cannot act: .*Whole cannot be cut into stages$",
        ),
        (
            {"frozen_norm": True},
            r"^model\.video\.frozen_norm cannot act: .*Whole has no batch normalisation$",
        ),
    ],
)
def test_what_an_encoder_has_not_cannot_be_asked_for(options, says):
    video = VideoEncoderConfig(encoder=f"python:{__name__}:Whole", **options)
    with pytest.raises(ValueError, match=says):
        build_model(ModelConfig(video=video), 3)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A file for a video encoder, with statistics that are not 0 and 1."""
    path = tmp_path_factory.mktemp("weights") / "video.pt"
    model = model_of({"channels": [4, 5]}, False)
    model.video(3 + 2 * torch.randn(4, 3, 4, 16, 16))
    torch.save(model.video.state_dict(), path)
    return str(path)


def test_frozen_batch_normalisation_stays_and_the_rest_learns(weights: str) -> None:
    model = model_of({"channels": [4, 5], "weights": weights, "frozen_norm": True}, False)
    model.eval()
    model.train()
    before = copy.deepcopy(model.state_dict())
    norms = {f"video.{name}" for name, m in model.video.named_modules()
             if isinstance(m, nn.BatchNorm3d)}  # fmt: skip
    assert len(norms) == 8
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    given = torch.randn(4, 3, 4, 16, 16), torch.randn(4, 1, 16, 20)
    torch.cat(model(*given, HERE, HERE).logits).square().sum().backward()
    # In training too it normalises by what the file says.
    norm = model.video.get_submodule("stages.0.shrink.1")
    x = torch.randn(2, before["video.stages.0.shrink.1.weight"].numel(), 2, 3, 3)
    mean, var = (before[f"video.stages.0.shrink.1.{n}"] for n in ("running_mean", "running_var"))
    by_hand = (x - mean.view(-1, 1, 1, 1)) / (var.view(-1, 1, 1, 1) + 1e-5).sqrt()
    torch.testing.assert_close(norm(x), by_hand)  # its weight is 1, its bias 0
    optimizer.step()
    for name, value in model.state_dict().items():
        if not value.is_floating_point():
            continue
        frozen = name.rpartition(".")[0] in norms
        assert value.equal(before[name]) == frozen, name
    assert model.audio.stages[0][1].training  # pyright: ignore[reportIndexIssue]


@pytest.mark.parametrize(
    ("world_size", "says"),
    [(1, "cannot act without several processes"), (2, "needs CUDA: torch's SyncBatchNorm does")],
)
def test_synchronised_norms_need_processes_and_cuda(world_size: int, says: str) -> None:
    here = Runtime(device=torch.device("cpu"), threads=1, world_size=world_size)
    with pytest.raises(ValueError, match=rf"^model\.sync_norm {says}"):
        synchronise_norms(model_of({"channels": [4, 5]}, False), here)


def test_synchronised_norms_are_what_the_stages_run_and_keep_everything() -> None:
    model = model_of({"channels": [4, 5]}, False)
    network, state = model.video, model.video.state_dict()
    given = torch.randn(2, 3, 4, 16, 16)
    expected = network.eval()(given)
    to_sync_norm(network, "x")
    norms = [m for m in network.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    assert {type(m) for m in norms} == {nn.SyncBatchNorm}
    assert network(given).equal(expected)
    assert all(value is network.state_dict()[name] or value.equal(network.state_dict()[name])
               for name, value in state.items())  # fmt: skip


def test_timms_norms_with_an_activation_are_synchronised_with_it() -> None:
    pytest.importorskip("timm")
    model = model_of({"encoder": "timm:test_efficientnet"}, False)
    given = torch.randn(2, 3, 2, 32, 32)
    expected = model.video.eval()(given)
    to_sync_norm(model.video, "x")
    # The stages of a library refer to its modules: a module put in another's place is not theirs.
    seen: list[type] = []
    for m in model.video.modules():
        if isinstance(m, nn.SyncBatchNorm):
            m.register_forward_pre_hook(lambda m, _: seen.append(type(m)))
    assert model.video(given).equal(expected)
    assert {kind.__name__ for kind in seen} == {"SyncBatchNormAct"}
    assert not any(type(m) is nn.BatchNorm2d for m in model.video.modules())
    assert len(seen) == sum(isinstance(m, nn.SyncBatchNorm) for m in model.video.modules())


def test_other_norms_cannot_be_synchronised() -> None:
    class Own(nn.BatchNorm3d):
        pass

    with pytest.raises(ValueError, match=r"^model\.sync_norm: x normalises with .*Own, which is"):
        to_sync_norm(nn.Sequential(Own(3)), "x")
    with pytest.raises(ValueError, match=r"^model\.sync_norm cannot act: x has no batch norm"):
        to_sync_norm(nn.Sequential(nn.Linear(3, 3)), "x")
