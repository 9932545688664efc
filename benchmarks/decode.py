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
import random
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from decoding.decoders import CANDIDATES
from decoding.footage import LONG_SECONDS, folder_jobs, long_clip, made_clips, made_jobs
from decoding.memory import measure_memory
from decoding.speed import ALWAYS, by_round, measure_scaling, measure_speed, summarise_speed
from decoding.truths import Recipe, check, truth_jobs, write_truths
from decoding.workers import Absent, Worker
from shared import machine, progress, provenance, result_files
from shared.machine import versions_of
from shared.paths import RESULTS, WORK
from shared.progress import say

_PACKAGES = ("avmix", "av", "decord", "decord2", "torchcodec", "pytorchvideo", "torch",
             "torchaudio", "torchvision", "numpy")  # fmt: skip
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
    names = [n for n in CANDIDATES if not args.only or n in args.only or n in ALWAYS]
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
        result["speed_rounds"] = by_round(rows)
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
