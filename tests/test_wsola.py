"""Longer or shorter audio of the same pitch: events in their place, tones in theirs."""

import json
from pathlib import Path

import numpy as np
import pytest
from media import beep_times, draw_audio

from avmix.augment.wsola import stretch
from avmix.data.manifest import read_manifest
from avmix.decode import decode_clip
from avmix.rng import rng

RATE, SECONDS = 16_000, 2.0
SIZE = round(RATE * SECONDS)
SPEEDS = [0.5, 0.8, 0.93, 1.07, 1.25, 2.0]


@pytest.mark.parametrize("speed", SPEEDS)
@pytest.mark.parametrize("noise", [0.0, 0.01])
def test_sudden_audio_are_where_time_puts_them_to_a_millisecond(speed: float, noise: float):
    events = np.array([0.1, 0.45, 0.7, 1.0, 1.31, 1.62, 1.9]) * speed
    source = draw_audio(
        seconds=SECONDS * speed, rate=RATE, start_seconds=0, events_seconds=events.tolist()
    )
    source += noise * rng(0, 0, "sound", 1).standard_normal(len(source)).astype(np.float32)
    found = beep_times(stretch(source, SIZE, RATE), RATE)
    assert len(found) == len(events)
    assert np.abs(found - events / speed).max() < 1e-3


@pytest.mark.parametrize("speed", SPEEDS)
@pytest.mark.parametrize("tone_hz", [150.0, 440.0, 3000.0])
def test_a_tone_keeps_its_pitch_and_its_level(speed: float, tone_hz: float):
    source = 0.3 * np.sin(2 * np.pi * tone_hz * np.arange(round(SIZE * speed)) / RATE)
    out = stretch(source.astype(np.float32), SIZE, RATE)
    assert out.shape == (SIZE,)
    spectrum = np.abs(np.fft.rfft(out * np.hanning(SIZE))) ** 2
    assert abs(spectrum.argmax() * RATE / SIZE - tone_hz) <= RATE / SIZE
    near = np.abs(np.fft.rfftfreq(SIZE, 1 / RATE) - tone_hz) < 5
    assert spectrum[near].sum() / spectrum.sum() > 0.98
    assert 0.95 < out[800:-800].std() / source.std() < 1.05


def test_both_channels_are_cut_alike():
    left = draw_audio(seconds=2.4, rate=RATE, start_seconds=0, events_seconds=(0.5, 1.5))
    left += 0.05 * rng(0, 0, "sound", 2).standard_normal(len(left)).astype(np.float32)
    both = stretch(np.stack([left, -0.5 * left]), SIZE, RATE)
    assert both.shape == (2, SIZE)
    np.testing.assert_allclose(both[1], -0.5 * both[0], atol=1e-6)


def test_the_same_length_is_the_same_audio_and_the_input_is_left_alone():
    source = rng(0, 0, "sound", 3).standard_normal(20_000).astype(np.float32)
    before = source.copy()
    np.testing.assert_array_equal(stretch(source, 20_000, RATE), source)
    stretch(source, 25_000, RATE)
    np.testing.assert_array_equal(source, before)


@pytest.mark.parametrize("size", [0, 1, 5, 150, 1_000])
@pytest.mark.parametrize("new_size", [1, 7, 200, 1_000])
def test_short_audio_and_silence_have_the_length_asked_for(size: int, new_size: int):
    out = stretch(np.zeros(size, np.float32), new_size, RATE)
    assert out.shape == (new_size,)
    assert not out.any()
    loud = stretch(np.ones(size, np.float32), new_size, RATE)
    assert loud.shape == (new_size,)
    assert np.isfinite(loud).all()


@pytest.mark.parametrize("speed", [0.8, 1.25])
def test_a_quiet_click_after_a_loud_tone_is_where_time_puts_it(speed: float):
    """The tone is louder than the click and not sudden; the click is sudden all the same."""
    size, at = round(SIZE * speed), round(1.47 * RATE * speed)
    time = np.arange(size) / RATE
    source = np.where(time < time[-1] / 2, 0.3 * np.sin(2 * np.pi * 440 * time), 0)
    near = np.arange(-80, 81) / RATE
    source[at - 80 : at + 81] = 0.15 * np.cos(np.pi * near / 0.01) ** 2 * np.cos(12_000 * near)
    out = np.abs(stretch(source.astype(np.float32), SIZE, RATE))
    found = 20_000 + int(out[20_000:].argmax())
    assert abs(found - at / speed) < 0.001 * RATE


def promised(speed: float) -> float:
    """Seconds, by docs/augment.md."""
    return 1e-3 if 0.8 <= speed <= 1.25 else 4e-3


def begins(wave: np.ndarray, low: float, high: float) -> float:
    """Seconds at which what is heard between these two first exceeds half of its peak."""
    near = np.abs(wave[round(low * RATE) : round(high * RATE)])
    return low + int((near > near.max() / 2).argmax()) / RATE


@pytest.mark.parametrize("speed", SPEEDS)
@pytest.mark.parametrize("hz", [150.0, 440.0, 1500.0, 2700.0])
@pytest.mark.parametrize("decay_seconds", [0.08, 10.0])
def test_a_tone_that_begins_and_lasts_begins_where_time_puts_it(
    speed: float, hz: float, decay_seconds: float
):
    for shift in (0.0, 0.0011, 0.0037, 0.0071):
        at = (0.9 + shift) * speed
        time = np.arange(round(SIZE * speed)) / RATE - at
        shape = np.clip(time / 0.002, 0, 1) * np.clip((0.3 - time) / 0.005, 0, 1)
        source = 0.3 * np.sin(2 * np.pi * hz * time) * shape * np.exp(-time / decay_seconds)
        out = stretch(np.where(time > 0, source, 0).astype(np.float32), SIZE, RATE)
        there = begins(source, at, at + 0.02) - at
        assert abs(
            begins(out, at / speed - 0.04, at / speed + 0.02) - at / speed - there
        ) < promised(speed)


@pytest.mark.parametrize("speed", SPEEDS)
@pytest.mark.parametrize("apart", [0.025, 0.030, 0.035, 0.045])
def test_two_audio_in_close_succession_both_keep_their_place(speed: float, apart: float):
    for shift in (0.0, 0.0037, 0.0071):
        places = np.array([0.9 + shift, 0.9 + shift + apart / speed])
        source = np.zeros(round(SIZE * speed))
        near = np.arange(-80, 81) / RATE
        for place, level in zip(places * speed, (0.6, 0.3), strict=True):
            at = round(place * RATE)
            source[at - 80 : at + 81] += (
                level * np.cos(np.pi * near / 0.01) ** 2 * np.cos(12_000 * near)
            )
        out = np.abs(stretch(source.astype(np.float32), SIZE, RATE))
        for place in places:
            low = round((place - apart / speed / 2.2) * RATE)
            found = low + int(out[low : round((place + apart / speed / 2.2) * RATE)].argmax())
            assert abs(found / RATE - place) < promised(speed)


def steepest(wave: np.ndarray, at: float) -> float:
    """Seconds, within 8 ms of `at`, at which 3 ms hold most compared with the 3 ms before."""
    size, reach = round(0.003 * RATE), round(0.008 * RATE)
    energy = np.concatenate([[0.0], np.cumsum(wave.astype(np.float64) ** 2)])
    place = round(at * RATE) + np.arange(-reach, reach + 1)
    floor = 1e-4 * size * np.abs(wave).max() ** 2
    after, before = energy[place + size] - energy[place], energy[place] - energy[place - size]
    return float(place[((after + floor) / (before + floor)).argmax()]) / RATE


@pytest.mark.long
def test_impacts_of_real_files_move_by_no_more_than_the_page_says(toy_set: Path):
    """Over noise and the end of the last one, with rises of up to 9 ms; docs/augment.md."""
    onsets = {
        row["clip_id"]: row["onset_seconds"]
        for row in map(json.loads, (toy_set / "events.jsonl").read_text().splitlines())
    }
    entries = [e for split in ("val", "test") for e in read_manifest(toy_set, split).entries]
    moved: dict[float, list[float]] = {speed: [] for speed in (0.5, 0.8, 1.25, 2.0)}
    for entry in entries:
        clip = decode_clip(
            toy_set / entry.path,
            start_seconds=0,
            duration_seconds=entry.end_seconds - entry.start_seconds,
            num_frames=1,
            sample_rate=RATE,
        )
        wave = np.asarray(clip.audio, np.float32)
        for speed in moved:
            out = stretch(wave, round(len(wave) / speed), RATE)
            for at in onsets[entry.clip_id]:
                if 0.05 < at < len(wave) / RATE - 0.05:
                    begin = steepest(wave, at)
                    place = begin * len(out) / len(wave)
                    moved[speed].append(1000 * abs(steepest(out, place) - place))
    for speed, milliseconds in moved.items():
        assert len(milliseconds) == 128
        half, most, nearly_all, largest = np.percentile(milliseconds, [50, 90, 99, 100])
        if 0.8 <= speed <= 1.25:
            assert half < 0.5
            assert most < 1.15
            assert nearly_all < 2.1
            assert largest < 5
        else:
            assert half < 1.8
            assert most < 4.4
            assert nearly_all < 8
