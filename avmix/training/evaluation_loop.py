"""The evaluation loop: `evaluate`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor

from avmix.data.loader import EvalLoader
from avmix.data.sample import WORTH_HINT, BadClip, TooManyBadClips
from avmix.evaluation.metrics import EVAL_ROWS, NEEDS, Predictions
from avmix.label_sets import LabelSet
from avmix.models import LateFusionClassifier
from avmix.models.on_features import AnyFrontend
from avmix.models.set_softmax import softmax
from avmix.training.runtime import Runtime
from avmix.types import Batch


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """Result of evaluating a split; missing predictions are not substituted."""

    predictions: Predictions
    """Predictions for the clips whose views were all readable and gave finite numbers."""
    bad: tuple[BadClip, ...]
    """The others, once each."""


@torch.inference_mode()
def evaluate(
    model: LateFusionClassifier,
    frontend: AnyFrontend,
    loader: EvalLoader,
    runtime: Runtime,
    several: bool = False,
    *,
    average: Literal["probabilities", "logits"] = "probabilities",
    sets: Sequence[LabelSet] = (),
    one_of_many: bool = False,
) -> Evaluation:
    """Probabilities of every clip for each of `EVAL_ROWS`, averaged in float64 over those of its
    views that have what the row needs (`avmix.evaluation.metrics.NEEDS`): an audio head says
    nothing of a window without audio. With `average` logits these are averaged instead, which is
    the geometric mean of the probabilities, scaled to add up to 1. `several`: clips have several
    labels, and probabilities are sigmoids of the logits, not their softmax. `sets`: they have one
    label of each label set, and probabilities are the softmax over the classes of each.
    `one_of_many`: the network was trained on one label a clip, so that its probabilities are a
    softmax, though the clips have several.

    A clip is missing, with the reason, where a view of it cannot be read, or its waveform or what
    the network says of it is not finite: nan has a largest entry, too, and would count as a class.

    Raises `TooManyBadClips`, which names the split, when none of its clips can be evaluated.
    """
    binary = several and not one_of_many
    model.eval()
    runtime.broadcast_buffers(model)
    sums: dict[int, Tensor] = {}  # row of the manifest -> (len(EVAL_ROWS) k)
    counts: dict[int, Tensor] = {}  # -> (len(EVAL_ROWS)): views that have what the row needs
    views: dict[int, int] = {}
    labels: dict[int, Tensor] = {}
    bad: dict[int, BadClip] = {}
    for batch, bad_now in loader:
        bad.update({b.row: b for b in bad_now})
        if batch is None:
            continue
        logits = _eval_rows(model, frontend, batch.to(runtime.device))
        said = logits if average == "logits" else _probability(logits, binary, sets)
        said = said.double().cpu()
        wanted = _eval_targets(batch) if several else _labels(batch, sets)
        present = _present(batch)
        said = said.where(present[:, :, None], 0)
        problems = _not_finite(batch, said)
        for i, row in enumerate(batch.row.tolist()):
            if problems[i]:
                bad[row] = BadClip(row, loader.paths[int(row)], problems[i])
                continue
            sums[row] = sums.get(row, 0) + said[:, i]
            counts[row] = counts.get(row, 0) + present[:, i].long()
            views[row] = views.get(row, 0) + 1
            labels[row] = wanted[:, i] if several else wanted[i]
    ours = {row: (labels[row], total / counts[row].clamp(min=1)[:, None], counts[row] > 0)
            for row, total in sums.items() if views[row] == loader.num_views}  # fmt: skip
    clips = {row: clip for part in runtime.gather(ours) for row, clip in part.items()}
    missing = {row: b for part in runtime.gather(bad) for row, b in part.items()}
    if not clips:
        if not missing:
            raise TooManyBadClips(f"the split {loader.split!r} has no clip to evaluate")
        first = next(iter(missing.values()))
        raise TooManyBadClips(
            f"none of the {len(missing)} clips of {loader.split!r} can be evaluated; the first: "
            f"{first.path}: {first.reason}{WORTH_HINT}",
            tuple(missing.values()),
        )
    rows = sorted(clips)
    stacked = torch.stack([clips[row][1] for row in rows], 1)
    counted = torch.stack([clips[row][2] for row in rows], 1)
    found = torch.stack([clips[row][0] for row in rows], 1 if several else 0)
    if average == "logits":
        stacked = _probability(stacked, binary, sets).where(counted[:, :, None], 0)
    return Evaluation(
        predictions=Predictions(
            row=torch.tensor(rows),
            label=torch.full((len(rows),), -1) if several else found,
            probability=dict(zip(EVAL_ROWS, stacked.float(), strict=True)),
            counted=dict(zip(EVAL_ROWS, counted, strict=True)),
            target=dict(zip(EVAL_ROWS, found, strict=True)) if several else None,
            sets=tuple(sets),
        ),
        bad=tuple(missing[row] for row in sorted(missing)),
    )


def probabilities_of(
    model: LateFusionClassifier, frontend: AnyFrontend, batch: Batch, several: bool
) -> tuple[Float64[Tensor, "rows b k"], Bool[Tensor, "rows b"]]:
    """Probabilities for each of `EVAL_ROWS`, on the CPU, and which count; as `evaluate` has them of
    one window, without label sets. `batch` is on the device of `model`, in evaluation mode."""
    with torch.no_grad():
        said = _probability(_eval_rows(model, frontend, batch), several, ()).double().cpu()
    present = _present(batch)
    return said.where(present[:, :, None], 0), present


def _present(batch: Batch) -> Bool[Tensor, "rows b"]:
    """Which windows have what each of `EVAL_ROWS` needs."""
    has = {"video": batch.has_video, "audio": batch.has_audio}
    anything = batch.has_video | batch.has_audio
    return torch.stack(
        [has[NEEDS[name]] if name in NEEDS else anything for name in EVAL_ROWS]
    ).cpu()


def _not_finite(batch: Batch, values: Float64[Tensor, "rows b k"]) -> list[str]:
    """What of each clip is not finite; empty where all of it is."""
    heard = batch.audio.isfinite().flatten(1).all(1).tolist()
    said = values.isfinite().all(2).all(0).tolist()
    return [
        "" if a and b else "logits that are not finite" if a else "audio that is not finite"
        for a, b in zip(heard, said, strict=True)
    ]


def _eval_rows(
    model: LateFusionClassifier, frontend: AnyFrontend, batch: Batch
) -> Float[Tensor, "rows b k"]:
    """Logits for each of `EVAL_ROWS`."""
    video, audio = frontend(batch)
    seen, heard, nothing = batch.has_video, batch.has_audio, torch.zeros_like(batch.has_video)
    heads, without_audio, without_video = model.heads_of(
        video, audio, [(seen, heard), (seen, nothing), (nothing, heard)]
    )
    logits = [heads.fused, heads.video, heads.audio, without_audio.fused, without_video.fused]
    return torch.stack(logits).float()


def _probability(
    logits: Float[Tensor, "rows b k"], binary: bool, sets: Sequence[LabelSet]
) -> Float[Tensor, "rows b k"]:
    return logits.sigmoid() if binary else softmax(logits, sets)


def _labels(batch: Batch, sets: Sequence[LabelSet]) -> Int64[Tensor, "b *s"]:
    """The class of each clip, or that of each set, counted within it."""
    if not sets:
        return batch.target.argmax(1)
    return torch.stack([batch.target[:, one.columns].argmax(1) for one in sets], 1)


def _eval_targets(batch: Batch) -> Float[Tensor, "rows b k"]:
    """What each of `EVAL_ROWS` is judged by: the fused head by all labels of the clip, a head of
    one modality, and the fused head where only one is left, by those of that modality."""
    of = {"video": batch.video_target, "audio": batch.audio_target}
    found = [of.get(NEEDS.get(name, "")) for name in EVAL_ROWS]
    return torch.stack([batch.target if one is None else one for one in found])
