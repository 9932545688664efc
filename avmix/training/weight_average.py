"""An exponential moving average of a network: of its weights and of its statistics.

Polyak and Juditsky (1992) average the iterates; with exponential weights, as in Tarvainen and
Valpola, "Mean teachers" (NeurIPS 2017), the average follows training and is better than the last
weights while the learning rate is high.
"""

import copy
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from avmix.models import LateFusionClassifier


class WeightAverage:
    """average = decay * average + (1 - decay) * network after each update; begins as the network
    begins. Whole numbers (counts of batches) are copied."""

    def __init__(self, model: LateFusionClassifier, decay: float) -> None:
        """`model`: as it is initialised, without what several processes need around it."""
        self.model = copy.deepcopy(model).requires_grad_(False).eval()
        """A network that holds the average."""
        self._average = get_ema_multi_avg_fn(decay)

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Follow `model`, which has just been updated."""
        pairs = [*zip(_tensors(self.model), _tensors(model), strict=True)]
        for kind in sorted({ours.dtype for ours, _ in pairs}, key=str):
            ours, theirs = zip(*(pair for pair in pairs if pair[0].dtype == kind), strict=True)
            if kind.is_floating_point:
                self._average(ours, theirs, 0)
            else:
                for one, other in zip(ours, theirs, strict=True):
                    one.copy_(other)


def _tensors(model: nn.Module) -> Iterator[Tensor]:
    yield from model.parameters()
    yield from model.buffers()
