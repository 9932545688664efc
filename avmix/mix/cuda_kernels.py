"""CUDA kernel (Triton): uint8 frames -> normalised, mixed frames in one launch.

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
from typing import Any, no_type_check

import torch
import triton
import triton.language as tl
from jaxtyping import Float, Float32, Int32, UInt8
from torch import Tensor
from triton import knobs

_NUM_WARPS = 4
_LANES = 32 * _NUM_WARPS

_MAX_COLUMNS = 2**15
"""Blocks of a clip on the second axis of the grid, where CUDA counts to 65535; a third has the
rest."""

_MAX_ELEMENTS = 2**31 - 2**26
"""Of one clip: programs beyond its end, on the last of those columns, have int32 offsets too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """A prepared kernel launch: tests compile its kernel without a GPU."""

    kernel: Any
    """The `triton.jit` function."""
    grid: tuple[int, int, int]
    """Its programs, the first axis fastest; one is 0 where there is nothing to compute."""
    arguments: dict[str, Any]
    """Arguments of the kernel, by name; `out` is the result."""
    num_warps: int = _NUM_WARPS
    """Warps (of 32 lanes each) per program."""

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
    """Normalise and mix frames on CUDA: `pixel * scale[colour] + shift[colour]`.

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
    """Prepare the launch of `mix_frames`; raises as it does, except for the device."""
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
        return Launch(kernel=_frames_channels_last, grid=grid, arguments=arguments)
    # Words of 4 bytes hold 4 pixels in 3 loads; a clip must be made of whole ones.
    arguments["WORDS"] = not (video.data_ptr() % 4 or video.stride(0) % 4 or num_pixels % 4)
    grid = _grid(num_clips, num_pixels, per_lane)
    return Launch(kernel=_frames_contiguous, grid=grid, arguments=arguments)


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
    """Arguments with which `_divide` divides by `value`.

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


# These differ from batch to batch; by itself Triton compiles again where one becomes 1 or divisible
# by 16.
_NOT_CONSTANT = ["num_rows"] + [
    f"{name}_{part}" for name in ("row", "height") for part in ("size", "magic", "shift")
]


# The kernels are not Python to be type-checked: the types of Triton's language say nothing, and
# Triton compiles the source of the function itself, not of a wrapper that the tests put around it.


@triton.jit
@no_type_check
def _divide(number, magic, shift):
    """`number` // the divisor, for int32 from 0 to 2**31 - 1."""
    number = number.to(tl.uint32)
    high = tl.umulhi(number, magic.to(tl.uint32, bitcast=True))
    return ((high + number) >> shift.to(tl.uint32)).to(tl.int32)


@triton.jit
@no_type_check
def _first_of_lanes(PER_LANE: tl.constexpr, LANES: tl.constexpr):
    """Offset in the clip of the first element of each lane."""
    block = tl.program_id(2) * tl.num_programs(1) + tl.program_id(1)
    return (block * LANES + tl.arange(0, LANES)) * PER_LANE


@triton.jit
@no_type_check
def _partner_and_weight(partner, weight, clip, num_rows):
    """Row of the partner, weight of the own signal, and whether the partner must be read."""
    row = tl.load(partner + clip)
    share = tl.load(weight + clip)
    is_row = (row >= 0) & (row < num_rows)
    return row, tl.where(is_row, share, float("nan")), is_row & (share != 1.0)


@triton.jit
@no_type_check
def _inside_box(
    box, first, step, row_size, row_magic, row_shift, height_size, height_magic, height_shift,
    PER_PIXEL: tl.constexpr, ROWS: tl.constexpr, PER_LANE: tl.constexpr, LANES: tl.constexpr,
):  # fmt: skip
    """Which elements of a clip of frames are in its box, and which lanes touch rows of it.

    A row of a frame is `row_size` elements, a pixel PER_PIXEL of them. A division per lane, not
    per element: the elements of a lane are one run, and on each of the ROWS that it can touch
    those in the box are one run too.
    """
    t0, t1 = tl.load(box), tl.load(box + 1)
    y0, y1 = tl.load(box + 2), tl.load(box + 3)
    x0 = tl.maximum(tl.load(box + 4) * PER_PIXEL, 0)
    x1 = tl.minimum(tl.load(box + 5) * PER_PIXEL, row_size)
    row = _divide(first, row_magic, row_shift)
    column = first - row * row_size - x0
    inside = tl.zeros((LANES, PER_LANE), tl.int1)
    touched = tl.zeros((LANES,), tl.int1)
    for _ in tl.static_range(ROWS):
        t = _divide(row, height_magic, height_shift)
        y = row - t * height_size
        in_rows = (t >= t0) & (t < t1) & (y >= y0) & (y < y1)
        length = tl.where(in_rows, tl.maximum(x1 - x0, 0), 0).to(tl.uint32)
        # Unsigned, what lies before the run is far beyond its end.
        inside |= (column[:, None] + step[None, :]).to(tl.uint32) < length[:, None]
        touched |= in_rows
        row += 1
        column -= row_size
    return inside, touched


@triton.jit(do_not_specialize=_NOT_CONSTANT)
@no_type_check
def _frames_channels_last(
    out, video, partner, weight, box, num_rows, clip_stride, num_pixels,
    row_size, row_magic, row_shift, height_size, height_magic, height_shift,
    scale_r, scale_g, scale_b, shift_r, shift_g, shift_b,
    ROWS: tl.constexpr, PER_LANE: tl.constexpr, LANES: tl.constexpr,
):  # fmt: skip
    """(b t h w c) to channels_last_3d: the same order in memory, so clips are plain streams."""
    clip = tl.program_id(0)
    clip_size = num_pixels * 3
    first = _first_of_lanes(PER_LANE, LANES)
    step = tl.arange(0, PER_LANE)
    offset = first[:, None] + step[None, :]
    exists = offset < clip_size
    own = tl.load(video + clip.to(tl.int64) * clip_stride + offset, mask=exists, other=0)
    value = own.to(tl.float32)
    if partner is not None:
        row, share, reads = _partner_and_weight(partner, weight, clip, num_rows)
        place = video + row.to(tl.int64) * clip_stride + offset
        if box is None:
            other = tl.load(place, mask=exists & reads, other=0).to(tl.float32)
        else:
            inside, touched = _inside_box(
                box + clip * 6, first, step, row_size, row_magic, row_shift, height_size,
                height_magic, height_shift, 3, ROWS, PER_LANE, LANES,
            )  # fmt: skip
            touched = (touched & reads)[:, None]
            other = tl.load(place, mask=exists & touched, other=0).to(tl.float32)
            share = tl.where(inside, share, 1.0)
        # Differences of bytes are exact, so weights 1 and 0 are too.
        value = (value - other) * share + other
    # 0 to 4: the colour of the lane's first element and the steps from it.
    colour = (first.to(tl.uint32) % 3)[:, None] + (step.to(tl.uint32) % 3)[None, :]
    red, green = (colour == 0) | (colour == 3), (colour == 1) | (colour == 4)
    scale = tl.where(red, scale_r, tl.where(green, scale_g, scale_b))
    shift = tl.where(red, shift_r, tl.where(green, shift_g, shift_b))
    value = value * scale + shift
    place = out + clip.to(tl.int64) * clip_size + offset
    tl.store(place, value.to(out.dtype.element_ty), mask=exists)


@triton.jit
@no_type_check
def _load_words(clip, pixel, num_pixels, reads, PER_LANE: tl.constexpr):
    """The bytes of PER_LANE pixels from `pixel` on, as 3 or 6 int32; 4 divides both counts."""
    word = clip.to(tl.pointer_type(tl.int32)) + pixel // 4 * 3
    exists = (pixel < num_pixels) & reads
    word_0 = tl.load(word, mask=exists, other=0)
    word_1 = tl.load(word + 1, mask=exists, other=0)
    word_2 = tl.load(word + 2, mask=exists, other=0)
    words = (word_0, word_1, word_2)
    if PER_LANE == 8:
        exists = (pixel + 4 < num_pixels) & reads
        word_3 = tl.load(word + 3, mask=exists, other=0)
        word_4 = tl.load(word + 4, mask=exists, other=0)
        word_5 = tl.load(word + 5, mask=exists, other=0)
        words = (word_0, word_1, word_2, word_3, word_4, word_5)
    return words


@triton.jit
@no_type_check
def _byte(words, PLACE: tl.constexpr):
    return (words[PLACE // 4] >> (8 * (PLACE % 4))) & 255


@triton.jit
@no_type_check
def _colour(words, COLOUR: tl.constexpr, PER_LANE: tl.constexpr, LANES: tl.constexpr):
    """One colour of the pixels of each lane, in their order and in the lane's own registers."""
    # `join` makes a new last axis, so bit 0 of a pixel's number is joined last.
    if PER_LANE == 8:
        even_0 = tl.join(_byte(words, COLOUR), _byte(words, COLOUR + 12))
        even_2 = tl.join(_byte(words, COLOUR + 6), _byte(words, COLOUR + 18))
        odd_1 = tl.join(_byte(words, COLOUR + 3), _byte(words, COLOUR + 15))
        odd_3 = tl.join(_byte(words, COLOUR + 9), _byte(words, COLOUR + 21))
        pixels = tl.join(tl.join(even_0, even_2), tl.join(odd_1, odd_3))
    else:
        even = tl.join(_byte(words, COLOUR), _byte(words, COLOUR + 6))
        odd = tl.join(_byte(words, COLOUR + 3), _byte(words, COLOUR + 9))
        pixels = tl.join(even, odd)
    return tl.reshape(pixels, (LANES, PER_LANE)).to(tl.float32)


@triton.jit(do_not_specialize=_NOT_CONSTANT)
@no_type_check
def _frames_contiguous(
    out, video, partner, weight, box, num_rows, clip_stride, num_pixels,
    row_size, row_magic, row_shift, height_size, height_magic, height_shift,
    scale_r, scale_g, scale_b, shift_r, shift_g, shift_b,
    ROWS: tl.constexpr, PER_LANE: tl.constexpr, LANES: tl.constexpr, WORDS: tl.constexpr,
):  # fmt: skip
    """(b t h w c) to (n c t h w): a block of pixels is read once and written to three planes.

    WORDS: bytes are read 4 at a time and sorted in registers; else one at a time.
    """
    clip = tl.program_id(0)
    first = _first_of_lanes(PER_LANE, LANES)
    step = tl.arange(0, PER_LANE)
    pixel = first[:, None] + step[None, :]
    exists = pixel < num_pixels
    own = video + clip.to(tl.int64) * clip_stride
    if WORDS:
        own_words = _load_words(own, first, num_pixels, True, PER_LANE)
    if partner is not None:
        row, share, reads = _partner_and_weight(partner, weight, clip, num_rows)
        touched = tl.zeros((LANES,), tl.int1) | reads
        if box is not None:
            inside, in_rows = _inside_box(
                box + clip * 6, first, step, row_size, row_magic, row_shift, height_size,
                height_magic, height_shift, 1, ROWS, PER_LANE, LANES,
            )  # fmt: skip
            touched &= in_rows
            share = tl.where(inside, share, 1.0)
        other = video + row.to(tl.int64) * clip_stride
        if WORDS:
            other_words = _load_words(other, first, num_pixels, touched, PER_LANE)
    scales, shifts = (scale_r, scale_g, scale_b), (shift_r, shift_g, shift_b)
    for colour in tl.static_range(3):
        if WORDS:
            value = _colour(own_words, colour, PER_LANE, LANES)
        else:
            value = tl.load(own + pixel * 3 + colour, mask=exists, other=0).to(tl.float32)
        if partner is not None:
            if WORDS:
                against = _colour(other_words, colour, PER_LANE, LANES)
            else:
                place = other + pixel * 3 + colour
                against = tl.load(place, mask=exists & touched[:, None], other=0).to(tl.float32)
            value = (value - against) * share + against
        value = value * scales[colour] + shifts[colour]
        plane = out + (clip.to(tl.int64) * 3 + colour) * num_pixels
        tl.store(plane + pixel, value.to(out.dtype.element_ty), mask=exists)
