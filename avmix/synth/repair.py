"""Re-pairing: frames of one clip with the audio of another of its class, shifted to the best
alignment.

A network learns from such pairs what is common to a class, not which audio belongs to which
recording. Pairs are drawn from the train split only; video and audio are never of one source.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from avmix.data.clip_reader import is_audible
from avmix.decode import ClipError
from avmix.media.judgement import entry_of
from avmix.media.whole_clip import audio_of, fps_of, frames_of, motion_of, num_frames_of
from avmix.media.write_mp4 import audio_rate, write_mp4
from avmix.rng import rng
from avmix.synth.alignment import Alignment, align, audio_envelope, motion_envelope
from avmix.synth.parent_clips import Parents, file_name
from avmix.synth.synthetic_set import (
    Outcome,
    Plan,
    SynthError,
    do_all,
    fell_short,
    finish,
    for_each_job,
    one_line,
    prepare,
)
from avmix.types import Entry, Synthetic

_LISTEN_HZ = 16_000
_QUIET_PEAK = 1e-4
"""-80 dBFS, below which a stretch is silent, as `AudioInfo.silent` has it."""
_FADE_SECONDS = 0.005
"""Fade where audio is cut: a step in the waveform would be an onset that is in neither clip."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RepairOptions:
    """What is paired, and which pairs are kept."""

    per_class: int = 50
    """Pairs of each class, at most; >= 1."""
    min_score: float = 0.3
    """Pairs whose best alignment scores less, -1 to 1, are rejected."""
    min_cover: float = 0.8
    """Smallest share of the frames that must have audio, above 0, at most 1."""
    balanced: bool = False
    """As many pairs of each class: those of the class that has fewest, so that what is added does
    not make some classes more frequent than others."""
    seed: int = 0
    """Random seed of the choice of pairs."""

    def __post_init__(self) -> None:
        """Check ranges."""
        if self.per_class < 1:
            raise SynthError(f"--per-class must be at least 1, got {self.per_class}")
        if not -1 <= self.min_score <= 1:
            raise SynthError(f"--min-score must be from -1 to 1, got {self.min_score}")
        if not 0 < self.min_cover <= 1:
            raise SynthError(f"--min-cover must be above 0, at most 1, got {self.min_cover}")
        if not 0 <= self.seed < 2**32:
            raise SynthError(f"--seed must be in [0, 2**32), got {self.seed}")


@dataclass(frozen=True, slots=True)
class _Looks:
    """What pairs are judged by, of one clip."""

    motion: np.ndarray | None
    """Envelope; None where the file cannot be read."""
    audio: np.ndarray | None
    """Envelope; None where there is no audible audio."""
    reason: str
    """Why there is no audio to use, or no clip at all; empty where all is well."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A clip to make."""

    root: Path
    out: Path
    video: Entry
    audio: Entry
    alignment: Alignment

    @property
    def clip_id(self) -> str:
        """Both parents: the same pair has one id in all sets."""
        return f"repair/{self.video.clip_id}+{self.audio.clip_id}"


def repair(
    parents: Parents, out: Path, options: RepairOptions, *, workers: int, overwrite: bool,
    max_bad_share: float,
) -> str:  # fmt: skip
    """Make the set in `out`; returns what was written, in one line.

    Raises `SynthError` and `ManifestError`.
    """
    manifest = parents.manifest
    if several := [entry for entry in manifest.entries if len(entry.labels) != 1]:
        raise SynthError(
            f"{len(several)} of {len(manifest.entries)} clips have no or several labels, first "
            f"{several[0].clip_id}: clips are paired within a class, so each must have one label"
        )
    arguments = {**parents.arguments, "per_class": options.per_class, "seed": options.seed,
                 "min_score": options.min_score, "min_cover": options.min_cover,
                 "balanced": options.balanced}  # fmt: skip
    plan = Plan(out=out, method="repair", arguments=arguments, classes=manifest.classes,
                protocol=manifest.protocol)  # fmt: skip
    if not prepare(plan, overwrite=overwrite):
        return f"{out}: already complete with these arguments; nothing to do"
    entries = manifest.entries
    looks = [
        found
        for _, found in for_each_job(entries, partial(_look, parents.root), workers=workers,
                                     what="repair: looking and listening")
    ]  # fmt: skip
    unread = [(e, lk.reason) for e, lk in zip(entries, looks, strict=True) if lk.motion is None]
    if len(unread) > max_bad_share * len(entries):
        names = "; ".join(f"{e.path}: {reason}" for e, reason in unread[:5])
        raise SynthError(
            f"{len(unread)} of {len(entries)} clips cannot be read, a larger share than "
            f"--max-bad-share (={max_bad_share:g}): {names}"
        )
    pairs, rejected, tried = _choose(parents, out, looks, options)
    outcomes = do_all(plan, pairs, make_pair, names=[p.clip_id for p in pairs], workers=workers)
    scores = [p.alignment.score for p, o in zip(pairs, outcomes, strict=True) if o.entry]
    finish(
        plan,
        outcomes,
        {
            "tried": tried,
            "rejected": dict(rejected),
            "score_quantiles": [round(float(q), 4) for q in
                                np.quantile(scores, [0, 0.25, 0.5, 0.75, 1])] if scores else [],
            "no_sound_parents": dict(Counter(
                lk.reason for lk in looks if lk.motion is not None and lk.audio is None)),
            "unreadable": [{"path": e.path, "reason": reason} for e, reason in unread],
        },
        max_bad_share,
    )  # fmt: skip
    num = len(scores)
    why = "".join(f", {n} {reason}" for reason, n in sorted(rejected.items()))
    short = fell_short(outcomes, manifest.classes, options.per_class)
    return f"{out}: {tried} pairs tried, {num} kept{why}{short}"


def draw_order(entries: Sequence[Entry], rows: Sequence[int], seed: int, number: int) -> Iterator[
    tuple[int, int]
]:  # fmt: skip
    """All pairs (frame, audio) of `rows`, in rounds in which every frame comes once.

    So the first n pairs use all frames evenly. `number` is of the class; its stream is at (seed,
    number). Pairs of one source are left out: a clip with its own audio would be no other clip, and
    clips of one recording often share theirs.
    """
    stream = rng(seed, 0, "repair", number)
    partners = {p: [rows[i] for i in stream.permutation(len(rows))] for p in rows}
    partners = {
        p: [s for s in others if entries[s].source_id != entries[p].source_id]
        for p, others in partners.items()
    }
    for turn in range(len(rows)):
        for place in stream.permutation(len(rows)):
            video = rows[place]
            if turn < len(partners[video]):
                yield video, partners[video][turn]


def make_pair(pair: Pair) -> Outcome:
    """Render one pair; an `Outcome` with the reason where its files cannot be read after all."""
    video, audio, place = pair.video, pair.audio, pair.alignment
    assert audio.audio is not None
    rate = audio_rate(audio.audio.rate_hz)
    label = video.labels[0]
    path = pair.out / file_name(pair.clip_id, label)
    fps = fps_of(video)
    try:
        seconds = float(num_frames_of(video) / fps)
        wave, begin, end = placed_in_silence(
            audio_of(pair.root, audio, rate), rate, place.shift_seconds, seconds
        )
        write_mp4(path, frames_of(pair.root, video), wave, fps=fps, rate_hz=rate)
        entry = entry_of(path, pair.out, clip_id=pair.clip_id, labels=video.labels,
                         source_id=video.source_id)  # fmt: skip
    except (ClipError, OSError) as error:
        return Outcome(name=pair.clip_id, entry=None, reason=f"unreadable: {one_line(error)}")
    made = Synthetic(
        method="repair",
        parents=(video.clip_id, audio.clip_id),
        recipe=f"pictures of {video.clip_id}; sound of {audio.clip_id} moved by "
        f"{place.shift_seconds:+.3f} s, heard from {begin:.3f} to {end:.3f} s of {seconds:.3f} s, "
        f"silence elsewhere; {fps} pictures/s, {rate} Hz",
        score=round(place.score, 4),
    )
    return Outcome(name=pair.clip_id, entry=replace(entry, synthetic=made))


def placed_in_silence(
    wave: np.ndarray, rate_hz: int, shift_seconds: float, duration_seconds: float
) -> tuple[np.ndarray, float, float]:
    """Audio placed at `shift_seconds` in `duration_seconds` of silence, faded over 5 ms where it is
    cut; and the seconds at which it begins and ends."""
    num = round(duration_seconds * rate_hz)
    out = np.zeros(num, np.float32)
    first = round(shift_seconds * rate_hz)
    low, high = max(first, 0), min(first + len(wave), num)
    if low >= high:
        return out, 0.0, 0.0
    out[low:high] = wave[low - first : high - first]
    ramp = np.linspace(0, 1, round(_FADE_SECONDS * rate_hz), dtype=np.float32)[: high - low]
    if first != 0:
        out[low : low + len(ramp)] *= ramp
    if first + len(wave) != num:
        out[high - len(ramp) : high] *= ramp[::-1]
    return out, low / rate_hz, high / rate_hz


def _choose(
    parents: Parents, out: Path, looks: Sequence[_Looks], options: RepairOptions
) -> tuple[list[Pair], Counter[str], int]:
    """The pairs to make, why others are not, and how many were tried."""
    entries, classes = parents.manifest.entries, parents.manifest.classes
    kept: list[Pair] = []
    rejected: Counter[str] = Counter()
    tried = 0
    for number, name in enumerate(classes):
        rows = [r for r, e in enumerate(entries)
                if e.labels == (name,) and looks[r].motion is not None]  # fmt: skip
        found = 0
        for video, audio in draw_order(entries, rows, options.seed, number):
            if found == options.per_class:
                break
            motion, heard = looks[video].motion, looks[audio].audio
            if motion is None or heard is None:
                continue  # counted once a clip, not once a pair
            tried += 1
            alignment = align(motion, heard, options.min_cover)
            if alignment is None:
                rejected["audio too short"] += 1
            elif alignment.score < options.min_score:
                rejected["score too low"] += 1
            else:
                found += 1
                kept.append(Pair(root=parents.root, out=out, video=entries[video],
                                 audio=entries[audio], alignment=alignment))  # fmt: skip
    if options.balanced and kept:
        found_of = Counter(pair.video.labels[0] for pair in kept)
        fewest = _first_of_each(kept, min(found_of[name] for name in classes))
        if len(fewest) < len(kept):
            rejected["more than the smallest class has"] = len(kept) - len(fewest)
        kept = fewest
    return kept, rejected, tried


def _first_of_each(pairs: Sequence[Pair], num: int) -> list[Pair]:
    """The first `num` pairs of every class."""
    taken: Counter[str] = Counter()
    first: list[Pair] = []
    for pair in pairs:
        taken[pair.video.labels[0]] += 1
        if taken[pair.video.labels[0]] <= num:
            first.append(pair)
    return first


def _look(root: Path, entry: Entry) -> _Looks:
    try:
        if entry.video is None:
            return _Looks(None, None, "no video")
        motion = motion_envelope(
            motion_of(root, entry), float(num_frames_of(entry) / fps_of(entry))
        )
        if not is_audible(entry):
            return _Looks(motion, None, "no audio" if entry.audio is None else "silent")
        wave = audio_of(root, entry, _LISTEN_HZ)
    except (ClipError, OSError) as error:
        return _Looks(None, None, one_line(error))
    if np.abs(wave).max(initial=0.0) < _QUIET_PEAK:
        return _Looks(motion, None, "silent in its stretch")
    return _Looks(motion, audio_envelope(wave, _LISTEN_HZ), "")
