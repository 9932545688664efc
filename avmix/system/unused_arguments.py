"""Detection of command arguments that are set but have no effect: the rule of
`avmix.config.unused_options`, for command lines."""

from argparse import Namespace
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """An option, and what it cannot act without."""

    option: str
    """As it is typed, `--per-shard`."""
    default: Any
    says: str
    """What would let it act, for the message."""
    met: Callable[[Namespace], Any]
    """Whether it can act."""


def unused_argument(args: Namespace, needs: Iterable[Needs]) -> str:
    """The message for the first option that is set to something else than its default and cannot
    act; empty where there is none. Options that the command does not have are passed over."""
    for need in needs:
        name = need.option.removeprefix("--").replace("-", "_")
        if hasattr(args, name) and getattr(args, name) != need.default and not need.met(args):
            return f"{need.option} cannot act without {need.says}"
    return ""
