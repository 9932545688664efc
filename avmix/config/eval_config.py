"""Evaluation configuration."""

from dataclasses import dataclass
from typing import Literal

from avmix.config.checks import validate, validate_numbers
from avmix.config.robustness_rows import rows_asked_for


@dataclass(frozen=True, kw_only=True)
class EvalConfig:
    """Evaluate a checkpoint: fused prediction, each modality alone, each modality removed."""

    checkpoint: str
    """A .pt file that training wrote, or the folder of a run (its last.pt)."""
    split: str = "test"
    """Split of the dataset to evaluate."""
    num_views: int = 3
    """Views per clip, >= 1: evenly spaced windows whose probabilities are averaged."""
    batch_size: int = 32
    """Windows per batch."""
    raw_weights: bool = False
    """Evaluate the weights of the last update in place of the average that the run kept
    (optim.ema_decay)."""
    root: str = ""
    """Media folder, if not that of the training run."""
    manifest: str = ""
    """Manifest folder, if not that of the training run."""
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
    robustness: str = ""
    """Measure robustness, too, into robustness.json and .png: `all` (also where the option has no
    value), or rows with commas between them (docs/robustness.md). What was done is not done
    again."""
    out: str = ""
    """Folder for result.json and figures; empty: eval_SPLIT beside the checkpoint."""

    def __post_init__(self) -> None:
        """Check ranges."""
        validate(self.num_views >= 1, "num_views", "must be >= 1", self.num_views)
        validate(self.batch_size >= 1, "batch_size", "must be >= 1", self.batch_size)
        validate(self.num_workers >= 0, "num_workers", "must be >= 0", self.num_workers)
        validate(self.threads >= 0, "threads", "must be >= 0", self.threads)
        validate(0 < self.clip_seconds <= 86_400, "clip_seconds", "must be in (0, 86400]",
                 self.clip_seconds)  # fmt: skip
        if self.robustness:
            rows_asked_for(self.robustness)
        validate_numbers(self, "")
