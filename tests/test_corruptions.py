"""Corruptions: levels measured independently of the code that sets them."""

import math
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest

from avmix.evaluation import corruptions

RATE = 16_000


@pytest.fixture(scope="module")
def frames() -> np.ndarray:
    """A coloured pattern that moves two pixels a frame: 8 frames of 48 x 40 pixels."""
    draw = np.random.default_rng(0)
    blocks = np.kron(draw.integers(0, 256, (6, 5, 3)), np.ones((8, 8, 1))).astype(np.uint8)
    return np.stack([np.roll(blocks, 2 * t, axis=1) for t in range(8)])


@pytest.fixture(scope="module")
def wave() -> np.ndarray:
    """Two seconds of a tone that decays, stereo."""
    t = np.arange(2 * RATE) / RATE
    tone = 0.3 * np.exp(-t) * np.sin(2 * np.pi * 440 * t)
    return np.stack([tone, 0.5 * tone]).astype(np.float32)


def stream() -> np.random.Generator:
    return np.random.default_rng(1)


def decibels(signal: np.ndarray, noise: np.ndarray) -> float:
    powers = [np.mean(np.square(x.astype(np.float64))) for x in (signal, noise)]
    return 10 * math.log10(powers[0] / powers[1])


def psnr(frames: np.ndarray, other: np.ndarray) -> float:
    return 10 * math.log10(255**2 / np.mean(np.square(frames.astype(float) - other)))


@pytest.mark.parametrize("snr_db", [20.0, 0.0, -10.0])
def test_noise_has_the_ratio_asked_for(wave: np.ndarray, snr_db: float) -> None:
    voices = [np.random.default_rng(n).normal(0, 0.01 * 4**n, wave.shape).astype(np.float32)
              for n in range(3)]  # fmt: skip
    for noisy in (corruptions.white_noise(wave, snr_db, stream(), RATE),
                  corruptions.babble(wave, snr_db, voices, RATE)):  # fmt: skip
        assert noisy.dtype == np.float32
        assert decibels(wave, noisy - wave) == pytest.approx(snr_db, abs=0.01)


def test_white_noise_is_white_and_the_same_at_every_level(wave: np.ndarray) -> None:
    noise = [corruptions.white_noise(wave, snr, stream(), RATE) - wave for snr in (0.0, -20.0)]
    assert np.allclose(noise[1], 10 * noise[0], atol=1e-3)
    power = np.square(np.abs(np.fft.rfft(noise[0][0].astype(np.float64))))[1:]
    octaves = [power[n : 2 * n].mean() for n in (1000, 2000, 4000, 8000)]
    assert max(octaves) / min(octaves) < 1.15
    assert abs(np.corrcoef(noise[0])[0, 1]) < 0.03  # another in each channel


def test_the_voices_of_babble_are_equally_strong(wave: np.ndarray) -> None:
    t = np.arange(wave.shape[-1]) / RATE
    tones = [a * np.sin(2 * np.pi * hz * t) for a, hz in ((0.001, 500), (0.1, 1000), (0.9, 2000))]
    voices = [np.stack([tone, tone]).astype(np.float32) for tone in tones]
    under = corruptions.babble(wave, 0.0, [*voices, np.zeros_like(wave)], RATE) - wave
    spectrum = np.abs(np.fft.rfft(under[0].astype(np.float64)))
    peaks = spectrum[[1000, 2000, 4000]]  # half a hertz a bin
    assert peaks == pytest.approx(np.full(3, peaks.mean()), rel=1e-3)
    assert (corruptions.babble(wave, 0.0, [np.zeros_like(wave)], RATE) == wave).all()


def test_silence_stays_silence(wave: np.ndarray) -> None:
    silence = np.zeros_like(wave)
    assert (corruptions.white_noise(silence, 0.0, stream(), RATE) == 0).all()
    assert (corruptions.babble(silence, 0.0, [wave], RATE) == 0).all()
    assert (corruptions.reverberation(silence, 0.4, stream(), RATE) == 0).all()


@pytest.mark.parametrize("rt60", [0.2, 0.8])
def test_a_click_reverberates_by_60_db_in_the_time_asked_for(rt60: float) -> None:
    click = np.zeros(2 * RATE, np.float32)
    click[100] = 1
    response = corruptions.reverberation(click, rt60, stream(), RATE).astype(np.float64)
    assert np.abs(response[:100]).max() < 1e-6  # nothing comes before it
    tail = response[100 + round(0.020 * RATE) :]
    assert decibels(response[100:101] / math.sqrt(len(tail)), tail) == pytest.approx(0, abs=0.01)
    energy = np.square(tail[: round(rt60 * RATE)])
    windows = energy[: len(energy) // 20 * 20].reshape(20, -1).mean(1)
    slope = np.polyfit(np.arange(20), 10 * np.log10(windows), 1)[0]
    assert 20 * slope == pytest.approx(-60, abs=3)


def test_a_low_pass_filter_is_3_db_down_at_its_frequency() -> None:
    t = np.arange(2 * RATE) / RATE
    for hz, gain_db in ((100, 0.0), (1000, -3.01), (4000, -24.1)):
        tone = np.sin(2 * np.pi * hz * t).astype(np.float32)
        middle = slice(RATE // 2, 3 * RATE // 2)
        found = corruptions.low_pass(tone, 1000.0, RATE)
        assert decibels(found[middle], tone[middle]) == pytest.approx(gain_db, abs=0.1)


def test_silenced_keeps_an_interval(wave: np.ndarray) -> None:
    kept = corruptions.silenced(wave, 10, 20)
    assert (kept[:, 10:20] == wave[:, 10:20]).all()
    assert not kept[:, :10].any()
    assert not kept[:, 20:].any()


def test_blur_is_the_convolution_with_a_gaussian_of_sum_1(frames: np.ndarray) -> None:
    sigma = 0.02 * 40
    reach = math.ceil(3 * sigma)
    kernel = np.exp(-np.square(np.arange(-reach, reach + 1)) / (2 * sigma**2))
    kernel /= kernel.sum()
    expected = np.pad(frames.astype(float), ((0, 0), (reach,) * 2, (reach,) * 2, (0, 0)), "reflect")
    for axis in (1, 2):
        expected = np.apply_along_axis(
            lambda line: np.convolve(line, kernel, "valid"), axis, expected
        )
    found = corruptions.gaussian_blur(frames, 2.0)
    assert np.abs(found - expected).max() <= 0.51
    flat = np.full((1, 40, 48, 3), 200, np.uint8)
    assert (corruptions.gaussian_blur(flat, 8.0) == 200).all()


@pytest.mark.parametrize(
    ("corrupt", "levels"),
    [
        (corruptions.gaussian_blur, (1, 2, 4, 8)),
        (corruptions.jpeg, (80, 50, 25, 15, 7)),
        (lambda x, crf: corruptions.h264(x, crf, Fraction(8)), (10, 23, 30, 37, 44, 51)),
        (corruptions.darkened, (1, 2, 3, 4, 5, 6)),
        (lambda x, percent: corruptions.frames_lost(x, percent, stream()), (25, 50, 100)),
    ],
    ids=["blur", "jpeg", "h264", "darkness", "frame_loss"],
)
def test_frames_get_worse_with_every_level(frames: np.ndarray, corrupt, levels) -> None:
    before = frames.copy()
    levels = [float(level) for level in levels]
    found = [corrupt(frames, level) for level in levels]
    assert (frames == before).all()
    assert all(x.shape == frames.shape and x.dtype == np.uint8 for x in found)
    quality = [psnr(frames, x) for x in found]
    assert all(a > b for a, b in pairwise(quality)), quality
    assert all((corrupt(frames, level) == x).all() for level, x in zip(levels, found, strict=True))


def test_h264_keeps_the_order_and_the_size_of_frames() -> None:
    grey = np.repeat(np.arange(20, 240, 20, dtype=np.uint8), 9 * 33 * 3).reshape(-1, 9, 33, 3)
    found = corruptions.h264(grey, 23.0, Fraction(25, 3))
    assert found.shape == grey.shape
    assert np.abs(found.astype(int) - grey).max() <= 4


def test_a_stop_is_half_the_light() -> None:
    values = np.array([0, 10, 128, 255], np.uint8).reshape(1, 1, 4, 1).repeat(3, 3)
    # 255 * 0.5 ** (1 / 2.2) = 186.08, 128 * the same = 93.41, 10 * the same = 7.30
    assert corruptions.darkened(values, 1.0)[0, 0, :, 0].tolist() == [0, 7, 93, 186]
    # Eight stops are 2 ** -3.636 = 0.0804.
    assert corruptions.darkened(values, 8.0)[0, 0, :, 0].tolist() == [0, 1, 10, 21]


def test_a_lost_frame_shows_the_one_before() -> None:
    frames = np.arange(400, dtype=np.uint16).astype(np.uint8).reshape(400, 1, 1, 1).repeat(3, 3)
    number = np.arange(400)
    shown = []
    for percent in (25.0, 50.0, 100.0):
        found = corruptions.frames_lost(frames, percent, stream())[:, 0, 0, 0].astype(int)
        kept = found == number % 256
        assert kept[0]
        assert (1 - kept[1:].mean()) == pytest.approx(percent / 100, abs=0.06)
        last = np.maximum.accumulate(np.where(kept, number, 0))
        assert (found == last % 256).all()
        shown.append(kept)
    assert (shown[0] | ~shown[1]).all()  # what is lost at 25 % is lost at 50 %
    assert shown[2].sum() == 1 + (number[1:] % 256 == 0).sum()  # frame 256 looks like the first
