"""The recipes that benchmarks/learning.py compares: options of train.py, and edits of its network.

The package has the present recipe only. What it replaced, and what did not help, is built here from
the present network, between `training_setup.build` and the first step.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from avmix.config import OptimConfig
from avmix.models import LateFusionClassifier
from avmix.models.encoder import Encoder
from avmix.rng import rng
from avmix.training.engine import seed_torch
from avmix.training.optimizer import build_optimizer

CONFIG = "configs/demo.yaml"
"""The present recipe."""

Edit = Callable[[LateFusionClassifier], None]
"""Replaces modules; `redraw` draws the weights of the edited network."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """How a recipe differs from `CONFIG`."""

    overrides: tuple[str, ...] = ()
    """Options of train.py."""
    edits: tuple[Edit, ...] = ()
    """Of the network, in this order."""


class PerClipNorm(nn.Module):
    """Layer normalisation over the features of one clip: what `FeatureNorm` replaced."""

    def __init__(self, num_features: int) -> None:
        """Weight 1, bias 0."""
        super().__init__()
        self.norm = nn.LayerNorm(num_features)

    def forward(self, x: Tensor, present: Tensor) -> Tensor:
        """(b d) and (b) to (b d); zeros where the modality is missing."""
        return self.norm(x).masked_fill(~present[:, None], 0)


class Absent(nn.Module):
    """Every clip lacks the modality: its features are zeros, its encoder gets no gradient."""

    def forward(self, x: Tensor, present: Tensor) -> Tensor:
        """(b d) and (b) to zeros (b d)."""
        return torch.zeros_like(x)


class ZeroStart(nn.BatchNorm3d):
    """Last layer of a residual branch, which adds nothing in the first step."""

    def reset_parameters(self) -> None:
        """Weight 0, bias 0."""
        super().reset_parameters()
        nn.init.zeros_(self.weight)


class MaxPooled(Encoder):
    """The same stages, with the maximum over time and space added to the mean."""

    def __init__(self, encoder: Encoder) -> None:
        """Takes over the stages of `encoder`."""
        super().__init__()
        self.stages, self.num_features = encoder.stages, encoder.num_features
        self.spec = encoder.spec

    def pool(self, x: Tensor) -> Tensor:
        """(b d t h w) to (b d)."""
        return x.amax((2, 3, 4)) + x.mean((2, 3, 4))


def per_clip_norm(model: LateFusionClassifier) -> None:
    """Normalise the features of each clip by itself, as in the former recipe."""
    fusion = model.fusion
    fusion.add_module("norm_video", PerClipNorm(fusion.video.in_features))
    fusion.add_module("norm_audio", PerClipNorm(fusion.audio.in_features))


def small_stem(model: LateFusionClassifier) -> None:
    """Kernels of 3x3 pixels and a stride of 2 in the first video stage, as in the former recipe."""
    shrink = model.video.stages[0].get_submodule("shrink")
    assert isinstance(shrink, nn.Sequential)
    wide = shrink[0]
    assert isinstance(wide, nn.Conv3d)
    shrink[0] = nn.Conv3d(
        wide.in_channels, wide.out_channels, (1, 3, 3), (1, 2, 2), (0, 1, 1), bias=False
    )


def zero_residual(model: LateFusionClassifier) -> None:
    """Begin with stages whose residual branches add nothing."""
    for stage in model.video.stages:
        refine = stage.get_submodule("refine")
        assert isinstance(refine, nn.Sequential)
        norm = refine[-1]
        assert isinstance(norm, nn.BatchNorm3d)
        refine[-1] = ZeroStart(norm.num_features)


def max_pool(model: LateFusionClassifier) -> None:
    """Add the maximum over time and space to the mean."""
    model.video = MaxPooled(model.video)


def no_audio(model: LateFusionClassifier) -> None:
    """Let the heads see video only."""
    model.fusion.add_module("norm_audio", Absent())


FROM_THE_START = ("--mix.ramp_epochs", "0")
SMALL_CROPS = ("--augment.min_area", "0.5")
FORMER = Variant(overrides=(*FROM_THE_START, *SMALL_CROPS), edits=(per_clip_norm, small_stem))
WITH_NORM = replace(FORMER, edits=(small_stem,))
"""The former recipe with `FeatureNorm`."""


def _more(base: Variant, *overrides: str, edits: tuple[Edit, ...] = ()) -> Variant:
    return Variant(overrides=(*base.overrides, *overrides), edits=(*base.edits, *edits))


VARIANTS: dict[str, Variant] = {
    "former": FORMER,
    "former + norm": WITH_NORM,
    "former + stem": replace(FORMER, edits=(per_clip_norm,)),
    "former + ramp": replace(FORMER, overrides=SMALL_CROPS),
    "former + area": replace(FORMER, overrides=FROM_THE_START),
    "present": Variant(),
    "former, no audio": _more(FORMER, "--loss.audio", "0", edits=(no_audio,)),
    "former + norm, no audio": _more(WITH_NORM, "--loss.audio", "0", edits=(no_audio,)),
    "former + norm, no mixing": _more(WITH_NORM, "--mix.method", "none"),
    "former + norm, lr 1e-3": _more(WITH_NORM, "--optim.lr", "1e-3"),
    "former + norm, 4 warm-up epochs": _more(WITH_NORM, "--optim.warmup_epochs", "4"),
    "former + norm, zero-init residual": _more(WITH_NORM, edits=(zero_residual,)),
    "former + norm, max pooling": _more(WITH_NORM, edits=(max_pool,)),
}
"""By the name that tables and figures show."""


def edit(
    model: LateFusionClassifier, variant: Variant, optim: OptimConfig, seed: int
) -> torch.optim.Optimizer:
    """Apply the edits of `variant`, draw all weights again and return an optimizer of them."""
    for change in variant.edits:
        change(model)
    redraw(model, seed)
    return build_optimizer(model, optim)


def redraw(model: LateFusionClassifier, seed: int) -> None:
    """Draw the initial weights as `build` does: from the same stream, module after module.

    An edited network then begins as it would if the package built it, the former one with the
    weights of the former code; one without edits keeps the weights it has.
    """
    seed_torch(rng(seed, 0, "weights"))
    for module in model.modules():
        reset = getattr(module, "reset_parameters", None)
        if reset is not None:
            reset()
