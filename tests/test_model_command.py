"""`avmix model`: counts done by hand, its JSON and figure, and the weights that it writes."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import avmix
from avmix.cli import main
from avmix.config import (
    AudioEncoderConfig,
    ClipConfig,
    FrontendConfig,
    MixConfig,
    ModelConfig,
    TrainConfig,
    VideoEncoderConfig,
    to_yaml,
)
from avmix.models import build_model
from avmix.models.encoder import AudioSpec, Encoder, VideoSpec
from avmix.models.measure import measure, mixing_of
from avmix.training import checkpoint
from avmix.training.checkpoint import Checkpoint


class Frames(Encoder):
    """3 channels to 4, patches of 8x8 pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.stages, self.num_features = nn.ModuleList([nn.Conv3d(3, 4, (1, 8, 8), (1, 8, 8))]), 4
        self.spec = VideoSpec()

    def pool(self, x: Tensor) -> Tensor:
        return x.relu().mean((2, 3, 4))


class Spectrograms(Encoder):
    """1 channel to 5, patches of 4 mel bins and 4 columns."""

    def __init__(self) -> None:
        super().__init__()
        self.stages, self.num_features = nn.ModuleList([nn.Conv2d(1, 5, 4, 4)]), 5
        self.spec = AudioSpec()

    def pool(self, x: Tensor) -> Tensor:
        return x.relu().mean((2, 3))


CONFIG = TrainConfig(
    clip=ClipConfig(num_frames=2, crop=16, short_side=16, duration_seconds=0.3, sample_rate=8000),
    frontend=FrontendConfig(num_mels=16, n_fft=256, hop_length=128, mel_mean=0.0, mel_std=1.0),
    mix=MixConfig(switch={"mixup": 0.5, "video@layer": 0.25, "dropout": 0.25}, layers=[0, 1]),
    model=ModelConfig(
        dropout=0.0,
        video=VideoEncoderConfig(encoder=f"python:{__name__}:Frames"),
        audio=AudioEncoderConfig(encoder=f"python:{__name__}:Spectrograms"),
    ),
)  # fmt: skip
COLUMNS = (2400 - 256) // 128 + 1
PATCHES = 4 * (COLUMNS // 4)


def test_counts_are_those_done_by_hand() -> None:
    model = build_model(CONFIG.model, 3, clip=CONFIG.clip, frontend=CONFIG.frontend).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    found = measure(model, CONFIG.clip, CONFIG.frontend)
    assert model.training
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert found.inputs == {"video": [3, 2, 16, 16], "audio": [1, 16, COLUMNS]}
    conv_video, conv_audio = 4 * 3 * 8 * 8 + 4, 5 * 4 * 4 + 5
    heads = 2 * 4 + 2 * 5 + (9 * 3 + 3) + (4 * 3 + 3) + (5 * 3 + 3)
    assert [(part.name, part.parameters, part.learning) for part in found.parts] == [
        ("video", conv_video, conv_video),
        ("audio", conv_audio, conv_audio),
        ("fusion", heads, heads),
    ]
    assert [(s.part, s.name, s.shapes, s.flops) for s in found.stages] == [
        ("video", "stage 0", [[4, 2, 2, 2]], 2 * 32 * 3 * 8 * 8),
        ("video", "pool", [[4]], 0),
        ("audio", "stage 0", [[5, 4, COLUMNS // 4]], 2 * 5 * PATCHES * 4 * 4),
        ("audio", "pool", [[5]], 0),
        ("fusion", "heads", [[3], [3], [3]], 2 * 3 * (9 + 4 + 5)),
    ]
    # A convolution keeps its input, a rectifier what it gives.
    assert [s.activation_bytes for s in found.stages[:4]] == [
        4 * 3 * 2 * 16 * 16, 4 * 32, 4 * 16 * COLUMNS, 4 * 5 * PATCHES,
    ]  # fmt: skip
    assert found.eval_seconds > 0
    assert found.train_seconds > 0


def test_of_a_frozen_encoder_nothing_learns_and_nothing_is_kept() -> None:
    video = replace(CONFIG.model.video, frozen=True)
    config = replace(CONFIG.model, video=video, shared_width=6)
    model = build_model(config, 3, clip=CONFIG.clip, frontend=CONFIG.frontend)
    found = measure(model, CONFIG.clip, CONFIG.frontend)
    assert [(part.name, part.learning > 0) for part in found.parts] == [
        ("video", False), ("audio", True), ("to_shared", True), ("fusion", True),
    ]  # fmt: skip
    assert [stage.activation_bytes for stage in found.stages[:2]] == [0, 0]
    assert [s.name for s in found.stages if s.part == "to_shared"] == [
        "projection of video", "projection of audio",
    ]  # fmt: skip


def test_ways_of_mixing_are_listed_with_their_places() -> None:
    assert [
        (w["method"], w["share"], w["mixed"], w["modalities"], w["after_stages"])
        for w in mixing_of(replace(CONFIG.mix, probability=0.5))
    ] == [
        ("mixup", 0.25, "frames and audio (log_mel)", ["video", "audio"], None),
        ("video@layer", 0.125, "hidden states of video", ["video"], [0, 1]),
        ("dropout", 0.125, "nothing, but a modality is left out", [], None),
    ]
    assert mixing_of(MixConfig(method="none")) == []


@pytest.fixture
def ask(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int | str | None, str, str]]:
    """Exit code, output and errors of `avmix model`."""

    def ask(*words: object) -> tuple[int | str | None, str, str]:
        with pytest.raises(SystemExit) as stopped:
            main(["model", *map(str, words)])
        said = capsys.readouterr()
        return stopped.value.code, said.out, said.err

    return ask


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With a configuration and a checkpoint."""
    folder = tmp_path_factory.mktemp("model")
    model = ModelConfig(
        fusion="film",
        video=VideoEncoderConfig(channels=[4, 6]),
        audio=AudioEncoderConfig(channels=[4, 5]),
    )
    config = replace(CONFIG, model=model)
    (folder / "config.yaml").write_text(to_yaml(config))
    checkpoint.save(folder / "last.pt", Checkpoint(
        config=config, classes=["a", "b", "c"], split_sha256="", num_steps=1, epoch=1, step=0,
        best=-1.0, model=build_model(model, 3).state_dict(), optimizer={},
    ))  # fmt: skip
    return folder


@pytest.mark.parametrize("ending", ["png", "svg"])
def test_a_network_is_described_as_json_and_drawn(folder, ask, tmp_path, ending) -> None:
    out = tmp_path / f"net.{ending}"
    code, said, error = ask("--config", folder / "config.yaml", "model.fusion=sum", "--classes", 4,
                            "--json", "--figure", out)  # fmt: skip
    assert (code, error) == (0, "")
    found: dict[str, Any] = json.loads(said)
    assert found["fusion"] == "sum"
    model = build_model(
        ModelConfig(fusion="sum", video=VideoEncoderConfig(channels=[4, 6]),
                    audio=AudioEncoderConfig(channels=[4, 5])), 4
    )  # fmt: skip
    assert found["parameters"] == sum(p.numel() for p in model.parameters())
    assert found["flops"] == sum(stage["flops"] for stage in found["stages"]) > 0
    assert [way["method"] for way in found["mixing"]] == ["mixup", "video@layer", "dropout"]
    starts = {"png": b"\x89PNG", "svg": b"<?xml"}
    assert out.read_bytes().startswith(starts[ending])


def test_a_checkpoint_is_measured_and_its_weights_written(folder, ask, tmp_path) -> None:
    pytest.importorskip("safetensors")
    code, said, _ = ask("--checkpoint", folder)
    assert code == 0
    assert "film" in said
    assert "mixing: mixup in 50% of the batches: frames and audio (log_mel)" in said
    path = tmp_path / "x.safetensors"
    code, said, _ = ask("--checkpoint", folder, "--save", path)
    assert code == 0
    assert said.startswith(f"wrote {path}: ")
    video, audio = torch.full((2, 2, 16, 16, 3), 9, dtype=torch.uint8), torch.randn(2, 2400)
    first, second = avmix.load(folder)(video, audio), avmix.load(path)(video, audio)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert ask("--checkpoint", path, "--json")[0] == 0


def test_the_size_that_weights_were_published_for_is_a_hint(ask, tmp_path) -> None:
    (tmp_path / "a.yaml").write_text(
        "clip: {num_frames: 1, duration_seconds: 0.5}\n"
        "model: {video: {encoder: 'torchvision:mobilenet_v3_small'}}\n"
    )
    config = "--config", tmp_path / "a.yaml", "clip.short_side=224"
    _, said, _ = ask(*config, "clip.crop=32")
    assert "mobilenet_v3_small: its library published weights for frames of 224x224" in " ".join(
        said.split()
    )
    assert "clip.crop is 32, which is taken, too" in " ".join(said.split())
    _, said, _ = ask(*config, "clip.crop=224")
    assert "published" not in said


def test_what_cannot_be_done_is_said(folder, ask, tmp_path) -> None:
    config = folder / "config.yaml"
    for words, code, says in (
        (["--config", config, "--save", "x.safetensors"], 2, "--save cannot act without --check"),
        (["--checkpoint", folder, "--classes", "3"], 2, "--classes cannot act without --config"),
        (["--checkpoint", folder, "--save", "x.safetensors", "--json"], 2, "--json cannot act"),
        (["--checkpoint", folder, "--config", config], 2, "not allowed with argument"),
        ([], 2, "one of the arguments --config --checkpoint is required"),
        (["--config", config, "model.fusion"], 2, "model.fusion: options are KEY=VALUE"),
        (["--config", config, "model.fusion=sums"], 2, "model.fusion"),
        (["--checkpoint", folder, "model.fusion=sum"], 2, "a checkpoint has its configuration"),
        (["--checkpoint", tmp_path], 1, "no such checkpoint"),
        (["--config", config, "--classes", "1"], 2, "--classes must be at least 2, got 1"),
        (["--config", config, "--figure", tmp_path], 1, "is a folder; name a file"),
        (["--config", config, "--figure", tmp_path / "x.xyz"], 1, "xyz"),
        (["--checkpoint", folder, "--save", tmp_path / "x.pt"], 2, "ends with .safetensors"),
    ):
        found, _, error = ask(*words)
        assert (found, says in error) == (code, True), (words, error)
        assert "Traceback" not in error
