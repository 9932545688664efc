"""The clips that an evaluation is most wrong about: those of the highest loss of the fused head."""

from dataclasses import dataclass

import numpy as np

from avmix.evaluation.clip_statistics import clip_losses
from avmix.evaluation.kept_predictions import KeptPredictions
from avmix.evaluation.metrics import EVAL_ROWS

MOST_CLIPS = 24
"""That are listed, and of which frames are shown."""
SHOWN_ROWS = EVAL_ROWS[:3]


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadSays:
    """What a head says of a clip."""

    labels: tuple[float, ...]
    """Probability of each label of the clip."""
    answer: str
    """The most probable class."""
    probability: float
    """Of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WrongClip:
    """A clip of a high loss."""

    clip_id: str
    path: str
    start_seconds: float
    end_seconds: float
    labels: tuple[str, ...]
    """Known ones."""
    loss: float
    """-ln(probability of what is right), nats; of several labels the mean over the known ones."""
    rows: dict[str, HeadSays | None]
    """By row of the table (`SHOWN_ROWS`); None for a head whose modality the clip lacks."""


def most_wrong(kept: KeptPredictions, most: int = MOST_CLIPS) -> list[WrongClip]:
    """The clips of the highest loss of the fused head, the highest first; of equal ones, in the
    order of the manifest. Clips of which no label is known have none."""
    answers = kept.answers("fused", np.arange(len(kept.clips)))
    total, pairs = clip_losses(answers)
    known = (pairs > 0).nonzero()[0]
    loss = total[known] / pairs[known]
    found = []
    for place in (-loss).argsort(kind="stable")[:most]:
        i, clip = int(known[place]), kept.clips[known[place]]
        positive = answers.positive[i].nonzero()[0]
        found.append(WrongClip(
            clip_id=clip.clip_id, path=clip.path, start_seconds=clip.start_seconds,
            end_seconds=clip.end_seconds, labels=tuple(kept.classes[k] for k in positive),
            loss=float(loss[place]),
            rows={row: _says(kept, row, i, positive)
                  for row in SHOWN_ROWS if row in kept.probability},
        ))  # fmt: skip
    return found


def _says(kept: KeptPredictions, row: str, clip: int, positive: np.ndarray) -> HeadSays | None:
    if not kept.counted[row][clip]:
        return None
    probability = kept.probability[row][clip]
    best = int(probability.argmax())
    return HeadSays(
        labels=tuple(probability[positive].tolist()),
        answer=kept.classes[best],
        probability=float(probability[best]),
    )
