"""Spectrograms of Kaldi, PANNs and librosa against these libraries, processors of transformers, and
by hand."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torchaudio.compliance.kaldi import fbank

from avmix import decode_clip
from avmix.config import ClipConfig, FrontendConfig
from avmix.mix import MixPlan, Part, clip_grids
from avmix.models.frontend import Frontend
from avmix.models.spectrograms import slaney_filters
from avmix.types import Batch

REAL = Path(__file__).parents[2] / "shared/data/real_clips"
RATES = {32_000: (1024, 320), 16_000: (512, 160)}
"""Window and hop of the networks of PANNs."""


def config(kind: Any, rate: int = 16_000, **options: Any) -> FrontendConfig:
    n_fft, hop = RATES[rate]
    values = {"num_mels": 64, "n_fft": n_fft, "hop_length": hop, "mel_mean": 0.0, "mel_std": 1.0}
    return FrontendConfig(kind=kind, **(values | options))


def tones(rate: int, seconds: float = 0.5) -> np.ndarray:
    """Noise of falling level and two tones, in one; float32."""
    draw, time = np.random.default_rng(3), np.arange(round(rate * seconds)) / rate
    noise = draw.standard_normal(len(time)) * 0.1 * np.exp(-8 * time)
    wave = noise + 0.3 * np.sin(2 * np.pi * 440 * time) + 0.1 * np.sin(2 * np.pi * 5000 * time)
    return wave.astype(np.float32)


def recording(name: str, rate: int) -> np.ndarray:
    """Two seconds of it, or skip."""
    if name == "synthetic":
        return tones(rate)
    if not REAL.is_dir():
        pytest.skip(f"no real media in {REAL}: compared on synthetic audio only")
    clip = decode_clip(REAL / name, start_seconds=0.0, duration_seconds=2.0, num_frames=1,
                       sample_rate=rate)  # fmt: skip
    return clip.audio


def check(ours: Tensor, theirs: np.ndarray) -> None:
    """(mel bins, columns) in decibels: amplitudes within 2e-6 of the loudest bin of their column
    (float32 holds -100 dB to 1e-6 of it), and decibels within 1e-4 down to 40 dB below it."""
    assert ours.shape == theirs.shape
    found, loudest = ours.double().numpy(), theirs.max(0)
    near = theirs > loudest - 40
    assert near.mean() > 0.1
    assert np.abs(found - theirs)[near].max() < 1e-4
    amplitudes = 10 ** ((found - loudest) / 20) - 10 ** ((theirs - loudest) / 20)
    assert np.abs(amplitudes).max() < 2e-6


SOUNDS = ["synthetic", "k400_WUzgd7C1pWA.mp4", "phone_rot90_vfr.mp4"]


ALL_SOUNDS = [*SOUNDS, "k_flipping_a_pancake.mkv", "vgg_00W1lcxW-WU_12.5fps.mp4"]
HANN = {"window_type": "hanning", "htk_compat": True, "use_energy": False}
"""Options of Kaldi's filterbanks as the recipes of AST, CAV-MAE and EAT set them."""


def of_torchaudio(wave: Tensor, **options: Any) -> Tensor:
    """(columns, mel bins)."""
    return fbank(wave[None], num_mel_bins=128, sample_frequency=16_000, frame_length=25,
                 frame_shift=10, dither=0.0, **options)  # fmt: skip


@pytest.mark.parametrize("name", ALL_SOUNDS)
@pytest.mark.parametrize(
    ("kind", "mean", "std"),
    [("kaldi", -4.268, 2 * 4.569), ("kaldi", -5.081, 4.4849), ("kaldi_povey", 15.41663, 13.11164)],
    ids=["eat", "cav_mae", "beats"],
)
def test_filterbanks_are_those_of_torchaudio(kind: Any, mean: float, std: float, name: str) -> None:
    wave = torch.from_numpy(recording(name, 16_000))
    batch = torch.stack([wave, 0.1 * wave.flip(0), torch.zeros_like(wave)])
    asked = config(kind, num_mels=128, n_fft=400, hop_length=160, mel_mean=mean, mel_std=std)
    ours = Frontend(asked, 16_000).log_mel(batch)
    for one, found in zip(batch, ours[:, 0], strict=True):
        theirs = of_torchaudio(one, **HANN) if kind == "kaldi" else of_torchaudio(one * 2**15)
        torch.testing.assert_close(found.T, (theirs - mean) / std, rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", ALL_SOUNDS)
def test_the_mean_of_the_waveform_is_removed_with_that_of_every_column(name: str) -> None:
    """EAT and CAV-MAE subtract it first: that changes nothing but the rounding."""
    wave = torch.from_numpy(recording(name, 16_000)).double() + 0.01
    plain, centred = (of_torchaudio(w, **HANN) for w in (wave, wave - wave.mean()))
    torch.testing.assert_close(plain, centred, rtol=0, atol=1e-7)
    asked = config("kaldi", num_mels=128, n_fft=400, hop_length=160, mel_mean=-4.268, mel_std=9.138)
    wave = (wave - 0.01).float()
    plain, centred = Frontend(asked, 16_000).log_mel(torch.stack([wave, wave - wave.mean()]))
    torch.testing.assert_close(plain, centred, rtol=0, atol=5e-4)


@pytest.mark.long  # imports numba
@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("name", SOUNDS)
@pytest.mark.filterwarnings("ignore")
def test_panns_are_those_of_torchlibrosa(name: str, rate: int) -> None:
    library = pytest.importorskip("torchlibrosa")
    audio = torch.from_numpy(recording(name, rate))[None]
    n_fft, hop = RATES[rate]
    power = library.Spectrogram(n_fft=n_fft, hop_length=hop, win_length=n_fft)(audio)
    decibels = library.LogmelFilterBank(
        sr=rate, n_fft=n_fft, n_mels=64, fmin=50, fmax=min(14_000, rate // 2), ref=1.0, amin=1e-10,
        top_db=None,
    )(power)  # fmt: skip
    ours = Frontend(config("panns", rate), rate).log_mel(audio)
    assert ours.shape == (1, 1, 64, 1 + audio.shape[1] // hop)
    check(ours[0, 0], decibels[0, 0].T.detach().numpy())


@pytest.mark.long  # imports numba
@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("name", SOUNDS)
@pytest.mark.filterwarnings("ignore")
def test_librosa_is_that_of_librosa(name: str, rate: int) -> None:
    librosa = pytest.importorskip("librosa")
    wave, (n_fft, hop) = recording(name, rate), RATES[rate]
    power = librosa.feature.melspectrogram(
        y=wave.astype(np.float64), sr=rate, n_fft=n_fft, hop_length=hop, n_mels=64
    )
    ours = Frontend(config("librosa", rate), rate).log_mel(torch.from_numpy(wave)[None])
    check(ours[0, 0], librosa.power_to_db(power))


def by_formula(wave: np.ndarray, kind: str, rate: int) -> np.ndarray:
    """In double precision; the filters are those of transformers."""
    from transformers.audio_utils import mel_filter_bank

    n_fft, hop = RATES[rate]
    low, high = (50.0, min(14_000.0, rate / 2)) if kind == "panns" else (0.0, rate / 2)
    filters = mel_filter_bank(n_fft // 2 + 1, 64, low, high, rate, norm="slaney",
                              mel_scale="slaney")  # fmt: skip
    pad: Any = "reflect" if kind == "panns" else "constant"
    padded = np.pad(wave.astype(np.float64), n_fft // 2, mode=pad)
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n_fft) / n_fft)
    columns = [np.abs(np.fft.rfft(padded[k : k + n_fft] * hann)) ** 2 @ filters
               for k in range(0, len(wave) + 1, hop)]  # fmt: skip
    decibels = 10 * np.log10(np.maximum(np.stack(columns, 1), 1e-10))
    return decibels if kind == "panns" else np.maximum(decibels, decibels.max() - 80)


@pytest.mark.parametrize("kind", ["panns", "librosa"])
@pytest.mark.parametrize("rate", RATES)
def test_decibels_are_the_formula(kind: str, rate: int) -> None:
    pytest.importorskip("transformers")
    wave = tones(rate)
    ours = Frontend(config(kind, rate), rate).log_mel(torch.from_numpy(wave)[None])
    check(ours[0, 0], by_formula(wave, kind, rate))


def test_filters_of_slaney_by_hand() -> None:
    # 15 mel are 1 kHz, and 27 mel more are 6.4 kHz: three filters from 0 to 42 mel.
    filters = slaney_filters(3, 1280, 12_800, 0.0, 6400.0)
    mels = [0, 10.5, 21, 31.5, 42]
    hz = [m * 200 / 3 if m < 15 else 1000 * 6.4 ** ((m - 15) / 27) for m in mels]
    assert hz[1] == pytest.approx(700)
    for i in range(3):
        column = filters[:, i]
        assert column.sum().item() * 10 == pytest.approx(1, rel=1e-3)  # area, bins of 10 Hz
        inside = (column > 0).nonzero().flatten() * 10
        assert inside[0] == pytest.approx(hz[i], abs=10.1)
        assert inside[-1] == pytest.approx(hz[i + 2], abs=10.1)
        assert column.argmax().item() * 10 == pytest.approx(hz[i + 1], abs=5.1)


def test_silence_is_a_hundred_decibels_down() -> None:
    silent = torch.zeros(2, 1600)
    for kind in ("panns", "librosa"):
        found = Frontend(config(kind), 16_000).log_mel(silent)
        torch.testing.assert_close(found, torch.full_like(found, -100.0))
    scaled = Frontend(config("panns", mel_mean=-40.0, mel_std=20.0), 16_000).log_mel(silent)
    torch.testing.assert_close(scaled, torch.full_like(scaled, -3.0))


def test_the_range_of_librosa_is_of_each_spectrogram() -> None:
    loud, quiet = torch.from_numpy(tones(16_000)), 1e-3 * torch.from_numpy(tones(16_000))
    loud, quiet = loud.clone(), quiet.clone()
    loud[4000:], quiet[4000:] = 0, 0
    frontend = Frontend(config("librosa"), 16_000)
    stereo = frontend.log_mel(torch.stack([loud, quiet])[None])[0]
    for channel, wave in zip(stereo, (loud, quiet), strict=True):
        torch.testing.assert_close(channel, frontend.log_mel(wave[None])[0, 0])
        assert channel.min().item() == pytest.approx(max(channel.max().item() - 80, -100), abs=1e-3)
    assert stereo[0].max().item() - stereo[1].max().item() == pytest.approx(60, abs=0.01)


@pytest.mark.parametrize("kind", ["panns", "librosa"])
def test_a_click_is_in_the_columns_around_it(kind: Any) -> None:
    wave = torch.zeros(1, 16_000)
    wave[0, 50 * 160] = 1.0
    power = Frontend(config(kind), 16_000).log_mel(wave)[0, 0].mean(0)
    assert power.argmax().item() == 50
    heard = (power > power.min() + 0.1).nonzero().flatten().tolist()
    assert heard == [49, 50, 51]  # a window of 512 around 160 k; at its very end it is 0
    grid = clip_grids(ClipConfig(duration_seconds=1.0), config(kind), "log_mel")["audio"]
    assert grid.shape == (64, 101) == tuple(Frontend(config(kind), 16_000).log_mel(wave).shape[2:])
    assert grid.first_seconds + 50 * grid.step_seconds == pytest.approx(0.5)


@pytest.mark.parametrize("kind", ["log_mel", "kaldi", "kaldi_povey", "panns", "librosa"])
@pytest.mark.parametrize("columns", [1, 2, 40])
def test_samples_of_columns(kind: Any, columns: int) -> None:
    found = config(kind)
    samples = found.samples_of(columns)
    assert found.columns_of(samples) == columns
    assert found.columns_of(samples - 1) == columns - 1
    assert found.columns_of(samples + found.hop_length - 1) == columns


@pytest.mark.parametrize("kind", ["kaldi_povey", "panns", "librosa"])
def test_every_channel_has_a_gradient(kind: Any) -> None:
    audio = torch.from_numpy(tones(16_000)[:3200]).view(1, 2, 1600).clone().requires_grad_()
    Frontend(config(kind), 16_000).log_mel(audio).sum().backward()
    assert audio.grad is not None
    assert audio.grad.isfinite().all()
    assert (audio.grad.abs().sum(-1) > 0).all()


@pytest.mark.parametrize("kind", ["panns", "librosa"])
@pytest.mark.parametrize("domain", ["waveform", "power", "log_mel"])
def test_decibels_are_mixed_in_every_domain(kind: Any, domain: str) -> None:
    generator = torch.Generator().manual_seed(2)
    audio = torch.randn(2, 3200, generator=generator) * torch.tensor([[0.1], [0.001]])
    here = torch.ones(2, dtype=torch.bool)
    batch = Batch(video=torch.zeros(2, 1, 4, 4, 3, dtype=torch.uint8), audio=audio, has_video=here,
                  has_audio=here, target=torch.eye(2), row=torch.arange(2),
                  source=torch.arange(2))  # fmt: skip
    parts = tuple(Part(name=name, domain=d, weight=(0.25, 1.0), present=(True, True))
                  for name, d in (("video", "pixels"), ("audio", domain)))  # fmt: skip
    plan = MixPlan(num_inputs=2, partner=(1, 0), method="mixup", level="input", parts=parts)
    frontend = Frontend(config(kind, mel_mean=-30.0, mel_std=20.0), 16_000)
    found = frontend(batch, plan.to(torch.device("cpu")))[1]
    a, b = frontend.log_mel(audio)
    if domain == "waveform":
        expected = frontend.log_mel((0.25 * audio[0] + 0.75 * audio[1])[None])[0]
    elif domain == "log_mel":
        expected = 0.25 * a + 0.75 * b
    else:
        power = [10 ** ((2 * x - 3).double()) for x in (a, b)]  # 10 ** (dB / 10)
        expected = (((0.25 * power[0] + 0.75 * power[1]).log10() + 3) / 2).float()
    torch.testing.assert_close(found[0], expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found[1], b)


@pytest.mark.filterwarnings("ignore")
def test_panns_are_what_the_processor_of_clap_makes() -> None:
    transformers = pytest.importorskip("transformers")
    process = transformers.ClapFeatureExtractor(frequency_min=50, truncation="rand_trunc",
                                                max_length_s=1)  # fmt: skip
    wave = tones(48_000, 1.0)
    theirs = process(wave, sampling_rate=48_000, return_tensors="np")["input_features"]
    asked = config("panns", n_fft=1024, hop_length=480)
    ours = Frontend(asked, 48_000).log_mel(torch.from_numpy(wave)[None])
    assert theirs.shape == (1, 1, 101, 64)
    check(ours[0, 0], theirs[0, 0].T)


def test_filterbanks_are_what_the_processor_of_the_spectrogram_transformer_makes() -> None:
    transformers = pytest.importorskip("transformers")
    process = transformers.ASTFeatureExtractor(max_length=98)
    wave = tones(16_000, 1.0)
    theirs = process(wave, sampling_rate=16_000, return_tensors="pt")["input_values"]
    asked = config("kaldi", num_mels=128, n_fft=400, hop_length=160, mel_mean=-4.2677393,
                   mel_std=2 * 4.5689974)  # fmt: skip
    ours = Frontend(asked, 16_000).log_mel(torch.from_numpy(wave)[None])
    torch.testing.assert_close(ours[0, 0].T, theirs[0], rtol=0, atol=1e-4)


def test_numbers_are_needed() -> None:
    with pytest.raises(ValueError, match=r"frontend\.mel_mean must be a number for .*kind panns"):
        FrontendConfig(kind="panns")
