"""Gallery of augmentations: one figure for each, strong enough to be visible."""

from pathlib import Path
from typing import Any

from avmix.config import AugmentConfig, ClipConfig, FrontendConfig
from avmix.preview.augment_preview import preview_augment

_PLAIN: dict[str, Any] = {"flip": 0.0, "min_area": 1.0, "max_aspect": 1.0}

EXAMPLES: dict[str, dict[str, Any]] = {
    "window_event": {"window": "event"},
    "min_seconds": {"min_seconds": 0.5},
    "speed": {"speed": 1.5},
    "speed_keeps_pitch": {"speed": 1.5, "speed_keeps_pitch": True},
    "reverse": {"reverse": 1.0},
    "hide_seconds": {"hide_seconds": 0.8},
    "jitter": {"binding": "window", "jitter_seconds": 0.4},
    "crop_resized": {"min_area": 0.2, "max_aspect": 1.33},
    "crop_multiscale": {"crop": "multiscale", "scales": [1.2, 1.6]},
    "flip": {"flip": 1.0},
    "colours": {"brightness": 0.5, "contrast": 0.5, "saturation": 0.5, "hue": 0.2},
    "randaugment": {"policy": "randaugment", "policy_strength": 0.5},
    "trivialaugment": {"policy": "trivialaugment"},
    "erase": {"erase": 1.0},
    "gain": {"gain_db": 12.0},
    "filter": {"filter": 1.0},
    "reverb": {"reverb": 1.0},
    "noise": {"noise": 1.0, "noise_snr_db": [3.0, 10.0]},
    "background": {
        "background": 1.0, "background_snr_db": [0.0, 3.0], "background_label": "soften",
    },
    "specaugment": {
        "time_masks": 2, "time_mask_seconds": 0.4, "mel_masks": 2, "mel_mask_share": 0.3,
    },
}  # fmt: skip
"""Options of each."""

UNSEEN: dict[str, str] = {
    "repeats": "more windows of one file, each like any other",
    "never_flip": "needs classes",
    "policy_ops": "how many operations of policy randaugment",
    "policy_probability": "how often those are carried out",
    "invert": "neither audible nor visible in a spectrogram",
}
"""Options that have no figure of their own, and why."""


def draw_grid(
    file: Path,
    background: Path,
    folder: Path,
    *,
    clip: ClipConfig,
    frontend: FrontendConfig | None = None,
    seed: int = 0,
    ending: str = ".jpg",
    scale: float = 0.7,
) -> list[Path]:
    """Write FOLDER/NAME.jpg for each of `EXAMPLES`; returns their paths. Raises what
    `preview_augment` raises."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, options in EXAMPLES.items():
        path = folder / f"{name}{ending}"
        preview_augment(
            file,
            background if "background" in options else None,
            out=path,
            augment=AugmentConfig(**{**_PLAIN, **options}),
            clip=clip,
            frontend=frontend,
            videos=False,
            seed=seed,
            title=", ".join(f"{key} {value}" for key, value in options.items()),
            scale=scale,
        )
        paths.append(path)
    return paths
