"""Mono downmix of files whose channels cancel each other: the left channel alone.

One channel that is the other inverted leaves nothing of their mean. Whoever wants mono asks for
`channels_to_read` and makes `one_channel` of what comes.
"""

from typing import Literal

import numpy as np
from jaxtyping import Float32

from avmix.types import AudioInfo

CANCELLED = 0.01
"""Share of the mean power of its channels, 20 dB below it, under which a mono mix is said to
cancel. One channel of eight alone keeps an eighth."""


def track_of(audio: AudioInfo | None) -> int | None:
    """Number of the audio track that the manifest describes, for the decoder."""
    return None if audio is None else audio.track


def cancels(mixed: float, each: float) -> bool:
    """True when a mono mix of energy `mixed` has lost its channels, whose mean energy is `each`."""
    return mixed < CANCELLED * each


def channels_to_read(audio: AudioInfo | None, wanted: Literal[1, 2] = 1) -> Literal[1, 2]:
    """Number of channels to request from the decoder in order to get `wanted`."""
    return 2 if wanted == 1 and audio is not None and audio.mono_cancels else wanted


def one_channel(
    audio: AudioInfo | None, wave: Float32[np.ndarray, "*channels s"], wanted: Literal[1, 2] = 1
) -> Float32[np.ndarray, "*wanted s"]:
    """Reduce decoded `channels_to_read` to the `wanted` channels."""
    return wave[0] if channels_to_read(audio, wanted) != wanted else wave


def mono_track_label(audio: AudioInfo | None) -> str:
    """Cache key of the audio that a mono reader gets, where it is not the mix of the default
    track."""
    if audio is None:
        return ""
    track = "" if audio.track is None else f"track {audio.track} "
    return (track + "left" * audio.mono_cancels).strip()
