"""Checkpoints: written atomically, read without unpickling anything but tensors."""

import hashlib
import io
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from avmix.config import TrainConfig, from_yaml, to_yaml
from avmix.system.atomic_files import replacing
from avmix.training.balance_state import BalanceState
from avmix.training.chance_level import ChanceHistory
from avmix.training.mix_sums import checked_sums
from avmix.training.runtime import Rounding

FORMAT = 1


class CheckpointError(ValueError):
    """A checkpoint is missing, damaged or of another kind; the message names the file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """Everything that a run needs to resume, and evaluation to start.

    Random streams have addresses instead of states (`avmix.rng`), so the position is enough.
    """

    config: TrainConfig
    """The resolved configuration."""
    classes: list[str]
    """In the order of the outputs."""
    split_sha256: str
    """Hash of the train split: which clips, in which order."""
    num_steps: int
    """Steps per epoch; depends on the number of processes."""
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
    chance: ChanceHistory | None = None
    """Which heads were at chance, in how many epochs; None: an older version wrote the checkpoint,
    and it is unknown."""
    loss_sum: tuple[float, int] | None = None
    """Sum of the losses of the steps of `epoch` before `step`, and their number
    (`avmix.training.measurements.LossSum`); None: an older version wrote the checkpoint, and it is
    unknown."""
    rounding: Rounding | None = None
    """Threads, kernel and the like of the process that wrote it; None: an older version did, and it
    is unknown."""
    average: dict[str, torch.Tensor] | None = None
    """The average of weights and statistics (`optim.ema_decay`); None: the run keeps none."""
    features: str | None = None
    """What the features that it was trained on are of (`avmix.data.kept_features.Header`), JSON;
    None: it was trained on clips."""
    balance: BalanceState | None = None
    """What the method of balancing carries on; None: an older version wrote the checkpoint."""
    mix_sums: tuple[float, ...] | None = None
    """What mixing knows of the modalities (`avmix.training.mix_sums`); None: an older version wrote
    the checkpoint."""
    digest: str | None = None
    """SHA-256 of everything else, which `save` computes and `load` compares; None: an older version
    wrote the checkpoint, and damage of it may go unnoticed."""

    def notice(self) -> str:
        """Message about a checkpoint that cannot be verified; empty where it was."""
        if self.digest is not None:
            return ""
        return "the checkpoint is of an older version and has no digest: damage is not noticed"


_SINCE_THEN = ("chance", "loss_sum", "rounding", "average", "features", "balance", "mix_sums",
               "digest")  # fmt: skip
"""Fields that checkpoints of older versions of the same format do not have."""


def save(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint atomically: a kill at any instant leaves the old file or the new one.

    Raises OSError that names the file, and `CheckpointError` where a weight is not finite.
    """
    check_finite(path, checkpoint.model)
    check_finite(path, checkpoint.average or {})
    content = {name: getattr(checkpoint, name) for name in Checkpoint.__slots__}
    content["config"] = to_yaml(checkpoint.config)
    if checkpoint.chance is not None:
        content["chance"] = {"epochs": checkpoint.chance.epochs, "sums": checkpoint.chance.sums}
    if checkpoint.loss_sum is not None:
        # Of no class of ours: reading would refuse it.
        content["loss_sum"] = tuple(checkpoint.loss_sum)
    if checkpoint.rounding is not None:
        content["rounding"] = asdict(checkpoint.rounding)
    if checkpoint.balance is not None:
        content["balance"] = asdict(checkpoint.balance)
    content["digest"] = digest_of(content)
    packed = io.BytesIO()  # torch would report a full disk as an error of its own, without a name
    torch.save({"format": FORMAT, **content}, packed)
    with replacing(path) as file:
        file.write(packed.getbuffer())


def load(path: Path) -> Checkpoint:
    """Read a checkpoint onto the CPU.

    Raises `CheckpointError` for what is none, for one that was damaged since it was written, and
    for one whose weights are not finite.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such checkpoint") from None
    except Exception as error:  # unpickling garbage raises anything, KeyError and IndexError too
        raise CheckpointError(f"{path}: not a readable checkpoint: {_reason(error)}") from None
    fields = {"format", *Checkpoint.__slots__}
    if (
        not isinstance(content, dict)
        or content.get("format") != FORMAT
        or not fields - {*_SINCE_THEN} <= content.keys() <= fields
        or not _is_state(content["model"])
        or not (content.get("average") is None or _is_state(content["average"]))
    ):
        raise CheckpointError(f"{path}: not a checkpoint of avmix, format {FORMAT}")
    values: dict[str, Any] = {**dict.fromkeys(_SINCE_THEN), **content}
    if values["digest"] not in (None, digest_of(content)):  # without what came later
        raise CheckpointError(f"{path}: damaged: its digest does not match")
    try:
        values["config"] = from_yaml(TrainConfig, values["config"])
    except ValueError as error:
        raise CheckpointError(f"{path}: {error}") from None
    if values["chance"] is not None:
        values["chance"] = ChanceHistory(**values["chance"])
    if values["rounding"] is not None:
        values["rounding"] = Rounding(**values["rounding"])
    if values["balance"] is not None or values["mix_sums"] is not None:
        try:
            values["balance"] = values["balance"] and BalanceState(**values["balance"])
            values["mix_sums"] = values["mix_sums"] and checked_sums(values["mix_sums"])
        except (TypeError, ValueError) as error:
            raise CheckpointError(f"{path}: {error}") from None
    found = Checkpoint(**{name: values[name] for name in Checkpoint.__slots__})
    check_finite(path, found.model)
    check_finite(path, found.average or {})
    return found


def load_weights(
    path: Path, checkpoint: Checkpoint, model: nn.Module, *, average: bool = False
) -> None:
    """Load the weights of `checkpoint`, which came from `path`, into `model`: those of the last
    update, or with `average` their average. Raises `CheckpointError` where they do not fit."""
    state = checkpoint.average if average else checkpoint.model
    if state is None:
        raise CheckpointError(f"{path}: it has no average of its weights (optim.ema_decay)")
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise CheckpointError(f"{path}: its weights are of another network: {reason}") from None


def check_finite(path: Path, model: Mapping[str, torch.Tensor]) -> None:
    """Raises `CheckpointError` for weights that would make every prediction nan."""
    for name, tensor in model.items():
        if tensor.is_floating_point() and not tensor.float().isfinite().all():
            raise CheckpointError(f"{path}: {name} of the network holds values that are not finite")
        if name.rpartition(".")[2] in ("var", "running_var") and (tensor < 0).any():
            raise CheckpointError(f"{path}: {name} of the network holds a variance below 0")


def _is_state(value: Any) -> bool:
    """Whether it is what a network's `state_dict` gives."""
    return isinstance(value, dict) and all(isinstance(v, torch.Tensor) for v in value.values())


def digest_of(content: Mapping[str, Any]) -> str:
    """SHA-256 of what a checkpoint holds, its digest left out; it does not depend on how torch
    packs tensors."""
    found = hashlib.sha256()
    for name in sorted(content.keys() - {"digest", "format"}):
        _feed(found, [name, content[name]])
    return found.hexdigest()


def _feed(found: Any, value: Any) -> None:
    """Every tensor by type, shape and bytes, everything else by its kind and what it says."""
    match value:
        case torch.Tensor():
            found.update(f"tensor {value.dtype} {tuple(value.shape)}\n".encode())
            flat = value.detach().cpu().contiguous().reshape(-1)
            found.update(flat.view(torch.uint8).numpy().data)
        case Mapping():
            found.update(f"mapping {len(value)}\n".encode())
            for key, inner in value.items():
                _feed(found, key)
                _feed(found, inner)
        case list() | tuple():
            found.update(f"{type(value).__name__} {len(value)}\n".encode())
            for inner in value:
                _feed(found, inner)
        case _:
            found.update(f"{type(value).__name__} {value!r}\n".encode())


def _reason(error: Exception) -> str:
    """In one line, and without the advice of torch to switch its protection off."""
    text = str(error) or type(error).__name__
    if asked := re.search(r"GLOBAL ([\w.]+)", text):
        return (
            f"it asks for {asked[1]}, which no checkpoint of avmix does; do not trust it. Nothing "
            "of it was run"
        )
    if "weights_only" in text:
        return "it holds something else than tensors, numbers and text"
    return text.splitlines()[0]
