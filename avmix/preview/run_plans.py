"""Which files a line of a run's plans is about."""

import json
from dataclasses import dataclass
from pathlib import Path

from avmix.config import TrainConfig, from_yaml
from avmix.data.train_clips import train_clips
from avmix.decode.mono_track import track_of
from avmix.mix import MixPlan
from avmix.types import Entry


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """A clip of a batch of a run, and the one it was mixed with."""

    config: TrainConfig
    plan: MixPlan
    """Of this one clip, with its partner as second input."""
    paths: tuple[Path, Path]
    start_seconds: tuple[float, float]
    """Where the labelled stretches begin."""
    labels: tuple[str, str]
    tracks: tuple[int | None, int | None]
    """Of audio, as `AudioInfo.track`."""
    until_seconds: tuple[float | None, float | None]
    """Where reading has to end, as `Entry.usable_until_seconds`."""


def of_run(run: Path, line: int, clip: int, rank: int = 0) -> Planned:
    """What line `line` (from 1) of `plans_rankN.jsonl` in the folder `run` says of clip `clip`.

    Raises OSError where the run has no config.yaml, ValueError where it has no plans
    (`run.save_plans`), no such line or clip, or its dataset is not what it was trained on.
    """
    config = from_yaml(TrainConfig, (run / "config.yaml").read_text())
    path = run / f"plans_rank{rank}.jsonl"
    if not path.is_file():
        raise ValueError(f"{path}: not found; training writes it with --run.save_plans true")
    lines = path.read_text().splitlines()
    if not 1 <= line <= len(lines):
        raise ValueError(f"{path} has {len(lines)} lines, not a line {line}")
    try:
        rows = [int(row) for row in json.loads(lines[line - 1])["rows"]]
        whole = MixPlan.from_json(lines[line - 1])
        plan = whole.of_one(clip)
        pair = rows[clip], rows[whole.partner[clip]]
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise ValueError(f"{path}:{line}: {error}") from None
    clips = train_clips(config.data)
    if max(pair) >= len(clips.manifest.entries):
        raise ValueError(f"{path}:{line}: the train split has no row {max(pair)}: it has changed")
    own, partner = (clips.manifest.entries[row] for row in pair)

    def where(entry: Entry) -> Path:
        return clips.roots.get(entry.clip_id, Path(config.data.root)) / entry.path

    return Planned(
        config=config,
        plan=plan,
        paths=(where(own), where(partner)),
        start_seconds=(own.start_seconds, partner.start_seconds),
        labels=(own.labels[0], partner.labels[0]),
        tracks=(track_of(own.audio), track_of(partner.audio)),
        until_seconds=(own.usable_until_seconds, partner.usable_until_seconds),
    )
