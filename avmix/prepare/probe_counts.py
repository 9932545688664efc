"""Counters of probing: what was read of the files, and the time it took."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from avmix.media.folder_walk import File
from avmix.media.frame_scan import Check
from avmix.prepare.probe_journal import Probed
from avmix.system.printing import counted


def probe_counts(
    check: Check, files: Iterable[File], probed: Mapping[File, Probed]
) -> dict[str, Any]:
    """Plain values that depend on the files alone: how many, and of how many every frame.

    A file that comes several times counts once. Time is left out: the same files must give the
    same bytes.
    """
    each = set(files)
    looked = Counter(probed[file].looked for file in each)
    return {
        "check": check,
        "files": len(each),
        "bytes": sum(probed[file].media_bytes or file.bytes for file in each),
        "frames_of": looked["frames"],
        "packets_of": looked["packets"],
        "unread": looked[""],
    }


def probe_summary(looks: Mapping[str, Any]) -> str:
    """What was looked at, in one line."""
    files, frames = counted(looks["files"], "file"), looks["frames_of"]
    unread = f"; {looks['unread']} could not be read at all" if looks["unread"] else ""
    size = f"{looks['bytes'] / 1e6:.1f} MB"
    if looks["check"] == "full":
        return f"check full: every frame and the audio of {files}, {size}{unread}"
    more = f", and every frame of {frames} in which these show signs of damage" if frames else ""
    return (
        f"check fast: packets and audio of {files}, {size}{more}{unread}; damaged frames of the "
        "others would be found by --check full"
    )


def cost_of(check: Check, probed: Mapping[File, Probed], num_known: int, seconds: float) -> str:
    """What looking has cost, in one line; what earlier runs found out counts as its CPU time."""
    cpu = sum(one.cpu_seconds for one in probed.values())
    new = len(probed) - num_known
    parts = [f"{cpu:.1f} CPU seconds"]
    if new:
        parts.append(f"{new / max(seconds, 1e-3):.1f} files / s")
    if num_known:
        parts.append(f"{num_known} known from before")
    return f"{counted(len(probed), 'file')} checked ({check}): {', '.join(parts)}"
