"""Outcome of a window once its packets are read: the clip, or why there is none."""

import numpy as np
from jaxtyping import Float32, Int64

from avmix.decode.audio import AudioTrack
from avmix.decode.errors import ClipError, ClipRangeError, DecodeError, TruncatedMediaError
from avmix.decode.open_file import Media
from avmix.decode.request import Request
from avmix.decode.selective import SelectiveFrames
from avmix.decode.sequential import SequentialFrames
from avmix.types import Clip

AudioResult = tuple[Float32[np.ndarray, "*c s"], float]
"""The audio of a window, and the share of it that the file has."""


def audio_outcome(
    media: Media, request: Request, audio: AudioTrack | None, start: float
) -> AudioResult | ClipError:
    """The audio of a window, or the error that is of this window alone."""
    try:
        return _waveform(media, request, audio, start)
    except ClipError as error:
        return error


def window_outcome(
    media: Media,
    request: Request,
    frames: SelectiveFrames | SequentialFrames,
    audio: AudioTrack | None,
    start: float,
    rows: Int64[np.ndarray, " t"],
) -> Clip | ClipError:
    """The clip of a window, or the error that is of this window alone.

    `rows` are those of its frames in the canvas.
    """
    try:
        return _clip(media, request, frames, audio, start, rows)
    except ClipError as error:
        return error


def _clip(
    media: Media,
    request: Request,
    frames: SelectiveFrames | SequentialFrames,
    audio: AudioTrack | None,
    start: float,
    rows: Int64[np.ndarray, " t"],
) -> Clip:
    canvas = frames.canvas
    times, seconds = canvas.times[rows], canvas.seconds[rows]
    end = frames.end()
    for suspect in (seconds, times[times < end]):
        bad = frames.damage.touches(suspect)
        if bad is not None or np.isnan(seconds).any():
            raise _damaged(media, request, frames, start, start if bad is None else bad)
    num_held = int(np.sum(times >= end - frames.epsilon_seconds))
    if request.max_held is not None and num_held > request.max_held:
        raise ClipRangeError(
            media.path,
            f"{num_held} of {len(times)} frames lie after the end at {end:.3f} s, max_held is "
            f"{request.max_held}",
        )
    assert canvas.out is not None
    waveform, valid = _waveform(media, request, audio, start, len(rows) * canvas.out[0].nbytes)
    whole = len(rows) == len(canvas.out)
    return Clip(
        video=canvas.out if whole else canvas.out[rows],
        audio=waveform,
        pts_seconds=seconds,
        start_seconds=start,
        duration_seconds=request.duration_seconds,
        sample_rate=request.sample_rate,
        audio_valid=valid,
        num_held=num_held,
        interlaced=canvas.interlaced,
    )


def _damaged(
    media: Media,
    request: Request,
    frames: SelectiveFrames | SequentialFrames,
    start: float,
    bad_seconds: float,
) -> DecodeError:
    """Why a window cannot be read of whose frames the one at `bad_seconds` is damaged."""
    gap = None
    if isinstance(frames, SelectiveFrames):
        gap = frames.gap(start, start + request.duration_seconds)
    if gap is not None:
        return DecodeError(
            media.path,
            f"there are no frames between {gap[0]:.3f} and {gap[1]:.3f} s, and data are missing "
            "there: it is joined from several recordings, or a part of it was lost; leave this "
            "window out",
        )
    return DecodeError(
        media.path,
        f"the frame at {bad_seconds:.3f} s depends on damaged data; leave this window out, or "
        "get the file again",
    )


def _waveform(
    media: Media, request: Request, audio: AudioTrack | None, start: float, frame_bytes: int = 0
) -> AudioResult:
    if audio is None:
        return request.silence, 0.0
    waveform, valid = audio.waveform(request.audio_start(start), frame_bytes)
    if valid < request.min_audio_valid:
        raise ClipRangeError(
            media.path,
            f"only {valid:.3f} of the window at {start:.3f} s has audio, min_audio_valid is "
            f"{request.min_audio_valid}",
        )
    return waveform, valid


def range_error(
    media: Media, frames: SelectiveFrames | SequentialFrames, start: float
) -> ClipRangeError | TruncatedMediaError | None:
    """Why a window does not begin before the end of the video, if it does not."""
    end = frames.end()
    if start < end - frames.epsilon_seconds:  # else every frame of it would be held
        return None
    assert media.video is not None
    declared = media.video.duration
    if declared is not None and media.video.time_base is not None:
        declared_seconds = float(declared * media.video.time_base)
        if media.video_presented is not None:  # what an edit list cuts away is not missing
            cut_seconds = media.video_presented.end_seconds - media.zero_seconds
            declared_seconds = min(declared_seconds, cut_seconds)
        if start < declared_seconds and end < declared_seconds - 0.5:
            return TruncatedMediaError(
                media.path,
                f"the header declares {declared_seconds:.3f} s of video, the data end at "
                f"{end:.3f} s; get the file again",
            )
    return ClipRangeError(
        media.path, f"the window begins at {start:.3f} s, the video ends at {end:.3f} s"
    )
