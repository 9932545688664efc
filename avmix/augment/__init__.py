"""Synchronized augmentation: random choices are drawn once per clip, as data, and then applied by
pure functions to video and audio of the same seconds.

`timing` decides which seconds are read and how fast, `frames` and `audio` what is done to them.
"""

from avmix.augment.audio_transforms import (
    AudioPlan,
    Background,
    apply_audio,
    draw_audio,
    is_background_mixed,
)
from avmix.augment.augment_plan import AugmentPlan, VisibleParts, in_words, visible_parts
from avmix.augment.timing import TimePlan, apply_time, draw_times, whole_window
from avmix.augment.video_transforms import VideoPlan, along, apply_video, centred, draw_video

__all__ = [
    "AudioPlan",
    "AugmentPlan",
    "Background",
    "TimePlan",
    "VideoPlan",
    "VisibleParts",
    "along",
    "apply_audio",
    "apply_time",
    "apply_video",
    "centred",
    "draw_audio",
    "draw_times",
    "draw_video",
    "in_words",
    "is_background_mixed",
    "visible_parts",
    "whole_window",
]
