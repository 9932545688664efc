"""Progress of a measurement, with the time since it began."""

import sys
import time

_begun = time.monotonic()


def say(text: str) -> None:
    """Print a line of progress to standard error."""
    print(f"[{time.monotonic() - _begun:5.0f} s] {text}", file=sys.stderr, flush=True)


def minutes() -> float:
    """Since the script began."""
    return round((time.monotonic() - _begun) / 60, 1)
