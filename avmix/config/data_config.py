"""Configuration section `data`."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from avmix.config.checks import validate, validate_numbers

Balance = Literal["none", "class", "sqrt"]


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Location of the clips, and how they are read."""

    root: str = "."
    """Media folder; paths in the manifest are relative to it."""
    manifest: str = ""
    """Folder with dataset.json; empty: `data.root`."""
    features: str = ""
    """Folder that `avmix features` wrote: train on its features, without files and without encoders
    (docs/features.md). It is its own manifest; options of clips, spectrograms, augmentation and
    encoders cannot act. Empty: train on clips."""
    table: str = ""
    """CSV table below `root` with one row per clip (separated by `,`, `;`, `|` or tabs; columns
    `path`, and those named by the next three options). If the manifest folder has no dataset.json
    yet, the clips are probed and the manifest is written first. Empty: the manifest must exist."""
    table_label: str = "label"
    """Column of the class name."""
    table_split: str = "split"
    """Column of the split: train, val or test (or training, validation, dev and so on, in any
    case). Rows with any other value are left out."""
    table_source: list[str] = field(default_factory=lambda: ["source"])
    """Columns that together identify the source of a clip: no source may be in two splits."""
    train_split: str = "train"
    """Split to train on."""
    holdout: float = 0.0
    """Share of the sources of each class of the train split, in [0, 1), that is held out: validated
    on, not trained on. For a dataset without a val split, or with an empty `val_split`."""
    holdout_seed: int = 0
    """Random seed of that choice, 0 to 2**32 - 1; independent of `run.seed`."""
    balance: Balance = "none"
    """How often the clips of each class are trained on. `none`: every clip once an epoch. `class`:
    all classes equally often; `sqrt`: in proportion to the square root of their clips. An epoch has
    as many clips as before: some come several times, with windows and augmentation of their own,
    others not in every epoch."""
    shots: int = 0
    """Few-shot: largest number of clips per class of the train split; 0: all clips."""
    shots_seed: int = 0
    """Random seed of the few-shot selection, 0 to 2**32 - 1; independent of `run.seed`."""
    shots_by: Literal["clip", "source"] = "clip"
    """`clip`: any clips of a class; `source`: each of another source (recording, person, group),
    for clips of one source are often nearly the same. A class that has fewer sources than `shots`
    then gives one clip of each."""
    extra: list[str] = field(default_factory=list)
    """Additional training sets, such as `avmix synth` writes: folders with dataset.json. The whole
    train split of each is used; its paths are relative to that folder."""
    val_split: str = "val"
    """Split to evaluate after each epoch; empty: none, but for `holdout`. A dataset without `val`
    trains without validation, and the run says so; any other name must be a split of it."""
    num_workers: int = 1
    """Number of loader processes; 0 decodes in the training process, without protection from files
    that crash or hang the decoder."""
    clip_seconds: float = 60.0
    """Time limit for reading one clip (in evaluation: all its windows in a batch), seconds, above
    0, at most a day. A loader process that exceeds it is ended, and the clip is added to
    quarantine.jsonl in `run.out`, as is a clip that crashes the decoder: neither is read again. A
    clip is added only after a second failure, in a new process that reads nothing else, and never
    where the process was killed from outside, was stopped, or waited for a disk or a processor."""
    verify: Literal["first", "never"] = "first"
    """`first`: compare each file's hash with the manifest's before a loader process reads it for
    the first time. Only this finds damage that a codec cannot detect (VP8 and VP9 have no
    checksums). Clips without a hash in the manifest are not compared. Of `features`, the file of
    each split is compared once, before the first step."""
    max_bad_share: float = 0.01
    """Largest share (0 to 1) of the clips to prepare or to train on that may be unreadable; above
    it the run stops. Unreadable clips of val are named and missing from its metrics."""

    def __post_init__(self) -> None:
        """Check ranges."""
        validate(self.num_workers >= 0, "data.num_workers", "must be >= 0", self.num_workers)
        validate(0 < self.clip_seconds <= 86_400, "data.clip_seconds", "must be in (0, 86400]",
                 self.clip_seconds)  # fmt: skip
        validate(0 <= self.max_bad_share <= 1, "data.max_bad_share", "must be in [0, 1]",
                 self.max_bad_share)  # fmt: skip
        validate(0 <= self.holdout < 1, "data.holdout", "must be in [0, 1)", self.holdout)
        validate(0 <= self.holdout_seed < 2**32, "data.holdout_seed", "must be in [0, 2**32)",
                 self.holdout_seed)  # fmt: skip
        validate(self.shots >= 0, "data.shots", "must be >= 0", self.shots)
        validate(0 <= self.shots_seed < 2**32, "data.shots_seed", "must be in [0, 2**32)",
                 self.shots_seed)  # fmt: skip
        validate(bool(self.table_source), "data.table_source", "needs a column", self.table_source)
        validate_numbers(self, "data.")

    @property
    def manifest_folder(self) -> Path:
        """Folder that contains dataset.json."""
        return Path(self.features or self.manifest or self.root)
