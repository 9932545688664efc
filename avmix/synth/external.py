"""Clips that another program makes: told what is wanted, checked, brought into one form.

Nothing is taken on trust. What the program writes is decoded whole, by the decoder that training
uses; its length and its audio are compared with what was asked for; then video and audio are
written anew, in one mp4 and on one clock. A clip that fails is counted and named, never replaced.
"""

import hashlib
import shlex
import shutil
import wave
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from avmix.decode import ClipError, decode_clip
from avmix.media.judgement import entry_of
from avmix.media.whole_clip import audio_of, audio_of_file, fps_of, frames_of, num_frames_of
from avmix.media.write_mp4 import audio_rate, write_mp4
from avmix.synth.child_process import filled, last_line, parse_command, places_of, run_child
from avmix.synth.external_jobs import USUALLY, Kind, Makes, RequestedClip, read_jobs
from avmix.synth.parent_clips import Parents, file_name
from avmix.synth.synthetic_set import Outcome, Plan, SynthError, do_all, finish, one_line, prepare
from avmix.system import strict_json
from avmix.system.atomic_files import replace_text
from avmix.types import Entry, Synthetic

_QUIET_PEAK = 1e-4
"""-80 dBFS, as `AudioInfo.silent`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExternalOptions:
    """Which program is run, on what, and what is accepted of it."""

    jobs: Path
    """JSON Lines, see `avmix.synth.external_jobs`."""
    command: str
    """Command line with places in braces."""
    kind: Kind
    makes: Makes | None = None
    """What the program writes; None: what is usual for its kind."""
    seconds_per_clip: float = 600.0
    """Limit of time for one run of the program, > 0."""
    tolerance: float = 0.25
    """Seconds by which a clip may be shorter or longer than was asked for, >= 0."""
    seed: int = 0
    """Where jobs have none of their own."""

    def __post_init__(self) -> None:
        """Check ranges."""
        if not 0 < self.seconds_per_clip <= 86_400:
            raise SynthError(
                f"--seconds-per-clip must be in (0, 86400], got {self.seconds_per_clip}"
            )
        if not 0 <= self.tolerance < 3600:
            raise SynthError(f"--tolerance must be in [0, 3600), got {self.tolerance}")
        if not 0 <= self.seed < 2**32:
            raise SynthError(f"--seed must be in [0, 2**32), got {self.seed}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One run of the program."""

    root: Path
    out: Path
    clip_id: str
    wanted: RequestedClip
    kind: Kind
    makes: Makes
    command: tuple[str, ...]
    seconds: float
    tolerance: float

    @property
    def work(self) -> Path:
        """A folder for its files, emptied before and removed after."""
        return self.out / "work" / self.stem

    @property
    def log(self) -> Path:
        """What the program said."""
        return self.out / "logs" / f"{self.stem}.log"

    @property
    def stem(self) -> str:
        """Name for its files."""
        return Path(file_name(self.clip_id, self.wanted.label)).stem


class _Unfit(Exception):
    """What the program wrote is not what was asked for; the message is the reason."""


def external(
    parents: Parents, out: Path, options: ExternalOptions, *, workers: int, overwrite: bool,
    max_bad_share: float,
) -> str:  # fmt: skip
    """Make the set in `out`; returns what was written, in one line.

    Raises `SynthError`, where the arguments or the jobs make no sense before any program is run,
    and `ManifestError`.
    """
    command = parse_command(options.command)
    if "{" not in command[0] and shutil.which(command[0]) is None:
        raise SynthError(f"--command: no program {command[0]!r} that can be run")
    makes = options.makes or USUALLY[options.kind]
    manifest = parents.manifest
    all_wanted = read_jobs(
        options.jobs, kind=options.kind, makes=makes, places=places_of(command),
        parents={e.clip_id: e for e in manifest.entries if e.video is not None},
        classes=manifest.classes, seed=options.seed,
    )  # fmt: skip
    arguments = {
        **parents.arguments, "kind": options.kind, "makes": makes, "command": options.command,
        "jobs_sha256": hashlib.sha256(options.jobs.read_bytes()).hexdigest(),
        "seconds_per_clip": options.seconds_per_clip, "tolerance": options.tolerance,
        "seed": options.seed,
    }  # fmt: skip
    plan = Plan(out=out, method="external", arguments=arguments, classes=manifest.classes,
                protocol=manifest.protocol)  # fmt: skip
    if not prepare(plan, overwrite=overwrite):
        return f"{out}: already made with these arguments; nothing to do"
    # Sets written with other arguments have other ids, so that they can be trained on together.
    mark = hashlib.sha256(strict_json.dumps(arguments, sort_keys=True).encode()).hexdigest()[:8]
    jobs = [
        Job(root=parents.root, out=out, clip_id=f"external/{mark}/{wanted.name}", wanted=wanted,
            kind=options.kind, makes=makes, command=command, seconds=options.seconds_per_clip,
            tolerance=options.tolerance)
        for wanted in all_wanted
    ]  # fmt: skip
    outcomes = do_all(plan, jobs, make_clip, names=[j.clip_id for j in jobs], workers=workers)
    shutil.rmtree(out / "work", ignore_errors=True)
    rows = [
        {"clip_id": o.name, "made": o.entry is not None, "reason": o.reason, **(o.facts or {})}
        for o in outcomes
    ]
    replace_text(out / "provenance.jsonl", strict_json.lines(rows))
    made = sum(o.entry is not None for o in outcomes)
    finish(plan, outcomes, {"tried": len(jobs)}, max_bad_share)
    failed = [o for o in outcomes if o.entry is None]
    first = f"; the first that failed: {failed[0].name}: {failed[0].reason}" if failed else ""
    return f"{out}: {made} of {len(jobs)} made{first}"


def make_clip(job: Job) -> Outcome:
    """Run the program once and take what it writes, or say why not."""
    shutil.rmtree(job.work, ignore_errors=True)
    job.work.mkdir(parents=True)
    wanted = job.wanted
    output = job.work / ("output.wav" if job.makes == "audio" else "output.mp4")
    facts: dict[str, Any] = {
        "kind": job.kind, "makes": job.makes, "text": wanted.text, "seed": wanted.seed,
        "duration_seconds": wanted.duration_seconds,
        "parent": wanted.parent.clip_id if wanted.parent else None,
        "log": job.log.relative_to(job.out).as_posix(),
    }  # fmt: skip
    try:
        arguments = filled(job.command, _inputs(job, output))
        ran = run_child(arguments, log=job.log, limit_seconds=job.seconds)
        facts |= {"command": arguments, "exit_code": ran.exit_code, "seconds": ran.seconds}
        if ran.problem:
            said = last_line(job.log)
            return Outcome(name=job.clip_id, entry=None, facts=facts,
                           reason=f"{ran.problem}: {said}" if said else ran.problem)  # fmt: skip
        if not output.is_file() or not output.stat().st_size:
            raise _Unfit("no output: the program ended well and wrote nothing to {output}")
        raw_sha256 = hashlib.sha256(output.read_bytes()).hexdigest()
        facts |= {"raw_sha256": raw_sha256, "raw_bytes": output.stat().st_size}
        entry = _take(job, output)
    except _Unfit as error:
        return Outcome(name=job.clip_id, entry=None, reason=str(error), facts=facts)
    except (ClipError, OSError) as error:
        return Outcome(name=job.clip_id, entry=None, reason=f"unreadable: {one_line(error)}",
                       facts=facts)  # fmt: skip
    finally:
        shutil.rmtree(job.work, ignore_errors=True)
    text = strict_json.dumps(wanted.text)
    recipe = (
        f"{job.kind}, makes {job.makes}: {shlex.join(job.command)}; seed {wanted.seed}, "
        f"{wanted.duration_seconds:g} s, text {text}; "
        f"sha256 of what it wrote {raw_sha256}"
    )
    parents = (wanted.parent.clip_id,) if wanted.parent else ()
    made = Synthetic(method="external", parents=parents, recipe=recipe, score=None)
    return Outcome(name=job.clip_id, entry=replace(entry, synthetic=made), facts=facts)


def _inputs(job: Job, output: Path) -> dict[str, str]:
    """What is put into the places of the command; files are made only where they are asked for."""
    wanted, places = job.wanted, places_of(job.command)
    values = {
        "text": wanted.text,
        "output": str(output.absolute()),
        "seed": str(wanted.seed),
        "duration": f"{wanted.duration_seconds:g}",
    }
    if wanted.parent is not None:
        stretch = _shortened(wanted.parent, wanted.duration_seconds)
        if "input_video" in places:
            # Without audio: what is to be made from the frames cannot be copied.
            path = job.work / "input.mp4"
            write_mp4(path, frames_of(job.root, stretch), None, fps=fps_of(stretch), rate_hz=0)
            values["input_video"] = str(path.absolute())
        if "input_audio" in places:
            assert stretch.audio is not None
            path, rate = job.work / "input.wav", stretch.audio.rate_hz
            _write_wav(path, audio_of(job.root, stretch, rate), rate)
            values["input_audio"] = str(path.absolute())
    return values


def _take(job: Job, output: Path) -> Entry:
    """The row of the clip made of what the program wrote and, where it wrote half, its parent."""
    wanted = job.wanted
    raw = entry_of(output, job.work, clip_id="", labels=(wanted.label,), source_id="")
    parent = wanted.parent
    seen = raw if job.makes != "audio" else parent
    heard = raw if job.makes != "video" else parent
    assert seen is not None
    assert heard is not None
    if seen.video is None:
        raise _Unfit("no video: the output has no video stream")
    if heard.audio is None:
        raise _Unfit("no audio: the output has no audio stream")
    # A file's audio may begin after its frames, or before; what counts is where both are.
    length = seen.duration_seconds if job.makes != "audio" else heard.audio.duration_seconds
    _check_length(length, wanted.duration_seconds, job.tolerance)
    rate = audio_rate(heard.audio.rate_hz)
    seen_root = job.work if seen is raw else job.root
    if heard is parent:
        wave_all = audio_of(job.root, heard, rate)
    elif job.makes == "audio":
        wave_all = audio_of_file(output, rate)
    else:
        wave_all = audio_of(job.work, raw, rate)
    fps = fps_of(seen)
    seconds = min(seen.duration_seconds, heard.duration_seconds, length)
    stretch = _shortened(seen, seconds)
    num_samples = _samples(num_frames_of(stretch), fps, rate)
    audio = wave_all[:num_samples]
    if np.abs(audio).max(initial=0.0) < _QUIET_PEAK:
        raise _Unfit("no audio: all of it is silent")
    path = job.out / file_name(job.clip_id, wanted.label)
    write_mp4(path, frames_of(seen_root, stretch), audio, fps=fps, rate_hz=rate)
    try:
        entry = entry_of(
            path, job.out, clip_id=job.clip_id, labels=(wanted.label,),
            source_id=parent.source_id if parent is not None else job.clip_id,
        )  # fmt: skip
        # What was made is held to the same: every frame there, in sync, audio to the end.
        clip = decode_clip(
            path,
            start_seconds=0.0,
            duration_seconds=entry.duration_seconds,
            num_frames=num_frames_of(entry),
            short_side=32,
            max_held=0,
        )
        if job.makes == "both":
            _check_audio(job, raw, output)
        silence = (1 - clip.audio_valid) * clip.duration_seconds
        if silence > job.tolerance + 0.03:
            raise _Unfit(f"audio too short: {silence:.2f} s of the clip have none")
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return entry


def _check_length(found: float, asked: float, tolerance: float) -> None:
    if abs(found - asked) > tolerance + 1e-3:
        word = "too short" if found < asked else "too long"
        raise _Unfit(f"{word}: {found:.3f} s, asked for {asked:.3f} s, tolerance {tolerance:g} s")


def _check_audio(job: Job, raw: Entry, output: Path) -> None:
    """The audio that came with frames is there for as long as they are."""
    clip = decode_clip(output, start_seconds=0.0, duration_seconds=raw.duration_seconds,
                       num_frames=1, short_side=32)  # fmt: skip
    silence = (1 - clip.audio_valid) * clip.duration_seconds
    if silence > job.tolerance + 1e-3:
        raise _Unfit(f"audio too short: {silence:.2f} s of the output have none")


def _shortened(entry: Entry, seconds: float) -> Entry:
    """The first `seconds` of its stretch, or all of it."""
    return replace(entry, end_seconds=min(entry.end_seconds, entry.start_seconds + seconds))


def _samples(frames: int, fps: Fraction, rate_hz: int) -> int:
    return round(frames / fps * rate_hz)


def _write_wav(path: Path, audio: np.ndarray, rate_hz: int) -> None:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate_hz)
        file.writeframes(np.rint(np.clip(audio, -1, 1) * 32767).astype("<i2").tobytes())
