"""Cross-Modal Mixup for other people's training loops: named tensors and labels in, mixed out.

docs/dropin.md shows it. Everything is done by the parts of this package that avmix trains with
itself; here shapes are turned into grids, and what users hand over is checked.
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args, get_origin, get_type_hints

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from avmix.config import MixConfig
from avmix.mix.blend import mix_part
from avmix.mix.boxes import Grids
from avmix.mix.grid import Grid
from avmix.mix.methods import draw_plan
from avmix.mix.pairing import Clips
from avmix.mix.plan import MixPlan, PlacedPart, with_presence
from avmix.mix.targets import (
    IGNORED,
    check_labels,
    known_targets,
    mixed_target,
    one_hot,
    smoothed,
)
from avmix.recipe import METHODS, Method, Recipe, parse_recipe
from avmix.rng import Purpose, rng

Kind = Literal["vector", "image", "video", "waveform", "spectrogram"]
"""What the axes of a tensor are, see `LAYOUTS`."""

LAYOUTS: dict[Kind, tuple[str, ...]] = {
    "vector": ("b d",),
    "image": ("b c h w",),
    "video": ("b c t h w",),
    "waveform": ("b s", "b c s"),
    "spectrogram": ("b m f", "b c m f"),
}

MAX_TENSORS = 8
"""As many lambdas are drawn for a clip."""

# Lengths come with the tensors. Boxes are cut from the last axes: these.
_GRIDS: dict[Kind, Grid] = {
    "vector": Grid(domain="features"),
    "image": Grid(domain="pixels", shape=(4, 4), picture_axes=(0, 1)),
    "video": Grid(domain="pixels", shape=(4, 4, 4), time_axis=0, picture_axes=(1, 2)),
    "waveform": Grid(domain="waveform", shape=(4,), time_axis=0),
    "spectrogram": Grid(domain="spectrogram", shape=(4, 4), time_axis=1, band_axis=0),
}

_DEFAULT = MixConfig()
_CHOICES = {
    name: get_args(hint)
    for name, hint in get_type_hints(MixConfig).items()
    if get_origin(hint) is Literal
}


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

    config: MixConfig
    only: str | None
    """The one tensor that is mixed; None: all are."""
    dropout: bool


class CrossModalMixup:
    """Mixes every tensor of a batch, and its labels, with the same partners and the same lambda.

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
        self._kinds = {name: _choice("kind of " + name, kind, LAYOUTS) for name, kind in kinds.items()}
        self._check_names()
        if switch and method != _DEFAULT.method:
            raise ValueError(f"method {method!r} and switch {dict(switch)}: give one of them")
        for name, value, of_law in (("alpha", alpha, "beta"), ("lam", lam, "fixed")):
            if value is not None and law != of_law:
                raise ValueError(f"{name}={value} has no effect: it is for law {of_law!r}, not {law!r}")
        config = _mix_config(
            probability=probability,
            law=law,
            alpha=_DEFAULT.alpha if alpha is None else alpha,
            lam=_DEFAULT.lam if lam is None else lam,
            dominant=dominant,
            per=per,
            pairing=pairing,
            labels=labels,
        )
        self._labels, self._pairing = config.labels, config.pairing
        words = dict(switch or {method: 1.0})
        if min(words.values()) < 0 or abs(sum(words.values()) - 1) > 1e-6:
            raise ValueError(f"switch needs probabilities >= 0 that add up to 1, got {words}")
        self._ways = [self._way(word, config) for word in words]
        self._chances = list(words.values())
        self._drop = self._shares(drop)
        if not 0 <= label_smoothing < 1:
            raise ValueError(f"label_smoothing must be in [0, 1), got {label_smoothing}")
        self._smoothing = label_smoothing
        if num_classes is not None and num_classes < 1:
            raise ValueError(f"num_classes must be >= 1, got {num_classes}")
        self._num_classes = num_classes
        self._seed = _number("seed", seed)
        self._rank = None if rank is None else _number("rank", rank)
        self._debug = debug
        self._try_ways(words)

    def __call__(
        self,
        tensors: Mapping[str, Tensor],
        labels: Tensor,
        *,
        step: int,
        epoch: int = 0,
        present: Mapping[str, Sequence[bool] | Tensor] | None = None,
        source: Sequence[Hashable] | Tensor | None = None,
        num_classes: int | None = None,
    ) -> Mixed:
        """A mixed batch, out of place and differentiable; one row alone stays as it is.

        `tensors`: those of `kinds`, all on one device, of a floating type. `labels`: (b) integers,
        -100 where not known, or (b k) floats, soft or multi-hot. `step`: of `epoch`, or of the
        whole training where `epoch` stays 0. `present`: which rows have the tensor of a name; those
        that do not are neither mixed nor anybody's partner. `source`: whatever tells recordings
        apart: rows of one are not mixed with each other. `num_classes`: as in the constructor.

        A GPU is not waited for, but for labels, `present` and `source` that are on it: labels are
        read for pairings by class (and with `debug`), the other two always. Class numbers on the
        CPU are checked; on a GPU they are where they are read, and fail in the kernel elsewhere.

        Raises ValueError for a tensor too many or too few, of another kind, length, type or device
        than it must be, and for labels and numbers out of range.
        """
        shapes = self._check_tensors(tensors)
        size, device = self._size_and_device(tensors)
        has = self._has(present, size)
        target, known, classes = self._target(labels, num_classes, size, device)
        if self._debug:
            self._check_finite(tensors, has)
        clips = Clips(
            present=tuple(has.items()),
            source=_numbered(source, size),
            labels=classes or (frozenset(),) * size,
        )
        grids = {name: grid_of(kind, shapes[name]) for name, kind in self._kinds.items()}
        plan = self._draw(clips, grids, _number("epoch", epoch), _number("step", step))
        return self._apply(plan, tensors, target, known)

    def replay(
        self,
        plan: MixPlan,
        tensors: Mapping[str, Tensor],
        labels: Tensor,
        *,
        num_classes: int | None = None,
    ) -> Mixed:
        """The mix of `plan` (`MixPlan.from_json` reads one); same tensors and labels, same result.

        Raises ValueError as a call does, and for a plan of other names, sizes or shapes, or one
        that happens inside a network.
        """
        self._check_tensors(tensors)
        size, device = self._size_and_device(tensors)
        if {part.name for part in plan.parts} != self._kinds.keys():
            names = ", ".join(part.name for part in plan.parts)
            raise ValueError(f"the plan is for {names}, the tensors are {', '.join(self._kinds)}")
        if plan.level != "input" or plan.energy_limit_db is not None:
            raise ValueError(
                f"a plan of method {plan.method!r} at {plan.level!r} level is carried out by the "
                "engine of avmix only"
            )
        target, known, _ = self._target(labels, num_classes, size, device)
        return self._apply(plan.for_size(size), tensors, target, known)

    # Options --------------------------------------------------------------------------------------

    def _check_names(self) -> None:
        if not 1 <= len(self._kinds) <= MAX_TENSORS:
            raise ValueError(f"kinds must name 1 to {MAX_TENSORS} tensors, got {len(self._kinds)}")
        # `video` and `audio` are methods as well, and mean the tensor of that name.
        if taken := self._kinds.keys() & ({*METHODS, "dropout"} - {"video", "audio"}):
            raise ValueError(f"a tensor cannot have the name of a method: {', '.join(taken)}")

    def _way(self, word: str, config: MixConfig) -> _Way:
        name = word.removesuffix("+dropout")
        if name in self._kinds:
            method: Method = name if name == "video" or name == "audio" else "mixup"
            return _Way(replace(config, method=method), name, name != word)
        names = ", ".join(self._kinds)
        try:
            recipe = parse_recipe(word)
        except ValueError as error:
            raise ValueError(f"{error}; or METHOD is the name of a tensor ({names})") from None
        self._check_recipe(word, recipe)
        return _Way(replace(config, method=recipe.method), None, recipe.dropout)

    def _check_recipe(self, word: str, recipe: Recipe) -> None:
        if recipe.method in ("video", "audio"):
            names = ", ".join(self._kinds)
            raise ValueError(f"{word!r} mixes the tensor of that name; the tensors are {names}")
        if recipe.method == "energy":
            raise ValueError(f"{word!r} needs the sample rate and is for the engine of avmix only")
        if recipe.level != "input":
            raise ValueError(
                f"{word!r} happens inside a network; hand its features over as kind 'vector' and "
                "mix them by mixup or independent"
            )

    def _shares(self, drop: Mapping[str, float] | None) -> dict[str, float]:
        if drop is not None and not any(way.dropout for way in self._ways):
            raise ValueError(f"drop={dict(drop)} has no effect without a method that has +dropout")
        if unknown := (drop or {}).keys() - self._kinds.keys():
            raise ValueError(f"drop: no tensor {', '.join(unknown)}, only {', '.join(self._kinds)}")
        shares = {name: (drop or {}).get(name, _DEFAULT.drop_video) for name in self._kinds}
        if min(shares.values()) < 0 or sum(shares.values()) > 1:
            raise ValueError(f"drop needs shares >= 0 that add up to at most 1, got {shares}")
        return shares

    def _try_ways(self, words: Mapping[str, float]) -> None:
        """Raises ValueError for a method that has no meaning for these kinds."""
        has = tuple((name, (True, True)) for name in self._kinds)
        clips = Clips(present=has, source=(0, 1), labels=(frozenset(),) * 2)
        for word, way in zip(words, self._ways, strict=True):
            grids = {name: _GRIDS[kind] for name, kind in self._kinds.items()}
            grids = {name: grid_of(self._kinds[name], grid.shape) for name, grid in grids.items()}
            stream = np.random.default_rng(0)
            try:
                draw_plan(replace(way.config, probability=1.0), clips, grids,
                          shared=stream, own=stream)  # fmt: skip
            except ValueError as error:
                raise ValueError(f"{word!r}: {error}") from None

    # Input ----------------------------------------------------------------------------------------

    def _check_tensors(self, tensors: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
        """Their shapes."""
        names = ", ".join(self._kinds)
        if unknown := tensors.keys() - self._kinds.keys():
            raise ValueError(
                f"nothing was said of {', '.join(sorted(unknown))}, only of {names}; what is not "
                "told of would stay unmixed while its label is mixed"
            )
        if missing := [name for name in self._kinds if name not in tensors]:
            raise ValueError(f"{', '.join(missing)} missing; the tensors are {names}")
        for name, kind in self._kinds.items():
            _check_tensor(name, kind, tensors[name])
        return {name: tuple(tensors[name].shape) for name in self._kinds}

    def _size_and_device(self, tensors: Mapping[str, Tensor]) -> tuple[int, torch.device]:
        first = next(iter(self._kinds))
        size, device = len(tensors[first]), tensors[first].device
        for name in self._kinds:
            x = tensors[name]
            if len(x) != size:
                raise ValueError(f"{first} has {size} rows, {name} has {len(x)}")
            if x.device != device:
                raise ValueError(f"{first} is on {device}, {name} on {x.device}; use one device")
        return size, device

    def _has(
        self, present: Mapping[str, Sequence[bool] | Tensor] | None, size: int
    ) -> dict[str, tuple[bool, ...]]:
        given = present or {}
        if unknown := given.keys() - self._kinds.keys():
            names = ", ".join(self._kinds)
            raise ValueError(f"present: no tensor {', '.join(sorted(unknown))}, only {names}")
        found = {}
        for name in self._kinds:
            values = given.get(name, (True,) * size)
            values = tuple(values.tolist() if isinstance(values, Tensor) else values)
            if len(values) != size or not all(isinstance(value, bool) for value in values):
                raise ValueError(f"present[{name!r}] must be {size} of True or False, got {values}")
            found[name] = values
        return found

    def _target(
        self, labels: Tensor, num_classes: int | None, size: int, device: torch.device
    ) -> tuple[Tensor, Tensor, tuple[frozenset[int], ...] | None]:
        """Rows (b k) and which are known, on `device`; the classes, where the pairing asks."""
        num_classes = self._num_classes if num_classes is None else num_classes
        numbers = labels.ndim == 1 and not (labels.is_floating_point() or labels.dtype == torch.bool)
        if not numbers and not (labels.ndim == 2 and labels.is_floating_point()):
            raise ValueError(
                "labels must be (b) integers or (b k) floats, got "
                f"{labels.dtype} of shape {tuple(labels.shape)}"
            )
        if len(labels) != size:
            raise ValueError(f"labels has {len(labels)} rows, {next(iter(self._kinds))} has {size}")
        by_class = self._pairing in ("different_class", "same_class")
        # Reading labels that are on a GPU waits for it.
        read = labels.cpu() if by_class or self._debug or labels.device.type == "cpu" else None
        if numbers:
            if num_classes is None:
                raise ValueError("labels are class numbers: give num_classes, or one-hot rows")
            if read is not None:
                check_labels(read, num_classes)
            target, known = one_hot(_moved(labels, device), num_classes)
        else:
            if num_classes not in (None, labels.shape[1]):
                raise ValueError(f"labels have {labels.shape[1]} columns, num_classes={num_classes}")
            if read is not None and not read.isfinite().all():
                raise ValueError("labels that are not finite")
            target = _moved(labels, device).float()
            known = torch.ones(size, dtype=torch.bool, device=device)
        return target, known, _classes(read) if by_class and read is not None else None

    def _check_finite(
        self, tensors: Mapping[str, Tensor], has: Mapping[str, Sequence[bool]]
    ) -> None:
        """What stands in rows without the tensor does not matter."""
        for name in self._kinds:
            broken = (~tensors[name].isfinite().flatten(1).all(1)).tolist()
            if rows := [i for i, bad in enumerate(broken) if bad and has[name][i]]:
                raise ValueError(f"{name} is not finite in rows {rows}")

    # Drawing and mixing ---------------------------------------------------------------------------

    def _draw(self, clips: Clips, grids: Grids, epoch: int, step: int) -> MixPlan:
        rank = _process_rank() if self._rank is None else self._rank
        purpose: Purpose = "mix_shared"
        shared = rng(self._seed, epoch, purpose, step)
        own = rng(self._seed, epoch, "mix", step, rank)
        way = self._ways[int(shared.choice(len(self._ways), p=self._chances))]
        plan = draw_plan(way.config, clips, grids, shared=shared, own=own)
        if way.only is not None:
            plan = _only(plan, way.only)
        mixing = plan.method != "none" or way.config.method == "none"
        return _dropped(plan, self._drop, own) if way.dropout and mixing else plan

    def _apply(
        self, plan: MixPlan, tensors: Mapping[str, Tensor], target: Tensor, known: Tensor
    ) -> Mixed:
        placed = plan.to(target.device)
        mixed = {part.part.name: _mixed(part, tensors[part.part.name]) for part in placed.parts}
        targets = {
            part.part.name: smoothed(
                mixed_target(placed, part.lam, target, self._labels), self._smoothing
            )
            for part in placed.parts
        }
        return Mixed(
            tensors=mixed,
            target=smoothed(
                mixed_target(placed, placed.lam, target, self._labels), self._smoothing
            ),
            targets=targets,
            known=known_targets(placed, placed.lam, known),
            present={part.part.name: part.present for part in placed.parts},
            plan=plan,
        )


def grid_of(kind: Kind, shape: Sequence[int]) -> Grid:
    """The grid of a tensor of this kind and shape (of which only the last axes count).

    Time is in shares of the window, which is the same for every tensor of a row: index k of a time
    axis of length n stands for the k-th of n equal shares.
    """
    grid = _GRIDS[kind]
    axes = tuple(shape[len(shape) - len(grid.shape) :])
    if grid.time_axis is None:
        return replace(grid, shape=axes)
    share = 1 / axes[grid.time_axis]
    return replace(grid, shape=axes, first_seconds=share / 2, step_seconds=share)
