"""The toy set: real files, honest rows, sounds at their events, and ceilings that follow."""

import hashlib
import json
import subprocess
import sys
from collections import Counter
from importlib import import_module
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from avmix.data.manifest import read_manifest
from avmix.synth.action_scenes import draw_scene, draw_world

FOLDER = Path(__file__).parents[1] / "datasets" / "toy"
SMALL = ("--train", "10", "--val", "2", "--test", "3", "--difficulty", "0")
SPLITS = ("train", "val", "test")


@pytest.fixture(scope="module")
def maker() -> Any:
    return import_module("avmix.recipes.toy")


@pytest.fixture(scope="module")
def clean(maker: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small set at difficulty 0, made by one process."""
    out = tmp_path_factory.mktemp("toy") / "clean"
    assert maker.main(["--out", str(out), *SMALL, "--workers", "1"]) == 0
    return out


def frames_of(path: Path) -> tuple[np.ndarray, list[float]]:
    with av.open(str(path)) as file:
        frames = list(file.decode(video=0))
    times = [float(f.pts * f.time_base) for f in frames if f.pts is not None and f.time_base]
    return np.stack([f.to_ndarray(format="rgb24") for f in frames]), times


def audio_of(path: Path) -> tuple[np.ndarray, float]:
    with av.open(str(path)) as file:
        frames = list(file.decode(audio=0))
    first = frames[0]
    assert first.pts is not None
    assert first.time_base is not None
    samples = np.concatenate([f.to_ndarray()[0] for f in frames])
    return samples, float(first.pts * first.time_base)


def truth_of(out: Path) -> dict[str, dict[str, Any]]:
    rows = [json.loads(line) for line in (out / "events.jsonl").read_text().splitlines()]
    return {row["clip_id"]: row for row in rows}


def hashes_of(out: Path) -> dict[str, str]:
    files = sorted(p for p in out.rglob("*") if p.is_file())
    return {str(p.relative_to(out)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


@pytest.mark.long
def test_rows_say_what_the_files_are(clean: Path):
    for split in SPLITS:
        for entry in read_manifest(clean, split).entries:
            path = clean / entry.path
            assert entry.path == f"{entry.clip_id}.mp4"
            assert entry.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
            assert entry.bytes == path.stat().st_size
            assert (entry.start_seconds, entry.end_seconds) == (0, 3.2)
            frames, times = frames_of(path)
            assert entry.video is not None
            assert frames.shape == (entry.video.num_frames, 96, 96, 3) == (80, 96, 96, 3)
            np.testing.assert_allclose(times, np.arange(80) / 25)
            samples, start_seconds = audio_of(path)
            assert entry.audio is not None
            assert start_seconds == entry.audio.start_seconds == 0
            assert len(samples) == 51_200 == entry.audio.duration_seconds * 16_000
            rms_dbfs = 10 * np.log10(np.mean(samples.astype(np.float64) ** 2))
            assert abs(rms_dbfs - entry.audio.rms_dbfs) < 0.2
            assert not entry.audio.silent
            with av.open(str(path)) as file:
                assert (file.streams.video[0].start_time, file.streams.audio[0].start_time) == (
                    0,
                    0,
                )
                assert file.streams.video[0].codec_context.name == entry.video.codec == "h264"
                assert file.streams.audio[0].codec_context.name == entry.audio.codec == "aac"
                assert file.streams.audio[0].rate == entry.audio.rate_hz == 16_000
                keys = [p.pts for p in file.demux(video=0) if p.is_keyframe and p.size]
            assert len(keys) >= 80 / 12  # a key frame at least every 12


def onset_after(samples: np.ndarray, seconds: float) -> float:
    """When the audio first rises to a tenth of its peak, from 20 ms before `seconds` on."""
    begin = int((seconds - 0.02) * 16_000)
    part = np.abs(samples[begin : begin + 1600])
    return (begin + int(np.argmax(part > 0.1 * part.max()))) / 16_000


def test_audio_start_at_their_events(clean: Path):
    # Claps and chirps are over before the next event, so their onsets can be seen bare.
    errors = []
    for clip_id, row in truth_of(clean).items():
        assert row["onset_seconds"] == row["event_seconds"]
        if clip_id.split("_")[1] in ("clap", "chirp"):
            samples, _ = audio_of(clean / f"{clip_id}.mp4")
            inner = [t for t in row["event_seconds"] if 0.05 < t < 3.1]
            assert len(inner) >= 3
            errors += [onset_after(samples, t) - t for t in inner]
    assert len(errors) >= 9
    assert np.abs(errors).max() < 0.001


def body_of(frames: np.ndarray) -> np.ndarray:
    """Where a frame differs from the median one: the body, not its shadow, of a clean clip."""
    change = np.abs(frames.astype(int) - np.median(frames, axis=0)).sum(axis=-1)
    return change > 120


def clips_of(out: Path, motion: str) -> list[str]:
    found = [clip_id for clip_id in truth_of(out) if clip_id.split("/")[1].startswith(motion)]
    assert found
    return found


def nearest_seconds(frames: np.ndarray, seconds: float) -> float:
    return float(np.abs(frames / 25 - seconds).min())


@pytest.mark.long
def test_a_bounce_is_lowest_at_its_events(clean: Path):
    for clip_id in clips_of(clean, "bounce"):
        frames, _ = frames_of(clean / f"{clip_id}.mp4")
        mask = body_of(frames)
        rows = np.arange(96)
        height = np.array([(m.sum(axis=1) * rows).sum() / m.sum() for m in mask])
        low = np.flatnonzero((height[1:-1] >= height[:-2]) & (height[1:-1] > height[2:])) + 1
        for seconds in truth_of(clean)[clip_id]["event_seconds"]:
            if 0.1 < seconds < 3.0:
                assert nearest_seconds(low, seconds) <= 1 / 25


def test_a_pulse_snaps_back_at_its_events(clean: Path):
    for clip_id in clips_of(clean, "pulse"):
        frames, _ = frames_of(clean / f"{clip_id}.mp4")
        luma = frames.astype(float).mean(axis=-1)
        change = np.abs(np.diff(luma, axis=0)).sum(axis=(1, 2))
        snaps = np.flatnonzero(change > 0.5 * change.max()) + 1
        for seconds in truth_of(clean)[clip_id]["event_seconds"]:
            if 0.1 < seconds < 3.1:
                # The first frame at or after the event is the first small one.
                assert int(np.ceil(seconds * 25)) in snaps


@pytest.mark.long
def test_every_event_flashes(clean: Path):
    """The body bleaches in the first frame at or after an event, and not before it."""
    for clip_id, row in truth_of(clean).items():
        frames, _ = frames_of(clean / f"{clip_id}.mp4")
        # Of all there is to see the body has the strongest colour, until it is lit.
        colour = np.ptp(frames.astype(int), axis=-1).reshape(80, -1)
        strongest = np.sort(colour, axis=1)[:, -40:].mean(axis=1)
        for seconds in row["event_seconds"]:
            first = int(np.ceil(seconds * 25))
            if 2 <= first < 80:
                assert strongest[first] < 0.85 * strongest[first - 1]
                assert strongest[first - 1] > 0.95 * strongest[first - 2]


def test_the_grid_gives_the_ceilings(maker: Any):
    names = [action.name for action in maker.act.ACTIONS]
    assert names == [
        "bounce_thud",
        "bounce_ping",
        "bounce_clap",
        "swing_ping",
        "swing_clap",
        "swing_chirp",
        "spin_thud",
        "spin_chirp",
        "pulse_thud",
        "pulse_ping",
    ]
    for part in (0, 1):
        shared = Counter(name.split("_")[part] for name in names)
        assert sorted(shared.values()) == [2, 2, 3, 3]
    # Four motions, four sounds, ten pairs: one class in each group is guessed right.
    best = maker.act.ceilings(maker.act.ACTIONS)
    assert (best.fused, best.video, best.audio) == (1.0, 0.4, 0.4)
    best = maker.act.ceilings(maker.act.TIMING_ACTIONS)
    assert (best.fused, best.video, best.audio) == (1.0, 0.25, 0.25)


def test_splits_are_balanced_and_share_no_source(maker: Any, tmp_path: Path):
    arguments = maker.Arguments(train=640, val=96, test=240, seed=0, difficulty=0.5, timing=False)
    jobs = list(maker.jobs_of(tmp_path, arguments))
    for split, low, high in (("train", 64, 64), ("val", 9, 10), ("test", 24, 24)):
        counts = Counter(job.action.name for job in jobs if job.split == split)
        assert len(counts) == 10
        assert (min(counts.values()), max(counts.values())) == (low, high)
    assert not list(tmp_path.iterdir())


def test_sources_are_worlds(clean: Path):
    sources = {s: [e.source_id for e in read_manifest(clean, s).entries] for s in SPLITS}
    assert Counter(sources["train"]) == {"train-0000": 4, "train-0001": 4, "train-0002": 2}
    assert not set(sources["train"]) & set(sources["val"])
    assert not set(sources["train"]) & set(sources["test"])
    assert not set(sources["val"]) & set(sources["test"])


def test_worlds_differ_between_splits_and_sources(maker: Any):
    addresses = [(0, split, 1, source) for split in range(3) for source in range(4)]
    worlds = {draw_world(address, difficulty=0.5) for address in addresses}
    assert len(worlds) == 12


@pytest.mark.long
def test_workers_and_place_change_no_byte(clean: Path, tmp_path: Path):
    command = [sys.executable, str(FOLDER / "make.py"), "--out", str(tmp_path / "other"), *SMALL]
    subprocess.run([*command, "--workers", "2"], check=True, capture_output=True)
    assert hashes_of(tmp_path / "other") == hashes_of(clean)


def test_the_seed_and_the_difficulty_change_the_clips(maker: Any):
    def scene(seed: int, difficulty: float) -> Any:
        world = draw_world((seed, 0, 1, 0), difficulty=difficulty)
        return draw_scene(
            (seed, 0, 2, 0), action=maker.act.ACTIONS[0], world=world, difficulty=difficulty
        )

    assert scene(0, 0.5) == scene(0, 0.5)
    assert scene(0, 0.5) != scene(1, 0.5)
    # The knob moves the same scene: no other distractor, only a stronger one.
    easy, mild, hard = (scene(0, d) for d in (0.0, 0.5, 1.0))
    assert easy.bodies[0].motion == mild.bodies[0].motion == hard.bodies[0].motion
    assert easy.bodies[0].opacity == 0 < mild.bodies[0].opacity <= hard.bodies[0].opacity
    assert easy.voices[1].gain == 0 < mild.voices[1].gain < hard.voices[1].gain
    assert easy.hiss == easy.frame_noise == 0
    assert 0 < mild.hiss < hard.hiss
    assert 0 < mild.frame_noise < hard.frame_noise


def test_timing_classes_differ_in_timing_alone(maker: Any):
    shifts: dict[str, set[float]] = {}
    motions: dict[str, set[str]] = {}
    sounds: dict[str, set[str]] = {}
    for index in range(200):
        action = maker.act.TIMING_ACTIONS[index % 4]
        world = draw_world((0, 0, 1, index), difficulty=0.5)
        scene = draw_scene((0, 0, 2, index), action=action, world=world, difficulty=0.5)
        pairs = zip(scene.voices[0].onset_seconds, scene.bodies[-1].event_seconds, strict=False)
        shifts.setdefault(action.name, set()).update(round(a - b, 5) for a, b in pairs)
        motions.setdefault(action.name, set()).add(scene.bodies[-1].motion)
        sounds.setdefault(action.name, set()).add(scene.voices[0].sound)
    assert shifts["together"] == {0.0}
    assert shifts["after"] == {0.25}
    assert shifts["before"] == {-0.25}
    assert len(shifts["unrelated"]) > 100
    assert all(found == {"bounce", "swing", "spin", "pulse"} for found in motions.values())
    assert all(found == {"thud", "ping", "clap", "chirp"} for found in sounds.values())


def test_timing_set_is_made(maker: Any, tmp_path: Path):
    arguments = ["--train", "4", "--val", "1", "--test", "1", "--timing", "--workers", "1"]
    assert maker.main(["--out", str(tmp_path), *arguments]) == 0
    manifest = read_manifest(tmp_path, "train")
    assert manifest.classes == ("together", "after", "before", "unrelated")
    assert manifest.protocol == "toy_timing/v1/seed0/difficulty0.5/4-1-1"


def test_pairs_that_are_never_trained_on_are_a_split_of_their_own(maker: Any, tmp_path: Path):
    """Every motion and every noise is trained on, six of their pairs never; each modality has its
    own label."""
    arguments = maker.Arguments(train=40, val=10, test=12, seed=0, difficulty=0.5, timing=False,
                                factors=True)  # fmt: skip
    jobs = list(maker.jobs_of(tmp_path, arguments))
    pairs = {s: {maker.act.factors_of(job.action) for job in jobs if job.split == s}
             for s in arguments.splits}  # fmt: skip
    assert {split: len(found) for split, found in pairs.items()} == {
        "train": 10, "val": 10, "test": 10, "unseen": 6,
    }  # fmt: skip
    assert pairs["train"] == pairs["test"] == pairs["val"]
    assert pairs["unseen"] == {
        ("bounce", "chirp"), ("swing", "thud"), ("spin", "ping"), ("spin", "clap"),
        ("pulse", "clap"), ("pulse", "chirp"),
    }  # fmt: skip
    for place in (0, 1):
        assert {p[place] for p in pairs["unseen"]} <= {p[place] for p in pairs["train"]}
    plain = maker.Arguments(train=40, val=10, test=12, seed=0, difficulty=0.5, timing=False)
    same = [j for j in jobs if j.split != "unseen"]
    assert [(j.split, j.index, j.action) for j in same] == [
        (j.split, j.index, j.action) for j in maker.jobs_of(tmp_path, plain)
    ]
    assert "factors" not in plain.notes  # sets that are older than the option stay as they are


def test_a_set_of_factors_is_made(maker: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    sizes = ["--train", "10", "--val", "1", "--test", "1", "--workers", "1"]
    assert maker.main(["--out", str(tmp_path), *sizes, "--factors"]) == 0
    manifest = read_manifest(tmp_path, "unseen")
    assert manifest.classes == ("bounce", "swing", "spin", "pulse", "thud", "ping", "clap",
                                "chirp")  # fmt: skip
    entry = manifest.entries[0]
    assert entry.labels == (*(entry.video_labels or ()), *(entry.audio_labels or ()))
    assert entry.path == f"unseen/{'_'.join(entry.labels)}_0000.mp4"
    assert manifest.several_labels
    assert maker.main(["--out", str(tmp_path), *sizes]) == 1
    assert "factors is True, not None" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        maker.main(["--out", str(tmp_path), *sizes, "--factors", "--timing"])


def test_a_second_run_does_nothing(clean: Path, maker: Any, capsys: pytest.CaptureFixture[str]):
    before = {p: p.stat().st_mtime_ns for p in clean.rglob("*")}
    assert maker.main(["--out", str(clean), *SMALL]) == 0
    assert "already made" in capsys.readouterr().out
    assert {p: p.stat().st_mtime_ns for p in clean.rglob("*")} == before


@pytest.mark.long
def test_other_arguments_are_refused_unless_told(
    maker: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    common = ["--out", str(tmp_path), "--train", "10", "--test", "1", "--workers", "1"]
    assert maker.main([*common, "--val", "2"]) == 0
    (tmp_path / "train" / "mine.mp4").write_bytes(b"not the maker's")
    first = hashes_of(tmp_path)
    assert maker.main([*common, "--val", "1", "--seed", "7"]) == 1
    message = capsys.readouterr().err
    assert "seed is 0, not 7" in message
    assert "val is 2, not 1" in message
    assert "--overwrite" in message
    assert hashes_of(tmp_path) == first
    assert maker.main([*common, "--val", "1", "--seed", "7", "--overwrite"]) == 0
    assert read_manifest(tmp_path, "val").protocol == "toy/v1/seed7/difficulty0.5/10-1-1"
    assert len(list((tmp_path / "val").iterdir())) == 1  # nothing of the old set is left
    assert (tmp_path / "train" / "mine.mp4").exists()
    next((tmp_path / "test").iterdir()).unlink()
    assert maker.main([*common, "--val", "1", "--seed", "7"]) == 1
    assert "is gone or damaged" in capsys.readouterr().err


@pytest.mark.parametrize(
    "wrong", [("--difficulty", "1.1"), ("--train", "9"), ("--test", "0"), ("--workers", "0")]
)
def test_impossible_arguments_are_refused(maker: Any, tmp_path: Path, wrong: tuple[str, str]):
    with pytest.raises(SystemExit) as error:
        maker.main(["--out", str(tmp_path / "set"), *wrong])
    assert error.value.code == 2
    assert not (tmp_path / "set").exists()
