"""MBT: two vision transformers that exchange information through a few bottleneck tokens.

Nagrani et al., "Attention bottlenecks for multimodal fusion" (NeurIPS 2021). Up to the fusion layer
each tower attends over its own tokens; from there on also over the bottleneck tokens z, of which
each tower computes an update, and the mean of both updates is what the next layer gets:

    [x_m, z_m] = layer_m([x_m, z])   for m in video, audio;   z = (z_video + z_audio) / 2

A tower that a clip has nothing for takes no part in the mean. Names of weights in a tower are those
of a vision transformer of timm.
"""

from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import interpolate, scaled_dot_product_attention

from avmix.config import ClipConfig, FrontendConfig
from avmix.mix.clip_grid import input_shapes
from avmix.models.encoder import AudioSpec, Positions, VideoSpec
from avmix.models.hidden import Joint
from avmix.models.joint_encoder import JointEncoder, JointSpec, Widths
from avmix.models.library_encoder import built
from avmix.models.weights import with_channels

_GROUPS = 4
"""Stages of layers, at most, after that of the embeddings."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """Options of `avmix:mbt`; the defaults are ViT-B/16 and the published ones."""

    width: int = 768
    """Of a token."""
    depth: int = 12
    """Layers of each tower."""
    heads: int = 12
    """Of attention."""
    patch: int = 16
    """Side of a patch of a frame, pixels, and of the spectrogram, bins and columns."""
    num_bottlenecks: int = 4
    fusion_layer: int = 8
    """Layers of each tower before the first one with bottleneck tokens."""

    def __post_init__(self) -> None:
        """Raises ValueError where there is no such network."""
        for name in ("width", "depth", "heads", "patch", "num_bottlenecks"):
            if type(value := getattr(self, name)) is not int or value < 1:
                raise ValueError(f"{name} must be a whole number >= 1, got {value!r}")
        if self.width % self.heads:
            raise ValueError(f"width {self.width} must be a multiple of heads {self.heads}")
        if type(self.fusion_layer) is not int or not 0 <= self.fusion_layer < self.depth:
            raise ValueError(
                f"fusion_layer must be in [0, depth (={self.depth})), got {self.fusion_layer!r}"
            )


def build(
    options: dict[str, Any], clip: ClipConfig, frontend: FrontendConfig, which: str
) -> "BottleneckTransformer":
    """`avmix:mbt` with these options. Raises ValueError, naming the encoder, for options that are
    none, and for frames or spectrograms that have no whole patch."""
    sizes = built(Sizes, which, options)
    _, frames, height, width = input_shapes(clip, frontend)["video"]
    if frontend.kind == "waveform":
        raise ValueError(f"{which} takes spectrograms, frontend.kind gives waveform")
    channels, mels, columns = input_shapes(clip, frontend)["audio"]
    side = sizes.patch
    if height % side or min(mels, columns) < side:
        raise ValueError(
            f"{which}: patches of {side} do not fit: frames are of {height} pixels (clip.crop, a "
            f"multiple is needed), spectrograms of {mels} mel bins and {columns} columns"
        )
    return BottleneckTransformer(
        sizes, (frames, height // side, width // side), (mels // side, columns // side), channels
    )


class Attention(nn.Module):
    """Self-attention of several heads."""

    def __init__(self, width: int, heads: int) -> None:
        """Names as timm's."""
        super().__init__()
        self.qkv, self.proj, self.heads = (
            nn.Linear(width, 3 * width),
            nn.Linear(width, width),
            heads,
        )

    def forward(self, x: Float[Tensor, "b n d"]) -> Float[Tensor, "b n d"]:
        """softmax(q k / sqrt(d / heads)) v, then a linear layer."""
        qkv = self.qkv(x).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        found = scaled_dot_product_attention(qkv[0], qkv[1], qkv[2])
        return self.proj(found.transpose(1, 2).flatten(2))


class Mlp(nn.Module):
    """Two linear layers, the inner one four times as wide."""

    def __init__(self, width: int) -> None:
        """Names as timm's."""
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Float[Tensor, "b n d"]) -> Float[Tensor, "b n d"]:
        """With GELU between."""
        return self.fc2(nn.functional.gelu(self.fc1(x)))


class Layer(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x)): Dosovitskiy et al., ICLR 2021."""

    def __init__(self, width: int, heads: int) -> None:
        """Names as timm's."""
        super().__init__()
        self.norm1, self.attn = nn.LayerNorm(width, eps=1e-6), Attention(width, heads)
        self.norm2, self.mlp = nn.LayerNorm(width, eps=1e-6), Mlp(width)

    def forward(self, x: Float[Tensor, "b n d"]) -> Float[Tensor, "b n d"]:
        """As above."""
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class Patches(nn.Module):
    """Patches of images to tokens."""

    def __init__(self, channels: int, sizes: Sizes) -> None:
        """Names as timm's."""
        super().__init__()
        self.proj = nn.Conv2d(channels, sizes.width, sizes.patch, sizes.patch)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b n d"]:
        """Row by row; what is left of a patch at the end is not looked at."""
        return self.proj(x).flatten(2).transpose(1, 2)


class Tower(nn.Module):
    """A vision transformer."""

    def __init__(self, channels: int, num_tokens: int, sizes: Sizes) -> None:
        """Random weights as of timm: deviation 0.02, at most 0.04, biases 0."""
        super().__init__()
        self.patch_embed = Patches(channels, sizes)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, sizes.width))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + num_tokens, sizes.width))
        self.blocks = nn.ModuleList(Layer(sizes.width, sizes.heads) for _ in range(sizes.depth))
        self.norm = nn.LayerNorm(sizes.width, eps=1e-6)
        nn.init.normal_(self.cls_token, std=1e-6)
        nn.init.trunc_normal_(self.pos_embed, std=0.02, a=-0.04, b=0.04)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02, a=-0.04, b=0.04)
                nn.init.zeros_(module.bias)

    def tokens(self, images: Float[Tensor, "b t c h w"]) -> Float[Tensor, "b n d"]:
        """A token for the whole, and one for each patch, with their positions."""
        patches = self.patch_embed(images.flatten(0, 1)).unflatten(0, images.shape[:2])
        first = self.cls_token.expand(images.shape[0], -1, -1)
        return torch.cat([first, patches.flatten(1, 2)], 1) + self.pos_embed


class BottleneckTransformer(JointEncoder):
    """Frames and spectrograms to the first token of each tower.

    Stages: embeddings, then groups of layers. From the fusion layer on, each modality has tokens
    and its own update of the bottleneck tokens, whose mean the next layer takes: clips that are
    mixed between stages are mixed in both.
    """

    def __init__(
        self, sizes: Sizes, video: tuple[int, int, int], audio: tuple[int, int], channels: int
    ) -> None:
        """`video`: frames, and rows and columns of patches of each; `audio`: rows and columns of
        patches of a spectrogram of so many `channels`."""
        super().__init__()
        self.video = Tower(3, video[0] * video[1] * video[2], sizes)
        self.audio = Tower(channels, audio[0] * audio[1], sizes)
        self.bottlenecks = nn.Parameter(torch.empty(1, sizes.num_bottlenecks, sizes.width))
        nn.init.trunc_normal_(self.bottlenecks, std=0.02, a=-0.04, b=0.04)
        self.sizes, self.channels = sizes, channels
        count = min(_GROUPS, sizes.depth)
        ends = [round(sizes.depth * i / count) for i in range(count + 1)]
        layers = [partial(self._layers, range(a, b)) for a, b in pairwise(ends)]
        self.stages = [self._embed, *layers]
        self.num_features = Widths(sizes.width, sizes.width)
        self.spec = JointSpec(video=VideoSpec(), audio=AudioSpec(channels=channels))
        self._audio_grid = audio
        self.positions = {
            "video.pos_embed": Positions(grid=video, first=1),
            "audio.pos_embed": Positions(grid=(1, *audio), first=1),
        }

    def _embed(self, x: Joint) -> Joint:
        video = self.video.tokens(x.video.transpose(1, 2))
        return x._replace(video=video, audio=self.audio.tokens(x.audio.unsqueeze(1)))

    def _layers(self, numbers: range, x: Joint) -> Joint:
        video, audio = x.video, x.audio
        for number in numbers:
            of_video, of_audio = self.video.blocks[number], self.audio.blocks[number]
            if number < self.sizes.fusion_layer:
                video, audio = of_video(video), of_audio(audio)
                continue
            if number == self.sizes.fusion_layer:
                shared = self.bottlenecks.expand(x.has_video.shape[0], -1, -1)
                video, audio = [video, shared], [audio, shared]
            shared = _mean(video[1], audio[1], x.has_video, x.has_audio)
            video, audio = _with(of_video, video[0], shared), _with(of_audio, audio[0], shared)
        return x._replace(video=video, audio=audio)

    def pool(self, x: Joint) -> Joint:
        """The first token of each tower, normalised."""
        return x._replace(
            video=self.video.norm(x.video[0])[:, 0], audio=self.audio.norm(x.audio[0])[:, 0]
        )

    def of_file(self, found: dict[str, Tensor]) -> dict[str, Tensor]:
        """Those of a single vision transformer are for both towers: positions of a square of
        patches are interpolated to those of the spectrogram, and its convolution takes the sum over
        colours."""
        marks = [name for name in found if name.endswith("patch_embed.proj.weight")]
        if len(marks) != 1:
            return found
        start = marks[0].removesuffix("patch_embed.proj.weight")
        single = {name.removeprefix(start): value for name, value in found.items()}
        audio = dict(single)
        stem = single["patch_embed.proj.weight"]
        audio["patch_embed.proj.weight"] = with_channels(stem, self.channels)
        if (at := single.get("pos_embed")) is not None:
            audio["pos_embed"] = _on_grid(at, self._audio_grid)
        return {
            f"{tower}.{name}": value
            for tower, values in (("video", single), ("audio", audio))
            for name, value in values.items()
        }


def _with(
    layer: nn.Module, tokens: Float[Tensor, "b n d"], shared: Float[Tensor, "b z d"]
) -> list[Tensor]:
    """What a layer makes of tokens and bottleneck tokens."""
    together = layer(torch.cat([tokens, shared], 1))
    return [*together.split([tokens.shape[1], shared.shape[1]], 1)]


def _mean(video: Tensor, audio: Tensor, has_video: Tensor, has_audio: Tensor) -> Tensor:
    """Of the updates of the towers that the clip has something for; of both where it has
    nothing."""
    only_video, only_audio = has_video & ~has_audio, has_audio & ~has_video
    mean = (video + audio) / 2
    mean = torch.where(only_video[:, None, None], video, mean)
    return torch.where(only_audio[:, None, None], audio, mean)


def _on_grid(positions: Float[Tensor, "1 n d"], grid: tuple[int, int]) -> Tensor:
    """Positions of a first token and a square of patches, those of the square bicubically on
    another grid; as they are where there is no square."""
    side = round((positions.shape[1] - 1) ** 0.5)
    if positions.shape[1] != 1 + side * side:
        return positions
    square = positions[:, 1:].float().unflatten(1, (side, side)).permute(0, 3, 1, 2)
    square = interpolate(square, size=grid, mode="bicubic", antialias=True)
    return torch.cat([positions[:, :1], square.flatten(2).transpose(1, 2)], 1)
