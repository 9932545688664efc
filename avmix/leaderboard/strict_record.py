"""Dataclasses read from what YAML or JSON holds: every key known, every value of its type.

Cards and results are written by people and by other machines. A key that is not read would be a
promise that is not kept, so it is an error.
"""

import difflib
import math
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from types import UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

R = TypeVar("R")
Scalar = str | int | float | bool
"""A value without parts."""
Option = Scalar | list | dict
"""The value of an option of a configuration, of scalars."""
MOST_LETTERS = 100_000
"""Of a text."""
MOST_ITEMS = 100_000
"""Of a list or a mapping."""
_DEEPEST = 8


def read_record(cls: type[R], value: Any, where: str) -> R:
    """An instance of the dataclass `cls`; `where` is the file, for messages.

    Raises ValueError that names the file and the dotted key.
    """
    return _record(cls, value, where, "")


def _record(cls: Any, value: Any, where: str, path: str) -> Any:
    said = path or "the whole"
    if not isinstance(value, Mapping):
        raise ValueError(f"{where}: {said} must be a mapping, got {_short(value)}")
    kinds = get_type_hints(cls)
    known = {f.name: f for f in fields(cls)}
    found: dict[str, Any] = {}
    for key, one in value.items():
        if key not in known:
            close = difflib.get_close_matches(str(key), known, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise ValueError(
                f"{where}: no key {_joined(path, key)!r}{hint} Keys: {', '.join(known)}"
            )
        found[key] = _value(kinds[key], one, where, _joined(path, key))
    for name, f in known.items():
        if name not in found and f.default is MISSING and f.default_factory is MISSING:
            raise ValueError(f"{where}: {_joined(path, name)!r} is missing")
    try:
        return cls(**found)
    except ValueError as error:
        raise ValueError(f"{where}: {path + ': ' if path else ''}{error}") from None


def _value(kind: Any, value: Any, where: str, path: str) -> Any:
    if is_dataclass(kind):
        return _record(kind, value, where, path)
    origin, args = get_origin(kind), get_args(kind)
    if origin is tuple:
        if not isinstance(value, list) or len(value) > MOST_ITEMS:
            raise ValueError(f"{where}: {path!r} must be a list, got {_short(value)}")
        return tuple(_value(args[0], one, where, f"{path}[{i}]") for i, one in enumerate(value))
    if origin is dict:
        if not isinstance(value, Mapping) or len(value) > MOST_ITEMS:
            raise ValueError(f"{where}: {path!r} must be a mapping, got {_short(value)}")
        for key in value:
            if not isinstance(key, str) or not key or len(key) > 200:
                raise ValueError(f"{where}: {path!r} has the key {_short(key)}, not a name")
        return {key: _value(args[1], one, where, f"{path}.{key}") for key, one in value.items()}
    if origin is Literal:
        if not any(type(value) is type(one) and value == one for one in args):
            choices = ", ".join(map(str, args))
            raise ValueError(f"{where}: {path!r} must be one of {choices}, got {_short(value)}")
        return value
    if origin in (Union, UnionType):
        if is_option(value) and kind == Option:
            return value
        records = [one for one in args if is_dataclass(one)]
        if records and value is not None:
            return _record(records[0], value, where, path)
        words = [word for one in args if get_origin(one) is Literal for word in get_args(one)]
        if any(_is_plain(value, one) for one in args) or value in words:
            return value
        raise ValueError(f"{where}: {path!r} must not be {_short(value)}")
    if not _is_plain(value, kind):
        raise ValueError(f"{where}: {path!r} must be {_NAMES[kind]}, got {_short(value)}")
    return float(value) if kind is float else value


_NAMES = {str: "a text", int: "a whole number", float: "a number", bool: "true or false"}


def _is_plain(value: Any, kind: Any) -> bool:
    if value is None:
        return kind is type(None)
    if isinstance(value, bool):
        return kind is bool
    if isinstance(value, float) and not math.isfinite(value):
        return False
    if isinstance(value, str):
        return kind is str and len(value) <= MOST_LETTERS
    return kind in _NAMES and isinstance(value, (int, float) if kind is float else kind)


def is_option(value: Any, depth: int = 0) -> bool:
    """Whether a value can be that of an option: finite numbers, texts, lists and mappings."""
    if depth > _DEEPEST:
        return False
    if isinstance(value, list):
        return len(value) <= MOST_ITEMS and all(is_option(one, depth + 1) for one in value)
    if isinstance(value, dict):
        return len(value) <= MOST_ITEMS and all(
            isinstance(key, str) and is_option(one, depth + 1) for key, one in value.items()
        )
    return any(_is_plain(value, kind) for kind in (str, int, float, bool))


def _joined(path: str, key: Any) -> str:
    return f"{path}.{key}" if path else str(key)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
