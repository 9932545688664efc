"""Synchronized decoding: one call, one window, pictures and sound of the same seconds."""

from avmix.decode.errors import (
    ClipError,
    ClipRangeError,
    DecodeError,
    MediaOpenError,
    NoAudioStreamError,
    NoVideoStreamError,
    TruncatedMediaError,
    UnsupportedMediaError,
)
from avmix.decode.pyav import decode_clip

__all__ = [
    "ClipError",
    "ClipRangeError",
    "DecodeError",
    "MediaOpenError",
    "NoAudioStreamError",
    "NoVideoStreamError",
    "TruncatedMediaError",
    "UnsupportedMediaError",
    "decode_clip",
]
