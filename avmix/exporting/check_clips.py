"""Decoded clips on which an exported file is compared with its network, and the comparison."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

from avmix.data.whole_files import find_files
from avmix.decode import ClipError, decode_clip
from avmix.exporting.file_formats import ExportError, Runner
from avmix.media.write_mp4 import audio_rate, write_mp4
from avmix.system.printing import listed
from avmix.training.trained import TrainedNetwork
from avmix.types import Clip

_MOST = 16
"""Files that are read for the check."""
_FPS = 25


def decoded_clips(trained: TrainedNetwork, paths: Sequence[str]) -> list[Clip]:
    """The first window of each of the files, and of those in folders, at most 16; without `paths`,
    of two synthetic files, one wider than high and one higher than wide.

    Raises `ExportError` where none can be read, naming the files.
    """
    if not paths:
        with TemporaryDirectory() as folder:
            return [_decoded(trained, path) for path in _synthetic(trained, Path(folder))]
    found = find_files(paths)
    problems = [f"{one.path}: {one.reason}" for one in found.problems]
    clips: list[Clip] = []
    for path in found.paths[:_MOST]:
        try:
            clips.append(_decoded(trained, path))
        except (ClipError, OSError) as error:
            problems.append(str(error))
    if not clips:
        raise ExportError(f"no clip to check the export with: {listed(problems)}")
    return clips


def _decoded(trained: TrainedNetwork, path: str | Path) -> Clip:
    return decode_clip(path, start_seconds=0.0, **trained.decoding)


def _synthetic(trained: TrainedNetwork, folder: Path) -> list[Path]:
    """Noise that changes over time, in frames and in audio of several levels."""
    clip, draw = trained.clip, np.random.default_rng(0)
    count = max(2, round(clip.duration_seconds * _FPS))
    rate = audio_rate(clip.sample_rate)
    paths = []
    for number, size in enumerate(((120, 160), (160, 120))):
        coarse = draw.integers(0, 256, (count, 6, 8, 3), dtype=np.uint8)
        block = np.repeat(np.repeat(coarse, -(-size[0] // 6), 1), -(-size[1] // 8), 2)
        level = np.repeat(10.0 ** draw.uniform(-4, -0.3, 20), -(-count * rate // _FPS // 20))
        path = folder / f"{number}.mp4"
        write_mp4(path, [block[:, : size[0], : size[1]]],
                  (level * draw.uniform(-1, 1, len(level))).astype(np.float32),
                  fps=Fraction(_FPS), rate_hz=rate)  # fmt: skip
        paths.append(path)
    return paths


def largest_difference(trained: TrainedNetwork, run: Runner, clips: Sequence[Clip]) -> float:
    """Of any probability of any head between a runner and the network; each clip as it is, without
    audio and without video, by themselves and as one batch. Infinity where one of them is nan and
    the other is not."""
    largest = 0.0
    for clip in clips:
        for has in ([(True, True), (True, False), (False, True)], [(True, True)]):
            seen, heard = (np.array(column) for column in zip(*has, strict=True))
            inputs = (np.stack([clip.video] * len(has)), np.stack([clip.audio] * len(has)), seen,
                      heard)  # fmt: skip
            for expected, got in zip(_expected(trained, *inputs), run(inputs), strict=True):
                if (np.isnan(expected) != np.isnan(got)).any():
                    return float("inf")
                largest = max(largest, float(np.nanmax(np.abs(expected - got), initial=0)))
    return largest


def _expected(
    trained: TrainedNetwork, video: np.ndarray, audio: np.ndarray, seen: np.ndarray,
    heard: np.ndarray,
) -> list[np.ndarray]:  # fmt: skip
    """What the network itself says, by its own front end; nan as in the exported file."""
    modalities = trained.config.model.modalities
    seen = seen & (modalities != "audio")
    heard = heard & (modalities != "video")
    with torch.inference_mode():
        heads = trained(*map(torch.from_numpy, (video, audio, seen, heard)))
    found = []
    for logits, there in zip(heads, (seen | heard, seen, heard), strict=True):
        said = trained.probabilities(logits).numpy()
        found.append(np.where(there[:, None], said, np.nan))
    return found
