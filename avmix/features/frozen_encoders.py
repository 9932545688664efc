"""Frozen encoders: of a configuration with weights, or of a checkpoint; what their features are."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from avmix.config import MEL_MEAN, MEL_STD, FrontendConfig, TrainConfig
from avmix.config.unused_options import value_at
from avmix.data.kept_features import MODALITIES
from avmix.models.encoder import Encoder, VideoSpec
from avmix.models.encoder_names import audio_encoder, is_own, video_encoder
from avmix.models.frontend import Frontend
from avmix.models.joint_encoder import JointEncoder
from avmix.models.joint_names import joint_encoder
from avmix.training.checkpoint import digest_of
from avmix.training.trained import load
from avmix.types import Batch


class FrozenEncoders(nn.Module):
    """Front end and encoders in evaluation mode: a batch to one feature per window and modality."""

    def __init__(self, config: TrainConfig, encoders: dict[str, Any]) -> None:
        """`config` has the numbers of the front end; `encoders`: by modality, one or two, or a
        joint one as `joint`."""
        super().__init__()
        self.config = config
        self.encoders = nn.ModuleDict(encoders)
        spec = encoders["video"].spec if "video" in encoders else None
        if "joint" in encoders:
            spec = encoders["joint"].spec.video
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
        found: dict[str, int] = {}
        for name, encoder in self.encoders.items():
            if isinstance(encoder, JointEncoder):
                return encoder.num_features._asdict()
            assert isinstance(encoder, Encoder)
            found[name] = encoder.num_features
        return found

    @torch.inference_mode()
    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Features (b d) of each modality, float32. Without the modality, those of zeros; what a
        joint encoder makes of the other one then is what it makes of it alone."""
        video, audio = self.frontend(batch)
        if "joint" in self.encoders:
            found = self.encoders["joint"](video, audio, batch.has_video, batch.has_audio)
            return {"video": found.video.float(), "audio": found.audio.float()}
        given = {"video": video, "audio": audio}
        return {name: encoder(given[name]).float() for name, encoder in self.encoders.items()}

    def identity(self, num_views: int, dtype: str) -> dict[str, Any]:
        """All that features depend on beside the clips: of equal ones the features are equal."""
        config, found = self.config, {}
        for name, encoder in self.encoders.items():
            said = value_at(config.model, name)
            what = {
                "encoder": said.encoder,
                "channels": getattr(said, "channels", None) if is_own(said) else None,
                "options": said.options,
                "pooling": getattr(said, "pooling", None),
                "weights_sha256": digest_of({"weights": dict(encoder.state_dict())}),
            }
            for modality in MODALITIES if name == "joint" else (name,):
                found[modality] = {**what, "width": self.widths[modality]}
                if name == "joint":
                    found[modality]["joint"] = True
        frontend = asdict(config.frontend)
        del frontend["kernel"]  # by rounding only
        for name in ("window_length", "exponent", "log_offset", "centred"):
            if frontend[name] == getattr(FrontendConfig(), name):
                del frontend[name]  # features that were kept before there were these options
        return {"clip": asdict(config.clip), "frontend": frontend, "views": num_views,
                "dtype": dtype, **found}  # fmt: skip


def of_config(config: TrainConfig, modalities: Sequence[str]) -> FrozenEncoders:
    """The encoders of a configuration with the weights that it names.

    Raises ValueError, which names the option, for an encoder without weights and where
    `avmix.build_model` would.
    """
    config = replace(config, frontend=config.frontend.with_log_mel(MEL_MEAN, MEL_STD))
    joint = _is_joint(config, modalities)
    for name in ("joint",) if joint else modalities:
        said = value_at(config.model, name)
        if not said.weights and not said.encoder.startswith("python:"):
            others = [other for other in MODALITIES if other != name]
            or_else = "" if joint else f", or leave it out: --modality {others[0]}"
            raise ValueError(
                f"model.{name}.weights: {said.encoder} has random weights, whose features say "
                f"nothing; name weights{or_else}"
            )
    encoders: dict[str, Any] = {}
    if joint:
        encoders["joint"] = joint_encoder(config.model.joint, config.clip, config.frontend)
    elif "video" in modalities:
        encoders["video"] = video_encoder(config.model.video, config.clip)
    if not joint and "audio" in modalities:
        encoders["audio"] = audio_encoder(config.model.audio, config.clip, config.frontend)
    return FrozenEncoders(config, encoders)


def of_checkpoint(
    path: Path, modalities: Sequence[str], *, own_code: bool = False
) -> FrozenEncoders:
    """The encoders of a trained network, as `avmix.load` reads it. Raises `CheckpointError`, and
    ValueError as `of_config` does."""
    trained = load(path, own_code=own_code)
    found: dict[str, Any] = trained.network.encoders
    if not _is_joint(trained.config, modalities):
        found = {name: found[name] for name in modalities}
    return FrozenEncoders(trained.config, found)


def _is_joint(config: TrainConfig, modalities: Sequence[str]) -> bool:
    """Whether there is a joint encoder; ValueError where one of its features is asked for alone: it
    depends on both modalities."""
    joint = config.model.joint.encoder
    if joint and {*modalities} != {*MODALITIES}:
        raise ValueError(
            f"model.joint.encoder {joint} gives the features of both modalities together; leave "
            "out --modality"
        )
    return bool(joint)
