"""Environment of a run: versions, machine, commit and command of every start."""

import json
import os
import platform
import sys
import time
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from avmix.system import strict_json
from avmix.system.atomic_files import replacing
from avmix.system.git_commit import commit_of
from avmix.system.portability import usable_cores

_PACKAGES = ("torch", "torchvision", "torchaudio", "av", "numpy", "torchmetrics", "avmix")
_OPTIONAL = ("timm", "transformers", "pytorchvideo")
"""Encoders are built by them, where they are installed."""


def append_environment(path: Path, epoch: int, step: int) -> None:
    """A run that was resumed may have gone on elsewhere: each start is kept, with its place."""
    starts = json.loads(path.read_text()) if path.exists() else []
    starts.append({"epoch": epoch, "step": step, **environment()})
    with replacing(path) as file:
        file.write(strict_json.dumps(starts, indent=2).encode() + b"\n")


def _optional_versions() -> dict[str, str]:
    found: dict[str, str] = {}
    for name in _OPTIONAL:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def environment() -> dict[str, Any]:
    """What a result depends on besides its configuration."""
    return {
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
        "git_commit": commit_of(Path(__file__).parent),
        "python": platform.python_version(),
        "packages": {name: version(name) for name in _PACKAGES} | _optional_versions(),
        "machine": platform.platform(),
        "cores": usable_cores(),
        "torch_threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "omp_wait_policy": os.environ.get("OMP_WAIT_POLICY"),
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
