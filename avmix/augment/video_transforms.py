"""Video augmentations: one draw for all frames of a clip, applied with torchvision's functions.

Geometry comes first and everything else works on the small result. Where an operation measures its
input (contrast, equalisation), it measures the whole clip, so that equal pixels stay equal from
frame to frame: measured frame by frame they would flicker.
"""

import math
from dataclasses import dataclass
from typing import Literal, assert_never

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as F

from avmix.config import AugmentConfig

Operation = Literal[
    "brightness", "contrast", "saturation", "hue", "sharpness", "posterize", "solarize",
    "autocontrast", "equalize", "rotate", "shear_x", "shear_y", "translate_x", "translate_y",
]  # fmt: skip

_GREY = 115
"""The mean of the frontend's normalisation: what is outside the frame means nothing."""

# Limits of the operations of a policy: (RandAugment, TrivialAugment "wide"), in the unit of `Op`;
# None: it has no strength. Cubuk et al., "RandAugment" (2020); Mueller and Hutter, "TrivialAugment"
# (ICCV 2021), with the numbers of torchvision's transforms of these names, where a translation is
# 150 of 331 and 32 of 224 pixels. Inverting and colour-less ones of other lists are left out.
_LIMITS: dict[Operation, tuple[float, float] | None] = {
    "brightness": (0.9, 0.99),
    "contrast": (0.9, 0.99),
    "saturation": (0.9, 0.99),
    "sharpness": (0.9, 0.99),
    "posterize": (4.0, 6.0),
    "solarize": (1.0, 1.0),
    "autocontrast": None,
    "equalize": None,
    "rotate": (30.0, 135.0),
    "shear_x": (0.3, 0.99),
    "shear_y": (0.3, 0.99),
    "translate_x": (150 / 331, 32 / 224),
    "translate_y": (150 / 331, 32 / 224),
}
_SIGNED = ("brightness", "contrast", "saturation", "sharpness", "rotate", "shear_x", "shear_y",
           "translate_x", "translate_y")  # fmt: skip
_ERASED_AREA = (0.02, 1 / 3)
_ERASED_ASPECT = 3.3
"""Zhong et al., "Random erasing data augmentation" (AAAI 2020)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rectangle:
    """Rectangle in a frame, in pixels."""

    top: int
    left: int
    height: int
    width: int


@dataclass(frozen=True, slots=True)
class Op:
    """One operation on all frames of a clip."""

    name: Operation
    amount: float = 0.0
    """Factor - 1 (brightness, contrast, saturation, sharpness); share of the circle (hue); bits
    that are lost (posterize); share of the values, from the top, that are inverted (solarize);
    degrees (rotate); tangent (shear); share of the side (translate)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoPlan:
    """Augmentation of the frames of a clip, in order of application."""

    crop: Rectangle
    """Part of the decoded frame; scaled to the size of the result."""
    flip: bool = False
    """Mirrored, left and right."""
    ops: tuple[Op, ...] = ()
    erased: Rectangle | None = None
    """Part of the result that is noise, the same in all frames."""
    noise_seed: int = 0
    """Seed of that noise."""


def centred(height: int, width: int) -> VideoPlan:
    """Largest central square, as used in evaluation."""
    side = min(height, width)
    return VideoPlan(
        crop=Rectangle(top=(height - side) // 2, left=(width - side) // 2, height=side, width=side)
    )


def along(height: int, width: int) -> tuple[VideoPlan, VideoPlan, VideoPlan]:
    """The largest squares at the beginning, in the middle and at the end of the longer side: left,
    centre and right of a landscape frame, as in evaluation with three crops."""
    middle, side = centred(height, width), min(height, width)
    first = VideoPlan(crop=Rectangle(top=0, left=0, height=side, width=side))
    last = VideoPlan(crop=Rectangle(top=height - side, left=width - side, height=side, width=side))
    return first, middle, last


def draw_video(
    config: AugmentConfig,
    height: int,
    width: int,
    size: int,
    stream: np.random.Generator,
    *,
    may_flip: bool = True,
) -> VideoPlan:
    """Draw the video augmentation of frames of `height` x `width` pixels, for an output of `size` x
    `size`."""
    flip = bool(stream.random() < config.flip) and may_flip
    match config.crop:
        case "resized":
            crop = _resized_crop(config, height, width, stream)
        case "multiscale":
            crop = _multiscale_crop(config, height, width, stream)
        case "centre":
            crop = centred(height, width).crop
    ops = _jitter(config, stream) + _policy(config, stream)
    erased, noise_seed = None, 0
    if config.erase > 0 and stream.random() < config.erase:
        area = size**2 * stream.uniform(*_ERASED_AREA)
        limit = math.log(_ERASED_ASPECT)
        aspect = math.exp(stream.uniform(-limit, limit))
        h = min(max(1, round(math.sqrt(area / aspect))), size)
        w = min(max(1, round(math.sqrt(area * aspect))), size)
        erased = Rectangle(
            top=int(stream.integers(size - h + 1)),
            left=int(stream.integers(size - w + 1)),
            height=h,
            width=w,
        )
        noise_seed = int(stream.integers(2**32))
    return VideoPlan(crop=crop, flip=flip, ops=ops, erased=erased, noise_seed=noise_seed)


def _resized_crop(
    config: AugmentConfig, height: int, width: int, stream: np.random.Generator
) -> Rectangle:
    """Random resized crop (Szegedy et al., "Going deeper with convolutions", 2015).

    Area and aspect ratio are drawn together, ten times at most, until the rectangle fits in the
    frame; then the largest rectangle that has an allowed ratio is taken. Its position is drawn in
    either case.
    """
    log_aspect = math.log(config.max_aspect)
    for _ in range(10):
        area = height * width * stream.uniform(config.min_area, 1.0)
        aspect = math.exp(stream.uniform(-log_aspect, log_aspect))
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < h <= height and 0 < w <= width:
            break
    else:
        w = min(width, round(height * config.max_aspect))
        h = min(height, round(width * config.max_aspect))
    return _placed(h, w, height, width, stream)


def _multiscale_crop(
    config: AugmentConfig, height: int, width: int, stream: np.random.Generator
) -> Rectangle:
    """A square of the frame scaled to a random size (Simonyan and Zisserman, "Very deep
    convolutional networks", 2015): in pixels as decoded, it is the smaller the larger that is."""
    smallest, largest = config.scales
    side = max(1, round(min(height, width) / stream.uniform(smallest, largest)))
    return _placed(side, side, height, width, stream)


def _placed(h: int, w: int, height: int, width: int, stream: np.random.Generator) -> Rectangle:
    return Rectangle(
        top=int(stream.integers(height - h + 1)),
        left=int(stream.integers(width - w + 1)),
        height=h,
        width=w,
    )


def _jitter(config: AugmentConfig, stream: np.random.Generator) -> tuple[Op, ...]:
    """Colour jitter, in random order."""
    limits: list[tuple[Operation, float]] = [
        ("brightness", config.brightness),
        ("contrast", config.contrast),
        ("saturation", config.saturation),
        ("hue", config.hue),
    ]
    ops = [Op(name, float(stream.uniform(-limit, limit))) for name, limit in limits if limit > 0]
    return tuple(ops[i] for i in stream.permutation(len(ops))) if ops else ()


def _policy(config: AugmentConfig, stream: np.random.Generator) -> tuple[Op, ...]:
    match config.policy:
        case "none":
            return ()
        case "randaugment":
            ops = [_op(0, config.policy_strength, stream) for _ in range(config.policy_ops)]
            done = stream.random(len(ops)) < config.policy_probability
            return tuple(op for op, is_done in zip(ops, done, strict=True) if is_done)
        case "trivialaugment":
            return (_op(1, stream.random(), stream),)
    assert_never(config.policy)


def _op(column: int, strength: float, stream: np.random.Generator) -> Op:
    """Any operation of a policy, of `strength` 0 to 1 of its limit."""
    name = list(_LIMITS)[int(stream.integers(len(_LIMITS)))]
    limits = _LIMITS[name]
    sign = -1 if name in _SIGNED and stream.random() < 0.5 else 1
    return Op(name) if limits is None else Op(name, sign * strength * limits[column])


def apply_video(
    video: UInt8[np.ndarray, "t h w c"], plan: VideoPlan, size: int
) -> UInt8[np.ndarray, "t {size} {size} c"]:
    """Apply `plan` to every frame, with an output of `size` x `size` pixels; `video` is not
    modified."""
    box = plan.crop
    frames = torch.from_numpy(video).permute(0, 3, 1, 2)
    frames = F.resized_crop(
        frames, box.top, box.left, box.height, box.width, [size, size], antialias=True
    )
    if plan.flip:
        frames = F.horizontal_flip(frames)
    for op in plan.ops:
        frames = _apply(op, frames)
    out = frames.permute(0, 2, 3, 1).contiguous().numpy()
    if plan.erased is not None:
        at = plan.erased
        noise = np.random.Generator(np.random.Philox(plan.noise_seed)).normal(
            _GREY, 57.0, (at.height, at.width, 3)
        )
        out = out.copy()  # where nothing else was done it is `video` itself
        area = np.s_[:, at.top : at.top + at.height, at.left : at.left + at.width]
        out[area] = noise.clip(0, 255).astype(np.uint8)
    return out


def _apply(op: Op, frames: Tensor) -> Tensor:
    """`frames` (t c h w)."""
    match op.name:
        case "brightness":
            return F.adjust_brightness(frames, 1 + op.amount)
        case "contrast":
            return _apart(F.adjust_contrast(_as_one(frames), 1 + op.amount), frames)
        case "saturation":
            return F.adjust_saturation(frames, 1 + op.amount)
        case "hue":
            return F.adjust_hue(frames, op.amount)
        case "sharpness":
            return F.adjust_sharpness(frames, 1 + op.amount)
        case "posterize":
            return F.posterize(frames, 8 - round(op.amount))
        case "solarize":
            return F.solarize(frames, 255 * (1 - op.amount))
        case "autocontrast":
            # Extremes of planes in one piece are found in half the time.
            return _apart(F.autocontrast(_as_one(frames).contiguous()), frames)
        case "equalize":
            return _apart(F.equalize(_as_one(frames)), frames)
        case "rotate":
            return _affine(frames, angle=op.amount)
        case "shear_x":
            return _affine(frames, shear=(math.degrees(math.atan(op.amount)), 0.0))
        case "shear_y":
            return _affine(frames, shear=(0.0, math.degrees(math.atan(op.amount))))
        case "translate_x":
            return _affine(frames, translate=(round(op.amount * frames.shape[3]), 0))
        case "translate_y":
            return _affine(frames, translate=(0, round(op.amount * frames.shape[2])))
    assert_never(op.name)


def _affine(
    frames: Tensor,
    angle: float = 0.0,
    translate: tuple[int, int] = (0, 0),
    shear: tuple[float, float] = (0.0, 0.0),
) -> Tensor:
    return F.affine(
        frames,
        angle=angle,
        translate=list(translate),
        scale=1.0,
        shear=list(shear),
        interpolation=InterpolationMode.BILINEAR,
        fill=[_GREY],
    )


def _as_one(frames: Tensor) -> Tensor:
    """All frames as one tall one (c t*h w), so that what is measured is of the whole clip."""
    return frames.transpose(0, 1).flatten(1, 2)


def _apart(tall: Tensor, frames: Tensor) -> Tensor:
    """What `_as_one` joined, apart again."""
    return tall.unflatten(1, (frames.shape[0], frames.shape[2])).transpose(0, 1)
