"""The report of an evaluation with label sets: a table of all sets together, and in a folder for
each set all that is written of clips of one label.
"""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.table import Table

from avmix.commands.evaluation_report import as_json, facts_of, interval, title_of, write_report
from avmix.config import EvalConfig
from avmix.evaluation.figure_columns import PERCENT
from avmix.evaluation.kept_predictions import KeptPredictions
from avmix.evaluation.label_set_statistics import task_names
from avmix.evaluation.metrics import AllScores, all_scores
from avmix.evaluation.resampling import Figure
from avmix.evaluation.score_table import joint_table, score_table
from avmix.system import strict_json
from avmix.system.atomic_files import replacing
from avmix.system.printing import console_of, echo_on

Rows = dict[str, dict[str, Figure] | None]


def report_sets(
    out: Path,
    kept: KeptPredictions,
    config: EvalConfig,
    alone: Sequence[KeptPredictions],
    beside: Path | None = None,
) -> tuple[AllScores, dict[str, Any]]:
    """Write `out`/result.json of all sets, and a folder `out`/SET for each; print the table.

    Returns the metrics of each row and the content of result.json. `alone` and `beside`: as of
    `write_report`, of all sets.
    """
    scores = all_scores(kept.predictions())
    rows = joint_table(kept, num_resamples=config.resamples, seed=config.seed)
    out.mkdir(parents=True, exist_ok=True)
    result = {
        **facts_of(kept),
        "label_sets": {one.name: one.num_classes for one in kept.sets},
        "scores": {name: s and asdict(s) for name, s in scores.items()},
        "intervals": {
            "resamples": config.resamples,
            "seed": config.seed,
            "rows": {name: s and as_json(s) for name, s in rows.items()},
        },
        "alone": list(config.alone),
        "environment": kept.origin.environment,
    }
    with replacing(out / "result.json") as file:
        file.write(strict_json.dumps(result, indent=2).encode() + b"\n")
    for name in kept.set_names:
        one = kept.of_set(name)
        table = score_table(
            one,
            num_resamples=config.resamples,
            seed=config.seed,
            alone=[other.of_set(name) for other in alone],
        )
        folder = None if beside is None else beside / name
        write_report(out / name, one, all_scores(one.predictions()), table, config, folder)
    echo_on(console_of(), f"wrote {out}/result.json")
    _print(kept, rows)
    return scores, result


def _print(kept: KeptPredictions, rows: Rows) -> None:
    console, tasks = console_of(), task_names(kept.set_names)
    whole = Table(title=title_of(kept))
    whole.add_column("", no_wrap=True)
    whole.add_column("clips", justify="right")
    for task in tasks:
        for which in ("top-1", "top-5"):
            whole.add_column(f"{task} {which} %", justify="right")
    for name, figures in rows.items():
        if figures is None:
            whole.add_row(name, "0", *"-" * (2 * len(tasks)))
            continue
        number = figures[f"{tasks[0]}_top1"].num_clips
        whole.add_row(name, str(number), *(
            _percent(figures[f"{task}_{which}"]) for task in tasks for which in ("top1", "top5")
        ))  # fmt: skip
    console.print(whole)
    fused = rows["fused"]
    assert fused is not None
    parts = [p for p in ("tail", *kept.subsets) if f"{tasks[0]}_{p}" in fused]
    table = Table(title="fused, top-1 %")
    for heading in ("", "all clips", "95 %"):
        table.add_column(heading, justify="right" if heading else "left")
    for part in parts:
        table.add_column(part, justify="right")
        table.add_column("95 %", justify="right")
    for task in tasks:
        figures = [fused[f"{task}_{part}"] for part in ("top1", *parts)]
        table.add_row(task, *(text for f in figures for text in (_percent(f), interval(f))))
    console.print(table)
    for b in kept.missing:
        echo_on(console, f"missing: {b.path}: {b.reason}")


def _percent(figure: Figure) -> str:
    factor, digits = PERCENT
    return "-" if figure.value is None else f"{factor * figure.value:.{digits}f}"
