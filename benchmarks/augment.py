"""What augmentation costs beside decoding, each by itself and every preset; where and beside whom.

    python benchmarks/augment.py [--clips [NAME=]DIR ...] [--rounds N] [--out FILE]
    python benchmarks/augment.py --quick --only flip default --out runs/augment.json
    python benchmarks/augment.py --device cuda       only that part again, where there is a GPU

Cost: clips are read by `TrainSet.read_row`, as in training, in this process, which has one thread.
All cases take turns on the same file and address of the random numbers, in another order in every
round. CPU time inside `TrainSet.decode` and around it is taken apart. What is around it is compared
with the central crop of the same round; what is inside with plain decoding of the same round, and
only where the case reads something else (another window, rate or channels): elsewhere a difference
could only be noise.
Device: random resized crop, flip and colours by a worker, or on whole batches
(augmenting/device.py).
Peers: torchvision and torchaudio where they do the same (augmenting/peers.py).

Writes JSON; `benchmarks/paste.py` makes the tables of docs/augment.md from it.
"""

import argparse
import json
import random
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from augmenting.cases import SIZES, cases
from augmenting.cost import claim, measure_cost, measure_frontend, summarise_repeats
from augmenting.device import measure_device
from augmenting.peers import measure_peers
from augmenting.timed_reading import Load, decoded_frames, entries_of
from decoding.footage import folder_jobs, made_clips
from shared import machine, progress, provenance, result_files
from shared.medians import median, quartiles
from shared.paths import RESULTS, WORK
from shared.progress import say

from avmix.config import AugmentConfig

PARTS = ("cost", "frontend", "device", "peers")
_PACKAGES = ("avmix", "av", "torchvision", "torchaudio", "torch", "numpy")
_BATCH = 16


def loads(args: argparse.Namespace, work: Path) -> dict[str, Load]:
    """Every size of every kind of files, by name."""
    made = made_clips(work, 12, args.files)
    width, height = 340, 256
    about = f"made, {width}x{height}, 10 s, H.264, a keyframe every 12"
    kinds = {"made": (about, entries_of(made))}
    for name, folder in args.clips:
        jobs, _ = folder_jobs(folder, args.files, random.Random(0))
        if len(jobs) < 2:
            sys.exit(f"error: {folder} has fewer than two files with frames and 2 s of audio")
        kinds[name] = ("given with --clips", entries_of(Path(job.path) for job in jobs))
    return {
        f"{name}_{size}": Load(about=about, files=name, size=size, entries=entries)
        for name, (about, entries) in kinds.items()
        for size in args.sizes
    }


def arguments() -> argparse.Namespace:
    """What was asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--clips", metavar="[NAME=]DIR", nargs="*", default=[], help="folders of other files"
    )
    parser.add_argument("--rounds", type=int, default=24)
    parser.add_argument("--files", type=int, default=6, help="of each kind, at least 2")
    parser.add_argument("--sizes", nargs="+", choices=list(SIZES), default=list(SIZES))
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument(
        "--only", metavar="NAME", nargs="+", choices=list(cases()),
        help="of these augmentations: " + ", ".join(cases()),
    )  # fmt: skip
    parser.add_argument(
        "--device", choices=["cpu", "cuda", "both"], default="both",
        help="of the part `device`; cuda: only that part again; both: CUDA where there is a device",
    )  # fmt: skip
    parser.add_argument("--quick", action="store_true", help="2 files, 2 rounds, small clips")
    parser.add_argument("--work", type=Path, help="folder for made files; they are kept")
    parser.add_argument("--out", type=Path, default=RESULTS / "augment.json")
    provenance.add_option(parser)
    args = parser.parse_args()
    if args.quick:
        args.rounds, args.files, args.sizes = 2, 2, ["small"]
    if args.files < 2:
        parser.error("--files must be at least 2: a background is of another file")
    args.clips = [_named(text) for text in args.clips]
    return args


def _named(text: str) -> tuple[str, Path]:
    name, equals, folder = text.partition("=")
    folder = Path(folder if equals else text)
    if not folder.is_dir():
        sys.exit(f"error: --clips {text}: no folder {folder}")
    return (name if equals else folder.resolve().name), folder


def main() -> None:
    """Measure, and write what was found."""
    args = arguments()
    has_cuda = torch.cuda.is_available()
    if args.device == "cuda" and not has_cuda:
        sys.exit("error: --device cuda: there is no CUDA device here")
    origin = provenance.measured(args, "augment")
    torch.set_num_threads(1)  # as in a worker
    before = json.loads(args.out.read_text()) if args.out.exists() else {}
    work = args.work or Path(tempfile.gettempdir()) / WORK
    started = machine.facts(_PACKAGES)
    found = loads(args, work / "made")
    # The parts beside the cost do not depend on what is in the files: one of each size is enough.
    of_size = {size: found[f"made_{size}"] for size in args.sizes}
    batch = 4 if args.quick else _BATCH
    result: dict[str, Any] = before
    if args.device != "cuda":
        result = {"kind": "augment", "command": _command(args), "measured": origin,
                  "environment": started}  # fmt: skip
        result |= measure(args, found)
        if "frontend" in args.parts:
            result["frontend"] = {"batch": batch, "sizes": {}}
            for size, load in of_size.items():
                shown = measure_frontend(load, batch, args.rounds)
                result["frontend"]["sizes"][size] = shown
            say("frontend")
    if "device" in args.parts:
        result |= {"measured_cuda": origin} if args.device == "cuda" else {}
        result["device"] = measure_devices(args, of_size, batch, before.get("device") or {})
    if "peers" in args.parts and args.device != "cuda":
        result["peers"] = {
            size: measure_peers(decoded_frames(load, 6), SIZES[size], args.rounds)
            for size, load in of_size.items()
        }
        say("peers")
    result["load_average_at_the_end"] = machine.load_average()
    result["minutes"] = progress.minutes()
    result_files.write(args.out, result)
    say(f"wrote {args.out}")


def measure(args: argparse.Namespace, found: dict[str, Load]) -> dict[str, Any]:
    """The cost of every case."""
    wanted = {n: c for n, c in cases().items() if not args.only or n in args.only}
    result: dict[str, Any] = {
        "cases": {
            name: {"label": case.label, "augment": _changed(case.augment), "stereo": case.stereo}
            for name, case in wanted.items()
        },
        "loads": {
            name: {"about": load.about, "files": load.files, "size": load.size,
                   "num_files": len(load.entries), "clip": asdict(SIZES[load.size])}
            for name, load in found.items()
        },
    }  # fmt: skip
    if "cost" not in args.parts:
        return result
    costs, rounds = {}, {}
    for name, load in found.items():
        costs[name], rounds[name] = measure_cost(load, wanted, args.rounds)
        for part, number in (("decode", 0), ("crop", 1)):
            values = [line["plain"][number] for line in rounds[name]]
            result["loads"][name] |= {f"{part}_ms": median(values),
                                      f"{part}_quartiles": quartiles(values)}  # fmt: skip
        say(f"cost: {name}, decoding takes {result['loads'][name]['decode_ms']:.1f} ms")
    result["costs"] = costs
    if "default" in wanted:
        result["claim"] = claim(costs)
    if {"repeats_4", "repeats_4_apart"} <= wanted.keys():
        result["repeats"] = {name: summarise_repeats(lines) for name, lines in rounds.items()}
    return result | {"rounds": rounds}


def _changed(augment: AugmentConfig) -> dict[str, Any]:
    default = asdict(AugmentConfig())
    return {key: value for key, value in asdict(augment).items() if value != default[key]}


def measure_devices(
    args: argparse.Namespace, of_size: dict[str, Load], batch: int, before: dict[str, Any]
) -> dict[str, Any]:
    """By device: None where there is none and nothing was measured before."""
    found: dict[str, Any] = {"cpu": before.get("cpu"), "cuda": before.get("cuda")}
    devices = ["cpu"] if args.device != "cuda" else []
    if args.device != "cpu" and torch.cuda.is_available():
        devices.append("cuda")
    for device in devices:
        found[device] = {
            size: measure_device(device, decoded_frames(load, batch), SIZES[size].crop,
                                 max(2, args.rounds // 3))
            for size, load in of_size.items()
        }  # fmt: skip
        say(f"device: {device}")
    if "cuda" not in devices:
        kept = "not measured" if found["cuda"] is None else "as it was"
        say(f"device: cuda {kept}")
    return found


def _command(args: argparse.Namespace) -> str:
    """What repeats it, without the folders of this machine."""
    words = ["python benchmarks/augment.py", f"--rounds {args.rounds}"]
    if args.clips:
        words.append("--clips " + " ".join(f"{name}=DIR" for name, _ in args.clips))
    words += ["--quick"] if args.quick else []
    words += ["--only " + " ".join(args.only)] if args.only else []
    return " ".join(words)


if __name__ == "__main__":
    main()
