"""Encoders of libraries: stages and pooling are the library's own network to the bit."""

import copy
import json
import re
import shlex
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn

from avmix.config import (
    AudioEncoderConfig,
    ClipConfig,
    FrontendConfig,
    TrainConfig,
    VideoEncoderConfig,
    load_config,
)
from avmix.mix.hidden_mix import HiddenMix
from avmix.models import LateFusionClassifier
from avmix.models.audio_encoder import AudioEncoder
from avmix.models.encoder import AudioSpec, Encoder, VideoSpec
from avmix.models.encoder_names import audio_encoder, video_encoder
from avmix.models.fusion import ConcatFusion
from avmix.models.image_encoders import FrameEncoder, ImageNetwork, temporal_shift
from avmix.models.library_encoder import Cut, LibraryEncoder, chain, imported
from avmix.models.measure import _Flops
from avmix.models.transformers_waveform import normalised

CLIP = ClipConfig(num_frames=2, crop=32, short_side=32, duration_seconds=1.0)
FRONTEND = FrontendConfig(num_mels=32, n_fft=512, hop_length=500)
"""32 columns of 32 mels."""


def settle(encoder: Encoder) -> Encoder:
    """In evaluation mode, with statistics and biases that are not those of the start."""
    generator = torch.Generator().manual_seed(2)
    for name, buffer in encoder.named_buffers():
        if name.endswith(("running_mean", "running_var")):
            low = -0.05 if name.endswith("mean") else 0.8
            buffer.copy_(low + 0.1 * torch.rand(buffer.shape, generator=generator))
    with torch.no_grad():
        for parameter in encoder.parameters():
            if parameter.ndim == 1 or not parameter.any():
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return encoder.eval()


def frames(clip: ClipConfig = CLIP, size: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    shape = (size, 3, clip.num_frames, clip.crop, clip.crop)
    return torch.randn(shape, generator=generator)


def spectrograms(channels: int = 1, mels: int = 32, columns: int = 32) -> Tensor:
    return torch.randn(2, channels, mels, columns, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def check(encoder: Encoder, x: Tensor, library: Callable[[Tensor], Tensor], stages: int) -> None:
    """Stages and pooling give what `library` gives, to the bit; a copy shares nothing."""
    assert len(encoder.stages) == stages
    given, hidden = x.clone(), x
    for stage in encoder.stages:
        hidden = stage(hidden)
        assert all(len(part) == len(x) for part in (hidden if type(hidden) is list else [hidden]))
    found, expected = encoder.pool(hidden), library(x)
    assert found.shape == (len(x), encoder.num_features)
    assert torch.equal(found, expected)
    assert torch.equal(encoder(x), expected)
    assert torch.equal(x, given)
    assert found.std() > 1e-4  # it does depend on something
    other = copy.deepcopy(encoder)
    for parameter in other.network.parameters():
        parameter.zero_()
    assert torch.equal(encoder(x), expected)
    assert not torch.equal(other(x), expected)
    # Distributed training waits for a gradient of every parameter.
    with torch.enable_grad():
        encoder.train()(x).square().sum().backward()
    idle = [name for name, parameter in encoder.named_parameters() if parameter.grad is None]
    assert not idle


def per_frame(net: nn.Module, x: Tensor) -> Tensor:
    """The mean over frames of what an image network says of each."""
    return net(x.transpose(1, 2).flatten(0, 1)).unflatten(0, (len(x), -1)).mean(1)


# Image networks -----------------------------------------------------------------------------------

SMALL_VIT = {"img_size": 32, "depth": 3, "embed_dim": 24, "num_heads": 2}
TIMM: list[tuple[str, dict[str, Any], int]] = [
    ("resnet10t", {}, 5),
    ("mobilenetv3_small_050", {}, 7),
    ("tf_efficientnet_lite0", {}, 9),
    ("convnext_atto", {"depths": [1, 1, 1, 1], "dims": [8, 8, 16, 16]}, 5),
    ("vit_tiny_patch16_224", SMALL_VIT, 4),
    ("eva02_tiny_patch14_224", {**SMALL_VIT, "img_size": 28}, 4),
    ("swin_tiny_patch4_window7_224",
     {"img_size": 32, "depths": [1, 1], "embed_dim": 8, "num_heads": [1, 2], "window_size": 4}, 3),
    ("ghostnet_050", {}, 0),  # of a family that is not cut
]  # fmt: skip


@pytest.mark.parametrize(("name", "options", "stages"), TIMM, ids=[name for name, *_ in TIMM])
def test_a_network_of_timm_is_the_librarys(name, options, stages):
    pytest.importorskip("timm")
    size = options.get("img_size", 32)
    clip = ClipConfig(num_frames=2, crop=size, short_side=size)
    encoder = settle(
        video_encoder(VideoEncoderConfig(encoder=f"timm:{name}", options=options), clip)
    )
    check(encoder, frames(clip), partial(per_frame, encoder.network), stages)
    assert isinstance(encoder.spec, VideoSpec)
    assert encoder.spec.size == (size if "img_size" in options else None)
    expects: Any = encoder.network.pretrained_cfg
    assert (encoder.spec.mean, encoder.spec.std) == (expects["mean"], expects["std"])


@pytest.mark.parametrize(("library", "name"), [("timm", "resnet10t"),
                                               ("torchvision", "mobilenet_v3_small")])  # fmt: skip
@pytest.mark.parametrize("channels", [1, 2])
def test_an_image_network_takes_spectrograms(library, name, channels):
    pytest.importorskip(library)
    clip = ClipConfig(duration_seconds=1.0, stereo=channels == 2)
    encoder = settle(audio_encoder(AudioEncoderConfig(encoder=f"{library}:{name}"), clip, FRONTEND))
    check(encoder, spectrograms(channels), encoder.network, 5 if library == "timm" else 13)
    assert encoder.spec == AudioSpec(channels=channels)


def test_an_image_network_of_torchvision_is_the_librarys():
    config = VideoEncoderConfig(encoder="torchvision:resnet18", options={"width_per_group": 64})
    encoder = settle(video_encoder(config, CLIP))
    check(encoder, frames(), partial(per_frame, encoder.network), 5)
    assert encoder.spec == VideoSpec(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))


class Pick(nn.Module):
    """Features of an image: the mean of each colour, twice."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3)).repeat(1, 2)


def picked(pooling: Any) -> FrameEncoder:
    net = Pick()
    image = ImageNetwork(net=net, cut=Cut(stages=[], pool=net, num_features=6))
    return FrameEncoder(image, pooling, 4, "a network")


def test_features_of_frames_are_pooled():
    x, values = torch.zeros(1, 3, 4, 2, 2), torch.tensor([3.0, -1.0, 4.0, 1.0])
    x[0, 1] = values.view(4, 1, 1)
    expected = {"mean": [0, 1.75, 0] * 2, "max": [0, 4.0, 0] * 2,
                "mean+max": [0, 1.75, 0] * 2 + [0, 4.0, 0] * 2}  # fmt: skip
    for pooling, features in expected.items():
        found = picked(pooling)(x)
        torch.testing.assert_close(found, torch.tensor([features]))
        assert picked(pooling).num_features == found.shape[1]
    attention = picked("attention")
    with torch.no_grad():
        attention.score.weight.copy_(torch.tensor([[0, 0.5, 0, 0, 0.5, 0]]))
    weights = values.exp() / values.exp().sum()
    assert attention(x)[0, 1].item() == pytest.approx(float((weights * values).sum()), rel=1e-5)


def test_channels_are_shifted_between_frames():
    # One clip of three frames of 8 channels, numbered 10 * frame + channel.
    x = torch.tensor([[10.0 * t + c for c in range(8)] for t in range(3)]).view(3, 8, 1, 1)
    found = temporal_shift(torch.cat([x, x + 100]), 3).flatten(1).tolist()
    kept = [[10.0 * t + c for c in range(2, 8)] for t in range(3)]
    expected = [[10, 0, *kept[0]], [20, 1, *kept[1]], [0, 11, *kept[2]]]
    assert found[:3] == expected
    assert found[3] == [110, 0, *(v + 100 for v in kept[0])]


@pytest.mark.parametrize("name", ["timm:resnet10t", "timm:mobilenetv2_050", "torchvision:resnet18"])
def test_with_shifted_channels_frames_know_of_each_other(name):
    pytest.importorskip(name.partition(":")[0])
    encoder = settle(video_encoder(VideoEncoderConfig(encoder=name, pooling="tsm"), CLIP))
    plain = settle(video_encoder(VideoEncoderConfig(encoder=name), CLIP))
    plain.load_state_dict(encoder.state_dict())
    x = frames()
    with torch.no_grad():
        swapped = x.flip(2)
        torch.testing.assert_close(plain(x), plain(swapped), rtol=1e-3, atol=1e-4)
        assert not torch.allclose(encoder(x), encoder(swapped), rtol=1e-3, atol=1e-4)
    assert isinstance(encoder.spec, VideoSpec)
    assert encoder.spec.num_frames == 2


# Networks for video -------------------------------------------------------------------------------


def of_library(net: Any, cut: Cut) -> Encoder:
    return settle(LibraryEncoder(net, cut, VideoSpec()))


def torchvision_nets() -> dict[str, tuple[Callable[[], Any], tuple[int, int], int]]:
    from torchvision.models.video import mvit, resnet, swin_transformer

    def video_resnet() -> Any:
        return resnet.VideoResNet(resnet.BasicBlock, [resnet.Conv2Plus1D] * 4, [1, 1, 1, 1],
                                  resnet.R2Plus1dStem, num_classes=3)  # fmt: skip

    def multiscale(rel_pos_embed: bool) -> Any:
        def block(inputs: int, outputs: int, stride: int) -> Any:
            return mvit.MSBlockConfig(
                num_heads=2, input_channels=inputs, output_channels=outputs, kernel_q=[3, 3, 3],
                kernel_kv=[3, 3, 3], stride_q=[1, stride, stride], stride_kv=[1, 2, 2],
            )  # fmt: skip

        return mvit.MViT(spatial_size=(32, 32), temporal_size=4, num_classes=3,
                         block_setting=[block(8, 8, 1), block(8, 16, 2), block(16, 16, 1)],
                         residual_pool=rel_pos_embed, residual_with_cls_embed=not rel_pos_embed,
                         rel_pos_embed=rel_pos_embed, proj_after_attn=rel_pos_embed)  # fmt: skip

    def swin() -> Any:
        return swin_transformer.SwinTransformer3d(
            patch_size=[2, 4, 4], embed_dim=8, depths=[1, 1], num_heads=[1, 2],
            window_size=[2, 2, 2], num_classes=3)  # fmt: skip

    return {
        "resnet": (video_resnet, (2, 16), 5),
        "mvit_v1": (partial(multiscale, False), (4, 32), 3),
        "mvit_v2": (partial(multiscale, True), (4, 32), 3),
        "swin": (swin, (4, 16), 2),
    }


@pytest.mark.parametrize("kind", ["resnet", "mvit_v1", "mvit_v2", "swin"])
def test_a_network_of_torchvision_is_the_librarys(kind):
    from avmix.models.torchvision import video_cut

    build, (num_frames, size), stages = torchvision_nets()[kind]
    net = build()
    cut, wants_frames, wants_size = video_cut(net, kind)
    encoder = of_library(net, cut)
    check(encoder, torch.randn(2, 3, num_frames, size, size), net, stages)
    assert (wants_frames, wants_size) == ((4, 32) if "mvit" in kind else (None, None))


@pytest.mark.slow
def test_s3d_which_cannot_be_built_small_is_the_librarys():
    clip = ClipConfig(num_frames=13, crop=209, short_side=209)
    encoder = settle(video_encoder(VideoEncoderConfig(encoder="torchvision:s3d"), clip))
    check(encoder, frames(clip), encoder.network, 5)


def pytorchvideo_nets() -> dict[str, tuple[Callable[[], Any], int]]:
    models: Any = imported("pytorchvideo.models", "pytorchvideo")
    x3d: Any = imported("pytorchvideo.models.x3d", "pytorchvideo")
    return {
        "slow": (partial(models.create_resnet, stem_dim_out=8, head_pool_kernel_size=(4, 1, 1)), 5),
        "csn": (partial(models.create_csn, stem_dim_out=8, head_pool_kernel_size=(1, 1, 1)), 5),
        "x3d": (partial(x3d.create_x3d, input_clip_length=8, input_crop_size=32), 5),
        "slowfast": (
            partial(models.create_slowfast, stem_dim_outs=(16, 2),
                    head_pool_kernel_sizes=((2, 1, 1), (8, 1, 1))), 5,
        ),
    }  # fmt: skip


@pytest.mark.filterwarnings("ignore:'saved_variables' is deprecated")  # in its own Swish
@pytest.mark.parametrize("kind", ["slow", "csn", "x3d", "slowfast"])
def test_a_network_of_pytorchvideo_is_the_librarys(kind):
    from avmix.models.pytorchvideo import cut

    build, stages = pytorchvideo_nets()[kind]
    net = build()
    encoder, x = of_library(net, cut(net, kind)), torch.randn(2, 3, 8, 32, 32)
    library = net
    if kind == "slowfast":

        def library(x: Tensor) -> Tensor:  # as its authors pack the pathways: frames 0 and 7
            return net([x[:, :, [0, 7]], x])

    check(encoder, x, library, stages)


@torch.no_grad()
def test_clips_are_mixed_between_stages_of_several_pathways():
    from avmix.models.pytorchvideo import cut

    net = pytorchvideo_nets()["slowfast"][0]()
    video, x = of_library(net, cut(net, "slowfast")), torch.randn(2, 3, 8, 32, 32)
    audio = settle(AudioEncoder([4, 4]))
    model = LateFusionClassifier(video, audio, ConcatFusion(video.num_features, 4, 3, 0.0)).eval()
    weight = torch.tensor([0.25, 1.0])
    mix = HiddenMix(stage=2, path=None, partner=torch.tensor([1, 0], dtype=torch.int32),
                    video=weight, audio=weight)  # fmt: skip
    found = model.encode(x, spectrograms(), mix).video
    slow, fast = video.stages[1](video.stages[0](x))
    hidden = [torch.stack([0.25 * h[0] + 0.75 * h[1], h[1]]) for h in (slow, fast)]
    for stage in video.stages[2:]:
        hidden = stage(hidden)
    torch.testing.assert_close(found, video.pool(hidden), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(found[0], video(x)[0], rtol=1e-3)
    torch.testing.assert_close(found[1], video(x)[1])


def test_the_acoustic_resnet_is_the_librarys():
    config = AudioEncoderConfig(
        encoder="pytorchvideo:acoustic_resnet50",
        options={"stem_dim_out": 8, "head_pool_kernel_size": [4, 1, 1]},
    )
    encoder = settle(audio_encoder(config, ClipConfig(duration_seconds=1.0), FRONTEND))

    def library(x: Tensor) -> Tensor:
        return encoder.network(x.permute(0, 1, 3, 2).unsqueeze(3))

    check(encoder, spectrograms(), library, 5)


HIDDEN = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2,
          "intermediate_size": 32}  # fmt: skip
OF_FRAMES = {"image_size": 16, "num_frames": 4, **HIDDEN}
TRANSFORMERS: dict[str, tuple[str, dict[str, Any], int]] = {
    "videomae": ("VideoMAEConfig", {**OF_FRAMES, "patch_size": 8}, 4),
    "videomae_token": (
        "VideoMAEConfig", {**OF_FRAMES, "patch_size": 8, "use_mean_pooling": False}, 4,
    ),
    "vjepa2": (
        "VJEPA2Config",
        {"crop_size": 16, "frames_per_clip": 4, "patch_size": 8, "pred_hidden_size": 24,
         "pred_num_attention_heads": 2, "pred_num_hidden_layers": 1, "num_pooler_layers": 1,
         **HIDDEN, "hidden_size": 24}, 4,
    ),
    "timesformer": ("TimesformerConfig", {**OF_FRAMES, "patch_size": 8}, 4),
    "vivit": ("VivitConfig", {**OF_FRAMES, "tubelet_size": [2, 8, 8]}, 4),
    "videoprism": (
        "VideoPrismVisionConfig",
        {**OF_FRAMES, "tubelet_size": [1, 8, 8], "num_spatial_layers": 3,
         "num_temporal_layers": 1}, 4,
    ),
}  # fmt: skip


def written(folder: Path, kind: str, options: dict[str, Any]) -> Path:
    """A folder with the configuration of a small network of transformers."""
    getattr(import_module("transformers"), kind)(**options).save_pretrained(folder)
    return folder


TINY = ClipConfig(num_frames=4, crop=16, short_side=16)


@pytest.mark.parametrize("kind", TRANSFORMERS)
def test_a_network_for_video_of_transformers_is_the_librarys(kind, tmp_path):
    pytest.importorskip("transformers")
    name, options, stages = TRANSFORMERS[kind]
    folder = written(tmp_path, name, options)
    encoder = settle(video_encoder(VideoEncoderConfig(encoder=f"transformers:{folder}"), TINY))

    def library(x: Tensor) -> Tensor:
        found = encoder.network(x.transpose(1, 2)).logits
        return found[:, 0] if kind == "videoprism" else found

    check(encoder, frames(TINY), library, stages)
    assert encoder.spec == VideoSpec(num_frames=4, size=16, mean=(0.485, 0.456, 0.406),
                                     std=(0.229, 0.224, 0.225))  # fmt: skip


def test_the_vision_tower_of_xclip_is_the_librarys(tmp_path):
    pytest.importorskip("transformers")
    vision = {**OF_FRAMES, "patch_size": 8, "mit_hidden_size": 12, "mit_intermediate_size": 24,
              "mit_num_hidden_layers": 1, "mit_num_attention_heads": 2}  # fmt: skip
    text = {**HIDDEN, "vocab_size": 100, "max_position_embeddings": 8}
    options = {"vision_config": vision, "text_config": text, "projection_dim": 12,
               "prompt_layers": 1, "prompt_num_attention_heads": 2}  # fmt: skip
    folder = written(tmp_path, "XCLIPConfig", options)
    encoder = settle(video_encoder(VideoEncoderConfig(encoder=f"transformers:{folder}"), TINY))
    net: Any = encoder.network
    check(encoder, frames(TINY),
          lambda x: net.get_video_features(x.transpose(1, 2)).pooler_output, 4)  # fmt: skip
    assert not any("text" in name for name, _ in net.named_parameters())


AUDIO_SETTINGS: dict[str, tuple[str, dict[str, Any], int]] = {
    "ast": (
        "ASTConfig",
        {**HIDDEN, "patch_size": 8, "max_length": 24, "num_mel_bins": 16, "frequency_stride": 4,
         "time_stride": 4}, 4,
    ),
    "clap": (
        "ClapAudioConfig",
        {"spec_size": 32, "num_mel_bins": 16, "patch_size": 4, "patch_stride": [4, 4],
         "window_size": 2, "depths": [1, 1], "num_attention_heads": [1, 2],
         "patch_embeds_hidden_size": 8, "hidden_size": 16, "enable_fusion": False}, 0,
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", AUDIO_SETTINGS)
def test_a_network_for_audio_of_transformers_is_the_librarys(kind, tmp_path):
    pytest.importorskip("transformers")
    from avmix.models.transformers import audio

    name, options, stages = AUDIO_SETTINGS[kind]
    folder = written(tmp_path, name, options)
    encoder = settle(audio(str(folder), AudioEncoderConfig(), ClipConfig(), FrontendConfig()))

    def library(x: Tensor) -> Tensor:
        x = x.transpose(2, 3)
        return encoder.network(x[:, 0] if kind == "ast" else x).pooler_output

    check(encoder, spectrograms(mels=16, columns=24), library, stages)


WAVES = {**HIDDEN, "conv_dim": [8, 8], "conv_kernel": [10, 3], "conv_stride": [5, 2],
         "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 2}  # fmt: skip
STABLE = {"do_stable_layer_norm": True, "feat_extract_norm": "layer"}
WAVEFORM_NETS = {
    "wav2vec2": ("Wav2Vec2Config", WAVES),
    "wav2vec2_stable": ("Wav2Vec2Config", {**WAVES, **STABLE}),
    "wav2vec2_adapter": (
        "Wav2Vec2Config", {**WAVES, "add_adapter": True, "num_adapter_layers": 1,
                           "output_hidden_size": 12},
    ),
    "hubert": ("HubertConfig", WAVES),
}  # fmt: skip


@pytest.mark.parametrize("kind", WAVEFORM_NETS)
def test_a_network_for_waveforms_of_transformers_is_the_librarys(kind, tmp_path):
    transformers = pytest.importorskip("transformers")
    folder = written(tmp_path, *WAVEFORM_NETS[kind])
    frontend = FrontendConfig(kind="waveform")
    config = AudioEncoderConfig(encoder=f"transformers:{folder}")
    encoder = settle(audio_encoder(config, ClipConfig(duration_seconds=0.1), frontend))
    assert encoder.spec == AudioSpec(front_end="waveform", sample_rate=16_000, channels=1)
    x = torch.randn(2, 1, 1600, generator=torch.Generator().manual_seed(0))

    def library(x: Tensor) -> Tensor:
        return encoder.network(normalised(x)).last_hidden_state.mean(1)

    check(encoder, x, library, 4)
    feature_extractor = transformers.Wav2Vec2FeatureExtractor()
    theirs = feature_extractor([*x[:, 0].numpy()], sampling_rate=16_000).input_values
    for one, other in zip(normalised(x), theirs, strict=True):
        torch.testing.assert_close(one, torch.as_tensor(other), rtol=1e-5, atol=1e-5)
    with pytest.raises(ValueError, match=r"takes the waveform, frontend\.kind gives log_mel$"):
        audio_encoder(config, ClipConfig(), FRONTEND)
    with pytest.raises(ValueError, match=r"avmix:cnn takes any spectrograms, .* gives waveform$"):
        audio_encoder(AudioEncoderConfig(), ClipConfig(), frontend)
    (folder / "preprocessor_config.json").write_text(json.dumps({"do_normalize": False}))
    with pytest.raises(ValueError, match=r"does not normalise \(do_normalize false\)"):
        audio_encoder(config, ClipConfig(), frontend)


@pytest.mark.parametrize(
    ("said", "mean", "std"),
    [
        ({"image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.25, 0.5]}, (0.5, 0.4, 0.3),
         (0.2, 0.25, 0.5)),
        ({"do_normalize": False}, (0, 0, 0), (1, 1, 1)),
        # ViViT: pixels / 127.5 - 1, then (x - 0.5) / 0.5: black is -3, white 1.
        ({"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "rescale_factor": 1 / 127.5,
          "offset": True}, (0.75,) * 3, (0.25,) * 3),
    ],
)  # fmt: skip
def test_pixels_are_normalised_as_the_processor_does(said, mean, std, tmp_path):
    pytest.importorskip("transformers")
    folder = written(tmp_path, *TRANSFORMERS["videomae"][:2])
    (folder / "preprocessor_config.json").write_text(json.dumps(said))
    spec = video_encoder(VideoEncoderConfig(encoder=f"transformers:{folder}"), TINY).spec
    assert isinstance(spec, VideoSpec)
    assert spec.mean == pytest.approx(mean)
    assert spec.std == pytest.approx(std)


# The page ----------------------------------------------------------------------------------------

PAGE = (Path(__file__).parents[1] / "docs/models.md").read_text()
TABLE = PAGE[PAGE.index("| encoder | frames | pixels |") :].partition("\n\n")[0]
ROWS = [[cell.strip(" `") for cell in line.split("|")[1:-1]] for line in TABLE.splitlines()[2:]]
CLASSES = {"timm": 1000}
"""Of the classifier that was published; 400 of all others."""


def test_the_page_names_the_encoders():
    names = [name for name, *_ in ROWS]
    assert len(names) == 22
    from avmix.models.pytorchvideo import VIDEO

    kept = {f"pytorchvideo:{name}" for name in VIDEO} - {"pytorchvideo:slowfast_16x8_r101_50_50"}
    assert kept == {name for name in names if name.startswith("pytorchvideo:")}


def slow_if_large(row: list[str]) -> Any:
    quick = not row[0].startswith("pytorchvideo:") or row[0].endswith("slow_r50")
    return pytest.param(row, id=row[0], marks=() if quick else pytest.mark.slow)


@pytest.mark.parametrize("row", [slow_if_large(row) for row in ROWS])
def test_what_the_page_says_of_an_encoder_is_so(row):
    """On no device: shapes and numbers of parameters without any arithmetic."""
    name, num_frames, size, features, millions, published, *_ = row
    library = name.partition(":")[0]
    pytest.importorskip(library)

    size, _, published_size = size.removesuffix(")").partition(" (")
    frames, side = (int(x.split()[0]) if x != "any" else 16 for x in (num_frames, size))
    clip = ClipConfig(num_frames=frames, crop=side, short_side=side)
    with torch.device("meta"):
        encoder = video_encoder(VideoEncoderConfig(encoder=name), clip)
    assert encoder.num_features == int(features)
    number = sum(p.numel() for p in encoder.parameters())
    assert f"{number / 1e6:.2f}" == millions
    number += (encoder.num_features + 1) * CLASSES.get(library, 400)
    assert f"{number / 1e6:.2f}" == published
    wanted_size = (int(published_size),) * 2 if published_size else None
    assert encoder.published_size == wanted_size
    spec = encoder.spec
    assert isinstance(spec, VideoSpec)
    for said, wanted in ((num_frames, spec.num_frames), (size, spec.size)):
        assert wanted == (int(said) if said.isdigit() else None)
    for said, shape in ((num_frames, (frames - 1, side, side)), (size, (frames, *[side - 1] * 2))):
        if "more" in said:
            with pytest.raises(RuntimeError):
                encoder(torch.zeros(1, 3, *shape, device="meta"))


NORMS: dict[str, dict[type, int]] = {
    "torchvision": {}, "pytorchvideo": {nn.BatchNorm3d: 5},
    "timm": {nn.BatchNorm2d: 2, nn.LayerNorm: 5},
}  # fmt: skip
"""Operations that were counted for each number that such a module gives."""
WITHOUT_NORMS = ("pytorchvideo:slow_r50", "pytorchvideo:slowfast_r50")


@pytest.mark.parametrize("row", [slow_if_large(row) for row in ROWS if row[6]])
def test_operations_are_those_that_were_published(row):
    name, *_, ours, of, published = row
    library = name.partition(":")[0]
    num_frames, side = map(int, of.split(" x "))
    clip = ClipConfig(num_frames=num_frames, crop=side, short_side=side)
    with torch.device("meta"):
        adapter = import_module(f"avmix.models.{library}")
        encoder = adapter.video(name.partition(":")[2], VideoEncoderConfig(), clip).eval()
        given = torch.zeros(1, 3, num_frames, side, side)
    further = 0

    def count(module: nn.Module, given: Any, gives: Any) -> None:
        nonlocal further
        for kind, number in NORMS[library].items():
            further += number * gives.numel() if isinstance(module, kind) else 0

    for module in encoder.modules():
        module.register_forward_hook(count)
    _, operations = _Flops()(lambda: encoder(given))
    found = operations / 2e9
    assert f"{found:.2f}" == ours
    if library == "timm":
        further += encoder.num_features * CLASSES[library]
    found += 0 if name in WITHOUT_NORMS else further / 1e9
    assert found == pytest.approx(float(published), abs=0.01)
    if library == "torchvision":
        weights = torchvision.models.get_model_weights(name.partition(":")[2])
        assert {f"{entry.meta['_ops']:.2f}" for entry in weights} == {published}


def test_the_encoder_of_the_page_trains(tmp_path, monkeypatch):
    code = re.search(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert code is not None
    (tmp_path / "mine.py").write_text(code[1])
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(Path(__file__).parents[1])
    words = re.search(r"train\.py (.*?)\n```", PAGE, re.DOTALL)
    assert words is not None
    config = load_config(TrainConfig, shlex.split(words[1]))
    encoder = settle(video_encoder(config.model.video, config.clip))
    assert encoder.num_features == 32
    check(encoder, frames(config.clip), encoder, 2)


# What does not fit --------------------------------------------------------------------------------


class Own(Encoder):
    """An encoder of somebody's own: the mean of each colour, after one stage."""

    def __init__(self, width: int = 3, num_frames: int | None = None) -> None:
        super().__init__()
        self.stages = nn.ModuleList([nn.Conv3d(3, width, 1)])
        self.num_features, self.spec = width, VideoSpec(num_frames=num_frames)

    def pool(self, x: Tensor) -> Tensor:
        return x.mean((2, 3, 4))


class Liar(Own):
    """Says that it has more features than it gives."""

    def __init__(self) -> None:
        super().__init__()
        self.num_features = 4


def unannotated():
    raise AssertionError("called")


def lying() -> Own:
    return 3  # type: ignore[return-value]


def test_an_encoder_of_ones_own():
    config = VideoEncoderConfig(encoder=f"python:{__name__}:Own", options={"width": 5})
    encoder = video_encoder(config, CLIP)
    assert encoder.num_features == 5
    check(settle(encoder), frames(), lambda x: encoder.stages[0](x).mean((2, 3, 4)), 1)


VIDEO_ERRORS: list[tuple[str, dict[str, Any], str]] = [
    ("avmix:cnn", {}, r"^model\.video\.encoder avmix:cnn: avmix has r2plus1d and cav_mae$"),
    ("python:nothing:Own", {}, "No module named 'nothing'"),
    (f"python:{__name__}:dict", {}, "has no attribute 'dict'"),
    (f"python:{__name__}:ClipConfig", {}, "must be a subclass of avmix.models.encoder.Encoder, or"),
    (f"python:{__name__}:unannotated", {}, "or a function that is annotated to return one, got <f"),
    (f"python:{__name__}:lying", {}, "must return an avmix.models.encoder.Encoder, got int"),
    ("python:os:system", {"options": {"command": "exit 3"}}, "got <built-in function system>"),
    (f"python:{__name__}:Own", {"options": {"num_frames": 16}},
     r"Own takes 16 frames, clip\.num_frames gives 2$"),
    (f"python:{__name__}:Own", {"options": {"depth": 3}},
     r"does not take the options {'depth': 3}: got an unexpected keyword argument 'depth'"),
    (f"python:{__name__}:Liar", {}, r"gives \(1, 3\) for a clip, not \(1, 4\), as its num_feat"),
    ("torchvision:resnet17", {}, "torchvision has no such network: alexnet"),
    ("torchvision:s3d", {}, r"cannot take such clips \(clip\.num_frames 2, clip\.crop 32\): "),
    ("torchvision:s3d", {"pooling": "max"}, r"^model\.video\.pooling is of image networks"),
    ("torchvision:squeezenet1_1", {}, "has no linear classifier"),
    ("pytorchvideo:slow_r18", {}, "there are slow_r50, c2d_r50"),
    ("timm:resnet10q", {}, "timm has no network 'resnet10q'; close: .*resnet10t"),
    ("timm:resnet10t", {"options": {"depht": 3}}, r"cannot be built with options {'depht': 3}: "),
    ("timm:vit_tiny_patch16_224", {"options": {"depth": 1}},
     r"takes 224 pixels \(height and width\), clip\.crop gives 32$"),
    ("timm:vit_tiny_patch16_224", {"pooling": "tsm", "options": {"depth": 1, "img_size": 32}},
     r"^model\.video\.pooling tsm shifts residual blocks"),
    ("transformers:no/such/folder", {}, "no configuration: "),
]  # fmt: skip


@pytest.mark.parametrize(("name", "options", "says"), VIDEO_ERRORS)
def test_an_encoder_that_does_not_fit_is_named(name, options, says):
    library = name.partition(":")[0]
    if library in ("timm", "transformers"):
        pytest.importorskip(library)
    with pytest.raises(ValueError, match=says) as error:
        video_encoder(VideoEncoderConfig(encoder=name, **options), CLIP)
    assert "model.video." in str(error.value)


KALDI = FrontendConfig(kind="kaldi", num_mels=16, n_fft=400, hop_length=160, mel_mean=-4.27,
                       mel_std=9.14)  # fmt: skip


def test_an_audio_encoder_takes_the_front_end_that_it_was_trained_with(tmp_path):
    pytest.importorskip("transformers")
    folder = written(tmp_path, *AUDIO_SETTINGS["ast"][:2])
    config = AudioEncoderConfig(encoder=f"transformers:{folder}")
    clip = ClipConfig(duration_seconds=(400 + 23 * 160) / 16_000)  # 24 columns
    assert audio_encoder(config, clip, KALDI).num_features == 16
    with pytest.raises(ValueError, match=r"takes kaldi spectr.*, frontend\.kind gives log_mel$"):
        audio_encoder(config, clip, FRONTEND)
    with pytest.raises(ValueError, match=r"24 columns, clip\.duration_seconds and .* gives 98"):
        audio_encoder(config, ClipConfig(duration_seconds=1.0), KALDI)
    with pytest.raises(ValueError, match=r"16000 samples a second, clip\.sample_rate gives 8"):
        audio_encoder(config, ClipConfig(sample_rate=8000), KALDI)
    with pytest.raises(ValueError, match=r"takes 1 channels, clip\.stereo gives 2"):
        audio_encoder(config, ClipConfig(stereo=True), KALDI)


def test_windows_and_hops_of_another_length_are_named(tmp_path):
    pytest.importorskip("transformers")
    folder = written(tmp_path, *AUDIO_SETTINGS["ast"][:2])
    config = AudioEncoderConfig(encoder=f"transformers:{folder}")
    with pytest.raises(
        ValueError, match=r"takes 400 samples of a window, frontend\.n_fft gives 51"
    ):
        audio_encoder(config, ClipConfig(), replace(KALDI, n_fft=512))
    with pytest.raises(ValueError, match=r"takes 160 samples .*, frontend\.hop_length gives 200"):
        audio_encoder(config, ClipConfig(), replace(KALDI, hop_length=200))


def test_clap_takes_decibels_of_its_own_frequencies(tmp_path):
    pytest.importorskip("transformers")
    folder = written(tmp_path, *AUDIO_SETTINGS["clap"][:2])
    config = AudioEncoderConfig(encoder=f"transformers:{folder}")
    with pytest.raises(
        ValueError, match=r"takes panns spectrograms, frontend\.kind gives log_mel$"
    ):
        audio_encoder(config, ClipConfig(), FRONTEND)
    said = {"frequency_min": 0, "frequency_max": 14_000}
    (folder / "preprocessor_config.json").write_text(json.dumps(said))
    with pytest.raises(ValueError, match=r"mel filters from 0 to 14000 Hz, .* panns has 50 to 14"):
        audio_encoder(config, ClipConfig(), FRONTEND)


def test_options_over_a_configuration_of_transformers(tmp_path):
    pytest.importorskip("transformers")
    folder = written(tmp_path, *TRANSFORMERS["videomae"][:2])
    name = f"transformers:{folder}"
    short = ClipConfig(num_frames=2, crop=16, short_side=16)
    with pytest.raises(ValueError, match=r"takes 4 frames, clip\.num_frames gives 2"):
        video_encoder(VideoEncoderConfig(encoder=name), short)
    found = video_encoder(VideoEncoderConfig(encoder=name, options={"num_frames": 2}), short)
    assert found.spec.num_frames == 2  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(ValueError, match="has no option 'num_frame'"):
        video_encoder(VideoEncoderConfig(encoder=name, options={"num_frame": 2}), short)


def test_trying_an_encoder_leaves_no_trace():
    torch.manual_seed(3)
    expected = Own()
    after = torch.rand(1)
    torch.manual_seed(3)
    found = video_encoder(VideoEncoderConfig(encoder=f"python:{__name__}:Own"), CLIP)
    assert torch.rand(1) == after
    assert found.training
    for ours, theirs in zip(found.parameters(), expected.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_a_chain_takes_the_first_of_several_things():
    assert chain(lambda x: (x + 1, "size"), lambda x: 2 * x)(3) == 8


def test_an_encoder_without_pooling_cannot_be_made() -> None:
    class Incomplete(Encoder):
        spec = VideoSpec()

    with pytest.raises(TypeError, match="pool"):
        Incomplete()  # pyright: ignore[reportAbstractUsage]
