"""avmix: audio-visual action recognition with Cross-Modal Mixup.

manifest.jsonl -- Entry --> decode --> Clip --> augment --> collate --> Batch        CPU workers
Batch.to(device), MixPlan drawn                                                      device
  --> frontend: frames normalised, waveform -> log-mel, mixed with ONE lambda for all
  --> video encoder, audio encoder --> late fusion --> Heads(fused, video, audio)
  --> mixed targets: Heads --> losses --> backward --> step
"""

import os

# Read once, when torch loads OpenMP: threads that wait must sleep, not spin. On a machine whose
# cores are shared with loader processes, spinning makes a training step up to ten times slower.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# The same of numpy's threads, which cannot sleep: one. What it multiplies here is small, and rounds
# the same on any number of cores.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from avmix.commands.evaluate import evaluate
    from avmix.commands.train import TrainResult, train
    from avmix.config import EvalConfig, TrainConfig, load_config
    from avmix.data.manifest import Manifest, read_manifest, write_manifest
    from avmix.decode import ClipError, decode_clip, decode_clips
    from avmix.evaluation.file_prediction import FilePrediction
    from avmix.exporting.export_network import Exported, export
    from avmix.exporting.push import push
    from avmix.mix import CrossModalMixup, MixPlan, draw_plan, mixed_targets
    from avmix.models import LateFusionClassifier, build_model
    from avmix.models.frontend import Frontend
    from avmix.models.input_options import with_expected_input
    from avmix.training.trained import TrainedNetwork, load
    from avmix.types import Batch, Clip, Entry, Heads

__version__ = "0.1.0"

__all__ = [
    "Batch",
    "Clip",
    "ClipError",
    "CrossModalMixup",
    "Entry",
    "EvalConfig",
    "Exported",
    "FilePrediction",
    "Frontend",
    "Heads",
    "LateFusionClassifier",
    "Manifest",
    "MixPlan",
    "TrainConfig",
    "TrainResult",
    "TrainedNetwork",
    "build_model",
    "decode_clip",
    "decode_clips",
    "draw_plan",
    "evaluate",
    "export",
    "load",
    "load_config",
    "mixed_targets",
    "push",
    "read_manifest",
    "train",
    "with_expected_input",
    "write_manifest",
]

_ORIGIN = {
    "Batch": "avmix.types",
    "Clip": "avmix.types",
    "ClipError": "avmix.decode",
    "CrossModalMixup": "avmix.mix",
    "Entry": "avmix.types",
    "EvalConfig": "avmix.config",
    "Exported": "avmix.exporting.export_network",
    "FilePrediction": "avmix.evaluation.file_prediction",
    "Frontend": "avmix.models.frontend",
    "Heads": "avmix.types",
    "LateFusionClassifier": "avmix.models",
    "Manifest": "avmix.data.manifest",
    "MixPlan": "avmix.mix",
    "TrainConfig": "avmix.config",
    "TrainedNetwork": "avmix.training.trained",
    "TrainResult": "avmix.commands.train",
    "build_model": "avmix.models",
    "decode_clip": "avmix.decode",
    "decode_clips": "avmix.decode",
    "draw_plan": "avmix.mix",
    "load": "avmix.training.trained",
    "evaluate": "avmix.commands.evaluate",
    "export": "avmix.exporting.export_network",
    "load_config": "avmix.config",
    "mixed_targets": "avmix.mix",
    "push": "avmix.exporting.push",
    "read_manifest": "avmix.data.manifest",
    "train": "avmix.commands.train",
    "with_expected_input": "avmix.models.input_options",
    "write_manifest": "avmix.data.manifest",
}
"""Modules of the public names, which are imported when they are asked for: torch takes seconds, and
`avmix --help` needs none of it."""


def __getattr__(name: str) -> Any:
    if name not in _ORIGIN:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_ORIGIN[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_ORIGIN})
