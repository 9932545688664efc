"""Every file of the table decodes exactly, or is refused; and the table and its ruler are right."""

import math
import struct
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction as F
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from avmix import decode
from avmix.decode import ClipError, decode_clip
from avmix.media.probe import probe
from avmix.types import Clip
from tests.media import (
    AudioSpec,
    Edit,
    Recipe,
    VideoSpec,
    draw_beeps,
    draw_frame,
    find_beeps,
    unpack_boxes,
    write_media,
)
from tests.truth import (
    BEEP_TOLERANCE_SECONDS,
    EPSILON_SECONDS,
    LEVEL_TOLERANCE,
    PATCH_TOLERANCE,
    RATE_HZ,
    RECIPES,
    REFUSED,
    WHOLE,
    Truth,
    Window,
    measure,
    truth_of,
    windows_of,
)

FileOf = Callable[[str], Path]


@pytest.fixture(scope="module")
def file_of(tmp_path_factory: pytest.TempPathFactory) -> FileOf:
    """Path of a file of either table, written when it is first asked for."""
    folder = tmp_path_factory.mktemp("truth")

    def make(name: str) -> Path:
        path = folder / name
        if not path.exists():
            recipes = (RECIPES[name],) if name in RECIPES else REFUSED[name].recipes
            parts = [
                write_media(folder / f"part_{name}", recipe).read_bytes() for recipe in recipes
            ]
            path.write_bytes(b"".join(parts))
        return path

    return make


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow if recipe.slow else ())
        for name, recipe in RECIPES.items()
    ],
)
def test_every_window_of_a_file_is_exact(file_of: FileOf, name: str) -> None:
    path, truth = file_of(name), truth_of(RECIPES[name])
    wrong = {}
    for which, window in windows_of(truth, seed=len(name)).items():
        complaints = _complaints(path, truth, window)
        if complaints:
            wrong[which] = complaints
    assert not wrong


@pytest.mark.parametrize("name", [n for n, r in RECIPES.items() if not r.slow])
def test_probing_finds_what_was_written(file_of: FileOf, name: str) -> None:
    truth = truth_of(RECIPES[name])
    video, audio = probe(file_of(name))
    assert video is not None
    assert video.num_frames == len(truth.frame_seconds)
    slack = EPSILON_SECONDS + 2 * truth.rounding_seconds
    assert video.duration_seconds == pytest.approx(truth.end_seconds, abs=slack)
    assert (video.width, video.height) == truth.size
    assert (audio is None) == (not truth.audio_seconds)


def _complaints(path: Path, truth: Truth, window: Window) -> list[str]:
    clips: list[Clip] = []

    def decoded(
        path: Path, start_seconds: float, duration_seconds: float, num_frames: int
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        by_rate = window.grid == "starts"
        clips.append(
            decode_clip(
                path,
                start_seconds=start_seconds,
                duration_seconds=duration_seconds,
                num_frames=None if by_rate else num_frames,
                fps=num_frames / duration_seconds if by_rate else None,
                audio="require" if truth.audio_seconds else "silence",
            )
        )
        return clips[0].video, clips[0].pts_seconds, clips[0].audio

    found = measure(decoded, path, truth, window)
    if not clips:
        return [found.problem]
    fewest, most = truth.num_held(window)
    valid, clip = truth.audio_valid(window), clips[0]
    # Any container may round where audio begins, mp4 in empty edits, to 1 ms.
    slack = (truth.codec_frame_seconds + 0.001) / window.duration_seconds
    checks = {
        found.problem: not found.problem,
        f"{found.num_wrong_frames} frames are wrong": found.num_wrong_frames == 0,
        f"A/V error {found.av_error_seconds} s": found.av_error_seconds <= BEEP_TOLERANCE_SECONDS,
        f"pts error {found.pts_error_seconds} s": (
            found.pts_error_seconds <= 2 * truth.rounding_seconds + 2e-6
        ),
        f"{clip.num_held} held, not {fewest} to {most}": fewest <= clip.num_held <= most,
        f"{clip.audio_valid} has audio, not {valid}": abs(clip.audio_valid - valid) <= slack,
        f"level error {found.level_error}": found.level_error <= LEVEL_TOLERANCE,
        f"colour error {found.colour_error}": found.colour_error <= PATCH_TOLERANCE,
    }
    return [complaint for complaint, is_fine in checks.items() if not is_fine]


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_exact_is_refused(file_of: FileOf, name: str) -> None:
    expected = tuple(getattr(decode, error) for error in REFUSED[name].error)
    path = file_of(name)
    with pytest.raises(expected) as caught:
        decode_clip(
            path,
            start_seconds=WHOLE.start_seconds,
            duration_seconds=WHOLE.duration_seconds,
            num_frames=WHOLE.num_frames,
        )
    assert isinstance(caught.value, ClipError)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("name", "interlaced"),
    [("interlaced.ts", True), ("interlaced_mpeg2.mpg", True), ("plain.mp4", False)],
)
def test_interlaced_frames_are_stated(file_of: FileOf, name: str, *, interlaced: bool) -> None:
    clip = decode_clip(file_of(name), start_seconds=0.5, duration_seconds=1, num_frames=2)
    assert clip.interlaced == interlaced


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("plain.mp4", (80, 48)),
        ("wide_pixels.mp4", (160, 48)),  # 320 x 96 on the screen
        ("tall_pixels.mkv", (48, 58)),  # 80 x 96
        ("wide_pixels_turned.mp4", (53, 48)),  # 160 x 144
        ("turned_90.mp4", (80, 48)),
        ("odd_size.webm", (80, 48)),  # 161 x 97
        ("plain.3gp", (64, 48)),  # 176 x 144 with pixels of 12:11
    ],
)
def test_pixels_become_square(file_of: FileOf, name: str, size: tuple[int, int]) -> None:
    clip = decode_clip(
        file_of(name), start_seconds=0.5, duration_seconds=1, num_frames=2, short_side=48
    )
    assert clip.video.shape == (2, size[1], size[0], 3)


@pytest.mark.parametrize("name", [n for n, r in RECIPES.items() if r.undeclared_delay_seconds])
def test_undeclared_delays_are_in_the_file(file_of: FileOf, name: str) -> None:
    # Counted from the first sample that the codec gives, which is all that AVI says of time.
    with av.open(str(file_of(name))) as container:
        frames = list(container.decode(audio=0))
    wave = np.concatenate([frame.to_ndarray()[0] for frame in frames])
    found = [beep.seconds for beep in find_beeps(wave, frames[0].sample_rate)]
    written = [float(event) for event in RECIPES[name].events]
    delays = np.array(found) - written
    assert delays == pytest.approx(RECIPES[name].undeclared_delay_seconds, abs=1e-4)


def test_truth_of_a_trimmed_file_by_hand() -> None:
    # 5 frames a second; of the frames, what is presented begins within number 2.
    recipe = Recipe(
        name="x.mp4",
        video=(
            VideoSpec(
                fps=F(5),
                seconds=F(2),
                edits=(
                    Edit(media_seconds=None, seconds=F(1)),
                    Edit(media_seconds=F(1, 2), seconds=F(3, 5)),
                ),
            ),
        ),
        audio=(
            AudioSpec(
                seconds=F(2),
                layout="5.1",
                levels=(0.1, 0.2, 0.3, 1.0, 0.4, 0.5),
                edits=(Edit(media_seconds=F(1, 5), seconds=F(8, 5)),),
            ),
        ),
    )
    truth = truth_of(recipe)
    assert truth.frame_numbers == (2, 3, 4, 5)
    assert truth.frame_seconds == pytest.approx((0, 0.1, 0.3, 0.5))
    assert truth.end_seconds == pytest.approx(0.6)
    # Audio lasts from 0 to 1.6 s of the film, of which the frames begin at 1.
    assert truth.audio_seconds == (pytest.approx((-1.0, 0.6)),)
    # Flashes were at 0.2, 0.8, 1.2, 1.4 of the track, less 0.2 cut off, less 1.
    assert truth.beep_seconds == pytest.approx((-1.0, -0.4, 0.0, 0.2))
    assert truth.beeps[0].level == pytest.approx(0.3)  # without the 1.0 of the LFE
    window = Window(start_seconds=0.4, duration_seconds=0.4, num_frames=4)
    assert truth.num_held(window) == (2, 2)  # of 0.45, 0.55, 0.65, 0.75
    assert truth.audio_valid(window) == pytest.approx(0.5)


def test_edit_lists_are_written_as_told(file_of: FileOf) -> None:
    rows = _edit_rows(file_of("late_and_trimmed_video.mp4"))
    # B-frames make the first frame begin at tick 1024 of 12800 a second.
    assert rows == [(400, -1, 1 << 16), (2400, 1024 + 10_240, 1 << 16)]
    assert _edit_rows(file_of("half_speed.mp4")) == [(3200, 0, 1 << 15)]


def _edit_rows(path: Path) -> list[tuple[int, int, int]]:
    data = dict(unpack_boxes(path.read_bytes()))[b"moov"]
    for kind in (b"trak", b"edts", b"elst"):
        data = next(body for name, body in unpack_boxes(data) if name == kind)
    return list(struct.iter_unpack(">IiI", data[8:]))


TRUTH = truth_of(Recipe(name="x.mp4"))
HERE = Window(start_seconds=0.51, duration_seconds=1.2, num_frames=24)


def _perfect(
    path: Path,
    start_seconds: float,
    duration_seconds: float,
    num_frames: int,
    *,
    frames_late: int = 0,
    audio_late_seconds: float = 0.0,
    drop: tuple[int, ...] = (),
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What a decoder of `Recipe()` should return, or is known to be wrong by."""
    del path
    window = Window(
        start_seconds=start_seconds, duration_seconds=duration_seconds, num_frames=num_frames
    )
    numbers = np.floor(window.times * 25).astype(int) - frames_late
    frames = np.stack([draw_frame(n, size=(160, 96), flash=False) for n in numbers])
    beeps = [
        (beep.seconds + audio_late_seconds, beep.tone)
        for beep in TRUTH.beeps
        if beep.tone not in drop
    ]
    audio = draw_beeps(beeps, seconds=duration_seconds, rate=RATE_HZ, start_seconds=start_seconds)
    return frames, numbers / 25, audio


def test_measure_finds_nothing_where_nothing_is_wrong() -> None:
    found = measure(_perfect, Path("x"), TRUTH, HERE)
    assert (found.num_wrong_frames, found.num_beeps, found.problem) == (0, 3, "")
    assert found.av_error_seconds < 1e-5
    assert found.pts_error_seconds < 1e-9
    assert found.level_error < 1e-3


def test_measure_says_by_how_much_it_is_wrong() -> None:
    def late(*args: Any) -> Any:
        return _perfect(*args, audio_late_seconds=0.0123)

    assert measure(late, Path("x"), TRUTH, HERE).av_error_seconds == pytest.approx(0.0123, abs=1e-5)

    def behind(*args: Any) -> Any:
        return _perfect(*args, frames_late=3)

    found = measure(behind, Path("x"), TRUTH, HERE)
    assert found.num_wrong_frames == 24
    # A frame of three before its time has been gone for two periods, and the rest of this one.
    assert 0.08 <= found.av_error_seconds <= 0.12

    def both(*args: Any) -> Any:
        return _perfect(*args, frames_late=3, audio_late_seconds=0.12)

    found = measure(both, Path("x"), TRUTH, HERE)
    assert found.num_wrong_frames == 24
    assert found.av_error_seconds <= 0.04  # together they are late, not against each other


def test_measure_misses_no_missing_and_no_made_up_beep() -> None:
    def missing(*args: Any) -> Any:
        return _perfect(*args, drop=(2,))

    assert measure(missing, Path("x"), TRUTH, HERE).av_error_seconds == math.inf
    fewer = replace(TRUTH, beeps=TRUTH.beeps[:2] + TRUTH.beeps[3:])
    assert measure(_perfect, Path("x"), fewer, HERE).av_error_seconds == math.inf


def test_measure_reports_what_a_decoder_raises() -> None:
    def broken(*args: Any) -> Any:
        raise RuntimeError("no frames")

    assert measure(broken, Path("x"), TRUTH, HERE).problem == "RuntimeError: no frames"
