"""Exceptions of decoding: what can be wrong with a media file.

Everything here is a `ClipError`, so a loader can count and replace bad files with one `except`.
What the operating system says (`FileNotFoundError`, `IsADirectoryError`, `PermissionError`) is left
as it is: a missing file is a mistake of the dataset, not a property of the media.
"""

import os


class ClipError(Exception):
    """A clip cannot be delivered as asked; the message begins with the path of the file."""

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
    """The file is empty, is no media file, or its container is not accepted."""


class NoVideoStreamError(ClipError):
    """The file has no video; cover art does not count."""


class NoAudioStreamError(ClipError):
    """Audio was required and the file has no audio stream."""


class ClipRangeError(ClipError, ValueError):
    """The window asked for does not lie, or does not lie far enough, within the file."""


class DecodeError(ClipError):
    """The data that the window needs are damaged."""


class UnsupportedMediaError(ClipError):
    """This build of the decoder has no support for what is in the file."""


class TruncatedMediaError(ClipError):
    """The file ends before the time its own header declares."""
