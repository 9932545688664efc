"""Synthetic actions over real clips: the background is behind them, the events are where they
say."""

import json
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from avmix.cli import main
from avmix.config import DataConfig
from avmix.data.manifest import ManifestError, read_manifest, write_manifest
from avmix.data.train_clips import train_clips
from avmix.decode import decode_clip
from avmix.media.judgement import entry_of
from avmix.media.onsets import onset_times
from avmix.media.write_mp4 import write_mp4
from avmix.synth import actions as act
from avmix.synth.action_frames import frames_of
from avmix.synth.action_scenes import draw_scene, draw_world
from avmix.synth.compose import mix_over_background, square_of
from avmix.types import Clip, Entry
from tests.media import draw_audio, draw_frame, write_flash_beep


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Backgrounds: 4 s with audio, 4 s without, 2 s (too short); one of test."""
    folder = tmp_path_factory.mktemp("compose") / "real"
    folder.mkdir()
    entries = []
    for name, options in {
        "long": {},
        "mute": {"audio_codec": None},
        "short": {"seconds": 2, "events_seconds": (0.4,)},
        "test": {},
    }.items():
        path = write_flash_beep(folder / f"{name}.mp4", **options)
        entries.append(entry_of(path, folder, clip_id=name, labels=("any",), source_id=f"s-{name}"))
    write_manifest(folder, classes=["any"], protocol="real/1",
                   splits={"train": entries[:3], "test": entries[3:]})  # fmt: skip
    return folder


def compose(real: Path, out: Path, *more: str) -> int:
    with pytest.raises(SystemExit) as stop:
        main(["synth", "compose", "--background-root", str(real), "--out", str(out), *more])
    return int(stop.value.code or 0)


@pytest.fixture(scope="module")
def made(real: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("compose") / "made"
    clean = ["--difficulty", "0", "--per-class", "3", "--actions", "bounce_clap", "spin_chirp"]
    assert compose(real, out, *clean, "--background-db", "-40") == 0
    return out


def whole(folder: Path, entry: Entry) -> Clip:
    return decode_clip(folder / entry.path, start_seconds=0.0, duration_seconds=3.2, num_frames=80,
                       max_held=0)  # fmt: skip


def test_rows_say_what_was_put_over_what(made: Path) -> None:
    manifest = read_manifest(made, "train")
    assert manifest.classes == tuple(a.name for a in act.ACTIONS)
    assert [e.labels[0] for e in manifest.entries] == ["bounce_clap"] * 3 + ["spin_chirp"] * 3
    for entry in manifest.entries:
        assert entry.synthetic is not None
        assert entry.synthetic.method == "compose"
        (parent,) = entry.synthetic.parents
        assert parent in ("long", "mute")
        assert entry.source_id == f"s-{parent}"
        assert f"over {parent} from " in entry.synthetic.recipe
        assert entry.video is not None
        assert entry.audio is not None
        assert (entry.video.width, entry.video.height, entry.video.num_frames) == (96, 96, 80)
        assert (entry.video.start_seconds, entry.audio.start_seconds) == (0.0, 0.0)
        assert entry.duration_seconds == entry.audio.duration_seconds == 3.2
    report = json.loads((made / "report.json").read_text())
    assert (report["num_made"], report["backgrounds"]) == (6, 2)
    assert report["not_backgrounds"] == {"too short": 1}
    assert {e.synthetic.parents[0] for e in manifest.entries if e.synthetic} == {"long", "mute"}


def test_audio_are_at_the_events_that_are_written_down(made: Path) -> None:
    rows = [json.loads(line) for line in (made / "events.jsonl").read_text().splitlines()]
    entries = {e.clip_id: e for e in read_manifest(made, "train").entries}
    assert [row["clip_id"] for row in rows] == list(entries)
    missed = 0
    for row in rows:
        found = onset_times(whole(made, entries[row["clip_id"]]).audio, 16_000)
        assert row["event_seconds"] == row["onset_seconds"]
        inner = [t for t in row["event_seconds"] if 0.03 < t < 3.15]
        missed += sum(np.abs(found - t).min() > 0.02 for t in inner)
        assert len(inner) >= 3
    assert missed == 0


def test_the_background_is_behind_and_the_action_in_front(made: Path, real: Path) -> None:
    for entry in read_manifest(made, "train").entries:
        assert entry.synthetic is not None
        start = float(entry.synthetic.recipe.split(" from ")[1].split(" s,")[0])
        across = float(entry.synthetic.recipe.split("square at ")[1].split(";")[0])
        name = entry.synthetic.parents[0]
        behind = decode_clip(real / f"{name}.mp4", start_seconds=start, duration_seconds=3.2,
                             num_frames=80, short_side=96, audio="silence").video  # fmt: skip
        behind = square_of(behind, across).astype(float)
        front = whole(made, entry).video.astype(float)
        apart = np.abs(front - behind).mean(-1)
        assert np.median(apart) < 12  # codec and chroma; most of the frame is the background
        assert (apart > 60).mean(axis=(1, 2)).min() > 0.002  # in every frame something is not


def test_a_loud_background_is_heard_and_a_mute_one_is_not(real: Path, tmp_path: Path) -> None:
    common = ["--difficulty", "0", "--per-class", "4", "--actions", "bounce_thud"]
    assert compose(real, tmp_path / "loud", *common, "--background-db", "0") == 0
    assert compose(real, tmp_path / "low", *common, "--background-db", "-80") == 0
    differ = {}
    loud = read_manifest(tmp_path / "loud", "train").entries
    low = read_manifest(tmp_path / "low", "train").entries
    for one, other in zip(loud, low, strict=True):
        assert one.synthetic is not None
        assert other.synthetic is not None
        assert one.synthetic.parents == other.synthetic.parents
        a, b = whole(tmp_path / "loud", one).audio, whole(tmp_path / "low", other).audio
        differ[one.synthetic.parents[0]] = float(np.abs(a - b).max())
    assert differ["long"] > 0.05
    assert differ["mute"] < 0.01


def test_the_level_of_the_background_is_what_is_asked_for() -> None:
    stream = np.random.default_rng(0)
    audio = 0.1 * stream.standard_normal(16_000).astype(np.float32)
    below = 0.7 * stream.standard_normal(16_000).astype(np.float32)
    mixed = mix_over_background(audio, below, -20.0)
    rest = mixed - audio
    ratio = 20 * np.log10(np.sqrt(np.mean(rest**2)) / np.sqrt(np.mean(audio**2)))
    assert abs(ratio + 20) < 0.01
    assert mix_over_background(audio, None, -20.0) is audio
    assert mix_over_background(audio, np.zeros(16_000, np.float32), -20.0) is audio
    assert np.abs(mix_over_background(np.float32(9) * audio, below, 0.0)).max() <= 0.981


def test_the_square_is_cut_along_the_longer_side() -> None:
    video = np.arange(4 * 10, dtype=np.uint8).reshape(1, 4, 10, 1).repeat(3, axis=3)
    assert square_of(video, 0.0)[0, 0, :, 0].tolist() == [0, 1, 2, 3]
    assert square_of(video, 1.0)[0, 0, :, 0].tolist() == [6, 7, 8, 9]
    tall = np.ascontiguousarray(video.transpose(0, 2, 1, 3))
    assert square_of(tall, 0.5)[0, :, 0, 0].tolist() == [3, 4, 5, 6]


def test_the_same_arguments_make_the_same_files_whatever_the_workers(
    real: Path, made: Path, tmp_path: Path
) -> None:
    clean = ["--difficulty", "0", "--per-class", "3", "--actions", "bounce_clap", "spin_chirp",
             "--background-db", "-40", "--workers", "2"]  # fmt: skip
    assert compose(real, tmp_path / "again", *clean) == 0
    files = sorted(p.relative_to(made) for p in made.rglob("*") if p.is_file())
    assert files == sorted(
        p.relative_to(tmp_path / "again") for p in (tmp_path / "again").rglob("*") if p.is_file()
    )
    for name in files:
        assert (made / name).read_bytes() == (tmp_path / "again" / name).read_bytes(), name


def test_a_toy_set_is_added_to(
    real: Path, made: Path, make_entry: Callable[..., Entry], tmp_path: Path
) -> None:
    names = [a.name for a in act.ACTIONS][::-1]  # another order than ours
    toy = [make_entry(name, labels=(name,)) for name in names]
    write_manifest(tmp_path / "toy", classes=names, protocol="toy", splits={"train": toy})
    out = tmp_path / "made"
    more = ["--manifest", str(tmp_path / "toy"), "--per-class", "1", "--actions", "swing_ping"]
    assert compose(real, out, *more) == 0
    clips = train_clips(DataConfig(root=str(tmp_path / "toy"), extra=[str(out)]))
    assert clips.manifest.classes == tuple(names)
    assert [e.labels for e in clips.manifest.entries[10:]] == [("swing_ping",)]
    with pytest.raises(ManifestError, match="in another order"):
        train_clips(DataConfig(root=str(tmp_path / "toy"), extra=[str(made)]))


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--actions", "dance"], "--actions dance: not all of one set"),
        (["--actions", "bounce_thud", "after"], "not all of one set"),
        (["--per-class", "0"], "--per-class must be at least 1"),
        (["--difficulty", "1.5"], "--difficulty must be from 0 to 1"),
        (["--background-db", "3"], "--background-db must be from -80 to 0"),
        (["--shots", "-1"], "--shots must be at least 0"),
        (["--background-manifest", "nowhere"], "dataset.json: not found"),
    ],
)
def test_bad_arguments_are_one_line(
    real: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str], message: str
) -> None:
    assert compose(real, tmp_path / "bad", *more) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_other_classes_than_the_toys_and_no_backgrounds_are_refused(
    real: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert compose(real, tmp_path / "bad", "--manifest", str(real)) == 1
    assert "other classes than the toy set" in capsys.readouterr().err
    short = replace(read_manifest(real, "train").entries[2])
    write_manifest(tmp_path / "shorts", classes=["any"], protocol="p", splits={"train": [short]})
    assert compose(real, tmp_path / "bad", "--background-manifest", str(tmp_path / "shorts")) == 1
    assert "no clip to put behind the actions (1 too short)" in capsys.readouterr().err


def test_where_nothing_is_drawn_the_background_is_as_it_was() -> None:
    world = draw_world((0, 0, 1, 0), difficulty=0.5)
    scene = draw_scene((0, 0, 2, 0), action=act.ACTIONS[0], world=world, difficulty=0.5)
    empty = replace(scene, bodies=(), frame_noise=0.0, brightness=1.0, drift_px=(0.0, 0.0))
    stream = np.random.default_rng(0)
    behind = stream.integers(0, 256, (act.NUM_FRAMES, act.SIDE_PX, act.SIDE_PX, 3), np.uint8)
    np.testing.assert_array_equal(frames_of(empty, behind), behind)
    alone = frames_of(replace(empty, bodies=scene.bodies), behind)
    assert 0.005 < (alone != behind).any(-1).mean() < 0.5


def test_writing_again_gives_the_same_bytes(tmp_path: Path) -> None:
    """Also where memory is used differently in between."""
    frames = np.stack([draw_frame(k, size=(160, 96), flash=k in (10, 30)) for k in range(50)])
    audio = draw_audio(seconds=2.0, rate=16_000, start_seconds=0.0, events_seconds=(0.4, 1.2))
    made, kept = set(), []
    for turn in range(12):
        path = tmp_path / "clip.mp4"
        assert write_mp4(path, [frames], audio, fps=Fraction(25), rate_hz=16_000) == 50
        made.add(path.read_bytes())
        kept.append(bytearray(100_000 * turn))
        kept = kept if turn % 3 else []
    assert len(made) == 1
