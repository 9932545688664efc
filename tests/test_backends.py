"""decord and torchcodec give what PyAV gives, or say that they cannot; nothing in between."""

import hashlib
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from avmix.decode import (
    Backend,
    ClipError,
    ClipRangeError,
    DecodeError,
    Limits,
    MediaOpenError,
    NoAudioStreamError,
    NoVideoStreamError,
    UnsupportedMediaError,
    decode_clip,
    decode_clips,
)
from avmix.types import Clip
from tests.media import read_counter, write_flash_beep, write_media
from tests.truth import (
    BEEP_TOLERANCE_SECONDS,
    PATCH_TOLERANCE,
    RATE_HZ,
    RECIPES,
    Decode,
    measure,
    truth_of,
    windows_of,
)

try:
    import avmix.decode.torchcodec  # noqa: F401

    REASON = ""
except ImportError as missing:
    REASON = str(missing)
TORCHCODEC = pytest.param("torchcodec", marks=pytest.mark.skipif(bool(REASON), reason=REASON))
EACH = pytest.mark.parametrize("backend", ["decord", TORCHCODEC])
ALL = pytest.mark.parametrize("backend", ["pyav", "decord", TORCHCODEC])

BOTH = (
    "plain.mp4", "plain.mov", "plain.mkv", "plain.webm", "fragments.mp4", "negative_cts.mp4",
    "audio_first.mkv", "no_b.mp4", "pyramid.mkv", "intra.mp4", "gop_250.mp4", "lossless_444.mkv",
    "vp9_alt_ref.webm", "mp3.mp4", "flac.mkv", "surround.mkv", "video_late.mp4", "video_late.mkv",
    "audio_late.mp4", "both_late.mkv", "both_late_fragments.mp4", "short_sound.mp4",
    "short_video.mp4", "no_sound.mp4", "one_frame.mp4", "three_frames.mp4", "trim_audio.mp4",
    "late_and_trimmed_audio.mp4", "sound_gap.mp4", "sound_gap.mkv", "video_gap.mkv", "drops.mp4",
    "drops.webm", "alternating.mp4", "long_frame.mkv", "milliseconds.webm", "two_sounds.mkv",
    "cover.mp4", "turned_90.mp4", "turned_180.mov", "turned_270.mp4", "wide_pixels.mp4",
    "wide_pixels_turned.mp4", "colour_601.mp4", "colour_709.mp4", "colour_709_full.mkv",
    "rate_12_5.mkv", "rate_59_94.mkv", "odd_size.webm",
)  # fmt: skip
"""Files that every backend takes."""
ONLY_TORCHCODEC = (
    "ten_bit.mp4", "hevc.mp4", "hevc_b.mkv", "mpeg4_b.mp4", "vp8_alt_ref.webm", "mjpeg.mov",
    "prores.mov", "two_videos.mkv", "live.webm",
)  # fmt: skip
NEITHER = (
    "plain.avi", "plain.ts", "plain.mpg", "plain.flv", "trim_video.mp4", "trim_ends.mp4",
    "trim_inside_gop.mov", "mirrored.mp4", "mirrored_90.mp4",
)  # fmt: skip
FileOf = Callable[[str], Path]


@pytest.fixture(scope="module")
def file_of(tmp_path_factory: pytest.TempPathFactory) -> FileOf:
    """Path of a file of the table of truth, written when it is first asked for."""
    folder = tmp_path_factory.mktemp("backends")

    def make(name: str) -> Path:
        path = folder / name
        return path if path.exists() else write_media(path, RECIPES[name])

    return make


def outcomes(path: Path, backend: Backend, **how: Any) -> list[Clip | ClipError]:
    defaults: dict[str, Any] = {"duration_seconds": 0.9, "num_frames": 7, "audio": "silence"}
    return decode_clips(path, backend=backend, **{**defaults, "sha256": hash_of(path), **how})


def hash_of(path: Path) -> str | None:
    """Where the backends ask for one."""
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.suffix == ".webm" else None


def each_outcomes(path: Path, backend: Backend, **how: Any) -> tuple[list[Clip | ClipError], ...]:
    """Of the backend, and of PyAV."""
    return outcomes(path, backend, **how), outcomes(path, "pyav", **how)


def assert_refused(path: Path, backend: Backend) -> None:
    with pytest.raises(UnsupportedMediaError) as caught:
        outcomes(path, backend, starts_seconds=(0.1,))
    assert_message(caught.value, path)


def assert_message(error: ClipError, path: Path) -> None:
    assert str(error).startswith(str(path))
    assert str(error).endswith('use backend="pyav"')


def answers(clip: Clip) -> Decode:
    return lambda *_: (clip.video, clip.pts_seconds, clip.audio)


def assert_exact(path: Path, name: str, backend: Backend) -> None:
    """Against the truth: the frame of every moment, every beep, and what is counted."""
    truth = truth_of(RECIPES[name])
    windows = windows_of(truth, seed=len(name))
    for which in ("start", "inside", "end", "every frame", "random 1"):
        window = windows[which]
        num = window.num_frames
        by_number = window.grid == "middles"
        clip = decode_clip(
            path,
            start_seconds=window.start_seconds,
            duration_seconds=window.duration_seconds,
            num_frames=num if by_number else None,
            fps=None if by_number else num / window.duration_seconds,
            sample_rate=RATE_HZ,
            audio="silence",
            sha256=hash_of(path),
            backend=backend,
        )
        found = measure(answers(clip), path, truth, window)
        assert not found.problem, which
        assert found.num_wrong_frames == 0, which
        assert found.av_error_seconds <= BEEP_TOLERANCE_SECONDS, which
        assert found.pts_error_seconds <= 2 * truth.rounding_seconds + 2e-6, which
        assert found.colour_error <= PATCH_TOLERANCE, which
        fewest, most = truth.num_held(window)
        assert fewest <= clip.num_held <= most, which
        slack = (truth.codec_frame_seconds + 0.001) / window.duration_seconds
        assert clip.audio_valid == pytest.approx(truth.audio_valid(window), abs=slack), which


def assert_same(got: Clip | ClipError, want: Clip | ClipError) -> None:
    """As PyAV: all but the last bits of the frames, and the wording of errors."""
    if isinstance(want, ClipError) or isinstance(got, ClipError):
        assert type(got) is type(want), (got, want)
        return
    assert got.video.shape == want.video.shape
    assert np.abs(got.video.astype(float) - want.video).mean(axis=(1, 2, 3)).max() < 3
    np.testing.assert_allclose(got.pts_seconds, want.pts_seconds, atol=1e-9)
    np.testing.assert_array_equal(got.audio, want.audio)
    assert (got.num_held, got.audio_valid, got.interlaced, got.start_seconds) == (
        want.num_held,
        want.audio_valid,
        want.interlaced,
        want.start_seconds,
    )


@EACH
@pytest.mark.parametrize("name", BOTH)
def test_exact(file_of: FileOf, name: str, backend: Backend) -> None:
    assert_exact(file_of(name), name, backend)


@EACH
@pytest.mark.parametrize("name", ONLY_TORCHCODEC)
def test_what_decord_cannot_do(file_of: FileOf, name: str, backend: Backend) -> None:
    if backend == "decord":
        assert_refused(file_of(name), backend)
    else:
        assert_exact(file_of(name), name, backend)


@EACH
@pytest.mark.parametrize(
    ("name", "decord_takes_it"),
    [("open_gop.mp4", False), ("intra_refresh.mp4", False), ("colour_709_full.webm", True)],
)
def test_what_versions_of_ffmpeg_read_in_different_ways(
    file_of: FileOf, name: str, decord_takes_it: bool, backend: Backend
) -> None:
    # Which one torchcodec finds is the system's choice. FFmpeg 5 logs errors where a seek lands in
    # an open group, and does not believe what WebM says of the range of VP9.
    if backend == "torchcodec":
        try:
            assert_exact(file_of(name), name, backend)
        except UnsupportedMediaError as error:
            assert_message(error, file_of(name))
    elif decord_takes_it:
        assert_exact(file_of(name), name, backend)
    else:
        assert_refused(file_of(name), backend)


@EACH
@pytest.mark.parametrize("name", NEITHER)
def test_what_only_pyav_does(file_of: FileOf, name: str, backend: Backend) -> None:
    assert_refused(file_of(name), backend)
    assert isinstance(outcomes(file_of(name), "pyav", starts_seconds=(0.1,))[0], Clip)


@EACH
@pytest.mark.parametrize("short_side", [None, 48, 100])
@pytest.mark.parametrize(
    "name", ["plain.mp4", "drops.webm", "turned_90.mp4", "wide_pixels.mp4", "alternating.mp4"]
)
def test_many_windows_as_pyav(
    file_of: FileOf, name: str, short_side: int | None, backend: Backend
) -> None:
    # Out of order, overlapping, twice the same, at the very start, across the end, after it.
    how: dict[str, Any] = {
        "starts_seconds": (1.3, 0.0, 0.7, 50.0, 2.9, 0.7),
        "short_side": short_side,
        "sample_rate": 22_050,
    }
    got, want = each_outcomes(file_of(name), backend, **how)
    assert len(got) == 6
    assert isinstance(got[3], ClipRangeError)
    assert str(got[3]) == str(want[3])  # they name the same end
    for ours, pyavs in zip(got, want, strict=True):
        assert_same(ours, pyavs)


@EACH
def test_windows_that_share_frames(file_of: FileOf, backend: Backend) -> None:
    # Together they have as many frames as each asks for: 73 to 79, and 77 to 79 and held.
    how: dict[str, Any] = {"starts_seconds": (2.92, 3.08), "duration_seconds": 0.28}
    how |= {"fps": 25, "num_frames": None}
    got, want = each_outcomes(file_of("plain.mp4"), backend, **how)
    assert isinstance(got[1], Clip)
    assert got[1].num_held == 4
    for ours, pyavs in zip(got, want, strict=True):
        assert_same(ours, pyavs)


@EACH
@pytest.mark.parametrize("limit", [{"max_held": 2}, {"min_audio_valid": 0.6}])
def test_limits_of_one_window(file_of: FileOf, limit: dict[str, Any], backend: Backend) -> None:
    how: dict[str, Any] = {"starts_seconds": (0.2, 2.8), "fps": 10, "num_frames": None, **limit}
    got, want = each_outcomes(file_of("plain.mp4"), backend, **how)
    assert isinstance(got[0], Clip)
    assert isinstance(got[1], ClipRangeError)
    assert str(got[1]) == str(want[1])


@ALL
@pytest.mark.parametrize("start", [4.0 - 1e-7, 4.0, 50.0])
def test_after_the_end(tmp_path: Path, start: float, backend: Backend) -> None:
    path = write_flash_beep(tmp_path / "a.mp4")
    with pytest.raises(ClipRangeError, match=r"ends at 4\.000 s"):
        decode_clip(path, start_seconds=start, duration_seconds=1, fps=5, backend=backend)
    with pytest.raises(ClipRangeError, match="first frame is at 0"):
        decode_clip(path, start_seconds=-0.1, duration_seconds=1, fps=5, backend=backend)


@ALL
def test_things_that_are_no_media(tmp_path: Path, file_of: FileOf, backend: Backend) -> None:
    media = file_of("plain.mp4")
    window: dict[str, Any] = {"start_seconds": 0, "duration_seconds": 1, "fps": 5}
    with pytest.raises(FileNotFoundError):
        decode_clip(tmp_path / "none.mp4", backend=backend, **window)
    with pytest.raises(IsADirectoryError):
        decode_clip(tmp_path, backend=backend, **window)
    (tmp_path / "empty.mp4").write_bytes(b"")
    (tmp_path / "text.mp4").write_text("not a film\n" * 200)
    (tmp_path / "playlist.mp4").write_text(f"#EXTM3U\n#EXTINF:4,\n{media}\n#EXT-X-ENDLIST\n")
    (tmp_path / "concat.mp4").write_text(f"ffconcat version 1.0\nfile '{media}'\n")
    for path in sorted(tmp_path.iterdir()):
        with pytest.raises(MediaOpenError) as caught:
            decode_clip(path, backend=backend, **window)
        assert str(path) in str(caught.value)


@ALL
def test_streams_that_are_missing(tmp_path: Path, backend: Backend) -> None:
    window: dict[str, Any] = {"start_seconds": 0, "duration_seconds": 1, "fps": 5}
    path = write_flash_beep(tmp_path / "sound.mp4", video_codec=None, seconds=1)
    with pytest.raises(NoVideoStreamError):
        decode_clip(path, backend=backend, **window)
    path = write_flash_beep(tmp_path / "mute.mp4", audio_codec=None, seconds=1)
    with pytest.raises(NoAudioStreamError, match="silence"):
        decode_clip(path, backend=backend, **window)
    silent = decode_clip(path, audio="silence", backend=backend, **window)
    assert silent.audio.shape == (RATE_HZ,)
    assert not silent.audio.any()
    skipped = decode_clip(path, audio="skip", backend=backend, **window)
    assert skipped.audio.shape == (0,)
    assert [read_counter(frame) for frame in skipped.video] == [0, 5, 10, 15, 20]


@EACH
def test_what_is_asked_of_the_file(file_of: FileOf, backend: Backend) -> None:
    path = file_of("plain.mp4")
    true = hashlib.sha256(path.read_bytes()).hexdigest()
    (clip,) = outcomes(path, backend, starts_seconds=(0.5,), sha256=true)
    assert isinstance(clip, Clip)
    with pytest.raises(DecodeError, match="SHA-256"):
        outcomes(path, backend, starts_seconds=(0.5,), sha256="0" * 64)
    with pytest.raises(UnsupportedMediaError, match=r'origin="container".*backend="pyav"'):
        outcomes(path, backend, starts_seconds=(0.5,), origin="container")
    with pytest.raises(UnsupportedMediaError, match="short_side"):
        outcomes(path, backend, starts_seconds=(0.5,), limits=Limits(max_clip_bytes=100_000))
    with pytest.raises(UnsupportedMediaError, match="pixels"):
        outcomes(path, backend, starts_seconds=(0.5,), limits=Limits(max_pixels=100))


@EACH
def test_interlaced_frames(tmp_path: Path, backend: Backend) -> None:
    # Only the frame itself says so, and no library but PyAV passes that on.
    recipe = replace(RECIPES["interlaced.ts"], name="interlaced.mp4")
    assert_refused(write_media(tmp_path / recipe.name, recipe), backend)


@EACH
def test_vp9_needs_a_hash(file_of: FileOf, backend: Backend) -> None:
    with pytest.raises(UnsupportedMediaError, match="sha256") as caught:
        outcomes(file_of("plain.webm"), backend, starts_seconds=(0.1,), sha256=None)
    assert_message(caught.value, file_of("plain.webm"))


@EACH
def test_a_hole_of_zeros(tmp_path: Path, backend: Backend) -> None:
    path = write_flash_beep(tmp_path / "hole.mp4")
    with av.open(str(path)) as container:
        position, size = max(
            ((p.pos or 0, p.size) for p in container.demux(video=0)), key=lambda p: p[1]
        )
    data = bytearray(path.read_bytes())
    data[position + size // 2 : position + size // 2 + 40] = bytes(40)
    path.write_bytes(data)
    with pytest.raises(UnsupportedMediaError, match="no encoder writes"):
        outcomes(path, backend, starts_seconds=(0.1,))


@EACH
def test_a_matrix_that_has_to_be_guessed(tmp_path: Path, backend: Backend) -> None:
    # PyAV's side takes large frames without a tag for BT.709, as players do; these for BT.601.
    path = write_flash_beep(tmp_path / "large.mp4", size=(1280, 64), seconds=0.4)
    assert_refused(path, backend)


@EACH
@pytest.mark.parametrize("between_packets", [False, True])
@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_truncated_file(
    tmp_path: Path, suffix: str, between_packets: bool, backend: Backend
) -> None:
    # With the index at the front, as files for the web have it.
    whole = write_flash_beep(tmp_path / f"whole{suffix}", audio_codec="aac")
    front, path = tmp_path / f"front{suffix}", tmp_path / f"cut{suffix}"
    options = {"movflags": "faststart"} if suffix == ".mp4" else {}
    with av.open(str(whole)) as source, av.open(str(front), "w", options=options) as target:
        streams = {s.index: target.add_stream_from_template(s) for s in source.streams}
        for packet in source.demux():
            if packet.size:
                packet.stream = streams[packet.stream_index]
                target.mux(packet)
    with av.open(str(front)) as container:
        positions = [p.pos for p in container.demux(video=0) if p.pos is not None]
    at = positions[60] + (0 if between_packets else 30)
    path.write_bytes(front.read_bytes()[:at])
    assert_refused(path, backend)


@pytest.mark.long
@EACH
@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_damage_that_the_decoder_notices(tmp_path: Path, suffix: str, backend: Backend) -> None:
    # 24 random bytes in a frame. Neither library raises for most of them: it is in their log,
    # and for the last of these files not as an error.
    clean, path = write_flash_beep(tmp_path / f"clean{suffix}"), tmp_path / f"bad{suffix}"
    with av.open(str(clean)) as container:
        packets = [(p.pos, p.size) for p in container.demux(video=0) if p.size > 60]
    data = clean.read_bytes()
    window: dict[str, Any] = {"duration_seconds": 1.2, "fps": 25, "audio": "skip"}
    want = decode_clip(clean, start_seconds=0, **{**window, "duration_seconds": 3.9}).video
    rng = np.random.default_rng(3)
    messages = []
    for _ in range(25):
        damaged = bytearray(data)
        position, size = packets[rng.integers(len(packets))]
        assert position is not None
        low = position + rng.integers(20, size - 30)
        damaged[low : low + 24] = rng.bytes(24)
        path.write_bytes(damaged)
        for start in (0.0, 1.3):
            try:
                got = decode_clip(path, start_seconds=start, backend=backend, **window).video
            except ClipError as error:
                messages.append(str(error))
                continue
            expected = want[round(start * 25) :][: len(got)].astype(float)
            assert np.abs(got - expected).mean(axis=(1, 2, 3)).max() < 3, (start, low)
    assert 10 < len(messages) < 45
    assert all(message.startswith(str(path)) for message in messages)


@EACH
def test_odd_names(tmp_path: Path, file_of: FileOf, backend: Backend) -> None:
    data = file_of("plain.mp4").read_bytes()
    for name in ("-x.mp4", "http:x.mp4", "a b%d.mp4", "füß日本.mp4"):
        (tmp_path / name).write_bytes(data)
        (clip,) = outcomes(tmp_path / name, backend, starts_seconds=(1.0,))
        assert isinstance(clip, Clip)
    broken = tmp_path / "\udcff.mp4"  # bytes that are no UTF-8
    broken.write_bytes(data)
    with pytest.raises(UnsupportedMediaError, match='use backend="pyav"'):
        outcomes(broken, backend, starts_seconds=(1.0,))


def test_decord_beside_a_library_that_changes_its_arrays(file_of: FileOf) -> None:
    from decord import bridge

    bridge.set_bridge("torch")  # as pytorchvideo does when it is imported
    try:
        (got,) = outcomes(file_of("plain.mp4"), "decord", starts_seconds=(1.0,))
    finally:
        bridge.reset_bridge()
    (want,) = outcomes(file_of("plain.mp4"), "pyav", starts_seconds=(1.0,))
    assert_same(got, want)


@pytest.mark.long
@pytest.mark.skipif(bool(REASON), reason=REASON)
@pytest.mark.parametrize("first", ["decord", "torchcodec"])
def test_one_process_has_room_for_three_libavs(file_of: FileOf, first: str) -> None:
    second = {"decord": "torchcodec", "torchcodec": "decord"}[first]
    code = f"""
from avmix.decode import decode_clip
for backend in ("{first}", "pyav", "{second}", "{first}"):
    clip = decode_clip({str(file_of("plain.mp4"))!r}, start_seconds=1, duration_seconds=1,
                       num_frames=4, backend=backend)
    print(clip.pts_seconds.tolist())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert len(lines) == 4
    assert len(set(lines)) == 1
    assert not done.stderr
