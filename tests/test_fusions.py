"""Fusions: each against its formula, written out for one clip; presence; heads; a whole run."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm

from avmix.config import (
    AudioEncoderConfig,
    ClipConfig,
    Fusion,
    JointEncoderConfig,
    LossConfig,
    ModelConfig,
    OptimConfig,
    TrainConfig,
    VideoEncoderConfig,
)
from avmix.mix.hidden_mix import HiddenMix
from avmix.models import LateFusionClassifier, build_model
from avmix.models.attention_fusion import TOKENS
from avmix.models.encoder import AudioSpec, Encoder, VideoSpec
from avmix.models.frontend import Frontend
from avmix.models.fusion import FeatureNorm, JointFusion
from avmix.models.fusion_names import JOINT_FUSIONS, SCORE_FUSIONS, build_fusion
from avmix.models.score_fusion import AverageFusion
from avmix.training import checkpoint
from avmix.training.checkpoint import Checkpoint
from avmix.training.engine import clip_gradients
from avmix.training.evaluation_loop import _eval_rows
from avmix.training.optimizer import build_optimizer, towers_of
from avmix.types import Batch, Heads

NAMES = get_args(Fusion)
HEADS = [(name, heads) for name in NAMES for heads in ("own", "shared")
         if name not in SCORE_FUSIONS or heads == "own"]  # fmt: skip
FILLED = [(name, heads) for name, heads in HEADS if name != "weighted"]
"""Those in which something stands in place of a missing feature."""
CLASSES, WIDE, NARROW = 3, 8, 5
WEIGHTS = (0.7, 1.5, 0.8)
"""Of the weighted average: of video; temperatures of video and of audio."""
PATTERNS = torch.tensor([[True, True], [True, False], [False, True], [False, False]])
"""Has video, has audio."""


def fusion_of(name: str, missing: str = "mask", heads: str = "own") -> Any:
    """With numbers that are not those of the start, in evaluation mode."""
    torch.manual_seed(0)
    config = ModelConfig(fusion=name, missing=missing, heads=heads)  # type: ignore[arg-type]
    fusion: Any = build_fusion(config, WIDE, NARROW, CLASSES)
    with torch.no_grad():
        for parameter in fusion.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape))
        for norm in (fusion.norm_video, fusion.norm_audio):
            norm.mean.normal_()
            norm.var.uniform_(0.5, 2)
    if name == "weighted":
        fusion.set_weights(*WEIGHTS)
    return fusion.eval()


def features(size: int = 4, seed: int = 0) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    return (torch.randn(size, WIDE, generator=draw), torch.randn(size, NARROW, generator=draw))


# Formulas -----------------------------------------------------------------------------------------


def linear(layer: nn.Linear, x: Tensor) -> Tensor:
    return x @ layer.weight.T + layer.bias


def average(f: Any, v: Tensor | None, a: Tensor | None) -> Tensor:
    said = [torch.exp(one) / torch.exp(one).sum()
            for one in (v if v is None else linear(f.video, v),
                        a if a is None else linear(f.audio, a)) if one is not None]  # fmt: skip
    return torch.log(sum(said, torch.zeros(CLASSES)) / len(said) if said
                     else torch.full((CLASSES,), 1 / CLASSES))  # fmt: skip


def weighted(f: Any, v: Tensor | None, a: Tensor | None) -> Tensor:
    share, hot, loud = WEIGHTS
    p = None if v is None else torch.exp(linear(f.video, v) / hot)
    q = None if a is None else torch.exp(linear(f.audio, a) / loud)
    if p is None or q is None:
        (only,) = [one for one in (p, q) if one is not None] or [torch.ones(CLASSES)]
        return torch.log(only / only.sum())
    return torch.log(share * p / p.sum() + (1 - share) * q / q.sum())


def product(f: Any, v: Tensor | None, a: Tensor | None) -> Tensor:
    zero = torch.zeros(CLASSES)
    return (zero if v is None else linear(f.video, v)) + (zero if a is None else linear(f.audio, a))


def concat(f: Any, v: Tensor | None, a: Tensor | None) -> Tensor:
    v, a = torch.zeros(WIDE) if v is None else v, torch.zeros(NARROW) if a is None else a
    return linear(f.fused, torch.cat([v, a]))


def summed(f: Any, v: Tensor | None, a: Tensor | None) -> Tensor:
    h = torch.zeros(WIDE)
    h = h if v is None else h + f.from_video.weight @ v
    h = h if a is None else h + f.from_audio.weight @ a
    return linear(f.fused, h)


def gated(f: Any, v: Tensor | None, a: Tensor | None) -> Tensor:
    if v is None and a is None:
        return f.fused.bias
    if v is None or a is None:
        only = f.from_audio.weight @ a if v is None else f.from_video.weight @ v
        return linear(f.fused, torch.tanh(only))
    z = 1 / (1 + torch.exp(-linear(f.gate, torch.cat([v, a]))))
    return linear(f.fused, z * torch.tanh(f.from_video.weight @ v)
                  + (1 - z) * torch.tanh(f.from_audio.weight @ a))  # fmt: skip


def film(f: Any, v: Tensor | None, a: Tensor | None) -> Tensor:
    if v is None or a is None:
        return concat(f, v, a)
    by_audio, by_video = linear(f.of_audio, a), linear(f.of_video, v)
    return linear(f.fused, torch.cat([
        (1 + by_audio[:WIDE]) * v + by_audio[WIDE:],
        (1 + by_video[:NARROW]) * a + by_video[NARROW:],
    ]))  # fmt: skip


def bilinear(f: Any, v: Tensor | None, a: Tensor | None) -> Tensor:
    v, a = torch.zeros(WIDE) if v is None else v, torch.zeros(NARROW) if a is None else a
    p, q = linear(f.from_video, v), linear(f.from_audio, a)
    h = sum(p[i : i + WIDE] * q[i : i + WIDE] for i in range(0, 4 * WIDE, WIDE)) / 4
    return linear(f.fused, torch.as_tensor(h))


def norm(layer: nn.LayerNorm, x: Tensor) -> Tensor:
    return layer_norm(x, x.shape[-1:], layer.weight, layer.bias)


def block(b: Any, x: Tensor, context: Tensor | None) -> Tensor:
    """Four heads of two numbers each."""
    if context is not None:
        query = linear(b.query, norm(b.norm_x, x))
        both = linear(b.key_value, norm(b.norm_context, context))
        key, value = both[:, :WIDE], both[:, WIDE:]
        heads = []
        for i in range(0, WIDE, 2):
            score = query[:, i : i + 2] @ key[:, i : i + 2].T / math.sqrt(2)
            heads.append(torch.softmax(score, 1) @ value[:, i : i + 2])
        x = x + linear(b.out, torch.cat(heads, 1))
    inner = linear(b.inner, norm(b.norm_out, x))
    inner = inner * (1 + torch.erf(inner / math.sqrt(2))) / 2
    return x + linear(b.outer, inner)


def tokens(layer: Any, x: Tensor) -> Tensor:
    return linear(layer, x).view(TOKENS, WIDE)


def cross_attention(f: Any, v: Tensor | None, a: Tensor | None) -> Tensor:
    seen = None if v is None else tokens(f.video_tokens, v)
    heard = None if a is None else tokens(f.audio_tokens, a)
    h = [torch.zeros(WIDE) if x is None else block(b, x, y).mean(0)
         for b, x, y in ((f.video_block, seen, heard), (f.audio_block, heard, seen))]  # fmt: skip
    return linear(f.fused, torch.cat(h))


def bottleneck(f: Any, v: Tensor | None, a: Tensor | None) -> Tensor:
    parts = [[tokens(layer, x), blocks]
             for layer, x, blocks in ((f.video_tokens, v, f.video_blocks),
                                      (f.audio_tokens, a, f.audio_blocks))
             if x is not None]  # fmt: skip
    between: Any = f.bottlenecks
    for number in range(2):
        left = []
        for part in parts:
            both = torch.cat([part[0], between])
            both = block(part[1][number], both, both)
            part[0] = both[:TOKENS]
            left.append(both[TOKENS:])
        between = sum(left) / len(left) if left else between
    pooled = [part[0].mean(0) for part in parts]
    h = torch.stack(pooled).mean(0) if pooled else torch.zeros(WIDE)
    return linear(f.fused, h)


FORMULAS: dict[str, Callable[[Any, Tensor | None, Tensor | None], Tensor]] = {
    "concat": concat, "average": average, "weighted": weighted, "product": product, "sum": summed,
    "gated": gated, "film": film, "bilinear": bilinear, "cross_attention": cross_attention,
    "bottleneck": bottleneck,
}  # fmt: skip


def test_every_fusion_has_a_class_and_a_formula_here() -> None:
    assert {*NAMES} == {*SCORE_FUSIONS, *JOINT_FUSIONS} == {*FORMULAS}


@pytest.mark.parametrize("name", NAMES)
def test_a_fusion_is_its_formula(name: str) -> None:
    fusion, has = fusion_of(name), PATTERNS
    v, a = features()
    found = fusion(v, a, has[:, 0], has[:, 1])
    v, a = fusion.norm_video(v, has[:, 0]), fusion.norm_audio(a, has[:, 1])
    for i, (sees, hears) in enumerate(has.tolist()):
        expected = FORMULAS[name](fusion, v[i] if sees else None, a[i] if hears else None)
        torch.testing.assert_close(found.fused[i], expected)
    torch.testing.assert_close(found.video, linear(fusion.video, v))
    torch.testing.assert_close(found.audio, linear(fusion.audio, a))


# Presence and heads -------------------------------------------------------------------------------


@pytest.mark.parametrize("missing", ["mask", "mean", "learned", "translate"])
@pytest.mark.parametrize(("name", "heads"), HEADS)
def test_logits_of_a_modality_do_not_depend_on_the_other(name, heads, missing) -> None:
    fusion = fusion_of(name, missing, heads)
    (v, a), (other_v, other_a), here = features(), features(seed=1), torch.ones(4).bool()
    before = fusion(v, a, here, here)
    for has_other in (here, ~here):
        seen, heard = fusion(v, other_a, here, has_other), fusion(other_v, a, has_other, here)
        assert torch.equal(seen.video, before.video)
        assert torch.equal(heard.audio, before.audio)
        assert (seen.fused != before.fused).any(1).all()
        assert (heard.fused != before.fused).any(1).all()
    assert (fusion(other_v, a, here, here).video != before.video).any(1).all()
    assert (fusion(v, other_a, here, here).audio != before.audio).any(1).all()


@pytest.mark.parametrize("missing", ["mask", "mean", "learned", "translate"])
@pytest.mark.parametrize("name", JOINT_FUSIONS)
def test_shared_heads_are_the_fused_one_without_the_other_modality(name, missing) -> None:
    fusion = fusion_of(name, missing, "shared")
    assert not hasattr(fusion, "video")
    (v, a), here = features(), torch.ones(4).bool()
    found = fusion(v, a, here, here)
    torch.testing.assert_close(found.video, fusion(v, a, here, ~here).fused)
    torch.testing.assert_close(found.audio, fusion(v, a, ~here, here).fused)


@pytest.mark.parametrize("missing", ["mask", "mean", "learned", "translate"])
@pytest.mark.parametrize(("name", "heads"), HEADS)
def test_nothing_in_place_of_a_missing_modality_matters(name, heads, missing) -> None:
    fusion, (v, a), has = fusion_of(name, missing, heads), features(), PATTERNS
    before = fusion(v, a, has[:, 0], has[:, 1])
    v = torch.where(has[:, :1], v, float("nan"))
    a = torch.where(has[:, 1:], a, float("inf"))
    after = fusion(v, a, has[:, 0], has[:, 1])
    assert all(torch.equal(x, y) for x, y in zip(before, after, strict=True))
    assert all(x.isfinite().all() for x in after)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "weighted"])
def test_mean_is_what_a_clip_with_the_mean_feature_gives(name: str) -> None:
    fusion, (v, a), here = fusion_of(name, "mean"), features(), torch.ones(4).bool()
    found = fusion(v, a, here, ~here)
    expected = fusion(v, fusion.norm_audio.mean.expand(4, -1), here, here)
    torch.testing.assert_close(found, expected)
    found = fusion(v, a, ~here, here)
    torch.testing.assert_close(found, fusion(fusion.norm_video.mean.expand(4, -1), a, here, here))


@pytest.mark.parametrize(("name", "heads"), FILLED)
def test_the_learned_vector_learns_from_clips_that_lack_the_modality(name, heads) -> None:
    fusion, (v, a), here = fusion_of(name, "learned", heads).train(), features(), torch.ones(4) > 0
    for has_audio, learns in ((here, heads == "shared"), (~here, True)):
        fusion.zero_grad()
        torch.cat([*fusion(v, a, here, has_audio)]).square().sum().backward()
        assert bool(fusion.missing_audio.grad.any()) == learns
        assert bool(fusion.missing_video.grad.any()) == (heads == "shared")


@pytest.mark.parametrize(("name", "heads"), HEADS)
def test_with_bfloat16_logits_are_those_of_float32_but_for_rounding(name, heads) -> None:
    fusion, (v, a), has = fusion_of(name, "learned", heads), features(), PATTERNS
    exact = torch.stack([*fusion(v, a, has[:, 0], has[:, 1])])
    with torch.autocast("cpu", torch.bfloat16):
        half = torch.stack([one.float() for one in fusion(v, a, has[:, 0], has[:, 1])])
    assert not torch.equal(half, exact)
    # bfloat16 has 8 bits of mantissa; a few roundings add up.
    assert (half - exact).abs().max() < 0.05 * exact.abs().max()
    half.square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in fusion.parameters())


def test_a_weighted_average_of_distributions_does_not_go_with_sigmoids() -> None:
    model = ModelConfig(fusion="weighted")
    with pytest.raises(ValueError, match=r"^model\.fusion weighted averages distributions"):
        TrainConfig(model=model, loss=LossConfig(kind="binary"))
    for name in ("average", "product"):
        TrainConfig(model=replace(model, fusion=name), loss=LossConfig(kind="binary"))


def test_the_average_of_sigmoids_is_of_each_class_by_itself() -> None:
    ln3 = math.log(3)  # a logit of ln 3 is 3/4, of -ln 3 a quarter
    fusion = AverageFusion(2, 2, 2, 0.0, binary=True)
    of_video, of_audio = torch.tensor([[ln3, 0.0]] * 4), torch.tensor([[-ln3, ln3]] * 4)
    has = PATTERNS[:, :1], PATTERNS[:, 1:]
    found = fusion.combined(of_video, of_audio, *has).sigmoid()
    expected = {(1, 1): [0.5, 0.625], (1, 0): [0.75, 0.5], (0, 1): [0.25, 0.75],
                (0, 0): [0.5, 0.5]}  # fmt: skip
    for row, pattern in zip(found, PATTERNS.int().tolist(), strict=True):
        torch.testing.assert_close(row, torch.tensor(expected[tuple(pattern)]))
    far = torch.tensor([[90.0, -200.0]] * 4)  # float32 has 1 - sigmoid(90) = 0
    both = fusion.combined(far, far, torch.tensor([[True]] * 4), torch.tensor([[True]] * 4))
    torch.testing.assert_close(both, far)


# The whole way ------------------------------------------------------------------------------------


class Frames(Encoder):
    """The mean of each patch, as wide as nothing else here."""

    def __init__(self) -> None:
        super().__init__()
        self.stages, self.num_features = nn.ModuleList([nn.Conv3d(3, 9, (1, 8, 8), 8)]), 9
        self.spec = VideoSpec()

    def pool(self, x: Tensor) -> Tensor:
        return x.relu().mean((2, 3, 4))


class Spectrograms(Encoder):
    """The same for audio."""

    def __init__(self) -> None:
        super().__init__()
        self.stages, self.num_features = nn.ModuleList([nn.Conv2d(1, 4, 4, 4)]), 4
        self.spec = AudioSpec()

    def pool(self, x: Tensor) -> Tensor:
        return x.relu().mean((2, 3))


MBT = {"width": 8, "depth": 2, "heads": 2, "patch": 16, "num_bottlenecks": 1, "fusion_layer": 1}
ENCODERS: dict[str, dict[str, Any]] = {
    "avmix": {"video": VideoEncoderConfig(channels=[4, 6]),
              "audio": AudioEncoderConfig(channels=[4, 5])},
    "python": {"video": VideoEncoderConfig(encoder=f"python:{__name__}:Frames"),
               "audio": AudioEncoderConfig(encoder=f"python:{__name__}:Spectrograms")},
    "joint": {"joint": JointEncoderConfig(encoder="avmix:mbt", options=MBT)},
}  # fmt: skip
CLIP = ClipConfig(num_frames=2, crop=16, short_side=16, duration_seconds=0.3)


def config_of(encoders: str, name: str, out: Path, **options: Any) -> TrainConfig:
    base = TrainConfig()
    return replace(
        base,
        clip=CLIP,
        model=ModelConfig(fusion=name, **ENCODERS[encoders], **options),  # type: ignore[arg-type]
        run=replace(base.run, out=str(out)),
    )


@pytest.fixture(scope="module")
def batch() -> Batch:
    """Four clips: two whole, one silent, one that shows nothing."""
    draw = torch.Generator().manual_seed(0)
    return Batch(
        video=torch.randint(0, 256, (4, 2, 16, 16, 3), dtype=torch.uint8, generator=draw),
        audio=torch.randn(4, 4800, generator=draw), target=torch.eye(4)[:, :CLASSES],
        has_video=torch.tensor([True, True, True, False]),
        has_audio=torch.tensor([True, True, False, True]),
        row=torch.arange(4), source=torch.arange(4),
    )  # fmt: skip


def step(model: LateFusionClassifier, optimizer: torch.optim.Optimizer, given: Any) -> Heads:
    """Of mixed features, as `mixup@feature` mixes them."""
    torch.manual_seed(1)  # dropout
    mix = HiddenMix(None, None, torch.tensor([1, 0, 3, 2], dtype=torch.int32),
                    torch.full((4,), 0.7), torch.full((4,), 0.7))  # fmt: skip
    heads = model(*given, mix).logits
    torch.cat([*heads]).log_softmax(1)[:, 0].mean().neg().backward()
    clip_gradients(towers_of(model), 5.0)
    optimizer.step()
    optimizer.zero_grad()
    return heads


def options_of(encoders: str, name: str) -> dict[str, Any]:
    """The usual ones with avmix's encoders and the joint one, others with the other two."""
    if encoders != "python":
        return {}
    heads = {"heads": "shared"} if name in JOINT_FUSIONS else {}
    return {"missing": "learned", "shared_width": 6, **heads}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("encoders", ENCODERS)
def test_a_fusion_trains_is_saved_goes_on_and_is_evaluated(encoders, name, batch, tmp_path) -> None:
    config = config_of(encoders, name, tmp_path, **options_of(encoders, name))
    torch.manual_seed(0)
    model = build_model(config.model, CLASSES, clip=config.clip, frontend=config.frontend).train()
    frontend = Frontend(config.frontend, config.clip.sample_rate)
    given = (*frontend(batch), batch.has_video, batch.has_audio)
    optimizer = build_optimizer(model, OptimConfig(lr=0.01), config.model)
    step(model, optimizer, given)
    checkpoint.save(tmp_path / "last.pt", Checkpoint(
        config=config, classes=["a", "b", "c"], split_sha256="", num_steps=2, epoch=0, step=1,
        best=-1.0, model=model.state_dict(), optimizer=optimizer.state_dict(),
    ))  # fmt: skip
    first = {key: value.clone() for key, value in model.state_dict().items()}
    step(model, optimizer, given)

    state = checkpoint.load(tmp_path / "last.pt")
    assert state.config == config
    again = build_model(
        state.config.model, CLASSES, clip=config.clip, frontend=config.frontend, load_weights=False
    ).train()
    checkpoint.load_weights(tmp_path / "last.pt", state, again)
    resumed = build_optimizer(again, OptimConfig(lr=0.01), config.model)
    resumed.load_state_dict(state.optimizer)
    step(again, resumed, given)
    weights = model.state_dict()
    assert all(torch.equal(weights[key], value) for key, value in again.state_dict().items())
    unmoved = [key for key, _ in model.named_parameters() if torch.equal(weights[key], first[key])]
    assert unmoved == []

    model.eval()
    with torch.inference_mode():
        rows = _eval_rows(model, frontend, batch)
    assert rows.shape == (5, 4, CLASSES)
    assert rows.isfinite().all()


def test_an_old_checkpoint_has_the_fusion_of_its_time(tmp_path: Path) -> None:
    config = config_of("avmix", "concat", tmp_path)
    model = build_model(config.model, CLASSES)
    assert isinstance(model.fusion, JointFusion)
    assert [key for key in model.state_dict() if key.startswith("fusion.")] == [
        "fusion.norm_video.weight", "fusion.norm_video.bias", "fusion.norm_video.mean",
        "fusion.norm_video.var", "fusion.norm_audio.weight", "fusion.norm_audio.bias",
        "fusion.norm_audio.mean", "fusion.norm_audio.var", "fusion.fused.weight",
        "fusion.fused.bias", "fusion.video.weight", "fusion.video.bias", "fusion.audio.weight",
        "fusion.audio.bias",
    ]  # fmt: skip


@pytest.mark.parametrize("whole", [True, False])
def test_features_without_a_gradient_are_normalised_to_the_same_bits(whole: bool) -> None:
    """Where every clip has the modality nothing is blanked, unless a gradient goes through it."""
    torch.manual_seed(0)
    x, present = torch.randn(6, 5), torch.ones(6, dtype=torch.bool)
    present[2] = whole
    grown, weight = torch.randn(6, 5), torch.randn(5)
    found = []
    for needs_gradient in (False, True):
        norm = FeatureNorm(5)
        norm.weight.data.copy_(weight)
        y = norm(x.clone().requires_grad_(needs_gradient), present)
        (y * grown).sum().backward()
        assert norm.weight.grad is not None
        assert norm.bias.grad is not None
        found.append([y, norm.mean, norm.var, norm.weight.grad, norm.bias.grad])
        assert (y[2] == 0).all() == (not whole)
    assert all(a.equal(b) for a, b in zip(*found, strict=True))
