"""`avmix preview`: figures of a mix of two clips, or of a clip before and after augmentation."""

from avmix.config import ClipConfig
from avmix.preview.augment_gallery import draw_grid
from avmix.preview.augment_preview import preview_augment
from avmix.preview.augment_spec import read_augment
from avmix.preview.mix_preview import PREVIEW_CLIP, preview_mix
from avmix.preview.run_plans import Planned, of_run

__all__ = [
    "PREVIEW_CLIP",
    "ClipConfig",
    "Planned",
    "draw_grid",
    "of_run",
    "preview_augment",
    "preview_mix",
    "read_augment",
]
