"""Synchronized decoding: one call decodes video and audio of the same seconds of a file."""

from avmix.decode.clips import Backend, DecodedAudio, decode_audio, decode_clip, decode_clips
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
    "DecodedAudio",
    "Limits",
    "MediaOpenError",
    "NoAudioStreamError",
    "NoVideoStreamError",
    "Source",
    "TruncatedMediaError",
    "UnsupportedMediaError",
    "decode_audio",
    "decode_clip",
    "decode_clips",
]
