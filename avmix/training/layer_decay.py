"""Slower learning of the earlier stages of an encoder.

Clark et al., "ELECTRA" (ICLR 2020), and Bao et al., "BEiT" (ICLR 2022), fine-tune with a learning
rate that falls by a constant factor from each layer to the one before it: what a network learned
first is the most general. Here the layers are the stages of the encoder.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from avmix.config import ClipConfig, FrontendConfig
from avmix.mix.clip_grid import input_shapes
from avmix.models.encoder import AnyEncoder
from avmix.models.hidden import mapped, tensors_of
from avmix.models.joint_encoder import whole


def empty_clip(clip: ClipConfig, frontend: FrontendConfig) -> tuple[Tensor, Tensor]:
    """Frames (1 3 t h w) and spectrograms (1 channels m f) or waveforms (1 channels s) of zeros, as
    the encoders get them."""
    shapes = input_shapes(clip, frontend)
    return torch.zeros(1, *shapes["video"]), torch.zeros(1, *shapes["audio"])


def input_of(section: str, clip: tuple[Tensor, Tensor]) -> Any:
    """What the first stage of the encoder of a section is given: `video`, `audio` or `joint`."""
    video, audio = clip
    here = torch.ones(len(video), dtype=torch.bool, device=video.device)
    return {"video": video, "audio": audio, "joint": whole(video, audio, here, here)}[section]


def layer_factors(
    encoder: AnyEncoder, decay: float, empty: Any, which: str
) -> dict[nn.Parameter, float]:
    """Factor of the learning rate of each parameter of the encoder.

    Of stage i of n, counted from 0, it is decay ** (n - i); of what comes after the stages, 1, as
    of the heads (BEiT). A parameter of several stages counts as of the first.

    `empty`: an input of one clip (`input_of`); `which` names option and encoder in errors. Raises
    ValueError where the encoder cannot be cut into stages.
    """
    if not encoder.stages:
        raise ValueError(f"{which} cannot be cut into stages")
    stages = parameters_of_stages(encoder, empty)
    factors = dict.fromkeys(encoder.parameters(), 1.0)
    for i in reversed(range(len(stages))):  # the first stage that has a parameter has the last word
        factors |= dict.fromkeys(stages[i], decay ** (len(stages) - i))
    return factors


def parameters_of_stages(encoder: AnyEncoder, empty: Any) -> list[list[nn.Parameter]]:
    """The parameters that learn and that each stage computes with, found in the graph of its
    gradient: a stage may be a method of a module, and only the computation tells what it uses.

    The encoder is as it was afterwards: neither its statistics nor torch's generator know of it.
    """
    mode, found = encoder.training, []
    encoder.eval()
    device = next(encoder.parameters()).device
    x = mapped(empty, lambda one: one.to(device))
    with torch.enable_grad(), torch.random.fork_rng(devices=[]):
        for stage in encoder.stages:
            x = stage(x)
            found.append(list(_leaves(tensors_of(x))))
            x = mapped(x, Tensor.detach)
    encoder.train(mode)
    return found


def _leaves(outputs: list[Tensor]) -> Iterator[nn.Parameter]:
    """The parameters in the graph under `outputs`, once each."""
    seen: set[Any] = set()
    waiting: list[Any] = [one.grad_fn for one in outputs]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if isinstance(getattr(node, "variable", None), nn.Parameter):  # where a gradient arrives
            yield node.variable
        waiting += [before for before, _ in node.next_functions]
