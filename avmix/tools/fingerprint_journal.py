"""Fingerprints of all clips of a dataset, each computed once and kept in a journal."""

import base64
import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from avmix.decode.mono_track import mono_track_label
from avmix.isolate.clip_pool import failure_text, for_each_clip
from avmix.isolate.process_pool import Failure
from avmix.media.fingerprint import VERSION, Fingerprint, empty_fingerprint, fingerprint_of
from avmix.system import strict_json
from avmix.types import Entry

SECONDS = 120.0
"""For one clip, before the process that reads it is killed."""


def fingerprints(
    root: Path,
    entries: Sequence[Entry],
    journal: Path,
    *,
    workers: int = 0,
    seconds: float = SECONDS,
) -> list[Fingerprint]:
    """Those of all clips, in order; read from `journal` where an earlier run noted them there.

    A clip counts as the one noted when the hash of its file and its stretch are the same. Clips
    that could not be read are tried again. `workers` processes, each of which may work for
    `seconds` at one clip; 0: none but this one.
    """
    done = _read_journal(journal)
    todo = [e for e in entries if _key(e) not in done]
    if todo:
        journal.parent.mkdir(parents=True, exist_ok=True)
        make = partial(fingerprint_of, root)
        with journal.open("a", encoding="utf-8") as file:
            for at, found in for_each_clip(make, todo, workers=workers, seconds=seconds,
                                           what="fingerprints"):  # fmt: skip
                entry = todo[at]
                if isinstance(found, Failure):
                    found = empty_fingerprint(entry, failure_text(found))
                done[_key(entry)] = found
                if not found.problem:
                    # A line that a kill cut in two must not swallow this one.
                    file.write("\n" + strict_json.dumps(_line(entry, found)) + "\n")
                    file.flush()
    return [done[_key(e)] for e in entries]


_Key = tuple[str, str, float, float, str]


def _key(entry: Entry) -> _Key:
    heard = mono_track_label(entry.audio)
    return entry.clip_id, entry.sha256, entry.start_seconds, entry.end_seconds, heard


def _line(entry: Entry, found: Fingerprint) -> dict[str, Any]:
    return {
        "version": VERSION,
        "clip_id": entry.clip_id,
        "sha256": entry.sha256,
        "start_seconds": entry.start_seconds,
        "end_seconds": entry.end_seconds,
        "audio": mono_track_label(entry.audio),
        "pictures": base64.b64encode(found.frames.astype("<u8").tobytes()).decode(),
        "sound": base64.b64encode(found.audio.astype("<u4").tobytes()).decode(),
    }


def _read_journal(path: Path) -> dict[_Key, Fingerprint]:
    done: dict[_Key, Fingerprint] = {}
    if not path.exists():
        return done
    with path.open() as file:
        for text in file:
            try:
                line = json.loads(text)
                if line["version"] != VERSION:
                    continue
                frames = np.frombuffer(base64.b64decode(line["pictures"]), "<u8")
                audio = np.frombuffer(base64.b64decode(line["sound"]), "<u4")
                key = (line["clip_id"], line["sha256"], line["start_seconds"], line["end_seconds"],
                       line.get("audio", ""))  # fmt: skip
                done[key] = Fingerprint(
                    clip_id=key[0],
                    frames=frames.astype(np.uint64).reshape(-1, 2),
                    audio=audio.astype(np.uint32),
                )
            except (ValueError, TypeError, KeyError):
                continue  # cut by a kill: that clip is read once more
    return done
