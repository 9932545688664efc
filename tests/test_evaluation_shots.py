"""Frames and spectrograms of real clips for the page of an evaluation."""

import io
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
from kept import clips_of, kept_of_arrays
from media import write_flash_beep
from PIL import Image

from avmix.commands.evaluation_shots import shots_of
from avmix.config import ClipConfig, FrontendConfig
from avmix.data.eval_set import EvalSet
from avmix.data.loader import eval_loader
from avmix.data.manifest import Manifest
from avmix.evaluation.clip_shots import read_shots, write_shots
from avmix.media.judgement import entry_of

CLIP = ClipConfig(num_frames=5, crop=32, short_side=36, duration_seconds=2.0, sample_rate=8000)


@pytest.mark.parametrize(("crops", "flip"), [("centre", False), ("three", True)])
def test_a_file_that_cannot_be_read_costs_itself_alone(tmp_path: Path, crops, flip) -> None:
    """Three clips: whole, without audio, and no video file any more."""
    root = tmp_path / "media"
    root.mkdir()
    entries = []
    for i in range(3):
        path = write_flash_beep(root / f"{i} #.mp4")
        entries.append(entry_of(path, root, clip_id=f"clip {i}", labels=["x"], source_id=f"{i}"))
    entries[1] = replace(entries[1], audio=None)
    (root / entries[2].path).write_bytes(b"no video")
    manifest = Manifest(classes=("x", "y"), protocol="p", split="test", entries=tuple(entries),
                        sha256="f" * 64)  # fmt: skip
    views = EvalSet(manifest=manifest, root=root, clip=CLIP, num_views=2, crops=crops, flip=flip,
                    verify="never")  # fmt: skip
    clips = tuple(replace(clip, row=i, path=entries[i].path) for i, clip in enumerate(clips_of(3)))
    p = np.array([[0.3, 0.7], [0.2, 0.8], [0.1, 0.9]])
    kept = kept_of_arrays({"fused": p}, np.zeros(3, np.int64), clips=clips)
    loader = eval_loader(views, batch_size=4, num_workers=0)
    frontend = FrontendConfig(num_mels=16, n_fft=256, hop_length=128)
    shots = shots_of(kept, views, loader, frontend)
    assert list(shots.clips) == ["clip 2", "clip 1", "clip 0"]  # the most wrong first
    assert shots.clips["clip 2"].reason.startswith("MediaOpenError")
    whole, silent = shots.clips["clip 0"], shots.clips["clip 1"]
    assert silent.spectrogram is None
    assert whole.frame == silent.frame
    wanted = views.samples([(0, 6 + 2 if crops == "three" else 1)])[0].clip
    assert wanted is not None
    with Image.open(io.BytesIO(whole.frame or b"")) as frame:
        assert frame.size == (32, 32)
        apart = np.abs(np.asarray(frame).astype(int) - wanted.video[2]).mean()
    assert apart < 6  # of JPEG
    with Image.open(io.BytesIO(whole.spectrogram or b"")) as spectrogram:
        assert spectrogram.size == (frontend.columns_of(16_000), 16)
    write_shots(tmp_path, shots, kept)
    again = read_shots(tmp_path, kept)
    assert again.clips == shots.clips
    link = again.link(entries[0].path, 0.5, 2.0, tmp_path)
    assert link == "media/0%20%23.mp4#t=0.5,2"
    assert (tmp_path / unquote(link.partition("#")[0])).is_file()
