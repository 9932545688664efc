"""Audio augmentations: level, polarity, filter, reverberation, background and noise. None of them
shifts audio in time.

Waveforms are (s,) or (2, s) for stereo; levels are of all channels together.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Float64

from avmix.config import AugmentConfig

SILENCE = 1e-4
"""Root mean square below which there is nothing to measure a ratio by: -80 dB of full scale."""
_ORDER = 2
"""Order of the Butterworth filters: 12 dB an octave."""
_LOW_PASS_HZ = (1_000.0, 6_000.0)
_HIGH_PASS_HZ = (100.0, 1_000.0)
_RT60_SECONDS = (0.1, 0.8)
_WET_DB = (-15.0, -3.0)
_PREDELAY_SECONDS = (0.010, 0.030)
_TILT = (0.0, 2.0)

Wave = Float32[np.ndarray, "*c s"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Band:
    """Pass band of a filter; None: no limit."""

    low_hz: float | None
    high_hz: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """Reverberation: an impulse response of exponentially decaying white noise."""

    rt60_seconds: float
    """Until it is 60 dB weaker."""
    predelay_seconds: float
    """From the direct sound to its beginning."""
    wet_db: float
    """Energy of all of it, relative to the direct sound."""
    seed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Noise:
    """Noise with a power spectrum of 1 / f ** tilt: 0 is white, 1 pink, 2 brown."""

    snr_db: float
    tilt: float
    seed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Background:
    """Background audio from another clip."""

    row: int
    """Row of the clip in the manifest."""
    place: float
    """Where its window begins: 0 is the first that lies in the clip, 1 the last."""
    snr_db: float
    """Level of the own audio above it."""

    @property
    def share(self) -> float:
        """Share of the background in the power of both."""
        return 1 / (1 + 10 ** (self.snr_db / 10))


@dataclass(frozen=True, slots=True, kw_only=True)
class AudioPlan:
    """Augmentation of the audio of a clip, in order of application."""

    swap: bool = False
    """Left and right change places, as they do in the frames."""
    background: Background | None = None
    room: Room | None = None
    band: Band | None = None
    noise: Noise | None = None
    gain_db: float = 0.0
    invert: bool = False
    hidden_seconds: tuple[tuple[float, float], ...] = ()
    """SpecAugment: intervals (start, stop) of the window that the spectrogram does not show."""
    hidden_shares: tuple[tuple[float, float], ...] = ()
    """SpecAugment: bands (low, high) that it does not show, shares of the mel axis."""


def draw_audio(
    config: AugmentConfig,
    duration_seconds: float,
    sample_rate: int,
    stream: np.random.Generator,
    *,
    flipped: bool,
    pick: Callable[[np.random.Generator], int | None],
) -> AudioPlan:
    """Draw the audio augmentation of a window of `duration_seconds`; `pick` draws the row of a
    background, or None."""
    background = None
    if config.background > 0 and stream.random() < config.background:
        row = pick(stream)
        place, snr = stream.random(), _anywhere(config.background_snr_db, stream)
        if row is not None:
            background = Background(row=row, place=float(place), snr_db=snr)
    room = None
    if config.reverb > 0 and stream.random() < config.reverb:
        room = Room(
            rt60_seconds=_anywhere(_RT60_SECONDS, stream),
            predelay_seconds=_anywhere(_PREDELAY_SECONDS, stream),
            wet_db=_anywhere(_WET_DB, stream),
            seed=int(stream.integers(2**32)),
        )
    band = None
    if config.filter > 0 and stream.random() < config.filter:
        kind = stream.integers(3)
        top = min(_LOW_PASS_HZ[1], 0.4 * sample_rate)
        band = Band(
            low_hz=None if kind == 0 else _between(_HIGH_PASS_HZ, stream),
            high_hz=None if kind == 1 else _between((min(_LOW_PASS_HZ[0], top), top), stream),
        )
    noise = None
    if config.noise > 0 and stream.random() < config.noise:
        noise = Noise(
            snr_db=_anywhere(config.noise_snr_db, stream),
            tilt=_anywhere(_TILT, stream),
            seed=int(stream.integers(2**32)),
        )
    gain_db = stream.uniform(-config.gain_db, config.gain_db) if config.gain_db > 0 else 0.0
    invert = config.invert > 0 and stream.random() < config.invert
    longest = min(config.time_mask_seconds, duration_seconds)
    return AudioPlan(
        swap=flipped,
        background=background,
        room=room,
        band=band,
        noise=noise,
        gain_db=float(gain_db),
        invert=bool(invert),
        hidden_seconds=tuple(
            _interval(longest, duration_seconds, stream) for _ in range(config.time_masks)
        ),
        hidden_shares=tuple(
            _interval(config.mel_mask_share, 1.0, stream) for _ in range(config.mel_masks)
        ),
    )


def _anywhere(limits: Sequence[float], stream: np.random.Generator) -> float:
    low, high = limits
    return float(stream.uniform(low, high))


def _between(limits: tuple[float, float], stream: np.random.Generator) -> float:
    """Anywhere between two frequencies, every octave equally likely."""
    return math.exp(stream.uniform(math.log(limits[0]), math.log(limits[1])))


def _interval(longest: float, total: float, stream: np.random.Generator) -> tuple[float, float]:
    """SpecAugment (Park et al., Interspeech 2019): a width from [0, longest], anywhere."""
    width = stream.uniform(0, longest)
    start = stream.uniform(0, total - width)
    return float(start), float(start + width)


def apply_audio(
    audio: Wave, plan: AudioPlan, sample_rate: int, background: Wave | None = None
) -> Wave:
    """Apply `plan` to the waveform of a window; `audio` is not modified.

    `background`: the audio of `plan.background`, of the same length; None where it could not be
    read. Silence stays silence: it has no signal-to-noise ratio.
    """
    if plan.swap and audio.ndim == 2:
        audio = audio[::-1]
    level = _rms(audio)
    if level > SILENCE:
        if plan.background is not None and background is not None:
            under = _rms(background)
            if under > SILENCE:
                audio = audio + background * np.float32(
                    level / under * 10 ** (-plan.background.snr_db / 20)
                )
        if plan.room is not None:
            audio = _echo(audio, plan.room, sample_rate)
        if plan.band is not None:
            audio = _filtered(audio, plan.band, sample_rate)
        if plan.noise is not None:
            noise = _coloured(audio.shape, plan.noise, sample_rate)
            audio = audio + noise * np.float32(_rms(audio) * 10 ** (-plan.noise.snr_db / 20))
    factor = np.float32((-1 if plan.invert else 1) * 10 ** (plan.gain_db / 20))
    if factor != 1:
        audio = audio * factor
    return np.ascontiguousarray(audio)


def is_background_mixed(audio: Wave, background: Wave | None) -> bool:
    """True when `apply_audio` mixes `background` into `audio`: neither is silent."""
    return background is not None and min(_rms(audio), _rms(background)) > SILENCE


def _rms(audio: Wave) -> float:
    return math.sqrt(float(np.mean(np.square(audio, dtype=np.float32)))) if audio.size else 0.0


def impulse_response(room: Room, sample_rate: int) -> Float32[np.ndarray, " n"]:
    """Impulse response: direct sound at sample 0, then noise that decays (Moorer, "About this
    reverberation business", Computer Music Journal 1979); total energy 1."""
    length = max(1, round(room.rt60_seconds * sample_rate))
    seconds = np.arange(length) / sample_rate
    noise = np.random.Generator(np.random.Philox(room.seed)).standard_normal(length)
    tail = noise * 10 ** (-3 * seconds / room.rt60_seconds)
    tail *= 10 ** (room.wet_db / 20) / _norm(tail)
    first = max(1, round(room.predelay_seconds * sample_rate))
    response = np.concatenate([[1.0], np.zeros(first - 1), tail])
    return (response / _norm(response)).astype(np.float32)


def _norm(wave: Float64[np.ndarray, " n"]) -> float:
    """Not numpy's own, which rounds otherwise with another number of threads."""
    return math.sqrt(float(np.sum(np.square(wave))))


def _echo(audio: Wave, room: Room, sample_rate: int) -> Wave:
    """Convolved by numpy: torchaudio's convolution rounds otherwise with another number of threads,
    and a clip must not depend on the process that reads it."""
    response, size = impulse_response(room, sample_rate), audio.shape[-1]
    padded = 1 << (size + len(response) - 2).bit_length()
    spectrum = np.fft.rfft(audio, padded) * np.fft.rfft(response, padded)
    return np.fft.irfft(spectrum, padded)[..., :size].astype(np.float32)


def band_gain(frequencies_hz: Float64[np.ndarray, " f"], band: Band) -> Float64[np.ndarray, " f"]:
    """Magnitude of a Butterworth filter of order 2 at each frequency."""
    gain = np.ones_like(frequencies_hz)
    if band.high_hz is not None:
        gain /= np.sqrt(1 + (frequencies_hz / band.high_hz) ** (2 * _ORDER))
    if band.low_hz is not None:
        with np.errstate(divide="ignore"):
            gain /= np.sqrt(1 + (band.low_hz / frequencies_hz) ** (2 * _ORDER))
    return gain


def _filtered(audio: Wave, band: Band, sample_rate: int) -> Wave:
    """Filtered in the spectrum, where it costs no delay: torchaudio's filters are causal and would
    move the audio against the frame."""
    size = audio.shape[-1]
    padded = size + round(
        0.05 * sample_rate
    )  # what rings beyond one end must not come in at the other
    padded = 1 << (padded - 1).bit_length()
    gain = band_gain(np.fft.rfftfreq(padded, 1 / sample_rate), band).astype(np.float32)
    return np.fft.irfft(np.fft.rfft(audio, padded) * gain, padded)[..., :size].astype(np.float32)


def _coloured(shape: tuple[int, ...], noise: Noise, sample_rate: int) -> Wave:
    """Noise of root mean square 1, another in each channel."""
    stream = np.random.Generator(np.random.Philox(noise.seed))
    white = stream.standard_normal(shape, np.float32)
    padded = 1 << (shape[-1] - 1).bit_length()
    spectrum = np.fft.rfft(white, padded)
    frequency = np.maximum(np.fft.rfftfreq(padded, 1 / sample_rate), 20.0)
    coloured = np.fft.irfft(spectrum * frequency ** (-noise.tilt / 2), padded)[..., : shape[-1]]
    coloured = coloured.astype(np.float32)
    return coloured / np.float32(max(_rms(coloured), 1e-12))
