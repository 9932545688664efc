"""Train: the loop over epochs of `python train.py`, `avmix train` and `avmix.train(config)`.

Everything that a run needs is built by `avmix.training.training_setup.build`; the steps of an epoch
are `avmix.training.engine.train_one_epoch`, where the loss is.
"""

import os
import shlex
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from avmix.config import TrainConfig, to_yaml
from avmix.config.unused_options import unused_options, without_unused
from avmix.data.balance import mean_visits
from avmix.data.loader import EvalLoader
from avmix.data.manifest import Manifest
from avmix.data.sample import TooManyBadClips
from avmix.evaluation.metrics import AllScores, Scores, all_scores
from avmix.prepare.csv_table import prepare_table
from avmix.system.atomic_files import remove_partial
from avmix.system.printing import counted, echo_on, listed
from avmix.training import runtime
from avmix.training.checkpoint import Checkpoint
from avmix.training.engine import train_one_epoch
from avmix.training.evaluation_loop import evaluate
from avmix.training.guarding import clear_guards, guard_networks
from avmix.training.measurements import LossSum
from avmix.training.precise_bn import measure_norms
from avmix.training.run_data import no_val
from avmix.training.run_lock import run_folder_lock
from avmix.training.runlog import RunLog
from avmix.training.runtime import Runtime
from avmix.training.score_weights import fit_networks, plain_average
from avmix.training.training_setup import Training, build
from avmix.types import Batch


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainResult:
    """What a run of training has written, and how it ended."""

    checkpoint: Path
    """The last checkpoint, `last.pt` in `run.out`; `avmix.evaluate` takes it."""
    best: Path | None
    """The checkpoint of the epoch with the highest top-1 on the val split (of several labels a
    clip: mAP); None without one."""
    epochs: int
    """Epochs trained in all, those before this call included."""
    val: AllScores | None
    """Metrics of the last epoch on the val split, by row of the table, None in it for a row without
    clips; None without a val split, and where no epoch was left to train."""


def train(config: TrainConfig) -> TrainResult:
    """Train from where `run.out` stands to the last epoch, and write checkpoints and logs there.

    Raises ValueError (`ManifestError`, `CheckpointError`, `LockedError` where another process works
    in `run.out`, an option that does not fit the machine or the data), `TooManyBadClips`,
    `LoaderError` and `NotFiniteError`.
    """
    out = Path(config.run.out)
    with (
        runtime.start(
            device=config.run.device,
            threads=config.run.threads,
        ) as here,
        ExitStack() as at_end,
    ):
        if here.is_main:
            at_end.enter_context(run_folder_lock(out))
            remove_partial(out)
            if config.data.table and not config.data.features:
                prepare_table(config.data)
        here.barrier()
        return _train_epochs(build(config, here, at_end), [*unused_options(config).values()])


def _train_epochs(run: Training, switched_off: Sequence[str]) -> TrainResult:
    """The loop over epochs; `switched_off`: messages about options that cannot act."""
    config, here, state, save = run.config, run.here, run.state, run.save
    model, frontend, loader, val, meter = run.model, run.frontend, run.loader, run.val, run.meter
    out = Path(config.run.out)
    log = RunLog(out, here, config.run.log_every, save_plans=config.run.save_plans)
    log.begin(to_yaml(without_unused(config)), epoch=state.epoch, step=state.step,
              steps_per_epoch=loader.num_steps,
              loss_sum=state.loss_sum and LossSum(*state.loss_sum))  # fmt: skip
    echo_on(log.console, _headline(config, here, model, run.train, state))
    if empty := run.train.empty_classes:
        total = len(run.train.classes)
        lacking = f"{len(empty)} of {total} classes have no clip to train on: {listed(empty)}"
        echo_on(log.console, lacking)
    if config.model.modalities != "both":
        one = config.model.modalities
        if lacking := sum(getattr(entry, one) is None for entry in run.train.entries):
            echo_on(log.console, f"{lacking} clips have no {one}: they add nothing to the loss")
    if config.data.balance != "none":
        visits = mean_visits(run.train.entries, config.data.balance)
        echo_on(log.console, f"data.balance {config.data.balance}: a clip is trained on "
                f"{visits.min():.2g} to {visits.max():.2g} times an epoch, on average")  # fmt: skip
    for message in switched_off:
        echo_on(log.console, f"switched off: {message}")
    if val is None:
        echo_on(log.console, _no_val(config))
    changed = run.rounding.notice(state.rounding)
    begun_with = [encoder.notice for encoder in model.encoders.values()]
    for notice in (runtime.omp_notice(here.threads, "run.threads"), run.expected, run.held_out,
                   *begun_with, run.notice, run.quarantine.notice(), state.notice(),
                   changed):  # fmt: skip
        if notice:
            echo_on(log.console, notice)
    first_step, best, val_scores = state.step, state.best, None
    if (state.epoch, state.step) == (0, 0):
        save("last.pt", 0, 0, best)  # a run killed in its first epoch can be resumed too
    try:
        if val is not None and state.epoch < config.optim.epochs:
            _check_readable(val, here)
        for epoch in range(state.epoch, config.optim.epochs):
            plain_average([run.model, run.evaluated])
            clear_guards([run.model, run.evaluated])
            watch = train_one_epoch(
                run.network, frontend, run.optimizer, loader, config, here, log,
                epoch=epoch, first_step=first_step, meter=meter, average=run.average,
                class_weight=run.class_weight, sets=run.sets, balancing=run.balancing,
                knowledge=run.knowledge,
                save=lambda step, epoch=epoch, best=best: save(
                    "last.pt", epoch, step, best, log.loss_sum),
            )  # fmt: skip
            first_step, result = 0, {}
            measures = epoch + 1 == config.optim.epochs and config.optim.precise_bn_batches > 0
            if val is not None or measures:
                # Whatever becomes of the validation, the epoch is not lost; the same command
                # begins with validating it.
                save("last.pt", epoch, loader.num_steps, best, log.loss_sum)
            if measures:
                _measure_norms(run, log)
            if val is not None:
                result = val_scores = _validate(run, val, log, epoch)
            losses = [head.loss for head in meter.epoch_done()]
            log.epoch_done(epoch, watch, result, losses)
            _blend(run, epoch, losses, result, log)
            warnings = meter.at_chance(config.optim.epochs)
            log.at_chance([w for w in warnings if w.is_new], epoch, config)
            if (fused := result.get("fused")) and fused.main > best:
                best = fused.main
                save("best.pt", epoch + 1, 0, best)
            save("last.pt", epoch + 1, 0, best)
        for warning in meter.at_chance(config.optim.epochs):
            if not warning.is_new:  # which was the last line already
                echo_on(log.console, warning.warning(config))
    finally:
        log.close()
    echo_on(log.console, f"to evaluate it: avmix evaluate --checkpoint {shlex.quote(str(out))}")
    best_path = out / "best.pt"
    return TrainResult(
        checkpoint=out / "last.pt",
        best=best_path if best_path.exists() else None,
        epochs=max(state.epoch, config.optim.epochs),
        val=val_scores,
    )


def _check_readable(val: EvalLoader, here: Runtime) -> None:
    """Raises `TooManyBadClips` where no clip of the split can be read: an epoch later would be too
    late to say so."""
    parts = here.gather(val.unreadable())
    bad = [clip for part in parts for clip in part or ()]
    if None in parts:
        return
    if not bad:
        raise TooManyBadClips(f"the split {val.split!r} (data.val_split) has no clip")
    raise TooManyBadClips(
        f"none of the {len(bad)} clips of {val.split!r} (data.val_split) can be read; the "
        f"first: {bad[0].path}: {bad[0].reason}. An empty data.val_split trains without"
    )


def _measure_norms(run: Training, log: RunLog) -> None:
    """The statistics of batch normalisation, of clips as they would be in one more epoch; of the
    average of the weights too."""
    config, loader, here = run.config, run.loader, run.here

    def batches() -> Iterator[Batch]:
        most = config.optim.precise_bn_batches
        for batch, bad in loader.epoch(config.optim.epochs, most_steps=most):
            log.bad_clips(bad, config.data.train_split)
            yield batch

    networks = [run.model] if run.evaluated is run.model else [run.model, run.evaluated]
    measure_norms(networks, run.frontend, batches(), here)
    for found in here.gather(loader.bad.found):
        log.bad_clips(loader.bad.add(found), config.data.train_split)


def _blend(
    run: Training, epoch: int, losses: Sequence[float | None], val: AllScores, log: RunLog
) -> None:
    """The weights of the losses that balance.method g_blend finds after an epoch."""
    if run.config.balance.method != "g_blend":
        return
    of_val = [val.get(row) for row in ("fused", "video head", "audio head")]
    nll = [one.nll if isinstance(one, Scores) else None for one in of_val]
    # Each process has the losses of its own clips; those of the main one count.
    if run.balancing.epoch_done(epoch, run.config.loss, run.here.gather([*losses])[0], nll):
        assert run.balancing.weights is not None
        log.loss_weights(run.balancing.weights, epoch)


def _validate(run: Training, val: EvalLoader, log: RunLog, epoch: int) -> AllScores:
    """Metrics of one centred view per clip of the val split, by row of the table; with the weights
    of a `weighted` fusion and with the guard (model.guard) that are fitted to them here."""
    several = run.config.loss.several_labels
    found = evaluate(run.evaluated, run.frontend, val, run.here, several, sets=run.sets)
    log.bad_clips(found.bad, val.split)
    predictions, weights = fit_networks([run.evaluated, run.model], found.predictions)
    if weights is not None:
        log.score_weights(weights, epoch)
    predictions, fit = guard_networks([run.evaluated, run.model], predictions, val.sources)
    if fit is not None:
        log.guard_fit(fit, epoch)
    return all_scores(predictions)


def _no_val(config: TrainConfig) -> str:
    """Why no epoch is followed by an evaluation, and how one could be."""
    return (
        f"no validation: {no_val(config.data)}; best.pt is not written. data.holdout 0.1 would "
        "hold out a tenth of the sources of the train split for it"
    )


def _mix(config: TrainConfig) -> str:
    """How batches are mixed, in a few words."""
    methods = ", ".join(
        word if share == 1 else f"{share:g} {word}"
        for word, share in config.mix.mix_methods.items()
    )
    law = f"beta({config.mix.alpha:g})" if config.mix.law == "beta" else config.mix.law
    return f"{methods}, lambda {law}"


def _headline(
    config: TrainConfig, here: Runtime, model: nn.Module, train: Manifest, state: Checkpoint
) -> str:
    millions = sum(p.numel() for p in model.parameters()) / 1e6
    resumed = ""
    if (state.epoch, state.step) != (0, 0):
        resumed = f", resumed at epoch {state.epoch + 1}, step {state.step}"
    if state.epoch >= config.optim.epochs:
        resumed = f", complete: {state.epoch} epochs are done (--optim.epochs N for more)"
    if config.data.features:
        reads, loads = f"features of {config.data.features}", ""
    else:
        front = config.frontend
        reads = f"log-mels with mean {front.mel_mean} and deviation {front.mel_std}"
        reads = "waveforms" if front.kind == "waveform" else reads
        loads = f", {counted(config.data.num_workers, 'loader')}"
    return (
        f"{config.run.out}: {train.protocol}, {counted(len(train.entries), 'clip')}, "
        f"{counted(len(train.classes), 'class')}, {counted(state.num_steps, 'step')} an epoch; "
        f"{millions:.2f} M parameters; mix {_mix(config)}; "
        f"{reads}; "
        f"{here.device}, {counted(here.world_size, 'process')}, "
        f"{counted(here.threads, 'thread')} (OMP_WAIT_POLICY {os.environ.get('OMP_WAIT_POLICY')})"
        f"{loads}{resumed}"
    )
