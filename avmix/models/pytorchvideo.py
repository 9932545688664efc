"""Encoders of pytorchvideo: Slow, SlowFast, X3D, CSN, C2D, I3D, R(2+1)D, and its acoustic ResNet.

They are built by its own functions, which the options are passed on to. Frames are normalised with
a mean of 0.45 and a deviation of 0.225, as all of its weights want. The averaging in its heads has
a kernel: fewer frames or pixels than that are an error when the encoder is built.
"""

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from avmix.config import AudioEncoderConfig, ClipConfig, FrontendConfig, VideoEncoderConfig
from avmix.models.encoder import AudioSpec, Colour, Encoder, VideoSpec
from avmix.models.library_encoder import Cut, LibraryEncoder, built, chain, imported, without_head

VIDEO = ("slow_r50", "c2d_r50", "i3d_r50", "r2plus1d_r50", "csn_r101", "slowfast_r50",
         "slowfast_r101", "slowfast_16x8_r101_50_50", "x3d_xs", "x3d_s", "x3d_m",
         "x3d_l")  # fmt: skip
"""Functions of `pytorchvideo.models.hub`."""
_ADDRESSES = ("resnet", "slowfast", "x3d", "csn", "r2plus1d")
"""Modules of `pytorchvideo.models.hub` that say where its weights are."""
AUDIO = {"acoustic_resnet50": 50, "acoustic_resnet101": 101}
"""Depth of each."""
PIXEL_MEAN: Colour = (0.45, 0.45, 0.45)
PIXEL_STD: Colour = (0.225, 0.225, 0.225)
SLOWER = 4
"""The fast pathway of SlowFast sees so many times more frames than the slow one."""


def video(name: str, config: VideoEncoderConfig, clip: ClipConfig) -> Encoder:
    """`pytorchvideo:NAME` of `VIDEO`."""
    which = f"model.video.encoder pytorchvideo:{name}"
    if name not in VIDEO:
        raise ValueError(f"{which}: there are {', '.join(VIDEO)}")
    hub = imported("pytorchvideo.models.hub", which)
    net = built(getattr(hub, name), which, config.options, pretrained=False)
    spec = VideoSpec(mean=PIXEL_MEAN, std=PIXEL_STD)
    return LibraryEncoder(net, cut(net, which), spec)


def audio(
    name: str, config: AudioEncoderConfig, clip: ClipConfig, frontend: FrontendConfig
) -> Encoder:
    """`pytorchvideo:NAME` of `AUDIO`: spectrograms as (b channels columns 1 mels)."""
    which = f"model.audio.encoder pytorchvideo:{name}"
    if name not in AUDIO:
        raise ValueError(f"{which}: there are {', '.join(AUDIO)}")
    resnet = imported("pytorchvideo.models.resnet", which)
    net = built(resnet.create_acoustic_resnet, which, config.options, model_depth=AUDIO[name],
                input_channel=clip.audio_channels)  # fmt: skip
    return LibraryEncoder(net, cut(net, which), AudioSpec(channels=clip.audio_channels))


def pretrained(
    name: str, config: VideoEncoderConfig | AudioEncoderConfig, channels: int
) -> dict[str, Tensor]:
    """Weights for Kinetics-400, from the cache of torch or its server."""
    for module in _ADDRESSES:
        paths = imported(f"pytorchvideo.models.hub.{module}", name).checkpoint_paths
        if name in VIDEO and name in paths:
            found = torch.hub.load_state_dict_from_url(
                paths[name], map_location="cpu", weights_only=True
            )
            return found["model_state"]
    raise ValueError(f"pytorchvideo has no weights for {name}")


def cut(net: Any, which: str) -> Cut:
    """Its networks are lists of blocks, the last of which is the head, whose classifier is taken
    away."""
    *blocks, head = net.blocks
    # After the classifier, a softmax would follow in evaluation.
    num_features = without_head(head, which, "proj")
    head.activation = None
    first, *others = blocks
    if type(first).__name__ == "MultiPathWayWithFuse":
        *others, concat = others
        last = chain(concat, head)
        return Cut(stages=[partial(_two_pathways, first), *map(_keeps, others)], pool=last,
                   num_features=num_features)  # fmt: skip
    before = _as_volume if _is_acoustic(net) else _as_it_is
    return Cut(stages=[chain(before, first), *others], pool=head, num_features=num_features)


def _is_acoustic(net: Any) -> bool:
    """Its first convolution has but one row: spectrograms are lines."""
    first = next(m for m in net.modules() if isinstance(m, nn.Conv3d))
    return first.kernel_size[1] == 1 and first.in_channels != 3


def _as_it_is(x: Tensor) -> Tensor:
    return x


def _as_volume(x: Tensor) -> Tensor:
    """(b channels m f) to (b channels f 1 m)."""
    return x.transpose(2, 3).unsqueeze(3)


def _two_pathways(block: nn.Module, frames: Tensor) -> list[Tensor]:
    """The first block of SlowFast, of every fourth frame, evenly spaced from first to last, and of
    all."""
    num = frames.shape[2]
    places = torch.linspace(0, num - 1, num // SLOWER, device=frames.device).long()
    return block([frames.index_select(2, places), frames])


def _keeps(block: nn.Module) -> Any:
    """A block of several pathways, which would write its output into the list that it is given."""
    return partial(_run_copy, block)


def _run_copy(block: nn.Module, x: list[Tensor]) -> list[Tensor]:
    return block(list(x))
