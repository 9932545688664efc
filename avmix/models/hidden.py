"""What a network has between two stages: tensors, lists of tensors, or those of both modalities."""

from collections.abc import Callable
from typing import Any, NamedTuple

from jaxtyping import Bool
from torch import Tensor


class Joint(NamedTuple):
    """What a joint encoder has of each modality: frames and audio, hidden representations of both,
    or features of both."""

    video: Any
    """A tensor, or a list of tensors, clips first."""
    audio: Any
    """Likewise."""
    has_video: Bool[Tensor, " b"]
    """Which clips have frames: of others, nothing of `video` may matter."""
    has_audio: Bool[Tensor, " b"]
    """Which clips have audio."""


def tensors_of(x: Any) -> list[Tensor]:
    """All tensors of representations, in one list."""
    if isinstance(x, Tensor):
        return [x]
    return [tensor for one in x for tensor in tensors_of(one)]


def mapped(x: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """The same representations, with each tensor changed."""
    match x:
        case Tensor():
            return change(x)
        case Joint():
            return Joint(*(mapped(one, change) for one in x))
        case _:
            return [mapped(one, change) for one in x]
