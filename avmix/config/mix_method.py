"""Parsing of mixing methods, METHOD[@LEVEL][+dropout]: `mixup`, `cutmix_spatial`,
`mixup@feature+dropout` ...

METHOD[@LEVEL][+dropout]. The methods are described in `avmix.mix.methods`.
"""

import re
from dataclasses import dataclass
from typing import Literal, get_args

Method = Literal[
    "none",
    "mixup",
    "independent",
    "by_share",
    "video",
    "audio",
    "cutmix_temporal",
    "cutmix_spatial",
    "cutmix_spatiotemporal",
    "cutmix_frequency",
    "energy",
    "cross",
]
METHODS: tuple[Method, ...] = get_args(Method)

Level = Literal["input", "layer", "feature"]
"""Where it happens: pixels and audio, between two stages of the encoders, or on what they give."""
LEVELS: tuple[Level, ...] = get_args(Level)

BLENDS: tuple[Method, ...] = ("mixup", "independent", "by_share", "video", "audio")
"""Methods that weigh whole tensors, and so work at every level; boxes need pixels and columns."""

_METHOD: dict[str, Method] = {method: method for method in METHODS}
_LEVEL: dict[str, Level] = {level: level for level in LEVELS}
_WORD = re.compile(r"(?P<method>\w+?)(@(?P<level>\w+))?(?P<dropout>\+dropout)?")


@dataclass(frozen=True, slots=True)
class MixMethod:
    """A parsed mixing method: method, level and modality dropout."""

    method: Method
    level: Level
    dropout: bool
    """True when modality dropout follows."""


def parse_mix_method(word: str) -> MixMethod:
    """Parse METHOD[@LEVEL][+dropout]; `dropout` alone is `none+dropout`.

    Raises ValueError, with the choices, for anything else, and for a method at a level at which it
    has no meaning.
    """
    if word == "dropout":
        return MixMethod("none", "input", True)
    found = _WORD.fullmatch(word)
    method = _METHOD.get(found["method"]) if found else None
    if found is None or method is None:
        raise ValueError(
            f"unknown mixing method {word!r}; expected METHOD[@LEVEL][+dropout], METHOD one of "
            f"{', '.join(METHODS)} (or dropout alone) and LEVEL one of {', '.join(LEVELS)}"
        )
    default: Level = "feature" if method == "cross" else "input"
    level = _LEVEL.get(found["level"] or default)
    allowed = LEVELS if method in BLENDS else (default,)
    if level is None or level not in allowed:
        raise ValueError(
            f"{word!r}: {method} happens at {' or '.join(allowed)} level, not {found['level']!r}"
        )
    return MixMethod(method, level, found["dropout"] is not None)
