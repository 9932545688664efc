"""The network: shapes, what a missing modality may change, and its fusion written out."""

import os
import subprocess
import sys

import pytest
import torch
from jaxtyping import TypeCheckError
from torch import nn

from avmix.config import AudioEncoderConfig, ModelConfig, VideoEncoderConfig
from avmix.models import LateFusionClassifier, build_model
from avmix.models.audio_encoder import AudioEncoder
from avmix.models.fusion import ConcatFusion, FeatureNorm
from avmix.models.video_encoder import VideoEncoder

SMALL = ModelConfig(
    video=VideoEncoderConfig(channels=[4, 8]), audio=AudioEncoderConfig(channels=[4, 6])
)


def model_of(config: ModelConfig = SMALL, classes: int = 5) -> LateFusionClassifier:
    torch.manual_seed(0)
    model = build_model(config, classes)
    for norm in (model.fusion.norm_video, model.fusion.norm_audio):
        nn.init.normal_(norm.weight)  # as after training: not ones and zeros
        nn.init.normal_(norm.bias)
    model.train()
    for _ in range(2):  # statistics that are not those of the start
        model(*inputs(4))
    return model.eval()


def inputs(size: int, seed: int = 0, *, has_video=None, has_audio=None):
    generator = torch.Generator().manual_seed(seed)
    return (
        torch.randn(size, 3, 4, 16, 16, generator=generator),
        torch.randn(size, 1, 16, 20, generator=generator),
        torch.tensor([True] * size if has_video is None else has_video),
        torch.tensor([True] * size if has_audio is None else has_audio),
    )


@pytest.mark.parametrize("size", [1, 2, 3, 64])
def test_every_head_has_a_logit_per_class(size):
    heads = model_of()(*inputs(size)).logits
    assert [head.shape for head in heads] == [(size, 5)] * 3


@pytest.mark.parametrize("frames", [1, 2, 8, 9])
@pytest.mark.parametrize("side", [8, 17, 72])
def test_the_video_encoder_takes_any_size(frames, side):
    encoder = VideoEncoder([4, 4, 6, 8]).eval()
    assert encoder(torch.randn(2, 3, frames, side, side)).shape == (2, 8)
    assert encoder.num_features == 8


@pytest.mark.parametrize(("mels", "columns"), [(1, 1), (16, 3), (64, 123)])
def test_the_audio_encoder_takes_any_size(mels, columns):
    encoder = AudioEncoder([4, 4, 6, 8]).eval()
    assert encoder(torch.randn(2, 1, mels, columns)).shape == (2, 8)
    assert encoder.num_features == 8


@pytest.mark.parametrize(
    ("channels", "millions"), [([16, 32, 64, 128], 1.182767), ([8, 16, 32, 64], 0.299166)]
)
def test_the_number_of_parameters_is_known(channels, millions):
    model = build_model(
        ModelConfig(
            video=VideoEncoderConfig(channels=channels), audio=AudioEncoderConfig(channels=channels)
        ),
        10,
    )
    assert sum(p.numel() for p in model.parameters()) == millions * 1e6


def test_a_2plus1d_pair_has_as_many_weights_as_the_convolution_it_stands_for():
    # Tran et al.: middle = floor(27 * in * out / (9 * in + 3 * out)).
    encoder = VideoEncoder([16, 32])
    pair = [m for m in encoder.stages[1].modules() if isinstance(m, nn.Conv3d)][:2]
    assert [m.out_channels for m in pair] == [27 * 16 * 32 // (9 * 16 + 3 * 32), 32]
    weights = sum(m.weight.numel() for m in pair)
    assert weights == pytest.approx(27 * 16 * 32, rel=0.02)


def test_what_is_in_place_of_a_missing_modality_changes_no_present_head():
    model = model_of()
    has_video, has_audio = [True, False, True, False], [True, True, False, False]
    video, audio, *has = inputs(4, has_video=has_video, has_audio=has_audio)
    heads = model(video, audio, *has).logits
    noise_video, noise_audio, *_ = inputs(4, seed=1)
    video = torch.where(has[0].view(-1, 1, 1, 1, 1), video, noise_video)
    audio = torch.where(has[1].view(-1, 1, 1, 1), audio, noise_audio)
    for before, after in zip(heads, model(video, audio, *has).logits, strict=True):
        assert torch.equal(before, after)
    # The same noise does change the heads of those who have the modality.
    present = model(noise_video, noise_audio, *has).logits
    assert (heads.video[[0, 2]] != present.video[[0, 2]]).all()
    assert (heads.audio[[0, 1]] != present.audio[[0, 1]]).all()


def test_fused_logits_are_an_affine_map_of_both_normalised_features():
    model = model_of()
    video, audio, has_video, has_audio = inputs(4, has_audio=[True, False, True, True])
    found = model(video, audio, has_video, has_audio).logits.fused

    def normalised(x, norm):
        return (x - norm.mean) / (norm.var + 1e-5).sqrt() * norm.weight + norm.bias

    fusion = model.fusion
    assert isinstance(fusion, ConcatFusion)
    v = normalised(model.video(video), fusion.norm_video)
    a = normalised(model.audio(audio), fusion.norm_audio)
    a[1] = 0
    weight, split = fusion.fused.weight, model.video.num_features
    expected = v @ weight[:, :split].T + a @ weight[:, split:].T + fusion.fused.bias
    torch.testing.assert_close(found, expected)


def norms(num_features: int) -> tuple[FeatureNorm, nn.BatchNorm1d]:
    """Ours, and torch's with the same weight and bias, which are not ones and zeros."""
    generator = torch.Generator().manual_seed(3)
    ours, theirs = FeatureNorm(num_features), nn.BatchNorm1d(num_features)
    with torch.no_grad():
        ours.weight.copy_(torch.randn(num_features, generator=generator))
        ours.bias.copy_(torch.randn(num_features, generator=generator))
        theirs.weight.copy_(ours.weight)
        theirs.bias.copy_(ours.bias)
    return ours, theirs


@pytest.mark.parametrize("present", [[1] * 5, [1, 0, 1, 1, 0], [0, 0, 1, 0, 1]])
def test_features_are_normalised_over_the_clips_that_have_the_modality(present):
    ours, theirs = norms(3)
    has = torch.tensor(present, dtype=torch.bool)
    batches = 5 + 2 * torch.randn(3, 5, 3, generator=torch.Generator().manual_seed(0))
    for x in batches:
        mine, other = x.clone().requires_grad_(), x[has].requires_grad_()
        found, expected = ours(mine, has), theirs(other)
        assert (found[~has] == 0).all()
        torch.testing.assert_close(found[has], expected)
        found.square().sum().backward()
        expected.square().sum().backward()
        assert mine.grad is not None
        torch.testing.assert_close(mine.grad[has], other.grad)
        assert (mine.grad[~has] == 0).all()
    torch.testing.assert_close(ours.mean, theirs.running_mean)
    torch.testing.assert_close(ours.var, theirs.running_var)
    torch.testing.assert_close(ours.weight.grad, theirs.weight.grad)
    ours.eval()
    theirs.eval()
    torch.testing.assert_close(ours(batches[0], has)[has], theirs(batches[0][has]))


@pytest.mark.parametrize("present", [[0, 0, 0], [0, 1, 0]])
def test_fewer_than_two_clips_leave_the_running_statistics_alone(present):
    ours, _ = norms(2)
    has = torch.tensor(present, dtype=torch.bool)
    found = ours(torch.full((3, 2), 7.0), has)
    assert torch.equal(found, torch.where(has[:, None], ours.bias, 0))  # the clip is its own mean
    assert ours.mean.tolist() == [0, 0]
    assert ours.var.tolist() == [1, 1]


def test_what_is_in_place_of_a_missing_feature_reaches_no_statistics():
    ours, _ = norms(2)
    has = torch.tensor([True, False, True])
    x = torch.tensor([[1.0, 2.0], [float("nan"), float("inf")], [3.0, 6.0]])
    assert ours(x, has).isfinite().all()
    # Momentum 0.1: means 2 and 4, variances (n - 1) 2 and 8.
    torch.testing.assert_close(ours.mean, torch.tensor([0.2, 0.4]))
    torch.testing.assert_close(ours.var, torch.tensor([0.9 + 0.2, 0.9 + 0.8]))
    assert ours.eval()(x, has).isfinite().all()


class Former(FeatureNorm):
    """The same formula, which lets through to the gradient whatever is in place of a feature."""

    def forward(self, x, present):
        keep = present[:, None]
        mean, var = (
            self._statistics(x, present.sum(), ~keep) if self.training else (self.mean, self.var)
        )
        normalised = (x - mean) * (var + 1e-5).rsqrt() * self.weight + self.bias
        return normalised.masked_fill(~keep, 0)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("seed", range(8))
def test_of_finite_features_outputs_and_gradients_are_the_former_ones_to_the_bit(seed, training):
    draw = torch.Generator().manual_seed(seed)
    x = 3 * torch.randn(16, 32, generator=draw) + 10 * torch.randn(32, generator=draw)
    weight, towards = torch.randn(2, 16, 32, generator=draw)
    has = torch.rand(16, generator=draw) < (0.5, 0.9, 1.0, 0.1)[seed % 4]
    found = []
    for norm in (norms(32)[0], Former(32)):
        norm.load_state_dict(norms(32)[0].state_dict())
        norm.train(training)
        given = x.clone().requires_grad_()
        feature = given * 1.0  # of an encoder; a contrastive loss uses it, too
        y = norm(feature, has)
        (y * weight).square().sum().backward(retain_graph=True)
        (y.square() * weight).sum().add((feature * towards).square().sum()).backward()
        found.append([y, given.grad, norm.weight.grad, norm.bias.grad, norm.mean, norm.var])
    for ours, former in zip(*found, strict=True):
        assert ours is not None
        assert torch.equal(ours, former)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "3e38"])
def test_what_is_in_place_of_a_missing_feature_reaches_no_gradient(value, training):
    norm = norms(2)[0].train(training)
    has = torch.tensor([True, True, False])
    x = torch.tensor([[1.0, 2.0], [3.0, 5.0], [float(value), 1.0]], requires_grad=True)
    other = torch.tensor([[1.0, 2.0], [3.0, 5.0], [0.5, 1.0]], requires_grad=True)
    found = []
    for one in (x, other):
        norm.zero_grad()
        norm(one, has).square().sum().backward()
        found.append([one.grad, norm.weight.grad, norm.bias.grad])
    for ours, expected in zip(*found, strict=True):
        assert ours is not None
        assert torch.equal(ours, expected)
        assert ours.isfinite().all()


def test_a_present_feature_that_is_not_finite_is_not_hidden():
    norm = norms(2)[0]
    y = norm(torch.tensor([[1.0, 2.0], [float("nan"), 5.0]]), torch.tensor([True, True]))
    assert y.isnan().any()


def test_a_head_of_a_missing_modality_says_only_its_bias():
    model = model_of()
    heads = model(*inputs(2, has_video=[True, False], has_audio=[False, False])).logits
    fusion = model.fusion
    assert isinstance(fusion, ConcatFusion)
    assert torch.equal(heads.audio, fusion.audio.bias.expand(2, -1))
    assert torch.equal(heads.video[1], fusion.video.bias)
    assert torch.equal(heads.fused[1], fusion.fused.bias)


def test_encoding_then_fusing_is_the_whole_network():
    model = model_of()
    video, audio, *has = inputs(3, has_audio=[True, False, True])
    features, whole = model.encode(video, audio), model(video, audio, *has)
    for x, y in zip(model.fusion(*features, *has), whole.logits, strict=True):
        assert torch.equal(x, y)
    assert all(torch.equal(x, y) for x, y in zip(features, whole.features, strict=True))


def test_a_gradient_reaches_every_parameter():
    model = model_of().train()
    torch.cat([*model(*inputs(3)).logits]).square().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_without_a_modality_its_parameters_still_take_part():
    # Distributed training waits for a gradient of every parameter, be it zero.
    model = model_of().train()
    heads = model(*inputs(3, has_audio=[False] * 3)).logits
    torch.cat([*heads]).square().sum().backward()
    assert all(p.grad is not None for p in model.parameters())
    assert all((p.grad == 0).all() for p in model.audio.parameters())


def test_in_eval_mode_a_clip_alone_is_as_it_is_in_a_batch():
    model = model_of()
    batch = inputs(4)
    one, same = (model(*(x[:1] for x in batch)).logits for _ in range(2))
    for alone, again, together in zip(one, same, model(*batch).logits, strict=True):
        assert torch.equal(alone, again)
        torch.testing.assert_close(alone[0], together[0])


def test_dropout_acts_in_training_only():
    model = model_of(
        ModelConfig(
            video=VideoEncoderConfig(channels=[4, 8]),
            audio=AudioEncoderConfig(channels=[4, 6]),
            dropout=0.5,
        )
    )
    fusion, features = model.fusion, model.encode(*inputs(4)[:2])
    has = inputs(4)[2:]
    assert torch.equal(fusion(*features, *has).fused, fusion(*features, *has).fused)
    fusion.train()
    assert not torch.equal(fusion(*features, *has).fused, fusion(*features, *has).fused)


def test_wrong_shapes_are_refused():
    video, audio, has_video, has_audio = inputs(2)
    for wrong in (
        (video[:, :, 0], audio, has_video, has_audio),
        (video, audio[:1], has_video, has_audio),
        (video, audio, has_video.float(), has_audio),
    ):
        with pytest.raises(TypeCheckError):
            model_of()(*wrong)


GRADIENTS = """
import torch
from avmix.models.video_encoder import VideoEncoder

torch.manual_seed(0)
torch.set_num_threads(1)
encoder, found = VideoEncoder([8, 16]), []
video, weight = torch.randn(4, 3, 4, 32, 32), torch.randn(4, 16)
for reduced in (False, True):
    encoder.zero_grad()
    with torch.autocast("cpu", torch.bfloat16, enabled=reduced):
        features = encoder(video)
    (features.float() * weight).sum().backward()
    found.append([p.grad.double().flatten() for p in encoder.parameters() if p.ndim > 1])
for full, other in zip(*found, strict=True):
    print(float(torch.nn.functional.cosine_similarity(full, other, 0)))
"""


@pytest.mark.long
@pytest.mark.parametrize("isa", ["AVX512_CORE_BF16", "AVX2"])
def test_bfloat16_on_a_cpu_gives_the_gradients_of_float32(isa: str) -> None:
    # As processors without AMX compute it, whatever this one has. The later stage has two time
    # steps, where oneDNN's own gradient has a cosine of 0.0 to 0.5.
    done = subprocess.run([sys.executable, "-c", GRADIENTS], capture_output=True, text=True,
                          env={**os.environ, "ONEDNN_MAX_CPU_ISA": isa})  # fmt: skip
    assert done.returncode == 0, done.stderr
    cosines = [float(line) for line in done.stdout.split()]
    assert len(cosines) == 8
    assert min(cosines) > 0.95
