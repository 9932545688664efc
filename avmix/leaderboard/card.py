"""The card of a protocol: what is trained and judged on which clips, by which rule, and what is
wrong with it; read from YAML.

Cards are in `avmix/leaderboard/protocols`, a file each, at the path that is their id.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal

import yaml

from avmix.config.yaml_files import read_yaml
from avmix.leaderboard.strict_record import Option, read_record

PROTOCOLS = Path(__file__).parent / "protocols"
ID = re.compile(r"[a-z0-9][a-z0-9_]*(/[a-z0-9][a-z0-9_]*)*")
NAME = re.compile(r"[A-Za-z0-9][\w.@+=-]*")
"""Of a method, variant or split: it becomes the name of a file."""
_FILE = re.compile(r"[A-Za-z0-9][\w.-]*")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_MOST_BYTES = 1_000_000

Selection = Literal["last epoch", "grouped validation", "oracle on test"]
"""Which epoch is judged: the last one; the best on held-out sources of the train split; the best on
the test split itself, as many published codes do."""
Checked = Literal["read in a file", "in a thread", "by eye in a figure", "from memory"]
"""How a published number was checked; `from memory` is unverified."""
Metric = Literal["top1", "mean_class", "map", "auc", "d_prime", "hit_at_1", "hit_at_3", "hit_at_5",
                 "f1", "exact"]  # fmt: skip
"""A figure of `avmix.evaluation.clip_statistics`."""


class CardError(ValueError):
    """A card cannot be read, or there is none; the message names the file and the key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A split of the manifest as it must be, where that is known."""

    clips: int | None = None
    sha256: str | None = None
    """Of the manifest (`Manifest.sha256`), which covers hashes of media where it has them."""

    def __post_init__(self) -> None:
        """Check the hash."""
        if self.sha256 is not None and not _SHA256.fullmatch(self.sha256):
            raise ValueError(f"sha256 must be 64 hexadecimal digits, got {self.sha256!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Fold:
    """One way to divide the dataset: an official split, for example."""

    options: dict[str, Option] = field(default_factory=dict)
    """Of training, that select it: `data.table_split`."""
    parts: dict[str, Part] = field(default_factory=dict)
    """By split of the manifest: train, val, test."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """Clips of a protocol."""

    name: str
    recipe: str = ""
    """Of `avmix prepare`; empty: none is known."""
    manifest_protocol: str = ""
    """`protocol` of the manifest; empty: any."""
    prepare: tuple[str, ...] = ()
    """Words after `avmix prepare RECIPE` that make or list it, where nothing needs to be fetched;
    `{root}` is the media folder."""
    extra: tuple[str, ...] = ()
    """Words after `avmix` that generate additional training clips of a split into `{extra}`, from
    `{root}` and `{manifest}`; where the options of a method name `{extra}`."""
    how: str = ""
    """How to get it, in a sentence."""
    classes: int
    splits: dict[str, Fold]
    """By name; the result is a mean over all of them."""
    evaluated: str = "test"
    """Split of the manifest that is judged."""
    gigabytes: float | None = None
    """On disk, about."""
    licence: str = ""
    hub: str = ""
    """Id of the dataset on the Hub, which `.eval_results` need; empty: it is not there."""
    task: str = ""
    """Name of the task there, or in mteb."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """Weights that a network starts from."""

    name: str
    """As the options say it: `lite0`, `hub:...`."""
    modality: Literal["video", "audio", "both"]
    trained_on: str
    """Dataset, in words."""
    ids: str = ""
    """File with the ids of its training clips, a line each, beside the card; empty: not known,
    and so is the overlap with the test set."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """A row that `run` offers."""

    options: dict[str, Option] = field(default_factory=dict)
    """Of training; for a probe none."""
    head: Literal["", "video", "audio", "concatenated", "average", "fused"] = ""
    """Of a probe: which of `avmix.features.probing.HEADS` is judged."""
    grid: tuple[dict[str, Option], ...] = ()
    """Candidates for tuning (`Tuning`): the best on held-out sources is taken."""
    about: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """A version of the protocol: `as_published`, `as_it_should_be`, or a regime such as few
    shots."""

    about: str
    options: dict[str, Option] = field(default_factory=dict)
    """Of training; `{seed}` as a value is the seed of the cell."""
    evaluation: dict[str, Option] = field(default_factory=dict)
    selection: Selection | None = None
    """None: that of the card."""
    methods: tuple[str, ...] = ()
    """That make sense in it; none: all."""
    seeds: tuple[int, ...] = ()
    """None: those of the card."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Defect:
    """Something wrong with the original."""

    what: str
    source: str
    """Where it is seen: file and function, or thread."""
    off_in: str = ""
    """Variant without it; empty: it cannot be switched off here."""
    stays_because: str = ""
    """Where `off_in` is empty: why."""
    leak: bool = False
    """Whether it lets the test set, or people of it, into training or selection."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """Logistic regressions on kept features."""

    shots: int
    """Clips of each class; 0: all."""
    draws: int
    by: Literal["clip", "source", "mteb"] = "clip"
    """`mteb`: any clips, by its draws (`avmix.data.few_shot.reshuffled_rows`)."""
    regression: Literal["tuned", "plain"] = "tuned"
    """`tuned`: standardised, C by cross-validation over sources, as `avmix probe`; `plain`: as
    given, C 1, at most 100 iterations, as MVEB does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuning:
    """Equal budget for every method: each of its `grid` is trained once, without the held-out
    sources, and judged on them; the best one is trained on everything with every seed."""

    holdout: float
    """Share of the sources of the train split."""
    candidates: int
    """Of every method that has a grid."""
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What a cell was measured to take."""

    minutes: float
    """Wall time, of training and evaluating with one thread, or of one draw."""
    machine: str
    features_minutes: float = 0.0
    """Of computing the features of one split, once."""
    megabytes: float = 0.0
    """On disk, while it runs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """A row of a paper or a repository."""

    method: str
    metric: str
    value: float
    """A share, 0 to 1."""
    source: str
    checked: Checked
    note: str = ""
    variant: str = ""
    """To which it compares; empty: to all."""

    @property
    def verified(self) -> bool:
        """Whether somebody has looked at the source."""
        return self.checked != "from memory"


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """A protocol."""

    id: str
    title: str
    version: int
    """Raised when the same words begin to mean another experiment; part of every result."""
    kind: Literal["train", "probe"]
    about: str
    source: str
    """Paper, or repository and files, from which it was taken."""
    dataset: Dataset
    options: dict[str, Option] = field(default_factory=dict)
    """Of training, by dotted name, in full: what is not here is the default of avmix."""
    features: dict[str, Option] = field(default_factory=dict)
    """Of `avmix features`, by dotted name: where there are some, they are computed once and
    training, or the probe, reads them."""
    evaluation: dict[str, Option] = field(default_factory=dict)
    """Of `avmix evaluate`."""
    probe: Probe | None = None
    methods: dict[str, Method]
    """By name; the others are compared with the first."""
    seeds: tuple[int, ...]
    metric: Metric = "top1"
    selection: Selection
    variants: dict[str, Variant] = field(default_factory=dict)
    """The first is what `run` takes; none: one variant, `default`."""
    tuning: Tuning | None = None
    weights: tuple[Weights, ...] = ()
    defects: tuple[Defect, ...] = ()
    cost: Cost | None = None
    cannot_run: str = ""
    """Why no machine can run it as it is; empty: it can."""
    published: str = ""
    """File of `Published` rows beside the card, with its ending; empty: none."""
    tolerance: float | None = None
    """How far ours may be from the published figure and count as the same, a share."""

    def __post_init__(self) -> None:
        """Check what concerns several keys."""
        if not ID.fullmatch(self.id):
            raise ValueError(f"id must be of a-z, 0-9, _ and /, got {self.id!r}")
        if self.version < 1:
            raise ValueError(f"version must be >= 1, got {self.version}")
        if self.probe and self.probe.by == "mteb" and not self.probe.shots:
            raise ValueError("probe.by mteb cannot act without probe.shots")
        if (self.probe is None) != (self.kind == "train"):
            raise ValueError("probe belongs to a card of kind probe, and only there")
        if not self.methods or not self.dataset.splits:
            raise ValueError("methods and dataset.splits need an entry each")
        for what, names in (("methods", self.methods), ("variants", self.variants),
                            ("dataset.splits", self.dataset.splits)):  # fmt: skip
            for name in names:
                if not NAME.fullmatch(name):
                    raise ValueError(f"{what}: {name!r} cannot name a file")
        for what, file in (
            ("published", self.published),
            *(("weights", w.ids) for w in self.weights),
        ):
            if file and not _FILE.fullmatch(file):
                raise ValueError(f"{what}: {file!r} must be the name of a file beside the card")
        self._check_methods()
        seeds = [*self.seeds, *(s for v in self.variants.values() for s in v.seeds)]
        if not self.seeds or any(not 0 <= seed < 2**32 for seed in seeds):
            raise ValueError(f"seeds must be some numbers in [0, 2**32), got {seeds}")
        for one in self.defects:
            if one.off_in and one.off_in not in self.variants:
                raise ValueError(f"defects: off_in {one.off_in!r} is no variant")
            if not one.off_in and not one.stays_because:
                raise ValueError(f"defects: {one.what!r} needs off_in or stays_because")

    def _check_methods(self) -> None:
        for name, method in self.methods.items():
            if bool(method.head) != (self.kind == "probe"):
                raise ValueError(f"methods.{name}.head belongs to a probe, and only there")
            if method.grid and self.tuning is None:
                raise ValueError(f"methods.{name}.grid cannot act without tuning")
            if method.grid and self.tuning and len(method.grid) != self.tuning.candidates:
                raise ValueError(
                    f"methods.{name}.grid has {len(method.grid)} candidates; every method gets "
                    f"tuning.candidates (={self.tuning.candidates})"
                )
        for name, variant in self.variants.items():
            if unknown := {*variant.methods} - self.methods.keys():
                raise ValueError(f"variants.{name}.methods: {sorted(unknown)[0]!r} is no method")

    @property
    def path(self) -> Path:
        """Of its file."""
        return PROTOCOLS / f"{self.id}.yaml"

    @property
    def all_variants(self) -> Mapping[str, Variant]:
        """At least one."""
        return self.variants or {"default": Variant(about="the protocol as it is")}


def read_card(path: Path) -> Card:
    """Read a card. Raises `CardError`."""
    card: Card = _read(Card, path)
    expected = path.with_suffix("").as_posix()
    if not f"/{expected}".endswith(f"/{card.id}"):
        raise CardError(f"{path}: its id is {card.id!r}; the file must be named {card.id}.yaml")
    if card.published and not (path.parent / card.published).is_file():
        raise CardError(f"{path}: published: there is no file {card.published} beside it")
    return card


def _read(cls: type, path: Path) -> Any:
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise CardError(f"{path}: larger than {_MOST_BYTES} bytes")
        text = path.read_text(encoding="utf-8")
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, yaml.SafeLoader)):
            raise CardError(f"{path}: aliases (*name) are not read; write the value twice")
        return read_record(cls, read_yaml(text), str(path))
    except CardError:
        raise
    except (ValueError, OSError, RecursionError, yaml.YAMLError) as error:
        said = " ".join(str(error).split())
        raise CardError(said if said.startswith(str(path)) else f"{path}: {said}") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rows:
    """A file of published rows."""

    rows: tuple[Published, ...]


def published_rows(card: Card, folder: Path = PROTOCOLS) -> tuple[Published, ...]:
    """The published rows of a card of `folder`. Raises `CardError`."""
    if not card.published:
        return ()
    path = (folder / f"{card.id}.yaml").parent / card.published
    found: object = _read(_Rows, path)
    assert isinstance(found, _Rows)
    for row in found.rows:
        if not 0 <= row.value <= 1:
            raise CardError(f"{path}: {row.method}: value is a share, 0 to 1, got {row.value}")
    return found.rows


def card_ids(folder: Path = PROTOCOLS) -> tuple[str, ...]:
    """Of all cards, sorted. Files whose name begins with `published` hold rows."""
    paths = (p.relative_to(folder) for p in folder.rglob("*.yaml"))
    return tuple(
        sorted(p.with_suffix("").as_posix() for p in paths if not p.name.startswith("published"))
    )


@cache
def card_of(name: str, folder: Path = PROTOCOLS) -> Card:
    """The card with this id. Raises `CardError`."""
    known = card_ids(folder)
    if name not in known:
        raise CardError(f"no protocol {name!r}; `avmix leaderboard list` names all {len(known)}")
    return read_card(folder / f"{name}.yaml")
