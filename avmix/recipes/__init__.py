"""Recipes of datasets: annotations and media in, a manifest out. A module each.

A recipe has `protocols(options)` and may have `arguments(parser)`; `toy`, which generates its
clips, has `main(argv)`. The first line of a module says what the dataset is: `avmix prepare` lists
it, and prints the whole text as help.
"""

from pathlib import Path

CLASS_LISTS = Path(__file__).parent / "classes"
"""Text files with the names of the classes, one a line, in the order of the outputs."""
