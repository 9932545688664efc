"""Options that were not set: the default of an option that encoders may decide.

Such a default is a value like any other of its type, but it can be told from the same value where
it was written: in a file, on the command line, or as an argument in Python. It survives
`dataclasses.replace`, copying and pickling, and is written as the plain value.
"""

from typing import Any, TypeVar, cast

import yaml

T = TypeVar("T")


class _UnsetInt(int):
    __slots__ = ()


class _UnsetFloat(float):
    __slots__ = ()


class _UnsetStr(str):
    __slots__ = ()


_UNSET: dict[type, type] = {int: _UnsetInt, float: _UnsetFloat, str: _UnsetStr}


def unset(value: T) -> T:
    """The default `value` of an option, marked as such."""
    return cast(T, _UNSET[type(value)](value))


def is_unset(value: object) -> bool:
    """Whether it is a default that `unset` marked."""
    return type(value) in _UNSET.values()


def plain(value: Any) -> Any:
    """The value without the mark."""
    return next((kind(value) for kind, of in _UNSET.items() if type(value) is of), value)


for _kind in _UNSET.values():
    yaml.SafeDumper.add_representer(
        _kind, lambda dumper, value: dumper.represent_data(plain(value))
    )
