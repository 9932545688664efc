"""Who is mixed with whom, and how much: drawn once on the CPU, as data.

lambda is everywhere the weight of the clip's OWN signal: 1 means untouched. The clip at place i is
mixed with the one at `partner[i]`:

    x[i] = lam[i] * x[i] + (1 - lam[i]) * x[partner[i]]

for pictures, spectrogram and label alike (Zhang et al., "mixup: beyond empirical risk
minimization", ICLR 2018, carried over to every modality of a clip).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from avmix.config import MixConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class MixPlan:
    """One batch's mixing; plain numbers, so that it can be printed, saved and replayed."""

    partner: tuple[int, ...]
    """Place in the batch of each clip's partner; a clip that is its own partner is not mixed."""
    lam: tuple[float, ...]
    """Weight of the clip's own label for the fused head."""
    lam_video: tuple[float, ...]
    """Weight of its own pictures, and of its own label for the video head."""
    lam_audio: tuple[float, ...]
    """Weight of its own spectrogram, and of its own label for the audio head."""

    def __post_init__(self) -> None:
        """Raises ValueError where lengths differ, a partner is not in the batch or a lambda is
        not in [0, 1]."""
        size = len(self.partner)
        for name in ("lam", "lam_video", "lam_audio"):
            values = getattr(self, name)
            if len(values) != size:
                raise ValueError(f"{name} has {len(values)} values for {size} partners")
            if not all(0 <= value <= 1 for value in values):
                raise ValueError(f"{name} must be in [0, 1], got {values}")
        if not all(0 <= place < size for place in self.partner):
            raise ValueError(f"partner must be in [0, {size}), got {self.partner}")

    @property
    def size(self) -> int:
        """Number of clips."""
        return len(self.partner)


def unmixed_plan(size: int) -> MixPlan:
    """Every clip as it is."""
    ones = (1.0,) * size
    return MixPlan(partner=tuple(range(size)), lam=ones, lam_video=ones, lam_audio=ones)


def draw_plan(
    config: MixConfig,
    *,
    has_video: Sequence[bool],
    has_audio: Sequence[bool],
    rng: np.random.Generator,
) -> MixPlan:
    """Draw partners and lambdas for a batch of clips with these modalities present."""
    size = len(has_video)
    # Drawn whether it is used or not: a changed probability leaves the other draws as they were.
    mixed = rng.random() < config.probability
    partner = _involution(size, rng)
    lam = rng.beta(config.alpha, config.alpha, size)
    if config.method == "none" or not mixed:
        return unmixed_plan(size)
    return mixup_plan(partner, lam.tolist(), has_video=has_video, has_audio=has_audio)


def mixup_plan(
    partner: Sequence[int],
    lam: Sequence[float],
    *,
    has_video: Sequence[bool],
    has_audio: Sequence[bool],
) -> MixPlan:
    """Cross-Modal Mixup: one lambda per clip for every modality that both partners have.

    Where one of the two lacks a modality there is nothing to mix it with: that modality stays the
    clip's own (its lambda is 1, and so is the label of its head), and the fused label follows the
    modality that was mixed. Where nothing was mixed the fused label is the clip's own too.
    """

    def shared(has: Sequence[bool]) -> list[bool]:
        return [has[i] and has[j] and i != j for i, j in enumerate(partner)]

    both_video, both_audio = shared(has_video), shared(has_audio)
    return MixPlan(
        partner=tuple(partner),
        lam=tuple(
            x if v or a else 1.0 for x, v, a in zip(lam, both_video, both_audio, strict=True)
        ),
        lam_video=tuple(x if both else 1.0 for x, both in zip(lam, both_video, strict=True)),
        lam_audio=tuple(x if both else 1.0 for x, both in zip(lam, both_audio, strict=True)),
    )


def _involution(size: int, rng: np.random.Generator) -> list[int]:
    """Random pairs (i mixed with j, j with i); in an odd batch one clip stays alone."""
    order = rng.permutation(size).tolist()
    partner = list(range(size))
    for i, j in zip(order[0::2], order[1::2], strict=False):
        partner[i], partner[j] = j, i
    return partner
