"""CPU and wall time of candidates that take turns with the same windows."""

import math
import random
import statistics
import time
from pathlib import Path
from typing import Any

from shared.progress import say
from shared.rounds import rounds_in_turn

from decoding.decoders import Job
from decoding.footage import made_jobs
from decoding.workers import Lost, Worker

ALWAYS = ("floor", "avmix")


LIMIT_SECONDS = 60.0
"""For one clip, before a candidate is taken to hang."""


def measure_speed(
    workers: dict[str, Worker], loads: dict[str, dict[str, Any]]
) -> list[dict[str, Any]]:
    """One row per workload, round and candidate."""
    rows = []
    for load, what in loads.items():
        for worker in workers.values():  # first calls load and allocate
            _timed(worker, what["rounds"][0][:1])
        for turn in rounds_in_turn(workers, len(what["rounds"]), warm_up=0):
            jobs = what["rounds"][turn.number]
            for name in turn.order:
                cpu, wall, errors = zip(*_timed(workers[name], jobs), strict=True)
                rows.append(
                    {
                        "workload": load,
                        "round": turn.number,
                        "candidate": name,
                        "cpu_seconds": cpu,
                        "wall_seconds": wall,
                        "errors": list(errors),
                    }
                )
        say(f"speed: {load}, {len(what['rounds'])} rounds")
    return rows


def by_round(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same, candidates of a round together: one line of the file each."""
    found: dict[tuple[str, int], dict[str, Any]] = {}
    for row in rows:
        empty = {"workload": row["workload"], "round": row["round"], "cpu_seconds": {},
                 "wall_seconds": {}, "errors": {}}  # fmt: skip
        line = found.setdefault((row["workload"], row["round"]), empty)
        for unit in ("cpu_seconds", "wall_seconds"):
            seconds = [None if math.isnan(s) else round(s, 5) for s in row[unit]]
            line[unit][row["candidate"]] = seconds
        if any(row["errors"]):
            line["errors"][row["candidate"]] = row["errors"]
    return list(found.values())


def _timed(worker: Worker, jobs: list[Job]) -> list[tuple[float, float, str]]:
    try:
        return worker.time(jobs, LIMIT_SECONDS * len(jobs))
    except Lost as error:
        return [(math.nan, math.nan, str(error))] * len(jobs)


def summarise_speed(rows: list[dict[str, Any]]) -> dict[str, dict[str, dict[str, Any]]]:
    """Medians over rounds, by workload and candidate.

    A ratio compares two candidates on the windows that both delivered.
    """
    by_key = {(row["workload"], row["candidate"], row["round"]): row for row in rows}
    rounds = sorted({row["round"] for row in rows})
    summary: dict[str, dict[str, dict[str, Any]]] = {}
    for load, name in dict.fromkeys((row["workload"], row["candidate"]) for row in rows):
        mine = [by_key[load, name, r] for r in rounds if (load, name, r) in by_key]
        entry: dict[str, Any] = {
            "clips_per_cpu_second": _median(_rate(row, "cpu_seconds") for row in mine),
            "clips_per_second": _median(_rate(row, "wall_seconds") for row in mine),
            "num_failed": sum(bool(error) for row in mine for error in row["errors"]),
            "num_clips": sum(len(row["errors"]) for row in mine),
        }
        for other in ALWAYS:
            pairs = [(by_key.get((load, other, row["round"])), row) for row in mine]
            entry[f"ratio_to_{other}"] = _median(_ratio(a, b) for a, b in pairs if a is not None)
        summary.setdefault(load, {})[name] = entry
    return summary


def _rate(row: dict[str, Any], unit: str) -> float | None:
    seconds = [s for s, e in zip(row[unit], row["errors"], strict=True) if not e]
    return len(seconds) / sum(seconds) if seconds else None


def _ratio(reference: dict[str, Any], row: dict[str, Any]) -> float | None:
    """How much faster a candidate is than the reference, on what both delivered."""
    both = zip(
        reference["cpu_seconds"], reference["errors"], row["cpu_seconds"], row["errors"],
        strict=True,
    )  # fmt: skip
    pairs = [(a, b) for a, bad_a, b, bad_b in both if not bad_a and not bad_b]
    return sum(a for a, _ in pairs) / sum(b for _, b in pairs) if pairs else None


def _median(values: Any) -> float | None:
    known = [value for value in values if value is not None]
    return round(statistics.median(known), 4) if known else None


def measure_scaling(log: Path, paths: list[Path], rounds: int, repeats: int) -> dict[str, Any]:
    """Clips per second of one process and of two, which have different files."""
    pair = [Worker("avmix", log), Worker("avmix", log)]
    halves = [paths[0::2], paths[1::2] or paths]
    single, double, cpu_ratios = [], [], []
    for number in range(rounds + 1):  # the first is warming up
        jobs = [
            [
                job
                for repeat in range(repeats)
                for job in made_jobs(half, 16, random.Random(100 * number + repeat), 0.0, 7.8)
            ]
            for half in halves
        ]
        began = time.perf_counter()
        rows = pair[0].time(jobs[0], LIMIT_SECONDS)
        alone = len(jobs[0]) / (time.perf_counter() - began)
        began = time.perf_counter()
        for worker, mine in zip(pair, jobs, strict=True):
            worker.begin(mine)
        both_rows = [worker.end(LIMIT_SECONDS) for worker in pair]
        both = sum(map(len, jobs)) / (time.perf_counter() - began)
        if number:
            single.append(round(alone, 2))
            double.append(round(both, 2))
            # The first process, with the same windows.
            cpu_ratios.append(sum(row[0] for row in both_rows[0]) / sum(row[0] for row in rows))
    for worker in pair:
        worker.close()
    ratios = [b / a for a, b in zip(single, double, strict=True)]
    return {
        "workload": "gop12_16x4",
        "clips_per_second_1_process": single,
        "clips_per_second_2_processes": double,
        "ratio": _median(ratios),
        "best_ratio": round(max(ratios), 4),
        "cpu_per_clip_beside_another": _median(cpu_ratios),
    }
