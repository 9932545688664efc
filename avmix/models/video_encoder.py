"""Video encoder: a small R(2+1)D network.

Tran et al., "A closer look at spatiotemporal convolutions for action recognition" (CVPR 2018):
every 3-D convolution is a spatial one followed by a temporal one.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from avmix.models.encoder import Encoder, VideoSpec


class VideoEncoder(Encoder):
    """Frames of any number and size to one feature vector."""

    def __init__(self, channels: Sequence[int]) -> None:
        """One stage per width. The first divides height and width by four, with kernels of 7x7
        pixels; each of the others halves them. The later half of the stages also halves time."""
        super().__init__()
        widths = [3, *channels]
        self.stages = nn.ModuleList(
            _Stage(
                widths[i],
                widths[i + 1],
                kernel=7 if i == 0 else 3,
                space_stride=4 if i == 0 else 2,
                time_stride=2 if i >= len(channels) / 2 else 1,
            )
            for i in range(len(channels))
        )
        self.num_features = channels[-1]
        self.spec = VideoSpec()

    def pool(self, x: Float[Tensor, "b d t h w"]) -> Float[Tensor, "b d"]:
        """Mean over time and space."""
        return x.mean((2, 3, 4))


class TimeConv(nn.Conv3d):
    """A convolution over time. On a CPU it is computed in float32, under autocast too.

    With bfloat16 and two time steps oneDNN leaves part of the gradient of the weights of a kernel
    of 3x1x1 uninitialised (torch 2.11, on processors without AMX): training then dies at its first
    step, or learns from what was in memory.
    """

    def forward(self, input: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b d u h w"]:
        """As `nn.Conv3d`."""
        if input.device.type != "cpu" or not torch.is_autocast_enabled("cpu"):
            return super().forward(input)
        with torch.autocast("cpu", enabled=False):
            return super().forward(input.float()).to(torch.get_autocast_dtype("cpu"))


class _Stage(nn.Module):
    """(2+1)D convolution that shrinks, then a residual (2+1)D convolution."""

    def __init__(
        self, inputs: int, outputs: int, *, kernel: int, space_stride: int, time_stride: int
    ) -> None:
        super().__init__()
        self.shrink = _conv2plus1d(inputs, outputs, kernel, space_stride, time_stride)
        self.refine = _conv2plus1d(outputs, outputs, 3, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        # In place, which batch normalisation allows (its backward needs its input only): on a CPU
        # the fresh pages of a new tensor cost more than the arithmetic.
        x = self.shrink(x).relu_()
        return self.refine(x).add_(x).relu_()


def _conv2plus1d(
    inputs: int, outputs: int, kernel: int, space_stride: int, time_stride: int
) -> nn.Sequential:
    # The width in the middle gives the pair as many weights as the 3x3x3 convolution it stands for;
    # the stem, whose kernel is wider, has the same width.
    middle = (27 * inputs * outputs) // (9 * inputs + 3 * outputs)
    space, time = (1, kernel, kernel), (3, 1, 1)
    return nn.Sequential(
        nn.Conv3d(
            inputs, middle, space, (1, space_stride, space_stride),
            (0, kernel // 2, kernel // 2), bias=False,
        ),
        nn.BatchNorm3d(middle),
        nn.ReLU(inplace=True),
        TimeConv(middle, outputs, time, (time_stride, 1, 1), (1, 0, 0), bias=False),
        nn.BatchNorm3d(outputs),
    )  # fmt: skip
