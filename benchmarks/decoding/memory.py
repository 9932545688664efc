"""Memory of a process over many decodes."""

import statistics
from pathlib import Path
from typing import Any

from shared.progress import say

from decoding.decoders import Job
from decoding.speed import LIMIT_SECONDS
from decoding.workers import Lost, Worker

_NUM_POINTS = 20


def measure_memory(name: str, jobs: list[Job], num_decodes: int, log: Path) -> dict[str, Any]:
    """Resident memory of one process while it decodes, and its slope after the first fifth."""
    worker = Worker(name, log)
    chunk = max(num_decodes // _NUM_POINTS, 1)
    done, points, num_failed = 0, [], 0
    while done < num_decodes:
        some = [jobs[(done + k) % len(jobs)] for k in range(min(chunk, num_decodes - done))]
        try:
            resident, failed = worker.repeat(some, LIMIT_SECONDS * 10)
        except Lost as error:
            worker.close()
            return {"candidate": name, "lost": str(error), "after": points}
        done += len(some)
        num_failed += failed
        points.append({"decodes": done, "mib": round(resident / 2**20, 2)})
    worker.close()
    settled = [p for p in points if p["decodes"] >= num_decodes / 5]
    slope = 0.0
    if len(settled) > 1:
        at, mib = [p["decodes"] for p in settled], [p["mib"] for p in settled]
        slope = statistics.linear_regression(at, mib).slope * 1000 * 1024
    say(f"memory: {name}, {num_decodes} decodes, {slope:+.0f} KiB per 1000")
    return {
        "candidate": name,
        "num_files": len({job.path for job in jobs}),
        "num_failed": num_failed,
        "kib_per_1000_decodes": round(slope, 1),
        "mib": points,
    }
