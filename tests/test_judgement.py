"""What prepare keeps, training reads; and the doctor says the same of every file.

One table of files: clean ones, and one of each way in which recordings and downloads break.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from avmix.config import ClipConfig
from avmix.data.eval_windows import Window
from avmix.data.manifest import read_manifest, row_of
from avmix.decode import ClipError, DecodeError, decode_clips
from avmix.doctor.examine import Task, examine
from avmix.doctor.manifest_check import _differences
from avmix.media.fingerprint import fingerprint_of
from avmix.media.frame_scan import Check
from avmix.media.judgement import Judgement, Worth, entry_of, judge_file
from avmix.media.whole_clip import audio_of, frames_of, num_frames_of
from avmix.prepare.command import run_recipe
from avmix.preview.mix_preview import _read
from avmix.types import Entry
from tests.media import write_flash_beep
from tests.mini_recipe import protocols

SMALL: dict[str, Any] = {"seconds": 3, "size": (64, 48), "gop": 10, "events_seconds": (0.4, 1.2)}
"""3 s at 25 frames / s, a key frame each 0.4 s."""


@dataclass(frozen=True)
class Case:
    """A file, and what is right to say of it."""

    name: str
    worth: Worth
    good: tuple[float, float]
    """The longest stretch without damage, seconds: what is kept lies within it."""
    least_seconds: float
    """How much of that has to be kept."""
    reason: str
    fast: Worth
    """What packets and audio alone tell."""


CASES = (
    Case("plain.mp4", "whole", (0, 3), 3, "", "whole"),
    Case("plain.mkv", "whole", (0, 3), 3, "", "whole"),
    Case("plain.avi", "whole", (0, 3.04), 3, "", "whole"),
    Case("plain.ts", "whole", (0, 3), 3, "", "whole"),
    # Frames are all there; the audio is zeros where it is damaged.
    Case("audio.mkv", "whole", (0, 3), 3, "", "whole"),
    # The second recording has other frames for the same times: it cannot be addressed.
    Case("restart.ts", "part", (0, 3), 2, "its clock starts again", "part"),
    Case("rate.ts", "part", (0, 3), 2, "the sample rate changes from 48000 to 44100", "part"),
    Case("size.ts", "part", (0, 3), 2, "the size of its frames changes to 96x64", "part"),
    # 60 % of the bytes; the header, which declares 3 s, is at the front.
    Case("half.mp4", "part", (0, 1.9), 0.6, "the header declares 3.00 s", "part"),
    Case("half.mkv", "part", (0, 1.9), 1.1, "the header declares 3.0", "part"),
    Case("half.avi", "part", (0, 1.9), 1.5, "the header declares 3.0", "part"),
    # Nothing tells that it was longer, and of the frames that are there none is damaged.
    Case("half.ts", "whole", (0, 1.9), 1.5, "", "whole"),
    # Noise in the key frame at 1.6 s: damage until the one at 2 s, and frames shortly before it
    # are not trusted.
    Case("flipped.mp4", "part", (0, 1.6), 1.4, "frames are damaged at 1.4", "whole"),
    Case("flipped.ts", "part", (0, 1.6), 1.4, "frames are damaged at 1.4", "whole"),
    # Frames of AVI are counted: the times of those after damage are unknown.
    Case("flipped.avi", "part", (0, 1.6), 1.4, "frames are damaged at 1.5", "whole"),
    Case("text.mp4", "nothing", (0, 0), 0, "cannot be opened as media", "nothing"),
    Case("dark.mp4", "nothing", (0, 0), 0, "frames are damaged at 0.00 s", "whole"),
)
IDS = [case.name for case in CASES]


def remux(
    source: Path,
    path: Path,
    *,
    later: float = 0.0,
    options: Any = None,
    edit: Callable[[Any], bytes] = bytes,
) -> Path:
    """The packets of `source`, edited, in another container, all `later` seconds later."""
    with av.open(str(source)) as given, av.open(str(path), "w", options=options or {}) as out:
        streams = {s.index: out.add_stream_from_template(s) for s in given.streams}
        for packet in given.demux():
            if packet.size:
                assert packet.pts is not None
                assert packet.dts is not None
                ticks, copy = round(later / packet.time_base), av.Packet(edit(packet))
                copy.pts, copy.dts = packet.pts + ticks, packet.dts + ticks
                copy.duration, copy.time_base = packet.duration, packet.time_base
                copy.is_keyframe, copy.stream = packet.is_keyframe, streams[packet.stream.index]
                out.mux(copy)
    return path


def with_noise(source: Path, path: Path, seconds: float) -> Path:
    """`source` with noise in the bytes of the key frame at `seconds`, or where that is infinite of
    every frame."""
    data, noise = bytearray(source.read_bytes()), np.random.default_rng(0)
    with av.open(str(source)) as container:
        (stream,) = container.streams.video
        packets: list[Any] = [p for p in container.demux(stream) if p.size]
    ticks = [p.dts if p.pts is None else p.pts for p in packets]
    for packet, tick in zip(packets, ticks, strict=True):
        at = float((tick - ticks[0]) * packet.time_base)
        if seconds == np.inf or (packet.is_keyframe and abs(at - seconds) < 0.05):
            begin = packet.pos + (100 if path.suffix == ".ts" else 12)
            size = min(max(packet.size - 12, 0), 80)
            data[begin : begin + size] = noise.bytes(size)
    path.write_bytes(data)
    return path


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All files of `CASES`; only read them."""
    root = tmp_path_factory.mktemp("worth")
    work = tmp_path_factory.mktemp("parts")
    plain = write_flash_beep(root / "plain.mp4", **SMALL)
    remux(plain, root / "plain.mkv")
    write_flash_beep(root / "plain.avi", **SMALL, b_frames=0)
    first = remux(plain, root / "plain.ts")
    changes: dict[str, dict[str, Any]] = {
        "rate": {"sample_rate": 44_100}, "size": {"size": (96, 64)}
    }  # fmt: skip
    (root / "restart.ts").write_bytes(2 * first.read_bytes())
    for name, how in changes.items():
        other = write_flash_beep(work / f"{name}.mp4", **{**SMALL, **how})
        follows = remux(other, work / f"{name}.ts", later=3.1)
        (root / f"{name}.ts").write_bytes(first.read_bytes() + follows.read_bytes())
    front = remux(plain, work / "front.mp4", options={"movflags": "faststart"})
    for suffix, whole in (
        (".mp4", front),
        *((s, root / f"plain{s}") for s in (".mkv", ".avi", ".ts")),
    ):
        data = whole.read_bytes()
        (root / f"half{suffix}").write_bytes(data[: len(data) * 6 // 10])
        if suffix != ".mkv":
            with_noise(whole, root / f"flipped{suffix}", 1.6)
    with_noise(
        write_flash_beep(work / "a.mp4", **SMALL, audio_codec=None), root / "dark.mp4", np.inf
    )
    remux(plain, root / "audio.mkv", edit=lambda p: (
        b"\xff" * 200 if p.stream.type == "audio" and 0.9 < p.pts * p.time_base < 1.1 else bytes(p)
    ))  # fmt: skip
    (root / "text.mp4").write_text("not a film\n" * 100)
    return root


@pytest.fixture(scope="module")
def judged(media: Path) -> dict[str, Judgement]:
    """Of every file, every frame looked at."""
    return {case.name: judge_file(media / case.name, "full") for case in CASES}


@pytest.fixture(scope="module")
def prepared(media: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The dataset that the recipe makes of all files with --check full; only read it."""
    table = tmp_path_factory.mktemp("table")
    rows = [f"{c.name},train,clap,{c.name},{c.name}" for c in CASES]
    (table / "list.csv").write_text("\n".join(["mini/1", *rows, ""]))
    out = tmp_path_factory.mktemp("prepared") / "out"
    given = ["--root", str(media), "--annotations", str(table), "--out", str(out)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("avmix.prepare.inventory_html._plots", lambda entries: [])
        assert run_recipe("mini", "doc", protocols, argv=[*given, "--check", "full"]) == 0
    return out


@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_what_a_file_is_worth(judged: dict[str, Judgement], case: Case) -> None:
    found = judged[case.name]
    assert found.worth == case.worth
    assert bool(found.reasons) == (case.worth != "whole")
    assert case.reason in "; ".join(found.reasons)
    if case.worth != "nothing":
        begin, end = found.best
        assert case.good[0] - 0.01 <= begin
        assert end <= case.good[1] + 0.01
        assert end - begin >= case.least_seconds - 0.001


@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_what_packets_and_audio_tell(media: Path, judged: dict[str, Judgement], case: Case) -> None:
    found = judge_file(media / case.name, "fast")
    assert found.worth == case.fast
    if case.fast == case.worth == "part":  # then the frames were looked at, too
        assert (found.looked, found.good) == ("frames", judged[case.name].good)
    if case.worth == "whole":
        assert (found.video, found.audio) == (judged[case.name].video, judged[case.name].audio)


def test_what_prepare_keeps_training_reads(media: Path, prepared: Path) -> None:
    kept = {e.clip_id: e for e in read_manifest(prepared, "train").entries}
    assert set(kept) == {c.name for c in CASES if c.worth != "nothing"}
    assert [why for e in kept.values() for why in failures(media, e)] == []


def test_who_reads_whole_clips_reads_parts(media: Path, prepared: Path) -> None:
    for entry in read_manifest(prepared, "train").entries:
        if entry.usable_until_seconds is not None:
            pieces = list(frames_of(media, entry, short_side=32))
            assert sum(map(len, pieces)) == num_frames_of(entry)
            assert audio_of(media, entry, 16_000).any()
            assert fingerprint_of(media, entry).problem == ""
            config = ClipConfig(duration_seconds=2.0, num_frames=4, short_side=32, crop=32)
            start = entry.end_seconds - 0.2
            shown = _read(media / entry.path, Window(start, 2.0), config, None,
                          entry.usable_until_seconds)  # fmt: skip
            assert shown.num_held == 4


def failures(media: Path, entry: Entry) -> list[str]:
    """Windows within the clip, and longer ones, that cannot be read."""
    found: list[str] = []
    for length in (0.3, 2.0):
        slack = max(entry.duration_seconds - length, 0.0)
        for start in entry.start_seconds + np.append(np.arange(0, slack, 0.61), slack):
            (clip,) = decode_clips(
                media / entry.path,
                starts_seconds=[float(start)],
                duration_seconds=length,
                num_frames=7,
                short_side=32,
                audio="silence" if entry.audio is None else "require",
                until_seconds=entry.usable_until_seconds,
            )
            if isinstance(clip, ClipError):
                found.append(f"{entry.path} at {start:.2f}: {clip.problem}")
            elif entry.usable_until_seconds is not None:
                assert clip.pts_seconds.max() < entry.usable_until_seconds
    return found


@pytest.mark.parametrize("name", ["restart.ts", "rate.ts", "half.mp4", "flipped.avi"])
def test_windows_beyond_a_part_need_its_end(media: Path, prepared: Path, name: str) -> None:
    (entry,) = (e for e in read_manifest(prepared, "train").entries if e.path == name)
    start = max(entry.end_seconds - 0.2, entry.start_seconds)
    how: Any = {
        "starts_seconds": [start],
        "duration_seconds": 2.0,
        "num_frames": 8,
        "short_side": 32,
    }
    (clip,) = decode_clips(media / name, **how)
    assert isinstance(clip, ClipError)
    (clip,) = decode_clips(media / name, **how, until_seconds=entry.usable_until_seconds)
    assert not isinstance(clip, ClipError)
    inside = entry.end_seconds - start
    assert clip.num_held == 8 - np.sum((np.arange(8) + 0.5) / 4 < inside)
    assert clip.audio_valid == pytest.approx(inside / 2, abs=0.05)
    assert not clip.audio[round((inside + 0.02) * 16_000) :].any()


def test_rows_say_why_and_what_was_looked_at(prepared: Path) -> None:
    rows = [json.loads(line) for line in (prepared / "excluded.jsonl").read_text().splitlines()]
    nothing = {c.name: c.reason for c in CASES if c.worth == "nothing"}
    assert {r["clip_id"]: r["status"] for r in rows} == dict.fromkeys(nothing, "unreadable")
    assert all(nothing[r["clip_id"]] in r["reason"] for r in rows)
    inventory = json.loads((prepared / "inventory.json").read_text())
    remarks = {r["clip_id"]: r for r in inventory["remarks"]}
    for case in CASES:
        flagged = "in_part" in remarks.get(case.name, {"flags": ()})["flags"]
        assert flagged == (case.worth == "part")
        assert not flagged or case.reason in remarks[case.name]["text"]
    assert "damaged_audio" in remarks["audio.mkv"]["flags"]
    looks = json.loads((prepared / "dataset.json").read_text())["notes"]["looks"]
    num, unread = len(CASES), len(nothing)
    assert (looks["check"], looks["files"]) == ("full", num)
    assert (looks["frames_of"], looks["packets_of"], looks["unread"]) == (num - unread, 0, unread)
    assert f"every frame and the audio of {num} files" in (prepared / "inventory.html").read_text()


def test_the_doctor_finds_files_as_their_rows_say(media: Path, prepared: Path) -> None:
    for entry in read_manifest(prepared, "train").entries:
        assert _differences(str(media / entry.path), [entry]) == []


SHOWN = ("plain.mp4", "audio.mkv", "restart.ts", "rate.ts", "size.ts", "half.mp4", "flipped.mp4",
         "flipped.avi", "text.mp4", "dark.mp4")  # fmt: skip
"""One of each kind: the doctor reads a file many times."""


@pytest.mark.parametrize("case", [c for c in CASES if c.name in SHOWN], ids=SHOWN)
def test_the_doctor_agrees(media: Path, judged: dict[str, Judgement], case: Case) -> None:
    report, found = examine(Task(path=str(media / case.name), seconds=60.0)), judged[case.name]
    assert report.judgement is not None
    assert report.judgement.worth == case.worth
    assert (report.judgement.good, report.judgement.reasons) == (found.good, found.reasons)
    assert (report.level == "error") == (case.worth != "whole")


def test_an_entry_of_a_part_has_to_be_asked_for(media: Path) -> None:
    how: Any = {"clip_id": "a", "labels": ["x"], "source_id": "a"}
    with pytest.raises(DecodeError, match=r"half\.mp4: usable from 0\.00 to .*: it is cut off"):
        entry_of(media / "half.mp4", media, **how)
    entry = entry_of(media / "half.mp4", media, **how, in_part=True)
    assert 0.6 < entry.end_seconds == entry.usable_until_seconds


@pytest.mark.parametrize("check", ["fast", "full"])
def test_rows_of_clean_files_are_as_they_were(media: Path, check: Check) -> None:
    # What was written before there was a judgement; times of AAC in mp4 by its encoder's priming.
    entry = entry_of(
        media / "plain.mp4", media, clip_id="a", labels=["x"], source_id="s", check=check
    )
    assert (entry.start_seconds, entry.end_seconds, entry.usable_until_seconds) == (0, 3, None)
    assert "usable_until_seconds" not in row_of(entry)


@pytest.mark.parametrize("frames", [1, 3])
def test_a_short_file_is_whole(tmp_path: Path, frames: int) -> None:
    path = write_flash_beep(
        tmp_path / "a.mp4", seconds=frames / 25, size=(64, 48), events_seconds=(), audio_codec=None
    )
    for check in ("fast", "full"):
        found = judge_file(path, check)
        assert (found.worth, found.good) == ("whole", ((0.0, frames / 25),))


def test_audio_alone_that_starts_again_is_usable_in_part(tmp_path: Path) -> None:
    path = tmp_path / "a.ts"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("mp2", rate=48_000)
        for k in range(100):
            noise = np.random.default_rng(k).normal(0, 3000, (1, 1152)).astype(np.int16)
            frame = av.AudioFrame.from_ndarray(noise, "s16", "mono")
            frame.sample_rate, frame.pts = 48_000, 1152 * k
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    path.write_bytes(2 * path.read_bytes())
    found = judge_file(path)
    assert found.worth == "part"
    assert "its clock starts again" in found.said()
    (good,) = found.good
    assert 1.5 < good[1] < 2.2
    with pytest.raises(DecodeError, match="its clock starts again"):
        entry_of(path, tmp_path, clip_id="a", labels=["x"], source_id="a")
