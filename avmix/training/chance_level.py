"""Detection of heads at chance level: their training loss compared with guessing by class
frequencies.

A head whose encoder finds nothing ends every epoch with the loss of the best constant prediction:
ln(k) where classes are balanced. No error is raised, and a mean over seeds hides it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from avmix.config import LossConfig, TrainConfig
from avmix.label_sets import LabelSet
from avmix.types import Heads

HEADS = Heads._fields
"""Names of the heads, in the order in which their values are listed here."""

MARGIN = 0.97
"""Share of the guessing loss above which a head is at chance. On the ten classes of the toy set
(guessing: 2.303) a head that knows nothing has 2.29 to 2.31, at least 0.994 of it; one that begins
to learn has 2.2 (0.955) or less within an epoch or two. The limit, 2.234, lies between them."""

FEWEST_EPOCHS = 3
"""At chance that are worth a warning."""

_NOTHING_TO_GUESS = 1e-6
"""Nats. Below, all targets are of one class, up to rounding."""

_MEL = "; normalisation of other data (frontend.mel_mean, frontend.mel_std)"
_LABELS_AND_FILES = {
    "fused": "labels that neither modality can tell; files whose video or audio is empty (see "
    f"avmix doctor){_MEL}",
    "video": "labels that video cannot tell; files whose video is empty (see avmix doctor)",
    "audio": f"labels that audio cannot tell; files whose audio is empty (see avmix doctor){_MEL}",
}


def guessing_loss(
    frequency: Float[Tensor, " k"],
    kind: Literal["cross_entropy", "binary"] = "cross_entropy",
    label_smoothing: float = 0.0,
    *,
    known: Float[Tensor, " k"] | None = None,
    class_weight: Float[Tensor, " k"] | None = None,
    sets: Sequence[LabelSet] = (),
) -> float:
    """Loss, in nats, of the best constant prediction where `frequency` is the mean of the targets.

    `known`: what each class weighs in the loss because of labels that are unknown, 1 where none is
    and on average over the classes; None: 1. `class_weight` and `sets`: of `head_losses`.

    `cross_entropy`: -sum_k p_k ln(p_k / sum(p)), p smoothed towards 1 / k: the entropy of p, which
    adds up to 1 but for `mix.labels` max. `binary`: the mean over classes of the entropy of
    (p_k, 1 - p_k), p smoothed towards 1 / 2. The loss is linear in the targets, so that those of
    mixed clips count by their mean, like all others.
    """
    if sets:
        return sum(
            s.weight * guessing_loss(frequency[s.columns], kind, label_smoothing, class_weight=None
                                     if class_weight is None else class_weight[s.columns])
            for s in sets
        )  # fmt: skip
    p = frequency.double()
    weight = torch.ones_like(p) if class_weight is None else class_weight.double().cpu()
    if kind == "binary":
        p = (p * (1 - label_smoothing) + label_smoothing / 2).clamp(0, 1)  # 1 + 1e-16, by rounding
        yes, no = weight * p, 1 - p
        total = torch.special.xlogy(yes + no, yes + no)
        each = torch.special.entr(yes) + torch.special.entr(no) + total
        return (each if known is None else each * known).mean().item()
    p = (p * (1 - label_smoothing) + label_smoothing / len(p)) * weight
    total = p.sum()
    return (torch.special.entr(p).sum() + torch.special.xlogy(total, total)).item()


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadEpoch:
    """One head in one epoch of training."""

    loss: float | None
    """Mean over the clips that have its modality, in nats; None: there was none."""
    guessing: float | None
    """`guessing_loss` of the same clips; None where the head is not judged: its loss has no weight,
    no clip has its modality, or all targets are of one class."""

    @property
    def at_chance(self) -> bool | None:
        """True: no better than guessing by class frequencies; None: not judged."""
        if self.loss is None or self.guessing is None:
            return None
        return self.loss > MARGIN * self.guessing


@dataclass(frozen=True, slots=True, kw_only=True)
class ChanceHistory:
    """Epochs at chance and partial sums of a run, as stored in checkpoints."""

    epochs: tuple[int | None, ...]
    """Whole epochs that each of `HEADS` was at chance in; None: it was never judged."""
    sums: Float64[Tensor, "heads columns"]
    """Of the epoch the run is in the middle of, or else of the last one: for each head the sum of
    its losses, the number of clips, and the sum of their targets (k). Where clips have several
    labels, some of which may be unknown, also what each class weighed (k)."""


def initial_history(num_classes: int, several: bool = False) -> ChanceHistory:
    """History at the start of a run; `several`: clips have several labels."""
    columns = 2 + num_classes * (1 + several)
    sums = torch.zeros(len(HEADS), columns, dtype=torch.float64)
    return ChanceHistory(epochs=(None,) * len(HEADS), sums=sums)


@dataclass(frozen=True, slots=True, kw_only=True)
class AtChance:
    """A head that has been at chance in a third of the epochs of a run, and still is."""

    head: str
    """One of `HEADS`."""
    epochs: int
    """That it was at chance in so far."""
    of: int
    """Epochs of the whole run."""
    loss: float
    """Its mean training loss in the latest epoch, in nats."""
    guessing: float
    """What guessing by class frequencies gives, in nats."""

    @property
    def is_new(self) -> bool:
        """True in the epoch in which the third was reached."""
        return not is_often_at_chance(self.epochs - 1, self.of)

    def warning(self, config: TrainConfig) -> str:
        """Warning text for the run of `config`."""
        return (
            f"warning: the {self.head} head is at chance: in {self.epochs} of {self.of} epochs its "
            "training loss was no better than guessing by class frequencies (now "
            f"{self.loss:.3f}, guessing gives {self.guessing:.3f}). "
            f"{likely_causes(self.head, config)}"
        )


def is_often_at_chance(epochs: int | None, of: int) -> bool:
    """True: at chance in `epochs` of `of` is worth a warning, a third or more. But never in fewer
    than `FEWEST_EPOCHS`, which warm-up and unmixed epochs may take by themselves."""
    return epochs is not None and epochs >= max(FEWEST_EPOCHS, math.ceil(of / 3))


def likely_causes(head: str, config: TrainConfig) -> str:
    """Likely causes of a head at chance, in one line, without those that `config` excludes."""
    causes = ["optim.lr too high or optim.warmup_epochs too short for the encoder"]
    mix = config.mix
    mixes = any(word != "none" and share > 0 for word, share in mix.mix_methods.items())
    if mixes and mix.probability > 0 and mix.ramp_epochs == 0:
        causes.append("mixing from the first step (mix.ramp_epochs)")
    return f"Likely causes: {'; '.join([*causes, _LABELS_AND_FILES[head]])}"


class ChanceMeter:
    """Accumulator of the losses and targets of each head, without waiting for the device before an
    epoch ends.

    The sums are kept in checkpoints, so that an epoch that was killed and resumed is judged by all
    of its steps. Of several processes, each adds up its own clips; those of the main one count.
    """

    def __init__(
        self,
        state: ChanceHistory | None,
        config: LossConfig,
        num_classes: int,
        device: torch.device,
        class_weight: Float[Tensor, " k"] | None = None,
        sets: Sequence[LabelSet] = (),
    ) -> None:
        """`state`: of the run's last checkpoint; None where an older version wrote it. Then the
        number of epochs is unknown to the end of the run, and `at_chance` finds nothing.
        `class_weight` and `sets`: of `head_losses`."""
        self._config = config
        self._sets = sets
        self._class_weight = class_weight
        self._several = config.several_labels
        self._epochs = None if state is None else state.epochs
        sums = (initial_history(num_classes, self._several) if state is None else state).sums
        self._sums = sums.to(device, copy=True)

    def begin_epoch(self) -> None:
        """Forget the epoch before."""
        self._sums.zero_()

    def add(self, losses: Heads, target: Heads, present: Heads) -> None:
        """Count a step: the loss of each head, a mean over the clips that are `present` (b), and
        their targets (b k), before smoothing."""
        rows = []
        for loss, of_clip, counts in zip(losses, target, present, strict=True):
            # Weighed by clips: where none of a batch has the modality, the loss is 0 by convention.
            num_clips = counts.sum().double()
            weights = []
            if self._several:  # a clip weighs the same, however many of its labels are known
                known = ~of_clip.isnan() & counts[:, None]
                weight = known.double() / known.sum(1, keepdim=True).clamp(min=1) * known.shape[1]
                summed, weights = (of_clip.nan_to_num(0.0) * weight).sum(0), [weight.sum(0)]
            else:
                summed = (of_clip * counts[:, None]).double().sum(0)
            total = loss.detach().double() * num_clips
            rows.append(torch.cat([torch.stack([total, num_clips]), summed, *weights]))
        self._sums += torch.stack(rows)

    def heads(self) -> tuple[HeadEpoch, ...]:
        """Each of `HEADS` in the steps of the epoch so far. Waits for the device."""
        sums = self._sums.cpu()
        return tuple(self._head(name, row) for name, row in zip(HEADS, sums, strict=True))

    def epoch_done(self) -> tuple[HeadEpoch, ...]:
        """Count the epoch for those that are at chance in it; returns `heads`."""
        heads = self.heads()
        if self._epochs is not None:
            counted = zip(self._epochs, heads, strict=True)
            self._epochs = tuple(
                n if head.at_chance is None else (n or 0) + head.at_chance for n, head in counted
            )
        return heads

    def at_chance(self, num_epochs: int) -> tuple[AtChance, ...]:
        """Heads at chance in the latest epoch and in at least a third of `num_epochs`."""
        found = []
        for name, epochs, head in zip(HEADS, self._epochs or (), self.heads(), strict=False):
            if epochs is not None and is_often_at_chance(epochs, num_epochs) and head.at_chance:
                assert head.loss is not None
                assert head.guessing is not None
                found.append(AtChance(head=name, epochs=epochs, of=num_epochs, loss=head.loss,
                                      guessing=head.guessing))  # fmt: skip
        return tuple(found)

    def state(self) -> ChanceHistory | None:
        """What a checkpoint keeps; None where the number of epochs is unknown."""
        if self._epochs is None:
            return None
        return ChanceHistory(epochs=self._epochs, sums=self._sums.to("cpu", copy=True))

    def _head(self, name: str, row: Tensor) -> HeadEpoch:
        loss, num_clips, target = row[0].item(), row[1].item(), row[2:]
        if num_clips == 0:
            return HeadEpoch(loss=None, guessing=None)
        kind, known = self._config.kind, None
        if self._several:
            target, weight = target.chunk(2)
            frequency, known = target / weight.masked_fill(weight == 0, 1), weight / num_clips
        else:
            frequency = target / num_clips
        judged = (
            getattr(self._config, name) > 0
            and guessing_loss(frequency, kind, known=known, sets=self._sets) > _NOTHING_TO_GUESS
        )
        guessing = guessing_loss(frequency, kind, self._config.label_smoothing, known=known,
                                 class_weight=self._class_weight, sets=self._sets)  # fmt: skip
        return HeadEpoch(loss=loss / num_clips, guessing=guessing if judged else None)
