"""Log-mel statistics of a dataset, combined from those of its files."""

import math
from collections.abc import Iterable
from typing import Any

from avmix.types import Entry

SAMPLE_RATE = 16_000
NUM_MELS, N_FFT, HOP = 64, 512, 256
"""The spectrogram that preparation measures (`avmix.media.log_mel_stats`): the default one."""


def log_mel_of_clips(entries: Iterable[Entry]) -> dict[str, Any] | None:
    """Log-mel statistics of these clips for `dataset.json`: mean and deviation, each file weighted
    by the length of its clips. Silent files do not count, because they are not trained on as audio.
    None where nothing was measured."""
    num, weight, total, squares = 0, 0.0, 0.0, 0.0
    for entry in entries:
        audio = entry.audio
        if audio is None or audio.silent or audio.log_mel_mean is None:
            continue
        mean, deviation = audio.log_mel_mean, audio.log_mel_std or 0.0
        seconds = entry.duration_seconds
        num, weight, total = num + 1, weight + seconds, total + seconds * mean
        squares += seconds * (deviation**2 + mean**2)
    if not num:
        return None
    mean = total / weight
    deviation = math.sqrt(max(squares / weight - mean**2, 0.0))
    if deviation == 0:
        return None
    return {
        "mean": round(mean, 4),
        "std": round(deviation, 4),
        "num_clips": num,
        "spectrogram": {"sample_rate": SAMPLE_RATE, "num_mels": NUM_MELS, "n_fft": N_FFT,
                        "hop_length": HOP},
    }  # fmt: skip
