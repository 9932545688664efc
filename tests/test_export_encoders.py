"""Encoders of every library in both formats: small networks of random weights."""

from pathlib import Path
from typing import Any

import pytest
import torch

from avmix.config import TrainConfig, load_config
from avmix.exporting.check_clips import decoded_clips, largest_difference
from avmix.exporting.file_formats import (
    onnx_runner,
    torch_runner,
    traced,
    write_onnx,
    write_torch,
)
from avmix.models import build_model
from avmix.models.input_options import with_expected_input
from avmix.training.trained import TrainedNetwork

FRAMES = ["clip.num_frames=4", "clip.short_side=36", "clip.crop=32"]
TINY = {"hidden_size": 48, "num_attention_heads": 3, "intermediate_size": 96,
        "num_hidden_layers": 2}  # fmt: skip
OF_TRANSFORMERS: dict[str, tuple[str, dict[str, Any]]] = {
    "VideoMAE": ("VideoMAEConfig", {"image_size": 32, "num_frames": 4}),
    "AST": ("ASTConfig", {"max_length": 198}),
    "Wav2Vec2": ("Wav2Vec2Config", {"conv_dim": (32,) * 7, "num_conv_pos_embeddings": 16,
                                    "num_conv_pos_embedding_groups": 4}),
}  # fmt: skip
CASES = {
    "Lite0": ["model.video.encoder=timm:tf_efficientnet_lite0", *FRAMES],
    "Lite0, tsm": ["model.video.encoder=timm:tf_efficientnet_lite0", "model.video.pooling=tsm",
                   *FRAMES],
    "Swin3D": ["model.video.encoder=torchvision:swin3d_t", *FRAMES],
    "X3D": ["model.video.encoder=pytorchvideo:x3d_xs", "clip.num_frames=4", "clip.short_side=144",
            "clip.crop=129"],
    "EAT": ["model.audio.encoder=avmix:eat", "model.audio.options={width: 48, depth: 2}", *FRAMES],
    "BEATs": ["model.audio.encoder=avmix:beats", "model.audio.options={width: 48, depth: 2}",
              *FRAMES],
    "MBT": ["model.joint.encoder=avmix:mbt",
            "model.joint.options={width: 48, depth: 4, heads: 3, fusion_layer: 2}", *FRAMES],
    "VideoMAE": ["model.video.encoder=transformers:{folder}"],
    "AST": ["model.audio.encoder=transformers:{folder}", *FRAMES],
    "Wav2Vec2": ["model.audio.encoder=transformers:{folder}", "mix.audio_domain=waveform", *FRAMES],
}  # fmt: skip
"""Options of training; {folder}: of a configuration of `OF_TRANSFORMERS`."""


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of the libraries
@pytest.mark.parametrize("case", CASES)
def test_an_encoder_says_the_same_in_both_formats(case: str, tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    if case in OF_TRANSFORMERS:
        library = pytest.importorskip("transformers")
        kind, options = OF_TRANSFORMERS[case]
        getattr(library, kind)(**TINY, **options).save_pretrained(tmp_path / "net")
    words = [f"--{word}" for word in CASES[case]]
    words = [word.replace("{folder}", str(tmp_path / "net")) for word in words]
    config = with_expected_input(load_config(TrainConfig, words))
    torch.manual_seed(0)
    model = build_model(config.model, 5, clip=config.clip, frontend=config.frontend)
    net = TrainedNetwork(config, list("abcde"), model).eval()
    read, program = decoded_clips(net, []), traced(net)
    write_torch(program, {}, tmp_path / "net.pt2")
    write_onnx(net, program, {}, tmp_path / "net.onnx")
    for run in (torch_runner(tmp_path / "net.pt2"), onnx_runner(tmp_path / "net.onnx", 1)):
        assert largest_difference(net, run, read) < 1e-5
