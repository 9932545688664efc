"""The lambda of each modality by what it has learned, by hand; and which clips are alike."""

import math

import numpy as np
import pytest
import torch

from avmix.config import MixConfig
from avmix.mix import Clips, draw_plan
from avmix.mix.by_share import exponents, raised
from avmix.mix.clip_grid import FEATURE_GRIDS
from avmix.mix.nearest import nearest_first
from avmix.mix.pairing import draw_partners
from avmix.rng import rng
from avmix.training.mix_knowledge import DECAY, MixKnowledge, learned_sums
from avmix.training.mix_sums import checked_sums
from avmix.training.runtime import Runtime
from avmix.types import Heads

HERE = Runtime(device=torch.device("cpu"), threads=1)
FOUR = Clips(
    present=(("video", (True,) * 4), ("audio", (True,) * 4)), source=(0, 1, 2, 3),
    labels=(frozenset(),) * 4,
)  # fmt: skip


def plan_of(method: str, powers: dict[str, float], **options):
    return draw_plan(
        MixConfig(method=method, **options), FOUR, FEATURE_GRIDS,
        shared=rng(0, 0, "mix_shared", 0), own=rng(0, 0, "mix", 0, 0), exponents=powers,
    )  # fmt: skip


def test_exponents_by_hand():
    assert exponents({"video": 0.8, "audio": 0.4}, 1.0) == {"video": 0.5, "audio": 2.0}
    assert exponents({"video": 0.8, "audio": 0.4}, 0.5) == pytest.approx(
        {"video": math.sqrt(0.5), "audio": math.sqrt(2)}
    )
    assert exponents({"video": 0.9, "audio": 0.1}, 1.0) == {"video": 0.25, "audio": 4.0}
    for a, b in ((0.3, 0.3), (math.nan, 0.3), (0.0, 0.3), (0.3, 0.0)):
        assert exponents({"video": a, "audio": b}, 1.0) == {"video": 1.0, "audio": 1.0}


def test_weights_by_hand():
    # sqrt(.8) : sqrt(.2) = 2 : 1; .8^2 : .2^2 = 16 : 1.
    weights = np.array([[0.8, 0.2], [1.0, 0.0], [0.0, 1.0], [0.5, 0.5]])
    assert raised(weights, 0.5) == pytest.approx(
        np.array([[2 / 3, 1 / 3], [1, 0], [0, 1], [0.5, 0.5]])
    )
    assert raised(weights, 2.0)[0] == pytest.approx([16 / 17, 1 / 17])
    assert raised(weights, 1.0) is weights
    assert raised(np.array([0.5, 0.3, 0.2]), 2.0) == pytest.approx(
        np.array([0.25, 0.09, 0.04]) / 0.38
    )


@pytest.mark.parametrize("level", ["", "@layer", "@feature"])
def test_equal_shares_are_cross_modal_mixup(level):
    usual, equal = plan_of(f"mixup{level}", {}), plan_of(f"by_share{level}", {})
    assert usual.parts == equal.parts
    assert usual.partner == equal.partner


@pytest.mark.parametrize("partners", [1, 2])
def test_the_modality_ahead_is_mixed_more_and_its_label_follows(partners):
    options = {"alpha": 1.0, "partners": partners}
    usual = plan_of("mixup@feature", {}, **options)
    plan = plan_of("by_share@feature", {"video": 0.5, "audio": 2.0}, **options)
    video, audio, one = (p.weight for p in (*plan.parts, usual.parts[0]))
    for v, a, lam in zip(video, audio, one, strict=True):
        if partners == 1:
            assert v == pytest.approx(lam**0.5 / (lam**0.5 + (1 - lam) ** 0.5))
            assert abs(v - 0.5) < abs(lam - 0.5) < abs(a - 0.5)
    assert plan.part("video").lam == video
    assert plan.lam == pytest.approx([(v + a) / 2 for v, a in zip(video, audio, strict=True)])


def test_what_is_known_by_hand():
    # Clip 0: its class at 3/4 in video; clip 1: a mix that video says exactly; audio is missing.
    logits = torch.tensor([[math.log(3.0), 0.0], [0.0, 0.0]])
    target = torch.tensor([[1.0, 0.0], [0.5, 0.5]])
    sees, hears = torch.tensor([True, True]), torch.tensor([True, False])
    found = learned_sums(Heads(logits, logits, -logits), Heads(target, target, target),
                         Heads(sees, sees, hears))  # fmt: skip
    assert found.numpy() == pytest.approx(np.array([[0.75 + 1.0, 2], [0.25, 1]]))
    unknown = Heads(*[torch.tensor([[math.nan, 1.0], [0.0, 0.0]])] * 3)
    binary = learned_sums(Heads(logits, logits, logits), unknown, Heads(sees, sees, sees),
                          binary=True)  # fmt: skip
    assert binary.tolist() == [[0.5, 1], [0.5, 1]]


def test_the_running_mean_follows_the_steps():
    known = MixKnowledge(config=MixConfig(method="by_share"))
    assert known.exponents == {"video": 1.0, "audio": 1.0}
    logits = torch.tensor([[math.log(3.0), 0.0]])
    target, there = torch.tensor([[1.0, 0.0]]), torch.tensor([True])
    for _ in range(2):
        known.observe(Heads(logits, logits, 0 * logits), Heads(target, target, target),
                      Heads(there, there, there), HERE, binary=False, sets=())  # fmt: skip
    assert known.sums == pytest.approx([0.75 * (1 + DECAY), 1 + DECAY, 0.5 * (1 + DECAY),
                                        1 + DECAY])  # fmt: skip
    assert known.exponents == pytest.approx({"video": 2 / 3, "audio": 1.5})
    idle = MixKnowledge(config=MixConfig(method="mixup"))
    idle.observe(Heads(logits, logits, logits), Heads(target, target, target),
                 Heads(there, there, there), HERE, binary=False, sets=())  # fmt: skip
    assert idle.sums == (0.0, 0.0, 0.0, 0.0)


@pytest.mark.parametrize("value", [(1.0, 2.0), [0.0] * 4, (0.0, math.nan, 0.0, 0.0), (-1.0,) * 4])
def test_sums_that_no_run_wrote_are_refused(value):
    assert checked_sums((0.5, 1.0, 0.0, 0.0)) == (0.5, 1.0, 0.0, 0.0)
    with pytest.raises(ValueError, match="mix_sums"):
        checked_sums(value)


def test_nearest_clips_by_hand():
    # Centred: (-1, -1), (1, -1), (-1, 1), (1, 1) have cosines 0 and -1; audio tells 0 and 3 apart.
    video = np.array([[0.0, 0], [2, 0], [0, 2], [2, 2]])
    audio = np.array([[1.0], [1.0], [-1.0], [np.nan]])
    all_four, three = np.ones(4, dtype=bool), np.array([True, True, True, False])
    assert nearest_first([(video, all_four)]) == ((1, 2, 3), (0, 3, 2), (0, 3, 1), (1, 2, 0))
    assert nearest_first([(video, all_four), (audio, three)])[0] == (1, 2, 3)
    assert nearest_first([(video, all_four), (audio, three)])[2] == (3, 0, 1)
    alone = np.array([True, False, False, False])
    assert nearest_first([(video, alone)])[0] == (1, 2, 3)


def test_nearest_partners_are_of_other_sources():
    near = ((1, 2, 3), (0, 2, 3), (3, 1, 0), (2, 1, 0))
    some = Clips(present=FOUR.present, source=(7, 7, 8, 9), labels=FOUR.labels, near=near)
    config = MixConfig(method="mixup@feature", pairing="nearest", neighbours=1)
    assert draw_partners(config, some, rng(0, 0, "mix", 0, 0)) == [2, 2, 3, 2]
    with pytest.raises(ValueError, match="kept features"):
        draw_partners(config, FOUR, rng(0, 0, "mix", 0, 0))
    two = MixConfig(method="mixup@feature", pairing="nearest", neighbours=2)
    found = {tuple(draw_partners(two, some, rng(0, 0, "mix", step, 0))) for step in range(40)}
    assert {row[0] for row in found} == {2, 3}
    assert {row[2] for row in found} == {3, 1}
