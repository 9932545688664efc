"""Two clips and their mixes, as arrays that can be drawn: the mix of training, undone to pixels."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from avmix.config import ClipConfig, FrontendConfig, MixConfig
from avmix.mix import MixPlan, clip_grids, draw_plan, mixed_targets
from avmix.models.frontend import PIXEL_MEAN, PIXEL_STD, Frontend
from avmix.rng import rng
from avmix.training.engine import clips_of
from avmix.types import Batch, Heads


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """Frames and spectrogram of a clip, or of a mix, and its label."""

    frames: UInt8[np.ndarray, "t h w c"]
    log_mel: Float[np.ndarray, "m f"]
    """Normalised; the mean of the channels of stereo audio."""
    shares: Heads
    """Label of each head: (2), the weights of the own clip and of the partner."""


def pair_plan(
    mix: MixConfig, batch: Batch, clip: ClipConfig, frontend: FrontendConfig, seed: int = 0
) -> MixPlan:
    """How the first clip of `batch` is mixed with the second: drawn as training draws it."""
    shared, own = rng(seed, 0, "mix_shared", 0), rng(seed, 0, "mix", 0, 0)
    grids = clip_grids(clip, frontend, mix.audio_domain)
    return draw_plan(mix, clips_of(batch), grids, shared=shared, own=own).of_one(0)


def looks_of(
    batch: Batch, plans: Sequence[MixPlan], frontend: FrontendConfig, sample_rate: int
) -> list[Look]:
    """Of the own clip, of the partner, and of each mix of the two clips of `batch`.

    Raises ValueError for a plan that does not fit the clips, or mixes inside the network, where
    there is nothing to see.
    """
    for plan in plans:
        if plan.level != "input":
            raise ValueError(f"{plan.method}: mixed at {plan.level} level, which cannot be drawn")
    stage = Frontend(frontend, sample_rate)
    frames, log_mel = stage(batch)
    alone = torch.eye(2)
    found = [_look(frames[place], log_mel[place], Heads(*[alone[place]] * 3)) for place in range(2)]
    for plan in plans:
        placed = plan.to(torch.device("cpu"))
        mixed_frames, mixed_mel = stage(batch, placed)
        target = mixed_targets(placed, alone)
        found.append(_look(mixed_frames[0], mixed_mel[0], Heads(*(head[0] for head in target))))
    return found


def plan_title(plan: MixPlan) -> str:
    """What of the first clip of `plan` is its own, and what the network is not shown."""
    video, audio = plan.part("video"), plan.part("audio")
    title = f"{plan.method}: {video.lam[0]:.2f} of the own frames, {audio.lam[0]:.2f} of the own"
    title += f" audio ({audio.domain.replace('_', '-')})"
    missing = [part.name for part in plan.parts if not part.present[0]]
    return title + "".join(f"; {name} dropped" for name in missing)


def _look(frames: Tensor, log_mel: Tensor, shares: Heads) -> Look:
    return Look(frames=_pixels(frames), log_mel=log_mel.mean(0).numpy(), shares=shares)


def _pixels(frames: Float[Tensor, "c t h w"]) -> UInt8[np.ndarray, "t h w c"]:
    """Normalised frames back to what a screen shows."""
    std, mean = (torch.tensor(v).view(3, 1, 1, 1) for v in (PIXEL_STD, PIXEL_MEAN))
    pixels = (frames * std + mean).clamp(0, 1) * 255
    return pixels.round().byte().permute(1, 2, 3, 0).numpy()
