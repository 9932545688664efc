"""Toy dataset: ten synthetic actions, generated as mp4 files with a manifest.

    avmix prepare toy --out data/toy

The same arguments make the same files, whatever the number of workers. The manifest is written
last, so a run that was stopped leaves no dataset. datasets/toy/README.md describes the clips.
"""

import argparse
import hashlib
import json
import multiprocessing
import re
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from rich.progress import track

from avmix.data.manifest import ManifestError, read_manifest, splits_of, write_manifest
from avmix.rng import rng
from avmix.synth import actions as act
from avmix.synth.action_audio import audio_of
from avmix.synth.action_frames import frames_of
from avmix.synth.action_scenes import draw_scene, draw_world
from avmix.system import strict_json
from avmix.system.paths import with_home
from avmix.types import AudioInfo, Entry, VideoInfo

VERSION = 1
"""Raised when the same arguments begin to make other clips; part of the protocol's name."""
SPLITS = ("train", "val", "test", "unseen")
"""In the order of their random streams; the last one is of `--factors` only."""
CLIPS_PER_SOURCE = 4
GOP = 12

# Second part of the addresses of random streams.
_ORDER, _WORLD, _SCENE = 0, 1, 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Arguments:
    """All that the clips depend on; kept in the notes of the manifest."""

    train: int
    val: int
    test: int
    seed: int
    difficulty: float
    timing: bool
    factors: bool = False

    @property
    def actions(self) -> tuple[act.Action, ...]:
        """Of the clips that are trained on; the classes, but with `factors`."""
        return act.TIMING_ACTIONS if self.timing else act.ACTIONS

    @property
    def classes(self) -> tuple[str, ...]:
        """Names, in the order of the outputs."""
        if self.factors:
            return act.FACTORS
        return tuple(action.name for action in self.actions)

    @property
    def splits(self) -> dict[str, tuple[int, tuple[act.Action, ...]]]:
        """Number of clips of each split, and what they show."""
        sizes = {"train": self.train, "val": self.val, "test": self.test}
        found = {split: (size, self.actions) for split, size in sizes.items()}
        return found | ({"unseen": (self.test, act.UNSEEN_ACTIONS)} if self.factors else {})

    @property
    def ceilings(self) -> act.Ceilings:
        """With `factors` each head is judged on what is visible or audible."""
        if self.factors:
            return act.Ceilings(fused=1.0, video=1.0, audio=1.0)
        return act.ceilings(self.actions)

    @property
    def notes(self) -> dict[str, Any]:
        """As they stand in the manifest; sets are older than `factors`."""
        said = {**asdict(self), "version": VERSION}
        return said if self.factors else {k: v for k, v in said.items() if k != "factors"}

    @property
    def protocol(self) -> str:
        """Name of this set, in the manifest."""
        name = "toy_timing" if self.timing else "toy_factors" if self.factors else "toy"
        sizes = f"{self.train}-{self.val}-{self.test}"
        return f"{name}/v{VERSION}/seed{self.seed}/difficulty{self.difficulty:g}/{sizes}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One clip to make."""

    out: Path
    split: str
    index: int
    """Of the clip in its split."""
    action: act.Action
    seed: int
    difficulty: float
    factors: bool
    """Whether its labels are its motion and its noise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """One clip made: its row of the manifest and the truth about its events."""

    entry: Entry
    event_seconds: tuple[float, ...]
    onset_seconds: tuple[float, ...]


EPILOG = """\
exit: 0 made   1 the folder cannot be used   2 wrong usage   130 interrupted; nothing is half made
"""


class MakeError(Exception):
    """The folder cannot be used; the message says why and what to do."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what `main` reads."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = EPILOG
    parser.add_argument("--out", type=Path, required=True, help="folder to make the set in")
    parser.add_argument("--train", type=int, default=640, help="clips to train on (640)")
    parser.add_argument("--val", type=int, default=96, help="clips to choose by (96)")
    parser.add_argument("--test", type=int, default=240, help="clips to report (240)")
    parser.add_argument("--seed", type=int, default=0, help="of every choice (0)")
    parser.add_argument("--difficulty", type=float, default=0.5, help="from 0, clean, to 1 (0.5)")
    parser.add_argument(
        "--timing", action="store_true", help="classes that differ only in when the audio comes"
    )
    parser.add_argument(
        "--factors", action="store_true",
        help="label motion and noise; a split `unseen` of pairs that the others lack",
    )  # fmt: skip
    parser.add_argument("--workers", type=int, default=2, help="processes (2)")
    parser.add_argument("--overwrite", action="store_true", help="replace the set in --out")


def main(
    argv: Sequence[str] | None = None,
    *,
    prog: str = "avmix prepare toy",
    doc: str | None = __doc__,
) -> int:
    """Run with the arguments of a command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog=prog, description=doc)
    add_arguments(parser)
    options = parser.parse_args(with_home(sys.argv[1:] if argv is None else argv))
    arguments = Arguments(
        train=options.train,
        val=options.val,
        test=options.test,
        seed=options.seed,
        difficulty=options.difficulty,
        timing=options.timing,
        factors=options.factors,
    )
    if arguments.timing and arguments.factors:
        parser.error("--factors labels motion and noise, which say nothing with --timing")
    if not 0 <= arguments.difficulty <= 1:
        parser.error("--difficulty must be from 0 to 1")
    if arguments.train < len(arguments.actions):
        parser.error(f"--train must be at least {len(arguments.actions)}: one clip of each class")
    if min(arguments.val, arguments.test, options.workers) < 1 or arguments.seed < 0:
        parser.error("--val, --test and --workers must be at least 1, --seed at least 0")
    try:
        if not options.overwrite and is_made(options.out, arguments):
            print(f"{options.out}: already made with these arguments; nothing to do")
            return 0
        make(options.out, arguments, num_workers=options.workers)
    except (MakeError, ManifestError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped; there is no dataset yet", file=sys.stderr)
        return 130
    best = arguments.ceilings
    print(
        f"{options.out}: made {arguments.protocol}; best possible accuracy: fused "
        f"{best.fused:.0%}, video alone {best.video:.0%}, audio alone {best.audio:.0%}"
    )
    return 0


def is_made(out: Path, arguments: Arguments) -> bool:
    """Whether `out` holds the whole set of `arguments`; False where it holds no set.

    Raises `MakeError` where it holds another set, or files of this one are gone or cut short.
    """
    if not (out / "dataset.json").exists():
        return False
    notes = json.loads((out / "dataset.json").read_text())["notes"]
    made, wanted = notes.get("arguments", {}), arguments.notes
    differ = [
        f"{name} is {made.get(name)}, not {wanted.get(name)}"
        for name in sorted({*made, *wanted})
        if made.get(name) != wanted.get(name)
    ]
    if differ:
        raise MakeError(
            f"{out} holds a set written with other arguments: {'; '.join(differ)}. "
            "Choose another --out, or replace it with --overwrite"
        )
    for split in splits_of(out):
        for entry in read_manifest(out, split).entries:
            path = out / entry.path
            if not path.exists() or path.stat().st_size != entry.bytes:
                raise MakeError(f"{path} is gone or damaged; write the set again with --overwrite")
    return True


def make(out: Path, arguments: Arguments, *, num_workers: int) -> None:
    """Make the set in `out`, in place of any that is there."""
    _clear(out)
    jobs = tuple(jobs_of(out, arguments))
    for split in arguments.splits:
        (out / split).mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        if num_workers == 1:
            results = map(make_clip, jobs)
        else:
            # Started afresh, not forked: the parent may hold threads.
            spawn = multiprocessing.get_context("spawn")
            pool = stack.enter_context(ProcessPoolExecutor(num_workers, mp_context=spawn))
            results = pool.map(make_clip, jobs, chunksize=8)
        made = list(track(results, description="Making clips", total=len(jobs)))
    truth = [
        {
            "clip_id": m.entry.clip_id,
            "event_seconds": m.event_seconds,
            "onset_seconds": m.onset_seconds,
        }
        for m in made
    ]
    (out / "events.jsonl").write_bytes(strict_json.lines(truth).encode())
    split_of = [job.split for job in jobs]
    write_manifest(
        out,
        classes=list(arguments.classes),
        protocol=arguments.protocol,
        splits={
            split: [m.entry for m, s in zip(made, split_of, strict=True) if s == split]
            for split in arguments.splits
        },
        notes={
            "made_by": "datasets/toy/make.py",
            "arguments": arguments.notes,
            "ceilings": asdict(arguments.ceilings),
            "pyav": av.__version__,
            "libav": {name: ".".join(map(str, v)) for name, v in av.library_versions.items()},
        },
    )


def _clear(out: Path) -> None:
    """Remove what an earlier run left, and nothing else; the header first."""
    (out / "dataset.json").unlink(missing_ok=True)
    names = "|".join(
        action.name for action in (*act.ACTIONS, *act.UNSEEN_ACTIONS, *act.TIMING_ACTIONS)
    )
    ours = re.compile(rf"({names})_\d{{4,}}\.mp4")
    for split in SPLITS:
        (out / f"{split}.jsonl").unlink(missing_ok=True)
        for path in (out / split).glob("*.mp4"):
            if ours.fullmatch(path.name):
                path.unlink()
    (out / "events.jsonl").unlink(missing_ok=True)


def jobs_of(out: Path, arguments: Arguments) -> Iterator[Job]:
    """The clips to make, in the order of the manifest.

    Classes come in shuffled rounds of each once, so that they are balanced to within one clip and
    the clips of a source are of several classes.
    """
    for number, (split, (size, actions)) in enumerate(arguments.splits.items()):
        for index in range(size):
            turn, place = divmod(index, len(actions))
            stream = rng(arguments.seed, 0, "synthesis", number, _ORDER, turn)
            action = actions[stream.permutation(len(actions))[place]]
            yield Job(
                out=out,
                split=split,
                index=index,
                action=action,
                seed=arguments.seed,
                difficulty=arguments.difficulty,
                factors=arguments.factors,
            )


def make_clip(job: Job) -> Made:
    """Draw, render and write one clip."""
    number, source = SPLITS.index(job.split), job.index // CLIPS_PER_SOURCE
    world = draw_world((job.seed, number, _WORLD, source), difficulty=job.difficulty)
    scene = draw_scene(
        (job.seed, number, _SCENE, job.index),
        action=job.action,
        world=world,
        difficulty=job.difficulty,
    )
    wave = audio_of(scene)
    labels = act.factors_of(job.action) if job.factors else (job.action.name,)
    clip_id = f"{job.split}/{job.action.name}_{job.index:04d}"
    path = job.out / f"{clip_id}.mp4"
    encode(path, frames_of(scene), wave)
    data = path.read_bytes()
    rms = float(np.sqrt(np.mean(wave.astype(np.float64) ** 2)))
    entry = Entry(
        clip_id=clip_id,
        path=f"{clip_id}.mp4",
        start_seconds=0.0,
        end_seconds=act.DURATION_SECONDS,
        labels=labels,
        video_labels=labels[:1] if job.factors else None,
        audio_labels=labels[1:] if job.factors else None,
        source_id=f"{job.split}-{source:04d}",
        video=VideoInfo(
            fps=float(act.FPS),
            num_frames=act.NUM_FRAMES,
            width=act.SIDE_PX,
            height=act.SIDE_PX,
            start_seconds=0.0,
            duration_seconds=act.DURATION_SECONDS,
            codec="h264",
            rotation=0,
            vfr=False,
        ),
        audio=AudioInfo(
            rate_hz=act.RATE_HZ,
            channels=1,
            start_seconds=0.0,
            duration_seconds=act.DURATION_SECONDS,
            codec="aac",
            rms_dbfs=round(max(-120.0, 20 * float(np.log10(max(rms, 1e-6)))), 3),
            silent=rms < 1e-4,
        ),
        bytes=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
    )
    return Made(entry=entry, event_seconds=scene.event_seconds, onset_seconds=scene.onset_seconds)


def encode(path: Path, frames: np.ndarray, wave: np.ndarray) -> None:
    """Write RGB frames (t, h, w, c) and mono samples (s,) as an mp4 file; both start at 0."""
    with av.open(str(path), "w", options={"movflags": "+faststart"}) as file:
        video = file.add_stream(
            "libx264", rate=act.FPS, options={"preset": "ultrafast", "crf": "25"}
        )
        video.width, video.height, video.pix_fmt = act.SIDE_PX, act.SIDE_PX, "yuv420p"
        # One thread: the bytes must not depend on the machine's cores.
        video.codec_context.thread_count = 1
        video.codec_context.gop_size = GOP
        audio = file.add_stream(
            "aac", rate=act.RATE_HZ, layout="mono", options={"aac_coder": "fast"}
        )
        audio.bit_rate = 64_000
        for k, image in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts = k
            frame.time_base = Fraction(1, act.FPS)
            file.mux(video.encode(frame))
        file.mux(video.encode(None))
        frame = av.AudioFrame.from_ndarray(wave[None], format="fltp", layout="mono")
        frame.sample_rate = act.RATE_HZ
        frame.pts = 0
        frame.time_base = Fraction(1, act.RATE_HZ)
        # The encoder's delay goes into the edit list: players and decoders drop it.
        file.mux(audio.encode(frame))
        file.mux(audio.encode(None))
