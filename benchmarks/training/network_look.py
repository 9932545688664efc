"""What benchmarks/learning.py measures of a network between two steps, without changing it.

The clips are the same at every look: the first of the val split, one centred window each, not mixed
and not augmented. The network is a copy in training mode: batch normalisation uses the statistics
of these clips, as the gradient of a step uses those of its batch, and the statistics it updates are
those of the copy. In evaluation mode the running statistics would take part, which lag behind the
weights in the first epochs. Torch's random generator is left where it was.
"""

import copy
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from avmix.models import LateFusionClassifier
from avmix.models.encoder import Encoder
from avmix.training.engine import targets_of
from avmix.training.losses import head_losses, presence
from avmix.training.optimizer import towers_of
from avmix.training.training_setup import Training
from avmix.types import Batch, Heads


def zero_share(x: Tensor) -> float:
    """Share of the elements that are zero, of what a ReLU returns."""
    return (x == 0).double().mean().item()


def dead_share(x: Tensor) -> float:
    """Share of the channels of (b c ...) that are zero in all clips and positions."""
    return (x == 0).flatten(2).all(2).all(0).double().mean().item()


def clip_share(x: Tensor) -> float | None:
    """Variance over clips divided by the mean square, a mean over the features of (b d): 0 where
    all clips have the same features, 1 where their mean is zero. Features that are zero for all
    clips do not count; None where all are."""
    x = x.double()
    mean_square, variance = x.square().mean(0), x.var(0, correction=0)
    counts = mean_square > 0
    return (variance[counts] / mean_square[counts]).mean().item() if counts.any() else None


def common_gradient(gradient: Tensor) -> float | None:
    """Norm of the mean over clips divided by the mean of their norms, of (b d): 1 where the
    gradient is the same for all clips, 0 where it cancels. None where there is none."""
    gradient = gradient.double()
    norms = gradient.norm(dim=1).mean()
    return (gradient.mean(0).norm() / norms).item() if norms > 0 else None


def agreement(one: Tensor, other: Tensor) -> float | None:
    """Cosine of the angle between two gradients, of (d): near 0 where they are noise. None where
    one of them is zero."""
    one, other = one.double(), other.double()
    norms = one.norm() * other.norm()
    return (one @ other / norms).item() if norms > 0 else None


def relative_update(before: Sequence[Tensor], now: Sequence[Tensor], num_steps: int) -> float:
    """Norm of the difference, divided by that of `before` and by `num_steps`."""
    moved = sum((n - b).double().square().sum().item() for b, n in zip(before, now, strict=True))
    size = sum(b.double().square().sum().item() for b in before)
    return (moved / size) ** 0.5 / num_steps


@dataclass(frozen=True, slots=True, kw_only=True)
class TowerLook:
    """One encoder after a step."""

    zero_share: tuple[float, ...]
    """Of the ReLU that ends each stage: share of its outputs that are zero."""
    dead_share: tuple[float, ...]
    """Of the same: share of the channels that are zero in all clips and positions."""
    clip_share_pooled: float | None
    """`clip_share` of the pooled features, before they are normalised."""
    clip_share_normalised: float | None
    """The same after the normalisation of the fusion: what the heads get."""
    smallest_variance: float
    """Of all running variances of batch normalisation."""
    largest_variance: float
    """Of the same."""
    update: float | None
    """`relative_update` of the kernels since the last look, per step; None at the first look."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """A network after `step` steps."""

    step: int
    common_gradient: float | None
    """Of the loss of the video head with respect to the pooled video features. With `FeatureNorm`
    it is 0 by construction: its backward pass subtracts the mean over clips."""
    gradient_agreement: float | None
    """`agreement` of the gradients of that loss with respect to the kernels of the video encoder,
    of the even and of the odd clips: what a step of that many clips finds that another does too."""
    video: TowerLook
    audio: TowerLook


def series(looks: Sequence[Look]) -> dict[str, list[float | None]]:
    """A column for each quantity, in the order of the looks; stages are counted from 1."""
    columns: dict[str, list[float | None]] = {}
    for look in looks:
        row: dict[str, float | None] = {
            name: getattr(look, name) for name in ("step", "common_gradient", "gradient_agreement")
        }
        for tower, found in (("video", look.video), ("audio", look.audio)):
            for name, value in asdict(found).items():
                if isinstance(value, tuple):
                    row |= {f"{tower}_{name}_{n}": share for n, share in enumerate(value, 1)}
                else:
                    row[f"{tower}_{name}"] = value
        for name, value in row.items():
            columns.setdefault(name, []).append(value)
    return columns


def clips_to_look_at(run: Training) -> Batch:
    """The first batch of the val split. Raises ValueError where it cannot be read whole."""
    if run.val is None:
        raise ValueError("the dataset has no val split")
    ((batch, bad),) = run.val.source.read(run.val.batches[:1], None)
    if batch is None or bad:
        raise ValueError(f"the val split has clips that cannot be read: {bad}")
    return batch


class Looker:
    """Looks at the network of a run, at the same clips every time."""

    def __init__(self, run: Training) -> None:
        """Reads the clips; the run may be trained afterwards."""
        self._run, self._batch = run, clips_to_look_at(run).to(run.here.device)
        # Copied: the frontend reuses its memory.
        self._inputs = tuple(x.clone() for x in run.frontend(self._batch))
        self._before: dict[str, list[Tensor]] = {}
        self._step = 0

    def look(self, step: int) -> Look:
        """After `step` steps."""
        model, batch = copy.deepcopy(self._run.model).train(), self._batch
        watched = {
            "video": _watch(model.video, model.fusion.norm_video),
            "audio": _watch(model.audio, model.fusion.norm_audio),
        }
        with torch.random.fork_rng(devices=[]):
            with torch.no_grad():
                features = model.encode(*self._inputs)
            pooled = features.video.detach().requires_grad_()
            heads = model.fusion(pooled, features.audio, batch.has_video, batch.has_audio)
            (gradient,) = torch.autograd.grad(self._loss(heads, slice(None)), pooled)
            towers = {name: self._tower(name, step, outputs) for name, outputs in watched.items()}
            halves = [self._gradient(model, slice(first, None, 2)) for first in range(2)]
        self._step = step
        return Look(
            step=step, common_gradient=common_gradient(gradient),
            gradient_agreement=agreement(*halves), **towers,
        )  # fmt: skip

    def _loss(self, heads: Heads, some: slice) -> Tensor:
        """Of the video head, a mean over `some` of the clips, whose logits `heads` has."""
        batch, config = self._batch, self._run.config.loss
        target = Heads(*(whole[some] for whole in targets_of(batch)))
        present = presence(batch.has_video[some], batch.has_audio[some])
        return head_losses(heads, target, present, config.label_smoothing, config.kind).video

    def _gradient(self, model: LateFusionClassifier, some: slice) -> Tensor:
        """Of the same loss, with respect to all kernels of the video encoder, as one vector."""
        batch = self._batch
        inputs = [x[some] for x in (*self._inputs, batch.has_video, batch.has_audio)]
        kernels = _kernels(model, "video")
        found = torch.autograd.grad(self._loss(model(*inputs).logits, some), kernels)
        return torch.cat([gradient.flatten() for gradient in found])

    def _tower(self, name: str, step: int, outputs: list[Tensor]) -> TowerLook:
        """`outputs`: of each stage, then the features before and after normalisation."""
        *stages, pooled, normalised = outputs
        model, before = self._run.model, self._before.get(name)
        kernels = [kernel.detach().clone() for kernel in _kernels(model, name)]
        self._before[name] = kernels
        variance = torch.cat([
            module.running_var.flatten() for module in model.get_submodule(name).modules()
            if isinstance(module, _BatchNorm) and module.running_var is not None
        ])  # fmt: skip
        return TowerLook(
            zero_share=tuple(map(zero_share, stages)),
            dead_share=tuple(map(dead_share, stages)),
            clip_share_pooled=clip_share(pooled),
            clip_share_normalised=clip_share(normalised),
            smallest_variance=variance.min().item(),
            largest_variance=variance.max().item(),
            update=relative_update(before, kernels, step - self._step) if before else None,
        )


def _kernels(model: LateFusionClassifier, tower: str) -> list[nn.Parameter]:
    return [p for p in getattr(towers_of(model), tower) if p.ndim > 1]


def _watch(encoder: Encoder, norm: nn.Module) -> list[Tensor]:
    """A list that the next pass fills: output of each stage, features before and after `norm`."""
    found: list[Tensor] = []

    def stage_done(module: nn.Module, given: tuple[Tensor, ...], output: Tensor) -> None:
        found.append(output.detach())

    def norm_done(module: nn.Module, given: tuple[Tensor, ...], output: Tensor) -> None:
        found.extend([given[0].detach(), output.detach()])

    for stage in encoder.stages:
        stage.register_forward_hook(stage_done)
    norm.register_forward_hook(norm_done)
    return found
