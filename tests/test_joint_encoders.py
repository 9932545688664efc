"""Joint encoders: their formulas, clips that lack a modality, mixing inside, and the whole way."""

import copy
import json
import math
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from test_encoders import settle
from test_fusions import step
from torch import Tensor, nn

from avmix import build_model, load, with_expected_input
from avmix.config import (
    AudioEncoderConfig,
    ClipConfig,
    EncoderConfig,
    FrontendConfig,
    JointEncoderConfig,
    MixConfig,
    ModelConfig,
    OptimConfig,
    RunConfig,
    TrainConfig,
)
from avmix.features.frozen_encoders import of_config
from avmix.mix.clip_grid import input_shapes
from avmix.mix.hidden_mix import HiddenMix
from avmix.models.classifier import JointClassifier, check_layers
from avmix.models.encoder import AudioSpec, VideoSpec
from avmix.models.frontend import Frontend
from avmix.models.hidden import Joint
from avmix.models.joint_encoder import JointEncoder, JointSpec, Widths
from avmix.models.joint_names import joint_encoder
from avmix.models.measure import measure
from avmix.models.weights import load_state
from avmix.tools.model_figure import draw_model
from avmix.training import checkpoint
from avmix.training.checkpoint import Checkpoint
from avmix.training.evaluation_loop import _eval_rows
from avmix.training.layer_decay import empty_clip
from avmix.training.optimizer import build_optimizer
from avmix.types import Batch

CLASSES = 3
MBT = {"width": 16, "depth": 4, "heads": 2, "patch": 8, "num_bottlenecks": 3, "fusion_layer": 1}
SLOWFAST = {"stem_dim_outs": [16, 2, 8],
            "head_pool_kernel_sizes": [[2, 1, 1], [8, 1, 1], [4, 1, 2]]}  # fmt: skip
OWN_CLIP = ClipConfig(num_frames=2, crop=16, short_side=16, duration_seconds=0.3)


class Summed(JointEncoder):
    """What a user may write: each modality gets the mean of the other one, where it is there."""

    def __init__(self, width: int = 4) -> None:
        super().__init__()
        self.of_video, self.of_audio = nn.Conv3d(3, width, 1), nn.Conv2d(1, width, 1)
        self.stages = [self.first, self.second]
        self.num_features = Widths(width, width)
        self.spec = JointSpec(video=VideoSpec(num_frames=2), audio=AudioSpec(channels=1))

    def first(self, x: Joint) -> Joint:
        return x._replace(video=self.of_video(x.video).relu(), audio=self.of_audio(x.audio).relu())

    def second(self, x: Joint) -> Joint:
        video, audio = x.video.mean((2, 3, 4)), x.audio.mean((2, 3))
        heard, seen = audio * x.has_audio[:, None], video * x.has_video[:, None]
        return x._replace(video=video + heard, audio=audio + seen)

    def pool(self, x: Joint) -> Joint:
        return x


ENCODERS: dict[str, JointEncoderConfig] = {
    "mbt": JointEncoderConfig(encoder="avmix:mbt", options=MBT),
    "avslowfast": JointEncoderConfig(encoder="pytorchvideo:avslowfast_r50", options=SLOWFAST),
    "python": JointEncoderConfig(encoder=f"python:{__name__}:Summed"),
}
STAGES = {"mbt": 5, "avslowfast": 5, "python": 2}


def config_of(name: str, **options: Any) -> TrainConfig:
    """With the input that the encoder expects."""
    clip = ClipConfig() if name == "avslowfast" else OWN_CLIP
    model = ModelConfig(joint=ENCODERS[name], **options)
    return with_expected_input(TrainConfig(clip=clip, model=model))


@cache
def settled(name: str) -> tuple[TrainConfig, JointEncoder]:
    config = config_of(name)
    torch.manual_seed(0)
    encoder = joint_encoder(config.model.joint, config.clip, config.frontend)
    return config, settle(encoder)  # type: ignore[arg-type,return-value]


def inputs(config: TrainConfig, size: int = 2) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(0)
    shapes = input_shapes(config.clip, config.frontend)
    return (torch.randn(size, *shapes["video"], generator=draw),
            torch.randn(size, *shapes["audio"], generator=draw))  # fmt: skip


ALL = torch.ones(2, dtype=torch.bool)
NONE = torch.zeros(2, dtype=torch.bool)


# Formulas -----------------------------------------------------------------------------------------


@torch.no_grad()
def test_avslowfast_is_the_librarys(capsys) -> None:
    config, encoder = settled("avslowfast")
    assert len(encoder.stages) == 5
    video, audio = inputs(config)
    found = encoder(video, audio, ALL, ALL)
    assert capsys.readouterr().out == ""
    # As its authors pack the pathways: frames 0 and 7, all frames, and spectrograms (t 1 f).
    given = [video[:, :, [0, 7]], video, audio.transpose(2, 3).unsqueeze(3)]
    expected = copy.deepcopy(encoder.network)(given)
    assert "torch.Size" in capsys.readouterr().out  # which is why its lateral module is not called
    assert torch.equal(torch.cat([found.video, found.audio], 1), expected)
    assert expected.std() > 1e-4


def test_what_avslowfast_expects_are_the_published_sizes() -> None:
    model = ModelConfig(joint=JointEncoderConfig(encoder="pytorchvideo:avslowfast_r50"))
    found = with_expected_input(TrainConfig(model=model))
    assert (found.clip.num_frames, found.clip.crop, found.clip.short_side) == (32, 224, 256)
    assert found.frontend.num_mels == 80
    assert input_shapes(found.clip, found.frontend)["audio"] == (1, 80, 128)
    with torch.device("meta"):
        encoder = joint_encoder(model.joint, found.clip, found.frontend)
        other = replace(found.frontend, num_mels=64)
        with pytest.raises(ValueError, match=r"avslowfast_r50 takes 80 mel bins, .* gives 64$"):
            joint_encoder(model.joint, found.clip, other)
    assert encoder.num_features == Widths(video=2048 + 256, audio=1024)
    print(sum(p.numel() for p in encoder.parameters()) / 1e6)


def plain_layer(w: dict[str, Tensor], name: str, x: Tensor, heads: int) -> Tensor:
    """A layer of a vision transformer, sums written out."""

    def norm(x: Tensor, of: str) -> Tensor:
        x = x - x.mean(-1, keepdim=True)
        x = x / (x.square().mean(-1, keepdim=True) + 1e-6).sqrt()
        return x * w[f"{name}.{of}.weight"] + w[f"{name}.{of}.bias"]

    def linear(x: Tensor, of: str) -> Tensor:
        return x @ w[f"{name}.{of}.weight"].T + w[f"{name}.{of}.bias"]

    width = x.shape[-1]
    q, k, v = linear(norm(x, "norm1"), "attn.qkv").split(width, -1)
    parts = []
    for h in range(heads):
        at = slice(h * width // heads, (h + 1) * width // heads)
        weights = (q[..., at] @ k[..., at].mT / math.sqrt(width / heads)).softmax(-1)
        parts.append(weights @ v[..., at])
    x = x + linear(torch.cat(parts, -1), "attn.proj")
    hidden = linear(norm(x, "norm2"), "mlp.fc1")
    hidden = hidden * 0.5 * (1 + torch.erf(hidden / math.sqrt(2)))
    return x + linear(hidden, "mlp.fc2")


def plain_tokens(w: dict[str, Tensor], tower: str, images: list[Tensor], side: int) -> Tensor:
    """Of images (c h w), patch by patch."""
    tokens = [w[f"{tower}.cls_token"][0, 0]]
    for image in images:
        for row in range(image.shape[1] // side):
            for column in range(image.shape[2] // side):
                patch = image[
                    :, row * side : row * side + side, column * side : column * side + side
                ]
                kernel = w[f"{tower}.patch_embed.proj.weight"]
                tokens.append((kernel * patch).sum((1, 2, 3)) + w[f"{tower}.patch_embed.proj.bias"])
    return torch.stack(tokens) + w[f"{tower}.pos_embed"][0]


def plain_mbt(w: dict[str, Tensor], video: Tensor, audio: Tensor, who: str) -> list[Tensor]:
    """Equations 8 and 9 of Nagrani et al., 2021, of one clip that has `who`."""
    x = {"video": plain_tokens(w, "video", list(video.transpose(0, 1)), 8),
         "audio": plain_tokens(w, "audio", [audio], 8)}  # fmt: skip
    shared = w["bottlenecks"][0]
    for layer in range(4):
        updates = []
        for tower in ("video", "audio"):
            name = f"{tower}.blocks.{layer}"
            if layer < MBT["fusion_layer"]:
                x[tower] = plain_layer(w, name, x[tower], 2)
                continue
            both = plain_layer(w, name, torch.cat([x[tower], shared]), 2)
            x[tower] = both[:-3]
            if tower in who:
                updates.append(both[-3:])
        if updates:
            shared = torch.stack(updates).mean(0)
    features = []
    for tower in ("video", "audio"):
        first = x[tower][0] - x[tower][0].mean()
        first = first / (first.square().mean() + 1e-6).sqrt()
        features.append(first * w[f"{tower}.norm.weight"] + w[f"{tower}.norm.bias"])
    return features


@torch.no_grad()
def test_mbt_is_its_formula() -> None:
    config, encoder = settled("mbt")
    video, audio = inputs(config, 3)
    has_video, has_audio = torch.tensor([True, True, False]), torch.tensor([True, False, True])
    found = encoder(video, audio, has_video, has_audio)
    weights = {name: value.double() for name, value in encoder.state_dict().items()}
    assert len(encoder.stages) == 5
    for i, who in enumerate(("video audio", "video", "audio")):
        ours = found.video[i], found.audio[i]
        theirs = plain_mbt(weights, video[i].double(), audio[i].double(), who)
        for name, one, other in zip(("video", "audio"), ours, theirs, strict=True):
            if name in who:
                torch.testing.assert_close(one.double(), other, rtol=1e-4, atol=1e-5)


def test_mbt_is_as_large_as_two_vision_transformers() -> None:
    clip = ClipConfig(num_frames=8, crop=224, short_side=256, duration_seconds=8.015)
    frontend = FrontendConfig(num_mels=128, n_fft=400, hop_length=160)
    assert input_shapes(clip, frontend)["audio"] == (1, 128, 800)
    with torch.device("meta"):
        encoder = joint_encoder(JointEncoderConfig(encoder="avmix:mbt"), clip, frontend)
    layers = 12 * (12 * 768**2 + 13 * 768)
    of_video = layers + 768 * (3 * 256 + 1) + 768 + 768 * (1 + 8 * 196) + 2 * 768
    of_audio = layers + 768 * (256 + 1) + 768 + 768 * (1 + 8 * 50) + 2 * 768
    assert sum(p.numel() for p in encoder.parameters()) == of_video + of_audio + 4 * 768
    assert encoder.num_features == (768, 768)


# What a clip does not have ------------------------------------------------------------------------


@torch.no_grad()
@pytest.mark.parametrize("junk", [5.0, math.nan])
@pytest.mark.parametrize("name", ENCODERS)
def test_nothing_of_a_missing_modality_reaches_the_other(name: str, junk: float) -> None:
    config, encoder = settled(name)
    video, audio = inputs(config)
    found = encoder(video, audio, ALL, NONE)
    assert torch.equal(found.video, encoder(video, torch.full_like(audio, junk), ALL, NONE).video)
    found = encoder(video, audio, NONE, ALL)
    assert torch.equal(found.audio, encoder(torch.full_like(video, junk), audio, NONE, ALL).audio)


@torch.no_grad()
@pytest.mark.parametrize("name", ENCODERS)
def test_heads_of_a_modality_see_the_other_only_where_the_clip_has_it(name: str) -> None:
    config = config_of(name)
    torch.manual_seed(0)
    model = build_model(config.model, CLASSES, clip=config.clip, frontend=config.frontend)
    assert isinstance(model, JointClassifier)
    model.joint = settle(model.joint)  # type: ignore[arg-type,assignment]
    model.eval()
    video, audio = inputs(config)
    other = audio.flip(0)
    both, without, _ = model.heads_of(video, audio, [(ALL, ALL), (ALL, NONE), (NONE, ALL)])
    both_other, without_other, _ = model.heads_of(
        video, other, [(ALL, ALL), (ALL, NONE), (NONE, ALL)]
    )
    assert not torch.equal(both.video, both_other.video)  # they interact inside
    for head, head_other in zip(without[:2], without_other[:2], strict=True):
        assert torch.equal(head, head_other)
    assert torch.equal(without.fused, model(video, audio, ALL, NONE).logits.fused)
    # Of fusion alone, the feature of video would have kept what it heard.
    features = model.encode(video, audio)
    assert not torch.equal(model.fusion(*features, ALL, NONE).fused, without.fused)


# Mixing -------------------------------------------------------------------------------------------


@torch.no_grad()
@pytest.mark.parametrize("name", ENCODERS)
def test_clips_are_mixed_between_stages_each_modality_with_its_weight(name: str) -> None:
    config, encoder = settled(name)
    model = build_model(config.model, CLASSES, clip=config.clip, frontend=config.frontend)
    model.joint = encoder  # type: ignore[assignment]
    model.eval()
    video, audio = inputs(config)
    of_video, of_audio = torch.tensor([0.25, 1.0]), torch.tensor([0.5, 1.0])
    number = STAGES[name] - 1
    has = (torch.tensor([True, True]), torch.tensor([True, False]))
    after = (ALL, torch.tensor([True, False]))
    mix = HiddenMix(number, None, torch.tensor([1, 0], dtype=torch.int32), of_video, of_audio, has)
    found = model(video, audio, *after, mix).features

    x = Joint(video, audio.masked_fill(~has[1].view(2, 1, 1, 1), 0), *has)
    for stage in encoder.stages[:number]:
        x = stage(x)

    def mixed(x: Any, weight: float) -> Any:
        if isinstance(x, list):
            return [mixed(one, weight) for one in x]
        return torch.stack([weight * x[0] + (1 - weight) * x[1], x[1]])

    x = encoder.stages[number](Joint(mixed(x.video, 0.25), mixed(x.audio, 0.5), *after))
    expected = encoder.pool(x)
    torch.testing.assert_close(found.video, expected.video, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found.audio[0], expected.audio[0], rtol=1e-4, atol=1e-5)


def test_mixing_after_more_stages_than_there_are_is_refused() -> None:
    config = config_of("mbt")
    model = build_model(config.model, CLASSES, clip=config.clip, frontend=config.frontend)
    check_layers(model, replace(config, mix=MixConfig(method="mixup@layer", layers=[5])))
    with pytest.raises(ValueError, match=r"of the encoder \(=5: model\.joint\.encoder avmix:mbt\)"):
        check_layers(model, replace(config, mix=MixConfig(method="mixup@layer", layers=[6])))


@pytest.mark.parametrize("word", ["mixup@layer+dropout", "mixup@feature+dropout"])
def test_a_modality_is_left_out_at_its_input_only(word: str) -> None:
    model = ModelConfig(joint=ENCODERS["mbt"])
    with pytest.raises(ValueError, match=r"^mix\.method must not leave a modality out after"):
        TrainConfig(model=model, mix=MixConfig(method=word))
    TrainConfig(model=model, mix=MixConfig(method="mixup+dropout"))


# Weights ------------------------------------------------------------------------------------------


@torch.no_grad()
def test_a_vision_transformer_is_for_both_towers() -> None:
    timm = pytest.importorskip("timm")
    net = timm.create_model("vit_tiny_patch16_224", img_size=32, patch_size=8, embed_dim=16,
                            depth=4, num_heads=2, num_classes=0)  # fmt: skip
    clip = replace(OWN_CLIP, num_frames=1, crop=32, short_side=32)
    encoder = joint_encoder(ENCODERS["mbt"], clip, FrontendConfig())
    found = encoder.of_file(net.state_dict())
    report = load_state(encoder, found, ["bottlenecks"], "model.joint.weights x")
    assert report.missing == ("bottlenecks",)
    assert report.unexpected == ()
    # Without the other modality, and bottlenecks that say nothing, each is the library's network.
    encoder.bottlenecks.zero_()  # type: ignore[operator,union-attr]
    video = torch.randn(1, 3, 1, 32, 32)
    tower: Any = encoder.video
    tokens = tower.tokens(video.transpose(1, 2))
    for block in tower.blocks:
        tokens = block(tokens)
    expected = net.eval().forward_features(video[:, :, 0])[:, 0]
    torch.testing.assert_close(tower.norm(tokens)[:, 0], expected, rtol=1e-4, atol=1e-5)
    stem = net.patch_embed.proj.weight.sum(1, keepdim=True)
    assert torch.equal(encoder.audio.patch_embed.proj.weight, stem)  # type: ignore[union-attr]


# PE-AV --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pe_av(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A small random network of transformers; its weights and configuration are in `folder`."""
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("timm")
    size = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2,
            "num_attention_heads": 2, "head_dim": 8}  # fmt: skip
    dac = {"model_type": "dac", "downsampling_ratios": [8, 10], "encoder_hidden_size": 4,
           "codebook_dim": 8, "hidden_size": 16}  # fmt: skip
    vit = {"img_size": 32, "embed_dim": 16, "depth": 1, "num_heads": 2}
    vision = {"model_type": "timm_wrapper", "architecture": "vit_pe_core_tiny_patch16_384",
              "num_classes": 12, "do_pooling": True, "global_pool": "map",
              "model_args": vit}  # fmt: skip
    text = {"model_type": "modernbert", "hidden_size": 12, "intermediate_size": 16,
            "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 20, "pad_token_id": 0,
            "bos_token_id": 1, "eos_token_id": 2, "cls_token_id": 1, "sep_token_id": 2}  # fmt: skip
    settings = transformers.PeAudioVideoConfig(
        text_config=text,
        audio_video_config={
            "audio_config": {"model_type": "pe_audio_encoder", "dac_config": dac, **size},
            "video_config": {"model_type": "pe_video_encoder", "vision_config": vision, **size},
            **size,
        },
    )
    torch.manual_seed(0)
    net = transformers.PeAudioVideoModel(settings).eval()
    net.folder = tmp_path_factory.mktemp("pe_av")
    net.save_pretrained(net.folder)
    return net


PE_CLIP = ClipConfig(duration_seconds=0.05, num_frames=3)


def pe_config(folder: Path, **options: Any) -> TrainConfig:
    joint = JointEncoderConfig(encoder=f"transformers:{folder}", **options)
    mix = MixConfig(audio_domain="waveform")
    return with_expected_input(TrainConfig(clip=PE_CLIP, mix=mix, model=ModelConfig(joint=joint)))


@torch.no_grad()
def test_embeddings_of_pe_av_are_the_librarys(pe_av: Any) -> None:
    config = pe_config(pe_av.folder, weights=str(pe_av.folder), frozen=True)
    assert (config.frontend.kind, config.clip.sample_rate, config.clip.crop) == (
        "waveform", 48_000, 32,
    )  # fmt: skip
    encoder = joint_encoder(config.model.joint, config.clip, config.frontend)
    assert (encoder.spec.video.mean, encoder.spec.video.std) == ((0.5,) * 3, (0.5,) * 3)
    video, audio = inputs(config)
    assert audio.shape == (2, 1, 2400)  # 30 times the 80 samples of a token
    only_first = torch.tensor([True, False])
    found = encoder(video, audio, ALL, only_first)
    silent = audio * only_first.view(2, 1, 1)
    frames = video.transpose(1, 2).contiguous()
    theirs = pe_av.get_audio_video_embeds(silent, frames, return_audio_embeds=True,
                                          return_video_embeds=True)  # fmt: skip
    assert encoder.num_features == (24, 24)
    assert torch.equal(found.video[:, :12], theirs.video_embeds)
    assert torch.equal(found.audio[:, :12], theirs.audio_embeds)
    assert torch.equal(found.video[0, 12:], theirs.audio_video_embeds[0])
    assert torch.equal(found.audio[0, 12:], theirs.audio_video_embeds[0])
    assert not found.video[1, 12:].any()
    assert found.video.std() > 1e-4
    junk = encoder(video, torch.full_like(audio, 7.0), ALL, only_first)
    assert torch.equal(junk.video[1], found.video[1])


def test_pe_av_continues_a_waveform_to_whole_tokens(pe_av: Any) -> None:
    config = pe_config(pe_av.folder)
    encoder = joint_encoder(config.model.joint, config.clip, config.frontend).eval()
    video, audio = inputs(config)
    short = audio[:, :, :2390]
    whole = torch.cat([short, short[:, :, -11:-1].flip(2)], 2)
    with torch.no_grad():
        assert torch.equal(encoder(video, short, ALL, ALL).audio,
                           encoder(video, whole, ALL, ALL).audio)  # fmt: skip


# The whole way ------------------------------------------------------------------------------------


def batch_for(config: TrainConfig) -> Batch:
    """Four clips: two whole, one silent, one that shows nothing."""
    draw, clip = torch.Generator().manual_seed(0), config.clip
    samples = round(clip.duration_seconds * clip.sample_rate)
    return Batch(
        video=torch.randint(0, 256, (4, clip.num_frames, clip.crop, clip.crop, 3),
                            dtype=torch.uint8, generator=draw),
        audio=torch.randn(4, samples, generator=draw), target=torch.eye(4)[:, :CLASSES],
        has_video=torch.tensor([True, True, True, False]),
        has_audio=torch.tensor([True, True, False, True]),
        row=torch.arange(4), source=torch.arange(4),
    )  # fmt: skip


def test_pe_av_trains_is_saved_goes_on_and_is_evaluated(pe_av: Any, tmp_path: Path) -> None:
    goes_the_whole_way(pe_config(pe_av.folder), tmp_path, stages=0)


@pytest.mark.parametrize("name", ["mbt", pytest.param("avslowfast", marks=pytest.mark.long)])
def test_a_joint_encoder_trains_is_saved_goes_on_and_is_evaluated(name: str, tmp_path) -> None:
    config = config_of(name, fusion="gated", missing="learned", shared_width=6)
    goes_the_whole_way(config, tmp_path, STAGES[name], learns_after_them=name == "mbt")


def goes_the_whole_way(
    config: TrainConfig, tmp_path: Path, stages: int, learns_after_them: bool = True
) -> None:
    torch.manual_seed(0)
    build: Callable[..., Any] = build_model
    model = build(config.model, CLASSES, clip=config.clip, frontend=config.frontend).train()
    batch = batch_for(config)
    frontend = Frontend(config.frontend, config.clip.sample_rate, model.pixels)
    given = (*frontend(batch), batch.has_video, batch.has_audio)
    decay = 0.5 if stages else 1.0
    slower = replace(
        config.model, joint=replace(config.model.joint, layer_decay=decay, lr_scale=0.5)
    )
    optimizer = build_optimizer(
        model, OptimConfig(lr=0.01), slower, empty_clip(config.clip, config.frontend)
    )
    rates = {group["lr_scale"] for group in optimizer.param_groups if group["params"]}
    after_the_stages = {0.5} if learns_after_them else set()
    assert rates == {1.0, *after_the_stages, *(0.5 ** (k + 2) for k in range(stages))}
    step(model, optimizer, given)
    state = Checkpoint(
        config=config, classes=["a", "b", "c"], split_sha256="", num_steps=2, epoch=0, step=1,
        best=-1.0, model=model.state_dict(), optimizer=optimizer.state_dict(),
    )  # fmt: skip
    checkpoint.save(tmp_path / "last.pt", state)
    first = {key: value.clone() for key, value in model.state_dict().items()}
    step(model, optimizer, given)

    state = checkpoint.load(tmp_path / "last.pt")
    assert state.config == config
    again = build(config.model, CLASSES, clip=config.clip, frontend=config.frontend,
                  load_weights=False).train()  # fmt: skip
    checkpoint.load_weights(tmp_path / "last.pt", state, again)
    resumed = build_optimizer(
        again, OptimConfig(lr=0.01), slower, empty_clip(config.clip, config.frontend)
    )
    resumed.load_state_dict(state.optimizer)
    step(again, resumed, given)
    weights = model.state_dict()
    assert all(torch.equal(weights[key], value) for key, value in again.state_dict().items())
    unmoved = [key for key, p in model.named_parameters()
               if p.requires_grad and torch.equal(weights[key], first[key])]  # fmt: skip
    assert unmoved == []

    model.eval()
    with torch.inference_mode():
        rows = _eval_rows(model, frontend, batch)
        alone = model(*given[:2], batch.has_video, torch.zeros(4, dtype=torch.bool)).logits
    assert rows.shape == (5, 4, CLASSES)
    torch.testing.assert_close(rows[3], alone.fused)

    trained = load(tmp_path / "last.pt")
    trained.save(tmp_path / "net.safetensors")
    found = load(tmp_path / "net.safetensors")(batch.video, batch.audio, batch.has_video,
                                               batch.has_audio)  # fmt: skip
    assert torch.equal(found.fused, trained(batch.video, batch.audio, batch.has_video,
                                            batch.has_audio).fused)  # fmt: skip


def test_stages_are_recomputed_for_the_gradient() -> None:
    config = config_of("mbt")
    gradients = []
    for recomputes in (False, True):
        torch.manual_seed(0)
        joint = replace(config.model.joint, gradient_checkpointing=recomputes)
        encoder = joint_encoder(joint, config.clip, config.frontend).train()
        assert encoder.gradient_checkpointing == recomputes
        found = encoder(*inputs(config), ALL, ALL)
        (found.video.sum() + found.audio.square().sum()).backward()
        gradients.append([p.grad for p in encoder.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


def test_a_joint_encoder_is_measured_and_drawn(tmp_path: Path) -> None:
    config = config_of("python", shared_width=5)
    config = replace(config, mix=MixConfig(method="mixup@layer"))
    model = build_model(config.model, CLASSES, clip=config.clip, frontend=config.frontend)
    found = measure(model, config.clip, config.frontend)
    assert [(s.part, s.name, s.shapes) for s in found.stages] == [
        ("joint", "stage 0", [[4, 2, 16, 16], [4, 64, 17]]),
        ("joint", "stage 1", [[4], [4]]),
        ("joint", "pool", [[4], [4]]),
        ("to_shared", "projection of video", [[5]]),
        ("to_shared", "projection of audio", [[5]]),
        ("fusion", "heads", [[3], [3], [3]]),
    ]
    # 2 x 3 x 4 for each place of a frame, 2 x 4 for each of the spectrogram.
    assert found.stages[0].flops == 24 * 2 * 16 * 16 + 8 * 64 * 17
    assert [(part.name, part.parameters) for part in found.parts] == [
        ("joint", 16 + 8), ("to_shared", 2 * 25), ("fusion", 4 * 5 + (2 + 1 + 1) * 15 + 9),
    ]  # fmt: skip
    draw_model(config, found, tmp_path / "network.svg")
    text = (tmp_path / "network.svg").read_text()
    assert "Summed" in text
    assert "mixup@layer" in text


def test_features_of_a_frozen_joint_encoder(tmp_path: Path) -> None:
    config, encoder = settled("mbt")
    torch.save(encoder.state_dict(), tmp_path / "mbt.pt")
    joint = replace(ENCODERS["mbt"], weights=str(tmp_path / "mbt.pt"), frozen=True)
    config = replace(config, model=ModelConfig(joint=joint))
    frozen = of_config(config, ["video", "audio"])
    assert frozen.widths == {"video": 16, "audio": 16}
    batch = batch_for(config)
    found = frozen(batch)
    video, audio = Frontend(config.frontend, config.clip.sample_rate)(batch)
    with torch.no_grad():
        expected = encoder(video, audio, batch.has_video, batch.has_audio)
    torch.testing.assert_close(found["video"], expected.video)
    torch.testing.assert_close(found["audio"], expected.audio)
    said = frozen.identity(1, "float32")
    assert said["video"]["encoder"] == said["audio"]["encoder"] == "avmix:mbt"
    json.dumps(said)
    with pytest.raises(ValueError, match=r"avmix:mbt gives the features of both modalities toge"):
        of_config(config, ["video"])
    with pytest.raises(ValueError, match=r"^model\.joint\.weights: avmix:mbt has random weights"):
        of_config(replace(config, model=ModelConfig(joint=ENCODERS["mbt"])), ["video", "audio"])


# What does not fit --------------------------------------------------------------------------------

ERRORS: list[tuple[str, dict[str, Any], str]] = [
    ("avmix:mvit", {}, r"^model\.joint\.encoder: avmix has 'mbt' only, got 'mvit'"),
    ("avmix:mbt", {"fusion_layer": 12}, r"fusion_layer must be in \[0, depth \(=12\)\), got 12"),
    ("avmix:mbt", {"widht": 12}, r"avmix:mbt cannot be built with options {'widht': 12}: "),
    ("avmix:mbt", {"patch": 32}, r"patches of 32 do not fit: frames are of 16 pixels"),
    ("timm:resnet18", {}, "joint encoders are of avmix, pytorchvideo, transformers and python"),
    ("pytorchvideo:slowfast_r50", {}, "there are avslowfast_r50, avslowfast_r101"),
    (f"python:{__name__}:Batch", {}, r"must be a subclass of avmix\.models\.joint_encoder\.Joint"),
    (f"python:{__name__}:Summed", {"depth": 1}, "does not take the options {'depth': 1}"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "options", "says"), ERRORS)
def test_a_joint_encoder_that_does_not_fit_is_named(name, options, says) -> None:
    model = ModelConfig(joint=JointEncoderConfig(encoder=name, options=options))
    with pytest.raises(ValueError, match=says):
        build_model(model, CLASSES, clip=OWN_CLIP)


def test_only_the_encoders_that_are_used_are_built() -> None:
    model = ModelConfig(joint=ENCODERS["python"],
                        audio=AudioEncoderConfig(encoder="python:nothing:Own"))  # fmt: skip
    assert [*model.encoders] == ["joint"]
    assert all(isinstance(part, EncoderConfig) for part in model.encoders.values())
    build_model(model, CLASSES, clip=OWN_CLIP)
    assert TrainConfig(model=model, run=RunConfig()).model.joint.encoder.startswith("python:")
