"""What a training step of avmix costs, beside a plain loop that trains the same networks.

    python benchmarks/models.py [--rounds N] [--only NAME ...]
    python benchmarks/models.py --quick --out runs/models.json
    python benchmarks/models.py --device cuda        only that part again, where there is a GPU

Networks: benchmarks/training/model_cases.py. Arms: benchmarks/training/model_steps.py. On a CPU one
thread, CPU time; arms take turns, and what counts is their ratio in the same round. On CUDA wall
time, in float32 and bfloat16, compiled and not; without a device that part is left as it was in
FILE, or null. The memory of each arm is measured in a process of its own.

Writes JSON; `benchmarks/paste.py` writes the table of docs/models.md from it.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from shared import machine, progress, provenance, result_files
from shared.medians import median, quartiles
from shared.paths import RESULTS, ROOT
from shared.processes import IMPORTS, ONE_THREAD
from shared.progress import say
from training.model_cases import CASES, USUAL
from training.model_steps import ARMS, Task

from avmix.system import strict_json

LIMIT_PERCENT = 5.0
"""More than a plain loop that is given frames and spectrograms."""
_PACKAGES = ("avmix", "torch", "torchvision", "torchaudio", "timm", "transformers", "pytorchvideo")
CUDA = ({}, {"compile": True}, {"precision": "bf16"}, {"precision": "bf16", "compile": True})


def ask(task: Task) -> dict[str, Any]:
    """What a process of its own measures."""
    threads = ONE_THREAD if task.device == "cpu" and task.threads == 1 else {}
    done = subprocess.run(
        [sys.executable, "-m", "training.model_steps", strict_json.dumps(asdict(task))],
        stdout=subprocess.PIPE, text=True, cwd=ROOT, env={**os.environ, **IMPORTS, **threads},
    )  # fmt: skip
    if done.returncode:
        sys.exit(f"error: {task} ended with {done.returncode}")
    return json.loads(done.stdout)


def measure(name: str, args: argparse.Namespace, **how: Any) -> dict[str, Any]:
    """A row of the table; `how`: fields of `Task`."""
    found = ask(Task(case=name, quick=args.quick, rounds=args.rounds, **how))
    bytes_of = {
        arm: ask(Task(case=name, quick=args.quick, memory_of=arm, **how))["bytes"] for arm in ARMS
    }
    row = {"name": name, "label": CASES[name].label, **how, **summary(found["ms"])}
    row |= {"steps_a_round": found["steps"], "batch": CASES[name].batch, "clip": found["clip"],
            "parameters": found["parameters"], "wall_ms": found["wall_ms"], "bytes": bytes_of,
            "ms": found["ms"]}  # fmt: skip
    say(f"{name} {how}: {row['plain_ms']} ms, avmix {row['ratio']} ({row['ratio_quartiles']})")
    return row


def summary(ms: dict[str, list[float]]) -> dict[str, Any]:
    """Medians over rounds; ratios are of the two arms in one round."""
    found: dict[str, Any] = {f"{arm.replace(' ', '_')}_ms": median(ms[arm]) for arm in ms}
    for other, key in (("plain", "ratio"), ("from bytes", "ratio_from_bytes")):
        ratios = [a / b for a, b in zip(ms["avmix"], ms[other], strict=True)]
        found |= {key: median(ratios), f"{key}_quartiles": quartiles(ratios)}
    return found


def able(names: Iterable[str]) -> tuple[list[str], dict[str, list[str]]]:
    """Networks whose packages are here, and what the others lack."""
    lacks = {name: [p for p in CASES[name].packages if find_spec(p) is None] for name in names}
    return [n for n, packages in lacks.items() if not packages], {
        n: packages for n, packages in lacks.items() if packages
    }


def measure_cuda(names: Sequence[str], args: argparse.Namespace) -> dict[str, Any]:
    """The CUDA part: every network in both precisions, compiled and not."""
    rows = [measure(name, args, device="cuda", **how) for name in names for how in CUDA]
    return {"gpu": torch.cuda.get_device_name(), "rows": rows}


def arguments() -> argparse.Namespace:
    """What was asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument(
        "--device", choices=["cpu", "cuda", "both"], default="both",
        help="both: CUDA too where there is a device",
    )  # fmt: skip
    parser.add_argument(
        "--only", metavar="NAME", nargs="+", choices=list(CASES), default=list(USUAL),
        help=f"of these networks: {', '.join(CASES)} (all but mvit)",
    )  # fmt: skip
    parser.add_argument("--quick", action="store_true", help="tiny clips, 2 rounds")
    parser.add_argument("--out", type=Path, default=RESULTS / "models.json")
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
    origin = provenance.measured(args, "models")
    before = json.loads(args.out.read_text()) if args.out.exists() else {}
    names, absent = able(args.only)
    result: dict[str, Any] = before if args.device == "cuda" else {"kind": "models"}
    if args.device != "cuda":
        environment = machine.facts(_PACKAGES)
        result |= {
            "command": command(args),
            "measured": origin,
            "environment": environment,
            "limit_percent": LIMIT_PERCENT,
            "rounds": args.rounds,
            "absent": absent,
            "rows": [measure(name, args) for name in names],
            "load_average_at_the_end": machine.load_average(),
            "minutes": progress.minutes(),
        }
    result["cuda"] = before.get("cuda")
    if has_cuda and args.device != "cpu":
        result |= {"measured_cuda": origin} if args.device == "cuda" else {}
        result |= {"kind": "models", "cuda": measure_cuda(names, args)}
    elif args.device != "cpu":
        kept = "not measured" if result["cuda"] is None else f"as it was in {args.out.name}"
        say(f"cuda: no CUDA device here; {kept}")
    result_files.write(args.out, result)
    say(f"wrote {args.out}")


def command(args: argparse.Namespace) -> str:
    """What repeats it."""
    words = [f"python benchmarks/models.py --rounds {args.rounds}"]
    words += ["--quick"] if args.quick else []
    words += ["--only " + " ".join(args.only)] if args.only != list(USUAL) else []
    return " ".join(words)


if __name__ == "__main__":
    main()
