"""Mixing methods: one `draw_*` function per method; `draw_plan` (`plan_drawing`) chooses one.

Each is told who is whose partner (`Pairs`) and draws the rest as data. Two rules hold for all. A
modality that the clip or its partner lacks is not mixed: its weight is 1, so its head learns the
clip's own label, and the label of the fused head follows (`MixPlan.lam`). And two clips of one
source are not mixed with each other.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import accumulate, pairwise

import numpy as np

from avmix.config import MixConfig
from avmix.config.mix_method import Method
from avmix.mix.boxes import Cut, Grids, draw_band, draw_interval, draw_rectangle, everything
from avmix.mix.by_share import raised
from avmix.mix.mix_plan import Box, MixPlan, Part, with_presence
from avmix.mix.pairing import Pairs

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


def draw_by_share(
    pairs: Pairs, lam: Sequence[float], exponents: Mapping[str, float], grids: Grids
) -> MixPlan:
    """Mixup that mixes the modality more that is ahead: a lambda for each modality, made of one by
    the exponents of `avmix.mix.by_share`, where the formula is. A modality without one has 1.

    Labels as of `draw_independent`; with exponents of 1 all is as `draw_mixup` has it.
    """
    weights = np.array([[own, 1 - own] for own in lam]).reshape(-1, 2)
    by_name = {name: raised(weights, exponents.get(name, 1.0))[:, 0].tolist()
               for name in pairs.names}  # fmt: skip
    return _blended("by_share", pairs, by_name, grids)


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
