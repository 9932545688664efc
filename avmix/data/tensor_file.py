"""Files of tensors in the format of safetensors: written piece by piece, read by mapping them into
memory.

The library of that name wants all tensors at once to write a file. Here neither writing nor reading
holds more of it than what is asked for.
"""

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from avmix.system import strict_json
from avmix.system.atomic_files import replacing

_CODES = {"F32": np.dtype("<f4"), "F16": np.dtype("<f2"), "I64": np.dtype("<i8"),
          "BOOL": np.dtype("?"), "U8": np.dtype("u1")}  # fmt: skip
_WRONG = (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError)
"""What reading anything else than a file of tensors raises."""
_MOST_HEADER_BYTES = 100_000_000
"""As the library allows."""


class TensorFileError(ValueError):
    """A file is no file of tensors, or damaged; the message names it."""


@dataclass(frozen=True, slots=True)
class Shape:
    """Type and shape of a tensor that is to be written."""

    dtype: np.dtype[Any]
    """float32, float16, int64, bool or uint8."""
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class TensorFile:
    """A file of tensors; what is not looked at is not read."""

    metadata: dict[str, str]
    tensors: dict[str, np.ndarray]
    """Read-only arrays in the memory that the file is mapped into."""


def write_tensors(
    path: Path,
    shapes: Mapping[str, Shape],
    pieces: Callable[[str], Iterable[np.ndarray]],
    metadata: Mapping[str, str],
) -> str:
    """Write a file atomically; returns its SHA-256.

    `pieces(name)` gives a tensor in parts along its first axis. Raises OSError that names the file,
    and ValueError where the parts are not of `shapes`.
    """
    # The widest first: so every tensor lies at a multiple of the size of its numbers.
    names = sorted(shapes, key=lambda name: (-shapes[name].dtype.itemsize, name))
    codes = {dtype: code for code, dtype in _CODES.items()}
    header: dict[str, Any] = {"__metadata__": dict(sorted(metadata.items()))}
    end = 0
    for name in names:
        begin, end = end, end + shapes[name].dtype.itemsize * math.prod(shapes[name].shape)
        header[name] = {"dtype": codes[shapes[name].dtype], "shape": list(shapes[name].shape),
                        "data_offsets": [begin, end]}  # fmt: skip
    text = strict_json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    sha256 = hashlib.sha256()
    with replacing(path) as file:

        def write(data: Any) -> None:
            sha256.update(data)
            file.write(data)

        write(len(text).to_bytes(8, "little"))
        write(text)
        for name in names:
            count = 0
            for piece in pieces(name):
                wanted = shapes[name]
                if (piece.dtype, piece.shape[1:]) != (wanted.dtype, wanted.shape[1:]):
                    raise ValueError(f"{path}: a part of {name} is {piece.dtype} {piece.shape}")
                write(np.ascontiguousarray(piece).tobytes())
                count += len(piece)
            if count != shapes[name].shape[0]:
                raise ValueError(f"{path}: {name} has {count} rows, not {shapes[name].shape[0]}")
    return sha256.hexdigest()


def open_tensors(path: Path) -> TensorFile:
    """Map a file into memory. Raises `TensorFileError` where it is missing, cut or something
    else."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if not 0 < length <= min(size, _MOST_HEADER_BYTES):
                raise ValueError("its header has no sensible length")
            header = json.loads(file.read(length))
        metadata = header.pop("__metadata__", {})
        tensors = {name: _mapped(path, said, 8 + length, size) for name, said in header.items()}
    except FileNotFoundError:
        raise TensorFileError(f"{path}: no such file") from None
    except _WRONG as error:
        raise TensorFileError(f"{path}: not a readable file of tensors: {error!r}") from None
    return TensorFile(metadata, tensors)


def _mapped(path: Path, said: Mapping[str, Any], start: int, size: int) -> np.ndarray:
    dtype, shape = _CODES[said["dtype"]], tuple(said["shape"])
    begin, end = said["data_offsets"]
    if end - begin != dtype.itemsize * math.prod(shape) or not 0 <= begin <= end <= size - start:
        raise ValueError(f"it has {size} bytes, and a tensor {list(shape)} at {begin} to {end}")
    if begin == end:
        return np.empty(shape, dtype)  # nothing can be mapped
    return np.memmap(path, dtype, mode="r", offset=start + begin, shape=shape)
