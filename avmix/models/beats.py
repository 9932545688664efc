"""BEATs: a transformer on patches of 16x16 whose attention knows how far apart tokens are.

Chen et al., "BEATs: audio pre-training with acoustic tokenizers" (ICML 2023). Written from the
arithmetic of https://github.com/microsoft/unilm/tree/master/beats; the gated bias is of Chi et al.,
"XLM-E" (2022), the residual factor of Wang et al., "DeepNet" (2022). Names of its files:
`avmix.models.published_names`.
"""

import math
from functools import partial
from itertools import pairwise

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torchvision.ops import stochastic_depth

from avmix.models.library_encoder import Cut
from avmix.models.patch_transformers import PATCH, check_sizes

EMBEDDING = 512
"""Width of a patch before it becomes a token."""
BUCKETS, FARTHEST = 320, 800
"""Biases of distances between tokens; from `FARTHEST` on all have the same."""
KERNEL, GROUPS = 128, 16
"""Of the convolution over tokens that tells them their positions."""


def bucket_of(distance: Int[Tensor, "*n"]) -> Int[Tensor, "*n"]:
    """Number of the bias of a distance (key - query, tokens). Half of the buckets are for positive
    ones; of each half, half are for one distance each, the others for ranges that grow
    exponentially (Raffel et al., "T5", 2020)."""
    half, far = BUCKETS // 2, distance.abs()
    exact = half // 2
    ratio = torch.log(far.clamp(min=1).float() / exact) / math.log(FARTHEST / exact)
    coarse = (exact + (ratio * (half - exact)).long()).clamp(max=half - 1)
    return half * (distance > 0) + torch.where(far < exact, far, coarse)


class _GatedAttention(nn.Module):
    """Self-attention with a bias for the distance, which each query scales by a gate of its own."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.q_proj, self.k_proj = nn.Linear(width, width), nn.Linear(width, width)
        self.v_proj, self.out_proj = nn.Linear(width, width), nn.Linear(width, width)
        self.grep_linear = nn.Linear(width // heads, 8)
        self.grep_a = nn.Parameter(torch.ones(1, heads, 1, 1))
        self._heads = heads

    def forward(
        self, x: Float[Tensor, "b n d"], bias: Float[Tensor, "h n n"]
    ) -> Float[Tensor, "b n d"]:
        """`bias` of queries and keys."""
        query, key, value = (
            layer(x).unflatten(2, (self._heads, -1)).transpose(1, 2)
            for layer in (self.q_proj, self.k_proj, self.v_proj)
        )
        a, b = self.grep_linear(query).unflatten(3, (2, 4)).sum(4).sigmoid().chunk(2, 3)
        gate = a * (b * self.grep_a - 1) + 2
        mixed = nn.functional.scaled_dot_product_attention(query, key, value, gate * bias)
        return self.out_proj(mixed.transpose(1, 2).flatten(2))


class _Layer(nn.Module):
    """Attention and two linear layers, each added to `alpha` times what came in, then
    normalised."""

    def __init__(self, width: int, heads: int, alpha: float, drop_path: float) -> None:
        """`drop_path`: probability that a clip goes past attention or MLP in training."""
        super().__init__()
        self.self_attn = _GatedAttention(width, heads)
        self.fc1, self.fc2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.self_attn_layer_norm = nn.LayerNorm(width)
        self.final_layer_norm = nn.LayerNorm(width)
        self._alpha, self._drop_path = alpha, drop_path

    def forward(
        self, x: Float[Tensor, "b n d"], bias: Float[Tensor, "h n n"]
    ) -> Float[Tensor, "b n d"]:
        """From tokens to tokens."""
        x = self.self_attn_layer_norm(self._alpha * x + self._dropped(self.self_attn(x, bias)))
        y = self.fc2(nn.functional.gelu(self.fc1(x)))
        return self.final_layer_norm(self._alpha * x + self._dropped(y))

    def _dropped(self, x: Tensor) -> Tensor:
        return stochastic_depth(x, self._drop_path, "row", self.training)


class _PositionalConvolution(nn.Module):
    """Convolution over tokens, in groups; each place of its kernel has a norm of its own."""

    def __init__(self, width: int) -> None:
        super().__init__()
        v = torch.randn(width, width // GROUPS, KERNEL) * math.sqrt(4 / (KERNEL * width))
        self.weight_v, self.bias = nn.Parameter(v), nn.Parameter(torch.zeros(width))
        self.weight_g = nn.Parameter(v.norm(dim=(0, 1), keepdim=True))

    def forward(self, x: Float[Tensor, "b n d"]) -> Float[Tensor, "b n d"]:
        """What is added to the tokens."""
        weight = self.weight_v / self.weight_v.norm(dim=(0, 1), keepdim=True) * self.weight_g
        found = nn.functional.conv1d(x.transpose(1, 2), weight, self.bias, padding=KERNEL // 2,
                                     groups=GROUPS)  # fmt: skip
        return nn.functional.gelu(found[..., :-1]).transpose(1, 2)  # an even kernel gives one more


class Beats(nn.Module):
    """Spectrogram in patches, time before frequency; the feature is the mean over its tokens."""

    def __init__(
        self, *, width: int = 768, depth: int = 12, heads: int = 0, drop_path_rate: float = 0.0
    ) -> None:
        """`heads` 0: as many as make each 64 wide. Raises ValueError for sizes that do not fit
        together."""
        super().__init__()
        heads = heads or max(width // 64, 1)
        check_sizes(width, depth, heads, drop_path_rate)
        if width % GROUPS:
            raise ValueError(f"width {width}: must be a multiple of {GROUPS}")
        self.patches = nn.Conv2d(1, EMBEDDING, PATCH, PATCH, bias=False)
        self.first_norm = nn.LayerNorm(EMBEDDING)
        self.project = nn.Linear(EMBEDDING, width)
        self.positions = _PositionalConvolution(width)
        self.token_norm = nn.LayerNorm(width)
        self.bias = nn.Embedding(BUCKETS, heads)
        alpha = (2 * depth) ** 0.25
        self.layers = nn.ModuleList(
            _Layer(width, heads, alpha, drop_path_rate * i / max(depth - 1, 1))
            for i in range(depth)
        )
        self.width = width
        self._begin()

    def _begin(self) -> None:
        """Random weights as in the original: those of values and of the MLP are smaller in deeper
        networks."""
        beta = (8 * len(self.layers)) ** -0.25
        nn.init.normal_(self.bias.weight, std=0.02)
        for layer in self.layers:
            assert isinstance(layer, _Layer)
            attention = layer.self_attn
            for part, gain in ((attention.q_proj, 1.0), (attention.k_proj, 1.0),
                               (attention.v_proj, beta), (attention.out_proj, beta),
                               (layer.fc1, beta), (layer.fc2, beta)):  # fmt: skip
                nn.init.xavier_normal_(part.weight, gain)
                nn.init.zeros_(part.bias)

    def embed(self, x: Float[Tensor, "b 1 m f"]) -> Float[Tensor, "b n d"]:
        """Tokens of the patches."""
        x = self.patches(x.transpose(2, 3)).flatten(2).transpose(1, 2)
        x = self.project(self.first_norm(x))
        return self.token_norm(x + self.positions(x))

    def run(self, first: int, end: int, x: Float[Tensor, "b n d"]) -> Float[Tensor, "b n d"]:
        """Through the layers from `first` to before `end`."""
        place = torch.arange(x.shape[1], device=x.device)
        bias = self.bias(bucket_of(place - place[:, None])).permute(2, 0, 1)
        for layer in self.layers[first:end]:
            x = layer(x, bias)
        return x

    def feature(self, x: Float[Tensor, "b n d"]) -> Float[Tensor, "b d"]:
        """Mean over tokens: its classifier is linear, and averages what it says of each."""
        return x.mean(1)

    def cut(self) -> Cut:
        """The embedding and four groups of layers."""
        depth = len(self.layers)
        count = min(4, depth)
        ends = [round(depth * i / count) for i in range(count + 1)]
        layers = [partial(self.run, a, b) for a, b in pairwise(ends)]
        return Cut(stages=[self.embed, *layers], pool=self.feature, num_features=self.width)
