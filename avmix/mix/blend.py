"""Mixing kernels in plain PyTorch: pure, out-of-place functions for any partner map and any box."""

from typing import Any

import torch
from jaxtyping import Bool, Float, Int32
from torch import Tensor

from avmix.mix.mix_plan import CrossPath, PlacedPart


def mix_part(part: PlacedPart, x: Float[Tensor, "b *rest"]) -> Float[Tensor, "n *rest"]:
    """Mix `x` by the part of the plan for its modality; `x` itself where nothing is mixed."""
    what = part.part
    if not what.mixes:
        return x[: len(what.weight)]
    if part.box is not None and x.shape[-len(what.shape) :] != what.shape:
        raise ValueError(
            f"{what.name}: the plan cuts boxes from {what.shape}, the tensor is {tuple(x.shape)}"
        )
    return blend(x, part.partner, part.weight, part.box)


def take(x: Float[Tensor, "b *rest"], partner: Int32[Tensor, " n"]) -> Float[Tensor, "n *rest"]:
    """Select clips by index; an index may occur several times.

    The gradient of `index_select` adds on CUDA in any order where clips share a partner, and a run
    would not be the same to the bit: there it is a product with a matrix of zeros and ones.
    """
    if not (x.is_cuda and x.requires_grad):
        return x.index_select(0, partner)
    return _Take.apply(x, partner)


class _Take(torch.autograd.Function):
    """`index_select` along the clips, with a gradient that is summed in one order."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, partner: Tensor) -> Tensor:
        ctx.save_for_backward(partner)
        ctx.size = len(x)
        return x.index_select(0, partner)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None]:
        (grad,) = grad_outputs
        (partner,) = ctx.saved_tensors
        wanted = torch.arange(ctx.size, device=grad.device)[:, None] == partner
        summed = wanted.to(grad.dtype) @ grad.flatten(1)
        return summed.view(ctx.size, *grad.shape[1:]), None


def blend(
    x: Float[Tensor, "b *rest"],
    partner: Int32[Tensor, " n"],
    weight: Float[Tensor, " n"],
    box: Int32[Tensor, "n bounds"] | None = None,
) -> Float[Tensor, "n *rest"]:
    """Weighted mean of own and partner values inside a box; own values outside.

    `box`: (start, stop) of each of the last axes; None: everything. A weight of 1 gives the own
    values to the bit, 0 the partner's. Half precision is mixed in float32, or lambda would be
    rounded in the input and not in the label. Differentiable.
    """
    size, dtype = len(partner), torch.promote_types(x.dtype, torch.float32)
    own, other = x[:size].to(dtype), take(x, partner).to(dtype)
    share = weight.to(dtype).view(-1, *[1] * (x.ndim - 1))
    if box is None and _may_write_into(other):
        # Into the partners, a copy: more fresh memory would take longer than the arithmetic.
        mixed = other.lerp_(own, share)
        if len(rows := _ends(share)):
            other = take(x, partner[rows]).to(dtype)
            mixed[rows] = torch.where(share[rows] >= 1, own[rows], other)
        return mixed.to(x.dtype)
    mixed = exact_at_ends(torch.lerp(other, own, share), own, other, share)
    if box is not None:
        mixed = torch.where(inside(box, x), mixed, own)
    return mixed.to(x.dtype)


def blend_several(
    x: Float[Tensor, "b d"],
    partners: Int32[Tensor, "n p"],
    weight: Float[Tensor, " n"],
    shares: Float[Tensor, "n p"],
) -> Float[Tensor, "n d"]:
    """Weighted mean of own values and those of several partners: what has weight 0 leaves no trace,
    also where it is not a number. Half precision is mixed in float32. Differentiable."""
    size, dtype = len(partners), torch.promote_types(x.dtype, torch.float32)

    def part(values: Tensor, share: Tensor) -> Tensor:
        share = share.to(dtype)[:, None]
        return (values.to(dtype) * share).where(share > 0, 0)

    mixed = part(x[:size], weight)
    for number in range(partners.shape[1]):
        mixed = mixed + part(take(x, partners[:, number]), shares[:, number])
    return mixed.to(x.dtype)


def inside(box: Int32[Tensor, "n bounds"], x: Float[Tensor, "b *rest"]) -> Bool[Tensor, "n *mask"]:
    """Mask of the elements inside boxes of the last axes of `x`; broadcasts over the axes
    before."""
    axes = box.shape[1] // 2
    mask = torch.ones((), dtype=torch.bool, device=x.device)
    for axis in range(axes):
        place = torch.arange(x.shape[axis - axes], dtype=torch.int32, device=x.device)
        start, stop = box[:, 2 * axis, None], box[:, 2 * axis + 1, None]
        within = (place >= start) & (place < stop)
        mask = mask & within.view(-1, *[1] * axis, len(place), *[1] * (axes - 1 - axis))
    return mask.view(len(box), *[1] * (x.ndim - 1 - axes), *mask.shape[1:])


def exact_at_ends(mixed: Tensor, own: Tensor, other: Tensor, share: Tensor) -> Tensor:
    """`mixed`, but `own` itself where the share is 1 and `other` where it is 0: what is not in the
    mix leaves no trace of it, also where it is not a number (0 * nan is nan).

    Without a gradient on a CPU the few rows are written into `mixed`: no pass over all of it.
    """
    if _may_write_into(mixed):
        if len(rows := _ends(share)):
            mixed[rows] = torch.where(share[rows] >= 1, own[rows], other[rows])
        return mixed
    return torch.where(share >= 1, own, torch.where(share <= 0, other, mixed))


def _may_write_into(x: Tensor) -> bool:
    """Whether writing into `x` costs neither a gradient nor, on CUDA, a wait."""
    return not (x.is_cuda or x.requires_grad or torch.compiler.is_compiling())


def _ends(share: Tensor) -> Tensor:
    """Rows that are not mixed: the share is 0 or 1."""
    return ((share <= 0) | (share >= 1)).flatten().nonzero().flatten()


def blend_crosswise(
    video: Float[Tensor, "b d"],
    audio: Float[Tensor, "b d"],
    partner: Int32[Tensor, " n"],
    weight: Float[Tensor, " n"],
    path: CrossPath,
) -> tuple[Float[Tensor, "n d"], Float[Tensor, "n d"]]:
    """Mix each feature with the partner's feature of the other modality."""
    mix = _along_line if path == "linear" else along_sphere
    size, dtype = len(partner), torch.promote_types(video.dtype, torch.float32)
    v, a, share = video.to(dtype), audio.to(dtype), weight.to(dtype)[:, None]
    return (
        mix(v[:size], take(a, partner), share).to(video.dtype),
        mix(a[:size], take(v, partner), share).to(audio.dtype),
    )


def _along_line(own: Tensor, other: Tensor, share: Tensor) -> Tensor:
    return exact_at_ends(torch.lerp(other, own, share), own, other, share)


def along_sphere(
    own: Float[Tensor, "n d"], other: Float[Tensor, "n d"], share: Float[Tensor, "n 1"]
) -> Float[Tensor, "n d"]:
    """Spherical interpolation: `share` of the angle from `other` to `own`; the length is the mean
    of both with the same weights.

    Nearly parallel vectors are mixed on the line, which is the same there; opposite ones, between
    which every great circle is as short, too.
    """
    length_own, length_other = own.norm(dim=1, keepdim=True), other.norm(dim=1, keepdim=True)
    u, v = own / length_own.clamp(min=1e-6), other / length_other.clamp(min=1e-6)
    cosine = (u * v).sum(1, keepdim=True)
    apart = cosine.abs() < 1 - 1e-5
    # acos has no finite slope at its ends: its input is replaced there, not its output.
    angle = torch.where(apart, cosine, torch.zeros_like(cosine)).acos()
    arc = ((share * angle).sin() * u + ((1 - share) * angle).sin() * v) / angle.sin()
    length = torch.lerp(length_other, length_own, share)
    mixed = torch.where(apart, arc * length, torch.lerp(other, own, share))
    return exact_at_ends(mixed, own, other, share)
