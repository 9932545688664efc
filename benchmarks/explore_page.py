"""Screenshots of the page of `avmix explore`, for docs/exploring.md.

`python benchmarks/explore_page.py --checkpoint runs/demo --root data/toy --out docs` starts the
command on what `make demo` wrote, opens its page in a headless Chromium, and writes
explore_light.png (a mix and its predictions) and explore_dark.png (the clips that the run is most
wrong about).
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
import chromium

WIDTH = 1100
SHOWN = "document.querySelectorAll('#result .look').length === 3"
WHOLE = "[...document.images].every(image => image.complete && image.naturalWidth > 0)"


def main() -> None:
    """Start, look, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name, kept in (("checkpoint", "runs/demo"), ("root", "data/toy"), ("out", "docs")):
        parser.add_argument(f"--{name}", type=Path, default=Path(kept))
    args = parser.parse_args()
    if chromium.PROGRAM is None:
        sys.exit("error: no Chromium here (Debian: apt-get install chromium-headless-shell)")
    command = [sys.executable, "-m", "avmix", "explore", str(args.checkpoint), "--root",
               str(args.root), "--worst", str(args.checkpoint), "--port", "0",
               "--no-browser"]  # fmt: skip
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        url = server.stdout.readline().strip()
        if not url.startswith("http"):
            sys.exit("error: the page could not be served")
        with (
            # What the browser leaves behind may still be written while it is deleted.
            tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder,
            chromium.browser(Path(folder)) as page,
        ):
            _shoot(page, url, args.out)
    finally:
        server.terminate()
        server.wait()


def _shoot(page: chromium.Page, url: str, out: Path) -> None:
    page.open_url(url)
    page.wait_for(SHOWN)
    # Two clips of the gallery, of different classes.
    card = "document.querySelectorAll('.gallery .card')[{}].querySelectorAll('button')[{}].click()"
    for number, button, letter in ((0, 0, "A"), (3, 1, "B")):
        page.evaluate(card.format(number, button))
        page.wait_for(f"document.querySelector('#result [aria-label={letter}] h2')"
                      ".innerText.includes(' to ')")  # fmt: skip
    page.prefer("light")
    page.wait_for("document.body.classList.contains('body--light')")
    page.wait_for(WHOLE)
    page.screenshot(out / "explore_light.png", WIDTH, 1120)
    page.prefer("dark")
    page.wait_for("document.body.classList.contains('body--dark')")
    page.evaluate("document.querySelector('.gallery').scrollIntoView()")
    page.screenshot(out / "explore_dark.png", WIDTH, 760)
    for name in ("explore_light.png", "explore_dark.png"):  # in a third of the bytes
        with Image.open(out / name) as image:
            image.convert("RGB").quantize(256).save(out / name, optimize=True)
    if page.said:
        sys.exit(f"error: the page reports {page.said}")


if __name__ == "__main__":
    main()
