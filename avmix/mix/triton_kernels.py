"""Triton kernels that `cuda_kernels` launches."""

from typing import no_type_check

import triton
import triton.language as tl

# These differ from batch to batch; by itself Triton compiles anew where one becomes 1 or divisible
# by 16.
_NOT_CONSTANT = ["num_rows"] + [
    f"{name}_{part}" for name in ("row", "height") for part in ("size", "magic", "shift")
]


# The kernels are not Python to be type-checked: the types of Triton's language say nothing, and
# Triton compiles the source of the function itself, not of a wrapper that the tests put around it.


@triton.jit
@no_type_check
def divide(number, magic, shift):
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
    row = divide(first, row_magic, row_shift)
    column = first - row * row_size - x0
    inside = tl.zeros((LANES, PER_LANE), tl.int1)
    touched = tl.zeros((LANES,), tl.int1)
    for _ in tl.static_range(ROWS):
        t = divide(row, height_magic, height_shift)
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
def frames_channels_last(
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
def frames_contiguous(
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
