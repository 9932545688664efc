"""The running sums of what the modalities have learned, as a checkpoint keeps them."""

import math
from typing import Any

NOTHING = (0.0, 0.0, 0.0, 0.0)
"""Of video and audio: sum of what is known, number of clips."""


def checked_sums(value: Any) -> tuple[float, ...]:
    """`value` of a checkpoint as such sums; raises ValueError for what no run wrote."""
    if (
        not isinstance(value, tuple)
        or len(value) != len(NOTHING)
        or not all(isinstance(x, float) and math.isfinite(x) and x >= 0 for x in value)
    ):
        raise ValueError(f"mix_sums must be {len(NOTHING)} finite numbers >= 0, got {value!r}")
    return value
