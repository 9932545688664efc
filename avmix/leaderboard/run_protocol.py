"""`avmix leaderboard run`: all cells of a protocol that are not done yet, and their records."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from avmix.data.kept_features import read_header
from avmix.leaderboard.card import Card, CardError
from avmix.leaderboard.cell_pool import Ended, Job, run_here, run_there
from avmix.leaderboard.cell_result import Finished, Outcome, keep, kept
from avmix.leaderboard.clips_at_hand import Clips, Places, clips_of, make_dataset
from avmix.leaderboard.code_hash import code_sha256
from avmix.leaderboard.collect import Row, add_runs, card_sha256
from avmix.leaderboard.plan import (
    Cell,
    cell_options,
    cells_of,
    config_of,
    evaluation_of,
    key_of,
    needs_extra,
    selection_of,
    with_extra,
)
from avmix.leaderboard.probe_cell import ProbeJob
from avmix.leaderboard.result import Trial
from avmix.leaderboard.strict_record import Option
from avmix.leaderboard.train_cell import TrainJob
from avmix.system.printing import echo


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What is to be run, and where."""

    card: Card
    cards: Path
    """Folder of the cards."""
    variant: str
    methods: tuple[str, ...] = ()
    seeds: tuple[int, ...] = ()
    splits: tuple[str, ...] = ()
    places: Places
    out: Path
    """Folder of results."""
    at_once: int = 1
    ray: str = ""


@dataclass(kw_only=True)
class Counts:
    """What became of the cells."""

    done: int = 0
    before: int = 0
    """Done by an earlier run."""
    failures: list[str] = field(default_factory=list)
    records: set[Path] = field(default_factory=set)


def run_protocol(asked: Asked) -> Counts:
    """Run what is missing; a record is written again after every cell. Raises ValueError
    (`CardError`, `ManifestError`) where nothing can be run at all."""
    card = asked.card
    if card.cannot_run and not asked.places.features:
        raise CardError(f"{card.id} cannot be run here: {card.cannot_run}")
    cells = cells_of(card, asked.variant, asked.methods, asked.seeds, asked.splits)
    if card.kind == "train":
        for cell in cells:
            _check(card, cell)  # before hours of work
    make_dataset(card, asked.places)
    extra = card.kind == "train" and any(needs_extra(cell_options(card, cell)) for cell in cells)
    clips = {split: clips_of(card, split, asked.places, extra=extra)
             for split in dict.fromkeys(cell.split for cell in cells)}  # fmt: skip
    counts, trials = Counts(), dict[tuple[str, str], list[tuple[int, float]]]()
    for cell, outcome in _outcomes(asked, [c for c in cells if c.candidate is not None],
                                   clips, {}, counts):  # fmt: skip
        assert cell.candidate is not None
        assert not isinstance(outcome, list)
        trials.setdefault((cell.method, cell.split), []).append((cell.candidate, outcome))
    judged = [c for c in cells if c.candidate is None]
    tuned = {key: max(found, key=lambda one: (one[1], -one[0]))[0]
             for key, found in trials.items()
             if len(found) == len(card.methods[key[0]].grid)}  # fmt: skip
    for cell in list(judged):
        untuned = card.kind == "train" and card.methods[cell.method].grid
        if untuned and (cell.method, cell.split) not in tuned:
            judged.remove(cell)
            counts.failures.append(f"{cell.name}: not run: a candidate of its tuning failed")
    ids = frozenset(one for found in clips.values() for one in found.test_ids)
    path = asked.cards / f"{card.id}.yaml"
    for _, outcome in _outcomes(asked, judged, clips, tuned, counts):
        assert isinstance(outcome, list)
        for one in outcome:
            row = Row(card=card, card_sha256=card_sha256(path), variant=asked.variant,
                      method=one.method, test_ids=ids,
                      trials=_trials(card, one.method, trials, tuned))  # fmt: skip
            _record(asked, row, one, counts)
    return counts


def _check(card: Card, cell: Cell) -> None:
    options = cell_options(card, cell)
    if card.features:
        options["data.features"] = "features"
    config_of(options, cell.name)


def _record(asked: Asked, row: Row, done: Finished, counts: Counts) -> None:
    if asked.methods and row.card.probe and done.method not in asked.methods:
        return
    written, left_out = add_runs(row, [done], asked.out, asked.cards)
    counts.records.add(written)
    if left_out:
        echo(f"{written}: {left_out} earlier run(s) are of other code, options or card: left out")


def _outcomes(
    asked: Asked,
    cells: Sequence[Cell],
    clips: dict[str, Clips],
    tuned: dict[tuple[str, str], int],
    counts: Counts,
) -> Iterator[tuple[Cell, Outcome]]:
    """The outcome of each cell that has one: of an earlier run, or of this one."""
    waiting: list[Job] = []
    folders = {cell.name: asked.places.work / "cells" / cell.name for cell in cells}
    for cell in cells:
        job = _job(asked, cell, clips[cell.split], tuned.get((cell.method, cell.split)))
        outcome = kept(folders[cell.name], job.key)
        if outcome is None:
            waiting.append(job)
            continue
        counts.before += 1
        yield cell, outcome
    if not waiting:
        return
    echo(f"{asked.card.id}, {asked.variant}: {len(waiting)} of {len(cells)} cells to run")
    ended = (
        run_there(waiting, asked.ray, asked.at_once)
        if asked.ray
        else run_here(waiting, folders, asked.at_once)
    )
    for number, one in enumerate(ended, 1):
        said = _said(asked, one, folders, counts)
        echo(f"[{number}/{len(waiting)}] {said}", error=one.outcome is None)
        if one.outcome is not None:
            yield one.job.cell, one.outcome


def _said(asked: Asked, one: Ended, folders: dict[str, Path], counts: Counts) -> str:
    """Keep an outcome, and tell of it."""
    cell = one.job.cell
    if one.outcome is None:
        counts.failures.append(one.why)
        return f"failed: {one.why}"
    folder = folders[cell.name]
    folder.mkdir(parents=True, exist_ok=True)
    keep(folder, one.job.key, one.outcome)
    counts.done += 1
    metric = asked.card.metric
    if not isinstance(one.outcome, list):
        return f"{cell.name}: {metric} {one.outcome:.4f} held out"
    shown = [f"{f.method} {f.run.figures.get(f'fused.{metric}', float('nan')):.4f}"
             for f in one.outcome]  # fmt: skip
    seconds = one.outcome[0].run.train_seconds + one.outcome[0].run.eval_seconds
    return f"{cell.name}: {metric} {', '.join(shown)} ({seconds:.0f} s)"


def _job(asked: Asked, cell: Cell, clips: Clips, candidate: int | None) -> Job:
    card, rule = asked.card, selection_of(asked.card, cell.variant)
    hashes = {"split_sha256": clips.split_sha256, "media_sha256": clips.media_sha256}
    common = {"code": code_sha256(), "version": card.version, "hashes": hashes}
    if card.probe is not None:
        heads = {name: str(method.head) for name, method in card.methods.items()}
        features: Sequence[object] = [card.features, *_identities(clips)]
        key = key_of(cell, **common, heads=heads, features=features,
                     probe=[card.probe.shots, card.probe.by, card.probe.regression])  # fmt: skip
        return ProbeJob(cell=cell, key=key, probe=card.probe, heads=heads, **hashes,
                        folders=tuple(map(str, clips.folders)),
                        evaluated=card.dataset.evaluated)  # fmt: skip
    grid = card.methods[cell.method].grid
    chosen: dict[str, Option] = {} if candidate is None else grid[candidate]
    options, evaluation = cell_options(card, cell, chosen), evaluation_of(card, cell.variant)
    key = key_of(cell, **common, options=options, evaluation=evaluation, selection=rule,
                 features=[card.features, *_identities(clips)])  # fmt: skip
    return TrainJob(
        cell=cell, key=key, options={**with_extra(options, clips.extra), **clips.options},
        evaluation=evaluation, selection=rule, metric=card.metric,
        evaluated=card.dataset.evaluated, **hashes, threads=asked.places.threads,
    )  # fmt: skip


def _identities(clips: Clips) -> list[str]:
    """Of the features of these clips, which other encoders would change."""

    headers = [read_header(folder) for folder in clips.folders]
    return [header.identity_text for header in headers if header is not None]


def _trials(
    card: Card,
    method: str,
    trials: dict[tuple[str, str], list[tuple[int, float]]],
    tuned: dict[tuple[str, str], int],
) -> tuple[Trial, ...]:
    return tuple(
        Trial(options=card.methods[method].grid[number], split=split, value=value,
              chosen=tuned.get((name, split)) == number)
        for (name, split), found in sorted(trials.items()) if name == method
        for number, value in sorted(found)
    )  # fmt: skip
