"""What mixing knows of the clips and of the network: clips that are alike, modalities that are
ahead.

The second is a running mean that follows the steps; a checkpoint keeps it, so that a resumed run
mixes as an uninterrupted one.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Float
from torch import Tensor

from avmix.config import MixConfig
from avmix.config.mix_method import parse_mix_method
from avmix.label_sets import LabelSet
from avmix.mix import Clips
from avmix.mix.by_share import exponents
from avmix.mix.nearest import nearest_first
from avmix.models.set_softmax import softmax
from avmix.training.mix_sums import NOTHING
from avmix.training.runtime import Runtime
from avmix.types import Batch, Heads

DECAY = 0.95
"""Of the running sums, with each step: a step has lost half of its weight after 13.5 more."""


def learned_sums(
    logits: Heads,
    target: Heads,
    present: Heads,
    *,
    binary: bool = False,
    sets: Sequence[LabelSet] = (),
) -> Float[Tensor, "2 2"]:
    """Of the video and the audio head: the sum over clips of how much of their label the head
    knows, and the number of these clips; without gradient.

    Of a clip it is sum_k y_k p_k / sum_k y_k ** 2: the probability of its class, and of a mix a
    number that is 1 where p is its label. (The sum of y p alone is lower, the more a clip is mixed:
    a modality would be behind because it is mixed more.) Clips without the modality (not `present`)
    or without a positive label have none; unknown labels (nan) do not count.
    """
    found = []
    for name in ("video", "audio"):
        said = getattr(logits, name).detach().float()
        p = said.sigmoid() if binary else softmax(said, sets)
        y = getattr(target, name).nan_to_num(0.0)
        most = y.square().sum(1)
        counts = getattr(present, name) & (most > 0)
        each = (y * p).sum(1) / most.clamp(min=1e-12)
        found.append(torch.stack([each.masked_fill(~counts, 0).sum(), counts.sum().float()]))
    return torch.stack(found)


@dataclass(slots=True, kw_only=True)
class MixKnowledge:
    """Of one run; nothing is measured that its way of mixing does not ask for."""

    config: MixConfig
    sums: tuple[float, ...] = field(default=NOTHING)
    """Of video and audio: running sum of what is known, running number of clips."""

    @property
    def follows(self) -> bool:
        """Whether a method goes by what the modalities have learned."""
        return any(parse_mix_method(word).method == "by_share" for word in self.config.mix_methods)

    def clips(self, clips: Clips, batch: Batch) -> Clips:
        """`clips`, facts about `batch`, with those that are alike where the pairing asks."""
        if self.config.pairing != "nearest":
            return clips
        pairs = ((batch.video, batch.has_video), (batch.audio, batch.has_audio))
        near = nearest_first([(x.float().numpy(), has.numpy()) for x, has in pairs])
        return replace(clips, near=near)

    @property
    def exponents(self) -> dict[str, float]:
        """Of the method by_share."""
        known, clips = self.sums[0::2], self.sums[1::2]
        scores = [a / b if b > 0 else math.nan for a, b in zip(known, clips, strict=True)]
        return exponents(dict(zip(("video", "audio"), scores, strict=True)),
                         self.config.share_power)  # fmt: skip

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
        """Let the running sums follow a step, of all processes; the device is waited for."""
        if not self.follows:
            return
        found = runtime.mean(learned_sums(logits, target, present, binary=binary, sets=sets))
        now = found.double().flatten().tolist()
        self.sums = tuple(DECAY * old + new for old, new in zip(self.sums, now, strict=True))
