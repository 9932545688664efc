"""Pixels and spectrograms against formulas written out."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from jaxtyping import TypeCheckError
from torchaudio.compliance.kaldi import fbank
from torchaudio.functional import melscale_fbanks

from avmix.config import AugmentConfig, FrontendConfig, MixConfig, TrainConfig
from avmix.mix import MixPlan, Part
from avmix.mix.frame_mixer import FrameMixer
from avmix.models.encoder import VideoSpec
from avmix.models.frontend import PIXEL_MEAN, PIXEL_STD, Frontend
from avmix.types import Batch

CONFIG = FrontendConfig(num_mels=20, n_fft=256, hop_length=100, mel_mean=-3.0, mel_std=2.5)
RATE = 8000


def noise(clips: int, samples: int = 2000) -> torch.Tensor:
    return torch.randn(clips, samples, generator=torch.Generator().manual_seed(clips)) * 0.1


def batch_of(clips: int) -> Batch:
    generator = torch.Generator().manual_seed(0)
    return Batch(
        video=torch.randint(0, 256, (clips, 2, 4, 5, 3), generator=generator, dtype=torch.uint8),
        audio=noise(clips),
        has_video=torch.ones(clips, dtype=torch.bool),
        has_audio=torch.ones(clips, dtype=torch.bool),
        target=torch.eye(clips),
        row=torch.arange(clips),
        source=torch.arange(clips),
    )


def by_formula(wave: np.ndarray, config: FrontendConfig, rate: int) -> np.ndarray:
    """(mel bins, columns): a Hann window every hop, power spectrum, mel filters, logarithm."""
    n = config.n_fft
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n) / n)
    filters = melscale_fbanks(n // 2 + 1, 0.0, rate / 2, config.num_mels, rate).double().numpy()
    columns = []
    for first in range(0, len(wave) - n + 1, config.hop_length):
        power = np.abs(np.fft.rfft(wave[first : first + n] * hann)) ** 2
        columns.append(
            (np.log(power @ filters + 1e-6) - float(config.mel_mean)) / float(config.mel_std)
        )
    return np.stack(columns, 1)


def frames_of(video):
    return FrameMixer("torch", PIXEL_MEAN, PIXEL_STD)(video, None, torch.float32)


def test_pixels_by_hand():
    video = torch.zeros(1, 2, 2, 2, 3, dtype=torch.uint8)
    video[0, 1, 0, 1, 2] = 255  # blue of the upper right pixel of the second frame
    frames = frames_of(video)
    assert frames.shape == (1, 3, 2, 2, 2)
    assert frames[0, 2, 1, 0, 1].item() == pytest.approx((1 - 0.45) / 0.225)
    frames[0, 2, 1, 0, 1] = -2.0
    torch.testing.assert_close(frames, torch.full_like(frames, (0 - 0.45) / 0.225))
    assert frames.is_contiguous()


def test_every_pixel_goes_to_its_place():
    video = batch_of(3).video
    frames = frames_of(video)
    for at in np.ndindex(*video.shape):
        b, t, h, w, c = at
        expected = (video[at].item() / 255 - 0.45) / 0.225
        assert frames[b, c, t, h, w].item() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("samples", [256, 355, 356, 2000])
def test_log_mel_is_the_formula(samples):
    audio = noise(2, samples)
    found = Frontend(CONFIG, RATE).log_mel(audio)
    assert found.shape == (2, 1, 20, 1 + (samples - 256) // 100)
    for wave, spectrogram in zip(audio.double().numpy(), found[:, 0].numpy(), strict=True):
        np.testing.assert_allclose(spectrogram, by_formula(wave, CONFIG, RATE), atol=2e-4)


KALDI = FrontendConfig(kind="kaldi", num_mels=128, n_fft=400, hop_length=160, mel_mean=-4.2677393,
                       mel_std=2 * 4.5689974)  # fmt: skip


def kaldi_of_torchaudio(wave: torch.Tensor) -> torch.Tensor:
    """(columns, mel bins), as the recipes of the audio spectrogram transformer call it."""
    found = fbank(wave[None], sample_frequency=16_000, window_type="hanning", num_mel_bins=128,
                  htk_compat=True, use_energy=False, dither=0.0, frame_shift=10)  # fmt: skip
    return (found + 4.2677393) / (2 * 4.5689974)


@pytest.mark.parametrize("samples", [400, 559, 560, 16_000])
def test_filterbanks_are_those_of_kaldi(samples):
    audio = noise(3, samples) + 0.05  # with an offset, which is removed
    audio[2] = torch.sin(torch.arange(samples) * 0.3)
    audio[1, samples // 2 :] = 0
    found = Frontend(KALDI, 16_000).log_mel(audio)
    assert found.shape == (3, 1, 128, 1 + (samples - 400) // 160)
    for wave, ours in zip(audio, found[:, 0], strict=True):
        torch.testing.assert_close(ours.T, kaldi_of_torchaudio(wave), rtol=0, atol=1e-4)


def test_filterbanks_of_kaldi_have_a_gradient_in_both_channels():
    audio = noise(2, 1600).view(1, 2, 1600).requires_grad_()
    Frontend(KALDI, 16_000).log_mel(audio).sum().backward()
    assert audio.grad is not None
    assert (audio.grad.abs().sum(-1) > 0).all()


POVEY = replace(KALDI, kind="kaldi_povey", mel_mean=15.41663, mel_std=2 * 6.55582)


@pytest.mark.parametrize("config", [KALDI, POVEY], ids=["kaldi", "kaldi_povey"])
@pytest.mark.parametrize("domain", ["waveform", "power", "log_mel"])
def test_filterbanks_of_kaldi_are_mixed_in_every_domain(domain, config):
    frontend, batch = Frontend(config, RATE), batch_of(2)
    parts = tuple(Part(name=name, domain=d, weight=(0.25, 1.0), present=(True, True))
                  for name, d in (("video", "pixels"), ("audio", domain)))  # fmt: skip
    plan = MixPlan(num_inputs=2, partner=(1, 0), method="mixup", level="input", parts=parts)
    found = frontend(batch, plan.to(torch.device("cpu")))[1]
    own, other = batch.audio
    if domain == "waveform":
        expected = frontend.log_mel((0.25 * own + 0.75 * other)[None])[0]
    else:
        a, b = frontend.log_mel(batch.audio)
        if domain == "power":
            scale, shift = float(config.mel_std), float(config.mel_mean)
            mixed = 0.25 * (a * scale + shift).exp() + 0.75 * (b * scale + shift).exp()
            expected = (mixed.log() - shift) / scale
        else:
            expected = 0.25 * a + 0.75 * b
    torch.testing.assert_close(found[0], expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found[1], frontend.log_mel(batch.audio)[1])


def test_silence_is_the_floor():
    silent = Frontend(CONFIG, RATE).log_mel(torch.zeros(1, 512))
    expected = torch.full_like(silent, (math.log(1e-6) + 3.0) / 2.5)
    torch.testing.assert_close(silent, expected)


def test_a_click_is_in_the_columns_that_cover_it():
    wave = torch.zeros(1, 2000)
    at = 5 * 100 + 128  # middle of the window of column 5
    wave[0, at] = 1.0
    loudness = Frontend(CONFIG, RATE).log_mel(wave)[0, 0].mean(0)
    assert loudness.argmax().item() == 5
    heard = (loudness > loudness.min() + 0.1).nonzero().flatten().tolist()
    # Column k covers samples [100 k, 100 k + 256).
    assert heard == [k for k in range(18) if 100 * k <= at < 100 * k + 256] == [4, 5, 6]


def test_a_tone_is_in_the_bin_of_its_frequency():
    time = torch.arange(2000) / RATE
    low, high = (torch.sin(2 * math.pi * hz * time)[None] for hz in (300, 3000))
    frontend = Frontend(CONFIG, RATE)
    bins = [frontend.log_mel(tone)[0, 0].mean(1).argmax().item() for tone in (low, high)]
    mel = [2595 * math.log10(1 + hz / 700) for hz in (300, 3000, RATE / 2)]
    expected = [m / mel[2] * 21 - 1 for m in mel[:2]]  # 20 peaks at equal distances
    assert bins == pytest.approx(expected, abs=0.6)


def test_clips_do_not_touch_each_other_however_many_there_are():
    audio = noise(19)
    frontend = Frontend(CONFIG, RATE)
    alone = torch.cat([frontend.log_mel(wave[None]) for wave in audio])
    torch.testing.assert_close(frontend.log_mel(audio), alone, rtol=0, atol=1e-5)


def test_a_filter_that_hears_nothing_is_an_error():
    with pytest.raises(ValueError, match=r"frontend\.num_mels \(=120\): \d+ mel filters are empty"):
        Frontend(replace(CONFIG, num_mels=120), RATE)


def test_everything_is_float32_even_under_autocast():
    frontend, batch = Frontend(CONFIG, RATE), batch_of(2)
    video, audio = frontend(batch)
    assert video.dtype == audio.dtype == torch.float32
    with torch.autocast("cpu", torch.bfloat16):
        same_video, same_audio = frontend(batch)
    assert torch.equal(video, same_video)
    assert torch.equal(audio, same_audio)


def test_both_modalities_of_the_batch_are_used_and_left_as_they_are():
    frontend, batch = Frontend(CONFIG, RATE), batch_of(3)
    video, audio = frontend(batch)
    torch.testing.assert_close(video, frames_of(batch.video))
    assert torch.equal(audio, frontend.log_mel(batch.audio))
    video.zero_()
    audio.zero_()
    assert torch.equal(batch.video, batch_of(3).video)
    assert torch.equal(batch.audio, batch_of(3).audio)


@pytest.mark.parametrize("kernel", ["torch", "fused"])
def test_pixels_are_normalised_as_the_encoder_wants(kernel):
    mean, std, batch = (0.1, 0.2, 0.3), (0.5, 0.25, 0.125), batch_of(2)
    config = replace(CONFIG, kernel=kernel)
    found = Frontend(config, RATE, VideoSpec(mean=mean, std=std))(batch)[0]
    pixels = batch.video.permute(0, 4, 1, 2, 3) / 255
    for colour in range(3):
        expected = (pixels[:, colour] - mean[colour]) / std[colour]
        torch.testing.assert_close(found[:, colour], expected, rtol=1e-5, atol=1e-5)
    plain = Frontend(config, RATE)(batch)[0]
    assert torch.equal(Frontend(config, RATE, VideoSpec())(batch)[0], plain)


def test_it_has_nothing_to_train_or_to_save():
    assert not list(Frontend(CONFIG, RATE).parameters())


def test_wrong_shapes_are_refused():
    with pytest.raises(TypeCheckError):
        Frontend(CONFIG, RATE).log_mel(torch.zeros(1000))
    with pytest.raises(TypeCheckError):
        frames_of(torch.zeros(1, 2, 4, 4, 3))


@pytest.mark.parametrize(("name", "domain"), [("audio", "mel"), ("video", "log_mel")])
def test_a_plan_for_what_it_does_not_mix_is_refused(name, domain):
    parts = tuple(
        Part(name=one, domain=domain if one == name else usual, weight=(0.5,) * 2,
             present=(True,) * 2)
        for one, usual in (("video", "pixels"), ("audio", "log_mel"))
    )  # fmt: skip
    plan = MixPlan(num_inputs=2, partner=(1, 0), method="mixup", level="input", parts=parts)
    with pytest.raises(ValueError, match=f"the plan mixes {name} as '{domain}'"):
        Frontend(CONFIG, RATE)(batch_of(2), plan.to(torch.device("cpu")))


def test_memory_that_is_reused_holds_the_last_two_results():
    frontend, batch = Frontend(CONFIG, RATE, reuse_output=True), batch_of(3)
    plain = Frontend(CONFIG, RATE)(batch)[0]
    first, second = frontend(batch)[0], frontend(batch)[0]
    assert torch.equal(first, plain)
    assert first.data_ptr() != second.data_ptr()
    third, fourth = frontend(batch)[0], frontend(batch)[0]
    assert [third.data_ptr(), fourth.data_ptr()] == [first.data_ptr(), second.data_ptr()]
    assert torch.equal(third, plain)
    with torch.inference_mode():
        fresh = frontend(batch)[0]
    assert fresh.data_ptr() not in (first.data_ptr(), second.data_ptr())
    other = Frontend(CONFIG, RATE)(batch)[0]
    assert other.data_ptr() not in (first.data_ptr(), second.data_ptr())


@pytest.mark.parametrize("kernel", ["torch", "fused"])
def test_what_a_clip_lacks_is_zeros(kernel):
    batch = replace(batch_of(3), has_video=torch.tensor([True, False, True]),
                    has_audio=torch.tensor([False, True, True]))  # fmt: skip
    video, audio = Frontend(replace(CONFIG, kernel=kernel), RATE)(batch)
    assert [bool((x == 0).all()) for x in video] == [False, True, False]
    assert [bool((x == 0).all()) for x in audio] == [True, False, False]


def test_memory_is_kept_for_two_shapes():
    # As when a step reads twice the clips that it mixes: both shapes come in turn.
    frontend, small, large = Frontend(CONFIG, RATE, reuse_output=True), batch_of(2), batch_of(4)
    turns = [[frontend(batch)[0].data_ptr() for batch in (small, large)] for _ in range(4)]
    assert turns[0] == turns[2] != turns[1] == turns[3]


# Waveforms ----------------------------------------------------------------------------------------

WAVEFORM = FrontendConfig(kind="waveform")


def mixed_as(domain: str) -> MixPlan:
    part = Part(name="audio", domain=domain, weight=(0.25, 1.0), present=(True, True))
    return MixPlan(
        num_inputs=2, partner=(1, 0), method="audio", level="input",
        parts=(Part(name="video", domain="pixels", weight=(1.0, 1.0), present=(True, True)), part),
    )  # fmt: skip


def test_waveforms_are_passed_on_and_mixed() -> None:
    batch, stage = batch_of(2), Frontend(WAVEFORM, RATE)
    before = batch.audio.clone()
    assert torch.equal(stage(batch)[1], before[:, None])
    mixed = stage(batch, mixed_as("waveform").to(torch.device("cpu")))[1]
    torch.testing.assert_close(mixed[0, 0], 0.25 * before[0] + 0.75 * before[1])
    assert torch.equal(mixed[1, 0], before[1])
    stereo = replace(batch, audio=torch.stack([before, -before], 1))
    assert torch.equal(stage(stereo)[1], stereo.audio)
    silent = replace(batch, has_audio=torch.tensor([True, False]))
    found = stage(silent)[1]
    assert torch.equal(found[0, 0], before[0])
    assert not found[1].any()
    assert torch.equal(batch.audio, before)


@pytest.mark.parametrize("domain", ["log_mel", "power"])
def test_spectrograms_that_there_are_none_of_are_not_mixed(domain) -> None:
    plan = mixed_as(domain).to(torch.device("cpu"))
    with pytest.raises(ValueError, match=rf"mixes audio as '{domain}', which a frontend does not"):
        Frontend(WAVEFORM, RATE)(batch_of(2), plan)
    with pytest.raises(ValueError, match=r"^frontend\.kind waveform: there is no spectrogram$"):
        Frontend(WAVEFORM, RATE).log_mel(noise(1))


REFUSED = [
    ({}, r"^mix\.audio_domain must be waveform for frontend\.kind waveform: there is no spectro"),
    (
        {"augment": AugmentConfig(time_masks=1)},
        r"^augment\.time_masks must be 0 for frontend\.kind",
    ),
    (
        {"augment": AugmentConfig(mel_masks=1)},
        r"^augment\.mel_masks must be 0 for frontend\.kind w",
    ),
    ({"augment": AugmentConfig(hide_seconds=0.1)}, r"^augment\.hide_seconds must be 0 for fronten"),
]


@pytest.mark.parametrize(("options", "says"), REFUSED)
def test_what_is_done_to_spectrograms_is_refused_before_training(options, says) -> None:
    as_waveform = {"mix": MixConfig(audio_domain="waveform")} if options else {}
    with pytest.raises(ValueError, match=says):
        TrainConfig(frontend=WAVEFORM, **as_waveform, **options)
    TrainConfig(frontend=WAVEFORM, mix=MixConfig(method="video"))
    TrainConfig(frontend=WAVEFORM, mix=MixConfig(audio_domain="waveform"))
