"""Look at a mix: two clips and what training would make of them, on one time axis."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from avmix.config import ClipConfig, FrontendConfig
from avmix.data.augment import apply_crop_flip, centre_crop
from avmix.data.windows import Window
from avmix.decode import decode_clip
from avmix.figures import OWN, PARTNER, Strip, draw_strips
from avmix.frontend import PIXEL_MEAN, PIXEL_STD, Frontend
from avmix.mix import apply, mixed_targets, mixup_plan
from avmix.types import Batch, Clip


def preview_mix(
    own: Path,
    partner: Path,
    *,
    lam: float,
    out: Path,
    start_seconds: float = 0.0,
    labels: tuple[str, str] | None = None,
    clip: ClipConfig | None = None,
    frontend: FrontendConfig | None = None,
) -> None:
    """Write a PNG of both clips and of lam * own + (1 - lam) * partner.

    Everything goes the way of training: the same decoder, frontend and mix. `labels` names the two
    classes; the file names stand in for them. Raises what `decode_clip` raises, and ValueError
    unless 0 <= lam <= 1.
    """
    clip = clip or ClipConfig(crop=112, short_side=112)
    settings = frontend or FrontendConfig()
    names = labels or (own.stem, partner.stem)
    window = Window(start_seconds, clip.duration_seconds)
    clips = [_read(path, window, clip) for path in (own, partner)]
    batch = Batch(
        video=torch.from_numpy(np.stack([c.video for c in clips])),
        audio=torch.from_numpy(np.stack([c.audio for c in clips])),
        has_video=torch.ones(2, dtype=torch.bool),
        has_audio=torch.tensor([c.audio_valid > 0 for c in clips]),
        target=torch.eye(2),
        row=torch.arange(2),
    )
    plan = mixup_plan(
        [1, 0], [lam, lam], has_video=batch.has_video.tolist(), has_audio=batch.has_audio.tolist()
    )
    frames, log_mel = Frontend(settings, clip.sample_rate)(batch)
    mixed_frames, mixed_mel = apply(plan, video=frames, audio=log_mel)
    target = mixed_targets(plan, batch.target).fused[0].tolist()
    seconds = (
        settings.n_fft / 2 + settings.hop_length * np.arange(log_mel.shape[3])
    ) / clip.sample_rate
    share = clip.duration_seconds / clip.num_frames
    base = Strip(
        title="",
        frames=_pixels(frames[0]),
        frame_seconds=(np.arange(clip.num_frames) + 0.5) * share,
        log_mel=log_mel[0, 0].numpy(),
        column_seconds=seconds,
        labels=(),
    )
    strips = [
        replace(base, title=f"own clip: {names[0]}", labels=[(names[0], 1.0, OWN)]),
        replace(
            base,
            title=f"partner: {names[1]}",
            frames=_pixels(frames[1]),
            log_mel=log_mel[1, 0].numpy(),
            labels=[(names[1], 1.0, PARTNER)],
        ),
        replace(
            base,
            title=f"mix: pictures and sound, {lam:g} of the own clip, {1 - lam:g} of the partner",
            frames=_pixels(mixed_frames[0]),
            log_mel=mixed_mel[0, 0].numpy(),
            labels=[(names[0], target[0], OWN), (names[1], target[1], PARTNER)],
        ),
    ]
    draw_strips(strips, 0.0, clip.duration_seconds, f"Cross-Modal Mixup, lambda {lam:g}", out)


def _read(path: Path, window: Window, config: ClipConfig) -> Clip:
    clip = decode_clip(
        path,
        start_seconds=window.start_seconds,
        duration_seconds=window.duration_seconds,
        num_frames=config.num_frames,
        sample_rate=config.sample_rate,
        short_side=config.short_side,
        audio="silence",
    )
    crop = centre_crop(clip.video.shape[1], clip.video.shape[2])
    return replace(clip, video=apply_crop_flip(clip.video, crop, config.crop))


def _pixels(frames: Float[Tensor, "c t h w"]) -> UInt8[np.ndarray, "t h w c"]:
    """Normalised frames back to what a screen shows."""
    std, mean = (torch.tensor(v).view(3, 1, 1, 1) for v in (PIXEL_STD, PIXEL_MEAN))
    pixels = (frames * std + mean).clamp(0, 1) * 255
    return pixels.round().byte().permute(1, 2, 3, 0).numpy()
