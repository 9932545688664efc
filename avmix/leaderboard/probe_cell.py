"""One draw of a probe of a protocol: the fits of `avmix probe`, and what they say of every clip."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np

from avmix.data.clip_reader import is_audible
from avmix.data.few_shot import few_shot_rows, reshuffled_rows
from avmix.data.joined_features import open_joined
from avmix.data.kept_features import KeptFeatures
from avmix.evaluation.kept_predictions import KeptClip, KeptPredictions, Origin
from avmix.features.probing import Head, fitted_heads
from avmix.features.regression import C_GRID, FALLBACK_C
from avmix.leaderboard.card import Probe
from avmix.leaderboard.cell_result import NO_FILE, Finished, finished_of
from avmix.leaderboard.code_hash import code_sha256
from avmix.leaderboard.plan import Cell
from avmix.leaderboard.result import Run
from avmix.leaderboard.train_cell import CellError, energy_of, environment_of
from avmix.training.run_environment import environment

_ROWS = {"video": "video head", "audio": "audio head"}


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeJob:
    """All that a draw needs; it may be sent to another machine."""

    cell: Cell
    key: str
    probe: Probe
    heads: dict[str, str]
    """Method of the card -> head of `avmix.features.probing.HEADS`."""
    folders: tuple[str, ...]
    """Of the features; several are side by side."""
    evaluated: str
    split_sha256: dict[str, str]
    media_sha256: dict[str, str]


def probe_cell(job: ProbeJob) -> list[Finished]:
    """Fit all heads to a draw. Raises `CellError` where they cannot be fitted."""
    name, began, cpu = job.cell.name, time.perf_counter(), time.thread_time()
    here = environment()
    try:
        folders = [Path(folder) for folder in job.folders]
        train, test = (open_joined(folders, split).kept for split in ("train", job.evaluated))
        rows = drawn_rows(job.probe, train, job.cell.seed)
        plain = job.probe.regression == "plain"
        grid = (FALLBACK_C,) if plain else C_GRID
        heads = fitted_heads(train, test, rows, grid=grid, plain=plain)
    except (ValueError, OSError) as error:
        raise CellError(f"{name}: {error}") from None
    if lacking := {*job.heads.values()} - heads.keys():
        raise CellError(f"{name}: the features do not allow the head {sorted(lacking)[0]!r}; they "
                        f"allow {', '.join(heads)}")  # fmt: skip
    seconds, used = time.perf_counter() - began, time.thread_time() - cpu
    commit = str(here.get("git_commit") or "")
    run = Run(
        split=job.cell.split, seed=job.cell.seed, split_sha256=job.split_sha256,
        media_sha256=job.media_sha256, avmix=version("avmix"), commit=commit.removesuffix("+"),
        dirty=commit.endswith("+"), code_sha256=code_sha256(), environment=environment_of(here),
        started=str(here["started"]), train_seconds=round(seconds, 2), eval_seconds=0.0,
        cpu_seconds=round(used, 2), energy=energy_of(used), epochs=0,
        num_clips=len(test.manifest.entries), figures={}, predictions=NO_FILE,
    )  # fmt: skip
    done = []
    for method, head in job.heads.items():
        kept = predictions_of(heads, head, test, here)
        file = f"{method}.{job.cell.split}.seed{job.cell.seed}"
        done.append(finished_of(method, run, kept, file=file))
    return done


def drawn_rows(probe: Probe, train: KeptFeatures, draw: int) -> np.ndarray:
    """Rows of the train split that a draw is fitted to."""
    if probe.by == "mteb":
        return reshuffled_rows(train.labels, probe.shots, draw)
    return few_shot_rows(train.manifest, probe.shots, draw, probe.by)


def predictions_of(
    heads: Mapping[str, Head], judged: str, test: KeptFeatures, here: dict
) -> KeptPredictions:
    """What the head `judged` says of the test split; where it is of both modalities also what the
    heads of one say, so that the gain and the confusion of modalities can be computed."""
    shown = {"fused": heads[judged].test}
    if judged not in _ROWS:
        shown |= {row: heads[name].test for name, row in _ROWS.items() if name in heads}
    clips = tuple(
        KeptClip(row=row, clip_id=e.clip_id, path=e.path, start_seconds=e.start_seconds,
                 end_seconds=e.end_seconds, source_id=e.source_id, audible=is_audible(e),
                 subsets=e.subsets)
        for row, e in enumerate(test.manifest.entries)
    )  # fmt: skip
    origin = Origin(checkpoint="", config="", weights="last", epochs_trained=0, chance=None,
                    views={"num_views": test.num_eval_views}, environment=here)  # fmt: skip
    return KeptPredictions(
        protocol=test.manifest.protocol, split=test.manifest.split,
        split_sha256=test.manifest.sha256, classes=test.manifest.classes, clips=clips, missing=(),
        origin=origin, label=np.asarray(test.labels, np.int64),
        probability={row: one.value.astype(np.float32) for row, one in shown.items()},
        counted={row: np.asarray(one.counted) for row, one in shown.items()},
    )  # fmt: skip
