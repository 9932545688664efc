"""Seeded damage to the bytes of a file: what disks, networks and bad tools do to media.

The last six kinds may leave another valid film: a right decoder then shows other times of it.
"""

from collections.abc import Callable
from typing import Literal

import numpy as np

Kind = Literal[
    "none", "flip", "flips", "noise", "zeros", "truncate", "head", "tail",
    "remove", "insert", "duplicate", "foreign", "concatenate", "swap",
]  # fmt: skip
_BLOCKS = (1, 188, 512, 2048)
"""Sizes that pieces are aligned to: none, packets of MPEG-TS, sectors, packs of MPEG-PS."""
_END = 4096


def _span(draw: np.random.Generator, size: int, low: int, high: int) -> tuple[int, int]:
    """Begin and end of a piece of `low` to `high` bytes (log-uniform), aligned half of the time."""
    length = min(int(np.exp(draw.uniform(np.log(low), np.log(high)))), size - 1)
    block = int(draw.choice(_BLOCKS)) if draw.random() < 0.5 else 1
    length = min(-(-length // block) * block, size - 1)
    begin = int(draw.integers(0, size - length)) // block * block
    return begin, begin + length


def _flip(data: bytes, draw: np.random.Generator, num: int, low: int, high: int) -> bytes:
    damaged = bytearray(data)
    for at in draw.integers(low, high, num):
        damaged[at] ^= 1 << int(draw.integers(8))
    return bytes(damaged)


def _none(data: bytes, other: bytes, draw: np.random.Generator) -> tuple[bytes, str]:
    return data, "clean"


def _one_flip(data: bytes, other: bytes, draw: np.random.Generator) -> tuple[bytes, str]:
    at, bit = int(draw.integers(len(data))), int(draw.integers(8))
    damaged = bytearray(data)
    damaged[at] ^= 1 << bit
    return bytes(damaged), f"bit {bit} of byte {at} flipped"


def _flips(data: bytes, other: bytes, draw: np.random.Generator) -> tuple[bytes, str]:
    num = int(draw.integers(1, 51))
    return _flip(data, draw, num, 0, len(data)), f"{num} bits flipped"


def _noise(data: bytes, other: bytes, draw: np.random.Generator) -> tuple[bytes, str]:
    low, high = _span(draw, len(data), 24, 4000)
    return data[:low] + draw.bytes(high - low) + data[high:], f"noise in {low}:{high}"


def _zeros(data: bytes, other: bytes, draw: np.random.Generator) -> tuple[bytes, str]:
    low, high = _span(draw, len(data), 24, 16_000)
    return data[:low] + bytes(high - low) + data[high:], f"zeros in {low}:{high}"


def _truncate(data: bytes, other: bytes, draw: np.random.Generator) -> tuple[bytes, str]:
    at = int(draw.integers(1, len(data)))
    return data[:at], f"cut at {at} of {len(data)}"


def _head(data: bytes, other: bytes, draw: np.random.Generator) -> tuple[bytes, str]:
    return _near(data, draw, 0, min(_END, len(data)))


def _tail(data: bytes, other: bytes, draw: np.random.Generator) -> tuple[bytes, str]:
    return _near(data, draw, max(len(data) - _END, 0), len(data))


def _near(data: bytes, draw: np.random.Generator, low: int, high: int) -> tuple[bytes, str]:
    if draw.random() < 0.5:
        num = int(draw.integers(1, 9))
        return _flip(data, draw, num, low, high), f"{num} bits flipped in {low}:{high}"
    begin = int(draw.integers(low, high - 4))
    end = min(begin + int(draw.integers(1, 65)), high)
    return data[:begin] + draw.bytes(end - begin) + data[end:], f"noise in {begin}:{end}"


def _remove(data: bytes, other: bytes, draw: np.random.Generator) -> tuple[bytes, str]:
    low, high = _span(draw, len(data), 1, len(data) // 2)
    return data[:low] + data[high:], f"{low}:{high} removed"


def _insert(data: bytes, other: bytes, draw: np.random.Generator) -> tuple[bytes, str]:
    low, high = _span(draw, len(data), 1, 16_000)
    return data[:low] + draw.bytes(high - low) + data[low:], f"{high - low} bytes put in at {low}"


def _duplicate(data: bytes, other: bytes, draw: np.random.Generator) -> tuple[bytes, str]:
    low, high = _span(draw, len(data), 1, len(data) // 2)
    return data[:high] + data[low:], f"{low}:{high} twice"


def _foreign(data: bytes, other: bytes, draw: np.random.Generator) -> tuple[bytes, str]:
    low, high = _span(draw, min(len(data), len(other)), 188, 32_000)
    return data[:low] + other[low:high] + data[high:], f"{low}:{high} from the other file"


def _concatenate(data: bytes, other: bytes, draw: np.random.Generator) -> tuple[bytes, str]:
    at = int(draw.integers(len(data) // 4, len(data) + 1)) if draw.random() < 0.5 else len(data)
    return data[:at] + other, f"first {at} bytes, then the other file"


def _swap(data: bytes, other: bytes, draw: np.random.Generator) -> tuple[bytes, str]:
    size = min(int(draw.choice((188, 512, 2048, 4096))), len(data) // 4)
    a, b = sorted(int(k) for k in draw.choice(len(data) // size, 2, replace=False))
    first, second = data[a * size : (a + 1) * size], data[b * size : (b + 1) * size]
    middle = data[(a + 1) * size : b * size]
    swapped = data[: a * size] + second + middle + first + data[(b + 1) * size :]
    return swapped, f"blocks {a} and {b} of {size} bytes swapped"


DAMAGE: dict[Kind, Callable[[bytes, bytes, np.random.Generator], tuple[bytes, str]]] = {
    "none": _none,
    "flip": _one_flip,
    "flips": _flips,
    "noise": _noise,
    "zeros": _zeros,
    "truncate": _truncate,
    "head": _head,
    "tail": _tail,
    "remove": _remove,
    "insert": _insert,
    "duplicate": _duplicate,
    "foreign": _foreign,
    "concatenate": _concatenate,
    "swap": _swap,
}
"""From the file, another of its kind and a generator: the damaged file, and what was done."""
