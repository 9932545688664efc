"""Names of weights in published files of networks that avmix builds itself, and ours for them."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """How the files of a network name its weights."""

    names: tuple[tuple[str, str], ...]
    """Regular expressions of whole names, and our names (with the groups as \\1)."""
    new: tuple[str, ...] = ()
    """Ours that a file of pre-training lacks: fine-tuning begins with them as they are."""

    def ours(self, found: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The weights under our names, where there is one; before theirs may be up to three names
        (`module.`, `model.`, that of a tower)."""
        before = {".".join(n.split(".")[:i]) + "." for n in found for i in (1, 2, 3)}
        cut_off = max(sorted(before | {""}), key=lambda b: self._known(found, b))
        return {self._name(name.removeprefix(cut_off)) or name: value
                for name, value in found.items()}  # fmt: skip

    def _known(self, found: Mapping[str, Tensor], before: str) -> int:
        return sum(n.startswith(before) and bool(self._name(n.removeprefix(before))) for n in found)

    def _name(self, theirs: str) -> str:
        for pattern, ours in self.names:
            if fits := re.fullmatch(pattern, theirs):
                return fits.expand(ours)
        return ""


_BLOCK = r"(\d+)\.(norm1|norm2|attn|mlp)\.(.+)"
_LAST = r"\.(weight|bias)"
_EAT = Published(
    names=(
        # Of fairseq, then of the repositories on Hugging Face.
        (rf"(?:modality_encoders\.IMAGE\.)?local_encoder\.proj{_LAST}", r"patches.\1"),
        (r"(?:modality_encoders\.IMAGE\.)?extra_tokens", "token"),
        (r"(?:modality_encoders\.IMAGE\.)?fixed_positional_encoder\.positions", "positions"),
        (rf"(?:modality_encoders\.IMAGE\.context_encoder\.norm|pre_norm){_LAST}", r"first_norm.\1"),
        (rf"blocks\.{_BLOCK}", r"blocks.\1.\2.\3"),
        (rf"fc_norm{_LAST}", r"head_norm.\1"),
    ),
    new=("head_norm",),
)
_BEATS = Published(
    names=(
        (r"patch_embedding\.weight", "patches.weight"),
        (rf"layer_norm{_LAST}", r"first_norm.\1"),
        (rf"post_extract_proj{_LAST}", r"project.\1"),
        (r"encoder\.pos_conv\.0\.(weight_g|weight_v|bias)", r"positions.\1"),
        (rf"encoder\.layer_norm{_LAST}", r"token_norm.\1"),
        # The same in every layer of the file.
        (r"encoder\.layers\.0\.self_attn\.relative_attention_bias\.weight", "bias.weight"),
        (r"encoder\.layers\.(\d+\.(?!self_attn\.relative_attention_bias).+)", r"layers.\1"),
    ),
)


def _cav_mae(letter: str) -> Published:
    """Of one modality; `letter`: a or v."""
    return Published(
        names=(
            (rf"patch_embed_{letter}\.proj{_LAST}", r"patches.\1"),
            (rf"pos_embed_{letter}", "positions"),
            (rf"modality_{letter}", "modality"),
            (rf"blocks_{letter}\.{_BLOCK}", r"blocks.\1.\2.\3"),
            # Joint blocks have norms for audio, for video and for both together.
            (rf"blocks_u\.(\d+)\.(norm1|norm2)_{letter}\.(.+)", r"joint.\1.\2.\3"),
            (r"blocks_u\.(\d+)\.(attn|mlp)\.(.+)", r"joint.\1.\2.\3"),
            (rf"norm_{letter}{_LAST}", r"last_norm.\1"),
            (rf"mlp_head\.0{_LAST}", r"head_norm.\1"),
        ),
        new=("head_norm",),
    )


PUBLISHED: Mapping[tuple[str, str], Published] = {
    ("audio", "eat"): _EAT,
    ("audio", "sslam"): _EAT,
    ("audio", "beats"): _BEATS,
    ("audio", "cav_mae"): _cav_mae("a"),
    ("video", "cav_mae"): _cav_mae("v"),
}
"""By modality and name of the encoder."""
