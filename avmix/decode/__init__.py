"""Synchronized decoding: one call, one window, pictures and sound of the same seconds."""

from avmix.decode.clips import Backend, Sounding, decode_clip, decode_clips, decode_sound
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
from avmix.decode.source import Source

__all__ = [
    "Backend",
    "ClipError",
    "ClipRangeError",
    "DecodeError",
    "Limits",
    "MediaOpenError",
    "NoAudioStreamError",
    "NoVideoStreamError",
    "Sounding",
    "Source",
    "TruncatedMediaError",
    "UnsupportedMediaError",
    "decode_clip",
    "decode_clips",
    "decode_sound",
]
