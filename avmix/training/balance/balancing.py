"""`Balancing`: the method of a run, with what it carries from step to step.

The loop asks it in four places, in this order: what is left out of a plan, the loss, the backward
pass, the update. Each says which method does what there; without one, it is what it would be.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from avmix.config import BalanceConfig, LossConfig
from avmix.label_sets import LabelSet
from avmix.mix import MixPlan
from avmix.mix.hidden_mix import HiddenMix
from avmix.models.classifier import Features
from avmix.rng import rng
from avmix.training.balance import g_blend, mmpareto, ogm_ge, opm, umt
from avmix.training.balance.branches import Branches
from avmix.training.balance.g_blend import Measured
from avmix.training.balance.opm import Scores
from avmix.training.balance.scores import confidence_sums, mean_scores
from avmix.training.balance.umt import Teachers
from avmix.training.balance_state import BalanceState
from avmix.training.losses import parts_of_objective
from avmix.training.runtime import Runtime
from avmix.types import Heads

_NO_BRANCH = Branches([], [])


@dataclass(slots=True, kw_only=True)
class Balancing:
    """A method and its state."""

    config: BalanceConfig
    parameters: Sequence[nn.Parameter] = ()
    """All that learn; of mmpareto."""
    branches: Branches = _NO_BRANCH
    """Of ogm_ge and mmpareto."""
    teachers: Teachers | None = None
    """Of umt."""
    scores: Scores | None = None
    """Of opm: those of the last step."""
    weights: tuple[float, float, float] | None = None
    """Of g_blend; None: those of the configuration."""
    measured: Measured | None = None
    """Of g_blend: when the weights were computed last."""
    _sums: Tensor | None = None
    """Of ogm_ge: confidences in the steps of this update."""
    _gradients: mmpareto.Gradients | None = None
    """Of mmpareto: of the steps of this update."""

    def left_out(self, plan: MixPlan, address: tuple[int, int, int, int]) -> MixPlan:
        """The plan, without what opm leaves out; `address`: seed, epoch, step, process."""
        if self.config.method != "opm":
            return plan
        shares = opm.drop_shares(self.scores, self.config)
        seed, epoch, step, rank = address
        stream = rng(seed, epoch, "balance", step, rank)
        return opm.leave_out(plan, shares, self.config.drop_batches, stream)

    def weighed(self, loss: LossConfig) -> LossConfig:
        """`loss` with the weights of the heads that g_blend has found."""
        if self.weights is None:
            return loss
        fused, video, audio = self.weights
        return replace(loss, fused=fused, video=video, audio=audio)

    def distilled(
        self,
        ours: Features,
        video: Tensor,
        audio: Tensor,
        mix: HiddenMix | None,
        has: tuple[Tensor, Tensor],
    ) -> Tensor | None:
        """The distance to the teachers' features that umt adds to the loss; None: no teachers."""
        if self.teachers is None:
            return None
        return umt.distance(ours, self.teachers.features(video, audio, mix), *has)

    def observe(
        self,
        logits: Heads,
        target: Heads,
        present: Heads,
        runtime: Runtime,
        *,
        binary: bool,
        sets: Sequence[LabelSet],
    ) -> None:
        """Note the confidence of the heads, over all processes, where a method needs it."""
        if self.config.method not in ("ogm_ge", "opm"):
            return
        sums = runtime.mean(confidence_sums(logits, target, present, binary=binary, sets=sets))
        if self.config.method == "opm":
            self.scores = Scores(*mean_scores(sums).tolist())  # waits for the device
        else:
            self._sums = sums if self._sums is None else self._sums + sums

    def backward(
        self,
        loss: Tensor,
        config: LossConfig,
        losses: Heads,
        consistency: Mapping[str, Tensor],
        steps: int,
    ) -> None:
        """Gradients of `loss`, a step of `steps` that are accumulated; of mmpareto, of its two
        parts (`parts_of_objective`) by themselves."""
        if self.config.method != "mmpareto":
            (loss / steps).backward()
            return
        joint, modalities = parts_of_objective(config, losses, consistency)
        found = mmpareto.gradients(joint / steps, modalities / steps, self.parameters)
        self._gradients = mmpareto.added(self._gradients, found)

    def combine(self) -> None:
        """Before an update: write the gradients that mmpareto has kept by themselves."""
        if self._gradients is not None:
            mmpareto.set_gradients(
                self.parameters, self._gradients, self.branches, self.config.gamma
            )
            self._gradients = None

    def update(self, optimizer: torch.optim.Optimizer, address: tuple[int, int, int]) -> None:
        """A step of the optimizer, scaled by ogm_ge; `address`: seed, epoch and step, of its noise,
        which is equal in every process."""
        if self.config.method != "ogm_ge":
            optimizer.step()
            return
        assert self._sums is not None
        generator = None
        if self.config.noise > 0:
            seed, epoch, step = address
            generator = torch.Generator(self._sums.device)
            generator.manual_seed(int(rng(seed, epoch, "balance", step, 0).integers(2**63)))
        before = ogm_ge.copies(self.branches)
        optimizer.step()
        scales = ogm_ge.update_scales(self._sums, self.config.alpha)
        ogm_ge.scale_update(self.branches, before, scales, self.config.noise, generator)
        self._sums = None

    def epoch_done(
        self,
        epoch: int,
        loss: LossConfig,
        train: Sequence[float | None],
        val: Sequence[float | None],
    ) -> bool:
        """After epoch `epoch`, from 0: what g_blend makes of the losses of the heads; whether it
        has computed new weights. A loss is None where no clip has the modality."""
        if self.config.method != "g_blend" or None in (*train, *val):
            return False
        now = Measured(train=_three(train), val=_three(val))
        if self.measured is None:
            self.measured = now
            return False
        if (epoch + 1) % self.config.super_epoch:
            return False
        now_used = self.weighed(loss)
        used = (now_used.fused, now_used.video, now_used.audio)
        self.weights = g_blend.blend_weights(self.measured, now, used)
        self.measured = now
        return True

    def state(self) -> BalanceState:
        """What a checkpoint keeps; between updates there is nothing else."""
        measured = self.measured and (*self.measured.train, *self.measured.val)
        return BalanceState(
            scores=self.scores and tuple(self.scores), weights=self.weights, measured=measured,
            teachers=() if self.teachers is None else self.teachers.digests,
        )  # fmt: skip

    def restore(self, state: BalanceState | None) -> None:
        """Go on from `state`; None: an older version wrote the checkpoint."""
        if state is None:
            return
        if state.scores is not None:
            self.scores = Scores(*state.scores)
        if state.weights is not None:
            self.weights = _three(state.weights)
        if state.measured is not None:
            self.measured = Measured(train=_three(state.measured[:3]),
                                     val=_three(state.measured[3:]))  # fmt: skip


def _three(values: Sequence[float | None]) -> tuple[float, float, float]:
    first, second, third = values
    assert first is not None
    assert second is not None
    assert third is not None
    return first, second, third
