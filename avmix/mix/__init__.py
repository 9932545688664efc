"""Device stage 2: two clips become one, with one lambda for every modality and for the label."""

from avmix.mix.clip_grid import Grid, clip_grids
from avmix.mix.cross_modal_mixup import CrossModalMixup, Mixed
from avmix.mix.mix_plan import MixPlan, Part, PlacedPlan, unmixed_plan
from avmix.mix.pairing import Clips, pairs_of
from avmix.mix.plan_drawing import draw_plan
from avmix.mix.targets import mixed_targets

__all__ = [
    "Clips",
    "CrossModalMixup",
    "Grid",
    "MixPlan",
    "Mixed",
    "Part",
    "PlacedPlan",
    "clip_grids",
    "draw_plan",
    "mixed_targets",
    "pairs_of",
    "unmixed_plan",
]
