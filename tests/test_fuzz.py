"""Damaged files never crash, hang or raise what nobody promised; damage is not returned as good.

The judge and the child are tested first, on answers whose verdict is known.
"""

import os
import signal
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.fuzz import (
    BLIND,
    LIMIT_BYTES,
    STARTS_SECONDS,
    Clean,
    Outcome,
    Verdict,
    cases,
    damaged,
    problems,
    run,
)
from tests.fuzz_child import Answer, Child, every_call
from tests.fuzz_damage import DAMAGE, Kind
from tests.fuzz_media import FPS, SPECS, write_texture
from tests.media import read_counter

NUM_FILES = 3 * len(SPECS)
"""Of the default run, besides the clean ones: about 20 s on one quiet core."""


DAMAGING: list[Kind] = [kind for kind in DAMAGE if kind != "none"]


CAUGHT: dict[str, str] = {
    "ogv_vp8/noise/1": "libav logs a wrong checksum of Ogg and says it nowhere else",
    "avi_mpeg4_pcm/swap/11": "a chunk of AVI is not where the index has it",
    "wmv_wmv2/flips/19": "bits are left over at the end of a frame",
    "mp4_h264/flips/2": "the decoder complains, and marks frames that it patched up",
    "flv_h263/duplicate/0": "a stream appears while reading",
    "asf_msmpeg4/truncate/36": "the audio decoder has more to give at the end",
}
"""One case for each way in which damage shows, or showed itself as a failure of our own."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


@pytest.fixture(scope="module")
def clean(folder: Path) -> Clean:
    return Clean(folder, "mp4_h264")


@pytest.fixture(scope="module")
def outcomes(folder: Path) -> list[Outcome]:
    """Every clean file, and some damaged ones of each."""
    return run([*untouched(SPECS), *cases(NUM_FILES, 0, kinds=DAMAGING)], folder)


def untouched(specs: Iterable[str]) -> list[tuple[str, Kind, int]]:
    return [(spec, "none", 0) for spec in specs]


# ---- what judges ---------------------------------------------------------------------------------


def answer_of(clean: Clean, numbers: Sequence[int], **changes: Any) -> Answer:
    """The answer that shows these frames of the clean file, at the times they are due."""
    answer = Answer(video=clean.video[list(numbers)], pts_seconds=np.array(numbers) / FPS)
    return replace(answer, **changes)


def test_every_verdict(clean: Clean) -> None:
    # The window at 1.2 s is due to show frames 30 to 49.
    due = list(range(30, 50))
    frozen = [*range(30, 40), *[39] * 10]
    noisy = answer_of(clean, due)
    noisy.video[7] = np.random.Generator(np.random.Philox(1)).integers(0, 256, noisy.video[7].shape)
    foreign = Answer(video=clean.other_video[30:50], pts_seconds=np.array(due) / FPS)
    expected: list[tuple[Verdict, Any]] = [
        ("right", answer_of(clean, due)),
        ("held", answer_of(clean, frozen, num_held=10)),
        ("bad", answer_of(clean, due, num_held=10)),  # these are not held at all
        ("gap", answer_of(clean, frozen)),
        ("shifted", answer_of(clean, [k + 1 for k in due], pts_seconds=np.array(due) / FPS)),
        ("shifted", answer_of(clean, due, pts_seconds=np.array(due) / FPS + 0.01)),
        ("shifted", foreign),
        ("bad", noisy),
        ("bad", answer_of(clean, due[:-1])),
        ("bad", Answer(video=(20, 9000, 9000, 3))),
        ("refused", Answer(error="DecodeError: x.mp4: damaged", promised_error=True)),
        ("wrong_error", Answer(error="AssertionError: ")),
        ("memory", answer_of(clean, due, peak_bytes=LIMIT_BYTES + 1)),
        ("crash", "crash"),
        ("hang", "hang"),
    ]
    found = [clean.judge(1.2, answer)[0] for _, answer in expected]
    assert found == [verdict for verdict, _ in expected]


def test_small_damage_is_seen_in_the_worst_frame(clean: Clean) -> None:
    answer = answer_of(clean, range(20))
    answer.video[3, :48, :48] = 255 - answer.video[3, :48, :48]
    verdict, detail, worst_db = clean.judge(0.0, answer)
    error = answer.video[3].astype(np.float64) - clean.video[3]
    assert worst_db == pytest.approx(10 * np.log10(255**2 / np.mean(error**2)), abs=0.01)
    assert verdict == "bad"
    assert "[3]" in detail


def _crash_at_b(path: str, start: float, sha256: str | None) -> Answer:
    if path == "b":
        os.kill(os.getpid(), signal.SIGSEGV)
    return Answer(error=f"{path} {start} {os.getpid()}")


def _hang_at_b(path: str, start: float, sha256: str | None) -> Answer:
    if path == "b" and start > 0:
        signal.pause()
    return Answer(error=f"{path} {start} {os.getpid()}")


def test_a_child_that_crashes_is_replaced() -> None:
    with Child(_crash_at_b) as child:
        first = child.decode(Path("a"), (0.0,))
        assert child.decode(Path("b"), (0.0, 1.0)) == ["crash", "crash"]
        last = child.decode(Path("c"), (0.0, 1.0))
    errors = [answer.error.split() for answer in [*first, *last] if isinstance(answer, Answer)]
    assert [error[:2] for error in errors] == [["a", "0.0"], ["c", "0.0"], ["c", "1.0"]]
    assert errors[0][2] != errors[1][2] == errors[2][2]


def test_a_child_that_hangs_is_replaced() -> None:
    with Child(_hang_at_b, limit_seconds=1.0) as child:
        answers = child.decode(Path("b"), (0.0, 1.0, 2.0))
        assert isinstance(answers[0], Answer)
        assert answers[1:] == ["hang", "hang"]
        assert isinstance(child.decode(Path("c"), (0.0,))[0], Answer)


@pytest.mark.parametrize("kind", DAMAGING)
def test_damage_is_damage_and_repeats(clean: Clean, kind: Any) -> None:
    made = [damaged(clean, kind, number) for number in range(20)]
    assert made == [damaged(clean, kind, number) for number in range(20)]
    assert all(data != clean.data for data, _ in made)
    if kind == "flip":
        for data, _ in made:
            bits = [(a ^ b).bit_count() for a, b in zip(data, clean.data, strict=True)]
            assert sum(bits) == 1


# ---- what is judged ------------------------------------------------------------------------------


@pytest.mark.parametrize("spec", SPECS)
def test_clean_files_show_every_frame_in_order(folder: Path, spec: str) -> None:
    # All that follows compares with this.
    numbers = [read_counter(frame) for frame in Clean(folder, spec).video]
    assert numbers == list(range(80))


def test_clean_files_are_not_refused(outcomes: list[Outcome]) -> None:
    found = [o for o in outcomes if o.kind == "none"]
    assert len(found) == len(SPECS) * len(STARTS_SECONDS)
    assert [str(o) for o in found if o.verdict != "right" or o.worst_db < 99] == []


def test_damage_is_met(outcomes: list[Outcome]) -> None:
    # Else the next test says nothing.
    count = Counter(o.verdict for o in outcomes if o.kind != "none")
    assert min(count["refused"], count["right"]) > 50


def test_damaged_files_are_refused_or_right(outcomes: list[Outcome]) -> None:
    assert problems(outcomes) == []


def test_no_call_raises_what_nobody_promised(folder: Path) -> None:
    num_errors = 0
    with Child(every_call) as child:
        for spec, kind, number in cases(len(SPECS), 3, kinds=DAMAGING):
            clean = Clean(folder, spec)
            path = folder / f"every{clean.path.suffix}"
            path.write_bytes(damaged(clean, kind, number)[0])
            (answer,) = child.decode(path, (1.2,))
            assert isinstance(answer, Answer), (spec, kind, number)
            assert answer.promised_error, answer.error
            num_errors += "Error: " in answer.error
    assert num_errors > len(SPECS) // 4  # else this says nothing


def test_damage_that_can_be_known(folder: Path) -> None:
    wanted: list[Any] = [tuple(case.split("/")) for case in CAUGHT]
    found = run([(spec, kind, int(number)) for spec, kind, number in wanted], folder)
    assert [str(o) for o in found if o.verdict not in ("right", "held", "refused")] == []
    assert {o.case for o in found if o.verdict == "refused"} == set(CAUGHT)


def test_the_hash_catches_what_decoders_cannot(folder: Path) -> None:
    specs = [*BLIND, "webm_vp9", "mp4_h264"]
    wanted = [*untouched(specs), *cases(10 * len(specs), 0, specs, DAMAGING)]
    found = run(wanted, folder, with_hash=True)
    assert len(found) > 100
    for o in found:
        assert o.verdict == ("right" if o.kind == "none" else "refused"), o
        assert o.kind == "none" or "SHA-256" in o.detail


@pytest.mark.slow
def test_a_thousand_files(folder: Path) -> None:
    assert problems(run(cases(1000, 1), folder)) == []


def test_clean_files_have_the_same_bytes_every_time(tmp_path: Path) -> None:
    """Else damage at one place is other damage each time. x264 needed many tries to differ."""
    path = tmp_path / "clean.mp4"
    found = {write_texture(path, SPECS["mp4_h264"], seed=1).read_bytes() for _ in range(16)}
    assert len(found) == 1
