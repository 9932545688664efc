"""What several test files share."""

import random
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import beartype._check.code.codemain as beartype_code
import pytest
import torch
from hypothesis import settings

# beartype draws the item of a list that it checks from the global generator of `random`. Where a
# check happens in another thread, hypothesis takes that for a strategy that is not reproducible.
assert beartype_code.__dict__["getrandbits"] == random.getrandbits
beartype_code.__dict__["getrandbits"] = random.Random(0).getrandbits

from avmix.types import AudioInfo, Entry, VideoInfo  # noqa: E402

# How long an example takes is a matter of the machine's other work, not of what is tested.
settings.register_profile("avmix", deadline=None)
settings.load_profile("avmix")
# `make test` runs two processes on what may be two cores: more threads in each wait for each other.
torch.set_num_threads(1)

VIDEO = VideoInfo(fps=25.0, num_frames=250, width=160, height=120, start_seconds=0.0,
                  duration_seconds=10.0, codec="h264", rotation=0, vfr=False)  # fmt: skip
AUDIO = AudioInfo(rate_hz=44_100, channels=2, start_seconds=0.0, duration_seconds=10.0, codec="aac",
                  rms_dbfs=-20.0, silent=False)  # fmt: skip
ENTRY = Entry(clip_id="a", path="a.mp4", start_seconds=0.0, end_seconds=10.0, labels=("x",),
              source_id="a", video=VIDEO, audio=AUDIO, bytes=1000, sha256="00")  # fmt: skip


@pytest.fixture(scope="session")
def make_entry() -> Callable[..., Entry]:
    """Make an entry that is named in everything by its id, with what is given changed."""

    def make(clip_id: str = "a", **changes: Any) -> Entry:
        named = {"clip_id": clip_id, "path": f"{clip_id}.mp4", "source_id": clip_id}
        return replace(ENTRY, **{**named, **changes})

    return make


@pytest.fixture(scope="session")
def toy_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 train, 10 val and 20 test clips, made by the real script; do not change it."""
    out = tmp_path_factory.mktemp("data") / "toy"
    make = Path(__file__).parents[1] / "datasets/toy/make.py"
    command = [sys.executable, str(make), "--out", str(out), "--train", "40", "--val", "10",
               "--test", "20"]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True)
    return out


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests marked `needs_cuda` skip, with the reason, where there is no CUDA device."""
    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("needs_cuda"):
                item.add_marker(pytest.mark.skip(reason="no CUDA device here"))
