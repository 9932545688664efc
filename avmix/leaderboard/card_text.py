"""A card in words: `avmix leaderboard list` and `show`."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from avmix.leaderboard.card import PROTOCOLS, Card, published_rows
from avmix.system import strict_json

_RULES = {
    "last epoch": "the last epoch is judged; nothing is chosen",
    "grouped validation": "the epoch is chosen by held-out sources of the train split",
    "oracle on test": "the epoch is chosen on the test split itself",
}


def listed(cards: Sequence[Card]) -> Iterator[str]:
    """A line for each card, and which can be run."""
    width = max(len(card.id) for card in cards)
    for card in cards:
        end = "" if not card.cannot_run else "  [cannot run as it is]"
        yield f"{card.id:{width}}  {card.title}{end}"
    yield ""
    yield "avmix leaderboard show PROTOCOL tells all of one; check PROTOCOL what it needs here."


def shown(card: Card, folder: Path = PROTOCOLS) -> str:
    """All that a card says."""
    return "\n".join(_lines(card, folder))


def _lines(card: Card, folder: Path) -> Iterator[str]:
    yield f"{card.id}, version {card.version}: {card.title}"
    yield card.about
    yield f"source: {card.source}"
    data = card.dataset
    yield ""
    yield f"data: {data.name}, {data.classes} classes; {data.how or 'see docs/preparing.md'}"
    for name, fold in data.splits.items():
        parts = [f"{n} {p.clips if p.clips is not None else 'an unknown number of'} clips"
                 + (f", SHA-256 {p.sha256[:16]}" if p.sha256 else "")
                 for n, p in fold.parts.items()]  # fmt: skip
        yield f"  split {name}: {'; '.join(parts) or 'numbers and hashes not known'}"
    rule = card.selection
    yield f"metric: {card.metric}; selection: {rule} ({_RULES[rule]})"
    yield f"seeds: {', '.join(map(str, card.seeds))}"
    if card.probe is not None:
        clips = f"{card.probe.shots} clips a class" if card.probe.shots else "all clips"
        yield f"probe: {card.probe.regression} logistic regression on {clips}, drawn by "\
            f"{card.probe.by}, {card.probe.draws} draws"  # fmt: skip
    if card.tuning is not None:
        yield (
            f"tuning: {card.tuning.candidates} candidates of each method that has some, judged on "
            f"{card.tuning.holdout:g} of the sources of the train split"
        )
    for what, options in (("options", card.options), ("features", card.features),
                          ("evaluation", card.evaluation)):  # fmt: skip
        if options:
            yield f"{what}: {_words(options)}"
    for one in card.weights or ():
        known = "ids of its clips are known" if one.ids else "overlap with the test split unknown"
        yield f"weights: {one.name} ({one.modality}), trained on {one.trained_on}; {known}"
    yield ""
    yield "methods:"
    for name, method in card.methods.items():
        yield f"  {name}: {method.about or _words(method.options) or method.head}"
    yield "variants:"
    for name, variant in card.all_variants.items():
        rule = f"; selection: {variant.selection}" if variant.selection else ""
        said = f" ({_words(variant.options)})" if variant.options else ""
        yield f"  {name}: {variant.about}{said}{rule}"
    if card.defects:
        yield "known defects of the original:"
    for defect in card.defects:
        off = f"off in {defect.off_in}" if defect.off_in else f"stays: {defect.stays_because}"
        leak = "leak; " if defect.leak else ""
        yield f"  {defect.what} ({leak}{off}; {defect.source})"
    yield from _published(card, folder)
    if card.cost is not None:
        yield f"cost: {card.cost.minutes:g} minutes a cell on {card.cost.machine}"
    yield f"cannot run as it is: {card.cannot_run}" if card.cannot_run else "can run"


def _published(card: Card, folder: Path) -> Iterator[str]:
    rows = published_rows(card, folder)
    for verified, title in ((True, "published:"), (False, "unverified, from memory:")):
        some = [one for one in rows if one.verified is verified]
        if some:
            yield title
        for one in some:
            note = f"; {one.note}" if one.note else ""
            value = f"{one.metric} {one.value:.4g}"
            yield f"  {one.method}: {value} ({one.source}; {one.checked}{note})"


def _words(options: object) -> str:
    assert isinstance(options, dict)
    return ", ".join(
        f"{key}={value if isinstance(value, str) else strict_json.dumps(value)}"
        for key, value in options.items()
    )
