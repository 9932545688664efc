"""Everything that a training run needs before its first step, and where a resumed run stands."""

from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from avmix.config import (
    MEL_MEAN,
    MEL_STD,
    DataConfig,
    FrontendConfig,
    TrainConfig,
    differences,
)
from avmix.config.unused_options import without_unused
from avmix.data.dataset import EvalSet, TrainSet
from avmix.data.loader import EvalLoader, TrainLoader, eval_loader, read_limits, train_loader
from avmix.data.manifest import (
    Manifest,
    ManifestError,
    read_events,
    read_log_mel,
    read_manifest,
    splits_of,
)
from avmix.data.quarantine import Quarantine
from avmix.data.train_clips import train_clips
from avmix.mix.frame_mixer import kernel_of
from avmix.models import LateFusionClassifier, build_model
from avmix.models.classifier import check_layers
from avmix.models.frontend import Frontend
from avmix.models.input_options import in_words, with_expected_input
from avmix.rng import rng
from avmix.training import chance_level, checkpoint, runtime
from avmix.training.chance_level import ChanceMeter
from avmix.training.checkpoint import Checkpoint, CheckpointError
from avmix.training.engine import seed_torch
from avmix.training.label_setup import class_weights, with_labels
from avmix.training.layer_decay import empty_clip
from avmix.training.measurements import NO_STEP, LossSum
from avmix.training.optimizer import build_optimizer
from avmix.training.runtime import Rounding, Runtime
from avmix.training.sync_norm import synchronise_norms
from avmix.training.weight_average import WeightAverage

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
    class_weight: Tensor | None
    """(k) of the classes in the loss; None: 1 each."""
    state: Checkpoint
    """Where the run stands: its last checkpoint, or its beginning."""
    notice: str
    """What is to be said of how it goes on; empty where that is as it was begun."""
    expected: str
    """Options that are as the encoders expect, because they were not set; empty where none."""

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


def build(config: TrainConfig, here: Runtime, at_end: ExitStack) -> Training:
    """Everything but the loop; loader processes end with `at_end`. Raises as `train` does."""
    out, root, folder = Path(config.run.out), Path(config.data.root), config.data.manifest_folder
    given, config = config, with_expected_input(config)
    expected = in_words(given, config)
    config = replace(config, frontend=with_measured(config.frontend, folder))
    clips = train_clips(config.data)
    config = with_labels(config, clips.manifest)
    several = config.loss.labels == "multi"
    data, quarantine = config.data, Quarantine(out / "quarantine.jsonl")
    limits = read_limits(data.num_workers, data.clip_seconds)
    if len(clips.manifest.classes) < 2:
        only = ", ".join(map(repr, clips.manifest.classes))
        raise ManifestError(
            f"{folder}: its only class is {only}; training needs at least two classes"
        )
    train, trained_on, events = clips.manifest, clips.manifest.sha256, {}
    if config.augment.window == "event":
        events, events_sha256 = read_events(folder, *map(Path, data.extra))
        trained_on += f" events {events_sha256}"
    class_weight, weights_sha256 = class_weights(config, train)
    if weights_sha256:
        trained_on += f" class_weights {weights_sha256}"
    loader = train_loader(
        TrainSet(manifest=train, root=root, roots=clips.roots, clip=config.clip,
                 frontend=config.frontend, verify=data.verify, limits=limits,
                 augment=config.augment, seed=config.run.seed, events_seconds=events,
                 several_labels=several, modalities=config.model.modalities,
                 balance=data.balance),
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
                    limits=limits, num_views=1, several_labels=several,
                    modalities=config.model.modalities),
            batch_size=2 * config.optim.batch_size, num_workers=data.num_workers,
            clip_seconds=data.clip_seconds, quarantine=quarantine,
            rank=here.rank, world_size=here.world_size, pin=here.device.type == "cuda",
        )  # fmt: skip
        at_end.enter_context(closing(val))

    seed_torch(rng(config.run.seed, 0, "weights"))  # initial weights: the same in every process
    model = build_model(
        config.model, len(train.classes), clip=config.clip, frontend=config.frontend,
        load_weights=not (out / "last.pt").exists(),  # which has them
        binary=config.loss.binary,
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
                   chance=chance_level.initial_history(len(train.classes), several),
                   loss_sum=NO_STEP,
                   digest=""),
    )  # fmt: skip
    checkpoint.load_weights(out / "last.pt", state, model)
    if average is not None:
        checkpoint.load_weights(out / "last.pt", state, average.model, average=True)
    optimizer.load_state_dict(state.optimizer)
    if class_weight is not None:
        class_weight = class_weight.to(here.device)
    meter = ChanceMeter(state.chance, config.loss, len(train.classes), here.device, class_weight)
    if config.run.compile:
        runtime.check_compile(here.device, config.run.precision)
        model.compile()  # in place: its names, and what calls its parts, stay as they are
    network = DistributedDataParallel(model) if here.world_size > 1 else model
    return Training(config=config, here=here, train=train, quarantine=quarantine, loader=loader,
                    val=val, model=model, network=network, frontend=frontend, optimizer=optimizer,
                    average=average, meter=meter, class_weight=class_weight, state=state,
                    notice=notice,
                    expected=expected)  # fmt: skip


def with_measured(frontend: FrontendConfig, folder: Path) -> FrontendConfig:
    """With the numbers that dataset.json has, so that the checkpoint has them: evaluation does not
    depend on what is written there later."""
    found = read_log_mel(folder)
    return frontend.with_log_mel(
        *((found.mean, found.std) if found is not None else (MEL_MEAN, MEL_STD))
    )


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
            f"{path} belongs to a run with another configuration ({', '.join(changed)}); choose "
            "another run.out, or delete the folder to start again"
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
