"""Audio of other seconds than the video, audio without video, and any rate."""

import hashlib
import math
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torchaudio.transforms import Resample

from avmix.decode import (
    ClipError,
    ClipRangeError,
    DecodeError,
    Limits,
    MediaOpenError,
    NoAudioStreamError,
    NoVideoStreamError,
    decode_audio,
    decode_clip,
    decode_clips,
)
from avmix.decode.file_reader import FileReader
from avmix.decode.resample import _filter, resample
from tests.media import beep_times, read_counter, write_flash_beep
from tests.test_backends import ALL

RATE = 16_000
EVENTS = (0.4, 1.2, 2.0, 2.8, 3.6, 5.2, 6.84, 8.0)
FILES: dict[str, dict[str, Any]] = {
    "plain.mp4": {},
    "early_sound.mp4": {"video_start_seconds": 0.4},
    "late_sound.mp4": {"audio_start_seconds": 0.52},
    "plain.mkv": {},
    "early_sound.mkv": {"video_start_seconds": 0.4},
    "plain.ts": {"audio_codec": "aac"},
    "plain.avi": {"audio_codec": "pcm_s16le"},
}
BACKENDS_TAKE = (".mp4", ".mkv")
FileOf = Callable[[str], Path]


@pytest.fixture(scope="module")
def file_of(tmp_path_factory: pytest.TempPathFactory) -> FileOf:
    folder = tmp_path_factory.mktemp("shifted")

    def make(name: str) -> Path:
        path = folder / name
        if not path.exists():
            how = {"seconds": 9.0, "events_seconds": EVENTS, **FILES[name]}
            write_flash_beep(path, layout="stereo", **how)
        return path

    return make


def clock_of(name: str) -> np.ndarray:
    """Times of the beeps after the first frame."""
    how = FILES[name]
    return np.array([e for e in EVENTS if e > how.get("audio_start_seconds", 0.0)]) - how.get(
        "video_start_seconds", 0.0
    )


@ALL
@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize(
    ("start", "shift"),
    [(4.9, -4.3), (4.9, -2.0), (4.9, -0.13), (0.3, -0.7), (1.0, 0.37), (0.3, 4.6), (3.1, 5.5)],
)
def test_audio_of_other_seconds(
    file_of: FileOf, name: str, start: float, shift: float, backend: Any
) -> None:
    path = file_of(name)
    if backend != "pyav" and path.suffix not in BACKENDS_TAKE:
        pytest.skip("read by PyAV only")
    how: dict[str, Any] = {"duration_seconds": 1.7, "fps": 25, "backend": backend}
    clip = decode_clip(path, start_seconds=start, audio_shift_seconds=shift, channels=2, **how)
    plain = decode_clip(path, start_seconds=start, **how)
    assert [read_counter(frame) for frame in clip.video] == [
        read_counter(frame) for frame in plain.video
    ]
    assert np.array_equal(clip.video, plain.video)
    assert clip.start_seconds == start
    begin = start + shift
    beeps = clock_of(name)
    inside = beeps[(beeps > begin + 0.02) & (beeps < begin + 1.68)]
    for channel in clip.audio:
        found = beep_times(channel, RATE) + begin
        whole = found[(found > begin + 0.02) & (found < begin + 1.68)]
        np.testing.assert_allclose(whole, inside, atol=1e-3)
    late = FILES[name].get("audio_start_seconds", 0.0) - FILES[name].get("video_start_seconds", 0)
    covered = min(begin + 1.7, 9.0 + late) - max(begin, late)
    assert clip.audio_valid == pytest.approx(min(max(covered / 1.7, 0), 1), abs=0.035)
    if begin < late - 0.05:
        assert not clip.audio[:, : round((late - 0.03 - begin) * RATE)].any()


@pytest.mark.parametrize("name", FILES)
def test_a_shift_is_another_start(file_of: FileOf, name: str) -> None:
    # The same audio, to rounding, as beside the frames of these seconds.
    path, how = file_of(name), {"duration_seconds": 1.0, "fps": 5}
    shifted = decode_clip(path, start_seconds=3.0, audio_shift_seconds=-1.5, **how)
    there = decode_clip(path, start_seconds=1.5, **how)
    np.testing.assert_allclose(shifted.audio, there.audio, atol=2e-3)
    assert shifted.audio_valid == there.audio_valid


@ALL
@pytest.mark.parametrize(("shift", "wanted"), [(-2.0, 6.0 - 2.0 - 0.3), (1.0, 6.0 - 0.3)])
def test_reading_begins_before_the_earlier_of_both(
    file_of: FileOf, monkeypatch: pytest.MonkeyPatch, shift: float, wanted: float, backend: Any
) -> None:
    # Otherwise every window is sought several times, and read from the start of the file at last.
    sought, seek = [], FileReader._seek

    def noted(reader: Any, seconds: float) -> bool:
        sought.append(seconds)
        return seek(reader, seconds)

    monkeypatch.setattr(FileReader, "_seek", noted)
    decode_clip(file_of("plain.mp4"), start_seconds=6.0, duration_seconds=0.5, fps=5,
                audio_shift_seconds=shift, backend=backend)  # fmt: skip
    # Other backends take only the audio from here.
    assert sought[0] == pytest.approx(wanted if backend == "pyav" else 6.0 + shift - 0.3)
    assert len(sought) <= 2


def test_nothing_but_silence_beyond_both_ends(file_of: FileOf) -> None:
    for name in ("plain.mp4", "plain.mkv", "plain.ts", "plain.avi"):
        for shift in (-50.0, -4.0, 40.0):
            clip = decode_clip(file_of(name), start_seconds=1, duration_seconds=1, fps=5,
                               audio_shift_seconds=shift)  # fmt: skip
            assert (clip.audio.any(), clip.audio_valid) == (False, 0.0)
    with pytest.raises(ClipRangeError, match="has audio"):
        decode_clip(file_of("plain.mp4"), start_seconds=1, duration_seconds=1, fps=5,
                    audio_shift_seconds=-50, min_audio_valid=0.1)  # fmt: skip


@ALL
def test_several_windows_are_shifted_alike(file_of: FileOf, backend: Any) -> None:
    starts, how = (6.0, 0.2, 2.5), {"duration_seconds": 1.0, "fps": 5, "backend": backend}
    for shift in (-0.6, 1.1):
        clips = decode_clips(
            file_of("plain.mp4"), starts_seconds=starts, audio_shift_seconds=shift, **how
        )
        for start, clip in zip(starts, clips, strict=True):
            assert not isinstance(clip, ClipError)
            begin = start + shift
            wanted = [e - begin for e in EVENTS if begin + 0.02 < e < begin + 0.98]
            found = beep_times(clip.audio, RATE)
            found = found[(found > 0.02) & (found < 0.98)]
            np.testing.assert_allclose(found, wanted, atol=1e-3)


@pytest.mark.parametrize("shift", [math.nan, math.inf])
def test_a_shift_is_a_number(file_of: FileOf, shift: float) -> None:
    with pytest.raises(ValueError, match="audio_shift_seconds is"):
        decode_clip(file_of("plain.mp4"), start_seconds=0, duration_seconds=1, fps=5,
                    audio_shift_seconds=shift)  # fmt: skip


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("channels", [1, 2])
def test_audio_alone_is_that_of_the_clip(file_of: FileOf, name: str, channels: Any) -> None:
    for start, rate in ((0.0, RATE), (3.3, 14_550), (8.4, RATE)):
        window = {"start_seconds": start, "duration_seconds": 1.2, "sample_rate": rate}
        clip = decode_clip(file_of(name), fps=5, channels=channels, **window)
        audio = decode_audio(file_of(name), channels=channels, **window)
        assert np.array_equal(audio.audio, clip.audio)
        assert audio.audio_valid == clip.audio_valid
    after = decode_audio(file_of(name), start_seconds=30, duration_seconds=0.5, channels=channels)
    assert (after.audio.any(), after.audio_valid) == (False, 0.0)
    assert after.audio.shape == ((8000,) if channels == 1 else (2, 8000))


def test_audio_alone_refuses_what_a_clip_does(tmp_path: Path, file_of: FileOf) -> None:
    mute = write_flash_beep(tmp_path / "mute.mp4", audio_codec=None, seconds=1)
    blind = write_flash_beep(tmp_path / "blind.mp4", video_codec=None, seconds=1)
    (tmp_path / "text.mp4").write_text("no film")
    window: dict[str, Any] = {"start_seconds": 0, "duration_seconds": 0.5}
    for path, error in ((mute, NoAudioStreamError), (blind, NoVideoStreamError),
                        (tmp_path / "text.mp4", MediaOpenError),
                        (tmp_path / "none.mp4", FileNotFoundError)):  # fmt: skip
        with pytest.raises(error):
            decode_audio(path, **window)
    media = file_of("plain.mp4")
    with pytest.raises(ClipRangeError, match="start_seconds is -1"):
        decode_audio(media, start_seconds=-1, duration_seconds=1)
    with pytest.raises(MediaOpenError):
        decode_audio(media, limits=Limits(max_streams=1), **window)
    with pytest.raises(DecodeError, match="is not the file it was"):
        decode_audio(media, sha256="0" * 64, **window)
    assert (
        decode_audio(
            media, sha256=hashlib.sha256(media.read_bytes()).hexdigest(), **window
        ).audio_valid
        == 1
    )


# Rates: any multiple of 50 Hz.

RATES = (8000, 12_800, 13_350, 14_550, 16_000, 17_750, 19_950, 20_000, 31_950)


@pytest.mark.parametrize(
    ("rate", "new_rate"),
    # The last two have so little in common that libav does it.
    [*product((22_050, 44_100, 48_000), RATES), (11_025, 32_000), (44_101, 16_000)],
)
def test_a_tone_keeps_its_time_whatever_the_rate(rate: int, new_rate: int) -> None:
    time, new_time = np.arange(rate) / rate, np.arange(new_rate) / new_rate
    wave, wanted = (
        np.sin(2 * np.pi * 441 * t) + 0.5 * np.cos(2 * np.pi * 2900 * t) for t in (time, new_time)
    )
    found = resample(wave.astype(np.float32), rate, new_rate)
    assert abs(len(found) - new_rate) <= 1
    inner = slice(new_rate // 20, -new_rate // 20)
    np.testing.assert_allclose(found[:new_rate][inner], wanted[: len(found)][inner], atol=2e-3)


@pytest.mark.parametrize("rate", [22_050, 44_100, 48_000])
@pytest.mark.parametrize("new_rate", [8000, 12_850, 14_550, 16_000, 17_750, 32_000, 96_000])
def test_a_filter_that_is_kept_small_is_the_whole_one(rate: int, new_rate: int) -> None:
    whole = Resample(rate, new_rate, resampling_method="sinc_interp_kaiser",
                     lowpass_filter_width=16)  # fmt: skip
    small = _filter(rate, new_rate)
    assert isinstance(whole.kernel, torch.Tensor)
    assert torch.equal(small.whole(), whole.kernel)
    assert small.num_bytes <= 200_000
    wave = np.random.default_rng(0).standard_normal(5000).astype(np.float32)
    assert np.array_equal(resample(wave, rate, new_rate), whole(torch.from_numpy(wave)).numpy())
