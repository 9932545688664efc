"""The record of a row: one method of one protocol, every seed and split, with all that made it.

A record is JSON, named PROTOCOL/VARIANT/METHOD.json in a folder of results; the predictions of each
run are beside it, compressed (`avmix.leaderboard.packed_predictions`). `schema.json` describes it
for other programs; `avmix.leaderboard.admission` says which records a table takes.
"""

import json
import re
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from avmix.leaderboard.card import NAME, Metric, Selection
from avmix.leaderboard.strict_record import Option, read_record
from avmix.system import strict_json
from avmix.system.atomic_files import replace_text

FORMAT = 1
SCHEMA = Path(__file__).parent / "schema.json"
_MOST_BYTES = 20_000_000
_SHA256 = re.compile(r"[0-9a-f]{64}")
_FILE = re.compile(r"[A-Za-z0-9][\w.@+=-]*\.safetensors\.xz")


class ResultError(ValueError):
    """A record cannot be read or admitted; the message names the file and why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictionFile:
    """Predictions of every clip of a run."""

    file: str
    """Name beside the record."""
    sha256: str
    """Of the file as it is on the disk."""
    bytes: int
    rounded: bool = False
    """Whether probabilities have 12 bits of mantissa, and the figures are of those."""

    def __post_init__(self) -> None:
        """Check that it is a name and a hash."""
        if not _FILE.fullmatch(self.file):
            raise ValueError(f"file must be NAME.safetensors.xz, without folders: {self.file!r}")
        _check_hash("sha256", self.sha256)


@dataclass(frozen=True, slots=True, kw_only=True)
class Energy:
    """An estimate, not a measurement: CPU seconds x watts / 3600, and GPU seconds x watts / 3600
    where a GPU was used."""

    watt_hours: float
    cpu_watts: float
    """Assumed, of one busy core with its share of the machine."""
    gpu_watts: float = 0.0
    formula: str = "estimate: (cpu_seconds * cpu_watts + gpu_seconds * gpu_watts) / 3600"


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One seed on one split."""

    split: str
    """Of the card."""
    seed: int
    """Of a probe: number of the draw."""
    split_sha256: dict[str, str]
    """Of the manifests that were trained on and judged: train, test."""
    media_sha256: dict[str, str] = field(default_factory=dict)
    """Of the media of those, where the manifest has the hash of every file: SHA-256 of the lines
    `PATH SHA256`, sorted."""
    avmix: str
    commit: str = ""
    """Without `+`; empty: not from a checkout."""
    dirty: bool
    """Whether code was not as committed."""
    code_sha256: str
    """Of the code that trains and evaluates (`avmix.leaderboard.code_hash`)."""
    environment: dict[str, Option]
    started: str
    """UTC."""
    train_seconds: float
    eval_seconds: float
    cpu_seconds: float
    """Of both, and of all their processes."""
    energy: Energy
    epochs: int
    checkpoint: str = ""
    """Digest of the checkpoint that was judged; empty: of a probe."""
    num_clips: int
    num_missing: int = 0
    """Clips of the test split without a prediction; they count as wrong in no figure, and a row
    with some is marked."""
    figures: dict[str, float]
    """ROW.FIGURE, shares and nats, of the predictions; `fused.top1`."""
    predictions: PredictionFile
    measures: dict[str, float] = field(default_factory=dict)
    """Further figures that predictions do not hold: retrieval, linearity along lambda."""
    curves: dict[str, tuple[float, ...]] = field(default_factory=dict)
    """Of each epoch: `loss`, and `val.fused` where there is a validation."""

    def __post_init__(self) -> None:
        """Check hashes and numbers."""
        for name, value in {**self.split_sha256, **self.media_sha256}.items():
            _check_hash(name, value)
        for name in ("train_seconds", "eval_seconds", "cpu_seconds", "epochs", "num_clips",
                     "num_missing"):  # fmt: skip
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be >= 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class Overlap:
    """Whether clips of the test split were among those that weights were trained on."""

    found: Literal["nothing was pre-trained", "unknown", "some", "none of the known ids"]
    how: str
    num_shared: int | None = None
    num_compared: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Pretraining:
    """Weights that the networks started from."""

    name: str
    modality: str
    trained_on: str
    overlap: Overlap


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """A candidate of tuning, judged on held-out sources of the train split."""

    options: dict[str, Option]
    split: str
    value: float
    chosen: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """A row."""

    format: int = FORMAT
    protocol: str
    protocol_version: int
    card_sha256: str
    """Of the file of the card."""
    variant: str
    method: str
    kind: Literal["train", "probe"]
    dataset: str
    classes: int
    options: dict[str, Option]
    """Of training, resolved: those of card, variant, method and tuning, without folders and
    seeds."""
    evaluation: dict[str, Option] = field(default_factory=dict)
    features: dict[str, Option] = field(default_factory=dict)
    probe: dict[str, Option] = field(default_factory=dict)
    selection: Selection
    metric: Metric
    pretraining: tuple[Pretraining, ...]
    """Empty: nothing was, as the card says."""
    leaks: tuple[str, ...]
    """Of the protocol itself, that this variant has."""
    defects: tuple[str, ...] = ()
    """Other known defects of the original that this variant has."""
    trials: tuple[Trial, ...] = ()
    runs: tuple[Run, ...]

    def __post_init__(self) -> None:
        """Check what concerns several keys."""
        if self.format != FORMAT:
            raise ValueError(f"format {self.format}; this version reads {FORMAT}")
        _check_hash("card_sha256", self.card_sha256)
        for what in ("variant", "method"):
            if not NAME.fullmatch(getattr(self, what)):
                raise ValueError(f"{what} must be a name, got {getattr(self, what)!r}")
        places = [(run.split, run.seed) for run in self.runs]
        if len({*places}) != len(places):
            raise ValueError("runs has a split and seed twice")

    @property
    def name(self) -> str:
        """Path of its file in a folder of results, without ending."""
        return f"{self.protocol}/{self.variant}/{self.method}"


def read_result(path: Path) -> Result:
    """Read a record; nothing of it is compared with anything else. Raises `ResultError`."""
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise ResultError(f"{path}: larger than {_MOST_BYTES} bytes")
        value = json.loads(path.read_bytes(), parse_constant=_refuse, object_pairs_hook=_once)
    except ResultError:
        raise
    except (OSError, ValueError, RecursionError) as error:
        raise ResultError(f"{path}: not a result: {error}") from None
    try:
        return read_record(Result, value, str(path))
    except (ValueError, RecursionError) as error:
        raise ResultError(str(error)) from None


def write_result(folder: Path, result: Result) -> Path:
    """Write a record atomically at its place in a folder of results; returns the path."""
    path = folder / f"{result.name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_text(path, strict_json.dumps(as_json(result), indent=1) + "\n")
    return path


def as_json(result: Result) -> dict[str, Any]:
    """For a file: lists in place of tuples, nothing that is None."""
    found: dict[str, Any] = _plain(asdict(result))
    return found


def result_files(folder: Path, protocol: str = "") -> list[Path]:
    """The records in a folder of results, sorted; of one protocol where it is named."""
    inside = folder / protocol if protocol else folder
    found = sorted(inside.rglob("*.json"))
    # A protocol `a` has no results of a protocol `a/b`: those are three levels down.
    return [p for p in found if not protocol or len(p.relative_to(inside).parts) == 2]


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items() if one is not None}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    return value


def _check_hash(name: str, value: str) -> None:
    if not _SHA256.fullmatch(value):
        raise ValueError(f"{name} must be a SHA-256 of 64 hexadecimal digits, got {value!r}")


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is not a number of JSON")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key is there twice")
    return found
