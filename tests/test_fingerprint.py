"""Fingerprints: the same clip in another form is near, another clip is far."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from avmix.media.fingerprint import (
    AUDIO_HZ,
    COLUMNS_HZ,
    FRAME_BITS,
    audio_hash_distance,
    audio_hashes,
    fingerprint_of,
    frame_hash_distance,
    frame_hashes,
)
from avmix.media.judgement import entry_of
from avmix.tools.leak_search import MAX_AUDIO_SHARE, MAX_FRAME_BITS
from avmix.types import Entry
from tests.scenes import scene, speech, write_scene


def _shrink(video: np.ndarray, times: int) -> np.ndarray:
    t, h, w, c = video.shape
    parts = video.reshape(t, h // times, times, w // times, times, c)
    return parts.mean((2, 4)).astype(np.uint8)


def test_hashes_of_frames_by_hand() -> None:
    # Brighter to the left, and nothing else: of all waves only those along the row are there.
    row = np.linspace(250, 5, 64).astype(np.uint8)
    left = np.broadcast_to(row[None, None, :, None], (1, 48, 64, 3)).copy()
    hashes = frame_hashes(np.concatenate([left, 255 - left]))
    assert hashes.shape == (2, 2)
    # The lowest wave along the row (bit 0 or 1 of grey) is positive in one, negative in the other.
    lowest = (hashes[:, 0] & np.uint64(3)).tolist()
    assert sorted(lowest) != [lowest[0]] * 2
    assert frame_hash_distance(hashes[:1], hashes[:1]) == 0
    assert frame_hash_distance(hashes[:1], hashes[1:]) > 0
    assert int(hashes[:, 0].max()) < 2**63  # 63 bits of grey


def test_what_is_flat_has_no_hash() -> None:
    black = np.zeros((3, 144, 192, 3), np.uint8)
    some = np.concatenate([black, scene(0, 1), black + 77])
    assert frame_hashes(some).shape == (1, 2)
    assert frame_hash_distance(frame_hashes(black), frame_hashes(some)) == FRAME_BITS


@pytest.mark.parametrize("num", [1, 2, 3, 64])
def test_each_frame_has_its_own_hash(num: int) -> None:
    video = scene(1, num)
    before = video.copy()
    hashes = frame_hashes(video)
    assert (video == before).all()
    assert (hashes == np.concatenate([frame_hashes(v[None]) for v in video])).all()


def test_smaller_brighter_and_cropped_frames_stay_near_and_others_far() -> None:
    for seed in range(8):
        video = scene(seed, 1)
        own = frame_hashes(video)
        other = frame_hashes(scene(seed + 100, 1))
        bright = np.clip(video * 0.8 + 30, 0, 255).astype(np.uint8)
        h, w = video.shape[1:3]
        cropped = video[:, h // 50 : -(h // 50), w // 50 : -(w // 50)]
        for changed in (_shrink(video, 2), bright, cropped):
            assert frame_hash_distance(own, frame_hashes(changed)) <= MAX_FRAME_BITS
        assert frame_hash_distance(own, other) > MAX_FRAME_BITS + 4


def test_audio_of_another_level_stay_near_and_are_found_where_they_are() -> None:
    wave = speech(0, 6.0)
    whole = audio_hashes(wave)
    later = audio_hashes(0.3 * wave[2 * AUDIO_HZ :])
    lags = np.arange(-100, 101)
    share, columns = audio_hash_distance(whole, later, lags)
    assert share < 0.05
    assert columns > 3 * COLUMNS_HZ
    exact, _ = audio_hash_distance(whole, later, np.array([2 * COLUMNS_HZ]))
    assert exact == share  # the lag that is right is the best
    wrong, _ = audio_hash_distance(whole, audio_hashes(speech(1, 6.0)), np.arange(-3, 4))
    assert wrong > MAX_AUDIO_SHARE + 0.05


def test_silence_has_hashes_of_zero_and_is_like_nothing() -> None:
    quiet = audio_hashes(np.zeros(4 * AUDIO_HZ, np.float32))
    assert len(quiet) == 4 * COLUMNS_HZ - 12
    assert not quiet.any()
    noise = np.random.default_rng(0).normal(0, 1e-4, 4 * AUDIO_HZ).astype(np.float32)
    assert not audio_hashes(noise).any()  # -80 dBFS
    assert audio_hash_distance(quiet, quiet, np.array([0])) == (1.0, 0)
    assert len(audio_hashes(np.zeros(100, np.float32))) == 0


def test_a_file_in_another_form_is_near(tmp_path: Path) -> None:
    def of(path: Path) -> Entry:
        return entry_of(path, tmp_path, clip_id=path.stem, labels=("x",), source_id=path.stem)

    first = of(write_scene(tmp_path / "a.mp4", seed=3, seconds=4))
    again = of(write_scene(tmp_path / "b.mkv", seed=3, seconds=4, size=(96, 72), crf=34,
                           audio_bit_rate=32_000))  # fmt: skip
    other = of(write_scene(tmp_path / "c.mp4", seed=4, seconds=4))
    a, b, c = (fingerprint_of(tmp_path, e) for e in (first, again, other))
    assert a.frames.shape == (4, 2)
    assert len(a.audio) > 100
    lags = np.arange(-2, 3)
    assert frame_hash_distance(a.frames, b.frames) <= MAX_FRAME_BITS // 2
    assert audio_hash_distance(a.audio, b.audio, lags)[0] < MAX_AUDIO_SHARE - 0.05
    assert frame_hash_distance(a.frames, c.frames) > MAX_FRAME_BITS
    assert audio_hash_distance(a.audio, c.audio, lags)[0] > MAX_AUDIO_SHARE + 0.05


def test_a_stretch_is_what_counts(tmp_path: Path) -> None:
    path = write_scene(tmp_path / "a.mp4", seed=5, seconds=4)
    entry = entry_of(path, tmp_path, clip_id="a", labels=("x",), source_id="a")
    part = fingerprint_of(tmp_path, replace(entry, start_seconds=1.0, end_seconds=3.0))
    whole = fingerprint_of(tmp_path, entry)
    assert len(part.frames) == 2
    assert (part.frames == whole.frames[1:3]).all()
    share, columns = audio_hash_distance(whole.audio, part.audio, np.array([COLUMNS_HZ]))
    assert share < 0.02
    assert columns > 40


def test_what_cannot_be_read_says_why(tmp_path: Path, make_entry: Callable[..., Entry]) -> None:
    entry = make_entry("gone")
    assert "FileNotFoundError" in fingerprint_of(tmp_path, entry).problem
    (tmp_path / "gone.mp4").write_bytes(b"x" * 10)
    assert "another file" in fingerprint_of(tmp_path, entry).problem
    (tmp_path / "gone.mp4").write_bytes(b"x" * 1000)
    assert "MediaOpenError" in fingerprint_of(tmp_path, entry).problem
