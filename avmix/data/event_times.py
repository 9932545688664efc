"""Times of events of each clip, which `avmix events` writes beside a manifest."""

import hashlib
import json
import math
from pathlib import Path

from avmix.data.manifest import ManifestError


def read_events(*folders: Path) -> tuple[dict[str, tuple[float, ...]], str]:
    """Event times of each clip, and the hash of the files they were read from.

    `events.jsonl` beside each manifest, one `{"clip_id", "event_seconds"}` a line; seconds on the
    clock of the file, 0 is the first presented frame. Raises `ManifestError` where one is missing
    or a line is not of this form.
    """
    found: dict[str, tuple[float, ...]] = {}
    sha256 = hashlib.sha256()
    for path in (folder / "events.jsonl" for folder in folders):
        try:
            text = path.read_bytes()
        except FileNotFoundError:
            raise ManifestError(f"{path}: not found; `avmix events` writes it") from None
        sha256.update(hashlib.sha256(text).digest())
        for number, line in enumerate(text.split(b"\n"), 1):
            if line.strip():
                clip_id, seconds = _events(line, f"{path}:{number}")
                found[clip_id] = seconds
    return found, sha256.hexdigest()


def _events(line: bytes, where: str) -> tuple[str, tuple[float, ...]]:
    try:
        row = json.loads(line)
        seconds = tuple(float(second) for second in row["event_seconds"])
        if not all(map(math.isfinite, seconds)):
            raise ValueError(f"event_seconds {seconds}")
        return str(row["clip_id"]), seconds
    except (ValueError, TypeError, KeyError) as error:
        raise ManifestError(f"{where}: not a line of events: {error!r}") from None
