"""Types of command line arguments, for `type=` of argparse: a wrong value ends with exit code 2."""

from argparse import ArgumentTypeError


def positive(text: str) -> float:
    """A finite number above 0."""
    value = float(text)
    if not 0 < value < float("inf"):
        raise ArgumentTypeError(f"must be positive: {text}")
    return value


def at_least_one(text: str) -> int:
    """A whole number, 1 or more."""
    value = int(text)
    if value < 1:
        raise ArgumentTypeError(f"must be at least 1: {text}")
    return value
