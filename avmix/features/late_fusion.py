"""Late fusion of the probabilities of several heads: one temperature and one weight for each head,
fitted to clips that the heads have not seen.

The product of powers p_1^(w_1 / T_1) p_2^(w_2 / T_2) ..., normalised: a logarithmic opinion pool
(Genest and Zidek, "Combining probability distributions", Statistical Science 1986). With all
weights 1 it is Bayes' rule for heads that err independently of each other. A weighted mean of
probabilities gains nothing where one head is much better than the others: its best weight is 0.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from avmix.features.regression import Probability

PRIOR_NATS = 3.0
"""What weight 1 of another head than the best has to be worth: a likelihood of the held-out clips
that is 20 times as large (e^3). Few clips say little, and leave the best head alone."""
_TEMPERATURES = np.exp(np.linspace(np.log(0.1), np.log(10.0), 41))
_WEIGHTS = np.linspace(0.0, 1.0, 21)
_LEAST = 1e-9
"""Probabilities are no smaller: one certain mistake must not decide alone."""


@dataclass(frozen=True, slots=True)
class LateFusion:
    """How heads are fused, each by its place."""

    temperatures: tuple[float, ...]
    """Above 1: the head is surer of itself than it may be."""
    weights: tuple[float, ...]
    """The best head has 1, the others 0 to 1."""

    def __call__(self, heads: Sequence[Probability]) -> Probability:
        """Fuse what the heads say of the same clips. A head that lacks its modality has no say;
        where all heads with a weight lack theirs, the others count alike."""
        counted = np.stack([head.counted for head in heads])
        weights = np.array(self.weights)[:, None] * counted
        weights = np.where(weights.any(0), weights, counted)
        logs = np.stack([
            _log(head.value) / t for head, t in zip(heads, self.temperatures, strict=True)
        ])  # fmt: skip
        value = _normalised((weights[:, :, None] * logs).sum(0))
        there = np.asarray(counted.any(0))
        return Probability(np.where(there[:, None], value, 0.0), there)


def equal_fusion(num_heads: int) -> LateFusion:
    """All heads count alike, as they are: where there is nothing to fit to."""
    return LateFusion((1.0,) * num_heads, (1.0,) * num_heads)


def fit_late_fusion(heads: Sequence[Probability], labels: np.ndarray) -> LateFusion:
    """Fit to what `heads` say of clips that they were not fitted to, by the likelihood of the
    labels.

    First the temperature of each head by itself; then the weights of all heads but the one with the
    best likelihood, which has 1, with an exponential prior of `PRIOR_NATS`. Clips that lack a
    modality do not count; without any, heads count alike.
    """
    whole = np.all([head.counted for head in heads], 0)
    if not whole.any():
        return equal_fusion(len(heads))
    labels = labels[whole]
    logs = [_log(head.value[whole]) for head in heads]
    temperatures = [
        min(_TEMPERATURES, key=lambda t, log=log: _loss(log / t, labels)) for log in logs
    ]
    sharp = np.stack([log / t for log, t in zip(logs, temperatures, strict=True)])
    best = int(np.argmin([_loss(log, labels) for log in sharp]))

    def cost(weights: tuple[float, ...]) -> float:
        pooled = (np.array(weights)[:, None, None] * sharp).sum(0)
        return _loss(pooled, labels) + PRIOR_NATS * (sum(weights) - 1.0)

    tried = product(*([1.0] if head == best else _WEIGHTS for head in range(len(heads))))
    return LateFusion(tuple(map(float, temperatures)), tuple(map(float, min(tried, key=cost))))


def _log(value: np.ndarray) -> np.ndarray:
    return np.log(value.clip(min=_LEAST))


def _normalised(logs: np.ndarray) -> np.ndarray:
    value = np.exp(logs - logs.max(1, keepdims=True))
    return value / value.sum(1, keepdims=True)


def _loss(logs: np.ndarray, labels: np.ndarray) -> float:
    """Negative logarithm of the likelihood, nats, of probabilities that are not normalised."""
    chosen = _normalised(logs)[np.arange(len(labels)), labels]
    return float(-_log(chosen).sum())
