"""Pages of the site for the notebooks in docs/: their cells, and what they keep of outputs."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

DOCS = Path(__file__).parents[1]


def page(notebook: dict[str, Any]) -> str:
    """Markdown of a notebook."""
    return "\n".join(_parts(notebook["cells"]))


def _parts(cells: list[dict[str, Any]]) -> Iterator[str]:
    for cell in cells:
        source = "".join(cell["source"]).rstrip()
        if cell["cell_type"] == "markdown":
            yield f"{source}\n"
            continue
        yield f"```python\n{source}\n```\n"
        for output in cell["outputs"]:
            data = output.get("data", {})
            if text := "".join(output.get("text", data.get("text/plain", ""))).rstrip():
                yield f"```text\n{text}\n```\n"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add a page beside each notebook, which stays there to be downloaded."""
    for path in sorted(DOCS.glob("*.ipynb")):
        content = page(json.loads(path.read_text()))
        files.append(File.generated(config, f"{path.stem}.md", content=content))
    return files
