"""Longer or shorter sound of the same pitch, with every sudden event exactly in its place.

Waveform similarity overlap-add (Verhelst and Roelands, "An overlap-add technique based on waveform
similarity (WSOLA) for high quality time-scale modification of speech", ICASSP 1993), with one
addition: around sudden peaks of the level the sound is copied as it is, at the place where the
linear change of time puts the peak. A phase vocoder smears them over tens of milliseconds, and
plain WSOLA moves them by as much as it searches: both would part the sound from its picture.
"""

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64

_HOP_SECONDS = 0.010
"""Half a frame: frames overlap by half, and their Hann windows add up to 1."""
_SEARCH_SECONDS = 0.005
"""How far WSOLA may move a frame to make it continue the last one: a period of 200 Hz."""
_LOCK_SECONDS = 0.018
"""On both sides of a peak time runs as in the file: the sound of the peak, 8 ms, and a hop."""
_APART_SECONDS = 0.060
"""Peaks nearer to a louder one than this are of the same event."""
_SUDDEN = 2.0
"""A peak is this many times louder than its surroundings of 0.1 s."""


def stretch(
    audio: Float32[np.ndarray, "*c s"], num_samples: int, sample_rate: int
) -> Float32[np.ndarray, "*c n"]:
    """`audio` in `num_samples` samples of the same rate and pitch; both channels alike."""
    size = audio.shape[-1]
    if size == num_samples or size == 0:
        return audio if size == num_samples else np.zeros((*audio.shape[:-1], num_samples), "f4")
    channels = audio.reshape(-1, size)
    guide = channels.mean(0)
    hop, reach = round(_HOP_SECONDS * sample_rate), round(_SEARCH_SECONDS * sample_rate)
    # Frame k is centred on sample k * hop of the result.
    centres = np.arange(0, num_samples + hop, hop)
    wanted, locked = _source_places(centres, _peaks(guide, sample_rate), size, num_samples,
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


def _peaks(wave: Float32[np.ndarray, " s"], sample_rate: int) -> Int64[np.ndarray, " p"]:
    """Samples at which a sudden sound is loudest, ascending."""
    step = max(1, sample_rate // 1000)
    near, around = 8, 100  # milliseconds
    power = np.add.reduceat(wave.astype(np.float64) ** 2, np.arange(0, len(wave), step))
    power = np.pad(power, (0, max(0, around + 1 - len(power))))  # shorter than its surroundings
    level = np.sqrt(np.convolve(power, np.hanning(near + 3)[1:-1], "same"))
    surrounding = np.convolve(level, np.full(around + 1, 1 / (around + 1)), "same")
    loud = (level > _SUDDEN * surrounding) & (level > 1e-4)
    found: list[int] = []
    by_level = np.argsort(-level, kind="stable")
    for place in by_level[loud[by_level]]:
        if all(abs(place - other) >= _APART_SECONDS * 1000 for other in found):
            found.append(int(place))
    return np.array(sorted(found), np.int64) * step + step // 2


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
    for peak in peaks:
        there = peak / speed
        # Near the ends, and near another peak, less room is left.
        room = min(
            lock, there - results[-1], (peak - sources[-1]), num_samples - there, size - peak
        )
        if room <= 0:
            continue
        results += [there - room, there + room]
        sources += [peak - room, peak + room]
        locked |= np.abs(centres - there) <= room
    places = np.interp(centres, [*results, num_samples], [*sources, size])
    return np.round(places).astype(np.int64), locked


def _similar(
    guide: Float32[np.ndarray, " n"],
    wanted: Int64[np.ndarray, " k"],
    locked: Bool[np.ndarray, " k"],
    hop: int,
    reach: int,
) -> Int64[np.ndarray, " k"]:
    """Places near the wanted ones at which the sound continues that of the frame before."""
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
