"""One network of a protocol: `avmix train` and `avmix evaluate`, in processes of their own, as a
person would start them."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml

from avmix.evaluation.prediction_file import NAME, read_predictions
from avmix.leaderboard.card import Metric, Selection
from avmix.leaderboard.cell_result import NO_FILE, Outcome, finished_of
from avmix.leaderboard.child_command import Children, run_avmix
from avmix.leaderboard.code_hash import code_sha256
from avmix.leaderboard.plan import Cell, nested
from avmix.leaderboard.result import Energy, Run
from avmix.leaderboard.scoring import run_statistics, values_of
from avmix.leaderboard.strict_record import Option
from avmix.system.atomic_files import replace_text

CPU_WATTS = 10.0
"""Assumed of a busy core with its share of memory and board: server processors draw 5 to 15 W a
core at full load."""
GPU_WATTS = 400.0
"""Assumed of a busy GPU of a data centre."""
_OF_ENVIRONMENT = ("python", "packages", "machine", "cores", "torch_threads", "gpu",
                   "omp_wait_policy")  # fmt: skip


class CellError(RuntimeError):
    """A cell did not end; the message says why and where its log is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainJob:
    """All that a cell needs; it may be sent to another machine."""

    cell: Cell
    key: str
    options: dict[str, Option]
    """Of training, folders included, but that of the run."""
    evaluation: dict[str, Option]
    selection: Selection
    metric: Metric
    evaluated: str
    """Split that is judged."""
    split_sha256: dict[str, str]
    media_sha256: dict[str, str]
    threads: int


def train_cell(job: TrainJob, folder: Path, children: Children | None = None) -> Outcome:
    """Train and evaluate in `folder`; a run that was interrupted there goes on. Raises
    `CellError`, and `Interrupted` where `children` was stopped."""
    run, key = folder / "run", folder / "key.txt"
    if not key.exists() or key.read_text() != job.key:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        replace_text(key, job.key)
    log = folder / "log.txt"
    options = {**job.options, "run.out": str(run), "run.threads": job.threads}
    replace_text(folder / "cell.yaml",
                 yaml.safe_dump(nested(options), sort_keys=False, allow_unicode=True))  # fmt: skip
    name = job.cell.name
    trained = run_avmix(["train", "--config", str(folder / "cell.yaml")],
                        log=log, children=children)  # fmt: skip
    if trained.code:
        raise CellError(f"{name}: training ended with exit code {trained.code}: "
                        f"{trained.last_line} (all of it: {log})")  # fmt: skip
    last = job.selection == "last epoch" and job.cell.candidate is None
    split = job.evaluated if job.cell.candidate is None else "val"
    judged = run / ("last.pt" if last else "best.pt")
    if not judged.exists():
        raise CellError(f"{name}: selection {job.selection!r} needs a validation, which this run "
                        "did not have")  # fmt: skip
    out = run / f"judged_{split}"
    replace_text(folder / "evaluate.yaml", yaml.safe_dump(job.evaluation))
    asked = run_avmix(
        ["evaluate", "--config", str(folder / "evaluate.yaml"), "--checkpoint", str(judged),
         "--split", split, "--out", str(out), "--threads", str(job.threads), "--resamples", "0"],
        log=log, children=children,
    )  # fmt: skip
    if asked.code:
        raise CellError(f"{name}: evaluation ended with exit code {asked.code}: "
                        f"{asked.last_line} (all of it: {log})")  # fmt: skip
    kept = read_predictions(out / NAME)
    if job.cell.candidate is not None:
        return values_of(run_statistics(kept))[f"fused.{job.metric}"]
    starts = json.loads((run / "environment.json").read_text())
    epochs = _epochs(run / "metrics.jsonl")
    train_seconds = sum(float(row["seconds"]) for row in epochs)
    # Of a run that was continued the processes before are not counted: by their wall time, then.
    cpu = trained.cpu_seconds if len(starts) == 1 else max(train_seconds, trained.cpu_seconds)
    commit = str(kept.origin.environment.get("git_commit") or "")
    found = Run(
        split=job.cell.split, seed=job.cell.seed, split_sha256=job.split_sha256,
        media_sha256=job.media_sha256, avmix=version("avmix"), commit=commit.removesuffix("+"),
        dirty=commit.endswith("+"), code_sha256=code_sha256(),
        environment=environment_of(kept.origin.environment), started=str(starts[0]["started"]),
        train_seconds=round(train_seconds, 2), eval_seconds=round(asked.seconds, 2),
        cpu_seconds=round(cpu + asked.cpu_seconds, 2),
        energy=energy_of(cpu + asked.cpu_seconds,
                         train_seconds if kept.origin.environment.get("gpu") else 0.0),
        epochs=kept.origin.epochs_trained, checkpoint=kept.origin.checkpoint,
        num_clips=len(kept.clips), num_missing=len(kept.missing), figures={},
        predictions=NO_FILE, curves=_curves(epochs),
    )  # fmt: skip
    file = f"{job.cell.method}.{job.cell.split}.seed{job.cell.seed}"
    return [finished_of(job.cell.method, found, kept, file=file)]


def energy_of(cpu_seconds: float, gpu_seconds: float = 0.0) -> Energy:
    """The estimate, by the formula that it names."""
    hours = (cpu_seconds * CPU_WATTS + gpu_seconds * GPU_WATTS) / 3600
    return Energy(watt_hours=round(hours, 4), cpu_watts=CPU_WATTS,
                  gpu_watts=GPU_WATTS if gpu_seconds else 0.0)  # fmt: skip


def environment_of(found: Mapping[str, Any]) -> dict[str, Option]:
    """What a result depends on beside its configuration, without command and folders."""
    return {k: found[k] for k in _OF_ENVIRONMENT if found.get(k) is not None}


def _epochs(path: Path) -> list[dict[str, Any]]:
    rows = map(json.loads, path.read_text().splitlines())
    return [row for row in rows if row["kind"] == "epoch"]


def _curves(epochs: list[dict[str, Any]]) -> dict[str, tuple[float, ...]]:
    """Loss of each epoch, and the main figure of its validation."""
    found = {}
    for name in ("loss", "loss_fused", "loss_video", "loss_audio"):
        values = [row[name] for row in epochs if row.get(name) is not None]
        if values and len(values) == len(epochs):
            found[name] = tuple(round(float(value), 5) for value in values)
    val = [(row.get("val") or {}).get("fused") or {} for row in epochs]
    for name in ("top1", "mean_ap"):
        if val and all(name in one for one in val):
            found[f"val.{name}"] = tuple(round(float(one[name]), 5) for one in val)
    return found
