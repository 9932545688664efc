"""Exceptions of decoding: what can be wrong with a media file.

Everything here is a `ClipError`, so a loader can count and replace bad files with one `except`.
What the operating system says (`FileNotFoundError`, `IsADirectoryError`, `PermissionError`) is left
as it is: a missing file is a mistake of the dataset, not a property of the media.
"""

import os


class ClipError(Exception):
    """Base of decoding errors: a clip cannot be decoded as requested. The message begins with the
    path of the file."""

    def __init__(self, path: str | os.PathLike[str], problem: str) -> None:
        """Say what is wrong with `path`, and where it helps what to do."""
        # Both go to Exception so that the error survives pickling between processes.
        super().__init__(path, problem)
        self.path = os.fspath(path)
        self.problem = problem

    def __str__(self) -> str:
        """Path, then problem."""
        return f"{self.path}: {self.problem}"


class MediaOpenError(ClipError):
    """The file is empty, is not a media file, or has a container that is not accepted."""


class NoVideoStreamError(ClipError):
    """The file has no video; cover art does not count."""


class NoAudioStreamError(ClipError):
    """Audio was required and the file has no audio stream."""


class ClipRangeError(ClipError, ValueError):
    """The requested window is not, or not sufficiently, inside the file."""


class DecodeError(ClipError):
    """The data of the window are damaged."""


class UnsupportedMediaError(ClipError):
    """The content of the file is not supported, or exceeds the limits."""


class TruncatedMediaError(ClipError):
    """The file ends before the time that its header declares."""
