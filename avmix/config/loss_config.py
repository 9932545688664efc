"""Configuration section `loss`."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import inf
from typing import Literal

from avmix.config.checks import validate, validate_numbers
from avmix.label_sets import LabelSet, label_sets


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """Weights of the heads' losses and of the consistency losses of mixed clips."""

    labels: Literal["auto", "single", "multi", "sets"] = "auto"
    """Labels of a clip: one of the classes (`single`), any number of them (`multi`: the loss is
    `kind` binary, evaluation takes the sigmoid of the logits), or one of each label set of the
    manifest (`sets`: verb and noun, for example; a head for each). `auto`: as the manifest has
    them."""
    set_weights: dict[str, float] = field(default_factory=dict)
    """Weights of the losses of label sets {SET: WEIGHT >= 0}, which are summed; 1 for a set that is
    not named."""
    kind: Literal["cross_entropy", "binary"] = "cross_entropy"
    """Loss of each head: soft cross-entropy of one distribution over the classes, or binary
    cross-entropy of each class by itself, the mean over classes. Evaluation takes the softmax of
    the logits for both where `labels` are single."""
    class_weights: str = ""
    """Weights of the classes: `counts` (of the train split: balanced, mean over clips 1; for `kind`
    binary negatives / positives, of the positives) or a JSON file {CLASS: WEIGHT > 0} with all of
    them. Empty: none."""
    fused: float = 1.0
    """Weight of the fused head, >= 0."""
    video: float = 0.5
    """Weight of the video head, >= 0."""
    audio: float = 0.5
    """Weight of the audio head, >= 0."""
    translation: float = 1.0
    """Weight of the squared error of the features that `model.missing translate` predicts, >= 0;
    only the predictors learn of it."""
    label_smoothing: float = 0.0
    """Share of the target that is spread over all classes, in [0, 1)."""
    agreement: float = 0.0
    """Weight of the divergence between the video and the audio head on clips for which both have
    the same label, >= 0."""
    agreement_kind: Literal["js", "symmetric_kl"] = "js"
    """Divergence of `agreement`: Jensen-Shannon, or symmetric Kullback-Leibler."""
    agreement_temperature: float = 1.0
    """Temperature of `agreement`: divides the logits of both heads, > 0."""
    agreement_confidence: float = 0.0
    """Least probability that one of the heads must give to a class for the clip to count in
    `agreement`, 0 to 1."""
    interpolation: float = 0.0
    """Weight of interpolation consistency, >= 0: compares each head's prediction for a mix with the
    mix of its predictions for the unmixed clips. Costs a forward pass without gradient, as does
    `contrastive`; both share it."""
    contrastive: float = 0.0
    """Weight of the mixed-target contrastive loss, >= 0: the feature of one modality of a mix is
    matched with the other modality of its two clips, with targets lambda and 1 - lambda."""
    contrastive_temperature: float = 0.1
    """Temperature of `contrastive`: divides the cosines, > 0."""

    def __post_init__(self) -> None:
        """Check ranges."""
        for key in (
            "fused",
            "video",
            "audio",
            "translation",
            "agreement",
            "interpolation",
            "contrastive",
        ):
            validate(getattr(self, key) >= 0, f"loss.{key}", "must be >= 0", getattr(self, key))
        for key in ("agreement_temperature", "contrastive_temperature"):
            validate(0 < getattr(self, key) < inf, f"loss.{key}", "must be > 0 and finite",
                     getattr(self, key))  # fmt: skip
        validate(0 <= self.agreement_confidence <= 1, "loss.agreement_confidence",
                 "must be in [0, 1]", self.agreement_confidence)  # fmt: skip
        validate(self.fused + self.video + self.audio > 0, "loss.fused",
                 "must be > 0 where loss.video and loss.audio are 0", self.fused)  # fmt: skip
        validate(0 <= self.label_smoothing < 1, "loss.label_smoothing", "must be in [0, 1)",
                 self.label_smoothing)  # fmt: skip
        weights = self.set_weights.values()
        validate(all(weight >= 0 for weight in weights) and (not weights or max(weights) > 0),
                 "loss.set_weights", "must be >= 0, and one of them > 0",
                 self.set_weights)  # fmt: skip
        if self.labels == "sets":
            validate(self.kind == "cross_entropy", "loss.kind", "must be cross_entropy for label "
                     "sets (loss.labels multi trains each class by itself)",
                     self.kind)  # fmt: skip
        validate_numbers(self, "loss.")

    @property
    def binary(self) -> bool:
        """Each class is a decision by itself."""
        return self.kind == "binary" or self.several_labels

    @property
    def several_labels(self) -> bool:
        """Clips may have several labels: set, or what `auto` was found to be (`with_labels`)."""
        return self.labels == "multi"

    @property
    def multi_hot(self) -> bool:
        """Targets may have several ones, for several labels or for one of each label set."""
        return self.labels in ("multi", "sets")

    def label_sets(self, classes: Sequence[str]) -> tuple[LabelSet, ...]:
        """The label sets of these classes, once they are known (`with_labels`); none of others.
        Raises ValueError where the classes are of other sets."""
        if self.labels != "sets":
            return ()
        return label_sets(classes, tuple(self.set_weights), self.set_weights)
