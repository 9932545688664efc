"""The double of OGM-GE against its formulas by hand."""

import math

import pytest
import torch
from ogm_ge_double import Classifier, coefficients, confidence, modulate, step
from torch import nn


def test_confidence_by_hand() -> None:
    """Two clips, two classes: logits 1 and 0 beside half of the bias."""
    weight, bias = torch.tensor([[1.0], [0.0]]), torch.tensor([0.0, 2.0])
    found = confidence(weight, bias, torch.tensor([[1.0], [3.0]]), torch.tensor([0, 1]))
    # (1, 1) and (3, 1): 1/2 of the first class, 1 / (1 + e^2) of the second.
    assert found.item() == pytest.approx(0.5 + 1 / (1 + math.e**2))


def test_coefficients_by_hand() -> None:
    ahead = coefficients(torch.tensor(3.0), torch.tensor(1.5), 0.8)
    assert ahead == pytest.approx((1 - math.tanh(1.6), 1))
    behind = coefficients(torch.tensor(1.0), torch.tensor(4.0), 0.1)
    assert behind == pytest.approx((1, 1 - math.tanh(0.4)))
    assert coefficients(torch.tensor(1.0), torch.tensor(1.0), 0.8)[0] == 1  # of video at a tie


def test_only_convolutions_are_modulated() -> None:
    net = nn.Sequential(nn.Conv2d(1, 64, 8), nn.BatchNorm2d(64))
    for parameter in net.parameters():
        parameter.grad = torch.ones_like(parameter)
    modulate(net, 0.25, None)
    convolution, *others = net.parameters()
    assert convolution.grad is not None
    assert (convolution.grad == 0.25).all()
    assert all((p.grad == 1).all() for p in others if p.grad is not None)
    draw = torch.Generator().manual_seed(0)
    gradient = 3 * torch.randn(convolution.shape, generator=draw)
    convolution.grad = gradient.clone()
    modulate(net, 0.25, torch.Generator().manual_seed(1))
    noise = convolution.grad - 0.25 * gradient
    assert noise.std().item() == pytest.approx(gradient.std().item(), rel=0.05)
    assert noise.mean().item() == pytest.approx(0, abs=0.2)


def test_a_step_of_plain_sgd_by_hand() -> None:
    """Without noise: the encoder that is ahead moves by k times its gradient, the head by its
    own."""
    torch.manual_seed(0)
    encoders = [nn.Sequential(nn.Conv2d(1, 3, 2), nn.Flatten()) for _ in range(2)]
    net = Classifier(video=encoders[0], audio=encoders[1], head=nn.Linear(6, 2))
    video, audio = torch.randn(4, 1, 2, 2).repeat(1, 1, 1, 1), torch.randn(4, 1, 2, 2)
    net.head.weight.data[:, 3:] = 0  # audio says nothing: half of each clip is its confidence
    encoders[0] = nn.Sequential(nn.Conv2d(1, 3, 2), nn.Flatten())
    label = torch.tensor([0, 1, 0, 1])
    net = Classifier(video=nn.Sequential(nn.Conv2d(1, 3, 2), nn.Flatten()),
                     audio=nn.Sequential(nn.Conv2d(1, 3, 2), nn.Flatten()),
                     head=net.head)  # fmt: skip
    parts = (net.video, net.audio, net.head)
    before = [[p.detach().clone() for p in part.parameters()] for part in parts]
    optimizer = torch.optim.SGD([p for part in parts for p in part.parameters()], lr=0.5)
    logits = net.head(torch.cat([net.video(video), net.audio(audio)], 1))
    expected = [torch.autograd.grad(nn.functional.cross_entropy(logits, label),
                                    list(part.parameters()), retain_graph=True)
                for part in parts]  # fmt: skip
    k = (*step(net, video, audio, label, optimizer=optimizer, alpha=0.8, generator=None), 1.0)
    assert sorted(k)[1:] == [1, 1]
    assert 0 < min(k) < 1 - math.tanh(0.8)
    for part, old, gradients, scale in zip(parts, before, expected, k, strict=True):
        for now, then, gradient in zip(part.parameters(), old, gradients, strict=True):
            factor = scale if now.ndim == 4 else 1.0
            torch.testing.assert_close(now.detach(), then - 0.5 * factor * gradient)


def test_the_coefficients_of_avmix_are_these() -> None:
    ours = pytest.importorskip("avmix.training.balance.ogm_ge")
    for s_v, s_a in ((3.0, 1.5), (1.0, 4.0), (2.0, 1.9)):
        sums = torch.tensor([[s_v, 8.0], [s_a, 8.0]])
        found = ours.update_scales(sums, 0.8)
        expected = coefficients(torch.tensor(s_v), torch.tensor(s_a), 0.8)
        assert found.tolist() == pytest.approx(list(expected))
