"""Whether the code still computes what a committed result of training was measured with."""

import math
from collections.abc import Callable
from typing import Any

from fingerprint import Fingerprint, configured
from shared import provenance

from avmix.config import TrainConfig

FRESH_MOST = (1e-3, 1e-2)
UPDATED_MOST = (1e-2, 1e-1)
NLL_MOST = 5e-3
"""Largest relative difference of losses and of gradient norms, in a step with the initial weights
and after an update; of the NLL. One x86 machine with its instructions limited to AVX2 and to SSE4.1
differs from itself by at most 5e-7 and 1.5e-3, after an update by 1.1e-3 and 2.5e-2, in the NLL by
8e-4. Gradients differ more than losses: a maximum or a ReLU that rounds to the other side sends
all of a gradient elsewhere. Adam then takes a whole step in the direction of what was a rounding
error."""


def difference(expected: Fingerprint, found: Fingerprint) -> str | None:
    """The first quantity that is not what was expected, beyond rounding; None where all are.

    Quantities that only `found` has do not count: something more is measured since.
    """
    others = {(row["epoch"], row["step"]): row for row in found.steps}
    for row in expected.steps:
        where = f"epoch {row['epoch'] + 1}, step {row['step'] + 1}"
        other = others.get((row["epoch"], row["step"]), {})
        for name, value in row.items():
            limit = _tolerance(name, row["step"])
            if said := _differs(name, where, value, other.get(name), limit):
                return said
    for row, value in expected.nll.items():
        if said := _differs(f"NLL of {row}", "evaluation", value, found.nll.get(row), NLL_MOST):
            return said
    return None


def _tolerance(name: str, step: float) -> float:
    if name.startswith(("lr", "rms")):
        return FRESH_MOST[0]  # no weights are in it
    return (UPDATED_MOST if step else FRESH_MOST)[name.startswith("grad_norm")]


def _differs(
    name: str, where: str, expected: float, found: float | None, limit: float
) -> str | None:
    if found is None:
        return f"{name} ({where}): expected {expected:.6g}, found none"
    if math.isclose(expected, found, rel_tol=limit, abs_tol=1e-6):
        return None
    share = abs(found - expected) / max(abs(expected), 1e-30)
    return (
        f"{name} ({where}): expected {expected:.6g}, found {found:.6g}, {100 * share:.2g} % off "
        f"where rounding explains {100 * limit:g} %"
    )


def stale(
    name: str, result: dict[str, Any], where: str, take: Callable[[TrainConfig], Fingerprint]
) -> str | None:
    """Why the result of training `name` must be measured again, and how; None where it holds.

    `where` names the table that shows it; `take` gives the fingerprint of a configuration.
    """
    if "fingerprint" not in result:
        said = "it has no fingerprint"
    else:
        try:
            found = take(configured(result["config"], result["overrides"]))
        except (Exception, SystemExit) as error:
            said = f"its configuration no longer trains ({type(error).__name__}: {error})"
        else:
            said = difference(Fingerprint.of(result["fingerprint"]), found)
    if said is None:
        return None
    return (
        f"{where}: benchmarks/results/{name}.json no longer says what the code computes: {said}. "
        f"Measure it again: {provenance.command_of(name, result)}"
    )
