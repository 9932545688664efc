"""Modality translation: what stands in place of a missing feature is predicted from the other one.

Predictors from one modality to another for clips that lack one are those of Ma et al., "SMIL:
multimodal learning with severely missing modality" (AAAI 2021), and of many others; this one is the
plainest: a network of one hidden layer in each direction, on normalised features.
"""

from jaxtyping import Bool, Float
from torch import Tensor, nn

MOST_HIDDEN = 512
"""Width of the hidden layer, at most; else of the wider feature."""


class Translation(nn.Module):
    """Predicts the normalised feature of each modality from that of the other.

    At first it predicts zeros, the mean of normalised features.
    """

    def __init__(self, num_video: int, num_audio: int) -> None:
        """Widths of both features."""
        super().__init__()
        hidden = min(max(num_video, num_audio), MOST_HIDDEN)
        self.to_video = _predictor(num_audio, hidden, num_video)
        self.to_audio = _predictor(num_video, hidden, num_audio)

    def forward(
        self, video: Float[Tensor, "b dv"], audio: Float[Tensor, "b da"]
    ) -> tuple[Float[Tensor, "b dv"], Float[Tensor, "b da"]]:
        """Video features predicted from `audio`, audio features predicted from `video`."""
        return self.to_video(audio), self.to_audio(video)

    def loss(
        self,
        video: Float[Tensor, "b dv"],
        audio: Float[Tensor, "b da"],
        both: Bool[Tensor, " b"],
    ) -> Float[Tensor, ""]:
        """Mean squared error of both predictions, over features and over the clips that have
        `both` modalities; half of their sum, float32; 0 where no clip has.

        Only the predictors learn of it: no gradient reaches the features, neither those that are
        predicted nor those that it is predicted from.
        """
        video, audio = video.detach(), audio.detach()
        found = zip(self(video, audio), (video, audio), strict=True)
        errors = [(said.float() - true.float()).square().mean(1) for said, true in found]
        mean = (errors[0] + errors[1]) / 2
        return mean.masked_fill(~both, 0).sum() / both.sum().clamp(min=1)


def _predictor(num_from: int, hidden: int, num_to: int) -> nn.Sequential:
    last = nn.Linear(hidden, num_to)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return nn.Sequential(nn.Linear(num_from, hidden), nn.GELU(), last)
