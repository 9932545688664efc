"""Any program can make clips; what it writes is checked, and what fails is named, not replaced."""

import hashlib
import json
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from avmix.cli import main
from avmix.config import DataConfig
from avmix.data.manifest import read_manifest, write_manifest
from avmix.data.train_clips import train_clips
from avmix.decode import decode_clip
from avmix.media.judgement import entry_of
from avmix.synth.child_process import filled, parse_command, run_child
from avmix.synth.synthetic_set import SynthError
from avmix.types import Entry
from tests.media import beep_times, read_counter, write_flash_beep

GENERATOR = '''
"""A generator of clips, well behaved or not: the text says how."""
import os, signal, subprocess, sys
from pathlib import Path

sys.path.insert(0, {root!r})
how, output, seconds, seed = sys.argv[1], Path(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4])
print("making", how, flush=True)
if how == "hangs":
    child = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
    Path({pids!r}).write_text(str(child.pid))
    signal.pause()
if how == "fails":
    print("out of memory", file=sys.stderr)
    sys.exit(3)
if how == "writes garbage":
    output.write_bytes(b"this is not a film" * 1000)
    sys.exit(0)
if how == "writes nothing":
    sys.exit(0)
if how == "talks":
    print("x" * 200_000)

import wave
import numpy as np
from tests.media import write_flash_beep
events = [0.4 + 0.04 * (seed % 10), 1.2]
if output.suffix == ".wav":
    rate, at = 16_000, np.arange(int(seconds * 16_000)) / 16_000
    with wave.open(str(output), "wb") as file:
        file.setnchannels(1); file.setsampwidth(2); file.setframerate(rate)
        tone = 0.5 * np.sin(2 * np.pi * 1500 * at) * (np.abs(at - events[0]) < 0.008)
        file.writeframes((tone * 32767).astype("<i2").tobytes())
    sys.exit(0)
if how == "is short":
    seconds = 1.0
write_flash_beep(
    output, seconds=seconds, events_seconds=events if how != "is silent" else [],
    audio_codec=None if how in ("has no audio", "makes frames") else "",
    audio_seconds=0.8 if how == "stops sounding" else None,
)
'''
TEXT_TO_VIDEO = ["--kind", "text-to-video", "--seconds-per-clip", "60"]


@pytest.fixture
def real(tmp_path: Path) -> Path:
    """Two real clips of two seconds, with flash and beep at 0.4 and 1.2 s; one is of test."""
    folder = tmp_path / "real"
    folder.mkdir()
    entries = {}
    for name in ("a", "t"):
        path = write_flash_beep(folder / f"{name}.mp4", seconds=2, events_seconds=(0.4, 1.2))
        entries[name] = entry_of(path, folder, clip_id=name, labels=("x",), source_id=f"of {name}")
    write_manifest(
        folder,
        classes=["x"],
        protocol="made/1",
        splits={"train": [entries["a"]], "test": [entries["t"]]},
    )
    return folder


@pytest.fixture
def make(tmp_path: Path, real: Path) -> Callable[..., int]:
    """Run `avmix synth external` with the generator; returns the exit code."""
    script = tmp_path / "generator.py"
    root = str(Path(__file__).parents[1])
    script.write_text(GENERATOR.format(root=root, pids=str(tmp_path / "pid")))

    def run(jobs: list[dict[str, Any]], *more: str, out: str = "made", command: str = "") -> int:
        (tmp_path / "jobs.jsonl").write_text("".join(json.dumps(job) + "\n" for job in jobs))
        command = command or f"{sys.executable} {script} {{text}} {{output}} {{duration}} {{seed}}"
        arguments = ["synth", "external", "--root", str(real), "--out", str(tmp_path / out),
                     "--jobs", str(tmp_path / "jobs.jsonl"), "--command", command]  # fmt: skip
        with pytest.raises(SystemExit) as stop:
            main([*arguments, *more])
        return int(stop.value.code or 0)

    return run


def job(name: str, text: str = "fine", **more: Any) -> dict[str, Any]:
    return {"id": name, "label": "x", "text": text, "duration_seconds": 2.0} | more


def rows_of(path: Path) -> dict[str, dict[str, Any]]:
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return {row["clip_id"].rpartition("/")[2]: row for row in rows}


def whole(folder: Path, entry: Entry) -> tuple[np.ndarray, np.ndarray]:
    assert entry.video is not None
    clip = decode_clip(folder / entry.path, start_seconds=0.0, max_held=0,
                       duration_seconds=entry.duration_seconds,
                       num_frames=entry.video.num_frames)  # fmt: skip
    return clip.video, clip.audio


def test_what_a_program_makes_becomes_a_clip_in_sync(
    make: Callable[..., int], tmp_path: Path, real: Path
) -> None:
    assert make([job("one", seed=5), job("two", "talks", seed=0)], *TEXT_TO_VIDEO) == 0
    out = tmp_path / "made"
    one, two = read_manifest(out, "train").entries
    for entry, first in ((one, 0.6), (two, 0.4)):
        assert entry.video is not None
        assert entry.audio is not None
        assert (entry.video.start_seconds, entry.audio.start_seconds) == (0.0, 0.0)
        assert (entry.video.num_frames, entry.duration_seconds) == (50, 2.0)
        frames, audio = whole(out, entry)
        bright = np.flatnonzero(frames[:, 64:].mean(axis=(1, 2, 3)) > 200) / 25
        np.testing.assert_allclose(bright, [first, 1.2])
        np.testing.assert_allclose(beep_times(audio, 16_000), [first, 1.2], atol=0.003)
        assert [read_counter(p) for p in frames[:5]] == [0, 1, 2, 3, 4]
    assert one.synthetic is not None
    assert (one.synthetic.method, one.synthetic.parents) == ("external", ())
    assert 'seed 5, 2 s, text "fine"; sha256' in one.synthetic.recipe
    said = rows_of(out / "provenance.jsonl")
    assert said["one"]["exit_code"] == 0
    assert said["one"]["command"][2] == "fine"
    assert said["one"]["raw_sha256"] in one.synthetic.recipe
    assert len(said["one"]["raw_sha256"]) == 64
    assert (out / said["one"]["log"]).read_text() == "making fine\n"
    assert (out / said["two"]["log"]).stat().st_size < 70_000
    assert not (out / "work").exists()
    assert {e.clip_id for e in train_clips(DataConfig(root=str(real), extra=[str(out)]))
            .manifest.entries} == {"a", one.clip_id, two.clip_id}  # fmt: skip


def test_failing_clips_are_named_with_their_reason_and_not_replaced(
    make: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = ["fails", "writes garbage", "writes nothing", "is short", "has no audio",
           "is silent", "stops sounding"]  # fmt: skip
    jobs = [job(how.replace(" ", "_"), how) for how in [*bad[:4], "fine", *bad[4:]]]
    assert make(jobs, *TEXT_TO_VIDEO) == 1  # more than a hundredth
    assert "7 of 8 clips failed" in capsys.readouterr().err
    assert not (tmp_path / "made/dataset.json").exists()
    # The same command with another limit goes on: nothing is run again, and the set is written.
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "made/clips").iterdir()}
    assert make(jobs, *TEXT_TO_VIDEO, "--max-bad-share", "0.9") == 0
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "made/clips").iterdir()} == before
    assert len(before) == 1
    reasons = {n: r["reason"] for n, r in rows_of(tmp_path / "made/provenance.jsonl").items()}
    assert reasons.pop("fine") == ""
    expected = {
        "fails": "exit code 3: out of memory",
        "writes_garbage": "unreadable: MediaOpenError: cannot be opened as media",
        "writes_nothing": "no output: ",
        "is_short": "too short: 1.000 s, asked for 2.000 s",
        "has_no_audio": "no audio: the output has no audio stream",
        "is_silent": "no audio: all of it is silent",
        "stops_sounding": "audio too short: 1.",
    }
    assert {n for n in expected if not reasons[n].startswith(expected[n])} == set(), reasons
    report = json.loads((tmp_path / "made/report.json").read_text())
    assert (report["tried"], report["num_made"]) == (8, 1)
    assert report["rejected"]["no audio"] == 2
    assert report["rejected"]["exit code 3"] == 1
    (made,) = read_manifest(tmp_path / "made", "train").entries
    assert made.clip_id.endswith("/fine")


def test_a_program_that_hangs_is_ended_with_all_it_started(
    make: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # Long enough for the script to have started its child on a machine that does other things.
    limit = ["--kind", "text-to-video", "--seconds-per-clip", "3"]
    assert make([job("one", "hangs")], *limit) == 1
    assert "over the time limit: 3 s: making hangs" in capsys.readouterr().err
    stat = Path(f"/proc/{(tmp_path / 'pid').read_text()}/stat")
    assert not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] in "ZX"


def test_a_audio_is_made_for_the_frames_of_a_parent(
    make: Callable[..., int], tmp_path: Path
) -> None:
    generator = tmp_path / "generator.py"
    command = (f"{sys.executable} {generator} {{text}} {{output}} {{duration}} {{seed}} "
               "{input_video}")  # fmt: skip
    jobs = [job("one", parent="a", seed=7)]
    del jobs[0]["duration_seconds"]  # then it is the parent's
    assert make(jobs, "--kind", "video-to-audio", command=command) == 0
    (entry,) = read_manifest(tmp_path / "made", "train").entries
    assert entry.synthetic is not None
    assert (entry.synthetic.parents, entry.source_id) == (("a",), "of a")
    frames, audio = whole(tmp_path / "made", entry)
    np.testing.assert_allclose(
        np.flatnonzero(frames[:, 64:].mean(axis=(1, 2, 3)) > 200) / 25, [0.4, 1.2]
    )
    np.testing.assert_allclose(beep_times(audio, 16_000), [0.68], atol=0.003)


def test_frames_are_made_for_the_audio_of_a_parent(
    make: Callable[..., int], tmp_path: Path
) -> None:
    generator = tmp_path / "generator.py"
    command = (f"{sys.executable} {generator} {{text}} {{output}} {{duration}} {{seed}} "
               "{input_audio}")  # fmt: skip
    jobs = [job("one", "makes frames", parent="a", seed=7)]
    assert make(jobs, "--kind", "audio-to-video", command=command) == 0
    (entry,) = read_manifest(tmp_path / "made", "train").entries
    frames, audio = whole(tmp_path / "made", entry)
    np.testing.assert_allclose(
        np.flatnonzero(frames[:, 64:].mean(axis=(1, 2, 3)) > 200) / 25, [0.68, 1.2]
    )
    np.testing.assert_allclose(beep_times(audio, 16_000), [0.4, 1.2], atol=0.003)


@pytest.mark.parametrize(
    ("changes", "more", "message"),
    [
        ({"parent": "t"}, [], "jobs.jsonl:1: parent 't' is no clip of the train split"),
        ({"label": "z"}, [], "jobs.jsonl:1: label 'z' is not a class"),
        ({"text": ""}, [], "jobs.jsonl:1: needs text"),
        ({"duration_seconds": 0}, [], "jobs.jsonl:1: duration_seconds must be in (0, 3600)"),
        ({"duration_seconds": "2"}, [], "jobs.jsonl:1: duration_seconds has the wrong type: '2'"),
        ({"seconds": 2}, [], "jobs.jsonl:1: no key 'seconds'; there are: id, label"),
        ({"id": ""}, [], "jobs.jsonl:1: needs id"),
        ({}, ["--makes", "audio"], "jobs.jsonl:1: needs parent"),
        ({}, ["--tolerance", "-1"], "--tolerance must be"),
        ({}, ["--workers", "0"], "--workers must be at least 1"),
    ],
)
def test_bad_jobs_are_one_line_before_any_program_runs(
    make: Callable[..., int],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    changes: dict[str, Any],
    more: list[str],
    message: str,
) -> None:
    assert make([job("one") | changes], *TEXT_TO_VIDEO, *more) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("gen {text}", r"needs \{output\}"),
        ("gen {output} {txt}", r"\{txt\} is not known; there are: \{input_video\}"),
        ("gen '{output}", "No closing quotation"),
    ],
)
def test_bad_commands_are_refused(command: str, message: str) -> None:
    with pytest.raises(SynthError, match=message):
        parse_command(command)


def test_a_program_that_is_not_there_is_named(
    make: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert make([job("one")], *TEXT_TO_VIDEO, command="no-such-program {output}") == 1
    assert "no program 'no-such-program'" in capsys.readouterr().err


def test_no_shell_sees_the_text() -> None:
    command = parse_command("gen --prompt={text} '{output}' \"a b\"")
    values = {"text": "x; rm -rf {output} $HOME 'quoted'", "output": "/o u t"}
    assert filled(command, values) == [
        "gen", "--prompt=x; rm -rf {output} $HOME 'quoted'", "/o u t", "a b",
    ]  # fmt: skip


def test_a_child_is_given_nothing_to_read(tmp_path: Path) -> None:
    code = "import sys; print(repr(sys.stdin.read())); sys.exit(7)"
    reader, writer = os.pipe()
    os.write(writer, b"typed by somebody")
    os.close(writer)
    ours = os.dup(0)
    os.dup2(reader, 0)
    try:
        ran = run_child([sys.executable, "-c", code], log=tmp_path / "log", limit_seconds=30.0)
    finally:
        os.dup2(ours, 0)
        os.close(ours)
        os.close(reader)
    assert (ran.exit_code, ran.problem) == (7, "exit code 7")
    assert (tmp_path / "log").read_text() == "''\n"


def test_another_command_does_not_go_on_with_a_set(
    make: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert make([job("one")], *TEXT_TO_VIDEO) == 0
    made = (tmp_path / "made/train.jsonl").read_bytes()
    assert make([job("one")], *TEXT_TO_VIDEO) == 0
    assert "nothing to do" in capsys.readouterr().out
    assert make([job("one"), job("two")], *TEXT_TO_VIDEO) == 1
    assert "written with other arguments: jobs_sha256 is" in capsys.readouterr().err
    assert (tmp_path / "made/train.jsonl").read_bytes() == made
    assert make([job("one")], *TEXT_TO_VIDEO, "--overwrite") == 0
    entry = read_manifest(tmp_path / "made", "train").entries[0]
    path = tmp_path / "made" / entry.path
    assert hashlib.sha256(path.read_bytes()).hexdigest() == entry.sha256
    assert replace(entry, synthetic=None) == entry_of(
        path, tmp_path / "made", clip_id=entry.clip_id, labels=("x",), source_id=entry.source_id
    )
