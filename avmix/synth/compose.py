"""Compositing of synthetic actions over real backgrounds, with known events and labels.

The action is drawn and rendered by `avmix.synth.actions`, as the toy set's are. What stands behind
it is a stretch of a real clip instead of a painted backdrop, whose audio is mixed in below that of
the action. The label is the action's; what the background shows is of no account.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, UInt8

from avmix.data.clip_reader import is_audible
from avmix.decode import ClipError, decode_clip
from avmix.decode.mono_track import channels_to_read, one_channel, track_of
from avmix.media.judgement import entry_of
from avmix.media.write_mp4 import write_mp4
from avmix.rng import rng
from avmix.synth import actions as act
from avmix.synth.action_audio import audio_of
from avmix.synth.action_frames import frames_of
from avmix.synth.action_scenes import draw_scene, draw_world
from avmix.synth.parent_clips import Parents, file_name
from avmix.synth.synthetic_set import (
    Outcome,
    Plan,
    SynthError,
    do_all,
    fell_short,
    finish,
    one_line,
    prepare,
)
from avmix.system import strict_json
from avmix.system.atomic_files import replace_text
from avmix.system.printing import counted
from avmix.types import Clip, Entry, Synthetic

SETS = (act.ACTIONS, act.TIMING_ACTIONS)
"""The classes of the toy set, usual and `--timing`."""

# Part of the addresses of random streams.
_WORLD, _SCENE = 1, 2


@dataclass(frozen=True, slots=True, kw_only=True)
class ComposeOptions:
    """What is drawn, and how loud the world behind it is."""

    actions: tuple[str, ...] = ()
    """Names; none: all of the set."""
    per_class: int = 20
    """Clips of each action, >= 1."""
    difficulty: float = 0.5
    """As of the toy set: 0, clean, to 1."""
    background_db: float = -12.0
    """Level of the background's audio relative to that of the action, dB, at most 0."""
    seed: int = 0
    """Random seed."""

    def __post_init__(self) -> None:
        """Check ranges."""
        if self.per_class < 1:
            raise SynthError(f"--per-class must be at least 1, got {self.per_class}")
        if not 0 <= self.difficulty <= 1:
            raise SynthError(f"--difficulty must be from 0 to 1, got {self.difficulty}")
        if not -80 <= self.background_db <= 0:
            raise SynthError(f"--background-db must be from -80 to 0, got {self.background_db}")
        if not 0 <= self.seed < 2**32:
            raise SynthError(f"--seed must be in [0, 2**32), got {self.seed}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Composition:
    """A clip to make: what is drawn, and over what."""

    root: Path
    out: Path
    clip_id: str
    action: act.Action
    address: tuple[int, ...]
    """Address of its random streams: seed, number of the action, number of the clip."""
    background: Entry
    start_seconds: float
    """Start of the used part of the background, on the clock of its file."""
    across: float
    """Which square of a wider or higher frame, 0 to 1: from left to right, or top to bottom."""
    difficulty: float
    background_db: float


def compose(
    parents: Parents, out: Path, options: ComposeOptions, *, classes: tuple[str, ...] | None,
    workers: int, overwrite: bool, max_bad_share: float,
) -> str:  # fmt: skip
    """Make the set in `out`; returns what was written, in one line.

    `parents` are the backgrounds; `classes` those of the dataset to be added to (None: the
    toy's), in its order. Raises `SynthError` and `ManifestError`.
    """
    every = action_set(options.actions, classes)
    wanted = [a for a in every if not options.actions or a.name in options.actions]
    names = classes or tuple(a.name for a in every)
    arguments = {
        **parents.arguments, "actions": [a.name for a in wanted], "per_class": options.per_class,
        "difficulty": options.difficulty, "background_db": options.background_db,
        "seed": options.seed,
    }  # fmt: skip
    protocol = "toy" if every is act.ACTIONS else "toy_timing"
    plan = Plan(out=out, method="compose", arguments=arguments, classes=names, protocol=protocol)
    if not prepare(plan, overwrite=overwrite):
        return f"{out}: already complete with these arguments; nothing to do"
    usable, unusable = _usable(parents.manifest.entries)
    if not usable:
        why = ", ".join(f"{n} {reason}" for reason, n in unusable.items())
        raise SynthError(f"{parents.root}: no clip to put behind the actions ({why})")
    jobs = draw_compositions(parents, usable, wanted, out, options)
    outcomes = do_all(plan, jobs, make_composition, names=[j.clip_id for j in jobs],
                      workers=workers)  # fmt: skip
    truth = [{"clip_id": o.name, **o.facts} for o in outcomes if o.entry and o.facts]
    replace_text(out / "events.jsonl", strict_json.lines(truth))
    report: dict[str, Any] = {"backgrounds": len(usable), "not_backgrounds": dict(unusable)}
    finish(plan, outcomes, report, max_bad_share)
    left_out = "".join(f", {n} {reason}" for reason, n in sorted(unusable.items()))
    short = fell_short(outcomes, [action.name for action in wanted], options.per_class)
    over = counted(len(usable), "clip")
    return f"{out}: {len(truth)} of {len(jobs)} made, over {over}{left_out}{short}"


def action_set(wanted: Sequence[str], classes: Sequence[str] | None) -> tuple[act.Action, ...]:
    """The toy's classes that are meant. Raises `SynthError` where none of its sets has them all."""
    for actions in SETS:
        names = [a.name for a in actions]
        if set(wanted) <= set(names) and (classes is None or sorted(classes) == sorted(names)):
            return actions
    known = "; ".join(", ".join(a.name for a in actions) for actions in SETS)
    if classes is not None:
        raise SynthError(
            f"--manifest has other classes than the toy set ({', '.join(classes[:5])}, ...), or "
            f"--actions names others; the toy's are: {known}"
        )
    raise SynthError(f"--actions {','.join(wanted)}: not all of one set; there are: {known}")


def draw_compositions(
    parents: Parents, usable: Sequence[Entry], wanted: Sequence[act.Action], out: Path,
    options: ComposeOptions,
) -> list[Composition]:  # fmt: skip
    """What every clip will be: all that is random but the drawing of the action itself."""
    numbers = {a.name: n for actions in SETS for n, a in enumerate(actions)}
    jobs: list[Composition] = []
    for action in wanted:
        # The number of the action in its set, so that asking for fewer gives the same clips.
        number = numbers[action.name]
        order = rng(options.seed, 0, "compose", number, 0).permutation(len(usable))
        for index in range(options.per_class):
            address = (options.seed, number, index)
            stream = rng(options.seed, 0, "compose", number, index + 1)
            background = usable[order[index % len(usable)]]  # each as often as any other
            slack = background.duration_seconds - act.DURATION_SECONDS
            start = background.start_seconds + slack * float(stream.random())
            jobs.append(
                Composition(
                    root=parents.root,
                    out=out,
                    clip_id=f"compose/{parents.manifest.sha256[:8]}_{options.seed}/"
                    f"{action.name}_{index:04d}",
                    action=action,
                    address=address,
                    background=background,
                    start_seconds=round(start, 4),
                    across=round(float(stream.random()), 4),
                    difficulty=options.difficulty,
                    background_db=options.background_db,
                )
            )
    return jobs


def make_composition(job: Composition) -> Outcome:
    """Draw, render and write one clip; an `Outcome` with the reason where its background fails."""
    address = (*job.address, _WORLD, 0)
    world = draw_world(address, difficulty=job.difficulty)
    scene = draw_scene((*job.address, _SCENE, 0), action=job.action, world=world,
                           difficulty=job.difficulty)  # fmt: skip
    # The camera of the background is not ours: bodies that drift would glide over it.
    scene = replace(scene, drift_px=(0.0, 0.0))
    background = job.background
    path = job.out / file_name(job.clip_id, job.action.name)
    try:
        behind = decode_clip(
            job.root / background.path,
            start_seconds=job.start_seconds,
            duration_seconds=act.DURATION_SECONDS,
            num_frames=act.NUM_FRAMES,
            sample_rate=act.RATE_HZ,
            short_side=act.SIDE_PX,
            audio="require" if is_audible(background) else "skip",
            channels=channels_to_read(background.audio),
            audio_track=track_of(background.audio),
            sha256=background.sha256 or None,
            until_seconds=background.usable_until_seconds,
        )
        frames = frames_of(scene, square_of(behind.video, job.across))
        audio = mix_over_background(audio_of(scene), _heard(background, behind), job.background_db)
        write_mp4(path, [frames], audio, fps=Fraction(act.FPS), rate_hz=act.RATE_HZ)
        entry = entry_of(path, job.out, clip_id=job.clip_id, labels=(job.action.name,),
                         source_id=background.source_id)  # fmt: skip
    except (ClipError, OSError) as error:
        return Outcome(name=job.clip_id, entry=None, reason=f"unreadable: {one_line(error)}")
    audible = behind.audio.size > 0 and behind.audio_valid > 0
    heard = f"at {job.background_db:g} dB" if audible else "has no sound"
    made = Synthetic(
        method="compose",
        parents=(background.clip_id,),
        recipe=f"{job.action.name} drawn at {job.address}, difficulty {job.difficulty:g}, over "
        f"{background.clip_id} from {job.start_seconds:.3f} s, square at {job.across:g}; its sound "
        f"{heard}",
        score=None,
    )
    events = {"event_seconds": scene.event_seconds, "onset_seconds": scene.onset_seconds}
    return Outcome(name=job.clip_id, entry=replace(entry, synthetic=made), facts=events)


def square_of(
    video: UInt8[np.ndarray, "t h w c"], across: float
) -> UInt8[np.ndarray, "t side side c"]:
    """The largest square, `across` (0 to 1) of the way along the longer side."""
    height, width = video.shape[1:3]
    side = min(height, width)
    top, left = round(across * (height - side)), round(across * (width - side))
    return np.ascontiguousarray(video[:, top : top + side, left : left + side])


def mix_over_background(
    audio: Float32[np.ndarray, " s"], background: Float32[np.ndarray, " s"] | None, db: float
) -> Float32[np.ndarray, " s"]:
    """`audio` with `background` below it: `db` is the ratio of their root mean squares.

    Where the sum would be too loud for the file, all of it is turned down.
    """
    if background is None or not background.any():
        return audio
    level = np.sqrt(np.mean(audio.astype(np.float64) ** 2))
    other = np.sqrt(np.mean(background.astype(np.float64) ** 2))
    mixed = audio + background * (10 ** (db / 20) * level / other)
    return (mixed * min(1.0, 0.98 / float(np.abs(mixed).max()))).astype(np.float32)


def _heard(background: Entry, clip: Clip) -> np.ndarray | None:
    return one_channel(background.audio, clip.audio) if clip.audio.size else None


def _usable(entries: Sequence[Entry]) -> tuple[list[Entry], Counter[str]]:
    """Clips that can be a background, and why others cannot: nothing is held or repeated."""
    usable: list[Entry] = []
    unusable: Counter[str] = Counter()
    for entry in entries:
        if entry.video is None:
            unusable["without video"] += 1
        elif entry.duration_seconds < act.DURATION_SECONDS:
            unusable["too short"] += 1
        else:
            usable.append(entry)
    return usable, unusable
