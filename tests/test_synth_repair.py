"""Re-pairing: sounds of the class, of another source and of train only, moved to where they fit."""

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from avmix.cli import main
from avmix.config import DataConfig
from avmix.data.manifest import read_manifest, write_manifest
from avmix.data.train_clips import train_clips
from avmix.decode import decode_clip
from avmix.media.judgement import entry_of
from avmix.media.whole_clip import audio_of, frames_of, motion_of, num_frames_of
from avmix.synth.alignment import GRID_HZ, align, audio_envelope, motion_envelope
from avmix.synth.parent_clips import read_parents
from avmix.synth.repair import RepairOptions, draw_order, placed_in_silence
from avmix.synth.synthetic_set import Outcome, Plan, do_all, prepare
from avmix.types import Entry
from tests.media import beep_times, read_counter, write_flash_beep

ROOT = Path(__file__).parents[1]
FLASHES = (0.4, 1.2, 2.2, 2.8)
"""No two steps are equal, so that only one shift fits."""


def times_moved(seconds: float) -> tuple[float, ...]:
    return tuple(round(t + seconds, 4) for t in FLASHES)


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Class x: events of one rhythm, in each clip at another time. Class y: a steady hum."""
    folder = tmp_path_factory.mktemp("repair") / "real"
    folder.mkdir()
    recipes = {
        "x0": ("x", {"events_seconds": FLASHES}),
        "x1": ("x", {"events_seconds": times_moved(0.32)}),
        "x2": ("x", {"events_seconds": times_moved(-0.28)}),
        "mute": ("x", {"audio_codec": None}),
        "silent": ("x", {"events_seconds": (), "seconds": 4.0}),
        "brief": ("x", {"events_seconds": (0.4,), "seconds": 1.0}),
        "y0": ("y", {"events_seconds": (0.4, 1.2, 2.0, 2.8)}),
        "y1": ("y", {"events_seconds": (0.64, 1.44, 2.24, 3.04)}),
        "test": ("x", {"events_seconds": FLASHES}),
    }
    entries = {}
    for name, (label, options) in recipes.items():
        path = write_flash_beep(folder / f"{name}.mp4", **options)
        entries[name] = entry_of(path, folder, clip_id=name, labels=(label,), source_id=f"s-{name}")
    # Another clip of the source of x0: it may not be paired with it.
    same = replace(entries["x0"], clip_id="x0again", end_seconds=3.6)
    test = entries.pop("test")
    write_manifest(folder, classes=["x", "y"], protocol="real/1",
                   splits={"train": [*entries.values(), same], "test": [test]})  # fmt: skip
    return folder


def repair(real: Path, out: Path, *more: str) -> int:
    with pytest.raises(SystemExit) as stop:
        main(["synth", "repair", "--root", str(real), "--out", str(out), *more])
    return int(stop.value.code or 0)


@pytest.fixture(scope="module")
def made(real: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("repair") / "made"
    assert repair(real, out, "--min-score", "0.5") == 0
    return out


def test_clips_of_several_labels_are_not_paired_by_one(real: Path, tmp_path: Path, capsys) -> None:
    entries = read_manifest(real, "train").entries
    both = replace(entries[0], labels=("x", "y"))
    write_manifest(tmp_path / "several", classes=["x", "y"], protocol="several/1",
                   splits={"train": [both, *entries[1:]]})  # fmt: skip
    manifest = str(tmp_path / "several")
    assert repair(real, tmp_path / "made", "--manifest", manifest) == 1
    said = " ".join(capsys.readouterr().err.split())
    assert f"1 of {len(entries)} clips have no or several labels, first {both.clip_id}" in said
    assert not (tmp_path / "made").exists()


def by_parents(folder: Path) -> dict[tuple[str, ...], Entry]:
    entries = read_manifest(folder, "train").entries
    return {e.synthetic.parents: e for e in entries if e.synthetic}


def shift_of(entry: Entry) -> float:
    assert entry.synthetic is not None
    return float(entry.synthetic.recipe.split("moved by ")[1].split(" s")[0])


def test_a_audio_is_moved_to_the_flashes_it_belongs_to(made: Path) -> None:
    entry = by_parents(made)["x0", "x1"]
    # x1 flashes and beeps 0.32 s later than x0: its audio has to come 0.32 s earlier.
    assert abs(shift_of(entry) + 0.32) <= 0.03
    clip = decode_clip(made / entry.path, start_seconds=0.0, duration_seconds=4.0, num_frames=100,
                       max_held=0)  # fmt: skip
    flashes = np.flatnonzero(clip.video[:, 64:].mean(axis=(1, 2, 3)) > 200) / 25
    np.testing.assert_allclose(flashes, FLASHES)
    assert [read_counter(frame) for frame in clip.video[:8]] == list(range(8))
    np.testing.assert_allclose(beep_times(clip.audio, 16_000), FLASHES, atol=0.03)


def test_every_pair_is_of_one_class_of_two_sources_and_of_train(made: Path, real: Path) -> None:
    train = {e.clip_id: e for e in read_manifest(real, "train").entries}
    pairs = by_parents(made)
    assert len(pairs) >= 6
    for (frame, audio), entry in pairs.items():
        assert train[frame].labels == train[audio].labels == entry.labels
        assert train[frame].source_id != train[audio].source_id
        assert entry.source_id == train[frame].source_id
        assert audio not in ("mute", "silent")
        assert entry.clip_id == f"repair/{frame}+{audio}"
        assert entry.synthetic is not None
        assert entry.synthetic.score is not None
        assert 0.5 <= entry.synthetic.score <= 1
        assert entry.video is not None
        assert entry.audio is not None
        assert (entry.video.start_seconds, entry.audio.start_seconds) == (0.0, 0.0)
        assert abs(entry.duration_seconds - train[frame].duration_seconds) < 0.041
    report = json.loads((made / "report.json").read_text())
    assert report["tried"] == report["num_made"] + sum(report["rejected"].values())
    assert report["rejected"]["audio too short"] >= 1  # that of `brief` for all others
    assert report["no_sound_parents"] == {"no audio": 1, "silent": 1}
    assert report["per_class"] == dict(Counter(e.labels[0] for e in pairs.values()))


def test_what_is_made_can_be_trained_on_besides(made: Path, real: Path) -> None:
    clips = train_clips(DataConfig(root=str(real), extra=[str(made)]))
    assert len(clips.manifest.entries) == 9 + len(by_parents(made))


def test_limits_reject_and_few_shots_limit(
    real: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert repair(real, tmp_path / "one", "--min-score", "0.5", "--per-class", "2") == 0
    assert Counter(e.labels[0] for e in by_parents(tmp_path / "one").values()) == {"x": 2, "y": 2}
    assert "fewer than" not in capsys.readouterr().out  # both have what was asked for
    few = ["--shots", "2", "--shots-seed", "3", "--min-score", "-1", "--min-cover", "0.2"]
    assert repair(real, tmp_path / "few", *few) == 0
    chosen = DataConfig(root=str(real), shots=2, shots_seed=3)
    ids = {e.clip_id for e in train_clips(chosen).manifest.entries}
    assert len(ids) == 4
    assert {p for pair in by_parents(tmp_path / "few") for p in pair} <= ids
    extra = [str(tmp_path / "few")]
    assert train_clips(replace(chosen, extra=extra))


def test_made_clips_are_no_parents(real: Path, made: Path, tmp_path: Path) -> None:
    entries = [*read_manifest(real, "train").entries, *read_manifest(made, "train").entries]
    write_manifest(tmp_path, classes=["x", "y"], protocol="p", splits={"train": entries})
    ids = {e.clip_id for e in read_parents(real, tmp_path, 0, 0).manifest.entries}
    assert ids == {e.clip_id for e in read_manifest(real, "train").entries}


def test_balanced_classes_have_equally_many(
    real: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert repair(real, tmp_path / "made", "--min-score", "0.5", "--balanced") == 0
    counts = Counter(e.labels[0] for e in by_parents(tmp_path / "made").values())
    assert counts["x"] == counts["y"] == 2
    said = capsys.readouterr().out
    assert "; 2 of 2 classes have fewer than 50: x (2), y (2)\n" in said
    report = json.loads((tmp_path / "made/report.json").read_text())
    assert report["tried"] == 4 + sum(report["rejected"].values())


def test_nothing_kept_is_an_error_that_says_why(
    real: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert repair(real, tmp_path / "made", "--min-score", "1") == 1
    error = capsys.readouterr().err
    assert "no clip was generated (" in error
    assert "score too low" in error
    assert not (tmp_path / "made/dataset.json").exists()
    assert json.loads((tmp_path / "made/report.json").read_text())["num_made"] == 0


def test_unreadable_clips_are_named_and_too_many_stop(
    real: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in real.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "y1.mp4").write_bytes(b"not a film")
    (tmp_path / "brief.mp4").unlink()
    assert repair(tmp_path, tmp_path / "made") == 1
    error = capsys.readouterr().err
    assert "2 of 9 clips cannot be read" in error
    assert "y1.mp4" in error
    assert repair(tmp_path, tmp_path / "made", "--max-bad-share", "0.3") == 0
    report = json.loads((tmp_path / "made/report.json").read_text())
    assert {row["path"] for row in report["unreadable"]} == {"y1.mp4", "brief.mp4"}


@pytest.mark.long
def test_killed_and_gone_on_gives_the_same_bytes(real: Path, made: Path, tmp_path: Path) -> None:
    out = tmp_path / "again"
    code = "import sys; from avmix.cli import main; main(sys.argv[1:])"
    command = [sys.executable, "-c", code, "synth", "repair", "--root", str(real), "--out",
               str(out), "--min-score", "0.5"]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    clips = out / "clips"
    while len(list(clips.glob("*.mp4"))) < 3:
        assert process.poll() is None, "it ended before it could be killed"
        with suppress(subprocess.TimeoutExpired):
            process.wait(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (out / "dataset.json").exists()
    (clips / "cut.mp4.partial").write_bytes(b"half a file")
    noted = [json.loads(line) for line in (out / "progress.jsonl").read_text().split("\n") if line]
    done = [json.loads(row["row"])["path"] for row in noted[1:]]
    assert len(done) >= 2
    before = {name: (out / name).stat().st_mtime_ns for name in done}
    assert repair(real, out, "--min-score", "0.5") == 0
    assert {name: (out / name).stat().st_mtime_ns for name in done} == before
    files = sorted(p.relative_to(made) for p in made.rglob("*") if p.is_file())
    assert sorted(p.relative_to(out) for p in out.rglob("*") if p.is_file()) == files
    for name in files:
        assert (out / name).read_bytes() == (made / name).read_bytes(), name


def _no_clip(name: str) -> Outcome:
    return Outcome(name=name, entry=None, reason=f"because of {name}")


def _not_again(name: str) -> Outcome:
    assert name in ("b", "d"), f"{name} was done already"
    return _no_clip(name)


def test_outcomes_are_in_the_order_of_the_jobs_whoever_was_first(tmp_path: Path) -> None:
    plan = Plan(out=tmp_path, method="repair", arguments={}, classes=("x",), protocol="p")
    assert prepare(plan, overwrite=False)
    do_all(plan, ["c", "a"], _no_clip, names=["c", "a"], workers=1)
    with (tmp_path / "progress.jsonl").open("a") as file:
        file.write('{"name": "d", "row": nu')  # cut by a kill
    names = ["a", "b", "c", "d"]
    found = do_all(plan, names, _not_again, names=names, workers=1)
    assert [o.name for o in found] == names
    assert do_all(plan, names, _not_again, names=names, workers=1) == found


def test_a_folder_of_something_else_is_left_alone(
    real: Path, made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    assert repair(real, tmp_path) == 1
    assert "is not empty and holds no set of synthetic clips" in capsys.readouterr().err
    assert repair(real, tmp_path, "--overwrite") == 1
    assert repair(real, real, "--overwrite") == 1  # not even the parents themselves
    assert len(list(real.glob("*.mp4"))) == 9
    assert repair(real, made, "--min-score", "0.4") == 1
    assert "min_score is 0.5, not 0.4" in capsys.readouterr().err
    assert repair(real, made, "--min-score", "0.5") == 0
    assert "nothing to do" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--min-score", "2"], "--min-score must be from -1 to 1"),
        (["--min-cover", "0"], "--min-cover must be above 0"),
        (["--per-class", "0"], "--per-class must be at least 1"),
        (["--seed", "-1"], "--seed must be in [0, 2**32)"),
        (["--manifest", "nowhere"], "dataset.json: not found"),
        (["--max-bad-share", "2"], "--max-bad-share must be from 0 to 1"),
    ],
)
def test_bad_arguments_are_one_line(
    real: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str], message: str
) -> None:
    assert repair(real, tmp_path / "bad", *more) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


# ---------------------------------------------------------------------------------- the parts


def test_the_score_is_the_correlation_where_both_are() -> None:
    motion = np.array([0.0, 1, 0, 0, 3, 0, 0, 0, 2, 0])
    found = align(motion, motion, 1.0)
    assert found is not None
    assert (found.score, found.shift_seconds, found.cover) == (pytest.approx(1), 0.0, 1.0)
    later = np.concatenate([np.zeros(2), motion[:-2]])  # the audio comes two steps late
    found = align(motion, later, 0.8)
    assert found is not None
    assert found.shift_seconds == -2 / GRID_HZ
    assert found.cover == 0.8
    assert found.score == pytest.approx(np.corrcoef(motion[:8], later[2:])[0, 1])


def test_the_best_of_all_allowed_shifts_is_found() -> None:
    stream = np.random.default_rng(0)
    for num, length in [(50, 50), (40, 60), (60, 40)]:
        motion, audio = stream.random(num), stream.random(length)
        scores = {}
        for shift in range(-length + 1, num):
            low, high = max(shift, 0), min(num, shift + length)
            if high - low >= 0.5 * num:
                pair = np.corrcoef(motion[low:high], audio[low - shift : high - shift])
                scores[shift] = pair[0, 1]
        found = align(motion, audio, 0.5)
        assert found is not None
        assert found.shift_seconds * GRID_HZ == pytest.approx(max(scores, key=scores.__getitem__))
        assert found.score == pytest.approx(max(scores.values()))
        assert found.cover >= 0.5


def test_what_is_too_short_or_flat_does_not_score() -> None:
    assert align(np.random.default_rng(0).random(100), np.ones(50), 0.8) is None
    flat = align(np.ones(100), np.random.default_rng(0).random(100), 0.8)
    assert flat is not None
    assert flat.score == 0.0


def test_envelopes_of_a_file_meet(tmp_path: Path) -> None:
    path = write_flash_beep(tmp_path / "a.mp4", events_seconds=FLASHES)
    entry = entry_of(path, tmp_path, clip_id="a", labels=("x",), source_id="a")
    motion = motion_envelope(motion_of(tmp_path, entry), 4.0)
    audio = audio_envelope(audio_of(tmp_path, entry, 16_000), 16_000)
    assert motion.shape == audio.shape == (4 * GRID_HZ + 1,)
    found = align(motion, audio, 0.9)
    assert found is not None
    assert abs(found.shift_seconds) <= 0.03
    assert found.score > 0.7


def test_frames_come_once_each_in_pieces_and_scaled(tmp_path: Path) -> None:
    path = write_flash_beep(tmp_path / "a.mp4", seconds=12, events_seconds=())
    entry = entry_of(path, tmp_path, clip_id="a", labels=("x",), source_id="a")
    pieces = list(frames_of(tmp_path, entry))
    assert [len(piece) for piece in pieces] == [256, 44]
    assert [read_counter(p) for piece in pieces for p in piece] == list(range(300))
    part = replace(entry, start_seconds=1.0, end_seconds=2.5)
    (some,) = frames_of(tmp_path, part)
    assert num_frames_of(part) == 37  # those that end within it
    assert [read_counter(p) for p in some] == list(range(25, 62))
    (small,) = frames_of(tmp_path, part, short_side=48)
    assert small.shape == (37, 48, 80, 3)


def test_a_moved_audio_is_faded_where_it_is_cut() -> None:
    wave = np.ones(1000, np.float32)
    out, begin, end = placed_in_silence(wave, 1000, -0.2, 1.0)
    assert (begin, end) == (0.0, 0.8)
    np.testing.assert_allclose(out[:5], [0, 0.25, 0.5, 0.75, 1])
    np.testing.assert_allclose(out[793:802], [1, 1, 1, 0.75, 0.5, 0.25, 0, 0, 0])
    assert out[5:795].min() == 1
    assert not out[800:].any()
    same, begin, end = placed_in_silence(wave, 1000, 0.0, 1.0)
    np.testing.assert_array_equal(same, wave)
    assert (begin, end) == (0.0, 1.0)
    gone, begin, end = placed_in_silence(wave, 1000, 5.0, 1.0)
    assert (gone.any(), begin, end) == (False, 0.0, 0.0)


def test_pairs_are_drawn_evenly_over_the_frames(make_entry) -> None:
    entries = [make_entry(f"c{i}", source_id=f"s{i // 2}") for i in range(6)]
    rows = [0, 1, 2, 3, 4, 5]
    pairs = list(draw_order(entries, rows, seed=0, number=1))
    assert len(pairs) == len(set(pairs)) == 6 * 4  # all but themselves and their source
    assert all(entries[p].source_id != entries[s].source_id for p, s in pairs)
    for turn in range(4):
        assert sorted(p for p, _ in pairs[6 * turn : 6 * turn + 6]) == rows
    assert list(draw_order(entries, rows, seed=0, number=1)) == pairs
    assert list(draw_order(entries, rows, seed=1, number=1)) != pairs
    assert list(draw_order(entries, rows, seed=0, number=2)) != pairs


def test_the_usual_limits_are_the_documented_ones() -> None:
    usual = RepairOptions()
    assert (usual.per_class, usual.min_score, usual.min_cover) == (50, 0.3, 0.8)
