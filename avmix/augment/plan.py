"""All that is done to one clip, as data, and what of it the network is not shown."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool

from avmix.augment.pictures import PicturePlan
from avmix.augment.sound import SoundPlan
from avmix.augment.timing import TimePlan
from avmix.mix.grid import Grid


@dataclass(frozen=True, slots=True, kw_only=True)
class AugmentPlan:
    """How one clip is augmented."""

    time: TimePlan
    pictures: PicturePlan
    sound: SoundPlan


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """What of a clip the network is shown; the rest is hidden after mixing."""

    frames: Bool[np.ndarray, " t"]
    columns: Bool[np.ndarray, " f"]
    """Of the spectrogram: its time."""
    bins: Bool[np.ndarray, " m"]
    """Of the spectrogram: its mel bins."""


def shown_parts(plan: AugmentPlan, grids: Mapping[str, Grid]) -> Shown:
    """Where pictures and spectrogram are hidden by the same seconds, whatever their steps.

    `grids` are those of `clip_grids` for the log-mel. A picture stands for its share of the window,
    a column for the samples it is made of; what has its middle in a hidden interval is hidden.
    """
    video, audio = grids["video"], grids["audio"]
    assert audio.band_axis is not None
    num_bins = audio.shape[audio.band_axis]
    both, sound = plan.time.hidden, plan.sound.hidden_seconds
    bands = [
        (round(low * num_bins), round(high * num_bins)) for low, high in plan.sound.hidden_shares
    ]
    return Shown(
        frames=_kept(video.num_steps, [video.steps_within(*interval) for interval in both]),
        columns=_kept(
            audio.num_steps, [audio.steps_within(*interval) for interval in (*both, *sound)]
        ),
        bins=_kept(num_bins, bands),
    )


def _kept(count: int, hidden: Sequence[tuple[int, int]]) -> Bool[np.ndarray, " n"]:
    kept = np.ones(count, np.bool_)
    for start, stop in hidden:
        kept[start:stop] = False
    return kept


def in_words(plan: AugmentPlan) -> str:
    """What `plan` changes, in one line; the place of the window and of the crop are not named."""
    time, pictures, sound = plan.time, plan.pictures, plan.sound
    words = [
        f"{time.speed:.2f} times as fast" + (", same pitch" if time.keep_pitch else "")
        if time.read_rate != time.sample_rate
        else "",
        "backwards" if time.reverse else "",
        f"{time.num_shown} of {time.num_frames} pictures"
        if time.num_shown < time.num_frames
        else "",
        f"sound {1000 * time.sound_shift_seconds:+.0f} ms from elsewhere"
        if time.sound_shift_seconds
        else "",
        *(f"{start:.2f} to {stop:.2f} s hidden" for start, stop in time.hidden),
        "mirrored" if pictures.flip else "",
        *(f"{op.name} {op.amount:+.2f}" if op.amount else op.name for op in pictures.ops),
        "erased" if pictures.erased else "",
        f"background {sound.background.snr_db:.0f} dB below" if sound.background else "",
        f"echo of {sound.room.rt60_seconds:.1f} s" if sound.room else "",
        _band(sound) if sound.band else "",
        f"noise {sound.noise.snr_db:.0f} dB below" if sound.noise else "",
        f"{sound.gain_db:+.1f} dB" if sound.gain_db else "",
        "inverted" if sound.invert else "",
        f"{len(sound.hidden_seconds)} time masks" if sound.hidden_seconds else "",
        f"{len(sound.hidden_shares)} mel masks" if sound.hidden_shares else "",
    ]
    return "; ".join(word for word in words if word) or "another window"


def _band(sound: SoundPlan) -> str:
    assert sound.band is not None
    low = f"above {sound.band.low_hz:.0f} Hz" if sound.band.low_hz else ""
    high = f"below {sound.band.high_hz:.0f} Hz" if sound.band.high_hz else ""
    return " and ".join(word for word in (low, high) if word)
