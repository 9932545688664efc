"""Gradient checkpointing: what a stage computes on the way is computed again for the gradient.

Chen et al., "Training deep nets with sublinear memory cost" (2016). Between forward and backward
only what goes from stage to stage is kept.
"""

from typing import Any

from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from avmix.models.hidden import tensors_of


class _BuffersAside:
    """While it is entered, the module works with copies of its buffers: a second computation of the
    same must not move the statistics of batch normalisation a second time."""

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self.buffers: list[tuple[nn.Module, str, Tensor]] = []

    def __enter__(self) -> None:
        self.buffers = [
            (module, name, buffer)
            for module in self.module.modules()
            for name, buffer in module._buffers.items()
            if buffer is not None
        ]
        for module, name, buffer in self.buffers:
            module._buffers[name] = buffer.clone()

    def __exit__(self, *_: object) -> None:
        for module, name, buffer in self.buffers:
            module._buffers[name] = buffer
        self.buffers = []


class _AsItIs:
    """The first computation."""

    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...


def recomputed(encoder: nn.Module, stage: Any, x: Any) -> Any:
    """`stage(x)`, of which nothing but `x` is kept for the gradient.

    `encoder`: what the stage belongs to. Raises RuntimeError for a stage that changes its input in
    place: there would be nothing to compute it from again.
    """
    given = tensors_of(x)
    before = [one._version for one in given]
    found = checkpoint(
        stage, x, use_reentrant=False, context_fn=lambda: (_AsItIs(), _BuffersAside(encoder))
    )
    if [one._version for one in given] != before:
        raise RuntimeError(
            f"a stage of {type(encoder).__name__} changes its input in place, which "
            "gradient_checkpointing does not allow; set model.*.gradient_checkpointing false"
        )
    return found
