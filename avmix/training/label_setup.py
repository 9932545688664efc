"""Labels of a run: whether clips have one, several or one of each label set, and what the classes
weigh in the loss."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import torch
from jaxtyping import Float32
from torch import Tensor

from avmix.config import TrainConfig
from avmix.data.manifest import Manifest, ManifestError
from avmix.system.printing import shortened

COUNTS = "counts"
"""Value of `loss.class_weights` that is no file."""
_LIMITS = torch.finfo(torch.float32)


def with_labels(config: TrainConfig, train: Manifest) -> TrainConfig:
    """With `loss.labels` as the train split needs it, and the loss that goes with it; what clips
    have one label for is left as it is.

    Raises `ManifestError` where the option says one and the manifest several, or label sets and it
    has none; ValueError for options that do not go with several.
    """
    loss = config.loss
    if loss.labels == "sets" or (loss.labels == "auto" and train.label_sets):
        return _with_sets(config, train)
    if loss.set_weights and loss.labels == "auto":
        raise ManifestError(f"loss.set_weights cannot act: {train.protocol} has no label sets")
    if loss.labels == "single" and train.several_labels:
        raise ManifestError(
            f"loss.labels single: clips of {train.protocol} have several labels, unknown ones or "
            "some for each modality; --loss.labels multi"
        )
    if loss.several_labels or (loss.labels == "auto" and train.several_labels):
        return replace(config, loss=replace(loss, labels="multi", kind="binary"))
    return config


def _with_sets(config: TrainConfig, train: Manifest) -> TrainConfig:
    """With a weight for each label set of the manifest, by which its sets are known from then
    on."""
    loss, names = config.loss, train.label_sets
    if not names:
        raise ManifestError(
            f"loss.labels sets: {train.protocol} has no label sets (label_sets in dataset.json)"
        )
    if unknown := sorted({*loss.set_weights} - {*names}):
        raise ManifestError(
            f"loss.set_weights: {train.protocol} has no label set {unknown[0]!r}; it has: "
            f"{', '.join(names)}"
        )
    weights = {name: float(loss.set_weights.get(name, 1.0)) for name in names}
    return replace(config, loss=replace(loss, labels="sets", set_weights=weights))


def class_weights(config: TrainConfig, train: Manifest) -> tuple[Float32[Tensor, " k"] | None, str]:
    """Weight of each class in the loss (k) as `loss.class_weights` says, None for none; and a hash
    of the file that they are of, if any.

    `counts`: n clips / (k classes * n_c clips of the class), as "balanced" of scikit-learn, so that
    the mean over clips is 1 (of label sets in each, k being its classes); for the binary loss
    negatives / positives, the weight of positives (torch's `pos_weight`), of the labels that are
    known. 1 for a class without either. Raises ValueError that names the file.
    """
    option, classes = config.loss.class_weights, train.classes
    if not option:
        return None, ""
    if option != COUNTS:
        return _of_file(Path(option), classes)
    positives, unknown = (
        torch.tensor([sum(name in getattr(e, field) for e in train.entries) for name in classes])
        for field in ("labels", "unknown_labels")
    )
    total = len(train.entries)
    if config.loss.binary:
        weight = (total - unknown - positives) / positives
    else:
        num_classes = torch.full((len(classes),), len(classes))
        for one in config.loss.label_sets(classes):
            num_classes[one.columns] = one.num_classes
        weight = total / (num_classes * positives)
    usable = weight.isfinite() & (weight > 0)
    return weight.float().masked_fill(~usable, 1.0), ""


def refuse_label_sets(config: TrainConfig, what: str) -> None:
    """Raise ValueError where clips have one label of each label set; `what` cannot be done then."""
    if names := ", ".join(config.loss.set_weights) if config.loss.labels == "sets" else "":
        raise ValueError(
            f"{what} for a network of label sets ({names}): use avmix predict --label-set NAME"
        )


def _of_file(path: Path, classes: tuple[str, ...]) -> tuple[Float32[Tensor, " k"], str]:
    where = f"loss.class_weights: {path}"
    try:
        text = path.read_bytes()
        said = json.loads(text)
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{where}: {error}") from None
    if not isinstance(said, dict) or {*said} != {*classes}:
        differ = sorted({*said} ^ {*classes})[:1] if isinstance(said, dict) else "no mapping"
        raise ValueError(f"{where}: must map every class to its weight, and only those: {differ}")
    for name, value in said.items():
        # Compared before it is converted: no float holds 10**400, float32 neither 1e39 nor 1e-50.
        fine = type(value) in (int, float) and _LIMITS.tiny <= value <= _LIMITS.max
        if not fine:
            raise ValueError(
                f"{where}: the weight of {name!r} must be above 0, and a number that float32 "
                f"holds, got {shortened(repr(value), 60)}"
            )
    weight = torch.tensor([float(said[name]) for name in classes])
    return weight, hashlib.sha256(text).hexdigest()
