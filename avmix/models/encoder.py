"""Encoder interface: stages that run one after the other, then pooling to one vector per clip.

An encoder says what it expects (`VideoSpec`, `AudioSpec`), so that frames and spectrograms of
another kind are an error before training starts, and in which pieces it can be cut, so that clips
can be mixed between any two of them (`mixup@layer`). docs/models.md writes one from scratch.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from avmix.config import FrontEnd
from avmix.models.recompute import recomputed

Colour = tuple[float, float, float]
"""A number for each of red, green and blue."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoSpec:
    """Input that a video encoder requires, (b c t h w); None: any. Options of `clip` that were
    not set are as it says (`avmix.models.input_options`)."""

    num_frames: int | None = None
    """Frames of a clip."""
    size: int | None = None
    """Height and width of a frame, pixels."""
    mean: Colour | None = None
    """Subtracted from pixels in [0, 1]; None: the front end's own
    (`avmix.models.frontend.PIXEL_MEAN`)."""
    std: Colour | None = None
    """Then divided by; None: the front end's own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AudioSpec:
    """Input that an audio encoder requires, (b channels m f), or (b channels s) of the front end
    `waveform`; None: any. Options of `clip` and
    `frontend` that were not set are as it says (`avmix.models.input_options`)."""

    front_end: FrontEnd | None = None
    """Formula of the spectrogram (`avmix.models.spectrograms`)."""
    sample_rate: int | None = None
    """Sample rate of the waveform, samples / second."""
    channels: int | None = None
    """Spectrograms of a clip: 1 for mono, 2 for stereo."""
    num_mels: int | None = None
    """Mel bins."""
    num_columns: int | None = None
    """Columns of the spectrogram."""
    n_fft: int | None = None
    """Window of the spectrogram, samples."""
    hop_length: int | None = None
    """From one column to the next, samples."""
    seconds: float | None = None
    """Length of the clips that it was trained on; any other is taken, too."""
    mel_mean: float | None = None
    """Subtracted from the spectrogram; statistics of other data are taken, too."""
    mel_std: float | None = None
    """Then divided by; likewise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Positions:
    """Grid of a positional embedding, needed to resample it."""

    grid: tuple[int, int, int]
    """Moments, rows and columns."""
    first: int = 0
    """Tokens before those of the grid."""
    counted: bool = False
    """Places are counted from the first one, not relative to the size: a smaller grid has the first
    moments of a larger one, and what lies beyond a smaller one keeps its own values."""


Stage = Callable[[Any], Any]
"""From what the stage before it gave (the first: the input) to what the next one takes: a tensor,
or a list of tensors, clips first. A module, or a method of one; not a function that was defined
inside another, which a copy of the encoder would share."""


class AnyEncoder(nn.Module, ABC):
    """What encoders of one modality (`Encoder`) and of both (`avmix.models.joint_encoder`) have in
    common: how much of them learns, and how a stage is run."""

    stages: nn.ModuleList | Sequence[Any]
    """Each a `Stage`; empty where the network cannot be cut, and `pool` is all of it."""
    positions: Mapping[str, Positions] = MappingProxyType({})
    """By the name of the weight in `network`."""
    published_size: tuple[int, int] | None = None
    """Height and width of the images or frames that the library's weights were published for, where
    it says so and takes others, too."""
    frozen: bool = False
    """The encoder does not learn: `freeze` was called."""
    norms_frozen: bool = False
    """`freeze_norms` was called."""
    gradient_checkpointing: bool = False
    """Of what the stages compute on the way nothing is kept for the gradient."""
    notice: str = ""
    """What is to be said of the weights that it began with."""

    def run_stage(self, stage: Stage, x: Any) -> Any:
        """What `stage`, one of `stages`, gives for `x`."""
        if self.gradient_checkpointing and self.training and torch.is_grad_enabled():
            return recomputed(self, stage, x)
        return stage(x)

    @abstractmethod
    def pool(self, x: Any) -> Any:
        """Reduce the output of the last stage to the feature vector, or to those of both
        modalities."""

    def of_file(self, found: dict[str, Tensor]) -> dict[str, Tensor]:
        """Weights of a file under the names of `network`, where its own are others."""
        return found

    def freeze(self) -> None:
        """Disable gradients and keep the encoder in evaluation mode: no dropout, and fixed
        statistics of batch normalisation."""
        self.frozen = True
        self.requires_grad_(False)
        self.eval()

    def freeze_norms(self) -> None:
        """From now on batch normalisation stays as it is: its weights have no gradient, and in
        training it normalises by its running statistics, which do not move. Raises ValueError where
        there is none."""
        norms = self._norms()
        if not norms:
            raise ValueError("has no batch normalisation")
        self.norms_frozen = True
        for norm in norms:
            norm.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> "AnyEncoder":
        """As of any module; what is frozen stays in evaluation mode."""
        super().train(mode and not self.frozen)
        for norm in self._norms() if self.norms_frozen else []:
            norm.eval()
        return self

    def _norms(self) -> list[nn.Module]:
        return [module for module in self.modules() if isinstance(module, _BatchNorm)]

    @property
    def network(self) -> nn.Module:
        """Module that a file of weights is for: a library's network, where one is wrapped."""
        return self


class Encoder(AnyEncoder):
    """Base class of encoders, frames, spectrograms or waveforms to one feature vector per clip:
    `stages`, one after the other, then `pool`. A subclass sets the declared attributes and defines
    `pool`; without it, instantiation is a TypeError."""

    spec: VideoSpec | AudioSpec
    """What the encoder must be given."""
    num_features: int
    """Width of the feature vector."""

    def forward(self, x: Float[Tensor, "b *rest"]) -> Float[Tensor, "b d"]:
        """All stages, then `pool`."""
        for stage in self.stages:
            x = self.run_stage(stage, x)
        return self.pool(x)

    @abstractmethod
    def pool(self, x: Any) -> Float[Tensor, "b d"]:
        """Reduce the output of the last stage to the feature vector."""
