"""CPU kernels: uint8 frames -> normalised, mixed float32 frames in one pass; needs no compiler.

A stage that normalises, then mixes, walks through the whole float batch nine times, mostly in fresh
memory. Here every tile of a clip stays in the cache from its bytes to its result: it is converted
once, mixed, and scaled while it is written. (Scaling is affine, so raw bytes may be mixed.)
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, prod

import torch
from jaxtyping import Float32, UInt8
from torch import Tensor

_TILE_PIXELS = 1 << 17
"""Pixels per tile, at most (but for a row that has more). Three float tiles (4.5 MiB) should stay
in a cache; in smaller tiles the calls cost more than the pixels. Measured with 32 MiB of L3: half
of it is 15 to 20 % slower, twice of it 6 to 13 % faster."""


def mix_frames(
    video: UInt8[Tensor, "b t h w 3"],
    partner: Sequence[int] | None,
    weight: Sequence[float] | None,
    box: Sequence[Sequence[int]] | None,
    *,
    scale: tuple[float, float, float],
    shift: tuple[float, float, float],
    out: Tensor | None = None,
) -> Float32[Tensor, "n 3 t h w"]:
    """Normalise and mix frames on the CPU: `pixel * scale + shift` of the first n clips, clip i
    mixed with clip `partner[i]` of the b.

    `weight[i]` is the weight of the own pixels inside `box[i]` = (t0, t1, y0, y1, x0, x1), half
    open and possibly empty; outside they are untouched. Without `box` the whole clip is mixed,
    without `partner` nothing is (and n is b). Weights of 1 and 0 are exact: to the bit what an
    unmixed clip or an unmixed partner gives.

    `video` may have any strides: as decoded, or a view of planar memory (b 3 t h w), which takes
    three quarters of the time. The result is contiguous. `out`, contiguous float32 on the CPU, is
    written and returned where it is given: a warm buffer spares the page faults of fresh memory,
    which cost more than all the arithmetic. Its former content must not be needed any more, not for
    a backward pass either (the first convolution keeps its input).

    Raises ValueError where `video` is not on the CPU, where lengths differ, where a partner, a
    weight or a box is out of range, and where `out` does not fit.
    """
    if video.device.type != "cpu":
        raise ValueError(f"mix_frames is for the CPU, but the frames are on {video.device}")
    if partner is None:
        if weight is not None or box is not None:
            raise ValueError("weight and box say how to mix with a partner, but partner is None")
        partner = range(video.shape[0])
        weight = (1.0,) * len(partner)
    elif weight is None:
        raise ValueError(f"{len(partner)} partners need as many weights, but weight is None")
    _check_plan(video.shape, partner, weight, box)
    shape = (len(partner), 3, *video.shape[1:4])
    if out is None:
        out = torch.empty(shape)
    elif not _fits(out, shape):
        raise ValueError(
            f"out must be contiguous float32 {shape} on the CPU, got {out.dtype} "
            f"{tuple(out.shape)} with strides {out.stride()} on {out.device}"
        )
    if out.numel():
        with torch.no_grad():
            _mix(video, partner, weight, box, scale, shift, out)
    return out


def _mix(
    video: Tensor,
    partner: Sequence[int],
    weight: Sequence[float],
    box: Sequence[Sequence[int]] | None,
    scale: tuple[float, float, float],
    shift: tuple[float, float, float],
    out: Tensor,
) -> None:
    pixels = video.permute(0, 4, 1, 2, 3)
    tiles = _tiles(*video.shape[1:4])
    # Of this call alone: threads share nothing.
    scratch = torch.empty(3, max(3 * prod(tile.size) for tile in tiles))
    affine = _affine(scale, shift)
    order = _along_partners(partner)
    for tile in tiles:
        rooms = scratch[:, : 3 * prod(tile.size)]
        clips, results = pixels[tile.where].unbind(), out[tile.where].unbind()
        if _is_planar(video):
            one, two, _ = rooms.view(3, 3, *tile.size).unbind()
            stage = _Planar(_Converted(clips, (one, two), affine))
        else:
            one, two, mixed = rooms.view(3, *tile.size, 3).movedim(-1, 1).unbind()
            stage = _Interleaved(_Converted(clips, (one, two), ()), mixed, affine)
        for i in order:
            j, w = partner[i], weight[i]
            inside = tile.overlap(box[i]) if box is not None else tile.everything
            if w == 1 or i == j or not inside:
                stage.one(i, results[i])
            elif inside != tile.everything:
                stage.cut(i, j, w, inside, results[i])
            elif w == 0:
                stage.one(j, results[i])
            else:
                stage.two(i, j, w, results[i])


class _Converted:
    """Clips as floats; the last two that were asked for are kept."""

    def __init__(
        self, clips: Sequence[Tensor], rooms: Sequence[Tensor], affine: Sequence["_Affine"]
    ) -> None:
        """`affine`: applied to every clip."""
        self._clips, self._affine = clips, affine
        self._rooms = {-1 - k: room for k, room in enumerate(rooms)}

    def clip(self, i: int) -> Tensor:
        if i in self._rooms:
            room = self._rooms.pop(i)
        else:
            oldest = next(iter(self._rooms))
            room = self._rooms.pop(oldest).copy_(self._clips[i])
            for one in self._affine:
                one(room, room)
        self._rooms[i] = room
        return room


@dataclass(frozen=True, slots=True)
class _Affine:
    """`x * scale + shift` of one colour, or of all where they are scaled alike."""

    colours: slice
    scale: float
    shift: Tensor

    def __call__(self, x: Tensor, out: Tensor) -> None:
        torch.add(self.shift, x[self.colours], alpha=self.scale, out=out[self.colours])


def _affine(scale: tuple[float, float, float], shift: tuple[float, float, float]) -> list[_Affine]:
    if len(set(zip(scale, shift, strict=True))) == 1:
        return [_Affine(slice(0, 3), scale[0], torch.tensor(shift[0]))]
    return [_Affine(slice(c, c + 1), scale[c], torch.tensor(shift[c])) for c in range(3)]


@dataclass(frozen=True, slots=True)
class _Planar:
    """Clips are scaled when they are converted, in the cache; the mix goes straight to the result.

    Scaling both and mixing is the same as mixing and scaling.
    """

    clips: _Converted

    def one(self, i: int, result: Tensor) -> None:
        """Clip i alone."""
        result.copy_(self.clips.clip(i))

    def two(self, i: int, j: int, w: float, result: Tensor) -> None:
        """Clips i and j, everywhere."""
        own = self.clips.clip(i)
        torch.lerp(self.clips.clip(j), own, w, out=result)

    def cut(self, i: int, j: int, w: float, inside: tuple[slice, ...], result: Tensor) -> None:
        """Clip i, and inside of the box both."""
        self.one(i, result)
        own, other = self.clips.clip(i)[inside], self.clips.clip(j)[inside]
        if w == 0:
            result[inside].copy_(other)
        else:
            torch.lerp(other, own, w, out=result[inside])


@dataclass(frozen=True, slots=True)
class _Interleaved:
    """Colours lie side by side in scratch too; they are parted while the mix is scaled into the
    result. Reading every third number is what costs most here, so it is done once, and last."""

    clips: _Converted
    mixed: Tensor
    affine: Sequence[_Affine]

    def one(self, i: int, result: Tensor) -> None:
        """As `_Planar.one`."""
        self._write(self.clips.clip(i), result)

    def two(self, i: int, j: int, w: float, result: Tensor) -> None:
        """As `_Planar.two`."""
        own = self.clips.clip(i)
        self._write(torch.lerp(self.clips.clip(j), own, w, out=self.mixed), result)

    def cut(self, i: int, j: int, w: float, inside: tuple[slice, ...], result: Tensor) -> None:
        """As `_Planar.cut`."""
        own = self.clips.clip(i)
        mix, other = self.mixed.copy_(own), self.clips.clip(j)[inside]
        if w == 0:
            mix[inside].copy_(other)
        else:
            torch.lerp(other, own[inside], w, out=mix[inside])
        self._write(mix, result)

    def _write(self, x: Tensor, result: Tensor) -> None:
        for one in self.affine:
            one(x, result)


@dataclass(frozen=True, slots=True)
class _Tile:
    """Some frames, or some rows of one, of every clip."""

    t0: int
    t1: int
    y0: int
    y1: int
    width: int

    @property
    def size(self) -> tuple[int, int, int]:
        return self.t1 - self.t0, self.y1 - self.y0, self.width

    @property
    def where(self) -> tuple[slice, ...]:
        """In tensors of (b c t h w)."""
        return slice(None), slice(None), slice(self.t0, self.t1), slice(self.y0, self.y1)

    @property
    def everything(self) -> tuple[slice, ...]:
        """In tensors of the tile, (c t h w)."""
        return slice(None), *(slice(0, size) for size in self.size)

    def overlap(self, box: Sequence[int]) -> tuple[slice, ...]:
        """What the box covers, in tensors of the tile; () where it covers nothing."""
        covered: list[slice] = [slice(None)]
        starts = (self.t0, self.y0, 0)
        for start, stop, origin, size in zip(box[0::2], box[1::2], starts, self.size, strict=True):
            low, high = max(start - origin, 0), min(stop - origin, size)
            if low >= high:
                return ()
            covered.append(slice(low, high))
        return tuple(covered)


def _tiles(num_frames: int, height: int, width: int) -> list[_Tile]:
    """Frames of (t h w) in parts of nearly equal size."""
    rows = max(1, _TILE_PIXELS // width)
    frames = max(1, rows // height)
    return [_Tile(*t, *y, width) for t in _cut(num_frames, frames) for y in _cut(height, rows)]


def _cut(length: int, limit: int) -> list[tuple[int, int]]:
    """(start, stop) of parts of at most `limit`, none much shorter than the others."""
    step = ceil(length / ceil(length / limit))
    return [(start, min(start + step, length)) for start in range(0, length, step)]


def _along_partners(partner: Sequence[int]) -> list[int]:
    """All clips, each followed by its partner: what was converted for one then serves the next."""
    order: dict[int, None] = {}
    for i in range(len(partner)):
        while i < len(partner) and i not in order:
            order[i] = None
            i = partner[i]
    return list(order)


def _is_planar(video: Tensor) -> bool:
    return video[:1].permute(0, 4, 1, 2, 3).is_contiguous()


def _fits(out: Tensor, shape: tuple[int, ...]) -> bool:
    return (
        out.shape == shape
        and out.dtype == torch.float32
        and out.device.type == "cpu"
        and out.is_contiguous()
    )


def _check_plan(
    video: Sequence[int],
    partner: Sequence[int],
    weight: Sequence[float],
    box: Sequence[Sequence[int]] | None,
) -> None:
    num_clips, *sizes = video[:4]
    if len(partner) > num_clips:
        raise ValueError(f"{len(partner)} partners for {num_clips} clips; one each is the most")
    if not all(0 <= j < num_clips for j in partner):
        raise ValueError(f"partner must be in [0, {num_clips}), got {list(partner)}")
    if len(weight) != len(partner):
        raise ValueError(f"{len(weight)} weights for {len(partner)} partners; one each is needed")
    if not all(0 <= w <= 1 for w in weight):
        raise ValueError(f"weight must be in [0, 1], got {list(weight)}")
    if box is None:
        return
    if len(box) != len(partner):
        raise ValueError(f"{len(box)} boxes for {len(partner)} partners; one each is needed")
    for limits in box:
        if len(limits) != 6 or not all(
            0 <= start <= stop <= size
            for start, stop, size in zip(limits[0::2], limits[1::2], sizes, strict=True)
        ):
            raise ValueError(
                f"a box is (t0, t1, y0, y1, x0, x1) within frames of {tuple(sizes)} (t h w), "
                f"each start at or before its stop; got {tuple(limits)}"
            )
