"""`CrossModalMixup`: Cross-Modal Mixup for other training loops, from named tensors and labels to
mixed ones.

docs/dropin.md shows it. Everything is done by the parts of this package that avmix trains with
itself; here shapes are turned into grids, and what users hand over is checked.
"""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, SupportsIndex

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from avmix.config import MixConfig
from avmix.config.mix_method import METHODS, parse_mix_method
from avmix.mix.blend import mix_part
from avmix.mix.boxes import Grids
from avmix.mix.methods import draw_dropout
from avmix.mix.mix_plan import MixPlan
from avmix.mix.mixup_arguments import (
    check_kinds,
    check_label_values,
    checked_config,
    moved_to,
    row_classes,
    source_numbers,
    whole_number,
)
from avmix.mix.pairing import Clips
from avmix.mix.plan_drawing import draw_plan
from avmix.mix.targets import known_targets, mixed_target, one_hot, smoothed
from avmix.mix.tensor_kinds import Kind, check_finite, check_tensor, grid_of
from avmix.rng import rng

_DEFAULT = MixConfig()
Labels = Tensor | np.ndarray | Sequence[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Mixed:
    """A mixed batch: n rows, which are b, or half of it with pairing `second_batch`."""

    tensors: dict[str, Tensor]
    """By name, as they came in but mixed. One in which nothing is mixed is not copied."""
    target: Float[Tensor, "n k"]
    """Label of a head that sees every tensor, float32."""
    targets: dict[str, Tensor]
    """(n k) each: label of a head that sees the tensor of this name alone."""
    known: Bool[Tensor, " n"]
    """False where a label in the mix is not known: leave these rows out of the loss."""
    present: dict[str, Tensor]
    """(n) bool each: False where the row has no tensor of this name, or lost it by dropout."""
    plan: MixPlan
    """What was done; `plan.to_json()` is one line, `replay` does it again."""


@dataclass(frozen=True, slots=True)
class _Way:
    """One of the methods to choose from."""

    chance: float
    config: MixConfig
    only: str | None = None
    """The one tensor that is mixed; None: all are."""
    dropout: bool = False


class CrossModalMixup:
    """Mixing of every tensor of a batch, and its labels, with the same partners and the same
    lambda.

    An instance holds options and no state: seed, rank, epoch and step decide what is drawn.
    """

    def __init__(
        self,
        kinds: Mapping[str, Kind],
        *,
        method: str = _DEFAULT.method,
        switch: Mapping[str, float] | None = None,
        probability: float = _DEFAULT.probability,
        law: str = _DEFAULT.law,
        alpha: float | None = None,
        lam: float | None = None,
        dominant: bool = _DEFAULT.dominant,
        per: str = _DEFAULT.per,
        pairing: str = _DEFAULT.pairing,
        drop: Mapping[str, float] | None = None,
        labels: str = _DEFAULT.labels,
        label_smoothing: float = 0.0,
        num_classes: int | None = None,
        seed: int = 0,
        rank: int | None = None,
        debug: bool = False,
    ) -> None:
        """`kinds`: name and kind of every tensor that will come.

        `method`, `switch`, `probability`, `law`, `alpha`, `lam`, `dominant`, `per`, `pairing` and
        `labels` are those of `avmix.config.MixConfig`, but that a method may also be the name of a
        tensor, which is then mixed alone, and that there is no `energy`, `cross` and level.
        `drop`: with `+dropout`, share of the rows that lose each tensor, 0.1 where not given; only
        rows that have every tensor lose one, and `Mixed.present` alone tells of it.
        `label_smoothing`: share of the target spread over all classes, in [0, 1).
        `num_classes`: for labels that are class numbers. `rank`: of this process; None: that of
        torch.distributed, 0 without it. `debug`: check every value, for which a GPU is waited for.

        Raises ValueError for what is none of the choices, out of range, has no meaning for these
        kinds, or would have no effect.
        """
        self._kinds = dict(kinds)
        self._names = ", ".join(kinds)
        check_kinds(kinds)
        for name, value, of_law in (("alpha", alpha, "beta"), ("lam", lam, "fixed")):
            if value is not None and law != of_law:
                raise ValueError(f"{name}={value} is for law {of_law!r}, but law is {law!r}")
        self._config = checked_config(
            probability=probability,
            law=law,
            alpha=_DEFAULT.alpha if alpha is None else alpha,
            lam=_DEFAULT.lam if lam is None else lam,
            dominant=dominant,
            per=per,
            pairing=pairing,
            labels=labels,
        )
        if pairing == "nearest":
            raise ValueError("pairing 'nearest' is for the engine of avmix only")
        if switch and method != _DEFAULT.method:
            raise ValueError(f"method {method!r} and switch {dict(switch)}: give one of them")
        self._ways = self._all_ways(switch or {method: 1.0})
        self._drop = self._shares(drop)
        if not 0 <= label_smoothing < 1:
            raise ValueError(f"label_smoothing must be in [0, 1), got {label_smoothing}")
        self._smoothing = label_smoothing
        if num_classes is not None and num_classes < 1:
            raise ValueError(f"num_classes must be >= 1, got {num_classes}")
        self._num_classes = num_classes
        self._seed = whole_number("seed", seed)
        self._rank = None if rank is None else whole_number("rank", rank)
        self._debug = debug

    def __call__(
        self,
        tensors: Mapping[str, Tensor],
        labels: Labels,
        *,
        step: SupportsIndex,
        epoch: SupportsIndex = 0,
        present: Mapping[str, Sequence[bool | np.bool_] | np.ndarray | Tensor] | None = None,
        source: Sequence[Hashable] | Tensor | None = None,
        num_classes: int | None = None,
    ) -> Mixed:
        """A mixed batch, out of place and differentiable; one row alone stays as it is.

        `tensors`: those of `kinds`, all on one device, of a floating type. `labels`: (b) integers,
        -100 where not known, or (b k) floats, soft or multi-hot; a tensor, an array or lists.
        `step`: of `epoch`, or of the whole training where `epoch` stays 0. `present`: which rows
        have the tensor of a name; what stands in the others is not mixed into any. `source`:
        whatever tells recordings apart: rows of one are not mixed with each other. `num_classes`:
        as in the constructor.

        A GPU is waited for only where something has to be read from it: `present` and `source`, if
        they are there, and labels for pairings by class and with `debug`. Labels are checked where
        they are read or on the CPU; elsewhere a wrong class number fails in the kernel.

        Raises ValueError for a tensor too many or too few, of another kind, length, type or device
        than it must be, and for labels and numbers out of range.
        """
        size, device = self._check_tensors(tensors)
        target, known, classes = self._target(labels, num_classes, size, device)
        has = self._has(present, size)
        if self._debug:
            check_finite(tensors, has)
        clips = Clips(
            present=tuple(has.items()), source=source_numbers(source, size), labels=classes
        )
        grids = {name: grid_of(kind, tensors[name].shape) for name, kind in self._kinds.items()}
        plan = self._draw(clips, grids, whole_number("epoch", epoch), whole_number("step", step))
        return self._mix(plan, tensors, target, known)

    def replay(
        self,
        plan: MixPlan,
        tensors: Mapping[str, Tensor],
        labels: Labels,
        *,
        num_classes: int | None = None,
    ) -> Mixed:
        """Mix by a given `plan` (`MixPlan.from_json` reads one); same tensors and labels, same
        result.

        Raises ValueError as a call does, and for a plan of other names, sizes or shapes, or one
        that only the engine of avmix can carry out.
        """
        size, device = self._check_tensors(tensors)
        names = [part.name for part in plan.parts]
        if sorted(names) != sorted(self._kinds):
            raise ValueError(f"the plan is for {', '.join(names)}, the tensors are {self._names}")
        for name, kind in self._kinds.items():
            planned, here = plan.part(name).domain, grid_of(kind, tensors[name].shape).domain
            if planned != here:
                raise ValueError(f"the plan mixes {planned} of {name}, which is {here}")
        if plan.level != "input" or plan.method in ("energy", "cross"):
            raise ValueError(f"{plan.method}@{plan.level} is for the engine of avmix only")
        target, known, _ = self._target(labels, num_classes, size, device)
        return self._mix(plan.for_size(size), tensors, target, known)

    def _all_ways(self, switch: Mapping[str, float]) -> tuple[_Way, ...]:
        total = sum(switch.values())
        if not all(p >= 0 for p in switch.values()) or not abs(total - 1) < 1e-6:
            raise ValueError(
                f"switch needs probabilities >= 0 that add up to 1, got {dict(switch)}"
            )
        mixed = self._config.probability
        ways = [self._way(word, mixed * chance / total) for word, chance in switch.items()]
        return (*ways, self._way("none", 1 - mixed))

    def _way(self, word: str, chance: float) -> _Way:
        # Whether a batch is mixed at all is drawn together with the method.
        config, name = replace(self._config, probability=1.0), word.removesuffix("+dropout")
        if name in self._kinds:
            config = replace(config, method=name if name in METHODS else "mixup")
            return _Way(chance, config, name, dropout=name != word)
        try:
            mix_method = parse_mix_method(word)
        except ValueError as error:
            raise ValueError(f"{error}; or METHOD is one of {self._names}") from None
        if mix_method.method in ("video", "audio"):
            raise ValueError(f"{word!r}: no tensor is called so, only {self._names}")
        if mix_method.method in ("energy", "cross", "by_share"):
            raise ValueError(f"{word!r} is for the engine of avmix only")
        if mix_method.level != "input":
            raise ValueError(
                f"{word!r} happens inside a network; to mix features, hand them over as tensors of "
                "kind 'vector'"
            )
        way = _Way(chance, replace(config, method=mix_method.method), dropout=mix_method.dropout)
        self._try(word, way)
        return way

    def _try(self, word: str, way: _Way) -> None:
        """Raises ValueError where boxes of this method have no meaning for these kinds."""
        grids = {name: grid_of(kind, (4, 4, 4)) for name, kind in self._kinds.items()}
        here = tuple((name, (True, True)) for name in self._kinds)
        clips = Clips(present=here, source=(0, 1), labels=(frozenset(), frozenset()))
        stream = rng(0, 0, "mix", 0, 0)
        try:
            draw_plan(way.config, clips, grids, shared=stream, own=stream)
        except ValueError as error:
            raise ValueError(f"{word!r}: {error}") from None

    def _shares(self, drop: Mapping[str, float] | None) -> dict[str, float]:
        """Share of the rows that lose each tensor."""
        if drop is not None and not any(way.dropout for way in self._ways):
            raise ValueError(f"drop={dict(drop)} needs a method with +dropout")
        if len(self._kinds) == 1 and any(way.dropout for way in self._ways):
            raise ValueError(f"+dropout would leave nothing of a row: it has {self._names} only")
        self._check_names("drop", drop or {})
        shares = {name: (drop or {}).get(name, _DEFAULT.drop_video) for name in self._kinds}
        if not all(share >= 0 for share in shares.values()) or not sum(shares.values()) <= 1:
            raise ValueError(f"drop needs shares >= 0 that add up to at most 1, got {shares}")
        return shares

    def _check_names(self, what: str, given: Iterable[str]) -> None:
        if unknown := sorted(set(given) - self._kinds.keys()):
            raise ValueError(f"{what}: no tensor is called {unknown[0]!r}, only {self._names}")

    def _check_tensors(self, tensors: Mapping[str, Tensor]) -> tuple[int, torch.device]:
        """Number of rows, and where they are."""
        if unknown := sorted(tensors.keys() - self._kinds.keys()):
            raise ValueError(
                f"the constructor did not name {', '.join(unknown)}, only {self._names}; left"
                " unmixed it would not fit its label"
            )
        if missing := sorted(self._kinds.keys() - tensors.keys()):
            raise ValueError(f"{', '.join(missing)} missing: the tensors are {self._names}")
        for name, kind in self._kinds.items():
            check_tensor(name, kind, tensors[name])
        first = next(iter(self._kinds))
        size, device = len(tensors[first]), tensors[first].device
        for name in self._kinds:
            x = tensors[name]
            if len(x) != size:
                raise ValueError(f"{first} has {size} rows, {name} has {len(x)}")
            if x.device != device:
                raise ValueError(f"{first} is on {device}, {name} on {x.device}: use one device")
        return size, device

    def _has(
        self,
        present: Mapping[str, Sequence[bool | np.bool_] | np.ndarray | Tensor] | None,
        size: int,
    ) -> dict[str, tuple[bool, ...]]:
        self._check_names("present", present or {})
        found = {}
        for name in self._kinds:
            values = (present or {}).get(name, (True,) * size)
            values = tuple(values.tolist() if isinstance(values, Tensor) else values)
            if len(values) != size or not all(isinstance(v, bool | np.bool_) for v in values):
                raise ValueError(f"present[{name!r}] must be {size} of True or False, got {values}")
            found[name] = tuple(map(bool, values))
        return found

    def _target(
        self, given: Labels, num_classes: int | None, size: int, device: torch.device
    ) -> tuple[Tensor, Tensor, tuple[frozenset[int], ...]]:
        """Rows (b k) and which are known, on `device`; the classes, where the pairing asks."""
        try:
            labels = torch.as_tensor(given)
        except (TypeError, ValueError, RuntimeError) as error:
            raise ValueError(f"labels must be (b) integers or (b k) floats: {error}") from None
        soft = labels.is_floating_point()
        if labels.ndim != 1 + soft or labels.is_complex() or labels.dtype == torch.bool:
            raise ValueError(
                "labels must be (b) integers or (b k) floats, got "
                f"{labels.dtype} of shape {tuple(labels.shape)}"
            )
        labels = labels if soft else labels.long()  # -100 is 156 to uint8
        if len(labels) != size:
            first = next(iter(self._kinds))
            raise ValueError(f"labels has {len(labels)} rows, {first} has {size}")
        num_classes = self._num_classes if num_classes is None else num_classes
        if soft and num_classes not in (None, labels.shape[1]):
            raise ValueError(f"labels has {labels.shape[1]} columns, num_classes is {num_classes}")
        if not soft and num_classes is None:
            raise ValueError("labels are class numbers: give num_classes, or one-hot rows")
        by_class = self._config.pairing in ("different_class", "same_class")
        classes = (frozenset(),) * size
        if by_class or self._debug or labels.device.type == "cpu":
            read = labels.detach().cpu()
            check_label_values(read, num_classes)
            classes = row_classes(read) if by_class else classes
        labels = moved_to(labels, device)
        if num_classes is None or soft:
            return labels.float(), torch.ones(size, dtype=torch.bool, device=device), classes
        return *one_hot(labels, num_classes), classes

    def _draw(self, clips: Clips, grids: Grids, epoch: int, step: int) -> MixPlan:
        rank = _process_rank() if self._rank is None else self._rank
        shared = rng(self._seed, epoch, "mix_shared", step)
        own = rng(self._seed, epoch, "mix", step, rank)
        chances = [way.chance for way in self._ways]
        way = self._ways[int(shared.choice(len(chances), p=chances))]
        plan = draw_plan(way.config, clips, grids, shared=shared, own=own)
        if way.only is not None:
            plan = _only(plan, way.only)
        return draw_dropout(self._drop, plan, own) if way.dropout else plan

    def _mix(
        self, plan: MixPlan, tensors: Mapping[str, Tensor], target: Tensor, known: Tensor
    ) -> Mixed:
        placed = plan.to(target.device)

        def label(lam: Tensor) -> Tensor:
            return smoothed(mixed_target(placed, lam, target, self._config.labels), self._smoothing)

        parts = {part.part.name: part for part in placed.parts}
        return Mixed(
            tensors={name: mix_part(parts[name], tensors[name]) for name in self._kinds},
            target=label(placed.lam),
            targets={name: label(parts[name].lam) for name in self._kinds},
            known=known_targets(placed, placed.lam, known),
            present={name: parts[name].present for name in self._kinds},
            plan=plan,
        )


def _only(plan: MixPlan, name: str) -> MixPlan:
    """The same, but that every other tensor stays as it is."""
    parts = tuple(
        part if part.name == name else replace(part, weight=(1.0,) * plan.size)
        for part in plan.parts
    )
    return replace(plan, parts=parts)


def _process_rank() -> int:
    here = torch.distributed.is_available() and torch.distributed.is_initialized()
    return torch.distributed.get_rank() if here else 0
