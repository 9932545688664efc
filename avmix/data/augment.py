"""Synchronized augmentation: drawn once per clip as data, then applied by pure functions."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import UInt8
from torchvision.transforms.v2 import functional as F

from avmix.config import AugmentConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class CropFlip:
    """A rectangle of the picture, in pixels, and whether it is mirrored."""

    top: int
    left: int
    height: int
    width: int
    flip: bool


def draw_crop_flip(
    config: AugmentConfig, height: int, width: int, rng: np.random.Generator
) -> CropFlip:
    """Random resized crop (Szegedy et al., "Going deeper with convolutions", 2015) and flip.

    Area and aspect ratio are drawn together, ten times at most, until the rectangle fits in the
    picture of `height` x `width` pixels; then the largest rectangle that has an allowed ratio is
    taken. Its position is drawn in either case.
    """
    log_aspect = math.log(config.max_aspect)
    flip = bool(rng.random() < config.flip)
    for _ in range(10):
        area = height * width * rng.uniform(config.min_area, 1.0)
        aspect = math.exp(rng.uniform(-log_aspect, log_aspect))
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < h <= height and 0 < w <= width:
            break
    else:
        w = min(width, round(height * config.max_aspect))
        h = min(height, round(width * config.max_aspect))
    return CropFlip(
        top=int(rng.integers(height - h + 1)),
        left=int(rng.integers(width - w + 1)),
        height=h,
        width=w,
        flip=flip,
    )


def centre_crop(height: int, width: int) -> CropFlip:
    """The largest central square: what evaluation sees."""
    side = min(height, width)
    return CropFlip(
        top=(height - side) // 2, left=(width - side) // 2, height=side, width=side, flip=False
    )


def apply_crop_flip(
    video: UInt8[np.ndarray, "t h w c"], crop: CropFlip, size: int
) -> UInt8[np.ndarray, "t {size} {size} c"]:
    """Cut `crop` out of every picture, scale it to `size` x `size`, mirror it if it says so."""
    frames = torch.from_numpy(video).permute(0, 3, 1, 2)
    frames = F.resized_crop(
        frames, crop.top, crop.left, crop.height, crop.width, [size, size], antialias=True
    )
    if crop.flip:
        frames = F.horizontal_flip(frames)
    return frames.permute(0, 2, 3, 1).contiguous().numpy()
