"""What is kept of the values of all rounds."""

import statistics
from collections.abc import Sequence


def median(values: Sequence[float], digits: int = 3) -> float:
    """Rounded."""
    return round(statistics.median(values), digits)


def quartiles(values: Sequence[float], digits: int = 3) -> list[float]:
    """Lower and upper, by linear interpolation; rounded."""
    import numpy as np

    return [round(float(q), digits) for q in np.percentile(values, [25, 75])]
