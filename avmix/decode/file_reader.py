"""File reader: opens a file and seeks to before a window, where seeking can be trusted."""

import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field

import av.error
import numpy as np
from av.packet import Packet

from avmix.decode.container import open_media
from avmix.decode.errors import (
    DecodeError,
    NoAudioStreamError,
    NoVideoStreamError,
    UnsupportedMediaError,
)
from avmix.decode.open_file import Media
from avmix.decode.request import Request
from avmix.decode.selective import SelectiveFrames
from avmix.decode.sequential import SequentialFrames
from avmix.decode.timestamp_restarts import timestamps_restart
from avmix.decode.video import Canvas


@dataclass(frozen=True, slots=True)
class ReadingPlace:
    """Where reading begins, and what may be relied on there."""

    planned: bool
    """True when packets are to tell the times of their frames."""
    sought: bool
    """True when it is in the middle of the file."""
    first: Packet | None = None
    """The first packet of the video, where reading begins farther on."""
    since_seconds: float = np.inf
    """As `SelectiveFrames.since_seconds`."""
    bare: bool = False
    """As `SelectiveFrames.bare`."""

    def frames(self, canvas: Canvas) -> SelectiveFrames | SequentialFrames:
        """What fills `canvas` from here."""
        if not self.planned:
            return SequentialFrames(canvas, bare=self.bare)
        return SelectiveFrames(
            canvas,
            from_start=not self.sought,
            first=self.first,
            since_seconds=self.since_seconds,
            bare=self.bare,
        )


@dataclass(slots=True)
class FileReader:
    """The open file, opened again only where reading has to begin at its start once more."""

    request: Request
    _stack: ExitStack = field(default_factory=ExitStack)
    _media: Media | None = None
    _untouched: bool = False
    _began_at: float = field(default_factory=time.monotonic)
    _first: Packet | None = None
    """The first packet of the video: what it sets for all others is lost by seeking."""

    def __enter__(self) -> "FileReader":
        """Nothing is opened before it is needed."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file."""
        self._stack.close()

    @property
    def is_late(self) -> bool:
        """True when the limit of time is reached."""
        return time.monotonic() - self._began_at > self.request.limits.seconds

    def attempts(self, start_seconds: float) -> Iterator[tuple[Media, ReadingPlace]]:
        """The file, placed before `start_seconds`: the fast ways first, the safe one last."""
        # A file that is open serves another window, too, once its first packet is known.
        media = self._media if self._media is not None and self._first else self._at_start()
        seeks = media.seek_back_seconds if media.video is not None else ()
        if seeks and start_seconds > seeks[0]:
            name = media.container.format.name
            seeks = () if timestamps_restart(media.path, name, media.check_time) else seeks
        for back_seconds in seeks:
            if start_seconds > back_seconds and self._seek(start_seconds - back_seconds):
                yield media, ReadingPlace(planned=True, sought=True, first=self._first)
        for planned in (False,) if media.in_output_order else (True, False):
            media = self._at_start()
            self._untouched = False
            yield media, ReadingPlace(planned=planned, sought=False)
        raise DecodeError(media.path, "its times are not consistent; transcode the file")

    def _at_start(self) -> Media:
        if self._media is None or not self._untouched:
            self._stack.close()
            self._media = self._stack.enter_context(
                open_media(
                    self.request.path,
                    self.request.limits,
                    self.request.origin,
                    began_at=self._began_at,
                    until_seconds=self.request.until_seconds,
                    audio_track=self.request.audio_track,
                )
            )
            check_streams(self._media, self.request)
            self._untouched = True
            if (video := self._media.video) is not None:
                read = (p for p in self._media.pending if p.stream_index == video.index)
                self._first = next(read, self._first)
        return self._media

    def _seek(self, seconds: float) -> bool:
        media = self._media
        assert media is not None
        assert media.video is not None
        assert media.video.time_base is not None
        if self._untouched:
            self._first = next(iter(media.packets(media.video)), None)
        self._untouched = False
        ticks = int((seconds + media.zero_seconds) / media.video.time_base)
        try:
            media.seek(ticks, media.video)
        except av.error.FFmpegError:
            return False
        return True


def check_streams(media: Media, request: Request) -> None:
    """Raise when the file lacks a stream that `request` cannot do without."""
    if media.video is None and request.needs_video:
        raise NoVideoStreamError(media.path, "has no video stream")
    if media.is_audio_unknown and request.audio != "skip":
        raise UnsupportedMediaError(
            media.path,
            "no decoder for its audio stream in this build of libav; transcode it, or leave the "
            'audio out (audio="skip")',
        )
    if media.audio is None and (
        request.audio == "require" or (request.audio == "silence" and request.min_audio_valid > 0)
    ):
        raise NoAudioStreamError(
            media.path, 'has no audio stream; audio="silence" gives zeros instead'
        )
