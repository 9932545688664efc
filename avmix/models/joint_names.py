"""Joint encoders by name, LIBRARY:NAME, for example `avmix:mbt`."""

from importlib import import_module

import torch

from avmix.config import ClipConfig, FrontendConfig, JointEncoderConfig
from avmix.mix.clip_grid import input_shapes
from avmix.models.encoder_names import (
    attempt,
    audio_options,
    check_audio,
    check_shape,
    check_video,
    finish,
    of_user,
)
from avmix.models.joint_encoder import JointEncoder

_ADAPTERS = ("pytorchvideo", "transformers")
"""Libraries that have joint encoders, in modules joint_LIBRARY."""


def joint_encoder(
    config: JointEncoderConfig,
    clip: ClipConfig,
    frontend: FrontendConfig,
    *,
    load_weights: bool = True,
) -> JointEncoder:
    """Build the encoder named by `model.joint`, for clips as described by `clip` and `frontend`.
    Raises ValueError as `build_model` does."""
    which, found = any_joint_encoder(config, clip, frontend)
    check_video(which, found.spec.video, clip)
    check_audio(which, found.spec.audio, clip, frontend)
    finish(found, "joint", config, clip.audio_channels, load_weights)
    shapes = input_shapes(clip, frontend)
    here = torch.ones(1, dtype=torch.bool)
    given = (torch.zeros(1, *shapes["video"]), torch.zeros(1, *shapes["audio"]), here, here)
    options = (f"clip.num_frames {clip.num_frames}, clip.crop {clip.crop}; "
               f"{audio_options(shapes['audio'])}")  # fmt: skip
    features = attempt(found, given, which, options)
    check_shape(features.video, found.num_features.video, which, "num_features.video")
    check_shape(features.audio, found.num_features.audio, which, "num_features.audio")
    return found


def any_joint_encoder(
    config: JointEncoderConfig, clip: ClipConfig, frontend: FrontendConfig
) -> tuple[str, JointEncoder]:
    """What errors call it, and the encoder; what it expects need not be as `clip` and `frontend`
    are."""
    library, _, name = config.encoder.partition(":")
    which = f"model.joint.encoder {config.encoder}"
    match library:
        case "avmix":
            from avmix.models import mbt

            if name != "mbt":
                raise ValueError(f"model.joint.encoder: avmix has 'mbt' only, got {name!r}")
            return which, mbt.build(config.options, clip, frontend, which)
        case "python":
            return which, of_user("joint", name, config.options, JointEncoder)
        case _ if library in _ADAPTERS:
            adapter = import_module(f"avmix.models.joint_{library}")
            return which, adapter.joint(name, config, clip, frontend)
        case _:
            raise ValueError(
                f"{which}: joint encoders are of avmix, {', '.join(_ADAPTERS)} and python"
            )
