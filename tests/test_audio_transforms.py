"""Augmentation of audio: levels by hand, and nothing moves."""

import math
from typing import Any

import numpy as np
import pytest

from avmix.augment import AudioPlan, Background, apply_audio, draw_audio, is_background_mixed
from avmix.augment.audio_transforms import Band, Noise, Room, band_gain, impulse_response
from avmix.config import AugmentConfig
from avmix.rng import rng

RATE, SIZE = 16_000, 32_000
TIME = np.arange(SIZE) / RATE


def tone(hertz: float, peak: float = 0.5) -> np.ndarray:
    return (peak * np.sin(2 * np.pi * hertz * TIME)).astype(np.float32)


def rms_db(wave: np.ndarray) -> float:
    return 10 * math.log10(float(np.mean(np.square(wave, dtype=np.float64))))


def draw(number: int = 0, flipped: bool = False, row: int | None = 9, **options: Any) -> AudioPlan:
    return draw_audio(AugmentConfig(**options), 2.0, RATE, rng(0, 0, "sound", number),
                      flipped=flipped, pick=lambda _: row)  # fmt: skip


def test_without_options_the_audio_is_the_same():
    wave = tone(440)
    assert draw() == AudioPlan()
    np.testing.assert_array_equal(apply_audio(wave, AudioPlan(), RATE), wave)


def test_gain_and_polarity():
    wave = tone(440)
    out = apply_audio(wave, AudioPlan(gain_db=-6.0206, invert=True), RATE)
    np.testing.assert_allclose(out, -0.5 * wave, rtol=1e-5)
    gains = [draw(i, gain_db=6.0).gain_db for i in range(300)]
    assert min(gains) < -5
    assert max(gains) > 5
    assert max(map(abs, gains)) <= 6
    assert abs(np.mean([draw(i, invert=0.5).invert for i in range(300)]) - 0.5) < 0.15


def test_flipped_stereo_changes_its_channels_and_mono_does_not_care():
    stereo = np.stack([tone(440), tone(880)])
    out = apply_audio(stereo, draw(flipped=True), RATE)
    np.testing.assert_array_equal(out, stereo[::-1])
    np.testing.assert_array_equal(apply_audio(stereo[0], draw(flipped=True), RATE), stereo[0])


@pytest.mark.parametrize("snr_db", [-5.0, 0.0, 20.0])
@pytest.mark.parametrize("tilt", [0.0, 1.0, 2.0])
def test_noise_has_the_level_and_the_colour_asked_for(snr_db: float, tilt: float):
    wave = tone(440)
    plan = AudioPlan(noise=Noise(snr_db=snr_db, tilt=tilt, seed=5))
    noise = apply_audio(wave, plan, RATE) - wave
    assert abs(rms_db(wave) - rms_db(noise) - snr_db) < 0.01
    power = np.abs(np.fft.rfft(noise.astype(np.float64))) ** 2
    hertz = np.fft.rfftfreq(SIZE, 1 / RATE)
    low, high = (float(power[(hertz > f) & (hertz < 2 * f)].mean()) for f in (100, 3200))
    # Five octaves: 1 / f ** tilt is 2 ** (5 tilt) lower.
    assert abs(10 * math.log10(low / high) - 10 * math.log10(32**tilt)) < 1.5
    other = AudioPlan(noise=Noise(snr_db=snr_db, tilt=tilt, seed=6))
    assert not np.array_equal(apply_audio(wave, other, RATE) - wave, noise)


def test_noise_of_stereo_is_another_in_each_channel_at_one_level():
    stereo = np.stack([tone(440), 0.1 * tone(440)])
    plan = AudioPlan(noise=Noise(snr_db=10.0, tilt=0.0, seed=1))
    noise = apply_audio(stereo, plan, RATE) - stereo
    assert abs(rms_db(noise[0]) - rms_db(noise[1])) < 0.2
    assert abs(np.corrcoef(noise[0], noise[1])[0][1]) < 0.05
    assert abs(rms_db(stereo) - rms_db(noise) - 10) < 0.01


@pytest.mark.parametrize("snr_db", [0.0, 10.0])
def test_a_background_is_laid_under_at_its_level(snr_db: float):
    wave, other = tone(440, 0.5), tone(1000, 0.03)
    plan = AudioPlan(background=Background(row=3, place=0.0, snr_db=snr_db))
    laid = apply_audio(wave, plan, RATE, other) - wave
    assert abs(rms_db(wave) - rms_db(laid) - snr_db) < 0.01
    assert np.corrcoef(laid, other)[0, 1] > 0.9999
    assert plan.background is not None
    share = rms_db(laid) - rms_db(apply_audio(wave, plan, RATE, other))
    assert abs(10 * math.log10(plan.background.share) - share) < 0.05
    np.testing.assert_array_equal(apply_audio(wave, plan, RATE, None), wave)
    np.testing.assert_array_equal(apply_audio(wave, plan, RATE, np.zeros_like(wave)), wave)


def test_silence_stays_silence():
    silence = np.zeros(SIZE, np.float32)
    plan = AudioPlan(
        noise=Noise(snr_db=0.0, tilt=1.0, seed=1),
        room=Room(rt60_seconds=0.3, predelay_seconds=0.01, wet_db=-3.0, seed=1),
        band=Band(low_hz=100.0, high_hz=1000.0),
        background=Background(row=0, place=0.0, snr_db=0.0),
        gain_db=6.0,
    )
    assert not apply_audio(silence, plan, RATE, tone(440)).any()


@pytest.mark.parametrize(
    ("band", "hertz", "gain_db"),
    [
        (Band(low_hz=None, high_hz=1000.0), 1000, -3.01),
        (Band(low_hz=None, high_hz=1000.0), 4000, -10 * math.log10(1 + 4**4)),
        (Band(low_hz=None, high_hz=1000.0), 100, 0.0),
        (Band(low_hz=500.0, high_hz=None), 500, -3.01),
        (Band(low_hz=500.0, high_hz=None), 125, -10 * math.log10(1 + 4**4)),
        (Band(low_hz=500.0, high_hz=4000.0), 1414, -20 * math.log10(1 + 2**-6)),
    ],
)
def test_filters_weaken_what_they_should(band: Band, hertz: float, gain_db: float):
    out = apply_audio(tone(hertz), AudioPlan(band=band), RATE)
    assert out.shape == (SIZE,)
    assert abs(rms_db(out[4000:-4000]) - rms_db(tone(hertz)[4000:-4000]) - gain_db) < 0.1
    assert abs(20 * math.log10(band_gain(np.array([float(hertz)]), band)[0]) - gain_db) < 0.1


@pytest.mark.parametrize(
    "band", [Band(low_hz=None, high_hz=800.0), Band(low_hz=900.0, high_hz=None)]
)
def test_filters_do_not_delay(band: Band):
    click = np.zeros(SIZE, np.float32)
    click[7_000] = 1
    out = apply_audio(click, AudioPlan(band=band), RATE)
    assert np.abs(out).argmax() == 7_000
    np.testing.assert_allclose(out[7_001:7_400], out[6_999:6_600:-1], atol=1e-6)


def test_a_room_leaves_the_direct_audio_where_it_is():
    room = Room(rt60_seconds=0.4, predelay_seconds=0.02, wet_db=-6.0, seed=2)
    response = impulse_response(room, RATE)
    assert np.abs(response).argmax() == 0
    assert not response[1:320].any()  # 20 ms
    assert abs(np.sum(response**2) - 1) < 1e-5
    assert abs(10 * math.log10(np.sum(response[1:] ** 2) / response[0] ** 2) + 6) < 1e-3
    # 60 dB in 0.4 s: 30 dB from the first to the last half of 0.2 s apart.
    early, late = response[320 : 320 + 800], response[320 + 3200 : 320 + 4000]
    assert abs(rms_db(early) - rms_db(late) - 30) < 2
    click = np.zeros(SIZE, np.float32)
    click[5_000] = 0.8
    out = apply_audio(click, AudioPlan(room=room), RATE)
    assert np.abs(out).argmax() == 5_000
    assert np.abs(out[:5_000]).max() < 1e-6
    np.testing.assert_allclose(out[5_000 : 5_000 + 2000], 0.8 * response[:2000], atol=1e-6)


def test_drawn_rooms_keep_the_first_arrival_apart():
    for number in range(200):
        room = draw(number, reverb=1.0).room
        assert room is not None
        assert 0.010 <= room.predelay_seconds <= 0.030
        assert -15 <= room.wet_db <= -3
        assert 0.1 <= room.rt60_seconds <= 0.8


def test_masks_are_seconds_of_the_window_and_shares_of_the_mel_axis():
    plans = [draw(i, time_masks=2, time_mask_seconds=0.4, mel_masks=3, mel_mask_share=0.2)
             for i in range(200)]  # fmt: skip
    for plan in plans:
        assert (len(plan.hidden_seconds), len(plan.hidden_shares)) == (2, 3)
        assert all(0 <= a <= b <= 2.0 and b - a <= 0.4 for a, b in plan.hidden_seconds)
        assert all(0 <= a <= b <= 1.0 and b - a <= 0.2 for a, b in plan.hidden_shares)
    widths = [b - a for plan in plans for a, b in plan.hidden_seconds]
    assert abs(np.mean(widths) - 0.2) < 0.03


def test_probabilities_and_ranges_of_what_is_drawn():
    shares: dict[str, Any] = {"reverb": 0.3, "filter": 0.4, "noise": 0.5, "background": 0.6}
    plans = [draw(i, noise_snr_db=[5.0, 10.0], **shares) for i in range(600)]
    fields = {"reverb": "room", "filter": "band", "noise": "noise", "background": "background"}
    for option, share in shares.items():
        found = np.mean([getattr(plan, fields[option]) is not None for plan in plans])
        assert abs(found - share) < 0.1, option
    noises = [plan.noise for plan in plans if plan.noise is not None]
    assert all(5 <= noise.snr_db <= 10 and 0 <= noise.tilt <= 2 for noise in noises)
    kinds = {(p.band.low_hz is None, p.band.high_hz is None) for p in plans if p.band is not None}
    assert kinds == {(True, False), (False, True), (False, False)}
    assert draw(row=None, background=1.0).background is None


def test_the_input_is_left_alone():
    wave = tone(440)
    before = wave.copy()
    for number in range(5):
        plan = draw(number, reverb=1.0, filter=1.0, noise=1.0, gain_db=6.0, background=1.0)
        out = apply_audio(wave, plan, RATE, tone(1000))
        assert out.dtype == np.float32
        assert out.shape == wave.shape
    np.testing.assert_array_equal(wave, before)


def test_a_room_does_not_depend_on_threads(monkeypatch: pytest.MonkeyPatch):
    """BLAS, which numpy's norm asks, adds up in another order with another number of threads."""
    monkeypatch.setattr(np.linalg, "norm", None)
    room = Room(rt60_seconds=0.8, predelay_seconds=0.01, wet_db=-3.0, seed=1)
    assert abs(np.sum(impulse_response(room, RATE) ** 2) - 1) < 1e-5


def test_what_is_laid_under_is_said_as_it_is_done():
    plan = AudioPlan(background=Background(row=3, place=0.0, snr_db=0.0))
    audio = [tone(440), np.zeros(SIZE, np.float32), tone(440, 5e-5)]
    for wave in audio:
        for other in (None, *audio):
            changed = not np.array_equal(apply_audio(wave, plan, RATE, other), wave)
            assert is_background_mixed(wave, other) == changed
    assert is_background_mixed(audio[0], audio[0])


def test_noise_is_relative_to_all_that_it_is_added_to():
    wave, other = tone(440), tone(1000)
    background = Background(row=3, place=0.0, snr_db=-20.0)
    noise = Noise(snr_db=10.0, tilt=0.0, seed=5)
    without = apply_audio(wave, AudioPlan(background=background), RATE, other)
    added = apply_audio(wave, AudioPlan(background=background, noise=noise), RATE, other) - without
    assert abs(rms_db(without) - rms_db(added) - 10) < 0.01


@pytest.mark.parametrize(
    "plan",
    [
        AudioPlan(band=Band(low_hz=None, high_hz=1000.0)),
        AudioPlan(band=Band(low_hz=100.0, high_hz=None)),
        AudioPlan(room=Room(rt60_seconds=0.8, predelay_seconds=0.03, wet_db=-3.0, seed=1)),
    ],
)
def test_what_rings_beyond_the_end_does_not_come_in_at_the_beginning(plan: AudioPlan):
    """The length of the window is a power of 2: what transforms of its length would join."""
    click = np.zeros(2**15, np.float32)
    click[-20] = 1
    out = np.abs(apply_audio(click, plan, RATE))
    assert out[:15_000].max() < 1e-3 * out.max()


def test_drawn_ranges_are_those_of_what_they_are_for():
    plans = [draw(i, background=1.0, noise=1.0, background_snr_db=[1.0, 2.0],
                  noise_snr_db=[5.0, 10.0]) for i in range(300)]  # fmt: skip
    laid = [plan.background for plan in plans if plan.background is not None]
    assert all(1 <= one.snr_db <= 2 for one in laid)
    assert min(one.place for one in laid) < 0.05
    assert max(one.place for one in laid) > 0.95
    assert all(plan.noise is not None and 5 <= plan.noise.snr_db <= 10 for plan in plans)
    first = draw(row=0, background=1.0).background
    assert first is not None
    assert first.row == 0
    masked = [draw(i, time_masks=1, time_mask_seconds=9.0).hidden_seconds[0] for i in range(100)]
    assert all(0 <= start <= stop <= 2.0 for start, stop in masked)


def test_filters_of_slow_audio_stay_below_its_highest_frequency():
    for number in range(60):
        band = draw_audio(AugmentConfig(filter=1.0), 2.0, 4_000, rng(0, 0, "sound", number),
                          flipped=False, pick=lambda _: None).band  # fmt: skip
        assert band is not None
        assert band.high_hz is None or 1_000 <= band.high_hz <= 1_600
