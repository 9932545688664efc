"""Transcoded clips: flash and beep still together, the stretch kept; what fails is named."""

import json
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from avmix.cli import main
from avmix.data.manifest import read_manifest, write_manifest
from avmix.decode import decode_clip
from avmix.media.judgement import entry_of
from avmix.media.probe import probe
from avmix.media.whole_clip import fps_of
from avmix.media.write_mp4 import write_mp4
from avmix.tools import transcode as module
from avmix.tools import transcode_clip
from avmix.tools.transcode import find_ffmpeg, transcode
from avmix.tools.transcode_check import TranscodeError, audio_shift, check
from avmix.tools.transcode_clip import Job, TargetFormat, Transcoded, make_one, stretch_of
from avmix.types import Entry
from tests.media import beep_times, read_counter, write_flash_beep
from tests.scenes import scene

EVENTS = (0.4, 1.2, 1.6)
SMALL = TargetFormat(short_side=64, gop=12)


def _entry(path: Path, **changes: Any) -> Entry:
    entry = entry_of(path, path.parent, clip_id=path.stem, labels=("x",), source_id=path.stem)
    return replace(entry, **changes)


def _make(path: Path, out: Path, form: TargetFormat = SMALL, **changes: Any) -> Entry:
    made = make_one(path.parent, out, Job(entry=_entry(path, **changes), path="c.mp4"), form=form)
    assert made.reason == ""
    assert made.entry is not None
    return made.entry


def _flashes(video: np.ndarray, fps: float) -> np.ndarray:
    bright = video[:, video.shape[1] * 11 // 20 :].mean((1, 2, 3)) > 160
    return np.flatnonzero(bright) / fps


@pytest.mark.parametrize(
    ("name", "form", "written"),
    [
        ("plain.mp4", SMALL, {}),
        ("opus.mkv", replace(SMALL, audio="opus"), {"sample_rate": 48_000}),
        ("late_sound.mp4", SMALL, {"audio_start_seconds": 0.24, "sample_rate": 44_100}),
        ("late_pictures.mkv", SMALL, {"video_start_seconds": 0.2}),
        ("as_ucf.avi", SMALL, {"b_frames": 2, "sample_rate": 44_100, "layout": "stereo"}),
    ],
)
def test_flash_and_beep_stay_together(
    tmp_path: Path, name: str, form: TargetFormat, written: dict[str, Any]
) -> None:
    path = write_flash_beep(tmp_path / name, seconds=2, events_seconds=EVENTS, **written)
    entry = _make(path, tmp_path / "out", form)
    zero = written.get("video_start_seconds", 0.0)
    clip = decode_clip(tmp_path / "out/c.mp4", start_seconds=0, duration_seconds=2, num_frames=50,
                       sample_rate=48_000)  # fmt: skip
    expected = np.array(EVENTS) - zero
    # AVI cannot say that an MP3 encoder delays by 1,105 samples: there the source is late itself.
    late = 1105 / 44_100 if name.endswith(".avi") else 0.0
    assert _flashes(clip.video, 25) == pytest.approx(expected)
    assert beep_times(clip.audio, 48_000) == pytest.approx(expected + late, abs=0.002)
    assert entry.video is not None
    assert entry.audio is not None
    assert (entry.video.height, entry.video.num_frames, entry.video.codec) == (64, 50, "h264")
    assert entry.video.start_seconds == pytest.approx(0, abs=1e-3)
    assert not entry.video.vfr
    assert entry.audio.codec == form.audio
    assert entry.audio.channels == (2 if "layout" in written else 1)


def test_the_stretch_is_cut_out_with_its_margin_and_keeps_the_times_of_frames(
    tmp_path: Path,
) -> None:
    path = write_flash_beep(tmp_path / "a.mp4", seconds=3, events_seconds=(0.8, 1.2, 2.0))
    # From the middle of frame 25 to the middle of frame 35, and 0.2 s before and after.
    entry = _make(path, tmp_path, replace(SMALL, margin_seconds=0.2), start_seconds=1.02,
                  end_seconds=1.42)  # fmt: skip
    # 0.82 s is within frame 20, which begins at 0.8 s; 1.62 s within 40, the last.
    assert entry.video is not None
    assert entry.video.num_frames == 21
    assert (entry.start_seconds, entry.end_seconds) == pytest.approx((0.22, 0.62))
    clip = decode_clip(tmp_path / "c.mp4", start_seconds=0, duration_seconds=0.84, num_frames=21)
    numbers = [read_counter(v) for k, v in enumerate(clip.video) if k not in (0, 10)]
    assert numbers == [20 + k for k in range(21) if k not in (0, 10)]
    assert _flashes(clip.video, 25) == pytest.approx([0.0, 0.4])
    assert beep_times(clip.audio, 16_000)[-1] == pytest.approx(0.4, abs=0.002)


def test_nothing_is_made_larger_and_key_frames_are_near(tmp_path: Path) -> None:
    import av

    path = write_flash_beep(tmp_path / "a.mp4", seconds=1, gop=100, events_seconds=(0.4,))
    entry = _make(path, tmp_path, TargetFormat(short_side=256, gop=8))
    assert entry.video is not None
    assert (entry.video.width, entry.video.height) == (160, 96)
    with av.open(str(tmp_path / "c.mp4")) as file:
        packets = [p for p in file.demux(video=0) if p.size]
    keys = [k for k, p in enumerate(packets) if p.is_keyframe]
    assert keys[0] == 0
    assert max(np.diff([*keys, len(packets)])) <= 8


def test_a_varying_rate_becomes_its_mean(tmp_path: Path) -> None:
    path = write_flash_beep(tmp_path / "a.mp4", seconds=2, skip_frames=(5, 6, 7, 21, 30),
                            events_seconds=(0.4, 1.6))  # fmt: skip
    entry = _make(path, tmp_path)
    assert entry.video is not None
    assert not entry.video.vfr
    assert entry.video.num_frames == 45
    assert entry.video.duration_seconds == pytest.approx(2, abs=0.01)
    # Each frame is the one on the screen in the middle of its time.
    clip = decode_clip(tmp_path / "c.mp4", start_seconds=0, duration_seconds=2, num_frames=45)
    source = decode_clip(path, start_seconds=0, duration_seconds=2, num_frames=45)
    for k in (3, 6, 20, 40):
        assert read_counter(clip.video[k]) == read_counter(source.video[k])


def test_without_audio_and_without_frames(tmp_path: Path) -> None:
    silent = write_flash_beep(tmp_path / "s.mp4", seconds=1, audio_codec=None, events_seconds=())
    assert _make(silent, tmp_path).audio is None
    heard = write_flash_beep(tmp_path / "h.mp4", seconds=1, video_codec=None, events_seconds=(0.4,))
    made = make_one(tmp_path, tmp_path, Job(entry=_entry(heard), path="h2.mp4"), form=SMALL)
    assert made.entry is None
    assert "no video" in made.reason
    assert not (tmp_path / "h2.mp4").exists()


def test_what_is_not_as_the_source_is_refused(tmp_path: Path) -> None:
    good = write_flash_beep(tmp_path / "a.mp4", seconds=2, events_seconds=EVENTS)
    stretch, num = stretch_of(_entry(good), 0.0)
    assert num == 50
    check(tmp_path, stretch, good, num)
    late = write_flash_beep(tmp_path / "late.mp4", seconds=2, audio_start_seconds=0.0,
                            events_seconds=[e + 0.04 for e in EVENTS])  # fmt: skip
    with pytest.raises(TranscodeError, match=r"another moment|not the source's"):
        check(tmp_path, stretch, late, num)
    with pytest.raises(TranscodeError, match="has 50 frames, not 49"):
        check(tmp_path, stretch, good, 49)
    mute = write_flash_beep(tmp_path / "m.mp4", seconds=2, events_seconds=EVENTS, audio_codec=None)
    with pytest.raises(TranscodeError, match="has audio where"):
        check(tmp_path, stretch, mute, num)
    # Frames right, audio 10 ms late.
    clip = decode_clip(good, start_seconds=0, duration_seconds=2, num_frames=50, sample_rate=48_000)
    for shift, wrong in ((480, True), (48, False)):
        moved = np.roll(clip.audio, shift)
        write_mp4(tmp_path / "moved.mp4", [clip.video], moved, fps=fps_of(stretch),
                  rate_hz=48_000)  # fmt: skip
        if wrong:
            with pytest.raises(TranscodeError, match=r"audio is 10\.\d ms late"):
                check(tmp_path, stretch, tmp_path / "moved.mp4", num)
        else:
            check(tmp_path, stretch, tmp_path / "moved.mp4", num)


def test_frames_one_late_are_refused_although_they_look_alike(tmp_path: Path) -> None:
    video = scene(0, 40)
    for name, moved in (("a", 0), ("b", 1)):
        frames = np.roll(video, moved, axis=0)
        frames[:moved] = video[:1]
        write_mp4(tmp_path / f"{name}.mp4", [frames], None, fps=Fraction(10), rate_hz=16_000)
    stretch, num = stretch_of(_entry(tmp_path / "a.mp4"), 0.0)
    check(tmp_path, stretch, tmp_path / "a.mp4", num)
    with pytest.raises(TranscodeError, match="of another moment"):
        check(tmp_path, stretch, tmp_path / "b.mp4", num)


def test_shift_of_audio_by_hand() -> None:
    draw = np.random.default_rng(0)
    wave = draw.normal(0, 0.1, 16_000).astype(np.float32)
    assert audio_shift(wave, wave, 16_000) == 0
    assert audio_shift(wave, np.roll(wave, 160), 16_000) == pytest.approx(0.01)
    assert audio_shift(np.roll(wave, 80), wave, 16_000) == pytest.approx(-0.005)
    assert audio_shift(wave, np.roll(wave, 16), 16_000) == 0  # 1 ms is within what is allowed
    other = draw.normal(0, 0.1, 16_000).astype(np.float32)
    assert audio_shift(wave, other, 16_000) is None
    assert audio_shift(np.zeros_like(wave), other, 16_000) == 0  # nothing to compare
    rumble = 0.5 * np.sin(2 * np.pi * 10 * np.arange(16_000) / 16_000).astype(np.float32)
    assert audio_shift(wave + rumble, wave, 16_000) == 0  # codecs leave out what nobody hears


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five clips: two stretches of one file, one too, a damaged one, and one in test."""
    root = tmp_path_factory.mktemp("source")
    made = [
        write_flash_beep(root / f"{name}.mp4", seconds=2, events_seconds=EVENTS, size=size)
        for name, size in (("a", (160, 96)), ("b", (96, 160)), ("t", (160, 96)))
    ]
    bad = root / "bad.mp4"
    bad.write_bytes(made[0].read_bytes())
    a, b, t, broken = (_entry(p) for p in [*made, bad])
    bad.write_bytes(b"nothing" * 100)
    parts = [
        replace(a, clip_id="a1", start_seconds=0.0, end_seconds=1.0),
        replace(a, clip_id="a2", start_seconds=1.0, end_seconds=2.0, labels=("y",)),
    ]
    write_manifest(
        root,
        classes=("x", "y"),
        protocol="made/1",
        splits={"train": [*parts, b, broken], "test": [t]},
        notes={"hello": 1},
    )
    return root


def _bytes(folder: Path) -> dict[str, bytes]:
    return {
        str(p.relative_to(folder)): p.read_bytes()
        for p in sorted(folder.rglob("*"))
        if p.is_file() and p.name != "transcode.jsonl"
    }


def _rows(folder: Path) -> Sequence[Entry]:
    return [e for split in ("train", "test") for e in read_manifest(folder, split).entries]


def test_a_set_keeps_its_ids_labels_and_splits(source: Path, tmp_path: Path) -> None:
    counts = transcode(source, source, tmp_path / "out", SMALL)
    assert (counts["made"], counts["excluded"]) == (4, 1)
    new, old = _rows(tmp_path / "out"), [e for e in _rows(source) if e.clip_id != "bad"]
    assert [e.clip_id for e in new] == ["a1", "a2", "b", "t"]
    for mine, other in zip(new, old, strict=True):
        assert (mine.labels, mine.source_id) == (other.labels, other.source_id)
        assert mine.duration_seconds == pytest.approx(other.duration_seconds)
        path = tmp_path / "out" / mine.path
        assert path.stat().st_size == mine.bytes
        assert probe(path) == (mine.video, mine.audio)
    assert [e.path for e in new] == [
        "clips/a_000000_001000.mp4", "clips/a_001000_002000.mp4", "clips/b.mp4", "clips/t.mp4",
    ]  # fmt: skip
    (row,) = map(json.loads, (tmp_path / "out/excluded.jsonl").read_text().splitlines())
    assert (row["clip_id"], row["split"]) == ("bad", "train")
    assert "MediaOpenError" in row["reason"]
    header = json.loads((tmp_path / "out/dataset.json").read_text())
    assert header["protocol"] == "made/1"
    assert header["notes"]["source"] == {"hello": 1}


def test_a_killed_run_goes_on_to_the_same_bytes(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    transcode(source, source, tmp_path / "whole", SMALL)
    real = module.make_one
    made: list[str] = []

    def stopping(root: Path, out: Path, job: Job, *, form: TargetFormat) -> Transcoded:
        if len(made) == 2:
            (out / "clips/b.mp4.partial").write_bytes(b"half")
            raise KeyboardInterrupt
        made.append(job.entry.clip_id)
        return real(root, out, job, form=form)

    out = tmp_path / "killed"
    monkeypatch.setattr(module, "make_one", stopping)
    with pytest.raises(KeyboardInterrupt):
        transcode(source, source, out, SMALL)
    assert not (out / "dataset.json").exists()
    journal = out / "transcode.jsonl"
    journal.write_text(journal.read_text()[:-40])  # as a kill cuts it
    made.clear()
    monkeypatch.setattr(module, "make_one", real)
    transcode(source, source, out, SMALL)
    assert _bytes(out) == _bytes(tmp_path / "whole")
    (out / "clips/t.mp4").unlink()
    transcode(source, source, out, SMALL)
    assert _bytes(out) == _bytes(tmp_path / "whole")
    with pytest.raises(TranscodeError, match="made otherwise"):
        transcode(source, source, out, replace(SMALL, gop=20))
    with pytest.raises(TranscodeError, match="not empty"):
        transcode(source, source, source, SMALL)


def test_a_full_disk_ends_the_run(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: object, **named: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(transcode_clip, "write_mp4", full)
    with pytest.raises(OSError, match="No space left"):
        transcode(source, source, tmp_path / "out", SMALL)
    assert not (tmp_path / "out/dataset.json").exists()


def test_a_program_that_gets_it_wrong_is_not_believed(source: Path, tmp_path: Path) -> None:
    program = tmp_path / "ffmpeg"
    program.write_text('#!/bin/sh\nfor last; do :; done\necho nonsense > "$last"\n')
    program.chmod(0o755)
    entry = _entry(source / "t.mp4")
    form = replace(SMALL, ffmpeg=find_ffmpeg(str(program)))
    made = make_one(source, tmp_path, Job(entry=entry, path="c.mp4"), form=form)
    assert made.by == "pyav"
    assert made.entry is not None
    assert find_ffmpeg("never") == ""
    with pytest.raises(TranscodeError, match="no such program"):
        find_ffmpeg(str(tmp_path / "none"))


def test_command(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def run(*words: str | Path) -> int:
        with pytest.raises(SystemExit) as end:
            main(["transcode", "--root", str(source), *map(str, words)])
        assert isinstance(end.value.code, int)
        return end.value.code

    out = tmp_path / "out"
    assert run("--out", out, "--short-side", "33") == 1
    assert "must be even" in capsys.readouterr().err
    assert run("--out", out, "--short-side", "64", "--workers", "2", "--audio", "opus") == 1
    captured = capsys.readouterr()
    assert "4 clips" in captured.out
    assert "1 were not made" in captured.err
    assert {e.audio.codec for e in _rows(out) if e.audio} == {"opus"}
