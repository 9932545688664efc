"""Train a late-fusion audio-visual network with Cross-Modal Mixup.

    python train.py --config configs/demo.yaml                       one process, CPU or one GPU
    python train.py --config configs/demo.yaml --mix.alpha 0.4       any option can be overridden
    torchrun --nproc_per_node 4 train.py --config configs/demo.yaml  one process per GPU

The same command again goes on from the last checkpoint in `run.out`; a run that has ended goes on
where `optim.epochs` is larger.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from avmix.config import (
    MEL_MEAN,
    MEL_STD,
    DataConfig,
    FrontendConfig,
    TrainConfig,
    differences,
    load_config,
    to_yaml,
)
from avmix.config.unused_options import unused_options, without_unused
from avmix.data.dataset import EvalSet, TooManyBadClips, TrainSet
from avmix.data.loader import EvalLoader, TrainLoader, eval_loader, read_limits, train_loader
from avmix.data.loader_pool import LoaderError
from avmix.data.manifest import (
    Manifest,
    ManifestError,
    empty_classes,
    read_events,
    read_log_mel,
    read_manifest,
    splits_of,
)
from avmix.data.quarantine import Quarantine
from avmix.data.train_clips import train_clips
from avmix.evaluation.metrics import Scores, all_scores
from avmix.isolate.process_pool import CannotStart
from avmix.mix.frame_mixer import kernel_of
from avmix.models import LateFusionClassifier, build_model
from avmix.models.classifier import check_layers
from avmix.models.frontend import Frontend
from avmix.prepare.csv_table import prepare_table
from avmix.rng import rng
from avmix.system.atomic_files import remove_partial
from avmix.system.broken_pipe import readers_may_leave
from avmix.system.printing import echo_on, listed, printable
from avmix.training import chance_level, checkpoint, runtime
from avmix.training.chance_level import ChanceMeter
from avmix.training.checkpoint import Checkpoint, CheckpointError
from avmix.training.engine import evaluate, seed_torch, train_one_epoch
from avmix.training.layer_decay import empty_clip
from avmix.training.optimizer import build_optimizer
from avmix.training.precise_bn import measure_norms
from avmix.training.run_lock import alone_in
from avmix.training.runlog import NO_STEP, LossSum, NotFiniteError, RunLog
from avmix.training.runtime import Rounding, Runtime
from avmix.training.sync_norm import synchronise_norms
from avmix.training.weight_average import WeightAverage
from avmix.types import Batch

# What may change between the start of a run and its continuation: where it runs, not what it does.
_MAY_CHANGE = ("data.root", "data.num_workers", "data.clip_seconds", "data.verify",
               "data.max_bad_share", "frontend.kernel", "run.out", "run.device", "run.threads",
               "run.log_every", "run.save_every", "run.save_plans", "run.check_input",
               "model.video.gradient_checkpointing",
               "model.audio.gradient_checkpointing")  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """What a run needs before its first step; `build` makes it."""

    config: TrainConfig
    here: Runtime
    train: Manifest
    """The clips that are trained on."""
    quarantine: Quarantine
    loader: TrainLoader
    val: EvalLoader | None
    """None where the dataset has no such split."""
    model: LateFusionClassifier
    network: nn.Module
    """The same with what several processes need around it."""
    frontend: Frontend
    optimizer: torch.optim.Optimizer
    average: WeightAverage | None
    """Of `model`; None where the run keeps none (optim.ema_decay)."""
    meter: ChanceMeter
    """Of heads that learn nothing; at `state`, like all of this."""
    state: Checkpoint
    """Where the run stands: its last checkpoint, or its beginning."""
    notice: str
    """What is to be said of how it goes on; empty where that is as it was begun."""

    @property
    def evaluated(self) -> LateFusionClassifier:
        """The network that is validated: the average where there is one."""
        return self.model if self.average is None else self.average.model

    @property
    def rounding(self) -> Rounding:
        """Of this process."""
        kernel = kernel_of(self.config.frontend.kernel, self.here.device)
        return Rounding.here(self.here.device, kernel)

    def save(
        self, name: str, epoch: int, step: int, best: float, loss_sum: LossSum | None = NO_STEP
    ) -> None:
        """Write a checkpoint into `run.out`: `step` of `epoch` comes next; `loss_sum` is of those
        before it."""
        if self.here.is_main:
            now = replace(self.state, epoch=epoch, step=step, best=best,
                          model=self.model.state_dict(),
                          average=self.average and self.average.model.state_dict(),
                          optimizer=self.optimizer.state_dict(),
                          chance=self.meter.state(),
                          loss_sum=loss_sum,
                          rounding=self.rounding)  # fmt: skip
            checkpoint.save(Path(self.config.run.out) / name, now)


def main(config: TrainConfig) -> Path:
    """Train from where `run.out` stands to the last epoch; returns the last checkpoint.

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
            at_end.enter_context(alone_in(out))
            remove_partial(out)
            if config.data.table:
                prepare_table(config.data)
        here.barrier()
        return _train(build(config, here, at_end))


def build(config: TrainConfig, here: Runtime, at_end: ExitStack) -> Training:
    """Everything but the loop; loader processes end with `at_end`. Raises as `main` does."""
    out, root, folder = Path(config.run.out), Path(config.data.root), config.data.manifest_folder
    config = replace(config, frontend=_with_measured(config.frontend, folder))
    data, quarantine = config.data, Quarantine(out / "quarantine.jsonl")
    limits = read_limits(data.num_workers, data.clip_seconds)
    clips = train_clips(data)
    if len(clips.manifest.classes) < 2:
        only = ", ".join(map(repr, clips.manifest.classes))
        raise ManifestError(
            f"{folder}: its only class is {only}; there is nothing to tell "
            "apart, and so nothing to train"
        )
    train, trained_on, events = clips.manifest, clips.manifest.sha256, {}
    if config.augment.window == "event":
        events, events_sha256 = read_events(folder, *map(Path, data.extra))
        trained_on += f" events {events_sha256}"
    loader = train_loader(
        TrainSet(manifest=train, root=root, roots=clips.roots, clip=config.clip,
                 frontend=config.frontend, verify=data.verify, limits=limits,
                 augment=config.augment, seed=config.run.seed, events_seconds=events),
        batch_size=config.optim.batch_size * config.mix.clips_per_mix,
        num_workers=data.num_workers,
        max_bad_share=data.max_bad_share, clip_seconds=data.clip_seconds, quarantine=quarantine,
        rank=here.rank, world_size=here.world_size, pin=here.device.type == "cuda",
    )  # fmt: skip
    at_end.enter_context(closing(loader))

    val = None
    # Only the default may name a split that the dataset does not have; the headline says so.
    if data.val_split in splits_of(folder) or data.val_split not in ("", DataConfig.val_split):
        manifest = read_manifest(folder, data.val_split)
        val = eval_loader(
            EvalSet(manifest=manifest, root=root, clip=config.clip, verify=data.verify,
                    limits=limits, num_views=1),
            batch_size=2 * config.optim.batch_size, num_workers=data.num_workers,
            clip_seconds=data.clip_seconds, quarantine=quarantine,
            rank=here.rank, world_size=here.world_size, pin=here.device.type == "cuda",
        )  # fmt: skip
        at_end.enter_context(closing(val))

    seed_torch(rng(config.run.seed, 0, "weights"))  # initial weights: the same in every process
    model = build_model(
        config.model, len(train.classes), clip=config.clip, frontend=config.frontend,
        load_weights=not (out / "last.pt").exists(),  # which has them
    ).to(here.device)  # fmt: skip
    check_layers(model, config)
    frontend = Frontend(
        config.frontend, config.clip.sample_rate, model.pixels, reuse_output=True
    ).to(here.device)
    if config.model.sync_norm:
        synchronise_norms(model, here)
    optimizer = build_optimizer(
        model, config.optim, config.model, empty_clip(config.clip, config.frontend)
    )
    decay = config.optim.ema_decay
    average = WeightAverage(model, decay) if decay else None
    state, notice = _resume(
        out / "last.pt",
        Checkpoint(config=config, classes=list(train.classes), split_sha256=trained_on,
                   num_steps=loader.num_steps, epoch=0, step=0, best=-1.0,
                   model=model.state_dict(), optimizer=optimizer.state_dict(),
                   average=average and average.model.state_dict(),
                   chance=chance_level.begun(len(train.classes)), loss_sum=NO_STEP, digest=""),
    )  # fmt: skip
    checkpoint.load_weights(out / "last.pt", state, model)
    if average is not None:
        checkpoint.load_weights(out / "last.pt", state, average.model, average=True)
    optimizer.load_state_dict(state.optimizer)
    meter = ChanceMeter(state.chance, config.loss, len(train.classes), here.device)
    if config.run.compile:
        runtime.check_compile(here.device, config.run.precision)
        model.compile()  # in place: its names, and what calls its parts, stay as they are
    network = DistributedDataParallel(model) if here.world_size > 1 else model
    return Training(config=config, here=here, train=train, quarantine=quarantine, loader=loader,
                    val=val, model=model, network=network, frontend=frontend, optimizer=optimizer,
                    average=average, meter=meter, state=state, notice=notice)  # fmt: skip


def _with_measured(frontend: FrontendConfig, folder: Path) -> FrontendConfig:
    """With the numbers that dataset.json has, so that the checkpoint has them: evaluation does not
    depend on what is written there later."""
    found = read_log_mel(folder)
    return frontend.with_log_mel(
        *((found.mean, found.std) if found is not None else (MEL_MEAN, MEL_STD))
    )


def _train(run: Training) -> Path:
    """The loop over epochs."""
    config, here, state, save = run.config, run.here, run.state, run.save
    model, frontend, loader, val, meter = run.model, run.frontend, run.loader, run.val, run.meter
    out = Path(config.run.out)
    log = RunLog(out, here, config.run.log_every, save_plans=config.run.save_plans)
    log.begin(to_yaml(without_unused(config)), epoch=state.epoch, step=state.step,
              steps_per_epoch=loader.num_steps,
              loss_sum=state.loss_sum and LossSum(*state.loss_sum))  # fmt: skip
    echo_on(log.console, _headline(config, here, model, run.train, state))
    if empty := empty_classes(run.train.entries, run.train.classes):
        total = len(run.train.classes)
        lacking = f"{len(empty)} of {total} classes have no clip to train on: {listed(empty)}"
        echo_on(log.console, lacking)
    for message in unused_options(config).values():
        echo_on(log.console, f"switched off: {message}")
    if val is None:
        echo_on(log.console, _no_val(config))
    changed = run.rounding.notice(state.rounding)
    for notice in (model.video.notice, model.audio.notice, run.notice, run.quarantine.notice(),
                   state.notice(), changed):  # fmt: skip
        if notice:
            echo_on(log.console, notice)
    first_step, best = state.step, state.best
    if (state.epoch, state.step) == (0, 0):
        save("last.pt", 0, 0, best)  # a run killed in its first epoch can be resumed too
    try:
        if val is not None and state.epoch < config.optim.epochs:
            _check_readable(val, here)
        for epoch in range(state.epoch, config.optim.epochs):
            watch = train_one_epoch(
                run.network, frontend, run.optimizer, loader, config, here, log,
                epoch=epoch, first_step=first_step, meter=meter, average=run.average,
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
                result = _validate(run.evaluated, frontend, val, here, log)
            log.epoch_done(epoch, watch, result, [head.loss for head in meter.epoch_done()])
            warnings = meter.at_chance(config.optim.epochs)
            log.at_chance([w for w in warnings if w.is_new], epoch, config)
            if (fused := result.get("fused")) and fused.top1 > best:
                best = fused.top1
                save("best.pt", epoch + 1, 0, best)
            save("last.pt", epoch + 1, 0, best)
        for warning in meter.at_chance(config.optim.epochs):
            if not warning.is_new:  # which was the last line already
                echo_on(log.console, warning.warning(config))
    finally:
        log.close()
    return out / "last.pt"


def _resume(path: Path, begun: Checkpoint) -> tuple[Checkpoint, str]:
    """The run's last checkpoint; `begun`, which is its first, where there is none yet. And what is
    to be said of how it goes on.

    A run that has ended may go on to more epochs.
    Raises `CheckpointError` where it is of another configuration, other data or another number of
    processes: going on would give neither run's result.
    """
    if not path.exists():
        return begun, ""
    state = checkpoint.load(path)
    changed = [
        f"{key} {old!r} -> {new!r}"
        for key, (old, new) in differences(
            without_unused(state.config), without_unused(begun.config)
        ).items()
        if key not in _MAY_CHANGE and not (key == "optim.epochs" and _has_more_epochs(state, new))
    ]
    if (state.classes, state.split_sha256) != (begun.classes, begun.split_sha256):
        changed.append("the clips of the train split, or their events.jsonl")
    elif not changed and state.num_steps != begun.num_steps:
        changed.append(f"steps an epoch {state.num_steps} -> {begun.num_steps}: other processes?")
    if changed:
        raise CheckpointError(
            f"{path} is of a run with another configuration ({', '.join(changed)}); choose "
            "another run.out, or delete the folder to start anew"
        )
    notice, done, epochs = "", state.config.optim.epochs, begun.config.optim.epochs
    if done != epochs:
        notice = (
            f"this run had ended after {done} epochs and goes on to {epochs}: the learning rate "
            f"rises to where it is in a run of {epochs}; the result is neither that of a run of "
            f"{done} epochs nor that of one of {epochs} from its beginning"
        )
    return replace(state, config=begun.config), notice


def _has_more_epochs(state: Checkpoint, epochs: int) -> bool:
    """Whether a run that has ended goes on to `epochs`."""
    done = state.config.optim.epochs
    return (state.epoch, state.step) == (done, 0) and epochs > done


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


def _validate(
    model: LateFusionClassifier, frontend: Frontend, val: EvalLoader, here: Runtime, log: RunLog
) -> dict[str, Scores | None]:
    """Metrics of one centred view per clip of the val split, by row of the table."""
    found = evaluate(model, frontend, val, here)
    log.bad_clips(found.bad, val.split)
    return all_scores(found.predictions)


def _no_val(config: TrainConfig) -> str:
    """Why no epoch is followed by an evaluation."""
    name, folder = config.data.val_split, config.data.manifest_folder
    why = f"{folder} has no split {name!r} (data.val_split)" if name else "data.val_split is empty"
    return f"no validation: {why}; best.pt is not written"


def _mix(config: TrainConfig) -> str:
    """How batches are mixed, in a few words."""
    recipes = ", ".join(
        word if share == 1 else f"{share:g} {word}"
        for word, share in config.mix.mix_methods.items()
    )
    law = f"beta({config.mix.alpha:g})" if config.mix.law == "beta" else config.mix.law
    return f"{recipes}, lambda {law}"


def _headline(
    config: TrainConfig, here: Runtime, model: nn.Module, train: Manifest, state: Checkpoint
) -> str:
    millions = sum(p.numel() for p in model.parameters()) / 1e6
    resumed = ""
    if (state.epoch, state.step) != (0, 0):
        resumed = f", resumed at epoch {state.epoch + 1}, step {state.step}"
    if state.epoch >= config.optim.epochs:
        resumed = f", complete: {state.epoch} epochs are done (--optim.epochs N for more)"
    return (
        f"{config.run.out}: {train.protocol}, {len(train.entries)} clips, "
        f"{len(train.classes)} classes; {millions:.2f} M parameters; mix {_mix(config)}; "
        f"log-mels with mean {config.frontend.mel_mean} and deviation {config.frontend.mel_std}; "
        f"{here.device}, {here.world_size} process(es), "
        f"{here.threads} threads (OMP_WAIT_POLICY {os.environ.get('OMP_WAIT_POLICY')}), "
        f"{config.data.num_workers} loader(s){resumed}"
    )


if __name__ == "__main__":
    try:
        with readers_may_leave():
            main(load_config(TrainConfig))
    except (
        ValueError,
        OSError,
        TooManyBadClips,
        LoaderError,
        CannotStart,
        NotFiniteError,
    ) as error:
        sys.exit("error: " + printable(str(error), keep="\n"))
    except KeyboardInterrupt:
        print("stopped; the same command goes on from the last checkpoint", file=sys.stderr)
        sys.exit(130)
