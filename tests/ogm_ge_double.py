"""OGM-GE as its authors published it, as a plain loop: a double for comparison.

Peng et al., "Balanced multimodal learning via on-the-fly gradient modulation" (CVPR 2022). With the
halves W_m of a head on concatenated features z_m, and its bias b:

    s_m = sum over the batch of softmax(W_m z_m + b / 2)[label]
    rho_v = s_v / s_a,  rho_a = s_a / s_v
    k_m = 1 - tanh(alpha * rho_m)  where rho_m > 1, else 1
    gradient of a convolution of m  <-  k_m * gradient + N(0, std(gradient) + 1e-8)

The loss is the cross-entropy of W z + b alone; the optimizer SGD. Nothing here is of avmix.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class Classifier:
    """Two encoders and a layer on their features, those of video first."""

    video: nn.Module
    audio: nn.Module
    head: nn.Linear


def confidence(weight: Tensor, bias: Tensor, feature: Tensor, label: Tensor) -> Tensor:
    """s of a modality, of its half of the weights."""
    logits = feature @ weight.T + bias / 2
    return logits.softmax(1).gather(1, label[:, None]).sum()


def coefficients(of_video: Tensor, of_audio: Tensor, alpha: float) -> tuple[float, float]:
    """k of video and of audio, of both confidences."""
    rho = float(of_video / of_audio)
    if rho > 1:
        return 1 - float(torch.tensor(alpha * rho).tanh()), 1.0
    return 1.0, 1 - float(torch.tensor(alpha / rho).tanh())


def modulate(encoder: nn.Module, k: float, generator: torch.Generator | None) -> None:
    """The gradients of its convolutions; without noise where there is no generator."""
    for parameter in encoder.parameters():
        if parameter.grad is None or parameter.grad.ndim != 4:
            continue
        gradient = parameter.grad
        parameter.grad = gradient * k
        if generator is not None:
            noise = torch.randn(gradient.shape, generator=generator)
            parameter.grad += noise.to(gradient.device) * (gradient.std() + 1e-8)


def step(
    net: Classifier, video: Tensor, audio: Tensor, label: Tensor, *,
    optimizer: torch.optim.Optimizer, alpha: float, generator: torch.Generator | None,
) -> tuple[float, float]:  # fmt: skip
    """One step; k of video and audio."""
    optimizer.zero_grad()
    z_v, z_a = net.video(video), net.audio(audio)
    loss = nn.functional.cross_entropy(net.head(torch.cat([z_v, z_a], 1)), label)
    loss.backward()
    with torch.no_grad():
        half, bias = z_v.shape[1], net.head.bias
        found = coefficients(confidence(net.head.weight[:, :half], bias, z_v, label),
                             confidence(net.head.weight[:, half:], bias, z_a, label),
                             alpha)  # fmt: skip
    for encoder, k in zip((net.video, net.audio), found, strict=True):
        modulate(encoder, k, generator)
    optimizer.step()
    return found


def train(
    net: Classifier,
    epoch: Callable[[int], Iterable[tuple[Tensor, Tensor, Tensor]]],
    *,
    epochs: int,
    lr: float,
    step_epochs: int,
    alpha: float,
    seed: int,
) -> list[tuple[float, float]]:
    """Train with the optimizer and the schedule of the authors; `epoch`: batches of video, audio
    and label. k of every step. With alpha 0 there is no modulation and no noise."""
    for part in (net.video, net.audio, net.head):
        part.train()
    parameters = [p for part in (net.video, net.audio, net.head) for p in part.parameters()]
    optimizer = torch.optim.SGD(parameters, lr=lr, momentum=0.9, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, step_epochs, 0.1)
    generator = torch.Generator().manual_seed(seed) if alpha else None
    found = []
    for number in range(epochs):
        for video, audio, label in epoch(number):
            found.append(step(net, video, audio, label, optimizer=optimizer, alpha=alpha,
                              generator=generator))  # fmt: skip
        schedule.step()
    return found
