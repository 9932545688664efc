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

from avmix.config import TrainConfig, load_config
from avmix.data.manifest import Manifest, read_manifest, write_manifest
from avmix.decode import ClipError, decode_clip, decode_clips
from avmix.frontend import Frontend
from avmix.mix import CrossModalMixup, MixPlan, draw_plan, mixed_targets
from avmix.models import LateFusionClassifier, build_model
from avmix.types import Batch, Clip, Entry, Heads

__version__ = "0.1.0"

__all__ = [
    "Batch",
    "Clip",
    "ClipError",
    "CrossModalMixup",
    "Entry",
    "Frontend",
    "Heads",
    "LateFusionClassifier",
    "Manifest",
    "MixPlan",
    "TrainConfig",
    "build_model",
    "decode_clip",
    "decode_clips",
    "draw_plan",
    "load_config",
    "mixed_targets",
    "read_manifest",
    "write_manifest",
]
