"""`schema.json`: the JSON Schema of a result, from its dataclasses.

The file is for programs that are not avmix; a test says that it is what this writes.
"""

from dataclasses import MISSING, fields, is_dataclass
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from avmix.leaderboard.result import FORMAT, Result
from avmix.leaderboard.strict_record import Option

_PLAIN = {str: "string", int: "integer", float: "number", bool: "boolean", type(None): "null"}
_HASH = {"type": "string", "pattern": "^[0-9a-f]{64}$"}


def schema() -> dict[str, Any]:
    """The schema, as JSON."""
    found = _record(Result)
    properties = found["properties"]
    properties["format"] = {"const": FORMAT}
    properties["runs"] |= {"minItems": 1}
    run = properties["runs"]["items"]["properties"]
    for name in ("split_sha256", "media_sha256"):
        run[name] = {"type": "object", "additionalProperties": _HASH}
    run["split_sha256"] |= {"required": ["train", "test"]}
    run["code_sha256"] = properties["card_sha256"] = _HASH
    run["predictions"]["properties"]["sha256"] = _HASH
    found["required"].append("format")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A row of an avmix leaderboard",
        **found,
    }


def _record(cls: Any) -> dict[str, Any]:
    kinds = get_type_hints(cls)
    needed = [f.name for f in fields(cls)
              if f.default is MISSING and f.default_factory is MISSING]  # fmt: skip
    return {
        "type": "object",
        "properties": {f.name: _kind(kinds[f.name]) for f in fields(cls)},
        "required": needed,
        "additionalProperties": False,
    }


def _kind(kind: Any) -> dict[str, Any]:
    if kind == Option:
        return {"type": ["string", "number", "boolean", "array", "object"]}
    if is_dataclass(kind):
        return _record(kind)
    origin, args = get_origin(kind), get_args(kind)
    if origin is tuple:
        return {"type": "array", "items": _kind(args[0])}
    if origin is dict:
        return {"type": "object", "additionalProperties": _kind(args[1])}
    if origin is Literal:
        return {"enum": list(args)}
    if origin in (Union, UnionType):
        return {"type": [_PLAIN[one] for one in args]}
    return {"type": _PLAIN[kind]}
