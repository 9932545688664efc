"""Onsets are found where sounds begin, motion where frames change, and `avmix events` says so."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from avmix.cli import main
from avmix.data.manifest import read_manifest, write_manifest
from avmix.media.judgement import entry_of
from avmix.media.onsets import GRID_HZ, motion_energy, onset_strength, onset_times
from avmix.synth import actions as act
from avmix.synth.action_audio import audio_of
from avmix.synth.action_scenes import draw_scene, draw_world
from tests.media import draw_audio, write_flash_beep

ROOT = Path(__file__).parents[1]
BURST_BEGINS = 0.008  # of a tone burst of 16 ms, before its middle
WITHIN_SECONDS = 0.02


def matched(found: np.ndarray, true: np.ndarray) -> tuple[int, int]:
    """True events that were found, and found ones that are true, within 20 ms."""
    if not len(found) or not len(true):
        return 0, 0
    apart = np.abs(found[:, None] - true[None])
    return int((apart.min(0) < WITHIN_SECONDS).sum()), int((apart.min(1) < WITHIN_SECONDS).sum())


def test_clicks_are_found_to_the_millisecond() -> None:
    audio = np.zeros(32_000, np.float32)
    at = [4_000, 9_999, 20_480]
    for index in at:
        audio[index : index + 400] = np.linspace(0.5, 0, 400, dtype=np.float32)
    np.testing.assert_allclose(onset_times(audio, 16_000), np.array(at) / 16_000, atol=0.001)


@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100, 48_000])
def test_bursts_are_found_where_they_begin_at_any_rate(rate: int) -> None:
    events = (0.4, 1.2, 2.0, 2.8, 3.6)
    audio = draw_audio(seconds=4.0, rate=rate, start_seconds=0.0, events_seconds=events)
    expected = np.array(events) - BURST_BEGINS
    np.testing.assert_allclose(onset_times(audio, rate), expected, atol=0.006)


def test_the_strength_is_on_its_grid_and_is_high_at_onsets_only() -> None:
    audio = draw_audio(seconds=2.0, rate=16_000, start_seconds=0.0, events_seconds=(0.5, 1.5))
    strength = onset_strength(audio, 16_000)
    assert strength.shape == (2 * GRID_HZ + 1,)
    assert strength.min() == 0
    loud = np.flatnonzero(strength > 0.3 * strength.max()) / GRID_HZ
    assert np.abs(np.abs(loud - 1.0) - 0.5).max() < 0.04


@pytest.mark.parametrize(
    "audio", [np.zeros(0, np.float32), np.zeros(16_000, np.float32), np.full(9, 0.1, np.float32)]
)
def test_silence_and_hardly_any_audio_have_no_onset(audio: np.ndarray) -> None:
    assert onset_times(audio, 16_000).tolist() == []
    assert onset_strength(audio, 16_000).min() == 0


def test_a_steady_tone_and_hiss_begin_never() -> None:
    at = np.arange(48_000) / 16_000
    tone = np.sin(2 * np.pi * 440 * at).astype(np.float32)
    hiss = np.random.default_rng(0).standard_normal(48_000).astype(np.float32) * 0.1
    for audio in (tone, hiss, tone + hiss):
        inside = onset_times(audio, 16_000)
        assert len(inside[(inside > 0.1) & (inside < 2.9)]) <= 1


def test_the_level_of_a_recording_does_not_matter() -> None:
    audio = draw_audio(seconds=2.0, rate=16_000, start_seconds=0.0, events_seconds=(0.5, 1.5))
    quiet = onset_times(audio * np.float32(0.01), 16_000)
    np.testing.assert_allclose(quiet, onset_times(audio, 16_000), atol=0.001)


@pytest.mark.parametrize(
    ("difficulty", "recall", "precision"), [(0.0, 1.0, 0.93), (0.5, 0.95, 0.93)]
)
def test_precision_and_recall_on_the_toys_audio(
    difficulty: float, recall: float, precision: float
) -> None:
    """Of everything that sounds, also what only distracts: the ear cannot know what is meant."""
    num_true = num_found = hits = right = 0
    for number in range(30):
        address = (7, number)
        world = draw_world((*address, 1), difficulty=difficulty)
        scene = draw_scene((*address, 2), action=act.ACTIONS[number % 10], world=world,
                               difficulty=difficulty)  # fmt: skip
        found = onset_times(audio_of(scene), act.RATE_HZ)
        meant = np.array([t for t in scene.onset_seconds if 0.01 < t < 3.19])
        every = np.array([t for voice in scene.voices for t in voice.onset_seconds])
        hits += matched(found, meant)[0]
        right += matched(found[found > 0.01], every)[1]
        num_true, num_found = num_true + len(meant), num_found + int((found > 0.01).sum())
    assert num_true > 80
    assert hits / num_true >= recall
    assert right / num_found >= precision


def test_motion_is_the_mean_difference_of_grey() -> None:
    video = np.zeros((4, 2, 2, 3), np.uint8)
    video[1, 0, 0] = 255  # one pixel of four turns white
    video[2] = video[1]
    video[3] = video[2]
    video[3, 1, 1] = (255, 0, 0)  # one turns red: 0.299 in grey
    np.testing.assert_allclose(motion_energy(video), [0, 0.25, 0, 0.299 / 4], atol=1e-6)
    assert motion_energy(video[:1]).tolist() == [0.0]


def run_events(*arguments: str) -> int:
    with pytest.raises(SystemExit) as stop:
        main(["events", *arguments])
    return int(stop.value.code or 0)


def events_in(folder: Path) -> dict[str, list[float]]:
    rows = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
    assert all(set(row) == {"clip_id", "event_seconds"} for row in rows)
    return {row["clip_id"]: row["event_seconds"] for row in rows}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Flashes and beeps; audio that begins late; a stretch of a file; a file without audio."""
    media = tmp_path / "media"
    media.mkdir()
    entries = []
    for name, options in {
        "plain": {},
        "late": {"video_start_seconds": 0.8, "events_seconds": (1.2, 2.0, 2.8)},
        "part": {},
        "mute": {"audio_codec": None},
    }.items():
        path = write_flash_beep(media / f"{name}.mp4", **options)
        entry = entry_of(path, media, clip_id=name, labels=("x",), source_id=name)
        entries.append(entry)
    entries[2] = replace(entries[2], start_seconds=1.0, end_seconds=2.5)
    write_manifest(media, classes=["x"], protocol="made/1",
                   splits={"train": entries, "test": [replace(entries[0], clip_id="t",
                                                              source_id="t")]})  # fmt: skip
    return media


def test_events_are_on_the_clock_of_the_file(folder: Path) -> None:
    assert run_events("--root", str(folder)) == 0
    found = events_in(folder)
    expected = {
        "plain": [0.4, 1.2, 2.0, 2.8, 3.6],
        "late": [0.4, 1.2, 2.0],  # 0 is the first frame
        "part": [1.2, 2.0],
        "mute": [],
    }
    assert list(found) == list(expected)
    for name, events in expected.items():
        np.testing.assert_allclose(found[name], np.array(events) - BURST_BEGINS, atol=0.006)


def test_events_of_chosen_splits_by_several_processes(folder: Path) -> None:
    assert run_events("--root", str(folder), "--splits", "train", "test") == 0
    one = (folder / "events.jsonl").read_bytes()
    assert list(events_in(folder)) == ["plain", "late", "part", "mute", "t"]
    more = ["--splits", "train", "test", "--workers", "2", "--overwrite"]
    assert run_events("--root", str(folder), *more) == 0
    assert (folder / "events.jsonl").read_bytes() == one


def test_what_is_there_is_not_overwritten(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "events.jsonl").write_text("mine")
    assert run_events("--root", str(folder)) == 1
    assert "replace it with --overwrite" in capsys.readouterr().err
    assert (folder / "events.jsonl").read_text() == "mine"
    assert run_events("--root", str(folder), "--splits", "val") == 1
    assert run_events("--root", str(folder / "no"), "--overwrite") == 1
    error = capsys.readouterr().err
    assert "events.jsonl cannot be written: there is no such folder" in error
    assert error.count("\n") == 2


def test_unreadable_files_are_named_and_have_no_line(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "late.mp4").unlink()
    (folder / "part.mp4").write_bytes(b"not a film")
    assert run_events("--root", str(folder)) == 1
    assert list(events_in(folder)) == ["plain", "mute"]
    error = capsys.readouterr().err
    assert "2 of 4 clips cannot be read" in error
    assert "late.mp4: FileNotFoundError: No such file" in error
    assert "part.mp4: " in error


@pytest.mark.long
def test_precision_and_recall_on_files_of_the_toy_set(tmp_path: Path) -> None:
    """Clean files, so that every sound is an event: through the codec, and back."""
    make = [sys.executable, str(ROOT / "datasets/toy/make.py"), "--out", str(tmp_path / "toy"),
            "--train", "10", "--val", "1", "--test", "1", "--difficulty", "0",
            "--workers", "1"]  # fmt: skip
    subprocess.run(make, check=True, capture_output=True)
    truth = tmp_path / "toy/events.jsonl"
    rows = [json.loads(line) for line in truth.read_text().splitlines()]
    true = {row["clip_id"]: np.array(row["event_seconds"]) for row in rows}
    assert run_events("--root", str(tmp_path / "toy"), "--overwrite") == 0
    found = {name: np.array(times) for name, times in events_in(tmp_path / "toy").items()}
    assert list(found) == [e.clip_id for e in read_manifest(tmp_path / "toy", "train").entries]
    hits = sum(matched(times, true[name])[0] for name, times in found.items())
    right = sum(matched(times[times > 0.01], true[name])[1] for name, times in found.items())
    assert hits / sum(len(true[name]) for name in found) > 0.97
    assert right / sum((times > 0.01).sum() for times in found.values()) > 0.9
