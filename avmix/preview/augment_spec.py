"""Parsing of the augmentation to preview: a preset, a configuration file or options."""

from dataclasses import dataclass, field
from pathlib import Path

import yaml

from avmix.config import AugmentConfig, load_config, read_yaml


@dataclass(frozen=True, kw_only=True)
class _Spec:
    """What is read of a configuration: its other sections have no part in a preview."""

    augment: AugmentConfig = field(default_factory=AugmentConfig)


def read_augment(spec: str) -> AugmentConfig:
    """Read a YAML file with a section `augment` (a preset, the config.yaml of a run), or inline
    YAML of its options, `{speed: 1.25, reverse: 1.0}`.

    Raises OSError for a file that cannot be read, ValueError for one without that section; options
    that are unknown or out of range end the program as in training (`load_config`).
    """
    text = spec.strip()
    if not (text.startswith("{") or ": " in text):
        try:
            config = read_yaml(Path(spec).read_text())
        except ValueError as error:  # of undecodable text, too
            raise ValueError(f"{spec}: {error}") from None
        if not isinstance(config, dict) or not isinstance(config.get("augment"), dict):
            raise ValueError(f"{spec}: has no section `augment`")
        text = yaml.safe_dump(config["augment"], default_flow_style=True, width=10**6)
    elif not text.startswith("{"):
        text = f"{{{text}}}"
    return load_config(_Spec, ["--augment", text]).augment
