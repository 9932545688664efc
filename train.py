"""Train a late-fusion audio-visual network with Cross-Modal Mixup.

    python train.py --config configs/demo.yaml                       one process, CPU or one GPU
    python train.py --config configs/demo.yaml --mix.alpha 0.4       any option can be overridden
    torchrun --nproc_per_node 4 train.py --config configs/demo.yaml  one process per GPU

The same command again goes on from the last checkpoint in `run.out`.
"""

import os
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from avmix import checkpoint, runtime
from avmix.checkpoint import Checkpoint, CheckpointError
from avmix.config import TrainConfig, differences, from_yaml, load_config, to_yaml
from avmix.data.dataset import EvalSet, TooManyBadClips, TrainSet
from avmix.data.loader import EvalLoader, eval_loader, train_loader
from avmix.data.manifest import Manifest, read_manifest, splits_of
from avmix.engine import build_optimizer, evaluate, seed_torch, train_one_epoch
from avmix.frontend import Frontend
from avmix.metrics import Scores, all_scores
from avmix.models import LateFusionClassifier, build_model
from avmix.prepare.table import prepare_table
from avmix.rng import rng
from avmix.runlog import NotFiniteError, RunLog
from avmix.runtime import Runtime

# What may change between the start of a run and its continuation: where it runs, not what it does.
_MAY_CHANGE = ("data.root", "data.num_workers", "data.max_bad_share", "run.out", "run.device",
               "run.threads", "run.log_every", "run.save_every")  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """Where a run stands."""

    epoch: int
    """The epoch to go on with."""
    step: int
    """Its first step that has not been done."""
    best: float
    """Highest fused top-1 accuracy on val so far."""


START = Position(epoch=0, step=0, best=0.0)


def main(config: TrainConfig) -> Path:
    """Train from where `run.out` stands to the last epoch; returns the last checkpoint.

    Raises ValueError (`ManifestError`, `CheckpointError`, an option that does not fit the machine
    or the data), `TooManyBadClips` and `NotFiniteError`.
    """
    with runtime.start(
        device=config.run.device, threads=config.run.threads, num_workers=config.data.num_workers
    ) as here:
        if config.data.table and here.is_main:
            prepare_table(config.data)
        here.barrier()
        return _train(config, here)


def _train(config: TrainConfig, here: Runtime) -> Path:
    out, root, folder = Path(config.run.out), Path(config.data.root), config.data.manifest_folder
    train = read_manifest(folder, config.data.train_split)
    loader = train_loader(
        TrainSet(manifest=train, root=root, clip=config.clip, augment=config.augment,
                 seed=config.run.seed),
        batch_size=config.optim.batch_size, num_workers=config.data.num_workers,
        max_bad_share=config.data.max_bad_share, rank=here.rank, world_size=here.world_size,
    )  # fmt: skip

    val = None
    if config.data.val_split in splits_of(folder):
        manifest = read_manifest(folder, config.data.val_split)
        val = eval_loader(
            EvalSet(manifest=manifest, root=root, clip=config.clip, num_views=1),
            batch_size=2 * config.optim.batch_size, num_workers=config.data.num_workers,
            rank=here.rank, world_size=here.world_size,
        )  # fmt: skip

    seed_torch(rng(config.run.seed, 0, "weights"))  # initial weights: the same in every process
    model = build_model(config.model, len(train.classes)).to(here.device)
    frontend = Frontend(config.frontend, config.clip.sample_rate).to(here.device)
    optimizer = build_optimizer(model, config.optim)
    state = _resume(out / "last.pt", config, model, optimizer)
    network = DistributedDataParallel(model) if here.world_size > 1 else model

    def save(name: str, epoch: int, step: int, best: float) -> None:
        if here.is_main:
            checkpoint.save(
                out / name,
                Checkpoint(config=to_yaml(config), classes=list(train.classes), epoch=epoch,
                           step=step, best=best, model=model.state_dict(),
                           optimizer=optimizer.state_dict()),
            )  # fmt: skip

    log = RunLog(out, here, config.run.log_every)
    log.begin(to_yaml(config), epoch=state.epoch, step=state.step, steps_per_epoch=loader.num_steps)
    log.console.print(_headline(config, here, model, train, state), highlight=False)
    first_step, best = state.step, state.best
    if state == START:
        save("last.pt", 0, 0, best)  # a run killed in its first epoch can be resumed too
    try:
        for epoch in range(state.epoch, config.optim.epochs):
            watch = train_one_epoch(
                network, frontend, optimizer, loader, config, here, log,
                epoch=epoch, first_step=first_step, save=partial(save, "last.pt", epoch, best=best),
            )  # fmt: skip
            first_step = 0
            result = _validate(model, frontend, val, here, log) if val else {}
            log.epoch_done(epoch, watch, result)
            if result and result["fused"].top1 > best:
                best = result["fused"].top1
                save("best.pt", epoch + 1, 0, best)
            save("last.pt", epoch + 1, 0, best)
    finally:
        log.close()
    return out / "last.pt"


def _resume(
    path: Path, config: TrainConfig, model: nn.Module, optimizer: torch.optim.Optimizer
) -> Position:
    """Load the run's last checkpoint, if there is one, and say where it stands."""
    if not path.exists():
        return START
    state = checkpoint.load(path)
    changed = {
        key: values
        for key, values in differences(from_yaml(TrainConfig, state.config), config).items()
        if key not in _MAY_CHANGE
    }
    if changed:
        listed = ", ".join(f"{key} {old!r} -> {new!r}" for key, (old, new) in changed.items())
        raise CheckpointError(
            f"{path} is of a run with another configuration ({listed}); choose another run.out, "
            "or delete the folder to start anew"
        )
    model.load_state_dict(state.model)
    optimizer.load_state_dict(state.optimizer)
    return Position(epoch=state.epoch, step=state.step, best=state.best)


def _validate(
    model: LateFusionClassifier, frontend: Frontend, val: EvalLoader, here: Runtime, log: RunLog
) -> dict[str, Scores]:
    """Metrics of one centred view per clip of the val split, by row of the table."""
    found = evaluate(model, frontend, val, here)
    log.bad_clips(found.bad, val.split)
    return all_scores(found.predictions)


def _headline(
    config: TrainConfig, here: Runtime, model: nn.Module, train: Manifest, state: Position
) -> str:
    millions = sum(p.numel() for p in model.parameters()) / 1e6
    resumed = f", resumed at epoch {state.epoch + 1}, step {state.step}" if state != START else ""
    return (
        f"{config.run.out}: {train.protocol}, {len(train.entries)} clips, "
        f"{len(train.classes)} classes; {millions:.2f} M parameters; mix {config.mix.method}, "
        f"alpha {config.mix.alpha}; {here.device}, {here.world_size} process(es), "
        f"{here.threads} threads (OMP_WAIT_POLICY {os.environ.get('OMP_WAIT_POLICY')}), "
        f"{config.data.num_workers} loader(s){resumed}"
    )


if __name__ == "__main__":
    try:
        main(load_config(TrainConfig))
    except (ValueError, TooManyBadClips, NotFiniteError) as error:
        sys.exit(f"error: {error}")
