"""Screenshots of the page of `avmix leaderboard page`, for docs/leaderboard.md.

`python benchmarks/leaderboard_page.py --out docs` writes the page of
benchmarks/results/leaderboard, opens it in a headless Chromium, and writes leaderboard_light.png
(the table) and leaderboard_dark.png (what made a cell). With `--example` the records are made of
random predictions, and the page says so.
"""

import argparse
import sys
import tempfile
from pathlib import Path

from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
import chromium
import leaderboard_case

from avmix.leaderboard.board import board_page
from avmix.leaderboard.card import PROTOCOLS
from avmix.leaderboard.tables import tables_of

WIDTH = 1280
EXAMPLE = {"none": 0.9, "mixup": 1.5, "mixup@feature": 1.2, "independent": 1.1, "dropout": 0.8,
           "video_only": 0.6, "cutmix": 1.0, "cross": 0.9}  # fmt: skip
"""Method and how much better than chance its random predictions are."""


def main() -> None:
    """Write the page, look, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, default=Path("benchmarks/results/leaderboard"))
    parser.add_argument("--example", action="store_true")
    parser.add_argument("--out", type=Path, default=Path("docs"))
    args = parser.parse_args()
    if chromium.PROGRAM is None:
        sys.exit("error: no Chromium here (Debian: apt-get install chromium-headless-shell)")
    # What the browser leaves behind may still be written while it is deleted.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        folder = Path(name)
        cards, results = (folder / "cards", folder / "results")
        if args.example:
            _write_example(cards, results)
        else:
            cards, results = PROTOCOLS, args.results
        tables, refused = tables_of(results, cards=cards)
        path = folder / "leaderboard.html"
        path.write_bytes(board_page(tables, refused, results))
        with chromium.browser(folder) as page:
            _shoot(page, path, args.out)


def _write_example(cards: Path, results: Path) -> None:
    """Records of random predictions, of a card that says what they are."""
    leaderboard_case.write_cards(cards)
    card = (cards / "mini.yaml").read_text()
    names = ", ".join(f'"{name}": {{}}' for name in EXAMPLE)
    lines = [f"methods: {{{names}}}" if line.startswith("methods:") else line
             for line in card.splitlines()]  # fmt: skip
    text = "\n".join(lines).replace(
        "title: Two splits of three classes", "title: EXAMPLE of random predictions, not a result"
    )
    (cards / "mini.yaml").write_text(text + "\n")
    (cards / "published_mini.yaml").write_text(
        "rows:\n"
        "  - {method: none, metric: top1, value: 0.61, source: no paper, checked: read in a file}\n"
        "  - {method: mixup, metric: top1, value: 0.99, source: hearsay, checked: from memory}\n"
    )
    for number, (name, skill) in enumerate(EXAMPLE.items()):
        kept = {
            (split, seed): leaderboard_case.predictions(
                100 * number + seed, split=split, skill=skill, clips=120, sources=30
            )
            for split in ("one", "two")
            for seed in range(3)
        }
        leaderboard_case.write_row(cards, results, name, kept)


def _shoot(page: chromium.Page, path: Path, out: Path) -> None:
    page.prefer("light")
    page.open(path)
    page.screenshot(out / "leaderboard_light.png", WIDTH, 760)
    page.prefer("dark")
    page.evaluate("document.querySelectorAll('#board .cell.main')[1].click()")
    page.wait_for("document.getElementById('told').open")
    page.screenshot(out / "leaderboard_dark.png", WIDTH, 860)
    for name in ("leaderboard_light.png", "leaderboard_dark.png"):  # in a third of the bytes
        with Image.open(out / name) as image:
            image.convert("RGB").quantize(256).save(out / name, optimize=True)
    if page.said:
        sys.exit(f"error: the page reports {page.said}")


if __name__ == "__main__":
    main()
