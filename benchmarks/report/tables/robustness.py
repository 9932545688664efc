"""Table and figure of benchmarks/robustness.py: each row of the robustness table by method."""

from collections.abc import Sequence
from typing import Any

from report.curves import LevelCurves, LevelLine, LevelPanel
from report.tables.cells import numbers, span, table


def _by_variant(result: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for run in result["trained"]:
        found.setdefault(run["variant"], []).append(run)
    return found


def robustness_table(result: dict[str, Any]) -> str:
    """A line for each row at its severest level, and for the other measures; then what it is of."""
    variants = _by_variant(result)
    first = result["trained"][0]["rows"]
    lines = []
    for name, row in first.items():
        if row["kind"] == "curve":
            for place in _shown(row):
                level = f", {row['levels'][place]:g} {row['unit']}" if row["unit"] else ""
                lines.append([f"{row['title']}{level}: fused top-1 %", *(
                    _cell([_of(run, name, place) for run in runs], 100) for runs in
                    variants.values()
                )])  # fmt: skip
        else:
            lines += [
                [f"{row['title']}: {said}",
                 *(_cell([_figure(run, name, *path) for run in runs], scale)
                   for runs in variants.values())]
                for said, path, scale in _MEASURES.get(name, ())
            ]  # fmt: skip
    return "\n".join([*table(["", *variants], lines), "", _about(result), ""])


_MEASURES: dict[str, Sequence[tuple[str, tuple[str, ...], float]]] = {
    "conflict": (
        ("class of the video wins, %", ("video",), 100),
        ("class of the audio wins, %", ("audio",), 100),
        ("neither, %", ("neither",), 100),
    ),
    "lambda_sweep": (
        ("distance from the line", ("bend", "fused", "mean"), 1),
        ("distance from the mixed label", ("off_label", "fused", "mean"), 1),
        ("both heads prefer the same clip, %", ("same_side", "mean"), 100),
    ),
    "retrieval": (
        ("R@1 of the class, video to audio, %", ("video_to_audio", "by_class", "recall_at_1"), 100),
        ("R@1 of the class, audio to video, %", ("audio_to_video", "by_class", "recall_at_1"), 100),
    ),
}
"""What is shown of rows without curves: name, where it is, and by what it is multiplied."""


def _shown(row: dict[str, Any]) -> list[int]:
    """Levels in the table: the middle one and the last; of a shift both ends."""
    last = len(row["levels"]) - 1
    return sorted({0 if row["levels"][0] < 0 else last // 2, last})


def _of(run: dict[str, Any], name: str, place: int, head: str = "fused") -> float | None:
    row = run["rows"].get(name)
    return None if row is None else row["heads"][head]["top1"][place]


def _figure(run: dict[str, Any], name: str, *path: str) -> float | None:
    found: Any = run["rows"].get(name, {}).get("figures", {})
    for key in path:
        found = found.get(key) if isinstance(found, dict) else None
    return found


def _cell(values: Sequence[float | None], scale: float) -> str:
    """Mean over seeds, and the least and the most."""
    known = [scale * value for value in values if value is not None]
    if not known:
        return "-"
    digits = 1 if scale == 100 else 3
    mean = f"{sum(known) / len(known):.{digits}f}"
    if len(known) == 1:
        return mean
    return f"{mean} ({min(known):.{digits}f} to {max(known):.{digits}f})"


def _about(result: dict[str, Any]) -> str:
    runs = result["trained"]
    seeds = numbers([run["seed"] for run in runs])
    return (
        f"`{runs[0]['protocol']}`, {runs[0]['split']} split, {runs[0]['num_evaluated']} clips, "
        f"{result['num_views']} view; `{result['config']}` with each `mix.method`, seeds {seeds}: "
        "mean over seeds (least to most). The file has every level, every head, NLL and ECE, and "
        "of each run the 95 % interval over sources. "
        f"{span([run['train_minutes'] for run in runs], 1)} minutes of training per run, "
        f"{span([run['eval_minutes'] for run in runs], 1)} of evaluation; {result['hardware']}."
        f"{_trained_before(runs)}"
    )


def _trained_before(runs: list[dict[str, Any]]) -> str:
    """Which methods are those of runs that were there, and of which code."""
    found = {run["variant"]: run["trained_at"] for run in runs if "trained_at" in run}
    if not found:
        return ""
    said = ", ".join(f"{variant} at commit {commit[:7]}" for variant, commit in found.items())
    return f" Networks of published tables were evaluated, not trained again: {said}."


def curves(result: dict[str, Any]) -> LevelCurves:
    """The figure: the fused head of each method over the levels of each row."""
    variants = _by_variant(result)
    panels = []
    for name, row in result["trained"][0]["rows"].items():
        if row["kind"] != "curve" or len(row["levels"]) < 2:
            continue
        lines = tuple(
            LevelLine(group=n, values=tuple(
                tuple(value for run in runs if (value := _of(run, name, place)) is not None)
                for place in range(len(row["levels"]))
            ))
            for n, runs in enumerate(variants.values())
        )  # fmt: skip
        panels.append(LevelPanel(title=row["title"], unit=row["unit"], levels=tuple(row["levels"]),
                                 lines=lines))  # fmt: skip
    return LevelCurves(groups=tuple(variants), panels=tuple(panels),
                       chance=result["trained"][0]["chance"])  # fmt: skip
