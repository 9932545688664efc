"""Results in the formats of others: JSON as of mteb, `.eval_results` of the Hub, a model card.

Figures are those of the predictions of the admitted record, never copied from words.
"""

from pathlib import Path
from typing import Any, Literal

import numpy as np
import yaml

from avmix.evaluation.clip_statistics import statistics
from avmix.evaluation.kept_predictions import KeptPredictions
from avmix.leaderboard.admission import Admitted, admit
from avmix.leaderboard.card import PROTOCOLS, Card, CardError
from avmix.leaderboard.table_text import heading, markdown, number, text_of
from avmix.leaderboard.tables import table_of
from avmix.system import strict_json
from avmix.system.atomic_files import replace_text

Format = Literal["mteb", "eval-results", "card"]


def export(
    card: Card,
    *,
    variant: str,
    method: str,
    results: Path,
    to: Path,
    format: Format,
    name: str,
    cards: Path = PROTOCOLS,
) -> Path:
    """Write a row in the format of others into the folder `to`; returns the file. `name`: of the
    model. Raises `ResultError` where there is no such row, or it is refused, and `CardError` where
    the format needs what the card does not say."""
    found = admit(results / card.id / variant / f"{method}.json", cards)
    stem = f"{card.id}/{variant}/{method}".replace("/", "_")
    if format == "mteb":
        path, text = to / f"{_task(card)}.json", strict_json.dumps(mteb_json(found), indent=2)
    elif format == "eval-results":
        path = to / ".eval_results" / f"{stem}.yaml"
        text = yaml.safe_dump(eval_results(found, cards), sort_keys=False, allow_unicode=True)
    else:
        path, text = to / f"{stem}.md", model_card(found, name, cards)
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_text(path, text.rstrip("\n") + "\n")
    return path


def _task(card: Card) -> str:
    return card.dataset.task or card.id.replace("/", "_")


def mteb_json(found: Admitted) -> dict[str, Any]:
    """As `mteb.TaskResult` 2.26 reads it: every run is an experiment, its figures those of
    scikit-learn; `dataset_revision` is the SHA-256 of the test split, and `mteb_version` is null:
    mteb did not compute it."""
    result = found.result
    scores = [_mteb_scores(kept) for kept in found.kept]
    mean = {key: float(np.mean([one[key] for one in scores])) for key in scores[0]}
    main = {"top1": "accuracy", "f1": "f1", "map": "map"}.get(result.metric, result.metric)
    if main not in mean:
        raise CardError(f"{result.name}: mteb has no figure {result.metric!r}")
    seconds = sum(run.train_seconds + run.eval_seconds for run in result.runs)
    hashes = sorted({run.split_sha256["test"] for run in result.runs})
    return {
        "dataset_revision": "+".join(hashes),
        "task_name": _task(found.card),
        "mteb_version": None,
        "scores": {
            found.card.dataset.evaluated: [
                {"scores_per_experiment": scores, **mean, "main_score": mean[main],
                 "hf_subset": "default", "languages": ["eng-Latn"]}
            ]
        },
        "evaluation_time": round(seconds, 2),
        "kg_co2_emissions": None,
    }  # fmt: skip


def _mteb_scores(kept: KeptPredictions) -> dict[str, float]:
    """Accuracy and macro F1, and map where clips have several labels."""
    answers = kept.answers("fused", kept.clips_of("fused"))
    figures, once = statistics(answers), np.ones((1, len(answers.probability)))
    names = {"accuracy": "top1", "f1": "f1"} if answers.single else {"map": "map", "f1": "f1"}
    return {key: float(figures[name].of(once)[0]) for key, name in names.items()}


def eval_results(found: Admitted, cards: Path = PROTOCOLS) -> list[dict[str, Any]]:
    """As the Hub reads them from `.eval_results/*.yaml` of the repository of a model."""
    card, result = found.card, found.result
    if not card.dataset.hub:
        raise CardError(f"{card.id}: its dataset has no id on the Hub (dataset.hub of the card)")
    value = table_of([found], cards).rows[0].figures[f"fused.{result.metric}"].value
    seeds = len({run.seed for run in result.runs})
    notes = (
        f"avmix leaderboard, {result.name}, version {result.protocol_version}: {result.metric}, "
        f"mean of {len(result.runs)} runs ({seeds} seeds); selection: {result.selection}"
    )
    return [
        {
            "dataset": {"id": card.dataset.hub, "task_id": _task(card)},
            "value": round(value, 6),
            "date": max(run.started for run in result.runs)[:10],
            "source": {"name": "avmix leaderboard"},
            "notes": notes,
        }
    ]


def model_card(found: Admitted, name: str, cards: Path = PROTOCOLS) -> str:
    """A card of the networks of a row, with the header of the Hub: protocol, figures, what they
    started from, what is wrong with the protocol."""
    card, result = found.card, found.result
    table = table_of([found], cards)
    row = table.rows[0]
    main = row.figures[table.metric]
    metric = {"top1": "accuracy"}.get(result.metric, result.metric)
    header = {
        "library_name": "avmix",
        "pipeline_tag": "video-classification",
        "tags": ["audio-visual", "action-recognition"],
        "model-index": [{
            "name": name,
            "results": [{
                "task": {"type": "video-classification"},
                "dataset": {"type": card.dataset.hub or card.dataset.name,
                            "name": f"{card.dataset.name}, {card.id}",
                            "split": card.dataset.evaluated},
                "metrics": [{"type": metric, "name": f"{heading(table.metric)[0]}, {result.method}",
                             "value": round(main.value, 4)}],
            }],
        }],
    }  # fmt: skip
    run = result.runs[0]
    used = [f"`{markdown(one.name)}` ({one.modality}), trained on {markdown(one.trained_on)}; "
            f"overlap with the test split: {one.overlap.found} ({markdown(one.overlap.how)})"
            for one in result.pretraining] or ["nothing: trained from scratch"]  # fmt: skip
    hours = sum(one.energy.watt_hours for one in result.runs)
    lines = [
        f"# {markdown(name)}",
        f"Row `{result.name}` of the leaderboards of avmix: {markdown(card.title)}. "
        f"{heading(table.metric)[0]} {number(main, heading(table.metric)[1])}, "
        f"{len(result.runs)} runs.",
        "## Protocol", markdown(card.about), f"Source: {markdown(card.source)}. "
        f"Selection: {result.selection}. Code: avmix {run.avmix}, commit `{run.commit or '-'}`"
        f"{' with uncommitted changes' if any(r.dirty for r in result.runs) else ''}.",
        "## Results", text_of([table], "markdown"),
        "## Pre-training", *(f"* {one}" for one in used),
        "## Limits", *(f"* {markdown(one)}" for one in (*result.leaks, *result.defects)),
        f"Energy of all runs: {hours:.2f} Wh, an {run.energy.formula}.",
    ]  # fmt: skip
    front = yaml.safe_dump(header, sort_keys=False, allow_unicode=True, width=100)
    return f"---\n{front}---\n\n" + "\n\n".join(lines)
