"""What a finished cell gives, and the journal of finished cells of a folder of work."""

import hashlib
import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from avmix.evaluation.kept_predictions import KeptPredictions
from avmix.leaderboard.packed_predictions import SUFFIX, pack
from avmix.leaderboard.result import PredictionFile, Run
from avmix.leaderboard.scoring import figures_of
from avmix.leaderboard.strict_record import read_record
from avmix.system import strict_json
from avmix.system.atomic_files import replace_text, replacing

_FINISHED = "finished.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """A cell that is done, for one method."""

    method: str
    run: Run
    content: bytes
    """Of the file of predictions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Line:
    key: str
    methods: dict[str, Run] = field(default_factory=dict)
    """By method: several of a probe."""
    held_out: float | None = None
    """Of a cell of tuning: the figure of the held-out sources."""


def finished_of(
    method: str, run: Run, kept: KeptPredictions, *, file: str
) -> Finished:  # fmt: skip
    """Pack the predictions of a run, and compute its figures from what is packed. `run` says
    everything else."""
    packed = pack(kept)
    name = f"{file}{SUFFIX}"
    predictions = PredictionFile(
        file=name, sha256=packed.sha256, bytes=len(packed.content), rounded=packed.rounded
    )
    run = replace(run, predictions=predictions, figures=figures_of(packed.kept))
    return Finished(method=method, run=run, content=packed.content)


Outcome = list[Finished] | float
"""Of a cell: what it gives, or of a cell of tuning the figure of the held-out sources."""
NO_FILE = PredictionFile(file=f"none{SUFFIX}", sha256="0" * 64, bytes=0)
"""Of a run whose predictions are not packed yet."""


def keep(folder: Path, key: str, outcome: Outcome) -> None:
    """Write a finished cell: predictions first, then the line that says that it is finished."""
    said: dict[str, Any] = {"key": key}
    if not isinstance(outcome, list):
        said["held_out"] = outcome
    else:
        for one in outcome:
            with replacing(folder / one.run.predictions.file) as file:
                file.write(one.content)
        said["methods"] = {one.method: asdict(one.run) for one in outcome}
    replace_text(folder / _FINISHED, strict_json.dumps(said, indent=1) + "\n")


def kept(folder: Path, key: str) -> Outcome | None:
    """The finished cell of a folder; None where it is not finished, or of another key, or its
    predictions are not what was written."""
    path = folder / _FINISHED
    try:
        line = read_record(_Line, json.loads(path.read_bytes()), str(path))
        if line.key != key:
            return None
        if line.held_out is not None:
            return line.held_out
        found = [Finished(method=m, run=run,
                          content=(folder / run.predictions.file).read_bytes())
                 for m, run in line.methods.items()]  # fmt: skip
    except (OSError, ValueError):
        return None
    whole = all(hashlib.sha256(f.content).hexdigest() == f.run.predictions.sha256 for f in found)
    return found if whole else None
