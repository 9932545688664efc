"""Late fusion of the features of both modalities, aware of what is missing."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from avmix.types import Heads


class ConcatFusion(nn.Module):
    """Concatenates both features; one linear head on them, and one on each feature alone.

    The feature of a missing modality is zeros, after its normalisation, whatever the encoder made
    of the empty input: a missing modality adds nothing but the bias of the head.
    """

    def __init__(self, num_video: int, num_audio: int, num_classes: int, dropout: float) -> None:
        """Widths of the two features, number of classes, dropout probability before each head."""
        super().__init__()
        self.norm_video = nn.LayerNorm(num_video)
        self.norm_audio = nn.LayerNorm(num_audio)
        self.dropout = nn.Dropout(dropout)
        self.fused = nn.Linear(num_video + num_audio, num_classes)
        self.video = nn.Linear(num_video, num_classes)
        self.audio = nn.Linear(num_audio, num_classes)

    def forward(
        self,
        video: Float[Tensor, "b dv"],
        audio: Float[Tensor, "b da"],
        has_video: Bool[Tensor, " b"],
        has_audio: Bool[Tensor, " b"],
    ) -> Heads:
        """Logits of each head."""
        video = self.norm_video(video).masked_fill(~has_video[:, None], 0)
        audio = self.norm_audio(audio).masked_fill(~has_audio[:, None], 0)
        video, audio = self.dropout(video), self.dropout(audio)
        return Heads(
            fused=self.fused(torch.cat([video, audio], 1)),
            video=self.video(video),
            audio=self.audio(audio),
        )
