"""Carry a `MixPlan` out: pure functions, out of place, the same plan for every modality."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from avmix.mix.plan import MixPlan
from avmix.types import Heads


def apply(
    plan: MixPlan, *, video: Float[Tensor, "b c t h w"], audio: Float[Tensor, "b 1 m f"]
) -> tuple[Float[Tensor, "b c t h w"], Float[Tensor, "b 1 m f"]]:
    """Mixed pictures and spectrograms; the inputs are left as they are.

    Raises ValueError when the plan is for another batch size.
    """
    return blend(plan, video, plan.lam_video), blend(plan, audio, plan.lam_audio)


def mixed_targets(plan: MixPlan, target: Float[Tensor, "b k"]) -> Heads:
    """The label of each head, mixed as its input was."""
    return Heads(
        fused=blend(plan, target, plan.lam),
        video=blend(plan, target, plan.lam_video),
        audio=blend(plan, target, plan.lam_audio),
    )


def blend(plan: MixPlan, x: Float[Tensor, "b *rest"], lam: Sequence[float]) -> Tensor:
    """lam * x + (1 - lam) * x[partner], clip by clip; exactly x where lam is 1."""
    if x.shape[0] != plan.size:
        raise ValueError(f"the plan is for {plan.size} clips, the tensor has {x.shape[0]}")
    if all(value == 1.0 for value in lam):
        return x
    partner = torch.tensor(plan.partner, device=x.device)
    weight = torch.tensor(lam, dtype=x.dtype, device=x.device)
    return x[partner].lerp_(x, weight.view(-1, *[1] * (x.ndim - 1)))
