"""Passes of the robustness table: windows are read once, corrupted at every level and given to the
network. Numbers of each clip come back; figures and intervals are made of them elsewhere.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from avmix.config import TrainConfig
from avmix.data.eval_set import EvalSet
from avmix.data.eval_windows import view_windows
from avmix.data.loader import EvalLoader
from avmix.data.sample import BadClip, Place
from avmix.evaluation import corruptions
from avmix.evaluation.other_clips import audio_span, stream_of
from avmix.evaluation.robustness_metrics import LAMBDAS
from avmix.evaluation.robustness_table import VOICES, Condition
from avmix.mix import MixPlan, Part
from avmix.mix.mix_plan import PlacedPlan
from avmix.models import LateFusionClassifier
from avmix.models.frontend import Frontend
from avmix.types import Batch, Entry


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """The network that is looked at, and the clips."""

    model: LateFusionClassifier
    """In evaluation mode, on `device`."""
    frontend: Frontend
    device: torch.device
    trained: TrainConfig
    views: EvalSet
    batch_size: int
    """Windows that the network is given at a time, about."""
    loader: EvalLoader
    """Of `views`; it reads any batches of at most `most_places` windows."""
    open_loader: Callable[[EvalSet], EvalLoader]
    """Such a loader of the same clips read otherwise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """Of each clip of a pass that could be read and gave finite numbers."""

    clips: dict[int, Any]
    """By row of the manifest: arrays, of what the pass is about."""
    bad: dict[int, BadClip]
    """The others, once each."""


class _Group(NamedTuple):
    """Clips of which every view, and every view of the other clips they need, could be read."""

    rows: list[int]
    batch: Batch
    place: dict[int, list[int]]
    """Places of the views of each row in `batch`."""


def most_places(num_views: int, batch_size: int) -> int:
    """Most windows that a group has: one clip with all that it may need, or a batch."""
    return max(batch_size, num_views * (1 + VOICES))


def groups_of(
    rows: Sequence[int], others: Mapping[int, Sequence[int]], num_views: int, batch_size: int
) -> list[list[int]]:
    """Rows that are read together; all views of a clip are, and of the other clips it needs."""
    needed = 1 + max((len(others[row]) for row in rows if row in others), default=0)
    together = max(1, batch_size // (num_views * needed))
    return [list(rows[i : i + together]) for i in range(0, len(rows), together)]


def places_of(
    rows: Sequence[int], others: Mapping[int, Sequence[int]], num_views: int
) -> list[Place]:
    """What is read for a group: every view of every clip, each once."""
    everyone = dict.fromkeys([*rows, *(other for row in rows for other in others.get(row, ()))])
    return [(row, view) for row in everyone for view in range(num_views)]


def read_groups(
    subject: Subject,
    rows: Sequence[int],
    others: Mapping[int, Sequence[int]],
    bad: dict[int, BadClip],
    *,
    views: EvalSet | None = None,
) -> Iterator[_Group]:
    """Read the rows, group by group; what cannot be read is added to `bad`."""
    num_views = subject.views.num_views
    groups = groups_of(rows, others, num_views, subject.batch_size)
    batches = [places_of(group, others, num_views) for group in groups]
    with (
        nullcontext(subject.loader)
        if views is None
        else closing(subject.open_loader(views)) as loader
    ):
        reading = iter(replace(loader, batches=batches))
        for group, (batch, lost) in zip(groups, reading, strict=True):
            reasons = {b.row: b for b in lost}
            place: dict[int, list[int]] = {}
            for i, row in enumerate(batch.row.tolist() if batch is not None else ()):
                place.setdefault(row, []).append(i)
            whole = {row for row, at in place.items() if len(at) == num_views}
            for row in group:
                needed = [row, *others.get(row, ())]
                if missing := [other for other in needed if other not in whole]:
                    reason = reasons[missing[0]]
                    why = reason.reason if missing[0] == row else f"{reason.path}: {reason.reason}"
                    bad[row] = BadClip(row, subject.views.name(row), why)
            if batch is not None:
                yield _Group([row for row in group if row not in bad], batch, place)


def scores_pass(
    subject: Subject,
    condition: Condition,
    rows: Sequence[int],
    others: Mapping[int, Sequence[int]],
    measure: Callable[[np.ndarray, np.ndarray], np.ndarray],
    *,
    views: EvalSet | None = None,
    tick: Callable[[int], None],
) -> Found:
    """`measure(probability (n heads k), label)` of each clip at each level of the condition:
    `clips[row]` is (its figures (levels heads ...), which heads say something (levels heads)).

    `tick` is told how many clips are done.
    """
    found, bad, num_views = {}, {}, subject.views.num_views
    for group in read_groups(subject, rows, others, bad, views=views):
        if group.rows:
            own = _select(group.batch, [i for row in group.rows for i in group.place[row]])
            label = own.target.argmax(1).numpy()[::num_views]
            by_level = []
            for level in (0.0,) if condition.is_shift else condition.levels:
                changed = corrupted(subject, condition, level, own, group, others)
                probability, says = _by_clip(changed, predict(subject, changed), num_views)
                by_level.append((measure(probability, label), says, probability))
            for i, row in enumerate(group.rows):
                if all(np.isfinite(p[i]).all() for _, _, p in by_level):
                    found[row] = tuple(np.stack([part[k][i] for part in by_level]) for k in (0, 1))
                else:
                    bad[row] = BadClip(row, subject.views.name(row), "logits that are not finite")
        tick(len(found) + len(bad))
    return Found(clips=found, bad=bad)


def conflict_pass(
    subject: Subject, rows: Sequence[int], others: Mapping[int, Sequence[int]], *,
    tick: Callable[[int], None],
) -> Found:  # fmt: skip
    """Probabilities (heads k) of the frames of each clip with the audio of another one."""
    found, bad = {}, {}
    for group in read_groups(subject, rows, others, bad):
        if group.rows:
            own, other = _own_and_other(group, others)
            mixed = replace(own, audio=other.audio, has_audio=other.has_audio)
            probability, says = _by_clip(mixed, predict(subject, mixed), subject.views.num_views)
            _keep(group, probability, np.all(says, axis=1), found, bad, subject)
        tick(len(found) + len(bad))
    return Found(clips=found, bad=bad)


def sweep_pass(
    subject: Subject, rows: Sequence[int], others: Mapping[int, Sequence[int]], *,
    tick: Callable[[int], None],
) -> Found:  # fmt: skip
    """Probabilities (lambdas heads k) of each clip mixed with another one at `LAMBDAS`."""
    found, bad, num_views = {}, {}, subject.views.num_views
    for group in read_groups(subject, rows, others, bad):
        if group.rows:
            own, other = _own_and_other(group, others)
            both = _joined(own, other)
            levels = []
            for lam in LAMBDAS:
                plan = mixup_plan(lam, own.size, subject.trained.mix.audio_domain)
                probability = predict(subject, both, plan.to(subject.device))
                levels.append(_by_clip(own, probability, num_views)[0])
            # A pair is mixed where both have audio in every view.
            complete = (own.has_audio & other.has_audio).view(-1, num_views).all(1).numpy()
            _keep(group, np.stack(levels, 1), complete, found, bad, subject)
        tick(len(found) + len(bad))
    return Found(clips=found, bad=bad)


def mixup_plan(lam: float, size: int, audio_domain: str) -> MixPlan:
    """Plan that mixes clip i with clip `size` + i, of twice `size`, with one lambda."""
    present = (True,) * size
    return MixPlan(
        num_inputs=2 * size,
        partner=tuple(range(size, 2 * size)),
        method="mixup",
        level="input",
        parts=tuple(
            Part(name=name, domain=domain, weight=(lam,) * size, present=present)
            for name, domain in (("video", "pixels"), ("audio", audio_domain))
        ),
    )


@torch.inference_mode()
def predict(
    subject: Subject, batch: Batch, plan: PlacedPlan | None = None
) -> Float[Tensor, "n heads k"]:
    """Probabilities of the fused, the video and the audio head, float64 on the CPU."""
    there = batch.to(subject.device)
    size = plan.plan.size if plan else batch.size
    video, audio = subject.frontend(there, plan)
    logits = subject.model(video, audio, there.has_video[:size], there.has_audio[:size]).logits
    return torch.stack(list(logits), 1).float().softmax(2).double().cpu()


def corrupted(
    subject: Subject,
    condition: Condition,
    level: float,
    own: Batch,
    group: _Group | None = None,
    others: Mapping[int, Sequence[int]] | None = None,
) -> Batch:
    """The windows as the condition has them at `level`. `group`: where other clips are found."""
    name, clip, views = condition.name, subject.trained.clip, subject.views
    nothing = torch.zeros_like(own.has_audio)
    rate, size = clip.sample_rate, own.size
    per_second = Fraction(clip.num_frames) / Fraction(clip.duration_seconds).limit_denominator(1000)
    numbers = [(row, i % views.num_views) for i, row in enumerate(own.row.tolist())]

    def stream(i: int) -> np.random.Generator:
        return stream_of(name, *numbers[i])

    def voices(i: int) -> list[np.ndarray]:
        assert group is not None
        assert others is not None
        row, view = numbers[i]
        return [group.batch.audio[group.place[other][view]].numpy() for other in others[row]]

    def frames(change: Callable[[np.ndarray, int], np.ndarray]) -> Batch:
        changed = [change(own.video[i].numpy(), i) for i in range(size)]
        return replace(own, video=torch.from_numpy(np.stack(changed)))

    def waves(change: Callable[[np.ndarray, int], np.ndarray]) -> Batch:
        changed = [change(own.audio[i].numpy(), i) for i in range(size)]
        return replace(own, audio=torch.from_numpy(np.stack(changed)))

    match name:
        case "clean" | "shift" | "retrieval":
            return own
        case "audio_missing":
            return replace(own, has_audio=nothing)
        case "video_missing":
            return replace(own, has_video=nothing)
        case "noise_white":
            return waves(lambda x, i: corruptions.white_noise(x, level, stream(i), rate))
        case "noise_babble":
            return waves(lambda x, i: corruptions.babble(x, level, voices(i), rate))
        case "reverb":
            return waves(lambda x, i: corruptions.reverberation(x, level, stream(i), rate))
        case "low_pass":
            return waves(lambda x, i: corruptions.low_pass(x, level, rate))
        case "blur":
            return frames(lambda x, i: corruptions.gaussian_blur(x, level))
        case "jpeg":
            return frames(lambda x, i: corruptions.jpeg(x, level))
        case "h264":
            return frames(lambda x, i: corruptions.h264(x, level, per_second))
        case "darkness":
            return frames(lambda x, i: corruptions.darkened(x, level))
        case "frame_loss":
            return frames(lambda x, i: corruptions.frames_lost(x, level, stream(i)))
        case "shift_edges":
            spans = [span_of(subject, row, view, level) for row, view in numbers]
            changed = waves(lambda x, i: corruptions.silenced(x, *spans[i]))
            left = torch.tensor([stop > first for first, stop in spans])
            return replace(changed, has_audio=own.has_audio & left)
    raise ValueError(f"no corruption {name!r}")


def span_of(subject: Subject, row: int, view: int, shift_seconds: float) -> tuple[int, int]:
    """Samples [first, stop) of a shifted window that lie inside of the file's audio."""
    views, clip = subject.views, subject.trained.clip
    entry: Entry = views.manifest.entries[row]
    window = view_windows(entry, clip.duration_seconds, views.num_views)[view]
    size = round(clip.duration_seconds * clip.sample_rate)
    first, stop = audio_span(entry, window.start_seconds + shift_seconds, clip.duration_seconds)
    return round(first * size), round(stop * size)


def _own_and_other(group: _Group, others: Mapping[int, Sequence[int]]) -> tuple[Batch, Batch]:
    """The windows of each clip, and those of the one other clip it needs, view by view."""
    own = [i for row in group.rows for i in group.place[row]]
    other = [i for row in group.rows for i in group.place[others[row][0]]]
    return _select(group.batch, own), _select(group.batch, other)


def _keep(
    group: _Group,
    probability: np.ndarray,
    complete: Any,
    found: dict[int, Any],
    bad: dict[int, BadClip],
    subject: Subject,
) -> None:
    for i, row in enumerate(group.rows):
        if not complete[i]:
            reason = "a window without audio, of the clip or of the other one"
        elif not np.isfinite(probability[i]).all():
            reason = "logits that are not finite"
        else:
            found[row] = probability[i]
            continue
        bad[row] = BadClip(row, subject.views.name(row), reason)


def _select(batch: Batch, places: Sequence[int]) -> Batch:
    """The clips at these places, copied: what a loader lends it takes back."""
    index = torch.tensor(places)
    return Batch(**{name: tensor[index] for name, tensor in batch.tensors().items()})


def _joined(own: Batch, other: Batch) -> Batch:
    more = other.tensors()
    return Batch(**{name: torch.cat([x, more[name]]) for name, x in own.tensors().items()})


def _by_clip(
    batch: Batch, probability: Float[Tensor, "n heads k"], num_views: int
) -> tuple[np.ndarray, np.ndarray]:
    """Means over the views in which a head says something (clips heads k), zeros where it says
    nothing in any; and whether it does in one (clips heads)."""
    sees, plays = batch.has_video, batch.has_audio
    says = torch.stack([sees | plays, sees, plays], 1).view(-1, num_views, 3, 1)
    values = probability.view(-1, num_views, *probability.shape[1:]).where(says, 0)
    count = says.sum(1)
    return (values.sum(1) / count.clamp(min=1)).numpy(), (count > 0)[..., 0].numpy()
