"""Two channels of audio: in the decoder, the frontend, the mix and a whole run."""

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import test_variants
import torch
from av.audio.frame import AudioFrame
from av.video.frame import VideoFrame
from jaxtyping import TypeCheckError

from avmix.commands import evaluate as evaluation
from avmix.commands import train
from avmix.config import ClipConfig, EvalConfig, FrontendConfig, MixConfig
from avmix.data.eval_set import EvalSet
from avmix.data.manifest import read_manifest
from avmix.decode import ClipError, decode_clip, decode_clips
from avmix.decode.downmix import mono, stereo
from avmix.evaluation.metrics import Scores
from avmix.mix import MixPlan, Part
from avmix.mix.loudness import FLOOR_DB, loudness_db
from avmix.models.frontend import Frontend
from avmix.preview import PREVIEW_CLIP, preview_mix
from avmix.training import checkpoint
from avmix.training.engine import check_input
from avmix.types import Batch
from tests.media import write_flash_beep
from tests.test_backends import ALL

eight = test_variants.eight  # a fixture
RATE = 16_000
WINDOW: dict[str, Any] = {"start_seconds": 0.5, "duration_seconds": 1.0, "fps": 5}


def write_tones(
    path: Path,
    layout: str,
    tones_hz: Sequence[float],
    *,
    codec: str = "pcm_s16le",
    rate: int = 48_000,
    seconds: float = 2.0,
) -> Path:
    """A file with a tone of amplitude 0.5 in each channel; 0 Hz is silence."""
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=25)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        audio: Any = container.add_stream(codec, rate=rate)
        audio.layout = layout
        audio.bit_rate = 384_000
        for number in range(round(seconds * 25)):
            image = np.full((48, 64, 3), number, np.uint8)
            container.mux(video.encode(VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(video.encode(None))
        time = np.arange(round(seconds * rate)) / rate
        wave = np.stack([0.5 * np.sin(2 * np.pi * hz * time) for hz in tones_hz])
        form = audio.codec_context.format.name
        if form in ("s16", "s16p"):
            wave = np.round(wave * 32767).astype(np.int16)
        for at in range(0, len(time), 960):
            part = wave[:, at : at + 960]
            part = part if form.endswith("p") else part.T.reshape(1, -1)
            kind = np.int16 if form.startswith("s16") else np.float32
            samples: Any = np.ascontiguousarray(part, kind)
            frame = AudioFrame.from_ndarray(samples, format=form, layout=layout)
            frame.sample_rate, frame.time_base, frame.pts = rate, Fraction(1, rate), at
            container.mux(audio.encode(frame))
        container.mux(audio.encode(None))
    return path


def amplitude(wave: np.ndarray, hz: float) -> float:
    """Of the tone of a whole number of Hz in one second of audio."""
    time = np.arange(len(wave)) / RATE
    return float(2 * np.abs(np.mean(wave * np.exp(-2j * np.pi * hz * time))))


@ALL
@pytest.mark.parametrize("codec", ["pcm_s16le", "aac"])
def test_left_is_left_and_right_is_right(tmp_path: Path, codec: str, backend: Any) -> None:
    suffix = ".mp4" if codec == "aac" else ".mov"
    path = write_tones(tmp_path / f"two{suffix}", "stereo", (500, 1200), codec=codec)
    clip = decode_clip(path, channels=2, backend=backend, **WINDOW)
    assert clip.audio.shape == (2, RATE)
    assert clip.audio.dtype == np.float32
    assert clip.audio_valid == 1
    left, right = clip.audio
    assert amplitude(left, 500) == pytest.approx(0.5, rel=0.02)
    assert amplitude(right, 1200) == pytest.approx(0.5, rel=0.02)
    assert amplitude(left, 1200) < 0.01
    assert amplitude(right, 500) < 0.01
    # The clock is the same for both, and that of the mono mix.
    flat = decode_clip(path, backend=backend, **WINDOW)
    assert flat.audio.shape == (RATE,)
    np.testing.assert_allclose(clip.audio.mean(0), flat.audio, atol=1e-6)


@pytest.mark.parametrize("rate", [16_000, 44_100, 48_000, 44_101])
def test_a_mono_file_gives_the_same_twice(tmp_path: Path, rate: int) -> None:
    path = write_tones(tmp_path / "one.mov", "mono", (500,), rate=rate)
    flat, both = (decode_clip(path, channels=n, **WINDOW).audio for n in (1, 2))
    assert np.array_equal(both, np.stack([flat, flat]))


@pytest.mark.parametrize("codec", ["pcm_s16le", "aac"])
def test_surround_by_hand(tmp_path: Path, codec: str) -> None:
    # FL FR FC LFE BL BR: left is the mean of FL, FC and BL, right of FR, FC and BR.
    tones = (500, 600, 700, 40, 800, 900)
    path = write_tones(tmp_path / "six.mov", "5.1", tones, codec=codec)
    left, right = decode_clip(path, channels=2, **WINDOW).audio
    for wave, heard in ((left, (500, 700, 800)), (right, (600, 700, 900))):
        for hz in tones:
            wanted = 0.5 / 3 if hz in heard else 0.0
            assert amplitude(wave, hz) == pytest.approx(wanted, abs=0.006), hz


@pytest.mark.parametrize("layout", ["mono", "stereo", "2.1", "quad", "5.1"])
def test_the_same_content_is_equally_loud(tmp_path: Path, layout: str) -> None:
    path = write_flash_beep(tmp_path / "level.mov", layout=layout, audio_codec="pcm_f32le")
    flat, both = (decode_clip(path, channels=n, **WINDOW).audio for n in (1, 2))
    np.testing.assert_allclose(both, np.stack([flat, flat]), atol=1e-6)


SIDES = {
    "stereo": ((0,), (1,)),
    "mono": ((0,), (0,)),
    "downmix": ((0,), (1,)),
    "binaural": ((0,), (1,)),
    "2 channels": ((0,), (1,)),
    "3 channels": ((0, 1, 2), (0, 1, 2)),
    "1 channels (FL)": ((0,), (0,)),
    "2.1": ((0,), (1,)),
    "5.1(side)": ((0, 2, 4), (1, 2, 5)),
    "7.1": ((0, 2, 4, 6), (1, 2, 5, 7)),
    "7.1(wide)": ((0, 2, 4, 6), (1, 2, 5, 7)),
    "6.1": ((0, 2, 4, 5), (1, 2, 4, 6)),  # FL FR FC LFE BC SL SR
    "ambisonic 1": ((0, 1, 2, 3), (0, 1, 2, 3)),
    "22.2": (
        (0, 2, 4, 6, 8, 9, 11, 12, 13, 15, 16, 19, 21, 22),
        (1, 2, 5, 7, 8, 10, 11, 13, 14, 16, 17, 20, 21, 23),
    ),
}
"""Layout: which channels are heard on the left, and on the right."""


@pytest.mark.parametrize("layout", SIDES)
def test_sides_of_layouts(layout: str) -> None:
    num = av.AudioLayout(layout).nb_channels
    noise = np.random.default_rng(0).standard_normal((num, 50)).astype(np.float32)
    found = stereo(tuple(noise), layout)
    wanted = np.stack([noise[list(side)].mean(0) for side in SIDES[layout]])
    np.testing.assert_allclose(found, wanted, atol=1e-6)
    same = np.tile(noise[:1], (num, 1))
    np.testing.assert_allclose(stereo(tuple(same), layout)[0], mono(tuple(same), layout), atol=1e-6)


def test_what_is_missing_is_zeros_in_both(tmp_path: Path) -> None:
    mute = write_flash_beep(tmp_path / "mute.mp4", audio_codec=None, seconds=1)
    how = {**WINDOW, "start_seconds": 0, "channels": 2}
    silent = decode_clip(mute, audio="silence", **how)
    assert silent.audio.shape == (2, RATE)
    assert not silent.audio.any()
    assert decode_clip(mute, audio="skip", **how).audio.shape == (2, 0)
    late = write_flash_beep(tmp_path / "late.mp4", audio_start_seconds=0.32, layout="stereo")
    clip = decode_clip(late, **how)
    assert not clip.audio[:, : round(0.29 * RATE)].any()
    assert clip.audio[:, round(0.35 * RATE) :].any(axis=1).all()
    assert clip.audio_valid == decode_clip(late, **{**how, "channels": 1}).audio_valid


def test_windows_do_not_depend_on_one_another(tmp_path: Path) -> None:
    path = write_tones(tmp_path / "two.mp4", "stereo", (500, 1200), codec="aac", seconds=3)
    how: dict[str, Any] = {"duration_seconds": 0.5, "fps": 5, "channels": 2}
    together = decode_clips(path, starts_seconds=(2.0, 0.1), **how)
    for start, clip in zip((2.0, 0.1), together, strict=True):
        assert not isinstance(clip, ClipError)
        assert np.array_equal(clip.audio, decode_clip(path, start_seconds=start, **how).audio)


def test_other_numbers_of_channels_are_refused(tmp_path: Path) -> None:
    path = write_flash_beep(tmp_path / "a.mp4", seconds=1)
    three: Any = 3
    with pytest.raises((ValueError, TypeCheckError), match="channels"):
        decode_clip(path, channels=three, **WINDOW)


# The frontend and the mix.

MEL_MEAN, MEL_STD = -3.0, 2.5
CONFIG = FrontendConfig(num_mels=20, n_fft=256, hop_length=100, mel_mean=MEL_MEAN, mel_std=MEL_STD)
HZ = 8000


def two_channels(clips: int, samples: int = 2056) -> torch.Tensor:
    noise = torch.randn(clips, 2, samples, generator=torch.Generator().manual_seed(clips))
    return noise * torch.linspace(0.02, 0.5, 2 * clips).view(clips, 2, 1)


def batch_of(audio: torch.Tensor) -> Batch:
    clips = len(audio)
    generator = torch.Generator().manual_seed(0)
    return Batch(
        video=torch.randint(0, 256, (clips, 2, 4, 5, 3), generator=generator, dtype=torch.uint8),
        audio=audio,
        has_video=torch.ones(clips, dtype=torch.bool),
        has_audio=torch.ones(clips, dtype=torch.bool),
        target=torch.eye(clips),
        row=torch.arange(clips),
        source=torch.arange(clips),
    )


@pytest.mark.parametrize("clips", [1, 2, 3, 64])
def test_every_channel_has_the_spectrogram_it_has_alone(clips: int) -> None:
    audio, frontend = two_channels(clips), Frontend(CONFIG, HZ)
    found = frontend.log_mel(audio)
    assert found.shape == (clips, 2, 20, 19)
    for channel in (0, 1):
        alone = frontend.log_mel(audio[:, channel].contiguous())
        torch.testing.assert_close(found[:, channel], alone[:, 0], rtol=0, atol=1e-5)
    assert torch.equal(audio, two_channels(clips))


def test_three_channels_are_no_stereo() -> None:
    with pytest.raises(ValueError, match=r"\(b, 2, s\), got \(2, 3, 2000\)"):
        Frontend(CONFIG, HZ).log_mel(torch.zeros(2, 3, 2000))


def plan_of(domain: str, box: str) -> MixPlan:
    """Three clips, with everything in the middle, none and all of the own signal."""
    shape = (2056,) if domain == "waveform" else (20, 19)
    boxes = {
        "time": ((0, 20, 3, 9), (0, 20, 0, 19), (0, 20, 5, 5)),
        "band": ((2, 11, 0, 19), (0, 20, 0, 19), (5, 6, 0, 19)),
    }
    if domain == "waveform":
        boxes = {"time": ((300, 900), (0, 2056), (5, 5))}
    audio = Part(name="audio", domain=domain, weight=(0.3, 0.0, 0.6), present=(True,) * 3,
                 box=boxes.get(box), shape=shape if box in boxes else ())  # fmt: skip
    whole = Part(name="video", domain="pixels", weight=(0.3, 0.0, 0.6), present=(True,) * 3)
    return MixPlan(num_inputs=3, partner=(2, 0, 1), method="mixup", level="input",
                   parts=(whole, audio))  # fmt: skip


@pytest.mark.parametrize("domain", ["waveform", "power", "log_mel"])
@pytest.mark.parametrize("box", ["none", "time", "band"])
def test_both_channels_are_mixed_alike(domain: str, box: str) -> None:
    if (domain, box) == ("waveform", "band"):
        pytest.skip("a waveform has no bands")
    plan = plan_of(domain, box).to(torch.device("cpu"))
    audio, frontend = two_channels(3), Frontend(CONFIG, HZ)
    mixed = frontend(batch_of(audio), plan)[1]
    plain = frontend(batch_of(audio))[1]
    for channel in (0, 1):
        alone = frontend(batch_of(audio[:, channel].contiguous()), plan)[1]
        torch.testing.assert_close(mixed[:, channel], alone[:, 0], rtol=0, atol=1e-5)
        assert (mixed[0, channel] - plain[0, channel]).abs().max() > 0.1
        torch.testing.assert_close(mixed[1, channel], plain[0, channel], rtol=0, atol=1e-5)
    assert torch.equal(audio, two_channels(3))


def test_loudness_is_of_the_mean_power() -> None:
    loud = two_channels(1)[:, :1]
    silent = torch.zeros_like(loud)
    (one,) = loudness_db(loud[:, 0].contiguous(), HZ).tolist()
    (same,) = loudness_db(torch.cat([loud, loud], 1), HZ).tolist()
    (half,) = loudness_db(torch.cat([silent, loud], 1), HZ).tolist()
    # Opposite in sign: the mean of the waveforms would be silence.
    (opposite,) = loudness_db(torch.cat([loud, -loud], 1), HZ).tolist()
    assert same == pytest.approx(one, abs=1e-3)
    assert opposite == pytest.approx(one, abs=1e-3)
    assert half == pytest.approx(one - 10 * np.log10(2), abs=1e-3)
    assert loudness_db(torch.zeros(2, 2, 500), HZ).tolist() == [FLOOR_DB, FLOOR_DB]


@pytest.mark.parametrize("domain", ["waveform", "power"])
def test_energy_has_one_factor_for_both_channels(domain: str) -> None:
    plan = replace(plan_of(domain, "none"), method="energy", energy_limit_db=20.0)
    placed, frontend = plan.to(torch.device("cpu")), Frontend(CONFIG, HZ)
    audio = two_channels(3)
    mixed = frontend.log_mel(audio, placed)
    # The formula of the paper, with the loudness of both channels together.
    own_db, other_db = loudness_db(audio, HZ)[[0, 2]].double().tolist()
    own, other = 0.3, 0.7 * 10 ** ((own_db - other_db) / 20)
    norm = np.hypot(own, other)
    if domain == "waveform":
        expected = frontend.log_mel(own / norm * audio[:1] + other / norm * audio[2:])
    else:
        power = (frontend.log_mel(audio) * MEL_STD + MEL_MEAN).exp() - 1e-6
        power = (own / norm) ** 2 * power[:1] + (other / norm) ** 2 * power[2:]
        expected = ((power + 1e-6).log() - MEL_MEAN) / MEL_STD
    torch.testing.assert_close(mixed[:1], expected, rtol=0, atol=2e-3)
    torch.testing.assert_close(mixed[1], frontend.log_mel(audio)[0], rtol=0, atol=1e-5)


def test_a_channel_that_is_not_finite_is_found() -> None:
    audio = two_channels(3)
    audio[1, 1, 7] = np.nan
    with pytest.raises(ValueError, match=r"not finite, in b\.mp4$"):
        check_input(batch_of(audio), ["a.mp4", "b.mp4", "c.mp4"])


def test_a_stereo_mix_is_drawn(tmp_path: Path) -> None:
    own = write_tones(tmp_path / "own.mov", "stereo", (500, 1200))
    partner = write_tones(tmp_path / "partner.mov", "stereo", (3000, 0))
    out = tmp_path / "mix.png"
    clip = replace(PREVIEW_CLIP, stereo=True)
    preview_mix(own, partner, out=out, mixes=[MixConfig(law="fixed", lam=0.4)], clip=clip)
    assert out.read_bytes().startswith(b"\x89PNG")


def test_a_batch_has_room_for_both_channels(toy_set: Path) -> None:
    manifest = read_manifest(toy_set, "train")
    one, two = (
        EvalSet(manifest=manifest, root=toy_set, clip=ClipConfig(stereo=wanted), num_views=1)
        for wanted in (False, True)
    )
    assert two.bytes_per_clip - one.bytes_per_clip == 4 * 32_000
    batch = two.collate(two.samples([(0, 0), (1, 0)])).batch
    assert batch is not None
    assert batch.audio.shape == (2, 2, 32_000)
    assert torch.equal(batch.audio[:, 0], batch.audio[:, 1])  # the toy files are mono
    mono_batch = one.collate(one.samples([(0, 0), (1, 0)])).batch
    assert mono_batch is not None
    assert torch.equal(batch.audio[:, 0], mono_batch.audio)


@pytest.mark.long
@pytest.mark.parametrize("domain", ["log_mel", "waveform"])
def test_a_stereo_run_trains_and_is_evaluated(
    domain: str,
    toy_set: Path,
    eight: Path,
    tmp_path: Path,
) -> None:
    out = tmp_path / "run"
    variant = ["--clip.stereo", "true", "--optim.epochs", "1", "--mix.audio_domain", domain]
    config = test_variants.config_of(toy_set, eight, out, variant)
    train.train(config)
    assert len(test_variants.steps(out)) == 2
    weights = checkpoint.load(out / "last.pt").model
    assert weights["audio.stages.0.0.weight"].shape[1] == 2
    scores = evaluation.evaluate(
        EvalConfig(checkpoint=str(out), split="train", num_views=1, num_workers=1, threads=1)
    )
    fused = scores["fused"]
    assert isinstance(fused, Scores)
    assert 0 <= fused.top1 <= 1
