"""How fast, how right and how frugal avmix decodes, beside what else there is.

    python benchmarks/decode.py [--clips [NAME=]DIR[:FRAMESxSIDE] ...] [--rounds N] [--out FILE]
    python benchmarks/decode.py --quick --only decord torchcodec_exact --out /tmp/decode.json

All candidates (benchmarks/decoding/decoders.py) are measured in one run. Each has a process of its
own, and where its library cannot be installed beside the others, an interpreter of its own
(`--python decord2=VENV/bin/python`).

Speed: the candidates take turns, in another order in every round, with the same windows of made
files and of files in the folders named. What counts is clips per CPU second, user and system time
of all threads and children, and its ratio to the floor and to avmix in the same round: medians over
rounds, since other work on the machine disturbs times more than ratios.
Truth: the files of tests/truth.py, whose video and audio are known by construction.
Memory: of one process over many decodes of those files.

Writes JSON; `benchmarks/paste.py` writes the tables of docs/benchmarks.md from it.
"""

import argparse
import math
import random
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from decoding.decoders import CANDIDATES, Job
from decoding.footage import LONG_SECONDS, folder_jobs, long_clip, made_clips, made_jobs
from decoding.truths import Recipe, check, truth_jobs, write_truths
from decoding.workers import Absent, Lost, Worker
from shared import machine, progress, provenance, result_files
from shared.machine import versions_of
from shared.paths import RESULTS, WORK
from shared.progress import say
from shared.rounds import rounds_in_turn

_ALWAYS = ("floor", "avmix")
_LIMIT_SECONDS = 60.0
"""For one clip, before a candidate is taken to hang."""
_PACKAGES = ("avmix", "av", "decord", "decord2", "torchcodec", "pytorchvideo", "torch",
             "torchaudio", "torchvision", "numpy")  # fmt: skip
_NUM_POINTS = 20
_PLAIN = ("plain.mp4", "plain.mov", "plain.mkv", "no_b.mp4", "intra.mp4", "gop_250.mp4")


def start_workers(
    names: Sequence[str], log: Path, pythons: Mapping[str, str]
) -> tuple[dict[str, Worker], dict[str, str]]:
    """A process per candidate, and why some are absent; `pythons` as `--python`."""

    def start(name: str) -> Worker | Absent:
        try:
            return Worker(name, log, pythons.get(name, sys.executable))
        except Absent as error:
            say(f"absent: {name} ({error})")
            return error

    with ThreadPoolExecutor(2) as pool:
        started = dict(zip(names, pool.map(start, names), strict=True))
    workers = {name: it for name, it in started.items() if isinstance(it, Worker)}
    return workers, {name: str(it) for name, it in started.items() if isinstance(it, Absent)}


def workloads(args: argparse.Namespace, work: Path) -> dict[str, dict[str, Any]]:
    """Name of each workload to its description and the windows of every round."""
    found: dict[str, dict[str, Any]] = {}
    for gop in (250, 12):
        paths = made_clips(work, gop, args.files)
        for num_frames, stride in ((16, 4), (8, 8)):
            name = f"gop{gop}_{num_frames}x{stride}"
            rounds = [
                made_jobs(_turn(paths, r, args.per_round), num_frames, random.Random(r), 0.0, 7.8)
                for r in range(args.rounds)
            ]
            about = f"10 s, a keyframe every {gop}, {num_frames} frames, stride {stride}"
            found[name] = {"about": about, "num_files": len(paths), "rounds": rounds}
    long_path = long_clip(work, made_clips(work, 250, 1)[0])
    low, high = LONG_SECONDS - 30.0, LONG_SECONDS - 10.0
    rounds = [made_jobs([long_path], 16, random.Random(r), low, high) for r in range(args.rounds)]
    about = f"{LONG_SECONDS} s, window at {low:.0f} to {high:.0f} s, 16 frames, stride 4"
    found["long_16x4"] = {"about": about, "num_files": 1, "rounds": rounds}
    for name, folder, num_frames, short_side in args.clips:
        num_files = args.per_round * args.rounds
        jobs, left_out = folder_jobs(folder, num_files, random.Random(0), num_frames, short_side)
        if not jobs:
            sys.exit(f"error: {folder} has no file with frames and 2 s of audio")
        side = "" if short_side is None else f", short side {short_side}"
        found[name] = {
            "about": f"windows of 2 s, {num_frames} frames{side}",
            "num_files": len(jobs),
            "left_out": left_out,
            "rounds": [_turn(jobs, r, args.per_round) for r in range(args.rounds)],
        }
    return found


def _turn(items: list[Any], number: int, size: int) -> list[Any]:
    """`size` items, others in each turn, none twice."""
    first = number * size
    return [items[(first + k) % len(items)] for k in range(min(size, len(items)))]


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


def _by_round(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
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
        return worker.time(jobs, _LIMIT_SECONDS * len(jobs))
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
        for other in _ALWAYS:
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
        rows = pair[0].time(jobs[0], _LIMIT_SECONDS)
        alone = len(jobs[0]) / (time.perf_counter() - began)
        began = time.perf_counter()
        for worker, mine in zip(pair, jobs, strict=True):
            worker.begin(mine)
        both_rows = [worker.end(_LIMIT_SECONDS) for worker in pair]
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


def measure_truth_and_memory(
    args: argparse.Namespace,
    workers: dict[str, Worker],
    folder: Path,
    recipes: list[Recipe],
    log: Path,
) -> dict[str, Any]:
    """Both at once: no time is taken here."""
    totals: dict[str, Any] = {}
    files: dict[str, Any] = {}
    names = [n for n in workers if CANDIDATES[n].delivers and "truth" in args.parts]
    bad: set[str] = set()

    def check_one(name: str) -> None:
        totals[name], files[name] = check(workers[name], folder, recipes)
        say(f"truth: {name} {totals[name]}")

    if "avmix" in names:
        check_one(names.pop(names.index("avmix")))
        lost = ("crash", "hang")
        bad = {name for name, file in files["avmix"].items() if file["verdict"] in lost}
    with ThreadPoolExecutor(2) as pool:
        memory = []
        if "memory" in args.parts:
            good = [recipe for recipe in recipes if recipe.name not in bad]
            plain = [r for r in good if r.name in _PLAIN] or good
            # Of what others do, a tenth tells enough; files that they cannot read tell nothing.
            plan = [("avmix", good, args.decodes), ("decord", plain, args.decodes // 10)]
            memory = [
                pool.submit(measure_memory, name, truth_jobs(folder, some), count, log)
                for name, some, count in plan
                if name in workers
            ]
        checks = [pool.submit(check_one, name) for name in names]
        for future in checks:
            future.result()
        found: dict[str, Any] = {}
        if totals:
            found["truth"] = {name: totals[name] for name in workers if name in totals}
            found["truth_not_exact"] = {
                name: {f: what for f, what in files[name].items() if what["verdict"] != "exact"}
                for name in workers
                if name in totals
            }
        if memory:
            found["memory"] = [future.result() for future in memory]
    return found


def measure_memory(name: str, jobs: list[Job], num_decodes: int, log: Path) -> dict[str, Any]:
    """Resident memory of one process while it decodes, and its slope after the first fifth."""
    worker = Worker(name, log)
    chunk = max(num_decodes // _NUM_POINTS, 1)
    done, points, num_failed = 0, [], 0
    while done < num_decodes:
        some = [jobs[(done + k) % len(jobs)] for k in range(min(chunk, num_decodes - done))]
        try:
            resident, failed = worker.repeat(some, _LIMIT_SECONDS * 10)
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


def environment(pythons: Mapping[str, str]) -> dict[str, Any]:
    """What the numbers were measured with."""
    found = machine.facts(_PACKAGES)
    versions = found["versions"]
    others = {name: versions_of(_PACKAGES, python) for name, python in pythons.items()}
    differing = {
        name: {package: its[package] for package in its if its[package] != versions[package]}
        for name, its in others.items()
    }
    try:
        said = subprocess.run(["ffmpeg", "-version"], capture_output=True, text=True).stdout
        versions["ffmpeg"] = said.split()[2]
    except (FileNotFoundError, IndexError):
        versions["ffmpeg"] = None
    return found | {"other_versions": {name: its for name, its in differing.items() if its}}


def arguments() -> argparse.Namespace:
    """What was asked for."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").splitlines()[0], formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument(
        "--clips",
        metavar="[NAME=]DIR[:FRAMESxSIDE]",
        nargs="*",
        default=[],
        help="folders of other files, and how many frames to take, of which short side;\n"
        "without it 16, of 224 or of 112 where the files are smaller",
    )
    parser.add_argument(
        "--python", metavar="CANDIDATE=PROGRAM", nargs="*", default=[],
        help="interpreters for candidates that this one cannot import",
    )  # fmt: skip
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--files", type=int, default=6, help="made files of each kind")
    parser.add_argument("--per-round", type=int, default=4, help="clips of a candidate in a round")
    parser.add_argument(
        "--only", metavar="NAME", nargs="+", choices=list(CANDIDATES), help="of these candidates;"
        " floor and avmix are always measured:\n" + ", ".join(CANDIDATES),
    )  # fmt: skip
    parser.add_argument(
        "--parts", nargs="+", default=["speed", "scaling", "truth", "memory"],
        choices=["speed", "scaling", "truth", "memory"], help="of the measurement",
    )  # fmt: skip
    parser.add_argument("--truths", type=int, default=10_000, help="at most so many such files")
    parser.add_argument("--decodes", type=int, default=10_000, help="for memory")
    parser.add_argument("--quick", action="store_true", help="2 files, 1 round, 12 truths")
    parser.add_argument("--work", type=Path, help="folder for made files; they are kept")
    parser.add_argument("--out", type=Path, default=RESULTS / "decode.json")
    provenance.add_option(parser)
    args = parser.parse_args()
    if args.quick:
        args.rounds, args.files, args.per_round = 1, 2, 2
        args.truths, args.decodes = min(args.truths, 12), min(args.decodes, 200)
    args.clips = [_named(text) for text in args.clips]
    args.python = dict(_interpreter(text) for text in args.python)
    return args


def _named(text: str) -> tuple[str, Path, int, int | None]:
    name, equals, folder = text.partition("=")
    form = re.fullmatch(r"(.+):(\d+)x(\d+)", folder if equals else text)
    folder = Path(form[1] if form else folder if equals else text)
    if not folder.is_dir():
        sys.exit(f"error: --clips {text}: no folder {folder}")
    num_frames, short_side = (int(form[2]), int(form[3])) if form else (16, None)
    return (name if equals else folder.resolve().name), folder, num_frames, short_side


def _interpreter(text: str) -> tuple[str, str]:
    name, _, program = text.partition("=")
    if name not in CANDIDATES or shutil.which(program) is None:
        sys.exit(f"error: --python {text}: not a candidate, =, and a program")
    return name, program


def main() -> None:
    """Measure, and write what was found."""
    args = arguments()
    origin = provenance.measured(args, "decode")
    work = args.work or Path(tempfile.gettempdir()) / WORK
    work.mkdir(parents=True, exist_ok=True)
    log = work / "log.txt"
    names = [n for n in CANDIDATES if not args.only or n in args.only or n in _ALWAYS]
    result: dict[str, Any] = {"kind": "decode", "command": _command(args), "measured": origin}
    result["environment"] = environment(args.python)
    result["candidates"] = {
        name: {"label": CANDIDATES[name].label, "note": CANDIDATES[name].note} for name in names
    }
    workers, result["absent"] = start_workers(names, log, args.python)
    if "speed" in args.parts:
        say("speed: making the files")
        loads = workloads(args, work / "made")
        result["workloads"] = {
            name: {k: v for k, v in load.items() if k != "rounds"} for name, load in loads.items()
        }
        rows = measure_speed(workers, loads)
        result["speed"] = summarise_speed(rows)
        result["speed_rounds"] = _by_round(rows)
    if "scaling" in args.parts:
        paths = made_clips(work / "made", 12, args.files)
        result["scaling"] = measure_scaling(log, paths, args.rounds, 4 if args.rounds > 1 else 1)
        say(f"scaling: {result['scaling']['ratio']}")
    if {"truth", "memory"} & set(args.parts):
        say("truth: making the files")
        recipes = write_truths(work / "truth", args.truths)
        result |= measure_truth_and_memory(args, workers, work / "truth", recipes, log)
    for worker in workers.values():
        worker.close()
    result["load_average_at_the_end"] = machine.load_average()
    result["minutes"] = progress.minutes()
    result_files.write(args.out, result)
    say(f"wrote {args.out}")


def _command(args: argparse.Namespace) -> str:
    """What repeats it, without the folders of this machine."""
    words = ["python benchmarks/decode.py", f"--rounds {args.rounds}"]
    if args.clips:
        forms = ("" if side is None else f":{num}x{side}" for _, _, num, side in args.clips)
        named = zip((name for name, *_ in args.clips), forms, strict=True)
        words.append("--clips " + " ".join(f"{name}=DIR{form}" for name, form in named))
    if args.python:
        words.append("--python " + " ".join(f"{name}=PROGRAM" for name in args.python))
    words += ["--quick"] if args.quick else []
    words += ["--only " + " ".join(args.only)] if args.only else []
    return " ".join(words)


if __name__ == "__main__":
    main()
