"""Kept features: a folder with the embeddings of every clip, written once by `avmix features`.

The folder is a dataset: `dataset.json` and `SPLIT.jsonl` list the clips that have features, in the
order of the rows of `SPLIT.safetensors`. `features.json` says what they are of: window, front end,
encoders and the hash of their weights; which clips were left out, and why.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool

from avmix.data.clip_list import index_path
from avmix.data.manifest import Manifest, open_manifest
from avmix.data.tensor_file import open_tensors
from avmix.system import strict_json
from avmix.system.atomic_files import replace_text
from avmix.system.printing import shortened

FORMAT = 1
MODALITIES = ("video", "audio")
_HEADER = "features.json"


class FeaturesError(ValueError):
    """A folder has no features, not those that are asked for, or damaged ones; the message names
    it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """What `features.json` says."""

    identity: dict[str, Any]
    """What the features are of; nothing else of a configuration changes them."""
    computed_with: dict[str, Any]
    """Versions, device and the like: what changes last digits."""
    splits: dict[str, dict[str, Any]]
    """By name; `complete` says whether a split has all of its clips."""

    @property
    def identity_text(self) -> str:
        """`identity` as JSON, equal where it is equal: checkpoints keep it."""
        return strict_json.dumps(self.identity, sort_keys=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Widths:
    """Width of the feature of each modality."""

    video: int
    audio: int


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptFeatures:
    """Features of one split, mapped into memory: what is not looked at is not read."""

    manifest: Manifest
    """The clips; the i-th has row i of every array."""
    features: Mapping[str, np.ndarray]
    """`video` and `audio`, those that were kept: (clips, views, width), float32 or float16."""
    has_audio: Bool[np.ndarray, "n views"]
    """False where a view has no audio: its audio feature is that of an empty spectrogram."""
    header: Header
    sha256: str = ""
    """Hash of the file of the features, as features.json says it."""

    @property
    def num_views(self) -> int:
        """Views of each clip."""
        return self.has_audio.shape[1]

    @property
    def widths(self) -> Widths:
        """Raises `FeaturesError` where one modality was not kept."""
        if lacking := [name for name in MODALITIES if name not in self.features]:
            raise FeaturesError(
                f"{self.manifest.protocol}: there are no {lacking[0]} features; `avmix features` "
                "without --modality keeps both"
            )
        return Widths(video=self.features["video"].shape[2], audio=self.features["audio"].shape[2])

    @property
    def num_eval_views(self) -> int:
        """Views as evaluation takes them, which come first; augmented ones follow."""
        return int(self.header.identity["views"])

    @property
    def labels(self) -> np.ndarray:
        """Number of the class of each clip. Raises `FeaturesError` where one has not exactly one
        label."""
        if (entry := self.manifest.not_one_label) is not None:
            raise FeaturesError(
                f"{self.manifest.protocol}: clip {entry.clip_id!r} has not exactly one label, "
                "which is needed here"
            )
        return self.manifest.label_numbers

    @property
    def sources(self) -> np.ndarray:
        """Number of the source of each clip."""
        return self.manifest.source_numbers


def open_features(folder: Path, split: str, *, verify: bool = True) -> KeptFeatures:
    """Open the features of a split. `verify`: read the file once and compare its hash.

    Raises `FeaturesError` where there are none, where they are not complete, and where a file is
    not the one that was written; `ManifestError` as reading a manifest does.
    """
    header = read_header(folder)
    if header is None:
        raise FeaturesError(f"{folder / _HEADER}: not found; `avmix features` writes it")
    said = header.splits.get(split)
    if said is None:
        known = ", ".join(header.splits) or "none"
        raise FeaturesError(f"{folder}: no features of a split {split!r}; it has: {known}")
    if not said["complete"]:
        raise FeaturesError(
            f"{folder}: the features of {split!r} are not complete; the same `avmix features` "
            "continues them"
        )
    manifest = open_manifest(folder, split, verify=verify)
    path = tensors_path(folder, split)
    if manifest.sha256 != said["rows_sha256"]:
        raise FeaturesError(f"{folder}: the rows of {split!r} are not those of its features")
    found = open_tensors(path).tensors
    if verify:
        _check_hash(path, said["sha256"])
        if "index_sha256" in said:  # of a folder of an earlier version there is none
            _check_hash(index_path(folder, split), said["index_sha256"])
    lengths = {len(tensor) if tensor.ndim else 0 for tensor in found.values()}
    if lengths != {len(manifest.entries)}:
        raise FeaturesError(f"{path}: {lengths} rows, and {len(manifest.entries)} clips")
    _check_tensors(path, found, header.identity["views"])
    features = {name: found[name] for name in MODALITIES if name in found}
    return KeptFeatures(
        manifest=manifest, features=features, has_audio=found["has_audio"], header=header,
        sha256=said["sha256"],
    )  # fmt: skip


def _check_hash(path: Path, sha256: str) -> None:
    """Raises `FeaturesError` where a file is not the one that was written."""
    with path.open("rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != sha256:
            raise FeaturesError(f"{path}: damaged: its hash is not that of features.json")


def changes(old: Any, new: Any, path: str = "") -> list[str]:
    """`key old -> new` for everything that differs in two identities, or the like."""
    if isinstance(old, dict) and isinstance(new, dict):
        keys = [*old, *(key for key in new if key not in old)]
        return [
            change
            for key in keys
            for change in changes(old.get(key), new.get(key), f"{path}.{key}".lstrip("."))
        ]
    return [] if old == new else [f"{path} {_said(old)} -> {_said(new)}"]


def changed_identity(old: str, new: str) -> list[str]:
    """The same of two `Header.identity_text`."""
    return changes(json.loads(old), json.loads(new))


def _said(value: Any) -> str:
    """A hash by its beginning, as elsewhere."""
    text = str(value)
    return text[:12] if len(text) == 64 else shortened(text, 60)


def tensors_path(folder: Path, split: str) -> Path:
    """Where the features of a split are."""
    return folder / f"{split}.safetensors"


def read_header(folder: Path) -> Header | None:
    """What `features.json` says; None where there is none. Raises `FeaturesError`."""
    path = folder / _HEADER
    try:
        found = json.loads(path.read_bytes())
        if found["format"] != FORMAT:
            raise FeaturesError(f"{path}: format {found['format']}, this avmix reads {FORMAT}")
        header = Header(
            identity=dict(found["identity"]),
            computed_with=dict(found["computed_with"]),
            splits={name: dict(said) for name, said in found["splits"].items()},
        )
        _check_header(header)
        return header
    except FileNotFoundError:
        return None
    except FeaturesError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise FeaturesError(f"{path}: not a header of features: {error!r}") from None


def _check_header(header: Header) -> None:
    """Raises ValueError, or KeyError, where it does not say what is read of it."""
    if type(header.identity["views"]) is not int or header.identity["views"] < 1:
        raise ValueError(f"views {header.identity['views']!r}")
    for name, said in header.splits.items():
        if type(said["complete"]) is not bool:
            raise ValueError(f"{name!r} is complete: {said['complete']!r}")
        known = ("rows_sha256", "sha256") if said["complete"] else ()
        if not all(isinstance(said[key], str) for key in known):
            raise ValueError(f"the hashes of {name!r} are no words")


def _check_tensors(path: Path, found: Mapping[str, np.ndarray], views: int) -> None:
    """Raises `FeaturesError` where they are not features of at least so many views."""
    has_audio = found.get("has_audio")
    if has_audio is None or has_audio.dtype != np.bool_ or has_audio.ndim != 2:
        raise FeaturesError(f"{path}: it has no has_audio (clips, views), bool")
    for name in {*MODALITIES} & found.keys():
        one, wanted = found[name], has_audio.shape
        if one.ndim != 3 or one.shape[:2] != wanted or one.shape[2] < 1 or one.dtype.kind != "f":
            raise FeaturesError(f"{path}: {name} is {one.dtype} {one.shape}, not of {wanted} views")
    if has_audio.shape[1] < views:
        raise FeaturesError(
            f"{path}: {has_audio.shape[1]} views of each clip; features.json says {views}"
        )


def write_header(folder: Path, header: Header) -> None:
    """Write `features.json` atomically."""
    said = {
        "format": FORMAT,
        "identity": header.identity,
        "computed_with": header.computed_with,
        "splits": dict(sorted(header.splits.items())),
    }
    replace_text(folder / _HEADER, strict_json.dumps(said, indent=2) + "\n")
