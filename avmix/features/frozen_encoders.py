"""Frozen encoders: of a configuration with weights, or of a checkpoint; what their features are."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from avmix.config import MEL_MEAN, MEL_STD, TrainConfig
from avmix.config.unused_options import value_at
from avmix.data.kept_features import MODALITIES
from avmix.models.encoder import Encoder, VideoSpec
from avmix.models.encoder_names import audio_encoder, is_own, video_encoder
from avmix.models.frontend import Frontend
from avmix.training.checkpoint import digest_of
from avmix.training.trained import load
from avmix.types import Batch


class FrozenEncoders(nn.Module):
    """Front end and encoders in evaluation mode: a batch to one feature per window and modality."""

    def __init__(self, config: TrainConfig, encoders: dict[str, Encoder]) -> None:
        """`config` has the numbers of the front end; `encoders`: by modality, one or two."""
        super().__init__()
        self.config = config
        self.encoders = nn.ModuleDict(encoders)
        spec = encoders["video"].spec if "video" in encoders else None
        self.frontend = Frontend(
            config.frontend,
            config.clip.sample_rate,
            spec if isinstance(spec, VideoSpec) else None,
            reuse_output=True,
        )
        self.requires_grad_(False)
        self.eval()

    @property
    def widths(self) -> dict[str, int]:
        """Width of the feature of each modality."""
        return {name: e.num_features for name, e in self.encoders.items()}  # type: ignore[misc]

    @torch.inference_mode()
    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Features (b d) of each modality, float32. Without the modality, those of zeros."""
        video, audio = self.frontend(batch)
        given = {"video": video, "audio": audio}
        return {name: encoder(given[name]).float() for name, encoder in self.encoders.items()}

    def identity(self, num_views: int, dtype: str) -> dict[str, Any]:
        """All that features depend on beside the clips: of equal ones the features are equal."""
        config, found = self.config, {}
        for name, encoder in self.encoders.items():
            said = value_at(config.model, name)
            found[name] = {
                "encoder": said.encoder,
                "channels": said.channels if is_own(said) else None,
                "options": said.options,
                "pooling": getattr(said, "pooling", None),
                "width": self.widths[name],
                "weights_sha256": digest_of({"weights": dict(encoder.state_dict())}),
            }
        frontend = asdict(config.frontend)
        del frontend["kernel"]  # by rounding only
        return {"clip": asdict(config.clip), "frontend": frontend, "views": num_views,
                "dtype": dtype, **found}  # fmt: skip


def of_config(config: TrainConfig, modalities: Sequence[str]) -> FrozenEncoders:
    """The encoders of a configuration with the weights that it names.

    Raises ValueError, which names the option, for an encoder without weights and where
    `avmix.build_model` would.
    """
    config = replace(config, frontend=config.frontend.with_log_mel(MEL_MEAN, MEL_STD))
    for name in modalities:
        said = value_at(config.model, name)
        if not said.weights and not said.encoder.startswith("python:"):
            others = [other for other in MODALITIES if other != name]
            raise ValueError(
                f"model.{name}.weights: {said.encoder} has random weights, whose features say "
                f"nothing; name weights, or leave it out: --modality {others[0]}"
            )
    encoders: dict[str, Encoder] = {}
    if "video" in modalities:
        encoders["video"] = video_encoder(config.model.video, config.clip)
    if "audio" in modalities:
        encoders["audio"] = audio_encoder(config.model.audio, config.clip, config.frontend)
    return FrozenEncoders(config, encoders)


def of_checkpoint(
    path: Path, modalities: Sequence[str], *, own_code: bool = False
) -> FrozenEncoders:
    """The encoders of a trained network, as `avmix.load` reads it. Raises `CheckpointError`."""
    trained = load(path, own_code=own_code)
    found = {"video": trained.network.video, "audio": trained.network.audio}
    return FrozenEncoders(trained.config, {name: found[name] for name in modalities})
