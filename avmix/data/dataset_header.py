"""`dataset.json`, the header of a dataset: classes, protocol, and the hash of each split."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

FORMAT = 1
"""Version of the format, in `dataset.json`; raised when an old reader would misread a new file."""


class ManifestError(ValueError):
    """A manifest is missing, damaged or contradicts itself; the message names file and line."""


def header_with(folder: Path, split: str) -> dict[str, Any]:
    """The header of a dataset that has the split."""
    header = read_header(folder)
    if split not in header["splits"]:
        known = ", ".join(header["splits"]) or "none"
        raise ManifestError(f"{folder / 'dataset.json'}: no split {split!r}; it has: {known}")
    return header


def check_hash(sha256: str, header: Mapping[str, Any], split: str, path: Path) -> None:
    """Raise `ManifestError` where the hash of a list is not that of its split."""
    if sha256 != header["splits"][split]["sha256"]:
        raise ManifestError(
            f"{path}: its hash differs from dataset.json: the file was changed after it was "
            "written; prepare the dataset again"
        )


def read_header(folder: Path) -> dict[str, Any]:
    """The header of the dataset in `folder`; `ManifestError` where there is none or it is wrong."""
    path = folder / "dataset.json"
    try:
        header = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise ManifestError(
            f"{path}: not found. Prepare the dataset first (see datasets/README.md), or set "
            "data.manifest to the folder that has it"
        ) from None
    except (ValueError, RecursionError) as error:
        raise ManifestError(f"{path}: not valid JSON: {error}") from None
    said = header if isinstance(header, dict) else {}
    missing = {"format", "protocol", "classes", "splits"} - said.keys()
    if missing:
        raise ManifestError(f"{path}: lacks {', '.join(sorted(missing))}")
    if header["format"] != FORMAT:
        raise ManifestError(f"{path}: format {header['format']}, this avmix reads {FORMAT}")
    classes, splits = header["classes"], header["splits"]
    named = isinstance(classes, list) and all(isinstance(name, str) for name in classes)
    if not named or len({*classes}) < len(classes):
        raise ManifestError(f"{path}: classes must be names, each once")
    if not isinstance(header["protocol"], str):
        raise ManifestError(f"{path}: protocol must be a name")
    if not isinstance(splits, dict) or not all(
        isinstance(split, dict) and isinstance(split.get("sha256"), str)
        for split in splits.values()
    ):
        raise ManifestError(f"{path}: splits must say the sha256 of each")
    return header
