"""Figure of a comparison: each run's difference to the first, with its interval."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure as Drawing

from avmix.evaluation.comparison import Comparison
from avmix.evaluation.figures import INK, MIXED, PARTNER
from avmix.evaluation.resampling import Figure
from avmix.system.printing import drawable, shortened

_NAME_LETTERS = 40


def draw_comparison(
    comparison: Comparison,
    panels: Mapping[str, tuple[str, float]],
    better: Sequence[str],
    out: Path,
) -> None:
    """Draw a panel for each of `panels`, by the name of a figure its title and the factor of its
    numbers; a run that is better beyond its interval is coloured, one that is worse too. `better`:
    names of figures of which less is better. Writes a PNG, or what the ending of `out` says."""
    shown = [name for name in panels if name in comparison.differences]
    names = [drawable(shortened(name, _NAME_LETTERS)) for name in comparison.runs[1:]]
    height = 1.6 + 0.45 * len(names)
    drawing = Drawing(figsize=(2.4 + 3.0 * max(1, len(shown)), height), layout="constrained")
    title = f"{comparison.protocol} {comparison.split}: minus {comparison.runs[0]}"
    drawing.suptitle(drawable(shortened(title, 90)), fontsize=11, color=INK)
    axes = drawing.subplots(1, max(1, len(shown)), sharey=True, squeeze=False)[0]
    for panel, name in zip(axes, shown, strict=False):
        heading, factor = panels[name]
        for place, figure in enumerate(comparison.differences[name]):
            if figure.value is None:
                continue
            colour = _colour(figure, name in better)
            panel.plot([factor * figure.value], [place], "o", color=colour)
            if figure.low is not None and figure.high is not None:
                ends = [factor * figure.low, factor * figure.high]
                panel.plot(ends, [place, place], "-", color=colour, linewidth=2)
        panel.axvline(0, color="#999999", linewidth=1)
        panel.set_title(heading, fontsize=10, color=INK)
        panel.set_yticks(range(len(names)), names, fontsize=9)
        panel.set_ylim(len(names) - 0.5, -0.5)
        panel.tick_params(axis="x", labelsize=8)
    drawing.savefig(out, dpi=100)


def _colour(figure: Figure, less_is_better: bool) -> str:
    """Of what the interval says: better, worse, or neither."""
    if figure.low is None or figure.high is None or figure.low <= 0 <= figure.high:
        return "#777777"
    return MIXED if (figure.low > 0) != less_is_better else PARTNER
