"""Metrics of predictions: accuracy, negative log-likelihood, calibration, per-class accuracy."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torchmetrics.functional.classification import binary_average_precision

from avmix.evaluation.clip_statistics import NUM_BINS, bin_of
from avmix.evaluation.label_set_statistics import joint_rank, rank_of
from avmix.label_sets import LabelSet

EVAL_ROWS = ("fused", "video head", "audio head", "audio missing", "video missing")
"""What evaluation asks of one network: its three heads, and the fused head when one modality is
taken away."""
NEEDS: dict[str, str] = {
    "video head": "video",
    "audio head": "audio",
    "audio missing": "video",
    "video missing": "audio",
}
"""The modality without which a clip has no place in a row. The fused head judges every clip."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """Metrics of one set of predictions; accuracies are shares, 0 to 1."""

    num_clips: int
    """Clips that the row is about: those that have its modality (`NEEDS`)."""
    top1: float
    """Share of clips whose most probable class is right."""
    top5: float | None
    """Share whose right class is among the five most probable. None below 6 classes, where it would
    be 1 whatever the network says."""
    mean_class: float
    """Mean over classes that have clips of the share of their clips that is right."""
    nll: float
    """Mean of -ln(probability of the right class)."""
    ece: float
    """Expected calibration error, 15 bins of equal width (Guo et al., ICML 2017)."""

    @property
    def main(self) -> float:
        """What an epoch is judged by."""
        return self.top1


@dataclass(frozen=True, slots=True, kw_only=True)
class SeveralScores:
    """Metrics of one set of predictions for clips with several labels."""

    num_clips: int
    """Clips that the row is about: those that have its modality (`NEEDS`)."""
    num_classes: int
    """Classes with a positive and a negative among them, of which `mean_ap` is."""
    mean_ap: float
    """Mean over these of the average precision (area under the precision-recall steps)."""
    nll: float
    """Mean over known labels of -ln(probability of what it is)."""

    @property
    def main(self) -> float:
        """What an epoch is judged by."""
        return self.mean_ap


@dataclass(frozen=True, slots=True, kw_only=True)
class SetScores:
    """Metrics of one set of predictions for clips with one label of each label set."""

    num_clips: int
    """Clips that the row is about: those that have its modality (`NEEDS`)."""
    top1: float
    """Share of clips that are right in every set, as the most probable combination of classes."""
    top5: float
    """Share whose combination is among the five most probable ones; the probability of one is the
    product of those of its classes."""
    sets: dict[str, Scores]
    """Metrics of each set."""

    @property
    def main(self) -> float:
        """What an epoch is judged by."""
        return self.top1


AllScores = dict[str, Scores | None] | dict[str, SeveralScores | None] | dict[str, SetScores | None]
"""Metrics of each of `EVAL_ROWS`; None for a row without clips."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Predictions:
    """Probabilities of every evaluated clip, averaged over its views."""

    row: Int64[Tensor, " b"]
    """Row of each clip in the manifest, ascending."""
    label: Int64[Tensor, "b *s"]
    """Right class; of label sets that of each (b s), counted within the set; -1 where clips have
    several labels."""
    probability: dict[str, Float[Tensor, "b k"]]
    """For each of `EVAL_ROWS`; zeros where a clip has no place in the row."""
    counted: dict[str, Bool[Tensor, " b"]]
    """For each of `EVAL_ROWS`: clips that have its modality (`NEEDS`)."""
    target: dict[str, Float[Tensor, "b k"]] | None = None
    """Where clips have several labels: for each of `EVAL_ROWS` 1, 0, or nan where that is unknown;
    `label` is -1 then."""
    sets: tuple[LabelSet, ...] = ()
    """Label sets; none where all classes are of one."""

    def of_set(self, number: int) -> "Predictions":
        """Those of one label set, as of clips of one label."""
        columns = self.sets[number].columns
        probability = {name: p[:, columns] for name, p in self.probability.items()}
        return replace(self, label=self.label[:, number], probability=probability, sets=())

    def log_probability(self, name: str) -> Float[Tensor, "b k"]:
        """Of a row of `EVAL_ROWS`: logits up to a constant for each clip, and finite."""
        return self.probability[name].clamp(min=torch.finfo(torch.float32).tiny).log()

    def of(self, name: str) -> tuple[Float[Tensor, "n k"], Int64[Tensor, " n"]]:
        """Probabilities and labels of the clips that count in a row of `EVAL_ROWS`."""
        counted = self.counted[name]
        return self.probability[name][counted], self.label[counted]


def scores(probability: Float[Tensor, "b k"], label: Int64[Tensor, " b"]) -> Scores:
    """All metrics of one set of predictions; at least one clip is needed."""
    num_classes = probability.shape[1]
    right = probability.argmax(1) == label
    per_class = class_accuracy(probability, label)
    return Scores(
        num_clips=len(label),
        top1=right.double().mean().item(),
        top5=_among_best(probability, label, 5) if num_classes > 5 else None,
        mean_class=per_class[~per_class.isnan()].mean().item(),
        nll=-_log(probability.gather(1, label[:, None])).mean().item(),
        ece=_calibration_error(probability.amax(1), right),
    )


def _calibration_error(confidence: Float[Tensor, " b"], right: Bool[Tensor, " b"]) -> float:
    """Expected calibration error, with the bins of its interval."""
    gap = confidence.double() - right.double()
    by_bin = np.bincount(bin_of(confidence.numpy()), gap.numpy(), NUM_BINS)
    return float(np.abs(by_bin).sum() / len(gap))


def several_scores(
    probability: Float[Tensor, "b k"], target: Float[Tensor, "b k"]
) -> SeveralScores:
    """Metrics for several labels a clip; where `target` is nan the label is unknown and does not
    count."""
    known = ~target.isnan()
    found = [p for p in class_precision(probability, target) if p is not None]
    right = torch.where(target > 0, probability, 1 - probability)[known]
    return SeveralScores(
        num_clips=len(target),
        num_classes=len(found),
        mean_ap=sum(found) / len(found) if found else 0.0,
        nll=-_log(right).mean().item() if len(right) else 0.0,
    )


def class_precision(
    probability: Float[Tensor, "b k"], target: Float[Tensor, "b k"]
) -> list[float | None]:
    """Average precision of each class; None for one without a positive and a negative clip."""
    return [
        binary_average_precision(p[here], y[here].long()).item()
        if 0 < y[here].sum() < here.sum()
        else None
        for p, y, here in zip(probability.T, target.T, (~target.isnan()).T, strict=True)
    ]


def all_scores(predictions: Predictions) -> AllScores:
    """Metrics of each of `EVAL_ROWS` over the clips that have its modality; None without any."""
    if predictions.target is not None:
        return {
            name: several_scores(p[counted], predictions.target[name][counted])
            if (counted := predictions.counted[name]).any()
            else None
            for name, p in predictions.probability.items()
        }
    if predictions.sets:
        of_sets = [predictions.of_set(number) for number in range(len(predictions.sets))]
        return {
            name: _set_scores(predictions.sets, [one.of(name) for one in of_sets])
            if predictions.counted[name].any()
            else None
            for name in predictions.probability
        }
    return {
        name: scores(*predictions.of(name)) if predictions.counted[name].any() else None
        for name in predictions.probability
    }


def _set_scores(sets: Sequence[LabelSet], of_sets: Sequence[tuple[Tensor, Tensor]]) -> SetScores:
    rank = joint_rank([p.numpy() for p, _ in of_sets], [label.numpy() for _, label in of_sets])
    return SetScores(
        num_clips=len(rank),
        top1=float((rank < 1).mean()),
        top5=float((rank < 5).mean()),
        sets={one.name: scores(*of) for one, of in zip(sets, of_sets, strict=True)},
    )


def class_accuracy(
    probability: Float[Tensor, "b k"], label: Int64[Tensor, " b"]
) -> Float[Tensor, " k"]:
    """Accuracy of each class; nan for a class without clips."""
    confusion = confusion_matrix(probability, label).double()
    return confusion.diagonal() / confusion.sum(1)


def confusion_matrix(
    probability: Float[Tensor, "b k"], label: Int64[Tensor, " b"]
) -> Int64[Tensor, "k k"]:
    """Number of clips by true class (row) and predicted class (column)."""
    num_classes = probability.shape[1]
    pairs = label * num_classes + probability.argmax(1)
    return pairs.bincount(minlength=num_classes**2).view(num_classes, num_classes)


class Confused(NamedTuple):
    """A pair of classes and the clips of one that were predicted as the other."""

    true: int
    predicted: int
    num_clips: int
    share: float
    """Share of the clips of the true class."""


def most_confused(confusion: Int64[Tensor, "k k"], most: int = 10) -> list[Confused]:
    """The pairs of different classes with the most clips, the most frequent first; pairs of equally
    many by share, then by class."""
    apart = confusion - confusion.diag().diag()
    found = apart.nonzero()
    number = apart[found[:, 0], found[:, 1]].tolist()
    share = (apart.double() / confusion.sum(1, keepdim=True))[found[:, 0], found[:, 1]].tolist()
    pairs = [
        Confused(true, predicted, n, of)
        for (true, predicted), n, of in zip(found.tolist(), number, share, strict=True)
    ]
    pairs.sort(key=lambda pair: (-pair.num_clips, -pair.share, pair.true, pair.predicted))
    return pairs[:most]


def _among_best(probability: Tensor, label: Tensor, number: int) -> float:
    # Of equally probable classes the first comes first, as in the table; topk says nothing of it.
    return float((rank_of(probability.numpy(), label.numpy()) < number).mean())


def _log(probability: Tensor) -> Tensor:
    return probability.clamp(min=torch.finfo(torch.float32).tiny).log()
