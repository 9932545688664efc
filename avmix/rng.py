"""Counter-based random streams: every draw is keyed by (seed, epoch, step, clip) and a purpose.

`rng(seed, epoch, "window", row)` is always the same stream, whichever worker, rank or resumed run
asks for it, so there is no generator state to save and none to get wrong. Nothing in avmix draws
from a global generator. Philox is the counter-based generator of Salmon et al., "Parallel random
numbers: as easy as 1, 2, 3" (SC 2011); numpy's SeedSequence hashes the address into its key.
"""

from typing import Literal

import numpy as np

Purpose = Literal[
    "order",
    "window",
    "augment",
    "mix",
    "torch",
    "synthesis",
    "weights",
    "mix_shared",
    "tiling",
    "sound",
    "view",
    "shots",
    "repair",
    "compose",
    "external",
    "bootstrap",
    "corruption",
    "balance",
]

# Numbers, not hash(): they must never change, or every published run changes with them.
_NUMBER: dict[Purpose, int] = {
    "order": 1,
    "window": 2,
    "augment": 3,
    "mix": 4,
    "torch": 5,
    "synthesis": 6,
    "weights": 7,
    "mix_shared": 8,
    "tiling": 9,
    "sound": 10,
    "view": 11,
    "balance": 12,
    "shots": 20,
    "repair": 21,
    "compose": 22,
    "external": 23,
    "bootstrap": 30,
    "corruption": 31,
}


def rng(seed: int, epoch: int, purpose: Purpose, *index: int) -> np.random.Generator:
    """Random stream of an address; all numbers must be in [0, 2**32), else ValueError.

    `index` is what tells draws of one purpose apart: the row of a clip, or step and rank. A purpose
    is always asked for with equally many of them.
    """
    if not all(0 <= number < 2**32 for number in (seed, epoch, *index)):
        # A larger number would take two words of the address and run into the next.
        raise ValueError(f"numbers must be in [0, 2**32), got {(seed, epoch, *index)}")
    address = np.random.SeedSequence([seed, epoch, _NUMBER[purpose], *index])
    return np.random.Generator(np.random.Philox(address))
