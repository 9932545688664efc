"""`avmix predict --live` and `TrainedNetwork.stream`: the numbers of files, in bounded memory."""

import json
import os
import signal
import subprocess
import threading
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np
import pytest
import torch
from command_line import PROGRAM
from media import write_flash_beep
from test_trained import CLIP, write

import avmix
from avmix.data.stream_windows import StreamWindow, StreamWindows
from avmix.decode import ClipError, MediaOpenError
from avmix.decode.live_source import LiveFrame, StalledError, open_live

ROOT = Path(__file__).parents[1]


class Setup(NamedTuple):
    mp4: Path
    run: Path


@pytest.fixture(scope="module")
def setup(tmp_path_factory: pytest.TempPathFactory) -> Setup:
    folder = tmp_path_factory.mktemp("live")
    write_flash_beep(folder / "a.mp4", seconds=3, events_seconds=(0.04, 0.4, 0.9, 1.6, 2.2, 2.7),
                     size=(48, 32))  # fmt: skip
    (folder / "run").mkdir()
    write(folder / "run")
    return Setup(folder / "a.mp4", folder / "run")


def remuxed(path: Path, container: str, *kinds: str) -> bytes:
    """The packets of a file in another container; `kinds`: of streams, or all."""
    out = BytesIO()
    with av.open(str(path)) as source, av.open(out, "w", format=container) as target:
        streams = [s for s in source.streams if s.type in (kinds or ("video", "audio"))]
        other = {s.index: target.add_stream_from_template(s) for s in streams}
        for packet in source.demux(*streams):
            if packet.dts is not None:
                packet.stream = other[packet.stream.index]
                target.mux(packet)
    return out.getvalue()


def along_time(setup: Setup, path: Path, capsys: pytest.CaptureFixture[str], step: float) -> Any:
    _, out, _ = predict(capsys, path, "--along-time", "--step", step, "--workers", 0,
                        run=setup.run)  # fmt: skip
    return json.loads(out)["files"][0]["windows"]


def predict(capsys: pytest.CaptureFixture[str], *words: object, run: Path) -> tuple[int, str, str]:
    from avmix import cli

    capsys.readouterr()
    with pytest.raises(SystemExit) as end:
        cli.main(["predict", *map(str, words), "--checkpoint", str(run), "--json", "-", "--top",
                  "0", "--threads", "1"])  # fmt: skip
    said = capsys.readouterr()
    assert isinstance(end.value.code, int)
    return end.value.code, said.out, said.err


def same(live: list[Any], windows: list[Any]) -> None:
    assert len(live) == len(windows)
    for one, other in zip(live, windows, strict=True):
        assert one["start_seconds"] == pytest.approx(other["start_seconds"], abs=1e-3)
        for found, expected in zip(one["classes"], other["classes"], strict=True):
            assert found["name"] == expected["name"]
            for head in ("fused", "video", "audio"):
                assert found[head] == pytest.approx(expected[head], abs=1e-4)


@pytest.mark.parametrize(
    ("container", "kinds"),
    [("mpegts", ()), ("matroska", ()), ("mpegts", ("video",)), ("mpegts", ("audio",))],
)
def test_a_stream_has_the_numbers_of_its_file(
    setup: Setup, tmp_path: Path, capsys, container: str, kinds: tuple[str, ...]
) -> None:
    path = tmp_path / "stream"
    path.write_bytes(remuxed(setup.mp4, container, *kinds))
    code, out, err = predict(capsys, "--live", path, "--step", 0.25, run=setup.run)
    assert code == 0
    assert "windows predicted, 0 lost; the stream ended" in err
    live = [json.loads(line) for line in out.splitlines()]
    assert len(live) > 9
    assert len({round(one["classes"][0]["fused"], 6) for one in live}) > 3
    file = path
    if not kinds:  # of the same packets, in the file that is sought
        same(live, along_time(setup, setup.mp4, capsys, 0.25))
    same(live, along_time(setup, file, capsys, 0.25))


def pushed(net: Any, data: bytes) -> tuple[list[Any], Any]:
    """What a stream of `data` gives, through a real pipe."""
    read, write_end = os.pipe()
    thread = threading.Thread(target=_feed, args=(write_end, data))
    thread.start()
    found: list[Any] = []
    try:
        with open_live(read, "pipe", short_side=net.clip.short_side) as source:
            stream = net.stream(step_seconds=0.5, has_video=source.has_video,
                                has_audio=source.has_audio)  # fmt: skip
            for part in source:
                if isinstance(part, LiveFrame):
                    found += stream.push_frame(part.image, part.seconds, part.duration_seconds)
                else:
                    found += stream.push_audio(part.mono, part.seconds, part.rate_hz, part.sides)
            found += stream.end()
            return found, stream
    finally:
        os.close(read)
        thread.join()


def _feed(descriptor: int, data: bytes) -> None:
    try:
        for start in range(0, len(data), 1000):  # not a multiple of a packet of 188 bytes
            os.write(descriptor, data[start : start + 1000])
    except BrokenPipeError:
        pass
    finally:
        os.close(descriptor)


def test_what_is_pushed_from_python_is_predicted(setup: Setup) -> None:
    net = avmix.load(setup.run)
    found, stream = pushed(net, remuxed(setup.mp4, "mpegts"))
    assert (stream.num_predicted, stream.num_lost) == (len(found), 0)
    assert [one.start_seconds for one in found] == pytest.approx([0, 0.5, 1, 1.5, 2, 2.5, 2.7],
                                                                 abs=1e-3)  # fmt: skip
    for one in found:
        clip = avmix.decode_clip(setup.mp4, start_seconds=one.start_seconds, **net.decoding)
        has = torch.tensor([clip.audio_valid > 0])  # also of a window whose samples are all 0
        logits = net(net.frames(clip), net.waveform(clip), has_audio=has).fused
        expected = logits.softmax(1)[0].detach().numpy()
        assert one.fused == pytest.approx(expected, abs=1e-4)
        assert one.without_audio is not None
    with pytest.raises(ValueError, match="uint8"):
        stream.push_frame(np.zeros((4, 4, 3), np.uint8), 1.0)
    with pytest.raises(ValueError, match=r"\(2, s\)"):
        stream.push_audio(np.zeros((3, 10), np.float32), 1.0, 8000)
    with pytest.raises(ValueError, match="the sample rate was"):
        stream.push_audio(np.zeros(10, np.float32), 1.0, 8000)
    with pytest.raises(ValueError, match="finite"):
        stream.push_frame(np.zeros((20, 20, 3), np.uint8), float("nan"))


# Windows ------------------------------------------------------------------------------------------


def frame_at(number: int) -> np.ndarray:
    """20 x 24 pixels that hold their number."""
    return np.full((20, 24, 3), number % 256, np.uint8)


def cut(windows: StreamWindows, seconds: float, *, fps: float = 25.0, start: float = 0.0,
        video: bool = True, audio: bool = True, first: int = 0) -> list[StreamWindow]:  # fmt: skip
    """Push so many seconds: frames of `fps`, and 20 ms of audio in which sample k is k / 1e6."""
    done: list[StreamWindow] = []
    times = [(number / fps, 0, number) for number in range(round(seconds * fps))] * video
    times += [(number / 50, 1, number) for number in range(round(seconds * 50))] * audio
    for at, kind, number in sorted(times):
        if kind == 0:
            done += windows.push_frame(frame_at(first + number), start + at, 1 / fps)
        else:
            wave = (np.arange(160) + 160 * number).astype(np.float32) / 1e6
            done += windows.push_audio(wave, start + at, 8000)
    return done


def test_windows_hold_the_frames_and_samples_of_their_times() -> None:
    """Of a clock that begins at 7 s; windows of 0.3 s, frames at 0.075 and 0.225 of it."""
    windows = StreamWindows(CLIP, 0.5)
    found = cut(windows, 2.0, start=7.0) + windows.end()
    starts = [one.clip.start_seconds for one in found]
    assert starts == pytest.approx([0.0, 0.5, 1.0, 1.5, 1.7])
    for one in found:
        times = one.clip.start_seconds + np.array([0.075, 0.225])
        expected = np.floor(times * 25 + 1e-6)
        assert one.clip.video[:, 0, 0, 0].tolist() == expected.tolist()
        assert one.clip.pts_seconds == pytest.approx(expected / 25)
        first = round(one.clip.start_seconds * 8000)
        assert one.clip.audio[100:-100] == pytest.approx(
            (first + np.arange(100, 2300)) / 1e6, abs=2e-6
        )
        assert one.clip.audio_valid == 1.0
        assert one.clip.num_held == 0
        assert one.has_video
        assert one.has_audio
    assert not windows.lost


@pytest.mark.parametrize("what", ["both", "video", "audio"])
@pytest.mark.parametrize("step", [0.1, 2.0])
def test_memory_is_bounded_however_long_the_stream(what: str, step: float) -> None:
    """A minute for each step of 0.1 s; every push is looked at."""
    has = {"video": what != "audio", "audio": what != "video"}
    windows = StreamWindows(CLIP, step, has_video=has["video"], has_audio=has["audio"])
    most, count = 0, 0
    for minute in range(60):
        count += len(cut(windows, 1.0, start=float(minute), fps=10, **has))
        most = max(most, windows.num_bytes)
    count += len(windows.end())
    assert count == pytest.approx(60 / step, abs=4)
    # 2.5 s of frames of 768 bytes, and of samples of 4.
    assert most < 10 * 2.5 * 768 + 8000 * 4 * 4
    assert not windows.lost


def test_one_modality_that_stops_neither_blocks_nor_fills_the_memory() -> None:
    windows = StreamWindows(CLIP, 0.5)
    found = cut(windows, 5.0, audio=False)  # audio was promised, and does not come
    assert len(found) >= 2
    assert not any(one.has_audio for one in found)
    windows = StreamWindows(CLIP, 0.5)
    found = cut(windows, 1.0)
    most = 0
    for second in range(1, 200):
        found += cut(windows, 1.0, start=float(second), video=False)
        most = max(most, windows.num_bytes)
    assert most < 8000 * 4 * 25
    assert windows.lost["too few frames"] > 300
    windows = StreamWindows(CLIP, 0.5)
    for second in range(200):  # before any frame
        assert cut(windows, 1.0, start=float(second), video=False) == []
        assert windows.num_bytes < 8000 * 4 * 4


def test_timestamps_that_jump_begin_windows_anew() -> None:
    for jump in (-5.0, 1000.0, 1e12):
        windows = StreamWindows(CLIP, 0.5)
        found = cut(windows, 2.0)
        num = len(found)
        assert num == 4
        found += cut(windows, 2.0, start=2.0 + jump, first=100)
        found += windows.end()
        assert windows.lost == {"jump of the timestamps": 1}
        later = [one for one in found[num:] if one.clip.video[0, 0, 0, 0] >= 100]
        starts = [one.clip.start_seconds for one in later]
        assert starts == pytest.approx([2.0, 2.5, 3.0, 3.5, 3.7], abs=1e-3)
        # No window has frames of both sides.
        assert all((one.clip.video[:, 0, 0, 0] >= 100).all() for one in later)
        assert all(one.has_audio for one in later)


def test_windows_of_damaged_or_missing_frames_are_lost_and_counted() -> None:
    windows = StreamWindows(CLIP, 0.5, has_audio=False)
    found = []
    for number in range(100):
        found += windows.push_frame(frame_at(number), number / 25, 0.04,
                                    is_damaged=25 <= number < 30)  # fmt: skip
    found += windows.push_frame(frame_at(100), 9.0, 0.04)  # five seconds without a frame
    found += windows.end()
    assert windows.lost["damaged"] == 1  # that at 1.0
    assert windows.lost["too few frames"] >= 5
    starts = [round(one.clip.start_seconds, 3) for one in found]
    assert 1.0 not in starts
    assert {0.0, 0.5, 1.5, 2.0} < {*starts}
    assert not [start for start in starts if 6.5 < start < 8.6]
    tight = StreamWindows(CLIP, 0.5, has_audio=False, max_bytes=3 * 768)
    assert cut(tight, 2.0, audio=False) == []
    assert tight.lost["too large for the buffer"] >= 3
    assert tight.num_bytes <= 4 * 768


# Streams that are none ----------------------------------------------------------------------------


def test_garbage_and_silence_are_said(setup: Setup, tmp_path: Path, capsys) -> None:
    noise = np.random.default_rng(0).integers(0, 256, 300_000, dtype=np.uint8).tobytes()
    text = "ffconcat version 1.0\nfile /etc/passwd\n"
    playlist = "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n/etc/passwd\n#EXT-X-ENDLIST\n"
    whole = setup.mp4.read_bytes()
    for data in (noise, b"", text.encode(), playlist.encode(), whole[:200]):
        path = tmp_path / "stream"
        path.write_bytes(data)
        code, out, err = predict(capsys, "--live", path, run=setup.run)
        assert (code, out) == (1, "")
        assert "error: " in err
        assert "cannot be opened as a stream" in err
    for source, said in (("rtsp://camera/1", "let FFmpeg read it"), (tmp_path / "no", "No such")):
        code, _, err = predict(capsys, "--live", source, run=setup.run)
        assert code == 1
        assert said in err


@pytest.mark.parametrize("change", ["cut", "hole", "noise", "joined"])
def test_a_stream_that_breaks_gives_what_came_before(
    setup: Setup, tmp_path: Path, capsys, change: str
) -> None:
    data = remuxed(setup.mp4, "mpegts")
    half = len(data) // 2 // 188 * 188
    noise = np.random.default_rng(1).integers(0, 256, 20_000, dtype=np.uint8).tobytes()
    broken = {
        "cut": data[: half + 50],
        "hole": data[:half] + data[half + 188 * 9 :],
        "noise": data[:half] + noise + data[half:],
        "joined": data + data,
    }[change]
    path = tmp_path / "stream"
    path.write_bytes(broken)
    code, out, err = predict(capsys, "--live", path, "--step", 0.5, run=setup.run)
    starts = [json.loads(line)["start_seconds"] for line in out.splitlines()]
    assert starts[:2] == pytest.approx([0.0, 0.5])
    assert starts == sorted(starts)
    if change == "joined":
        assert code == 3
        assert "1 jump of the timestamps" in err
        assert len(starts) >= 10
    else:
        assert code in (0, 3)
    assert "Traceback" not in err


def test_a_sample_rate_that_changes_ends_it(setup: Setup, tmp_path: Path, capsys) -> None:
    other = tmp_path / "other.mp4"
    write_flash_beep(other, seconds=1, events_seconds=(0.4,), size=(48, 32), sample_rate=32_000)
    path = tmp_path / "stream"
    path.write_bytes(remuxed(setup.mp4, "mpegts") + remuxed(other, "mpegts"))
    code, out, err = predict(capsys, "--live", path, run=setup.run)
    assert code == 3
    assert len(out.splitlines()) >= 3
    assert "the sample rate changes from 48000 to 32000 Hz" in err


def test_a_writer_that_stalls_ends_it(setup: Setup) -> None:
    data = remuxed(setup.mp4, "mpegts")
    read, write_end = os.pipe()
    try:
        with (
            pytest.raises(StalledError, match="nothing came for"),
            open_live(read, "pipe", short_side=20, stall_seconds=0.2),
        ):
            pass
        os.write(write_end, data[:60_000])
        with (
            pytest.raises(ClipError),
            open_live(read, "pipe", short_side=20, stall_seconds=0.2) as source,
        ):
            for _ in source:
                pass
    finally:
        os.close(read)
        os.close(write_end)
    with (
        open(os.devnull, "rb") as nothing,
        pytest.raises(MediaOpenError),
        open_live(nothing.fileno(), "pipe", short_side=20),
    ):
        pass


# The real program ---------------------------------------------------------------------------------


def started(setup: Setup, *words: str) -> "subprocess.Popen[bytes]":
    options = ["--live", "-", "--checkpoint", str(setup.run), "--threads", "1", "--step", "0.5"]
    command = [*PROGRAM, "predict", *options, *words]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE,
                            env={**os.environ, "PYTHONPATH": str(ROOT)})  # fmt: skip


@pytest.mark.long
def test_the_program_reads_a_pipe_to_its_end(setup: Setup, capsys) -> None:
    process = started(setup, "--json", "-", "--top", "0")
    out, err = process.communicate(remuxed(setup.mp4, "mpegts"), timeout=120)
    assert process.returncode == 0, err
    same([json.loads(line) for line in out.splitlines()],
         along_time(setup, setup.mp4, capsys, 0.5))  # fmt: skip
    assert err.decode() == "7 windows predicted, 0 lost; the stream ended\n"


@pytest.mark.long
def test_ctrl_c_ends_the_program_after_the_window(setup: Setup) -> None:
    """The pipe stays open, as a camera's does."""
    process = started(setup)
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(remuxed(setup.mp4, "mpegts"))
    process.stdin.flush()
    first = process.stdout.readline().decode()
    assert first.startswith("0.00 to 0.30 s: ")
    assert "decided by" in first
    process.send_signal(signal.SIGINT)
    more, err = process.communicate(timeout=120)
    assert process.returncode == 130
    # How many come before the signal is a matter of time; the summary counts those that are shown.
    shown = 1 + len(more.splitlines())
    windows = "1 window" if shown == 1 else f"{shown} windows"
    assert err.decode() == f"{windows} predicted, 0 lost; stopped\n"


def test_files_and_a_stream_exclude_each_other(setup: Setup, capsys) -> None:
    for words in (["--live", "-", str(setup.mp4)], []):
        code, _, err = predict(capsys, *words, run=setup.run)
        assert code == 2
        assert "not both" in err
    code, _, err = predict(capsys, "--live", "-", "--along-time", run=setup.run)
    assert code == 2
    assert "--along-time cannot act without files" in err
    code, _, err = predict(capsys, setup.mp4, "--timeout", 3, run=setup.run)
    assert code == 2
    assert "--timeout cannot act without --live" in err
