"""Mixing on CUDA in one launch (Triton): uint8 frames to normalised, mixed frames.

Nothing that a CPU needs imports this module: Triton comes with torch on Linux only. `blend` is the
same in plain torch.

The programs of one block of pixels run side by side for all clips (the clip is the fastest axis of
the grid), so the partner's block was read a moment ago and lies in the L2 cache, whatever the map
of partners is: memory sees every byte read once and written once. A lane has 16 bytes of the
result, which is one store, and what its elements share is computed once per lane. Offsets inside
of a clip are int32, those of clips int64. Nothing here waits for the device, so values that are on
it cannot be checked: a partner that is no row of the input gives NaN where it would have been
mixed in, and no access outside of the tensor.
"""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Float32, Int32, UInt8
from torch import Tensor
from triton import knobs

from avmix.mix.triton_kernels import frames_channels_last, frames_contiguous

_NUM_WARPS = 4
_LANES = 32 * _NUM_WARPS

_MAX_COLUMNS = 2**15
"""Blocks of a clip on the second axis of the grid, where CUDA counts to 65535; a third has the
rest."""

_MAX_ELEMENTS = 2**31 - 2**26
"""Of one clip: programs beyond its end, on the last of those columns, have int32 offsets too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """One launch, prepared but not made: tests compile from it what would run, without a GPU."""

    kernel: Any
    """The `triton.jit` function."""
    grid: tuple[int, int, int]
    """Its programs, the first axis fastest; one is 0 where there is nothing to compute."""
    arguments: dict[str, Any]
    """Of the kernel, by name; `out` is the result."""
    num_warps: int = _NUM_WARPS
    """Of 32 lanes each, per program."""

    def run(self) -> Tensor:
        """Launch on the device of the result and return it, without waiting."""
        out: Tensor = self.arguments["out"]
        if all(self.grid):
            with torch.cuda.device_of(out):
                self.kernel[self.grid](**self.arguments, num_warps=self.num_warps)
        return out


def mix_frames(
    video: UInt8[Tensor, "b t h w 3"],
    partner: Int32[Tensor, " n"] | None,
    weight: Float32[Tensor, " n"] | None,
    box: Int32[Tensor, "n 6"] | None,
    *,
    scale: tuple[float, float, float],
    shift: tuple[float, float, float],
    dtype: torch.dtype,
    channels_last: bool,
) -> Float[Tensor, "n 3 t h w"]:
    """Frames as decoded to mixed and normalised ones: `pixel * scale[colour] + shift[colour]`.

    Row i of the result is `weight[i]` of row i and the rest of row `partner[i]` inside of
    `box[i]` = (t0, t1, y0, y1, x0, x1), half open, and row i outside of it; without a box inside is
    everywhere. Rows from n on only serve as partners. `partner` None: all b rows, normalised only.
    Computed in float32, then rounded to `dtype` (float32, bfloat16 or float16); weights 1 and 0
    give exactly what normalising one of both gives. In memory the result is channels_last_3d, or
    contiguous.

    Clips must be contiguous, the step from clip to clip is free. Fast are clips that start at a
    multiple of 16 bytes and have a multiple of 16 pixels; all others are computed, slower.

    Raises ValueError for a tensor of another dtype, shape, layout or device, and for a clip of
    more than about 2**31 values.
    """
    _check_devices({"video": video, "partner": partner, "weight": weight, "box": box})
    return frames_launch(
        video, partner, weight, box,
        scale=scale, shift=shift, dtype=dtype, channels_last=channels_last,
    ).run()  # fmt: skip


def frames_launch(
    video: UInt8[Tensor, "b t h w 3"],
    partner: Int32[Tensor, " n"] | None,
    weight: Float32[Tensor, " n"] | None,
    box: Int32[Tensor, "n 6"] | None,
    *,
    scale: tuple[float, float, float],
    shift: tuple[float, float, float],
    dtype: torch.dtype,
    channels_last: bool,
) -> Launch:
    """What `mix_frames` launches, with its errors except that of the device."""
    if video.dtype != torch.uint8 or video.ndim != 5 or video.shape[-1] != 3:
        raise ValueError(f"video must be uint8 (b t h w 3), got {_describe(video)}")
    if dtype not in (torch.float32, torch.bfloat16, torch.float16):
        raise ValueError(f"dtype must be float32, bfloat16 or float16, got {dtype}")
    for name, values in (("scale", scale), ("shift", shift)):
        if len(values) != 3:
            raise ValueError(f"{name} must have 3 values, one per colour, got {len(values)}")
    if partner is None and not (weight is None and box is None):
        raise ValueError(
            "partner is None, weight or box is not: give a partner for every weight, or none of all"
        )
    num_clips = len(video) if partner is None else _check_mix(len(video), partner, weight, box, 6)
    num_frames, height, width = video.shape[1:4]
    num_pixels = num_frames * height * width
    _check_size("video", video, 3 * num_pixels)
    if video.numel() and not video[0].is_contiguous():
        raise ValueError(
            f"the clips of video must be contiguous, got {_describe(video)}: use video.contiguous()"
        )
    out = torch.empty(
        (num_clips, 3, num_frames, height, width),
        dtype=dtype,
        device=video.device,
        memory_format=torch.channels_last_3d if channels_last else torch.contiguous_format,
    )
    per_lane = 16 // dtype.itemsize
    row_size = max(1, 3 * width if channels_last else width)
    arguments = {
        "out": out, "video": video, "partner": partner, "weight": weight, "box": box,
        "num_rows": len(video), "clip_stride": video.stride(0), "num_pixels": num_pixels,
        **_divisor("row", row_size), **_divisor("height", height),
        "scale_r": float(scale[0]), "scale_g": float(scale[1]), "scale_b": float(scale[2]),
        "shift_r": float(shift[0]), "shift_g": float(shift[1]), "shift_b": float(shift[2]),
        # How many rows of a frame one lane can touch.
        "ROWS": 1 + -(-(per_lane - 1) // row_size),
        "PER_LANE": per_lane, "LANES": _LANES,
    }  # fmt: skip
    if channels_last:
        grid = _grid(num_clips, 3 * num_pixels, per_lane)
        return Launch(kernel=frames_channels_last, grid=grid, arguments=arguments)
    # Words of 4 bytes hold 4 pixels in 3 loads; a clip must be made of whole ones.
    arguments["WORDS"] = not (video.data_ptr() % 4 or video.stride(0) % 4 or num_pixels % 4)
    grid = _grid(num_clips, num_pixels, per_lane)
    return Launch(kernel=frames_contiguous, grid=grid, arguments=arguments)


def _check_devices(tensors: dict[str, Tensor | None]) -> None:
    devices = {name: x.device for name, x in tensors.items() if x is not None}
    first, device = next(iter(devices.items()))
    for name, other in devices.items():
        if other != device:
            raise ValueError(f"{first} is on {device}, {name} on {other}: move them to one device")
    if device.type != "cuda" and not knobs.runtime.interpret:
        raise ValueError(
            f"{first} is on {device}, the kernels need cuda: use avmix.mix.blend there"
        )


def _check_mix(
    num_rows: int, partner: Tensor, weight: Tensor | None, box: Tensor | None, num_bounds: int
) -> int:
    """The number of clips that come out."""
    size = partner.numel()
    if size > num_rows:
        raise ValueError(f"partner has {size} values for the {num_rows} rows of the input")
    if weight is None:
        raise ValueError(f"weight is None, partner has {size} values: give a weight for each")
    _check("partner", partner, torch.int32, (size,))
    _check("weight", weight, torch.float32, (size,))
    if box is not None:
        _check("box", box, torch.int32, (size, num_bounds))
    return size


def _check(name: str, x: Tensor, dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    if x.dtype != dtype or x.shape != shape or not x.is_contiguous():
        raise ValueError(f"{name} must be contiguous {dtype} {shape}, got {_describe(x)}")


def _check_size(name: str, x: Tensor, clip_size: int) -> None:
    if clip_size > _MAX_ELEMENTS:
        raise ValueError(
            f"a clip of {name} {tuple(x.shape)} has {clip_size} values, the kernel counts to "
            f"{_MAX_ELEMENTS} in one clip: cut it into shorter clips"
        )


def _describe(x: Tensor) -> str:
    return f"{x.dtype} {tuple(x.shape)} with strides {x.stride()}"


def _grid(num_clips: int, clip_size: int, per_lane: int) -> tuple[int, int, int]:
    """Clips are the fastest axis, the blocks of a clip the other two."""
    num_blocks = -(-clip_size // (_LANES * per_lane))
    num_columns = min(num_blocks, _MAX_COLUMNS)
    return num_clips, num_columns, -(-num_blocks // max(1, num_columns))


def _divisor(name: str, value: int) -> dict[str, int]:
    """Arguments with which `divide` divides by `value`.

    Granlund and Montgomery, "Division by invariant integers using multiplication", PLDI 1994. Sizes
    of frames are arguments, not constants to compile a kernel for, and a GPU has no instruction
    for a division: about 20 take its place, here 3.
    """
    value = max(1, value)
    shift = (value - 1).bit_length()
    magic = (2**32 * (2**shift - value)) // value + 1
    # As a signed number: Triton would make anything beyond int32 an int64 argument.
    magic -= 2**32 if magic >= 2**31 else 0
    return {f"{name}_size": value, f"{name}_magic": magic, f"{name}_shift": shift}
