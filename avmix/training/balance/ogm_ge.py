"""OGM-GE: the encoder of the modality that is ahead changes less.

Peng et al., "Balanced multimodal learning via on-the-fly gradient modulation" (CVPR 2022), with the
mean confidences s of the modality heads and rho_m = s_m / s_other:

    k_m = 1 - tanh(alpha * rho_m)  where rho_m > 1, else 1
    change of the encoder of m:  k_m * d + noise * std(d) * N(0, 1)     (noise: weight matrices)

The original scales the gradient. Adam divides a gradient by its own size, so that a constant factor
is nearly gone; here d, what the optimizer's step has changed, is scaled. Under plain SGD without
weight decay both are the same.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from avmix.training.balance.branches import Branches
from avmix.training.balance.scores import mean_scores, ratios

Weights = tuple[list[Tensor], list[Tensor]]
"""Copies of the weights of both branches."""


def update_scales(sums: Float[Tensor, "2 2"], alpha: float) -> Float[Tensor, "2"]:
    """k of the video and of the audio encoder, from `confidence_sums`."""
    rho = ratios(mean_scores(sums))
    return torch.where(rho > 1, 1 - torch.tanh(alpha * rho), torch.ones_like(rho))


def copies(branches: Branches) -> Weights:
    """The weights before the step."""
    return tuple([p.detach().clone() for p in some] for some in branches)  # type: ignore[return-value]


@torch.no_grad()
def scale_update(
    branches: Branches,
    before: Weights,
    scales: Float[Tensor, "2"],
    noise: float = 0.0,
    generator: torch.Generator | None = None,
) -> None:
    """Scale what has changed since `before`, in place; `generator`: of the noise."""
    for parameters, old, scale in zip(branches, before, scales, strict=True):
        _scale(parameters, old, scale, noise, generator)


def _scale(
    parameters: Sequence[nn.Parameter],
    before: Sequence[Tensor],
    scale: Tensor,
    noise: float,
    generator: torch.Generator | None,
) -> None:
    for now, old in zip(parameters, before, strict=True):
        change = now - old
        # By lerp, which at 1 is the new value to the bit.
        now.copy_(torch.lerp(old, now, scale.to(now.dtype)))
        if noise > 0 and now.ndim >= 2:
            drawn = torch.randn(now.shape, generator=generator, device=now.device, dtype=now.dtype)
            now.add_(noise * change.std() * drawn)
