"""Everything that a training run needs before its first step, and where a resumed run stands."""

from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from avmix.config import (
    MEL_MEAN,
    MEL_STD,
    FrontendConfig,
    TrainConfig,
    differences,
)
from avmix.config.unused_options import without_unused
from avmix.data.kept_features import changed_identity
from avmix.data.loader import EvalLoader, TrainLoader
from avmix.data.manifest import Manifest, read_log_mel
from avmix.data.quarantine import Quarantine
from avmix.data.train_clips import train_clips
from avmix.label_sets import LabelSet
from avmix.mix.frame_mixer import kernel_of
from avmix.models import LateFusionClassifier, build_model
from avmix.models.classifier import check_layers
from avmix.models.frontend import Frontend
from avmix.models.input_options import in_words, with_expected_input
from avmix.models.on_features import AnyFrontend, KeptFrontend, build_on_features
from avmix.rng import rng
from avmix.training import chance_level, checkpoint, runtime
from avmix.training.balance.balancing import Balancing
from avmix.training.balance.branches import branches_of
from avmix.training.balance.umt import load_teachers
from avmix.training.chance_level import ChanceMeter
from avmix.training.checkpoint import Checkpoint, CheckpointError
from avmix.training.engine import seed_torch
from avmix.training.label_setup import with_labels
from avmix.training.layer_decay import empty_clip
from avmix.training.measurements import NO_STEP, LossSum
from avmix.training.mix_knowledge import MixKnowledge
from avmix.training.mix_sums import NOTHING
from avmix.training.optimizer import build_optimizer
from avmix.training.run_data import RunData, no_val, of_clips, of_features
from avmix.training.runtime import Rounding, Runtime
from avmix.training.sync_norm import synchronise_norms
from avmix.training.weight_average import WeightAverage

# What may change between the start of a run and its continuation: where it runs, not what it does.
_MAY_CHANGE = ("data.root", "data.num_workers", "data.clip_seconds", "data.verify",
               "data.max_bad_share", "frontend.kernel", "run.out", "run.device", "run.threads",
               "run.log_every", "run.save_every", "run.save_plans", "run.check_input",
               "model.video.gradient_checkpointing",
               "model.audio.gradient_checkpointing",
               "model.joint.gradient_checkpointing")  # fmt: skip


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
    """None where the dataset has no such split, and nothing is held out."""
    held_out: str
    """What is to be said of the clips that are held out for validation; empty where none are."""
    model: LateFusionClassifier
    network: nn.Module
    """The same with what several processes need around it."""
    frontend: AnyFrontend
    optimizer: torch.optim.Optimizer
    average: WeightAverage | None
    """Of `model`; None where the run keeps none (optim.ema_decay)."""
    meter: ChanceMeter
    """Of heads that learn nothing; at `state`, like all of this."""
    balancing: Balancing
    """Of the modalities; at `state`."""
    knowledge: MixKnowledge
    """Of mixing; at `state`."""
    class_weight: Tensor | None
    """(k) of the classes in the loss; None: 1 each."""
    sets: tuple[LabelSet, ...]
    """Label sets; none where all classes are of one."""
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
                          balance=self.balancing.state(),
                          mix_sums=self.knowledge.sums,
                          loss_sum=loss_sum,
                          rounding=self.rounding)  # fmt: skip
            checkpoint.save(Path(self.config.run.out) / name, now)


def build(config: TrainConfig, here: Runtime, at_end: ExitStack) -> Training:
    """Everything but the loop; loader processes end with `at_end`. Raises as `train` does.

    On kept features `Training.config` is without the options that features leave nothing to do.
    """
    out, quarantine = Path(config.run.out), Quarantine(Path(config.run.out) / "quarantine.jsonl")
    clips = train_clips(config.data)
    if config.data.features:
        config, expected = with_labels(without_unused(config), clips.manifest), ""
        data = of_features(config, clips, here)
    else:
        given, config = config, with_expected_input(config)
        expected = in_words(given, config)
        measured = with_measured(config.frontend, config.data.manifest_folder)
        config = with_labels(replace(config, frontend=measured), clips.manifest)
        data = of_clips(config, clips, here, quarantine, at_end)
    classes, several = list(data.train.classes), config.loss.several_labels
    sets = config.loss.label_sets(classes)

    seed_torch(rng(config.run.seed, 0, "weights"))  # initial weights: the same in every process
    if data.kept is not None:
        widths = data.kept.widths
        model = build_on_features(
            config.model, widths.video, widths.audio, len(classes),
            binary=config.loss.binary, sets=sets,
        )  # fmt: skip
        frontend: AnyFrontend = KeptFrontend()
    else:
        model = build_model(
            config.model, len(classes), clip=config.clip, frontend=config.frontend,
            load_weights=not (out / "last.pt").exists(),  # which has them
            binary=config.loss.binary, sets=sets,
        )  # fmt: skip
        check_layers(model, config)
        frontend = Frontend(
            config.frontend, config.clip.sample_rate, model.pixels, reuse_output=True
        )
    model, frontend = model.to(here.device), frontend.to(here.device)
    if config.model.sync_norm:
        synchronise_norms(model, here)
    optimizer = build_optimizer(
        model,
        config.optim,
        config.model,
        empty_clip(config.clip, config.frontend),
        fused=data.kept is not None,  # a step has little else to do
    )
    decay = config.optim.ema_decay
    average = WeightAverage(model, decay) if decay else None
    balancing = _balancing(config, model, classes, data, here)
    state, notice = _resume(
        out / "last.pt",
        Checkpoint(config=config, classes=classes, split_sha256=data.trained_on,
                   num_steps=data.loader.num_steps, epoch=0, step=0, best=-1.0,
                   model=model.state_dict(), optimizer=optimizer.state_dict(),
                   average=average and average.model.state_dict(),
                   chance=chance_level.initial_history(len(classes), several), loss_sum=NO_STEP,
                   features=data.kept and data.kept.header.identity_text,
                   balance=balancing.state(), mix_sums=NOTHING,
                   digest=""),
    )  # fmt: skip
    checkpoint.load_weights(out / "last.pt", state, model)
    if average is not None:
        checkpoint.load_weights(out / "last.pt", state, average.model, average=True)
    optimizer.load_state_dict(state.optimizer)
    balancing.restore(state.balance)
    class_weight = data.class_weight
    if class_weight is not None:
        class_weight = class_weight.to(here.device)
    meter = ChanceMeter(state.chance, config.loss, len(classes), here.device, class_weight, sets)
    if config.run.compile:
        runtime.check_compile(here.device, config.run.precision)
        model.compile()  # in place: its names, and what calls its parts, stay as they are
    network = DistributedDataParallel(model) if here.world_size > 1 else model
    held_out = data.held_out.notice if data.held_out else ""
    return Training(config=config, here=here, train=data.train, quarantine=quarantine,
                    loader=data.loader, val=data.val, held_out=held_out, model=model,
                    network=network, frontend=frontend, optimizer=optimizer, average=average,
                    meter=meter, balancing=balancing, class_weight=class_weight, state=state,
                    knowledge=MixKnowledge(config=config.mix, sums=state.mix_sums or NOTHING),
                    notice=notice, expected=expected, sets=sets)  # fmt: skip


def _balancing(
    config: TrainConfig,
    model: LateFusionClassifier,
    classes: list[str],
    data: RunData,
    here: Runtime,
) -> Balancing:
    """The method of balancing at its beginning. Raises ValueError where it cannot act here."""
    method = config.balance.method
    if method == "mmpareto" and here.world_size > 1:
        raise ValueError(
            "balance.method mmpareto takes two gradients of each batch, which several processes do "
            "not average: train in one"
        )
    if method == "g_blend" and data.val is None:
        raise ValueError(
            f"balance.method g_blend needs validation clips, and {no_val(config.data)}: name a "
            "split, or data.holdout 0.1 holds out a tenth of the sources of the train split"
        )
    found = Balancing(config=config.balance)
    if method in ("ogm_ge", "mmpareto", "umt"):
        found.branches = branches_of(model, method)
        found.parameters = [p for p in model.parameters() if p.requires_grad]
    if method == "umt":
        found.teachers = load_teachers(config, classes, data.kept, here.device)
    return found


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
        if key not in _MAY_CHANGE
        and not (key == "optim.epochs" and _has_more_epochs(state, new))
        and not (key == "data.features" and old and new)  # the folder; what it holds is compared
    ]
    if state.features is not None and begun.features is not None:
        changed += changed_identity(state.features, begun.features)
    taught = state.balance and state.balance.teachers, begun.balance and begun.balance.teachers
    if state.balance is not None and taught[0] != taught[1]:
        changed.append("what balance.video_teacher or balance.audio_teacher has learned")
    if (state.classes, state.split_sha256) != (begun.classes, begun.split_sha256):
        what = "events.jsonl" if begun.features is None else "features"
        changed.append(f"the clips of the train split, or their {what}")
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
