"""Spectrograms of published protocols, against librosa, scipy, and the formulas in numpy."""

from typing import Any

import numpy as np
import pytest
import torch
from scipy import signal
from test_spectrograms import tones

from avmix.config import ClipConfig, FrontendConfig, MixConfig, TrainConfig
from avmix.config.unused_options import unused_options
from avmix.mix import MixPlan, Part
from avmix.mix.clip_grid import input_shapes
from avmix.models.frontend import Frontend
from avmix.types import Batch

PLAIN = {"mel_mean": 0.0, "mel_std": 1.0}
OGM_GE: dict[str, Any] = {"kind": "linear", "exponent": 1, "log_offset": 1e-7, "centred": True}


def config(**options: Any) -> FrontendConfig:
    return FrontendConfig(**{**PLAIN, **options})


def ours(wave: np.ndarray, rate: int, asked: FrontendConfig) -> np.ndarray:
    """The spectrogram of one waveform; its shape is what encoders are built for."""
    found = Frontend(asked, rate).log_mel(torch.from_numpy(wave)[None])[0]
    clip = ClipConfig(duration_seconds=len(wave) / rate, sample_rate=rate)
    assert tuple(found.shape) == input_shapes(clip, asked)["audio"]
    return found[0].double().numpy()


def spectrum(wave: np.ndarray, n_fft: int, hop: int, window: int, *, centred: bool) -> np.ndarray:
    """Of a Hann window in the middle of n_fft samples, in double precision: (frequencies, f)."""
    hann = np.zeros(n_fft)
    first = (n_fft - window) // 2
    hann[first : first + window] = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(window) / window)
    padded = np.pad(wave.astype(np.float64), n_fft // 2 if centred else 0)
    starts = range(0, len(padded) - n_fft + 1, hop)
    return np.stack([np.fft.rfft(padded[k : k + n_fft] * hann) for k in starts], 1)


def htk_filters(count: int, n_fft: int, rate: int) -> np.ndarray:
    """Triangles of height 1 in Hz, (count, frequencies)."""
    top = 2595 * np.log10(1 + rate / 2 / 700)
    corners = 700 * (10 ** (np.linspace(0, top, count + 2) / 2595) - 1)
    hz = np.arange(n_fft // 2 + 1) * rate / n_fft
    rows = [np.interp(hz, corners[i : i + 3], [0, 1, 0]) for i in range(count)]
    return np.stack(rows)


def check(found: np.ndarray, theirs: np.ndarray, floor: float, exponent: int = 2) -> None:
    """Relative to what the logarithm is taken of, 1e-4; what is 40 dB below the loudest value of
    its column and more, which float32 limits, by 1e-5 of that."""
    assert found.shape == theirs.shape
    power, expected = np.exp(found) - floor, np.exp(theirs) - floor
    loudest = expected.max(0)
    loud = expected > 10 ** (-2 * exponent) * loudest
    assert loud.mean() > 0.05
    assert np.abs(power / expected - 1)[loud & (expected > 0.01 * floor)].max() < 1e-4
    assert (np.abs(power - expected) / (loudest + floor)).max() < 1e-5


def test_magnitudes_of_ogm_ge() -> None:
    """CREMA-D: three seconds are 257 frequencies and 188 columns; VGGSound: five seconds."""
    wave = tones(22_050, 3.0)
    found = ours(wave, 22_050, config(n_fft=512, hop_length=353, **OGM_GE))
    assert found.shape == (257, 188)
    check(found, np.log(np.abs(spectrum(wave, 512, 353, 512, centred=True)) + 1e-7), 1e-7, 1)
    wave = tones(16_000, 5.0)
    found = ours(wave, 16_000, config(n_fft=256, hop_length=128, **OGM_GE))
    assert found.shape == (129, 626)
    check(found, np.log(np.abs(spectrum(wave, 256, 128, 256, centred=True)) + 1e-7), 1e-7, 1)


def test_power_of_temporal_binding() -> None:
    """1.279 s: 256 frequencies of 511 samples, of which the window covers 10 ms, 256 columns."""
    wave = tones(24_000, 1.279)
    asked = config(kind="linear", n_fft=511, hop_length=120, window_length=240, centred=True)
    found = ours(wave, 24_000, asked)
    assert found.shape == (256, 256)
    check(found, np.log(np.abs(spectrum(wave, 511, 120, 240, centred=True)) ** 2 + 1e-6), 1e-6)


def test_mels_of_magnitudes_of_auditory_slowfast() -> None:
    wave = tones(16_000, 5.119)
    asked = config(num_mels=128, n_fft=2048, hop_length=160, window_length=320, exponent=1,
                   centred=True)  # fmt: skip
    found = ours(wave, 16_000, asked)
    assert found.shape == (128, 512)
    mels = htk_filters(128, 2048, 16_000) @ np.abs(spectrum(wave, 2048, 160, 320, centred=True))
    check(found, np.log(mels + 1e-6), 1e-6, 1)


def test_log_mels_of_avslowfast() -> None:
    """128 columns of 80 mels."""
    wave = tones(16_000, (127 * 256 + 512) / 16_000)
    asked = config(num_mels=80, n_fft=512, hop_length=256, log_offset=1e-8, mel_mean=-7.03,
                   mel_std=4.66)  # fmt: skip
    found = ours(wave, 16_000, asked)
    assert found.shape == (80, 128)
    power = np.abs(spectrum(wave, 512, 256, 512, centred=False)) ** 2
    mels = htk_filters(80, 512, 16_000) @ power
    check(found * 4.66 - 7.03, np.log(mels + 1e-8), 1e-8)


def test_density_of_scipy() -> None:
    """As the audio baseline of VGGSound: ten seconds, each spectrogram normalised by itself."""
    wave = tones(16_000, 10.0)
    _, _, density = signal.spectrogram(wave.astype(np.float64), 16_000, nperseg=512, noverlap=353)
    theirs = np.log(density + 1e-7)
    found = ours(wave, 16_000, config(kind="scipy", n_fft=512, hop_length=159))
    assert found.shape == (257, 1004)
    check(found, theirs, 1e-7)
    by_clip = config(kind="scipy", n_fft=512, hop_length=159, mel_mean="clip", mel_std="clip")
    expected = (theirs - theirs.mean()) / (theirs.std() + 1e-9)
    np.testing.assert_allclose(ours(wave, 16_000, by_clip), expected, atol=1e-4)


@pytest.mark.parametrize("n_fft", [511, 16])
def test_density_of_odd_and_short_windows(n_fft: int) -> None:
    wave = tones(16_000, 0.5)
    _, _, density = signal.spectrogram(
        wave.astype(np.float64), 16_000, nperseg=n_fft, noverlap=n_fft - 5
    )
    found = ours(wave, 16_000, config(kind="scipy", n_fft=n_fft, hop_length=5))
    check(found, np.log(density + 1e-7), 1e-7)


@pytest.mark.long  # imports numba
@pytest.mark.filterwarnings("ignore")
def test_they_are_those_of_librosa() -> None:
    librosa = pytest.importorskip("librosa")
    wave = tones(22_050, 3.0)
    stft = librosa.stft(wave.astype(np.float64), n_fft=512, hop_length=353)
    found = ours(wave, 22_050, config(n_fft=512, hop_length=353, **OGM_GE))
    check(found, np.log(np.abs(stft) + 1e-7), 1e-7, 1)
    wave = tones(24_000, 1.279)
    stft = librosa.stft(wave.astype(np.float64), n_fft=511, hop_length=120, win_length=240,
                        window="hann", pad_mode="constant")  # fmt: skip
    asked = config(kind="linear", n_fft=511, hop_length=120, window_length=240, centred=True)
    check(ours(wave, 24_000, asked), np.log(np.real(stft * np.conj(stft)) + 1e-6), 1e-6)
    wave = tones(16_000, 5.119)
    stft = librosa.stft(wave.astype(np.float64), n_fft=2048, hop_length=160, win_length=320,
                        window="hann", pad_mode="constant")  # fmt: skip
    mels = librosa.filters.mel(sr=16_000, n_fft=2048, n_mels=128, htk=True, norm=None)
    asked = config(num_mels=128, n_fft=2048, hop_length=160, window_length=320, exponent=1,
                   centred=True)  # fmt: skip
    check(ours(wave, 16_000, asked), np.log(mels @ np.abs(stft) + 1e-6), 1e-6, 1)


def test_each_channel_is_normalised_by_itself() -> None:
    asked = config(n_fft=512, hop_length=256, mel_mean="clip", mel_std="clip", num_mels=40)
    wave = torch.from_numpy(tones(16_000))
    stereo = Frontend(asked, 16_000).log_mel(torch.stack([wave, 0.01 * wave.flip(0)])[None])[0]
    for channel in stereo:
        assert channel.mean().item() == pytest.approx(0, abs=1e-5)
        assert channel.std(correction=0).item() == pytest.approx(1, abs=1e-5)
    silent = Frontend(asked, 16_000).log_mel(torch.zeros(1, 8000))
    assert silent.isfinite().all()


def test_magnitudes_are_not_mixed_as_power() -> None:
    """Neither by a configuration nor by a plan."""
    asked = config(n_fft=512, hop_length=256, **OGM_GE)
    message = r"mix\.audio_domain must not be power for frontend\.exponent 1"
    with pytest.raises(ValueError, match=message):
        TrainConfig(frontend=asked, mix=MixConfig(method="mixup", audio_domain="power"))
    here = torch.ones(2, dtype=torch.bool)
    audio = torch.from_numpy(tones(16_000)).repeat(2, 1)
    batch = Batch(video=torch.zeros(2, 1, 4, 4, 3, dtype=torch.uint8), audio=audio, has_video=here,
                  has_audio=here, target=torch.eye(2), row=torch.arange(2),
                  source=torch.arange(2))  # fmt: skip
    frontend = Frontend(asked, 16_000)
    for domain in ("power", "log_mel"):
        parts = tuple(Part(name=name, domain=d, weight=(0.25, 1.0), present=(True, True))
                      for name, d in (("video", "pixels"), ("audio", domain)))  # fmt: skip
        plan = MixPlan(num_inputs=2, partner=(1, 0), method="mixup", level="input", parts=parts)
        if domain == "power":
            with pytest.raises(ValueError, match="the plan mixes audio as 'power'"):
                frontend(batch, plan.to(torch.device("cpu")))
        else:
            found = frontend(batch, plan.to(torch.device("cpu")))[1]
            torch.testing.assert_close(found, frontend.log_mel(audio))


def test_every_band_has_a_gradient() -> None:
    for kind in ("linear", "scipy"):
        asked = config(kind=kind, n_fft=64, hop_length=32)
        audio = torch.from_numpy(tones(16_000)[:640]).view(1, 640).clone().requires_grad_()
        Frontend(asked, 16_000).log_mel(audio).sum().backward()
        assert audio.grad is not None
        assert audio.grad.isfinite().all()
        assert (audio.grad != 0).float().mean() > 0.9


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "linear", "mel_mean": "measured"}, r"frontend\.mel_mean must be a number"),
        ({"exponent": 1, "mel_mean": "measured"}, r"frontend\.mel_mean must be a number, or clip"),
        ({"mel_mean": "clip"}, r"frontend\.mel_std must be clip where frontend\.mel_mean is"),
        ({"mel_std": "clip"}, r"frontend\.mel_std must be clip where frontend\.mel_mean is"),
        ({"window_length": 513}, r"frontend\.window_length must be 0, or in \[2"),
        ({"log_offset": 0.0}, r"frontend\.log_offset must be > 0"),
    ],
)
def test_bad_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        config(**options)


def test_options_of_other_kinds_are_refused() -> None:
    other = TrainConfig(frontend=config(kind="panns", centred=True, log_offset=1e-8))
    assert set(unused_options(other)) == {"frontend.centred", "frontend.log_offset"}
    bands = TrainConfig(frontend=config(kind="linear", num_mels=32))
    assert set(unused_options(bands)) == {"frontend.num_mels"}
