"""Which records a table takes: those that can be scored again and say what made them.

The rules are in docs/leaderboard.md. A record that breaks one is refused as a whole, with the
reason.
"""

from dataclasses import dataclass
from pathlib import Path

from avmix.evaluation.kept_predictions import KeptPredictions, PredictionsError
from avmix.leaderboard.card import PROTOCOLS, Card, CardError, card_of
from avmix.leaderboard.packed_predictions import unpack
from avmix.leaderboard.result import Result, ResultError, Run, read_result
from avmix.leaderboard.scoring import figures_of

TOLERANCE = 1e-9
"""Between a stated figure and the same of the predictions: the order of a sum."""


@dataclass(frozen=True, kw_only=True)
class Admitted:
    """A record with its predictions."""

    result: Result
    card: Card
    kept: tuple[KeptPredictions, ...]
    """Of each run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """A record that is not shown."""

    path: Path
    why: str


def admit(path: Path, cards: Path = PROTOCOLS) -> Admitted:
    """Read a record, and everything that it says of its predictions. Raises `ResultError`."""
    result = read_result(path)
    try:
        card = card_of(result.protocol, cards)
    except CardError as error:
        raise ResultError(f"{path}: {error}") from None
    if not path.with_suffix("").as_posix().endswith("/" + result.name):
        raise ResultError(f"{path}: it is of {result.name}, which is another file")
    if result.protocol_version != card.version:
        raise ResultError(
            f"{path}: of version {result.protocol_version} of {card.id}, which is {card.version} "
            "now: another experiment"
        )
    if why := _contradiction(result, card):
        raise ResultError(f"{path}: {why}")
    return Admitted(
        result=result, card=card,
        kept=tuple(_kept(path, run, result) for run in result.runs),
    )  # fmt: skip


def admit_all(paths: list[Path], cards: Path = PROTOCOLS) -> tuple[list[Admitted], list[Refused]]:
    """Every record that can be admitted, and the others with the reason."""
    found: list[Admitted] = []
    refused: list[Refused] = []
    for path in paths:
        try:
            found.append(admit(path, cards))
        except ResultError as error:
            refused.append(Refused(path=path, why=str(error)))
    return found, refused


def _contradiction(result: Result, card: Card) -> str:
    """What a record lacks, or says against its card; empty where nothing is."""
    if result.variant not in card.all_variants:
        return f"no variant {result.variant!r} of {card.id}"
    if result.method not in card.methods:
        return f"no method {result.method!r} of {card.id}: a row of another protocol"
    if result.selection != (card.all_variants[result.variant].selection or card.selection):
        return f"selection {result.selection!r} is not that of the card"
    if not result.runs:
        return "no seeds: it has no run"
    if card.weights and not result.pretraining:
        return "pretraining: the card names weights, the record none"
    for run in result.runs:
        where = f"split {run.split}, seed {run.seed}"
        fold = card.dataset.splits.get(run.split)
        if fold is None:
            return f"{where}: no such split of {card.id}"
        if lacking := {"train", "test"} - run.split_sha256.keys():
            return f"{where}: no hash of the split {sorted(lacking)[0]}"
        for name, part in fold.parts.items():
            name = "test" if name == card.dataset.evaluated else name
            if part.sha256 and run.split_sha256.get(name, part.sha256) != part.sha256:
                return f"{where}: the split {name} is not that of the card (SHA-256)"
    return ""


def _kept(path: Path, run: Run, result: Result) -> KeptPredictions:
    where = f"{path}: split {run.split}, seed {run.seed}"
    try:
        kept = unpack(path.parent / run.predictions.file, run.predictions.sha256)
        stated, found = run.figures, figures_of(kept)
    except PredictionsError as error:
        raise ResultError(f"{where}: {error}") from None
    if kept.split_sha256 != run.split_sha256["test"]:
        raise ResultError(f"{where}: its predictions are of another test split (SHA-256)")
    if len(kept.classes) != result.classes or len(kept.clips) != run.num_clips:
        raise ResultError(f"{where}: its predictions are of other clips or classes")
    if len(kept.missing) != run.num_missing:
        raise ResultError(f"{where}: num_missing is not what its predictions say")
    if run.checkpoint and kept.origin.checkpoint != run.checkpoint:
        raise ResultError(f"{where}: its predictions are of another checkpoint")
    # A later version may compute more figures than a record states, never fewer.
    for name in sorted({*stated, f"fused.{result.metric}"}):
        if name in stated and name in found and abs(stated[name] - found[name]) <= TOLERANCE:
            continue
        raise ResultError(
            f"{where}: {name} is stated as {stated.get(name)}; its predictions give "
            f"{found.get(name)}"
        )
    return kept
