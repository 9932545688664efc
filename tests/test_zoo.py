"""Every encoder, with a small one for the other modality and concat: built from a configuration, it
trains two steps at its smallest input, is saved, goes on, and is evaluated."""

from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from test_encoders import (
    AUDIO_SETTINGS,
    HIDDEN,
    OF_FRAMES,
    ROWS,
    TRANSFORMERS,
    pytorchvideo_nets,
    torchvision_nets,
    written,
)
from torch import Tensor

from avmix.config import OptimConfig, TrainConfig, load_config
from avmix.models import LateFusionClassifier, build_model, pytorchvideo, torchvision
from avmix.models.encoder import Encoder, VideoSpec
from avmix.models.frontend import Frontend
from avmix.models.input_options import with_expected_input
from avmix.models.library_encoder import LibraryEncoder
from avmix.training import checkpoint
from avmix.training.checkpoint import Checkpoint
from avmix.training.engine import clip_gradients
from avmix.training.evaluation_loop import _eval_rows
from avmix.training.optimizer import build_optimizer, towers_of
from avmix.types import Batch

CLASSES = 3
SMALL = ["--model.video.channels=[4, 6]", "--model.audio.channels=[4, 5]", "--clip.num_frames=2",
         "--clip.crop=16", "--clip.short_side=16", "--clip.duration_seconds=0.3"]  # fmt: skip
"""Of the other modality."""


def config_of(modality: str, name: str, *words: str, **options: Any) -> TrainConfig:
    """As `train.py` builds it from a command line. Options of the clip that the encoder decides are
    left to it; `words` may set them."""
    said = {word.partition("=")[0]: word for word in [*SMALL, *words]}
    own = name in ("avmix:r2plus1d", "avmix:cnn")
    if not own:
        del said[f"--model.{modality}.channels"]
        said["options"] = f"--model.{modality}.options={options}"
    said["encoder"] = f"--model.{modality}.encoder={name}"
    return with_expected_input(load_config(TrainConfig, [w for w in said.values() if "=" in w]))


def batch_of(config: TrainConfig) -> Batch:
    """Three clips: one has no audio, one no video."""
    draw, clip = torch.Generator().manual_seed(0), config.clip
    shape = (3, clip.num_frames, clip.crop, clip.crop, 3)
    return Batch(
        video=torch.randint(0, 256, shape, dtype=torch.uint8, generator=draw),
        audio=0.1 * torch.randn(3, round(clip.duration_seconds * clip.sample_rate), generator=draw),
        target=torch.eye(3)[:, :CLASSES],
        has_video=torch.tensor([True, True, False]), has_audio=torch.tensor([True, False, True]),
        row=torch.arange(3), source=torch.arange(3),
    )  # fmt: skip


def step(model: LateFusionClassifier, optimizer: torch.optim.Optimizer, given: Any) -> None:
    torch.manual_seed(1)  # dropout
    logits = torch.cat([*model(*given).logits])
    logits.log_softmax(1)[:, 0].mean().neg().backward()
    assert not [name for name, parameter in model.named_parameters() if parameter.grad is None]
    clip_gradients(towers_of(model), 5.0)
    optimizer.step()
    optimizer.zero_grad()


def goes_the_whole_way(config: TrainConfig, out: Path, optim: OptimConfig) -> None:
    torch.manual_seed(0)
    settings = {"clip": config.clip, "frontend": config.frontend}
    model = build_model(config.model, CLASSES, **settings).train()
    spec, batch = model.video.spec, batch_of(config)
    assert isinstance(spec, VideoSpec)
    frontend = Frontend(config.frontend.with_log_mel(-0.3, 3.7), config.clip.sample_rate, spec)
    given = (*frontend(batch), batch.has_video, batch.has_audio)
    optimizer = build_optimizer(model, optim, config.model)
    step(model, optimizer, given)
    checkpoint.save(out / "last.pt", Checkpoint(
        config=config, classes=["a", "b", "c"], split_sha256="", num_steps=2, epoch=0, step=1,
        best=-1.0, model=model.state_dict(), optimizer=optimizer.state_dict(),
    ))  # fmt: skip
    step(model, optimizer, given)
    state = checkpoint.load(out / "last.pt")
    assert state.config == config
    again = build_model(state.config.model, CLASSES, **settings, load_weights=False).train()
    checkpoint.load_weights(out / "last.pt", state, again)
    weights: dict[str, Tensor] = model.state_dict()
    assert any(not torch.equal(weights[key], value) for key, value in again.state_dict().items())
    resumed = build_optimizer(again, optim, config.model)
    resumed.load_state_dict(state.optimizer)
    step(again, resumed, given)
    (out / "last.pt").unlink()
    for key, value in again.state_dict().items():
        assert torch.equal(weights[key], value), key

    model.eval()
    with torch.inference_mode():
        rows = _eval_rows(model, frontend, batch)
    assert rows.shape == (5, 3, CLASSES)
    assert rows.isfinite().all()


ADAM, SGD = OptimConfig(lr=0.01), OptimConfig(name="sgd", lr=0.01)

# Tiny ---------------------------------------------------------------------------------------------

SIZES = {"width": 32, "depth": 2, "heads": 2}
PIXELS = {size: [f"--clip.crop={size}", f"--clip.short_side={size}"] for size in (16, 32, 224)}


def tiny(library: str, kind: str) -> Encoder:
    """Of a family whose named networks are all large."""
    if library == "pytorchvideo":
        net = pytorchvideo_nets()[kind][0]()
        return LibraryEncoder(net, pytorchvideo.cut(net, kind), VideoSpec())
    net = torchvision_nets()[kind][0]()
    return LibraryEncoder(net, torchvision.video_cut(net, kind)[0], VideoSpec())


POOLINGS = ("mean", "max", "mean+max", "attention", "tsm")
TINY_VIDEO: dict[str, tuple[str, list[str], dict[str, Any]]] = {
    "avmix:r2plus1d": ("avmix:r2plus1d", [], {}),
    "avmix:cav_mae": ("avmix:cav_mae", ["--clip.num_frames=1", *PIXELS[224]], SIZES),
    **{f"timm:{pooling}": ("timm:test_resnet", [f"--model.video.pooling={pooling}", *PIXELS[32]],
                           {}) for pooling in POOLINGS},
    **{f"torchvision:{pooling}": ("torchvision:mobilenet_v3_small",
                                  [f"--model.video.pooling={pooling}", *PIXELS[32]], {})
       for pooling in ("mean+max", "tsm")},
    "timm:vit": ("timm:test_vit", PIXELS[32], {"img_size": 32}),
    **{f"pytorchvideo:{kind}": (f"python:{__name__}:tiny", ["--clip.num_frames=8", *PIXELS[32]],
                                {"library": "pytorchvideo", "kind": kind})
       for kind in ("slow", "csn", "x3d", "slowfast")},
    **{f"torchvision:{kind}": (f"python:{__name__}:tiny",
                               [f"--clip.num_frames={frames}", *PIXELS[size]],
                               {"library": "torchvision", "kind": kind})
       for kind, frames, size in (("resnet", 2, 16), ("mvit_v1", 4, 32), ("mvit_v2", 4, 32),
                                  ("swin", 4, 16))},
}  # fmt: skip
TINY_AUDIO: dict[str, tuple[str, list[str], dict[str, Any]]] = {
    "avmix:cnn": ("avmix:cnn", [], {}),
    **{f"avmix:{name}": (f"avmix:{name}", ["--clip.duration_seconds=0.335"], SIZES)
       for name in ("eat", "sslam", "cav_mae", "beats")},
    "timm": ("timm:test_resnet", [], {}),
    "torchvision": ("torchvision:mobilenet_v3_small", [], {}),
    "pytorchvideo": ("pytorchvideo:acoustic_resnet50", [],
                     {"stem_dim_out": 8, "head_pool_kernel_size": [1, 1, 1]}),
}  # fmt: skip


def skip_without(name: str) -> None:
    library = name.partition(":")[0]
    if library not in ("avmix", "python"):
        pytest.importorskip(library)


LONG = ("torchvision:resnet", "pytorchvideo:x3d")
"""Tiny, but not that tiny."""


@pytest.mark.filterwarnings("ignore:'saved_variables' is deprecated")
@pytest.mark.parametrize(
    "case",
    [pytest.param(c, marks=pytest.mark.long if c in LONG else ()) for c in TINY_VIDEO],
)
def test_a_video_encoder_goes_the_whole_way(case: str, tmp_path: Path) -> None:
    name, words, options = TINY_VIDEO[case]
    skip_without(name)
    goes_the_whole_way(config_of("video", name, *words, **options), tmp_path, ADAM)


@pytest.mark.parametrize("case", TINY_AUDIO)
def test_an_audio_encoder_goes_the_whole_way(case: str, tmp_path: Path) -> None:
    name, words, options = TINY_AUDIO[case]
    skip_without(name)
    goes_the_whole_way(config_of("audio", name, *words, **options), tmp_path, ADAM)


FREE = ["--clip.num_frames", "--clip.crop", "--clip.short_side"]
"""Left to the encoder."""
XCLIP: dict[str, Any] = {
    "vision_config": {**OF_FRAMES, "patch_size": 8, "mit_hidden_size": 12,
                      "mit_intermediate_size": 24, "mit_num_hidden_layers": 1,
                      "mit_num_attention_heads": 2},
    "text_config": {**HIDDEN, "vocab_size": 100, "max_position_embeddings": 8},
    "projection_dim": 12, "prompt_layers": 1, "prompt_num_attention_heads": 2,
}  # fmt: skip
OF_TRANSFORMERS = {**{kind: case[:2] for kind, case in TRANSFORMERS.items()},
                   "xclip": ("XCLIPConfig", XCLIP)}  # fmt: skip


@pytest.mark.parametrize("kind", OF_TRANSFORMERS)
def test_a_video_encoder_of_transformers_goes_the_whole_way(kind: str, tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    folder = written(tmp_path, *OF_TRANSFORMERS[kind])
    goes_the_whole_way(config_of("video", f"transformers:{folder}", *FREE), tmp_path, ADAM)


@pytest.mark.parametrize("kind", AUDIO_SETTINGS)
def test_an_audio_encoder_of_transformers_goes_the_whole_way(kind: str, tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    folder = written(tmp_path, *AUDIO_SETTINGS[kind][:2])
    words = ["--clip.duration_seconds"] if kind == "ast" else []
    goes_the_whole_way(config_of("audio", f"transformers:{folder}", *words), tmp_path, ADAM)


# Of the published size ----------------------------------------------------------------------------

CAV_MAE = ("avmix:cav_mae", ["--clip.num_frames=1", *FREE[1:]])
LARGE_VIDEO = {
    **{row[0]: (row[0], [f"--clip.num_frames={row[1].split()[0] if row[1] != 'any' else 2}",
                         *(f"--clip.{key}={row[2].split()[0] if row[2] != 'any' else 32}"
                           for key in ("crop", "short_side"))])
       for row in ROWS},
    "avmix:cav_mae": CAV_MAE,
    **{f"timm:tf_efficientnet_lite0 {pooling}":
       ("timm:tf_efficientnet_lite0", [f"--model.video.pooling={pooling}", *PIXELS[32]])
       for pooling in POOLINGS[1:]},
}  # fmt: skip
LARGE_AUDIO = {
    **{f"avmix:{name}": ["--clip.duration_seconds=0.335"]
       for name in ("eat", "sslam", "cav_mae", "beats")},
    "pytorchvideo:acoustic_resnet50": ["--clip.duration_seconds=1.0"],
    "pytorchvideo:acoustic_resnet101": ["--clip.duration_seconds=1.0"],
    "timm:tf_efficientnet_lite0": [],
    "torchvision:resnet18": [],
}  # fmt: skip
SHORT = {"num_frames": 4, "image_size": 32}
OF_HUB: dict[str, tuple[str, str, dict[str, Any]]] = {
    "videomae": ("video", "VideoMAEConfig", SHORT),
    "vjepa2": ("video", "VJEPA2Config", {"frames_per_clip": 2, "crop_size": 32}),
    "timesformer": ("video", "TimesformerConfig", SHORT),
    "vivit": ("video", "VivitConfig", SHORT),
    "videoprism": ("video", "VideoPrismVisionConfig",
                   {"num_frames": 2, "image_size": 36, "tubelet_size": [1, 18, 18]}),
    "xclip": ("video", "XCLIPConfig", {}),
    "ast": ("audio", "ASTConfig", {"max_length": 32}),
    "clap": ("audio", "ClapAudioConfig", {"enable_fusion": False}),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:'saved_variables' is deprecated")
@pytest.mark.parametrize("case", LARGE_VIDEO)
def test_a_video_encoder_of_published_size_goes_the_whole_way(case: str, tmp_path: Path) -> None:
    name, words = LARGE_VIDEO[case]
    skip_without(name)
    goes_the_whole_way(config_of("video", name, *words), tmp_path, SGD)


@pytest.mark.slow
@pytest.mark.parametrize("name", LARGE_AUDIO)
def test_an_audio_encoder_of_published_size_goes_the_whole_way(name: str, tmp_path: Path) -> None:
    skip_without(name)
    goes_the_whole_way(config_of("audio", name, *LARGE_AUDIO[name]), tmp_path, SGD)


@pytest.mark.slow
@pytest.mark.parametrize("kind", OF_HUB)
def test_a_network_of_transformers_of_published_size_goes_the_whole_way(
    kind: str, tmp_path: Path
) -> None:
    pytest.importorskip("transformers")
    modality, settings, options = OF_HUB[kind]
    folder = written(tmp_path, settings, options)
    words = FREE if modality == "video" else ["--clip.duration_seconds"] * (kind == "ast")
    goes_the_whole_way(config_of(modality, f"transformers:{folder}", *words), tmp_path, SGD)


# The tables are whole -----------------------------------------------------------------------------


def test_every_encoder_is_in_the_tables() -> None:
    from avmix.models.own_encoders import AUDIO, VIDEO

    assert {f"avmix:{name}" for name in VIDEO} <= {*TINY_VIDEO}
    assert {f"avmix:{name}" for name in AUDIO} <= {*TINY_AUDIO}
    for library in ("pytorchvideo", "transformers"):
        if library == "transformers":
            pytest.importorskip(library)
        module = import_module(f"avmix.models.{library}")
        if library == "pytorchvideo":
            known = {f"pytorchvideo:{name}" for name in module.VIDEO}
            assert known - {*LARGE_VIDEO} == {"pytorchvideo:slowfast_16x8_r101_50_50"}
            assert {f"pytorchvideo:{name}" for name in module.AUDIO} <= {*LARGE_AUDIO}
        else:
            kinds = {"audio-spectrogram-transformer": "ast", "clap_audio_model": "clap",
                     "videoprism_vision_model": "videoprism"}  # fmt: skip
            known = {kinds.get(kind, kind) for kind in (*module.VIDEO, *module.AUDIO)}
            on_waveforms = {"wav2vec2", "hubert"}  # tests/test_encoders.py, test_every_option.py
            assert known - on_waveforms == {*OF_HUB} <= {*OF_TRANSFORMERS, *AUDIO_SETTINGS}
