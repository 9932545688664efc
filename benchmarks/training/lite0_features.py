"""Features of UCF101's eight classes with audio, on the three official splits, that benchmarks
train on: EfficientNet-Lite0 of ImageNet on frames and on the log-mel spectrogram of a window."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from avmix.config import TrainConfig, load_config
from avmix.data.clip_list import write_index
from avmix.data.kept_features import MODALITIES, open_features, tensors_path, write_header
from avmix.data.manifest import read_manifest, write_manifest
from avmix.data.tensor_file import Shape, write_tensors
from avmix.prepare.csv_table import prepare_table

ENCODERS = "configs/ucf101_av8_lite0.yaml"
CONFIG = "configs/ucf101_av8_lite0_features.yaml"
"""Of networks that are trained on the features."""
AUDIO = ("model.audio.encoder=timm:tf_efficientnet_lite0", "model.audio.weights=lite0")
"""The same network of ImageNet on log-mels, one channel."""
WINDOWS = {
    "6 s, 224 pixels": ("clip.duration_seconds=6", "clip.short_side=224", "clip.crop=224"),
    "2 s, 144 pixels": ("clip.duration_seconds=2", "clip.short_side=160", "clip.crop=144"),
}
"""Most of a clip, at the size of ImageNet; and a shorter and smaller one."""
LONG, SHORT = WINDOWS
WORK = Path("runs/lite0_features")


def config_of(root: str, number: int) -> TrainConfig:
    """Of an official split; `root`: folder of the clips, with clips.csv."""
    return load_config(TrainConfig, [
        "--config", ENCODERS, "--data.root", root, "--data.table_split", f"split{number}",
        "--data.manifest", f"runs/manifests/ucf101_av8_split{number}",
    ])  # fmt: skip


def options_of(frames: int = 3, window: str = LONG) -> tuple[str, ...]:
    """Options of `ENCODERS` with which features are computed."""
    return (f"clip.num_frames={frames}", *WINDOWS[window], *AUDIO)


def features_of(root: str, frames: int = 3, window: str = LONG) -> dict[int, Path]:
    """Folders of the features of each split; computed where they are not there yet. All splits are
    of the same clips, which are encoded once."""
    first = WORK / f"{window.split()[0]}s_frames{frames}"
    for number in (1, 2, 3):
        prepare_table(config_of(root, number).data)
    command = [sys.executable, "-m", "avmix", "features", "--config", ENCODERS, "--out", str(first),
               f"data.root={root}", "data.manifest=runs/manifests/ucf101_av8_split1",
               *options_of(frames, window)]  # fmt: skip
    subprocess.run(command, check=True)
    return {1: first, **{n: arranged(first, config_of(root, n), n) for n in (2, 3)}}


def arranged(source: Path, config: TrainConfig, number: int) -> Path:
    """The same features as rows of another split."""
    out = source.with_name(f"{source.name}_split{number}")
    parts = {split: open_features(source, split) for split in ("train", "test")}
    where = {e.clip_id: (s, row) for s, part in parts.items()
             for row, e in enumerate(part.manifest.entries)}  # fmt: skip
    wanted = {split: read_manifest(Path(config.data.manifest), split) for split in parts}
    write_manifest(
        out,
        classes=wanted["train"].classes,
        protocol=wanted["train"].protocol,
        splits={split: manifest.entries for split, manifest in wanted.items()},
    )
    said: dict[str, dict[str, Any]] = {}
    for split, manifest in wanted.items():
        places = [where[entry.clip_id] for entry in manifest.entries]
        arrays = {name: np.stack([parts[s].features[name][row] for s, row in places])
                  for name in MODALITIES}  # fmt: skip
        arrays["has_audio"] = np.stack([parts[s].has_audio[row] for s, row in places])
        shapes = {name: Shape(array.dtype, array.shape) for name, array in arrays.items()}
        sha256 = write_tensors(tensors_path(out, split), shapes, lambda n, a=arrays: [a[n]], {})
        listed = read_manifest(out, split)
        index = write_index(out, split, label=listed.label_numbers, source=listed.source_numbers,
                            sha256=listed.sha256)  # fmt: skip
        said[split] = {"complete": True, "manifest_sha256": manifest.sha256, "sha256": sha256,
                       "rows_sha256": listed.sha256, "index_sha256": index}  # fmt: skip
    write_header(out, replace(parts["train"].header, splits=said))
    return out
