"""`avmix.export`: a trained network as one file that runs without avmix, checked before it is
published."""

import hashlib
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from avmix.config import TrainConfig
from avmix.exporting.check_clips import decoded_clips, largest_difference
from avmix.exporting.exportable import INPUTS, OUTPUTS
from avmix.exporting.file_formats import (
    ENDINGS,
    ExportError,
    Format,
    imported,
    onnx_runner,
    torch_runner,
    traced,
    write_onnx,
    write_torch,
)
from avmix.exporting.model_card import card
from avmix.system import strict_json
from avmix.system.atomic_files import naming, replace_text, replacing_path
from avmix.training.label_setup import refuse_label_sets
from avmix.training.trained import TrainedNetwork, load

TOLERANCE = 1e-4
"""Largest difference of a probability between the file and the network."""
_RUNS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """What `export` wrote and found."""

    path: Path
    """The network; beside it are its description (.json) and the model card (.md)."""
    format: Format
    num_bytes: int
    """Of the file."""
    num_clips: int
    """Decoded clips that it was checked with."""
    largest_difference: float
    """Of any probability, between the file and the network."""
    milliseconds: float
    """Median time of one clip in the file, on this CPU."""
    network_milliseconds: float
    """The same in the network itself, by avmix."""


def export(
    checkpoint: str | Path,
    out: str | Path,
    *,
    format: Format | None = None,
    clips: Sequence[str | Path] = (),
    own_code: bool = False,
    tolerance: float = TOLERANCE,
) -> Exported:
    """Write a trained network with its front end: decoded frames and waveforms in, probabilities
    out.

    `out`: a file that ends with .onnx or .pt2, or a folder, into which `model.onnx` or `model.pt2`
    is written; `format` onnx (the default for a folder) or torch. `clips`: media files, and
    folders of them, whose first windows the file is checked with; without any, two synthetic
    files. Returns what was measured. Raises ValueError: `CheckpointError`, or `ExportError` where
    the network cannot be exported, or the file does not compute the same within `tolerance`; then
    there is no file. OSError names the file.
    """
    path, format = target_of(Path(out), format)
    if format == "onnx":
        for module in ("onnx", "onnxscript", "onnxruntime"):
            imported(module)  # before minutes of work
    trained = load(checkpoint, own_code=own_code)
    refuse_label_sets(trained.config, f"{checkpoint}: there is no export")
    read = decoded_clips(trained, [str(clip) for clip in clips])
    about = description(trained, format)
    text = card(trained, checkpoint, files=(path.name,))
    program = traced(trained)
    with naming(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing_path(path) as partial:
            if format == "onnx":
                write_onnx(trained, program, about, partial)
                run = onnx_runner(partial, torch.get_num_threads())
            else:
                write_torch(program, about, partial)
                run = torch_runner(partial)
            difference = largest_difference(trained, run, read)
            if not difference <= tolerance:
                raise ExportError(
                    f"{path}: what was written differs from the network by {difference:.2g} in a "
                    f"probability, more than {tolerance:g}; it was deleted"
                )
    clip = read[0]
    yes = np.ones(1, bool)
    inputs = (clip.video[None], clip.audio[None], yes, yes)
    tensors = [torch.from_numpy(value) for value in inputs]
    with torch.inference_mode():
        own = milliseconds(lambda: trained(*tensors))
    found = Exported(
        path=path, format=format, num_bytes=path.stat().st_size, num_clips=len(read),
        largest_difference=difference, milliseconds=milliseconds(lambda: run(inputs)),
        network_milliseconds=own,
    )  # fmt: skip
    checked = {"num_clips": len(read), "synthetic": not clips, "largest_difference": difference}
    replace_text(
        path.with_suffix(".json"), strict_json.dumps({**about, "checked": checked}, indent=1) + "\n"
    )
    in_folder = path != Path(out)
    replace_text(path.with_name("README.md") if in_folder else path.with_suffix(".md"), text)
    return found


def target_of(out: Path, format: Format | None) -> tuple[Path, Format]:
    """The file, and its format. Raises `ExportError` for a name that ends otherwise."""
    by_ending: dict[str, Format] = {ending: name for name, ending in ENDINGS.items()}
    if out.suffix in by_ending and not out.is_dir():
        found = by_ending[out.suffix]
        if format not in (None, found):
            raise ExportError(f"{out} ends with {out.suffix}, which is of --format {found}")
        return out, found
    if out.is_file() or out.suffix in (".pt", ".pth", ".safetensors"):
        raise ExportError(f"{out}: name a folder, or a file that ends with .onnx or .pt2")
    return out / f"model{ENDINGS[format or 'onnx']}", format or "onnx"


def description(trained: TrainedNetwork, format: Format) -> dict[str, Any]:
    """What whoever runs the file must know; it is inside of the file, too."""
    clip, model = trained.clip, trained.config.model
    samples = round(clip.duration_seconds * clip.sample_rate)
    several = trained.config.loss.several_labels
    return {
        "format": 1,
        "avmix_version": version("avmix"),
        "file_format": format,
        "classes": list(trained.classes),
        "labels": "several" if several else "one",
        "probabilities": "sigmoid" if several else "softmax",
        "modalities": model.modalities,
        "window_seconds": clip.duration_seconds,
        "num_frames": clip.num_frames,
        "short_side": clip.short_side,
        "crop": clip.crop,
        "sample_rate": clip.sample_rate,
        "channels": clip.audio_channels,
        "inputs": {
            "video": f"uint8 (batch, {clip.num_frames}, height, width, 3), RGB, the shorter side "
            f"{clip.short_side} pixels",
            "audio": f"float32 (batch, {'2, ' if clip.stereo else ''}{samples}), in [-1, 1]",
            "has_video": "bool (batch): false where a clip has no frames",
            "has_audio": "bool (batch): false where a file has no audio, or only digital silence",
        },
        "input_order": list(INPUTS),
        "outputs": {name: f"float32 (batch, {len(trained.classes)}), nan where a clip lacks what "
                    "the head needs" for name in OUTPUTS},
        "config_sha256": config_hash(trained.config),
    }  # fmt: skip


def config_hash(config: TrainConfig) -> str:
    """SHA-256 of a configuration, as JSON with sorted keys."""
    return hashlib.sha256(strict_json.dumps(asdict(config), sort_keys=True).encode()).hexdigest()


def milliseconds(call: Callable[[], object], runs: int = _RUNS) -> float:
    """Median time of a call, after two that do not count."""
    for _ in range(2):
        call()
    times = []
    for _ in range(runs):
        began = time.perf_counter()
        call()
        times.append(1000 * (time.perf_counter() - began))
    return statistics.median(times)
