"""Predictions of a run beside a result: rounded, without folders of a machine, compressed.

Inside is the file of `avmix.evaluation.prediction_file`. A probability of float32 has 24 bits of
mantissa, half of which are noise that no compressor removes; 12 bits are kept, a relative error of
at most 2^-12, unless that would change the most probable class of a clip. The figures of a result
are those of the rounded numbers, so that they follow from the file exactly.
"""

import hashlib
import lzma
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from avmix.config.yaml_files import read_yaml
from avmix.evaluation.kept_predictions import KeptPredictions, Origin, PredictionsError
from avmix.evaluation.prediction_file import read_predictions, write_predictions

SUFFIX = ".safetensors.xz"
_DROPPED_BITS = 12
"""Of the 23 that are stored."""
_MOST_BYTES = 2_000_000_000
"""Of a file, when it is unpacked."""
_FILTERS = [{"id": lzma.FILTER_LZMA2, "preset": 9, "lc": 0, "lp": 2, "pb": 2}]
"""For numbers of four bytes."""
_FOLDERS = (("data", "root"), ("data", "manifest"), ("data", "features"), ("run", "out"))
_OF_ENVIRONMENT = ("git_commit", "python", "packages", "machine", "cores", "torch_threads", "gpu",
                   "omp_wait_policy", "started")  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Packed:
    """What is written beside a result."""

    content: bytes
    kept: KeptPredictions
    """What it holds: figures are of this."""
    rounded: bool

    @property
    def sha256(self) -> str:
        """Of the content."""
        return hashlib.sha256(self.content).hexdigest()


def pack(kept: KeptPredictions) -> Packed:
    """Round, strip and compress."""
    probability, rounded = _rounded(kept.probability)
    kept = replace(kept, probability=probability, origin=_stripped(kept.origin))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "predictions.safetensors"
        write_predictions(path, kept)
        content = lzma.compress(path.read_bytes(), lzma.FORMAT_XZ, filters=_FILTERS)
    return Packed(content=content, kept=kept, rounded=rounded)


def unpack(path: Path, sha256: str = "") -> KeptPredictions:
    """Read what `pack` made; `sha256`: the hash that it must have. Raises `PredictionsError`."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise PredictionsError(f"{path}: no predictions: {error.strerror}") from None
    if sha256 and hashlib.sha256(content).hexdigest() != sha256:
        raise PredictionsError(f"{path}: edited or damaged: its SHA-256 is not that of the result")
    try:
        plain = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=2**30)
        inside = plain.decompress(content, _MOST_BYTES)
    except (lzma.LZMAError, EOFError) as error:
        raise PredictionsError(f"{path}: damaged: {error}") from None
    if not plain.eof:
        raise PredictionsError(f"{path}: damaged: it ends too early, or is too large")
    with tempfile.TemporaryDirectory() as folder:
        there = Path(folder) / "predictions.safetensors"
        there.write_bytes(inside)
        try:
            return read_predictions(there)
        except PredictionsError as error:
            raise PredictionsError(str(error).replace(str(there), str(path))) from None


def _rounded(given: Mapping[str, np.ndarray]) -> tuple[dict[str, np.ndarray], bool]:
    found = {row: _fewer_bits(p) for row, p in given.items()}
    same = all(np.array_equal(found[row].argmax(1), p.argmax(1)) for row, p in given.items())
    return (found, True) if same else (dict(given), False)


def _fewer_bits(values: np.ndarray) -> np.ndarray:
    """The nearest numbers of 12 bits of mantissa (the first is not stored); never above 1."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    half, mask = (
        np.uint32(1 << (_DROPPED_BITS - 1)),
        np.uint32(0xFFFFFFFF << _DROPPED_BITS & 0xFFFFFFFF),
    )
    return np.minimum(((bits + half) & mask).view(np.float32), np.maximum(values, 1.0))


def _stripped(origin: Origin) -> Origin:
    """Without folders and the command line, which say where somebody's files are."""
    config = origin.config
    if config:
        values: Any = read_yaml(config)
        for section, name in _FOLDERS:
            if values.get(section, {}).get(name):
                values[section][name] = "DIR"
        config = yaml.safe_dump(values, sort_keys=False, allow_unicode=True)
    environment = {k: v for k, v in origin.environment.items() if k in _OF_ENVIRONMENT}
    return replace(origin, config=config, environment=environment)
