"""The `avmix` command inside of a test."""

from collections.abc import Sequence

from avmix import cli


def main(words: Sequence[str]) -> None:
    """As people run it; returns where it succeeds, and raises SystemExit otherwise."""
    try:
        cli.main(words)
    except SystemExit as end:
        if end.code:
            raise
