"""Augmentations that are measured: each by itself, and the presets."""

from dataclasses import dataclass, replace
from typing import Any

import yaml
from shared.paths import ROOT

from avmix.config import AugmentConfig, ClipConfig
from avmix.preview.augment_gallery import EXAMPLES
from avmix.system import strict_json

SIZES = {
    "small": ClipConfig(),
    "kinetics": ClipConfig(num_frames=16, short_side=256, crop=224),
}
"""The project's default, and one that networks trained on Kinetics take."""

PLAIN: dict[str, Any] = {"flip": 0.0, "min_area": 1.0, "max_aspect": 1.0}


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """An augmentation to be measured."""

    augment: AugmentConfig
    label: str
    stereo: bool = False
    apart: bool = False
    """Windows of a file are read one after the other, each from a file opened again."""


def cases() -> dict[str, Case]:
    """Each augmentation by itself, as strong as docs/augment.md shows it, and the presets."""
    alone = {
        "window_uniform": {"window": "uniform"},
        **EXAMPLES,
        "invert": {"invert": 1.0},
        "repeats_4": {"repeats": 4},
    }
    found = {
        name: Case(augment=AugmentConfig(**{**PLAIN, **options}), label=_said(options))
        for name, options in alone.items()
    }
    found["repeats_4_apart"] = replace(
        found["repeats_4"], label="the same four windows, the file opened for each", apart=True
    )
    found["stereo"] = Case(augment=AugmentConfig(**PLAIN), label="`clip.stereo`", stereo=True)
    found["default"] = Case(augment=AugmentConfig(), label="**the default**")
    for path in sorted((ROOT / "configs/augment").glob("*.yaml")):
        options = yaml.safe_load(path.read_text())["augment"]
        found[f"preset_{path.stem}"] = Case(
            augment=AugmentConfig(**options), label=f"configs/augment/{path.name}"
        )
    return found


def _said(options: dict[str, Any]) -> str:
    return ", ".join(f"`{key}: {strict_json.dumps(value)}`" for key, value in options.items())
