"""Fusions by the names that `model.fusion` takes."""

from collections.abc import Sequence

from avmix.config import ModelConfig
from avmix.label_sets import LabelSet
from avmix.models.attention_fusion import BottleneckFusion, CrossAttentionFusion
from avmix.models.feature_fusion import BilinearFusion, FilmFusion, GatedFusion, SumFusion
from avmix.models.fusion import ConcatFusion, Fusion, JointFusion
from avmix.models.score_fusion import AverageFusion, ProductFusion, ScoreFusion, WeightedFusion

SCORE_FUSIONS: dict[str, type[ScoreFusion]] = {
    "average": AverageFusion, "weighted": WeightedFusion, "product": ProductFusion,
}  # fmt: skip
"""Of what the modality heads say."""
JOINT_FUSIONS: dict[str, type[JointFusion]] = {
    "concat": ConcatFusion,
    "sum": SumFusion,
    "gated": GatedFusion,
    "film": FilmFusion,
    "bilinear": BilinearFusion,
    "cross_attention": CrossAttentionFusion,
    "bottleneck": BottleneckFusion,
}
"""Of features."""


def build_fusion(
    config: ModelConfig,
    num_video: int,
    num_audio: int,
    num_classes: int,
    binary: bool = False,
    sets: Sequence[LabelSet] = (),
) -> Fusion:
    """The fusion that `config` names, freshly initialised, for features of these widths. `binary`:
    for the sigmoids of loss.kind binary; `sets`: for a distribution over the classes of each."""
    if config.fusion in SCORE_FUSIONS:
        return SCORE_FUSIONS[config.fusion](
            num_video, num_audio, num_classes, config.dropout, config.missing, binary, sets
        )
    return JOINT_FUSIONS[config.fusion](
        num_video, num_audio, num_classes, config.dropout, config.missing, config.heads
    )
