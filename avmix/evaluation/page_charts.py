"""Charts of the page of an evaluation: SVG that takes its colours from the style of the page.

No figure of matplotlib, whose colours are fixed: a page is light or dark.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from avmix.evaluation.robustness_curves import CurveLine, CurvePanel
from avmix.system.printing import printable, shortened

_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _TOP, _RIGHT = 280, 190, 40, 34, 10, 10
_LETTERS = 40
_Number = float | int


def css_class(row: str) -> str:
    """Class in the style: `fused`, `video` or `audio` of a head, `other` of another row."""
    return "other" if row.endswith(" missing") else row.partition(" ")[0]


def reliability_svg(name: str, bins: Mapping[str, Sequence[float | None]]) -> Markup:
    """Confidence against the share that is right, and below it the share of answers: of one head,
    `confidence`, `share_right` and `share` of each bin."""
    side, low, width = 180, 50, 1 / len(bins["share"])
    parts = [_level("even", 36, 36 + side, 8 + side, 8)]
    columns = zip(bins["confidence"], bins["share_right"], bins["share"], strict=True)
    for k, (sure, right, share) in enumerate(columns):
        if sure is None or right is None or share is None:
            continue
        x, w = 36 + side * k * width, side * width
        said = f"confidence {sure:.3f}, right {right:.3f}, {100 * share:.1f} % of the answers"
        parts.append(
            Markup(
                '<g><title>{}</title><rect class="bar" x="{:.1f}" y="{:.1f}" width="{:.1f}" '
                'height="{:.1f}"/><circle cx="{:.1f}" cy="{:.1f}" r="3"/>'
                '<rect class="bar full" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}"/></g>'
            ).format(
                said, x, 8 + side * (1 - right), w, side * right,
                36 + side * sure, 8 + side * (1 - right),
                x, 26 + side + low * (1 - share), w, low * share,
            )
        )  # fmt: skip
    for value in (0, 0.5, 1):
        at = Markup('<text class="y" x="32" y="{:.1f}">{:g}</text>')
        parts.append(at.format(12 + side * (1 - value), value))
        at = Markup('<text class="x" x="{:.1f}" y="{}">{:g}</text>')
        parts.append(at.format(36 + side * value, 40 + side + low, value))
    parts.append(_frame(36, 8, side, side) + _frame(36, 26 + side, side, low))
    return _svg(
        f"Reliability of the {name}", 36 + side + 8, side + low + 46, css_class(name), parts
    )


def curve_svg(panel: CurvePanel) -> Markup:
    """A panel of robustness: a line and the band of its interval for each head, its value without
    corruption dotted, chance dashed."""
    most = 100.0 if panel.y.endswith("%") else 1.0
    last = max(1, len(panel.levels) - 1)
    width, height = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM

    def x(place: int) -> float:
        return _LEFT + width * place / last

    def y(value: float) -> float:
        return _TOP + height * (1 - min(max(value / most, 0.0), 1.0))

    parts = [_frame(_LEFT, _TOP, width, height)]
    for share in (0, 0.5, 1):
        parts.append(Markup('<text class="y" x="{}" y="{:.1f}">{:g}</text>').format(
            _LEFT - 4, y(share * most) + 4, share * most))  # fmt: skip
    for place, level in enumerate(panel.levels):
        parts.append(Markup('<text class="x" x="{:.1f}" y="{}">{:g}</text>').format(
            x(place), _HEIGHT - _BOTTOM + 14, level))  # fmt: skip
    if panel.chance is not None:
        height_of = y(panel.chance)
        parts.append(_level("even", x(0), x(last), height_of, height_of))
    for line in panel.lines:
        drawn = [_band(line, x, y), _points(panel, line, x, y)]
        if line.name in panel.clean:
            height_of = y(panel.clean[line.name])
            drawn.append(_level("clean", x(0), x(last), height_of, height_of))
        parts.append(Markup('<g class="{}">{}</g>').format(css_class(line.name),
                                                           Markup("").join(drawn)))  # fmt: skip
    parts.append(Markup('<text class="x" x="{}" y="{}">{}</text>').format(
        _LEFT + width / 2, _HEIGHT - 4, shortened(printable(panel.x), _LETTERS)))  # fmt: skip
    return _svg(f"{panel.title}, {panel.y}", _WIDTH, _HEIGHT, "curve", parts)


def runs_svg(title: str, runs: Mapping[str, Sequence[float]], kind: str = "fused") -> Markup:
    """A line for each run over its epochs, named when it is pointed at; all from 0 to the largest
    value."""
    most = max((value for values in runs.values() for value in values), default=0.0) or 1.0
    last = max(1, max((len(values) for values in runs.values()), default=1) - 1)
    width, height = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM
    parts = [_frame(_LEFT, _TOP, width, height)]
    for share in (0, 0.5, 1):
        parts.append(Markup('<text class="y" x="{}" y="{:.1f}">{:.2g}</text>').format(
            _LEFT - 4, _TOP + height * (1 - share) + 4, share * most))  # fmt: skip
    for epoch in (1, last + 1):
        parts.append(Markup('<text class="x" x="{:.1f}" y="{}">{}</text>').format(
            _LEFT + width * (epoch - 1) / last, _HEIGHT - _BOTTOM + 14, epoch))  # fmt: skip
    for name, values in runs.items():
        places = " ".join(
            f"{_LEFT + width * i / last:.1f},{_TOP + height * (1 - max(value, 0.0) / most):.1f}"
            for i, value in enumerate(values)
        )
        parts.append(Markup('<polyline class="line" points="{}"><title>{}</title></polyline>')
                     .format(places, shortened(printable(name), _LETTERS)))  # fmt: skip
    parts.append(Markup('<text class="x" x="{}" y="{}">epoch</text>').format(
        _LEFT + width / 2, _HEIGHT - 4))  # fmt: skip
    return _svg(title, _WIDTH, _HEIGHT, kind, parts)


def _points(panel: CurvePanel, line: CurveLine, x: Any, y: Any) -> Markup:
    """The line, broken where it has no value, and its points."""
    parts, before = [], ""
    places = [(i, value) for i, value in enumerate(line.values) if value is not None]
    for i, value in places:
        move = "L" if i and line.values[i - 1] is not None else "M"
        before += f"{move}{x(i):.1f} {y(value):.1f}"
        said = f"{line.name}, {panel.levels[i]:g}: {value:.4g}"
        if (low := line.low[i]) is not None and (high := line.high[i]) is not None:
            said += f" ({low:.4g} to {high:.4g})"
        parts.append(Markup('<circle cx="{:.1f}" cy="{:.1f}" r="3.5"><title>{}</title></circle>')
                     .format(x(i), y(value), said))  # fmt: skip
    return Markup('<path class="line" d="{}"/>').format(before) + Markup("").join(parts)


def _band(line: CurveLine, x: Any, y: Any) -> Markup:
    """Of the interval, between neighbours that both have one."""
    parts = []
    whole = [low is not None and high is not None for low, high in zip(line.low, line.high,
                                                                       strict=True)]  # fmt: skip
    for i in range(len(whole) - 1):
        if whole[i] and whole[i + 1]:
            corners = [(i, line.low[i]), (i + 1, line.low[i + 1]), (i + 1, line.high[i + 1]),
                       (i, line.high[i])]  # fmt: skip
            at = " ".join(f"{x(place):.1f},{y(value):.1f}" for place, value in corners)
            parts.append(Markup('<polygon class="band" points="{}"/>').format(at))
    return Markup("").join(parts)


def _level(kind: str, left: _Number, right: _Number, from_y: _Number, to_y: _Number) -> Markup:
    return Markup('<line class="{}" x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}"/>').format(
        kind, left, from_y, right, to_y)  # fmt: skip


def _frame(x: _Number, y: _Number, width: _Number, height: _Number) -> Markup:
    return Markup('<rect class="frame" x="{}" y="{}" width="{}" height="{}"/>').format(
        x, y, width, height)  # fmt: skip


def _svg(title: str, width: int, height: int, kind: str, parts: Sequence[Markup]) -> Markup:
    return Markup(
        '<svg class="{}" role="img" aria-label="{}" viewBox="0 0 {} {}" width="{}" height="{}">'
        "{}</svg>"
    ).format(kind, printable(title), width, height, width, height, Markup("").join(parts))
