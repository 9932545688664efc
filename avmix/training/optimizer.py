"""Learning rate over time, which weights decay, and how fast each part of the network learns."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from avmix.config import ModelConfig, OptimConfig
from avmix.config.optim_config import ONE_DIMENSIONAL
from avmix.models.encoder import AnyEncoder
from avmix.training.layer_decay import input_of, layer_factors


def lr_at(optim: OptimConfig, step: int, steps_per_epoch: int) -> float:
    """Learning rate of `step`, counted from the start of the run: linear warm-up from zero, then as
    `optim.schedule` says. With total steps T, warm-up W and the last D = decay_share * T steps:

    cosine  lr * (1 + cos(pi * (step - W) / (T - W))) / 2
    step    lr * gamma ** (number of milestones m with step >= m * T)
    wsd     lr * min(1, (T - step) / D)
    """
    warmup, total = optim.warmup_epochs * steps_per_epoch, optim.epochs * steps_per_epoch
    if step < warmup:
        return optim.lr * (step + 1) / (math.ceil(warmup) + 1)
    match optim.schedule:
        case "cosine":
            done = (step - warmup) / max(1.0, total - warmup)
            return optim.lr * 0.5 * (1 + math.cos(math.pi * done))
        case "step":
            # A millionth of a step: 0.07 * 100 is 7.000000000000001.
            passed = sum(step >= share * total - 1e-6 for share in optim.milestones)
            return optim.lr * optim.gamma**passed
        case "wsd":
            return optim.lr * min(1.0, (total - step) / (optim.decay_share * total))


class Towers(NamedTuple):
    """Parameters of a network, by where they are."""

    video: list[nn.Parameter]
    audio: list[nn.Parameter]
    fusion: list[nn.Parameter]
    """Everything that is not in the video or the audio encoder; of a joint one, everything."""


def towers_of(network: nn.Module) -> Towers:
    """Which parameters are whose; DDP's `module.` before their names does not matter."""
    towers = Towers([], [], [])
    for name, parameter in network.named_parameters():
        match name.removeprefix("module.").partition(".")[0]:
            case "video":
                towers.video.append(parameter)
            case "audio":
                towers.audio.append(parameter)
            case _:
                towers.fusion.append(parameter)
    return towers


def build_optimizer(
    model: nn.Module,
    optim: OptimConfig,
    network: ModelConfig | None = None,
    empty_clip: tuple[Tensor, Tensor] | None = None,
    *,
    fused: bool = False,
) -> torch.optim.Optimizer:
    """The optimizer of `optim` for the parameters of `model` that learn, in groups of one weight
    decay and one rate: the encoders learn as fast as `network` says (`lr_scale`, `layer_decay`),
    everything else at optim.lr.

    `empty_clip`: frames and spectrograms (1 ...), which tell what belongs to which stage; only
    layer_decay needs it. `fused`: torch's implementation in one pass, which is faster and rounds
    otherwise. Raises ValueError, naming the option, for a name in `optim.no_decay` that no
    parameter has, and for layer_decay of an encoder that cannot be cut.
    """
    scale = _scales(model, network, empty_clip) if network is not None else {}
    learning = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    exempt = exempt_from_decay(learning, optim.no_decay)
    groups = []
    for factor in sorted({1.0, *scale.values()}, key=lambda factor: (factor != 1, factor)):
        some = [(name, p) for name, p in learning if scale.get(p, 1.0) == factor]
        groups += [
            {"params": [p for name, p in some if name not in exempt],
             "weight_decay": optim.weight_decay, "lr_scale": factor},
            {"params": [p for name, p in some if name in exempt],
             "weight_decay": 0.0, "lr_scale": factor},
        ]  # fmt: skip
    match optim.name:
        case "adamw":
            return torch.optim.AdamW(groups, lr=optim.lr, fused=fused)
        case "sgd":
            return torch.optim.SGD(
                groups, lr=optim.lr, momentum=optim.momentum, nesterov=optim.nesterov, fused=fused
            )


def exempt_from_decay(
    parameters: Sequence[tuple[str, nn.Parameter]], words: Sequence[str]
) -> set[str]:
    """Names of the parameters that `optim.no_decay` means. Raises ValueError for a word that means
    none."""
    exempt: set[str] = set()
    for word in words:
        if word == ONE_DIMENSIONAL:
            meant = {name for name, p in parameters if p.ndim <= 1}
        else:
            meant = {name for name, _ in parameters if f".{word}." in f".{name}."}
        if not meant and word != ONE_DIMENSIONAL:
            raise ValueError(
                f"optim.no_decay: no parameter that learns is named {word!r}, or has it between "
                f"dots; the first are {', '.join(name for name, _ in parameters[:3])}"
            )
        exempt |= meant
    return exempt


def _scales(
    model: nn.Module, network: ModelConfig, empty_clip: tuple[Tensor, Tensor] | None
) -> dict[nn.Parameter, float]:
    """Rate of each parameter of the encoders, in units of optim.lr."""
    found: dict[nn.Parameter, float] = {}
    for section, part in network.encoders.items():
        factors: Mapping[nn.Parameter, float] = {}
        encoder = getattr(model, section)
        if part.layer_decay < 1 and not part.frozen:
            assert isinstance(encoder, AnyEncoder)
            assert empty_clip is not None, "layer_decay needs an empty clip"
            which = f"model.{section}.layer_decay: model.{section}.encoder {part.encoder}"
            given = input_of(section, empty_clip)
            factors = layer_factors(encoder, part.layer_decay, given, which)
        found |= {p: part.lr_scale * factors.get(p, 1.0) for p in encoder.parameters()}
    return found
