"""Drawing of the mix plan of a batch: method, partners and lambdas."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from avmix.config import MixConfig
from avmix.config.mix_method import MixMethod, parse_mix_method
from avmix.mix.boxes import Grids
from avmix.mix.methods import (
    draw_by_share,
    draw_cross,
    draw_cutmix_frequency,
    draw_cutmix_spatial,
    draw_cutmix_spatiotemporal,
    draw_cutmix_temporal,
    draw_dropout,
    draw_energy,
    draw_independent,
    draw_mixup,
    draw_none,
    draw_only,
)
from avmix.mix.mix_plan import MixPlan
from avmix.mix.pairing import Clips, Pairs, draw_partners, pairs_of
from avmix.mix.several import draw_several

_EQUAL: dict[str, float] = {}


def draw_plan(
    config: MixConfig,
    clips: Clips,
    grids: Grids,
    *,
    shared: np.random.Generator,
    own: np.random.Generator,
    exponents: Mapping[str, float] = _EQUAL,
) -> MixPlan:
    """Draw the mixing plan of a batch.

    `shared` decides what all processes must agree on, method and layer; `own` all the rest. What is
    drawn from either does not depend on `probability` or on the methods, so that changing these
    leaves partners and lambdas as they were. `exponents`: of the modalities, for the method
    `by_share` (`avmix.mix.by_share`); 1 where not given. Raises ValueError where the batch does not
    suit the pairing, or the grids the method.
    """
    coin, choice, depth = shared.random(3)
    mix_method = _choose(config.mix_methods, choice) if coin < config.probability else _AS_IT_IS
    stage = config.layers[int(depth * len(config.layers))] if mix_method.level == "layer" else None

    drop = {"video": config.drop_video, "audio": config.drop_audio}
    if config.partners > 1:
        plan = draw_several(mix_method, config, clips, exponents, own, MAX_MODALITIES)
        return draw_dropout(drop, plan, own) if mix_method.dropout else plan

    pairs = pairs_of(draw_partners(config, clips, own), clips)
    lam = draw_lam(config, pairs.size, own)
    numbers = own.random((pairs.size, 6))
    if config.per == "batch":
        numbers[:] = numbers[0]
    plan = _method(mix_method, config, pairs, grids, lam, numbers, exponents)
    if mix_method.level != plan.level:  # blends of whole tensors, moved into the network
        parts = tuple(replace(part, domain="features") for part in plan.parts)
        plan = replace(plan, level=mix_method.level, stage=stage, parts=parts)
    return draw_dropout(drop, plan, own) if mix_method.dropout else plan


_AS_IT_IS = MixMethod("none", "input", False)


def _choose(mix_methods: Mapping[str, float], choice: float) -> MixMethod:
    """The mixing method at `choice` of the way through the probabilities."""
    passed = 0.0
    for word, probability in mix_methods.items():
        passed += probability
        if choice < passed:
            return parse_mix_method(word)
    return parse_mix_method(list(mix_methods)[-1])


def _method(
    mix_method: MixMethod,
    config: MixConfig,
    pairs: Pairs,
    grids: Grids,
    lam: np.ndarray,
    numbers: np.ndarray,
    exponents: Mapping[str, float],
) -> MixPlan:
    """Lambdas are in the columns of `lam`, one for each modality; `numbers` are in [0, 1)."""
    one = lam[:, 0].tolist()
    match mix_method.method:
        case "none":
            return draw_none(pairs, grids)
        case "mixup":
            return draw_mixup(pairs, one, grids)
        case "independent":
            by_name = {name: lam[:, k].tolist() for k, name in enumerate(pairs.names)}
            return draw_independent(pairs, by_name, grids)
        case "by_share":
            return draw_by_share(pairs, one, exponents, grids)
        case "video" | "audio":
            return draw_only(mix_method.method, pairs, one, grids)
        case "cutmix_temporal":
            return draw_cutmix_temporal(pairs, one, numbers, grids)
        case "cutmix_spatial":
            return draw_cutmix_spatial(pairs, one, numbers, grids)
        case "cutmix_spatiotemporal":
            return draw_cutmix_spatiotemporal(pairs, one, numbers, grids)
        case "cutmix_frequency":
            return draw_cutmix_frequency(pairs, one, numbers, grids)
        case "energy":
            return draw_energy(pairs, one, config.energy_limit_db, grids)
        case "cross":
            return draw_cross(pairs, one, config)


def draw_lam(config: MixConfig, size: int, rng: np.random.Generator) -> np.ndarray:
    """Draw (size, 8) lambdas by `law`, in float64: a column for each modality, of which most
    methods use the first. Rows are equal where `per` is batch."""
    shape = (size, MAX_MODALITIES)
    match config.law:
        case "beta":
            lam = rng.beta(config.alpha, config.alpha, shape)
        case "uniform":
            lam = rng.random(shape)
        case "fixed":
            lam = np.full(shape, config.lam)
    if config.per == "batch":
        lam[:] = lam[:1]
    return np.maximum(lam, 1 - lam) if config.dominant else lam


MAX_MODALITIES = 8
"""As many lambdas are drawn for a clip."""
