"""Resizing of frames in whole numbers, as evaluation resizes them, of operations that can be
exported.

torch resizes uint8 images on a CPU in fixed point: weights of 16 bits, one pass along rows and one
along columns, each rounded to uint8. The same in int32 gives the same pixels, to the bit.
"""

from dataclasses import dataclass

import torch
from jaxtyping import UInt8
from torch import Tensor, nn

_MOST_BITS = 22
"""Of the fraction of a weight, in torch (`_compute_index_ranges_int16_weights`)."""


@dataclass(frozen=True, slots=True)
class Taps:
    """Each output pixel is a sum over taps of a pixel times a weight."""

    indices: tuple[tuple[int, ...], ...]
    """For each tap, the pixel of each output pixel."""
    weights: tuple[tuple[int, ...], ...]
    """For each tap, its weight in each output pixel, in units of 2 ** -`bits`."""
    bits: int


def taps_of(size_in: int, size_out: int) -> Taps:
    """Of bilinear interpolation with antialiasing: triangles as wide as an output pixel, at least
    as an input pixel, as in torch."""
    scale = size_in / size_out
    support = max(scale, 1.0)
    rows: list[tuple[int, list[float]]] = []
    for place in range(size_out):
        centre = scale * (place + 0.5)
        first = max(int(centre - support + 0.5), 0)
        last = min(int(centre + support + 0.5), size_in)
        found = [
            max(0.0, 1.0 - abs((pixel - centre + 0.5) / support)) for pixel in range(first, last)
        ]
        total = sum(found)
        rows.append((first, [weight / total for weight in found]))
    largest = max(max(weights) for _, weights in rows)
    bits = 0
    while bits < _MOST_BITS and int(0.5 + largest * (1 << (bits + 1))) < 1 << 15:
        bits += 1
    count = max(len(weights) for _, weights in rows)
    indices, whole = [], []
    for tap in range(count):
        # Beyond the last one of an output pixel: any pixel, times zero.
        indices.append(tuple(min(first + tap, size_in - 1) for first, _ in rows))
        whole.append(tuple(int(0.5 + w[tap] * (1 << bits)) if tap < len(w) else 0 for _, w in rows))
    return Taps(tuple(indices), tuple(whole), bits)


class CentreSquare(nn.Module):
    """The square in the centre of frames, its side as long as the shorter side of the frame,
    resized (`avmix.augment.video_transforms.centred` and `apply_video`)."""

    def __init__(self, side: int, size: int) -> None:
        """`side`: of frames, the shorter one, pixels; `size`: of what comes out."""
        super().__init__()
        self.side = side
        self.resizes = side != size
        taps = taps_of(side, size)
        self.bits = taps.bits
        self.indices: Tensor
        self.weights: Tensor
        self.register_buffer("indices", torch.tensor(taps.indices), persistent=False)
        weights = torch.tensor(taps.weights, dtype=torch.int32)
        self.register_buffer("weights", weights, persistent=False)

    def forward(self, video: UInt8[Tensor, "b t h w c"]) -> UInt8[Tensor, "b t size size c"]:
        """Frames whose shorter side is `side`."""
        for axis in (2, 3):
            first = (video.shape[axis] - self.side) // 2
            places = torch.arange(self.side, device=video.device) + first
            video = video.index_select(axis, places)
        if not self.resizes:
            return video
        return self._along(self._along(video, 3), 2)

    def _along(self, video: Tensor, axis: int) -> Tensor:
        shape = [1] * video.ndim
        shape[axis] = -1
        total = torch.tensor(1 << (self.bits - 1), dtype=torch.int32)
        for indices, weights in zip(self.indices, self.weights, strict=True):
            pixels = video.index_select(axis, indices).to(torch.int32)
            total = total + pixels * weights.view(shape)
        # Weights add up to 1 within rounding: torch clamps what that lets out of range.
        return (total >> self.bits).clamp(max=255).to(torch.uint8)
