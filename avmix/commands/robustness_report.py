"""The tables that `avmix evaluate --robustness` prints."""

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from avmix.evaluation.robustness_metrics import HEADS
from avmix.system.printing import console_of, counted, echo_on, printable


def print_robustness(report: Mapping[str, Any]) -> None:
    """Print a table of all curves, and one for each other row."""
    console, rows = console_of(tables=True), report["rows"]
    curves = [row for row in rows.values() if row["kind"] == "curve"]
    if curves:
        console.print(_curves(report, curves))
    for row in rows.values():
        match row["kind"]:
            case "conflict":
                _print_conflict(console, row)
            case "sweep":
                _print_sweep(console, row)
            case "retrieval":
                _print_retrieval(console, row)
    echo_on(console, f"unseen combinations: {report['combinations']}")
    for name, row in rows.items():
        for bad in row["missing"]:
            echo_on(console, f"missing, {name}: {bad['path']}: {bad['reason']}")


def _curves(report: Mapping[str, Any], curves: list[Mapping[str, Any]]) -> Table:
    table = Table(
        title=printable(
            f"robustness of {report['protocol']}, {report['split']}: top-1 % with 95 % intervals "
            f"over sources; chance {100 * report['chance']:.1f} %"
        )
    )
    for heading in ("", "level", *HEADS, "NLL", "ECE"):
        table.add_column(heading, justify="left" if not heading else "right", no_wrap=True)
    for row in curves:
        for place, level in enumerate(row["levels"]):
            found = {head: row["heads"][head][place] for head in HEADS}
            fused = found["fused"]
            table.add_row(
                "" if place else row["title"],
                f"{level:g} {row['unit']}" if row["unit"] else "",
                *(_percent(found[head] and found[head]["top1"]) for head in HEADS),
                *("-" if fused is None else f"{fused[key]['value']:.3f}" for key in ("nll", "ece")),
                end_section=place == len(row["levels"]) - 1,
            )
    return table


def _print_conflict(console: Console, row: Mapping[str, Any]) -> None:
    if not row["num_clips"]:
        echo_on(console, f"{row['title']}: no clip has another one of another class and source")
        return
    table = Table(
        title=f"{row['title']}: what the fused head names, % of {counted(row['num_clips'], 'clip')}"
    )
    for heading in ("", "class of the video", "class of the audio", "neither"):
        table.add_column(heading, justify="left" if not heading else "right")
    table.add_row("all", *(_percent(row[key]) for key in ("video", "audio", "neither")))
    of_both = [_percent(row[f"{key}_of_both_right"]) for key in ("video", "audio")]
    table.add_row(f"both heads right ({_percent(row['both_right'])})", *of_both, "")
    console.print(table)


def _print_sweep(console: Console, row: Mapping[str, Any]) -> None:
    if not row.get("num_pairs"):
        echo_on(console, f"{row['title']}: no pair of clips with audio")
        return
    table = Table(
        title=f"{row['title']}: mean over lambda 0.1 to 0.9, {counted(row['num_pairs'], 'pair')}"
    )
    for heading in ("", *HEADS):
        table.add_column(heading, justify="left" if not heading else "right")
    for key, name in (("bend", "distance from the line between both predictions"),
                      ("off_label", "distance from the mixed label")):  # fmt: skip
        table.add_row(name, *(_share(row[key][head]["mean"]) for head in HEADS))
    console.print(table)
    echo_on(console, f"video head and audio head name the same class in "
            f"{_percent(row['agree']['mean'])} % of the mixes, prefer the same clip in "
            f"{_percent(row['same_side']['mean'])} %")  # fmt: skip


def _print_retrieval(console: Console, row: Mapping[str, Any]) -> None:
    if not row["num_clips"]:
        echo_on(console, f"{row['title']}: no clip has both modalities")
        return
    table = Table(title=f"{row['title']}, {counted(row['num_clips'], 'clip')}")
    for heading in ("", "R@1 %", "R@5 %", "R@10 %", "median rank"):
        table.add_column(heading, justify="left" if not heading else "right")
    for kind in ("by_clip", "by_class"):
        for direction in ("video_to_audio", "audio_to_video"):
            found = row[direction][kind]
            *recalls, median = found.values()
            name = f"{direction.replace('_', ' ')}, {kind.replace('_', ' ')}"
            rank = "-" if median["value"] is None else f"{median['value']:g}"
            table.add_row(name, *map(_percent, recalls), rank)
        chance = [f"{100 * value:.1f}" for value in row["chance"][kind].values()]
        table.add_row(f"guessing, {kind.replace('_', ' ')}", *chance, "", end_section=True)
    console.print(table)


def _percent(found: Mapping[str, float | None] | None) -> str:
    """`value [low, high]`, of a share; the limits rounded to 1 %."""
    return _with_interval(found, 100.0, ".1f", ".0f")


def _share(found: Mapping[str, float | None] | None) -> str:
    return _with_interval(found, 1.0, ".3f", ".3f")


def _with_interval(
    found: Mapping[str, float | None] | None, scale: float, form: str, limits: str
) -> str:
    if found is None or found["value"] is None:
        return "-"
    text = f"{scale * found['value']:{form}}"
    low, high = found["low"], found["high"]
    if low is None or high is None:
        return text
    return f"{text} [{scale * low:{limits}}, {scale * high:{limits}}]"
