"""Candidates against files whose video and audio are known by construction (tests/truth.py)."""

import math
import statistics
from pathlib import Path
from typing import Any

import numpy as np

from decoding.decoders import Job
from decoding.workers import Failed, Lost, Worker
from tests.media import Recipe, read_number, write_media
from tests.truth import RECIPES, Truth, Window, measure, truth_of

_LIMIT_SECONDS = 20.0
"""The files are 3 s long: what takes longer hangs."""
_WRONG_SECONDS = 0.045
"""Audio that is earlier than its frame by more than this is noticed (ITU-R BT.1359)."""
_EXACT_SECONDS = 0.010
_UNREADABLE = 1000
_STARTS = (0.0, 0.31, 0.62)
"""Of the windows, as shares of the file; all windows end within it."""


def write_truths(folder: Path, most: int) -> list[Recipe]:
    """Write the files that have video and audio and are not slow, and return their recipes."""
    folder.mkdir(parents=True, exist_ok=True)
    recipes = [r for r in RECIPES.values() if not r.slow and r.main_video and r.main_audio]
    recipes = recipes[:: math.ceil(len(recipes) / most)]
    for recipe in recipes:
        path = folder / recipe.name
        # Written again each time: the recipes change, and all of them take half a minute.
        write_media(path, recipe)
    return recipes


def truth_jobs(folder: Path, recipes: list[Recipe]) -> list[Job]:
    """The windows of every file, for measuring something else than the truth."""
    return [
        _job(folder, recipe, window) for recipe in recipes for window in _windows(truth_of(recipe))
    ]


def check(
    worker: Worker, folder: Path, recipes: list[Recipe]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Totals of a candidate, and what it did with each file."""
    files = {recipe.name: _check_file(worker, folder, recipe) for recipe in recipes}
    kinds = [file["verdict"] for file in files.values()]
    errors = [file["av_error_ms"] for file in files.values() if file["av_error_ms"] is not None]
    return {
        "num_files": len(files),
        "num_exact": kinds.count("exact"),
        "num_small_error": kinds.count("small error"),
        "num_silently_wrong": kinds.count("silently wrong"),
        "num_refused": kinds.count("refused"),
        "num_lost": kinds.count("crash") + kinds.count("hang"),
        "num_with_wrong_pictures": sum(file["wrong_pictures"] > 0 for file in files.values()),
        "num_with_sound_missing": sum(file["sound_missing"] for file in files.values()),
        "median_av_error_ms": round(statistics.median(errors), 2) if errors else None,
        "worst_av_error_ms": max(errors, default=None),
    }, files


def _windows(truth: Truth) -> list[Window]:
    """Each frame of three stretches, asked for in its middle where the rate is constant."""
    end = truth.end_seconds
    period = float(np.median(np.diff([*truth.frame_seconds, end])))
    seconds = min(1.0, 0.36 * end)
    return [
        Window(
            start_seconds=share * end,
            duration_seconds=seconds,
            num_frames=max(round(seconds / period), 1),
        )
        for share in _STARTS
    ]


def _job(folder: Path, recipe: Recipe, window: Window) -> Job:
    return Job(
        path=str(folder / recipe.name),
        start_seconds=window.start_seconds,
        duration_seconds=window.duration_seconds,
        num_frames=window.num_frames,
        grid=window.grid,
    )


def _check_file(worker: Worker, folder: Path, recipe: Recipe) -> dict[str, Any]:
    truth = truth_of(recipe)
    found: dict[str, Any] = {
        "verdict": "",
        "av_error_ms": None,
        "wrong_pictures": 0,
        "worst_pictures_off": 0,
        "sound_missing": False,
        "errors": [],
    }
    for window in _windows(truth):
        job = _job(folder, recipe, window)
        try:
            frames, wave = worker.decode(job, _LIMIT_SECONDS)
        except Failed as error:
            found["errors"].append(str(error)[:100])
            continue
        except Lost as error:
            found["verdict"] = str(error)
            return found

        def decoded(*_: Any, both: Any = (frames, wave)) -> Any:
            return both[0], None, both[1]

        outcome = measure(decoded, Path(job.path), truth, window)
        found["wrong_pictures"] += outcome.num_wrong_frames
        off = [_frames_off(f, t, truth) for f, t in zip(frames, window.times, strict=False)]
        found["worst_pictures_off"] = max([found["worst_pictures_off"], *off])
        if math.isinf(outcome.av_error_seconds):
            found["sound_missing"] |= max(off) < _UNREADABLE
        elif outcome.num_beeps:
            error_ms = round(1000 * float(outcome.av_error_seconds), 2)
            found["av_error_ms"] = max(found["av_error_ms"] or 0.0, error_ms)
    found["verdict"] = _verdict(found)
    return found


def _verdict(found: dict[str, Any]) -> str:
    error_seconds = (found["av_error_ms"] or 0.0) / 1000
    if found["worst_pictures_off"] > 1 or found["sound_missing"] or error_seconds > _WRONG_SECONDS:
        return "silently wrong"
    if found["errors"]:
        return "refused"
    exact = not found["wrong_pictures"] and error_seconds <= _EXACT_SECONDS
    return "exact" if exact else "small error"


def _frames_off(frame: np.ndarray, wanted: float, truth: Truth) -> int:
    """How many frames lie between this one and the one on the screen; many for a broken one."""
    try:
        number = read_number(frame)
    except ValueError:
        return _UNREADABLE
    if number not in truth.frame_numbers:
        return _UNREADABLE
    shown = max(int(np.searchsorted(truth.frame_seconds, wanted, side="right")) - 1, 0)
    return abs(truth.frame_numbers.index(number) - shown)
