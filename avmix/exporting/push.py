"""`avmix.push`: a trained network as a folder in the layout of the Hub, and to the Hub."""

import json
import os
from dataclasses import asdict, dataclass
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

from avmix.exporting.file_formats import ExportError
from avmix.exporting.model_card import card
from avmix.system import strict_json
from avmix.system.atomic_files import replace_text
from avmix.system.paths import unmakable
from avmix.training.published_folder import CARD, CONFIG, WEIGHTS, write_config
from avmix.training.trained import load

_OURS = {WEIGHTS, CONFIG, CARD}


@dataclass(frozen=True, slots=True, kw_only=True)
class Pushed:
    """What `push` wrote."""

    folder: Path
    num_bytes: int
    """Of the weights."""
    url: str = ""
    """Of the commit on the Hub; empty where there is none."""


def push(
    checkpoint: str | Path,
    folder: str | Path,
    *,
    hub: str = "",
    private: bool = False,
    licence: str = "",
    own_code: bool = False,
) -> Pushed:
    """Write `model.safetensors`, `config.json` and the model card, `README.md`, into `folder`, from
    which `avmix.load` reads them; with `hub` USER/NAME also into that repository of the Hub, which
    is created where it is missing (`private`: readable for its owner alone).

    `licence`: under which the network is published, as the Hub names it (`apache-2.0`). Raises
    ValueError: `CheckpointError`, or `ExportError` for a folder with other files and where the Hub
    refuses; OSError that names the file. The folder is whole also where the Hub refuses.
    """
    folder = Path(folder)
    if why := unmakable(folder):
        raise ExportError(f"{folder} {why}")
    if other := sorted(set(os.listdir(folder)) - _OURS if folder.exists() else ()):
        raise ExportError(f"{folder}: it has other files ({other[0]}); name a new folder")
    api = _api(hub) if hub else None
    trained = load(checkpoint, own_code=own_code)
    name = hub.rpartition("/")[2]
    text = card(trained, checkpoint, files=(WEIGHTS,), name=name, licence=licence)
    folder.mkdir(parents=True, exist_ok=True)
    # First: what is read while the files are replaced is refused, not half of two networks.
    (folder / CONFIG).unlink(missing_ok=True)
    trained.save(folder / WEIGHTS)
    replace_text(folder / CARD, text)
    config = json.loads(strict_json.dumps(asdict(trained.config)))
    write_config(folder, config, list(trained.classes), version("avmix"))
    size = (folder / WEIGHTS).stat().st_size
    url = _uploaded(api, folder, hub, private) if api is not None else ""
    return Pushed(folder=folder, num_bytes=size, url=url)


def _api(hub: str) -> Any:
    """The client; before anything is written."""
    owner, slash, name = hub.partition("/")
    if not (owner and slash and name) or "/" in name:
        raise ExportError(f"--hub {hub}: must be USER/NAME")
    try:
        module: Any = import_module("huggingface_hub")
    except ImportError:
        raise ExportError(
            "huggingface_hub is not installed: pip install '.[hub]' in the checkout"
        ) from None
    return module.HfApi(library_name="avmix", library_version=version("avmix"))


def _uploaded(api: Any, folder: Path, hub: str, private: bool) -> str:
    try:
        api.create_repo(hub, private=private, exist_ok=True)
        done = api.upload_folder(
            repo_id=hub, folder_path=folder, allow_patterns=sorted(_OURS),
            commit_message=f"avmix {version('avmix')}",
        )  # fmt: skip
    except Exception as error:  # whatever a client raises
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise ExportError(
            f"{api.endpoint}/{hub}: cannot be written: {reason}. {folder} is whole: push it again, "
            "or upload its files by other means (a token with the right to write is needed: "
            "hf auth login)"
        ) from None
    return str(done.commit_url)
