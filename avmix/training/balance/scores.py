"""Confidence of the modality heads in the truth, which says which one is ahead."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from avmix.label_sets import LabelSet
from avmix.models.set_softmax import softmax
from avmix.types import Heads


def confidence_sums(
    logits: Heads,
    target: Heads,
    present: Heads,
    *,
    binary: bool = False,
    sets: Sequence[LabelSet] = (),
) -> Float[Tensor, "2 2"]:
    """Of the video and of the audio head: the sum over clips of their confidence in the truth, and
    the number of these clips; without gradient.

    The confidence of a clip is the mean probability of its labels, sum_k y_k p_k / sum_k y_k: of
    one label its probability, of a mixed clip the mean of both, weighted as the label is. A clip
    without the modality (not `present`) or without a positive label has none. Targets may be nan
    where a class is unknown; it then does not count.
    """
    found = []
    for name in ("video", "audio"):
        said, wanted = getattr(logits, name).detach().float(), getattr(target, name)
        p = said.sigmoid() if binary else softmax(said, sets)
        y = wanted.nan_to_num(0.0)
        positive = y.sum(1)
        counts = getattr(present, name) & (positive > 0)
        each = (y * p).sum(1) / positive.clamp(min=1e-12)
        found.append(torch.stack([each.masked_fill(~counts, 0).sum(), counts.sum().float()]))
    return torch.stack(found)


def mean_scores(sums: Float[Tensor, "2 2"]) -> Float[Tensor, "2"]:
    """Mean confidence of the video and the audio head; nan for one that no clip has."""
    return sums[:, 0] / sums[:, 1]


def ratios(scores: Float[Tensor, "2"]) -> Float[Tensor, "2"]:
    """How far each is ahead of the other: (s_v / s_a, s_a / s_v). 1 where one has no score: of a
    modality that is missing, none is ahead."""
    ahead = scores / scores.flip(0)
    return torch.where(ahead.isnan() | (scores == 0).any() | scores.isnan().any(), 1.0, ahead)
