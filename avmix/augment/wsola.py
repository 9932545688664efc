"""Time stretching of audio at constant pitch (WSOLA) that keeps every attack in its place.

Waveform similarity overlap-add (Verhelst and Roelands, "An overlap-add technique based on waveform
similarity (WSOLA) for high quality time-scale modification of speech", ICASSP 1993), with one
addition: around every attack the audio is copied as it is, at the place where the linear change of
time puts the attack. A phase vocoder smears attacks over tens of milliseconds, and plain WSOLA
moves them by as much as it searches: both would part audio and video.

Attacks that rise within 2 ms are in their place to 1 ms at speeds from 0.8 to 1.25, and to 4 ms
from 0.5 to 2: clicks, tones that decay or last, double clicks 25 to 45 ms apart. What rises less
than twofold above what goes on is no attack, and moves by up to 5 ms, as in plain WSOLA, and by
what is copied beside it: up to 18 ms times the change of speed. The place that is kept is that at
which an attack reaches its level: one that rises slowly begins early or late by the time that it
takes, times the change of speed (of the impacts of toy clips 10 % by more than 1.1 ms at speeds
from 0.8 to 1.25; docs/augment.md has the rest).
"""

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64

from avmix.decode.mono_track import cancels

_HOP_SECONDS = 0.010
"""Half a frame: frames overlap by half, and their Hann windows add up to 1."""
_SEARCH_SECONDS = 0.005
"""How far WSOLA may move a frame to make it continue the last one: a period of 200 Hz."""
_LOCK_SECONDS = 0.018
"""On both sides of a peak time runs as in the file: the audio of the peak, 8 ms, and a hop."""
_APART = 12
"""Milliseconds. Attacks nearer to a stronger one than this are of the same event."""
_BEFORE, _AFTER, _REACHED = (2, 18), 5, 8
"""Milliseconds before an attack, and after its begin, whose levels are compared; and within which
it reaches its level."""
_LEVEL = 0.97
"""The same level: the peaks of a tone differ by what is sampled of them."""
_SUDDEN = 2.0
"""The peak level after the begin of an attack is so many times that before it."""
_FAINT = 1e-3
"""Share of the loudest attack: attacks that are weaker are not looked for."""


def stretch(
    audio: Float32[np.ndarray, "*c s"], num_samples: int, sample_rate: int
) -> Float32[np.ndarray, "*c n"]:
    """Time-stretch `audio` to `num_samples` samples at the same rate and pitch; both channels
    alike."""
    size = audio.shape[-1]
    if size == num_samples or size == 0:
        return audio if size == num_samples else np.zeros((*audio.shape[:-1], num_samples), "f4")
    channels = audio.reshape(-1, size)
    guide = channels.mean(0)
    if cancels(float((guide**2).sum()), float((channels**2).sum()) / len(channels)):
        guide = channels[0]
    hop, reach = round(_HOP_SECONDS * sample_rate), round(_SEARCH_SECONDS * sample_rate)
    # Frame k is centred on sample k * hop of the result.
    centres = np.arange(0, num_samples + hop, hop)
    wanted, locked = _source_places(centres, _attacks(guide, sample_rate), size, num_samples,
                                    round(_LOCK_SECONDS * sample_rate))  # fmt: skip
    margin = hop + reach + 1
    padded = np.pad(channels, ((0, 0), (2 * margin, 2 * margin + 2 * hop)))
    guide = np.pad(guide, (2 * margin, 2 * margin + 2 * hop))
    places = _similar(guide, wanted + 2 * margin, locked, hop, reach)
    window = np.hanning(2 * hop + 1)[:-1].astype(np.float32)
    frames = padded[:, places[:, None] + np.arange(-hop, hop)] * window  # (c, k, 2 * hop)
    total = np.zeros((len(channels), len(centres) + 1, hop), np.float32)
    total[:, :-1] += frames[..., :hop]
    total[:, 1:] += frames[..., hop:]
    # The first half of the first frame lies before sample 0.
    return total.reshape(len(channels), -1)[:, hop:][:, :num_samples].reshape(
        *audio.shape[:-1], num_samples
    )


def _attacks(wave: Float32[np.ndarray, " s"], sample_rate: int) -> Int64[np.ndarray, " p"]:
    """Samples at which a sudden event has reached its level, ascending; what follows may last,
    or be louder still.

    Looked for in the waveform and in its differences, in which a high note rises above a lower one
    that is louder.
    """
    step = max(1, sample_rate // 1000)
    found: list[tuple[float, int]] = []
    for signal in (wave, np.diff(wave, prepend=wave[:1])):
        peaks = np.maximum.reduceat(np.abs(signal), np.arange(0, len(signal), step))
        rises = _rises(peaks)
        for begin in np.flatnonzero(rises):
            near = peaks[begin : begin + _REACHED]
            reached = int(begin + (near >= 0.9 * near.max()).argmax())
            top = peaks[
                reached : reached + 3
            ]  # of a click its peak; of a tone that lasts the first
            place = reached + int((top >= _LEVEL * top.max()).argmax())
            found.append((float(rises[begin]), place))
    chosen: list[int] = []
    for _, place in sorted(found, key=lambda one: (-one[0], one[1])):
        if all(abs(place - other) >= _APART for other in chosen):
            chosen.append(place)
    return np.array(sorted(chosen), np.int64) * step + step // 2


def _rises(peaks: Float32[np.ndarray, " m"]) -> Float32[np.ndarray, " m"]:
    """How much louder it gets after each millisecond, as a share of the loudest; 0 where it is not
    sudden. `peaks`: the level of each."""
    padded = np.pad(peaks, (_BEFORE[1], _AFTER))
    views = np.lib.stride_tricks.sliding_window_view
    # Millisecond k is number k + _BEFORE[1] of the padded ones.
    after = views(padded, _AFTER).max(1)[_BEFORE[1] :][: len(peaks)]
    before = views(padded, _BEFORE[1] - _BEFORE[0]).max(1)[: len(peaks)]
    loudest = peaks.max(initial=1e-6)
    sudden = (after > _SUDDEN * before) & (after > _FAINT * loudest)
    return np.where(sudden, (after - before) / loudest, 0).astype(np.float32)


def _source_places(
    centres: Int64[np.ndarray, " k"],
    peaks: Int64[np.ndarray, " p"],
    size: int,
    num_samples: int,
    lock: int,
) -> tuple[Int64[np.ndarray, " k"], Bool[np.ndarray, " k"]]:
    """For each frame of the result the place in the source that is played there, and whether it is
    near a peak, where time runs as in the source."""
    speed = size / num_samples
    results, sources = [0.0], [0.0]
    locked = np.zeros(len(centres), np.bool_)
    there = peaks / speed
    for i, peak in enumerate(peaks):
        # Between two peaks each has half of the room; near the ends less is left.
        gaps = [abs(peak - peaks[j]) / 2 for j in (i - 1, i + 1) if 0 <= j < len(peaks)]
        room = min(
            lock, *(min(gap, gap / speed) for gap in gaps),
            there[i], peak, num_samples - there[i], size - peak,
        )  # fmt: skip
        if room <= 0:
            continue
        results += [there[i] - room, there[i] + room]
        sources += [peak - room, peak + room]
        locked |= np.abs(centres - there[i]) <= room
    places = np.interp(centres, [*results, num_samples], [*sources, size])
    return np.round(places).astype(np.int64), locked


def _similar(
    guide: Float32[np.ndarray, " n"],
    wanted: Int64[np.ndarray, " k"],
    locked: Bool[np.ndarray, " k"],
    hop: int,
    reach: int,
) -> Int64[np.ndarray, " k"]:
    """Places near the wanted ones at which the audio continues that of the frame before."""
    places = wanted.copy()
    for k in range(1, len(wanted)):
        if locked[k]:
            continue
        follows = places[k - 1] + hop
        natural = guide[follows - hop : follows + hop]
        low = wanted[k] - reach - hop
        candidates = guide[low : low + 2 * reach + 2 * hop]
        likeness: Float64[np.ndarray, " r"] = np.correlate(candidates, natural, "valid")
        if likeness.max() > 0:
            places[k] = wanted[k] - reach + int(likeness.argmax())
    return places
