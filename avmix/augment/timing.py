"""Temporal augmentation: which seconds of a file are read, at which speed, in which direction, and
how many of them.

One draw for video and audio, in seconds on the clock of the window. A window is `num_frames`
frames, each standing for its share of the time, and the audio of the same seconds.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from avmix.augment.wsola import stretch
from avmix.config import AugmentConfig, ClipConfig
from avmix.rng import rng
from avmix.types import Clip, Entry

RATE_STEP_HZ = 50
"""Audio that is played faster or slower is read at a multiple of this rate (or of what it has in
common with `clip.sample_rate`): rates that have little in common with those of files need filters
of hundreds of megabytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TimePlan:
    """Temporal plan: which seconds of a file are read, and how they are played in the window."""

    start_seconds: float
    """Where reading begins, on the clock of the file."""
    num_frames: int
    """Frames of the window."""
    num_samples: int
    """Samples of the window."""
    sample_rate: int
    """Sample rate of the window, samples / second."""
    read_rate: int
    """Samples per second of the file: fewer than `sample_rate` where it is played faster."""
    keep_pitch: bool = False
    """Audio is stretched; else its samples are just played at the other rate, as a tape."""
    num_visible_frames: int
    """Frames that are shown; then the last is held and there is silence."""
    reverse: bool = False
    """Backwards."""
    audio_shift_seconds: float = 0.0
    """How much later in the file than the frames the audio is read: 0 but for a stated jitter."""
    hidden: tuple[tuple[float, float], ...] = ()
    """Intervals (start, stop) hidden from the network in both modalities, seconds in the window."""

    @property
    def speed(self) -> float:
        """Seconds of the file per second of the window."""
        return self.sample_rate / self.read_rate

    @property
    def read_seconds(self) -> float:
        """Seconds of the file that are read."""
        return self.num_samples / self.read_rate

    @property
    def decoded_rate(self) -> int:
        """Sample rate to decode at."""
        return self.sample_rate if self.keep_pitch else self.read_rate

    @property
    def num_audible_samples(self) -> int:
        """Samples of the window before the silence that follows `num_visible_frames` frames."""
        return round(self.num_visible_frames * self.num_samples / self.num_frames)


def whole_window(clip: ClipConfig, start_seconds: float) -> TimePlan:
    """Plan of an unchanged window, as evaluation reads it."""
    return TimePlan(
        start_seconds=start_seconds,
        num_frames=clip.num_frames,
        num_samples=round(clip.duration_seconds * clip.sample_rate),
        sample_rate=clip.sample_rate,
        read_rate=clip.sample_rate,
        num_visible_frames=clip.num_frames,
    )


def draw_times(
    config: AugmentConfig,
    clip: ClipConfig,
    entry: Entry,
    events_seconds: Sequence[float] = (),
    *,
    seed: int,
    epoch: int,
    row: int,
) -> tuple[TimePlan, ...]:
    """Draw the `augment.repeats` windows of one visit to a file.

    Speed and jitter are those of the visit, so that the windows can be read in one go; everything
    else is drawn for each. The address of a window is (seed, number of the window since the start
    of the run, row).
    """
    plans: list[TimePlan] = []
    base = whole_window(clip, 0.0)
    for visit in range(epoch * config.repeats, (epoch + 1) * config.repeats):
        stream = rng(seed, visit, "window", row)
        place = stream.random()  # first, and always: what else is drawn must not move it
        if not plans:
            base = _draw_playback(config, base, entry, stream)
        num_visible_frames, share = base.num_frames, clip.duration_seconds / base.num_frames
        if config.min_seconds > 0:
            fewest = max(1, math.ceil(config.min_seconds / share - 1e-9))
            num_visible_frames = int(stream.integers(fewest, base.num_frames + 1))
        reverse = config.reverse > 0 and bool(stream.random() < config.reverse)
        hidden: tuple[tuple[float, float], ...] = ()
        if config.hide_seconds > 0:
            width = stream.uniform(0, config.hide_seconds)
            begin = stream.uniform(0, clip.duration_seconds - width)
            hidden = ((begin, begin + width),)
        shown_seconds = base.read_seconds * num_visible_frames / base.num_frames
        slack = max(0.0, entry.duration_seconds - shown_seconds)
        match config.window:
            case "random":
                offset = slack * place
            case "uniform":
                offset = _tile(entry, clip.duration_seconds, slack, seed, visit, row)
            case "event":
                offset = _around(entry, events_seconds, shown_seconds, slack, place, stream)
        plans.append(
            replace(
                base,
                start_seconds=entry.start_seconds + offset,
                num_visible_frames=num_visible_frames,
                reverse=reverse,
                hidden=hidden,
            )
        )
    return tuple(plans)


def _draw_playback(
    config: AugmentConfig, base: TimePlan, entry: Entry, stream: np.random.Generator
) -> TimePlan:
    """`base` at the speed and with the jitter of a visit to `entry`."""
    read_rate = base.sample_rate
    if config.speed > 1:
        limit = math.log(config.speed)
        speed = math.exp(stream.uniform(-limit, limit))
        # Never so fast that more than the labelled stretch is read.
        most = min(config.speed, max(1.0, entry.duration_seconds / base.read_seconds))
        step = math.gcd(read_rate, RATE_STEP_HZ)
        lowest = math.ceil(read_rate / most / step - 1e-9)
        highest = math.floor(read_rate * config.speed / step + 1e-9)
        read_rate = step * min(max(round(read_rate / speed / step), lowest), highest)
    shift = 0.0
    if config.binding == "window":
        shift = stream.uniform(-config.jitter_seconds, config.jitter_seconds)
    return replace(
        base,
        read_rate=read_rate,
        keep_pitch=config.speed_keeps_pitch and read_rate != base.sample_rate,
        audio_shift_seconds=float(shift),
    )


def _tile(entry: Entry, seconds: float, slack: float, seed: int, visit: int, row: int) -> float:
    """One of the evenly spaced windows; each comes once in as many visits as there are, which
    speed and length of a visit must not change: they follow from the `seconds` of every window."""
    count = max(1, round(entry.duration_seconds / seconds))
    turn, place = divmod(visit, count)
    number = int(rng(seed, turn, "tiling", row).permutation(count)[place])
    return slack * number / (count - 1) if count > 1 else slack / 2


def _around(
    entry: Entry,
    events_seconds: Sequence[float],
    seconds: float,
    slack: float,
    place: float,
    stream: np.random.Generator,
) -> float:
    """A window with one of the events in its middle half, as far as the clip allows."""
    inside = [e for e in events_seconds if entry.start_seconds <= e < entry.end_seconds]
    if not inside:
        return slack * place
    event = inside[int(stream.integers(len(inside)))] - entry.start_seconds
    return min(max(event - seconds * (0.25 + 0.5 * place), 0.0), slack)


def apply_time(clip: Clip, plan: TimePlan) -> Clip:
    """Apply the temporal plan to `clip`, which was decoded for it: speed and direction, held and
    silent after `num_visible_frames` frames.

    Where in the file it is from, `start_seconds`, `duration_seconds` and `pts_seconds` still tell.
    Hidden intervals are left: they are hidden on the device, after mixing. Raises ValueError for a
    clip of another size.
    """
    audio = clip.audio
    if plan.keep_pitch:
        audio = stretch(audio, plan.num_samples, plan.sample_rate)
    if len(clip.video) != plan.num_frames or audio.shape[-1] != plan.num_samples:
        raise ValueError(
            f"the plan is of {plan.num_frames} frames and {plan.num_samples} samples, the clip "
            f"of {len(clip.video)} and {audio.shape[-1]}"
        )
    rows = np.arange(plan.num_frames)
    num_visible_frames, num_audible_samples, valid = (
        plan.num_visible_frames,
        plan.num_audible_samples,
        clip.audio_valid,
    )
    if plan.reverse:
        # Backwards a file that ends early must not begin with its padding.
        num_visible_frames = max(1, min(num_visible_frames, plan.num_frames - clip.num_held))
        num_audible_samples = min(
            num_audible_samples,
            replace(plan, num_visible_frames=num_visible_frames).num_audible_samples,
        )
        rows = rows[:num_visible_frames][::-1]
        audio = audio[..., :num_audible_samples][..., ::-1]
    rows = rows[:num_visible_frames]
    if num_visible_frames < plan.num_frames:
        rows = np.concatenate([rows, np.repeat(rows[-1:], plan.num_frames - num_visible_frames)])
        padded = np.zeros((*audio.shape[:-1], plan.num_samples), np.float32)
        padded[..., :num_audible_samples] = audio[..., :num_audible_samples]
        audio = padded
        valid = valid if audio.any() else 0.0  # all of the audio came later
    unchanged = num_visible_frames == plan.num_frames and not plan.reverse
    return replace(
        clip,
        video=clip.video if unchanged else clip.video[rows],
        pts_seconds=clip.pts_seconds if unchanged else clip.pts_seconds[rows],
        audio=np.ascontiguousarray(audio),
        sample_rate=plan.sample_rate,
        audio_valid=valid,
    )
