"""Mixing methods: one `draw_*` function per method, and `draw_plan`, which chooses one.

Each is told who is whose partner (`Pairs`) and draws the rest as data. Two rules hold for all. A
modality that the clip or its partner lacks is not mixed: its weight is 1, so its head learns the
clip's own label, and the label of the fused head follows (`MixPlan.lam`). And two clips of one
source are not mixed with each other.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise

import numpy as np

from avmix.config import MixConfig
from avmix.config.mix_method import Method, MixMethod, parse_mix_method
from avmix.mix.boxes import Cut, Grids, draw_band, draw_interval, draw_rectangle, everything
from avmix.mix.mix_plan import Box, MixPlan, Part, with_presence
from avmix.mix.pairing import Clips, draw_partners


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairs:
    """Pairs of clips to mix, and the modalities that both have."""

    num_inputs: int
    partner: tuple[int, ...]
    shared: tuple[tuple[str, tuple[bool, ...]], ...]
    """(modality, whether clip and partner both have it and are of two sources)"""
    present: tuple[tuple[str, tuple[bool, ...]], ...]
    """(modality, whether the clip itself has it)"""

    @property
    def size(self) -> int:
        """Number of mixed clips."""
        return len(self.partner)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the modalities."""
        return tuple(name for name, _ in self.shared)


def pairs_of(partner: Sequence[int], clips: Clips) -> Pairs:
    """Pairs of `clips` with these partners. ValueError for a partner that does not exist."""
    if not all(0 <= j < clips.size for j in partner):
        raise ValueError(f"partner must be in [0, {clips.size}), got {tuple(partner)}")
    places = tuple(enumerate(partner))
    two = [clips.source[i] != clips.source[j] for i, j in places]
    return Pairs(
        num_inputs=clips.size,
        partner=tuple(partner),
        shared=tuple(
            (name, tuple(two[i] and has[i] and has[j] for i, j in places))
            for name, has in clips.present
        ),
        present=tuple((name, tuple(has[: len(partner)])) for name, has in clips.present),
    )


# Drawing ------------------------------------------------------------------------------------------


def draw_plan(
    config: MixConfig,
    clips: Clips,
    grids: Grids,
    *,
    shared: np.random.Generator,
    own: np.random.Generator,
) -> MixPlan:
    """Draw the mixing plan of a batch.

    `shared` decides what all processes must agree on, method and layer; `own` all the rest. What is
    drawn from either does not depend on `probability` or on the methods, so that changing these
    leaves partners and lambdas as they were. Raises ValueError where the batch does not suit the
    pairing, or the grids the method.
    """
    coin, choice, depth = shared.random(3)
    mix_method = _choose(config.mix_methods, choice) if coin < config.probability else _AS_IT_IS
    stage = config.layers[int(depth * len(config.layers))] if mix_method.level == "layer" else None

    pairs = pairs_of(draw_partners(config, clips, own), clips)
    lam = draw_lam(config, pairs.size, own)
    numbers = own.random((pairs.size, 6))
    if config.per == "batch":
        numbers[:] = numbers[0]
    plan = _method(mix_method, config, pairs, grids, lam, numbers)
    if mix_method.level != plan.level:  # blends of whole tensors, moved into the network
        parts = tuple(replace(part, domain="features") for part in plan.parts)
        plan = replace(plan, level=mix_method.level, stage=stage, parts=parts)
    drop = {"video": config.drop_video, "audio": config.drop_audio}
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


# Whole tensors ------------------------------------------------------------------------------------


def draw_none(pairs: Pairs, grids: Grids) -> MixPlan:
    """Plan without mixing."""
    return _blended("none", pairs, {}, grids)


def draw_mixup(pairs: Pairs, lam: Sequence[float], grids: Grids) -> MixPlan:
    """Cross-Modal Mixup: one lambda for every modality and the label.

        x = lam * a + (1 - lam) * b        lam ~ Beta(alpha, alpha)

    Zhang et al., "mixup: beyond empirical risk minimization" (ICLR 2018), carried over to every
    modality of a clip. At `@layer`, Verma et al., "Manifold mixup" (ICML 2019), at the same stage
    of both encoders; at `@feature`, on what the encoders give.
    """
    return _blended("mixup", pairs, dict.fromkeys(pairs.names, lam), grids)


def draw_independent(pairs: Pairs, lam: Mapping[str, Sequence[float]], grids: Grids) -> MixPlan:
    """Independent mixup of each modality: a lambda for each, one partner for all.

    What Nagrani et al., "Attention bottlenecks for multimodal fusion" (NeurIPS 2021), call
    modality mixup (`mixmod` in its code). Each head has the label of its own modality; the fused
    label is their mean.
    """
    return _blended("independent", pairs, lam, grids)


def draw_only(name: Method, pairs: Pairs, lam: Sequence[float], grids: Grids) -> MixPlan:
    """Mixup of modality `name` alone.

    The fused label says so: with two modalities the own weight is (lam + 1) / 2. (Tools that mix
    one modality by mistake give it lam.)
    """
    return _blended(name, pairs, {name: lam}, grids)


# Boxes --------------------------------------------------------------------------------------------


def draw_cutmix_temporal(
    pairs: Pairs, lam: Sequence[float], numbers: np.ndarray, grids: Grids
) -> MixPlan:
    """CutMix in time: the same seconds of video and audio are the partner's.

    An interval of (1 - lam) of the window around a uniform instant, cut off at the window's ends
    (the temporal cut of Yun et al., "VideoMix", 2020), then moved to the nearest borders between
    frames. Each head's label has the true share of its own frames, columns or samples; they
    differ by rounding only. A modality without time is blended by that share.
    """
    cuts = []
    for one, drawn in zip(lam, numbers, strict=True):
        seconds, duration = draw_interval(grids, 1 - one, drawn[0])
        cuts.append(Cut(time=seconds, duration=duration))
    return _cut_out("cutmix_temporal", pairs, cuts, grids)


def draw_cutmix_spatial(
    pairs: Pairs, lam: Sequence[float], numbers: np.ndarray, grids: Grids
) -> MixPlan:
    """CutMix in space: a rectangle of every frame is the partner's; the audio is mixed by its area.

    Yun et al., "CutMix" (ICCV 2019): sides sqrt(1 - lam) of the frame's, centre uniform, cut off
    at the edges; lambda is then the true share of pixels, in audio and labels too.
    """
    cuts = []
    for one, drawn in zip(lam, numbers, strict=True):
        place, area = draw_rectangle(grids, math.sqrt(1 - one), drawn)
        cuts.append(Cut(place=place, area=area))
    return _cut_out("cutmix_spatial", pairs, cuts, grids)


def draw_cutmix_spatiotemporal(
    pairs: Pairs, lam: Sequence[float], numbers: np.ndarray, grids: Grids
) -> MixPlan:
    """CutMix in space and time: a rectangle during an interval is the partner's; in the same
    seconds the audio is mixed by the rectangle's area.

    The spatio-temporal cut of VideoMix: every side is (1 - lam) ** (1/3) of the whole.
    """
    cuts = []
    for one, drawn in zip(lam, numbers, strict=True):
        side = (1 - one) ** (1 / 3)
        seconds, duration = draw_interval(grids, side, drawn[0])
        place, area = draw_rectangle(grids, side, drawn[1:])
        cuts.append(Cut(time=seconds, duration=duration, place=place, area=area))
    return _cut_out("cutmix_spatiotemporal", pairs, cuts, grids)


def draw_cutmix_frequency(
    pairs: Pairs, lam: Sequence[float], numbers: np.ndarray, grids: Grids
) -> MixPlan:
    """CutMix in frequency: a band of mel bins is the partner's; the frames are mixed by its share.

    The frequency mask of Kim et al., "SpecMix" (Interspeech 2021), one band of (1 - lam) of the
    bins, cut off at the ends.
    """
    cuts = []
    for one, drawn in zip(lam, numbers, strict=True):
        band, width = draw_band(grids, 1 - one, drawn[0])
        cuts.append(Cut(band=band, width=width))
    return _cut_out("cutmix_frequency", pairs, cuts, grids)


# Audio by loudness, features, dropout -------------------------------------------------------------


def draw_energy(pairs: Pairs, lam: Sequence[float], limit_db: float, grids: Grids) -> MixPlan:
    """Between-class mixing: lambda is the perceived share, not the gain of the waveform.

    Tokozume et al., "Learning from between-class examples for deep audio recognition" (ICLR 2018).
    With A-weighted loudness G of both waveforms, in dB,

        t = 1 / (1 + 10 ** ((G_a - G_b) / 20) * (1 - lam) / lam)
        x = (t * a + (1 - t) * b) / sqrt(t ** 2 + (1 - t) ** 2)

    which keeps the power of the mix. G is measured where the audio is mixed
    (`avmix.mix.loudness`); the difference is limited to `limit_db`, so that a nearly silent clip
    does not drown its partner. Frames and labels are mixed by lambda.
    """
    return _blended("energy", pairs, dict.fromkeys(pairs.names, lam), grids, limit_db)


def draw_cross(pairs: Pairs, lam: Sequence[float], config: MixConfig) -> MixPlan:
    """Cross-modal feature mixing: the video feature of a clip is mixed with an audio feature, and
    vice versa.

    For encoders whose features are compatible: both are projected into one space
    (`model.shared_width`) and mixed there, along a line or along the sphere (the geodesic mixup of
    Oh et al., "Geodesic multi-modal mixup for robust fine-tuning", NeurIPS 2023), with the other
    feature of the clip itself (`cross_with: own`; the label stays) or of its partner.
    """
    present, partner = dict(pairs.present), pairs.partner
    if config.cross_with == "own":
        partner = tuple(range(pairs.size))
        both = [all(has) for has in zip(*present.values(), strict=True)]
    else:
        # The partner's other feature is mixed in, so both clips must have both.
        both = [all(has) for has in zip(*dict(pairs.shared).values(), strict=True)]
    weight = tuple(x if b else 1.0 for x, b in zip(lam, both, strict=True))
    return MixPlan(
        num_inputs=pairs.num_inputs,
        partner=partner,
        method="cross",
        level="feature",
        path=config.cross_path,
        parts=tuple(
            Part(name=name, domain="features", weight=weight, present=has)
            for name, has in present.items()
        ),
    )


def draw_dropout(drop: Mapping[str, float], plan: MixPlan, rng: np.random.Generator) -> MixPlan:
    """Modality dropout, after mixing: `drop` is the share of the clips that lose each modality.

    Neverova et al., "ModDrop" (TPAMI 2016), by mask: the network leaves the feature out, nothing is
    set to zero that batch normalisation would see. Only a clip that has every modality can lose
    one, so that none is left with nothing. Its fused label is that of what is left.
    """
    # Neighbours share a limit, to the bit: no draw lies in two ranges.
    limits = [0.0, *accumulate(drop.values())]
    ranges = dict(zip(drop, pairwise(limits), strict=True))
    draws = rng.random(plan.size).tolist()
    whole = [all(part.present[i] for part in plan.parts) for i in range(plan.size)]

    def lost(name: str, i: int) -> bool:
        low, high = ranges.get(name, (0.0, 0.0))
        return whole[i] and low <= draws[i] < high

    present = {
        part.name: [has and not lost(part.name, i) for i, has in enumerate(part.present)]
        for part in plan.parts
    }
    dropped = with_presence(plan, present)
    if plan.path is None:
        return dropped
    # A feature of the other modality that was mixed in would bring back what is lost.
    parts = []
    for part in dropped.parts:
        own = [1.0 if whole[i] and any(lost(p.name, i) for p in plan.parts) else w
               for i, w in enumerate(part.weight)]  # fmt: skip
        parts.append(replace(part, weight=tuple(own)))
    return replace(dropped, parts=tuple(parts))


# Parts of plans -----------------------------------------------------------------------------------


def _blended(
    method: Method,
    pairs: Pairs,
    lam: Mapping[str, Sequence[float]],
    grids: Grids,
    energy_limit_db: float | None = None,
) -> MixPlan:
    """Whole tensors: the modalities in `lam` mixed, where both have them."""
    if missing := sorted(lam.keys() - set(pairs.names)):
        raise ValueError(
            f"{method} mixes {', '.join(missing)}, the clips have {', '.join(pairs.names)}"
        )
    ones = (1.0,) * pairs.size
    parts = [(name, None, lam.get(name, ones)) for name in pairs.names]
    return _plan(method, pairs, parts, grids, energy_limit_db)


def _cut_out(method: Method, pairs: Pairs, cuts: Sequence[Cut], grids: Grids) -> MixPlan:
    """The same cut of every modality, where both clips have it."""
    parts = [
        (name, [cut.box(grid) for cut in cuts], [cut.weight(grid) for cut in cuts])
        for name, grid in grids.items()
    ]
    return _plan(method, pairs, parts, grids)


def _plan(
    method: Method,
    pairs: Pairs,
    parts: Sequence[tuple[str, Sequence[Box] | None, Sequence[float]]],
    grids: Grids,
    energy_limit_db: float | None = None,
) -> MixPlan:
    shared, present = dict(pairs.shared), dict(pairs.present)
    if shared.keys() != grids.keys():
        raise ValueError(f"clips have {', '.join(shared)}, grids are of {', '.join(grids)}")
    made = []
    for name, boxes, weights in parts:
        both, shape = shared[name], grids[name].shape
        # A box that is everything for every clip is no box.
        cut = boxes is not None and any(box != everything(grids[name]) for box in boxes)
        made.append(
            Part(
                name=name,
                domain=grids[name].domain,
                weight=tuple(float(w) if b else 1.0 for w, b in zip(weights, both, strict=True)),
                present=present[name],
                box=tuple(boxes) if boxes is not None and cut else None,
                shape=shape if cut else (),
            )
        )
    return MixPlan(
        num_inputs=pairs.num_inputs,
        partner=pairs.partner,
        method=method,
        level="input",
        parts=tuple(made),
        energy_limit_db=energy_limit_db,
    )
