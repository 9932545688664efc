"""MMPareto: one direction for an encoder from the gradients of the fused and of its own loss.

Wei and Hu, "MMPareto: boosting multimodal learning with innocent unimodal assistance" (ICML 2024),
as their code has it. For each encoder, g of the fused (and consistency) losses and u of the
modality losses:

    cos(g, u) > 0: a = 1/2; else a = argmin |a g + (1 - a) u|^2 in [0, 1]
    h = 2 (a g + (1 - a) u), of each parameter times gamma * max(1, |g + u| / |h|)

All other weights have the gradient of the sum. Both gradients are computed by themselves: one more
backward pass. (BalanceBenchmark's port takes both from one buffer that is never zeroed: they are
the same, the cosine is always 1, and nothing of the method runs.)
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from avmix.training.balance.branches import Branches

_TINY = 1e-30


class Gradients(NamedTuple):
    """Of some parameters, in their order."""

    joint: list[Tensor]
    unimodal: list[Tensor]


def gradients(joint: Tensor, unimodal: Tensor, parameters: Sequence[nn.Parameter]) -> Gradients:
    """Gradients of two losses of one graph; zeros where a loss does not depend on a parameter."""
    found = []
    for loss, keep in ((joint, True), (unimodal, False)):
        some = torch.autograd.grad(loss, parameters, retain_graph=keep, allow_unused=True)
        found.append([torch.zeros_like(p) if g is None else g
                      for g, p in zip(some, parameters, strict=True)])  # fmt: skip
    return Gradients(*found)


def added(first: Gradients | None, second: Gradients) -> Gradients:
    """Their sums, for steps whose gradients are accumulated."""
    if first is None:
        return second
    return Gradients(*([a + b for a, b in zip(x, y, strict=True)]
                       for x, y in zip(first, second, strict=True)))  # fmt: skip


def joint_share(joint: Sequence[Tensor], unimodal: Sequence[Tensor]) -> Tensor:
    """a of one encoder. 1/2 where a gradient is 0, as of a batch without the modality: there is
    no conflict."""
    g, u = (torch.cat([one.flatten().float() for one in some]) for some in (joint, unimodal))
    gg, gu, uu = g @ g, g @ u, u @ u
    least = ((uu - gu) / (gg + uu - 2 * gu).clamp(min=_TINY)).clamp(0, 1)
    agree = (gu > 0) | (gg == 0) | (uu == 0)
    return torch.where(agree, torch.full_like(least, 0.5), least)


def combined(joint: Sequence[Tensor], unimodal: Sequence[Tensor], gamma: float) -> list[Tensor]:
    """The gradient of each parameter of one encoder."""
    share, found = joint_share(joint, unimodal), []
    for g, u in zip(joint, unimodal, strict=True):
        new = 2 * (share * g + (1 - share) * u)
        size, wanted = new.norm(), (g + u).norm()
        enlarged = torch.where(size > 0, wanted / size.clamp(min=_TINY), 1.0).clamp(min=1)
        found.append(gamma * enlarged * new)
    return found


def set_gradients(
    parameters: Sequence[nn.Parameter], found: Gradients, branches: Branches, gamma: float
) -> None:
    """Write `.grad` of all `parameters`: of the branches as combined, of others the sum."""
    place = {p: number for number, p in enumerate(parameters)}
    for p, g, u in zip(parameters, found.joint, found.unimodal, strict=True):
        p.grad = g + u
    for branch in filter(None, branches):
        numbers = [place[p] for p in branch]
        new = combined([found.joint[n] for n in numbers], [found.unimodal[n] for n in numbers],
                       gamma)  # fmt: skip
        for p, gradient in zip(branch, new, strict=True):
            p.grad = gradient.to(p.dtype)
