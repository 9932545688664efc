"""Results as JSON that people can read: large parts by line, small ones on one line."""

from pathlib import Path
from typing import Any

from avmix.system import strict_json
from avmix.system.atomic_files import replace_text

_DEEPEST = 3
"""Levels of objects that are spread over lines."""


def text_of(result: Any) -> str:
    """JSON in which an object or list that holds objects is spread over lines, down to three
    levels; an item of such a list is one line. Raises ValueError of NaN and infinity."""
    return _text(result, 0)


def _text(value: Any, depth: int) -> str:
    inner = value.values() if isinstance(value, dict) else value
    if depth > _DEEPEST or not isinstance(value, dict | list) or not any(
        isinstance(item, dict) for item in inner
    ):  # fmt: skip
        return strict_json.dumps(value)
    pad, end = "  " * (depth + 1), "  " * depth
    if isinstance(value, dict):
        items = [
            f"{strict_json.dumps(key)}: {_text(item, depth + 1)}" for key, item in value.items()
        ]
        return "{\n" + ",\n".join(pad + item for item in items) + f"\n{end}}}"
    items = [strict_json.dumps(item) for item in value]
    return "[\n" + ",\n".join(pad + item for item in items) + f"\n{end}]"


def write(path: Path, result: dict[str, Any]) -> None:
    """Write a result whole or not at all. Raises OSError that names the file."""
    replace_text(path, text_of(result) + "\n")
