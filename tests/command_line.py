"""The `avmix` command inside of a test."""

import sys
from collections.abc import Sequence

from avmix import cli


def main(words: Sequence[str]) -> None:
    """As people run it; returns where it succeeds, and raises SystemExit otherwise."""
    try:
        cli.main(words)
    except SystemExit as end:
        if end.code:
            raise


PROGRAM = [
    sys.executable,
    "-c",
    # Shells start what runs in the background with SIGINT ignored, and Python leaves it so.
    "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    "from avmix.cli import main; main()",
]
"""`avmix` as a process of its own that Ctrl-C ends, however the tests were started."""
