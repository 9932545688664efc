"""Configuration of evaluation."""

from dataclasses import dataclass
from typing import Literal

from avmix.config.checks import validate, validate_numbers


@dataclass(frozen=True, kw_only=True)
class EvalConfig:
    """Evaluate a checkpoint: fused prediction, each modality alone, each modality removed."""

    checkpoint: str
    """A .pt file that training wrote, or the folder of a run (its last.pt)."""
    split: str = "test"
    """Split of the dataset."""
    num_views: int = 3
    """Windows per clip, evenly spaced; their probabilities are averaged. >= 1."""
    batch_size: int = 32
    """Windows per step."""
    root: str = ""
    """Media folder, when it is not the one that the checkpoint was trained from."""
    manifest: str = ""
    """Manifest folder, when it is not the one that the checkpoint was trained from."""
    num_workers: int = 1
    """Loader processes; 0: as data.num_workers."""
    clip_seconds: float = 60.0
    """As data.clip_seconds; quarantine.jsonl is in `out`, and that of the run counts too."""
    verify: Literal["first", "never"] = "first"
    """As data.verify."""
    device: str = "auto"
    """As run.device."""
    threads: int = 0
    """As run.threads."""
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
        validate_numbers(self, "")
