"""Writing of video and audio into one mp4 file, both starting at time 0."""

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import Literal

import av
import numpy as np
from jaxtyping import Float32, UInt8

from avmix.system.atomic_files import replacing_path

AAC_RATES_HZ = frozenset(
    {7350, 8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 64000, 88200, 96000}
)
"""Sample rates that AAC has."""
_X264 = {
    "preset": "veryfast",
    "crf": "20",
    # What looks ahead has given other bytes for the same frames now and then, in one thread too.
    "x264-params": "mbtree=0:rc-lookahead=0:sync-lookahead=0",
}
_GOP = 12
"""Training seeks: a keyframe is never far."""


def audio_rate(rate_hz: int) -> int:
    """`rate_hz` if AAC supports it, else 48,000."""
    return rate_hz if rate_hz in AAC_RATES_HZ else 48_000


def write_mp4(
    path: Path,
    frames: Iterable[UInt8[np.ndarray, "t h w c"]],
    waveform: Float32[np.ndarray, "*c s"] | None,
    *,
    fps: Fraction,
    rate_hz: int,
    gop: int = _GOP,
    crf: int = 20,
    codec: Literal["aac", "opus"] = "aac",
) -> int:
    """Write an mp4 file of H.264 and AAC, or Opus, atomically.

    `frames` come in pieces, RGB, of one size, whose odd last row and column are left out (the
    codec has none). `waveform` is mono (s) or stereo (2, s), at one of `AAC_RATES_HZ`, for Opus at
    48,000; None writes no audio at all. There is a keyframe at least every `gop` frames. The
    same input gives the same bytes. Returns the number of frames.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    options = {"movflags": "+faststart"}
    with (
        replacing_path(path) as partial,
        av.open(str(partial), "w", format="mp4", options=options) as file,
    ):
        video = file.add_stream("libx264", rate=fps, options={**_X264, "crf": str(crf)})
        # One thread: the bytes must not depend on the machine's cores.
        video.codec_context.thread_count = 1
        video.codec_context.gop_size = gop
        video.codec_context.max_b_frames = 0
        audio = None
        layout = "mono" if waveform is None or waveform.ndim == 1 else "stereo"
        if waveform is not None:
            # The usual coder has given other bytes for the same samples now and then.
            name, own = {"aac": ("aac", {"aac_coder": "fast"}), "opus": ("libopus", {})}[codec]
            # int(): PyAV refuses subclasses of it, which the defaults of options are.
            audio = file.add_stream(name, rate=int(rate_hz), layout=layout, options=own)
            audio.bit_rate = 96_000 if layout == "mono" else 128_000
        count = 0
        for piece in frames:
            even = piece[:, : piece.shape[1] // 2 * 2, : piece.shape[2] // 2 * 2]
            if not count:
                video.height, video.width = even.shape[1:3]
                video.pix_fmt = "yuv420p"
            for image in even:
                frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
                frame.pts, frame.time_base = count, 1 / fps
                file.mux(video.encode(frame))
                count += 1
        file.mux(video.encode(None))
        if audio is not None and waveform is not None:
            frame = av.AudioFrame.from_ndarray(
                np.ascontiguousarray(np.atleast_2d(waveform)), format="fltp", layout=layout
            )
            frame.sample_rate, frame.pts, frame.time_base = rate_hz, 0, Fraction(1, rate_hz)
            # The encoder's delay goes into the edit list: players and decoders drop it.
            file.mux(audio.encode(frame))
            file.mux(audio.encode(None))
    return count
