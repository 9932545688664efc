"""What augmentation costs beside decoding, each by itself and every preset; where and beside whom.

    python benchmarks/augment.py [--clips [NAME=]DIR ...] [--rounds N] [--out FILE]
    python benchmarks/augment.py --quick --only flip default --out runs/augment.json
    python benchmarks/augment.py --device cuda       only that part anew, where there is a GPU

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
import gc
import json
import random
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from augmenting.device import measure_device
from augmenting.peers import measure_peers
from decoding.footage import folder_jobs, made_clips
from shared import machine, progress, provenance, result_files
from shared.medians import median, quartiles
from shared.paths import RESULTS, ROOT, WORK
from shared.progress import say
from shared.rounds import rounds_in_turn

from avmix.augment import AudioPlan, AugmentPlan, TimePlan, centred
from avmix.config import AugmentConfig, ClipConfig, FrontendConfig
from avmix.data.dataset import TrainSet
from avmix.data.manifest import Manifest
from avmix.data.sample import Sample
from avmix.decode import ClipError
from avmix.media.judgement import entry_of
from avmix.models.frontend import Frontend
from avmix.preview.augment_gallery import EXAMPLES
from avmix.rng import rng
from avmix.system import strict_json
from avmix.types import Batch, Clip, Entry

PARTS = ("cost", "frontend", "device", "peers")
LIMIT_PERCENT = 15.0
"""Of decoding: what the default augmentation is claimed to stay below."""
SIZES = {
    "small": ClipConfig(),
    "kinetics": ClipConfig(num_frames=16, short_side=256, crop=224),
}
"""The project's default, and one that networks trained on Kinetics take."""
_PACKAGES = ("avmix", "av", "torchvision", "torchaudio", "torch", "numpy")
_PLAIN: dict[str, Any] = {"flip": 0.0, "min_area": 1.0, "max_aspect": 1.0}
_BATCH = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """An augmentation to be measured."""

    augment: AugmentConfig
    label: str
    stereo: bool = False
    apart: bool = False
    """Windows of a file are read one after the other, each from a file opened anew."""


def cases() -> dict[str, Case]:
    """Each augmentation by itself, as strong as docs/augment.md shows it, and the presets."""
    alone = {
        "window_uniform": {"window": "uniform"},
        **EXAMPLES,
        "invert": {"invert": 1.0},
        "repeats_4": {"repeats": 4},
    }
    found = {
        name: Case(augment=AugmentConfig(**{**_PLAIN, **options}), label=_said(options))
        for name, options in alone.items()
    }
    found["repeats_4_apart"] = replace(
        found["repeats_4"], label="the same four windows, the file opened for each", apart=True
    )
    found["stereo"] = Case(augment=AugmentConfig(**_PLAIN), label="`clip.stereo`", stereo=True)
    found["default"] = Case(augment=AugmentConfig(), label="**the default**")
    for path in sorted((ROOT / "configs/augment").glob("*.yaml")):
        options = yaml.safe_load(path.read_text())["augment"]
        found[f"preset_{path.stem}"] = Case(
            augment=AugmentConfig(**options), label=f"configs/augment/{path.name}"
        )
    return found


def _said(options: dict[str, Any]) -> str:
    return ", ".join(f"`{key}: {strict_json.dumps(value)}`" for key, value in options.items())


@dataclass(frozen=True, kw_only=True)
class TimedSet(TrainSet):
    """A `TrainSet` that knows how long it decodes."""

    spent: list[float] = field(default_factory=list)
    """CPU seconds of each call of `decode`."""

    def decode(self, entry: Entry, times: Sequence[TimePlan]) -> list[Clip | ClipError]:
        """As `TrainSet`."""
        began = time.process_time()
        found = super().decode(entry, times)
        self.spent.append(time.process_time() - began)
        return found


class PlainSet(TimedSet):
    """Plain decoding and the central crop of what is decoded."""

    def draw(self, row: int, visit: int, time: TimePlan, clip: Clip) -> AugmentPlan:
        """Nothing."""
        _, height, width, _ = clip.video.shape
        return AugmentPlan(time=time, video=centred(height, width), audio=AudioPlan())


@dataclass(frozen=True, slots=True)
class Reading:
    """One visit to one file."""

    decode_ms: float
    """CPU time of `TrainSet.decode`, per window."""
    around_ms: float
    """CPU time of everything else in `read_row`, per window."""
    samples: list[Sample]


def read(train: TimedSet, epoch: int, row: int, *, apart: bool = False) -> Reading:
    """The windows of a row in an epoch, timed."""
    numbers = range(train.augment.repeats)
    visits = [(n,) for n in numbers] if apart else [tuple(numbers)]
    train.spent.clear()
    began = time.process_time()
    samples = [sample for visit in visits for sample in train.read_row(epoch, row, visit)]
    total = time.process_time() - began
    decode, scale = sum(train.spent), 1e3 / len(numbers)
    return Reading(scale * decode, scale * (total - decode), samples)


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """Files, and the clips that are read of them."""

    about: str
    files: str
    size: str
    entries: tuple[Entry, ...]

    def train_set(self, case: Case | None) -> TimedSet:
        """None: plain."""
        clip = replace(SIZES[self.size], stereo=case is not None and case.stereo)
        made: type[TimedSet] = PlainSet if case is None else TimedSet
        return made(
            manifest=Manifest(
                classes=tuple(entry.labels[0] for entry in self.entries),
                protocol="benchmark",
                split="train",
                entries=self.entries,
                sha256="",
            ),
            root=Path("/"),
            clip=clip,
            augment=AugmentConfig(**_PLAIN) if case is None else case.augment,
            seed=0,
            verify="never",  # hashing is done once per file, not per clip
            events_seconds={
                entry.clip_id: tuple(
                    entry.duration_seconds * rng(0, 0, "window", row).uniform(size=3)
                )
                for row, entry in enumerate(self.entries)
            },
        )


def loads(args: argparse.Namespace, work: Path) -> dict[str, Load]:
    """Every size of every kind of files, by name."""
    made = made_clips(work, 12, args.files)
    width, height = 340, 256
    about = f"made, {width}x{height}, 10 s, H.264, a keyframe every 12"
    kinds = {"made": (about, _entries(made))}
    for name, folder in args.clips:
        jobs, _ = folder_jobs(folder, args.files, random.Random(0))
        if len(jobs) < 2:
            sys.exit(f"error: {folder} has fewer than two files with frames and 2 s of audio")
        kinds[name] = ("given with --clips", _entries(Path(job.path) for job in jobs))
    return {
        f"{name}_{size}": Load(about=about, files=name, size=size, entries=entries)
        for name, (about, entries) in kinds.items()
        for size in args.sizes
    }


def _entries(paths: Iterable[Path]) -> tuple[Entry, ...]:
    return tuple(
        entry_of(path.resolve(), "/", clip_id=f"{n}", labels=[f"{n}"], source_id=f"{n}")
        for n, path in enumerate(paths)
    )


def measure_cost(
    load: Load, wanted: dict[str, Case], num_rounds: int
) -> tuple[dict[str, Any], list[dict[str, list[float]]]]:
    """Summary by case, "plain" too, and the milliseconds [decode, around] of every round."""
    sets = {name: load.train_set(case) for name, case in wanted.items()}
    plain, none = (
        load.train_set(None),
        load.train_set(Case(augment=AugmentConfig(**_PLAIN), label="")),
    )
    sets["plain"] = plain
    rounds: list[dict[str, list[float]]] = []
    reads_other: list[dict[str, bool]] = []
    applied = dict.fromkeys(sets, 0)
    for turn in rounds_in_turn(sets, num_rounds, warm_up=1):
        row, epoch = turn.number % len(load.entries), max(turn.number, 0)
        reference, bare = plain.read_row(epoch, row)[0], none.read_row(epoch, row)[0]
        assert reference.plan is not None
        gc.collect()
        line, other = {}, {}
        for name in turn.order:
            case = wanted.get(name)
            found = read(sets[name], epoch, row, apart=case is not None and case.apart)
            line[name] = [round(found.decode_ms, 4), round(found.around_ms, 4)]
            plans = [sample.plan for sample in found.samples if sample.plan is not None]
            stereo = case is not None and case.stereo
            other[name] = stereo or any(
                _decoded(plan.time) != _decoded(reference.plan.time) for plan in plans
            )
            # What was drawn differs from what the same numbers give without it.
            against = reference.plan if name == "preset_none" else bare.plan
            if turn.counts:
                applied[name] += sum(stereo or plan != against for plan in plans)
            del found
        if turn.counts:
            rounds.append(line)
            reads_other.append(other)
    summary = {
        name: _summary(name, rounds, reads_other)
        | {
            "num_windows": num_rounds * sets[name].augment.repeats,
            "num_applied": applied[name],
        }
        for name in sets
    }
    return summary, rounds


def _decoded(time: TimePlan) -> tuple[float, ...]:
    """What of a plan decoding depends on."""
    return (time.start_seconds, time.read_seconds, time.decoded_rate, time.audio_shift_seconds)


def _summary(
    name: str, rounds: list[dict[str, list[float]]], reads_other: list[dict[str, bool]]
) -> dict[str, Any]:
    work, decode, added, percent, share = [], [], [], [], []
    for line, other in zip(rounds, reads_other, strict=True):
        (plain_decode, plain_around), (own_decode, own_around) = line["plain"], line[name]
        work.append(own_around - plain_around)
        decode.append(own_decode - plain_decode if other[name] else 0.0)
        added.append(work[-1] + decode[-1])
        percent.append(100 * added[-1] / plain_decode)
        share.append(100 * own_around / own_decode)
    return {
        "added_ms": median(added),
        "added_quartiles": quartiles(added),
        "percent_of_decoding": median(percent, 2),
        "percent_quartiles": quartiles(percent, 2),
        "work_ms": median(work),
        "decode_ms_more": median(decode),
        "reads_otherwise": any(other[name] for other in reads_other),
        "around_percent": median(share, 2),
    }


def summarise_repeats(rounds: list[dict[str, list[float]]]) -> dict[str, Any]:
    """Four windows of one open file, beside the same four of a file opened four times."""
    pairs = [(sum(line["repeats_4"]), sum(line["repeats_4_apart"])) for line in rounds]
    return {
        "together_ms": median([a for a, _ in pairs]),
        "apart_ms": median([b for _, b in pairs]),
        "ratio": median([a / b for a, b in pairs]),
    }


def claim(costs: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Whether the default augmentation stays below the limit: what it adds to plain decoding and
    the central crop, which evaluation does too; and all that is done beside decoding."""
    found: dict[str, Any] = {"limit_percent": LIMIT_PERCENT}
    for what, key in (("added", "percent_of_decoding"), ("with_the_crop", "around_percent")):
        percent = {load: cost["default"][key] for load, cost in costs.items()}
        holds = all(value < LIMIT_PERCENT for value in percent.values())
        found[what] = {"percent_of_decoding": percent, "holds": holds}
    return found


def measure_frontend(load: Load, batch_size: int, num_rounds: int) -> dict[str, Any]:
    """What hiding costs there, per clip: frames of an interval, and SpecAugment."""
    options = {**EXAMPLES["hide_seconds"], **EXAMPLES["specaugment"], **_PLAIN}
    case = Case(augment=AugmentConfig(**options), label="")
    train = load.train_set(case)
    samples = [train.read_row(0, n % len(load.entries))[0] for n in range(batch_size)]
    batch = train.collate(samples).batch
    assert batch is not None
    assert batch.frame_visible is not None
    assert batch.column_visible is not None
    ways: dict[str, Batch] = {
        "nothing_hidden": replace(batch, frame_visible=None, column_visible=None, bin_visible=None),
        "specaugment": replace(batch, frame_visible=None),
        "hide_seconds": replace(batch, bin_visible=None),
    }
    stage = Frontend(FrontendConfig(), SIZES[load.size].sample_rate, reuse_output=True)
    ms: dict[str, list[float]] = {name: [] for name in ways}
    for turn in rounds_in_turn(ways, num_rounds, warm_up=2):
        for name in turn.order:
            began = time.process_time()
            stage(ways[name])
            spent = 1e3 * (time.process_time() - began) / batch_size
            if turn.counts:
                ms[name].append(spent)
    more = {
        name: [a - b for a, b in zip(ms[name], ms["nothing_hidden"], strict=True)] for name in ways
    }
    return {
        name: {"ms": median(ms[name]), "more_ms": median(more[name]),
               "more_quartiles": quartiles(more[name])}
        for name in ways
    }  # fmt: skip


def decoded_frames(load: Load, count: int) -> list[np.ndarray]:
    """Decoded clips (t h w c) of one size, not cropped yet."""
    train = load.train_set(None)
    found = []
    for number in range(count):
        row, epoch = number % len(load.entries), number // len(load.entries)
        plan = train.read_row(epoch, row)[0].plan
        assert plan is not None
        clip = train.decode(load.entries[row], [plan.time])[0]
        if isinstance(clip, ClipError):
            raise clip
        found.append(clip.video)
    return found


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
        help="of the part `device`; cuda: only that part anew; both: CUDA where there is a device",
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
