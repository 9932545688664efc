"""Configuration section `optim`."""

from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal

from avmix.config.checks import validate, validate_numbers

ONE_DIMENSIONAL = "1d"
"""In `optim.no_decay`: every parameter of one dimension, or none."""


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """Optimizer, learning rate over time, and averages of the weights."""

    name: Literal["adamw", "sgd"] = "adamw"
    """`adamw` (Loshchilov and Hutter, ICLR 2019), or `sgd` with momentum."""
    momentum: float = 0.9
    """Of sgd, [0, 1)."""
    nesterov: bool = False
    """Nesterov's momentum, of sgd."""
    epochs: int = 10
    """Passes over the train split, >= 1. The clips of an incomplete last batch are left out of a
    pass: other ones in each, as the order is drawn again."""
    batch_size: int = 16
    """Clips per step and process, >= 2 (batch normalisation and mixing need two)."""
    accumulate: int = 1
    """Steps whose gradients are averaged before an update, >= 1: equivalent to so many times
    batch_size, except for batch normalisation. The last update of an epoch may average fewer."""
    lr: float = 2e-3
    """Highest learning rate, > 0."""
    schedule: Literal["cosine", "step", "wsd"] = "cosine"
    """Learning rate after the warm-up: half a cosine to zero; `step`: times `gamma` at each of the
    `milestones`; `wsd` (warmup-stable-decay, Hu et al., "MiniCPM", 2024): constant, then in the
    last `decay_share` of the run linearly to zero."""
    milestones: list[float] = field(default_factory=lambda: [0.5, 0.75])
    """Of schedule step: when the rate falls, in shares of `epochs`, in (0, 1) and rising."""
    gamma: float = 0.1
    """Of schedule step: factor of the rate at each milestone, in (0, 1)."""
    decay_share: float = 0.2
    """Of schedule wsd: share of `epochs` at the end in which the rate falls, in (0, 1]."""
    weight_decay: float = 0.02
    """Weight decay, >= 0: adamw shrinks weights directly; sgd adds it to the gradient."""
    no_decay: list[str] = field(default_factory=lambda: [ONE_DIMENSIONAL])
    """Parameters without weight decay. `1d`: all of one dimension (biases, normalisation layers).
    Others by name, or by a part of it between dots: `pos_embed`, `video.stages.0`. Empty: none."""
    warmup_epochs: float = 1.0
    """Length of the linear warm-up from zero, epochs (may be a fraction)."""
    clip_norm: float = 5.0
    """Largest norm of the gradient, > 0."""
    ema_decay: float = 0.0
    """After each update an average of weights and buffers becomes ema_decay times itself plus
    1 - ema_decay times those of the network; it is what is evaluated. [0, 1); 0: no average."""
    precise_bn_batches: int = 0
    """After the last epoch the statistics of batch normalisation are those of so many batches of
    train clips, unmixed (at most an epoch), in place of running averages. 0: they are left."""

    def __post_init__(self) -> None:
        """Check ranges."""
        validate(0 <= self.momentum < 1, "optim.momentum", "must be in [0, 1)", self.momentum)
        validate(self.epochs >= 1, "optim.epochs", "must be >= 1", self.epochs)
        validate(self.batch_size >= 2, "optim.batch_size", "must be >= 2", self.batch_size)
        validate(self.accumulate >= 1, "optim.accumulate", "must be >= 1", self.accumulate)
        validate(self.lr > 0, "optim.lr", "must be > 0", self.lr)
        rising = all(a < b for a, b in pairwise([0.0, *self.milestones, 1.0]))
        validate(rising and self.milestones != [], "optim.milestones",
                 "must be at least one share of optim.epochs, in (0, 1) and rising",
                 self.milestones)  # fmt: skip
        validate(0 < self.gamma < 1, "optim.gamma", "must be in (0, 1)", self.gamma)
        validate(0 < self.decay_share <= 1, "optim.decay_share", "must be in (0, 1]",
                 self.decay_share)  # fmt: skip
        validate(self.weight_decay >= 0, "optim.weight_decay", "must be >= 0", self.weight_decay)
        validate(all(self.no_decay), "optim.no_decay", "must not hold an empty name",
                 self.no_decay)  # fmt: skip
        validate(0 <= self.warmup_epochs <= self.epochs, "optim.warmup_epochs",
                 f"must be in [0, optim.epochs (={self.epochs})]", self.warmup_epochs)  # fmt: skip
        stable = self.epochs * (1 - self.decay_share)
        validate(self.schedule != "wsd" or self.warmup_epochs <= stable + 1e-9,
                 "optim.warmup_epochs", f"must be <= {stable:g} epochs, where schedule wsd begins "
                 "to decay (optim.decay_share)", self.warmup_epochs)  # fmt: skip
        validate(self.clip_norm > 0, "optim.clip_norm", "must be > 0", self.clip_norm)
        validate(0 <= self.ema_decay < 1, "optim.ema_decay", "must be in [0, 1)", self.ema_decay)
        validate(self.precise_bn_batches >= 0, "optim.precise_bn_batches", "must be >= 0",
                 self.precise_bn_batches)  # fmt: skip
        validate_numbers(self, "optim.")
