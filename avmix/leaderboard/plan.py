"""The cells of a protocol, and the options that each is trained with."""

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from avmix.config import TrainConfig
from avmix.config.unused_options import unused_options
from avmix.config.yaml_files import from_values
from avmix.leaderboard.card import Card, CardError, Selection, Variant
from avmix.leaderboard.strict_record import Option
from avmix.system import strict_json

SEED = "{seed}"
"""As the value of an option: the seed of the cell."""
EXTRA = "{extra}"
"""In the value of an option: the folder of additional clips (`Dataset.extra`)."""
ALL_HEADS = "all"
"""Method of the cells of a probe: one fit gives all heads."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One network, or one draw of a probe."""

    protocol: str
    variant: str
    method: str
    split: str
    seed: int
    candidate: int | None = None
    """Number in the grid of the method, of a cell of tuning; None: it is judged on the test
    split."""

    @property
    def name(self) -> str:
        """For people, and the name of its folder."""
        end = f"seed{self.seed}" if self.candidate is None else f"candidate{self.candidate}"
        return f"{self.protocol}/{self.variant}/{self.method}/{self.split}-{end}"


def cells_of(
    card: Card,
    variant: str,
    methods: Collection[str] = (),
    seeds: Collection[int] = (),
    splits: Collection[str] = (),
) -> tuple[Cell, ...]:
    """The cells of a variant, those of tuning first; `methods`, `seeds` and `splits`: only these.
    Raises `CardError` for a name that the card does not have."""
    found = _variant(card, variant)
    if unknown := [name for name in splits if name not in card.dataset.splits]:
        raise CardError(f"{card.id}: no split {unknown[0]!r}; it has "
                        f"{', '.join(card.dataset.splits)}")  # fmt: skip
    folds = [name for name in card.dataset.splits if not splits or name in splits]
    offered = [name for name in card.methods if not found.methods or name in found.methods]
    if unknown := [name for name in methods if name not in offered]:
        raise CardError(f"{card.id}, {variant}: no method {unknown[0]!r}; it has "
                        f"{', '.join(offered)}")  # fmt: skip
    asked = [name for name in offered if not methods or name in methods]
    numbers = sorted({*(seeds or found.seeds or card.seeds)})
    if card.probe is not None:
        draws = [n for n in range(card.probe.draws) if not seeds or n in seeds]
        if not draws:
            raise CardError(f"{card.id}: draws are 0 to {card.probe.draws - 1}")
        return tuple(Cell(protocol=card.id, variant=variant, method=ALL_HEADS, split=s, seed=n)
                     for n in draws for s in folds)  # fmt: skip
    tuned: list[Cell] = []
    if card.tuning is not None:
        tuned = [Cell(protocol=card.id, variant=variant, method=m, split=s,
                      seed=card.tuning.seed, candidate=number)
                 for m in asked for number in range(len(card.methods[m].grid))
                 for s in folds]  # fmt: skip
    # Seeds outside: an interrupted run has whole tables of fewer seeds.
    judged = [Cell(protocol=card.id, variant=variant, method=m, split=s, seed=n)
              for n in numbers for m in asked for s in folds]  # fmt: skip
    return (*tuned, *judged)


def _variant(card: Card, name: str) -> Variant:
    try:
        return card.all_variants[name]
    except KeyError:
        raise CardError(
            f"{card.id}: no variant {name!r}; it has {', '.join(card.all_variants)}"
        ) from None


def selection_of(card: Card, variant: str) -> Selection:
    """The rule of a variant."""
    return _variant(card, variant).selection or card.selection


def evaluation_of(card: Card, variant: str) -> dict[str, Option]:
    """Options of `avmix evaluate`."""
    return {**card.evaluation, **_variant(card, variant).evaluation}


def row_options(card: Card, variant: str, method: str) -> dict[str, Option]:
    """Options of training of a row: all but split, seed and folders, and what tuning chose."""
    rule = selection_of(card, variant)
    by_rule: dict[str, Option] = {"data.val_split": ""} if rule == "last epoch" else {}
    if rule == "oracle on test":
        by_rule = {"data.val_split": card.dataset.evaluated}
    return {
        **by_rule,
        **card.options,
        **_variant(card, variant).options,
        **(card.methods[method].options if method in card.methods else {}),
    }


def cell_options(
    card: Card, cell: Cell, chosen: Mapping[str, Option] | None = None
) -> dict[str, Option]:
    """Options of training of a cell, without folders. `chosen`: what tuning chose for its row."""
    found = {
        **row_options(card, cell.variant, cell.method),
        **({} if card.features else card.dataset.splits[cell.split].options),
        **(chosen or {}),
    }
    if cell.candidate is not None:
        assert card.tuning is not None
        found |= {**card.methods[cell.method].grid[cell.candidate],
                  "data.holdout": card.tuning.holdout, "data.val_split": "val"}  # fmt: skip
    found = {key: cell.seed if value == SEED else value for key, value in found.items()}
    return {**found, "run.seed": cell.seed}


def nested(options: Mapping[str, Option]) -> dict[str, Any]:
    """Dotted names as sections: what a YAML file of a configuration holds."""
    found: dict[str, Any] = {}
    for key, value in options.items():
        *sections, name = key.split(".")
        inside = found
        for section in sections:
            inside = inside.setdefault(section, {})
        inside[name] = value
    return found


def config_of(options: Mapping[str, Option], what: str) -> TrainConfig:
    """The configuration of these options; `what` is named by `CardError`, which is raised where
    they are not options of avmix, or where one of them cannot act."""
    try:
        config = from_values(TrainConfig, nested(options))
    except (ValueError, AttributeError, TypeError) as error:
        raise CardError(f"{what}: {error}") from None
    if unused := unused_options(config):
        raise CardError(f"{what}: {next(iter(unused.values()))}")
    return config


def key_of(cell: Cell, **parts: Any) -> str:
    """Hash of a cell and of all that its result depends on: two cells of one key are the same."""
    said = {"cell": [cell.name, cell.candidate], **parts}
    return hashlib.sha256(strict_json.dumps(said, sort_keys=True).encode()).hexdigest()


def needs_extra(options: Mapping[str, Option]) -> bool:
    """Whether some option names the folder of additional clips."""
    return EXTRA in strict_json.dumps(dict(options))


def with_extra(options: Mapping[str, Option], folder: str) -> dict[str, Option]:
    """The options with this folder in place of `{extra}`."""
    return {key: _replaced(value, folder) for key, value in options.items()}


def _replaced(value: Option, folder: str) -> Option:
    if isinstance(value, str):
        return value.replace(EXTRA, folder)
    return [_replaced(one, folder) for one in value] if isinstance(value, list) else value
