"""Mixing tensors: against the reference in float64, and by hand at the edges."""

import itertools
import math

import numpy as np
import pytest
import torch
from jaxtyping import TypeCheckError
from mix_reference import mix
from torch import Tensor

from avmix.mix.blend import _Take, along_sphere, blend, blend_crosswise, inside, mix_part
from avmix.mix.mix_plan import MixPlan, Part

NAN, INF = math.nan, math.inf
SHAPES = [(5,), (3, 4), (2, 3, 4), (2, 2, 3, 4)]


def ints(values) -> Tensor:
    return torch.tensor(values, dtype=torch.int32)


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def partners(b: int) -> list[list[int]]:
    """Pairs, anything, all the same, oneself, and fewer rows than there are."""
    generator = np.random.default_rng(b)
    return [
        [i ^ 1 if i ^ 1 < b else i for i in range(b)],
        generator.integers(0, b, b).tolist(),
        [b - 1] * b,
        list(range(b)),
        list(range(b // 2, b))[: max(1, b // 2)],
    ]


def boxes(n: int, lengths) -> list[list[int]]:
    """Empty, everything and random ones in turns."""
    generator, made = np.random.default_rng(n), []
    for i in range(n):
        limits = np.sort(generator.integers(0, np.array(lengths) + 1, (2, len(lengths))), 0).T
        if i % 3 == 1:
            limits[i % len(lengths)] = 1
        if i % 3 == 2:
            limits = np.array([[0, length] for length in lengths])
        made.append(limits.ravel().tolist())
    return made


@pytest.mark.parametrize("b", [1, 2, 3, 64])
def test_every_mix_is_the_reference(b):
    for shape, partner in itertools.product(SHAPES, partners(b)):
        x, before = noise(b, *shape), noise(b, *shape)
        weight = [(0.3, 0.0, 0.9, 1.0, 0.5, 1e-6)[i % 6] for i in range(len(partner))]
        for axes in range(len(shape) + 1):
            box = boxes(len(partner), shape[len(shape) - axes :]) if axes else None
            mixed = blend(
                x, ints(partner), torch.tensor(weight), None if box is None else ints(box)
            )
            expected = mix(x.numpy(), partner, weight, box)
            case = f"{shape=} {partner=} {axes=}"
            assert mixed.dtype == torch.float32, case
            np.testing.assert_allclose(mixed.numpy(), expected, rtol=0, atol=2e-6, err_msg=case)
        assert torch.equal(x, before), "the input was changed"


def test_a_box_by_hand():
    x = torch.tensor([[[0.0, 1, 2], [3, 4, 5]], [[10.0, 11, 12], [13, 14, 15]]])
    mixed = blend(x, ints([1, 0]), torch.tensor([0.25, 0.0]), ints([[0, 2, 1, 2], [1, 2, 0, 3]]))
    assert mixed.tolist() == [[[0, 8.5, 2], [3, 11.5, 5]], [[10, 11, 12], [3, 4, 5]]]


def test_inside_by_hand():
    mask = inside(ints([[1, 2, 0, 2], [0, 0, 0, 3]]), torch.zeros(2, 4, 2, 3))
    assert mask.shape == (2, 1, 2, 3)
    assert mask[0, 0].tolist() == [[False, False, False], [True, True, False]]
    assert not mask[1].any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_weights_of_one_and_zero_are_exact_whatever_the_other_is(dtype):
    """0 * nan is nan: what is not in the mix must leave no trace of it."""
    good = torch.tensor([-0.0, 0.1, -3.7, INF, -INF, 1e-30, 6e4]).to(dtype)
    for bad in (NAN, INF, -INF):
        x = torch.stack([good, torch.full_like(good, bad)])
        kept = blend(x, ints([1, 1]), torch.tensor([1.0, 0.0]))
        taken = blend(x.flip(0), ints([1, 1]), torch.tensor([0.0, 1.0]))
        for mixed in (kept[0], taken[0]):
            assert torch.equal(mixed, good)
            assert torch.equal(mixed.signbit(), good.signbit())


def test_outside_the_box_a_partner_leaves_no_trace():
    x = torch.tensor([[1.0, 2, 3], [NAN, NAN, NAN]])
    mixed = blend(x, ints([1]), torch.tensor([0.5]), ints([[1, 2]]))
    assert mixed[0].isnan().tolist() == [False, True, False]
    assert mixed[0, 0].item() == 1.0


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_mixed_in_float32(dtype):
    x, weight = noise(8, 100).to(dtype), torch.linspace(0.01, 0.99, 8)
    partner = ints([(i + 3) % 8 for i in range(8)])
    mixed = blend(x, partner, weight)
    assert mixed.dtype == dtype
    assert torch.equal(mixed, blend(x.float(), partner, weight).to(dtype))


def test_double_precision_stays():
    x = noise(2, 50).double() + 1e-9
    mixed = blend(x, ints([1, 0]), torch.tensor([0.25, 1.0]))
    assert mixed.dtype == torch.float64
    torch.testing.assert_close(mixed[0], 0.25 * x[0] + 0.75 * x[1], rtol=0, atol=1e-15)
    assert torch.equal(mixed[1], x[1])


def test_gradients_flow_to_both_by_weight():
    x = noise(3, 2, 4).requires_grad_()
    weight = torch.tensor([0.75, 0.25, 1.0])
    upstream = noise(3, 2, 4, seed=1)
    blend(x, ints([1, 2, 0]), weight, ints([[0, 4], [1, 3], [0, 4]])).backward(upstream)
    middle = torch.tensor([0.0, 1, 1, 0])
    expected = torch.stack([
        0.75 * upstream[0],  # 2 has 0 for a partner, but a weight of 1
        (1 - 0.75 * middle) * upstream[1] + 0.25 * upstream[0],
        upstream[2] + 0.75 * middle * upstream[1],
    ])  # fmt: skip
    assert x.grad is not None
    torch.testing.assert_close(x.grad, expected)


def test_gradients_are_those_of_finite_differences():
    x = noise(4, 3, 2).double().requires_grad_()
    weight, partner = torch.tensor([0.3, 0.0, 0.8], dtype=torch.float64), ints([3, 0, 0])
    box = ints([[0, 3, 1, 2], [0, 2, 0, 2], [1, 1, 0, 2]])
    assert torch.autograd.gradcheck(lambda x: blend(x, partner, weight, box), x)


def test_a_partner_that_is_no_row_is_refused():
    for place in (2, -1):
        with pytest.raises((IndexError, RuntimeError)):
            blend(torch.zeros(2, 3), ints([0, place]), torch.full((2,), 0.5))


def test_shapes_and_types_that_do_not_fit_are_refused():
    x, partner, weight = torch.zeros(2, 3), ints([1, 0]), torch.ones(2)
    with pytest.raises(TypeCheckError):
        blend(torch.zeros(2, 3, dtype=torch.uint8), partner, weight)
    with pytest.raises(TypeCheckError):
        blend(x, partner.long(), weight)
    with pytest.raises(TypeCheckError):
        blend(x, partner, weight[:1])
    with pytest.raises(TypeCheckError):
        blend(x, partner, weight, ints([[0, 3]]))


# Parts of plans -----------------------------------------------------------------------------------


def placed(weight, box=None, shape=(), partner=(1, 0)):
    part = Part(name="audio", domain="log_mel", weight=weight, present=(True,) * len(weight),
                box=box, shape=shape)  # fmt: skip
    plan = MixPlan(num_inputs=2, partner=partner, method="mixup", level="input", parts=(part,))
    return plan.to(torch.device("cpu")).parts[0]


def test_a_part_is_mixed_in_its_box():
    x = noise(2, 1, 3, 4)
    part = placed((0.5, 0.0), box=((0, 2, 1, 4), (0, 3, 0, 0)), shape=(3, 4))
    expected = mix(x.numpy(), [1, 0], [0.5, 0.0], [(0, 2, 1, 4), (0, 3, 0, 0)])
    np.testing.assert_allclose(mix_part(part, x).numpy(), expected, atol=1e-6)


def test_what_nothing_happens_to_is_not_copied():
    x = noise(2, 3)
    assert mix_part(placed((1.0, 1.0)), x).data_ptr() == x.data_ptr()
    first = mix_part(placed((1.0,), partner=(1,)), x)
    assert first.data_ptr() == x.data_ptr()
    assert first.shape == (1, 3)


def test_boxes_of_another_grid_are_refused():
    part = placed((0.5, 0.5), box=((0, 2, 1, 4),) * 2, shape=(3, 4))
    with pytest.raises(ValueError, match=r"audio: .* from \(3, 4\), the tensor is \(2, 3, 5\)"):
        mix_part(part, torch.zeros(2, 3, 5))
    with pytest.raises(ValueError, match=r"from \(3, 4\), the tensor is \(2, 4\)"):
        mix_part(part, torch.zeros(2, 4))


# One modality with the other ----------------------------------------------------------------------


def test_crosswise_by_hand():
    video = torch.tensor([[1.0, 0.0], [2.0, 4.0]])
    audio = torch.tensor([[0.0, 8.0], [6.0, 0.0]])
    v, a = blend_crosswise(video, audio, ints([1, 0]), torch.tensor([0.75, 0.5]), "linear")
    assert v.tolist() == [[2.25, 0.0], [1.0, 6.0]]
    assert a.tolist() == [[0.5, 7.0], [3.5, 0.0]]
    v, a = blend_crosswise(video, audio, ints([0, 1]), torch.tensor([0.5, 1.0]), "linear")
    assert v.tolist() == [[0.5, 4.0], [2.0, 4.0]]
    assert a.tolist() == [[0.5, 4.0], [6.0, 0.0]]


@pytest.mark.parametrize("path", ["linear", "sphere"])
def test_crosswise_partners_may_be_of_a_second_batch(path):
    video, audio = noise(4, 3), noise(4, 3, seed=1)
    v, a = blend_crosswise(video, audio, ints([3, 2]), torch.tensor([0.0, 1.0]), path)
    assert torch.equal(v, torch.stack([audio[3], video[1]]))
    assert torch.equal(a, torch.stack([video[3], audio[1]]))


@pytest.mark.parametrize("path", ["linear", "sphere"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_crosswise_a_weight_of_one_is_exact_whatever_the_other_is(path, dtype):
    video, audio = noise(2, 3).to(dtype), torch.full((2, 3), NAN, dtype=dtype)
    v, a = blend_crosswise(video, audio, ints([1, 0]), torch.tensor([1.0, 0.0]), path)
    assert v.dtype == a.dtype == dtype
    assert torch.equal(v[0], video[0])
    assert torch.equal(a[1], video[0])


def test_a_quarter_of_the_way_on_the_sphere():
    own, other = torch.tensor([[2.0, 0.0, 0.0]]), torch.tensor([[0.0, 4.0, 0.0]])
    # A quarter of the 90 degrees from `other`; a quarter of the way from 4 to 2.
    angle = math.radians(22.5)
    expected = [[3.5 * math.sin(angle), 3.5 * math.cos(angle), 0.0]]
    torch.testing.assert_close(
        along_sphere(own, other, torch.tensor([[0.25]])), torch.tensor(expected)
    )


def test_on_the_sphere_angles_and_lengths_are_shared_by_weight():
    own, other = noise(64, 5), 3 * noise(64, 5, seed=1)
    share = torch.linspace(0, 1, 64)[:, None]
    mixed = along_sphere(own, other, share).double()
    own, other, share = own.double(), other.double(), share.double()[:, 0]

    def angle(x, y):
        return ((x * y).sum(1) / (x.norm(dim=1) * y.norm(dim=1))).clamp(-1, 1).acos()

    length = share * own.norm(dim=1) + (1 - share) * other.norm(dim=1)
    torch.testing.assert_close(mixed.norm(dim=1), length, rtol=1e-5, atol=1e-5)
    whole = angle(own, other)
    torch.testing.assert_close(angle(mixed, other), share * whole, rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(angle(mixed, own), (1 - share) * whole, rtol=1e-4, atol=1e-3)


EDGES = {
    "parallel": ([1.0, 2.0, 0.0], [2.0, 4.0, 0.0]),
    "parallel, cosine 1 to the bit": ([1.0, 0.0, 0.0], [2.0, 0.0, 0.0]),
    "opposite, cosine -1 to the bit": ([1.0, 0.0, 0.0], [-2.0, 0.0, 0.0]),
    "the same": ([1.0, 2.0, 0.0], [1.0, 2.0, 0.0]),
    "almost parallel": ([1.0, 2.0, 0.0], [1.0, 2.0, 1e-3]),
    "opposite": ([1.0, 2.0, 0.0], [-2.0, -4.0, 0.0]),
    "almost opposite": ([1.0, 2.0, 0.0], [-1.0, -2.0, 1e-3]),
    "own is zero": ([0.0, 0.0, 0.0], [1.0, 2.0, 3.0]),
    "other is zero": ([1.0, 2.0, 3.0], [0.0, 0.0, 0.0]),
    "both are zero": ([0.0, 0.0, 0.0], [0.0, 0.0, 0.0]),
}


@pytest.mark.parametrize("case", EDGES)
def test_where_a_great_circle_is_not_defined_all_is_finite(case):
    for share in (0.0, 1e-6, 0.3, 0.5, 1.0):
        own, other = (torch.tensor([x], requires_grad=True) for x in EDGES[case])
        mixed = along_sphere(own, other, torch.tensor([[share]]))
        mixed.sum().backward()
        assert own.grad is not None
        assert other.grad is not None
        for x in (mixed, own.grad, other.grad):
            assert x.isfinite().all(), share
        if case.startswith(("parallel", "the same", "opposite")):  # on the line
            expected = share * own + (1 - share) * other
            torch.testing.assert_close(mixed, expected)


def test_gradients_on_the_sphere_are_those_of_finite_differences():
    own, other = (noise(6, 4, seed=k).double().requires_grad_() for k in range(2))
    share = torch.linspace(0.1, 0.9, 6, dtype=torch.float64)[:, None]
    assert torch.autograd.gradcheck(along_sphere, (own, other, share))


def test_the_gradient_with_shared_partners_is_that_of_index_select():
    """On CUDA it is a product, summed in one order; here the same code runs on the CPU."""
    partner = ints([2, 2, 0, 2])
    for shape in ((5, 3), (5, 2, 3, 4)):
        x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
        weight = torch.randn(4, *shape[1:], dtype=torch.float64)
        expected = torch.autograd.grad((x.index_select(0, partner) * weight).sum(), x)
        found = _Take.apply(x, partner)
        assert torch.equal(found, x[[2, 2, 0, 2]])
        torch.testing.assert_close(torch.autograd.grad((found * weight).sum(), x), expected)


@pytest.mark.parametrize("path", ["own kind", "linear", "sphere"])
def test_with_and_without_a_gradient_a_mix_is_the_same_to_the_bit(path) -> None:
    """Without one, ends are written into the few rows that are at one; nan included."""
    x, y = noise(6, 5), noise(6, 5, seed=1)
    x[3], y[1] = NAN, INF
    partner, weight = ints([3, 0, 1, 2, 5, 4]), torch.tensor([1.0, 0.0, 0.3, 1.0, 0.0, 0.9])
    if path == "own kind":
        mixed = blend(x, partner, weight), blend(x.clone().requires_grad_(), partner, weight)
        pairs = [mixed]
        assert mixed[0][0].equal(x[0])
        assert mixed[0][1].equal(x[0])
    else:
        with_gradient = x.clone().requires_grad_(), y.clone().requires_grad_()
        pairs = [*zip(blend_crosswise(x, y, partner, weight, path),
                      blend_crosswise(*with_gradient, partner, weight, path),
                      strict=True)]  # fmt: skip
        assert pairs[0][0][1].equal(y[0])
    for mine, other in pairs:
        torch.testing.assert_close(mine, other.detach(), atol=0, rtol=0, equal_nan=True)
