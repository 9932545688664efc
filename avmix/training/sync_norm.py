"""Batch normalisation over the clips of all processes that train together."""

from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from avmix.models import LateFusionClassifier
from avmix.training.runtime import Runtime


def synchronise_norms(model: LateFusionClassifier, runtime: Runtime) -> None:
    """Let the encoders of `model` normalise by the statistics of all processes.

    Raises ValueError where that cannot act: with one process, or on a CPU, for which torch has no
    such layer; and as `to_sync_norm` does.
    """
    if runtime.world_size < 2:
        raise ValueError("model.sync_norm cannot act without several processes (torchrun), got 1")
    if runtime.device.type != "cuda":
        raise ValueError(
            f"model.sync_norm needs CUDA: torch's SyncBatchNorm does not run on {runtime.device}"
        )
    for section, encoder in model.encoders.items():
        to_sync_norm(encoder, f"model.{section}.encoder")


def to_sync_norm(module: nn.Module, which: str) -> None:
    """Turn each batch normalisation inside `module` into `nn.SyncBatchNorm`; timm's, which also
    applies an activation, into timm's own. Weights and statistics keep their names and values.

    It is the same object afterwards, of another class: a replacement, as
    `nn.SyncBatchNorm.convert_sync_batchnorm` makes, would not reach the stages of a library's
    network, which refer to its modules. Raises ValueError, naming `which`, where there is none, or
    one of another kind.
    """
    norms = [m for m in module.modules() if isinstance(m, _BatchNorm)]
    if not norms:
        raise ValueError(f"model.sync_norm cannot act: {which} has no batch normalisation")
    for norm in norms:
        norm.__class__ = _sync_kind(type(norm), which)
        setattr(norm, "process_group", None)  # noqa: B010 - all processes


def _sync_kind(kind: type[Any], which: str) -> type[Any]:
    if issubclass(kind, nn.SyncBatchNorm):
        return kind
    if kind in (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d):
        return nn.SyncBatchNorm
    if kind.__module__.startswith("timm.") and kind.__name__ == "BatchNormAct2d":
        from timm.layers.norm_act import SyncBatchNormAct

        return SyncBatchNormAct
    raise ValueError(
        f"model.sync_norm: {which} normalises with {kind.__qualname__}, which is not torch's"
    )
