"""Synchronized augmentation: what is random is drawn once per clip, as data, then applied by pure
functions to pictures and sound of the same seconds.

`timing` decides which seconds are read and how fast, `pictures` and `sound` what is done to them.
"""

from avmix.augment.pictures import PicturePlan, apply_pictures, centred, draw_pictures
from avmix.augment.plan import AugmentPlan, Shown, in_words, shown_parts
from avmix.augment.sound import Background, SoundPlan, apply_sound, draw_sound, is_laid
from avmix.augment.timing import TimePlan, apply_time, draw_times, whole_window

__all__ = [
    "AugmentPlan",
    "Background",
    "PicturePlan",
    "Shown",
    "SoundPlan",
    "TimePlan",
    "apply_pictures",
    "apply_sound",
    "apply_time",
    "centred",
    "draw_pictures",
    "draw_sound",
    "draw_times",
    "in_words",
    "is_laid",
    "shown_parts",
    "whole_window",
]
