"""Training and evaluation loops: `train_one_epoch` and `evaluate`."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from avmix.config import MixConfig, TrainConfig
from avmix.data.loader import EvalLoader, TrainLoader
from avmix.data.sample import WORTH_HINT, BadClip, TooManyBadClips
from avmix.evaluation.metrics import EVAL_ROWS, NEEDS, Predictions
from avmix.label_sets import LabelSet
from avmix.mix import Clips, clip_grids, draw_plan, mixed_targets
from avmix.mix.clip_grid import FEATURE_GRIDS
from avmix.mix.hidden_mix import hidden_mix
from avmix.mix.mix_plan import PlacedPlan
from avmix.models import LateFusionClassifier
from avmix.models.classifier import Output
from avmix.models.on_features import AnyFrontend
from avmix.models.set_softmax import softmax
from avmix.rng import rng
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
) -> Stopwatch:
    """Train on steps `first_step` to the last of `epoch`; returns where the time went.

    `network` maps (video, audio, has_video, has_audio, mix) to an `Output`. `save(step)` is called
    every `run.save_every` steps with the number of the step that comes next. `meter` adds up what
    the heads do in the epoch; it goes on with its sums where `first_step` is not 0. `average`
    follows the weights. `class_weight` and `sets`: of `head_losses`.
    """
    seed, optim, num_steps = config.run.seed, config.optim, loader.num_steps
    mix = mix_of_epoch(config.mix, epoch, optim.epochs)
    grids = FEATURE_GRIDS
    if not config.data.features:
        grids = clip_grids(config.clip, config.frontend, mix.audio_domain)
    with_clean = needs_clean(config.loss)
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
            clips_of(batch),
            grids,
            shared=rng(seed, epoch, "mix_shared", step),
            own=rng(seed, epoch, "mix", step, runtime.rank),
        )
        log.plan(plan, epoch, step, batch.row)
        rows, batch, placed = batch.row, batch.to(runtime.device), plan.to(runtime.device)
        seed_torch(rng(seed, epoch, "torch", step, runtime.rank))  # dropout

        has_video, has_audio = placed.part("video").present, placed.part("audio").present
        with runtime.autocast(config.run.precision):
            video, audio = frontend(batch, placed)
            before = (batch.has_video, batch.has_audio)
            mixed = network(video, audio, has_video, has_audio, hidden_mix(placed, before))
            # Second: what autocast casts here, without gradient, must not serve the other pass.
            clean = clean_pass(network, frontend, batch) if with_clean else None
        target = targets_of_mix(placed, batch, config.mix.labels, several)
        present = where_known(presence(has_video, has_audio), target)
        losses = head_losses(
            mixed.logits, target, present, config.loss.label_smoothing, config.loss.kind,
            class_weight, sets,
        )  # fmt: skip
        meter.add(losses, target, present)
        consistency = consistency_losses(
            config.loss, placed, mixed, clean, batch.has_video, batch.has_audio,
            softened=None if batch.audio_target is None else target, sets=sets,
        )  # fmt: skip
        loss = objective(config.loss, losses, consistency)

        first_of_update = step - step % optim.accumulate
        steps_of_update = min(optim.accumulate, num_steps - first_of_update)
        (loss / steps_of_update).backward()
        lr, grad_norms = lr_at(optim, epoch * num_steps + step, num_steps), None
        updated = step + 1 == first_of_update + steps_of_update
        if updated:
            grad_norms = clip_gradients(towers, optim.clip_norm)
            for group in optimizer.param_groups:
                group["lr"] = lr * group.get("lr_scale", 1.0)
            optimizer.step()
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """Result of evaluating a split; missing predictions are not substituted."""

    predictions: Predictions
    """Predictions for the clips whose views were all readable and gave finite numbers."""
    bad: tuple[BadClip, ...]
    """The others, once each."""


@torch.inference_mode()
def evaluate(
    model: LateFusionClassifier,
    frontend: AnyFrontend,
    loader: EvalLoader,
    runtime: Runtime,
    several: bool = False,
    *,
    average: Literal["probabilities", "logits"] = "probabilities",
    sets: Sequence[LabelSet] = (),
    one_of_many: bool = False,
) -> Evaluation:
    """Probabilities of every clip for each of `EVAL_ROWS`, averaged in float64 over those of its
    views that have what the row needs (`avmix.evaluation.metrics.NEEDS`): an audio head says
    nothing of a window without audio. With `average` logits these are averaged instead, which is
    the geometric mean of the probabilities, scaled to add up to 1. `several`: clips have several
    labels, and probabilities are sigmoids of the logits, not their softmax. `sets`: they have one
    label of each label set, and probabilities are the softmax over the classes of each.
    `one_of_many`: the network was trained on one label a clip, so that its probabilities are a
    softmax, though the clips have several.

    A clip is missing, with the reason, where a view of it cannot be read, or its waveform or what
    the network says of it is not finite: nan has a largest entry, too, and would count as a class.

    Raises `TooManyBadClips`, which names the split, when none of its clips can be evaluated.
    """
    binary = several and not one_of_many
    model.eval()
    runtime.broadcast_buffers(model)
    sums: dict[int, Tensor] = {}  # row of the manifest -> (len(EVAL_ROWS) k)
    counts: dict[int, Tensor] = {}  # -> (len(EVAL_ROWS)): views that have what the row needs
    views: dict[int, int] = {}
    labels: dict[int, Tensor] = {}
    bad: dict[int, BadClip] = {}
    for batch, bad_now in loader:
        bad.update({b.row: b for b in bad_now})
        if batch is None:
            continue
        logits = _eval_rows(model, frontend, batch.to(runtime.device))
        said = logits if average == "logits" else _probability(logits, binary, sets)
        said = said.double().cpu()
        wanted = _eval_targets(batch) if several else _labels(batch, sets)
        present = _present(batch)
        said = said.where(present[:, :, None], 0)
        problems = _not_finite(batch, said)
        for i, row in enumerate(batch.row.tolist()):
            if problems[i]:
                bad[row] = BadClip(row, loader.paths[int(row)], problems[i])
                continue
            sums[row] = sums.get(row, 0) + said[:, i]
            counts[row] = counts.get(row, 0) + present[:, i].long()
            views[row] = views.get(row, 0) + 1
            labels[row] = wanted[:, i] if several else wanted[i]
    ours = {row: (labels[row], total / counts[row].clamp(min=1)[:, None], counts[row] > 0)
            for row, total in sums.items() if views[row] == loader.num_views}  # fmt: skip
    clips = {row: clip for part in runtime.gather(ours) for row, clip in part.items()}
    missing = {row: b for part in runtime.gather(bad) for row, b in part.items()}
    if not clips:
        if not missing:
            raise TooManyBadClips(f"the split {loader.split!r} has no clip to evaluate")
        first = next(iter(missing.values()))
        raise TooManyBadClips(
            f"none of the {len(missing)} clips of {loader.split!r} can be evaluated; the first: "
            f"{first.path}: {first.reason}{WORTH_HINT}",
            tuple(missing.values()),
        )
    rows = sorted(clips)
    stacked = torch.stack([clips[row][1] for row in rows], 1)
    counted = torch.stack([clips[row][2] for row in rows], 1)
    found = torch.stack([clips[row][0] for row in rows], 1 if several else 0)
    if average == "logits":
        stacked = _probability(stacked, binary, sets).where(counted[:, :, None], 0)
    return Evaluation(
        predictions=Predictions(
            row=torch.tensor(rows),
            label=torch.full((len(rows),), -1) if several else found,
            probability=dict(zip(EVAL_ROWS, stacked.float(), strict=True)),
            counted=dict(zip(EVAL_ROWS, counted, strict=True)),
            target=dict(zip(EVAL_ROWS, found, strict=True)) if several else None,
            sets=tuple(sets),
        ),
        bad=tuple(missing[row] for row in sorted(missing)),
    )


def probabilities_of(
    model: LateFusionClassifier, frontend: AnyFrontend, batch: Batch, several: bool
) -> tuple[Float64[Tensor, "rows b k"], Bool[Tensor, "rows b"]]:
    """Probabilities for each of `EVAL_ROWS`, on the CPU, and which count; as `evaluate` has them of
    one window, without label sets. `batch` is on the device of `model`, in evaluation mode."""
    with torch.no_grad():
        said = _probability(_eval_rows(model, frontend, batch), several, ()).double().cpu()
    present = _present(batch)
    return said.where(present[:, :, None], 0), present


def _present(batch: Batch) -> Bool[Tensor, "rows b"]:
    """Which windows have what each of `EVAL_ROWS` needs."""
    has = {"video": batch.has_video, "audio": batch.has_audio}
    anything = batch.has_video | batch.has_audio
    return torch.stack(
        [has[NEEDS[name]] if name in NEEDS else anything for name in EVAL_ROWS]
    ).cpu()


def _not_finite(batch: Batch, values: Float64[Tensor, "rows b k"]) -> list[str]:
    """What of each clip is not finite; empty where all of it is."""
    heard = batch.audio.isfinite().flatten(1).all(1).tolist()
    said = values.isfinite().all(2).all(0).tolist()
    return [
        "" if a and b else "logits that are not finite" if a else "audio that is not finite"
        for a, b in zip(heard, said, strict=True)
    ]


def _eval_rows(
    model: LateFusionClassifier, frontend: AnyFrontend, batch: Batch
) -> Float[Tensor, "rows b k"]:
    """Logits for each of `EVAL_ROWS`."""
    video, audio = frontend(batch)
    seen, heard, nothing = batch.has_video, batch.has_audio, torch.zeros_like(batch.has_video)
    heads, without_audio, without_video = model.heads_of(
        video, audio, [(seen, heard), (seen, nothing), (nothing, heard)]
    )
    logits = [heads.fused, heads.video, heads.audio, without_audio.fused, without_video.fused]
    return torch.stack(logits).float()


def _probability(
    logits: Float[Tensor, "rows b k"], binary: bool, sets: Sequence[LabelSet]
) -> Float[Tensor, "rows b k"]:
    return logits.sigmoid() if binary else softmax(logits, sets)


def _labels(batch: Batch, sets: Sequence[LabelSet]) -> Int64[Tensor, "b *s"]:
    """The class of each clip, or that of each set, counted within it."""
    if not sets:
        return batch.target.argmax(1)
    return torch.stack([batch.target[:, one.columns].argmax(1) for one in sets], 1)


def _eval_targets(batch: Batch) -> Float[Tensor, "rows b k"]:
    """What each of `EVAL_ROWS` is judged by: the fused head by all labels of the clip, a head of
    one modality, and the fused head where only one is left, by those of that modality."""
    of = {"video": batch.video_target, "audio": batch.audio_target}
    found = [of.get(NEEDS.get(name, "")) for name in EVAL_ROWS]
    return torch.stack([batch.target if one is None else one for one in found])
