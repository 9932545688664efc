"""Frozen encoders, learning rates of parts, and runs that begin with weights of a file."""

import copy
import re
from contextlib import ExitStack
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

from avmix.commands import evaluate as evaluation
from avmix.commands import train
from avmix.config import (
    AudioEncoderConfig,
    ClipConfig,
    EvalConfig,
    MixConfig,
    ModelConfig,
    OptimConfig,
    TrainConfig,
    VideoEncoderConfig,
    load_config,
)
from avmix.models import LateFusionClassifier, build_model
from avmix.models.classifier import check_layers
from avmix.models.encoder import Encoder, VideoSpec
from avmix.training import checkpoint, runtime, training_setup
from avmix.training.engine import clip_gradients
from avmix.training.optimizer import build_optimizer, towers_of
from avmix.types import Batch

ROOT = Path(__file__).parents[1]
OPTIM = OptimConfig(lr=0.01, weight_decay=0.1, epochs=1)


def model_of(video: dict[str, Any], audio: dict[str, Any], **options: Any) -> ModelConfig:
    return ModelConfig(
        video=VideoEncoderConfig(channels=[4, 6], **video),
        audio=AudioEncoderConfig(channels=[4, 5], **audio),
        **options,
    )


def inputs(size: int = 4) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(1)
    here = torch.ones(size, dtype=torch.bool)
    return (torch.randn(size, 3, 4, 16, 16, generator=generator),
            torch.randn(size, 1, 16, 20, generator=generator), here, here)  # fmt: skip


def step(model: LateFusionClassifier, optimizer: torch.optim.Optimizer) -> None:
    loss = torch.cat([*model(*inputs()).logits]).square().sum()
    loss.backward()
    clip_gradients(towers_of(model), 5.0)
    optimizer.step()
    optimizer.zero_grad()


@pytest.fixture
def file(tmp_path: Path) -> str:
    """Weights of a video encoder of two stages."""
    torch.manual_seed(5)
    encoder = build_model(model_of({}, {}), 3).video
    torch.save(encoder.state_dict(), tmp_path / "video.pt")
    return str(tmp_path / "video.pt")


def test_a_frozen_encoder_does_not_change(file: str) -> None:
    config = model_of({"weights": file, "frozen": True}, {})
    model = build_model(config, 3).train()
    optimizer = build_optimizer(model, OPTIM, config)
    before = copy.deepcopy(model.state_dict())
    for _ in range(2):
        step(model, optimizer)
    model.eval()
    model.train()
    assert not any(module.training for module in model.video.modules())
    assert model.audio.training
    assert model.fusion.training
    wanted = torch.load(file, weights_only=True)
    for name, value in model.state_dict().items():
        if name.startswith("video."):
            assert torch.equal(value, wanted[name.removeprefix("video.")]), name
        elif value.is_floating_point():
            assert not torch.equal(value, before[name]), name
    learning = {id(p) for group in optimizer.param_groups for p in group["params"]}
    assert learning == {id(p) for p in model.parameters() if p.requires_grad}
    assert all(p.grad is None and not p.requires_grad for p in model.video.parameters())


def test_parts_learn_at_rates_of_their_own() -> None:
    config = model_of({"lr_scale": 0.1}, {"lr_scale": 0.5})
    model = build_model(config, 3)
    optimizer = build_optimizer(model, OPTIM, config)
    towers = towers_of(model)
    expected = {1.0: towers.fusion, 0.1: towers.video, 0.5: towers.audio}
    for scale, tower in expected.items():
        groups = [g for g in optimizer.param_groups if g["lr_scale"] == scale]
        assert {id(p) for g in groups for p in g["params"]} == {id(p) for p in tower}
        assert [(g["weight_decay"], {p.ndim > 1 for p in g["params"]}) for g in groups] == [
            (0.1, {True}), (0.0, {False}),
        ]  # fmt: skip


def test_without_rates_of_their_own_there_are_the_groups_of_before() -> None:
    model = build_model(model_of({}, {}), 3)
    groups = build_optimizer(model, OPTIM, model_of({}, {})).param_groups
    parameters = list(model.parameters())
    assert [[id(p) for p in g["params"]] for g in groups] == [
        [id(p) for p in parameters if p.ndim > 1],
        [id(p) for p in parameters if p.ndim <= 1],
    ]


@pytest.mark.parametrize(
    ("video", "layers", "says"),
    [
        ({}, [0, 2], ""),
        ({}, [1, 3], "(=2: model.video.encoder avmix:r2plus1d), got [1, 3]"),
        (
            {"encoder": "timm:ghostnet_050"},
            [1],
            "(=0: model.video.encoder timm:ghostnet_050, which cannot be cut), got [1]",
        ),
    ],
)
def test_mixing_after_more_stages_than_there_are_is_refused(video, layers, says) -> None:
    if "encoder" in video:
        pytest.importorskip("timm")
        model = ModelConfig(video=VideoEncoderConfig(**video))
    else:
        model = model_of(video, {})
    config = TrainConfig(model=model, mix=MixConfig(method="mixup@layer", layers=layers))
    built = build_model(config.model, 3, clip=config.clip)
    if says:
        with pytest.raises(ValueError, match=rf"^mix\.layers must be .*{re.escape(says)}$"):
            check_layers(built, config)
    else:
        check_layers(built, config)
    check_layers(built, TrainConfig(model=model, mix=MixConfig(method="mixup@feature")))


def arguments(data: Path, out: Path, *more: str) -> list[str]:
    return ["--config", str(ROOT / "configs/smoke.yaml"), "--data.root", str(data), "--run.out",
            str(out), "--run.threads", "1", "--data.num_workers", "0", "--optim.epochs", "1",
            "--data.val_split", "", "--data.shots", "1", "--model.video.channels", "[4,6]",
            "--model.audio.channels", "[4,5]", *more]  # fmt: skip


def test_mixing_after_too_many_stages_ends_a_run_before_it_begins(toy_set, tmp_path) -> None:
    words = ["--mix.method", "mixup@layer", "--mix.layers", "[3]"]
    with pytest.raises(ValueError, match=r"^mix\.layers must be <= the number of stages"):
        train.train(load_config(TrainConfig, arguments(toy_set, tmp_path / "run", *words)))
    assert not (tmp_path / "run/last.pt").exists()


def test_a_run_begins_with_a_file_and_goes_on_without_it(toy_set, file, tmp_path, capsys) -> None:
    words = ["--model.video.weights", file, "--model.video.frozen", "true",
             "--model.audio.lr_scale", "0.5", "--mix.method", "mixup@layer",
             "--mix.layers", "[0,1,2]"]  # fmt: skip
    given = arguments(toy_set, tmp_path / "run", *words)
    last = train.train(load_config(TrainConfig, given)).checkpoint
    assert "avmix:r2plus1d begins with" in " ".join(capsys.readouterr().out.split())
    wanted = torch.load(file, weights_only=True)
    Path(file).unlink()
    assert all(torch.equal(checkpoint.load(last).model[f"video.{name}"], value)
               for name, value in wanted.items())  # fmt: skip
    scores = evaluation.evaluate(
        EvalConfig(checkpoint=str(last), split="val", num_views=1, num_workers=0, threads=1)
    )
    assert scores["fused"] is not None
    again = [word if word != "1" or given[i - 1] != "--optim.epochs" else "2"
             for i, word in enumerate(given)]  # fmt: skip
    state = checkpoint.load(train.train(load_config(TrainConfig, again)).checkpoint)
    assert state.epoch == 2
    assert all(torch.equal(state.model[f"video.{name}"], v) for name, v in wanted.items())
    rates = {g["lr_scale"]: g["lr"] for g in state.optimizer["param_groups"]}
    assert rates[0.5] == pytest.approx(0.5 * rates[1.0])


@pytest.mark.parametrize(
    ("encoder", "options"),
    [("timm:test_vit", {"drop_path_rate": 0.5}),
     ("torchvision:efficientnet_b0", {"stochastic_depth_prob": 0.5, "dropout": 0.0})],
)  # fmt: skip
def test_drop_path_is_an_option_of_the_library(encoder: str, options: dict[str, Any]) -> None:
    pytest.importorskip(encoder.partition(":")[0])
    clip = ClipConfig(num_frames=1, crop=160, short_side=160)
    config = ModelConfig(video=VideoEncoderConfig(encoder=encoder, options=options))
    network = build_model(config, 3, clip=clip).video.train()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()  # so that nothing but drop path differs between two passes
    given = torch.randn(2, 3, 1, 160, 160)
    torch.manual_seed(1)
    with torch.no_grad():
        assert not network(given).equal(network(given))
        network.eval()
        assert network(given).equal(network(given))


class Looking(nn.Conv3d):
    """Notes the least and the largest value that it was given."""

    seen: ClassVar[list[float]] = []

    def forward(self, input: Tensor) -> Tensor:
        self.seen.extend([input.min().item(), input.max().item()])
        return super().forward(input)


class Picky(Encoder):
    """Wants pixels as they are, in [0, 1]."""

    def __init__(self) -> None:
        super().__init__()
        self.stages, self.num_features = nn.ModuleList([Looking(3, 4, 1)]), 4
        self.spec = VideoSpec(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))

    def pool(self, x: Tensor) -> Tensor:
        return x.mean((2, 3, 4))


def test_training_and_evaluation_normalise_pixels_as_the_encoder_wants(toy_set, tmp_path) -> None:
    words = arguments(toy_set, tmp_path / "run", "--model.video.encoder",
                      f"python:{__name__}:Picky")  # fmt: skip
    at = words.index("--model.video.channels")
    del words[at : at + 2]
    config = load_config(TrainConfig, words)
    batch = Batch(
        video=torch.randint(0, 256, (2, 4, 32, 32, 3), dtype=torch.uint8), row=torch.arange(2),
        audio=torch.randn(2, 32_000), target=torch.eye(2), source=torch.arange(2),
        has_video=torch.ones(2, dtype=torch.bool), has_audio=torch.ones(2, dtype=torch.bool),
    )  # fmt: skip
    with runtime.start(device="cpu", threads=1) as here, ExitStack() as at_end:
        run = training_setup.build(config, here, at_end)
        pixels = batch.video.permute(0, 4, 1, 2, 3) / 255
        torch.testing.assert_close(run.frontend(batch)[0], pixels)
        run.save("last.pt", 1, 0, 0.0)
    Looking.seen.clear()
    evaluation.evaluate(EvalConfig(checkpoint=str(tmp_path / "run"), split="val", num_views=1,
                               num_workers=0, threads=1))  # fmt: skip
    assert min(Looking.seen) >= 0
    assert 0.5 < max(Looking.seen) <= 1 + 1e-6


def tiny_of_transformers(folder: Path) -> list[str]:
    """Folders with configurations of a network for each modality; options that name them."""
    transformers = pytest.importorskip("transformers")
    size = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
            "intermediate_size": 32}  # fmt: skip
    transformers.VideoMAEConfig(image_size=32, num_frames=4, patch_size=16, **size).save_pretrained(
        folder / "video"
    )
    transformers.ASTConfig(max_length=198, num_mel_bins=32, **size).save_pretrained(
        folder / "audio"
    )
    front_end = ["--frontend.kind", "kaldi", "--frontend.num_mels", "32", "--frontend.n_fft", "400",
                 "--frontend.hop_length", "160", "--frontend.mel_mean", "-4.3",
                 "--frontend.mel_std", "9.1"]  # fmt: skip
    return [f"--model.video.encoder=transformers:{folder}/video",
            f"--model.audio.encoder=transformers:{folder}/audio", *front_end]  # fmt: skip


def tiny_of_waveforms(folder: Path) -> list[str]:
    """Options that name a folder with the configuration of a network that takes waveforms."""
    transformers = pytest.importorskip("transformers")
    transformers.Wav2Vec2Config(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
        conv_dim=[8, 8, 8], conv_kernel=[20, 8, 4], conv_stride=[10, 8, 4],
        num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=2,
    ).save_pretrained(folder / "audio")  # fmt: skip
    return [f"--model.audio.encoder=transformers:{folder}/audio", "--mix.audio_domain=waveform",
            "--frontend.kind=waveform"]  # fmt: skip


JOINT = ["--model.joint.encoder=avmix:mbt", "--model.joint.options",
         "{width: 16, depth: 2, heads: 2, fusion_layer: 1}"]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("library", ["timm", "transformers", "waveforms", "joint"])
def test_encoders_of_libraries_train_go_on_and_are_evaluated(library, toy_set, tmp_path) -> None:
    if library in ("timm", "transformers"):
        pytest.importorskip(library)
    words = ["--config", str(ROOT / "configs/smoke.yaml"), "--data.root", str(toy_set),
             "--run.out", str(tmp_path / "run"), "--run.threads", "1", "--data.num_workers", "0",
             "--data.val_split", "", "--data.shots", "1",
             "--mix.switch", "{mixup@layer: 0.5, cutmix_temporal: 0.5}"]  # fmt: skip
    words += (
        ["--model.video.encoder=timm:resnet10t", "--model.video.pooling=tsm",
         "--model.audio.encoder=timm:mobilenetv3_small_050", "--clip.stereo=true"]
        if library == "timm"
        else JOINT
        if library == "joint"
        else tiny_of_waveforms(tmp_path)
        if library == "waveforms"
        else tiny_of_transformers(tmp_path)
    )  # fmt: skip
    once = train.train(load_config(TrainConfig, [*words, "--optim.epochs", "2"])).checkpoint
    whole = checkpoint.load(once)
    assert (whole.epoch, whole.step) == (2, 0)
    assert all(torch.isfinite(v).all() for v in whole.model.values() if v.is_floating_point())
    first = evaluation.evaluate(
        EvalConfig(checkpoint=str(once), split="val", num_views=1, num_workers=0, threads=1)
    )
    again = evaluation.evaluate(
        EvalConfig(checkpoint=str(once), split="val", num_views=1, num_workers=0, threads=1)
    )
    assert first == again
    longer = checkpoint.load(
        train.train(load_config(TrainConfig, [*words, "--optim.epochs", "3"])).checkpoint
    )
    assert (longer.epoch, longer.step) == (3, 0)
    changed = [k for k, v in longer.model.items() if not torch.equal(v, whole.model[k])]
    of_encoders = {"joint": ("joint.video.", "joint.audio.", "joint.bottlenecks"),
                   "waveforms": ("video.stages.", "audio.net.")}  # fmt: skip
    for start in of_encoders.get(library, ("video.net.", "audio.net.")):
        assert any(k.startswith(start) for k in changed)
