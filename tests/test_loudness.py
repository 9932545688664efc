"""Loudness against the standard's table, and factors against the formula of the paper."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from avmix.mix.loudness import (
    FLOOR_DB,
    a_weighting_db,
    loudness_db,
    loudness_gains,
    mix_powers,
    mix_waveforms,
)
from avmix.mix.mix_plan import MixPlan, Part, PlacedPart

RATE = 16_000

# IEC 61672-1, table 3: dB at 1000 * 10 ** (k / 10) Hz, named in Hz.
A_WEIGHTS = {-20: -70.4, -17: -50.5, -15: -39.4, -12: -26.2, -10: -19.1, -9: -16.1, -7: -10.9,
             -6: -8.6, -5: -6.6, -4: -4.8, -3: -3.2, -2: -1.9, -1: -0.8, 0: 0.0, 1: 0.6, 2: 1.0,
             3: 1.2, 4: 1.3, 5: 1.2, 6: 1.0, 7: 0.5, 8: -0.1, 9: -1.1, 10: -2.5, 11: -4.3,
             12: -6.6, 13: -9.3}  # fmt: skip


def sine(hz: float, db: float = 0.0, seconds: float = 1.0, rate: int = RATE) -> Tensor:
    time = torch.arange(round(seconds * rate), dtype=torch.float64) / rate
    return (10 ** (db / 20) * (2 * math.pi * hz * time).sin()).float()


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def placed(*weight: float, partner=(1, 0), box=None, shape=()) -> PlacedPart:
    part = Part(name="audio", domain="waveform", weight=weight, present=(True,) * len(weight),
                box=box, shape=shape)  # fmt: skip
    plan = MixPlan(num_inputs=2, partner=partner[: len(weight)], method="mixup", level="input",
                   parts=(part,))  # fmt: skip
    return plan.to(torch.device("cpu")).parts[0]


def factors_of_the_paper(lam: float, own_db: float, other_db: float) -> tuple[float, float]:
    t = 1 / (1 + 10 ** ((own_db - other_db) / 20) * (1 - lam) / lam)
    norm = math.sqrt(t**2 + (1 - t) ** 2)
    return t / norm, (1 - t) / norm


@pytest.mark.parametrize("k", A_WEIGHTS)
def test_the_a_curve_is_that_of_the_standard(k):
    found = a_weighting_db(torch.tensor([1000 * 10 ** (k / 10)])).item()
    assert found == pytest.approx(A_WEIGHTS[k], abs=0.06)  # its last digit is 0.1


def test_what_nobody_hears_is_at_the_floor():
    assert a_weighting_db(torch.tensor([0.0, 1.0])).tolist() == [FLOOR_DB, FLOOR_DB] == [-80, -80]


def by_formula(wave: np.ndarray, rate: int, n: int) -> float:
    """Frame by frame, in numpy."""
    f2 = np.maximum(np.arange(n // 2 + 1) * rate / n, 1.0) ** 2
    gain = (
        12194.217**2
        * f2**2
        / (
            (f2 + 20.598997**2)
            * (f2 + 12194.217**2)
            * np.sqrt((f2 + 107.65265**2) * (f2 + 737.86223**2))
        )
    )
    weight = np.maximum(20 * np.log10(gain) + 2.0, -80)
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n) / n)
    loudest = -math.inf
    for first in range(0, len(wave) - n + 1, n // 2):
        power = np.abs(np.fft.rfft(wave[first : first + n] * hann)) ** 2
        loudest = max(loudest, float((power * 10 ** (weight / 10)).sum()))
    return max(10 * math.log10(max(loudest, 1e-30)), -80.0)


@pytest.mark.parametrize(
    ("rate", "n"), [(8000, 1024), (16_000, 2048), (22_050, 2048), (44_100, 4096), (48_000, 8192)]
)
def test_loudness_is_that_of_the_loudest_frame(rate, n):
    waves = noise(3, rate) * torch.tensor([[0.1], [1.0], [1e-3]])
    waves[0, 3000:4000] *= 30  # a burst
    expected = [by_formula(wave, rate, n) for wave in waves.double().numpy()]
    assert loudness_db(waves, rate).tolist() == pytest.approx(expected, abs=0.01)


def test_twenty_db_are_twenty_db():
    loud, quiet = loudness_db(torch.stack([sine(1000), sine(1000, db=-20)]), RATE).tolist()
    assert loud - quiet == pytest.approx(20, abs=0.01)


def test_a_low_tone_is_less_loud_by_the_curve():
    mid, low = loudness_db(torch.stack([sine(1000), sine(100)]), RATE).tolist()
    assert mid - low == pytest.approx(19.1, abs=0.3)  # a tone is spread over some bins


def test_silence_is_at_the_floor_and_a_short_audio_is_heard():
    assert loudness_db(torch.zeros(2, RATE), RATE).tolist() == [FLOOR_DB, FLOOR_DB]
    short = loudness_db(sine(1000, seconds=0.1)[None], RATE).item()
    whole = loudness_db(sine(1000, seconds=0.2)[None], RATE).item()
    assert short == pytest.approx(whole, abs=1.0)


def test_factors_are_those_of_the_paper():
    lam = [0.05, 0.3, 0.5, 0.5, 0.8, 0.99]
    own = [-3.0, -20.0, 0.0, -10.0, 10.0, -25.0]
    other = [-3.0, -5.0, 0.0, 5.0, -8.0, -6.0]
    found = loudness_gains(torch.tensor(lam), torch.tensor(own), torch.tensor(other), 20.0)
    for i, numbers in enumerate(zip(lam, own, other, strict=True)):
        a, b = found[0][i].item(), found[1][i].item()
        assert (a, b) == pytest.approx(factors_of_the_paper(*numbers), abs=1e-6), numbers
        assert a**2 + b**2 == pytest.approx(1.0, abs=1e-6)
        # What the name says: among what is heard, lambda is the own share.
        heard = (a * 10 ** (own[i] / 20), b * 10 ** (other[i] / 20))
        assert heard[0] / sum(heard) == pytest.approx(lam[i], abs=1e-5)


def test_the_difference_is_limited_both_ways():
    lam, loud, silent = torch.full((2,), 0.5), torch.tensor([0.0, -80]), torch.tensor([-80.0, 0])
    own, other = loudness_gains(lam, loud, silent, 20.0)
    assert (own[0].item(), other[0].item()) == pytest.approx(factors_of_the_paper(0.5, 0, -20))
    assert (own[1].item(), other[1].item()) == pytest.approx(factors_of_the_paper(0.5, -20, 0))
    own, other = loudness_gains(lam, loud, silent, 0.0)
    assert own.tolist() == other.tolist() == pytest.approx([0.5**0.5] * 2)


def test_lambdas_of_one_and_zero_are_exact_whatever_the_other_audio_is():
    lam = torch.tensor([1.0, 0.0, 1.0, 0.0])
    own_db = torch.tensor([-30.0, 12.3, -7.0, math.nan])
    other_db = torch.tensor([20.0, -55.5, math.nan, -3.0])
    own, other = loudness_gains(lam, own_db, other_db, 20.0)
    assert own.tolist() == [1.0, 0.0, 1.0, 0.0]
    assert other.tolist() == [0.0, 1.0, 0.0, 1.0]


@pytest.mark.parametrize("lam", [0.2, 0.5, 0.9])
@pytest.mark.parametrize("db", [0.0, -14.0])
def test_the_power_of_the_mix_is_that_of_the_factors(lam, db):
    waves = noise(2, RATE) * torch.tensor([[0.1], [0.1 * 10 ** (db / 20)]])
    mixed = mix_waveforms(placed(lam, lam), waves, RATE, 20.0)
    a, b = factors_of_the_paper(lam, 0, db)
    expected = [a**2 * 0.01 + b**2 * 0.01 * 10 ** (db / 10)]
    a, b = factors_of_the_paper(lam, db, 0)
    expected.append(a**2 * 0.01 * 10 ** (db / 10) + b**2 * 0.01)
    for wave, power in zip(mixed, expected, strict=True):
        assert 10 * math.log10(wave.square().mean().item() / power) == pytest.approx(0, abs=0.5)
    if db == 0:  # equally loud sounds: no mix is quieter than what is mixed
        level = 10 * mixed.square().mean(1).log10()
        assert level.tolist() == pytest.approx([-20, -20], abs=0.5)


@pytest.mark.parametrize("lam", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("limit", [6.0, 20.0])
def test_a_silent_partner_makes_no_more_than_the_limit_of_difference(lam, limit):
    waves = torch.stack([sine(1000, db=-6), torch.zeros(RATE)])
    mixed = mix_waveforms(placed(lam, 1.0), waves, RATE, limit)
    level = 10 * math.log10(mixed[0].square().mean().item() / waves[0].square().mean().item())
    equally_loud = 20 * math.log10(lam / math.hypot(lam, 1 - lam))
    assert equally_loud - limit - 1e-3 <= level < equally_loud
    assert torch.equal(mixed[1], waves[1])


def test_waveforms_are_mixed_by_the_factors():
    waves = torch.stack([sine(300, db=-5), sine(2000, db=-12)])
    before = waves.clone()
    mixed = mix_waveforms(placed(0.3, 0.6), waves, RATE, 20.0)
    loud = loudness_db(waves, RATE).tolist()
    for i, (j, lam) in enumerate([(1, 0.3), (0, 0.6)]):
        own, other = factors_of_the_paper(lam, loud[i], loud[j])
        torch.testing.assert_close(mixed[i], own * waves[i] + other * waves[j], atol=1e-5, rtol=0)
    assert torch.equal(waves, before)


def test_powers_are_mixed_by_the_squares_of_the_factors():
    waves = torch.stack([sine(300, db=-5), sine(2000, db=-12)])
    power = noise(2, 3, 4).square()
    mixed = mix_powers(placed(0.3, 0.6), power, waves, RATE, 20.0)
    loud = loudness_db(waves, RATE).tolist()
    for i, (j, lam) in enumerate([(1, 0.3), (0, 0.6)]):
        own, other = factors_of_the_paper(lam, loud[i], loud[j])
        expected = own**2 * power[i] + other**2 * power[j]
        torch.testing.assert_close(mixed[i], expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("limit", [None, 20.0])
def test_without_mixing_nothing_changes_whatever_the_partner_is(limit):
    waves = torch.stack([sine(300), torch.full((RATE,), math.nan)])
    power = torch.stack([noise(3, 4).square(), torch.full((3, 4), math.nan)])
    for part in (placed(1.0), placed(1.0, 0.0)):
        assert torch.equal(mix_waveforms(part, waves, RATE, limit)[0], waves[0])
        assert torch.equal(mix_powers(part, power, waves, RATE, limit)[0], power[0])
    taken = placed(1.0, 0.0)  # the second is all of the first
    assert torch.equal(mix_waveforms(taken, waves, RATE, limit)[1], waves[0])
    assert torch.equal(mix_powers(taken, power, waves, RATE, limit)[1], power[0])


def test_without_a_limit_lambda_is_the_factor():
    waves = noise(2, 100)
    mixed = mix_waveforms(placed(0.25, 0.5), waves, RATE, None)
    torch.testing.assert_close(mixed[0], 0.25 * waves[0] + 0.75 * waves[1])
    torch.testing.assert_close(mixed[1], 0.5 * waves[0] + 0.5 * waves[1])
    power = noise(2, 3, 4).square()
    mixed = mix_powers(placed(0.25, 0.5), power, waves, RATE, None)
    torch.testing.assert_close(mixed[0], 0.25 * power[0] + 0.75 * power[1])


def test_of_two_batches_only_the_first_comes_out():
    waves = noise(2, RATE)
    assert mix_waveforms(placed(0.5, partner=(1,)), waves, RATE, 20.0).shape == (1, RATE)
    assert mix_waveforms(placed(1.0, partner=(1,)), waves, RATE, 20.0).shape == (1, RATE)


def test_a_box_has_no_loudness():
    part = placed(0.5, 0.5, box=((0, 10), (0, 10)), shape=(RATE,))
    with pytest.raises(ValueError, match="audio: what is mixed by loudness cannot be cut"):
        mix_waveforms(part, noise(2, RATE), RATE, 20.0)
