"""Tables of results: every row computed again from its predictions, beside what was published.

Another page of the same results, as one of HTML, begins with `tables_of`, too.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from avmix.evaluation.comparison import LOWER_IS_BETTER
from avmix.leaderboard.admission import Admitted, Refused, admit_all
from avmix.leaderboard.card import PROTOCOLS, Card, Published, published_rows
from avmix.leaderboard.estimates import Estimate, estimate_difference, estimate_row, samples_of
from avmix.leaderboard.result import Overlap, Result, result_files

HEADS = ("video head", "audio head", "audio missing", "video missing")


@dataclass(frozen=True, slots=True, kw_only=True)
class TableRow:
    """One method."""

    method: str
    about: str
    figures: dict[str, Estimate]
    """By name, those of `figure_names` that it has."""
    differences: dict[str, Estimate]
    """To the first row; empty for it."""
    result: Result
    """Everything that made it."""
    published: tuple[Published, ...]
    """Of the same method, metric and variant, verified."""
    marks: tuple[str, ...]
    """What a reader must know: uncommitted code, clips without a prediction, one seed."""

    def verdict(self, figure: str) -> str:
        """`better` or `worse` than the first row, or nothing where its interval holds 0."""
        found = self.differences.get(figure)
        if found is None or not (found.is_above or found.is_below):
            return ""
        lower = figure.rpartition(".")[2] in LOWER_IS_BETTER
        return "better" if found.is_above != lower else "worse"


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """One variant of a protocol."""

    card: Card
    variant: str
    metric: str
    """Name of the main figure, `fused.top1`."""
    rows: tuple[TableRow, ...]
    """In the order of the card; differences are to the first."""
    only_published: tuple[Published, ...]
    """Verified rows of methods that were not run."""
    unverified: tuple[Published, ...]
    """From memory: not among the published."""
    num_sources: int


def figure_names(metric: str) -> tuple[str, ...]:
    """Figures of a table, the main one first."""
    return (f"fused.{metric}", *(f"{head}.{metric}" for head in HEADS), "fused.nll", "fused.ece",
            "fusion.gain", "fusion.mu")  # fmt: skip


def tables_of(
    results: Path, protocol: str = "", variant: str = "", cards: Path = PROTOCOLS
) -> tuple[list[Table], list[Refused]]:
    """The tables of a folder of results, by protocol and variant, and the records that were
    refused. Raises ValueError where there is no such folder."""
    if not results.is_dir():
        raise ValueError(f"{results}: no folder of results; `avmix leaderboard run` writes one")
    admitted, refused = admit_all(result_files(results, protocol), cards)
    groups: dict[tuple[str, str], list[Admitted]] = {}
    for one in admitted:
        if not variant or one.result.variant == variant:
            groups.setdefault((one.result.protocol, one.result.variant), []).append(one)
    found = [table_of(group, cards) for group in groups.values()]
    found.sort(key=lambda one: (one.card.id, [*one.card.all_variants].index(one.variant)))
    return found, refused


def table_of(found: list[Admitted], cards: Path = PROTOCOLS) -> Table:
    """The table of records of one variant of one protocol."""
    card, variant = found[0].card, found[0].result.variant
    order = {name: i for i, name in enumerate(card.methods)}
    found = sorted(found, key=lambda one: order[one.result.method])
    names = figure_names(card.metric)
    kept = {
        one.result.method: {
            (run.split, run.seed): k for run, k in zip(one.result.runs, one.kept, strict=True)
        }
        for one in found
    }
    samples = samples_of(kept, names)
    first = samples[found[0].result.method]
    published = [one for one in published_rows(card, cards) if one.variant in ("", variant)]
    rows = []
    for number, one in enumerate(found):
        runs = samples[one.result.method]
        values = {name: value for name in names
                  if (value := estimate_row(runs, name)) is not None}  # fmt: skip
        less: Mapping[str, Estimate] = {
            name: value for name in values
            if number and (value := estimate_difference(runs, first, name)) is not None
        }  # fmt: skip
        rows.append(TableRow(
            method=one.result.method, about=card.methods[one.result.method].about,
            figures=values, differences=dict(less), result=one.result, marks=_marks(one.result),
            published=tuple(p for p in published if p.verified and p.metric == card.metric
                            and p.method == one.result.method),
        ))  # fmt: skip
    ours = {row.method for row in rows}
    return Table(
        card=card, variant=variant, metric=names[0], rows=tuple(rows),
        only_published=tuple(p for p in published if p.verified
                             and (p.method not in ours or p.metric != card.metric)),
        unverified=tuple(p for p in published if not p.verified),
        num_sources=sum({place[0]: len(run.place_of) for place, run in first.items()}.values()),
    )  # fmt: skip


def _marks(result: Result) -> tuple[str, ...]:
    said = []
    if any(run.dirty for run in result.runs):
        said.append("code was not committed")
    if missing := sum(run.num_missing for run in result.runs):
        said.append(f"{missing} clips without a prediction")
    if len({run.seed for run in result.runs}) == 1:
        said.append("one seed: its interval is over sources alone")
    if len({run.code_sha256 for run in result.runs}) > 1:
        said.append("runs of several versions of the code")
    if result.selection == "oracle on test":
        said.append("epoch chosen on the test split")
    if any(one.overlap.found == "some" for one in result.pretraining):
        said.append("weights have seen clips of the test split")
    return tuple(said)


def overlap_word(result: Result) -> str:
    """What is known of the overlap of pre-training with the test split, in a word or two."""
    if not result.pretraining:
        return "from scratch"
    order: tuple[Overlap, ...] = tuple(one.overlap for one in result.pretraining)
    for word in ("some", "unknown"):
        if any(one.found == word for one in order):
            return word
    return order[0].found
