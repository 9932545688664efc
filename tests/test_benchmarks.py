import importlib
import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import av
import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
QUICK = ["--quick", "--truths", "8", "--decodes", "40"]
SURE = ["plain.mp4", "faststart.mp4", "intra.mp4", "no_b.mp4"]
"""Files that everybody decodes well enough; who does not is called in a wrong way."""


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Import a module of benchmarks/, as the script that is run there does."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module


def run(tmp_path: Path, *options: str) -> dict[str, Any]:
    command = [sys.executable, "benchmarks/decode.py", "--work", str(tmp_path / "work"),
               "--out", str(tmp_path / "decode.json"), "--allow-uncommitted", *options]  # fmt: skip
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    return json.loads((tmp_path / "decode.json").read_text(), parse_constant=refuse)


@pytest.mark.slow
def test_a_quick_run_measures_everything_once(tmp_path: Path, load: Any) -> None:
    folder = tmp_path / "others"
    folder.mkdir()
    footage, paste = load("decoding.footage"), load("paste")
    made = footage.made_clips(tmp_path / "work/made", 12, 2)
    (folder / "a.mp4").symlink_to(made[0])
    (folder / "b.mp4").write_text("not a video")
    result = run(tmp_path, *QUICK, "--only", "decord", "--clips", f"mine={folder}")
    assert result["absent"] == {}
    loads = {"gop250_16x4", "gop250_8x8", "gop12_16x4", "gop12_8x8", "long_16x4", "mine"}
    assert set(result["workloads"]) == set(result["speed"]) == loads
    assert list(result["workloads"]["mine"]["left_out"]) == ["b.mp4"]
    assert [row["errors"] for row in result["speed_rounds"]] == [{}] * len(loads)
    for load_name, by_name in result["speed"].items():
        assert set(by_name) == {"floor", "avmix", "decord"}, load_name
        assert by_name["floor"]["ratio_to_floor"] == by_name["avmix"]["ratio_to_avmix"] == 1
        assert all(entry["clips_per_cpu_second"] > 0 for entry in by_name.values())
    assert set(result["truth"]) == {"avmix", "decord"}
    total = result["truth"]["avmix"]
    assert 4 <= total["num_files"] <= 8
    assert total["num_files"] == total["num_exact"] + len(result["truth_not_exact"]["avmix"])
    assert [m["candidate"] for m in result["memory"]] == ["avmix", "decord"]
    assert result["memory"][0]["mib"][-1]["decodes"] == 40
    assert len(result["scaling"]["clips_per_second_2_processes"]) == 1
    assert str(tmp_path) not in json.dumps(result)  # no folders of this machine
    text = paste.table(result)
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert len(rows) == (1 + 3) + (1 + 2)
    assert "| mine |" in rows[0]
    assert rows[2].startswith("| avmix | **1** (")


@pytest.mark.slow
def test_every_candidate_is_used_as_it_should_be(tmp_path: Path, load: Any) -> None:
    result = run(tmp_path, "--parts", "speed", "--quick")
    assert [row["errors"] for row in result["speed_rounds"]] == [{}] * 5
    decoders, truths, workers = (
        load("decoding.decoders"),
        load("decoding.truths"),
        load("decoding.workers"),
    )
    recipes = [truths.RECIPES[name] for name in SURE]
    for recipe in recipes:
        truths.write_media(tmp_path / recipe.name, recipe)
    for name, candidate in decoders.CANDIDATES.items():
        if candidate.delivers and name not in result["absent"]:
            worker = workers.Worker(name, tmp_path / "log.txt")
            total, files = truths.check(worker, tmp_path, recipes)
            worker.close()
            assert total["num_exact"] + total["num_small_error"] == len(SURE), (name, files)


@pytest.mark.slow
def test_memory_does_not_grow(tmp_path: Path, load: Any) -> None:
    """Keeping every third frame until Python's rare full collection is 10 MiB per 1,000."""
    memory, truths = load("decoding.memory"), load("decoding.truths")
    recipes = [truths.RECIPES[name] for name in (*SURE, "plain.mkv", "plain.avi", "plain.ts")]
    for recipe in recipes:
        truths.write_media(tmp_path / recipe.name, recipe)
    jobs = truths.truth_jobs(tmp_path, recipes)
    found = memory.measure_memory("avmix", jobs, 4000, tmp_path / "log.txt")
    assert found["num_failed"] == 0
    assert found["kib_per_1000_decodes"] < 3072, found


def test_the_made_files_are_what_they_are_said_to_be(tmp_path: Path, load: Any) -> None:
    footage = load("decoding.footage")
    (path,) = footage.made_clips(tmp_path, 12, 1)
    with av.open(str(path)) as container:
        packets = [p for p in container.demux(video=0) if p.size]
    assert len(packets) == 300
    keys = [number for number, packet in enumerate(packets) if packet.is_keyframe]
    assert keys[0] == 0
    assert max(np.diff(keys)) == 12
    with av.open(str(footage.long_clip(tmp_path, path))) as container:
        times: dict[str, list[float]] = {"video": [], "audio": []}
        for packet in container.demux():
            if packet.size and packet.pts is not None:
                times[packet.stream.type].append(float(packet.pts * packet.time_base))
        container.seek(585_000_000)
        assert container.streams.video[0].frames == 60 * 300
        frame = next(container.decode(video=0))
        assert frame.time is not None
        assert 584 <= frame.time <= 585
    frames = np.diff(sorted(times["video"]))
    audio = np.diff(times["audio"])
    assert np.allclose(frames, 1 / 30, atol=1e-4)
    assert np.allclose(audio, 1024 / 44_100, atol=1e-4)
    assert times["video"][-1] > 599
    assert times["audio"][-1] > 599


def test_a_folder_is_named_with_the_form_of_its_clips(tmp_path: Path, load: Any) -> None:
    named = load("decode")._named
    folder = tmp_path / "clips"
    folder.mkdir()
    assert named(str(folder)) == ("clips", folder, 16, None)
    assert named(f"mine={folder}") == ("mine", folder, 16, None)
    assert named(f"mine={folder}:8x72") == ("mine", folder, 8, 72)
    with pytest.raises(SystemExit, match="no folder"):
        named(f"mine={folder}:8")


def test_a_candidate_may_have_another_interpreter(tmp_path: Path, load: Any) -> None:
    decode, workers, machine = load("decode"), load("decoding.workers"), load("shared.machine")
    other = tmp_path / "python"
    other.write_text(f'#!/bin/sh\ntouch "{tmp_path}/used"\nexec {sys.executable} "$@"\n')
    other.chmod(0o755)
    assert decode._interpreter(f"floor={other}") == ("floor", str(other))
    with pytest.raises(SystemExit, match="--python nobody="):
        decode._interpreter(f"nobody={other}")
    expected = {"av": av.__version__, "no-such-package": None}
    assert machine.versions_of(list(expected), str(other)) == expected
    (tmp_path / "used").unlink()
    workers.Worker("floor", tmp_path / "log.txt", str(other)).close()
    assert (tmp_path / "used").exists()


def test_two_packages_with_one_module_are_told_apart(load: Any) -> None:
    decoders = load("decoding.decoders")
    pytest.importorskip("decord")
    decoders._check_owner("decord", "decord")
    with pytest.raises(ModuleNotFoundError):
        decoders._check_owner("decord", "numpy")


def test_ratios_are_those_of_windows_that_both_delivered(load: Any) -> None:
    speed = load("decoding.speed")

    def row(name: str, number: int, cpu: list[float], errors: list[str]) -> dict[str, Any]:
        return {"workload": "w", "round": number, "candidate": name, "cpu_seconds": cpu,
                "wall_seconds": [2 * s for s in cpu], "errors": errors}  # fmt: skip

    summary = speed.summarise_speed(
        [
            row("floor", 0, [0.1, 0.1], ["", ""]),
            row("avmix", 0, [0.2, 0.2], ["", ""]),
            row("slow", 0, [0.4, math.nan], ["", "hang"]),
            row("floor", 1, [0.1, 0.3], ["", ""]),
            row("avmix", 1, [0.4, 0.4], ["", ""]),
            row("slow", 1, [0.01, 1.6], ["refused", ""]),
        ]
    )["w"]
    assert summary["floor"]["ratio_to_avmix"] == 2.0  # of 2 and 2
    assert summary["avmix"]["ratio_to_floor"] == 0.5
    assert summary["slow"]["ratio_to_avmix"] == pytest.approx(0.375)  # of 1/2 and 1/4
    assert summary["slow"]["ratio_to_floor"] == pytest.approx(0.2188)  # of 1/4 and 3/16
    assert summary["slow"]["clips_per_cpu_second"] == pytest.approx(1.5625)  # of 2.5 and 0.625
    assert summary["slow"]["clips_per_second"] == pytest.approx(0.7812)
    assert (summary["slow"]["num_failed"], summary["slow"]["num_clips"]) == (2, 4)


def test_a_candidate_that_dies_or_hangs_is_told_apart_and_replaced(
    tmp_path: Path, load: Any, request: pytest.FixtureRequest
) -> None:
    workers, decoders, truths = (
        load("decoding.workers"),
        load("decoding.decoders"),
        load("decoding.truths"),
    )
    path = truths.write_media(tmp_path / "plain.mp4", truths.RECIPES["plain.mp4"])
    job = decoders.Job(path=str(path), start_seconds=0.5, duration_seconds=1.0, num_frames=5)
    worker = workers.Worker("plain_pyav", tmp_path / "log.txt")
    request.addfinalizer(worker.close)
    for kill, said, limit in ((signal.SIGKILL, "crash", 60.0), (signal.SIGSTOP, "hang", 0.5)):
        os.kill(worker._process.pid, kill)
        with pytest.raises(workers.Lost, match=said):
            worker.decode(job, limit)
        frames, wave = worker.decode(job, 60.0)
        assert frames.shape[0] == 5
        assert wave.shape == (16_000,)
    missing = decoders.Job(path="nowhere.mp4", start_seconds=0, duration_seconds=1.0, num_frames=5)
    with pytest.raises(workers.Failed, match="FileNotFoundError"):
        worker.decode(missing, 60.0)


def test_time_of_children_counts(load: Any) -> None:
    processes: ModuleType = load("shared.processes")
    before = processes.cpu_seconds()
    burn = "import time\nwhile time.process_time() < 0.3: pass"
    subprocess.run([sys.executable, "-c", burn], check=True)
    assert processes.cpu_seconds() - before >= 0.3


def test_verdicts(load: Any) -> None:
    truths = load("decoding.truths")
    good = {"av_error_ms": 3.0, "worst_pictures_off": 0, "wrong_pictures": 0,
            "sound_missing": False, "errors": []}  # fmt: skip
    for change, verdict in (
        ({}, "exact"),
        ({"av_error_ms": None}, "exact"),
        ({"av_error_ms": 10.1}, "small error"),
        ({"worst_pictures_off": 1, "wrong_pictures": 1}, "small error"),
        ({"av_error_ms": 45.1}, "silently wrong"),
        ({"worst_pictures_off": 2, "wrong_pictures": 1}, "silently wrong"),
        ({"sound_missing": True}, "silently wrong"),
        ({"errors": ["no"]}, "refused"),
        ({"errors": ["no"], "av_error_ms": 45.1}, "silently wrong"),
    ):
        assert truths._verdict({**good, **change}) == verdict, change


def test_a_frame_is_as_far_off_as_there_are_frames_between(load: Any) -> None:
    truths = load("decoding.truths")
    truth = truths.truth_of(truths.RECIPES["plain.mp4"])  # 25 frames a second
    from tests.media import draw_frame

    def off(number: int, wanted: float) -> int:
        frame = draw_frame(number, size=(160, 128), flash=False)
        return truths._frames_off(frame, wanted, truth)

    assert [off(10, 0.41), off(10, 0.45), off(10, 0.37), off(10, 0.81)] == [0, 1, 1, 10]
    assert truths._frames_off(np.full((128, 160, 3), 128, np.uint8), 0.4, truth) >= 1000


def test_both_arms_of_the_few_shot_experiment_do_as_many_steps(load: Any) -> None:
    pace = load("fewshot").pace_of({"plain": 40, "repair": 120}, 200)
    assert (pace.batch_size, pace.steps_per_epoch) == (16, {"plain": 2, "repair": 7})
    assert pace.num_steps == 196  # the multiple of 14 that is nearest
    assert pace.epochs == {"plain": 98, "repair": 28}
    assert load("fewshot").pace_of({"plain": 20, "repair": 50}, 10).batch_size == 8


def test_a_page_can_wait_for_its_numbers(load: Any) -> None:
    page = "<!-- result not_there -->\nold\n<!-- end -->"
    assert load("paste").pasted(page) == page.replace("old", "Not measured yet.")
