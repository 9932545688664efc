"""Checkpoints: written atomically, read without unpickling anything but tensors."""

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from avmix.atomic import replacing
from avmix.chance import Chance
from avmix.config import TrainConfig, from_yaml, to_yaml

FORMAT = 1


class CheckpointError(ValueError):
    """A checkpoint is missing, damaged or of another kind; the message names the file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """All that a run needs to go on, and evaluation to begin.

    Random streams have addresses instead of states (`avmix.rng`), so the position is enough.
    """

    config: TrainConfig
    """The resolved configuration."""
    classes: list[str]
    """In the order of the outputs."""
    split_sha256: str
    """Hash of the train split: which clips, in which order."""
    num_steps: int
    """Of an epoch; depends on the number of processes."""
    epoch: int
    """The epoch to go on with."""
    step: int
    """The first step of it that has not been done."""
    best: float
    """Highest fused top-1 accuracy on val so far; below 0 before the first."""
    model: dict[str, torch.Tensor]
    """Weights and statistics of the network."""
    optimizer: dict[str, Any]
    """State of the optimizer."""
    chance: Chance | None = None
    """Which heads were at chance, in how many epochs; None: an older version wrote the checkpoint,
    and it is unknown."""
    loss_sum: tuple[float, int] | None = None
    """Sum of the losses of the steps of `epoch` before `step`, and their number
    (`avmix.runlog.LossSum`); None: an older version wrote the checkpoint, and it is unknown."""


_SINCE_THEN = ("chance", "loss_sum")
"""Fields that checkpoints of older versions of the same format do not have."""


def save(path: Path, checkpoint: Checkpoint) -> None:
    """Write all of it or nothing: a kill at any instant leaves the old file or the new one. Raises
    OSError that names the file."""
    content = {name: getattr(checkpoint, name) for name in Checkpoint.__slots__}
    content["config"] = to_yaml(checkpoint.config)
    if checkpoint.chance is not None:
        content["chance"] = {"epochs": checkpoint.chance.epochs, "sums": checkpoint.chance.sums}
    packed = io.BytesIO()  # torch would report a full disk as an error of its own, without a name
    torch.save({"format": FORMAT, **content}, packed)
    with replacing(path) as file:
        file.write(packed.getbuffer())


def load(path: Path) -> Checkpoint:
    """Read a checkpoint onto the CPU. Raises `CheckpointError`."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such checkpoint") from None
    except Exception as error:  # unpickling garbage raises anything, KeyError and IndexError too
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise CheckpointError(f"{path}: not a readable checkpoint: {reason}") from None
    if (
        not isinstance(content, dict)
        or content.get("format") != FORMAT
        or not content.keys() >= {*Checkpoint.__slots__} - {*_SINCE_THEN}
    ):
        raise CheckpointError(f"{path}: not a checkpoint of avmix, format {FORMAT}")
    try:
        content["config"] = from_yaml(TrainConfig, content["config"])
    except ValueError as error:
        raise CheckpointError(f"{path}: {error}") from None
    content = dict.fromkeys(_SINCE_THEN) | content
    if content["chance"] is not None:
        content["chance"] = Chance(**content["chance"])
    return Checkpoint(**{name: content[name] for name in Checkpoint.__slots__})


def load_weights(path: Path, checkpoint: Checkpoint, model: nn.Module) -> None:
    """Put the weights of `checkpoint`, which came from `path`, into `model`."""
    try:
        model.load_state_dict(checkpoint.model)
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise CheckpointError(f"{path}: its weights are of another network: {reason}") from None
