"""Transformers on patches of 16x16, in avmix because no library has them: EAT, SSLAM, CAV-MAE.

Chen et al., "EAT: self-supervised pre-training with efficient audio transformer" (IJCAI 2024); Alex
et al., "SSLAM: enhancing self-supervised models with audio mixtures for polyphonic soundscapes"
(ICLR 2025), which is the same network; Gong et al., "Contrastive audio-visual masked autoencoder"
(ICLR 2023). Written from the arithmetic of https://github.com/cwx-worst-one/EAT and
https://github.com/YuanGongND/cav-mae; names of their files: `avmix.models.published_names`.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torchvision.ops import stochastic_depth

from avmix.models.encoder import Positions
from avmix.models.library_encoder import Cut, groups

PATCH = 16
"""Rows and columns of a patch."""


def sines(width: int, rows: int, columns: int) -> Float[Tensor, "1 n d"]:
    """Fixed embedding of the patches of a grid, row after row: sine and cosine of the column in the
    first half of `width`, of the row in the second, at frequencies of 1 to 1/10000 (He et al.,
    2022)."""
    frequencies = 10_000.0 ** -(torch.arange(width // 4, dtype=torch.float64) / (width // 4))

    def of(places: Tensor) -> Tensor:
        angles = places[:, None] * frequencies
        return torch.cat([angles.sin(), angles.cos()], 1)

    row, column = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    return torch.cat([of(column.flatten()), of(row.flatten())], 1).float()[None]


class _Attention(nn.Module):
    """Self-attention of several heads; query, key and value by one linear layer."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self._heads = heads

    def forward(self, x: Float[Tensor, "b n d"]) -> Float[Tensor, "b n d"]:
        """Of all tokens to all."""
        query, key, value = (
            self.qkv(x).unflatten(2, (3, self._heads, -1)).permute(2, 0, 3, 1, 4).unbind()
        )
        mixed = nn.functional.scaled_dot_product_attention(query, key, value)
        return self.proj(mixed.transpose(1, 2).flatten(2))


class _Mlp(nn.Module):
    """Two linear layers with GELU between, four times as wide inside."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Float[Tensor, "*n d"]) -> Float[Tensor, "*n d"]:
        """Of every token by itself."""
        return self.fc2(nn.functional.gelu(self.fc1(x)))


class _Block(nn.Module):
    """Attention and MLP, each added to what came in. Normalised is what goes into them, or, with
    `norm_last`, the sum."""

    def __init__(
        self, width: int, heads: int, *, eps: float, norm_last: bool, drop_path: float
    ) -> None:
        """`drop_path`: probability that a clip goes past attention or MLP in training."""
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width, eps), nn.LayerNorm(width, eps)
        self.attn, self.mlp = _Attention(width, heads), _Mlp(width)
        self._norm_last, self._drop_path = norm_last, drop_path

    def forward(self, x: Float[Tensor, "b n d"]) -> Float[Tensor, "b n d"]:
        """From tokens to tokens."""
        if self._norm_last:
            x = self.norm1(x + self._dropped(self.attn(x)))
            return self.norm2(x + self._dropped(self.mlp(x)))
        x = x + self._dropped(self.attn(self.norm1(x)))
        return x + self._dropped(self.mlp(self.norm2(x)))

    def _dropped(self, x: Tensor) -> Tensor:
        return stochastic_depth(x, self._drop_path, "row", self.training)


def check_sizes(width: int, depth: int, heads: int, drop_path_rate: float) -> None:
    """Raise ValueError for sizes that do not fit together."""
    if depth < 1 or heads < 1 or width < 4 or width % heads or width % 4:
        raise ValueError(
            f"width {width}, depth {depth} and heads {heads}: all are positive, and width is a "
            "multiple of heads and of 4"
        )
    if not 0 <= drop_path_rate < 1:
        raise ValueError(f"drop_path_rate must be in [0, 1), got {drop_path_rate}")


def _blocks(
    width: int, depth: int, heads: int, drop_path_rate: float, *, eps: float, norm_last: bool
) -> nn.ModuleList:
    """`depth` of them; the last drops its path at `drop_path_rate`, the first never."""
    return nn.ModuleList(
        _Block(width, heads, eps=eps, norm_last=norm_last,
              drop_path=drop_path_rate * i / max(depth - 1, 1))
        for i in range(depth)
    )  # fmt: skip


class Eat(nn.Module):
    """EAT and SSLAM: a spectrogram in patches, time before frequency; blocks normalise last. The
    feature is a token of its own."""

    positions: Tensor

    def __init__(
        self, grid: tuple[int, int], *, width: int = 768, depth: int = 12, heads: int = 0,
        drop_path_rate: float = 0.0,
    ) -> None:  # fmt: skip
        """`grid`: patches in time and frequency. `heads` 0: as many as make each 64 wide. Raises
        ValueError for sizes that do not fit together."""
        super().__init__()
        heads = heads or max(width // 64, 1)
        check_sizes(width, depth, heads, drop_path_rate)
        self.patches = nn.Conv2d(1, width, PATCH, PATCH)
        self.register_buffer("positions", sines(width, *grid))
        self.token = nn.Parameter(torch.randn(1, 1, width))
        self.first_norm = nn.LayerNorm(width, 1e-6)
        self.blocks = _blocks(width, depth, heads, drop_path_rate, eps=1e-6, norm_last=True)
        self.head_norm = nn.LayerNorm(width, 1e-6)
        self._grid, self.width = grid, width

    def embed(self, x: Float[Tensor, "b 1 m f"]) -> Float[Tensor, "b n d"]:
        """Tokens of the patches behind that of the clip."""
        x = self.patches(x.transpose(2, 3)).flatten(2).transpose(1, 2) + self.positions
        return self.first_norm(torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1))

    def feature(self, x: Float[Tensor, "b n d"]) -> Float[Tensor, "b d"]:
        """The token of the clip, normalised, as in the authors' fine-tuning."""
        return self.head_norm(x[:, 0])

    def cut(self) -> Cut:
        """The embedding and four groups of blocks. Positions are counted from the start of the
        clip: a longer one has more of them."""
        at = Positions(grid=(*self._grid, 1), counted=True)
        return Cut(stages=[self.embed, *groups(self.blocks)], pool=self.feature,
                   num_features=self.width, positions={"positions": at})  # fmt: skip


class CavMae(nn.Module):
    """One branch of CAV-MAE, for spectrograms or frames: its own blocks, then the joint ones with
    the norms of this modality, as its authors train and evaluate one modality alone."""

    def __init__(
        self, channels: int, grid: tuple[int, int], *, width: int = 768, depth: int = 11,
        joint_depth: int = 1, heads: int = 0, drop_path_rate: float = 0.0,
    ) -> None:  # fmt: skip
        """`channels` of the images, `grid` of patches (rows, columns); `depth`: blocks of the
        modality, before `joint_depth` joint ones. `heads` 0: as many as make each 64 wide. Raises
        ValueError for sizes that do not fit together."""
        super().__init__()
        heads = heads or max(width // 64, 1)
        check_sizes(width, depth, heads, drop_path_rate)
        if joint_depth < 0:
            raise ValueError(f"joint_depth must be >= 0, got {joint_depth}")
        self.patches = nn.Conv2d(channels, width, PATCH, PATCH)
        self.positions = nn.Parameter(sines(width, *grid))
        self.modality = nn.Parameter(0.02 * torch.randn(1, 1, width))
        every = _blocks(width, depth + joint_depth, heads, drop_path_rate, eps=1e-5,
                       norm_last=False)  # fmt: skip
        self.blocks, self.joint = every[:depth], every[depth:]
        self.last_norm = nn.LayerNorm(width)
        self.head_norm = nn.LayerNorm(width)
        self._grid, self.width = grid, width

    def embed(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b n d"]:
        """Tokens of the patches, row after row."""
        x = self.patches(x).flatten(2).transpose(1, 2)
        return x + self.positions + self.modality

    def feature(self, x: Float[Tensor, "b n d"]) -> Float[Tensor, "b d"]:
        """Mean over tokens, normalised as before the authors' classifier."""
        return self.head_norm(self.last_norm(x).mean(1))

    def cut(self) -> Cut:
        """The embedding and four groups of blocks."""
        every: Sequence[nn.Module] = [*self.blocks, *self.joint]
        return Cut(stages=[self.embed, *groups(every)], pool=self.feature,
                   num_features=self.width,
                   positions={"positions": Positions(grid=(1, *self._grid))})  # fmt: skip
