"""Evaluation configuration."""

from dataclasses import dataclass, field, fields
from typing import Literal

from avmix.config.checks import validate, validate_numbers
from avmix.config.robustness_rows import rows_asked_for
from avmix.config.unset import unset

_OF_PREDICTIONS = ("predictions", "mean_with", "alone", "resamples", "seed", "out")
"""Options that act where no clip is looked at."""


@dataclass(frozen=True, kw_only=True)
class EvalConfig:
    """Evaluate a checkpoint, or compute the tables of kept predictions again."""

    checkpoint: str = ""
    """A .pt file that training wrote, or the folder of a run (its last.pt)."""
    predictions: str = ""
    """In place of a checkpoint: predictions.safetensors of an earlier evaluation, or the folder
    that holds it. No network and no clip is read."""
    mean_with: str = ""
    """Predictions of a network of the other modality alone: together with those of --from, of a
    network of one modality, they are evaluated as one network, whose fused probability is the mean
    of both. Needs `out`."""
    split: str = "test"
    """Split of the dataset to evaluate."""
    num_views: int = unset(3)
    """Windows per clip, >= 1: evenly spaced, each with the audio of its seconds. Of features, as
    many as were kept."""
    crops: Literal["centre", "three"] = "centre"
    """Crops of each window: the square in the centre, or three along the longer side (left, centre,
    right)."""
    flip: bool = False
    """Every crop also mirrored. Not for a network that was trained with augment.never_flip: which
    clips may be mirrored is known from their labels alone."""
    average: Literal["probabilities", "logits"] = "probabilities"
    """What of all views of a clip is averaged."""
    batch_size: int = 32
    """Windows per batch."""
    raw_weights: bool = False
    """Evaluate the weights of the last update in place of the average that the run kept
    (optim.ema_decay)."""
    root: str = ""
    """Media folder, if not that of the training run."""
    manifest: str = ""
    """Manifest folder, if not that of the training run."""
    features: str = ""
    """Folder of features, if not that of the training run, which must have been trained on
    features of the same windows, encoders and weights."""
    num_workers: int = 1
    """Number of loader processes; 0: none, as for data.num_workers."""
    clip_seconds: float = 60.0
    """Time limit for reading one clip, as data.clip_seconds. quarantine.jsonl is written to `out`;
    that of the run counts too."""
    verify: Literal["first", "never"] = "first"
    """Comparison of file hashes, as data.verify."""
    device: str = "auto"
    """Device, as run.device."""
    threads: int = 0
    """CPU threads, as run.threads."""
    alone: list[str] = field(default_factory=list)
    """Evaluated runs, or files of predictions, of networks that were trained on one modality: the
    table compares with the better of them."""
    resamples: int = 1000
    """Resamples behind the intervals, which are over sources; 0: no intervals."""
    seed: int = 0
    """Of the resamples."""
    robustness: str = ""
    """Measure robustness, too, into robustness.json and .png: `all` (also where the option has no
    value), or rows with commas between them (docs/robustness.md). What was done is not done
    again."""
    out: str = ""
    """Folder for result.json, the predictions and figures; empty: eval_SPLIT beside the checkpoint,
    or the folder of the predictions."""

    def __post_init__(self) -> None:
        """Check ranges, and that what is set can act."""
        if not self.checkpoint and not self.predictions:
            raise ValueError("the following arguments are required: --checkpoint (or --from)")
        validate(not (self.checkpoint and self.predictions), "predictions",
                 "stand in place of a checkpoint; give one of both", self.predictions)  # fmt: skip
        if self.predictions:
            for option in fields(self):
                value = getattr(self, option.name)
                acts = option.name in _OF_PREDICTIONS or value == option.default
                validate(acts, option.name, "cannot act with --from, which looks at no clip",
                         value)  # fmt: skip
        validate(not self.mean_with or self.predictions != "", "mean_with",
                 "cannot act without --from, the other half", self.mean_with)  # fmt: skip
        validate(not self.mean_with or self.out != "", "out",
                 "must name a folder for mean_with: it is an evaluation of its own",
                 self.out)  # fmt: skip
        validate(self.resamples == 0 or self.resamples >= 100, "resamples",
                 "must be 0 or >= 100", self.resamples)  # fmt: skip
        validate(0 <= self.seed < 2**32, "seed", "must be in [0, 2**32)", self.seed)
        validate(self.num_views >= 1, "num_views", "must be >= 1", self.num_views)
        validate(self.batch_size >= 1, "batch_size", "must be >= 1", self.batch_size)
        validate(self.num_workers >= 0, "num_workers", "must be >= 0", self.num_workers)
        validate(self.threads >= 0, "threads", "must be >= 0", self.threads)
        validate(0 < self.clip_seconds <= 86_400, "clip_seconds", "must be in (0, 86400]",
                 self.clip_seconds)  # fmt: skip
        if self.robustness:
            rows_asked_for(self.robustness)
        validate_numbers(self, "")
