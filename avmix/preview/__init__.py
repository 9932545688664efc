"""What `avmix preview` draws: a mix of two clips, and what augmentation makes of one."""

from avmix.config import ClipConfig
from avmix.preview.augment import preview_augment
from avmix.preview.grid import draw_grid
from avmix.preview.mix import PREVIEW_CLIP, preview_mix
from avmix.preview.run import Planned, of_run
from avmix.preview.spec import read_augment

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
