"""Image networks as encoders: applied to each frame and pooled over time, or to a spectrogram.

Wang et al., "Temporal segment networks" (ECCV 2016): an image network sees every frame by itself,
and its features are averaged. With `tsm`, Lin et al., "TSM: temporal shift module" (ICCV 2019), an
eighth of the channels of every residual block comes from the frame before and another from the one
after, at no cost.
"""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from avmix.config import Pooling
from avmix.models.encoder import AudioSpec, Colour, Encoder, Stage, VideoSpec
from avmix.models.library_encoder import Cut, LibraryEncoder


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageNetwork:
    """A network that maps images (n c h w) to features (n d), and the input it expects."""

    net: nn.Module
    cut: Cut
    size: tuple[int, int] | None = None
    """Height and width that it must be given; None: any."""
    published: tuple[int, int] | None = None
    """The same of the library's weights, where it takes others, too."""
    mean: Colour | None = None
    std: Colour | None = None
    """Deviation of pixels in [0, 1], as in `VideoSpec`."""


class FrameEncoder(Encoder):
    """Image network applied to each frame; its features are pooled over the frames."""

    def __init__(self, image: ImageNetwork, pooling: Pooling, num_frames: int, which: str) -> None:
        """`num_frames` of a clip. Raises ValueError where the network has no residual blocks that
        `tsm` could shift, or wants images that are not square."""
        super().__init__()
        height, width = image.size or (None, None)
        if height != width:
            raise ValueError(f"{which} wants images of {height}x{width} pixels; frames are square")
        self.net, cut = image.net, image.cut
        self.published_size = image.published
        self.positions = cut.positions
        self.stages = [_PerFrame(s, first=i == 0) for i, s in enumerate(cut.stages)]
        self._features = _PerFrame(cut.pool, first=not cut.stages)
        self._pooling: Pooling = pooling
        self.num_features = cut.num_features * (2 if pooling == "mean+max" else 1)
        if pooling == "attention":
            self.score = nn.Linear(cut.num_features, 1)
        if pooling == "tsm" and not _shift_blocks(self.net, num_frames):
            raise ValueError(
                f"model.video.pooling tsm shifts residual blocks, and {which} has none that are "
                "known (of ResNets, MobileNets and EfficientNets)"
            )
        self.spec = VideoSpec(size=height, mean=image.mean, std=image.std,
                              num_frames=num_frames if pooling == "tsm" else None)  # fmt: skip

    def pool(self, x: Any) -> Float[Tensor, "b d"]:
        """Mean or maximum of the frames' features, both, or their mean weighted by a softmax over
        frames of a learned score."""
        frames = self._features(x)
        match self._pooling:
            case "mean" | "tsm":
                return frames.mean(1)
            case "max":
                return frames.amax(1)
            case "mean+max":
                return torch.cat([frames.mean(1), frames.amax(1)], 1)
            case "attention":
                return (frames * self.score(frames).softmax(1)).sum(1)

    @property
    def network(self) -> nn.Module:
        """The image network."""
        return self.net


def spectrogram_encoder(image: ImageNetwork, channels: int) -> LibraryEncoder:
    """Image network on spectrograms of `channels` channels: mel bins are rows, spectrogram columns
    are columns."""
    mels, columns = image.size or (None, None)
    spec = AudioSpec(channels=channels, num_mels=mels, num_columns=columns)
    return LibraryEncoder(image.net, image.cut, spec)


@dataclass(frozen=True, slots=True)
class _PerFrame:
    """What an image network does, done to each frame of clips (b t ...); `first`: to frames as they
    come, (b c t h w)."""

    stage: Stage
    first: bool

    def __call__(self, x: Tensor) -> Tensor:
        x = x.transpose(1, 2) if self.first else x
        return self.stage(x.flatten(0, 1)).unflatten(0, x.shape[:2])


@dataclass(frozen=True, slots=True)
class _Shift:
    """Before a module: its input, frames (b * t c h w), shifted in time."""

    num_frames: int

    def __call__(self, module: nn.Module, given: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (temporal_shift(given[0], self.num_frames), *given[1:])


def temporal_shift(x: Float[Tensor, "n c h w"], num_frames: int) -> Float[Tensor, "n c h w"]:
    """Shift the first eighth of the channels by one frame from the next frame, the second from the
    previous one; zeros at the ends."""
    clips, fold = x.unflatten(0, (-1, num_frames)), x.shape[1] // 8
    shifted = clips.clone()
    shifted[:, :-1, :fold] = clips[:, 1:, :fold]
    shifted[:, -1, :fold] = 0
    shifted[:, 1:, fold : 2 * fold] = clips[:, :-1, fold : 2 * fold]
    shifted[:, 0, fold : 2 * fold] = 0
    return shifted.flatten(0, 1)


def _shift_blocks(net: nn.Module, num_frames: int) -> int:
    """Let the first convolution of every residual branch see shifted frames; how many there are."""
    count = 0
    for block in net.modules():
        match type(block).__name__:
            case "BasicBlock" | "Bottleneck":
                first = getattr(block, "conv1", None)
            case "InvertedResidual" | "UniversalInvertedResidual":
                # Where nothing goes past the branch, as in the original.
                past = getattr(block, "has_skip", getattr(block, "use_res_connect", False))
                first = getattr(block, "conv_pw", None) or _expansion(block)
                first = first if past else None
            case _:
                first = None
        if isinstance(first, nn.Module):
            first.register_forward_pre_hook(_Shift(num_frames))
            count += 1
    return count


def _expansion(block: nn.Module) -> nn.Module | None:
    """The 1x1 convolution with which torchvision's inverted residual begins."""
    inside = getattr(block, "conv", getattr(block, "block", None))
    return inside[0] if isinstance(inside, nn.Sequential) and len(inside) > 2 else None
