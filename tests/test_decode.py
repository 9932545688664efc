"""Truth is drawn into the files: the number of each frame, and a burst of audio at each flash."""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import av.error
import numpy as np
import pytest
from av.stream import Disposition

from avmix.decode import (
    ClipError,
    ClipRangeError,
    DecodeError,
    MediaOpenError,
    NoAudioStreamError,
    NoVideoStreamError,
    TruncatedMediaError,
    decode_clip,
)
from avmix.types import Clip
from tests.media import beep_times, draw_frame, read_counter, write_flash_beep

DATA = Path(__file__).parents[2] / "shared" / "data"
REAL = sorted((DATA / "real_clips").glob("*")) + sorted((DATA / "ucf101_orig").glob("*.avi"))
REFUSED = {"corrupted.mp4": 4, "non_zero_start_8.33s.mp4": 1}
"""At most so many of the windows of a real file may be refused; of any other file none."""
RATE = 16_000
EVENTS = (0.4, 1.2, 2.0, 2.8, 3.6)
STARTS = (0.0, 0.3, 1.0, 1.5, 2.62)

# name: (suffix, how it is written)
FILES: dict[str, tuple[str, dict[str, Any]]] = {
    "mp4": (".mp4", {}),
    "mp4_44100": (".mp4", {"sample_rate": 44_100}),
    "mp4_long_gop": (".mp4", {"gop": 250}),
    "mp4_intra_only": (".mp4", {"gop": 1, "b_frames": 0}),
    "mp4_2997": (".mp4", {"fps": 30000 / 1001, "events_seconds": ()}),
    "mp4_vfr": (".mp4", {"skip_frames": (3, 4, 11, 12, 13, 27, 31, 32, 40, 66, 67, 68, 69, 88)}),
    "mp4_video_late": (".mp4", {"video_start_seconds": 0.2}),
    "mp4_audio_late": (".mp4", {"audio_start_seconds": 0.32}),
    "mp4_mpeg4": (".mp4", {"video_codec": "mpeg4"}),
    "mov": (".mov", {}),
    "mov_pcm": (".mov", {"audio_codec": "pcm_s16le", "layout": "stereo"}),
    "mkv_opus": (".mkv", {}),
    "mkv_aac": (".mkv", {"audio_codec": "aac"}),
    "mkv_vfr": (".mkv", {"skip_frames": (3, 4, 11, 12, 13, 27, 31, 32, 40, 66, 67, 68, 69, 88)}),
    "mkv_video_late": (".mkv", {"video_start_seconds": 0.2}),
    "mkv_audio_late": (".mkv", {"audio_start_seconds": 0.32}),
    "webm": (".webm", {}),
    "webm_audio_late": (".webm", {"audio_start_seconds": 0.32}),
    "avi_b_frames": (".avi", {"audio_codec": "pcm_s16le"}),
    "avi_no_b_frames": (".avi", {"audio_codec": "pcm_s16le", "b_frames": 0}),
    "ts": (".ts", {"audio_codec": "aac"}),
    "mpg": (".mpg", {"video_codec": "mpeg2video", "audio_codec": "mp2"}),
    "flv": (".flv", {"audio_codec": "aac", "sample_rate": 44_100}),
}


@pytest.fixture(scope="module")
def file_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    folder = tmp_path_factory.mktemp("media")

    def make(name: str) -> Path:
        suffix, how = FILES[name]
        path = folder / (name + suffix)
        if not path.exists():
            write_flash_beep(path, **{"events_seconds": EVENTS, **how})
        return path

    return make


def counters(clip: Clip) -> list[int]:
    return [read_counter(frame) for frame in clip.video]


def truth(how: dict[str, Any], times: np.ndarray) -> list[int]:
    """Number of the frame that is on the screen at each time after the first frame."""
    fps, skipped = how.get("fps", 25), how.get("skip_frames", ())
    written = [k for k in range(round(4 * fps)) if k not in skipped]
    return [max(k for k in written if k / fps <= t + 1e-4) for t in times]


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("name", FILES)
def test_frame_and_audio_are_where_they_belong(
    file_of: Callable[[str], Path], name: str, start: float
) -> None:
    how = FILES[name][1]
    clip = decode_clip(file_of(name), start_seconds=start, duration_seconds=1.3, fps=25)
    times = start + np.arange(32) / 25
    assert counters(clip) == truth(how, times)
    assert clip.num_held == 0
    assert clip.video.dtype == np.uint8
    assert np.all(clip.pts_seconds <= times + 0.0006)
    assert clip.audio.shape == (round(1.3 * RATE),)
    late = how.get("video_start_seconds", 0.0)
    found = beep_times(clip.audio, RATE) + start
    for event in np.array(how.get("events_seconds", EVENTS)) - late:
        if start + 0.02 < event < start + 1.28:
            assert np.min(np.abs(found - event)) < 0.001


@pytest.mark.parametrize("name", ["mp4", "mkv_opus", "webm", "avi_b_frames", "mp4_vfr"])
def test_mid_interval_sampling(file_of: Callable[[str], Path], name: str) -> None:
    clip = decode_clip(file_of(name), start_seconds=0.9, duration_seconds=2.0, num_frames=7)
    assert counters(clip) == truth(FILES[name][1], 0.9 + (np.arange(7) + 0.5) * 2 / 7)


@pytest.mark.parametrize("name", ["mp4", "mp4_2997", "mkv_opus", "webm", "avi_b_frames", "flv"])
def test_every_exact_boundary(file_of: Callable[[str], Path], name: str) -> None:
    # t = k / fps falls on the first moment of frame k, which containers round.
    fps = FILES[name][1].get("fps", 25)
    clip = decode_clip(file_of(name), start_seconds=0, duration_seconds=3.8, fps=fps, audio="skip")
    assert counters(clip) == list(range(round(3.8 * fps)))


def test_flash_and_burst_coincide(file_of: Callable[[str], Path]) -> None:
    clip = decode_clip(file_of("mp4"), start_seconds=1.0, duration_seconds=1.5, fps=25)
    bright = clip.video[:, 80:, :].mean(axis=(1, 2, 3)) > 200
    np.testing.assert_allclose(np.flatnonzero(bright) / 25, [0.2, 1.0])
    np.testing.assert_allclose(beep_times(clip.audio, RATE), [0.2, 1.0], atol=1e-3)


def test_audio_after_a_seek_equals_audio_without(file_of: Callable[[str], Path]) -> None:
    # The first frame after a seek is wrong unless the ones before it were decoded too.
    for name in ("mp4", "mkv_aac", "mkv_opus"):
        whole = decode_clip(file_of(name), start_seconds=0, duration_seconds=3.9, fps=5)
        part = decode_clip(file_of(name), start_seconds=2.0, duration_seconds=1.0, fps=5)
        np.testing.assert_allclose(part.audio, whole.audio[32_000:48_000], atol=2e-3)


@pytest.mark.parametrize("duration", [0.01, 0.5, 1 / 3, 1.23456])
@pytest.mark.parametrize("rate", [8_000, 16_000, 22_050, 44_100, 48_000])
def test_counts_are_exact(file_of: Callable[[str], Path], duration: float, rate: int) -> None:
    clip = decode_clip(
        file_of("mp4_44100"),
        start_seconds=0.71,
        duration_seconds=duration,
        fps=12.5,
        sample_rate=rate,
    )
    assert clip.audio.shape == (round(duration * rate),)
    assert clip.audio.dtype == np.float32
    assert len(clip.video) == max(round(duration * 12.5), 1) == len(clip.pts_seconds)
    assert clip.audio_valid == 1


@pytest.mark.parametrize("name", ["mp4", "mkv_opus", "webm", "avi_b_frames"])
def test_window_across_the_end_is_held_and_padded(
    file_of: Callable[[str], Path], name: str
) -> None:
    clip = decode_clip(file_of(name), start_seconds=3.0, duration_seconds=2.0, fps=25)
    assert counters(clip) == [*range(75, 100), *[99] * 25]
    assert clip.num_held == 25
    assert clip.audio_valid == pytest.approx(0.5, abs=0.02)
    assert not clip.audio[round(1.05 * RATE) :].any()
    with pytest.raises(ClipRangeError, match="25 of 50"):
        decode_clip(file_of(name), start_seconds=3, duration_seconds=2, fps=25, max_held=24)
    with pytest.raises(ClipRangeError, match="has audio"):
        decode_clip(file_of(name), start_seconds=3, duration_seconds=2, fps=25, min_audio_valid=0.6)


@pytest.mark.parametrize("name", ["mp4", "mkv_opus", "webm", "avi_b_frames"])
@pytest.mark.parametrize("start", [4.0, 4.01, 50.0])
def test_window_after_the_end(file_of: Callable[[str], Path], name: str, start: float) -> None:
    with pytest.raises(ClipRangeError, match=r"ends at 4\.000 s") as caught:
        decode_clip(file_of(name), start_seconds=start, duration_seconds=1, fps=25)
    assert str(file_of(name)) in str(caught.value)
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize(
    "window",
    [(-0.01, 1.0), (0.0, 0.0), (0.0, -1.0), (float("nan"), 1.0), (0.0, float("inf")), (1e18, 1.0)],
)
def test_impossible_windows(file_of: Callable[[str], Path], window: tuple[float, float]) -> None:
    with pytest.raises(ClipRangeError, match="seconds is"):
        decode_clip(file_of("mp4"), start_seconds=window[0], duration_seconds=window[1], fps=25)


@pytest.mark.parametrize(
    "wrong", [{}, {"fps": 5, "num_frames": 5}, {"num_frames": 0}, {"fps": 0.0}, {"fps": -1.0}]
)
def test_one_way_to_say_how_many(file_of: Callable[[str], Path], wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"num_frames or fps|num_frames is 0|fps is"):
        decode_clip(file_of("mp4"), start_seconds=0, duration_seconds=1, **wrong)


def test_late_audio_is_zero_until_it_begins(file_of: Callable[[str], Path]) -> None:
    clip = decode_clip(file_of("mp4_audio_late"), start_seconds=0, duration_seconds=1, fps=5)
    assert not clip.audio[: round(0.29 * RATE)].any()
    assert clip.audio_valid == pytest.approx(0.68, abs=0.025)


def test_a_gap_in_the_audio_stays_a_gap(tmp_path: Path) -> None:
    # Written once whole, then remuxed without the audio packets of one second.
    whole = write_flash_beep(tmp_path / "whole.mkv", audio_codec="aac", events_seconds=EVENTS)
    path = tmp_path / "gap.mkv"
    with av.open(str(whole)) as source, av.open(str(path), "w") as target:
        streams = {s.index: target.add_stream_from_template(s) for s in source.streams}
        for packet in source.demux():
            seconds = float((packet.pts or 0) * packet.time_base)
            if packet.size and not (packet.stream.type == "audio" and 1 <= seconds < 2.2):
                packet.stream = streams[packet.stream_index]
                target.mux(packet)
    clip = decode_clip(path, start_seconds=0, duration_seconds=4, fps=5)
    np.testing.assert_allclose(beep_times(clip.audio, RATE), [0.4, 2.8, 3.6], atol=1e-3)
    assert clip.audio_valid == pytest.approx(0.7, abs=0.02)


def test_no_audio_stream(tmp_path: Path) -> None:
    path = write_flash_beep(tmp_path / "mute.mp4", audio_codec=None, seconds=1)
    window: dict[str, Any] = {"start_seconds": 0, "duration_seconds": 1, "fps": 5}
    with pytest.raises(NoAudioStreamError, match="silence"):
        decode_clip(path, **window)
    clip = decode_clip(path, audio="silence", **window)
    assert clip.audio.shape == (RATE,)
    assert not clip.audio.any()
    assert clip.audio_valid == 0
    with pytest.raises(NoAudioStreamError):
        decode_clip(path, audio="silence", min_audio_valid=0.1, **window)
    skipped = decode_clip(path, audio="skip", **window)
    assert skipped.audio.shape == (0,)
    assert skipped.audio_valid == 0
    assert counters(skipped) == [0, 5, 10, 15, 20]


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".webm", ".avi"])
def test_audio_only(tmp_path: Path, suffix: str) -> None:
    path = write_flash_beep(tmp_path / f"sound{suffix}", video_codec=None, seconds=1)
    with pytest.raises(NoVideoStreamError, match="no video"):
        decode_clip(path, start_seconds=0, duration_seconds=1, fps=5)


def test_things_that_are_no_media(tmp_path: Path, file_of: Callable[[str], Path]) -> None:
    media = file_of("mp4")
    (tmp_path / "empty.mp4").write_bytes(b"")
    (tmp_path / "text.mp4").write_text("not a film\n" * 200)
    (tmp_path / "noise.mp4").write_bytes(np.random.default_rng(0).bytes(5000))
    (tmp_path / "playlist.mp4").write_text(f"#EXTM3U\n#EXTINF:4,\n{media}\n#EXT-X-ENDLIST\n")
    (tmp_path / "concat.mp4").write_text(f"ffconcat version 1.0\nfile '{media}'\n")
    (tmp_path / "no_index.mp4").write_bytes(media.read_bytes()[: media.stat().st_size // 2])
    for path in sorted(tmp_path.iterdir()):
        with pytest.raises(MediaOpenError) as caught:
            decode_clip(path, start_seconds=0, duration_seconds=1, fps=5)
        assert str(path) in str(caught.value)


def test_what_the_system_says(tmp_path: Path) -> None:
    for path, error in ((tmp_path / "none.mp4", FileNotFoundError), (tmp_path, IsADirectoryError)):
        with pytest.raises(error):
            decode_clip(path, start_seconds=0, duration_seconds=1, fps=5)


@pytest.mark.parametrize("name", ["-x.mp4", "http:x.mp4", "a b%d.mp4", "füß日本.mp4", "x'\".mp4"])
def test_odd_names(
    tmp_path: Path, file_of: Callable[[str], Path], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / name).write_bytes(file_of("mp4").read_bytes())
    monkeypatch.chdir(tmp_path)
    clip = decode_clip(name, start_seconds=1, duration_seconds=0.2, fps=5)
    assert counters(clip) == [25]


def test_errors_survive_pickling() -> None:
    # They come out of worker processes.
    error = pickle.loads(pickle.dumps(ClipRangeError("a.mp4", "too late")))
    assert isinstance(error, ClipRangeError)
    assert str(error) == "a.mp4: too late"


@pytest.mark.parametrize("layout", ["mono", "stereo", "5.1"])
@pytest.mark.parametrize("codec", ["pcm_s16le", "pcm_f32le", "aac"])
def test_downmix_keeps_the_level(tmp_path: Path, layout: str, codec: str) -> None:
    path = write_flash_beep(
        tmp_path / "level.mov", layout=layout, audio_codec=codec, seconds=1, events_seconds=(0.4,)
    )
    clip = decode_clip(path, start_seconds=0, duration_seconds=1, fps=5)
    assert np.abs(clip.audio).max() == pytest.approx(0.5, rel=0.03)


@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
@pytest.mark.parametrize("short_side", [None, 72])
def test_rotation(tmp_path: Path, rotation: int, short_side: int | None) -> None:
    path = write_flash_beep(tmp_path / "turned.mp4", rotation=rotation, seconds=1)
    clip = decode_clip(path, start_seconds=0.2, duration_seconds=0.4, fps=5, short_side=short_side)
    size = (96, 160) if short_side is None else (72, 120)
    assert clip.video.shape[1:3] == (size if rotation % 180 == 0 else size[::-1])
    stored = np.rot90(clip.video, -rotation // 90, axes=(1, 2))
    assert [read_counter(frame) for frame in stored] == [5, 10]


@pytest.mark.parametrize("name", ["mp4", "webm", "avi_b_frames"])
@pytest.mark.parametrize("short_side", [None, 48])
def test_colours(file_of: Callable[[str], Path], name: str, short_side: int | None) -> None:
    # Full range RGB, and the same colours as were drawn.
    clip = decode_clip(
        file_of(name), start_seconds=0.4, duration_seconds=0.08, fps=25, short_side=short_side
    )
    flash, plain = clip.video.astype(float)
    scale = len(flash) / 96
    rows = slice(int(84 * scale), int(94 * scale))
    assert flash[rows].mean() > 250
    assert plain[rows].mean() == pytest.approx(60, abs=4)
    x, y = int((11 * 3 + 8) * scale), int(71 * scale)
    drawn = draw_frame(11, size=(160, 96), flash=False)[71, 41]
    np.testing.assert_allclose(plain[y - 2 : y + 2, x - 2 : x + 2].mean((0, 1)), drawn, atol=16)


def test_default_audio_track_is_taken(tmp_path: Path) -> None:
    first = write_flash_beep(tmp_path / "a.mkv", audio_codec="aac", events_seconds=(0.4,))
    other = write_flash_beep(tmp_path / "b.mkv", audio_codec="aac", events_seconds=(0.8,))
    path = tmp_path / "two.mkv"
    with av.open(str(first)) as a, av.open(str(other)) as b, av.open(str(path), "w") as target:
        streams = []
        for source in (a.streams.video[0], a.streams.audio[0], b.streams.audio[0]):
            streams.append(target.add_stream_from_template(source))
            streams[-1].disposition = Disposition(0)
        streams[2].disposition = Disposition.default
        packets = [(p, streams[p.stream_index]) for p in a.demux()]
        packets += [(p, streams[2]) for p in b.demux(audio=0)]
        for packet, stream in packets:
            if packet.size:
                packet.stream = stream
                target.mux(packet)
    clip = decode_clip(path, start_seconds=0, duration_seconds=1, fps=5)
    np.testing.assert_allclose(beep_times(clip.audio, RATE), [0.8], atol=1e-3)


def test_truncated_file(tmp_path: Path, file_of: Callable[[str], Path]) -> None:
    # mp4 with the index at the front, as files for the web have it.
    whole, path = tmp_path / "front.mp4", tmp_path / "cut.mp4"
    with (
        av.open(str(file_of("mp4"))) as source,
        av.open(str(whole), "w", options={"movflags": "faststart"}) as target,
    ):
        streams = {s.index: target.add_stream_from_template(s) for s in source.streams}
        for packet in source.demux():
            if packet.size:
                packet.stream = streams[packet.stream_index]
                target.mux(packet)
    data = whole.read_bytes()
    path.write_bytes(data[: int(len(data) * 0.6)])
    clip = decode_clip(path, start_seconds=0.5, duration_seconds=1, fps=25)
    assert counters(clip) == list(range(12, 37)) or counters(clip) == list(range(13, 38))
    with pytest.raises((TruncatedMediaError, DecodeError)):
        decode_clip(path, start_seconds=3.4, duration_seconds=0.4, fps=25)


@pytest.mark.parametrize("name", ["mp4", "mkv_aac", "mp4_mpeg4", "avi_b_frames", "mov"])
def test_damage_that_the_decoder_notices_is_refused(
    tmp_path: Path, file_of: Callable[[str], Path], name: str
) -> None:
    # 24 random bytes in a frame; a single changed bit can stay unnoticed by any decoder.
    clean = file_of(name)
    with av.open(str(clean)) as container:
        packets = [
            (p.pos, p.size) for p in container.demux(video=0) if p.size > 60 and p.pos is not None
        ]
    data, path = clean.read_bytes(), tmp_path / ("bad" + clean.suffix)
    want = decode_clip(clean, start_seconds=0, duration_seconds=3.9, fps=25, audio="skip")
    rng = np.random.default_rng(3)
    num_refused = 0
    for _ in range(9):
        damaged = bytearray(data)
        position, size = packets[rng.integers(len(packets))]
        low = position + rng.integers(20, size - 30)
        damaged[low : low + 24] = rng.bytes(24)
        path.write_bytes(damaged)
        for start in (0.0, 1.3, 2.6):
            try:
                got = decode_clip(
                    path, start_seconds=start, duration_seconds=1.2, fps=25, audio="skip"
                )
            except ClipError:
                num_refused += 1
                continue
            expected = want.video[round(start * 25) :][: len(got.video)].astype(float)
            error = np.abs(got.video - expected).mean(axis=(1, 2, 3))
            assert error.max() < 3, (start, low, error.round(1))
    assert 0 < num_refused < 24


@pytest.mark.parametrize("path", REAL, ids=lambda path: path.name)
def test_real_files_seek_to_the_frames_of_a_linear_decode(path: Path) -> None:
    times, frames, epsilon = plain_decode(path)
    num_refused = 0
    starts = (0.0, 0.55, 0.45 * times[-1], max(times[-1] - 0.7, 0))
    for start in starts[2:] if path.suffix in (".avi", ".ts") else starts:  # those cannot seek
        try:
            clip = decode_clip(
                path, start_seconds=start, duration_seconds=0.6, num_frames=3, audio="silence"
            )
        except ClipError:
            num_refused += 1
            continue
        for k, at in enumerate(start + (np.arange(3) + 0.5) * 0.2):
            index = np.searchsorted(times, at + epsilon, side="right") - 1
            assert clip.pts_seconds[k] == pytest.approx(times[index], abs=1e-6)
            want = np.rot90(frames[index].to_ndarray(format="gray"), frames[index].rotation // 90)
            large = want.shape[1] >= 1280  # BT.709, else BT.601
            got = clip.video[k] @ np.array(
                [0.2126, 0.7152, 0.0722] if large else [0.299, 0.587, 0.114]
            )
            assert got.shape == want.shape
            # Gray by another way: it differs by rounding, another frame by far more.
            difference = np.abs(got - want).mean()
            assert difference < 3
            assert difference < 1 or np.corrcoef(got.ravel(), want.ravel())[0, 1] > 0.97
    assert num_refused <= REFUSED.get(path.name, 0)


def plain_decode(path: Path) -> tuple[list[float], list[Any], float]:
    """Time of every frame, the frames, and half a tick; nothing is sought or skipped."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        period, tick = 1 / float(stream.average_rate or 25), float(stream.time_base or 0)
        frames: list[Any] = []
        for packet in container.demux(stream):
            try:
                frames += packet.decode()
            except av.error.FFmpegError:
                continue
    if path.suffix == ".avi":  # its times are not given: frames are counted
        times = [k * period for k in range(len(frames))]
    else:
        times = [frame.time - frames[0].time for frame in frames]
    return times, frames, min(tick / 2, 5e-4)


def test_real_files_are_there() -> None:
    if not REAL:
        pytest.skip(f"no real files in {DATA}: decoding was not compared with theirs")
    assert len(REAL) == 52


def test_a_file_none_of_whose_frames_is_said_to_be_a_key(tmp_path: Path) -> None:
    # As some writers of ASF leave it; read from its beginning.
    whole = write_flash_beep(
        tmp_path / "whole.wmv", video_codec="wmv2", audio_codec="wmav2", seconds=2, b_frames=0
    )
    path = tmp_path / "no_key.wmv"
    with av.open(str(whole)) as source, av.open(str(path), "w") as target:
        streams = {s.index: target.add_stream_from_template(s) for s in source.streams}
        for packet in source.demux():
            if packet.size:
                packet.is_keyframe &= packet.stream.type == "audio"
                packet.stream = streams[packet.stream_index]
                target.mux(packet)
    for start in (0.0, 0.7):
        clip = decode_clip(path, start_seconds=start, duration_seconds=0.4, fps=25)
        first = int(start * 25 + 0.02)
        assert [read_counter(frame) for frame in clip.video] == list(range(first, first + 10))


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".avi"])
def test_a_window_at_the_very_end_is_after_it(tmp_path: Path, suffix: str) -> None:
    # Times are rounded to ticks: all of its frames would be held, and none of them is new.
    path = write_flash_beep(tmp_path / f"x{suffix}", seconds=1)
    for start in (1.0, 1.0 - 1e-7):
        with pytest.raises(ClipRangeError, match=r"the video ends at 1\.000 s"):
            decode_clip(path, start_seconds=start, duration_seconds=0.4, fps=25)
    clip = decode_clip(path, start_seconds=0.97, duration_seconds=0.4, fps=25)
    assert (read_counter(clip.video[0]), clip.num_held) == (24, 9)
