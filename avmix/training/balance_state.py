"""What a method of balancing carries from step to step, as a checkpoint keeps it."""

import math
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class BalanceState:
    """Plain numbers and words; all empty where the method needs none."""

    scores: tuple[float, ...] | None = None
    """opm: confidence of the video and the audio head in the last step; nan: no clip had it."""
    weights: tuple[float, ...] | None = None
    """g_blend: of the losses of the fused, the video and the audio head."""
    measured: tuple[float, ...] | None = None
    """g_blend: training, then validation losses of the three heads when the weights were computed
    last."""
    teachers: tuple[str, ...] = ()
    """umt: SHA-256 of the checkpoints of both teachers."""

    def __post_init__(self) -> None:
        """Raises ValueError for what no run has written."""
        for name, count, may_be_nan in (("scores", 2, True), ("weights", 3, False),
                                        ("measured", 6, False)):  # fmt: skip
            values: Any = getattr(self, name)
            fine = values is None or (
                isinstance(values, tuple)
                and len(values) == count
                and all(isinstance(x, float) and (math.isfinite(x) or (may_be_nan and x != x))
                        for x in values)
            )  # fmt: skip
            if not fine:
                raise ValueError(f"balance: {name} must be {count} finite numbers, got {values!r}")
        words: Any = self.teachers
        if not isinstance(words, tuple) or not all(isinstance(word, str) for word in words):
            raise ValueError(f"balance: teachers must be words, got {words!r}")
