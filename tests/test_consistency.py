"""Losses on mixed clips: loops from the formulas, numbers by hand, and every way to get a nan."""

import itertools
import math
from typing import cast, get_args

import jaxtyping
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from avmix.training.consistency import (
    Agreement,
    agreement,
    interpolation,
    mixed_contrastive,
    same_label,
)

KINDS: tuple[Agreement, ...] = get_args(Agreement)


def mask(text: str) -> Tensor:
    return torch.tensor([character == "1" for character in text], dtype=torch.bool)


def noise(*shape: int, seed: int = 0, scale: float = 2.0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * scale


def logs(*rows: list[float]) -> Tensor:
    """Logits whose softmax is this."""
    return torch.tensor(rows).log()


# ---------------------------------------------------------------- the formulas, in python floats


def probabilities(row: list[float], temperature: float) -> list[float]:
    top = max(row)
    powers = [math.exp((x - top) / temperature) for x in row]
    return [x / math.fsum(powers) for x in powers]


def divergence(p: list[float], q: list[float]) -> float:
    """KL(p || q)."""
    return math.fsum(a * math.log(a / b) for a, b in zip(p, q, strict=True) if a > 0)


def mean(values: list[float]) -> float:
    return math.fsum(values) / len(values) if values else 0.0


def agreement_loop(video, audio, counts, *, kind, temperature, confidence) -> float:
    found = []
    for v, a, here in zip(video.tolist(), audio.tolist(), counts.tolist(), strict=True):
        if not here or max(probabilities(v, 1) + probabilities(a, 1)) < confidence:
            continue
        p, q = probabilities(v, temperature), probabilities(a, temperature)
        middle = [(x + y) / 2 for x, y in zip(p, q, strict=True)]
        if kind == "js":
            found.append(divergence(p, middle) / 2 + divergence(q, middle) / 2)
        else:
            found.append(divergence(p, q) / 2 + divergence(q, p) / 2)
    return mean(found) * temperature**2


def interpolation_loop(mixed, clean, partner, lam, counts, temperature) -> float:
    found = []
    for i in range(len(mixed)):
        if counts[i]:
            own = probabilities(clean[i].tolist(), temperature)
            other = probabilities(clean[int(partner[i])].tolist(), temperature)
            w = float(lam[i])
            target = [w * x + (1 - w) * y for x, y in zip(own, other, strict=True)]
            found.append(divergence(target, probabilities(mixed[i].tolist(), temperature)))
    return mean(found) * temperature**2


def contrastive_loop(queries, keys, partner, lam, query_present, key_present, temperature) -> float:
    def cosine(x: list[float], y: list[float]) -> float:
        return math.fsum(a * b for a, b in zip(x, y, strict=True)) / math.hypot(*x) / math.hypot(*y)

    found = []
    for i in range(len(queries)):
        wanted: dict[int, float] = {}
        for place, weight in ((i, float(lam[i])), (int(partner[i]), 1 - float(lam[i]))):
            if key_present[place] and weight > 0:
                wanted[place] = wanted.get(place, 0) + weight
        if not query_present[i] or not wanted:
            continue
        present = [j for j in range(len(keys)) if key_present[j]]
        row = [cosine(queries[i].tolist(), keys[j].tolist()) for j in present]
        chance = dict(zip(present, probabilities(row, temperature), strict=True))
        total = math.fsum(wanted.values())
        found.append(-math.fsum(w / total * math.log(chance[j]) for j, w in wanted.items()))
    return mean(found)


# ------------------------------------------------------------------------------------ same_label


def test_who_has_the_same_label():
    lam_video = torch.tensor([0.5, 0.5, 0.5, 0.5, 0.75, 0.25, 0.75])
    lam_audio = torch.tensor([0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.25])
    has_video, has_audio = mask("1100111"), mask("1010111")
    parts = lam_video, lam_audio, has_video, has_audio
    assert same_label(*parts, 0.0).equal(mask("1000000"))
    assert same_label(*parts, 0.25).equal(mask("1000110"))
    for wrong in (-0.1, 1.1, math.nan):
        with pytest.raises(ValueError, match=f"got {wrong}"):
            same_label(*parts, wrong)


# ------------------------------------------------------------------------------------- agreement


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
@pytest.mark.parametrize("confidence", [0.0, 0.6, 0.99])
def test_agreement_is_the_formula(kind, temperature, confidence):
    video, audio = noise(9, 5), noise(9, 5, seed=1)
    counts = mask("110111011")
    options = {"kind": kind, "temperature": temperature, "confidence": confidence}
    expected = agreement_loop(video, audio, counts, **options)
    found = agreement(video, audio, counts, **options)
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(expected, rel=2e-6, abs=1e-7)


def test_agreement_by_hand():
    # p = (1/2, 1/2), q = (1/4, 3/4), so m = (3/8, 5/8).
    video, audio, here = logs([0.5, 0.5]), logs([0.25, 0.75]), mask("1")
    js = agreement(video, audio, here, kind="js", temperature=1.0, confidence=0.0)
    # (1/2 ln 4/3 + 1/2 ln 4/5 + 1/4 ln 2/3 + 3/4 ln 6/5) / 2
    assert js.item() == pytest.approx(0.0338221, abs=1e-6)
    kl = agreement(video, audio, here, kind="symmetric_kl", temperature=1.0, confidence=0.0)
    # KL(p || q) = ln 2 - 1/2 ln 3 = 0.143841, KL(q || p) = 3/4 ln 3 - ln 2 = 0.130812
    assert kl.item() == pytest.approx((0.143841 + 0.130812) / 2, abs=1e-6)


def test_temperature_softens_and_its_square_comes_back():
    # 9 : 1 at temperature 2 is 3 : 1; and 1 : 1 stays. KLs as above, the other way round, times 4.
    found = agreement(logs([0.1, 0.9]), logs([0.5, 0.5]), mask("1"), kind="symmetric_kl",
                      temperature=2.0, confidence=0.0)  # fmt: skip
    assert found.item() == pytest.approx(4 * (0.143841 + 0.130812) / 2, abs=4e-6)


def test_the_size_of_the_gradient_survives_temperature():
    video = noise(1, 5, scale=0.1).requires_grad_()
    audio = noise(1, 5, seed=1, scale=0.1)
    norms = [
        torch.autograd.grad(
            agreement(video, audio, mask("1"), kind="js", temperature=t, confidence=0.0), video
        )[0].norm()
        for t in (1.0, 10.0)
    ]
    assert norms[1].item() == pytest.approx(
        norms[0].item(), rel=0.05
    )  # without temperature**2: 1 / 100 of it


@pytest.mark.parametrize(
    ("confidence", "counted"), [(0.0, 3), (0.5, 3), (0.74, 2), (0.76, 1), (0.91, 0)]
)
def test_only_the_confident_count(confidence, counted):
    # The more confident head of the three clips says 0.5 (both), 0.75 (audio), 0.9 (video).
    # The last one is (0.9 ln 1.2 + 0.1 ln 0.4 + 0.6 ln 0.8 + 0.4 ln 1.6) / 2 apart.
    video = torch.cat([logs([0.5, 0.5], [0.5, 0.5]), logs([0.9, 0.1])]).requires_grad_()
    audio = logs([0.5, 0.5], [0.25, 0.75], [0.6, 0.4])
    all_ = mask("111")
    loss = agreement(video, audio, all_, kind="js", temperature=1.0, confidence=confidence)
    expected = [0.0, 0.0338221, 0.0632878][3 - counted :]
    assert loss.item() == pytest.approx(mean(expected), abs=1e-6)
    (grad,) = torch.autograd.grad(loss, video)
    assert grad[: 3 - counted].eq(0).all()
    assert grad[max(3 - counted, 1) :].ne(0).all()


def test_confidence_is_measured_before_the_temperature():
    # 0.9 at temperature 1, 0.55 at temperature 10.
    video, audio = logs([0.9, 0.1]), logs([0.5, 0.5])
    loss = agreement(video, audio, mask("1"), kind="js", temperature=10.0, confidence=0.8)
    assert loss.item() > 0


@pytest.mark.parametrize("kind", KINDS)
def test_nan_in_a_clip_that_counts_is_not_hidden(kind):
    video = torch.tensor([[math.nan, 0.0], [5.0, 0.0]])
    loss = agreement(video, video, mask("11"), kind=kind, temperature=1.0, confidence=0.9)
    assert loss.isnan()


@pytest.mark.parametrize("kind", KINDS)
def test_a_clip_that_is_not_confident_learns_nothing_even_from_masked_classes(kind):
    video = torch.tensor([[-math.inf, 0.0, 0.0], [0.0, 5.0, 1.0]]).requires_grad_()
    audio = torch.tensor([[0.0, -math.inf, 0.0], [0.0, 1.0, 5.0]]).requires_grad_()
    loss = agreement(video, audio, mask("11"), kind=kind, temperature=1.0, confidence=0.9)
    for grad in torch.autograd.grad(loss, (video, audio)):
        assert grad[0].eq(0).all()
        assert grad[1].ne(0).all()


rows = st.lists(st.floats(-80, 80, width=32), min_size=3, max_size=3)
batches = st.lists(st.tuples(rows, rows), min_size=1, max_size=4)


@given(batches)
def test_js_is_bounded_and_neither_minds_the_order(pairs):
    video, audio = (torch.tensor(side) for side in zip(*pairs, strict=True))
    here = torch.ones(len(pairs), dtype=torch.bool)
    for kind in KINDS:
        one, other = (
            agreement(*logits, here, kind=kind, temperature=1.0, confidence=0.0).item()
            for logits in ((video, audio), (audio, video))
        )
        assert one == pytest.approx(other, rel=1e-6, abs=1e-7)
        assert one >= (-2e-7 if kind == "js" else 0)
        assert kind != "js" or one <= math.log(2) + 2e-7


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_prediction_costs_nothing(kind):
    video = noise(6, 50, scale=10).requires_grad_()
    here = torch.ones(6, dtype=torch.bool)
    loss = agreement(video, video.detach() + 3, here, kind=kind, temperature=2.0, confidence=0.0)
    assert loss.item() == pytest.approx(0, abs=1e-6)
    (grad,) = torch.autograd.grad(loss, video)
    assert grad.abs().max() < 1e-6


def test_one_step_brings_both_heads_together():
    video, audio = noise(4, 5).requires_grad_(), noise(4, 5, seed=1).requires_grad_()
    here = torch.ones(4, dtype=torch.bool)

    def loss(video: Tensor, audio: Tensor) -> Tensor:
        return agreement(video, audio, here, kind="js", temperature=1.0, confidence=0.0)

    step_video, step_audio = torch.autograd.grad(loss(video, audio), (video, audio))
    before = loss(video, audio)
    assert loss(video - step_video, audio) < before
    assert loss(video, audio - step_audio) < before


# --------------------------------------------------------------------------------- interpolation


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
@pytest.mark.parametrize("num_mixed", [6, 4])
def test_interpolation_is_the_formula(temperature, num_mixed):
    mixed, clean = noise(num_mixed, 5), noise(6, 5, seed=1)
    partner = torch.tensor([1, 5, 2, 5, 0, 3])[:num_mixed]  # itself, and one twice
    lam = torch.tensor([0.3, 1.0, 0.7, 0.0, 0.5, 0.9])[:num_mixed]
    counts = mask("111101")[:num_mixed]
    found = interpolation(mixed, clean, partner, lam, counts, temperature=temperature)
    expected = interpolation_loop(mixed, clean, partner, lam, counts, temperature)
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(expected, rel=2e-6)


def test_interpolation_by_hand():
    # Three quarters of (1/2, 1/2) and one of (1/10, 9/10) is (0.4, 0.6); the mixed one says
    # (0.2, 0.8): 0.4 ln 2 + 0.6 ln 3/4 = 0.104650. The second mixed clip is its own partner.
    clean, mixed = logs([0.5, 0.5], [0.1, 0.9]), logs([0.2, 0.8], [0.1, 0.9])
    partner, lam = torch.tensor([1, 1]), torch.tensor([0.75, 0.25])
    one = interpolation(mixed, clean, partner, lam, mask("10"))
    assert one.item() == pytest.approx(0.104650, abs=1e-6)
    both = interpolation(mixed, clean, partner, lam, mask("11"))
    assert both.item() == pytest.approx(0.104650 / 2, abs=1e-6)


def test_the_clean_prediction_is_a_target_and_learns_nothing():
    mixed, clean = noise(3, 4).requires_grad_(), noise(3, 4, seed=1).requires_grad_()
    partner, lam = torch.tensor([1, 2, 0]), torch.tensor([0.3, 0.6, 0.5], requires_grad=True)
    loss = interpolation(mixed, clean, partner, lam, mask("111"))
    loss.backward()
    assert clean.grad is None
    assert lam.grad is None
    # The gradient of cross-entropy over the mean: (softmax - target) / clips.
    assert mixed.grad is not None
    p = clean.detach().softmax(1)
    w = lam.detach().unsqueeze(1)
    expected = (mixed.detach().softmax(1) - w * p - (1 - w) * p[[1, 2, 0]]) / 3
    torch.testing.assert_close(mixed.grad, expected)


def test_a_partner_who_is_not_there_is_refused():
    features, lam, here = noise(2, 3), torch.tensor([0.5, 0.5]), mask("11")
    for wrong in (-1, 2):
        partner = torch.tensor([1, wrong])
        with pytest.raises((IndexError, RuntimeError)):
            interpolation(features, features, partner, lam, here)
        with pytest.raises((IndexError, RuntimeError)):
            mixed_contrastive(features, features, partner, lam, here, here, temperature=1.0)


# ----------------------------------------------------------------------------- mixed_contrastive


@pytest.mark.parametrize("temperature", [0.05, 1.0])
@pytest.mark.parametrize("num_mixed", [6, 4])
@pytest.mark.parametrize(
    ("query_present", "key_present"),
    [("111111", "111111"), ("101110", "111111"), ("111111", "011011"), ("011111", "001100"),
     ("111111", "000010")],
)  # fmt: skip
def test_contrastive_is_the_formula(temperature, num_mixed, query_present, key_present):
    queries, keys = noise(num_mixed, 7), noise(6, 7, seed=1)
    partner = torch.tensor([1, 5, 2, 5, 0, 3])[:num_mixed]
    lam = torch.tensor([0.3, 0.7, 1.0, 0.0, 0.5, 0.9])[:num_mixed]
    masks = mask(query_present[:num_mixed]), mask(key_present)
    found = mixed_contrastive(queries, keys, partner, lam, *masks, temperature=temperature)
    expected = contrastive_loop(queries, keys, partner, lam, *masks, temperature)
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(expected, rel=5e-6)


def test_contrastive_by_hand():
    # At temperature 1 / ln 3 the keys at cosine 1 and 0 have odds 3 : 1, so chances 3/4 and 1/4;
    # length does not matter. -(0.25 ln 3/4 + 0.75 ln 1/4) = 1.111641.
    queries, keys = torch.tensor([[5.0, 0.0], [0.0, 2.0]]), torch.tensor([[1.0, 0.0], [0.0, 3.0]])
    partner, lam = torch.tensor([1, 1]), torch.tensor([0.25, 0.5])
    cold = 1 / math.log(3)

    def loss(query_present: Tensor, key_present: Tensor) -> float:
        return mixed_contrastive(
            queries, keys, partner, lam, query_present, key_present, temperature=cold
        ).item()

    both = mask("11")
    assert loss(mask("10"), both) == pytest.approx(1.111641, abs=1e-6)
    # The second row is its own partner: -ln 3/4 = 0.287682.
    assert loss(both, both) == pytest.approx((1.111641 + 0.287682) / 2, abs=1e-6)
    # One key left: it takes all of the target, and all of the softmax; the second row has none.
    assert loss(both, mask("10")) == pytest.approx(0, abs=1e-7)


def test_what_is_left_of_the_target_is_made_one_again():
    # The row wants keys 0 (0.25, absent) and 1; to it, 1 and 2 look alike: ln 2, not 0.75 of it.
    queries, keys = torch.tensor([[1.0, 0.0]]), torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    found = mixed_contrastive(queries, keys, torch.tensor([1]), torch.tensor([0.25]), mask("1"),
                              mask("011"), temperature=1.0)  # fmt: skip
    assert found.item() == pytest.approx(math.log(2))


def test_no_weight_on_a_present_key_is_no_target():
    # lam 1 and the own key absent; lam 0 and the partner's absent: nothing to find for either.
    features = noise(2, 3).requires_grad_()
    for lam, key_present in ((1.0, mask("01")), (0.0, mask("10"))):
        loss = mixed_contrastive(features[:1], features, torch.tensor([1]), torch.tensor([lam]),
                                 mask("1"), key_present, temperature=0.1)  # fmt: skip
        assert loss.item() == 0
        (grad,) = torch.autograd.grad(loss, features)
        assert grad.eq(0).all()


@pytest.mark.parametrize("length", [0.0, 1e-8])
def test_features_without_a_direction(length):
    queries = torch.full((1, 2), length, requires_grad=True)
    keys = torch.tensor([[1.0, 0.0], [0.0, 1.0], [length, length]], requires_grad=True)
    partner, lam, here = torch.tensor([1]), torch.tensor([0.9]), mask("111")

    def loss(queries: Tensor) -> Tensor:
        return mixed_contrastive(queries, keys, partner, lam, mask("1"), here, temperature=1.0)

    # All cosines are 0, so all chances 1/3, whatever the keys do.
    assert loss(queries).item() == pytest.approx(math.log(3))
    assert all(grad.eq(0).all() for grad in torch.autograd.grad(loss(queries), (queries, keys)))
    # Beside a query that has a direction, only such keys learn.
    (grad,) = torch.autograd.grad(loss(torch.tensor([[1.0, 2.0]])), keys)
    assert grad.ne(0).any(1).tolist() == [True, True, False]


def test_both_sides_are_pulled_together():
    queries, keys = noise(4, 6).requires_grad_(), noise(4, 6, seed=1).requires_grad_()
    partner, lam = torch.tensor([1, 0, 3, 2]), torch.tensor([0.8, 0.8, 0.4, 0.4])
    here = mask("1111")

    def loss(queries: Tensor, keys: Tensor) -> Tensor:
        return mixed_contrastive(queries, keys, partner, lam, here, here, temperature=0.5)

    step_queries, step_keys = torch.autograd.grad(loss(queries, keys), (queries, keys))
    before = loss(queries, keys)
    assert loss(queries - step_queries, keys) < before
    assert loss(queries, keys - step_keys) < before


# --------------------------------------------------------------------------- all three together

LOSSES = {
    "js": lambda x, y, rows, other_rows, partner, lam: agreement(
        x, y, rows & other_rows, kind="js", temperature=2.0, confidence=0.3
    ),
    "symmetric_kl": lambda x, y, rows, other_rows, partner, lam: agreement(
        x, y, rows & other_rows, kind="symmetric_kl", temperature=2.0, confidence=0.3
    ),
    # A mixed clip counts where its own and its partner's clean one are there.
    "interpolation": lambda x, y, rows, other_rows, partner, lam: interpolation(
        x, y, partner, lam, rows & other_rows & other_rows[partner.long()], temperature=2.0
    ),
    "contrastive": lambda x, y, rows, other_rows, partner, lam: mixed_contrastive(
        x, y, partner, lam, rows, other_rows, temperature=0.2
    ),
}
every_loss = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)


@every_loss
@pytest.mark.parametrize("garbage", [1e4, math.inf, math.nan])
def test_what_is_absent_changes_nothing_and_learns_nothing(loss, garbage):
    x, y = noise(5, 6), noise(5, 6, seed=1)
    rows, other_rows = mask("10111"), mask("11011")
    partner, lam = torch.tensor([3, 0, 4, 2, 0]), torch.tensor([0.5, 0.3, 0.8, 0.6, 0.9])
    plain = loss(x, y, rows, other_rows, partner, lam)
    assert plain > 0
    x[1], y[2] = garbage, garbage
    x.requires_grad_()
    y.requires_grad_()
    changed = loss(x, y, rows, other_rows, partner, lam)
    assert changed.item() == plain.item()
    changed.backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()
    assert x.grad[1].eq(0).all()
    assert x.grad[0].ne(0).any()
    if y.grad is not None:  # interpolation has no gradient for its targets
        assert y.grad.isfinite().all()
        assert y.grad[2].eq(0).all()
        assert y.grad[0].ne(0).any()


@every_loss
@pytest.mark.parametrize("size", [0, 1, 3])
def test_nobody_there_is_exactly_zero(loss, size):
    x, y = noise(size, 4).requires_grad_(), noise(size, 4, seed=1).requires_grad_()
    nobody, lam = torch.zeros(size, dtype=torch.bool), torch.full((size,), 0.5)
    found = loss(x, y, nobody, nobody, torch.arange(size), lam)
    assert found.item() == 0.0
    grads = torch.autograd.grad(found, (x, y), allow_unused=True)
    assert all(grad is None or grad.eq(0).all() for grad in grads)
    assert grads[0] is not None  # a graph is there: backward() on this loss alone works


@every_loss
def test_gradients_are_finite_at_every_edge(loss):
    edges = [torch.zeros(4), torch.full((4,), 1e4), torch.tensor([1e4, -1e4, -1e4, -1e4]),
             torch.tensor([-1e4, 1e4, 0.0, 0.0]), torch.full((4,), -1e-30)]  # fmt: skip
    for size in (1, 2):
        here = torch.ones(size, dtype=torch.bool)
        for own, other, w in itertools.product(edges, edges, (0.0, 0.5, 1.0)):
            x = own.repeat(size, 1).requires_grad_()
            y = other.repeat(size, 1).requires_grad_()
            partner, lam = torch.arange(size).flip(0), torch.full((size,), w)
            found = loss(x, y, here, here, partner, lam)
            assert found.isfinite()
            found.backward()
            for grad in (x.grad, y.grad):
                assert grad is None or (grad.isfinite().all() and grad.abs().max() < 1e5)


def test_heads_that_are_sure_of_opposites():
    video, audio = torch.tensor([[1e4, -1e4]]), torch.tensor([[-1e4, 1e4]])
    js, kl = (agreement(video, audio, mask("1"), kind=kind, temperature=1.0, confidence=1.0).item()
              for kind in KINDS)  # fmt: skip
    assert js == pytest.approx(math.log(2))
    assert kl == pytest.approx(20_000)


@every_loss
def test_gradients_are_those_of_finite_differences(loss):
    x, y = noise(3, 4, scale=1.0).requires_grad_(), noise(3, 4, seed=1, scale=1.0)
    here, partner, lam = mask("111"), torch.tensor([1, 2, 1]), torch.tensor([0.5, 0.3, 0.8])
    (grad,) = torch.autograd.grad(loss(x, y, here, here, partner, lam), x)
    step = 2**-6
    for i, j in itertools.product(range(3), range(4)):
        shift = torch.zeros(3, 4)
        shift[i, j] = step
        up, down = (
            loss(x.detach() + s * shift, y, here, here, partner, lam).item() for s in (1, -1)
        )
        assert grad[i, j].item() == pytest.approx((up - down) / (2 * step), abs=1e-3)


@every_loss
def test_the_order_of_the_clips_does_not_matter(loss):
    x, y = noise(5, 6), noise(5, 6, seed=1)
    rows, other_rows = mask("10111"), mask("11011")
    partner, lam = torch.tensor([3, 0, 4, 2, 0]), torch.tensor([0.5, 0.3, 0.8, 0.6, 0.9])
    order = torch.tensor([4, 2, 0, 1, 3])
    place = order.argsort()  # where each clip went
    one = loss(x, y, rows, other_rows, partner, lam)
    other = loss(x[order], y[order], rows[order], other_rows[order], place[partner[order]],
                 lam[order])  # fmt: skip
    assert other.item() == pytest.approx(one.item(), rel=1e-6)


@every_loss
@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float64])
def test_float32_inside_whatever_comes_in(loss, kind):
    x, y = noise(4, 64).to(kind).requires_grad_(), noise(4, 64, seed=1).to(kind)
    here, lam = mask("1111"), torch.tensor([0.5, 0.3, 0.8, 0.6])
    partner = torch.tensor([1, 0, 3, 2], dtype=torch.int16)
    exact = loss(x.float(), y.float(), here, here, partner, lam)
    with torch.autocast("cpu", torch.bfloat16):
        found = loss(x, y, here, here, partner, lam)
    assert found.dtype == torch.float32
    assert found.item() == exact.item()
    found.backward()
    assert x.grad is not None
    assert x.grad.dtype == kind
    assert x.grad.isfinite().all()


@every_loss
def test_inputs_are_left_alone(loss):
    given_ = [noise(3, 4), noise(3, 4, seed=1), mask("101"), mask("011"),
              torch.tensor([1, 0, 2]), torch.tensor([0.2, 0.7, 1.0])]  # fmt: skip
    copies = [tensor.clone() for tensor in given_]
    loss(*given_)
    assert all(torch.equal(one, other) for one, other in zip(given_, copies, strict=True))


@pytest.mark.needs_cuda
@pytest.mark.filterwarnings("ignore:Synchronization debug mode is a prototype")
@every_loss
def test_the_same_on_a_gpu_and_nothing_waits_for_it(loss):
    given_ = [noise(8, 64), noise(8, 64, seed=1), mask("10111111"),
              mask("11011111"), torch.arange(8).flip(0), torch.linspace(0, 1, 8)]  # fmt: skip
    on_gpu = [tensor.cuda() for tensor in given_]
    torch.cuda.set_sync_debug_mode("error")
    try:
        found = loss(*on_gpu)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert found.item() == pytest.approx(loss(*given_).item(), rel=1e-5)


# ---------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize("wrong", [0.0, -1.0, math.inf, math.nan])
def test_temperature_must_be_positive(wrong):
    x, here, lam = noise(2, 3), mask("11"), torch.tensor([0.5, 0.5])
    partner = torch.tensor([1, 0])
    with pytest.raises(ValueError, match=f"temperature.*got {wrong}"):
        agreement(x, x, here, kind="js", temperature=wrong, confidence=0.0)
    with pytest.raises(ValueError, match=f"temperature.*got {wrong}"):
        interpolation(x, x, partner, lam, here, temperature=wrong)
    with pytest.raises(ValueError, match=f"temperature.*got {wrong}"):
        mixed_contrastive(x, x, partner, lam, here, here, temperature=wrong)


@pytest.mark.parametrize("wrong", [-0.1, 1.1, math.nan])
def test_confidence_is_a_probability(wrong):
    x = noise(2, 3)
    with pytest.raises(ValueError, match=f"confidence.*got {wrong}"):
        agreement(x, x, mask("11"), kind="js", temperature=1.0, confidence=wrong)


@pytest.fixture
def unchecked():
    """As users run it: shapes in signatures are checked in tests alone."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.mark.usefixtures("unchecked")
def test_another_kind_is_refused():
    x, other = noise(2, 3), cast(Agreement, "kl")
    with pytest.raises(ValueError, match=r"'js', 'symmetric_kl'.*got 'kl'"):
        agreement(x, x, mask("11"), kind=other, temperature=1.0, confidence=0.0)


@pytest.mark.usefixtures("unchecked")
def test_shapes_that_do_not_fit_are_named():
    x, wide, long = noise(2, 3), noise(2, 5), noise(4, 3)
    two, four = mask("11"), mask("1111")
    lam, partner = torch.tensor([0.5, 0.5]), torch.tensor([1, 0])

    def agree(*parts: Tensor) -> Tensor:
        return agreement(*parts, kind="js", temperature=1.0, confidence=0.0)

    def contrast(*parts: Tensor) -> Tensor:
        return mixed_contrastive(*parts, temperature=1.0)

    wrong = [
        ("lam_video has 2, lam_audio has 4",
         lambda: same_label(lam, lam.repeat(2), two, two, 0.0)),
        ("video_logits has 2, audio_logits has 4", lambda: agree(x, long, two)),
        ("video_logits has 3, audio_logits has 5", lambda: agree(x, wide, two)),
        ("counts has 4", lambda: agree(x, x, four)),
        ("mixed_logits has 3, clean_logits has 5",
         lambda: interpolation(x, wide, partner, lam, two)),
        ("partner has 1", lambda: interpolation(x, x, partner[:1], lam, two)),
        ("lam has 1", lambda: interpolation(x, x, partner, lam[:1], two)),
        ("counts has 4", lambda: interpolation(x, x, partner, lam, four)),
        ("mixed_logits.*clean_logits.* 2 .* 1 ",
         lambda: interpolation(x, x[:1], partner, lam, two)),
        ("queries has 3, keys has 5", lambda: contrast(x, wide, partner, lam, two, two)),
        ("query_present has 4", lambda: contrast(x, x, partner, lam, four, two)),
        ("keys has 2, key_present has 4", lambda: contrast(x, x, partner, lam, two, four)),
        ("queries.*keys.* 2 .* 1 ", lambda: contrast(x, x[:1], partner, lam, two, two[:1])),
    ]  # fmt: skip
    for message, call in wrong:
        with pytest.raises(ValueError, match=message):
            call()


def kl_of_yes_and_no(p: float, q: float) -> float:
    return sum(a * math.log(a / b) for a, b in ((p, q), (1 - p, 1 - q)))


@pytest.mark.parametrize("kind", ["js", "symmetric_kl"])
@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_agreement_of_sigmoids_is_of_each_class(kind, temperature):
    generator = torch.Generator().manual_seed(0)
    video, audio = (torch.randn(4, 3, generator=generator).double() for _ in range(2))
    counts = torch.tensor([True, False, True, True])
    terms = []
    for i in (0, 2, 3):
        for a, b in zip(video[i].tolist(), audio[i].tolist(), strict=True):
            p, q = (1 / (1 + math.exp(-x / temperature)) for x in (a, b))
            m = (p + q) / 2
            terms.append(
                (kl_of_yes_and_no(p, m) + kl_of_yes_and_no(q, m)) / 2
                if kind == "js"
                else (kl_of_yes_and_no(p, q) + kl_of_yes_and_no(q, p)) / 2
            )
    found = agreement(video, audio, counts, kind=kind, temperature=temperature, confidence=0.0,
                      binary=True)  # fmt: skip
    assert found.item() == pytest.approx(temperature**2 * sum(terms) / len(terms), rel=1e-5)


def test_the_confidence_of_sigmoids_is_that_of_the_likeliest_class():
    ln3 = math.log(3)  # 3/4
    video, audio = torch.tensor([[ln3, -9.0]]), torch.tensor([[-ln3, -9.0]])
    here = torch.tensor([True])

    def of(confidence):
        return agreement(video, audio, here, kind="js", temperature=1.0, confidence=confidence,
                         binary=True).item()  # fmt: skip

    assert of(0.74) > 0 == of(0.76)


def test_interpolation_of_sigmoids_is_of_each_class():
    generator = torch.Generator().manual_seed(1)
    mixed, clean = (torch.randn(3, 2, generator=generator).double() for _ in range(2))
    partner, lam = torch.tensor([1, 2, 0]), torch.tensor([0.7, 1.0, 0.2])
    counts = torch.tensor([True, True, False])
    terms = []
    for i in (0, 1):
        for k in range(2):
            own, other = (1 / (1 + math.exp(-clean[j, k].item())) for j in (i, partner[i]))
            wanted = lam[i].item() * own + (1 - lam[i].item()) * other
            terms.append(kl_of_yes_and_no(wanted, 1 / (1 + math.exp(-mixed[i, k].item()))))
    found = interpolation(mixed, clean, partner, lam, counts, binary=True)
    assert found.item() == pytest.approx(sum(terms) / 4, rel=1e-5)
