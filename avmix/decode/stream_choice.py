"""Choice of the video stream and the audio track of a file."""

from typing import TypeVar

from av.audio.stream import AudioStream
from av.stream import Disposition, Stream
from av.video.stream import VideoStream

from avmix.decode.errors import NoAudioStreamError, UnsupportedMediaError
from avmix.decode.request import Track

S = TypeVar("S", VideoStream, AudioStream)
_COVER = Disposition.attached_pic | Disposition.timed_thumbnails


def is_cover(stream: Stream) -> bool:
    """True for cover art and thumbnails, which libav counts among the videos."""
    return bool(stream.disposition & _COVER)


def _flagged(streams: list[S]) -> list[S]:
    """The streams that players take: those flagged as default, or all."""
    if len(streams) == 1:
        return streams
    return [s for s in streams if s.disposition & Disposition.default] or streams


def audio_track_of(path: str, streams: list[AudioStream], wanted: Track) -> AudioStream | None:
    """The audio track that is asked for; None where the file has no audio at all."""
    if not streams:
        return None
    if wanted is None:
        return _flagged(streams)[0]
    found = [
        stream
        for number, stream in enumerate(streams)
        if number == wanted or str(stream.language or "").casefold() == str(wanted).casefold()
    ]
    if not found:
        has = "; ".join(f"{n}: {_track_words(stream)}" for n, stream in enumerate(streams))
        raise NoAudioStreamError(path, f"has no audio track {wanted!r}; it has {has}")
    return found[0]


def _track_words(stream: AudioStream) -> str:
    context = stream.codec_context
    codec = "no decoder"
    if context is not None:
        codec = f"{context.name}, {context.channels} channel{'s' * (context.channels != 1)}"
    title = f" {stream.metadata['title']!r}" if stream.metadata.get("title") else ""
    return f"{stream.language or 'no language'}, {codec}{title}"


def default_stream(path: str, streams: list[S]) -> S | None:
    """The stream that players take; None where there is none.

    Raises `UnsupportedMediaError` where this build of libav has no decoder for it.
    """
    if not streams:
        return None
    chosen = _flagged(streams)[0]
    if chosen.codec_context is None:
        raise UnsupportedMediaError(
            path, f"no decoder for its {chosen.type} stream in this build of libav; transcode it"
        )
    return chosen
