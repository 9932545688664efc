"""Arguments of `CrossModalMixup`: checks and conversion of what users pass."""

from collections.abc import Hashable, Mapping, Sequence
from operator import index
from typing import Any, Literal, SupportsIndex, get_args, get_origin, get_type_hints

import torch
from torch import Tensor

from avmix.config import MixConfig
from avmix.config.mix_method import METHODS
from avmix.mix.plan_drawing import MAX_MODALITIES
from avmix.mix.targets import IGNORED, check_labels
from avmix.mix.tensor_kinds import LAYOUTS, Kind

_CHOICES = {
    name: get_args(hint)
    for name, hint in get_type_hints(MixConfig).items()
    if get_origin(hint) is Literal
}


def check_kinds(kinds: Mapping[str, Kind]) -> None:
    """Raises ValueError for too few or too many tensors, an unknown kind or a name of a method."""
    if not 1 <= len(kinds) <= MAX_MODALITIES:
        raise ValueError(f"kinds must name 1 to {MAX_MODALITIES} tensors, got {len(kinds)}")
    for name, kind in kinds.items():
        if kind not in LAYOUTS:
            raise ValueError(f"{name} must be one of {', '.join(LAYOUTS)}, got {kind!r}")
        # `video` and `audio` are methods, too, which mean the tensors of these names.
        if name in {*METHODS, "dropout"} - {"video", "audio"}:
            raise ValueError(f"{name!r} is a method; give the tensor another name")


def checked_config(**options: Any) -> MixConfig:
    """The configuration of these options; raises ValueError for what is none of the choices."""
    for name, value in options.items():
        choices = _CHOICES.get(name, (value,))
        if value not in choices:
            raise ValueError(f"{name} must be one of {', '.join(choices)}, got {value!r}")
    return MixConfig(**options)


def check_label_values(labels: Tensor, num_classes: int | None) -> None:
    """Raises ValueError for class numbers (b) out of range, and for rows (b k) not finite."""
    if labels.ndim == 1 and num_classes is not None:
        check_labels(labels, num_classes)
    elif not labels.isfinite().all():
        rows = (~labels.isfinite().all(1)).nonzero().flatten().tolist()
        raise ValueError(f"labels is not finite in rows {rows}")


def row_classes(labels: Tensor) -> tuple[frozenset[int], ...]:
    """The classes of each row of labels, (b) integers or (b k) floats; none where not known."""
    if labels.ndim == 1:
        return tuple(frozenset({k} - {IGNORED}) for k in labels.tolist())
    return tuple(frozenset(row.nonzero().flatten().tolist()) for row in labels)


def source_numbers(source: Sequence[Hashable] | Tensor | None, size: int) -> tuple[int, ...]:
    """A number for each row, the same for rows of one recording; `source` as in a call.

    Raises ValueError where there are not `size` of them.
    """
    if source is None:
        return tuple(range(size))
    ids = source.tolist() if isinstance(source, Tensor) else source
    if len(ids) != size:
        raise ValueError(f"source has {len(ids)} rows, the tensors have {size}")
    numbers: dict[Hashable, int] = {}
    return tuple(numbers.setdefault(one, len(numbers)) for one in ids)


def moved_to(labels: Tensor, device: torch.device) -> Tensor:
    """`labels` on `device`, without waiting for it."""
    if labels.device.type == "cpu" and device.type == "cuda":
        labels = labels.pin_memory()
    return labels.to(device, non_blocking=True)


def whole_number(name: str, value: SupportsIndex) -> int:
    """As an int; raises ValueError, with `name`, for what is none or not in [0, 2**32)."""
    try:
        value = index(value)  # of numpy's integers and tensors of one number, too
    except TypeError:
        raise ValueError(f"{name} must be a whole number, got {value!r}") from None
    if not 0 <= value < 2**32:
        raise ValueError(f"{name} must be in [0, 2**32), got {value}")
    return value
