"""EAT, SSLAM, CAV-MAE and BEATs against their formulas, written out here for the names and shapes
of the published files."""

import argparse
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from test_encoders import check, settle
from torch import Tensor, nn

from avmix.config import (
    AudioEncoderConfig,
    ClipConfig,
    FrontendConfig,
    TrainConfig,
    VideoEncoderConfig,
    load_config,
)
from avmix.models import build_model
from avmix.models.beats import bucket_of
from avmix.models.encoder import Encoder, VideoSpec
from avmix.models.encoder_names import audio_encoder, video_encoder
from avmix.models.input_options import with_expected_input
from avmix.models.measure import _Flops
from avmix.models.own_encoders import SPECTROGRAMS
from avmix.models.patch_transformers import sines

Shapes = dict[str, tuple[int, ...]]
State = dict[str, Tensor]

# Published files ----------------------------------------------------------------------------------


def linear(name: str, inputs: int, outputs: int) -> Shapes:
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def norms(width: int, *names: str) -> Shapes:
    return {f"{name}.{part}": (width,) for name in names for part in ("weight", "bias")}


def block(name: str, width: int, norm_names: list[str]) -> Shapes:
    """A block of timm."""
    return {
        **norms(width, *(f"{name}.{norm}" for norm in norm_names)),
        **linear(f"{name}.attn.qkv", width, 3 * width),
        **linear(f"{name}.attn.proj", width, width),
        **linear(f"{name}.mlp.fc1", width, 4 * width),
        **linear(f"{name}.mlp.fc2", 4 * width, width),
    }


def eat_shapes(
    width: int, depth: int, *, places: int, hub: bool, tuned: bool, kernel: int = 3, convs: int = 6
) -> Shapes:
    """Of fairseq (of pre-training with its decoder), or of the repositories on Hugging Face."""
    inside = "" if hub else "modality_encoders.IMAGE."
    found: Shapes = {
        f"{inside}extra_tokens": (1, 1, width),
        f"{inside}local_encoder.proj.weight": (width, 1, 16, 16),
        f"{inside}local_encoder.proj.bias": (width,),
        f"{inside}fixed_positional_encoder.positions": (1, places, width),
        **norms(width, "pre_norm" if hub else f"{inside}context_encoder.norm"),
    }
    for i in range(depth):
        found |= block(f"blocks.{i}", width, ["norm1", "norm2"])
    if not hub and not tuned:
        for i in range(convs):
            name = f"{inside}decoder.blocks.{i}.0"
            found |= {f"{name}.weight": (width, width // 16, kernel, kernel),
                      f"{name}.bias": (width,)}  # fmt: skip
        found |= linear(f"{inside}decoder.proj", width, width)
    if hub or tuned:
        found = {f"model.{name}": shape for name, shape in found.items()}
    if tuned:
        last = "model." if hub else ""
        found |= {**norms(width, f"{last}fc_norm"), **linear(f"{last}head", width, 527)}
    return found


def cav_mae_shapes(width: int, depth: int, *, columns: int = 64, tuned: bool = True) -> Shapes:
    """Of the network for fine-tuning, or what pre-training has of it, in DataParallel."""
    found: Shapes = {
        "modality_a": (1, 1, width), "modality_v": (1, 1, width),
        "pos_embed_a": (1, 8 * columns, width), "pos_embed_v": (1, 14 * 14, width),
        "patch_embed_a.proj.weight": (width, 1, 16, 16), "patch_embed_a.proj.bias": (width,),
        "patch_embed_v.proj.weight": (width, 3, 16, 16), "patch_embed_v.proj.bias": (width,),
        **norms(width, "norm_a", "norm_v", "norm"),
    }  # fmt: skip
    every = [f"norm{i}{letter}" for i in (1, 2) for letter in ("", "_a", "_v")]
    for kind, count in (("a", depth), ("v", depth), ("u", 1)):
        for i in range(count):
            found |= block(f"blocks_{kind}.{i}", width, every)
    if tuned:
        found |= {**norms(width, "mlp_head.0"), **linear("mlp_head.1", width, 309)}
    else:
        found |= linear("decoder_embed", width, 16)
    return {f"module.{name}": shape for name, shape in found.items()}


def beats_shapes(width: int, depth: int, heads: int, *, tuned: bool = False) -> Shapes:
    found: Shapes = {
        "patch_embedding.weight": (512, 1, 16, 16),
        **norms(512, "layer_norm"),
        **linear("post_extract_proj", 512, width),
        "encoder.pos_conv.0.bias": (width,),
        "encoder.pos_conv.0.weight_g": (1, 1, 128),
        "encoder.pos_conv.0.weight_v": (width, width // 16, 128),
        **norms(width, "encoder.layer_norm"),
    }
    for i in range(depth):
        name = f"encoder.layers.{i}"
        for part in ("k_proj", "v_proj", "q_proj", "out_proj"):
            found |= linear(f"{name}.self_attn.{part}", width, width)
        found |= linear(f"{name}.self_attn.grep_linear", width // heads, 8)
        found[f"{name}.self_attn.grep_a"] = (1, heads, 1, 1)
        found[f"{name}.self_attn.relative_attention_bias.weight"] = (320, heads)
        found |= norms(width, f"{name}.self_attn_layer_norm", f"{name}.final_layer_norm")
        found |= linear(f"{name}.fc1", width, 4 * width) | linear(f"{name}.fc2", 4 * width, width)
    return found | (linear("predictor", width, 527) if tuned else {})


def numbers(shapes: Shapes) -> State:
    """Random weights; norms are about 1. BEATs has one table of biases, which every layer names."""
    generator = torch.Generator().manual_seed(3)
    found = {name: 0.2 * torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    shared = "encoder.layers.0.self_attn.relative_attention_bias.weight"
    for name, value in found.items():
        if re.search(r"norm\w*(\.0)?\.weight$|mlp_head\.0\.weight$|grep_a$|weight_g$", name):
            value += 1
        if name.endswith("relative_attention_bias.weight"):
            found[name] = 5 * found[shared]
    return found


# Formulas -----------------------------------------------------------------------------------------


def normalised(x: Tensor, state: State, name: str, eps: float) -> Tensor:
    x = x - x.mean(-1, keepdim=True)
    x = x / (x.square().mean(-1, keepdim=True) + eps).sqrt()
    return x * state[f"{name}.weight"] + state[f"{name}.bias"]


def mapped(x: Tensor, state: State, name: str) -> Tensor:
    return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]


def gelu(x: Tensor) -> Tensor:
    return x / 2 * (1 + torch.erf(x / math.sqrt(2)))


def in_patches(image: Tensor, weight: Tensor) -> Tensor:
    """(c h w) to tokens (n d), row after row."""
    rows, columns = image.shape[1] // 16, image.shape[2] // 16
    patches = [image[:, 16 * r : 16 * r + 16, 16 * c : 16 * c + 16].flatten()
               for r in range(rows) for c in range(columns)]  # fmt: skip
    return torch.stack(patches) @ weight.flatten(1).T


def attention(q: Tensor, k: Tensor, v: Tensor, heads: int, bias: Any = 0.0) -> Tensor:
    """(n d) each; the heads are in a row. `bias` (heads n n)."""
    found = []
    for h, (a, b, c) in enumerate(zip(*(x.chunk(heads, 1) for x in (q, k, v)), strict=True)):
        scores = a @ b.T / math.sqrt(a.shape[1]) + (bias[h] if torch.is_tensor(bias) else 0.0)
        found.append(scores.softmax(1) @ c)
    return torch.cat(found, 1)


def attended(x: Tensor, state: State, name: str, heads: int) -> Tensor:
    q, k, v = mapped(x, state, f"{name}.attn.qkv").chunk(3, 1)
    return mapped(attention(q, k, v, heads), state, f"{name}.attn.proj")


def widened(x: Tensor, state: State, first: str, second: str) -> Tensor:
    return mapped(gelu(mapped(x, state, first)), state, second)


def eat(state: State, x: Tensor, depth: int, heads: int) -> Tensor:
    """`state` under the names of fairseq's pre-training; fc_norm where it has one."""
    inside, found = "modality_encoders.IMAGE.", []
    weight, bias = (state[f"{inside}local_encoder.proj.{part}"] for part in ("weight", "bias"))
    places = state[f"{inside}fixed_positional_encoder.positions"][0]
    for clip in x:
        tokens = in_patches(clip.transpose(1, 2), weight) + bias
        tokens = tokens + places[: len(tokens)]
        tokens = torch.cat([state[f"{inside}extra_tokens"][0], tokens])
        tokens = normalised(tokens, state, f"{inside}context_encoder.norm", 1e-6)
        for i in range(depth):
            name = f"blocks.{i}"
            tokens = tokens + attended(tokens, state, name, heads)
            tokens = normalised(tokens, state, f"{name}.norm1", 1e-6)
            tokens = tokens + widened(tokens, state, f"{name}.mlp.fc1", f"{name}.mlp.fc2")
            tokens = normalised(tokens, state, f"{name}.norm2", 1e-6)
        token = tokens[0]
        tuned = "fc_norm.weight" in state
        ones = {"fc_norm.weight": torch.ones_like(token), "fc_norm.bias": torch.zeros_like(token)}
        found.append(normalised(token, state if tuned else ones, "fc_norm", 1e-6))
    return torch.stack(found)


def cav_mae(state: State, x: Tensor, letter: str, depth: int, heads: int) -> Tensor:
    """Of one modality, images (b c h w); before the linear classifier."""
    state = {name.removeprefix("module."): value for name, value in state.items()}
    weight, bias = (state[f"patch_embed_{letter}.proj.{part}"] for part in ("weight", "bias"))
    found = []
    for image in x:
        tokens = in_patches(image, weight) + bias
        tokens = tokens + state[f"pos_embed_{letter}"][0] + state[f"modality_{letter}"][0]
        layers = [(f"blocks_{letter}.{i}", "") for i in range(depth)]
        for name, kind in [*layers, ("blocks_u.0", f"_{letter}")]:
            y = normalised(tokens, state, f"{name}.norm1{kind}", 1e-5)
            tokens = tokens + attended(y, state, name, heads)
            y = normalised(tokens, state, f"{name}.norm2{kind}", 1e-5)
            tokens = tokens + widened(y, state, f"{name}.mlp.fc1", f"{name}.mlp.fc2")
        mean = normalised(tokens, state, f"norm_{letter}", 1e-5).mean(0)
        found.append(normalised(mean, state, "mlp_head.0", 1e-5))
    return torch.stack(found)


def beats(state: State, x: Tensor, depth: int, heads: int) -> Tensor:
    found = []
    for clip in x:
        tokens = in_patches(clip.transpose(1, 2), state["patch_embedding.weight"])
        tokens = normalised(tokens, state, "layer_norm", 1e-5)
        tokens = mapped(tokens, state, "post_extract_proj")
        tokens = normalised(tokens + convolved(tokens, state), state, "encoder.layer_norm", 1e-5)
        alpha, number = (2 * depth) ** (1 / 4), len(tokens)
        table = state["encoder.layers.0.self_attn.relative_attention_bias.weight"]
        bias = torch.stack([torch.stack([table[bucket(k - q)] for k in range(number)])
                            for q in range(number)]).permute(2, 0, 1)  # fmt: skip
        for i in range(depth):
            name = f"encoder.layers.{i}"
            q, k, v = (mapped(tokens, state, f"{name}.self_attn.{part}_proj") for part in "qkv")
            gated = []
            for h, query in enumerate(q.chunk(heads, 1)):
                eight = mapped(query, state, f"{name}.self_attn.grep_linear")
                a, b = eight[:, :4].sum(1).sigmoid(), eight[:, 4:].sum(1).sigmoid()
                gate = a * (b * state[f"{name}.self_attn.grep_a"][0, h] - 1) + 2
                gated.append(gate.view(-1, 1) * bias[h])
            y = attention(q, k, v, heads, torch.stack(gated))
            y = mapped(y, state, f"{name}.self_attn.out_proj")
            tokens = normalised(alpha * tokens + y, state, f"{name}.self_attn_layer_norm", 1e-5)
            y = widened(tokens, state, f"{name}.fc1", f"{name}.fc2")
            tokens = normalised(alpha * tokens + y, state, f"{name}.final_layer_norm", 1e-5)
        found.append(tokens.mean(0))
    return torch.stack(found)


def bucket(distance: int) -> int:
    """Of 320; the farthest is 800."""
    far = abs(distance)
    if far >= 80:
        far = min(159, 80 + int(math.log(far / 80) / math.log(800 / 80) * 80))
    return far + (160 if distance > 0 else 0)


def convolved(tokens: Tensor, state: State) -> Tensor:
    """Of 128 tokens around each, from the 64th before to the 63rd behind, in 16 groups."""
    v, g = (state[f"encoder.pos_conv.0.weight_{part}"] for part in "vg")
    kernel = torch.stack([v[..., k] / v[..., k].norm() * g[0, 0, k] for k in range(128)], 2)
    padded = nn.functional.pad(tokens.T, (64, 64))
    width, inside = v.shape[:2]
    found = torch.zeros_like(tokens)
    for channel in range(width):
        first = channel // (width // 16) * inside
        for place in range(len(tokens)):
            window = padded[first : first + inside, place : place + 128]
            found[place, channel] = (window * kernel[channel]).sum()
    return gelu(found + state["encoder.pos_conv.0.bias"])


# Ours ---------------------------------------------------------------------------------------------

SECONDS = {columns: (400 + (columns - 1) * 160) / 16_000 for columns in (32, 48, 64, 80)}
SIZES = {"width": 32, "depth": 2, "heads": 2}


def of_audio(
    name: str, weights: str = "", columns: int = 64, options: dict[str, Any] = SIZES
) -> Encoder:
    clip = ClipConfig(duration_seconds=SECONDS[columns])
    config = AudioEncoderConfig(encoder=f"avmix:{name}", options=options, weights=weights)
    found = SPECTROGRAMS[name]
    assert found.front_end is not None
    assert found.mel_mean is not None
    assert found.mel_std is not None
    frontend = FrontendConfig(kind=found.front_end, num_mels=128, n_fft=400, hop_length=160,
                              mel_mean=found.mel_mean, mel_std=found.mel_std)  # fmt: skip
    return audio_encoder(config, clip, frontend)


def of_video(weights: str = "", **config: Any) -> Encoder:
    asked = VideoEncoderConfig(encoder="avmix:cav_mae", options=SIZES, weights=weights, **config)
    return video_encoder(asked, ClipConfig(num_frames=2, crop=224, short_side=224))


def spectrograms(columns: int = 64) -> Tensor:
    return torch.randn(2, 1, 128, columns, generator=torch.Generator().manual_seed(1))


def written(folder: Path, state: State, kind: str) -> str:
    """As its authors publish it."""
    path = folder / ("model.safetensors" if kind == "safetensors" else "model.pth")
    match kind:
        case "safetensors":
            from safetensors.torch import save_file

            save_file({name: value.clone() for name, value in state.items()}, path)
        case "fairseq":
            teacher = {"blocks.0.norm1.weight": torch.zeros(3)}
            torch.save({"model": {**state, "_ema": teacher}}, path)
        case "beats":
            torch.save({"cfg": {"encoder_layers": 2, "deep_norm": True}, "model": state}, path)
        case _:
            torch.save(state, path)
    return str(path)


def plain_eat(state: State) -> State:
    """Under the names of fairseq's pre-training."""
    found = {}
    for name, value in state.items():
        name = name.removeprefix("model.")
        if name.startswith("pre_norm"):
            name = name.replace("pre_norm", "context_encoder.norm")
        mine = ("extra_tokens", "local_encoder", "fixed_pos", "context_encoder")
        found[f"modality_encoders.IMAGE.{name}" if name.startswith(mine) else name] = value
    return found


EAT_FILES: dict[str, dict[str, Any]] = {
    "fairseq": {"hub": False, "tuned": False, "places": 32},
    "fairseq_tuned": {"hub": False, "tuned": True, "places": 32},
    "hub": {"hub": True, "tuned": False, "places": 768},
    "hub_tuned": {"hub": True, "tuned": True, "places": 768},
}


@pytest.mark.parametrize("name", ["eat", "sslam"])
@pytest.mark.parametrize("kind", EAT_FILES)
@torch.no_grad()
def test_eat_is_its_formula(kind: str, name: str, tmp_path: Path) -> None:
    state, asked = numbers(eat_shapes(32, 2, **EAT_FILES[kind])), EAT_FILES[kind]
    if asked["hub"]:
        pytest.importorskip("safetensors")
    encoder = of_audio(name, written(tmp_path, state, "safetensors" if asked["hub"] else "fairseq"))
    x = spectrograms()
    expected = eat(plain_eat(state), x, 2, 2)
    torch.testing.assert_close(encoder.eval()(x), expected, rtol=1e-5, atol=1e-5)
    said = encoder.notice
    assert ("missing (head_norm.weight, head_norm.bias)" in said) is not asked["tuned"]
    assert ("1 reshaped (positions)" in said) is asked["hub"]
    assert ("unexpected" in said) is (asked["tuned"] or not asked["hub"])


@pytest.mark.parametrize("tuned", [True, False])
@pytest.mark.parametrize("letter", ["a", "v"])
@torch.no_grad()
def test_cav_mae_is_its_formula(letter: str, tuned: bool, tmp_path: Path) -> None:
    state = numbers(cav_mae_shapes(32, 2, columns=4, tuned=tuned))
    path = written(tmp_path, state, "plain")
    if not tuned:
        state |= {"module.mlp_head.0.weight": torch.ones(32),
                  "module.mlp_head.0.bias": torch.zeros(32)}  # fmt: skip
    if letter == "a":
        encoder, x = of_audio("cav_mae", path), spectrograms()
        expected = cav_mae(state, x, "a", 2, 2)
    else:
        encoder = of_video(path)
        x = torch.randn(1, 3, 2, 224, 224, generator=torch.Generator().manual_seed(1))
        expected = cav_mae(state, x[0].transpose(0, 1), "v", 2, 2).mean(0, keepdim=True)
    torch.testing.assert_close(encoder.eval()(x), expected, rtol=1e-5, atol=1e-5)
    assert ("missing (head_norm.weight, head_norm.bias)" in encoder.notice) is not tuned
    assert "reshaped" not in encoder.notice


@pytest.mark.parametrize("tuned", [True, False])
@torch.no_grad()
def test_beats_is_its_formula(tuned: bool, tmp_path: Path) -> None:
    state = numbers(beats_shapes(32, 2, 2, tuned=tuned))
    encoder, x = of_audio("beats", written(tmp_path, state, "beats")).eval(), spectrograms()
    torch.testing.assert_close(encoder(x), beats(state, x, 2, 2), rtol=1e-5, atol=1e-5)
    assert "missing" not in encoder.notice
    # The other layer's name of the one table.
    assert f"{3 if tuned else 1} unexpected (encoder.layers.1.self_attn.rel" in encoder.notice
    # The bias counts.
    state["encoder.layers.0.self_attn.relative_attention_bias.weight"].zero_()
    assert not torch.allclose(encoder(x), beats(state, x, 2, 2), rtol=1e-3, atol=1e-3)


def test_distances_by_hand() -> None:
    distances = [0, -1, 1, -79, 79, -80, 80, -253, 252, -799, -800, -5000, 5000]
    expected = [0, 1, 161, 79, 239, 80, 240, 120, 279, 159, 159, 159, 319]
    assert bucket_of(torch.tensor(distances)).tolist() == expected
    every = torch.arange(-900, 900)
    assert bucket_of(every).tolist() == [bucket(d) for d in every.tolist()]


@pytest.mark.parametrize("name", ["eat", "sslam", "cav_mae", "beats"])
def test_stages_are_the_network_to_the_bit(name: str) -> None:
    encoder = settle(of_audio(name, options={**SIZES, "depth": 5}))
    whole: Any = encoder.network

    def run(x: Tensor) -> Tensor:
        x = whole.embed(x)
        if name == "beats":
            return whole.feature(whole.run(0, 5, x))
        for layer in [*whole.blocks, *getattr(whole, "joint", [])]:
            x = layer(x)
        return whole.feature(x)

    check(encoder, spectrograms(), run, 5)


def test_stages_of_frames_are_the_network_to_the_bit() -> None:
    encoder = settle(of_video(pooling="mean+max"))
    assert encoder.num_features == 64
    whole: Any = encoder.network

    def run(x: Tensor) -> Tensor:
        y = whole.embed(x.transpose(1, 2).flatten(0, 1))
        for layer in [*whole.blocks, *whole.joint]:
            y = layer(y)
        y = whole.feature(y).unflatten(0, (len(x), -1))
        return torch.cat([y.mean(1), y.amax(1)], 1)

    x = torch.randn(2, 3, 2, 224, 224, generator=torch.Generator().manual_seed(1))
    check(encoder, x, run, 4)


# Sizes --------------------------------------------------------------------------------------------


def count(shapes: Shapes) -> int:
    return sum(math.prod(shape) for shape in shapes.values())


def in_millions(number: int) -> str:
    return f"{number / 1e6:.2f}"


def parameters(encoder: Encoder) -> int:
    return sum(p.numel() for p in encoder.parameters())


PAGE = (Path(__file__).parents[1] / "docs/models.md").read_text()
LARGE = {"width": 1024, "depth": 24}
PUBLISHED: list[tuple[str, Callable[[], Encoder], int, Shapes]] = [
    ("eat", lambda: of_audio("eat", options={}), 512,
     eat_shapes(768, 12, places=512, hub=False, tuned=False)),
    ("eat, `{width: 1024, depth: 24}`", lambda: of_audio("eat", options=LARGE), 512,
     eat_shapes(1024, 24, places=512, hub=False, tuned=False, kernel=5, convs=3)),
    ("sslam", lambda: of_audio("sslam", options={}), 6144,
     eat_shapes(768, 12, places=6144, hub=True, tuned=False)),
    ("beats", lambda: of_audio("beats", options={}), 0, beats_shapes(768, 12, 12)),
]  # fmt: skip


def row_of(name: str) -> list[str]:
    line = next(line for line in PAGE.splitlines() if line.startswith(f"| {name} |"))
    return [cell.strip() for cell in line.split("|")[1:-1]]


@pytest.mark.parametrize(
    ("name", "build", "places", "shapes"), PUBLISHED, ids=[name for name, *_ in PUBLISHED]
)
def test_numbers_of_parameters_are_the_published_ones(
    name: str, build: Callable[[], Encoder], places: int, shapes: Shapes
) -> None:
    with torch.device("meta"):
        encoder = build()
    kind, comma, options = name.partition(",")
    row = row_of(f"`avmix:{kind}`{comma}{options}")
    assert row[3:5] == [str(encoder.num_features), in_millions(parameters(encoder))]
    shared = [shape for n, shape in shapes.items() if re.search(r"layers\.(?!0\.).*relative_at", n)]
    number = count(shapes) - sum(math.prod(shape) for shape in shared)
    assert row[5].startswith(in_millions(number))
    # What the file has beside: a decoder, and positions, which are no parameters here.
    others = {n: s for n, s in shapes.items() if "decoder" in n or "fixed_pos" in n}
    new = 2 * encoder.num_features if name != "beats" else 0  # the norm before the classifier
    assert parameters(encoder) - new == number - count(others)
    assert places * encoder.num_features == count({n: s for n, s in others.items() if "_pos" in n})


def test_both_branches_of_cav_mae_are_the_published_network() -> None:
    with torch.device("meta"):
        clip = ClipConfig(duration_seconds=(400 + 1023 * 160) / 16_000, crop=224, short_side=224)
        video = video_encoder(VideoEncoderConfig(encoder="avmix:cav_mae"), clip)
        config = with_expected_input(load_config(TrainConfig, ["--model.audio.encoder=avmix:cav_m"
                                                               "ae"]))  # fmt: skip
        audio = audio_encoder(config.model.audio, config.clip, config.frontend)
    row = row_of("`avmix:cav_mae`, audio")
    assert row[3:5] == ["768", in_millions(parameters(audio))]
    assert row_of("`avmix:cav_mae`, video")[3:5] == ["768", in_millions(parameters(video))]
    shapes = cav_mae_shapes(768, 11)
    head = count({n: s for n, s in shapes.items() if "mlp_head" in n})
    assert row[5].startswith(in_millions(count(shapes) - head))
    # Both have a joint block of their own; the file has norms that one modality does not need.
    joint = count({n: s for n, s in shapes.items() if re.search(r"blocks_u.*(attn|mlp)", n)})
    other = re.compile(r"blocks_[av].*norm._|blocks_u.*norm.\.|module\.norm\.")
    idle = count({n: s for n, s in shapes.items() if other.search(n)})
    both = parameters(audio) + parameters(video) - 4 * 768
    assert both - joint + idle == count(shapes) - head


@pytest.mark.parametrize("name", ["eat", "cav_mae", "beats"])
def test_operations_are_those_done_by_hand(name: str) -> None:
    """With those of attention, which torch does not count on processors."""
    encoder, x = of_audio(name).eval(), spectrograms()[:1]
    n, d, embed = 32, 32, 32 * 256 * 32
    layers = 3 if name == "cav_mae" else 2
    if name == "eat":
        n += 1
    each = n * d * 3 * d + 2 * n * n * d + n * d * d + 2 * n * d * 4 * d
    if name == "beats":
        each += n * 2 * 16 * 8  # gates
        embed = 32 * 256 * 512 + 32 * 512 * 32 + 33 * 32 * 2 * 128  # patches, tokens, positions
    _, found = _Flops()(lambda: encoder(x))
    assert found == 2 * (embed + layers * each)


# Inputs -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "kind", "mean", "std", "seconds"),
    [("eat", "kaldi", -4.268, 2 * 4.569, 10.255), ("sslam", "kaldi", -4.268, 2 * 4.569, 10.255),
     ("cav_mae", "kaldi", -5.081, 4.4849, 10.255),
     ("beats", "kaldi_povey", 15.41663, 2 * 6.55582, 10.0)],
)  # fmt: skip
def test_the_right_input_is_the_default(
    name: str, kind: str, mean: float, std: float, seconds: float
) -> None:
    words = [f"--model.audio.encoder=avmix:{name}",
             "--model.audio.options={width: 32, depth: 1, heads: 2}"]  # fmt: skip
    found = with_expected_input(load_config(TrainConfig, words))
    clip, frontend = found.clip, found.frontend
    assert (clip.sample_rate, clip.stereo, clip.duration_seconds) == (16_000, False, seconds)
    assert (frontend.kind, frontend.num_mels, frontend.n_fft) == (kind, 128, 400)
    assert (frontend.hop_length, frontend.mel_mean, frontend.mel_std) == (160, mean, std)
    build_model(found.model, 3, clip=clip, frontend=frontend)
    # Any other length is taken; another front end or rate is not.
    found = with_expected_input(load_config(TrainConfig, [*words, "--clip.duration_seconds=1"]))
    build_model(found.model, 3, clip=found.clip, frontend=found.frontend)
    other = "kaldi" if kind == "kaldi_povey" else "kaldi_povey"
    given = f"--frontend={{kind: {other}, mel_mean: 0, mel_std: 1}}"
    found = with_expected_input(load_config(TrainConfig, [*words, given]))
    says = rf"avmix:{name} takes {kind} spectrograms, frontend\.kind gives {other}$"
    with pytest.raises(ValueError, match=says):
        build_model(found.model, 3, clip=found.clip, frontend=found.frontend)


def test_cav_mae_takes_the_frames_of_imagenet() -> None:
    words = ["--model.video.encoder=avmix:cav_mae", f"--model.video.options={SIZES}"]
    found = with_expected_input(load_config(TrainConfig, words))
    assert (found.clip.crop, found.clip.short_side) == (224, 256)
    encoder = video_encoder(found.model.video, found.clip)
    assert encoder.spec == VideoSpec(size=224, mean=(0.485, 0.456, 0.406),
                                     std=(0.229, 0.224, 0.225))  # fmt: skip


# Other lengths ------------------------------------------------------------------------------------


def test_positions_are_sines_of_column_and_row() -> None:
    found = sines(8, 3, 5)[0]
    for row in range(3):
        for column in range(5):
            angles = [column, column / 100], [row, row / 100]
            expected = [f(a) for pair in angles for f in (math.sin, math.cos) for a in pair]
            assert found[5 * row + column].tolist() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(("columns", "kept"), [(32, 16), (80, 32)])
def test_positions_of_eat_are_counted_from_the_start(
    columns: int, kept: int, tmp_path: Path
) -> None:
    """A shorter clip has the first of the file; beyond those of the file, the sines go on."""
    state = numbers(eat_shapes(32, 2, places=32, hub=False, tuned=True))
    encoder = of_audio("eat", written(tmp_path, state, "fairseq"), columns)
    found: Any = encoder.network.positions
    theirs = state["model.modality_encoders.IMAGE.fixed_positional_encoder.positions"]
    assert torch.equal(found[:, :kept], theirs[:, :kept])
    assert torch.equal(found[:, kept:], sines(32, columns // 16, 8)[:, kept:])
    assert encoder(spectrograms(columns)).shape == (2, 32)
    assert "1 reshaped (positions)" in encoder.notice


def test_positions_of_cav_mae_are_stretched_in_time(tmp_path: Path) -> None:
    state = numbers(cav_mae_shapes(32, 2, columns=2))
    rows = state["module.pos_embed_a"].view(8, 2, 32)
    rows[:, 1] = rows[:, 0]  # the same at all times
    encoder = of_audio("cav_mae", written(tmp_path, state, "plain"), 80)
    found: Any = encoder.network.positions
    torch.testing.assert_close(found.view(8, 5, 32), rows[:, :1].expand(8, 5, 32), rtol=0,
                               atol=1e-5)  # fmt: skip
    assert "1 reshaped (positions)" in encoder.notice


# What does not fit --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "options", "says"),
    [
        ("eat", {"heads": 3}, "width 32, depth 2 and heads 3: all are positive, and width is a mu"),
        ("eat", {"layers": 3}, "unexpected keyword argument 'layers'"),
        ("beats", {"width": 24}, "width 24: must be a multiple of 16"),
        ("cav_mae", {"joint_depth": -1}, "joint_depth must be >= 0, got -1"),
        ("sslam", {"drop_path_rate": 1.0}, r"drop_path_rate must be in \[0, 1\), got 1.0"),
        ("vggish", {}, "avmix has cnn, eat, sslam, cav_mae, beats$"),
    ],
)
def test_sizes_that_do_not_fit_are_named(name: str, options: dict[str, Any], says: str) -> None:
    config = AudioEncoderConfig(encoder=f"avmix:{name}", options={**SIZES, **options})
    with pytest.raises(ValueError, match=rf"^model\.audio\.encoder avmix:{name}.*{says}"):
        audio_encoder(config, ClipConfig(), FrontendConfig())


def test_a_clip_shorter_than_a_patch_is_refused() -> None:
    config = AudioEncoderConfig(encoder="avmix:beats", options=SIZES)
    frontend = FrontendConfig(kind="kaldi_povey", num_mels=128, n_fft=400, hop_length=160,
                              mel_mean=15.0, mel_std=13.0)  # fmt: skip
    with pytest.raises(ValueError, match=r"cannot take such clips \(128 mel bins, 8 columns"):
        audio_encoder(config, ClipConfig(duration_seconds=0.1), frontend)


def test_a_half_loaded_network_is_refused(tmp_path: Path) -> None:
    state = numbers(cav_mae_shapes(32, 2, columns=4))
    del state["module.blocks_u.0.norm1_a.weight"]
    path = written(tmp_path, state, "plain")
    with pytest.raises(ValueError, match=r"1 of 44 weights are missing: joint\.0\.norm1\.weight\."):
        of_audio("cav_mae", path)
    of_video(path)
    with pytest.raises(ValueError, match="weights are missing"):
        of_audio("eat", path)


def test_objects_of_fairseq_are_not_unpickled(tmp_path: Path) -> None:
    state = numbers(eat_shapes(32, 2, places=32, hub=False, tuned=False))
    torch.save({"cfg": argparse.Namespace(depth=2), "model": state}, tmp_path / "model.pt")
    with pytest.raises(ValueError, match="holds something else than tensors, numbers and text"):
        of_audio("eat", str(tmp_path / "model.pt"))


def test_drop_path_drops_in_training_only() -> None:
    for name in ("eat", "cav_mae", "beats"):
        sizes = SIZES | ({"joint_depth": 0} if name == "cav_mae" else {})
        encoder = of_audio(name, options={**sizes, "drop_path_rate": 0.5})
        x = spectrograms()[:1].expand(32, -1, -1, -1)
        torch.manual_seed(0)
        with torch.no_grad():
            # Attention and MLP of the last block, kept or not.
            assert len(encoder(x).mul(1e4).round().unique(dim=0)) == 4
            assert len(encoder.eval()(x).mul(1e4).round().unique(dim=0)) == 1
