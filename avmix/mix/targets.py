"""Mixed targets: the label of each head, mixed in the proportion of its input."""

from collections.abc import Mapping
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from avmix.mix.blend import blend, blend_several
from avmix.mix.mix_plan import PlacedPlan
from avmix.types import Heads

IGNORED = -100
"""Class number of a clip whose label is not known, as torch's cross-entropy has it."""


def mixed_targets(
    plan: PlacedPlan,
    target: Float[Tensor, "b k"] | Heads,
    labels: Literal["sum", "max"] = "sum",
    *,
    several: bool = False,
) -> Heads:
    """Mixed targets (n k) of the fused, video and audio head, from one target for all heads or one
    for each. Raises ValueError when the plan is for another number of clips.

    Of one for each, the fused head is to learn what is in the mix: the mean of the mixed targets of
    video and audio over the modalities that the mixed clip has (with `max` the larger of both). A
    mix of the clips' own fused targets would be another thing where the modalities are mixed
    unequally: it would name what is in a modality of the partner that is not in the mix.

    `several`: clips have several labels, and that of the fused head is their union: a class that is
    only visible counts by lambda of the video, one that is only audible by that of the audio, one
    that is both by their mean (`_union`). nan, an unknown label, stays nan in every mix that it is
    part of.
    """
    own = target if isinstance(target, Heads) else Heads(target, target, target)
    video, audio = plan.part("video"), plan.part("audio")
    seen = mixed_target(plan, video.lam, own.video, labels, video.shares)
    heard = mixed_target(plan, audio.lam, own.audio, labels, audio.shares)
    if isinstance(target, Heads) and several:
        fused = _union(plan, own, Heads(fused=seen, video=seen, audio=heard), labels)
    elif isinstance(target, Heads):
        both = (seen + heard) / 2 if labels == "sum" else torch.maximum(seen, heard)
        has_video, has_audio = video.present[:, None], audio.present[:, None]
        left = torch.where(has_audio, heard, seen)
        fused = torch.where(has_video & has_audio, both, left)
    else:
        fused = mixed_target(plan, plan.lam, target, labels, plan.shares)
    return Heads(fused=fused, video=seen, audio=heard)


def mixed_target(
    plan: PlacedPlan,
    lam: Float[Tensor, " n"],
    target: Float[Tensor, "b k"],
    labels: Literal["sum", "max"] = "sum",
    shares: Float[Tensor, "n p"] | None = None,
) -> Float[Tensor, "n k"]:
    """Mixed target of one head. `sum`: lam * own + (1 - lam) * partner; a class that both have
    keeps its whole weight. `shares`: weights of several partners, in place of 1 - lam.

    `max`: every class that is in the mix at all, with the larger of both values; for binary losses.
    """
    if target.ndim != 2 or not target.is_floating_point():
        raise ValueError(
            f"targets must be floats (b k), got {target.dtype} {tuple(target.shape)}; one_hot "
            "makes rows of class numbers"
        )
    plan.plan.for_size(target.shape[0])
    if labels == "sum":
        if shares is None or plan.partners is None:
            return blend(target, plan.partner, lam)
        return blend_several(target, plan.partners, lam, shares)
    found, *others = (
        y.where(weight[:, None] > 0, 0) for y, weight in _members(plan, target, lam, shares)
    )
    for other in others:
        found = _larger(found, other)
    return found


def _members(
    plan: PlacedPlan,
    target: Float[Tensor, "b k"],
    lam: Float[Tensor, " n"],
    shares: Float[Tensor, "n p"] | None,
) -> list[tuple[Float[Tensor, "n k"], Float[Tensor, " n"]]]:
    """Targets of all that is in each mix, and its weights: the clip's own, then each partner's."""
    own = (target[: plan.plan.size], lam)
    if shares is None or plan.partners is None:
        return [own, (target[plan.partner], 1 - lam)]
    partners = zip(plan.partners.T, shares.T, strict=True)
    return [own, *((target[partner], weight) for partner, weight in partners)]


def _larger(a: Float[Tensor, "n k"], b: Float[Tensor, "n k"]) -> Float[Tensor, "n k"]:
    """The larger of both; one that is 1 is so whatever an unknown one may be."""
    certain = torch.maximum(a.nan_to_num(0.0), b.nan_to_num(0.0))
    return certain.where((certain >= 1) | ~(a + b).isnan(), torch.nan)


def _union(
    plan: PlacedPlan, own: Heads, mixed: Heads, labels: Literal["sum", "max"]
) -> Float[Tensor, "n k"]:
    """Target of the fused head for clips with several labels: what is in one of the modalities
    that the mix has. `mixed`: the mixed targets of the video and the audio head.

    `sum`: each clip gives max_m(y_m) * sum_m(w_m y_m) / sum_m(y_m) over the modalities m of the
    mix, with w_m its weight in m: with equal weights the mix of both unions, with equal labels the
    mean of both mixes. Together at most 1. Unknown where it is in one of the modalities.
    """
    parts = [(plan.part("video"), own.video, mixed.video),
             (plan.part("audio"), own.audio, mixed.audio)]  # fmt: skip
    if labels == "max":
        return _larger(*(head.where(part.present[:, None], 0) for part, _, head in parts))
    total = torch.zeros_like(mixed.video)
    members = [_members(plan, y.nan_to_num(0.0), part.lam, part.shares) for part, y, _ in parts]
    for clip in zip(*members, strict=True):
        largest, labelled, weighted = (torch.zeros_like(total) for _ in range(3))
        for (part, _, _), (y, weight) in zip(parts, clip, strict=True):
            y = y.where(part.present[:, None], 0)
            largest = torch.maximum(largest, y)
            labelled, weighted = labelled + y, weighted + weight[:, None] * y
        total += largest * weighted / labelled.masked_fill(labelled == 0, 1)
    unknown = [head.isnan() & part.present[:, None] for part, _, head in parts]
    return total.clamp(max=1).masked_fill(unknown[0] | unknown[1], torch.nan)


def one_hot(
    labels: Int[Tensor, " b"], num_classes: int
) -> tuple[Float[Tensor, "b k"], Bool[Tensor, " b"]]:
    """Convert class numbers to (one-hot rows, which of them are known); `IGNORED` is a row of
    zeros.

    Numbers are not checked against `num_classes` here, which would wait for the device: see
    `check_labels`.
    """
    known = labels != IGNORED
    rows = labels.clamp(min=0).long()
    target = torch.zeros(len(labels), num_classes, device=labels.device)
    return target.scatter_(1, rows[:, None], known.float()[:, None]), known


def known_targets(
    plan: PlacedPlan, lam: Float[Tensor, " n"], known: Bool[Tensor, " b"]
) -> Bool[Tensor, " n"]:
    """Which mixes have a label: all that is in them is known."""
    own, other = known[: plan.plan.size], known[plan.partner]
    return (own | (lam <= 0)) & (other | (lam >= 1))


def smoothed(target: Float[Tensor, "n k"], share: float) -> Float[Tensor, "n k"]:
    """`share` of the target spread over all classes; mixing smoothed labels gives the same."""
    return target * (1 - share) + share / target.shape[1]


def check_labels(labels: Mapping[str, Tensor] | Tensor, num_classes: int) -> None:
    """Raises ValueError for a class number outside [0, num_classes) that is not `IGNORED`."""
    for tensor in labels.values() if isinstance(labels, Mapping) else (labels,):
        wrong = tensor[((tensor < 0) & (tensor != IGNORED)) | (tensor >= num_classes)]
        if len(wrong):
            raise ValueError(
                f"labels must be in [0, {num_classes}) or {IGNORED} (not known), got "
                f"{sorted(set(wrong.tolist()))}"
            )
