"""Softmax over all classes, or over those of each label set."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from avmix.label_sets import LabelSet


def log_softmax(logits: Float[Tensor, "*b k"], sets: Sequence[LabelSet]) -> Float[Tensor, "*b k"]:
    """Logarithms of probabilities: of one distribution, or of one for each set."""
    if not sets:
        return logits.log_softmax(-1)
    return torch.cat([logits[..., one.columns].log_softmax(-1) for one in sets], -1)


def softmax(logits: Float[Tensor, "*b k"], sets: Sequence[LabelSet]) -> Float[Tensor, "*b k"]:
    """Probabilities, which add up to 1 over all classes, or over those of each set."""
    if not sets:
        return logits.softmax(-1)
    return torch.cat([logits[..., one.columns].softmax(-1) for one in sets], -1)
