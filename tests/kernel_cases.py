"""What the kernels must do, case by case: in Triton's interpreter, and on a GPU as it is.

The interpreter must be chosen before Triton is imported, so `python -m tests.kernel_cases` runs all
cases in a process of its own and prints, as JSON, what is wrong with each of them: "" if nothing.
"""

import contextlib
import itertools
import json
import os
import re
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.mix_reference import mix, normalised

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SCALE = (1 / (255 * STD[0]), 1 / (255 * STD[1]), 1 / (255 * STD[2]))
SHIFT = (-MEAN[0] / STD[0], -MEAN[1] / STD[1], -MEAN[2] / STD[2])

Layout = Literal["channels_last", "contiguous"]
Dtype = Literal["float32", "float16", "bfloat16"]
Partner = Literal["random", "reversed", "identity", "first", "fewer"]
Weight = Literal["random", "one", "zero"]
Box = Literal["none", "random", "empty", "full"]
View = Literal["plain", "unaligned", "every_other"]
LAYOUTS: tuple[Layout, ...] = ("channels_last", "contiguous")
DTYPES: tuple[Dtype, ...] = ("float32", "float16", "bfloat16")
PARTNERS: tuple[Partner, ...] = ("random", "reversed", "identity", "first", "fewer")
WEIGHTS: tuple[Weight, ...] = ("random", "one", "zero")
BOXES: tuple[Box, ...] = ("none", "random", "empty", "full")

# Relative, of frames; 1e-6 of rounding in float32 comes on top. The interpreter cuts bfloat16 off
# where hardware rounds it.
INTERPRETER: dict[Dtype, float] = {"float32": 1e-6, "float16": 2**-11, "bfloat16": 2**-7}
HARDWARE: dict[Dtype, float] = {"float32": 1e-6, "float16": 2**-11, "bfloat16": 2**-8}


@dataclass(frozen=True, kw_only=True)
class Frames:
    """One call of `mix_frames`."""

    size: tuple[int, int, int, int] = (3, 2, 4, 8)
    """Rows, frames, height, width."""
    layout: Layout
    dtype: Dtype = "float32"
    partner: Partner | Literal["none"] = "random"
    weight: Weight = "random"
    box: Box = "none"
    view: View = "plain"

    def __str__(self) -> str:
        size = "x".join(map(str, self.size))
        return (
            f"{self.layout}-{self.dtype}-{size}-{self.partner}-{self.weight}-{self.box}-{self.view}"
        )


def _frames() -> Iterator[Frames]:
    for partner, weight, box in itertools.product(PARTNERS, WEIGHTS, BOXES):
        yield Frames(layout="channels_last", partner=partner, weight=weight, box=box)
    # Fewer of the layout that the interpreter is slow at: it reads partner and weight the same way.
    for weight, box in itertools.product(WEIGHTS, BOXES):
        yield Frames(layout="contiguous", weight=weight, box=box)
    for partner in PARTNERS[1:]:
        yield Frames(layout="contiguous", partner=partner, box="random")
    # One pixel; one and two columns, where a lane's 16 bytes span several rows; odd; several
    # blocks of 512 or 1024 elements per clip, with and without a whole number of lanes.
    sizes = [
        (1, 1, 1, 1),
        (2, 2, 5, 1),
        (3, 1, 4, 2),
        (5, 3, 7, 9),
        (2, 14, 10, 10),
        (2, 12, 9, 10),
    ]
    views: tuple[View, ...] = ("unaligned", "every_other")
    for layout, dtype in itertools.product(LAYOUTS, DTYPES):
        for size in sizes:
            yield Frames(layout=layout, dtype=dtype, size=size, partner="none")
            yield Frames(layout=layout, dtype=dtype, size=size)
            yield Frames(layout=layout, dtype=dtype, size=size, box="random")
        for view in views:
            yield Frames(layout=layout, dtype=dtype, view=view, box="random")
            yield Frames(layout=layout, dtype=dtype, view=view, size=(3, 1, 3, 7))
            yield Frames(layout=layout, dtype=dtype, view=view, partner="none")


FRAMES = {str(case): case for case in _frames()}


@contextlib.contextmanager
def poisoned() -> Iterator[None]:
    """`torch.empty` gives NaN: what a kernel does not write is seen."""
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    try:
        assert torch.empty(9).isnan().all()
        yield
    finally:
        torch.use_deterministic_algorithms(before)


def check_frames(case: Frames, device: str, tolerance: dict[Dtype, float]) -> None:
    """Raises AssertionError where `mix_frames` is not what float64 loops give."""
    from avmix.mix.cuda_kernels import mix_frames

    rng = np.random.default_rng(0)
    rows, *axes = case.size
    pixels = torch.from_numpy(rng.integers(0, 256, (*case.size, 3), dtype=np.uint8))
    video = _view(pixels, case.view, device)
    options: dict[str, Any] = {
        "scale": SCALE,
        "shift": SHIFT,
        "dtype": getattr(torch, case.dtype),
        "channels_last": case.layout == "channels_last",
    }
    expected = normalised(pixels.numpy(), MEAN, STD)
    with poisoned():
        if case.partner == "none":
            out = mix_frames(video, None, None, None, **options)
        else:
            mixing = _draw(case.partner, case.weight, case.box, rows, axes, rng)
            expected = mix(expected, *mixing)
            out = mix_frames(video, *_tensors(*mixing, device), **options)
            if case.weight != "random":
                plain = mix_frames(video, None, None, None, **options)
                bits = _chosen(plain.cpu(), *mixing)
                assert torch.equal(out.cpu(), bits), "weights of 1 and 0 are not exact"

    assert out.dtype == options["dtype"]
    assert torch.equal(video.cpu(), pixels), "the input was changed"
    memory = torch.channels_last_3d if options["channels_last"] else torch.contiguous_format
    assert out.is_contiguous(memory_format=memory), out.stride()
    _close(out, expected, tolerance[case.dtype] * np.abs(expected) + 1e-6)


def _view(values: Tensor, view: View, device: str) -> Tensor:
    """The same values with the same strides inside of a clip, elsewhere in memory."""
    if view == "plain":
        return values.to(device)
    rows, size = len(values), values[0].numel()
    start, step = (1, size) if view == "unaligned" else (0, 2 * size + 1)
    memory = torch.zeros(start + rows * step, dtype=values.dtype, device=device)
    moved = memory.as_strided(values.shape, (step, *values.stride()[1:]), start)
    moved.copy_(values)
    return moved


def _draw(
    partner: Partner, weight: Weight, box: Box, rows: int, axes: Sequence[int], rng: Any
) -> tuple[list[int], list[float], list[list[int]] | None]:
    size = max(1, rows - 2) if partner == "fewer" else rows
    partners: list[int] = {
        "random": rng.integers(0, rows, size).tolist(),
        "reversed": list(range(size))[::-1],
        "identity": list(range(size)),
        "first": [0] * size,
        "fewer": [rows - 1 - i for i in range(size)],  # beyond the rows that are mixed
    }[partner]
    weights: list[float] = rng.uniform(0.05, 0.95, size).astype(np.float32).tolist()
    if weight != "random":
        weights = [float(weight == "one")] * size
    bounds = [np.sort(rng.integers(0, length + 1, (size, 2))) for length in axes]
    if box == "full":
        bounds = [np.tile([0, length], (size, 1)) for length in axes]
    if box == "empty":  # on one axis after the other, for each clip another one first
        for i in range(size):
            bounds[i % len(axes)][i, 1] = bounds[i % len(axes)][i, 0]
    return partners, weights, None if box == "none" else np.concatenate(bounds, 1).tolist()


def _tensors(
    partner: list[int], weight: list[float], box: list[list[int]] | None, device: str
) -> tuple[Tensor, Tensor, Tensor | None]:
    return (
        torch.tensor(partner, dtype=torch.int32, device=device),
        torch.tensor(weight, dtype=torch.float32, device=device),
        None if box is None else torch.tensor(box, dtype=torch.int32, device=device),
    )


def _close(out: Tensor, expected: np.ndarray, limit: np.ndarray) -> None:
    ours = out.cpu().double().numpy()
    assert ours.shape == expected.shape, (ours.shape, expected.shape)
    with np.errstate(invalid="ignore"):  # inf - inf
        error = np.where(ours == expected, 0, np.abs(ours - expected))
    worst = (error / limit).max()
    assert worst <= 1, f"{worst:.3g} times the tolerance"  # false for NaN too


def _chosen(
    plain: Tensor, partner: list[int], weight: list[float], box: list[list[int]] | None
) -> Tensor:
    """The values of one of both, for weights of 1 and 0."""
    out = plain[: len(partner)].clone()
    for i, (j, w) in enumerate(zip(partner, weight, strict=True)):
        inside: tuple[Any, ...] = (...,)
        if box is not None:
            inside += tuple(slice(a, b) for a, b in zip(box[i][0::2], box[i][1::2], strict=True))
        out[i][inside] = plain[i if w == 1 else j][inside]
    return out


def check_lost_partner(device: str) -> None:
    """A partner that is no row gives NaN in the box, and nothing else."""
    from avmix.mix.cuda_kernels import mix_frames

    video = torch.full((2, 1, 4, 4, 3), 255, dtype=torch.uint8, device=device)
    for weights in ([0.5, 0.5], [1.0, 0.0]):
        partner, weight, box = _tensors([2, -1], weights, [[0, 1, 0, 2, 1, 3]] * 2, device)
        for channels_last in (True, False):
            out = mix_frames(video, partner, weight, box, scale=SCALE, shift=SHIFT,
                             dtype=torch.float32, channels_last=channels_last)  # fmt: skip
            lost = torch.zeros(2, 3, 1, 4, 4, dtype=torch.bool)
            lost[:, :, :, 0:2, 1:3] = True
            assert torch.equal(out.isnan().cpu(), lost)


def check_far_rows(device: str) -> None:
    """Rows beyond 2**31 bytes are found; only those touched take memory on a CPU."""
    from avmix.mix.cuda_kernels import mix_frames

    rows = 2**31 // 48 + 3
    video = torch.empty((rows, 1, 4, 4, 3), dtype=torch.uint8, device=device)
    video[:2], video[-2:] = 10, 200
    partner, weight, _ = _tensors([rows - 1, rows - 2], [0.0, 0.5], None, device)
    for channels_last in (True, False):
        out = mix_frames(video, partner, weight, None, scale=(1.0, 1.0, 1.0),
                         shift=(0.0, 0.0, 0.0), dtype=torch.float32,
                         channels_last=channels_last)  # fmt: skip
        assert out.flatten(1).unique(dim=1).tolist() == [[200.0], [105.0]]


def check_columns(device: str) -> None:
    """Clips of more blocks than the second axis of the grid holds: here two, not 32,768."""
    from avmix.mix import cuda_kernels

    limits = INTERPRETER if device == "cpu" else HARDWARE
    before, cuda_kernels._MAX_COLUMNS = cuda_kernels._MAX_COLUMNS, 2
    try:
        for layout in LAYOUTS:
            check_frames(Frames(layout=layout, size=(2, 14, 10, 10)), device, limits)
    finally:
        cuda_kernels._MAX_COLUMNS = before


def check_nothing(device: str) -> None:
    """No clips, and clips without pixels, are no launch and no error."""
    from avmix.mix.cuda_kernels import mix_frames

    partner, weight, _ = _tensors([], [], None, device)
    options: dict[str, Any] = {"scale": SCALE, "shift": SHIFT, "dtype": torch.float32}
    for shape in ((0, 2, 4, 4, 3), (3, 2, 4, 4, 3), (3, 2, 0, 4, 3)):
        video = torch.zeros(shape, dtype=torch.uint8, device=device)
        for channels_last in (True, False):
            out = mix_frames(video, partner, weight, None, channels_last=channels_last, **options)
            assert out.shape == (0, 3, *shape[1:4])


def check_errors(device: str) -> None:
    """What does not fit is a ValueError that names both values."""
    from avmix.mix.cuda_kernels import mix_frames

    video = torch.zeros(3, 2, 4, 4, 3, dtype=torch.uint8, device=device)
    partner, weight, box = _tensors([1, 0], [0.5, 0.5], [[0, 2, 0, 4, 0, 4]] * 2, device)
    assert box is not None
    options: dict[str, Any] = {"scale": SCALE, "shift": SHIFT, "dtype": torch.float32}
    options |= {"channels_last": True}
    spectrum = box[:, :4].contiguous()
    wrong: list[tuple[tuple[Any, ...], dict[str, Any], tuple[str, ...]]] = [
        ((video.float(), partner, weight, box), {}, ("uint8", "float32")),
        ((video[0], partner, weight, box), {}, ("(b t h w 3)", "(2, 4, 4, 3)")),
        ((video[..., :2], partner, weight, box), {}, ("w 3)", "(3, 2, 4, 4, 2)")),
        ((video[:, :, ::2], partner, weight, box), {}, ("contiguous", "(3, 2, 2, 4")),
        ((video, partner.long(), weight, box), {}, ("int32", "int64")),
        ((video, partner[None], weight, box), {}, ("(2,)", "(1, 2)")),
        ((video, partner, weight.double(), box), {}, ("float32", "float64")),
        ((video, partner, weight[:1], box), {}, ("(2,)", "(1,)")),
        ((video, partner, None, box), {}, ("weight is None", "2 values")),
        ((video, None, weight, None), {}, ("partner is None",)),
        ((video, partner, weight, spectrum), {}, ("(2, 6)", "(2, 4)")),
        ((video, partner, weight, box.long()), {}, ("int32", "int64")),
        ((video[:1], partner, weight, box), {}, ("2 values", "1 rows")),
        ((video, partner, weight, box.cpu().to("meta")), {}, (device, "meta")),
        ((video, partner, weight, box), {"dtype": torch.float64}, ("float64",)),
        ((video, partner, weight, box), {"scale": (1.0,)}, ("3 values", "got 1")),
    ]
    for arguments, changes, parts in wrong:
        pattern = "(?s)" + ".*".join(map(re.escape, parts))
        with pytest.raises(ValueError, match=pattern):
            mix_frames(*arguments, **(options | changes))


OTHERS: dict[str, Callable[[str], None]] = {
    "lost_partner": check_lost_partner,
    "far_rows": check_far_rows,
    "columns": check_columns,
    "nothing": check_nothing,
    "errors": check_errors,
}


def _main() -> None:
    assert os.environ["TRITON_INTERPRET"] == "1"
    torch.set_num_threads(1)
    tasks: dict[str, Callable[[], None]] = {
        name: (lambda c=case: check_frames(c, "cpu", INTERPRETER)) for name, case in FRAMES.items()
    }
    tasks |= {name: (lambda f=check: f("cpu")) for name, check in OTHERS.items()}
    tasks["divide"] = _check_divide
    wrong = dict.fromkeys(tasks, "")
    for name, task in tasks.items():
        try:
            task()
        except Exception:  # each is the failure of a test of its own, which prints it
            wrong[name] = traceback.format_exc()
    print(json.dumps(wrong))


if __name__ == "__main__":
    import triton
    import triton.language as tl

    from avmix.mix.cuda_kernels import _divisor
    from avmix.mix.triton_kernels import divide

    @triton.jit
    def _divide_all(out, number, magic, shift):
        offset = tl.arange(0, 16)
        quotient = divide(tl.load(number + offset), magic, shift)
        tl.store(out + offset, quotient)

    def _check_divide() -> None:
        """Exact to 2**31 - 1, next to every multiple and for every kind of divisor."""
        top = 2**31 - 1
        for divisor in (1, 2, 3, 5, 7, 48, 224, 672, 65_535, 65_536, 2**30 + 1, top):
            near = [m * divisor + d for m in (1, 2, top // divisor) for d in (-1, 0, 1)]
            numbers = torch.tensor([min(n, top) for n in (*near, 0, 1, top)] + [top - 1] * 4)
            _, magic, shift = _divisor("x", divisor).values()
            out = torch.full((16,), -1, dtype=torch.int32)
            _divide_all[(1,)](out, numbers.int(), magic, shift)
            assert torch.equal(out.long(), numbers // divisor), divisor

    _main()
