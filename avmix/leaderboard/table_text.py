"""Tables of results as Markdown, JSON, CSV and LaTeX. Names come from files of others: what means
something in a format is escaped."""

import csv
import io
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any, Literal

from avmix.evaluation.figure_columns import COLUMNS, PERCENT, PLAIN
from avmix.leaderboard.estimates import Estimate
from avmix.leaderboard.result import as_json
from avmix.leaderboard.tables import Table, TableRow, overlap_word
from avmix.system import strict_json
from avmix.system.printing import printable

Format = Literal["markdown", "json", "csv", "latex"]
_FUSION = {"gain": ("fusion gain, points", PERCENT), "mu": ("mu %", PERCENT)}
_MARKDOWN = re.compile(r"([\\`*_\[\]<>|#~$&])")
_LATEX = {"\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
          "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
          "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}",
          '"': r"\textquotedbl{}"}  # fmt: skip
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def text_of(tables: Sequence[Table], kind: Format) -> str:
    """All tables, in one text."""
    if kind == "json":
        return strict_json.dumps([table_json(one) for one in tables], indent=1)
    if kind == "csv":
        return _csv(tables)
    write = _markdown if kind == "markdown" else _latex
    return "\n\n".join(write(one) for one in tables)


def heading(figure: str) -> tuple[str, tuple[int, int]]:
    """Heading of a figure, with factor and digits."""
    row, _, name = figure.rpartition(".")
    if row == "fusion":
        return _FUSION.get(name, (name, PLAIN))
    said, scale = COLUMNS.get(name, (name, PLAIN))
    return (said if row == "fused" else f"{row}, {said}"), scale


def number(found: Estimate | None, scale: tuple[int, int], *, signed: bool = False) -> str:
    """Value and interval; `-` where there is none."""
    if found is None:
        return "-"
    factor, digits = scale
    value = f"{factor * found.value:{'+' if signed else ''}.{digits}f}"
    if found.low is None or found.high is None:
        return value
    return f"{value} ({factor * found.low:.{digits}f} to {factor * found.high:.{digits}f})"


def seeds_word(row: TableRow) -> str:
    """How many seeds and splits a row has."""
    runs = row.result.runs
    seeds, splits = len({run.seed for run in runs}), len({run.split for run in runs})
    return f"{seeds}" if splits == 1 else f"{seeds} x {splits} splits"


def _cells(table: Table, row: TableRow, figures: Sequence[str]) -> list[str]:
    less = number(row.differences.get(table.metric), heading(table.metric)[1], signed=True)
    verdict = row.verdict(table.metric)
    scale = heading(table.metric)[1]
    published = "; ".join(
        f"{scale[0] * one.value:.{scale[1]}f} ({one.source})" for one in row.published
    )
    return [
        row.method, seeds_word(row),
        *(number(row.figures.get(name), heading(name)[1]) for name in figures[:1]),
        f"{less} {verdict}".strip(), published or "-",
        *(number(row.figures.get(name), heading(name)[1]) for name in figures[1:]),
        overlap_word(row.result), "; ".join(row.marks) or "-",
    ]  # fmt: skip


def _columns(table: Table) -> tuple[list[str], list[str]]:
    """Figures that some row has, and all headings."""
    names = dict.fromkeys(name for row in table.rows for name in row.figures)
    figures = [table.metric, *(name for name in names if name != table.metric)]
    first = table.rows[0].method
    heads = ["method", "seeds", heading(table.metric)[0], f"minus {first}", "published",
             *(heading(name)[0] for name in figures[1:]), "pre-training overlap",
             "remarks"]  # fmt: skip
    return figures, heads


def _title(table: Table) -> str:
    return f"{table.card.id}, {table.variant}: {table.card.title}"


def _notes(table: Table) -> list[str]:
    result = table.rows[0].result
    said = [
        f"Selection: {result.selection}. Intervals: 95 %, over {table.num_sources} sources and "
        "over seeds; differences are of the same seeds and clips.",
        *(f"Leak of the protocol: {one}." for one in result.leaks),
        *(f"Known defect: {one}." for one in result.defects),
    ]
    return [one.replace("..", ".") for one in said]


def _beside(table: Table, verified: bool) -> list[str]:
    rows = table.only_published if verified else table.unverified
    return [
        f"{one.method}: {one.metric} {one.value:.4g} ({one.source}; {one.checked}"
        f"{'; ' + one.note if one.note else ''})"
        for one in rows
    ]


def _markdown(table: Table) -> str:
    figures, heads = _columns(table)
    lines = [f"**{markdown(_title(table))}**", "",
             "| " + " | ".join(map(markdown, heads)) + " |",
             "|---|" + "--:|" * (len(heads) - 2) + "---|"]  # fmt: skip
    for row in table.rows:
        lines.append("| " + " | ".join(map(markdown, _cells(table, row, figures))) + " |")
    lines += ["", *map(markdown, _notes(table))]
    titles = {True: "Published, not run here:",
              False: "Unverified, from memory; not among the published:"}  # fmt: skip
    for verified, title in titles.items():
        if some := _beside(table, verified):
            lines += ["", title, "", *(f"* {markdown(one)}" for one in some)]
    return "\n".join(lines)


def _latex(table: Table) -> str:
    figures, heads = _columns(table)

    def row_of(cells: Sequence[str]) -> str:
        return " & ".join(map(latex, cells)) + r" \\"

    caption = f"{_title(table)}. {' '.join(_notes(table))}"
    lines = [r"\begin{table}", rf"\caption{{{latex(caption)}}}",
             rf"\begin{{tabular}}{{l{'r' * (len(heads) - 2)}l}}", r"\hline",
             row_of(heads), r"\hline",
             *(row_of(_cells(table, row, figures)) for row in table.rows),
             r"\hline", r"\end{tabular}", r"\end{table}"]  # fmt: skip
    for verified, title in ((True, "published"), (False, "unverified, from memory")):
        lines += [f"% {title}: {printable(one)}" for one in _beside(table, verified)]
    return "\n".join(lines)


def _csv(tables: Sequence[Table]) -> str:
    """A line for each figure of each row, and for each published one."""
    text = io.StringIO()
    write: Callable[[Sequence[Any]], Any] = csv.writer(text, lineterminator="\n").writerow
    write(["protocol", "variant", "method", "kind", "figure", "value", "low", "high", "difference",
           "difference_low", "difference_high", "seeds", "source"])  # fmt: skip
    for table in tables:
        about = [cell(table.card.id), cell(table.variant)]
        for row in table.rows:
            for name, one in row.figures.items():
                less = row.differences.get(name)
                ends = [less.value, _none(less.low), _none(less.high)] if less else ["", "", ""]
                write([*about, cell(row.method), "ours", name, one.value, _none(one.low),
                       _none(one.high), *ends, one.num_seeds, ""])  # fmt: skip
        for kind, published in (
            ("published", (*table.only_published, *(p for r in table.rows for p in r.published))),
            ("unverified", table.unverified),
        ):
            for p in published:
                write([*about, cell(p.method), kind, p.metric, p.value, "", "", "", "", "", "",
                       cell(p.source)])  # fmt: skip
    return text.getvalue().rstrip("\n")


def table_json(table: Table) -> dict[str, Any]:
    """Everything of a table, without the predictions."""
    return {
        "protocol": table.card.id, "title": table.card.title, "variant": table.variant,
        "metric": table.metric, "num_sources": table.num_sources,
        "rows": [
            {
                "method": row.method, "about": row.about, "marks": list(row.marks),
                "overlap": overlap_word(row.result),
                "figures": {n: asdict(f) for n, f in row.figures.items()},
                "differences": {n: asdict(f) for n, f in row.differences.items()},
                "verdict": row.verdict(table.metric),
                "published": [asdict(one) for one in row.published],
                "result": as_json(row.result),
            }
            for row in table.rows
        ],
        "only_published": [asdict(one) for one in table.only_published],
        "unverified": [asdict(one) for one in table.unverified],
    }  # fmt: skip


def markdown(text: str) -> str:
    """As text in a cell: nothing in it is markup, ends a cell or a line."""
    return _MARKDOWN.sub(r"\\\1", printable(text))


def latex(text: str) -> str:
    """As text: nothing in it is a command, a comment or the end of a cell."""
    return "".join(_LATEX.get(letter, letter) for letter in printable(text))


def cell(text: str) -> str:
    """Of CSV: no program takes it for a formula."""
    text = printable(text)
    return f"'{text}" if text.startswith(_FORMULA) else text


def _none(value: float | None) -> float | str:
    return "" if value is None else value
