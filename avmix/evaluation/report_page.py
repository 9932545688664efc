"""`report.html`: the page of an evaluation, one file that needs no network.

All of its numbers are those of result.json: each stands in a `data` element with its full value and
the place where result.json has it (a JSON pointer). Names of classes and paths are anything: the
template escapes them, and what would not show as a character is written as an escape.

Its size is bounded: `MOST_CLIPS` clips have frames, `_MOST_MISSING` missing clips are listed,
`_MOST_CELLS` cells of the confusion matrix are drawn, names are shortened.
"""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from avmix.evaluation.class_order import clustered_order
from avmix.evaluation.clip_shots import Shot, Shots, data_url
from avmix.evaluation.figure_columns import COLUMNS, UNITS
from avmix.evaluation.fusion_gain import MEANINGS
from avmix.evaluation.page_charts import css_class, curve_svg, reliability_svg
from avmix.evaluation.robustness_curves import panels_of
from avmix.system.printing import printable, shortened

NAME = "report.html"
_LETTERS, _PATH_LETTERS, _REASON_LETTERS = 80, 200, 300
_MOST_MISSING = 500
_MOST_CELLS = 60_000
_MOST_LABELS = 8
"""Of a clip, that are listed."""
_BARS = ("fused", "video head", "audio head")


def page_of(
    result: Mapping[str, Any],
    folder: Path,
    *,
    confusion: Int64[np.ndarray, "k k"] | None = None,
    shots: Shots | None = None,
    robustness: Sequence[tuple[str, Markup]] | str = "",
) -> bytes:
    """The page of what is in result.json; the same for the same.

    `folder`: of the page, for links to media. `confusion`: of the fused head; None where clips have
    several labels. `robustness`: of `robustness_charts`, or why there are none, or an empty text.
    """
    told, curves = (robustness, ()) if isinstance(robustness, str) else ("", robustness)
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True,
                              lstrip_blocks=True)  # fmt: skip
    environment.filters |= {"name": _name, "path": _path, "reason": _reason}
    script, style = _text("sortable.js") + _text("report.js"), _text("report.css")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    page = environment.from_string(_text("report.html.jinja")).render(
        result=result, number=_Numbers(result), script=Markup(script), style=Markup(style),
        script_hash=digest, columns=_columns(result), of_fusion=_of_fusion(result),
        words=fusion_words(result), charts=_reliability_charts(result),
        bars=[row for row in _BARS if row in result["scores"]], css_class=css_class,
        heat=None if confusion is None else _heat(confusion, result["per_class"]),
        curves=curves, robustness=told, clips=_clips(result, shots or Shots(), folder),
        most_missing=_MOST_MISSING, most_labels=_MOST_LABELS,
    )  # fmt: skip
    return page.encode()


def _text(name: str) -> str:
    return (resources.files("avmix.evaluation") / "page" / name).read_text("utf-8")


def _name(text: str) -> str:
    return shortened(printable(text), _LETTERS)


def _path(text: str) -> str:
    return shortened(printable(text), _PATH_LETTERS)


def _reason(text: str) -> str:
    return shortened(printable(text), _REASON_LETTERS)


class _Numbers:
    """Writes numbers of result.json, with their places."""

    def __init__(self, result: Mapping[str, Any]) -> None:
        self._result = result

    def __call__(
        self, place: Sequence[Any], scale: tuple[int, int] = (1, 0), sign: str = ""
    ) -> Any:
        """The number at `place` (keys and indices), times a factor with so many digits; a dash
        where there is none. `sign`: as of a format, `+` or nothing."""
        value: Any = self._result
        for key in place:
            value = value[key]
        if value is None:
            return Markup('<span class="none">-</span>')
        factor, digits = scale
        pointer = "".join(f"/{str(key).replace('~', '~0').replace('/', '~1')}" for key in place)
        return Markup('<data value="{}" data-of="{}">{}</data>').format(
            repr(value), pointer, f"{factor * value:{sign}.{digits}f}"
        )


def _columns(result: Mapping[str, Any]) -> list[tuple[str, str, tuple[int, int]]]:
    """Key, heading and scale of the columns of the table: the figures that its rows have."""
    rows = [row for row in result["intervals"]["rows"].values() if row]
    return [(key, *said) for key, said in COLUMNS.items() if any(key in row for row in rows)]


def _of_fusion(result: Mapping[str, Any]) -> list[tuple[str, str, str, tuple[int, int]]]:
    """Key, title, unit and scale of the figures of fusion."""
    return [
        (key, MEANINGS[key].title, MEANINGS[key].unit, UNITS[MEANINGS[key].unit])
        for key in result["fusion"]
    ]


def fusion_words(result: Mapping[str, Any]) -> list[Markup]:
    """What fusion is worth, in sentences."""
    number, fusion = _Numbers(result), result["fusion"]
    if not fusion:
        return [Markup("No clip has both modalities: nothing is fused.")]
    clips = number(["fusion", "gain", "num_clips"])
    gain = fusion["gain"]
    share = number(["fusion", "gain", "value"], UNITS["points"], "+")
    said = [Markup(
        "Fusion gains {} points of top-1 over the better of the two heads{}, on the {} clips that "
        "have both modalities: {}."
    ).format(share, _between(number, fusion, "gain"), clips, _verdict(gain))]  # fmt: skip
    if fusion.get("mu", {}).get("value") is not None:
        said.append(Markup(
            "In {} % of the clips one of the heads is right and the fused head wrong{}: "
            "modality confusion."
        ).format(number(["fusion", "mu", "value"], UNITS["%"]),
                 _between(number, fusion, "mu")))  # fmt: skip
    if fusion.get("dominance", {}).get("value") is not None:
        said.append(Markup(
            "Where the fused head sides with one head against the other, it is with the "
            "video head in {} % of the cases{}."
        ).format(number(["fusion", "dominance", "value"], UNITS["%"]),
                 _between(number, fusion, "dominance")))  # fmt: skip
    return said


def _between(number: _Numbers, fusion: Mapping[str, Any], key: str) -> Markup:
    """The interval, in brackets; nothing without one."""
    if fusion[key]["low"] is None or fusion[key]["high"] is None:
        return Markup("")
    ends = [number(["fusion", key, end], UNITS["points"]) for end in ("low", "high")]
    return Markup(" (95 % interval {} to {})").format(*ends)


def _verdict(gain: Mapping[str, Any]) -> str:
    value, low, high = gain["value"], gain["low"], gain["high"]
    if value is None:
        return "nothing can be said"
    if low is None or high is None:
        what = "better" if value > 0 else "worse" if value < 0 else "the same"
        return f"{what} on these clips, without an interval that would say how far chance goes"
    if low > 0:
        return "fusion helps"
    if high < 0:
        return "fusion hurts"
    return "these clips cannot tell whether fusion helps or hurts"


def _reliability_charts(result: Mapping[str, Any]) -> list[tuple[str, Markup]]:
    return [(row, reliability_svg(row, bins)) for row, bins in result["reliability"].items()]


def robustness_charts(robustness: Mapping[str, Any]) -> list[tuple[str, Markup]]:
    """Title and chart of each row of robustness.json that has a curve. Raises what Python raises
    for what is no such file."""
    return [(f"{panel.title}: {panel.y}", curve_svg(panel)) for panel in panels_of(robustness)]


def _heat(confusion: np.ndarray, classes: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What the script draws: names, the clustered order, and the cells with clips as (true class,
    predicted class, clips), one after the other."""
    true, said = confusion.nonzero()
    clips = confusion[true, said]
    first = np.lexsort((said, true, -clips))[:_MOST_CELLS]
    cells = np.stack([true[first], said[first], clips[first]], 1)
    return {
        "names": [_name(row["class"]) for row in classes],
        "order": clustered_order(confusion).tolist(),
        "clips": confusion.sum(1).tolist(),
        "cells": cells.ravel().tolist(),
        "left_out": len(true) - len(first),
    }


def _clips(result: Mapping[str, Any], shots: Shots, folder: Path) -> dict[str, Any]:
    """The clips of the highest loss with what is shown of them, and why that is not more."""
    cards = []
    for clip in result["most_wrong"]:
        shot = shots.clips.get(clip["clip_id"])
        link = None
        if shot and not shot.reason:
            link = shots.link(clip["path"], clip["start_seconds"], clip["end_seconds"], folder)
        cards.append({"shot": _shown(shot), "link": link})
    failed = sum(bool(card["shot"] and card["shot"]["reason"]) for card in cards)
    return {"cards": cards, "any": bool(shots.clips), "failed": failed}


def _shown(shot: Shot | None) -> dict[str, str | None] | None:
    if shot is None:
        return None
    return {
        "frame": None if shot.frame is None else data_url(shot.frame),
        "spectrogram": None if shot.spectrogram is None else data_url(shot.spectrogram),
        "reason": shot.reason,
    }
