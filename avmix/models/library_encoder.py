"""Base of the library adapters: a network of a library, cut into stages.

The pieces of a cut refer to modules of the network and are no modules themselves, so that the
network's parameters keep the names that its library gave them. All of them can be copied.
"""

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

from torch import Tensor, nn

from avmix.models.encoder import AudioSpec, Colour, Encoder, Positions, Stage, VideoSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """A network without its classifier, in consecutive pieces."""

    stages: Sequence[Stage]
    """Empty where it cannot be cut: `pool` is all of it."""
    pool: Stage
    """From what the last stage gave to features (b d)."""
    num_features: int
    """d."""
    positions: Mapping[str, Positions] = field(default_factory=dict)
    """As in `Encoder`."""


@dataclass(frozen=True, slots=True)
class Chain:
    """Sequence of modules or functions; of one that returns several values, the first is passed
    on."""

    links: tuple[Stage, ...]

    def __call__(self, x: Any) -> Any:
        """What the last one gives."""
        for link in self.links:
            x = link(x)
            x = x[0] if isinstance(x, tuple) else x
        return x


def chain(*links: Stage) -> Chain:
    """Build a `Chain`."""
    return Chain(links)


def groups(layers: Iterable[Any], most: int = 4) -> list[Chain]:
    """Group layers into at most `most` chains of about equal length."""
    some = list(layers)
    count = min(most, len(some))
    ends = [round(len(some) * (i + 1) / count) for i in range(count)]
    return [Chain(tuple(some[a:b])) for a, b in zip([0, *ends], ends, strict=False)]


class LibraryEncoder(Encoder):
    """Encoder that wraps a library's network which takes whole clips."""

    def __init__(self, net: nn.Module, cut: Cut, spec: VideoSpec | AudioSpec) -> None:
        """`cut` is of `net`."""
        super().__init__()
        self.net = net
        self.stages, self._cut = cut.stages, cut
        self.num_features, self.spec, self.positions = cut.num_features, spec, cut.positions

    def pool(self, x: Any) -> Tensor:
        """Pool as the library does before its classifier."""
        return self._cut.pool(x)

    @property
    def network(self) -> nn.Module:
        """The library's network."""
        return self.net


def imported(module: str, which: str) -> Any:
    """Import a module of an optional library; ValueError that says how to install it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of what the library itself uses
            return import_module(module)
    except ImportError as error:
        raise ValueError(
            f"{which} needs {module.partition('.')[0]}, which cannot be imported ({error}): "
            "pip install '.[models,weights]' in the checkout"
        ) from None


def built(build: Any, which: str, options: dict[str, Any], **own: Any) -> Any:
    """Call `build(**own, **options)`. Raises ValueError, naming the encoder, for options that the
    library rejects."""
    try:
        return build(**{**own, **options})
    except (TypeError, ValueError, KeyError, AssertionError, AttributeError, RuntimeError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"{which} cannot be built with options {options}: {reason}") from None


def without_head(net: nn.Module, which: str, *names: str) -> int:
    """Remove the last linear layer of the first existing one of these modules; returns its number
    of input features. Raises ValueError where there is none."""
    for name in names:
        if not isinstance(getattr(net, name, None), nn.Module):
            continue
        inside = [(path, m) for path, m in net.get_submodule(name).named_modules(prefix=name)
                  if isinstance(m, nn.Linear)]  # fmt: skip
        if inside:
            path, linear = inside[-1]
            net.set_submodule(path, nn.Identity())
            return linear.in_features
    raise ValueError(f"{which} has no linear classifier ({', '.join(names)}) to take away")


def colour(values: Sequence[float]) -> Colour:
    """Three numbers, as configurations of libraries list them."""
    red, green, blue = values
    return float(red), float(green), float(blue)
