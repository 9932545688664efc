"""Encoders of torchvision: its video networks, and its image networks on frames or spectrograms.

Mean and deviation are those of the transforms of its weights; the video networks but MViT take any
number and size of frames that their strides allow.
"""

from functools import partial
from typing import Any

import torch
import torchvision
from torch import Tensor, nn

from avmix.config import AudioEncoderConfig, ClipConfig, FrontendConfig, VideoEncoderConfig
from avmix.models.encoder import Colour, Encoder, VideoSpec
from avmix.models.image_encoders import FrameEncoder, ImageNetwork, spectrogram_encoder
from avmix.models.library_encoder import Cut, LibraryEncoder, built, chain, colour, without_head

_HEADS = ("fc", "classifier", "head", "heads")


def video(name: str, config: VideoEncoderConfig, clip: ClipConfig) -> Encoder:
    """`torchvision:NAME`, a network for video, or one for images on frames."""
    which = f"model.video.encoder torchvision:{name}"
    if name not in torchvision.models.list_models(module=torchvision.models.video):
        image = image_network(name, config.options, 3, which)
        return FrameEncoder(image, config.pooling, clip.num_frames, which)
    if config.pooling != "mean":
        raise ValueError(
            f"model.video.pooling is of image networks; {which} is a network for video, which has "
            f"its own, got {config.pooling!r}"
        )
    net = _network(name, config.options, which)
    mean, std = _pixels(name)
    cut, num_frames, size = video_cut(net, which)
    spec = VideoSpec(num_frames=num_frames, size=size, mean=mean, std=std)
    encoder = LibraryEncoder(net, cut, spec)
    encoder.published_size = _published(name) if size is None else None
    return encoder


def audio(
    name: str, config: AudioEncoderConfig, clip: ClipConfig, frontend: FrontendConfig
) -> Encoder:
    """`torchvision:NAME`, a network for images, on spectrograms."""
    which = f"model.audio.encoder torchvision:{name}"
    if name in torchvision.models.list_models(module=torchvision.models.video):
        raise ValueError(f"{which} is a network for video; spectrograms are images")
    channels = clip.audio_channels
    return spectrogram_encoder(image_network(name, config.options, channels, which), channels)


def pretrained(
    name: str, config: VideoEncoderConfig | AudioEncoderConfig, channels: int
) -> dict[str, Tensor]:
    """torchvision's default weights for the network; from the cache of torch or from its server."""
    weights = torchvision.models.get_model_weights(name)["DEFAULT"]
    return weights.get_state_dict(map_location="cpu", check_hash=True, weights_only=True)


def image_network(name: str, options: dict[str, Any], channels: int, which: str) -> ImageNetwork:
    """Network of that name without its classifier, for images of `channels` channels."""
    net = _network(name, options, which)
    if channels != 3:
        _widen(net, channels)
    mean, std = _pixels(name)
    size = _size_of(net)
    published = _published(name) if size is None else None
    return ImageNetwork(net=net, cut=image_cut(net, which), size=size, published=published,
                        mean=mean, std=std)  # fmt: skip


def _network(name: str, options: dict[str, Any], which: str) -> nn.Module:
    modules = (torchvision.models, torchvision.models.video)
    known = [word for module in modules for word in torchvision.models.list_models(module=module)]
    if name not in known:
        raise ValueError(f"{which}: torchvision has no such network: {', '.join(known)}")
    return built(partial(torchvision.models.get_model, name), which, options, weights=None)


def _pixels(name: str) -> tuple[Colour, Colour]:
    """Mean and deviation of the transforms of its weights."""
    transforms = torchvision.models.get_model_weights(name)["DEFAULT"].transforms()
    return colour(transforms.mean), colour(transforms.std)


def _published(name: str) -> tuple[int, int]:
    """Height and width of the crop of the transforms of its weights."""
    crop = torchvision.models.get_model_weights(name)["DEFAULT"].transforms().crop_size
    return crop[0], crop[-1]


def _size_of(net: Any) -> tuple[int, int] | None:
    """Input size of a network with an embedding for every position."""
    return (net.image_size, net.image_size) if type(net).__name__ == "VisionTransformer" else None


def _widen(net: nn.Module, channels: int) -> None:
    """Replace the first convolution by one of `channels` input channels."""
    path, first = next((p, m) for p, m in net.named_modules() if isinstance(m, nn.Conv2d))
    size: Any = first.kernel_size
    wide = nn.Conv2d(
        channels, first.out_channels, size, first.stride, first.padding,  # pyright: ignore
        first.dilation, first.groups, first.bias is not None,  # pyright: ignore
    )  # fmt: skip
    net.set_submodule(path, wide)


def image_cut(net: Any, which: str) -> Cut:
    """torchvision's image networks by family; those of another are not cut. Takes the classifier
    away."""
    num_features = without_head(net, which, *_HEADS)
    flat = partial(torch.flatten, start_dim=1)
    stages, pool = [], net
    match type(net).__name__:
        case "ResNet":
            stem = chain(net.conv1, net.bn1, net.relu, net.maxpool)
            stages = [stem, net.layer1, net.layer2, net.layer3, net.layer4]
            pool = chain(net.avgpool, flat, net.fc)
        case "EfficientNet" | "MobileNetV3":
            stages, pool = list(net.features), chain(net.avgpool, flat, net.classifier)
        case "ConvNeXt":
            stages, pool = list(net.features), chain(net.avgpool, net.classifier)
    return Cut(stages=stages, pool=pool, num_features=num_features)


def video_cut(net: Any, which: str) -> tuple[Cut, int | None, int | None]:
    """torchvision's video networks, all of which are cut; and the number and size of frames that
    they must be given. Takes the classifier away."""
    flat = partial(torch.flatten, start_dim=1)
    num_frames = size = None
    match type(net).__name__:
        case "VideoResNet":
            num_features = without_head(net, which, "fc")
            stages = [net.stem, net.layer1, net.layer2, net.layer3, net.layer4]
            pool = chain(net.avgpool, flat, net.fc)
        case "S3D":
            # The classifier is a convolution, which an average commutes with.
            num_features = net.classifier[1].in_channels
            net.classifier = nn.Identity()
            parts = list(net.features)
            stages = [chain(*parts[a:b]) for a, b in ((0, 1), (1, 4), (4, 7), (7, 13), (13, 16))]
            pool = chain(net.avgpool, partial(torch.mean, dim=(2, 3, 4)))
        case "MViT":
            num_features = without_head(net, which, "head")
            stages, (num_frames, size) = _mvit_stages(net)
            pool = chain(net.norm, _class_token, net.head)
        case "SwinTransformer3d":
            num_features = without_head(net, which, "head")
            parts = list(net.features)  # blocks, merging, blocks, merging ...
            later = [chain(*parts[i : i + 2]) for i in range(1, len(parts), 2)]
            stages = [chain(net.patch_embed, net.pos_drop, parts[0]), *later]
            pool = chain(net.norm, _channels_first, net.avgpool, flat, net.head)
        case other:
            raise ValueError(f"{which}: networks of class {other} are not known")
    return Cut(stages=stages, pool=pool, num_features=num_features), num_frames, size


def _class_token(x: Tensor) -> Tensor:
    return x[:, 0]


def _channels_first(x: Tensor) -> Tensor:
    return x.permute(0, 4, 1, 2, 3)


def _mvit_stages(net: Any) -> tuple[list[Any], tuple[int, int]]:
    """The embedding, then blocks between two of those that shrink; frames and pixels."""
    grid = (net.pos_encoding.temporal_size, *net.pos_encoding.spatial_size)
    frames, size = (n * s for n, s in zip(grid[:2], net.conv_proj.stride[:2], strict=True))
    stages: list[Any] = [partial(_mvit_embed, net)]
    some: list[Any] = []
    for block in net.blocks:
        if block.pool_skip is not None and some:
            stages.append(chain(*some))
            some = []
        some.append(partial(_mvit_block, block, grid))
        if block.pool_skip is not None:
            pool = block.pool_skip.pool
            grid = tuple(
                (n + 2 * p - k) // s + 1
                for n, k, s, p in zip(grid, pool.kernel_size, pool.stride, pool.padding,
                                      strict=True)
            )  # fmt: skip
    return [*stages, chain(*some)], (frames, size)


def _mvit_embed(net: Any, x: Tensor) -> Tensor:
    return net.pos_encoding(net.conv_proj(x).flatten(2).transpose(1, 2))


def _mvit_block(block: nn.Module, grid: tuple[int, int, int], x: Tensor) -> Tensor:
    return block(x, grid)[0]
