"""A figure of the two towers of a network, or the one of both modalities: their stages, where clips
are mixed, and the fusion."""

from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from avmix.config import TrainConfig
from avmix.evaluation.figures import INK, MIXED, OWN, PARTNER
from avmix.models.measure import Measured, mixing_of, shape_text
from avmix.system.printing import drawable, shortened

_COLUMN = {"video": 0.0, "audio": 5.0, "joint": 0.0}
_COLOUR = {"video": OWN, "audio": PARTNER, "joint": INK}
_WIDTH, _HEIGHT, _STEP, _MARGIN = 4.0, 0.62, 1.0, 2.6
_WHOLE = _COLUMN["audio"] + _WIDTH


def draw_model(config: TrainConfig, found: Measured, out: Path) -> None:
    """Draw inputs below, features and fusion above; purple bars are where clips are mixed. Writes
    what the ending of `out` says."""
    towers = {
        name: [(stage.name, stage.shapes, stage.flops) for stage in found.stages
               if stage.part == name or _is_projection(name, stage.name)]
        for name in config.model.encoders
    }  # fmt: skip
    tallest = max(len(tower) for tower in towers.values())
    top = (tallest + 1) * _STEP
    mixing = mixing_of(config.mix)
    figure = Figure(figsize=(11, 1.6 + 0.62 * (tallest + 3)), layout="constrained")
    axes = figure.add_subplot()
    for name, tower in towers.items():
        x, encoder = _COLUMN[name], config.model.encoders[name].encoder
        width = _WHOLE if name == "joint" else _WIDTH
        inputs = found.inputs if name == "joint" else {name: found.inputs[name]}
        given = ", ".join(f"{kind} {shape_text(shape)}" for kind, shape in inputs.items())
        boxes = [(given, INK)] + [
            (
                f"{stage}  {' '.join(map(shape_text, shapes))}  {flops / 1e6:,.1f} MFLOPs",
                _COLOUR[name],
            )
            for stage, shapes, flops in tower
        ]
        for number, (text, colour) in enumerate(boxes):
            _box(axes, x, number * _STEP, text, colour, width)
            above = (number + 1) * _STEP if number + 1 < len(boxes) else top
            _line(axes, x + width / 2, number * _STEP + _HEIGHT, above)
        axes.text(x + width / 2, -0.35, drawable(shortened(encoder, 40)), ha="center", va="center",
                  fontsize=9, color=_COLOUR[name])  # fmt: skip
        there = [way for way in mixing if {*inputs} & {*way["modalities"]}]
        for height, text in _marks(there, tower, top):
            axes.plot([x - 0.15, x + width + 0.15], [height, height], color=MIXED, linewidth=3)
            at, side = (x + width + 0.25, "left") if name == "audio" else (x - 0.25, "right")
            axes.text(at, height, drawable(text), va="center", ha=side, fontsize=8, color=MIXED)
    shapes = found.stages[-1].shapes
    heads = (
        f"fusion: {config.model.fusion}, missing {config.model.missing}, {config.model.heads} heads"
    )
    _box(axes, 0.0, top, f"{heads};  fused, video, audio {shape_text(shapes[0])}", INK, _WHOLE)
    axes.set_xlim(-_MARGIN, _WHOLE + _MARGIN)
    axes.set_ylim(-0.8, top + 1.0)
    axes.axis("off")
    total = f"{found.parameters / 1e6:.2f} M parameters, {found.flops / 1e9:.3f} GFLOPs a clip"
    axes.set_title(total, fontsize=11, color=INK)
    figure.savefig(out, dpi=100)


def _is_projection(tower: str, stage: str) -> bool:
    return stage.startswith("projection of ") and tower in (stage.removeprefix("projection of "),
                                                            "joint")  # fmt: skip


def _marks(mixing: list[dict[str, Any]], tower: list[Any], top: float) -> list[tuple[float, str]]:
    """Height and text of each place of mixing; ways that mix at one place share a mark."""
    stages = sum(name.startswith("stage ") for name, _, _ in tower)
    words: dict[float, list[str]] = {}
    for way in mixing:
        # Half between two boxes: after the input, after so many stages, before the fusion.
        after = {"input": [0], "feature": [None]}.get(way["level"], way["after_stages"])
        for number in after:
            height = top - 0.19 if number is None else min(number, stages) * _STEP + 0.81
            words.setdefault(height, []).append(way["method"])
    return [(height, ", ".join(dict.fromkeys(found))) for height, found in words.items()]


def _box(axes: Any, x: float, y: float, text: str, colour: str, width: float = _WIDTH) -> None:
    axes.barh(y + _HEIGHT / 2, width, height=_HEIGHT, left=x, color="white", edgecolor=colour)
    axes.text(x + width / 2, y + _HEIGHT / 2, drawable(text), ha="center", va="center", fontsize=8,
              color=colour)  # fmt: skip


def _line(axes: Any, x: float, bottom: float, top: float) -> None:
    axes.plot([x, x], [bottom, top], color=INK, linewidth=1, zorder=0)
