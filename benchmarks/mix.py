"""How fast, how right and how frugal avmix mixes, beside what else there is.

    python benchmarks/mix.py [--rounds N] [--compile] [--out FILE]
    python benchmarks/mix.py --quick --only timm --out runs/mix.json
    python benchmarks/mix.py --device cuda           only that part again, where there is a GPU

The work: uint8 clips, spectrograms and class numbers in; normalised mixed float frames, mixed
spectrograms and mixed labels out (benchmarks/mixing/mixers.py).

Truth: the weights that video, audio and label were really mixed with
(benchmarks/mixing/recovered_weights.py).
Speed on a CPU: one thread; with glibc's malloc as it is, which gives big tensors back to the system
at once, and with one that keeps its pages, as the allocator for CUDA does. Candidates take turns;
what counts is CPU time, and its ratio to timm's and the floor's in the same round.
Step: what mixing adds to a training step of the demo.
CUDA: benchmarks/mixing/cuda_speed.py; without a device this is left as it was in FILE, or null.

Writes JSON; `benchmarks/paste.py` writes the tables of docs/benchmarks.md from it.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from mixing.cpu_speed import Workload
from mixing.cuda_speed import measure_cuda
from mixing.mixers import CANDIDATES, Task
from mixing.recovered_weights import judge
from shared import machine, progress, provenance, result_files
from shared.paths import RESULTS, ROOT
from shared.processes import IMPORTS, ONE_THREAD
from shared.progress import say

from avmix.system import strict_json

REFERENCES = ("timm", "floor")
_ALWAYS = ("floor", "avmix")
_PACKAGES = ("avmix", "timm", "torchvision", "pytorchvideo", "kornia", "torch", "numpy")
_MALLOCS = {
    "default": {},
    "keep": {"MALLOC_MMAP_THRESHOLD_": str(2**32), "MALLOC_TRIM_THRESHOLD_": str(2**36)},
}
"""Environment of a process whose malloc gives pages back, and of one whose malloc keeps them."""


def present(names: Iterable[str], device: str) -> tuple[list[str], dict[str, str]]:
    """The candidates that can be imported here, and what the others lack."""
    found, absent = [], {}
    for name in names:
        if CANDIDATES[name].device not in ("any", device):
            continue
        try:
            CANDIDATES[name].load(Task(kind=CANDIDATES[name].kinds[0]))
            found.append(name)
        except ImportError as error:
            absent[name] = str(error)
            say(f"absent: {name} ({error})")
    return found, absent


def measure_truth(names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Verdict by kind of mixing and candidate."""
    torch.set_num_threads(1)
    found: dict[str, dict[str, Any]] = {"mixup": {}, "cutmix": {}}
    for kind, verdicts in found.items():
        for name in names:
            candidate = CANDIDATES[name]
            if candidate.judged and kind in candidate.kinds and not name.startswith("compile"):
                task = Task(kind="mixup" if kind == "mixup" else "cutmix", num_classes=9)
                verdict = judge(lambda c=candidate, t=task: c.load(t), task.kind)
                verdicts[name] = verdict.as_json()
    say(f"truth: {sum(map(len, found.values()))} verdicts")
    return found


def workloads(quick: bool) -> list[Workload]:
    """What is timed on a CPU."""
    sizes = [(16, 16, 112), (32, 8, 224)] if not quick else [(4, 2, 16)]
    loads = [
        Workload(kind="mixup", batch=b, num_frames=t, side=s, layout=layout)
        for b, t, s in sizes
        for layout in ("planar", "decoded")
    ]
    b, t, s = sizes[0]
    return [*loads, Workload(kind="cutmix", batch=b, num_frames=t, side=s, layout="decoded")]


def measure_cpu(args: argparse.Namespace, names: Sequence[str]) -> dict[str, Any]:
    """Speed with both kinds of malloc, checks, memory, and what mixing adds to a step."""
    loads = workloads(args.quick)
    timed = [name for name in names if CANDIDATES[name].timed]
    rounds, found = {}, {}
    for malloc, environment in _MALLOCS.items():
        say(f"speed: {malloc} malloc")
        options = {
            "keep_pages": malloc == "keep",
            "grow_bytes": 2**24 if args.quick else 2**31,
            "workloads": [asdict(load) for load in loads],
            "candidates": timed,
            "rounds": args.rounds,
            # Once is enough, and without page faults it is faster.
            "check": malloc == "keep",
            "step_config": args.step_config if malloc == "default" else None,
            "step_rounds": 1 if args.quick else 3 * args.rounds,
        }
        program = [sys.executable, "-m", "mixing.cpu_speed"]
        done = subprocess.run(
            [*program, strict_json.dumps(options)], stdout=subprocess.PIPE, text=True, cwd=ROOT,
            env={**os.environ, **IMPORTS, **ONE_THREAD, **environment},
        )  # fmt: skip
        if done.returncode:
            sys.exit(f"error: {program[2]} ended with {done.returncode}")
        answer = json.loads(done.stdout)
        rounds[malloc] = answer.pop("rows")
        found |= {key: value for key, value in answer.items() if value}
    return {
        "workloads": {load.name: asdict(load) for load in loads},
        "speed": {malloc: summarise(rows) for malloc, rows in rounds.items()},
        **found,
        "speed_rounds": {malloc: by_round(rows) for malloc, rows in rounds.items()},
    }


def summarise(rows: Sequence[dict[str, Any]]) -> dict[str, dict[str, dict[str, Any]]]:
    """Medians over rounds, by workload and candidate; ratios are speeds: 2 is twice as fast."""
    by_key = {(row["workload"], row["candidate"], row["round"]): row for row in rows}
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for load, name in dict.fromkeys((row["workload"], row["candidate"]) for row in rows):
        mine = [row for row in rows if (row["workload"], row["candidate"]) == (load, name)]
        entry: dict[str, Any] = {
            "cpu_ms": round(statistics.median(row["cpu_ms"] for row in mine), 2),
            "wall_ms": round(statistics.median(row["wall_ms"] for row in mine), 2),
            "page_faults": round(statistics.median(row["page_faults"] for row in mine)),
        }
        for other in REFERENCES:
            pairs = [(by_key.get((load, other, row["round"])), row) for row in mine]
            ratios = [a["cpu_ms"] / b["cpu_ms"] for a, b in pairs if a is not None]
            entry[f"ratio_to_{other}"] = round(statistics.median(ratios), 3) if ratios else None
        found.setdefault(load, {})[name] = entry
    return found


def by_round(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """CPU milliseconds, candidates of a round together: one line of the file each."""
    found: dict[tuple[str, int], dict[str, Any]] = {}
    for row in rows:
        key = (row["workload"], row["round"])
        line = found.setdefault(key, {"workload": key[0], "round": key[1], "cpu_ms": {}})
        line["cpu_ms"][row["candidate"]] = row["cpu_ms"]
    return list(found.values())


def measure_gpu(args: argparse.Namespace, names: Sequence[str]) -> dict[str, Any]:
    """The CUDA part."""
    batch, num_frames, side = (4, 4, 32) if args.quick else (32, 16, 224)
    timed = [name for name in names if CANDIDATES[name].timed]
    say(f"cuda: {torch.cuda.get_device_name()}")
    return measure_cuda(
        timed, batch=batch, num_frames=num_frames, side=side, rounds=4 * args.rounds
    )


def arguments() -> argparse.Namespace:
    """What was asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument(
        "--device", choices=["cpu", "cuda", "both"], default="both",
        help="both: CUDA too where there is a device",
    )  # fmt: skip
    parser.add_argument(
        "--only", metavar="NAME", nargs="+", choices=list(CANDIDATES),
        help=f"of these candidates; {' and '.join(_ALWAYS)} are always measured: "
        + ", ".join(CANDIDATES),
    )  # fmt: skip
    parser.add_argument(
        "--compile", action="store_true", help="also torch.compile, which takes minutes"
    )
    parser.add_argument("--step-config", default="configs/demo.yaml", help="of the training step")
    parser.add_argument("--quick", action="store_true", help="tiny clips, 2 rounds")
    parser.add_argument("--out", type=Path, default=RESULTS / "mix.json")
    provenance.add_option(parser)
    args = parser.parse_args()
    if args.quick:
        args.rounds = 2
    return args


def main() -> None:
    """Measure, and write what was found."""
    args = arguments()
    has_cuda = torch.cuda.is_available()
    if args.device == "cuda" and not has_cuda:
        sys.exit("error: --device cuda: there is no CUDA device here")
    origin = provenance.measured(args, "mix")
    before = json.loads(args.out.read_text()) if args.out.exists() else {}
    wanted = [
        name for name in CANDIDATES
        if (name in _ALWAYS or not args.only or name in args.only)
        and (args.compile or not name.startswith("compile"))
    ]  # fmt: skip
    result: dict[str, Any] = before if args.device == "cuda" else {"kind": "mix"}
    if args.device != "cuda":
        names, absent = present(wanted, "cpu")
        result |= {
            "command": command(args),
            "measured": origin,
            "environment": machine.facts(_PACKAGES),
            "candidates": {name: about(name) for name in wanted},
            "absent": absent,
            "truth": measure_truth(names),
            **measure_cpu(args, names),
            "load_average_at_the_end": machine.load_average(),
            "minutes": progress.minutes(),
        }
    result["cuda"] = before.get("cuda")
    if has_cuda and args.device != "cpu":
        names, absent = present(wanted, "cuda")
        result.setdefault("candidates", {}).update({name: about(name) for name in wanted})
        result |= {"measured_cuda": origin} if args.device == "cuda" else {}
        result |= {"kind": "mix", "cuda": measure_gpu(args, names) | {"absent": absent}}
    elif args.device != "cpu":
        kept = "not measured" if result["cuda"] is None else f"as it was in {args.out.name}"
        say(f"cuda: no CUDA device here; {kept}")
    result_files.write(args.out, result)
    say(f"wrote {args.out}")


def about(name: str) -> dict[str, Any]:
    """What the tables say of a candidate without measuring."""
    candidate = CANDIDATES[name]
    return {
        "label": candidate.label,
        "note": candidate.note,
        "passes": candidate.passes,
        "bytes_per_element": candidate.bytes_per_element,
    }


def command(args: argparse.Namespace) -> str:
    """What repeats it."""
    words = ["python benchmarks/mix.py", f"--rounds {args.rounds}"]
    words += ["--compile"] if args.compile else []
    words += ["--quick"] if args.quick else []
    words += ["--only " + " ".join(args.only)] if args.only else []
    return " ".join(words)


if __name__ == "__main__":
    main()
