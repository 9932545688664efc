"""Statistics of batch normalisation, re-estimated after training.

Wu and Johnson, "Rethinking 'batch' in BatchNorm" (2021): running averages lag behind the weights,
and here they are of mixed clips, where evaluation sees unmixed ones. Precise statistics are those
of many batches under the final weights.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from avmix.models import LateFusionClassifier
from avmix.models.fusion import FeatureNorm
from avmix.models.on_features import AnyFrontend
from avmix.training.runtime import Runtime
from avmix.types import Batch


@dataclass(slots=True)
class _Sums:
    """Of what one normalisation was given, by channel, in float64."""

    number: Tensor
    """Values of a channel."""
    values: Tensor
    squares: Tensor

    def __call__(self, module: nn.Module, given: tuple[Any, ...]) -> None:
        """Before the module: add up its input, (b c ...); of `FeatureNorm` (b c), clips that have
        the modality only."""
        x = given[0].detach().double()
        if isinstance(module, FeatureNorm):
            x = x[given[1]]
        rows = x.movedim(1, -1).flatten(0, -2)
        self.number += len(rows)
        self.values += rows.sum(0)
        self.squares += rows.square().sum(0)


@torch.no_grad()
def measure_norms(
    networks: Sequence[LateFusionClassifier],
    frontend: AnyFrontend,
    batches: Iterable[Batch],
    runtime: Runtime,
) -> None:
    """Give every batch normalisation of `networks` the mean and the unbiased variance of its inputs
    over all `batches`, unmixed, of all processes.

    Inputs are those of the network with the statistics of each batch, as in training, but without
    dropout. What is frozen is left as it is, as is what met fewer than two values a channel.
    """
    sums = [_begin(network) for network in networks]
    hooks = [norm.register_forward_pre_hook(one)
             for found in sums for norm, one in found.items()]  # fmt: skip
    try:
        for batch in batches:
            batch = batch.to(runtime.device)
            video, audio = frontend(batch)
            for network in networks:
                # Its parts: a compiled network would not call the hooks.
                has = (batch.has_video, batch.has_audio)
                network.fusion(*network.encode(video, audio, None, has), *has)
    finally:
        for hook in hooks:
            hook.remove()
        for network in networks:
            network.eval()
    for norm, one in ((norm, one) for found in sums for norm, one in found.items()):
        number, values, squares = (
            runtime.mean(x) * runtime.world_size for x in (one.number, one.values, one.squares)
        )
        if number >= 2:
            mean = values / number
            variance = (squares - number * mean.square()).clamp(min=0) / (number - 1)
            own = isinstance(norm, FeatureNorm)
            getattr(norm, "mean" if own else "running_mean").copy_(mean)
            getattr(norm, "var" if own else "running_var").copy_(variance)


def _begin(network: LateFusionClassifier) -> dict[nn.Module, _Sums]:
    """Set the normalisations that learn, and nothing else, to training; sums of zero for each."""
    network.train()
    norms = [
        module
        for module in network.modules()
        if isinstance(module, FeatureNorm)
        or (isinstance(module, _BatchNorm) and module.running_mean is not None)
    ]
    learning = [module for module in norms if module.training]
    network.eval()
    found: dict[nn.Module, _Sums] = {}
    for norm in learning:
        norm.train()
        running = norm.mean if isinstance(norm, FeatureNorm) else norm.running_mean
        assert isinstance(running, Tensor)
        zeros = torch.zeros_like(running, dtype=torch.float64)
        found[norm] = _Sums(zeros.new_zeros(()), zeros.clone(), zeros.clone())
    return found
