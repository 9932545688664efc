"""Run log: folder, measurements and progress line of a run.

config.yaml        every option, resolved; `--config` reads it back
environment.json   versions, machine, git commit, command of every start
metrics.jsonl      one line a step, an epoch, an unreadable clip, a head at chance; epochs and steps
                   from 0, where the console counts epochs from 1
plans_rankN.jsonl  how each batch of process N was mixed, with run.save_plans
tensorboard/       the same numbers as curves
quarantine.jsonl   clips whose reading crashed or took too long (avmix.data.quarantine writes it)
last.pt  best.pt   checkpoints
run.lock           host and process that train here (written by avmix.training.run_lock)
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from tensorboard.compat.proto.summary_pb2 import Summary  # type: ignore[attr-defined]
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from avmix.config import TrainConfig
from avmix.data.sample import BadClip
from avmix.evaluation.guard_fit import GuardFit
from avmix.evaluation.metrics import AllScores
from avmix.mix import MixPlan
from avmix.system import strict_json
from avmix.system.atomic_files import naming, replacing
from avmix.system.printing import console_of, echo_on
from avmix.training.chance_level import HEADS, AtChance
from avmix.training.measurements import (
    NO_STEP,
    LossSum,
    StepRecord,
    Stopwatch,
    step_numbers,
    step_row,
)
from avmix.training.run_environment import append_environment
from avmix.training.runtime import Runtime
from avmix.training.score_weights import ScoreWeights


class NotFiniteError(RuntimeError):
    """The loss is nan or infinite; the message names the step and the clips."""


class RunLog:
    """Writer of a run's folder; every process has one, only the main one writes."""

    def __init__(
        self, folder: Path, runtime: Runtime, log_every: int, *, save_plans: bool = False
    ) -> None:
        """`log_every`: steps that are gathered before they are written; `save_plans`: how each
        batch of each process was mixed is written too."""
        self.console = console_of(quiet=not runtime.is_main)
        self._folder = folder
        self._main = runtime.is_main
        self._runtime = runtime
        self._plans = folder / f"plans_rank{runtime.rank}.jsonl"
        self._save_plans = save_plans
        self._log_every = log_every
        self._pending: list[StepRecord] = []
        self._sum: LossSum | None = NO_STEP
        self._last_loss = math.nan
        self._curves: SummaryWriter | None = None
        self._progress: Progress | None = None
        self._task: Any = None

    def begin(
        self,
        config_yaml: str,
        *,
        epoch: int,
        step: int,
        steps_per_epoch: int,
        loss_sum: LossSum | None = NO_STEP,
    ) -> None:
        """Write what is known before the first step, and drop what a killed run measured after
        its last checkpoint, at (epoch, step): those steps are about to be done again.

        `loss_sum`: of the steps of the epoch before `step`, as the checkpoint has it; None: an
        older version wrote that, and the mean loss of the epoch is not known.
        """
        self._sum = loss_sum
        if self._save_plans:
            self._folder.mkdir(parents=True, exist_ok=True)
            _keep_before(self._plans, epoch, step)
        if not self._main:
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        with replacing(self._folder / "config.yaml") as file:
            file.write(config_yaml.encode())
        append_environment(self._folder / "environment.json", epoch, step)
        _keep_before(self._folder / "metrics.jsonl", epoch, step)
        self._steps_per_epoch = steps_per_epoch
        self._curves = SummaryWriter(
            str(self._folder / "tensorboard"), purge_step=epoch * steps_per_epoch + step
        )

    def epoch_started(self, epoch: int, num_epochs: int, step: int, num_steps: int) -> None:
        """Reset the mean loss, except in the middle of an epoch; show a progress line in a
        terminal."""
        if step == 0:
            self._sum = NO_STEP
        if not self._main or not self.console.is_terminal:
            return
        self._progress = Progress(
            TextColumn(f"epoch {epoch + 1}/{num_epochs}"),
            BarColumn(),
            TextColumn("{task.completed}/{task.total} {task.fields[text]}"),
            TimeRemainingColumn(),
            TextColumn("left"),
            console=self.console,
        )
        self._task = self._progress.add_task("", total=num_steps, completed=step, text="")
        self._progress.start()

    def step_done(self, record: StepRecord, watch: Stopwatch) -> None:
        """Note a step."""
        self._pending.append(record)
        if len(self._pending) >= self._log_every:
            self.flush()
            if self._progress is not None:
                text = (
                    f"loss {self._last_loss:.3f}  lr {record.lr:.1e}  "
                    f"{watch.num_clips / watch.seconds:.1f} clips/s  "
                    f"waiting {watch.waited_seconds / watch.seconds:.0%}"
                )
                self._progress.update(self._task, completed=record.step + 1, text=text)

    def epoch_done(
        self,
        epoch: int,
        watch: Stopwatch,
        scores: AllScores,
        losses: Sequence[float | None] = (None,) * len(HEADS),
    ) -> None:
        """Write the rest of the steps and a line for the epoch; `scores`: of val, if any; `losses`:
        mean of each of `HEADS` over the epoch, None where no clip had its modality."""
        self.flush()
        self.stop_progress()
        loss = self._sum.mean if self._sum else None
        row = {
            "kind": "epoch",
            "epoch": epoch,
            "loss": loss,
            **{f"loss_{name}": value for name, value in zip(HEADS, losses, strict=True)},
            "confidence_ratio": confidence_ratio(losses),
            "seconds": round(watch.seconds, 3),
            "waiting_share": round(watch.waited_seconds / watch.seconds, 4),
            "clips_per_second": round(watch.num_clips / watch.seconds, 2),
            "val": {name: s and asdict(s) for name, s in scores.items()},
        }
        self._append([row])
        text = f"epoch {epoch + 1}: loss {'-' if loss is None else f'{loss:.3f}'}, "
        text += f"{row['seconds']:.0f} s, "
        text += f"{row['clips_per_second']:.1f} clips/s, waiting {row['waiting_share']:.0%}"
        if scores:
            best = ", ".join(
                f"{n} {f'{s.main:.3f}' if (s := scores[n]) else '-'}"
                for n in ("fused", "video head", "audio head")
            )
            text += f", val: {best}"
        echo_on(self.console, text)
        if self._curves is not None:
            of_heads = zip(HEADS, losses, strict=True)
            numbers = {f"train/epoch_loss_{name}": value for name, value in of_heads}
            numbers["train/confidence_ratio"] = row["confidence_ratio"]
            for name, s in scores.items():
                for metric, value in _numbers(asdict(s)) if s else ():
                    numbers[f"val/{name.replace(' ', '_')}/{metric}"] = value
            numbers = {tag: value for tag, value in numbers.items() if value is not None}
            _add_scalars(self._curves, numbers, (epoch + 1) * self._steps_per_epoch)
            self._curves.flush()

    def at_chance(self, found: Sequence[AtChance], epoch: int, config: TrainConfig) -> None:
        """Warn of heads that learn nothing, on the console and in metrics.jsonl."""
        for head in found:
            echo_on(self.console, head.warning(config))
        # With the epoch, so that a run that goes on from before it does not say it twice.
        self._append([{"kind": "at_chance", "epoch": epoch, **asdict(w)} for w in found])

    def score_weights(self, found: ScoreWeights, epoch: int) -> None:
        """What a `weighted` fusion was fitted to after an epoch, on the console and in
        metrics.jsonl."""
        echo_on(self.console, str(found))
        self._append([{"kind": "score_weights", "epoch": epoch, **asdict(found)}])

    def guard_fit(self, found: GuardFit, epoch: int) -> None:
        """What the guard of the fusion was fitted to after an epoch, likewise."""
        echo_on(self.console, str(found))
        self._append([{"kind": "guard_fit", "epoch": epoch, **asdict(found)}])

    def loss_weights(self, found: Sequence[float], epoch: int) -> None:
        """Weights of the losses of the heads from now on (balance.method g_blend), likewise."""
        of_heads = dict(zip(HEADS, found, strict=True))
        said = ", ".join(f"{name} {weight:.3g}" for name, weight in of_heads.items())
        echo_on(self.console, f"weights of the losses: {said}")
        self._append([{"kind": "loss_weights", "epoch": epoch, **of_heads}])

    def bad_clips(self, bad: Sequence[BadClip], split: str) -> None:
        """Name clips that could not be read, on the console and in metrics.jsonl."""
        for b in bad:
            echo_on(self.console, f"unreadable, in {split}: {b.path}: {b.reason}")
        self._append([{"kind": "unreadable", "split": split, **b._asdict()} for b in bad])

    def plan(self, plan: MixPlan, epoch: int, step: int, rows: Tensor) -> None:
        """Write how a batch of this process is mixed, where the run is to do so."""
        if self._save_plans:
            line = {"epoch": epoch, "step": step, "rows": rows.tolist()}
            with naming(self._plans), self._plans.open("a", encoding="utf-8") as file:
                file.write(strict_json.dumps({**line, "plan": asdict(plan)}) + "\n")

    @property
    def loss_sum(self) -> "LossSum | None":
        """Sum over the steps of the epoch written so far, for a checkpoint."""
        return self._sum

    def stop_progress(self) -> None:
        """Leave the terminal as it was."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = None

    def close(self) -> None:
        """Write what is pending. Of several processes nothing is after an error, of which the
        others may not know: they would wait for each other."""
        if self._runtime.world_size == 1:
            self.flush()
        self.stop_progress()
        if self._curves is not None:
            self._curves.close()

    def flush(self) -> None:
        """Fetch pending steps from the device, all at once, and write them: the mean over all
        processes, which must call this at once.

        Raises `NotFiniteError` at the first step whose loss or gradient is not finite, in every
        process where it is in one.
        """
        pending, self._pending = self._pending, []
        if not pending:
            return
        own = torch.stack([step_numbers(record) for record in pending])
        fetched = self._runtime.mean(own).tolist()
        rows = [step_row(record, numbers) for record, numbers in zip(pending, fetched, strict=True)]
        bad = [i for i, row in enumerate(rows)
               if not math.isfinite(row["loss"] + row.get("grad_norm", 0.0))]  # fmt: skip
        rows = rows[: bad[0] + 1] if bad else rows
        self._append(rows)
        if self._curves is not None:
            for row in rows:
                numbers = {f"train/{name}": value for name, value in row.items()
                           if name.startswith(("lr", "loss", "grad_norm"))}  # fmt: skip
                at = row["epoch"] * self._steps_per_epoch + row["step"]
                _add_scalars(self._curves, numbers, at)
        if bad:
            broken = not own[bad[0]].isfinite().all()
            clips = pending[bad[0]].rows.tolist() if broken else []
            found = [row for part in self._runtime.gather(clips) for row in part]
            raise NotFiniteError(
                f"the loss is {rows[-1]['loss']} and the norm of the gradient "
                f"{rows[-1].get('grad_norm')} at epoch {rows[-1]['epoch']}, step "
                f"{rows[-1]['step']}; rows of its clips in the train manifest: "
                f"{found}. A lower optim.lr or run.precision fp32 may help"
            )
        self._last_loss = rows[-1]["loss"]
        if self._sum is not None:
            self._sum = self._sum.plus([row["loss"] for row in rows])

    def _append(self, rows: Sequence[dict[str, Any]]) -> None:
        if self._main and rows:
            path = self._folder / "metrics.jsonl"
            with naming(path), path.open("a", encoding="utf-8") as file:
                file.write(strict_json.lines(map(_strict, rows)))


def confidence_ratio(losses: Sequence[float | None]) -> float | None:
    """How far the video head is ahead of the audio head: exp(loss_audio - loss_video) of the mean
    losses of `HEADS`, the ratio of the geometric means of the probabilities that they give to the
    truth. The entropy of mixed labels is in both, and cancels. None where one has no loss, or they
    are too far apart to say."""
    _, video, audio = losses
    if video is None or audio is None or abs(audio - video) > 700:
        return None
    return math.exp(audio - video)


def _add_scalars(curves: SummaryWriter, numbers: Mapping[str, float], step: int) -> None:
    """A point of each curve, by its tag, as one event: ten calls of `add_scalar` cost as much as a
    step on kept features."""
    values = [Summary.Value(tag=tag, simple_value=value) for tag, value in numbers.items()]
    writer = curves.file_writer
    assert writer is not None
    writer.add_summary(Summary(value=values), step)


def _numbers(scores: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Metrics by name; those within others by a path: `sets/verb/top1`."""
    for name, value in scores.items():
        if isinstance(value, Mapping):
            yield from _numbers(value, f"{prefix}{name}/")
        else:
            yield prefix + name, value


def _strict(row: dict[str, Any]) -> dict[str, Any]:
    """JSON has no nan: such a number is null, and `not_finite` says what it was."""
    broken = {k: str(v) for k, v in row.items() if isinstance(v, float) and not math.isfinite(v)}
    return {**row, **dict.fromkeys(broken), "not_finite": broken} if broken else row


def _keep_before(path: Path, epoch: int, step: int) -> None:
    """Drop the lines at or after (epoch, step), and a last line that was cut by a kill."""
    if not path.exists():
        return
    with path.open("rb") as lines, replacing(path) as kept:
        for line in lines:
            try:
                row = json.loads(line)
            except ValueError:
                continue
            last = 0 if row.get("kind") == "unreadable" else 1 << 60
            if (row.get("epoch", -1), row.get("step", last)) < (epoch, step):
                kept.write(line)
