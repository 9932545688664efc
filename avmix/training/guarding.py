"""Fit the guard of a fusion to what the network says of validation clips, and let it act.

While the network learns the guard does nothing, so that what is learned does not depend on the
validation clips.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch

from avmix.evaluation.guard_fit import GuardFit, fit_guard
from avmix.evaluation.metrics import Predictions
from avmix.evaluation.resampling import numbered
from avmix.models import LateFusionClassifier
from avmix.types import Heads

_OF_HEAD = {"fused": "fused", "video": "video head", "audio": "audio head"}
"""Rows of the table, by head."""


def clear_guards(networks: Sequence[LateFusionClassifier]) -> None:
    """Let the guards do nothing, as while the networks learn."""
    for network in networks:
        if network.guard is not None:
            network.guard.clear()


def guard_networks(
    networks: Sequence[LateFusionClassifier], found: Predictions, sources: Sequence[str]
) -> tuple[Predictions, GuardFit | None]:
    """Fit the guards of `networks` to `found`, predictions of the first one with one view a clip;
    returns the predictions with the guard, and the fit. `sources`: of each row of the manifest.
    Networks without a guard are left as they are, and the fit is None.
    """
    guard = networks[0].guard
    if guard is None:
        return found, None
    fit = fit_to(found, [sources[int(row)] for row in found.row])
    for network in networks:
        if network.guard is not None:
            network.guard.set(fit.pool, fit.scale)
    device, nothing = guard.on.device, torch.zeros_like(found.counted["video head"])
    logits = Heads(*(found.log_probability(row).to(device) for row in _OF_HEAD.values()))
    seen, heard = found.counted["video head"], found.counted["audio head"]
    with torch.no_grad():
        whole, no_audio, no_video = (
            guard.eval()(logits, *(has.to(device) for has in pair))
            for pair in ((seen, heard), (seen, nothing), (nothing, heard))
        )
    said = {"fused": whole.fused, "video head": whole.video, "audio head": whole.audio,
            "audio missing": no_audio.fused, "video missing": no_video.fused}  # fmt: skip
    probability = {
        name: logits.softmax(1).cpu().where(found.counted[name][:, None], 0)
        for name, logits in said.items()
    }
    return replace(found, probability=found.probability | probability), fit


def fit_to(found: Predictions, sources: Sequence[str]) -> GuardFit:
    """Fit to predictions for single-label clips; `sources`: of each of them."""
    return fit_to_folds([found], [sources])


def fit_to_folds(folds: Sequence[Predictions], sources: Sequence[Sequence[str]]) -> GuardFit:
    """Fit to predictions of several networks, for the clips that each was trained without."""

    def joined(of_fold: Callable[[Predictions], torch.Tensor]) -> np.ndarray:
        return torch.cat([of_fold(found) for found in folds]).numpy()

    return fit_guard(
        {head: joined(lambda p, row=row: p.probability[row]) for head, row in _OF_HEAD.items()},
        joined(lambda p: p.counted["video head"]),
        joined(lambda p: p.counted["audio head"]),
        joined(lambda p: p.label),
        numbered([name for of_fold in sources for name in of_fold]),
    )
