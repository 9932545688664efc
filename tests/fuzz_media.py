"""Files worth damaging: a moving texture with a readable counter, in every codec written here."""

import os
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.video.frame import VideoFrame

from tests.media import draw_audio, draw_frame

os.environ.setdefault("SVT_LOG", "1")  # errors only: the encoder writes to stderr by itself

FPS = 25
SECONDS = 3.2
SIZE = (176, 112)


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """How a clean file is written."""

    suffix: str
    video: str
    audio: str = "aac"
    gop: int = 20
    b_frames: int = 2
    codec_options: dict[str, str] = field(default_factory=dict)
    format_options: dict[str, str] = field(default_factory=dict)
    bit_rate: int = 700_000
    rate_hz: int = 48_000
    pix_fmt: str = "yuv420p"
    audio_first: bool = False
    """The audio is stream 0, the frames are stream 1."""


_X264 = {
    "preset": "veryfast",
    "crf": "23",
    "sc_threshold": "0",
    "x264-params": "mbtree=0",  # with it one file in four has other bytes, in one thread too
}
_CAVLC = {**_X264, "profile": "baseline"}
_X265 = {"preset": "ultrafast", "x265-params": "log-level=none:pools=none:frame-threads=1"}
_AV1 = {"preset": "11", "crf": "30", "svtav1-params": "lp=1"}
# Of VP8 a positive speed is what the machine has time for; a negative one is that speed.
_VP8 = {"deadline": "realtime", "cpu-used": "-8"}
_FRAGMENTS = {"movflags": "frag_keyframe+empty_moov+default_base_moof"}

_NO_B_FRAMES = ("libvpx", "libvpx-vp9", "libsvtav1")

SPECS: dict[str, Spec] = {
    "mp4_h264": Spec(suffix=".mp4", video="libx264", codec_options=_X264, gop=24),
    "mp4_h264_cavlc": Spec(suffix=".mp4", video="libx264", codec_options=_CAVLC, b_frames=0),
    "mp4_fragments": Spec(suffix=".mp4", video="libx264", codec_options=_X264, gop=12,
                          format_options=_FRAGMENTS),
    "mp4_sound_first": Spec(suffix=".mp4", video="libx264", codec_options=_X264, gop=24,
                            audio_first=True),
    "mp4_hevc": Spec(suffix=".mp4", video="libx265", codec_options=_X265, gop=24),
    "mp4_mpeg4": Spec(suffix=".mp4", video="mpeg4", gop=12),
    "mp4_av1": Spec(suffix=".mp4", video="libsvtav1", codec_options=_AV1, bit_rate=0,
                    b_frames=0, gop=24),
    "mov_h264": Spec(suffix=".mov", video="libx264", codec_options=_X264, audio="pcm_s16le",
                     gop=48, rate_hz=16_000),
    "mov_prores": Spec(suffix=".mov", video="prores", audio="pcm_s16le", pix_fmt="yuv422p10le",
                       rate_hz=16_000),
    "mkv_h264": Spec(suffix=".mkv", video="libx264", codec_options=_X264, gop=24),
    "mkv_opus": Spec(suffix=".mkv", video="libx264", codec_options=_CAVLC, audio="libopus",
                     b_frames=0),
    "mkv_av1": Spec(suffix=".mkv", video="libsvtav1", codec_options=_AV1, audio="libopus",
                    bit_rate=0, b_frames=0, gop=24),
    "webm_vp8": Spec(suffix=".webm", video="libvpx", audio="libopus", b_frames=0,
                     codec_options=_VP8),
    "webm_vp9": Spec(suffix=".webm", video="libvpx-vp9", audio="libopus", b_frames=0,
                     codec_options={"deadline": "realtime", "cpu-used": "8"}),
    "ogv_vp8": Spec(suffix=".ogv", video="libvpx", audio="libopus", b_frames=0,
                    codec_options=_VP8),
    "avi_mpeg4_mp3": Spec(suffix=".avi", video="mpeg4", audio="mp3", gop=12),
    "avi_mpeg4_pcm": Spec(suffix=".avi", video="mpeg4", audio="pcm_s16le", b_frames=0, gop=24,
                          rate_hz=16_000),
    "avi_msmpeg4": Spec(suffix=".avi", video="msmpeg4", audio="pcm_s16le", b_frames=0,
                        rate_hz=16_000),
    "avi_mjpeg": Spec(suffix=".avi", video="mjpeg", audio="pcm_s16le", b_frames=0, rate_hz=16_000,
                      pix_fmt="yuvj420p", bit_rate=2_000_000),
    "ts_h264": Spec(suffix=".ts", video="libx264", codec_options=_X264, gop=24),
    "ts_mpeg2": Spec(suffix=".ts", video="mpeg2video", audio="mp2", gop=12),
    "mpg_mpeg1": Spec(suffix=".mpg", video="mpeg1video", audio="mp2", gop=12),
    "mpg_mpeg2": Spec(suffix=".mpg", video="mpeg2video", audio="mp2", gop=12),
    "flv_h264": Spec(suffix=".flv", video="libx264", codec_options=_X264, rate_hz=44_100),
    "flv_h263": Spec(suffix=".flv", video="flv", audio="mp3", b_frames=0, rate_hz=44_100),
    "wmv_wmv2": Spec(suffix=".wmv", video="wmv2", audio="wmav2", b_frames=0),
    "asf_msmpeg4": Spec(suffix=".asf", video="msmpeg4", audio="wmav2", b_frames=0),
}  # fmt: skip
"""By container and codec. No encoder here writes Theora; Ogg is met with VP8."""


def texture(seed: int) -> np.ndarray:
    """Patches of several sizes, (256, 512, 3) uint8, that can be panned around the edge."""
    draw = np.random.Generator(np.random.Philox(seed))
    mix = np.zeros((256, 512, 3))
    for size, weight in ((64, 45.0), (16, 30.0), (4, 18.0)):
        cells = draw.uniform(-1, 1, (256 // size, 512 // size, 3))
        mix += weight * cells.repeat(size, 0).repeat(size, 1)
    return np.clip(128 + mix, 0, 255).astype(np.uint8)


def write_texture(path: Path, spec: Spec, *, seed: int) -> Path:
    """Write a panned texture with a counter, and bursts of audio; the same bytes every time."""
    background = texture(seed)
    with av.open(str(path), "w", options={"fflags": "+bitexact", **spec.format_options}) as out:
        adders = [_add_video, _add_audio]
        first, second = (add(out, spec) for add in adders[:: -1 if spec.audio_first else 1])
        video, audio = (second, first) if spec.audio_first else (first, second)
        parts = [*_frames(background), *_audio(spec.rate_hz)]
        for part in sorted(parts, key=lambda p: p.time or 0.0):
            out.mux((video if isinstance(part, VideoFrame) else audio).encode(part))
        for stream in (video, audio):
            out.mux(stream.encode(None))
    return path


def _add_video(out: Any, spec: Spec) -> Any:
    video = out.add_stream(spec.video, rate=Fraction(FPS), options=spec.codec_options)
    video.width, video.height = SIZE
    video.pix_fmt = spec.pix_fmt
    video.gop_size = spec.gop
    if spec.bit_rate:
        video.bit_rate = spec.bit_rate
    video.thread_count = 1
    video.codec_context.flags |= 1 << 23  # AV_CODEC_FLAG_BITEXACT
    if spec.video not in _NO_B_FRAMES:
        video.max_b_frames = spec.b_frames
    return video


def _add_audio(out: Any, spec: Spec) -> Any:
    audio = out.add_stream(spec.audio, rate=spec.rate_hz)
    audio.layout = "stereo"
    audio.bit_rate = 96_000
    return audio


def _frames(background: np.ndarray) -> list[VideoFrame]:
    width, height = SIZE
    frames = []
    for number in range(round(SECONDS * FPS)):
        pan = np.roll(background, (-2 * number, -5 * number), axis=(0, 1))
        image = pan[:height, :width].copy()
        counter = draw_frame(number, size=SIZE, flash=False)
        image[: height // 2] = counter[: height // 2] // 2 + image[: height // 2] // 2
        frame = VideoFrame.from_ndarray(image, format="rgb24")
        frame.pts, frame.time_base = number, Fraction(1, FPS)
        frames.append(frame)
    return frames


def _audio(rate: int) -> list[AudioFrame]:
    wave = draw_audio(
        seconds=SECONDS, rate=rate, start_seconds=0, events_seconds=(0.4, 1.2, 2.0, 2.8)
    )
    frames = []
    for at in range(0, len(wave), 960):
        both = np.tile(wave[at : at + 960], (2, 1))
        frame = AudioFrame.from_ndarray(both, format="fltp", layout="stereo")
        frame.sample_rate, frame.time_base, frame.pts = rate, Fraction(1, rate), at
        frames.append(frame)
    return frames
