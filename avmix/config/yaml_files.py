"""Reading, writing and comparing configurations in YAML."""

from dataclasses import asdict, fields, is_dataclass
from types import UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

import yaml

C = TypeVar("C")


def to_yaml(config: Any) -> str:
    """Serialise the resolved configuration, with every option; `--config` reads it back."""
    return yaml.safe_dump(asdict(config), sort_keys=False, allow_unicode=True)


def from_yaml(cls: type[C], text: str) -> C:
    """Read a configuration that `to_yaml` wrote, in this version or before options were renamed;
    raises ValueError on anything else."""
    try:
        values = read_yaml(text)
    except ValueError as error:
        raise ValueError(f"not a configuration of this version of avmix: {error}") from None
    return from_values(cls, values)


def from_values(cls: type[C], values: Any) -> C:
    """The configuration of what `dataclasses.asdict` gave, of this version or before options were
    renamed; raises ValueError on anything else, values of another type among it."""
    try:
        return _build(cls, renamed(values))
    except (TypeError, AttributeError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"not a configuration of this version of avmix: {reason}") from None
    except ValueError as error:
        raise ValueError(f"not a configuration of this version of avmix: {error}") from None


def read_yaml(text: str) -> Any:
    """Parse a YAML document. Raises ValueError where it is invalid, and for a repeated key, of
    which YAML itself would drop the first."""
    try:
        node = yaml.compose(text, yaml.SafeLoader)
        if node is not None and (key := _repeated_key(node)):
            raise ValueError(f"the key {key!r} is there twice; one of the two would be forgotten")
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(f"not YAML: {' '.join(str(error).split())}") from None


def _repeated_key(node: yaml.Node, prefix: str = "") -> str | None:
    """Dotted path of the first key that a mapping in `node` holds twice."""
    children: list[tuple[str, yaml.Node]] = []
    if isinstance(node, yaml.MappingNode):
        paths = [(prefix + str(key.value), value) for key, value in node.value]
        seen: set[str] = set()
        for path, _ in paths:
            if path in seen:
                return path
            seen.add(path)
        children = [(path + ".", value) for path, value in paths]
    elif isinstance(node, yaml.SequenceNode):
        children = [(prefix, item) for item in node.value]
    return next((key for p, child in children if (key := _repeated_key(child, p))), None)


RENAMED = {
    "model.video_channels": "model.video.channels",
    "model.audio_channels": "model.audio.channels",
}
"""Options that had another name, which checkpoints may still say: old and new dotted path."""


def renamed(values: Any) -> Any:
    """Replace old option names in what `to_yaml` of an older version wrote."""
    for old, new in RENAMED.items():
        *above, name = old.split(".")
        section = values
        for word in above:
            section = section.get(word) if isinstance(section, dict) else None
        if isinstance(section, dict) and name in section:
            part, *path, last = new.split(".")
            inner = values.setdefault(part, {})
            for word in path:
                inner = inner.setdefault(word, {})
            inner[last] = section.pop(name)
    return values


def differences(a: Any, b: Any) -> dict[str, tuple[Any, Any]]:
    """Options in which two configurations of one kind differ: dotted path and both values."""
    if not is_dataclass(a):
        return {"": (a, b)} if a != b else {}
    found: dict[str, tuple[Any, Any]] = {}
    for f in fields(a):
        for key, values in differences(getattr(a, f.name), getattr(b, f.name)).items():
            found[f"{f.name}.{key}" if key else f.name] = values
    return found


def _build(cls: Any, values: dict[str, Any]) -> Any:
    types = {f.name: f.type for f in fields(cls)}
    found = {}
    for key, value in values.items():
        if is_dataclass(types.get(key)):
            found[key] = _build(types[key], value)
        elif key in types and not _is_of(value, types[key]):
            raise ValueError(f"{key} must not be {value!r}")
        else:
            found[key] = value
    return cls(**found)


def _is_of(value: Any, kind: Any) -> bool:
    """Whether a value of a configuration is of the type of its option."""
    args = get_args(kind)
    match get_origin(kind):
        case None:
            # True is an int to Python, and no number to anybody else; an int is a float.
            wanted = (int, float) if kind is float else kind
            return kind is Any or (
                isinstance(value, wanted) and (kind is bool or not isinstance(value, bool))
            )
        case origin if origin is Literal:
            return any(type(value) is type(one) and value == one for one in args)
        case origin if origin in (Union, UnionType):
            return any(_is_of(value, one) for one in args)
        case origin if origin is list:
            return isinstance(value, list) and all(_is_of(one, args[0]) for one in value)
        case origin if origin is dict:
            return isinstance(value, dict) and all(
                _is_of(key, args[0]) and _is_of(one, args[1]) for key, one in value.items()
            )
        case _:
            return True
