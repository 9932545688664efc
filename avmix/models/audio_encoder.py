"""Audio encoder: a small 2-D convolutional network on log-mel spectrograms.

The pooling is that of Kong et al., "PANNs: large-scale pretrained audio neural networks" (2020):
mean over frequency, then maximum plus mean over time, so that a short event is not averaged away.
"""

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn

from avmix.models.encoder import AudioSpec, Encoder


class AudioEncoder(Encoder):
    """Small 2-D convolutional network: log-mel of any size to one feature vector."""

    def __init__(self, channels: Sequence[int], num_inputs: int = 1) -> None:
        """One stage per width; each halves mel bins and columns. A clip has `num_inputs`
        spectrograms."""
        super().__init__()
        widths = [num_inputs, *channels]
        self.stages = nn.ModuleList(_stage(widths[i], widths[i + 1]) for i in range(len(channels)))
        self.num_features = channels[-1]
        self.spec = AudioSpec(channels=num_inputs)

    def pool(self, x: Float[Tensor, "b d m f"]) -> Float[Tensor, "b d"]:
        """Maximum plus mean over time of the mean over frequency."""
        columns = x.mean(2)
        return columns.amax(2) + columns.mean(2)


def _stage(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
        nn.Conv2d(outputs, outputs, 3, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )
