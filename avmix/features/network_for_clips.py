"""A network for clips out of encoders and what was trained on their features."""

import json
from dataclasses import replace
from pathlib import Path

from avmix.config import TrainConfig
from avmix.data.kept_features import changes
from avmix.features.frozen_encoders import FrozenEncoders
from avmix.models import build_model
from avmix.models.input_options import with_expected_input
from avmix.system import strict_json
from avmix.training import checkpoint
from avmix.training.checkpoint import CheckpointError
from avmix.training.trained import TrainedNetwork


def network_for_clips(path: Path, config: TrainConfig) -> TrainedNetwork:
    """The encoders of `config`, with the weights that it names, under the fusion of the checkpoint
    at `path`, which was trained on their features. It takes frames and waveforms, as what
    `avmix.load` returns; its `save` writes a file for that.

    Mean and deviation of log-mels that are to be measured are those of the features. Raises
    `CheckpointError` where the checkpoint was trained on clips, or on features of other windows,
    front ends, encoders or weights: it names what differs; and ValueError as `build_model` does.
    """
    state = checkpoint.load(path / "last.pt" if path.is_dir() else path)
    if state.features is None:
        raise CheckpointError(f"{path} was trained on clips; avmix.load takes it")
    identity = json.loads(state.features)
    config = with_expected_input(config)
    numbers = identity["frontend"]
    frontend = config.frontend.with_log_mel(numbers["mel_mean"], numbers["mel_std"])
    model = replace(state.config.model, video=config.model.video, audio=config.model.audio)
    config = replace(config, frontend=frontend, model=model)
    network = build_model(
        model, len(state.classes), clip=config.clip, frontend=frontend,
        binary=state.config.loss.binary, sets=state.config.loss.label_sets(state.classes),
    )  # fmt: skip
    encoders = FrozenEncoders(config, {"video": network.video, "audio": network.audio})
    ours = encoders.identity(identity["views"], identity["dtype"])
    if changed := changes(identity, json.loads(strict_json.dumps(ours))):
        raise CheckpointError(
            f"{path} was trained on features of other encoders ({', '.join(changed)})"
        )
    weights = state.model if state.average is None else state.average
    network.load_state_dict({**network.state_dict(), **weights})
    return TrainedNetwork(config, state.classes, network.eval())
