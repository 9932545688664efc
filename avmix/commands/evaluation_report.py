"""The report of an evaluation: the tables it prints, result.json, predictions, confusion matrix."""

import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from rich.table import Table

from avmix.config import EvalConfig
from avmix.data.clip_reader import is_audible
from avmix.data.manifest import Manifest
from avmix.evaluation.figures import draw_confusion
from avmix.evaluation.metrics import (
    EVAL_ROWS,
    AllScores,
    Scores,
    SeveralScores,
    class_accuracy,
    confusion_matrix,
    most_confused,
)
from avmix.system import strict_json
from avmix.system.atomic_files import replacing
from avmix.system.printing import console_of, echo_on, printable
from avmix.training.chance_level import HEADS, is_often_at_chance, likely_causes
from avmix.training.checkpoint import Checkpoint
from avmix.training.engine import Evaluation
from avmix.training.run_environment import environment

_MOST_CLASSES, _FEWER_CLASSES = 60, 20
"""Above the first number of classes, only the second is printed."""
_HEADINGS = {
    few: ("", "clips", "top-1 %", *([] if few else ["top-5 %"]), "mean class %", "NLL", "ECE")
    for few in (False, True)
}
"""Of the table, by whether there are fewer than 6 classes: top-5 would say nothing."""
_SEVERAL_HEADINGS = ("", "clips", "classes", "mAP %", "NLL")
"""Of the table where clips have several labels."""


def print_report(
    manifest: Manifest,
    found: Evaluation,
    scores: AllScores,
    num_views: int,
    state: Checkpoint,
) -> None:
    """Print the tables, what each clip that is missing lacks, and the heads at chance."""
    console = console_of()
    silent = sum(not is_audible(manifest.entries[row]) for row in found.predictions.row.tolist())
    table = Table(
        title=printable(
            f"{manifest.protocol}, {manifest.split}: {len(found.predictions.row)} clips "
            f"evaluated, {len(found.bad)} missing; {silent} without audio; {num_views} views"
        )
    )
    several, few = found.predictions.target is not None, len(manifest.classes) <= 5
    headings = _SEVERAL_HEADINGS if several else _HEADINGS[few]
    for heading in headings:
        table.add_column(heading, justify="left" if not heading else "right")
    marked = {
        name: n
        for name, n in (_at_chance(state) or {}).items()
        if is_often_at_chance(n, state.epoch)
    }
    for name, s in scores.items():
        mark = " *" if name in marked else ""
        table.add_row(name + mark, *_cells(s, headings))
    console.print(table)
    for head, name in zip(HEADS, EVAL_ROWS, strict=False):
        if name in marked:
            echo_on(
                console,
                f"* the {head} head was at chance in {marked[name]} of {state.epoch} epochs "
                "of training: its training loss was no better than guessing by class frequencies. "
                f"{likely_causes(head, state.config)}",
            )
    if not several:
        console.print(_class_table(manifest, found))
    if pairs := _confused(manifest, found):
        table = Table(title="most confused by the fused head")
        for heading in ("class", "taken for", "clips", "% of the class"):
            table.add_column(heading, justify="right" if heading[-1] in "s%" else "left")
        for pair in pairs:
            table.add_row(printable(pair["true"]), printable(pair["predicted"]),
                          str(pair["clips"]), f"{100 * pair['share']:.1f}")  # fmt: skip
        console.print(table)
    for b in found.bad:
        echo_on(console, f"missing: {b.path}: {b.reason}")


def write_report(
    out: Path,
    manifest: Manifest,
    found: Evaluation,
    scores: AllScores,
    config: EvalConfig,
    state: Checkpoint,
) -> None:
    """Write result.json, predictions.jsonl and confusion.png into the folder `out`."""
    out.mkdir(parents=True, exist_ok=True)
    predictions = found.predictions
    result = {
        "protocol": manifest.protocol,
        "split": manifest.split,
        "split_sha256": manifest.sha256,
        "num_evaluated": len(predictions.row),
        "num_missing": len(found.bad),
        "missing": [b._asdict() for b in found.bad],
        "num_views": config.num_views,
        "epochs_trained": state.epoch,
        "weights": "last" if config.raw_weights or state.average is None else "average",
        "at_chance": _at_chance(state),
        "scores": {name: s and asdict(s) for name, s in scores.items()},
        "per_class": _per_class(manifest, found),
        "most_confused": _confused(manifest, found),
        "environment": environment(),
    }
    with replacing(out / "result.json") as file:
        file.write(strict_json.dumps(result, indent=2).encode() + b"\n")
    with replacing(out / "predictions.jsonl") as file:
        for i, row in enumerate(predictions.row.tolist()):
            entry = manifest.entries[row]
            line = {
                "clip_id": entry.clip_id,
                **(
                    {"label": manifest.classes[int(predictions.label[i])]}
                    if predictions.target is None
                    else {"labels": entry.labels}
                ),
                "probability": {
                    name: [round(x, 6) for x in p[i].tolist()]
                    for name, p in predictions.probability.items()
                    if predictions.counted[name][i]
                },
            }
            file.write(strict_json.dumps(line).encode() + b"\n")
    if predictions.target is not None:
        echo_on(console_of(), f"wrote {out}/result.json, predictions.jsonl")
        return
    confusion = confusion_matrix(*predictions.of("fused"))
    top1 = 100 * confusion.diagonal().sum() / confusion.sum()
    title = f"{manifest.protocol} {manifest.split}: fused, top-1 {top1:.1f} %"
    draw_confusion(confusion, manifest.classes, title, out / "confusion.png")
    echo_on(console_of(), f"wrote {out}/result.json, predictions.jsonl, confusion.png")


def _at_chance(state: Checkpoint) -> dict[str, int | None] | None:
    """Epochs in which each head was at chance, by row of the table: None for a head that was not
    judged, or altogether where the checkpoint does not say."""
    return None if state.chance is None else dict(zip(EVAL_ROWS, state.chance.epochs, strict=False))


def _class_table(manifest: Manifest, found: Evaluation) -> Table:
    """Accuracy per class; of many classes, of those that the fused head knows least."""
    rows = [row for row in _per_class(manifest, found) if row["clips"]]
    title = "accuracy per class, %"
    if len(rows) > _MOST_CLASSES:
        rows = sorted(rows, key=lambda row: row["fused"])[:_FEWER_CLASSES]
        title += f"; the {_FEWER_CLASSES} lowest, the others are in result.json"
    by_class = Table(title=title)
    for heading in ("class", "clips", "fused", "video head", "audio head"):
        by_class.add_column(heading, justify="left" if heading == "class" else "right")
    for row in rows:
        by_class.add_row(printable(row["class"]), str(row["clips"]), *(
            "-" if row[name] is None else f"{100 * row[name]:.1f}"
            for name in ("fused", "video head", "audio head")
        ))  # fmt: skip
    return by_class


def _confused(manifest: Manifest, found: Evaluation) -> list[dict]:
    """The pairs of classes that the fused head takes for each other most often; none where clips
    have several labels."""
    if found.predictions.target is not None:
        return []
    confusion = confusion_matrix(*found.predictions.of("fused"))
    return [
        {"true": manifest.classes[pair.true], "predicted": manifest.classes[pair.predicted],
         "clips": pair.num_clips, "share": pair.share}
        for pair in most_confused(confusion)
    ]  # fmt: skip


def _cells(s: Scores | SeveralScores | None, headings: Sequence[str]) -> list[str]:
    """A line of the table with these headings, without its name."""
    if s is None:
        return ["0", *"-" * (len(headings) - 2)]
    if isinstance(s, SeveralScores):
        return [str(s.num_clips), str(s.num_classes), f"{100 * s.mean_ap:.1f}", f"{s.nll:.3f}"]
    top5 = [] if s.top5 is None else [f"{100 * s.top5:.1f}"]
    return [str(s.num_clips), f"{100 * s.top1:.1f}", *top5, f"{100 * s.mean_class:.1f}",
            f"{s.nll:.3f}", f"{s.ece:.3f}"]  # fmt: skip


def _per_class(manifest: Manifest, found: Evaluation) -> list[dict]:
    predictions = found.predictions
    if predictions.target is not None:
        positives = (predictions.target["fused"] > 0).sum(0).tolist()
        return [{"class": c, "clips": n} for c, n in zip(manifest.classes, positives, strict=True)]
    clips = predictions.label.bincount(minlength=len(manifest.classes)).tolist()
    rows: list[dict] = [
        {"class": c, "clips": n} for c, n in zip(manifest.classes, clips, strict=True)
    ]
    for name in predictions.probability:
        for row, accuracy in zip(rows, class_accuracy(*predictions.of(name)).tolist(), strict=True):
            row[name] = None if math.isnan(accuracy) else accuracy  # no clip has the modality
    return rows
