"""The training loop: `train_one_epoch`."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from avmix.config import BalanceConfig, MixConfig, TrainConfig
from avmix.data.loader import TrainLoader
from avmix.label_sets import LabelSet
from avmix.mix import Clips, clip_grids, draw_plan, mixed_targets
from avmix.mix.clip_grid import FEATURE_GRIDS
from avmix.mix.evidence import CUTS, with_audio_share
from avmix.mix.hidden_mix import hidden_mix
from avmix.mix.mix_plan import PlacedPlan
from avmix.models.classifier import Output
from avmix.models.frontend import Frontend
from avmix.models.on_features import AnyFrontend
from avmix.rng import rng
from avmix.training.balance.balancing import Balancing
from avmix.training.chance_level import ChanceMeter
from avmix.training.losses import (
    consistency_losses,
    head_losses,
    needs_clean,
    objective,
    presence,
    where_known,
)
from avmix.training.measurements import GradNorms, StepRecord, Stopwatch
from avmix.training.mix_knowledge import MixKnowledge
from avmix.training.optimizer import Towers, lr_at, towers_of
from avmix.training.runlog import RunLog
from avmix.training.runtime import Runtime
from avmix.training.weight_average import WeightAverage
from avmix.types import Batch, Heads


def train_one_epoch(
    network: nn.Module,
    frontend: AnyFrontend,
    optimizer: torch.optim.Optimizer,
    loader: TrainLoader,
    config: TrainConfig,
    runtime: Runtime,
    log: RunLog,
    *,
    epoch: int,
    first_step: int,
    save: Callable[[int], None],
    meter: ChanceMeter,
    average: WeightAverage | None = None,
    class_weight: Float[Tensor, " k"] | None = None,
    sets: Sequence[LabelSet] = (),
    balancing: Balancing | None = None,
    knowledge: MixKnowledge | None = None,
) -> Stopwatch:
    """Train on steps `first_step` to the last of `epoch`; returns where the time went.

    `network` maps (video, audio, has_video, has_audio, mix) to an `Output`. `save(step)` is called
    every `run.save_every` steps with the number of the step that comes next. `meter` adds up what
    the heads do in the epoch; it goes on with its sums where `first_step` is not 0. `average`
    follows the weights. `class_weight` and `sets`: of `head_losses`. `balancing`: of the
    modalities; None: none. `knowledge`: what mixing knows so far; None: nothing.
    """
    knowledge = knowledge or MixKnowledge(config=config.mix)
    balancing = balancing or Balancing(config=BalanceConfig())
    seed, optim, num_steps = config.run.seed, config.optim, loader.num_steps
    mix = mix_of_epoch(config.mix, epoch, optim.epochs)
    grids = FEATURE_GRIDS
    if not config.data.features:
        grids = clip_grids(config.clip, config.frontend, mix.audio_domain)
    weighed, with_clean = balancing.weighed(config.loss), needs_clean(config.loss)
    several = config.loss.several_labels
    check = check_input if config.run.check_input else unchecked
    towers, watch = towers_of(network), Stopwatch()
    network.train()
    if first_step == 0:
        meter.begin_epoch()
    log.epoch_started(epoch, optim.epochs, first_step, num_steps)
    batches = watch.waiting(loader.epoch(epoch, first_step))
    for step, (batch, bad) in enumerate(batches, first_step):
        log.bad_clips(bad, config.data.train_split)
        check(batch, loader.paths)
        plan = draw_plan(
            mix,
            knowledge.clips(clips_of(batch), batch),
            grids,
            shared=rng(seed, epoch, "mix_shared", step),
            own=rng(seed, epoch, "mix", step, runtime.rank),
            exponents=knowledge.exponents,
        )
        plan = balancing.left_out(plan, (seed, epoch, step, runtime.rank))
        log.plan(plan, epoch, step, batch.row)
        rows, batch, placed = batch.row, batch.to(runtime.device), plan.to(runtime.device)
        seed_torch(rng(seed, epoch, "torch", step, runtime.rank))  # dropout

        has_video, has_audio = placed.part("video").present, placed.part("audio").present
        with runtime.autocast(config.run.precision):
            video, audio = frontend(batch, placed)
            before = (batch.has_video, batch.has_audio)
            inside = hidden_mix(placed, before)
            mixed = network(video, audio, has_video, has_audio, inside)
            distilled = balancing.distilled(
                mixed.features, video, audio, inside, (has_video, has_audio)
            )
            # Second: what autocast casts here, without gradient, must not serve the other pass.
            clean = clean_pass(network, frontend, batch) if with_clean else None
        placed = by_evidence(mix, placed, frontend, batch)
        target = targets_of_mix(placed, batch, config.mix.labels, several)
        present = where_known(presence(has_video, has_audio), target)
        losses = head_losses(
            mixed.logits, target, present, config.loss.label_smoothing, config.loss.kind,
            class_weight, sets,
        )  # fmt: skip
        meter.add(losses, target, present)
        balancing.observe(
            mixed.logits, target, present, runtime, binary=config.loss.binary, sets=sets
        )
        knowledge.observe(
            mixed.logits, target, present, runtime, binary=config.loss.binary, sets=sets
        )
        consistency = consistency_losses(
            weighed, placed, mixed, clean, batch.has_video, batch.has_audio,
            softened=None if batch.audio_target is None else target, sets=sets,
        )  # fmt: skip
        loss = objective(weighed, losses, consistency)
        if distilled is not None:
            loss = loss + config.balance.distill * distilled

        first_of_update = step - step % optim.accumulate
        steps_of_update = min(optim.accumulate, num_steps - first_of_update)
        balancing.backward(loss, weighed, losses, consistency, steps_of_update)
        lr, grad_norms = lr_at(optim, epoch * num_steps + step, num_steps), None
        updated = step + 1 == first_of_update + steps_of_update
        if updated:
            balancing.combine()
            grad_norms = clip_gradients(towers, optim.clip_norm)
            for group in optimizer.param_groups:
                group["lr"] = lr * group.get("lr_scale", 1.0)
            balancing.update(optimizer, (seed, epoch, step))
            optimizer.zero_grad()
            if average is not None:
                average.update(unwrapped(network))

        watch.num_clips += plan.size * runtime.world_size
        record = StepRecord(
            epoch=epoch, step=step, lr=lr, loss=loss.detach(),
            losses=Heads(*(one.detach() for one in losses)),
            consistency={name: one.detach() for name, one in consistency.items()},
            grad_norms=grad_norms, rows=rows,
        )  # fmt: skip
        log.step_done(record, watch)
        every = config.run.save_every
        if updated and every and (step + 1) // every > first_of_update // every:
            log.flush()  # which raises where the loss was not finite: that is never saved
            save(step + 1)
    log.flush()
    # What one process could not read concerns all: they stop together, and the main one logs it.
    for found in runtime.gather(loader.bad.found):
        log.bad_clips(loader.bad.add(found), config.data.train_split)
    return watch.stop()


def mix_of_epoch(mix: MixConfig, epoch: int, num_epochs: int) -> MixConfig:
    """Mixing options of `epoch`, counted from 0: in the first `mix.ramp_epochs` epochs the share of
    mixed batches rises linearly from 0, in the last `mix.off_epochs` none is mixed."""
    if epoch >= num_epochs - mix.off_epochs:
        return replace(mix, probability=0.0)
    if epoch < mix.ramp_epochs:
        return replace(mix, probability=mix.probability * epoch / mix.ramp_epochs)
    return mix


def clips_of(batch: Batch) -> Clips:
    """Facts about `batch`, still on the CPU, that drawing a plan depends on."""
    labels: list[list[int]] = [[] for _ in range(batch.size)]
    for clip, label in (batch.target > 0).nonzero().tolist():  # not those that are unknown, nan
        labels[clip].append(label)
    return Clips(
        present=(
            ("video", tuple(batch.has_video.tolist())),
            ("audio", tuple(batch.has_audio.tolist())),
        ),
        source=tuple(batch.source.tolist()),
        labels=tuple(map(frozenset, labels)),
    )


def targets_of(batch: Batch) -> Heads:
    """Target of each head for the unmixed clips: of the fused one, the mean over the modalities
    that a clip has."""
    seen = batch.target if batch.video_target is None else batch.video_target
    if batch.audio_target is None:
        return Heads(batch.target, seen, seen)
    heard = batch.audio_target
    sees, hears = batch.has_video[:, None], batch.has_audio[:, None]
    fused = torch.where(sees & hears, (seen + heard) / 2, torch.where(hears, heard, seen))
    return Heads(fused=fused, video=seen, audio=heard)


def targets_of_mix(
    plan: PlacedPlan,
    batch: Batch,
    labels: Literal["sum", "max"] = "sum",
    several: bool = False,
) -> Heads:
    """Target of each head for the mixed clips. Of a clip that lost a modality, the fused target is
    that of the remaining one. `several`: clips have several labels (`mixed_targets`)."""
    own = batch.target if batch.audio_target is None else targets_of(batch)
    return mixed_targets(plan, own, labels, several=several)


def by_evidence(
    mix: MixConfig, plan: PlacedPlan, frontend: AnyFrontend, batch: Batch
) -> PlacedPlan:
    """The plan with labels by the energy of cut audio where mix.audio_label asks for it; it costs
    the spectrograms once more."""
    if mix.audio_label == "area" or plan.plan.method not in CUTS or not isinstance(
        frontend, Frontend
    ):  # fmt: skip
        return plan
    audio = batch.audio * batch.has_audio.view(-1, *[1] * (batch.audio.ndim - 1))
    with torch.no_grad(), torch.autocast(audio.device.type, enabled=False):
        energy = frontend.energy(audio, plan.plan.part("audio").domain)
    return with_audio_share(plan, energy)


def clean_pass(network: nn.Module, frontend: AnyFrontend, batch: Batch) -> Output:
    """Predictions for the unmixed clips, without gradient and in evaluation mode, so that neither
    dropout nor the statistics of batch normalisation are affected."""
    model = unwrapped(network)  # whether DDP sends its buffers must not depend on this
    model.eval()
    with torch.no_grad():
        found = model(*frontend(batch), batch.has_video, batch.has_audio)
    model.train()
    return found


def unwrapped(network: nn.Module) -> nn.Module:
    """The network without what several processes need around it."""
    return network.module if isinstance(network, DistributedDataParallel) else network


def check_input(batch: Batch, paths: Sequence[str]) -> None:
    """Raise ValueError, naming the files, where audio is not finite (pixels always are)."""
    broken = ~batch.audio.isfinite().flatten(1).all(1)
    if broken.any():
        files = [paths[int(row)] for row in batch.row[broken]]
        raise ValueError(f"audio that is not finite, in {', '.join(files)}")


def unchecked(batch: Batch, paths: Sequence[str]) -> None:
    """What is not finite is found in the loss (`NotFiniteError`)."""


def seed_torch(stream: np.random.Generator) -> None:
    """Seed torch's own generator, which dropout and initial weights use, from an address."""
    seed = int(stream.integers(2**63))
    torch.default_generator.manual_seed(seed)
    # torch.manual_seed notes for CUDA, where that was not used yet, who called: at every step.
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(seed)


def clip_gradients(towers: Towers, max_norm: float) -> GradNorms:
    """Scale all gradients so that their common norm is at most `max_norm`; returns the norms
    before."""
    gradients = [[p.grad for p in tower if p.grad is not None] for tower in towers]
    nothing = torch.zeros((), device=next(p.device for tower in towers for p in tower))
    norms = [nn.utils.get_total_norm(some) if some else nothing for some in gradients]
    total = nn.utils.get_total_norm(norms)
    # Times 1 they stay as they are. Not asked on a GPU, where the answer would be waited for.
    if total.device.type == "cpu" and bool(max_norm / (total + 1e-6) >= 1):
        return GradNorms(total, *norms)
    nn.utils.clip_grads_with_norm_([p for tower in towers for p in tower], max_norm, total)
    return GradNorms(total, *norms)
