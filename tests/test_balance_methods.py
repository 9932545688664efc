"""Methods of balancing, each against numbers worked out by hand and the fault of a public port."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from avmix.config import BalanceConfig, LossConfig
from avmix.label_sets import LabelSet
from avmix.mix.mix_plan import unmixed_plan
from avmix.models.classifier import Features
from avmix.rng import rng
from avmix.training.balance import g_blend, mmpareto, ogm_ge, opm, umt
from avmix.training.balance.balancing import Balancing
from avmix.training.balance.branches import Branches
from avmix.training.balance.g_blend import Measured
from avmix.training.balance.opm import Scores
from avmix.training.balance.scores import confidence_sums, mean_scores, ratios
from avmix.training.balance_state import BalanceState
from avmix.training.losses import objective, parts_of_objective
from avmix.training.runlog import confidence_ratio
from avmix.training.runtime import Runtime
from avmix.types import Heads

YES = torch.tensor([True, True])


def logits_of(probability: list[list[float]]) -> Tensor:
    return torch.tensor(probability).log()


def sums_of(video: Tensor, audio: Tensor, target: Tensor, has_video: Tensor = YES,
            has_audio: Tensor = YES, **kind: object) -> Tensor:  # fmt: skip
    everyone = has_video | has_audio
    return confidence_sums(
        Heads(video, video, audio), Heads(target, target, target),
        Heads(everyone, has_video, has_audio), **kind,  # type: ignore[arg-type]
    )  # fmt: skip


# Scores -------------------------------------------------------------------------------------------


def test_confidences_by_hand() -> None:
    video = logits_of([[0.8, 0.1, 0.1], [0.2, 0.5, 0.3]])
    audio = logits_of([[0.4, 0.3, 0.3], [0.1, 0.2, 0.7]])
    target = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    sums = sums_of(video, audio, target)
    torch.testing.assert_close(sums, torch.tensor([[1.3, 2.0], [0.6, 2.0]]))
    torch.testing.assert_close(mean_scores(sums), torch.tensor([0.65, 0.3]))
    torch.testing.assert_close(ratios(mean_scores(sums)), torch.tensor([13 / 6, 6 / 13]))


def test_a_mixed_clip_has_the_mean_confidence_of_both_labels() -> None:
    p = logits_of([[0.6, 0.3, 0.1]])
    here = torch.tensor([True])
    sums = sums_of(p, p, torch.tensor([[0.7, 0.3, 0.0]]), here, here)
    torch.testing.assert_close(sums[0], torch.tensor([0.7 * 0.6 + 0.3 * 0.3, 1.0]))
    # Of labels that are united, not shared out: the mean over both.
    sums = sums_of(p, p, torch.tensor([[1.0, 1.0, 0.0]]), here, here)
    torch.testing.assert_close(sums[0], torch.tensor([0.45, 1.0]))


def test_a_missing_modality_has_no_score_and_nobody_is_ahead_of_it() -> None:
    p, target = logits_of([[0.9, 0.1], [0.5, 0.5]]), torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    one = sums_of(p, p, target, has_audio=torch.tensor([False, True]))
    torch.testing.assert_close(mean_scores(one), torch.tensor([0.7, 0.5]))
    none = sums_of(p, p, target, has_audio=torch.tensor([False, False]))
    assert none[1].tolist() == [0.0, 0.0]
    assert ratios(mean_scores(none)).tolist() == [1.0, 1.0]
    assert opm.drop_shares(Scores(0.7, math.nan), BalanceConfig()) == {"video": 0, "audio": 0}


def test_confidences_of_several_labels_and_of_label_sets() -> None:
    logits = torch.tensor([[0.0, math.log(3), 0.0]])
    here, target = torch.tensor([True]), torch.tensor([[1.0, 1.0, math.nan]])
    sums = sums_of(logits, logits, target, here, here, binary=True)
    assert sums[0].tolist() == pytest.approx([(0.5 + 0.75) / 2, 1.0])
    sets = (LabelSet("a", 0, 2, 1.0), LabelSet("b", 2, 4, 1.0))
    logits = torch.tensor([[0.0, math.log(3), math.log(4), 0.0]])
    sums = sums_of(logits, logits, torch.tensor([[0.0, 1.0, 1.0, 0.0]]), here, here, sets=sets)
    assert sums[0].tolist() == pytest.approx([(0.75 + 0.8) / 2, 1.0])
    empty = sums_of(logits, logits, torch.zeros(1, 4), here, here, sets=sets)
    assert empty[0].tolist() == [0.0, 0.0]  # nothing to be sure of


def test_the_ratio_that_every_run_logs() -> None:
    # Video gives the truth 0.8 and 0.2, audio 0.5 and 0.1: geometric means 0.4 and sqrt(0.05).
    video, audio = -math.log(0.8 * 0.2) / 2, -math.log(0.5 * 0.1) / 2
    assert confidence_ratio([1.0, video, audio]) == pytest.approx(0.4 / math.sqrt(0.05))
    assert confidence_ratio([1.0, None, audio]) is None
    assert confidence_ratio([1.0, 0.0, 1e6]) is None  # not an overflow


# OGM-GE -------------------------------------------------------------------------------------------


def test_the_scales_of_ogm_ge_by_hand() -> None:
    # rho_v = 0.6 / 0.3 = 2: video is scaled by 1 - tanh(0.5 * 2), audio is not.
    sums = torch.tensor([[0.6, 1.0], [0.3, 1.0]])
    scales = ogm_ge.update_scales(sums, 0.5)
    torch.testing.assert_close(scales, torch.tensor([1 - math.tanh(1.0), 1.0]))
    torch.testing.assert_close(ogm_ge.update_scales(sums.flip(0), 0.5), scales.flip(0))
    assert ogm_ge.update_scales(torch.ones(2, 2), 0.5).tolist() == [1.0, 1.0]


def pair() -> tuple[nn.Linear, nn.Linear]:
    torch.manual_seed(0)
    return nn.Linear(3, 2), nn.Linear(3, 2)


def steps_of(optimizer_of, *, gradient: float, update: float) -> Tensor:
    """How far the first layer has gone in 30 steps on its own targets, with its gradient or its
    change scaled."""
    video, audio = pair()
    optimizer = optimizer_of([*video.parameters(), *audio.parameters()])
    start = video.weight.detach().clone()
    branches = Branches([*video.parameters()], [*audio.parameters()])
    draw = torch.Generator().manual_seed(1)
    for _ in range(30):
        x, y = torch.randn(8, 3, generator=draw), torch.randn(8, 2, generator=draw) + 5
        optimizer.zero_grad()
        ((video(x) - y).square().mean() + (audio(x) - y).square().mean()).backward()
        for p in branches.video:
            assert p.grad is not None
            p.grad *= gradient
        before = ogm_ge.copies(branches)
        optimizer.step()
        ogm_ge.scale_update(branches, before, torch.tensor([update, 1.0]))
    return (video.weight.detach() - start).norm()


def test_adamw_cancels_a_scaled_gradient_and_not_a_scaled_update() -> None:
    def adamw(parameters):
        return torch.optim.AdamW(parameters, lr=1e-3, weight_decay=0.01)

    plain = steps_of(adamw, gradient=1.0, update=1.0)
    by_gradient = steps_of(adamw, gradient=0.1, update=1.0)
    by_update = steps_of(adamw, gradient=1.0, update=0.1)
    assert by_gradient / plain > 0.99  # asked for a tenth
    assert by_update / plain == pytest.approx(0.1, rel=0.1)


def test_under_plain_sgd_both_are_the_same() -> None:
    def sgd(parameters):
        return torch.optim.SGD(parameters, lr=1e-2)

    ours, theirs = (steps_of(sgd, gradient=g, update=u) for g, u in ((1.0, 0.1), (0.1, 1.0)))
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=0)
    assert ours < 0.5 * steps_of(sgd, gradient=1.0, update=1.0)


def test_accumulated_confidences_are_those_of_all_steps() -> None:
    """Of an update of two steps, video 0.9 and 0.5, audio 0.2 and 0.5: rho_v = 0.7 / 0.35 = 2."""
    weight = nn.Parameter(torch.zeros(2))
    balancing = Balancing(config=BalanceConfig(method="ogm_ge", alpha=0.5),
                          branches=Branches([weight], []))  # fmt: skip
    optimizer, here = torch.optim.SGD([weight], lr=1.0), torch.tensor([True])
    one, runtime = Heads(here, here, here), Runtime(device=torch.device("cpu"), threads=1)
    for video, audio in ((0.9, 0.2), (0.5, 0.5)):
        heads = Heads(*(logits_of([[p, 1 - p]]) for p in (0.5, video, audio)))
        target = Heads(*[torch.tensor([[1.0, 0.0]])] * 3)
        balancing.observe(heads, target, one, runtime, binary=False, sets=())
    weight.grad = torch.tensor([1.0, -2.0])
    balancing.update(optimizer, (0, 0, 0))
    torch.testing.assert_close(weight.detach(), (1 - math.tanh(1.0)) * torch.tensor([-1.0, 2.0]))


def test_noise_has_the_deviation_of_the_change_and_an_address() -> None:
    torch.manual_seed(0)
    weight, bias = nn.Parameter(torch.zeros(400, 500)), nn.Parameter(torch.zeros(5))
    branches, change = Branches([weight, bias], []), 0.3 * torch.randn(400, 500)

    def moved(seed: int) -> Tensor:
        before = ogm_ge.copies(branches)
        with torch.no_grad():
            weight.copy_(before[0][0] + change)
            bias.copy_(before[0][1] + 1)
        generator = torch.Generator().manual_seed(seed)
        ogm_ge.scale_update(branches, before, torch.tensor([0.25, 1.0]), 2.0, generator)
        assert torch.equal(bias, before[0][1] + 0.25)  # no matrix: no noise
        return weight.detach() - before[0][0] - 0.25 * change

    first, again, other = moved(3), moved(3), moved(4)
    assert first.std().item() == pytest.approx(2.0 * 0.3, rel=0.01)
    torch.testing.assert_close(first, again, rtol=0, atol=1e-5)
    assert not torch.allclose(first, other, atol=0.1)


# MMPareto -----------------------------------------------------------------------------------------


def tensors(*rows: list[float]) -> list[Tensor]:
    return [torch.tensor(row) for row in rows]


def test_gradients_that_agree_are_summed_and_enlarged_by_gamma() -> None:
    # cos > 0: a = 1/2, h = g + u, |g + u| / |h| = 1.
    found = mmpareto.combined(tensors([1.0, 0.0]), tensors([1.0, 2.0]), 1.5)
    torch.testing.assert_close(found[0], torch.tensor([3.0, 3.0]))


def test_gradients_in_conflict_by_hand() -> None:
    # g = (2, 0), u = (-1, 1): g.u = -2. a = (uu - gu) / (gg + uu - 2 gu) = (2 + 2) / 10 = 0.4,
    # h = 2 (0.8 - 0.6, 0.6) = (0.4, 1.2), at right angles to u - g. |g + u| = sqrt(2) is larger
    # than |h| = sqrt(1.6): times sqrt(2 / 1.6), times 1.5.
    found = mmpareto.combined(tensors([2.0, 0.0]), tensors([-1.0, 1.0]), 1.5)[0]
    torch.testing.assert_close(found, 1.5 * math.sqrt(1.25) * torch.tensor([0.4, 1.2]))
    # Where h is longer than the sum, it is not made shorter.
    # g = (3, 1), u = (-3, 1): a = 1/2, h = (0, 2) = g + u.
    found = mmpareto.combined(tensors([3.0, 1.0]), tensors([-3.0, 1.0]), 1.0)[0]
    torch.testing.assert_close(found, torch.tensor([0.0, 2.0]))


def test_the_share_is_of_an_encoder_and_the_size_of_a_parameter() -> None:
    # Together g.u = -4 + 1 = -3, gg = 5, uu = 5: a = 8 / 16 = 1/2 for both parameters, though those
    # of the second agree. h = g + u of each: nothing is enlarged.
    found = mmpareto.combined(tensors([2.0, 0.0], [0.0, 1.0]),
                              tensors([-2.0, 0.0], [0.0, 1.0]), 1.0)  # fmt: skip
    assert found[0].tolist() == [0.0, 0.0]  # and not 0 / 0
    assert found[1].tolist() == [0.0, 2.0]


@pytest.mark.parametrize("gone", ["joint", "unimodal"])
def test_a_gradient_of_zero_is_no_conflict(gone: str) -> None:
    """Of a batch without the modality; the original divides 0 by 0."""
    some, none = tensors([2.0, -1.0]), tensors([0.0, 0.0])
    found = mmpareto.combined(*((none, some) if gone == "joint" else (some, none)), 1.0)
    assert found[0].tolist() == [2.0, -1.0]


def test_the_two_gradients_are_those_of_two_losses() -> None:
    """BalanceBenchmark's port never zeroes between them: both are the sum, and the cosine 1."""
    w, head = nn.Parameter(torch.tensor([1.0, 2.0])), nn.Parameter(torch.tensor(3.0))
    joint, own = head * w[0], -5 * w[0] + w[1]
    found = mmpareto.gradients(joint, own, [w, head])
    assert [g.tolist() for g in found.joint] == [[3.0, 0.0], 1.0]
    assert [g.tolist() for g in found.unimodal] == [[-5.0, 1.0], 0.0]
    assert mmpareto.joint_share(found.joint[:1], found.unimodal[:1]) != 0.5  # min-norm, not equal
    mmpareto.set_gradients([w, head], found, Branches([w], []), 1.5)
    a = (26 + 15) / (9 + 26 + 30)
    h = 2 * torch.tensor([3 * a - 5 * (1 - a), 1 - a])
    assert w.grad is not None
    torch.testing.assert_close(w.grad, 1.5 * max(1, math.sqrt(5) / h.norm().item()) * h)
    assert head.grad is not None
    assert head.grad.item() == 1.0  # of other weights the sum as it is


def test_accumulated_gradients_are_combined_once() -> None:
    w = nn.Parameter(torch.tensor([1.0, 1.0]))
    balancing = Balancing(config=BalanceConfig(method="mmpareto", gamma=1.0), parameters=[w],
                          branches=Branches([w], []))  # fmt: skip
    loss, nothing = LossConfig(fused=1.0, video=1.0, audio=1.0), torch.zeros(())
    for scale in (1.0, 3.0):  # each alone would be in conflict otherwise
        losses = Heads(scale * w[0], (scale - 2) * w[1] - w[0], nothing)
        balancing.backward(objective(loss, losses, {}), loss, losses, {}, 2)
    assert w.grad is None
    balancing.combine()
    wanted = mmpareto.combined(tensors([2.0, 0.0]), tensors([-1.0, 0.0]), 1.0)[0]
    assert w.grad is not None
    torch.testing.assert_close(w.grad, wanted)


def test_the_parts_of_the_objective_add_up() -> None:
    loss = LossConfig(fused=2.0, video=0.5, audio=0.25, agreement=3.0)
    losses, others = Heads(*torch.tensor([1.0, 4.0, 8.0])), {"agreement": torch.tensor(10.0)}
    joint, modalities = parts_of_objective(loss, losses, others)
    assert (joint.item(), modalities.item()) == (32.0, 4.0)
    assert objective(loss, losses, others).item() == 36.0


# OPM ----------------------------------------------------------------------------------------------


def test_only_the_modality_that_is_ahead_is_dropped() -> None:
    """BalanceBenchmark's port changes the scores while it divides: with 6 and 3 it drops the weaker
    modality, too, by a ratio of 0.46."""
    config = BalanceConfig(drop=0.5, drop_rise=0.5)
    shares = opm.drop_shares(Scores(0.6, 0.3), config)
    assert shares == {"video": pytest.approx(0.5 * (1 + 0.5 * math.tanh(1.0))), "audio": 0.0}
    assert opm.drop_shares(Scores(0.3, 0.6), config)["video"] == 0.0
    assert opm.drop_shares(Scores(0.4, 0.4), config) == {"video": 0.0, "audio": 0.0}
    assert opm.drop_shares(None, config) == {"video": 0.0, "audio": 0.0}


def test_clips_never_lose_both_and_what_is_left_out_is_drawn_as_data() -> None:
    n = 4000
    audible = [i % 4 > 0 for i in range(n)]
    plan = unmixed_plan({"video": [True] * n, "audio": audible})
    found = opm.leave_out(plan, {"video": 0.6, "audio": 0.0}, 1.0, rng(0, 0, "balance", 0, 0))
    video, audio = found.part("video").present, found.part("audio").present
    assert audio == tuple(audible)
    assert all(v for v, a in zip(video, audible, strict=True) if not a)
    lost = np.mean([not v for v, a in zip(video, audible, strict=True) if a])
    assert lost == pytest.approx(0.6, abs=0.03)
    again = opm.leave_out(plan, {"video": 0.6, "audio": 0.0}, 1.0, rng(0, 0, "balance", 0, 0))
    assert again == found
    batches = [opm.leave_out(plan, {"video": 0.6, "audio": 0.0}, 0.7, rng(0, 0, "balance", s, 0))
               for s in range(60)]  # fmt: skip
    assert 0.5 < np.mean([one != plan for one in batches]) < 0.9


# UMT ----------------------------------------------------------------------------------------------


def test_the_distance_to_the_teachers_by_hand() -> None:
    ours = Features(torch.tensor([[1.0, 2.0], [0.0, 0.0]]),
                    torch.tensor([[3.0, 3.0, 0.0], [math.nan, 1.0, 1.0]]))  # fmt: skip
    theirs = Features(torch.tensor([[0.0, 0.0], [0.0, 2.0]]), torch.zeros(2, 3))
    # Video: (1 + 4) / 2 and 4 / 2, mean 2.25. Audio: only the first clip has any, 18 / 3.
    found = umt.distance(ours, theirs, YES, torch.tensor([True, False]))
    assert found.item() == pytest.approx(2.25 + 6.0)
    none = umt.distance(ours, theirs, ~YES, ~YES)
    assert none.item() == 0.0


# G-Blend ------------------------------------------------------------------------------------------


def test_the_weights_of_g_blend_by_hand() -> None:
    before = Measured(train=(2.0, 2.0, 2.0), val=(2.0, 2.1, 2.0))
    # Fused: G = 0.8, O = (1.2 - 0.8) - 0 = 0.4: 5. Video: G = 0.6, O = (1.5 - 1.2) - 0.1 = 0.2: 15.
    # Audio: validation loss rises: 0.
    now = Measured(train=(0.8, 1.2, 0.5), val=(1.2, 1.5, 2.2))
    found = g_blend.blend_weights(before, now, (1.0, 0.5, 0.5))
    assert found == pytest.approx((2 * 5 / 20, 2 * 15 / 20, 0.0))


def test_a_head_that_does_not_overfit_does_not_get_everything() -> None:
    before = Measured(train=(2.0, 2.0, 2.0), val=(2.0, 2.0, 2.0))
    now = Measured(train=(1.0, 1.0, 1.0), val=(1.0, 1.0, 1.0))
    assert g_blend.blend_weights(before, now, (1.0, 1.0, 1.0)) == pytest.approx((1.0, 1.0, 1.0))
    worse = replace(now, val=(2.5, 2.5, 2.5))
    assert g_blend.blend_weights(before, worse, (1.0, 0.5, 0.5)) == (1.0, 0.5, 0.5)


def test_g_blend_computes_after_each_super_epoch_and_goes_on_from_its_state() -> None:
    loss, config = LossConfig(), BalanceConfig(method="g_blend", super_epoch=2)
    balancing = Balancing(config=config)
    train, val = ([3.0, 3.0, 3.0], [2.0, 1.6, 1.2], [1.0, 0.7, 0.2]), ([3.0] * 3, [2.4] * 3)
    assert not balancing.epoch_done(0, loss, train[0], val[0])
    assert balancing.weighed(loss) is loss
    halfway = Balancing(config=config)
    halfway.restore(balancing.state())
    for one in (balancing, halfway):
        assert one.epoch_done(1, loss, train[1], val[1])
    assert halfway.state() == balancing.state()
    weighed = balancing.weighed(loss)
    # G = 0.6 each, O = 0.4, 0.8, 1.2: shares 36, 9, 4 of 49.
    assert (weighed.fused, weighed.video, weighed.audio) == pytest.approx(
        (72 / 49, 18 / 49, 8 / 49)
    )
    assert not balancing.epoch_done(2, loss, [None, 1.0, 1.0], val[1])  # no clip of a modality


@pytest.mark.parametrize(
    "values",
    [{"scores": (1.0,)}, {"scores": "ab"}, {"weights": (1.0, 2.0, math.inf)},
     {"weights": (math.nan, 1.0, 1.0)}, {"measured": [1.0] * 6}, {"teachers": (3,)}],
)  # fmt: skip
def test_a_state_that_no_run_has_written_is_refused(values: dict) -> None:
    with pytest.raises((ValueError, TypeError)):  # TypeError: annotations are checked in tests
        BalanceState(**values)
