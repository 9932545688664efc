"""What a folder or an id of the Hub says of a network of transformers: its configuration, and that
of its processor."""

import json
from pathlib import Path
from typing import Any

from avmix.models.encoder import Colour
from avmix.models.library_encoder import imported

IMAGENET: tuple[Colour, Colour] = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""Mean and deviation of pixels where there is no processor."""
_PROCESSORS = ("video_preprocessor_config.json", "preprocessor_config.json")


def place_of(name: str) -> str:
    """Folder or id, for transformers."""
    return str(Path(name).expanduser()) if name.startswith("~") else name


def settings_of(name: str, options: dict[str, Any], which: str) -> Any:
    """The configuration, with options over it. Raises ValueError that begins with `which`."""
    found = imported("transformers", which)
    try:
        settings, unknown = found.AutoConfig.from_pretrained(
            place_of(name), return_unused_kwargs=True, trust_remote_code=False, **options
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{which}: no configuration: {' '.join(str(error).split())[:300]}; a folder with "
            "config.json (and model.safetensors, for weights) is taken too"
        ) from None
    if unknown:
        raise ValueError(f"{which} has no option {', '.join(map(repr, unknown))}")
    return settings.audio_config if settings.model_type == "clap" else settings


def processor_of(name: str, *files: str) -> dict[str, Any]:
    """Configuration of the processor, of the first of `files` that is there; empty where there is
    none."""
    files = files or _PROCESSORS
    for file in files:
        if (path := Path(place_of(name)) / file).exists():
            return json.loads(path.read_text())
    if not Path(place_of(name)).is_dir():
        hub = imported("transformers.utils", name)
        for file in files:
            path = hub.cached_file(name, file, _raise_exceptions_for_missing_entries=False,
                                   _raise_exceptions_for_connection_errors=False)  # fmt: skip
            if path is not None:
                return json.loads(Path(path).read_text())
    return {}


def pixels_of(
    name: str, default: tuple[Colour, Colour] = IMAGENET, *files: str
) -> tuple[Colour, Colour]:
    """Mean and deviation of pixels in [0, 1], by the processor's configuration (`processor_of`);
    `default` where it does not say.

    A processor scales pixels of 0 to 255 by s, may take 1 away, and then normalises.
    """
    said = processor_of(name, *files)
    mean, std = said.get("image_mean", default[0]), said.get("image_std", default[1])
    if said.get("do_normalize") is False:
        mean, std = (0.0,) * 3, (1.0,) * 3
    scale, offset = 255 * said.get("rescale_factor", 1 / 255), 1.0 if said.get("offset") else 0.0
    red, green, blue = ((m + offset) / scale for m in mean)
    by_red, by_green, by_blue = (s / scale for s in std)
    return (red, green, blue), (by_red, by_green, by_blue)
