"""`avmix leaderboard page`: the tables of results as one file of HTML that needs no network.

A row is that of `avmix.leaderboard.tables`; what made a cell is told when it is chosen. Texts of
records and cards are anything: the template escapes them, the script writes them as text, and what
would not show as a character is written as an escape. At most `_MOST_CHARTS` rows have charts.
"""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from avmix.evaluation.kept_predictions import KeptPredictions
from avmix.evaluation.page_charts import reliability_svg, runs_svg
from avmix.evaluation.reliability import Reliability, reliability
from avmix.leaderboard.admission import Refused
from avmix.leaderboard.card import Published
from avmix.leaderboard.estimates import Estimate
from avmix.leaderboard.packed_predictions import unpack
from avmix.leaderboard.result import Result, as_json
from avmix.leaderboard.table_text import heading, seeds_word
from avmix.leaderboard.tables import Table, TableRow, overlap_word
from avmix.system.printing import printable, shortened

_MOST_CHARTS = 300
_LETTERS, _LONG = 80, 400
_HEADS = ("fused", "video head", "audio head")
_CURVES = {"loss": "training loss", "val.fused": "fused head, validation"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """A figure of a row, as it is written."""

    figure: str
    value: float
    text: str
    interval: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class BoardRow:
    """A row of the page."""

    number: int
    protocol: str
    method: str
    about: str
    modality: str
    selection: str
    overlap: str
    seeds: str
    metric: str
    main: Cell | None
    less: Cell | None
    """Difference to the first row of its protocol; None for that row."""
    verdict: str
    published: tuple[tuple[str, str, str], ...]
    """Value, how ours compares, source."""
    cells: dict[str, Cell]
    """By title of column."""
    marks: tuple[str, ...]
    charts: tuple[tuple[str, Markup], ...] = field(repr=False)


def board_page(tables: Sequence[Table], refused: Sequence[Refused], results: Path) -> bytes:
    """The page of all tables; `results` is the folder that their records are in.

    Raises `PredictionsError` where predictions that could be read cannot be any more.
    """
    rows: list[BoardRow] = []
    details: list[dict[str, Any]] = []
    for table in tables:
        for row in table.rows:
            rows.append(_row_of(table, row, len(rows), results))
            details.append(_shown(_detail_of(table, row)))
    titles = list(dict.fromkeys(title for row in rows for title in row.cells))
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True,
                              lstrip_blocks=True)  # fmt: skip
    environment.filters |= {"name": _name, "long": _long}
    script = _text("avmix.evaluation", "page/sortable.js") + _text(*_OURS, "board.js")
    style = _text("avmix.evaluation", "page/report.css") + _text(*_OURS, "board.css")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    page = environment.from_string(_text(*_OURS, "board.html.jinja")).render(
        script=Markup(script), style=Markup(style), script_hash=digest, rows=rows, titles=titles,
        tables=tables, details=details, filters=_filters(rows), unverified=_beside(tables, False),
        not_run=_beside(tables, True), refused=[(_place(one.path, results), one.why)
                                                for one in refused],
        leaks=[(_id(t), one) for t in tables for one in t.rows[0].result.leaks],
        defects=[(_id(t), one) for t in tables for one in t.rows[0].result.defects],
    )  # fmt: skip
    return page.encode()


_OURS = ("avmix.leaderboard", "board_page")


def _text(package: str, *parts: str) -> str:
    return resources.files(package).joinpath("/".join(parts)).read_text("utf-8")


def _id(table: Table) -> str:
    return f"{table.card.id}, {table.variant}"


def _place(path: Path, results: Path) -> str:
    """Without folders of this machine."""
    return path.relative_to(results).as_posix() if path.is_relative_to(results) else path.name


def _row_of(table: Table, row: TableRow, number: int, results: Path) -> BoardRow:
    main, less = row.figures.get(table.metric), row.differences.get(table.metric)
    scale = heading(table.metric)[1]
    return BoardRow(
        number=number, protocol=_id(table), method=row.method, about=row.about,
        modality=modality_of(row.result), selection=row.result.selection,
        overlap=overlap_word(row.result), seeds=seeds_word(row),
        metric=heading(table.metric)[0],
        main=main and _cell(table.metric, main, scale),
        less=less and _cell(table.metric, less, scale, sign="+"),
        verdict=row.verdict(table.metric),
        published=tuple((_scaled(one.value, scale), _compared(one.value, main, scale), one.source)
                        for one in row.published),
        cells={
            heading(name)[0]: _cell(name, found, heading(name)[1],
                                    sign="+" if name == "fusion.gain" else "")
            for name, found in row.figures.items() if name != table.metric
        },
        marks=row.marks,
        charts=_charts(row.result, results) if number < _MOST_CHARTS else (),
    )  # fmt: skip


def modality_of(result: Result) -> str:
    """What the networks of a row read: `both`, `video` or `audio`."""
    said = result.probe.get("head") or result.options.get("model.modalities")
    return said if said in ("video", "audio") else "both"


def _cell(figure: str, found: Estimate, scale: tuple[int, int], *, sign: str = "") -> Cell:
    factor, digits = scale
    interval = ""
    if found.low is not None and found.high is not None:
        interval = f"{factor * found.low:.{digits}f} to {factor * found.high:.{digits}f}"
    return Cell(figure=figure, value=found.value, interval=interval,
                text=f"{factor * found.value:{sign}.{digits}f}")  # fmt: skip


def _scaled(value: float, scale: tuple[int, int]) -> str:
    return f"{scale[0] * value:.{scale[1]}f}"


def _compared(published: float, ours: Estimate | None, scale: tuple[int, int]) -> str:
    """How ours compares; what was published has to be within the interval of ours to agree."""
    if ours is None:
        return "no figure of ours"
    apart = f"{scale[0] * (ours.value - published):+.{scale[1]}f}"
    if ours.low is None or ours.high is None:
        return f"ours {apart}, without an interval"
    return f"ours {apart}, {'agrees' if ours.low <= published <= ours.high else 'differs'}"


def _beside(tables: Sequence[Table], verified: bool) -> list[tuple[str, Published]]:
    return [(_id(table), one) for table in tables
            for one in (table.only_published if verified else table.unverified)]  # fmt: skip


def _filters(rows: Sequence[BoardRow]) -> list[tuple[str, str, list[str]]]:
    """Key, title and choices of each filter."""
    titles = {"protocol": "Protocol", "modality": "Modality", "selection": "Selection rule",
              "overlap": "Pre-training overlap"}  # fmt: skip
    return [(key, title, list(dict.fromkeys(getattr(row, key) for row in rows)))
            for key, title in titles.items()]  # fmt: skip


def _detail_of(table: Table, row: TableRow) -> dict[str, Any]:
    """What made a row, for the script: the record, and the estimates by figure."""
    names = {name: heading(name) for name in row.figures}
    return {
        "protocol": _id(table), "title": table.card.title, "method": row.method,
        "about": row.about, "first": table.rows[0].method, "metric": table.metric,
        "figures": {
            name: {
                "title": names[name][0], "scale": list(names[name][1]),
                "of": _estimate(found), "less": _estimate(row.differences.get(name)),
            }
            for name, found in row.figures.items()
        },
        "result": as_json(row.result),
    }  # fmt: skip


def _estimate(found: Estimate | None) -> dict[str, Any] | None:
    if found is None:
        return None
    return {"value": found.value, "low": found.low, "high": found.high,
            "seeds": found.half_of_seeds, "sources": [found.sources_low, found.sources_high],
            "num_runs": found.num_runs, "num_seeds": found.num_seeds}  # fmt: skip


def _shown(value: Any) -> Any:
    """With texts that show as characters, and are not without end; curves are in the charts."""
    if isinstance(value, str):
        return _long(value)
    if isinstance(value, Mapping):
        return {_name(str(key)): _shown(one) for key, one in value.items() if key != "curves"}
    if isinstance(value, list | tuple):
        return [_shown(one) for one in value]
    return value


def _charts(result: Result, results: Path) -> tuple[tuple[str, Markup], ...]:
    """Curves of the runs over their epochs, and reliability of each head over all runs."""
    charts: list[tuple[str, Markup]] = []
    for key, title in _CURVES.items():
        lines = {f"split {run.split}, seed {run.seed}": run.curves[key] for run in result.runs
                 if run.curves.get(key)}  # fmt: skip
        if lines:
            charts.append((f"{title}, a line for each run", runs_svg(title, lines)))
    folder = (results / result.name).parent
    kept = [unpack(folder / run.predictions.file, run.predictions.sha256) for run in result.runs]
    for head in _HEADS:
        if found := [_reliability(one, head) for one in kept if head in one.probability]:
            bins = pooled(found).as_json()
            charts.append((f"reliability, {head}", reliability_svg(head, bins)))
    return tuple(charts)


def _reliability(kept: KeptPredictions, head: str) -> Reliability:
    return reliability(kept.answers(head, kept.clips_of(head)))


def pooled(found: Sequence[Reliability]) -> Reliability:
    """The bins of all answers of several runs, each run with the same weight."""
    share = np.stack([one.share for one in found])
    total = share.sum(0)
    nothing = np.full(total.shape, np.nan)

    def mean(name: str) -> np.ndarray:
        values = np.nan_to_num(np.stack([getattr(one, name) for one in found]))
        return np.divide((share * values).sum(0), total, out=nothing.copy(), where=total > 0)

    return Reliability(confidence=mean("confidence"), share_right=mean("share_right"),
                       share=total / len(found))  # fmt: skip


def _name(text: str) -> str:
    return shortened(printable(text), _LETTERS)


def _long(text: str) -> str:
    return shortened(printable(text), _LONG)
