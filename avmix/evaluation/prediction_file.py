"""The file of kept predictions, in the format of safetensors (`avmix.data.tensor_file`).

No pickle: reading runs nothing, and refuses what is not of the kind that it must be. Its tensors:

    probability   (rows n k) float32; the rows are named in the header; 0 where a clip has no place
    counted       (rows n) bool: clips that have the modality of the row
    label         (n) int64, of single-label clips, or of clips with label sets (n sets), or
    target        (n k) float32, of others: 0 to 1, nan unknown; `target.video` and `target.audio`
                  (n k) where what is visible is not what is audible
    clips         (bytes) uint8: JSON Lines, one of the n clips a line

Probabilities are float32, as they were computed. Float16 would halve the file, but is off by up to
2e-4, enough to make different probabilities equal: another table.
"""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np

from avmix.data.sample import BadClip
from avmix.data.tensor_file import Shape, TensorFile, TensorFileError, open_tensors, write_tensors
from avmix.evaluation.kept_predictions import KeptClip, KeptPredictions, Origin, PredictionsError
from avmix.evaluation.metrics import EVAL_ROWS
from avmix.label_sets import LabelSet, label_sets
from avmix.system import strict_json

FORMAT = 1
NAME = "predictions.safetensors"
"""Of the file in the folder of an evaluation."""
_KEY = "avmix.predictions"
_MOST_LETTERS = 32_000_000
"""Of the header, and bytes of a line about a clip: far more than any."""
_ROUNDING = 1e-3
"""Probabilities may be so far above 1."""


def write_predictions(path: Path, kept: KeptPredictions) -> None:
    """Write a file atomically. Raises OSError that names it."""
    tensors = _tensors(kept)
    header = _header(kept)
    metadata = {_KEY: header, "digest": _digest(header, tensors)}
    shapes = {name: Shape(tensor.dtype, tensor.shape) for name, tensor in tensors.items()}
    write_tensors(path, shapes, lambda name: [tensors[name]], metadata)


def read_predictions(path: Path) -> KeptPredictions:
    """Read a file of predictions, or that of the folder of an evaluation.

    Raises `PredictionsError` for what is none, and for one that was changed since it was written.
    """
    path = path / NAME if path.is_dir() else path
    try:
        found = open_tensors(path)
        return _read(found)
    except TensorFileError as error:
        raise PredictionsError(str(error)) from None
    except (
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        RecursionError,
        OverflowError,
    ) as error:
        why = str(error) if isinstance(error, ValueError) else repr(error)
        raise PredictionsError(f"{path}: not predictions of avmix: {why}") from None


def found_in(run: Path, split: str) -> Path:
    """The file of predictions that `run` means: itself, or in the folder of an evaluation, or in
    that of a run, where `avmix evaluate --split SPLIT` has written it. Raises `PredictionsError`.
    """
    tried = [run] if not run.is_dir() else [run / NAME, run / f"eval_{split}" / NAME]
    for path in tried:
        if path.is_file():
            return path
    raise PredictionsError(
        f"{run}: no predictions (looked for {', '.join(map(str, tried))}); `avmix evaluate "
        f"--checkpoint {run} --split {split}` writes them"
    )


def _tensors(kept: KeptPredictions) -> dict[str, np.ndarray]:
    rows = list(kept.probability)
    lines = strict_json.lines(map(_line, kept.clips)).encode()
    tensors = {
        "probability": np.stack([kept.probability[row] for row in rows]),
        "counted": np.stack([kept.counted[row] for row in rows]),
        "clips": np.frombuffer(lines, np.uint8),
    }
    if kept.label is not None:
        tensors["label"] = kept.label
    for name, target in (kept.target or {}).items():
        tensors["target" if name == "fused" else f"target.{name}"] = target
    return tensors


def _line(clip: KeptClip) -> dict[str, Any]:
    """A clip; without what most have not, as older versions wrote and read it."""
    line = asdict(clip)
    if not clip.subsets:
        del line["subsets"]
    return line


def _header(kept: KeptPredictions) -> str:
    return strict_json.dumps({
        "format": FORMAT, "protocol": kept.protocol, "split": kept.split,
        "split_sha256": kept.split_sha256, "classes": list(kept.classes),
        "rows": list(kept.probability), "missing": [list(clip) for clip in kept.missing],
        "origin": asdict(kept.origin),
        **({"label_sets": list(kept.set_names)} if kept.set_names else {}),
        **({"tail_classes": list(kept.tail_classes)} if kept.tail_classes else {}),
    })  # fmt: skip


def _digest(header: str, tensors: Mapping[str, np.ndarray]) -> str:
    found = hashlib.sha256(header.encode("utf-8", "surrogatepass"))
    for name in sorted(tensors):
        tensor = tensors[name]
        found.update(f"\n{name} {tensor.dtype} {tensor.shape}\n".encode())
        found.update(np.ascontiguousarray(tensor).tobytes())
    return found.hexdigest()


def _read(file: TensorFile) -> KeptPredictions:
    header = file.metadata[_KEY]
    if len(header) > _MOST_LETTERS:
        raise ValueError("its header is too long")
    said = json.loads(header)
    if said["format"] != FORMAT:
        raise ValueError(f"format {said['format']!r}; this version reads {FORMAT}")
    # Copies: what is mapped would change, or be lost, with the file.
    tensors = {name: np.array(tensor) for name, tensor in file.tensors.items()}
    _check_header(said)
    rows, classes = said["rows"], said["classes"]
    set_names = tuple(said.get("label_sets", ()))
    sets = label_sets(classes, set_names)
    clips = _clips(tensors["clips"])
    _check_tensors(tensors, len(rows), len(clips), len(classes), len(sets))
    if file.metadata["digest"] != _digest(header, tensors):
        raise ValueError("damaged: its digest does not match")
    label = tensors.get("label")
    target = {name.partition(".")[2] or "fused": tensor for name, tensor in tensors.items()
              if name.partition(".")[0] == "target"}  # fmt: skip
    chance = said["origin"]["chance"]
    origin = Origin(**{**said["origin"], "chance": None if chance is None else tuple(chance)})
    _check_numbers(tensors["probability"], label, target, sets)
    return KeptPredictions(
        protocol=said["protocol"], split=said["split"], split_sha256=said["split_sha256"],
        classes=tuple(classes), clips=clips, origin=origin,
        missing=tuple(BadClip(*clip) for clip in said["missing"]),
        probability=dict(zip(rows, tensors["probability"], strict=True)),
        counted=dict(zip(rows, tensors["counted"], strict=True)),
        label=label, target=target or None,
        set_names=set_names, tail_classes=tuple(said.get("tail_classes", ())),
    )  # fmt: skip


def _check_header(said: Mapping[str, Any]) -> None:
    """Raises ValueError where a part of the header is not what it must be."""
    for name in ("protocol", "split", "split_sha256"):
        _must(isinstance(said[name], str), f"{name} is not a word")
    names = (("classes", None), ("rows", EVAL_ROWS))
    for name, choices in names:
        found = said[name]
        is_list = isinstance(found, list) and all(isinstance(word, str) for word in found)
        _must(is_list and len({*found}) == len(found) > 0, f"{name} are not names, each once")
        _must(choices is None or {*found} <= {*choices}, f"{name} are not among {choices}")
    _must("fused" in said["rows"], "it has no row `fused`")
    for name in ("label_sets", "tail_classes"):
        found = said.get(name, [])
        is_list = isinstance(found, list) and all(isinstance(word, str) for word in found)
        _must(is_list and len({*found}) == len(found), f"{name} are not names, each once")
    _must({*said.get("tail_classes", [])} <= {*said["classes"]}, "tail_classes are not classes")
    for clip in said["missing"]:
        _must([type(part) for part in clip] == [int, str, str], "missing clips are not such")
    origin = said["origin"]
    _must(origin.keys() == {f.name for f in fields(Origin)}, "origin has other parts")
    kinds = {"checkpoint": str, "config": str, "weights": str, "epochs_trained": int,
             "views": dict, "environment": dict}  # fmt: skip
    for name, kind in kinds.items():
        _must(type(origin[name]) is kind, f"origin.{name} must be {kind.__name__}")
    chance = origin["chance"]
    fine = chance is None or (
        isinstance(chance, list) and all(e is None or type(e) is int for e in chance)
    )
    _must(fine, "origin.chance are not numbers of epochs")


def _clips(tensor: np.ndarray) -> tuple[KeptClip, ...]:
    kinds = {name: kind for name, kind in get_type_hints(KeptClip).items() if name != "subsets"}
    clips = []
    _must(tensor.dtype == np.uint8 and tensor.ndim == 1, "clips are not bytes")
    for line in tensor.tobytes().split(b"\n")[:-1]:
        found: Any = json.loads(line) if len(line) <= _MOST_LETTERS else None
        subsets = found.pop("subsets", []) if isinstance(found, dict) else []
        fine = isinstance(found, dict) and found.keys() == kinds.keys()
        fine = fine and isinstance(subsets, list) and all(type(one) is str for one in subsets)
        fine = fine and all(
            type(found[name]) in ((int, float) if kind is float else (kind,))
            for name, kind in kinds.items()
        )
        _must(fine, f"clip {len(clips)} is not a clip")
        clip = KeptClip(**{n: kinds[n](found[n]) for n in kinds}, subsets=tuple(subsets))
        times = (clip.start_seconds, clip.end_seconds)
        _must(all(map(math.isfinite, times)), f"the times of clip {len(clips)} are not finite")
        clips.append(clip)
    _must(len(clips) > 0, "it has no clips")
    _must(len({clip.clip_id for clip in clips}) == len(clips), "a clip occurs twice")
    return tuple(clips)


def _check_tensors(
    tensors: Mapping[str, np.ndarray], rows: int, n: int, k: int, num_sets: int
) -> None:
    wanted = {"probability": ((rows, n, k), "float32"), "counted": ((rows, n), "bool")}
    of_label = (n, num_sets) if num_sets else (n,)
    wanted |= (
        {"label": (of_label, "int64")} if "label" in tensors else {"target": ((n, k), "float32")}
    )
    _must("label" in tensors or not num_sets, "clips with label sets have no labels")
    if "label" not in tensors:
        also = {f"target.{name}" for name in ("video", "audio")} & tensors.keys()
        wanted |= dict.fromkeys(also, ((n, k), "float32"))
    _must(tensors.keys() == {*wanted, "clips"}, f"its tensors are {sorted(tensors)}")
    for name, expected in wanted.items():
        found = (tensors[name].shape, tensors[name].dtype.name)
        _must(found == expected, f"{name} is {found}, not {expected}")


def _check_numbers(
    probability: np.ndarray,
    label: np.ndarray | None,
    target: Mapping[str, np.ndarray],
    sets: Sequence[LabelSet],
) -> None:
    inside = (probability >= 0) & (probability <= 1 + _ROUNDING)  # nan is not
    _must(bool(inside.all()), "a probability is not in 0 to 1")
    if label is not None:
        most = np.array([one.num_classes for one in sets] or probability.shape[2])
        _must(bool(((label >= 0) & (label < most)).all()), "a label is no class")
    for one in target.values():
        fine = np.isnan(one) | ((one >= 0) & (one <= 1))
        _must(bool(fine.all()), "a target is not in 0 to 1, nor nan")


def _must(holds: bool, otherwise: str) -> None:
    if not holds:
        raise ValueError(otherwise)
