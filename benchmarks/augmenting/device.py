"""Random resized crop, flip and colours: each clip by itself in a worker, or a batch on the device.

All ways start from the same decoded uint8 clips and plans and end with normalised float frames on
the device. Batched colours need one order of the operations for the whole batch: all ways use it.
Batched cropping needs video of one size, here those of made files; those of a real dataset are
of many, and would have to be padded or squashed first.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from shared.medians import median, quartiles
from shared.rounds import rounds_in_turn
from torch import Tensor
from torch.nn import functional as F

from avmix.augment import VideoPlan, apply_video, draw_video
from avmix.config import AugmentConfig
from avmix.models.frontend import PIXEL_MEAN, PIXEL_STD
from avmix.rng import rng

AUGMENT = AugmentConfig(flip=0.5, brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1)
_ORDER = ("brightness", "contrast", "saturation", "hue")
_GREY = (0.2989, 0.587, 0.114)
_NOTES = {
    "worker": "avmix.augment.apply_video clip by clip: crop scaled with antialiasing",
    "batch_grid": "one affine grid_sample of the batch, not antialiased; batched colours",
    "batch_antialias": "crops scaled one by one with antialiasing; batched colours",
}

Way = Callable[[Sequence[np.ndarray], Sequence[VideoPlan], int, torch.device], Tensor]


def draw_plans(clips: Sequence[np.ndarray], crop: int, step: int) -> list[VideoPlan]:
    """One for each clip, colours in one order."""
    found = []
    for number, clip in enumerate(clips):
        stream = rng(0, step, "augment", number)
        plan = draw_video(AUGMENT, clip.shape[1], clip.shape[2], crop, stream)
        ops = tuple(sorted(plan.ops, key=lambda op: _ORDER.index(op.name)))
        found.append(replace(plan, ops=ops))
    return found


def worker(
    clips: Sequence[np.ndarray], plans: Sequence[VideoPlan], crop: int, device: torch.device
) -> Tensor:
    """What the package does."""
    done = [apply_video(clip, plan, crop) for clip, plan in zip(clips, plans, strict=True)]
    frames = torch.from_numpy(np.stack(done)).to(device)
    return _normalised(frames.permute(0, 1, 4, 2, 3).float().div_(255))


def batch_grid(
    clips: Sequence[np.ndarray], plans: Sequence[VideoPlan], crop: int, device: torch.device
) -> Tensor:
    """Everything batched."""
    frames = torch.from_numpy(np.stack(clips)).to(device)
    b, t, height, width, c = frames.shape
    # Frames of a clip are channels of one image: they share a grid.
    images = frames.permute(0, 1, 4, 2, 3).reshape(b, t * c, height, width).float().div_(255)
    theta = torch.zeros(b, 2, 3)
    for row, plan in zip(theta, plans, strict=True):
        box = plan.crop
        row[0, 0] = (-1 if plan.flip else 1) * box.width / width
        row[0, 2] = (2 * box.left + box.width) / width - 1
        row[1, 1] = box.height / height
        row[1, 2] = (2 * box.top + box.height) / height - 1
    grid = F.affine_grid(theta.to(device), [b, t * c, crop, crop], align_corners=False)
    images = F.grid_sample(images, grid, padding_mode="border", align_corners=False)
    return _normalised(_coloured(images.view(b, t, c, crop, crop), plans))


def batch_antialias(
    clips: Sequence[np.ndarray], plans: Sequence[VideoPlan], crop: int, device: torch.device
) -> Tensor:
    """Scaled as by the worker, which no batched function does; the rest batched."""
    frames = torch.from_numpy(np.stack(clips)).to(device)
    done = []
    for clip, plan in zip(frames, plans, strict=True):
        box = plan.crop
        part = clip[:, box.top : box.top + box.height, box.left : box.left + box.width]
        part = part.permute(0, 3, 1, 2).float().div_(255)
        part = F.interpolate(part, (crop, crop), mode="bilinear", antialias=True)
        done.append(part.flip(-1) if plan.flip else part)
    return _normalised(_coloured(torch.stack(done), plans))


WAYS: dict[str, Way] = {
    "worker": worker, "batch_grid": batch_grid, "batch_antialias": batch_antialias,
}  # fmt: skip


def _coloured(frames: Tensor, plans: Sequence[VideoPlan]) -> Tensor:
    """`frames` (b t c h w) of 0 to 1, each clip by its own amounts."""
    amounts = torch.tensor([[op.amount for op in plan.ops] for plan in plans])
    brightness, contrast, saturation, hue = (
        column.view(-1, 1, 1, 1, 1) for column in amounts.to(frames.device).unbind(1)
    )
    frames = frames.mul_(1 + brightness).clamp_(0, 1)
    mean = _grey(frames).mean((1, 2, 3, 4), keepdim=True)
    frames = torch.lerp(mean, frames, 1 + contrast).clamp_(0, 1)
    frames = torch.lerp(_grey(frames), frames, 1 + saturation).clamp_(0, 1)
    return _turned(frames, hue)


def _grey(frames: Tensor) -> Tensor:
    weight = torch.tensor(_GREY, device=frames.device).view(3, 1, 1)
    return (frames * weight).sum(2, keepdim=True)


def _turned(frames: Tensor, hue: Tensor) -> Tensor:
    """Hue turned by shares of the circle: every channel is a piecewise linear function of it."""
    high, low = frames.amax(2, keepdim=True), frames.amin(2, keepdim=True)
    chroma = high - low
    r, g, b = frames.split(1, 2)
    safe = chroma.clamp(min=1e-8)
    angle = torch.where(
        high == r, (g - b) / safe, torch.where(high == g, (b - r) / safe + 2, (r - g) / safe + 4)
    )
    offset = torch.tensor([5.0, 3.0, 1.0], device=frames.device).view(3, 1, 1)
    k = (offset + angle + 6 * hue) % 6
    return high - chroma * torch.minimum(k, 4 - k).clamp(0, 1)


def _normalised(frames: Tensor) -> Tensor:
    mean, std = (
        torch.tensor(v, device=frames.device).view(3, 1, 1) for v in (PIXEL_MEAN, PIXEL_STD)
    )
    return frames.sub_(mean).div_(std)


def measure_device(
    device_name: str, clips: Sequence[np.ndarray], crop: int, rounds: int
) -> dict[str, Any]:
    """CPU and wall time of each way, per clip, and how far its frames are from the worker's."""
    device = torch.device(device_name)
    sync = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    ms: dict[str, list[tuple[float, float]]] = {name: [] for name in WAYS}
    off: dict[str, list[float]] = {name: [] for name in WAYS}
    for turn in rounds_in_turn(WAYS, rounds, warm_up=1):
        plans = draw_plans(clips, crop, turn.number + 1)
        reference = None
        if turn.number == rounds - 1:
            reference = worker(clips, plans, crop, device)
        for name in turn.order:
            sync()
            cpu, wall = time.process_time(), time.perf_counter()
            made = WAYS[name](clips, plans, crop, device)
            sync()
            cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
            if turn.counts:
                ms[name].append((1e3 * cpu / len(clips), 1e3 * wall / len(clips)))
            if reference is not None:
                difference = (made - reference).abs_().mean().item()
                off[name].append(255 * PIXEL_STD[0] * difference)
            del made
    ways = {
        name: {
            "cpu_ms": median([cpu for cpu, _ in ms[name]]),
            "cpu_quartiles": quartiles([cpu for cpu, _ in ms[name]]),
            "wall_ms": median([wall for _, wall in ms[name]]),
            "mean_difference": median(off[name], 2),
            "note": _NOTES[name],
        }
        for name in WAYS
    }
    # On a CPU it is work that counts; on a device its own time, the way there included.
    unit = "wall_ms" if device.type == "cuda" else "cpu_ms"
    fastest = min(ways, key=lambda name: ways[name][unit])
    best_batched = min(ways[name][unit] for name in ways if name != "worker")
    return {
        "device": torch.cuda.get_device_name() if device.type == "cuda" else "cpu, one thread",
        "batch": len(clips),
        "rounds": rounds,
        "ways": ways,
        "by": unit,
        "faster": fastest,
        "worker_over_best_batched": round(ways["worker"][unit] / best_batched, 3),
        # Shared memory, and the way to the device, have to take what is decoded.
        "bytes_decoded_over_cropped": round(clips[0].size / (len(clips[0]) * crop**2 * 3), 2),
    }
