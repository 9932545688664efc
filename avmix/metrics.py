"""How good predictions are: accuracy, calibration, per class."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torchmetrics.functional.classification import multiclass_calibration_error

EVAL_ROWS = ("fused", "video head", "audio head", "audio missing", "video missing")
"""What evaluation asks of one network: its three heads, and the fused head when one modality is
taken away."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """Metrics of one row of the table; accuracies are shares, 0 to 1."""

    top1: float
    """Share of clips whose most probable class is right."""
    top5: float
    """Share whose right class is among the five most probable (all, with fewer classes)."""
    mean_class: float
    """Mean over classes that have clips of the share of their clips that is right."""
    nll: float
    """Mean of -ln(probability of the right class)."""
    ece: float
    """Expected calibration error, 15 bins of equal width (Guo et al., ICML 2017)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Predictions:
    """Probabilities of every evaluated clip, averaged over its views."""

    row: Int64[Tensor, " b"]
    """Row of each clip in the manifest, ascending."""
    label: Int64[Tensor, " b"]
    """Right class."""
    probability: dict[str, Float[Tensor, "b k"]]
    """For each of `EVAL_ROWS`."""


def scores(probability: Float[Tensor, "b k"], label: Int64[Tensor, " b"]) -> Scores:
    """All metrics of one set of predictions; at least one clip is needed."""
    num_classes = probability.shape[1]
    right = probability.argmax(1) == label
    best = probability.topk(min(5, num_classes)).indices
    per_class = class_accuracy(probability, label)
    return Scores(
        top1=right.double().mean().item(),
        top5=(best == label[:, None]).any(1).double().mean().item(),
        mean_class=per_class[~per_class.isnan()].mean().item(),
        nll=-_log(probability.gather(1, label[:, None])).mean().item(),
        ece=multiclass_calibration_error(
            # Above 1, by rounding, they would be taken for logits.
            probability.clamp(0, 1),
            label,
            num_classes=num_classes,
            n_bins=15,
            norm="l1",
        ).item(),
    )


def all_scores(predictions: Predictions) -> dict[str, Scores]:
    """Metrics of each of `EVAL_ROWS`."""
    return {
        name: scores(probability, predictions.label)
        for name, probability in predictions.probability.items()
    }


def class_accuracy(
    probability: Float[Tensor, "b k"], label: Int64[Tensor, " b"]
) -> Float[Tensor, " k"]:
    """Share of the clips of each class that are right; nan for a class without clips."""
    confusion = confusion_matrix(probability, label).double()
    return confusion.diagonal() / confusion.sum(1)


def confusion_matrix(
    probability: Float[Tensor, "b k"], label: Int64[Tensor, " b"]
) -> Int64[Tensor, "k k"]:
    """Clips of class (row) that were taken for class (column)."""
    num_classes = probability.shape[1]
    pairs = label * num_classes + probability.argmax(1)
    return pairs.bincount(minlength=num_classes**2).view(num_classes, num_classes)


def _log(probability: Tensor) -> Tensor:
    return probability.clamp(min=torch.finfo(torch.float32).tiny).log()
