"""Synchronized decoding: one call, one window, pictures and sound of the same seconds."""

from avmix.decode.clips import Backend, decode_clip, decode_clips
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
from avmix.decode.request import Limits

__all__ = [
    "Backend",
    "ClipError",
    "ClipRangeError",
    "DecodeError",
    "Limits",
    "MediaOpenError",
    "NoAudioStreamError",
    "NoVideoStreamError",
    "TruncatedMediaError",
    "UnsupportedMediaError",
    "decode_clip",
    "decode_clips",
]
