"""Every kind of finding on a file that was made to have it, and nothing on one that was not."""

import importlib
import json
import multiprocessing
import os
import re
import signal
import struct
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.stream import Disposition
from av.video.frame import VideoFrame

from avmix.cli import main
from avmix.data.manifest import write_manifest
from avmix.decode import Limits, UnsupportedMediaError, decode_clip
from avmix.decode.container import open_media
from avmix.decode.decoder_state import DecoderState
from avmix.doctor import window_check as compare_module
from avmix.doctor.edit_list_reader import Edit, presented_of, read_edits
from avmix.doctor.environment import version_findings
from avmix.doctor.examine import Task, examine
from avmix.doctor.file_pool import examine_all
from avmix.doctor.full_decode import read_packets
from avmix.doctor.manifest_check import _compare
from avmix.doctor.report import FileReport
from avmix.media.judgement import entry_of
from avmix.media.probe import probe
from avmix.system.printing import printable
from tests.media import draw_frame, write_flash_beep

DATA = Path(__file__).parents[2] / "shared" / "data"
REAL = sorted([*DATA.glob("real_clips/*"), *DATA.glob("ucf101_orig/*.avi")])


def look(path: Path) -> FileReport:
    return examine(Task(path=str(path), seconds=60.0))


def codes(report: FileReport) -> set[str]:
    return {f.code for f in report.findings}


def text_of(report: FileReport, code: str) -> str:
    (text,) = (f.text for f in report.findings if f.code == code)
    return text


def remux(
    source: Path,
    path: Path,
    keep: Callable[[Any, float], bool] = lambda packet, seconds: True,
    *,
    times: int = 1,
    second: Path | None = None,
    edit: Callable[[Any, float], bytes | None] | None = None,
    options: dict[str, str] | None = None,
) -> Path:
    """Copy the packets of `source` that are kept, `times` times in a row, without decoding."""
    with av.open(str(path), "w", options=options or {}) as out:
        inputs = [av.open(str(p)) for p in (source, second) if p is not None]
        packets = []
        for number, container in enumerate(inputs):
            mine = {s.index: out.add_stream_from_template(s) for s in container.streams
                    if not number or s.type == "audio"}  # fmt: skip
            for stream in mine.values():
                stream.disposition = Disposition(0) if number else Disposition.default
            for packet in container.demux():
                if packet.size and packet.stream.index in mine:
                    packets.append((packet, mine[packet.stream.index]))
        length = max(float((p.pts + p.duration) * p.time_base) for p, _ in packets) + 0.1
        for k in range(times):
            for packet, stream in sorted(
                packets, key=lambda item: float(item[0].dts * item[0].time_base)
            ):
                seconds = float(packet.pts * packet.time_base)
                if not keep(packet, seconds):
                    continue
                data = None if edit is None else edit(packet, seconds)
                copy = av.Packet(bytes(packet) if data is None else data)
                shift = round(k * length / packet.time_base)
                copy.pts, copy.dts = packet.pts + shift, packet.dts + shift
                copy.duration, copy.time_base = packet.duration, packet.time_base
                copy.is_keyframe, copy.stream = packet.is_keyframe, stream
                out.mux(copy)
        for container in inputs:
            container.close()
    return path


def write_frames(
    path: Path,
    *,
    codec: str = "libx264",
    options: dict[str, str] | None = None,
    cover: bool = False,
    **context: Any,
) -> Path:
    """One second of frames, with properties of the encoder set."""
    with av.open(str(path), "w") as out:
        stream: Any = out.add_stream(codec, rate=25, options=options or {})
        stream.width, stream.height, stream.pix_fmt = 160, 96, "yuv420p"
        for name, value in context.items():
            setattr(stream.codec_context, name, value)
        art: Any = None
        if cover:
            art = out.add_stream("mjpeg", rate=1)
            art.width, art.height, art.pix_fmt = 64, 64, "yuvj420p"
            art.disposition = Disposition.attached_pic
        for number in range(25):
            frame = VideoFrame.from_ndarray(draw_frame(number, size=(160, 96), flash=False))
            frame.pts, frame.time_base = number, Fraction(1, 25)
            frame = frame.reformat(format="yuv420p")
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
        if art is not None:
            frame = VideoFrame.from_ndarray(np.full((64, 64, 3), 120, np.uint8), format="rgb24")
            frame.pts, frame.time_base = 0, Fraction(1)
            out.mux(art.encode(frame))
            out.mux(art.encode(None))
    return path


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """4 s, 25 frames a second with one keyframe in 20, beeps; nothing to say about it."""
    return write_flash_beep(tmp_path_factory.mktemp("plain") / "plain.mp4")


def test_nothing_is_said_of_a_plain_file(plain: Path) -> None:
    report = look(plain)
    assert (report.level, report.findings, report.damage) == ("ok", (), ())
    video, audio = report.video, report.audio
    assert video is not None
    assert audio is not None
    assert (video.codec, video.width, video.height, video.num_frames) == ("h264", 160, 96, 100)
    assert video.fps == pytest.approx(25)
    assert video.frame_ms == pytest.approx((40, 40, 40))
    assert video.key_seconds == pytest.approx((0.8, 0.8))
    assert (video.duration_seconds, video.start_seconds) == pytest.approx((4, 0))
    assert (audio.rate_hz, audio.channels, audio.layout) == (48_000, 1, "mono")
    # Bursts of amplitude 0.5; five of 16 ms with a mean power of 3/16 * 0.25 in 4 s.
    assert audio.peak_dbfs == pytest.approx(-6, abs=0.7)
    assert audio.rms_dbfs == pytest.approx(10 * np.log10(5 * 0.016 / 4 * 0.25 * 3 / 16), abs=0.5)
    assert report.av_start_ms == pytest.approx(0, abs=1)
    assert [w.outcome for w in report.windows] == ["same"] * 5
    assert [s.chosen for s in report.streams] == [True, True]
    assert report.bytes == plain.stat().st_size
    assert report.clip_ms is not None


def flash_beep(name: str, **how: Any) -> Callable[[Path], Path]:
    return lambda folder: write_flash_beep(folder / name, **how)


def frames(name: str, **how: Any) -> Callable[[Path], Path]:
    return lambda folder: write_frames(folder / name, **how)


def without(name: str, keep: Callable[[Any, float], bool], **how: Any) -> Callable[[Path], Path]:
    """Without some packets."""
    return lambda folder: remux(write_flash_beep(folder / "whole.mp4", **how), folder / name, keep)


def is_audio(packet: Any) -> bool:
    return packet.stream.type == "audio"


def two_audio_streams(folder: Path) -> Path:
    first = write_flash_beep(folder / "a.mp4", seconds=1, events_seconds=(0.4,))
    other = write_flash_beep(folder / "b.mp4", seconds=1, events_seconds=(0.8,))
    return remux(first, folder / "two.mkv", second=other)


def trimmed(folder: Path) -> Path:
    """An mp4 whose frames are shown from the sixth on: 0.2 s are cut away."""
    path = write_flash_beep(folder / "trimmed.mp4", audio_codec=None, seconds=2, b_frames=0)
    data = bytearray(path.read_bytes())
    at = data.index(b"elst") + 12
    length, media_time = struct.unpack_from(">Ii", data, at)
    assert media_time == 0
    scale = struct.unpack_from(">I", data, data.index(b"mdhd") + 16)[0]
    struct.pack_into(">Ii", data, at, length - 200, scale // 5)
    path.write_bytes(data)
    return path


def mirrored(folder: Path) -> Path:
    path = write_flash_beep(folder / "a.mp4", audio_codec=None, seconds=1)
    data = bytearray(path.read_bytes())
    struct.pack_into(">i", data, data.index(b"tkhd") + 44, -1 << 16)
    path.write_bytes(data)
    return path


WARNINGS = {"no_sound", "silent", "sound_short", "long_gop"}
MADE: list[tuple[str, Callable[[Path], Path], set[str], str]] = [
    ("no_sound", flash_beep("a.mp4", audio_codec=None, seconds=1), {"no_sound"}, "no audio"),
    ("silent", flash_beep("a.mp4", events_seconds=(), seconds=2), {"silent"}, "digital silence"),
    ("sound_short", flash_beep("a.mp4", audio_seconds=2), {"sound_short"}, "audio covers 50%"),
    ("sound_ends_early", flash_beep("a.mp4", audio_seconds=3.8), {"sound_ends_early"}, "0.1"),
    ("av_start", flash_beep("a.mkv", audio_start_seconds=0.2), {"av_start"},
     "20[01] ms after the frames"),
    ("av_start_before", flash_beep("a.mkv", video_start_seconds=0.12),
     {"av_start", "sound_ends_early"}, "120 ms before the frames"),
    ("vfr", flash_beep("a.mp4", skip_frames=(3, 4, 9), seconds=2), {"vfr"}, "40 to 120 ms"),
    ("rotated", flash_beep("a.mp4", rotation=90, seconds=1), {"rotated"}, "by 90 degrees"),
    ("long_gop", flash_beep("a.mp4", fps=5, seconds=14, gop=1000, audio_codec=None,
                            events_seconds=()), {"long_gop", "no_sound"}, "up to 14.0 s apart"),
    ("picture_gaps", flash_beep("a.mp4", skip_frames=range(20, 50)), {"picture_gaps", "vfr"},
     "1.24 s at 0.76 s"),
    ("sound_gaps", without("a.mkv", lambda p, t: not (is_audio(p) and 1 <= t < 1.3)),
     {"sound_gaps", "av_start"}, "0.30 s at 1.00 s"),
    ("cut_start", without("a.ts", lambda p, t: t > 1.9),
     {"cut_start", "av_start"}, r"can be decoded is at 0\.[1-9]"),
    ("from_beginning",
     flash_beep("a.avi", fps=5, seconds=32, audio_codec=None, events_seconds=(), b_frames=0),
     {"from_beginning", "no_sound"}, "from its beginning"),
    ("trimmed", trimmed, {"trimmed", "no_sound"}, "first 0.200 s"),
    ("aspect", frames("a.mkv", sample_aspect_ratio=Fraction(4, 3)),
     {"aspect", "no_sound"}, "4:3"),
    ("interlaced", frames("a.mp4", options={"x264-params": "tff=1"}), {"interlaced", "no_sound"},
     "interlaced"),
    ("hdr", frames("a.mp4", color_trc=16), {"hdr", "no_sound"}, "high dynamic range"),
    ("cover_art", frames("a.mp4", cover=True), {"cover_art", "no_sound"}, "cover art"),
    ("several_streams", two_audio_streams, {"several_streams", "av_start"},
     "2 audio streams, number 1"),
    ("late_in_avi", flash_beep("a.avi", seconds=2, b_frames=0), {"late_in_avi"}, "23 ms late"),
    ("no_pts", flash_beep("a.avi", video_codec="libx264", seconds=2, audio_codec=None),
     {"no_pts", "no_sound"}, "of the frames have no time of their own"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "make", "expected", "text"), MADE, ids=[name for name, *_ in MADE]
)
def test_what_works_but_is_worth_knowing(
    tmp_path: Path, name: str, make: Callable[[Path], Path], expected: set[str], text: str
) -> None:
    report = look(make(tmp_path))
    assert codes(report) == expected
    code = "av_start" if name == "av_start_before" else name
    assert re.search(text, text_of(report, code))
    assert {f.code: f.level for f in report.findings} == {
        code: "warning" if code in WARNINGS else "note" for code in expected
    }
    assert report.level == ("warning" if WARNINGS & expected else "note")
    assert {w.outcome for w in report.windows} == {"same"}


def test_cut_away_streams_do_not_count(tmp_path: Path) -> None:
    report = look(two_audio_streams(tmp_path))
    assert [(s.type, s.chosen) for s in report.streams] == [
        ("video", True), ("audio", True), ("audio", False),
    ]  # fmt: skip
    assert report.streams[1].why == "marked as default"


def faststart(source: Path, path: Path) -> Path:
    return remux(source, path, options={"movflags": "faststart"})


@pytest.mark.parametrize(("suffix", "share"), [(".mp4", 0.6), (".mkv", 0.6), (".avi", 0.6)])
def test_cut_off(tmp_path: Path, plain: Path, suffix: str, share: float) -> None:
    path = tmp_path / f"a{suffix}"
    if suffix == ".avi":
        write_flash_beep(path)
    else:
        faststart(plain, path) if suffix == ".mp4" else remux(plain, path)
    assert look(path).level != "error"
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    report = look(path)
    assert report.level == "error"
    assert "truncated" in codes(report)
    assert "seek_differs" not in codes(report)


def test_a_last_packet_that_does_not_say_its_length_is_not_missing(tmp_path: Path) -> None:
    # WavPack in Matroska: the last packet begins at 3 s, and lasts until 4 s as the header says.
    path = tmp_path / "x.mkv"
    write_flash_beep(
        path, audio_codec="wavpack", sample_rate=44_100, fps=5, gop=5, seconds=2, audio_seconds=4
    )
    with open_media(str(path)) as media:
        assert media.container.duration == 4_000_000
        assert read_packets(media).data_end_seconds == 4.0
    assert "truncated" not in codes(look(path))


def test_damaged_frames(tmp_path: Path, plain: Path) -> None:
    data = bytearray(plain.read_bytes())
    with av.open(str(plain)) as container:
        packets: list[Any] = [p for p in container.demux(video=0) if p.is_keyframe]
        packet = next(p for p in packets if p.pts * p.time_base > 3)
    end = packet.pos + packet.size
    data[packet.pos + 50 : end - 5] = np.random.default_rng(0).bytes(packet.size - 55)
    path = tmp_path / "damaged.mp4"
    path.write_bytes(data)
    report = look(path)
    assert report.level == "error"
    assert codes(report) == {"damaged_picture", "in_part"}
    (damage,) = report.damage
    assert damage.stream == "picture"
    assert damage.first_seconds == pytest.approx(3.2)
    assert damage.first
    # A window on the damage is refused, and told; none shows other frames than the whole does.
    assert {w.outcome for w in report.windows} == {"same", "refused"}
    refused = [w for w in report.windows if w.outcome == "refused"]
    assert all(w.start_seconds + 2 > 3 for w in refused)
    assert "DecodeError" in refused[0].detail


def test_damaged_audio(tmp_path: Path, plain: Path) -> None:
    def damage(packet: Any, seconds: float) -> bytes | None:
        hit = packet.stream.type == "audio" and 0.39 < seconds < 0.42
        return b"\xff" * 200 if hit else None

    report = look(remux(plain, tmp_path / "a.mkv", edit=damage))
    assert (
        {"damaged_sound", "sound_gaps"}
        <= codes(report)
        <= {"damaged_sound", "sound_gaps", "av_start"}
    )
    assert report.damage[0].first_seconds == pytest.approx(0.4, abs=0.03)
    assert {w.outcome for w in report.windows} == {"same"}


def not_media(folder: Path) -> Path:
    (folder / "a.mp4").write_text("no video")
    return folder / "a.mp4"


def empty(folder: Path) -> Path:
    (folder / "a.mp4").touch()
    return folder / "a.mp4"


def twice_the_speed(folder: Path) -> Path:
    path = write_flash_beep(folder / "a.mp4", seconds=1)
    data = bytearray(path.read_bytes())
    struct.pack_into(">i", data, data.index(b"elst") + 20, 2 << 16)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("make", "code", "text"),
    [
        (not_media, "unreadable", "cannot be opened as media"),
        (empty, "unreadable", "0 bytes"),
        (lambda folder: folder / "a.mp4", "missing", "no such file"),
        (twice_the_speed, "unsupported", "2x"),
        (flash_beep("a.mkv", video_codec=None, seconds=1), "no_picture", "no video"),
    ],
)
def test_what_cannot_be_used(
    tmp_path: Path, make: Callable[[Path], Path], code: str, text: str
) -> None:
    report = look(make(tmp_path))
    assert report.level == "error"
    assert codes(report) == {code}
    assert text in text_of(report, code)


def test_refused_windows_are_told(plain: Path) -> None:
    report = examine(Task(path=str(plain), seconds=1e-9))
    assert codes(report) == {"refused"}
    assert "5 of 5" in text_of(report, "refused")
    assert report.clip_ms is None


def wrong_frames(clip: Any) -> Any:
    return replace(clip, pts_seconds=clip.pts_seconds - 0.04)


def wrong_pixels(clip: Any) -> Any:
    video = clip.video.copy()
    video[2, :8, :8] //= 2
    return replace(clip, video=video)


def late_audio(clip: Any) -> Any:
    return replace(clip, audio=np.roll(clip.audio, round(0.003 * clip.sample_rate)))


def loud_audio(clip: Any) -> Any:
    return replace(clip, audio=clip.audio * 1.3)


def hole_in_audio(clip: Any) -> Any:
    audio = clip.audio.copy()
    loudest = int(np.argmax(np.abs(audio)))
    audio[max(loudest - 400, 0) : loudest + 400] = 0
    return replace(clip, audio=audio)


def test_a_palette_that_is_lost_by_seeking_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, shades = tmp_path / "palette.mov", np.full((256, 4), 255, np.uint8)
    shades[:, 1:] = 255 - np.arange(256, dtype=np.uint8)[:, None]  # the header states them once
    with av.open(str(path), "w") as container:
        video: Any = container.add_stream("rawvideo", rate=25)
        video.width, video.height, video.pix_fmt = 160, 96, "pal8"
        for number in range(100):
            levels = 255 - draw_frame(number, size=(160, 96), flash=False)[..., 0]
            image: Any = (np.ascontiguousarray(levels), shades)
            frame = VideoFrame.from_ndarray(image, format="pal8")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            container.mux(video.encode(frame))
    assert "seek_differs" not in codes(look(path))
    monkeypatch.setattr(DecoderState, "give", lambda self, packet: None)  # then all is black
    report = look(path)
    assert "of the pixels differ" in text_of(report, "seek_differs")
    assert report.level == "error"


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        (wrong_frames, "instead of that of"),
        (wrong_pixels, "of the pixels differ"),
        (late_audio, "the audio differs"),
        (loud_audio, "the audio differs"),
        (hole_in_audio, "the audio differs"),
    ],
)
def test_a_decoder_that_seeks_wrong_is_found(
    plain: Path, monkeypatch: pytest.MonkeyPatch, wrong: Callable[[Any], Any], text: str
) -> None:
    monkeypatch.setattr(
        compare_module, "decode_clip", lambda *a, **how: wrong(decode_clip(*a, **how))
    )
    report = look(plain)
    assert report.level == "error"
    assert codes(report) == {"seek_differs"}
    assert text in text_of(report, "seek_differs")


def test_log_mels_are_compared_where_the_manifest_has_them(short: Path) -> None:
    _, audio = probe(short)
    assert audio is not None
    assert audio.log_mel_mean is not None
    older = replace(audio, log_mel_mean=None, log_mel_std=None)
    assert _compare("audio", older, audio) == []
    (said,) = _compare("audio", replace(audio, log_mel_mean=3.0), audio)
    assert said.startswith("audio.log_mel_mean is ")


def noisy(path: Path) -> Path:
    """6 s of white noise over a beep, in AAC at a low rate: the encoder substitutes noise."""
    wave = np.random.default_rng(0).normal(0, 0.1, 6 * 44_100).astype(np.float32)
    wave += 0.2 * np.sin(2 * np.pi * 440 * np.arange(len(wave)) / 44_100).astype(np.float32)
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=25)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        audio = container.add_stream("aac", rate=44_100)
        audio.layout, audio.bit_rate = "mono", 64_000
        for number in range(6 * 25):
            image = np.full((48, 64, 3), number, np.uint8)
            container.mux(video.encode(av.VideoFrame.from_ndarray(image, "rgb24")))
        for start in range(0, len(wave) // 1024 * 1024, 1024):
            frame = av.AudioFrame.from_ndarray(wave[None, start : start + 1024], "fltp", "mono")
            frame.sample_rate, frame.pts = 44_100, start
            container.mux(audio.encode(frame))
        container.mux(video.encode())
        container.mux(audio.encode())
    return path


def test_noise_that_the_decoder_draws_is_no_error(tmp_path: Path) -> None:
    report = look(noisy(tmp_path / "noise.mp4"))
    assert codes(report) == {"noise_drawn"}
    assert report.level == "note"
    assert {w.outcome for w in report.windows} == {"same"}


def heard(tone: float = 0.2, noise: float = 0.1, seed: int = 0, late: int = 0) -> np.ndarray:
    """2 s at 16 kHz: a tone that beats twice a second, and noise above 4 kHz."""
    seconds = (np.arange(32_000) - late) / 16_000
    wave = tone * np.sin(2 * np.pi * 440 * seconds) * (np.sin(4 * np.pi * seconds) > 0)
    spectrum = np.fft.rfft(np.random.default_rng(seed).normal(0, 1, 32_000))
    spectrum[:8000] = 0
    return (wave + noise * np.fft.irfft(spectrum, 32_000)).astype(np.float32)


@pytest.mark.parametrize(
    ("found", "text"),
    [
        (heard(seed=1), compare_module.NOISE),
        (heard(seed=1, tone=0.1), "the audio differs"),
        (heard(seed=1, late=48), "the audio differs"),
        (heard(seed=1, noise=0.2), "times another power"),
        (np.concatenate([heard(seed=1)[:9600], heard(noise=0)[9600:11_200], heard()[11_200:]]),
         "times another power"),
    ],
    ids=["other noise", "a softer tone", "3 ms late", "louder noise", "a hole in the noise"],
)  # fmt: skip
def test_of_drawn_noise_the_loudness_counts(found: np.ndarray, text: str) -> None:
    assert text in compare_module._heard_differs(found, heard(), 16_000)


def test_a_window_from_another_place_is_found(plain: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The right times on the wrong frames: the frame before."""

    def early(path: str, *, start_seconds: float, **how: Any) -> Any:
        clip = decode_clip(path, start_seconds=max(start_seconds - 0.04, 0.0), **how)
        return replace(clip, pts_seconds=clip.pts_seconds + min(start_seconds, 0.04))

    monkeypatch.setattr(compare_module, "decode_clip", early)
    assert "of the pixels differ" in text_of(look(plain), "seek_differs")


def test_mirrored(tmp_path: Path) -> None:
    report = look(mirrored(tmp_path))
    assert text_of(report, "rotated") == "mirrored"
    assert {w.outcome for w in report.windows} == {"same"}


def test_edit_lists(tmp_path: Path) -> None:
    late = write_flash_beep(tmp_path / "late.mp4", video_start_seconds=0.2, seconds=1)
    edits = read_edits(str(late))
    assert [e.media_time for e in edits if e.track == 1] == [-1, 1024]
    assert presented_of(edits, 1).begin_seconds == pytest.approx(0.2)
    assert presented_of(edits, 1).end_seconds == pytest.approx(1.2, abs=0.002)
    assert presented_of((Edit(1, 0.0, 5),), 1).end_seconds == np.inf
    assert presented_of(edits, 9).begin_seconds == -np.inf
    data = late.read_bytes()
    for end in range(len(data) - 1500, len(data), 7):  # whatever is cut, nothing is raised
        (tmp_path / "cut.mp4").write_bytes(data[:end])
        read_edits(str(tmp_path / "cut.mp4"))


@pytest.fixture(scope="module")
def long_file(plain: Path) -> Path:
    """Takes seconds to decode."""
    return remux(plain, plain.parent / "long.mp4", times=100)


def in_the_background(act: Callable[[int], None]) -> threading.Thread:
    """Calls `act` with the process id of the first child that examines a file."""

    def watch() -> None:
        while not (running := list(multiprocessing.process._children)):  # type: ignore[attr-defined]
            threading.Event().wait(0.01)
        while running[0].pid is None:
            threading.Event().wait(0.01)
        act(running[0].pid)

    thread = threading.Thread(target=watch)
    thread.start()
    return thread


def crash(pid: int, path: Path) -> None:
    """As a decoder does: while the file is read. One that dies before is no fault of the file."""
    for _ in range(6000):
        if path.as_posix() in map(os.path.realpath, Path(f"/proc/{pid}/fd").glob("*")):
            break
        threading.Event().wait(0.01)
    os.kill(pid, signal.SIGSEGV)


def crash_twice(pid: int, path: Path) -> None:
    """That process, and the one that reads the same file again."""
    crash(pid, path)
    second = None
    while second is None:
        threading.Event().wait(0.01)
        children = list(multiprocessing.process._children)  # type: ignore[attr-defined]
        with suppress(ValueError):  # the first may be closed meanwhile
            second = next((p.pid for p in children if p.pid not in (None, pid)), None)
    crash(second, path)


def test_a_crash_is_a_finding_and_the_next_file_is_read(long_file: Path, plain: Path) -> None:
    thread = in_the_background(lambda pid: crash_twice(pid, long_file))
    seen: list[FileReport] = []
    tasks = [Task(path=str(p), seconds=60.0) for p in (long_file, plain)]
    crashed, good = examine_all(tasks, workers=1, done=seen.append)
    thread.join()
    assert codes(crashed) == {"crashed"}
    assert "SIGSEGV" in text_of(crashed, "crashed")
    assert crashed.level == "error"
    assert good.level == "ok"
    assert seen == [crashed, good]


def test_a_file_that_takes_too_long_is_killed(long_file: Path, plain: Path) -> None:
    tasks = [Task(path=str(long_file), seconds=0.2), Task(path=str(plain), seconds=60.0)]
    late, good = examine_all(tasks, workers=2, done=lambda report: None)
    assert codes(late) == {"time_limit"}
    assert "0.2 s" in text_of(late, "time_limit")
    assert good.level == "ok"
    assert not multiprocessing.active_children()


def test_an_interrupt_leaves_no_process_behind(long_file: Path) -> None:
    # Python leaves SIGINT ignored where it was started so, as shells do in the background.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        thread = in_the_background(lambda pid: os.kill(os.getpid(), signal.SIGINT))
        task = Task(path=str(long_file), seconds=60.0)
        with pytest.raises(KeyboardInterrupt):
            examine_all([task] * 3, workers=2, done=lambda report: None)
        thread.join()
    finally:
        signal.signal(signal.SIGINT, before)
    assert not multiprocessing.active_children()


def doctor(*args: str | Path) -> int:
    with pytest.raises(SystemExit) as end:
        main(["doctor", *map(str, args)])
    assert isinstance(end.value.code, int)
    return end.value.code


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """1 s, nothing to say about it."""
    return write_flash_beep(tmp_path_factory.mktemp("short") / "short.mp4", seconds=1)


@pytest.fixture(scope="module")
def folder(short: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four files, one of them broken, one without audio in a folder of its own; a text."""
    path = tmp_path_factory.mktemp("media")
    (path / "in ner").mkdir()
    (path / "a.mp4").write_bytes(short.read_bytes())
    (path / "b.MP4").write_bytes(short.read_bytes())
    (path / "broken.mp4").write_text("no video")
    (path / "notes.txt").write_text("text")
    write_flash_beep(path / "in ner" / "mute.mp4", audio_codec=None, seconds=1)
    return path


def test_a_folder(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert doctor(folder, "--workers", "2") == 1
    out, err = capsys.readouterr()
    # Each file as it is done, in whatever order.
    assert [line.split()[0] for line in err.splitlines()] == ["1/4", "2/4", "3/4", "4/4"]
    assert {line[4:] for line in err.splitlines()} == {
        f"error   {folder}/broken.mp4",
        f"warning {folder}/in ner/mute.mp4",
        f"ok      {folder}/a.mp4",
        f"ok      {folder}/b.MP4",
    }
    lines = out.splitlines()
    assert lines[0] == "environment"
    files = [line for line in lines if f" {folder}/" in line]
    assert files[0].startswith(f"error   {folder}/broken.mp4  cannot be opened")
    assert files[1] == f"warning {folder}/in ner/mute.mp4  no audio"
    assert f"{folder}/a.mp4" not in out
    assert "4 files in" in out
    assert "1 error, 1 warning, 2 ok" in out
    assert "not looked at: 1 file of other types (1 .txt)" in out
    assert "get the file again" in out
    assert not any(line != line.rstrip() for line in lines)
    assert doctor(folder, "--all") == 1
    assert f"ok      {folder}/b.MP4" in capsys.readouterr().out.splitlines()


def test_one_file_in_full(plain: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert doctor(plain) == 0
    out = capsys.readouterr().out
    assert "h264, 160x96, 25.00 / s" in out
    assert "aac, 48000 Hz, mono" in out
    for text in ("40.0 ms apart", "0.80 s apart", "starts with the frames", "5 of 5 equal", "av"):
        assert text in out


def test_json(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert doctor(folder, "--json", "-") == 1
    data = json.loads(capsys.readouterr().out)
    assert data["schema"] == 1
    assert data["levels"] == {"error": 1, "warning": 1, "ok": 2}
    assert data["findings"] == {"unreadable": 1, "no_sound": 1}
    assert data["other_files"] == {".txt": 1}
    files = {Path(f["path"]).name: f for f in data["files"]}
    (finding,) = files["broken.mp4"]["findings"]
    assert (finding["level"], finding["code"]) == ("error", "unreadable")
    assert files["a.mp4"]["video"]["num_frames"] == 25
    assert files["a.mp4"]["windows"][0]["outcome"] == "same"
    assert data["environment"]["packages"]["av"] == av.__version__
    assert doctor(folder / "a.mp4", "--json", tmp_path / "out.json") == 0
    said = capsys.readouterr().out
    assert said.startswith("environment")  # the file comes last, where it is seen
    assert "h264" in said[said.index("a.mp4") :]
    assert json.loads((tmp_path / "out.json").read_text())["levels"] == {"ok": 1}


def test_wrong_usage(tmp_path: Path, plain: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "notes.txt").write_text("text")
    for arguments, text in [
        ([tmp_path / "nowhere.mp4"], "no such file or folder"),
        ([tmp_path], "no media file in it"),
        ([plain, "--root", tmp_path], "--root is for manifests"),
        ([plain, "--seconds", "0"], "must be positive"),
        ([plain, "--workers", "0"], "at least 1"),
        ([plain, "--json", tmp_path / "no" / "x.json"], "no such folder"),
    ]:
        assert doctor(*arguments) == 2
        captured = capsys.readouterr()
        assert text in captured.err
        assert not captured.out


def test_without_arguments_only_the_environment(capsys: pytest.CaptureFixture[str]) -> None:
    assert doctor() == 0
    out = capsys.readouterr().out
    assert out.startswith("environment")
    assert f"av            {av.__version__} with FFmpeg" in out
    assert "CUDA" in out


def test_where_no_process_can_begin_no_file_is_to_blame(
    plain: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "vanished.py").write_text("def examine(task):\n    return task\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("sys.dont_write_bytecode", True)
    monkeypatch.setattr(
        "avmix.doctor.file_pool.examine", importlib.import_module("vanished").examine
    )
    (tmp_path / "vanished.py").unlink()  # so that no child can import it
    assert doctor(plain, "--workers", "1") == 1
    said = capsys.readouterr()
    assert "error: no file was examined: no process can start" in said.err
    assert said.out.startswith("environment")
    assert plain.name not in said.out


def test_names_are_printed_safely() -> None:
    assert printable("a\x1b[31mb\nc") == "a\\x1b[31mb\\nc"
    assert printable(os.fsdecode(b"caf\xe9 \xc3\xa9")) == "caf\\xe9 \u00e9"


@pytest.fixture
def data_set(short: Path, tmp_path: Path) -> Path:
    """A manifest of six clips of class x, all as the manifest says."""

    def entry(name: str, **how: Any) -> Any:
        path = tmp_path / name
        path.write_bytes(short.read_bytes()) if not how else write_flash_beep(path, **how)
        return entry_of(path, tmp_path, clip_id=name, labels=["x"], source_id=name)

    train = [entry(f"{name}.mp4") for name in ("good", "longer", "other", "gone")]
    train.append(entry("mute.mp4", audio_codec=None, seconds=1))
    test = [entry("test.mp4"), replace(train[0], clip_id="late", start_seconds=0.5, end_seconds=9.0,
                                       source_id="late")]  # fmt: skip
    write_manifest(tmp_path, classes=["x"], protocol="p", splits={"train": train, "test": test})
    return tmp_path


def of_file(capsys: pytest.CaptureFixture[str]) -> dict[str, dict[str, str]]:
    """For each file of the JSON its findings, code to level."""
    data = json.loads(capsys.readouterr().out)
    return {
        Path(f["path"]).name: {x["code"]: x["level"] for x in f["findings"]} for f in data["files"]
    }


def test_a_manifest(data_set: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert doctor(data_set, "--json", "-") == 1
    found = of_file(capsys)
    assert found["good.mp4"] == {"window_outside": "error"}  # the clip `late`
    assert found["mute.mp4"] == {"no_sound": "note"}  # as the manifest says
    assert found["longer.mp4"] == found["other.mp4"] == found["test.mp4"] == {}

    (data_set / "gone.mp4").unlink()
    with (data_set / "longer.mp4").open("ab") as file:
        file.write(bytes(8))
    data = bytearray((data_set / "other.mp4").read_bytes())
    data[data.index(b"Lavf")] ^= 1  # a letter of the name of the muxer
    (data_set / "other.mp4").write_bytes(data)
    write_flash_beep(data_set / "mute.mp4", audio_codec=None, seconds=1, fps=20, events_seconds=())
    assert doctor(data_set / "train.jsonl", "--json", "-") == 1
    found = of_file(capsys)
    assert "test.mp4" not in found
    assert found["gone.mp4"] == {"missing": "error"}
    assert found["longer.mp4"]["changed"] == found["other.mp4"]["changed"] == "error"
    assert found["mute.mp4"]["row_differs"] == "error"
    assert found["good.mp4"] == {}


def test_a_manifest_elsewhere_and_a_changed_one(
    data_set: Path, tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    elsewhere = tmp_path_factory.mktemp("manifest")
    for name in ("dataset.json", "train.jsonl", "test.jsonl"):
        (elsewhere / name).write_bytes((data_set / name).read_bytes())
    assert doctor(elsewhere / "train.jsonl", "--root", data_set, "--json", "-") == 0
    assert len(of_file(capsys)) == 5
    for more, hint in (((), "name their folder, --root MEDIA"),
                       (("--root", elsewhere), "--root is wrong")):  # fmt: skip
        assert doctor(elsewhere, *more) == 2
        assert f"none of its 6 files is below {elsewhere}: {hint}" in capsys.readouterr().err
    with (elsewhere / "train.jsonl").open("a") as file:
        file.write("\n")
    assert doctor(elsewhere, "--root", data_set) == 1
    assert "its hash differs from dataset.json" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("packages", "levels", "text"),
    [
        ({"av": "14.1.0"}, ["error"], "hangs on HEVC"),
        ({"av": "14.3.0"}, ["warning"], "older"),
        ({"av": "16.0.0"}, [], ""),
        (
            {"torch": "2.15.0", "torchaudio": "2.11.0"},
            ["error"],
            "torchaudio 2.11.0 cannot be imported beside torch 2.15.0",
        ),
        ({"torch": "2.11.0+cu130", "torchaudio": "2.11.0"}, [], ""),
        ({"torch": "2.13.0+cpu", "torchvision": "0.25.0"}, ["error"], "beside torch 2.13.0+cpu"),
        ({"torch": "2.11.0", "torchcodec": "0.11.1"}, [], ""),
        ({"torch": "2.12.0", "torchcodec": "0.11.1"}, ["error"], "built for torch 2.11"),
        ({"torch": "2.10.0", "torchcodec": "0.12.0"}, ["error"], "2.11 or newer"),
        ({"torch": "2.14.0", "torchcodec": "0.17.0"}, [], ""),
        ({"decord": "0.6.0"}, ["note"], "AV1"),
        ({"torchvision": "0.26.0"}, ["note"], "no video reading"),
        ({"torchvision": "0.25.0"}, [], ""),
    ],
)
def test_versions_that_are_known_to_break(
    packages: dict[str, str], levels: list[str], text: str
) -> None:
    found = version_findings(packages)
    assert [f.level for f in found] == levels
    assert all(text in f.text for f in found)
    assert all(f.hint for f in found)


def check_real(paths: list[Path]) -> None:
    reports = examine_all(
        [Task(path=str(p), seconds=60.0) for p in paths], workers=2, done=lambda report: None
    )
    assert [Path(r.path).name for r in reports if r.level == "error"] == ["corrupted.mp4"]
    by_name = {Path(r.path).name: r for r in reports}
    assert codes(by_name["corrupted.mp4"]) == {
        "damaged_picture", "in_part", "no_sound", "vfr"
    }  # fmt: skip
    assert "rotated" in codes(by_name["phone_rot90_vfr.mp4"])
    assert codes(by_name["no_duration.webm"]) == {"silent", "vfr"}
    assert "no_sound" in codes(by_name["ucf_v_BasketballDunk_g15_c04_noaudio.avi"])
    assert codes(by_name["k400_R6llTwEh07w.mp4"]) == set()
    assert all(w.outcome == "same" for r in reports for w in r.windows if r.level != "error")


@pytest.mark.long
@pytest.mark.skipif(not REAL, reason="real media are not beside this tree (../shared/data)")
def test_real_files() -> None:
    check_real(REAL[:12] + REAL[12::20])


@pytest.mark.slow
@pytest.mark.skipif(not REAL, reason="real media are not beside this tree (../shared/data)")
def test_all_real_files() -> None:
    assert len(REAL) == 52
    check_real(REAL)


def test_a_read_that_takes_too_long_is_no_damage(tmp_path: Path) -> None:
    path = flash_beep("tail.mkv", seconds=1)(tmp_path)
    os.truncate(path, 16 << 30)  # sparse: takes no space
    with (
        open_media(str(path), Limits(seconds=0.3)) as media,
        pytest.raises(UnsupportedMediaError, match=r"longer than 0\.3 s"),
    ):
        read_packets(media)
