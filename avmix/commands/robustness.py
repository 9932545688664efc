"""`avmix evaluate --robustness`: the rows of the robustness table, one after the other.

A row that is done is kept in a file of its own, robustness/ROW.json, and is not measured again by
the same network, clips, options and code: what was stopped goes on, with the same result.
"""

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from avmix import __version__
from avmix.commands.robustness_report import print_robustness
from avmix.config import EvalConfig, TrainConfig, to_yaml
from avmix.config.robustness_rows import rows_asked_for
from avmix.data.clip_reader import is_audible
from avmix.data.eval_set import EvalSet
from avmix.data.loader import EvalLoader, eval_loader
from avmix.data.manifest import Manifest
from avmix.data.quarantine import Quarantine
from avmix.data.sample import BadClip, TooManyBadClips
from avmix.evaluation.other_clips import draw_other_clips
from avmix.evaluation.resampling import NUM_RESAMPLES
from avmix.evaluation.robustness_curves import draw_robustness
from avmix.evaluation.robustness_figures import (
    Labels,
    conflict_figures,
    curve_figures,
    retrieval_figures,
    sweep_figures,
)
from avmix.evaluation.robustness_metrics import HEADS, scores_of_clips
from avmix.evaluation.robustness_table import BY_NAME, NO_COMBINATIONS, Condition
from avmix.models import LateFusionClassifier
from avmix.models.frontend import Frontend
from avmix.system import strict_json
from avmix.system.atomic_files import replacing
from avmix.system.git_commit import commit_of
from avmix.system.printing import console_of, echo_on
from avmix.training.checkpoint import digest_of
from avmix.training.condition_passes import (
    Found,
    Subject,
    conflict_pass,
    corrupted,
    groups_of,
    most_places,
    places_of,
    predict,
    read_groups,
    scores_pass,
    span_of,
    sweep_pass,
)
from avmix.training.runtime import Runtime
from avmix.types import Batch

_FORMAT = 2
"""Of the files; another one where figures mean something else."""


class _Cost(NamedTuple):
    """Of one row."""

    decoded: int
    """Windows."""
    predicted: int
    """Windows given to the network."""


@contextmanager
def subject_of(
    config: EvalConfig,
    trained: TrainConfig,
    model: LateFusionClassifier,
    frontend: Frontend,
    views: EvalSet,
    quarantine: Quarantine,
    runtime: Runtime,
) -> Iterator[Subject]:
    """The network and the clips of an evaluation; its loader processes end with the block. Raises
    ValueError where several processes evaluate: each would measure everything."""
    if runtime.world_size > 1:
        raise ValueError("robustness is measured by one process; start it without torchrun")

    def open_loader(dataset: EvalSet) -> EvalLoader:
        return eval_loader(
            dataset, batch_size=most_places(dataset.num_views, config.batch_size),
            num_workers=config.num_workers, clip_seconds=config.clip_seconds,
            quarantine=quarantine,
        )  # fmt: skip

    with closing(open_loader(views)) as loader:
        yield Subject(
            model=model.eval(), frontend=frontend, device=runtime.device, trained=trained,
            views=views, batch_size=config.batch_size, loader=loader, open_loader=open_loader,
        )  # fmt: skip


def measure_robustness(
    asked: str, subject: Subject, out: Path, *, checkpoint: str = "", weights: str = "last"
) -> dict[str, Any]:
    """Measure the rows that `asked` names (`rows_asked_for`), print, write robustness.json and
    robustness.png into the folder `out`; returns what is in the file. `checkpoint` (its digest)
    and `weights` stand in it, as in result.json.

    Raises ValueError where clips have several labels, `TooManyBadClips` where none can be read,
    `LoaderError`.
    """
    manifest, num_views = subject.views.manifest, subject.views.num_views
    if several := [entry.clip_id for entry in manifest.entries if not entry.has_one_label]:
        raise ValueError(f"robustness is of clips of one label; {several[0]!r} has not one")
    console, conditions = console_of(), [BY_NAME[name] for name in rows_asked_for(asked)]
    labels = _labels(manifest)
    network = {"config": to_yaml(subject.trained), "model": subject.model.state_dict()}
    origin = {
        "network": digest_of(network), "format": _FORMAT, "avmix": __version__,
        "git_commit": commit_of(Path(__file__).parent), "split_sha256": manifest.sha256,
        "num_views": num_views, "batch_size": subject.batch_size,
        "audio_domain": subject.trained.mix.audio_domain,
    }  # fmt: skip
    kept = {c.name: _kept(_file(out, c), _key(origin, c)) for c in conditions}
    missing = [c for c in conditions if kept[c.name] is None]
    if done := len(conditions) - len(missing):
        echo_on(console, f"robustness: {done} of {len(conditions)} rows are done already")
    others = {c.name: _others(c, manifest, labels) for c in missing}
    if missing:
        echo_on(console, _cost_in_words(subject, missing, others))
    for number, condition in enumerate(missing, 1):
        began = time.perf_counter()
        tick = partial(_show, f"[{number}/{len(missing)}] {condition.name}", len(labels.label))
        result = {**_described(condition), **_row(subject, condition, others, labels, tick)}
        kept[condition.name] = result
        content = {"key": _key(origin, condition), "result": result}
        with replacing(_file(out, condition)) as file:
            file.write(strict_json.dumps(content, indent=1).encode() + b"\n")
        seconds = time.perf_counter() - began
        echo_on(console, f"[{number}/{len(missing)}] {condition.name}: "
                f"{len(condition.levels)} levels, {result['num_missing']} clips missing, "
                f"{seconds:.1f} s")  # fmt: skip
    clips = np.bincount(labels.label)
    report = {
        "protocol": manifest.protocol, "split": manifest.split, **origin,
        "checkpoint_digest": checkpoint, "weights": weights,
        "classes": len(manifest.classes), "clips": len(manifest.entries),
        "chance": float(clips.max() / clips.sum()), "heads": list(HEADS),
        "num_resamples": NUM_RESAMPLES, "rows": kept, "combinations": NO_COMBINATIONS,
    }  # fmt: skip
    with replacing(out / "robustness.json") as file:
        file.write(strict_json.dumps(report, indent=1).encode() + b"\n")
    draw_robustness(report, out / "robustness.png")
    echo_on(console, f"wrote {out}/robustness.json, robustness.png")
    print_robustness(report)
    return report


def _row(
    subject: Subject,
    condition: Condition,
    all_others: Mapping[str, Mapping[int, Sequence[int]]],
    labels: Labels,
    tick: Callable[[int], None],
) -> dict[str, Any]:
    """Figures of one row, and the clips that are not in them."""
    others = all_others[condition.name]
    rows = list(range(len(labels.label)))
    alone = []
    if condition.partners:
        alone = [row for row in rows if row not in others]
        rows = [row for row in rows if row in others]
    figures: dict[str, Any] = {}
    match condition.kind:
        case "curve":
            found = _curve(subject, condition, rows, others, tick)
            of = partial(curve_figures, labels=labels)
        case "conflict":
            found = conflict_pass(subject, rows, others, tick=tick)
            of = partial(conflict_figures, others=others, labels=labels)
        case "sweep":
            found = sweep_pass(subject, rows, others, tick=tick)
            of = partial(sweep_figures, others=others, labels=labels)
        case "retrieval":
            found = scores_pass(subject, condition, rows, {}, lambda p, _: p, tick=tick)
            of = partial(retrieval_figures, labels=labels)
    if found.clips:
        figures = of(found.clips)
    elif condition.kind == "curve":
        raise TooManyBadClips(_why(condition, found.bad))
    else:
        figures = {"num_clips": 0}
    if condition.kind == "curve" and condition.of == "audio":
        figures["num_without_audio"] = sum(
            not is_audible(entry) for entry in subject.views.manifest.entries
        )
    if condition.name in ("shift", "shift_edges"):
        figures["silent_share"] = _silent_shares(subject, condition)
    return {
        **figures,
        "num_missing": len(found.bad),
        "missing": [bad._asdict() for _, bad in sorted(found.bad.items())],
        "num_without_other": len(alone),
    }


def _curve(
    subject: Subject,
    condition: Condition,
    rows: Sequence[int],
    others: Mapping[int, Sequence[int]],
    tick: Callable[[int], None],
) -> Found:
    """One pass; of a shift, which the decoder does, one for each level. The clips of a curve are
    the same at each of its levels."""
    if not condition.is_shift:
        return scores_pass(subject, condition, rows, others, scores_of_clips, tick=tick)
    passes = [
        scores_pass(subject, condition, rows, others, scores_of_clips, tick=tick,
                    views=replace(subject.views, audio_shift_seconds=shift))
        for shift in condition.levels
    ]  # fmt: skip
    bad = {row: b for one in passes for row, b in one.bad.items()}
    whole = [row for row in passes[0].clips if all(row in one.clips for one in passes)]
    clips = {
        row: tuple(np.concatenate([one.clips[row][k] for one in passes]) for k in (0, 1))
        for row in whole
    }
    return Found(clips=clips, bad=bad)


def _silent_shares(subject: Subject, condition: Condition) -> list[float]:
    """Mean share of a window that lies outside of its file's audio, at each level."""
    clip, views = subject.trained.clip, subject.views
    size = round(clip.duration_seconds * clip.sample_rate)
    windows = [(row, view) for row, entry in enumerate(views.manifest.entries)
               if is_audible(entry) for view in range(views.num_views)]  # fmt: skip
    shares = []
    for level in condition.levels:
        kept = [stop - first for first, stop in (span_of(subject, *w, level) for w in windows)]
        shares.append(1 - sum(kept) / (size * len(kept)) if kept else 0.0)
    return shares


def _labels(manifest: Manifest) -> Labels:
    number = {name: k for k, name in enumerate(manifest.classes)}
    sources: dict[str, int] = {}
    return Labels(
        label=np.array([number[entry.labels[0]] for entry in manifest.entries]),
        source=np.array([sources.setdefault(e.source_id, len(sources)) for e in manifest.entries]),
    )


def _others(
    condition: Condition, manifest: Manifest, labels: Labels
) -> Mapping[int, Sequence[int]]:
    if not condition.partners:
        return {}
    audible = np.array([is_audible(entry) for entry in manifest.entries])
    return draw_other_clips(condition.name, condition.partners, *labels, audible)


def _described(condition: Condition) -> dict[str, Any]:
    """What a row says of itself."""
    said = asdict(condition)
    return {key: said[key] for key in ("title", "kind", "of", "levels", "unit", "definition",
                                       "source")} | {"levels": list(condition.levels)}  # fmt: skip


def _file(out: Path, condition: Condition) -> Path:
    return out / "robustness" / f"{condition.name}.json"


def _key(origin: Mapping[str, Any], condition: Condition) -> str:
    """Hash of all that a row depends on."""
    text = strict_json.dumps({**origin, "condition": asdict(condition)}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _kept(path: Path, key: str) -> dict[str, Any] | None:
    """The row in a file; None where there is none, or one of something else."""
    try:
        found = json.loads(path.read_bytes())
        return found["result"] if found["key"] == key else None
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


def _why(condition: Condition, bad: Mapping[int, BadClip]) -> str:
    first = next(iter(bad.values()), None)
    why = f"; the first: {first.path}: {first.reason}" if first else ""
    return f"robustness, {condition.name}: no clip can be evaluated{why}"


def _show(text: str, total: int, done: int) -> None:
    """Progress in place, on the standard error, where that is a terminal."""
    console = console_of(stderr=True)
    if console.is_terminal:
        console.print(f"{text}: {done} of {total} clips", end="\r")


# Cost ---------------------------------------------------------------------------------------------


def _cost(subject: Subject, condition: Condition, others: Mapping[int, Sequence[int]]) -> _Cost:
    num_views = subject.views.num_views
    num_clips = len(subject.views.manifest.entries)
    rows = [row for row in range(num_clips) if not condition.partners or row in others]
    groups = groups_of(rows, others, num_views, subject.batch_size)
    decoded = sum(len(places_of(group, others, num_views)) for group in groups)
    passes = len(condition.levels) if condition.is_shift else 1
    return _Cost(decoded * passes, len(rows) * num_views * len(condition.levels))


def _cost_in_words(
    subject: Subject,
    conditions: Sequence[Condition],
    others: Mapping[str, Mapping[int, Sequence[int]]],
) -> str:
    """Windows to decode and to predict, and about how long that takes, by the first batch."""
    costs = [_cost(subject, c, others[c.name]) for c in conditions]
    decoded, predicted = sum(c.decoded for c in costs), sum(c.predicted for c in costs)
    text = (
        f"robustness: {len(conditions)} rows, {decoded:,} windows to decode, {predicted:,} to "
        "predict"
    )
    views = subject.views
    rows = groups_of(range(len(views.manifest.entries)), {}, views.num_views, subject.batch_size)[0]
    places = places_of(rows, {}, views.num_views)
    loader = replace(subject.loader, batches=[places])
    list(loader)  # processes start
    began = time.perf_counter()
    list(loader)
    decoding = (time.perf_counter() - began) / len(places)
    for group in read_groups(subject, rows, {}, {}):
        if group.rows:
            predict(subject, group.batch)
            began = time.perf_counter()
            predict(subject, group.batch)
            forward = (time.perf_counter() - began) / group.batch.size
            seconds = decoding * decoded + forward * predicted
            for condition, cost in zip(conditions, costs, strict=True):
                seconds += _corruption_seconds(subject, condition, group.batch) * cost.predicted
            return f"{text}; about {seconds / 60:.1f} minutes"
    return f"{text}; no clip of the first batch can be read, by which to say how long"


def _corruption_seconds(subject: Subject, condition: Condition, batch: Batch) -> float:
    """Of one window, at the level in the middle; 0 for what other clips are needed for."""
    if condition.kind != "curve" or condition.partners:
        return 0.0
    began = time.perf_counter()
    corrupted(subject, condition, condition.levels[len(condition.levels) // 2], batch)
    return (time.perf_counter() - began) / batch.size
