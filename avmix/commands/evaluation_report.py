"""The report of an evaluation: the tables it prints, result.json, figures.

All of it is computed from kept predictions: evaluating and reading them again give the same bytes.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from markupsafe import Markup
from rich.table import Table

from avmix.config import EvalConfig, TrainConfig, from_yaml
from avmix.evaluation import report_page
from avmix.evaluation.clip_shots import read_shots
from avmix.evaluation.clip_statistics import Answers
from avmix.evaluation.figure_columns import COLUMNS, PERCENT, UNITS
from avmix.evaluation.figures import draw_confusion
from avmix.evaluation.fusion_gain import MEANINGS
from avmix.evaluation.kept_predictions import KeptPredictions, Origin
from avmix.evaluation.metrics import (
    EVAL_ROWS,
    AllScores,
    class_accuracy,
    class_precision,
    confusion_matrix,
    most_confused,
)
from avmix.evaluation.most_wrong import most_wrong
from avmix.evaluation.prediction_file import NAME
from avmix.evaluation.reliability import draw_reliability, reliability
from avmix.evaluation.resampling import Figure
from avmix.evaluation.score_table import ScoreTable
from avmix.system import strict_json
from avmix.system.atomic_files import replacing
from avmix.system.printing import console_of, counted, echo_on, printable
from avmix.training.chance_level import HEADS, is_often_at_chance, likely_causes

_MOST_CLASSES, _FEWER_CLASSES = 60, 20
"""Above the first number of classes, only the second is printed."""
_SINGLE, _SEVERAL = (
    ("top1", "top5", "mean_class", "nll", "ece"),
    ("map", "top1", "exact", "f1", "nll"),
)
"""Columns of the table by the kind of labels; the first of them has its interval beside it."""


def print_report(kept: KeptPredictions, table: ScoreTable) -> None:
    """Print the tables, what each clip that is missing lacks, and the heads at chance."""
    console = console_of()
    printed = Table(title=title_of(kept))
    shown = _shown(kept)
    for heading in ("", "clips", *_headings(shown)):
        name = not heading
        whole = name or heading == "95 %"  # 80 letters are few: other headings are wrapped
        printed.add_column(heading, justify="left" if name else "right", no_wrap=whole)
    origin = kept.origin
    marked = {
        name: n
        for name, n in (_at_chance(origin) or {}).items()
        if is_often_at_chance(n, origin.epochs_trained)
    }
    for name, figures in table.rows.items():
        mark = " *" if name in marked else ""
        printed.add_row(name + mark, *_cells(figures, shown))
    console.print(printed)
    for head, name in zip(HEADS, EVAL_ROWS, strict=False):
        if name in marked:
            echo_on(
                console,
                f"* the {head} head was at chance in {marked[name]} of {origin.epochs_trained} "
                "epochs of training: its training loss was no better than guessing by class "
                f"frequencies. {likely_causes(head, from_yaml(TrainConfig, origin.config))}",
            )
    if table.fusion:
        console.print(_fusion_table(table.fusion))
    if any(f.num_resamples for f in (table.rows["fused"] or {}).values()):
        echo_on(console, _about_intervals(table))
    if kept.single:
        console.print(_class_table(kept))
    if pairs := _confused(kept):
        confused = Table(title="most confused by the fused head")
        for heading in ("class", "taken for", "clips", "% of the class"):
            confused.add_column(heading, justify="right" if heading[-1] in "s%" else "left")
        for pair in pairs:
            confused.add_row(printable(pair["true"]), printable(pair["predicted"]),
                             str(pair["clips"]), f"{100 * pair['share']:.1f}")  # fmt: skip
        console.print(confused)
    for b in kept.missing:
        echo_on(console, f"missing: {b.path}: {b.reason}")


def title_of(kept: KeptPredictions) -> str:
    """Heading of the table: what was evaluated."""
    silent = sum(not clip.audible for clip in kept.clips)
    return printable(
        f"{kept.protocol}, {kept.split}: {counted(len(kept.clips), 'clip')} "
        f"evaluated, {len(kept.missing)} missing; {silent} without audio; {_views(kept.origin)}"
    )


def write_report(
    out: Path,
    kept: KeptPredictions,
    scores: AllScores,
    table: ScoreTable,
    config: EvalConfig,
    beside: Path | None = None,
) -> dict[str, Any]:
    """Write result.json, figures and the page into the folder `out`; returns the content of
    result.json.

    `beside`: the folder of the predictions, where it is another one: what `write_page` shows.
    """
    out.mkdir(parents=True, exist_ok=True)
    result = result_of(kept, scores, table, config)
    with replacing(out / "result.json") as file:
        file.write(strict_json.dumps(result, indent=2).encode() + b"\n")
    written = ["result.json", *([NAME] if (out / NAME).exists() else [])]
    if kept.single:
        confusion = confusion_matrix(*kept.predictions().of("fused"))
        top1 = 100 * confusion.diagonal().sum() / confusion.sum()
        title = f"{kept.protocol} {kept.split}: fused, top-1 {top1:.1f} %"
        draw_confusion(confusion, kept.classes, title, out / "confusion.png")
        written.append("confusion.png")
    draw_reliability(_heads(kept), f"{kept.protocol} {kept.split}", out / "reliability.png")
    write_page(out, kept, result, beside or out)
    written += ["reliability.png", report_page.NAME]
    echo_on(console_of(), f"wrote {out}/{', '.join(written)}")
    return result


def result_of(
    kept: KeptPredictions, scores: AllScores, table: ScoreTable, config: EvalConfig
) -> dict[str, Any]:
    """The content of result.json."""
    return {
        **facts_of(kept),
        "scores": {name: s and asdict(s) for name, s in scores.items()},
        "intervals": {
            "resamples": config.resamples,
            "seed": config.seed,
            "rows": {name: s and as_json(s) for name, s in table.rows.items()},
        },
        "fusion": as_json(table.fusion),
        "alone": list(config.alone),
        "classes_without_clips": table.num_without_positive,
        "per_class": _per_class(kept),
        "most_confused": _confused(kept),
        "reliability": {
            row: reliability(answers).as_json() for row, answers in _heads(kept).items()
        },
        "most_wrong": [asdict(clip) for clip in most_wrong(kept)],
        "environment": kept.origin.environment,
    }


def facts_of(kept: KeptPredictions) -> dict[str, Any]:
    """What result.json says of what was evaluated."""
    origin = kept.origin
    return {
        "protocol": kept.protocol,
        "split": kept.split,
        "split_sha256": kept.split_sha256,
        "num_evaluated": len(kept.clips),
        "num_missing": len(kept.missing),
        "missing": [b._asdict() for b in kept.missing],
        **origin.views,
        "epochs_trained": origin.epochs_trained,
        "weights": origin.weights,
        "checkpoint_digest": origin.checkpoint,
        "at_chance": _at_chance(origin),
    }


def _heads(kept: KeptPredictions) -> dict[str, Answers]:
    """What each head says of the clips that have its modality, where there are any."""
    return {row: kept.answers(row, clips) for row in EVAL_ROWS[:3]
            if row in kept.probability and len(clips := kept.clips_of(row))}  # fmt: skip


def write_page(
    out: Path, kept: KeptPredictions, result: dict[str, Any], beside: Path | None = None
) -> None:
    """Write report.html into the folder `out`, with the frames and the robustness that the folder
    `beside` has of these predictions; None: `out`."""
    beside = beside or out
    confusion = confusion_matrix(*kept.predictions().of("fused")).numpy() if kept.single else None
    page = report_page.page_of(
        result, out, confusion=confusion, shots=read_shots(beside, kept),
        robustness=_robustness(beside / "robustness.json", kept),
    )  # fmt: skip
    with replacing(out / report_page.NAME) as file:
        file.write(page)


def _robustness(path: Path, kept: KeptPredictions) -> list[tuple[str, Markup]] | str:
    """Charts of robustness.json; why there are none; an empty text where there is no such file."""
    try:
        found = json.loads(path.read_bytes())
        own = (kept.split_sha256, kept.origin.checkpoint, kept.origin.weights)
        if own == tuple(found[key] for key in ("split_sha256", "checkpoint_digest", "weights")):
            return report_page.robustness_charts(found)
    except FileNotFoundError:
        return ""
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        return f"robustness.json cannot be read, and is not shown: {type(error).__name__}"
    return "robustness.json beside this page is of another split or checkpoint, and is not shown"


def as_json(figures: dict[str, Figure]) -> dict[str, dict[str, Any]]:
    """Figures as they stand in result.json."""
    return {name: asdict(figure) for name, figure in figures.items()}


def interval(figure: Figure, scale: tuple[int, int] = PERCENT) -> str:
    """Both ends of the interval, in words; `-` without one."""
    if figure.low is None or figure.high is None:
        return "-"
    factor, digits = scale
    return f"{factor * figure.low:.{digits}f} to {factor * figure.high:.{digits}f}"


def number(figure: Figure, scale: tuple[int, int]) -> str:
    """The value of a figure; `-` where it has none."""
    return "-" if figure.value is None else f"{scale[0] * figure.value:.{scale[1]}f}"


def _views(origin: Origin) -> str:
    """How clips were looked at, in words."""
    said = origin.views
    number = said.get("num_views")
    words = [counted(number, "view") if isinstance(number, int) else f"{number} views"]
    words += ["3 crops of each"] if said.get("crops") == "three" else []
    words += ["mirrored too"] if said.get("flip") else []
    words += ["logits averaged"] if said.get("average") == "logits" else []
    return ", ".join(words)


def _at_chance(origin: Origin) -> dict[str, int | None] | None:
    """Epochs in which each head was at chance, by row of the table: None for a head that was not
    judged, or altogether where the checkpoint does not say."""
    return None if origin.chance is None else dict(zip(EVAL_ROWS, origin.chance, strict=False))


def _shown(kept: KeptPredictions) -> Sequence[str]:
    """Columns of the table; below 6 classes top-5 would say nothing."""
    names = _SINGLE if kept.single else _SEVERAL
    return [name for name in names if name != "top5" or len(kept.classes) > 5]


def _headings(shown: Sequence[str]) -> list[str]:
    first, *others = (COLUMNS[name][0] for name in shown)
    return [first, "95 %", *others]


def _cells(figures: dict[str, Figure] | None, shown: Sequence[str]) -> list[str]:
    """A line of the table without its name."""
    if figures is None:
        return ["0", *"-" * (len(shown) + 1)]
    first, *others = (number(figures[name], COLUMNS[name][1]) for name in shown)
    main = figures[shown[0]]
    return [str(main.num_clips), first, _short_interval(main), *others]


def _short_interval(share: Figure) -> str:
    """Of a share, in %: the table has to fit into 80 letters."""
    if share.low is None or share.high is None or share.width is None:
        return "-"
    digits = 0 if share.width >= 0.1 else 1
    return f"{100 * share.low:.{digits}f}-{100 * share.high:.{digits}f}"


def _fusion_table(fusion: dict[str, Figure]) -> Table:
    clips = fusion["gain"].num_clips
    table = Table(title=f"what fusion is worth: {counted(clips, 'clip')} with both modalities")
    for heading in ("", "value", "95 %", "unit"):
        table.add_column(heading, justify="right" if heading in ("value", "95 %") else "left")
    for name, figure in fusion.items():
        meaning = MEANINGS[name]
        scale = UNITS[meaning.unit]
        sign = "+" if name.startswith("gain") and (figure.value or 0) > 0 else ""
        about = "" if figure.num_clips == clips else f" ({counted(figure.num_clips, 'clip')})"
        table.add_row(meaning.title + about, sign + number(figure, scale), interval(figure, scale),
                      meaning.unit)  # fmt: skip
    return table


def _about_intervals(table: ScoreTable) -> str:
    """What the intervals are over, and how wide they would be if clips were independent."""
    top1 = (table.rows["fused"] or {})["top1"]
    said = f"intervals: 95 %, bootstrap over {counted(top1.num_sources, 'source')}"
    wide, narrow = top1.width, top1.naive_width
    if wide and narrow and top1.num_sources != top1.num_clips:
        said += (
            f"; as if the {top1.num_clips} clips were independent, that of fused top-1 would be "
            f"{100 * narrow:.1f} points wide and not {100 * wide:.1f}"
        )
    return said


def _class_table(kept: KeptPredictions) -> Table:
    """Accuracy per class; of many classes, of those that the fused head knows least."""
    rows = [row for row in _per_class(kept) if row["clips"]]
    title = "accuracy per class, %"
    if len(rows) > _MOST_CLASSES:
        rows = sorted(rows, key=lambda row: row["fused"])[:_FEWER_CLASSES]
        title += f"; the {_FEWER_CLASSES} lowest, the others are in result.json"
    by_class = Table(title=title)
    for heading in ("class", "clips", "fused", "video head", "audio head"):
        by_class.add_column(heading, justify="left" if heading == "class" else "right")
    for row in rows:
        by_class.add_row(printable(row["class"]), str(row["clips"]), *(
            "-" if row.get(name) is None else f"{100 * row[name]:.1f}"
            for name in ("fused", "video head", "audio head")
        ))  # fmt: skip
    return by_class


def _confused(kept: KeptPredictions) -> list[dict]:
    """The pairs of classes that the fused head takes for each other most often; none where clips
    have several labels."""
    if not kept.single:
        return []
    confusion = confusion_matrix(*kept.predictions().of("fused"))
    return [
        {"true": kept.classes[pair.true], "predicted": kept.classes[pair.predicted],
         "clips": pair.num_clips, "share": pair.share}
        for pair in most_confused(confusion)
    ]  # fmt: skip


def _per_class(kept: KeptPredictions) -> list[dict]:
    """Number of clips of each class and, in each row of the table, accuracy, or the average
    precision where clips have several labels; None for a class that has none."""
    predictions, classes = kept.predictions(), kept.classes
    if (target := predictions.target) is not None:
        positives = (target["fused"] > 0.5).sum(0).tolist()
        rows: list[dict] = [
            {"class": c, "clips": n} for c, n in zip(classes, positives, strict=True)
        ]
        for name, p in predictions.probability.items():
            here = predictions.counted[name]
            for row, found in zip(rows, class_precision(p[here], target[name][here]), strict=True):
                row[name] = found
        return rows
    clips = predictions.label.bincount(minlength=len(kept.classes)).tolist()
    rows = [{"class": c, "clips": n} for c, n in zip(classes, clips, strict=True)]
    for name in predictions.probability:
        for row, accuracy in zip(rows, class_accuracy(*predictions.of(name)).tolist(), strict=True):
            row[name] = None if math.isnan(accuracy) else accuracy  # no clip has the modality
    return rows
