"""The site that mkdocs builds from docs/: strictly, complete, offline, and as GitHub shows it."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag

import chromium
import pytest
from markdown_it import MarkdownIt

ROOT = Path(__file__).parents[1]
PAGES = [
    *("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md"),
    *(path.relative_to(ROOT).as_posix() for path in sorted((ROOT / "docs").glob("*.md"))),
    *(path.relative_to(ROOT).as_posix() for path in sorted((ROOT / "datasets").rglob("*.md"))),
]
"""Pages that are read in the repository as well."""
ADDRESS = re.compile(r"(?:https?:)?//[\w-]+\.\w")
LOADS = {"script": "src", "img": "src", "link": "href", "iframe": "src", "source": "src",
         "video": "src", "audio": "src", "object": "data", "form": "action"}  # fmt: skip
"""What a browser asks for by itself, or, of a form, sends something to."""


class Parsed(HTMLParser):
    """A page: its addresses, and its article as a list of words and of the tags that matter."""

    TAGS = frozenset({"h1", "h2", "h3", "h4", "li", "ol", "ul", "table", "th", "td", "pre", "code",
                      "strong", "em", "img", "blockquote"})  # fmt: skip

    def __init__(self, html: str) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.words: list[str] = []
        self._hidden = False
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.ids |= {value for key in ("id", "name") if (value := given.get(key))}
        if tag == "a" and given.get("href"):
            self.links.append(given["href"] or "")
        if tag in LOADS and (address := given.get(LOADS[tag])):
            self.loads.append(address)
        self._hidden |= tag == "a" and "headerlink" in (given.get("class") or "")
        if tag in self.TAGS:
            self.words.append(f"<{tag}>")

    def handle_endtag(self, tag: str) -> None:
        self._hidden &= tag != "a"

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self.words += data.split()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site; every warning of the build is an error."""
    pytest.importorskip("mkdocs", reason="the extra docs is not installed")
    out = tmp_path_factory.mktemp("site") / "site"
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(out)]
    env = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}  # a banner about other generators
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "WARNING" not in done.stderr
    return out


@pytest.fixture(scope="module")
def parsed(site: Path) -> dict[Path, Parsed]:
    """Every page of the site."""
    return {path: Parsed(path.read_text()) for path in sorted(site.rglob("*.html"))}


def place(page: str) -> str:
    """Where a page of the repository is on the site."""
    path = page.removeprefix("docs/").removesuffix(".md")
    return re.sub(r"\bREADME$", "index", path) + ".html"


def test_every_page_is_in_the_navigation() -> None:
    nav = (ROOT / "mkdocs.yml").read_text().split("\nnav:\n")[1]
    missing = [page for page in PAGES if f" {page.removeprefix('docs/')}\n" not in nav]
    assert not missing


@pytest.mark.long
def test_every_link_and_anchor_of_the_site_is_there(site: Path, parsed: dict[Path, Parsed]) -> None:
    checked, broken = 0, []
    for path, page in parsed.items():
        if path.name == "404.html":  # which a server shows for any address
            continue
        for link in [*page.links, *page.loads]:
            if re.match(r"https?://|mailto:|data:|javascript:", link):
                continue
            address, anchor = urldefrag(link)
            target = (path.parent / unquote(address)).resolve() if address else path
            target = target / "index.html" if target.is_dir() else target
            checked += 1
            if not target.is_file():
                broken.append(f"{path.relative_to(site)}: {link}")
            elif anchor and target.suffix == ".html" and unquote(anchor) not in parsed[target].ids:
                broken.append(f"{path.relative_to(site)}: no anchor {link}")
    assert checked > 3000
    assert not broken, "\n".join(sorted(set(broken))[:30])


@pytest.mark.long
def test_the_site_loads_nothing_from_elsewhere(site: Path, parsed: dict[Path, Parsed]) -> None:
    found = {load for page in parsed.values() for load in page.loads if ADDRESS.match(load)}
    assert not found
    for path in site.rglob("*.css"):
        assert not re.search(r"(?:@import|url\()\s*[\"']?(?:https?:)?//", path.read_text()), path


@pytest.mark.long
@pytest.mark.parametrize("page", PAGES)
def test_a_page_says_the_same_on_the_site_as_in_the_repository(
    page: str, parsed: dict[Path, Parsed], site: Path
) -> None:
    """Lists, tables and code as CommonMark has them, which the generator of the site has not."""
    html = (site / place(page)).read_text()
    article = re.search(r"<article[^>]*>(.*?)</article>", html, re.DOTALL)
    assert article is not None
    shown = Parsed(re.sub(r"<a [^>]*\bmd-content__button\b.*?</a>", "", article[1])).words
    meant = Parsed(MarkdownIt("commonmark").enable("table").render((ROOT / page).read_text())).words
    assert "".join(shown) == "".join(meant)


@pytest.mark.long
def test_the_reference_has_every_public_name_and_every_option(
    parsed: dict[Path, Parsed], site: Path
) -> None:
    import avmix
    from avmix.commands.catalogue import BY_NAME
    from avmix.config import TrainConfig
    from avmix.config.command_line import _keys

    names = parsed[site / "reference/python.html"].ids
    # A name is where it is defined; that it can be had from avmix is said beside it.
    assert not [name for name in avmix.__all__ if not any(i.endswith(f".{name}") for i in names)]
    text = (site / "reference/options.html").read_text()
    assert not [key for key in _keys(TrainConfig) if f"<code>{key}</code>" not in text]
    commands = (site / "reference/commands.html").read_text()
    assert not [name for name in BY_NAME if f"avmix {name}" not in commands]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[chromium.Page]:
    """A browser."""
    if chromium.PROGRAM is None:
        pytest.skip("no Chromium is installed")
    with chromium.browser(tmp_path_factory.mktemp("browser")) as opened:
        yield opened


WAIT = """new Promise((done, fail) => {
  const at = Date.now(), look = () => {
    const found = document.querySelectorAll('.md-search-result__item a');
    if (found.length) done([...found].map(a => a.getAttribute('href')).join(' '));
    else if (Date.now() - at > 20000) done('');
    else setTimeout(look, 50);
  }; look(); })"""


@pytest.mark.long
def test_pages_open_without_errors_and_the_search_finds_words_offline(
    site: Path, page: chromium.Page
) -> None:
    for name in ("index", "training", "reference/options", "datasets/folder/index", "notebook"):
        page.open(site / f"{name}.html")
        assert page.said == []
        assert page.evaluate("document.querySelector('.md-content h1').innerText.length") > 3
        assert page.evaluate("[...document.images].filter(i => !i.naturalWidth).length") == 0
    page.evaluate("""(() => { const box = document.querySelector('.md-search__input');
        box.focus(); box.value = 'frozen_norm';
        box.dispatchEvent(new Event('input', {bubbles: true}));
        box.dispatchEvent(new KeyboardEvent('keyup', {bubbles: true})); return 0; })()""")
    found = page.call("Runtime.evaluate", expression=WAIT, awaitPromise=True, returnByValue=True)
    assert "options.html" in found["result"]["value"]
    assert page.said == []
