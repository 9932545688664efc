"""Mixing plans: partner, weight and box of every clip of a batch, drawn once on the CPU, as data.

lambda and every weight is the weight of the clip's OWN signal: 1 means untouched. In each modality
the clip at place i keeps its own signal outside a box, and inside the box becomes

    weight[i] * x[i] + (1 - weight[i]) * x[partner[i]]

Mixup is a box that is everything; CutMix a weight of 0 in a smaller one. Either way

    lam[i] = 1 - (1 - weight[i]) * |box[i]| / |everything|

is the own share of the modality, and of the label of its head.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import numpy as np
import torch
from torch import Tensor

from avmix.config.mix_method import Level, Method
from avmix.system import strict_json

Box = tuple[int, ...]
"""(start, stop) of every axis of a grid, half open."""

CrossPath = Literal["linear", "sphere"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Mixing of one modality: weight, box and presence of every clip."""

    name: str
    """Name of the modality."""
    domain: str
    """What of it is mixed: `pixels`; `waveform`, `power` or `log_mel`; `features`."""
    weight: tuple[float, ...]
    """Weight of the own signal inside the box."""
    present: tuple[bool, ...]
    """Which clips have this modality, after mixing and dropout."""
    box: tuple[Box, ...] | None = None
    """None: everything."""
    shape: tuple[int, ...] = ()
    """Lengths of the axes that the boxes are cut from."""
    shares: tuple[tuple[float, ...], ...] | None = None
    """Where clips have several partners: the weight of each of them, clip by clip."""

    @property
    def lam(self) -> tuple[float, ...]:
        """Own share of the modality, and own weight in the label of its head, clip by clip."""
        if self.box is None:
            return self.weight
        everything = math.prod(self.shape)
        return tuple(
            1 - (1 - w) * (volume(box) / everything)
            for w, box in zip(self.weight, self.box, strict=True)
        )

    @property
    def mixes(self) -> bool:
        """True when any clip's weight is below 1."""
        return any(w < 1 for w in self.weight)

    def check(self, size: int) -> None:
        """Raise ValueError where this cannot be carried out for `size` clips."""
        for name in ("weight", "present", "box", "shares"):
            values = getattr(self, name)
            if values is not None and len(values) != size:
                raise ValueError(f"{self.name}: {len(values)} of {name} for {size} partners")
        if not all(0 <= w <= 1 for w in self.weight):
            raise ValueError(f"{self.name}: weights must be in [0, 1], got {self.weight}")
        for own, row in zip(self.weight, self.shares or (), strict=False):
            if not all(0 <= w <= 1 for w in row) or abs(math.fsum((own, *row)) - 1) > 1e-6:
                raise ValueError(f"{self.name}: weights must add up to 1, got {own} and {row}")
        for box in self.box or ():
            ranges = zip(box[0::2], box[1::2], self.shape, strict=False)
            if len(box) != 2 * len(self.shape) or not all(0 <= a <= b <= n for a, b, n in ranges):
                raise ValueError(f"{self.name}: no box of {self.shape}: {box}")


@dataclass(frozen=True, slots=True, kw_only=True)
class MixPlan:
    """Mixing plan of one batch: plain numbers that can be printed, saved and replayed."""

    num_inputs: int
    """Clips that are read; more than `size` where the rest only serve as partners."""
    partner: tuple[int, ...]
    """Place among the inputs of each clip's partner."""
    method: Method
    level: Level
    parts: tuple[Part, ...]
    """One for each modality."""
    stage: int | None = None
    """Level `layer`: stages of each encoder before the mix."""
    path: CrossPath | None = None
    """Method `cross`: how features of two modalities are mixed."""
    energy_limit_db: float | None = None
    """Method `energy`: largest difference of loudness that is made up for."""
    partners: tuple[tuple[int, ...], ...] | None = None
    """Places of all partners of each clip, where there are several (`avmix.mix.several`)."""

    def __post_init__(self) -> None:
        """Raises ValueError where lengths differ, a partner is not among the inputs, a weight is
        not in [0, 1], or a box not inside its grid, and where method, level, stage, path and limit
        do not go together."""
        if (self.stage is not None) != (self.level == "layer") or (self.stage or 0) < 0:
            raise ValueError(f"level {self.level} does not go with stage {self.stage}")
        if not all(0 <= place < self.num_inputs for place in self.partner):
            raise ValueError(f"partner must be in [0, {self.num_inputs}), got {self.partner}")
        if self.size > self.num_inputs:
            raise ValueError(f"{self.size} clips cannot come out of {self.num_inputs}")
        for part in self.parts:
            part.check(self.size)
        names = [part.name for part in self.parts]
        if len({*names}) < len(names):
            raise ValueError(f"a modality has more than one part: {', '.join(names)}")
        # What would be carried out otherwise than its label says.
        if (self.method == "energy") != (self.energy_limit_db is not None):
            raise ValueError(
                f"method {self.method} does not go with energy_limit_db {self.energy_limit_db}"
            )
        if (self.method == "cross") != (self.path is not None):
            raise ValueError(f"method {self.method} does not go with path {self.path}")
        rows = self.partners or ()
        if rows and (len(rows) != self.size or not all(
            len(row) == len(rows[0]) and all(0 <= j < self.num_inputs for j in row) for row in rows
        )):  # fmt: skip
            raise ValueError(f"partners must be as many places of each clip, got {rows}")
        for part in self.parts:
            if [len(row) for row in part.shares or ()] != [len(row) for row in rows]:
                raise ValueError(f"{part.name}: shares {part.shares} are not of {rows}")
        if rows and self.level != "feature":
            raise ValueError(f"several clips are mixed at feature level, not at {self.level}")
        if self.level != "input" and any(part.box is not None for part in self.parts):
            raise ValueError(f"boxes are cut at input level, not at {self.level}")

    @property
    def size(self) -> int:
        """Number of mixed clips."""
        return len(self.partner)

    def part(self, name: str) -> Part:
        """Part of modality `name`; ValueError, with the existing names, where there is none."""
        for part in self.parts:
            if part.name == name:
                return part
        raise ValueError(
            f"the plan does not say what happens to {name!r}, only to "
            f"{', '.join(part.name for part in self.parts)}"
        )

    @property
    def lam(self) -> tuple[float, ...]:
        """Own weight in the label of a head that sees every modality.

        The mean over the modalities that the clip has: of a clip whose frames are mixed and whose
        audio is its own, because the partner has none, half of the label is beyond doubt its own.
        """
        lams = [part.lam for part in self.parts]
        found = []
        for i in range(self.size):
            seen = [lam[i] for lam, part in zip(lams, self.parts, strict=True) if part.present[i]]
            found.append(math.fsum(seen) / len(seen) if seen else 1.0)
        return tuple(found)

    @property
    def shares(self) -> tuple[tuple[float, ...], ...] | None:
        """Where clips have several partners: the weight of each in the label of a head that sees
        every modality, as `lam` is of the own one."""
        if self.partners is None:
            return None
        found = []
        for i, row in enumerate(self.partners):
            seen = [part.shares[i] for part in self.parts if part.shares and part.present[i]]
            found.append(tuple(math.fsum(one) / len(seen) for one in zip(*seen, strict=True))
                         if seen else (0.0,) * len(row))  # fmt: skip
        return tuple(found)

    @property
    def mixes(self) -> bool:
        """True when any modality of any clip is mixed."""
        return any(part.mixes for part in self.parts)

    def for_size(self, num_inputs: int) -> "MixPlan":
        """Check that the plan is for `num_inputs` clips and return it; else ValueError."""
        if num_inputs != self.num_inputs:
            raise ValueError(f"the plan is for {self.num_inputs} clips, there are {num_inputs}")
        return self

    def of_one(self, place: int) -> "MixPlan":
        """The mix of one clip of the batch, for two inputs: the clip and its partner.

        Raises ValueError where there is no such place, and where clips have several partners.
        """
        if self.partners is not None:
            raise ValueError("the plan mixes several clips at once, which are no pair")
        if not 0 <= place < self.size:
            raise ValueError(f"the plan is of {self.size} clips, there is no clip {place}")
        parts = tuple(
            replace(
                part,
                weight=part.weight[place : place + 1],
                present=part.present[place : place + 1],
                box=part.box and part.box[place : place + 1],
            )
            for part in self.parts
        )
        partner = 0 if self.partner[place] == place else 1
        return replace(self, num_inputs=2, partner=(partner,), parts=parts)

    def to_json(self) -> str:
        """Serialise the plan to one line of JSON, which `from_json` reads."""
        return strict_json.dumps(asdict(self))

    @staticmethod
    def from_json(text: str) -> "MixPlan":
        """Read a plan from JSON: of `to_json`, or a line of plans_rankN.jsonl. Raises ValueError,
        which says what is wrong, for anything else."""
        try:
            found = json.loads(text)
        except (json.JSONDecodeError, RecursionError) as error:
            raise ValueError(f"not a plan: {error}") from None
        if isinstance(found, dict) and "plan" in found:  # a line of plans_rankN.jsonl
            found = found["plan"]
        return _read(MixPlan, found, "the plan")

    def to(self, device: torch.device) -> "PlacedPlan":
        """Copy the plan's numbers to `device`, asynchronously and in one transfer."""
        blocks = [np.array(self.partner, np.int32), np.array(self.lam, np.float32).view(np.int32)]
        for part in self.parts:
            blocks += [
                np.array(part.weight, np.float32).view(np.int32),
                np.array(part.lam, np.float32).view(np.int32),
                np.array(part.present, np.int32),
                np.array(part.box or (), np.int32).ravel(),
            ]
        if self.partners is not None:
            blocks += [np.array(self.partners, np.int32).ravel(), _packed(self.shares)]
            blocks += [_packed(part.shares) for part in self.parts]
        packed = torch.from_numpy(np.concatenate(blocks))
        if device.type == "cuda":
            packed = packed.pin_memory().to(device, non_blocking=True)
        pieces = iter(packed.split([len(block) for block in blocks]))
        partner, lam = next(pieces), next(pieces).view(torch.float32)
        placed = []
        for part in self.parts:
            weight, own, present, box = (next(pieces) for _ in range(4))
            placed.append(
                PlacedPart(
                    part=part,
                    partner=partner,
                    weight=weight.view(torch.float32),
                    lam=own.view(torch.float32),
                    present=present != 0,
                    box=None if part.box is None else box.view(self.size, 2 * len(part.shape)),
                )
            )
        if self.partners is None:
            return PlacedPlan(plan=self, partner=partner, lam=lam, parts=tuple(placed))
        partners = next(pieces).view(self.size, -1)
        shares, *of_parts = (piece.view(torch.float32).view(self.size, -1) for piece in pieces)
        parts = tuple(replace(part, partners=partners, shares=own)
                      for part, own in zip(placed, of_parts, strict=True))  # fmt: skip
        return PlacedPlan(plan=self, partner=partner, lam=lam, parts=parts, partners=partners,
                          shares=shares)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacedPart:
    """A `Part` on a device."""

    part: Part
    partner: Tensor
    """(n) int32"""
    weight: Tensor
    """(n) float32"""
    lam: Tensor
    """(n) float32"""
    present: Tensor
    """(n) bool"""
    box: Tensor | None
    """(n, 2 * axes) int32"""
    partners: Tensor | None = None
    """(n p) int32, where clips have several partners"""
    shares: Tensor | None = None
    """(n p) float32, likewise"""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacedPlan:
    """A `MixPlan` with its numbers on a device; none of them has to be read back."""

    plan: MixPlan
    partner: Tensor
    """(n) int32"""
    lam: Tensor
    """(n) float32, of the label of a head that sees every modality"""
    parts: tuple[PlacedPart, ...]
    partners: Tensor | None = None
    """(n p) int32, where clips have several partners"""
    shares: Tensor | None = None
    """(n p) float32, as `lam` of each partner"""

    def part(self, name: str) -> PlacedPart:
        """As `MixPlan.part`."""
        self.plan.part(name)
        return next(placed for placed in self.parts if placed.part.name == name)


def unmixed_plan(
    present: Mapping[str, Sequence[bool]], domains: Mapping[str, str] | None = None
) -> MixPlan:
    """Plan that mixes nothing; `present`: which clips have each modality."""
    size = len(next(iter(present.values())))
    return MixPlan(
        num_inputs=size,
        partner=tuple(range(size)),
        method="none",
        level="input",
        parts=tuple(
            Part(name=name, domain=(domains or {}).get(name, "features"), weight=(1.0,) * size,
                 present=tuple(map(bool, has)))
            for name, has in present.items()
        ),
    )  # fmt: skip


def volume(box: Box) -> int:
    """Number of elements in a box."""
    return math.prod(stop - start for start, stop in zip(box[0::2], box[1::2], strict=True))


def with_presence(plan: MixPlan, present: Mapping[str, Sequence[bool]]) -> MixPlan:
    """Copy of the plan with other modalities present after mixing."""
    parts = tuple(replace(part, present=tuple(present[part.name])) for part in plan.parts)
    return replace(plan, parts=parts)


def _packed(shares: tuple[tuple[float, ...], ...] | None) -> np.ndarray:
    return np.array(shares, np.float32).ravel().view(np.int32)


def _read(kind: Any, value: Any, name: str) -> Any:
    """`value`, which JSON gave, as the `kind` of thing that `name` is; ValueError if it is none."""
    choices = get_args(kind)
    if kind in (MixPlan, Part) and isinstance(value, dict):
        hints = get_type_hints(kind)
        if unknown := sorted(value.keys() - hints.keys()):
            raise ValueError(f"not a plan: {name} has no field {', '.join(unknown)}")
        fields = {key: _read(hints[key], inner, key) for key, inner in value.items()}
        try:
            return kind(**fields)
        except TypeError as error:
            raise ValueError(f"not a plan: {error}") from None
    if get_origin(kind) in (Union, UnionType):  # here always with None
        return None if value is None else _read(choices[0], value, name)
    if get_origin(kind) is tuple and isinstance(value, list):
        return tuple(_read(choices[0], inner, name) for inner in value)
    if get_origin(kind) is Literal and value in choices:
        return value
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is kind:
        return value
    raise ValueError(f"not a plan: {name} cannot be {value!r}")
