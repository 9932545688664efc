"""`inventory.html`: the inventory as one HTML file with inline SVG plots; needs no network."""

import io
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from avmix.prepare.inventory_text import TITLES, columns_of, lines_of
from avmix.system.printing import drawable
from avmix.types import Entry

_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 2em auto; max-width: 70em; padding: 0 1em;
       color: #1b1f24; background: #fff }
table { border-collapse: collapse; margin: 1em 0 } th, td { padding: .2em .7em; text-align: right;
       border-bottom: 1px solid #d8dee4 } th:first-child, td:first-child { text-align: left }
thead th { position: sticky; top: 0; background: #f6f8fa } .none td { color: #a40e26 }
.plots { display: flex; flex-wrap: wrap; gap: 1em } svg { max-width: 100%; height: auto }
td:first-child, .text td { overflow-wrap: anywhere; max-width: 30em }
.leak { background: #ffebe9; padding: .6em 1em } summary { cursor: pointer }
"""
_MOST = 500


def page_of(data: Mapping[str, Any], entries: Sequence[Entry]) -> bytes:
    """The page of an inventory and of the clips that were kept; the same for the same."""
    title = f"{data['protocol']}: inventory"
    rows = {**data["splits"], "all": data["counts"]}
    parts = [
        f"<h1>{escape(title)}</h1>",
        f"<p class=leak>{escape('Leaks by definition: ' + data['leaks'])}</p>"
        if data["leaks"]
        else "",
        _table(["split"], [([name], row) for name, row in rows.items()]),
        "<ul>" + "".join(f"<li>{escape(line)}</li>" for line in lines_of(data)) + "</ul>",
        '<div class="plots">' + "".join(_plots(entries)) + "</div>" if entries else "",
        "<h2>Classes</h2>",
        _table(
            ["class", "split"],
            [
                ([label, split], counts)
                for label, splits in data["classes"].items()
                for split, counts in (splits or {"": {}}).items()
            ],
        ),
        _listed("Remarks on clips that are kept", data["remarks"], ("clip_id", "path", "text")),
        _listed("Rows of annotations", data["annotation_problems"], ("where", "reason", "text")),
    ]
    head = f"<!doctype html><html lang=en><meta charset=utf-8><title>{escape(title)}</title>"
    body = "\n".join(part for part in parts if part)
    return f"{head}<style>{_STYLE}</style><body>\n{body}\n</body></html>\n".encode()


def _table(names: Sequence[str], rows: Sequence[tuple[list[str], Mapping[str, Any]]]) -> str:
    columns = columns_of([counts for _, counts in rows])
    head = "".join(f"<th>{escape(text)}" for text in (*names, *(TITLES[k] for k in columns)))
    lines = []
    for cells, counts in rows:
        values = [f"{counts[k]}" if counts.get(k) is not None else "" for k in columns]
        kind = "" if counts.get("found") else " class=none"
        lines.append(f"<tr{kind}>" + "".join(f"<td>{escape(v)}" for v in (*cells, *values)))
    return f"<table><thead><tr>{head}</thead><tbody>{''.join(lines)}</tbody></table>"


def _listed(title: str, rows: Sequence[Mapping[str, Any]], keys: Sequence[str]) -> str:
    if not rows:
        return ""
    lines = ["<tr>" + "".join(f"<td>{escape(str(row[k]))}" for k in keys) for row in rows[:_MOST]]
    more = f"<p>and {len(rows) - _MOST} more in inventory.json</p>" if len(rows) > _MOST else ""
    return (
        f"<details><summary>{escape(title)}: {len(rows)}</summary>"
        f"<table class=text>{''.join(lines)}</table>{more}</details>"
    )


def _plots(entries: Sequence[Entry]) -> list[str]:
    videos = [e.video for e in entries if e.video is not None]
    audio = [e.audio for e in entries if e.audio is not None]
    apart = [1000 * (e.audio.start_seconds - e.video.start_seconds)
             for e in entries if e.audio is not None and e.video is not None]  # fmt: skip
    return [
        _svg("length, s", lambda ax: _histogram(ax, [e.duration_seconds for e in entries])),
        _svg("loudness, dBFS", lambda ax: _histogram(ax, [a.rms_dbfs for a in audio])),
        _svg("frames / s", lambda ax: _bars(ax, [f"{v.fps:.2f}" for v in videos])),
        _svg("size, pixels", lambda ax: _bars(ax, [f"{v.width}x{v.height}" for v in videos])),
        _svg("audio begins after the frames, ms", lambda ax: _histogram(ax, apart)),
    ]


def _histogram(axes: Axes, values: Sequence[float]) -> None:
    # Where all are the same to the microsecond, one bar is the truth.
    spread = max(values) - min(values) if values else 0.0
    axes.hist(values, bins=40 if spread > 1e-6 else 1, color="#2f6f9f")


def _bars(axes: Axes, values: Sequence[str]) -> None:
    """The most frequent values, and all others as one."""
    counts = Counter(values)
    some = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:10]
    rest = len(values) - sum(count for _, count in some)
    some += [("other", rest)] if rest else []
    axes.barh([drawable(name) for name, _ in some], [count for _, count in some], color="#2f6f9f")
    axes.invert_yaxis()


def _svg(title: str, draw: Callable[[Axes], None]) -> str:
    figure = Figure(figsize=(4.6, 2.8), layout="constrained")
    axes = figure.add_subplot()
    draw(axes)
    axes.set_title(title, fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    out = io.StringIO()
    # Neither dates nor random ids: the same inventory is the same file.
    with mpl.rc_context({"svg.hashsalt": title, "svg.fonttype": "none"}):
        figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None})
    return out.getvalue()[out.getvalue().index("<svg") :]
