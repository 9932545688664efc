"""Put the numbers of benchmarks/results into README.md and pages of docs, between markers.

    python benchmarks/paste.py            write pages and figures
    python benchmarks/paste.py --check    exit code 1 where one does not say what was measured

`<!-- result NAME -->` is replaced by the table of benchmarks/results/NAME.json, or of all results
that name NAME as their `table`; `<!-- result NAME:summary -->` by a few rows of it, without its
figure. A result of code that was not committed is refused: its table stays as it is, and the exit
code is 1.
"""

import hashlib
import json
import os
import re
import sys
from pathlib import Path
from typing import Any

from report.curves import Curves, LevelCurves, draw_curves, draw_level_curves
from report.dots import draw, drawn_from
from report.tables import figure, summary, table
from shared import provenance
from shared.paths import RESULTS, ROOT

FIGURES = ROOT / "docs" / "results"
PAGES = (
    ROOT / "README.md",
    ROOT / "docs" / "augment.md",
    ROOT / "docs" / "balance.md",
    ROOT / "docs" / "benchmarks.md",
    ROOT / "docs" / "decoding.md",
    ROOT / "docs" / "evaluation.md",
    ROOT / "docs" / "exporting.md",
    ROOT / "docs" / "features.md",
    ROOT / "docs" / "few_shot.md",
    ROOT / "docs" / "learning.md",
    ROOT / "docs" / "mixing.md",
    ROOT / "docs" / "models.md",
    ROOT / "docs" / "preparing.md",
    ROOT / "docs" / "robustness.md",
    ROOT / "docs" / "synthesis.md",
)

_MARKED = re.compile(r"(<!-- result (\w+)(:summary)? -->\n)(.*?)(<!-- end -->)", re.DOTALL)


def results_of(marker: str) -> dict[str, dict[str, Any]]:
    """The results that a marker asks for, by name: the one of that name, or the variants of that
    table, of which there must be two."""
    path = RESULTS / f"{marker}.json"
    paths = [path] if path.exists() else sorted(RESULTS.glob("*.json"))
    found = {path.stem: json.loads(path.read_text()) for path in paths}
    asked = {n: r for n, r in found.items() if marker == n or marker == r.get("table")}
    return asked if path.exists() or len(asked) > 1 else {}


def pasted(text: str, page: Path = PAGES[0]) -> str:
    """`text` with every marked table written again, but for those that are refused."""
    return _MARKED.sub(lambda m: m[1] + _block(m[2], bool(m[3]), m[4], page) + m[5], text)


def _block(marker: str, short: bool, old: str, page: Path) -> str:
    found = results_of(marker)
    if not found:
        return "Not measured yet.\n"
    if any(provenance.refusal(name, result) for name, result in found.items()):
        return old
    results = list(found.values())
    said = " ".join(dict.fromkeys(map(provenance.sentence, results)))
    if short:
        return f"{summary(results[0]).rstrip()} {said}\n"
    text = f"{table(*results).rstrip()} {said}\n"
    if (what := figure(*results)) is not None:
        text += f"\n![{what.alt}]({os.path.relpath(FIGURES / f'{marker}.png', page.parent)})\n"
    return text


def markers() -> dict[str, str]:
    """Page and section of every marked table, by its name."""
    found = {}
    for page in PAGES:
        text = page.read_text()
        for marked in _MARKED.finditer(text):
            if marked[3]:
                continue  # the whole table is elsewhere
            headings = re.findall(r"^#+ (.*)$", text[: marked.start()], re.MULTILINE)
            found[marked[2]] = f'{page.relative_to(ROOT)}, section "{headings[-1]}"'
    return found


def where(name: str, result: dict[str, Any]) -> str:
    """Page and section that show a result."""
    places = markers()
    shown = [places[m] for m in (name, result.get("table")) if m in places]
    return " and ".join(shown) or f"{name} (on no page)"


def refusals() -> list[str]:
    """Of every result that is on a page."""
    found = {n: r for marker in markers() for n, r in results_of(marker).items()}
    return [said for n, r in found.items() if (said := provenance.refusal(n, r))]


def old_figures(*, write: bool) -> list[str]:
    """Figures that are not of the results as they are; `write`: they are drawn again."""
    old = []
    for marker in markers():
        found = results_of(marker)
        if not found or any(provenance.refusal(n, r) for n, r in found.items()):
            continue
        what, path = figure(*found.values()), FIGURES / f"{marker}.png"
        texts = [(RESULTS / f"{name}.json").read_bytes() for name in found]
        sha256 = hashlib.sha256(b"".join(texts)).hexdigest()
        if what is not None and drawn_from(path) != sha256:
            old.append(path.name)
            if not write:
                continue
            if isinstance(what, Curves):
                draw_curves(what, path, sha256)
            elif isinstance(what, LevelCurves):
                draw_level_curves(what, path, sha256)
            else:
                draw(what, path, sha256)
    return old


def main() -> None:
    """Write the pages and figures, or check them."""
    check = "--check" in sys.argv[1:]
    wrong = [f"{name} is not of the results" for name in old_figures(write=not check) if check]
    for page in PAGES:
        text = page.read_text()
        new = pasted(text, page)
        if not check:
            page.write_text(new)
        elif new != text:
            wrong.append(f"{page.name} does not say what was measured")
    if wrong:
        print(f"error: {'; '.join(wrong)}; run benchmarks/paste.py", file=sys.stderr)
    if refused := refusals():
        print("\n".join(f"error: {said}" for said in refused), file=sys.stderr)
    if wrong or refused:
        sys.exit(1)


if __name__ == "__main__":
    main()
