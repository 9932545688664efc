"""Mixes of more than two clips: features with weights that are drawn from a Dirichlet distribution.

    x = w_0 * own + w_1 * partner_1 + ... + w_p * partner_p        w ~ Dirichlet(alpha, ..., alpha)

and the label likewise: Venkataramanan et al., "Embedding space interpolation beyond mini-batch,
beyond pairs and beyond examples" (MultiMix, NeurIPS 2023), with partners of the same batch. Every
weight by itself is Beta(alpha, p * alpha); with one partner that is the lambda of a pair.

A partner that lacks a modality, or is of the clip's source, is left out of the mix, and the other
weights are divided by their sum. That is the law of a mix of those that are left: the weights of a
Dirichlet distribution without one of them, divided by their sum, are of one again.
"""

from collections.abc import Mapping

import numpy as np

from avmix.config import MixConfig
from avmix.config.mix_method import MixMethod
from avmix.mix.by_share import raised
from avmix.mix.mix_plan import MixPlan, Part
from avmix.mix.pairing import Clips, draw_several_partners


def draw_several(
    mix_method: MixMethod,
    config: MixConfig,
    clips: Clips,
    exponents: Mapping[str, float],
    rng: np.random.Generator,
    max_modalities: int,
) -> MixPlan:
    """Plan of features of each clip and `mix.partners` others; what is drawn does not depend on the
    method, `mixup`, `independent`, `by_share`, `video`, `audio` or `none`."""
    rows = draw_several_partners(config, clips, rng)
    size = len(rows)
    drawn = draw_weights(config, (size, max_modalities), rng)
    parts = []
    for column, (name, has) in enumerate(clips.present):
        weights = drawn[:, column if mix_method.method == "independent" else 0]
        if mix_method.method == "by_share":
            weights = raised(weights, exponents.get(name, 1.0))
        both = np.array([
            [has[i] and has[j] and clips.source[i] != clips.source[j] for j in row]
            for i, row in enumerate(rows)
        ])  # fmt: skip
        if mix_method.method in ("video", "audio", "none") and mix_method.method != name:
            both = np.zeros_like(both)
        weights = without(weights, both)
        parts.append(Part(name=name, domain="features", present=tuple(has[:size]),
                          weight=tuple(weights[:, 0].tolist()),
                          shares=tuple(map(tuple, weights[:, 1:].tolist()))))  # fmt: skip
    return MixPlan(
        num_inputs=clips.size,
        partner=tuple(row[0] for row in rows),
        partners=tuple(map(tuple, rows)),
        method=mix_method.method,
        level="feature",
        parts=tuple(parts),
    )


def draw_weights(config: MixConfig, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """(*shape, partners + 1) weights, the clip's own first: Dirichlet(alpha, ..., alpha), or of
    `law` uniform Dirichlet(1, ..., 1). `dominant`: the own one changes places with the largest.
    `per` batch: equal along the first axis."""
    alpha = config.alpha if config.law == "beta" else 1.0
    weights = rng.dirichlet([alpha] * (config.partners + 1), shape)
    if config.per == "batch":
        weights[:] = weights[:1]
    if config.dominant:
        largest = weights.argmax(-1)[..., None]
        most, own = np.take_along_axis(weights, largest, -1), weights[..., :1].copy()
        np.put_along_axis(weights, largest, own, -1)
        weights[..., :1] = most
    return weights


def without(weights: np.ndarray, both: np.ndarray) -> np.ndarray:
    """Weights (n, 1 + p), with 0 for the partners that are not in the mix (`both` (n, p) False),
    divided by their sum; the clip alone where nothing else is left."""
    if both.all():
        return weights
    kept = weights * np.concatenate([np.ones((len(both), 1), bool), both], 1)
    total = kept.sum(1, keepdims=True)
    alone = np.eye(1, weights.shape[1])
    kept = np.where(total > 0, kept / np.where(total > 0, total, 1), alone)
    return np.where(both.all(1, keepdims=True), weights, kept)
