"""A network as a folder in the layout of the Hub, and from the Hub: `config.json`, which says what
`model.safetensors` is, and the weights. Neither is trusted.

What is read is of a limited size, is a regular file of the folder, and has the hash that
`config.json` states; nothing is unpickled, and nothing else of a repository is fetched.
"""

import hashlib
import json
import re
import stat
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from avmix.system import strict_json
from avmix.system.atomic_files import replace_text
from avmix.training.checkpoint import CheckpointError

WEIGHTS, CONFIG, CARD = "model.safetensors", "config.json", "README.md"
"""Names of the files."""
PREFIX = "hub:"
"""Of `hub:USER/NAME@REVISION`."""
FORMAT = 1
_MOST_LETTERS = 4_000_000
"""Of config.json; that of a thousand classes has some 30,000."""
_PICKLES = ("pytorch_model.bin", "model.pt", "model.pth", "model.pkl", "model.bin")
"""What other projects keep weights in."""
_REFERENCE = re.compile(r"hub:([\w.-]+/[\w.-]+)(?:@([\w./-]+))?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """A folder whose files are what config.json says."""

    weights: Path
    config: dict[str, Any]
    """The configuration as config.json has it."""
    classes: list[str]


def write_config(folder: Path, config: dict[str, Any], classes: list[str], version: str) -> None:
    """Write config.json for the weights in `folder`; last, for it states their hash."""
    weights = folder / WEIGHTS
    said = {
        "library_name": "avmix", "format": FORMAT, "avmix_version": version, "classes": classes,
        "weights": {"file": WEIGHTS, "bytes": weights.stat().st_size, "sha256": _sha256(weights)},
        "config": config,
    }  # fmt: skip
    replace_text(folder / CONFIG, strict_json.dumps(said, indent=1) + "\n")


def is_published(folder: Path) -> bool:
    """Whether the folder has a file of this layout, or weights that would be refused."""
    return any((folder / name).is_symlink() or (folder / name).exists()
               for name in (CONFIG, WEIGHTS, *_PICKLES))  # fmt: skip


def read_published(folder: Path) -> Published:
    """Check the files of a folder; the weights are not read yet.

    Raises `CheckpointError`, naming the file, for what is not there, leads out of the folder, is
    too large, is not what config.json states, or is a pickle.
    """
    said = _stated(_file_of(folder, CONFIG, _MOST_LETTERS))
    about = said["weights"]
    weights = _file_of(folder, WEIGHTS, about["bytes"])
    if weights.stat().st_size != about["bytes"]:
        raise CheckpointError(
            f"{folder / WEIGHTS}: it has {weights.stat().st_size} bytes; {CONFIG} states "
            f"{about['bytes']}"
        )
    if _sha256(weights) != about["sha256"]:
        raise CheckpointError(f"{folder / WEIGHTS}: damaged: {CONFIG} states another SHA-256")
    return Published(weights=folder / WEIGHTS, config=said["config"], classes=said["classes"])


def fetched(reference: str) -> Path:
    """The folder with the files of `hub:USER/NAME` or `hub:USER/NAME@REVISION`, from the cache of
    huggingface_hub or its server. Raises `CheckpointError` that says what to put where."""
    match = _REFERENCE.fullmatch(reference)
    if match is None:
        raise CheckpointError(f"{reference}: must be hub:USER/NAME or hub:USER/NAME@REVISION")
    name, revision = match[1], match[2]
    try:
        hub: Any = import_module("huggingface_hub")
    except ImportError:
        raise CheckpointError(
            f"{reference}: huggingface_hub is not installed: pip install '.[hub]' in the checkout"
        ) from None
    config = _fetch(hub, reference, CONFIG, name, revision, _MOST_LETTERS)
    # Of the same commit, whatever is pushed meanwhile: a snapshot is a folder of its own.
    commit = config.parent.name
    said = _stated(_file_of(config.parent, CONFIG, _MOST_LETTERS))
    _fetch(hub, reference, WEIGHTS, name, commit, said["weights"]["bytes"])
    return config.parent


def _fetch(hub: Any, reference: str, file: str, name: str, revision: str | None, most: int) -> Path:
    options = {"repo_id": name, "filename": file, "revision": revision, "library_name": "avmix",
               "cache_dir": hub.constants.HF_HUB_CACHE}  # fmt: skip
    try:
        found = Path(_cached(hub, options) or "")
        if not found.name:
            size = hub.hf_hub_download(**options, dry_run=True).file_size
            if size > most:
                raise CheckpointError(f"{reference}: {file} has {size} bytes, more than {most}")
            found = Path(hub.hf_hub_download(**options))
    except CheckpointError:
        raise
    except Exception as error:  # whatever a client raises that finds no server
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        url = hub.hf_hub_url(name, file, revision=revision)
        raise CheckpointError(
            f"{reference}: {file} cannot be fetched from {url} into "
            f"{hub.constants.HF_HUB_CACHE}: {reason}. Without a network, fetch {CONFIG} and "
            f"{WEIGHTS} of {name} elsewhere, put both into a folder, and load that folder"
        ) from None
    return found


def _cached(hub: Any, options: dict[str, Any]) -> str | None:
    """The path in the cache where nothing has to be asked for: of a commit, or offline."""
    revision = options["revision"]
    if hub.constants.HF_HUB_OFFLINE or re.fullmatch(r"[0-9a-f]{40}", revision or ""):
        found = hub.try_to_load_from_cache(
            options["repo_id"], options["filename"], cache_dir=options["cache_dir"],
            revision=revision,
        )  # fmt: skip
        return found if isinstance(found, str) else None
    return None


def _file_of(folder: Path, name: str, most: int) -> Path:
    """A regular file of the folder of at most `most` bytes."""
    path = folder / name
    # The cache of huggingface_hub keeps the files of `snapshots/COMMIT` in `blobs` beside it.
    root = folder.resolve()
    root = root.parent.parent if root.parent.name == "snapshots" else root
    try:
        real = path.resolve(strict=True)
        about = real.stat()
    except FileNotFoundError:
        pickles = [one for one in _PICKLES if (folder / one).exists()]
        beside = f"; it has {pickles[0]}, a pickle, which is never read" if pickles else ""
        raise CheckpointError(f"{folder}: it has no {name}{beside}") from None
    except (OSError, RuntimeError) as error:  # a circle of links
        raise CheckpointError(f"{path}: cannot be read: {error}") from None
    if not real.is_relative_to(root):
        raise CheckpointError(f"{path}: leads out of its folder, to {real}")
    if not stat.S_ISREG(about.st_mode):
        raise CheckpointError(f"{path}: not a regular file")
    if about.st_size > most:
        raise CheckpointError(f"{path}: it has {about.st_size} bytes, more than {most}")
    return real


def _stated(path: Path) -> dict[str, Any]:
    """What config.json says, each of its parts of the kind that it must be."""
    try:
        said = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        said = None
    if not isinstance(said, dict) or said.get("library_name") != "avmix":
        raise CheckpointError(f"{path}: not the {CONFIG} of a network of avmix")
    if said.get("format") != FORMAT:
        raise CheckpointError(f"{path}: format {said.get('format')}; this version reads {FORMAT}")
    about = said.get("weights")
    kinds = {"file": str, "bytes": int, "sha256": str}
    fits = (
        isinstance(about, dict)
        and about.keys() == kinds.keys()
        and all(type(about[key]) is kind for key, kind in kinds.items())
        and about["file"] == WEIGHTS
        and about["bytes"] > 0
    )
    if not fits or not isinstance(said.get("config"), dict):
        raise CheckpointError(f"{path}: it does not state the file, bytes and sha256 of {WEIGHTS}")
    if not isinstance(said.get("classes"), list):
        raise CheckpointError(f"{path}: classes must be a list")
    return said


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
