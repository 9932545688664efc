"""One lambda for pictures, spectrogram and label: recovered from each, equal to the plan's."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from jaxtyping import TypeCheckError

from avmix.config import MixConfig
from avmix.mix import MixPlan, apply, draw_plan, mixed_targets, mixup_plan, unmixed_plan
from avmix.rng import rng

SIZES = (1, 2, 3, 64)


def inputs(size, dtype=torch.float32):
    generator = torch.Generator().manual_seed(size)
    video = torch.randn(size, 3, 2, 4, 4, generator=generator).to(dtype)
    audio = torch.randn(size, 1, 8, 6, generator=generator).to(dtype)
    # A class of its own for every clip, so that the label's lambda can be read off.
    return video, audio, torch.eye(size)


def plan_of(size, alpha=1.0, **config):
    has = [True] * size
    return draw_plan(MixConfig(alpha=alpha, **config), has_video=has, has_audio=has,
                     rng=rng(size, 0, "mix"))  # fmt: skip


def recovered(before, after, partner):
    """Lambda of every clip by least squares: after - b = lambda (a - b)."""
    own = before.double().flatten(1)
    other = own[list(partner)]
    change, mixed = own - other, after.double().flatten(1) - other
    return ((change * mixed).sum(1) / (change**2).sum(1)).tolist()


@pytest.mark.parametrize(("dtype", "within"), [(torch.float32, 1e-5), (torch.bfloat16, 0.02)])
@pytest.mark.parametrize("size", SIZES)
def test_the_same_lambda_is_in_pictures_sound_and_label(size, dtype, within):
    plan = plan_of(size)
    video, audio, target = inputs(size, dtype)
    mixed_video, mixed_audio = apply(plan, video=video, audio=audio)
    labels = mixed_targets(plan, target)
    mixed = [i for i in range(size) if plan.partner[i] != i]
    assert len(mixed) == size - size % 2
    signals = {"video": (video, mixed_video), "audio": (audio, mixed_audio)}
    signals |= {head: (target, label) for head, label in labels._asdict().items()}
    for name, (before, after) in signals.items():
        found = recovered(before, after, plan.partner)
        for i in mixed:
            assert found[i] == pytest.approx(plan.lam[i], abs=within), (name, i)
    for label in labels:
        assert label.sum(1).tolist() == pytest.approx([1.0] * size)


@pytest.mark.parametrize("size", [2, 3, 64])
def test_both_modalities_and_the_label_are_changed(size):
    plan = plan_of(size)
    video, audio, target = inputs(size)
    mixed_video, mixed_audio = apply(plan, video=video, audio=audio)
    for i in range(size):
        alone = plan.partner[i] == i
        assert torch.equal(mixed_video[i], video[i]) == alone
        assert torch.equal(mixed_audio[i], audio[i]) == alone
        assert torch.equal(mixed_targets(plan, target).fused[i], target[i]) == alone


def test_lambda_is_the_weight_of_the_own_signal():
    plan = mixup_plan([1, 0], [0.75, 0.5], has_video=[True] * 2, has_audio=[True] * 2)
    video = torch.tensor([8.0, 16.0]).view(2, 1, 1, 1, 1)
    audio = torch.tensor([0.0, 4.0]).view(2, 1, 1, 1)
    mixed_video, mixed_audio = apply(plan, video=video, audio=audio)
    assert mixed_video.flatten().tolist() == [10.0, 12.0]
    assert mixed_audio.flatten().tolist() == [1.0, 2.0]
    assert mixed_targets(plan, torch.eye(2)).fused.tolist() == [[0.75, 0.25], [0.5, 0.5]]


def test_a_class_that_both_share_keeps_its_whole_weight():
    plan = mixup_plan([1, 0], [0.7, 0.2], has_video=[True] * 2, has_audio=[True] * 2)
    label = mixed_targets(plan, torch.tensor([[1.0, 1.0, 0.0], [1.0, 0.0, 1.0]])).fused
    torch.testing.assert_close(label, torch.tensor([[1.0, 0.7, 0.3], [1.0, 0.8, 0.2]]))


@pytest.mark.parametrize("size", SIZES)
def test_lambda_one_is_the_clip_itself_and_zero_the_partner_to_the_bit(size):
    partner = [size - 1 - i for i in range(size)]
    lam = [1.0 if i % 2 else 0.0 for i in range(size)]
    plan = mixup_plan(partner, lam, has_video=[True] * size, has_audio=[True] * size)
    video, audio, target = inputs(size)
    mixed_video, mixed_audio = apply(plan, video=video, audio=audio)
    for i, j in enumerate(partner):
        source = i if i % 2 else j
        assert torch.equal(mixed_video[i], video[source])
        assert torch.equal(mixed_audio[i], audio[source])
        assert torch.equal(mixed_targets(plan, target).fused[i], target[source])


@pytest.mark.parametrize("size", SIZES)
def test_an_unmixed_plan_changes_nothing(size):
    video, audio, target = inputs(size)
    same_video, same_audio = apply(unmixed_plan(size), video=video, audio=audio)
    assert torch.equal(same_video, video)
    assert torch.equal(same_audio, audio)
    assert all(torch.equal(t, target) for t in mixed_targets(unmixed_plan(size), target))


@pytest.mark.parametrize("size", SIZES)
def test_inputs_are_left_as_they_are(size):
    before = inputs(size)
    video, audio, target = (x.clone() for x in before)
    plan = plan_of(size)
    apply(plan, video=video, audio=audio)
    mixed_targets(plan, target)
    assert all(torch.equal(x, y) for x, y in zip((video, audio, target), before, strict=True))


@pytest.mark.parametrize(
    ("video_i", "video_j", "audio_i", "audio_j"), list(itertools.product([True, False], repeat=4))
)
def test_what_a_partner_lacks_is_not_mixed(video_i, video_j, audio_i, audio_j):
    plan = mixup_plan([1, 0], [0.3, 0.6], has_video=[video_i, video_j],
                      has_audio=[audio_i, audio_j])  # fmt: skip
    both_video, both_audio = video_i and video_j, audio_i and audio_j
    assert plan.lam_video == ((0.3, 0.6) if both_video else (1.0, 1.0))
    assert plan.lam_audio == ((0.3, 0.6) if both_audio else (1.0, 1.0))
    assert plan.lam == ((0.3, 0.6) if both_video or both_audio else (1.0, 1.0))


def test_a_partner_without_sound_leaves_the_others_sound_alone():
    plan = mixup_plan([1, 0, 2], [0.3, 0.6, 0.5], has_video=[True] * 3,
                      has_audio=[True, False, True])  # fmt: skip
    video, audio, target = inputs(3)
    mixed_video, mixed_audio = apply(plan, video=video, audio=audio)
    labels = mixed_targets(plan, target)
    assert torch.equal(mixed_audio, audio)
    assert torch.equal(labels.audio, target)
    torch.testing.assert_close(mixed_video[0], 0.3 * video[0] + 0.7 * video[1])
    assert labels.fused[0].tolist() == pytest.approx([0.3, 0.7, 0.0])
    assert torch.equal(labels.fused, labels.video)


@given(st.integers(1, 70), st.integers(0, 10_000))
def test_partners_are_pairs_and_one_alone_when_odd(size, seed):
    has = [True] * size
    plan = draw_plan(MixConfig(), has_video=has, has_audio=has, rng=rng(seed, 0, "mix"))
    assert all(plan.partner[plan.partner[i]] == i for i in range(size))
    alone = [i for i in range(size) if plan.partner[i] == i]
    assert len(alone) == size % 2
    assert all(plan.lam[i] == plan.lam_video[i] == plan.lam_audio[i] == 1.0 for i in alone)


def test_every_clip_is_as_likely_a_partner_as_any_other():
    partners = np.array([plan.partner for plan in _plans(MixConfig(), 900, size=4)])
    for i in range(4):
        counts = np.bincount(partners[:, i], minlength=4)
        assert counts[i] == 0
        # 300 expected of each; 5 standard deviations are 71.
        assert np.abs(np.delete(counts, i) - 300).max() < 71


@pytest.mark.parametrize("alpha", [0.2, 1.0, 8.0])
def test_lambda_is_beta_distributed(alpha):
    lam = np.array([plan.lam for plan in _plans(MixConfig(alpha=alpha), 400, size=64)]).ravel()
    variance = 1 / (4 * (2 * alpha + 1))
    assert lam.mean() == pytest.approx(0.5, abs=5 * (variance / lam.size) ** 0.5)
    assert lam.var() == pytest.approx(variance, rel=0.03)
    # Clips of a pair have lambdas of their own: not one, nor one and its complement.
    assert abs(np.corrcoef(lam[0::2], lam[1::2])[0, 1]) < 0.05


@pytest.mark.parametrize("config", [{"probability": 0.0}, {"method": "none"}])
def test_without_mixing_every_clip_is_its_own(config):
    assert plan_of(5, **config) == unmixed_plan(5)


def test_the_share_of_mixed_batches_is_the_probability():
    plans = _plans(MixConfig(probability=0.3), 600, size=2)
    mixed = sum(plan != unmixed_plan(2) for plan in plans)
    assert 180 - 56 < mixed < 180 + 56  # five standard deviations of a binomial


def test_partners_and_lambdas_do_not_depend_on_the_probability():
    always, often = (
        [_drawn(MixConfig(probability=p), 6, rng(i, 0, "mix")) for i in range(40)]
        for p in (1.0, 0.5)
    )
    pairs = [(a, b) for a, b in zip(always, often, strict=True) if b != unmixed_plan(6)]
    assert 5 < len(pairs) < 35
    assert all(a == b for a, b in pairs)


def _drawn(config, size, generator):
    return draw_plan(config, has_video=[True] * size, has_audio=[True] * size, rng=generator)


def _plans(config, number, size):
    generator = rng(0, 0, "mix")
    return [_drawn(config, size, generator) for _ in range(number)]


def test_a_plan_for_another_batch_size_is_refused():
    video, audio, target = inputs(3)
    with pytest.raises(ValueError, match="for 2 clips, the tensor has 3"):
        apply(plan_of(2), video=video, audio=audio)
    with pytest.raises(ValueError, match="for 2 clips, the tensor has 3"):
        mixed_targets(plan_of(2), target)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"partner": (1, 2)}, r"partner must be in \[0, 2\)"),
        ({"partner": (-1, 0)}, r"partner must be in \[0, 2\)"),
        ({"lam": (0.5,)}, "lam has 1 values for 2 partners"),
        ({"lam_audio": (0.5, 0.5, 0.5)}, "lam_audio has 3 values"),
        ({"lam_video": (0.5, 1.5)}, r"lam_video must be in \[0, 1\]"),
        ({"lam": (0.5, float("nan"))}, r"lam must be in \[0, 1\]"),
    ],
)
def test_a_plan_that_cannot_be_carried_out_is_refused(change, message):
    good = {"partner": (1, 0), "lam": (0.5, 0.5), "lam_video": (0.5, 0.5), "lam_audio": (0.5, 0.5)}
    with pytest.raises(ValueError, match=message):
        MixPlan(**{**good, **change})


def test_pictures_and_sound_of_wrong_shape_are_refused():
    video, audio, _ = inputs(2)
    with pytest.raises(TypeCheckError):
        apply(plan_of(2), video=video, audio=audio[:, 0])
    with pytest.raises(TypeCheckError):
        apply(plan_of(2), video=video, audio=audio[:1])
