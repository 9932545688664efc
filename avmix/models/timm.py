"""Encoders of timm: any of its image networks, on frames or on spectrograms.

Input size, mean and deviation are those of its `pretrained_cfg`.
"""

import difflib
import math
from functools import partial
from typing import Any

from torch import Tensor, nn

from avmix.config import AudioEncoderConfig, ClipConfig, FrontendConfig, VideoEncoderConfig
from avmix.models.encoder import Encoder, Positions
from avmix.models.image_encoders import FrameEncoder, ImageNetwork, spectrogram_encoder
from avmix.models.library_encoder import Cut, built, chain, colour, groups, imported


def video(name: str, config: VideoEncoderConfig, clip: ClipConfig) -> Encoder:
    """`timm:NAME` on frames."""
    which = f"model.video.encoder timm:{name}"
    image = image_network(name, config.options, 3, which)
    return FrameEncoder(image, config.pooling, clip.num_frames, which)


def audio(
    name: str, config: AudioEncoderConfig, clip: ClipConfig, frontend: FrontendConfig
) -> Encoder:
    """`timm:NAME` on spectrograms."""
    which = f"model.audio.encoder timm:{name}"
    channels = clip.audio_channels
    return spectrogram_encoder(image_network(name, config.options, channels, which), channels)


def pretrained(
    name: str, config: VideoEncoderConfig | AudioEncoderConfig, channels: int
) -> dict[str, Tensor]:
    """Weights that timm has for the network, adapted to its options; from its cache or the Hub."""
    timm = imported("timm", f"timm:{name}")
    options = {"num_classes": 0, "in_chans": channels, **config.options}
    return timm.create_model(name, pretrained=True, **options).state_dict()


def image_network(name: str, options: dict[str, Any], channels: int, which: str) -> ImageNetwork:
    """Network of that name without its classifier, for images of `channels` channels."""
    timm = imported("timm", which)
    if not timm.is_model(name):
        close = difflib.get_close_matches(name, timm.list_models(), n=4)
        raise ValueError(f"{which}: timm has no network {name!r}; close: {', '.join(close)}")
    net = built(
        partial(timm.create_model, name), which, options, pretrained=False, num_classes=0,
        in_chans=channels,
    )  # fmt: skip
    expects = net.pretrained_cfg
    size = None
    if expects.get("fixed_input_size") and not options.get("dynamic_img_size"):
        size = _size_of(net, options, expects)
    height, width = expects["input_size"][1:]
    published = (height, width) if size is None else None
    return ImageNetwork(net=net, cut=cut(net), size=size, published=published,
                        mean=colour(expects["mean"]), std=colour(expects["std"]))  # fmt: skip


def _size_of(net: Any, options: dict[str, Any], expects: dict[str, Any]) -> tuple[int, int]:
    size = getattr(getattr(net, "patch_embed", None), "img_size", None)
    size = size or options.get("img_size") or expects["input_size"][1:]
    return (size, size) if isinstance(size, int) else tuple(size)


def cut(net: Any) -> Cut:
    """timm's networks by family; one of another family, or of a class that only inherits from one
    of these, is not cut."""
    features = getattr(net, "head_hidden_size", None) or net.num_features
    stages, pool = _stages(net)
    return Cut(stages=stages, pool=pool, num_features=features, positions=_positions(net))


def _positions(net: Any) -> dict[str, Positions]:
    embedding = getattr(net, "pos_embed", None)
    sides = getattr(getattr(net, "patch_embed", None), "grid_size", None)
    if not isinstance(embedding, Tensor) or sides is None:
        return {}
    rows, columns = sides
    grid = (1, rows, columns)
    return {"pos_embed": Positions(grid=grid, first=embedding.shape[1] - math.prod(grid))}


def _stages(net: Any) -> tuple[list[Any], Any]:
    kind = type(net)
    match kind.__name__ if kind.__module__.startswith("timm.models.") else "":
        case "ResNet":
            stem = chain(net.conv1, net.bn1, net.act1, net.maxpool)
            return [stem, net.layer1, net.layer2, net.layer3, net.layer4], net.forward_head
        case "EfficientNet":
            last = chain(net.conv_head, net.bn2)
            return [chain(net.conv_stem, net.bn1), *net.blocks, last], net.forward_head
        case "MobileNetV3":
            return [chain(net.conv_stem, net.bn1), *net.blocks], net.forward_head
        case "ConvNeXt":
            return [net.stem, *net.stages], chain(net.norm_pre, net.forward_head)
        case "RegNet":
            last = chain(net.s4, net.final_conv)
            return [net.stem, net.s1, net.s2, net.s3, last], net.forward_head
        case "SwinTransformer":
            return [net.patch_embed, *net.layers], chain(net.norm, net.forward_head)
        case "VisionTransformer":
            first = chain(net.patch_embed, net._pos_embed, net.patch_drop, net.norm_pre)
            return [first, *groups(net.blocks)], chain(net.norm, net.forward_head)
        case "Eva" if _is_plain(net):
            # Of what `_pos_embed` returns, the rotation of positions is the same for all clips.
            first = chain(net.patch_embed, net._pos_embed, net.norm_pre)
            blocks = [partial(_rotated, net, block) for block in net.blocks]
            return [first, *groups(blocks)], chain(net.norm, net.forward_head)
    return [], net


def _is_plain(net: Any) -> bool:
    """An Eva whose rotation of positions depends on nothing but its size."""
    rope = net.rope is None or hasattr(net.rope, "feat_shape")
    mixed = getattr(net, "rope_mixed", False)
    return rope and not mixed and net.patch_drop is None and not net.dynamic_img_size


def _rotated(net: Any, block: nn.Module, x: Tensor) -> Tensor:
    return block(x, rope=net.rope.get_embed() if net.rope is not None else None)
