"""The figure of the robustness table: a panel for each row, a line for each head."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import nan
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from avmix.evaluation.figures import INK, MIXED, OWN, PARTNER
from avmix.evaluation.robustness_metrics import HEADS, LAMBDAS
from avmix.system.printing import drawable, shortened

_COLOURS = {"fused": MIXED, "video": OWN, "audio": PARTNER}
_MARKS = {"fused": "o", "video": "s", "audio": "^"}
_COLUMNS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class CurveLine:
    """Values over the levels of a panel, with intervals; None: there is none."""

    name: str
    values: Sequence[float | None]
    low: Sequence[float | None]
    high: Sequence[float | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class CurvePanel:
    """One row of the table."""

    title: str
    x: str
    """What the levels are, with the unit."""
    y: str
    levels: Sequence[float]
    """In the order of the axis; evenly spaced, whatever they are."""
    lines: Sequence[CurveLine]
    clean: Mapping[str, float]
    """Of each line, without corruption: a dotted line of its colour."""
    chance: float | None
    """A dashed line."""


def draw_robustness(report: Mapping[str, Any], out: Path) -> None:
    """Draw the rows of robustness.json that have a curve; writes a PNG, or nothing where there is
    none."""
    panels = panels_of(report)
    if panels:
        title = f"{report['protocol']} {report['split']}: robustness, {report['clips']} clips"
        draw_panels(panels, title, out, _COLOURS)


def panels_of(report: Mapping[str, Any]) -> list[CurvePanel]:
    """The panels of a report: curves with levels, and the sweep."""
    rows, panels = report["rows"], []
    clean = rows.get("clean")
    of_clean = {head: 100 * clean["heads"][head][0]["top1"]["value"] for head in HEADS
                if clean and clean["heads"][head][0]}  # fmt: skip
    for row in rows.values():
        if row["kind"] == "curve" and len(row["levels"]) > 1:
            lines = [
                _line(head, [level and level["top1"] for level in row["heads"][head]], 100.0)
                for head in HEADS
            ]
            panels.append(
                CurvePanel(title=row["title"], x=row["unit"], y="top-1 %", levels=row["levels"],
                           lines=lines, clean=of_clean, chance=100 * report["chance"])
            )  # fmt: skip
    if sweep := rows.get("lambda_sweep"):
        panels += _sweep_panels(sweep)
    return panels


def _sweep_panels(sweep: Mapping[str, Any]) -> list[CurvePanel]:
    if not sweep.get("num_pairs"):
        return []
    shown = (("own", "P(own class)"), ("bend", "distance from the line"))
    return [
        CurvePanel(title=f"lambda: {title}", x="lambda", y="0 to 1", levels=LAMBDAS,
                   lines=[_line(head, sweep[key][head]["at"], 1.0) for head in HEADS],
                   clean={}, chance=None)
        for key, title in shown
    ]  # fmt: skip


def _line(name: str, found: Sequence[Mapping[str, Any] | None], scale: float) -> CurveLine:
    def all_of(key: str) -> list[float | None]:
        values = [None if one is None else one[key] for one in found]
        return [None if value is None else scale * value for value in values]

    return CurveLine(name=name, values=all_of("value"), low=all_of("low"), high=all_of("high"))


def draw_panels(
    panels: Sequence[CurvePanel], title: str, out: Path, colours: Mapping[str, str]
) -> None:
    """Draw panels, `_COLUMNS` in a row; the interval of a line is a band of its colour."""
    num_rows = -(-len(panels) // _COLUMNS)
    figure = Figure(figsize=(3.4 * _COLUMNS, 0.9 + 2.9 * num_rows), layout="constrained")
    for number, panel in enumerate(panels, 1):
        axes = figure.add_subplot(num_rows, _COLUMNS, number)
        places = range(len(panel.levels))
        for line in panel.lines:
            colour = colours[line.name]
            values, low, high = ([nan if v is None else v for v in of]
                                 for of in (line.values, line.low, line.high))  # fmt: skip
            axes.plot(places, values, c=colour, lw=1.6, ms=4, marker=_MARKS.get(line.name, "o"))
            axes.fill_between(places, low, high, color=colour, alpha=0.15, lw=0)
            if line.name in panel.clean:
                axes.axhline(panel.clean[line.name], c=colour, ls=":", lw=1)
        if panel.chance is not None:
            axes.axhline(panel.chance, c=INK, ls="--", lw=1)
        axes.set_xticks(places, [f"{level:g}" for level in panel.levels])
        axes.set_ylim(0, 100 if panel.y.endswith("%") else 1)
        axes.set_title(drawable(panel.title), fontsize=10, loc="left", color=INK)
        axes.set_xlabel(drawable(panel.x), fontsize=9)
        axes.set_ylabel(drawable(panel.y), fontsize=9)
        axes.tick_params(labelsize=8)
        axes.grid(color="#dddddd")
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    names = list(dict.fromkeys(line.name for panel in panels for line in panel.lines))
    handles = [Line2D([], [], c=colours[n], marker=_MARKS.get(n, "o"), lw=2) for n in names]
    handles += [Line2D([], [], c=INK, ls=":"), Line2D([], [], c=INK, ls="--")]
    figure.legend(handles, [*names, "clean", "chance"], loc="outside lower center", fontsize=9,
                  ncols=len(handles), frameon=False)  # fmt: skip
    figure.suptitle(drawable(shortened(title, 110)), fontsize=11, color=INK)
    figure.savefig(out, dpi=100)
