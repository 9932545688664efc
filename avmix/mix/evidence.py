"""Labels by evidence: what of the energy of cut audio is the clip's own.

A cut gives the partner a share of the seconds, or of the mel bins; how much of it is audible is
another thing. With energies P of the cells of both spectrograms (or of samples)

    lam = sum over own cells of P_a / (sum over own cells of P_a + sum over the box of P_b)

replaces the own share of the cells in the label of the audio head; that of the fused head is the
mean over modalities, as before. The share of a cut frame that can be seen is its area already. (By
attention in place of energy, for images: TransMix, Chen et al., CVPR 2022.)
"""

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from avmix.mix.blend import inside, take
from avmix.mix.mix_plan import PlacedPart, PlacedPlan

CUTS = ("cutmix_temporal", "cutmix_frequency")
"""Methods that cut audio."""


def energy_share(part: PlacedPart, energy: Float[Tensor, "b *grid"]) -> Float[Tensor, " n"]:
    """Own share of the energy of the mix, of energies of the cells that boxes are cut from; the
    share of the cells where all is silent, and where nothing is cut."""
    if part.box is None:
        return part.lam
    size = len(part.weight)
    box = inside(part.box, energy)

    def total(cells: Tensor) -> Tensor:
        return cells.flatten(1).double().sum(1)

    left = 1 - part.weight.double()
    own = total(energy[:size]) - left * total(energy[:size].where(box, 0))
    other = left * total(take(energy, part.partner).where(box, 0))
    share = (own / (own + other)).clamp(0, 1).to(part.lam.dtype)
    return torch.where(own + other > 0, share, part.lam)


def with_audio_share(plan: PlacedPlan, energy: Float[Tensor, "b *grid"]) -> PlacedPlan:
    """The plan, whose labels of the audio head and of the fused head go by `energy` of the
    audio."""
    parts = tuple(
        replace(part, lam=energy_share(part, energy)) if part.part.name == "audio" else part
        for part in plan.parts
    )
    present = torch.stack([part.present for part in parts])
    lams = torch.stack([part.lam for part in parts]).where(present, 0)
    number = present.sum(0)
    lam = torch.where(number > 0, lams.sum(0) / number.clamp(min=1), torch.ones_like(lams[0]))
    return replace(plan, parts=parts, lam=lam)
