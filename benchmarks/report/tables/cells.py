"""What several tables write in the same way."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

_T = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776}
"""97.5 % point of Student's t distribution for so many values."""
FEW = 5
"""Fewer values than this have a median and a range; a deviation would say more than is known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """Of one figure over seeds."""

    values: tuple[float, ...]
    median: float
    least: float
    most: float
    mean: float
    sd: float | None
    """Standard deviation (n - 1); None of fewer than `FEW` values."""


def summary(values: Sequence[float]) -> Summary:
    """Of at least one value, in the order given."""
    enough = len(values) >= FEW
    return Summary(
        values=tuple(values), median=statistics.median(values), least=min(values),
        most=max(values), mean=statistics.mean(values),
        sd=statistics.stdev(values) if enough else None,
    )  # fmt: skip


def percent(share: float) -> str:
    """A share of 1, in percent."""
    return f"{100 * share:.1f}"


def spread(found: Summary) -> str:
    """Mean and deviation in percent; of few values, each."""
    if found.sd is None:
        return ", ".join(map(percent, found.values))
    return f"{percent(found.mean)} ± {percent(found.sd)}"


def half_interval(values: Sequence[float]) -> float:
    """Half the 95 % interval of the mean of two to five values (t distribution)."""
    return _T[len(values)] * statistics.stdev(values) / len(values) ** 0.5


def mean_percent(values: Sequence[float], *, sign: bool = False) -> str:
    """Mean of shares of 1 with its 95 % interval, in percent; of a single value, the value. `sign`:
    for differences."""
    text = f"{100 * statistics.mean(values):{'+' if sign else ''}.1f}"
    return text if len(values) < 2 else f"{text} ± {100 * half_interval(values):.1f}"


def span(values: Sequence[float], digits: int) -> str:
    """`low to high`, or the one value that all are."""
    low, high = f"{min(values):.{digits}f}", f"{max(values):.{digits}f}"
    return low if low == high else f"{low} to {high}"


def numbers(values: Sequence[int]) -> str:
    """Whole numbers in rising order; `first to last` where none is left out."""
    found = sorted(set(values))
    if len(found) > 2 and found == list(range(found[0], found[-1] + 1)):
        return f"{found[0]} to {found[-1]}"
    return ", ".join(map(str, found))


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a Markdown table: the first column to the left, the others to the right."""
    rule = "|---|" + "--:|" * (len(headings) - 1)
    head, *body = [f"| {' | '.join(map(_cell, row))} |" for row in (headings, *rows)]
    return [head, rule, *body]


def _cell(text: str) -> str:
    """Text that may be anything, as one cell of one line."""
    return " ".join(text.split()).replace("|", r"\|")


def machine_lines(result: dict[str, Any]) -> list[str]:
    """Sentences about the machine of a result with an `environment`."""
    environment = result["environment"]
    versions = [f"{name} {found}" for name, found in environment["versions"].items() if found]
    lines = [f"{environment['cpu']}, {environment['cores']} cores; {', '.join(versions)}."]
    if (load := result.get("load_average_at_the_end")) is not None:
        # One is the measurement itself; more is others on the same cores.
        lines.append(
            f"Load average: {environment['load_average_at_the_start']:.1f} before, {load:.1f} "
            "after."
        )
    return lines


def cpu_of(result: dict[str, Any]) -> str:
    """The processor: of `environment`; results that were measured before they had one name it."""
    if "environment" in result:
        return result["environment"]["cpu"]
    return result["machine" if "machine" in result else "cpu"]
