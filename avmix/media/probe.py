"""Look at a file once and write down what training would otherwise have to guess."""

import math
from dataclasses import dataclass, replace

import av

from avmix.decode.container import open_media
from avmix.decode.errors import (
    ClipError,
    DecodeError,
    MediaOpenError,
    TruncatedMediaError,
    UnsupportedMediaError,
)
from avmix.decode.open_file import Media
from avmix.decode.packet_feed import feed_all
from avmix.decode.request import Limits
from avmix.decode.request import Track as AudioTrack
from avmix.decode.source import Source, as_file
from avmix.media.frame_scan import Bad, Check, FrameScan
from avmix.media.stream_tally import REACH_SECONDS, AudioTally, VideoTally
from avmix.types import AudioInfo, VideoInfo

_LIMITS = Limits()
_CUT_SECONDS = 0.5
"""A file is cut off where its header declares so much more than there is."""
_DECLARE = frozenset({"matroska", "flv", "asf"})
"""Containers that declare one length for all streams; mov and avi declare that of each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """What one file holds, and what of it tells of damage."""

    video: VideoInfo | None
    audio: AudioInfo | None
    bad: tuple[Bad, ...]
    """What damage, another form or an early end takes; of damaged frames only "full" knows."""
    doubts: tuple[str, ...]
    """Signs of damage that packets show, whether or not any frame suffers; each once."""
    is_cut: str
    """Why the file is taken to be cut off; empty where it is not."""
    damaged_audio: str
    """Which audio is lost to damage, and is zeros; empty where none is."""
    stop: ClipError | None
    """What ended reading before the file did."""
    can_be_bared: bool
    """True when damage of frames may be none, which reading "full" and `bare` shows."""


def probe(
    path: Source, audio_track: AudioTrack = None, *, limits: Limits = _LIMITS
) -> tuple[VideoInfo | None, AudioInfo | None]:
    """Read the whole file: frames are counted from their packets, audio is decoded once.

    `path` may be the bytes of a file, or a file object, as for `decode_clip`; `limits` are what it
    may cost before it is refused.

    A stream that the file does not have is None. `audio_track` is as for `decode_clip`, and noted.
    Raises as `decode_clip` does: OSError, `MediaOpenError` (also where there is neither),
    `TruncatedMediaError` where reading stops with an error, `DecodeError` where the clock starts
    again, a stream yields nothing, or samples that are not finite or beyond `MAX_SAMPLE`,
    `UnsupportedMediaError`.
    """
    with as_file(path, limits) as file:
        found = survey(file, limits=limits, audio_track=audio_track)
        if found.stop is not None:
            raise found.stop
        return found.video, found.audio


def survey(
    path: str,
    check: Check = "fast",
    limits: Limits = _LIMITS,
    *,
    audio_track: AudioTrack = None,
    bare: bool = False,
) -> Survey:
    """Read the whole file once, as decoding does: its packets, its audio, with "full" its frames.

    `audio_track` is as for `decode_clip`, and noted. `bare` leaves out of packets what describes
    frames and is no part of them. Raises as `probe`, but where reading ends early says what came
    before.
    """
    with open_media(path, limits, audio_track=audio_track) as media:
        if media.video is None and media.audio is None:
            raise MediaOpenError(media.path, "has neither a video nor an audio stream")
        if media.is_audio_unknown:
            raise UnsupportedMediaError(
                media.path, "no decoder for its audio stream in this build of libav; transcode it"
            )
        video = (
            None
            if media.video is None
            else VideoTally(media, scan=FrameScan.of(media, check, bare=bare))
        )
        audio = None if media.audio is None else AudioTally(media)
        stop: ClipError | None = None
        try:
            feed_all(media, video, audio)
        except (TruncatedMediaError, DecodeError) as error:
            if audio is not None and audio.is_broken:
                raise
            stop = error
        if stop is not None and ((video and not video.any_timed) or (audio and not audio.any_seen)):
            raise stop
        found = _survey_of(media, video, audio, stop)
        if found.audio is None or audio_track is None:
            return found
        return replace(found, audio=replace(found.audio, track=_number_of(media)))


def _number_of(media: Media) -> int:
    """Which of the audio tracks of the file is read."""
    assert media.audio is not None
    tracks = [stream.index for stream in media.container.streams.audio]
    return tracks.index(media.audio.index)


def _survey_of(
    media: Media, video: "VideoTally | None", audio: "AudioTally | None", stop: ClipError | None
) -> Survey:
    tallies = [tally for tally in (video, audio) if tally is not None]
    bad = [b for tally in tallies for b in tally.bad()]
    if stop is not None:
        at = min(tally.latest_seconds for tally in tallies)
        bad.append(Bad(at - REACH_SECONDS, math.inf, stop.problem))
    is_cut = _cut_off(media, video, audio)
    doubts = [*(doubt for tally in tallies for doubt in tally.doubts), is_cut]
    if stop is not None:
        doubts.append(stop.problem)
    return Survey(
        video=None if video is None else video.info(),
        audio=None if audio is None else audio.info(),
        bad=tuple(bad),
        doubts=tuple(dict.fromkeys(filter(None, doubts))),
        is_cut=is_cut,
        damaged_audio="" if audio is None else audio.damaged(),
        stop=stop,
        can_be_bared=video is not None and video.scan.can_be_bared,
    )


def _cut_off(media: Media, video: "VideoTally | None", audio: "AudioTally | None") -> str:
    """Why a file is taken to have been longer, by what its header declares; empty where it is not.

    Elsewhere libav takes lengths from what is there.
    """
    own, declared, there = media.container.format.name.split(",")[0], None, 0.0
    if own in ("mov", "avi") and video is not None:
        stream = media.video
        assert stream is not None
        assert stream.time_base is not None
        if stream.duration is not None:
            ticks = max(stream.duration, stream.frames if own == "avi" else 0)
            declared, there = float(ticks * stream.time_base), video.length_seconds
    elif own in _DECLARE and all(s in (media.video, media.audio) for s in media.container.streams):
        tallies = [tally for tally in (video, audio) if tally is not None]
        if media.container.duration is not None:
            declared = media.container.duration / av.time_base
            there = max(tally.data_end_seconds for tally in tallies)
    if declared is None or declared <= there + _CUT_SECONDS:
        return ""
    return f"it is cut off: the header declares {declared:.2f} s, the data end at {there:.2f} s"
