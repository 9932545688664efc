"""Finished cells as records: one for each row, with all runs that are of the same code."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from avmix.leaderboard.card import Card
from avmix.leaderboard.cell_result import Finished
from avmix.leaderboard.overlap import pretraining_of
from avmix.leaderboard.plan import evaluation_of, row_options, selection_of
from avmix.leaderboard.result import Result, ResultError, Run, Trial, read_result, write_result
from avmix.leaderboard.strict_record import Option
from avmix.system.atomic_files import replacing


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A row of a protocol, before it has runs."""

    card: Card
    card_sha256: str
    variant: str
    method: str
    test_ids: frozenset[str]
    """Of the clips and sources of all splits that are judged."""
    trials: tuple[Trial, ...] = ()


def card_sha256(path: Path) -> str:
    """Of the file of a card."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def record_of(row: Row, runs: Sequence[Run], cards: Path) -> Result:
    """The record of a row."""
    card, probe = row.card, row.card.probe
    here = [one for one in card.defects if one.off_in != row.variant]
    of_probe: dict[str, Option] = {}
    if probe is not None:
        head = card.methods[row.method].head
        of_probe = {"shots": probe.shots, "draws": probe.draws, "by": probe.by,
                    "regression": probe.regression, "head": head}  # fmt: skip
    return Result(
        protocol=card.id, protocol_version=card.version, card_sha256=row.card_sha256,
        variant=row.variant, method=row.method, kind=card.kind, dataset=card.dataset.name,
        classes=card.dataset.classes,
        options=row_options(card, row.variant, row.method) if card.kind == "train" else {},
        evaluation=evaluation_of(card, row.variant), features=card.features, probe=of_probe,
        selection=selection_of(card, row.variant), metric=card.metric,
        pretraining=pretraining_of(card, row.test_ids, cards),
        leaks=tuple(one.what for one in here if one.leak),
        defects=tuple(one.what for one in here if not one.leak),
        trials=row.trials, runs=tuple(sorted(runs, key=lambda run: (run.split, run.seed))),
    )  # fmt: skip


def add_runs(row: Row, done: Sequence[Finished], out: Path, cards: Path) -> tuple[Path, int]:
    """Add runs to the record of their row in a folder of results, which is written where there is
    none; returns its path, and how many earlier runs were left out because they are of another
    experiment: of another card, other options or other code."""
    runs = {(one.run.split, one.run.seed): one.run for one in done}
    fresh = record_of(row, [*runs.values()], cards)
    path = out / f"{fresh.name}.json"
    left_out = 0
    if path.exists():
        try:
            old = read_result(path)
        except ResultError:
            old = None
        if old is not None:
            same = replace(old, runs=(), pretraining=()) == replace(fresh, runs=(), pretraining=())
            for run in old.runs:
                place = (run.split, run.seed)
                if place in runs:
                    continue
                if same and run.code_sha256 == next(iter(runs.values())).code_sha256:
                    runs[place] = run
                else:
                    left_out += 1
    path.parent.mkdir(parents=True, exist_ok=True)
    for one in done:
        with replacing(path.parent / one.run.predictions.file) as file:
            file.write(one.content)
    write_result(out, record_of(row, [*runs.values()], cards))
    return path, left_out
