"""Loss functions: one loss per head, masked by presence, plus consistency losses."""

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from avmix.config import LossConfig
from avmix.label_sets import LabelSet
from avmix.mix.mix_plan import PlacedPlan
from avmix.mix.targets import smoothed
from avmix.models.classifier import Output
from avmix.training.consistency import agreement, interpolation, mixed_contrastive, same_label
from avmix.types import Heads

SAME_LABEL = 0.2
"""Lambdas of two heads that differ by at most this are of one label: borders of boxes are rounded
to whole frames in one modality and to columns in the other."""


def presence(has_video: Bool[Tensor, " b"], has_audio: Bool[Tensor, " b"]) -> Heads:
    """Mask of the clips that each head can classify; the fused head needs one modality."""
    return Heads(fused=has_video | has_audio, video=has_video, audio=has_audio)


def where_known(present: Heads, target: Heads) -> Heads:
    """`present`, without the clips of which a head's target is unknown in every class."""
    pairs = zip(present, target, strict=True)
    return Heads(*(here & ~wanted.isnan().all(1) for here, wanted in pairs))


def head_losses(
    logits: Heads,
    target: Heads,
    present: Heads,
    label_smoothing: float,
    kind: Literal["cross_entropy", "binary"] = "cross_entropy",
    class_weight: Float[Tensor, " k"] | None = None,
    sets: Sequence[LabelSet] = (),
) -> Heads:
    """The loss of each head, mean over the clips that have its modality; float32.

    `cross_entropy`: -sum_k w_k y_k ln softmax(logits)_k, smoothed towards 1 / k; `binary`: the mean
    over classes of binary cross-entropy -(w_k y_k ln p_k + (1 - y_k) ln(1 - p_k)), smoothed towards
    1 / 2. `class_weight` is w; None: 1. With label `sets` the cross-entropy is the weighted sum of
    those of each set over its own classes.

    Of a clip with unknown labels (nan) it is the mean over the classes that are known, the partial
    BCE of Durand et al. (CVPR 2019) with g(p) = 1 / p: a clip weighs the same, however much of it
    is known. Such clips must not be `present` where nothing is known of them (`where_known`).
    """

    def cross_entropy(logits: Tensor, target: Tensor, class_weight: Tensor | None) -> Tensor:
        each = smoothed(target, label_smoothing) * logits.log_softmax(1)
        return -(each if class_weight is None else each * class_weight).sum(1)

    def one(logits: Tensor, target: Tensor, present: Tensor) -> Tensor:
        logits = logits.float()
        if sets:
            loss = torch.stack(
                [
                    s.weight
                    * cross_entropy(
                        logits[:, s.columns],
                        target[:, s.columns],
                        None if class_weight is None else class_weight[s.columns],
                    )
                    for s in sets
                ]
            ).sum(0)
        elif kind == "cross_entropy":
            loss = cross_entropy(logits, target, class_weight)
        else:
            known = ~target.isnan()
            # Before the loss, not after it: 0 * nan would be the gradient.
            smooth = target.nan_to_num(0.0) * (1 - label_smoothing) + label_smoothing / 2
            each = F.binary_cross_entropy_with_logits(
                logits, smooth, reduction="none", pos_weight=class_weight
            )
            loss = each.masked_fill(~known, 0).sum(1) / known.sum(1).clamp(min=1)
        # A head without any clip in this batch has loss zero, not 0 / 0.
        return loss.masked_fill(~present, 0).sum() / present.sum().clamp(min=1)

    return Heads(*(one(*head) for head in zip(logits, target, present, strict=True)))


def consistency_losses(
    config: LossConfig,
    plan: PlacedPlan,
    mixed: Output,
    clean: Output | None,
    has_video: Bool[Tensor, " b"],
    has_audio: Bool[Tensor, " b"],
    softened: Heads | None = None,
    sets: Sequence[LabelSet] = (),
) -> dict[str, Float[Tensor, ""]]:
    """Each consistency loss with a positive weight, by the name of its option, unweighted.

    `clean`: what the network says of the clips as they are, which `needs_clean` asks for; `has_*`:
    what these have. `softened`: the targets (b k), where audio may have a label of its own
    (`augment.background_label` soften, labels of each modality): heads are to agree only on clips
    whose labels do. With label `sets` a divergence is the weighted sum of those of each set.
    """
    video, audio, binary = plan.part("video"), plan.part("audio"), config.kind == "binary"
    parts = [(s.columns, s.weight) for s in sets] or [(slice(None), 1.0)]
    found: dict[str, Tensor] = {}
    if config.agreement > 0:
        counts = same_label(video.lam, audio.lam, video.present, audio.present, SAME_LABEL)
        if softened is not None:
            apart = (softened.video - softened.audio).abs()
            # 1: nothing in common; of several labels one that is not common is enough.
            apart = (
                apart.nan_to_num(0.0).amax(1)
                if binary
                else torch.stack([apart[:, columns].sum(1) / 2 for columns, _ in parts]).amax(0)
            )
            counts = counts & (apart <= SAME_LABEL)
        found["agreement"] = _total([
            weight * agreement(
                mixed.logits.video[:, columns], mixed.logits.audio[:, columns], counts,
                kind=config.agreement_kind, temperature=config.agreement_temperature,
                confidence=config.agreement_confidence, binary=binary,
            )
            for columns, weight in parts
        ])  # fmt: skip
    if mixed.translation is not None:
        found["translation"] = mixed.translation
    if clean is None:
        return found
    if config.interpolation > 0:
        weights = (config.fused, config.video, config.audio)
        lam = Heads(plan.lam, video.lam, audio.lam)
        counts = presence(video.present, audio.present)
        terms = [
            weight * _total([
                of_set * interpolation(logits[:, columns], unmixed[:, columns], plan.partner, own,
                                       seen, binary=binary)
                for columns, of_set in parts
            ])
            for weight, logits, unmixed, own, seen in zip(
                weights, mixed.logits, clean.logits, lam, counts, strict=True
            )
        ]  # fmt: skip
        found["interpolation"] = torch.stack(terms).sum()
    if config.contrastive > 0:
        both = [
            (mixed.features.video, clean.features.audio, video, has_audio),
            (mixed.features.audio, clean.features.video, audio, has_video),
        ]
        found["contrastive"] = 0.5 * torch.stack([
            mixed_contrastive(query, key, plan.partner, part.lam, part.present, key_present,
                              temperature=config.contrastive_temperature)
            for query, key, part, key_present in both
        ]).sum()  # fmt: skip
    return found


def _total(terms: Sequence[Tensor]) -> Tensor:
    """The sum; of one term itself, to the bit."""
    return terms[0] if len(terms) == 1 else torch.stack([*terms]).sum()


def needs_clean(config: LossConfig) -> bool:
    """True when a loss compares with predictions for the unmixed clips."""
    return config.interpolation > 0 or config.contrastive > 0


def objective(
    config: LossConfig, losses: Heads, consistency: Mapping[str, Tensor]
) -> Float[Tensor, ""]:
    """Weighted sum over heads and consistency losses."""
    loss = config.fused * losses.fused + config.video * losses.video + config.audio * losses.audio
    for name, value in consistency.items():
        loss = loss + getattr(config, name) * value
    return loss


def parts_of_objective(
    config: LossConfig, losses: Heads, consistency: Mapping[str, Tensor]
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """Its two parts: the fused head with the consistency losses, and the modality heads."""
    joint = config.fused * losses.fused
    for name, value in consistency.items():
        joint = joint + getattr(config, name) * value
    return joint, config.video * losses.video + config.audio * losses.audio
