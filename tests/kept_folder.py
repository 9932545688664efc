"""A folder of kept features that no encoder computed: around a direction of each class, with noise.

As `avmix features` writes it, so that training on features can be tested, and measured, without
files of clips.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from avmix.data.clip_list import write_index
from avmix.data.kept_features import Header, tensors_path, write_header
from avmix.data.manifest import read_manifest, write_manifest
from avmix.data.tensor_file import Shape, write_tensors
from avmix.types import AudioInfo, Entry, VideoInfo

VIDEO = VideoInfo(fps=25.0, num_frames=50, width=64, height=48, start_seconds=0.0,
                  duration_seconds=2.0, codec="h264", rotation=0, vfr=False)  # fmt: skip
AUDIO = AudioInfo(rate_hz=16_000, channels=1, start_seconds=0.0, duration_seconds=2.0, codec="aac",
                  rms_dbfs=-20.0, silent=False)  # fmt: skip


def write_kept(
    folder: Path,
    splits: Mapping[str, int],
    *,
    widths: tuple[int, int] = (6, 4),
    views: int = 1,
    num_classes: int = 4,
    seed: int = 0,
    dtype: str = "<f4",
    signal: float = 2.0,
    weights: str = "a",
    silent_every: int = 7,
) -> Path:
    """Write features of so many clips in each split. The last of `silent_every` clips has no
    audio (0: all have); `weights`: a letter in place of the hash of the weights."""
    draw, kind = np.random.default_rng(seed), np.dtype(dtype)
    names = dict(zip(("video", "audio"), widths, strict=True))
    means = {name: draw.standard_normal((num_classes, d)) for name, d in names.items()}
    entries, tensors = {}, {}
    for split, count in splits.items():
        label = np.arange(count) % num_classes
        audible = np.array([not silent_every or i % silent_every != silent_every - 1
                            for i in range(count)])  # fmt: skip
        entries[split] = [_entry(f"{split}{i}", f"c{k}", audible=bool(audible[i]))
                          for i, k in enumerate(label)]  # fmt: skip
        tensors[split] = {
            name: (signal * means[name][label][:, None]
                   + draw.standard_normal((count, views, d))).astype(kind)
            for name, d in names.items()
        } | {"has_audio": np.repeat(audible[:, None], views, 1)}  # fmt: skip
    write_manifest(folder, classes=[f"c{k}" for k in range(num_classes)], protocol="kept",
                   splits=entries)  # fmt: skip
    said: dict[str, dict[str, Any]] = {}
    for split, arrays in tensors.items():
        shapes = {name: Shape(value.dtype, value.shape) for name, value in arrays.items()}
        sha256 = write_tensors(tensors_path(folder, split), shapes, lambda n, a=arrays: [a[n]], {})
        listed = read_manifest(folder, split)
        rows = listed.sha256
        index = write_index(folder, split, label=listed.label_numbers,
                            source=listed.source_numbers, sha256=rows)  # fmt: skip
        said[split] = {"complete": True, "manifest_sha256": rows, "rows_sha256": rows,
                       "index_sha256": index, "sha256": sha256}  # fmt: skip
    identity = {"clip": {"duration_seconds": 2.0}, "views": views, "dtype": kind.name} | {
        name: {"encoder": "synthetic", "width": d, "weights_sha256": weights * 64}
        for name, d in names.items()
    }
    write_header(folder, Header(identity=identity, computed_with={}, splits=said))
    return folder


def _entry(clip_id: str, label: str, *, audible: bool) -> Entry:
    return Entry(clip_id=clip_id, path=f"{clip_id}.mp4", start_seconds=0.0, end_seconds=2.0,
                 labels=(label,), source_id=clip_id, video=VIDEO, audio=AUDIO if audible else None,
                 bytes=1000, sha256="00")  # fmt: skip
