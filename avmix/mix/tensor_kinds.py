"""Kinds of tensors: their axes, and the grids that boxes are cut from."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from avmix.mix.clip_grid import Grid

Kind = Literal["vector", "image", "video", "waveform", "spectrogram"]
"""What a tensor holds, and so what its axes are."""

LAYOUTS: dict[Kind, tuple[str, ...]] = {
    "vector": ("b d",),
    "image": ("b c h w",),
    "video": ("b c t h w",),
    "waveform": ("b s", "b c s"),
    "spectrogram": ("b m f", "b c m f"),
}
"""Axes of each kind, by the letters of `avmix.types`; c also stands for channels of audio."""

# Boxes are cut from the last axes of a tensor; their lengths come with it. A spectrogram is mixed
# as it comes: `log_mel`, whatever its values are.
_GRIDS: dict[Kind, Grid] = {
    "vector": Grid(domain="features"),
    "image": Grid(domain="pixels", shape=(0, 0), frame_axes=(0, 1)),
    "video": Grid(domain="pixels", shape=(0, 0, 0), time_axis=0, frame_axes=(1, 2)),
    "waveform": Grid(domain="waveform", shape=(0,), time_axis=0),
    "spectrogram": Grid(domain="log_mel", shape=(0, 0), time_axis=1, band_axis=0),
}


def grid_of(kind: Kind, shape: Sequence[int]) -> Grid:
    """Grid of a tensor of this kind and shape, made of the last axes.

    Time is in shares of the window, which is the same for every tensor of a row: index k of a time
    axis of length n stands for the k-th of n equal shares.
    """
    grid = _GRIDS[kind]
    axes = tuple(shape[len(shape) - len(grid.shape) :])
    share = 1 / axes[grid.time_axis] if grid.time_axis is not None else 0.0
    return replace(grid, shape=axes, first_seconds=share / 2, step_seconds=share)


def check_tensor(name: str, kind: Kind, x: Tensor) -> None:
    """Raise ValueError for a tensor that is not of this kind, or cannot be mixed."""
    if x.dtype == torch.uint8:
        raise ValueError(
            f"{name} is uint8: mixing would round; normalise it first, for example "
            f"{name}.float() / 255"
        )
    if not x.is_floating_point():
        raise ValueError(f"{name} is {x.dtype}, which cannot be mixed; embed it first")
    layouts = LAYOUTS[kind]
    if x.ndim not in [len(layout.split()) for layout in layouts] or 0 in x.shape:
        expected = " or ".join(f"({layout})" for layout in layouts)
        raise ValueError(f"{name} is of kind {kind}, {expected}, but has shape {tuple(x.shape)}")


def check_finite(tensors: Mapping[str, Tensor], present: Mapping[str, Sequence[bool]]) -> None:
    """Raise ValueError for rows with NaN or infinity, except those that are not present.

    A GPU is waited for.
    """
    for name, has in present.items():
        finite = tensors[name].isfinite().flatten(1).all(1).tolist()
        if rows := [i for i, fine in enumerate(finite) if has[i] and not fine]:
            raise ValueError(f"{name} is not finite in rows {rows}")
