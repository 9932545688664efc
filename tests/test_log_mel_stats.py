"""What preparation measures of the log-mels, and what training makes of it."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from avmix.config import FrontendConfig, TrainConfig, load_config
from avmix.data.manifest import ManifestError, read_log_mel, read_manifest, write_manifest
from avmix.media.log_mel import log_mel_of_clips
from avmix.media.log_mel_stats import MelTally, log_mel_of
from avmix.models.frontend import Frontend
from avmix.training import training_setup


def noise(seconds: float, rate: int = 16_000) -> np.ndarray:
    wave = np.random.default_rng(0).normal(0, 0.1, int(seconds * rate)).astype(np.float32)
    wave[: len(wave) // 3] *= 0.01
    return wave


def test_the_measured_spectrogram_is_the_one_that_is_trained_on():
    wave = noise(1.0)
    frontend = Frontend(FrontendConfig(mel_mean=0.0, mel_std=1.0), 16_000)
    expected = frontend.log_mel(torch.from_numpy(wave)[None])[0, 0].numpy().T
    np.testing.assert_allclose(log_mel_of(wave), expected, atol=2e-3)


@pytest.mark.parametrize("step", [160, 1024, 100_000])
def test_a_waveform_in_parts_gives_the_mean_and_deviation_of_the_whole(step):
    wave, tally = noise(3.7), MelTally()
    for start in range(0, len(wave), step):
        tally.feed(wave[start : start + step], 16_000)
    found, whole = tally.result(), log_mel_of(wave)
    assert found == pytest.approx((whole.mean(), whole.std()), abs=1e-6)


def test_another_rate_is_resampled():
    seconds = np.arange(2 * 44_100) / 44_100
    one, two = MelTally(), MelTally()
    one.feed(np.sin(2 * np.pi * 500 * seconds).astype(np.float32), 44_100)
    two.feed(np.sin(2 * np.pi * 500 * np.arange(32_000) / 16_000).astype(np.float32), 16_000)
    assert one.result() == pytest.approx(two.result(), abs=0.15)


def test_audio_that_is_too_short_or_not_finite_has_no_numbers():
    short, broken = MelTally(), MelTally()
    short.feed(noise(0.01), 16_000)
    broken.feed(np.full(16_000, np.nan, np.float32), 16_000)
    assert short.result() is None
    assert broken.result() is None


def test_files_count_by_the_length_of_their_clips(make_entry):
    """By hand: 1 s of mean 0 and deviation 1, 3 s of mean 4 and deviation 2, and silence."""

    def clip(name: str, seconds: float, mean: float | None, std: float | None, silent=False):
        entry = make_entry(name)
        audio = replace(entry.audio, log_mel_mean=mean, log_mel_std=std, silent=silent)
        return replace(entry, start_seconds=0.0, end_seconds=seconds, audio=audio)

    clips = [
        clip("a", 1.0, 0.0, 1.0),
        clip("b", 3.0, 4.0, 2.0),
        clip("c", 9.0, -13.8, 0.0, silent=True),
        clip("d", 9.0, None, None),
    ]
    found = log_mel_of_clips(clips)
    assert found is not None
    assert (found["mean"], found["num_clips"]) == (3.0, 2)
    # E[x^2] = (1 * 1 + 3 * (4 + 16)) / 4 = 15.25
    assert found["std"] == pytest.approx((15.25 - 9) ** 0.5, abs=1e-4)
    assert log_mel_of_clips(clips[3:]) is None


def test_the_numbers_come_from_the_train_split_and_go_into_the_network(make_entry, tmp_path):
    entry = make_entry("a")
    loud = replace(entry, audio=replace(entry.audio, log_mel_mean=-2.0, log_mel_std=1.5))
    other = replace(make_entry("b"), source_id="other")
    other = replace(other, audio=replace(other.audio, log_mel_mean=9.0, log_mel_std=9.0))
    write_manifest(
        tmp_path, classes=entry.labels, protocol="p", splits={"train": [loud], "test": [other]}
    )
    assert read_manifest(tmp_path, "train").entries == (loud,)
    found = read_log_mel(tmp_path)
    assert found is not None
    assert (found.mean, found.std) == (-2.0, 1.5)
    measured = training_setup.with_measured(FrontendConfig(), tmp_path)
    assert (measured.mel_mean, measured.mel_std) == (-2.0, 1.5)
    given = training_setup.with_measured(FrontendConfig(mel_mean=1.0), tmp_path)
    assert (given.mel_mean, given.mel_std) == (1.0, 1.5)
    header = json.loads((tmp_path / "dataset.json").read_text())
    header["log_mel"]["std"] = 0
    (tmp_path / "dataset.json").write_text(json.dumps(header))
    with pytest.raises(ManifestError, match="log_mel"):
        read_log_mel(tmp_path)


def test_a_manifest_without_the_numbers_keeps_its_bytes_and_trains_as_before(make_entry, tmp_path):
    entry = make_entry("a")
    write_manifest(tmp_path, classes=entry.labels, protocol="p", splits={"train": [entry]})
    assert "log_mel" not in (tmp_path / "train.jsonl").read_text()
    assert read_log_mel(tmp_path) is None
    found = training_setup.with_measured(FrontendConfig(), tmp_path)
    assert (found.mel_mean, found.mel_std) == (-0.3, 3.7)


@pytest.mark.parametrize(
    ("name", "numbers"),
    [
        ("demo", (-2.4, 2.2)),
        ("smoke", (-0.3, 3.7)),
        ("ucf101_av8", (-0.3, 3.7)),
        ("own", ("measured", "measured")),
    ],
)
def test_published_configurations_say_their_numbers(name, numbers):
    path = Path(__file__).parents[1] / f"configs/{name}.yaml"
    frontend = load_config(TrainConfig, ["--config", str(path)]).frontend
    assert (frontend.mel_mean, frontend.mel_std) == numbers
