"""Losses against a loop from the formula, and what missing modalities do to them."""

import math

import pytest
import torch
from jaxtyping import TypeCheckError

from avmix.config import LossConfig
from avmix.mix import MixPlan, Part
from avmix.models.classifier import Features, Output
from avmix.training.losses import (
    consistency_losses,
    head_losses,
    needs_clean,
    objective,
    presence,
    where_known,
)
from avmix.types import Heads

ALL = torch.tensor([True, True, True])


def heads_of(seed: int = 0, size: int = 3, classes: int = 4) -> tuple[Heads, Heads]:
    generator = torch.Generator().manual_seed(seed)
    logits = [torch.randn(size, classes, generator=generator) * 3 for _ in range(3)]
    target = [torch.rand(size, classes, generator=generator) for _ in range(3)]
    return Heads(*logits), Heads(*(t / t.sum(1, keepdim=True) for t in target))


def by_formula(parts, smoothing: float) -> float:
    """Mean over present clips of -sum over classes of target * ln(softmax)."""
    total, number = 0.0, 0
    for clip, wanted, here in zip(*(part.tolist() for part in parts), strict=True):
        if not here:
            continue
        log_sum = math.log(sum(math.exp(x) for x in clip))
        smooth = [y * (1 - smoothing) + smoothing / len(wanted) for y in wanted]
        total += -sum(y * (x - log_sum) for x, y in zip(clip, smooth, strict=True))
        number += 1
    return total / number


def test_who_can_say_something():
    present = presence(torch.tensor([True, True, False, False]),
                       torch.tensor([True, False, True, False]))  # fmt: skip
    assert present.fused.tolist() == [True, True, True, False]
    assert present.video.tolist() == [True, True, False, False]
    assert present.audio.tolist() == [True, False, True, False]


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_every_head_has_its_own_loss(smoothing):
    logits, target = heads_of()
    present = presence(torch.tensor([True, True, False]), torch.tensor([False, True, True]))
    found = head_losses(logits, target, present, smoothing)
    for name in Heads._fields:
        parts = [getattr(heads, name) for heads in (logits, target, present)]
        assert getattr(found, name).item() == pytest.approx(by_formula(parts, smoothing), rel=1e-5)


def test_by_hand():
    # Two classes, logits 0 and ln 3: probabilities 1/4 and 3/4.
    logits = torch.tensor([[0.0, math.log(3)]])
    target = torch.tensor([[0.25, 0.75]])
    heads = Heads(logits, logits, logits), Heads(target, target, target)
    here = torch.tensor([True])
    loss = head_losses(*heads, presence(here, here), 0.0).fused
    assert loss.item() == pytest.approx(0.25 * math.log(4) + 0.75 * math.log(4 / 3))


def test_smoothing_by_hand():
    # A one-hot label of four classes, smoothed by 0.2, is 0.85 and three times 0.05.
    logits = torch.tensor([[2.0, 0.0, 0.0, 0.0]])
    target = torch.tensor([[1.0, 0.0, 0.0, 0.0]])
    here = torch.tensor([True])
    heads = Heads(logits, logits, logits), Heads(target, target, target)
    log_sum = math.log(math.exp(2) + 3)
    expected = 0.85 * (log_sum - 2) + 3 * 0.05 * log_sum
    assert head_losses(*heads, presence(here, here), 0.2).video.item() == pytest.approx(expected)


def test_a_missing_modality_gives_no_loss_and_no_gradient():
    logits, target = heads_of()
    leaves = Heads(*(x.requires_grad_() for x in logits))
    losses = head_losses(leaves, target, presence(ALL, torch.tensor([True, False, True])), 0.0)
    objective(LossConfig(), losses, {}).backward()
    assert leaves.audio.grad is not None
    assert (leaves.audio.grad[1] == 0).all()
    assert (leaves.audio.grad[[0, 2]].abs().sum(1) > 0).all()


def test_a_head_without_any_clip_has_loss_zero_and_a_finite_gradient():
    logits, target = heads_of()
    leaves = Heads(*(x.requires_grad_() for x in logits))
    losses = head_losses(leaves, target, presence(ALL, ~ALL), 0.1)
    assert losses.audio.item() == 0
    objective(LossConfig(), losses, {}).backward()
    assert leaves.audio.grad is not None
    assert (leaves.audio.grad == 0).all()
    assert leaves.fused.grad is not None
    assert leaves.fused.grad.isfinite().all()


def test_the_objective_is_the_weighted_sum():
    losses = Heads(torch.tensor(1.0), torch.tensor(10.0), torch.tensor(100.0))
    config = LossConfig(fused=2.0, video=0.5, audio=0.25)
    assert objective(config, losses, {}).item() == 2 + 5 + 25
    config = LossConfig(fused=2.0, video=0.5, audio=0.25, agreement=3.0, contrastive=0.5)
    more = {"agreement": torch.tensor(1000.0), "contrastive": torch.tensor(20.0)}
    assert objective(config, losses, more).item() == 2 + 5 + 25 + 3000 + 10


def test_half_precision_logits_give_a_float32_loss():
    logits, target = heads_of()
    half = Heads(*(x.bfloat16() for x in logits))
    exact = Heads(*(x.float() for x in half))
    present = presence(ALL, ALL)
    for ours, theirs in zip(head_losses(half, target, present, 0.0),
                            head_losses(exact, target, present, 0.0), strict=True):  # fmt: skip
        assert ours.dtype == torch.float32
        assert ours == theirs


def test_as_many_of_each_modality_are_needed():
    with pytest.raises(TypeCheckError):
        presence(ALL, ALL[:2])


def placed_plan():
    """Three clips: both modalities mixed alike, differently, and one that has no audio."""
    present = (True, True, True)
    parts = (
        Part(name="video", domain="pixels", weight=(0.7, 0.9, 0.4), present=present),
        Part(name="audio", domain="log_mel", weight=(0.7, 0.2, 1.0), present=(True, True, False)),
    )
    plan = MixPlan(
        num_inputs=3, partner=(1, 2, 0), method="independent", level="input", parts=parts
    )
    return plan.to(torch.device("cpu"))


def outputs_of(seed):
    generator = torch.Generator().manual_seed(seed)
    one = [torch.randn(3, 4, generator=generator) for _ in range(3)]
    features = [torch.randn(3, 5, generator=generator) for _ in range(2)]
    return Output(Heads(*one), Features(*features))


def test_only_consistency_that_has_a_weight_is_computed():
    mixed, clean, here = outputs_of(0), outputs_of(1), torch.ones(3, dtype=torch.bool)
    for config, names in [
        (LossConfig(), []),
        (LossConfig(agreement=0.5), ["agreement"]),
        (LossConfig(interpolation=0.5), ["interpolation"]),
        (LossConfig(agreement=0.5, contrastive=0.5), ["agreement", "contrastive"]),
    ]:
        assert needs_clean(config) == bool({"interpolation", "contrastive"} & {*names})
        found = consistency_losses(config, placed_plan(), mixed, clean, here, here)
        assert list(found) == names


def test_consistency_is_told_what_the_plan_says():
    mixed, clean, plan = outputs_of(0), outputs_of(1), placed_plan()
    has_video, has_audio = torch.tensor([True, True, True]), torch.tensor([True, False, True])
    config = LossConfig(fused=1.0, video=0.5, audio=0.25, agreement=1.0, interpolation=1.0,
                        contrastive=1.0, contrastive_temperature=0.2)  # fmt: skip
    found = consistency_losses(config, plan, mixed, clean, has_video, has_audio)

    # Only the first clip has the same label in both heads; the third has no audio.
    p, q = (x[0].softmax(0) for x in (mixed.logits.video, mixed.logits.audio))
    middle = (p + q) / 2
    js = ((p * (p / middle).log()).sum() + (q * (q / middle).log()).sum()) / 2
    torch.testing.assert_close(found["agreement"], js)

    expected = 0.0
    lams = {"fused": (0.7, 0.55, 0.4), "video": (0.7, 0.9, 0.4), "audio": (0.7, 0.2)}
    for name, weight in (("fused", 1.0), ("video", 0.5), ("audio", 0.25)):
        terms = []
        for i, lam in enumerate(lams[name]):
            own, other = (getattr(clean.logits, name)[j].softmax(0) for j in (i, (i + 1) % 3))
            wanted = lam * own + (1 - lam) * other
            said = getattr(mixed.logits, name)[i].log_softmax(0)
            terms.append((wanted * (wanted.log() - said)).sum())
        expected += weight * sum(terms) / len(terms)
    torch.testing.assert_close(found["interpolation"], torch.as_tensor(expected))

    def one_way(queries, keys, lam, query_present, key_present):
        terms = []
        for i in range(3):
            wanted = [0.0] * 3
            wanted[i] += lam[i]
            wanted[(i + 1) % 3] += 1 - lam[i]
            wanted = [w if has else 0.0 for w, has in zip(wanted, key_present, strict=True)]
            if not query_present[i] or not sum(wanted):
                continue
            cosines = [float(torch.cosine_similarity(queries[i], key, 0)) / 0.2 for key in keys]
            total = sum(math.exp(c) for c, has in zip(cosines, key_present, strict=True) if has)
            logs = [c - math.log(total) for c in cosines]
            loss = -sum(w * x for w, x in zip(wanted, logs, strict=True))
            terms.append(loss / sum(wanted))
        return sum(terms) / len(terms)

    video = one_way(
        mixed.features.video, clean.features.audio, (0.7, 0.9, 0.4), (1, 1, 1), (1, 0, 1)
    )
    audio = one_way(
        mixed.features.audio, clean.features.video, (0.7, 0.2, 1.0), (1, 1, 0), (1, 1, 1)
    )
    assert found["contrastive"].item() == pytest.approx((video + audio) / 2, rel=1e-5)


def test_binary_loss_by_hand():
    # Two classes, logits 0 and 2, target 1 and 0: -ln 0.5 and ln(1 + e^2), their mean.
    logits, target = torch.tensor([[0.0, 2.0]]), torch.tensor([[1.0, 0.0]])
    here = torch.tensor([True])
    heads = Heads(logits, logits, logits), Heads(target, target, target)
    found = head_losses(*heads, presence(here, here), 0.0, "binary").audio.item()
    assert found == pytest.approx((math.log(2) + math.log(1 + math.exp(2))) / 2)
    # Smoothed by 0.2 the target is 0.9 and 0.1.
    found = head_losses(*heads, presence(here, here), 0.2, "binary").audio.item()
    second = 0.1 * math.log(1 + math.exp(-2)) + 0.9 * math.log(1 + math.exp(2))
    assert found == pytest.approx((math.log(2) + second) / 2)


def agreement_of(**options):
    here = torch.ones(3, dtype=torch.bool)
    config = LossConfig(agreement=1.0, **options)
    return consistency_losses(config, placed_plan(), outputs_of(0), None, here, here)["agreement"]


def test_agreement_is_told_its_options():
    logits = outputs_of(0).logits
    p, q = (x[0].double().div(2).softmax(0) for x in (logits.video, logits.audio))
    expected = 4 * ((p - q) * (p.log() - q.log())).sum() / 2
    found = agreement_of(agreement_kind="symmetric_kl", agreement_temperature=2.0)
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)
    assert agreement_of(agreement_confidence=1.0).item() == 0 < agreement_of().item()


@pytest.mark.parametrize(("audio", "counts"), [(0.7, True), (0.55, True), (0.45, False)])
def test_lambdas_that_are_a_rounding_apart_are_of_one_label(audio, counts):
    parts = tuple(
        Part(name=name, domain=domain, weight=(lam, 1.0, 1.0), present=(True, False, False))
        for name, domain, lam in (("video", "pixels", 0.7), ("audio", "log_mel", audio))
    )
    plan = MixPlan(
        num_inputs=3, partner=(1, 0, 2), method="independent", level="input", parts=parts
    )
    here = torch.ones(3, dtype=torch.bool)
    found = consistency_losses(LossConfig(agreement=1.0), plan.to(torch.device("cpu")),
                               outputs_of(0), None, here, here)  # fmt: skip
    assert (found["agreement"].item() > 0) == counts


def test_heads_agree_only_where_a_softened_label_leaves_theirs_the_same():
    # Of the placed plan only the first clip has one lambda for both; its background decides.
    here, own = torch.ones(3, dtype=torch.bool), torch.eye(4)[:3]
    for share, counts in ((0.0, True), (0.15, True), (0.25, False)):
        heard = own.clone()
        heard[0] = torch.tensor([1 - share, 0, 0, share])
        found = consistency_losses(LossConfig(agreement=1.0), placed_plan(), outputs_of(0), None,
                                   here, here, softened=Heads(own, own, heard))  # fmt: skip
        assert (found["agreement"].item() > 0) == counts


NAN = float("nan")


def test_unknown_labels_have_no_loss_and_no_gradient():
    ln3 = math.log(3)  # sigmoid(ln 3) is 3/4
    logits = torch.tensor([[ln3, 7.0, ln3], [9.0, ln3, 9.0], [5.0, 5.0, 5.0]], requires_grad=True)
    target = torch.tensor([[1.0, NAN, 0.0], [NAN, 1.0, NAN], [NAN, NAN, NAN]])
    heads = Heads(target, target, target)
    present = where_known(presence(ALL, ALL), heads)
    assert present.fused.tolist() == [True, True, False]
    loss = head_losses(Heads(logits, logits, logits), heads, present, 0.0, "binary").video
    # Of the first clip the mean of ln(4/3) and ln 4, of the second ln(4/3); nothing of the third.
    of_first = (math.log(4 / 3) + math.log(4)) / 2
    assert loss.item() == pytest.approx((of_first + math.log(4 / 3)) / 2)
    loss.backward()
    assert logits.grad is not None
    assert torch.equal(logits.grad == 0, target.isnan())
    torch.testing.assert_close(logits.grad[1, 1], torch.tensor(-0.25 / 2))


def test_weights_of_classes_by_hand():
    logits, target = torch.tensor([[0.0, math.log(3)]]), torch.tensor([[1.0, 0.0]])
    here, weight = torch.tensor([True]), torch.tensor([2.0, 5.0])
    heads = Heads(logits, logits, logits), Heads(target, target, target), presence(here, here)
    found = head_losses(*heads, 0.0, class_weight=weight).fused
    assert found.item() == pytest.approx(2 * math.log(4))
    # Of each class by itself the weight is that of its positives.
    found = head_losses(*heads, 0.0, "binary", weight).fused
    assert found.item() == pytest.approx((2 * math.log(2) + math.log(4)) / 2)


def test_heads_with_other_labels_need_not_agree():
    labels = torch.tensor([[1.0, 0, NAN, 0], [1.0, 1, 0, 0], [0.0, 0, 0, 1]])
    other = labels.clone()
    other[0, 1] = 1.0  # audible, not visible
    here, config = torch.ones(3, dtype=torch.bool), LossConfig(agreement=1.0, kind="binary")

    def agreement_with(heard):
        softened = Heads(labels, labels, heard)
        said = consistency_losses(config, placed_plan(), outputs_of(0), None, here, here, softened)
        return said["agreement"].item()

    assert agreement_with(labels) > 0 == agreement_with(other)  # the others are mixed unequally
