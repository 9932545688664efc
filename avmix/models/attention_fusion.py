"""Fusions by attention: cross-attention in both directions, and bottleneck tokens.

Both attend over tokens that a linear layer makes from each feature vector, `TOKENS` of one clip and
modality; not over the tokens of an encoder, which most encoders here do not have. So the encoders
are as they are for every other fusion, and features can be mixed before it.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import gelu, scaled_dot_product_attention

from avmix.models.fusion import JointFusion

TOKENS = 4
"""Made from the feature vector of a modality."""
BOTTLENECKS = 4
"""Tokens that both modalities see (the original: 4)."""
BOTTLENECK_LAYERS = 2
"""In which they are exchanged."""
_HEADS, _MOST_WIDTH = 4, 256


def token_width(num_video: int, num_audio: int) -> int:
    """Width of a token: of the wider feature, at most 256, a multiple of the number of heads."""
    width = min(max(num_video, num_audio), _MOST_WIDTH)
    return max(1, width // _HEADS) * _HEADS


class CrossAttentionFusion(JointFusion):
    """Tokens of each modality attend to those of the other, once:
    V' = block(V, A), A' = block'(A, V), h = [mean V'; mean A'].

    The co-attention of Lu et al., "ViLBERT" (NeurIPS 2019), of one layer, with the normalisations
    before attention and feed-forward. A modality whose partner is missing only passes the
    feed-forward.
    """

    def joint_width(self, num_video: int, num_audio: int) -> int:
        """A token of each modality."""
        return 2 * token_width(num_video, num_audio)

    def add_parts(self, num_video: int, num_audio: int) -> None:
        """Tokens, and a block for each direction."""
        width = token_width(num_video, num_audio)
        self.video_tokens, self.audio_tokens = _Tokens(num_video, width), _Tokens(num_audio, width)
        self.video_block, self.audio_block = _Block(width), _Block(width)

    def joint(
        self, video: Tensor, audio: Tensor, use_video: Tensor, use_audio: Tensor
    ) -> Float[Tensor, "b d"]:
        """h"""
        seen, heard = self.video_tokens(video), self.audio_tokens(audio)
        attends = (use_video & use_audio)[:, None, None]
        new_seen = self.video_block(seen, heard, attends).mean(1) * use_video[:, None]
        new_heard = self.audio_block(heard, seen, attends).mean(1) * use_audio[:, None]
        return torch.cat([new_seen, new_heard], 1)


class BottleneckFusion(JointFusion):
    """Modalities exchange a few tokens B only, in each of `BOTTLENECK_LAYERS` layers:
    [V; B_v] = block([V; B]), [A; B_a] = block'([A; B]), B = (B_v + B_a) / 2; after the last,
    h = (mean V + mean A) / 2.

    Nagrani et al., "Attention bottlenecks for multimodal fusion" (NeurIPS 2021), on tokens made
    from the two feature vectors. Means are of the modalities that are there.
    """

    def joint_width(self, num_video: int, num_audio: int) -> int:
        """Of a token."""
        return token_width(num_video, num_audio)

    def add_parts(self, num_video: int, num_audio: int) -> None:
        """Tokens of each modality and of the bottleneck; a block of each modality and layer."""
        width = token_width(num_video, num_audio)
        self.video_tokens, self.audio_tokens = _Tokens(num_video, width), _Tokens(num_audio, width)
        self.bottlenecks = nn.Parameter(0.02 * torch.randn(BOTTLENECKS, width))
        self.video_blocks = nn.ModuleList(_Block(width) for _ in range(BOTTLENECK_LAYERS))
        self.audio_blocks = nn.ModuleList(_Block(width) for _ in range(BOTTLENECK_LAYERS))

    def joint(
        self, video: Tensor, audio: Tensor, use_video: Tensor, use_audio: Tensor
    ) -> Float[Tensor, "b d"]:
        """h"""
        seen, heard = self.video_tokens(video), self.audio_tokens(audio)
        there = torch.stack([use_video, use_audio]).to(seen.dtype)
        share = (there / there.sum(0).clamp(min=1))[..., None, None]
        between = self.bottlenecks.to(seen.dtype).expand(seen.shape[0], -1, -1)
        for see, hear in zip(self.video_blocks, self.audio_blocks, strict=True):
            with_seen, with_heard = torch.cat([seen, between], 1), torch.cat([heard, between], 1)
            with_seen, with_heard = see(with_seen, with_seen), hear(with_heard, with_heard)
            seen, of_seen = with_seen.split([TOKENS, BOTTLENECKS], 1)
            heard, of_heard = with_heard.split([TOKENS, BOTTLENECKS], 1)
            between = share[0] * of_seen + share[1] * of_heard
        return share[0, :, 0] * seen.mean(1) + share[1, :, 0] * heard.mean(1)


class _Tokens(nn.Linear):
    """A feature vector (b d) to `TOKENS` tokens (b t w)."""

    def __init__(self, num_features: int, width: int) -> None:
        super().__init__(num_features, TOKENS * width)

    def forward(self, input: Float[Tensor, "b d"]) -> Float[Tensor, "b t w"]:
        return super().forward(input).unflatten(1, (TOKENS, -1))


class _Block(nn.Module):
    """A transformer layer whose queries are of `x` and whose keys and values are of `context`."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm_x, self.norm_context = nn.LayerNorm(width), nn.LayerNorm(width)
        self.norm_out = nn.LayerNorm(width)
        self.query, self.key_value = nn.Linear(width, width), nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)
        self.inner, self.outer = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(
        self,
        x: Float[Tensor, "b t w"],
        context: Float[Tensor, "b u w"],
        attends: Tensor | None = None,
    ) -> Float[Tensor, "b t w"]:
        """`attends` (b 1 1): false where a clip attends to nothing; None: all do."""
        key, value = self.key_value(self.norm_context(context)).chunk(2, -1)
        query = _in_heads(self.query(self.norm_x(x)))
        found = scaled_dot_product_attention(query, _in_heads(key), _in_heads(value))
        found = self.out(found.transpose(1, 2).flatten(2))
        x = x + (found if attends is None else found * attends)
        return x + self.outer(gelu(self.inner(self.norm_out(x))))


def _in_heads(x: Float[Tensor, "b t w"]) -> Float[Tensor, "b h t v"]:
    return x.unflatten(-1, (_HEADS, -1)).transpose(1, 2)
