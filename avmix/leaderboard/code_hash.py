"""Which code trains and evaluates: a hash of its sources, with or without a checkout."""

import hashlib
from functools import cache
from pathlib import Path

_NO_PART = ("leaderboard", "explore", "preview", "tools", "exporting", "doctor", "events", "synth")
"""Packages that neither train nor evaluate; probes are fitted by `features`."""


@cache
def code_sha256() -> str:
    """Of all Python files of avmix but those of `_NO_PART`, by name and content."""
    root = Path(__file__).parents[1]
    found = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        inside = path.relative_to(root)
        if inside.parts[0] not in _NO_PART:
            found.update(f"{inside.as_posix()}\n".encode())
            found.update(hashlib.sha256(path.read_bytes()).digest())
    return found.hexdigest()
