"""Configuration section `data`."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from avmix.config.checks import validate, validate_numbers


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Where the clips are, and how they are read."""

    root: str = "."
    """Folder that the paths in the manifest are relative to."""
    manifest: str = ""
    """Folder with dataset.json; empty: `root`."""
    table: str = ""
    """CSV (divided by `,`, `;`, `|` or tabs) below `root` with one row a clip (columns `path`, and
    those named by the next three options). When the manifest folder has no dataset.json yet, the
    clips are probed and the manifest is written there first. Empty: the manifest must exist."""
    table_label: str = "label"
    """Column of the class name."""
    table_split: str = "split"
    """Column that says train, val or test (or training, validation, dev and so on, in any case);
    rows with any other word there are left out."""
    table_source: list[str] = field(default_factory=lambda: ["source"])
    """Columns that together name the source of a clip: no source may be in two splits."""
    train_split: str = "train"
    """Split to train on."""
    shots: int = 0
    """Few-shot: at most so many clips of each class of the train split; 0: all of them."""
    shots_seed: int = 0
    """Of the choice of those clips, in [0, 2**32); `run.seed` has no part in it."""
    extra: list[str] = field(default_factory=list)
    """Additional training sets, such as `avmix synth` writes: folders with dataset.json. The whole
    train split of each is used; its paths are relative to that folder."""
    val_split: str = "val"
    """Split to evaluate after each epoch; empty: never. A dataset without `val` is trained on
    without, and the run says so; any other name must be a split of it."""
    num_workers: int = 1
    """Loader processes; 0 decodes in the training process, without protection from files that
    crash or hang the decoder."""
    clip_seconds: float = 60.0
    """Longest time for reading one clip (in evaluation: all its windows in a batch), above 0, at
    most a day. A loader process that takes longer is ended and the clip is noted in
    quarantine.jsonl in `run.out`, as is one that crashes the decoder: neither is read again. It is
    noted when that has happened twice in a new process that reads nothing else, and never where the
    process was killed from outside, was stopped, or waited for a disk or a processor."""
    verify: Literal["first", "never"] = "first"
    """`first`: before a loader process reads a file for the first time it compares the file's hash
    with the manifest's. Damage that a codec cannot notice by itself (VP8 and VP9 have no checks) is
    found only so. Clips without a hash in the manifest are not compared."""
    max_bad_share: float = 0.01
    """Share (0 to 1) of the clips to prepare or to train on that may be unreadable before the run
    stops. In val they are named, and missing from its metrics."""

    def __post_init__(self) -> None:
        """Check ranges."""
        validate(self.num_workers >= 0, "data.num_workers", "must be >= 0", self.num_workers)
        validate(0 < self.clip_seconds <= 86_400, "data.clip_seconds", "must be in (0, 86400]",
                 self.clip_seconds)  # fmt: skip
        validate(0 <= self.max_bad_share <= 1, "data.max_bad_share", "must be in [0, 1]",
                 self.max_bad_share)  # fmt: skip
        validate(self.shots >= 0, "data.shots", "must be >= 0", self.shots)
        validate(0 <= self.shots_seed < 2**32, "data.shots_seed", "must be in [0, 2**32)",
                 self.shots_seed)  # fmt: skip
        validate(bool(self.table_source), "data.table_source", "needs a column", self.table_source)
        validate_numbers(self, "data.")

    @property
    def manifest_folder(self) -> Path:
        """The folder that has dataset.json."""
        return Path(self.manifest or self.root)
