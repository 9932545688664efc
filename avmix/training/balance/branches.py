"""Weights of one modality alone: its encoder, and its projection where there is one."""

from typing import NamedTuple

from torch import nn

from avmix.models import LateFusionClassifier


class Branches(NamedTuple):
    """Parameters that learn, up to the feature of each modality."""

    video: list[nn.Parameter]
    audio: list[nn.Parameter]


def branches_of(model: LateFusionClassifier, method: str) -> Branches:
    """Those of `model`. Raises ValueError, naming the option, where a modality has none: there is
    nothing that a `method` could balance."""
    encoders = model.encoders
    assert "joint" not in encoders, "checked with the configuration"
    found = []
    for number, name in enumerate(("video", "audio")):
        modules: list[nn.Module] = [encoders[name]]
        if model.to_shared:
            modules.append(model.to_shared[number])
        found.append([p for module in modules for p in module.parameters() if p.requires_grad])
    branches = Branches(*found)
    for name, parameters in zip(branches._fields, branches, strict=True):
        if not parameters:
            raise ValueError(
                f"balance.method {method} acts on the weights between the {name} and its feature, "
                f"and none of them learns: model.{name}.frozen false, or model.shared_width > 0 "
                "for a projection that learns (on kept features, too)"
            )
    return branches
