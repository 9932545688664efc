"""The guard of a fusion: what the fused head says, the modality heads say, or a pool of all three.

Its five numbers are fitted to clips that the network has not learned from
(`avmix.evaluation.guard_fit`). They are no parameters: training never sees them.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from avmix.types import Heads


class FusionGuard(nn.Module):
    """Fused logits as p_f l_f + p_v l_v + p_a l_a for clips with both modalities, and those of the
    modality head for clips with one; the logits of the modality heads are scaled by s_v and s_a.

    The pool is a logarithmic opinion pool (Genest and Zidek, Statistical Science 1986) of the three
    heads, the scales are inverse temperatures (Guo et al., ICML 2017). It holds each head alone:
    with p = (0, s_v, 0) the fused prediction is that of the video head, to the bit. Without any
    modality, all logits are zero. In training mode, and until `set`, logits stay as they are.
    """

    def __init__(self) -> None:
        """Logits stay as they are."""
        super().__init__()
        self.on: Tensor
        self.pool: Tensor
        self.scale: Tensor
        self.register_buffer("on", torch.tensor(False))
        self.register_buffer("pool", torch.tensor([1.0, 0.0, 0.0]))
        self.register_buffer("scale", torch.ones(2))

    def set(self, pool: Sequence[float], scale: Sequence[float]) -> None:
        """(p_f, p_v, p_a), each >= 0, and (s_v, s_a), each > 0; from now on they act."""
        self.pool.copy_(torch.tensor(pool))
        self.scale.copy_(torch.tensor(scale))
        self.on.fill_(True)

    def clear(self) -> None:
        """Logits stay as they are, from now on."""
        self.set((1.0, 0.0, 0.0), (1.0, 1.0))
        self.on.fill_(False)

    def forward(
        self, heads: Heads, has_video: Bool[Tensor, " b"], has_audio: Bool[Tensor, " b"]
    ) -> Heads:
        """Logits (b k) of each head, of those that the fusion gives. Computed in float32."""
        if self.training:
            return heads
        fused, video, audio = (logits.float() for logits in heads)
        sees, hears = has_video[:, None], has_audio[:, None]
        of_video, of_audio = self.scale[0] * video, self.scale[1] * audio
        one = torch.where(sees, of_video, torch.where(hears, of_audio, torch.zeros_like(fused)))
        found = Heads(
            fused=torch.where(sees & hears, self._pooled(fused, video, audio), one),
            video=of_video,
            audio=of_audio,
        )
        pairs = zip(found, heads, strict=True)
        return Heads(*(torch.where(self.on, new, old) for new, old in pairs))

    def _pooled(self, *heads: Float[Tensor, "b k"]) -> Float[Tensor, "b k"]:
        weighted = [weight * logits for weight, logits in zip(self.pool, heads, strict=True)]
        return weighted[0] + weighted[1] + weighted[2]
