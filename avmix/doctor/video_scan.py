"""All frames of a file, decoded in order: their times, and what is on the screen when asked."""

import math
import struct
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from av.sidedata.sidedata import Type
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from jaxtyping import Float64, UInt8

from avmix.decode.open_file import Media
from avmix.doctor.edit_list_reader import PresentedStretch
from avmix.doctor.report import Gap

_FRAME_GAP_SECONDS = 0.5
_WEIGHTS = {1: (0.2126, 0.7152, 0.0722), 4: (0.30, 0.59, 0.11), 5: (0.299, 0.587, 0.114),
            6: (0.299, 0.587, 0.114), 7: (0.212, 0.701, 0.087), 9: (0.2627, 0.678, 0.0593),
            10: (0.2627, 0.678, 0.0593)}  # fmt: skip
"""Parts of red, green and blue in luma, by AVColorSpace."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """A stretch to be compared, and the times of its frames; clip clock."""

    start_seconds: float
    duration_seconds: float
    times: Float64[np.ndarray, " t"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodedFrame:
    """A frame that is on the screen at a wanted time."""

    seconds: float
    luma: UInt8[np.ndarray, "h w"]
    """Full range, turned upright."""
    weights: tuple[float, float, float]
    """Parts of red, green and blue in `luma`."""


@dataclass(slots=True)
class VideoScan:
    """All frames of the file: their times, and those of the wanted moments."""

    media: Media
    windows: tuple[Window, ...]
    edit: PresentedStretch
    seconds: list[float] = field(default_factory=list)
    first: VideoFrame | None = None
    num_untimed: int = 0
    """Frames whose time had to be counted, because the file has none or a wrong one."""
    shown: dict[tuple[int, int], DecodedFrame] = field(default_factory=dict)
    """By window and by frame in it."""
    _wanted: list[tuple[float, int, int]] = field(init=False)
    _last: VideoFrame | None = None
    _first_dts: float | None = None

    def __post_init__(self) -> None:
        """Sort what is wanted by time."""
        self._wanted = sorted(
            (float(t), w, k) for w, win in enumerate(self.windows) for k, t in enumerate(win.times)
        )

    def add(self, frame: VideoFrame) -> None:
        """Take the next frame in the order of presentation."""
        stream = self.media.video
        assert stream is not None
        assert stream.time_base is not None
        seconds = self._seconds(frame, stream)
        if seconds + self.media.zero_seconds >= self.edit.end_seconds - 0.003:
            return  # an edit list cuts the end away
        # Times are rounded: a frame may be this late and still count as shown.
        self._hand_out(seconds - min(float(stream.time_base), 0.0005) - 1e-6)
        self.seconds.append(seconds)
        self.first = self.first or frame
        self._last = frame

    def finish(self) -> None:
        """The last frame stays for all moments that are left."""
        self._hand_out(math.inf)

    def _hand_out(self, until: float) -> None:
        frame = None
        while self._last is not None and self._wanted and self._wanted[0][0] < until:
            frame = frame or DecodedFrame(
                seconds=self.seconds[-1],
                luma=upright(_luma(self._last), self._last),
                weights=_weights(self._last),
            )
            _, window, index = self._wanted.pop(0)
            self.shown[window, index] = frame

    def _seconds(self, frame: VideoFrame, stream: VideoStream) -> float:
        assert stream.time_base is not None
        period = 1 / float(stream.average_rate or stream.guessed_rate or 25)
        after = self.seconds[-1] + period if self.seconds else 0.0
        told = None
        if frame.pts is not None:
            told = float(frame.pts * stream.time_base) - self.media.zero_seconds
        seconds = after if told is None else told
        if "avi" in self.media.container.format.name.split(","):
            # Only packets are timed: frames come out at a steady delay behind them.
            seconds = after
            if frame.dts is not None:
                dts = float(frame.dts * stream.time_base)
                if self._first_dts is None:
                    self._first_dts = dts
                seconds = dts - self._first_dts
        self.num_untimed += told is None or abs(told - seconds) > period / 2
        return seconds


def frame_gaps(seconds: Float64[np.ndarray, " n"]) -> tuple[Gap, ...]:
    """Where frames stand still for long."""
    steps = np.diff(seconds)
    if not len(steps):
        return ()
    long = steps > max(_FRAME_GAP_SECONDS, 3 * float(np.median(steps)))
    return tuple(
        Gap(start_seconds=float(seconds[i]), seconds=float(steps[i])) for i in np.flatnonzero(long)
    )


def display_matrix(frame: VideoFrame) -> tuple[int, int, int, int]:
    """Signs of a, b, c, d: a stored pixel (x, y) is shown at (a x + c y, b x + d y)."""
    side_data: Any = frame.side_data
    data = side_data.get(Type.DISPLAYMATRIX)
    if data is None:
        return 1, 0, 0, 1
    a, b, _, c, d, *_ = struct.unpack("=9i", bytes(data))
    if abs(a) >= abs(b):
        return (1 if a >= 0 else -1), 0, 0, (1 if d >= 0 else -1)
    return 0, (1 if b >= 0 else -1), (1 if c >= 0 else -1), 0


def upright(luma: UInt8[np.ndarray, "h w"], frame: VideoFrame) -> UInt8[np.ndarray, "h2 w2"]:
    """A stored frame as the file says it is to be seen."""
    a, b, c, d = display_matrix(frame)
    shown = luma if a else luma.T
    return np.ascontiguousarray(shown[:: d or b, :: a or c])


def _weights(frame: VideoFrame) -> tuple[float, float, float]:
    large = frame.width >= 1280 or frame.height > 576
    return _WEIGHTS.get(frame.colorspace, _WEIGHTS[1 if large else 5])


def _luma(frame: VideoFrame) -> UInt8[np.ndarray, "h w"]:
    """Luma in full range: the first plane where there is one, else by way of RGB."""
    name, bits = frame.format.name, frame.format.components[0].bits
    if not name.startswith(("yuv4", "yuvj4", "yuva4", "nv12", "nv21")) or name.endswith("be"):
        luma = frame.to_ndarray(format="rgb24") @ np.array(_weights(frame))
        return luma.round().clip(0, 255).astype(np.uint8)
    plane: Any = frame.planes[0]
    dtype = np.uint8 if bits == 8 else np.uint16
    row = plane.line_size // np.dtype(dtype).itemsize
    raw = np.frombuffer(plane, dtype).reshape(-1, row)[: frame.height, : frame.width]
    scale = 2.0 ** (bits - 8)
    if frame.color_range == 2 or name.startswith("yuvj4"):
        luma = raw * (255 / (2.0**bits - 1))
    else:
        luma = (raw - 16 * scale) * (255 / (219 * scale))
    return luma.round().clip(0, 255).astype(np.uint8)
