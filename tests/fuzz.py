"""Decode damaged files and judge what comes back: refused, right, or wrong without a word.

    python -m tests.fuzz --files 1000 --seed 0 --json out.json --keep kept
    python -m tests.fuzz --case mp4_h264/flips/17 --keep kept

Clean files are made for every container and codec that can be written here, damaged by a seeded
recipe, and decoded through the public call in a child process that may crash or hang.
"""

import argparse
import hashlib
import importlib
import json
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args

import av
import numpy as np

from avmix.decode import decode_clip
from tests.fuzz_child import DURATION_SECONDS, Answer, Child, Lost
from tests.fuzz_damage import DAMAGE, Kind
from tests.fuzz_media import FPS, SECONDS, SPECS, write_texture

STARTS_SECONDS = (0.0, 1.2, 2.4)
"""The last window ends with the film: its last frames come only when the decoder is flushed."""
LIMIT_BYTES = 1500 << 20
SAME_DB = 25.0
STRICT_DB = 35.0
_SAME_SECONDS = 0.001

Verdict = Literal[
    "right", "held", "refused", "gap", "shifted", "bad", "wrong_error", "crash", "hang", "memory"
]
"""Of one window.

right: every frame equals the clean file's, times too.
held: so do those before the end, and the clip reports how many were held after it.
refused: an error that the public call promises, naming the file.
gap: each frame is what the clean file shows at the time reported for it, but a later frame
    should have been on the screen: frames are lost, and the times say so.
shifted: each frame is undamaged, from this file or the one spliced in, at another time.
bad: some frame is in neither film: damage was returned as good.
wrong_error, crash, hang, memory: never right, whatever the file.
"""
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)
FAILED: tuple[Verdict, ...] = ("wrong_error", "crash", "hang", "memory")
BLIND: dict[str, float] = {"webm_vp8": 0.44, "mp4_hevc": 0.21}
"""Specs whose decoder hardly notices damage, with the share that it returned as good (1,000 files;
see `silent_share`). Their arithmetic coding makes a frame of any bytes. Only the hash of the file
helps. Ogg has checksums of its own: there VP8 is not blind."""
MOST_SILENT = 0.05
"""The same share of all other specs together; 0.01 of 1,000 files. It is not zero: H.264 and others
too can read wrong values to the end of a frame without a contradiction."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The verdict on one window of one damaged file."""

    case: str
    spec: str
    kind: str
    start_seconds: float
    verdict: Verdict
    recipe: str
    detail: str
    worst_db: float
    """PSNR of the worst frame to the clean file's; 99 where all are equal or none came."""
    seconds: float
    peak_bytes: int

    def __str__(self) -> str:
        """One line, from which the case can be repeated."""
        where = f"{self.verdict:<11} {self.case:<30} {self.start_seconds:.1f} s"
        return f"{where} {self.worst_db:5.1f} dB  {self.recipe}: {self.detail}"


# ---- the judge -----------------------------------------------------------------------------------


class Clean:
    """A clean file, another of the same kind, and every frame in them."""

    def __init__(self, folder: Path, spec: str) -> None:
        self.spec = spec
        self.path = folder / f"{spec}{SPECS[spec].suffix}"
        other = folder / f"{spec}_other{SPECS[spec].suffix}"
        for seed, path in enumerate((self.path, other)):
            if not path.exists():
                write_texture(path, SPECS[spec], seed=seed)
        self.data, self.other = self.path.read_bytes(), other.read_bytes()
        self.sha256 = hashlib.sha256(self.data).hexdigest()
        whole: dict[str, Any] = dict(start_seconds=0, duration_seconds=SECONDS, fps=FPS)
        clip = decode_clip(self.path, audio="skip", **whole)
        assert clip.num_held == 0, f"{spec}: frames of the clean file are missing"
        self.video, self.pts_seconds = clip.video, clip.pts_seconds
        self.other_video = decode_clip(other, audio="skip", **whole).video

    @cached_property
    def _flat(self) -> np.ndarray:
        frames = np.concatenate([self.video, self.other_video])
        return frames.reshape(len(frames), -1).astype(np.float32) - 128

    def nearest_db(self, video: np.ndarray) -> np.ndarray:
        """For each frame of `video` the PSNR to the most similar one of both clean files."""
        flat = video.reshape(len(video), -1).astype(np.float32) - 128
        squares = (flat**2).sum(1)[:, None] + (self._flat**2).sum(1) - 2 * flat @ self._flat.T
        return _db(squares.min(axis=1) / flat.shape[1])

    def judge(self, start: float, answer: Answer | Lost) -> tuple[Verdict, str, float]:
        """Verdict, why, and PSNR of the worst frame."""
        if not isinstance(answer, Answer):
            return answer, "", 99.0
        if answer.peak_bytes > LIMIT_BYTES:
            return "memory", f"{answer.peak_bytes >> 20} MiB; {answer.error}", 99.0
        if answer.error:
            return ("refused" if answer.promised_error else "wrong_error"), answer.error, 99.0
        times = start + np.arange(round(DURATION_SECONDS * FPS)) / FPS
        expected = np.searchsorted(self.pts_seconds, times + 0.0006, side="right") - 1
        shape = (len(expected), *self.video.shape[1:])
        if not isinstance(answer.video, np.ndarray) or answer.video.shape != shape:
            return "bad", f"shape {getattr(answer.video, 'shape', answer.video)}", 0.0
        # What is held after the end is reported as such; it must be the last frame before.
        num = len(expected) - answer.num_held
        held = answer.video[num:]
        if num == 0 or not np.array_equal(held, np.broadcast_to(answer.video[num - 1], held.shape)):
            return "bad", f"{answer.num_held} held frames are not the last one", 0.0
        video, pts, expected = answer.video[:num], answer.pts_seconds[:num], expected[:num]
        db = psnr_db(video, self.video[expected])
        detail = f"frames {np.flatnonzero(db < SAME_DB).tolist()} below {SAME_DB} dB"
        on_time = np.abs(pts - self.pts_seconds[expected]) < _SAME_SECONDS
        if np.all(db >= SAME_DB) and np.all(on_time):
            return ("held" if len(held) else "right"), "", float(db.min())
        told = np.abs(self.pts_seconds - pts[:, None]).argmin(axis=1)
        honest = np.abs(pts - self.pts_seconds[told]) < _SAME_SECONDS
        if np.all(honest) and np.all(psnr_db(video, self.video[told]) >= SAME_DB):
            return "gap", detail, float(db.min())
        if np.all(self.nearest_db(video) >= SAME_DB):
            return "shifted", detail, float(db.min())
        return "bad", detail, float(db.min())


def psnr_db(video: np.ndarray, clean: np.ndarray) -> np.ndarray:
    """Of each frame of (t, h, w, 3) against its partner; 99 where they are equal."""
    difference = video.astype(np.float32) - clean
    return _db((difference**2).mean(axis=(1, 2, 3)))


def _db(mean_squares: np.ndarray) -> np.ndarray:
    return np.minimum(10 * np.log10(255**2 / np.maximum(mean_squares, 1e-6)), 99.0)


# ---- cases ---------------------------------------------------------------------------------------


def damaged(clean: Clean, kind: Kind, number: int) -> tuple[bytes, str]:
    """The damaged file of the case `spec/kind/number`, and how it was generated."""
    address = hashlib.sha256(f"{clean.spec}/{kind}/{number}".encode()).digest()
    draw = np.random.Generator(np.random.Philox(int.from_bytes(address[:16])))
    return DAMAGE[kind](clean.data, clean.other, draw)


def cases(
    num_files: int,
    seed: int,
    specs: Sequence[str] = tuple(SPECS),
    kinds: Sequence[Kind] = get_args(Kind),
) -> Iterator[tuple[str, Kind, int]]:
    """Spec, kind and number of each: every kind meets every spec before any pair comes again."""
    for index in range(num_files):
        turn = index // len(specs)
        spec = index % len(specs)
        yield specs[spec], kinds[(turn + spec) % len(kinds)], seed * 100_000 + turn


def run(
    wanted: Iterable[tuple[str, Kind, int]],
    folder: Path,
    *,
    with_hash: bool = False,
    keep: Path | None = None,
    kept_verdicts: Sequence[str] = (*FAILED, "bad"),
) -> list[Outcome]:
    """Decode each case in `folder`; with `with_hash` the clean file's hash is passed along.

    Files with a window of `kept_verdicts` are copied to `keep`, with the clean file and the recipe.
    """
    cleans: dict[str, Clean] = {}
    outcomes: list[Outcome] = []
    with Child() as child:
        for spec, kind, number in wanted:
            if spec not in cleans:
                cleans[spec] = Clean(folder, spec)
            clean = cleans[spec]
            data, recipe = damaged(clean, kind, number)
            if data == clean.data and kind != "none":
                continue
            case = f"{spec}/{kind}/{number}"
            path = folder / f"{case.replace('/', '-')}{clean.path.suffix}"
            path.write_bytes(data)
            answers = child.decode(path, STARTS_SECONDS, clean.sha256 if with_hash else None)
            path.unlink()
            mine = []
            for start, answer in zip(STARTS_SECONDS, answers, strict=True):
                verdict, detail, worst = clean.judge(start, answer)
                cost = (0.0, 0) if isinstance(answer, str) else (answer.seconds, answer.peak_bytes)
                mine.append(Outcome(case, spec, kind, start, verdict, recipe, detail, worst, *cost))
            outcomes += mine
            if keep is not None and any(o.verdict in kept_verdicts for o in mine):
                _keep(keep, clean, data, mine)
    return outcomes


def _keep(folder: Path, clean: Clean, data: bytes, outcomes: Sequence[Outcome]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    name = outcomes[0].case.replace("/", "-")
    (folder / f"{name}{clean.path.suffix}").write_bytes(data)
    (folder / f"clean-{clean.path.name}").write_bytes(clean.data)
    text = json.dumps([asdict(o) for o in outcomes], indent=1)
    (folder / f"{name}.json").write_text(text)


# ---- report --------------------------------------------------------------------------------------


def table(outcomes: Sequence[Outcome], by: Literal["spec", "kind"]) -> str:
    """Files and windows of each verdict, one row per spec or kind, and the sum."""
    names = sorted({getattr(o, by) for o in outcomes})
    lines = [f"{by:<16}{'files':>6}" + "".join(f"{v:>12}" for v in (*VERDICTS, "below35dB"))]
    for name in [*names, "all"]:
        mine = [o for o in outcomes if name in ("all", getattr(o, by))]
        count = Counter(o.verdict for o in mine)
        low = sum(o.verdict in ("right", "held") and o.worst_db < STRICT_DB for o in mine)
        files = len({o.case for o in mine})
        numbers = [*(count[v] for v in VERDICTS), low]
        lines.append(f"{name:<16}{files:>6}" + "".join(f"{n:>12}" for n in numbers))
    return "\n".join(lines)


def silent_matrix(outcomes: Sequence[Outcome]) -> str:
    """Bad windows / windows that were bad or refused, by spec and kind."""
    kinds = [kind for kind in get_args(Kind) if kind != "none"]
    lines = [f"{'bad/reached':<16}" + "".join(f"{kind:>12}" for kind in kinds)]
    for spec in sorted({o.spec for o in outcomes}):
        cells = []
        for kind in kinds:
            count = Counter(o.verdict for o in outcomes if (o.spec, o.kind) == (spec, kind))
            cells.append(f"{count['bad']}/{count['bad'] + count['refused']}")
        lines.append(f"{spec:<16}" + "".join(f"{cell:>12}" for cell in cells))
    return "\n".join(lines)


def silent_share(outcomes: Iterable[Outcome]) -> float:
    """Of the windows that damage reached, bad or refused: the share that was returned as good."""
    count = Counter(o.verdict for o in outcomes if o.kind != "none")
    return count["bad"] / max(count["bad"] + count["refused"], 1)


def summary(plain: Sequence[Outcome], hashed: Sequence[Outcome]) -> dict[str, Any]:
    """Windows of each verdict by codec, without and with the hash of the clean file."""
    names = {"libx264": "H.264", "libx265": "H.265", "libsvtav1": "AV1", "libvpx": "VP8",
             "libvpx-vp9": "VP9", "mpeg4": "MPEG-4", "mpeg1video": "MPEG-1", "mjpeg": "MJPEG",
             "mpeg2video": "MPEG-2", "msmpeg4": "MS MPEG-4", "wmv2": "WMV 8", "flv": "H.263",
             "prores": "ProRes"}  # fmt: skip
    counts: dict[str, Counter[str]] = {}
    for outcome in plain:
        if outcome.kind != "none":
            codec = names[SPECS[outcome.spec].video]
            counts.setdefault(codec, Counter())[outcome.verdict] += 1
    with_hash = Counter(o.verdict for o in hashed if o.kind != "none")
    return {
        "kind": "fuzz",
        "num_files": len({o.case for o in plain if o.kind != "none"}),
        "num_clean": len({o.case for o in plain if o.kind == "none"}),
        "clean": dict(Counter(o.verdict for o in plain if o.kind == "none")),
        "codecs": {codec: dict(counts[codec]) for codec in sorted(counts)},
        "with_hash": dict(with_hash),
        "slowest_seconds": max(o.seconds for o in plain),
        "most_bytes": max(o.peak_bytes for o in plain),
        "versions": {"av": av.__version__, "libavcodec": ".".join(map(str, _libavcodec()))},
    }


def _libavcodec() -> tuple[int, ...]:
    return av.library_versions["libavcodec"]


def problems(outcomes: Sequence[Outcome]) -> list[str]:
    """What must not be: failures, refused clean files, more silent damage than was measured."""
    found = [o for o in outcomes if o.verdict in FAILED]
    found += [o for o in outcomes if o.kind == "none" and o.verdict != "right"]
    seeing = [o for o in outcomes if o.spec not in BLIND]
    if silent_share(seeing) > MOST_SILENT:
        found += [o for o in seeing if o.verdict == "bad"]
    return [str(o) for o in found]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line; 1 where there are `problems`."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.description = "Damaged files through decode_clip: refused, right, or silently wrong."
    parser.add_argument("--files", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--specs", nargs="+", default=list(SPECS), choices=list(SPECS))
    parser.add_argument("--kinds", nargs="+", default=list(get_args(Kind)), choices=get_args(Kind))
    parser.add_argument("--case", nargs="+", default=None, help="spec/kind/number, as reported")
    parser.add_argument("--sha256", action="store_true", help="pass the clean file's hash along")
    parser.add_argument("--keep", type=Path, default=None, help="folder for the offending files")
    parser.add_argument("--keep-verdicts", nargs="+", default=[*FAILED, "bad"], choices=VERDICTS)
    parser.add_argument("--json", type=Path, default=None, help="every outcome")
    parser.add_argument("--summary", type=Path, default=None,
                        help="counts by codec; runs all once more, with the hash")  # fmt: skip
    sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))
    provenance = importlib.import_module("shared.provenance")
    provenance.add_option(parser)
    args = parser.parse_args(arguments)
    origin = provenance.measured(args, "fuzz") if args.summary is not None else None
    if args.case is not None:
        parts = [case.split("/") for case in args.case]
        wanted: list[Any] = [(spec, kind, int(number)) for spec, kind, number in parts]
    else:
        wanted = list(cases(args.files, args.seed, args.specs, args.kinds))
    with tempfile.TemporaryDirectory() as folder:
        outcomes = run(
            wanted,
            Path(folder),
            with_hash=args.sha256,
            keep=args.keep,
            kept_verdicts=list(VERDICTS) if args.case is not None else args.keep_verdicts,
        )
        if args.summary is not None:
            hashed = run(wanted, Path(folder), with_hash=True)
            found = summary(outcomes, hashed) | {"command": _command(args), "measured": origin}
            importlib.import_module("shared.result_files").write(args.summary, found)
    tables = table(outcomes, "spec"), table(outcomes, "kind"), silent_matrix(outcomes)
    print(*tables, sep="\n\n", end="\n\n")
    shown = VERDICTS if args.case is not None else (*FAILED, "bad")
    print(*(o for o in outcomes if o.verdict in shown), sep="\n")
    slowest = max(outcomes, key=lambda o: o.seconds)
    dearest = max(outcomes, key=lambda o: o.peak_bytes)
    print(f"slowest window {slowest.seconds:.2f} s ({slowest.case}); most memory "
          f"{dearest.peak_bytes >> 20} MiB ({dearest.case})")  # fmt: skip
    if args.json is not None:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps([asdict(o) for o in outcomes]))
    seeing = silent_share(o for o in outcomes if o.spec not in BLIND)
    print(f"returned as good: {seeing:.3f} of the windows that damage reached, without "
          f"{', '.join(BLIND)}; at most {MOST_SILENT} is accepted")  # fmt: skip
    return int(bool(problems(outcomes)))


def _command(args: argparse.Namespace) -> str:
    """What repeats a summary."""
    what = f"--files {args.files} --seed {args.seed}"
    return f"python -m tests.fuzz {what} --summary benchmarks/results/fuzz.json"


if __name__ == "__main__":
    sys.exit(main())
