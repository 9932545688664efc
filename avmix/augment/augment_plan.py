"""The augmentation plan of one clip: everything that was drawn for it, as data, and what the
network does not see."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool

from avmix.augment.audio_transforms import AudioPlan
from avmix.augment.timing import TimePlan
from avmix.augment.video_transforms import VideoPlan
from avmix.mix.clip_grid import Grid


@dataclass(frozen=True, slots=True, kw_only=True)
class AugmentPlan:
    """Augmentation plan of one clip."""

    time: TimePlan
    video: VideoPlan
    audio: AudioPlan


@dataclass(frozen=True, slots=True, kw_only=True)
class VisibleParts:
    """Masks of what the network sees of a clip; the rest is hidden after mixing."""

    frames: Bool[np.ndarray, " t"]
    columns: Bool[np.ndarray, " f"]
    """Visible columns of the spectrogram."""
    bins: Bool[np.ndarray, " m"]
    """Visible mel bins of the spectrogram."""


def visible_parts(plan: AugmentPlan, grids: Mapping[str, Grid]) -> VisibleParts:
    """Masks that hide the same seconds of frames and spectrogram, whatever their time steps.

    `grids` are those of `clip_grids` for the log-mel. A frame stands for its share of the window,
    a column for the samples it is made of; what has its middle in a hidden interval is hidden.
    """
    video, audio = grids["video"], grids["audio"]
    assert audio.band_axis is not None
    num_bins = audio.shape[audio.band_axis]
    both, audio_plan = plan.time.hidden, plan.audio.hidden_seconds
    bands = [
        (round(low * num_bins), round(high * num_bins)) for low, high in plan.audio.hidden_shares
    ]
    return VisibleParts(
        frames=_kept(video.num_steps, [video.steps_within(*interval) for interval in both]),
        columns=_kept(
            audio.num_steps, [audio.steps_within(*interval) for interval in (*both, *audio_plan)]
        ),
        bins=_kept(num_bins, bands),
    )


def _kept(count: int, hidden: Sequence[tuple[int, int]]) -> Bool[np.ndarray, " n"]:
    kept = np.ones(count, np.bool_)
    for start, stop in hidden:
        kept[start:stop] = False
    return kept


def in_words(plan: AugmentPlan) -> str:
    """Description of what `plan` changes, in one line, without the positions of window and crop."""
    time, video, audio_plan = plan.time, plan.video, plan.audio
    words = [
        f"{time.speed:.2f} times as fast" + (", same pitch" if time.keep_pitch else "")
        if time.read_rate != time.sample_rate
        else "",
        "backwards" if time.reverse else "",
        f"{time.num_visible_frames} of {time.num_frames} frames"
        if time.num_visible_frames < time.num_frames
        else "",
        f"audio {1000 * time.audio_shift_seconds:+.0f} ms from elsewhere"
        if time.audio_shift_seconds
        else "",
        *(f"{start:.2f} to {stop:.2f} s hidden" for start, stop in time.hidden),
        "mirrored" if video.flip else "",
        *(f"{op.name} {op.amount:+.2f}" if op.amount else op.name for op in video.ops),
        "erased" if video.erased else "",
        f"background {audio_plan.background.snr_db:.0f} dB below" if audio_plan.background else "",
        f"echo of {audio_plan.room.rt60_seconds:.1f} s" if audio_plan.room else "",
        _band(audio_plan) if audio_plan.band else "",
        f"noise {audio_plan.noise.snr_db:.0f} dB below" if audio_plan.noise else "",
        f"{audio_plan.gain_db:+.1f} dB" if audio_plan.gain_db else "",
        "inverted" if audio_plan.invert else "",
        f"{len(audio_plan.hidden_seconds)} time masks" if audio_plan.hidden_seconds else "",
        f"{len(audio_plan.hidden_shares)} mel masks" if audio_plan.hidden_shares else "",
    ]
    return "; ".join(word for word in words if word) or "another window"


def _band(audio_plan: AudioPlan) -> str:
    assert audio_plan.band is not None
    low = f"above {audio_plan.band.low_hz:.0f} Hz" if audio_plan.band.low_hz else ""
    high = f"below {audio_plan.band.high_hz:.0f} Hz" if audio_plan.band.high_hz else ""
    return " and ".join(word for word in (low, high) if word)
