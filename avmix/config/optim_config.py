"""Configuration section `optim`."""

from dataclasses import dataclass

from avmix.config.checks import validate, validate_numbers


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """AdamW, linear warm-up, cosine to zero."""

    epochs: int = 10
    """Passes over the train split, >= 1."""
    batch_size: int = 16
    """Clips per step and process, >= 2 (batch normalisation and mixing need two)."""
    accumulate: int = 1
    """Steps whose gradients are averaged before an update, >= 1: equivalent to so many times
    batch_size, except for batch normalisation. The last update of an epoch may average fewer."""
    lr: float = 2e-3
    """Highest learning rate, > 0."""
    weight_decay: float = 0.02
    """Weight decay of AdamW; not applied to biases and normalisation layers."""
    warmup_epochs: float = 1.0
    """Length of the linear warm-up from zero, epochs (may be a fraction)."""
    clip_norm: float = 5.0
    """Largest norm of the gradient, > 0."""

    def __post_init__(self) -> None:
        """Check ranges."""
        validate(self.epochs >= 1, "optim.epochs", "must be >= 1", self.epochs)
        validate(self.batch_size >= 2, "optim.batch_size", "must be >= 2", self.batch_size)
        validate(self.accumulate >= 1, "optim.accumulate", "must be >= 1", self.accumulate)
        validate(self.lr > 0, "optim.lr", "must be > 0", self.lr)
        validate(self.weight_decay >= 0, "optim.weight_decay", "must be >= 0", self.weight_decay)
        validate(0 <= self.warmup_epochs <= self.epochs, "optim.warmup_epochs",
                 f"must be in [0, optim.epochs (={self.epochs})]", self.warmup_epochs)  # fmt: skip
        validate(self.clip_norm > 0, "optim.clip_norm", "must be > 0", self.clip_norm)
        validate_numbers(self, "optim.")
