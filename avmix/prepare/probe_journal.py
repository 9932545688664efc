"""Journal of probing results, one line per file, from which an interrupted run continues."""

import errno
import json
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from avmix.data.manifest import ManifestError
from avmix.media.folder_walk import File
from avmix.media.frame_scan import Check
from avmix.system import strict_json
from avmix.system.atomic_files import naming
from avmix.system.portability import lock_file
from avmix.types import AudioInfo, VideoInfo

_VERSION = 4
"""Version of probing; raised when the same file would give something else."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Probed:
    """Result of probing one file."""

    video: VideoInfo | None = None
    audio: AudioInfo | None = None
    sha256: str = ""
    """Hash of the content; empty where the file could not be read."""
    problem: str = ""
    """Why it cannot be used; empty where it can."""
    good: tuple[tuple[float, float], ...] = ()
    """As `Judgement.good`, where it is usable in part; () where it is whole."""
    in_part: str = ""
    """What of it can be read and why not all, in one line; empty where it is whole."""
    damaged_audio: str = ""
    """As `Judgement.damaged_audio`."""
    media_bytes: int = 0
    """Size of the media in a row of a Parquet file; 0 where it is a file of its own."""
    separate_audio: str = ""
    """That its audio is of a further column, in one line; empty where it is of the media file."""
    looked: str = ""
    """As `Judgement.looked`; empty where the file could not be read."""
    cpu_seconds: float = 0.0
    """What reading it has cost."""
    limit_seconds: float | None = None
    """The limit that it did not keep, where that is the problem."""
    passing: bool = False
    """True where the problem is of the disk or of the moment: another run tries again."""


_MOST_SHARED = 100_000
"""Descriptions of video streams that are looked for among those before: more are hardly alike."""


class Journal:
    """Results by file: path, size and time of change; whatever differs is another file.

    What was found by one way of looking does not serve for another: results would depend on what
    was run before.
    """

    def __init__(self, path: Path, check: Check) -> None:
        """Read what `check` has found, without a last line that a kill has torn, and go on behind
        it."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self.found: dict[File, Probed] = {}
        shared: dict[VideoInfo, VideoInfo] = {}
        self._path, self._check = path, check
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
        end = 0
        with path.open("rb") as file:
            for line in file:
                if not line.endswith(b"\n"):
                    break
                end += len(line)
                known = _parse(line, check, shared)
                if known is not None:
                    self.found[known[0]] = known[1]
        if os.fstat(self._file).st_size > end:
            os.ftruncate(self._file, end)

    def add(self, file: File, probed: Probed) -> None:
        """Keep a result; after this a kill does not lose it. Raises OSError on a full disk."""
        self.found[file] = probed
        if not probed.passing:
            row = {"version": _VERSION, "check": self._check, **asdict(file), **asdict(probed)}
            line = strict_json.dumps(row).encode() + b"\n"
            with naming(self._path):
                if os.write(self._file, line) < len(line):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def close(self) -> None:
        """Put it on the disk."""
        os.fsync(self._file)
        os.close(self._file)


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """One run at a time works in a folder. Raises `ManifestError` where another one does."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as file:
        try:
            lock_file(file.fileno())
        except OSError as error:
            if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                raise
            raise ManifestError(
                f"{folder.parent}: another run is preparing it; wait for its end"
            ) from None
        yield


def _parse(
    line: bytes, check: Check, shared: dict[VideoInfo, VideoInfo]
) -> tuple[File, Probed] | None:
    """The result in a line; None for one of another version or check, or damaged. Of millions of
    files many have the same size, rate and length: `shared` has each once."""
    try:
        row = json.loads(line)
        if (row.pop("version"), row.pop("check")) != (_VERSION, check):
            return None
        file = File(row.pop("path"), row.pop("bytes"), row.pop("mtime_ns"))
        video, audio = _info(VideoInfo, row.pop("video")), _info(AudioInfo, row.pop("audio"))
        if video is not None:
            known = shared.get(video)
            if known is None and len(shared) < _MOST_SHARED:
                shared[video] = video
            video = known or video
        # Of whole files this is the one empty tuple that there is.
        good = tuple((float(begin), float(end)) for begin, end in row.pop("good"))
        looked = sys.intern(row.pop("looked"))
        return file, Probed(video=video, audio=audio, good=good, looked=looked, **row)
    except (ValueError, TypeError, KeyError, AttributeError):
        return None


def _info(kind: Any, row: Mapping[str, Any] | None) -> Any:
    return None if row is None else kind(**{**row, "codec": sys.intern(row["codec"])})
