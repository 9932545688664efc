"""Pages of the site for files outside docs/, and links to them.

The pages are written for readers of the repository: their links are relative paths in it. On the
site, README.md is the home page, other Markdown files keep their paths, and any other file or
folder that a page links is a page of `files/` with its text.
"""

import ast
import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
TOP = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "datasets/README.md")
"""Markdown files outside of docs/ to begin with; what they link follows."""
_FENCE = re.compile(r"^( *)(```+)[^\n]*\n.*?^\1\2 *$", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"(?<=\]\()([^)\s#]+)(?=[)#])")
_KINDS = {".py": "python", ".yaml": "yaml", ".yml": "yaml", ".json": "json", ".toml": "toml"}


def in_repository(source: str) -> str:
    """Path in the repository of a page whose path on the site is `source`."""
    return f"docs/{source}" if (ROOT / "docs" / source).is_file() else source


def site_path(path: str) -> str:
    """Path on the site of a file or folder of the repository."""
    if path.startswith("docs/"):  # a notebook has a page, beside the file to download
        return re.sub(r"\.ipynb$", ".md", path.removeprefix("docs/"))
    return path if path.endswith(".md") else f"files/{path}.md"


def linked(text: str, path: str) -> list[str]:
    """Paths in the repository that the page `path` links, where they exist."""
    found = (_target(link, path) for link in _LINK.findall(_FENCE.sub("", text)))
    return [target for target in found if target]


def rewritten(text: str, path: str) -> str:
    """The page `path` of the repository with the links of the site."""
    here = posixpath.dirname(site_path(path))

    def link(found: re.Match[str]) -> str:
        target = _target(found[0], path)
        return posixpath.relpath(site_path(target), here or ".") if target else found[0]

    parts, at = [], 0
    for fence in _FENCE.finditer(text):
        parts += [_LINK.sub(link, text[at : fence.start()]), fence[0]]
        at = fence.end()
    return "".join([*parts, _LINK.sub(link, text[at:])])


def _target(link: str, path: str) -> str | None:
    """Path in the repository of a link of the page `path`; None for what is not there."""
    target = posixpath.normpath(posixpath.join(posixpath.dirname(path), link))
    return target if "://" not in link and (ROOT / target).exists() else None


def _text_page(path: str) -> str:
    """Markdown that shows a file or the content of a folder."""
    place = ROOT / path
    if place.is_dir():
        return f"# {path}\n\n" + "\n".join(map(_row, sorted(place.iterdir()))) + "\n"
    kind = _KINDS.get(place.suffix, "text")
    return f"# {path}\n\n``````{kind}\n{place.read_text().rstrip()}\n``````\n"


def _row(file: Path) -> str:
    """A line of a list: the name of a file, and what it says of itself."""
    about = ""
    if file.suffix == ".py":
        about = (ast.get_docstring(ast.parse(file.read_text())) or "").split("\n\n")[0]
    elif file.suffix == ".yaml":
        about = file.read_text().split("\n", 1)[0].removeprefix("#").strip()
    return f"* `{file.name}`" + (f": {' '.join(about.split())}" if about else "")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add README.md, the other pages outside of docs/, and every file that a page links."""
    done = {f"docs/{file.src_uri}" for file in files.documentation_pages()}
    texts = [(path, (ROOT / path).read_text()) for path in sorted(done) if path.endswith(".md")]
    waiting = [*TOP, *(target for path, text in texts for target in linked(text, path))]
    while waiting:
        path = waiting.pop()
        if path in done or (path.startswith("docs/") and (ROOT / path).is_file()):
            continue
        done.add(path)
        shown = path.endswith(".md")
        text = (ROOT / path).read_text() if shown else _text_page(path)
        inclusion = InclusionLevel.INCLUDED if shown else InclusionLevel.NOT_IN_NAV
        files.append(File.generated(config, site_path(path), content=text, inclusion=inclusion))
        if shown:
            waiting += linked(text, path)
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Rewrite the links; keep the texts of files out of the search."""
    source = page.file.src_uri
    if source.startswith("files/"):
        page.meta["search"] = {"exclude": True}
        return markdown
    return rewritten(markdown, in_repository(source))
