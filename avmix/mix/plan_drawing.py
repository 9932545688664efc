"""Drawing of the mix plan of a batch: method, partners and lambdas."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from avmix.config import MixConfig
from avmix.config.mix_method import MixMethod, parse_mix_method
from avmix.mix.boxes import Grids
from avmix.mix.methods import (
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


def draw_plan(
    config: MixConfig,
    clips: Clips,
    grids: Grids,
    *,
    shared: np.random.Generator,
    own: np.random.Generator,
) -> MixPlan:
    """The plan of a batch.

    `shared` decides what all processes must agree on, method and layer; `own` all the rest. What is
    drawn from either does not depend on `probability` or on the methods, so that changing these
    leaves partners and lambdas as they were. Raises ValueError where the batch does not suit the
    pairing, or the grids the method.
    """
    coin, choice, depth = shared.random(3)
    recipe = _choose(config.mix_methods, choice) if coin < config.probability else _AS_IT_IS
    stage = config.layers[int(depth * len(config.layers))] if recipe.level == "layer" else None

    pairs = pairs_of(draw_partners(config, clips, own), clips)
    lam = draw_lam(config, pairs.size, own)
    numbers = own.random((pairs.size, 6))
    if config.per == "batch":
        numbers[:] = numbers[0]
    plan = _method(recipe, config, pairs, grids, lam, numbers)
    if recipe.level != plan.level:  # blends of whole tensors, moved into the network
        parts = tuple(replace(part, domain="features") for part in plan.parts)
        plan = replace(plan, level=recipe.level, stage=stage, parts=parts)
    drop = {"video": config.drop_video, "audio": config.drop_audio}
    return draw_dropout(drop, plan, own) if recipe.dropout else plan


_AS_IT_IS = MixMethod("none", "input", False)


def _choose(recipes: Mapping[str, float], choice: float) -> MixMethod:
    """The recipe at `choice` of the way through the probabilities."""
    passed = 0.0
    for word, probability in recipes.items():
        passed += probability
        if choice < passed:
            return parse_mix_method(word)
    return parse_mix_method(list(recipes)[-1])


def _method(
    recipe: MixMethod,
    config: MixConfig,
    pairs: Pairs,
    grids: Grids,
    lam: np.ndarray,
    numbers: np.ndarray,
) -> MixPlan:
    """Lambdas are in the columns of `lam`, one for each modality; `numbers` are in [0, 1)."""
    one = lam[:, 0].tolist()
    match recipe.method:
        case "none":
            return draw_none(pairs, grids)
        case "mixup":
            return draw_mixup(pairs, one, grids)
        case "independent":
            by_name = {name: lam[:, k].tolist() for k, name in enumerate(pairs.names)}
            return draw_independent(pairs, by_name, grids)
        case "video" | "audio":
            return draw_only(recipe.method, pairs, one, grids)
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
    """(size, 8) lambdas by `law`, in float64: a column for each modality, of which most methods use
    the first. Rows are equal where `per` is batch."""
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
