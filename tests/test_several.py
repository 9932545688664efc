"""Mixes of more than two clips: partners, weights and labels by hand, and the law of pairs."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from avmix.config import MixConfig
from avmix.mix import Clips, MixPlan, draw_plan, mixed_targets
from avmix.mix.blend import blend_several
from avmix.mix.clip_grid import FEATURE_GRIDS
from avmix.mix.hidden_mix import hidden_mix
from avmix.mix.mix_plan import Part
from avmix.mix.pairing import draw_several_partners
from avmix.mix.several import draw_weights, without
from avmix.rng import rng
from avmix.types import Heads

CPU = torch.device("cpu")


def clips(size, *, audio=None, source=None, near=None) -> Clips:
    return Clips(
        present=(("video", (True,) * size), ("audio", tuple(audio or (True,) * size))),
        source=tuple(source or range(size)),
        labels=tuple(frozenset({i % 3}) for i in range(size)),
        near=near,
    )


def drawn(config: MixConfig, some: Clips, step: int = 0) -> MixPlan:
    return draw_plan(config, some, FEATURE_GRIDS, shared=rng(0, 0, "mix_shared", step),
                     own=rng(0, 0, "mix", step, 0))  # fmt: skip


THREE = MixConfig(method="mixup@feature", partners=2, alpha=1.0)


def part(name: str, own, shares, present=(True, True, True)) -> Part:
    return Part(name=name, domain="features", weight=own, present=present, shares=shares)


PLAN = MixPlan(
    num_inputs=3, partner=(1, 2, 0), partners=((1, 2), (2, 0), (0, 1)), method="mixup",
    level="feature",
    parts=(
        part("video", (0.5, 1.0, 0.2), ((0.3, 0.2), (0.0, 0.0), (0.8, 0.0))),
        part("audio", (0.5, 0.4, 1.0), ((0.5, 0.0), (0.6, 0.0), (0.0, 0.0))),
    ),
)  # fmt: skip


def test_features_and_labels_are_mixed_by_hand():
    placed = PLAN.to(CPU)
    video = torch.tensor([[1.0, 0], [10, 2], [100, 4]])
    audio = torch.tensor([[1.0], [3], [math.nan]])  # no audio: in no mix but its own
    mix = hidden_mix(placed)
    assert mix is not None
    v, a = mix.features(video, audio)
    assert v.tolist() == [pytest.approx([0.5 + 3 + 20, 0.6 + 0.8]), [10, 2],
                          pytest.approx([0.8 + 20, 0.8])]  # fmt: skip
    assert a[0].item() == pytest.approx(2.0)
    assert a[2].isnan()
    heads = mixed_targets(placed, torch.eye(3))
    assert heads.video.numpy() == pytest.approx(np.array([[0.5, 0.3, 0.2], [0, 1, 0],
                                                          [0.8, 0, 0.2]]))  # fmt: skip
    assert heads.audio.numpy() == pytest.approx(np.array([[0.5, 0.5, 0], [0, 0.4, 0.6],
                                                          [0, 0, 1]]))  # fmt: skip
    assert heads.fused.numpy() == pytest.approx(((heads.video + heads.audio) / 2).numpy())
    assert PLAN.lam == pytest.approx((0.5, 0.7, 0.6))
    largest = mixed_targets(placed, torch.eye(3), "max")
    assert largest.video.tolist() == [[1, 1, 1], [0, 1, 0], [1, 0, 1]]


def test_labels_of_each_modality_and_unknown_ones():
    placed = PLAN.to(CPU)
    unknown = torch.eye(3)
    unknown[2, 0] = math.nan
    fused, seen, _ = mixed_targets(placed, Heads(torch.eye(3), unknown, torch.eye(3)))
    assert seen.isnan().tolist() == [[True, False, False], [False] * 3, [True, False, False]]
    assert fused[1].tolist() == pytest.approx([0, 0.7, 0.3])
    several = mixed_targets(placed, torch.eye(3)).fused
    same = mixed_targets(placed, Heads(*[torch.eye(3)] * 3), several=True).fused
    assert same.numpy() == pytest.approx(several.numpy())


def test_one_of_two_partners_is_a_pair_to_the_digit():
    x, lam = torch.randn(4, 5), torch.tensor([0.3, 1.0, 0.0, 0.6])
    partner = torch.tensor([1, 0, 3, 2], dtype=torch.int32)
    several = blend_several(x, partner[:, None], lam, (1 - lam)[:, None])
    expected = lam[:, None] * x + (1 - lam)[:, None] * x[partner]
    assert torch.allclose(several, expected, atol=1e-7)
    assert several[1].equal(x[1])
    assert several[2].equal(x[3])


def test_the_gradient_is_that_of_the_weights():
    x = torch.randn(3, 2, requires_grad=True)
    partners = torch.tensor([[1, 2], [2, 0], [0, 1]], dtype=torch.int32)
    shares = torch.tensor([[0.25, 0.25], [0.5, 0.0], [0.0, 0.0]])
    blend_several(x, partners, torch.tensor([0.5, 0.5, 1.0]), shares).sum().backward()
    assert x.grad is not None
    assert x.grad[:, 0].tolist() == [0.5, 0.75, 1.75]


def test_weights_of_two_clips_have_the_law_of_pairs():
    config = replace(THREE, partners=1, alpha=0.2)
    one = draw_weights(config, (40_000,), rng(0, 0, "mix", 0, 0))
    lam = rng(1, 0, "mix", 0, 0).beta(0.2, 0.2, 40_000)
    at = np.linspace(0.05, 0.95, 19)
    for column in (0, 1):
        found = np.searchsorted(np.sort(one[:, column]), at) / len(one)
        assert found == pytest.approx(np.searchsorted(np.sort(lam), at) / len(lam), abs=0.012)
    assert one.sum(1) == pytest.approx(np.ones(len(one)))


def test_weights_of_three_clips_have_the_moments_of_dirichlet():
    weights = draw_weights(replace(THREE, alpha=2.0), (40_000,), rng(0, 0, "mix", 0, 0))
    # Mean 1/3, variance (1/3)(2/3) / 7, covariance -(1/9) / 7.
    assert weights.mean(0) == pytest.approx(np.full(3, 1 / 3), abs=0.004)
    assert np.cov(weights.T) == pytest.approx(np.where(np.eye(3) == 1, 2 / 63, -1 / 63), abs=0.0008)
    most = draw_weights(replace(THREE, dominant=True), (100,), rng(0, 0, "mix", 0, 0))
    assert (most[:, 0] == most.max(1)).all()
    batch = draw_weights(replace(THREE, per="batch"), (5, 2), rng(0, 0, "mix", 0, 0))
    assert (batch == batch[:1]).all()


def test_what_is_not_in_the_mix_leaves_its_weight_to_the_rest():
    weights = np.array([[0.2, 0.3, 0.5], [0.5, 0.25, 0.25], [0.0, 0.0, 1.0], [0.1, 0.4, 0.5]])
    both = np.array([[True, False], [True, True], [False, False], [False, False]])
    assert without(weights, both).tolist() == [
        pytest.approx([0.4, 0.6, 0]), [0.5, 0.25, 0.25], [1, 0, 0], pytest.approx([1, 0, 0])
    ]  # fmt: skip


def test_partners_without_the_modality_or_of_the_source_are_not_mixed():
    some = clips(6, audio=(True, False, True, True, True, True), source=(0, 1, 2, 0, 4, 5))
    for step in range(20):
        plan = drawn(THREE, some, step)
        assert plan.partners is not None
        video, audio = plan.part("video").shares, plan.part("audio").shares
        assert video is not None
        assert audio is not None
        for i, row in enumerate(plan.partners):
            for place, j in enumerate(row):
                related = j == i or {i, j} == {0, 3}
                assert (video[i][place] == 0) == related
                assert (audio[i][place] == 0) == (related or 1 in (i, j))
            assert math.fsum((plan.part("audio").weight[i], *audio[i])) == pytest.approx(1)


@pytest.mark.parametrize("pairing", ["involution", "permutation", "roll", "derangement",
                                     "different_source", "nearest"])  # fmt: skip
def test_partners_by_pairing(pairing):
    near = tuple(tuple((i + j) % 7 for j in (1, 2, 3, 4, 5, 6)) for i in range(7))
    config = replace(THREE, pairing=pairing, partners=3, neighbours=4)
    rows = draw_several_partners(config, clips(7, near=near), rng(0, 0, "mix", 0, 0))
    assert [len(row) for row in rows] == [3] * 7
    match pairing:
        case "involution":  # groups of four, and three that have two others each
            for i, row in enumerate(rows):
                group = {i, *row}
                assert all({j, *rows[j]} == group for j in row)
                assert len(group) in (3, 4)
        case "roll":
            assert rows[5] == [6, 0, 1]
        case "nearest":
            for i, row in enumerate(rows):
                assert len({*row}) == 3
                assert all((j - i) % 7 in (1, 2, 3, 4) for j in row)
        case "derangement" | "different_source":
            assert all(len({*row}) == 3 and i not in row for i, row in enumerate(rows))


def test_second_batch_gives_several_of_the_second_half():
    rows = draw_several_partners(replace(THREE, pairing="second_batch"), clips(8),
                                 rng(0, 0, "mix", 0, 0))  # fmt: skip
    assert len(rows) == 4
    assert all(len({*row}) == 2 and min(row) >= 4 for row in rows)


def test_independent_weights_one_modality_and_an_unmixed_batch():
    one = drawn(replace(THREE, method="independent@feature"), clips(6))
    assert one.part("video").weight != one.part("audio").weight
    same = drawn(THREE, clips(6))
    assert same.part("video").weight == same.part("audio").weight == one.part("video").weight
    assert same.partners == one.partners
    only = drawn(replace(THREE, method="audio@feature"), clips(6))
    assert not only.part("video").mixes
    assert only.part("audio").mixes
    assert not drawn(replace(THREE, probability=0.0), clips(6)).mixes
    lost = drawn(replace(THREE, method="mixup@feature+dropout", drop_audio=0.8), clips(6))
    assert not all(lost.part("audio").present)


def test_a_plan_of_several_is_read_again_and_is_no_pair():
    plan = drawn(THREE, clips(6))
    assert MixPlan.from_json(plan.to_json()) == plan
    with pytest.raises(ValueError, match="no pair"):
        plan.of_one(0)
    wrong = json.loads(plan.to_json())
    wrong["partners"][0][0] = 6
    with pytest.raises(ValueError, match="as many places"):
        MixPlan.from_json(json.dumps(wrong))
    wrong = json.loads(plan.to_json())
    wrong["parts"][0]["shares"][0] = [0.9, 0.9]
    with pytest.raises(ValueError, match="add up to 1"):
        MixPlan.from_json(json.dumps(wrong))
    with pytest.raises(ValueError, match="are not of"):
        replace(plan, partners=None)


@pytest.mark.parametrize(
    "options",
    [{"method": "mixup"}, {"method": "cross"}, {"method": "mixup@layer"}, {"law": "fixed"},
     {"partners": 0}, {"partners": 8}, {"neighbours": 0}, {"share_power": 0.0}],
)  # fmt: skip
def test_what_cannot_be_mixed_of_several_is_refused(options):
    with pytest.raises(ValueError, match=r"^mix\."):
        MixConfig(**{"method": "mixup@feature", "partners": 2, **options})
