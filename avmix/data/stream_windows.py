"""Windows of a stream, cut as those of a file are, out of what was pushed last."""

import math
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from jaxtyping import Float32, UInt8

from avmix.augment import apply_video, centred
from avmix.config import ClipConfig
from avmix.data.stream_audio import MARGIN_SECONDS, TOLD_SECONDS, StreamAudio
from avmix.types import Clip

_BACKWARD_SECONDS = 0.1
"""Timestamps may go backward by so much; by more, they begin again."""
_FORWARD_SECONDS = 10.0
"""A jump forward beyond which what is between is lost, not slow."""
_LAG_SECONDS = 3.0
"""How far one modality may be ahead of a window before the other one is no longer waited for."""
_MAX_BYTES = 512 << 20
"""Of frames and audio that are kept."""
_STALE_SECONDS = 2.0
"""For longer no frame is held, but where the stream says that it lasts: others were lost."""
_EPSILON_SECONDS = 0.0005 + 1e-6
"""How late a frame may be and still count as shown; clocks of containers are rounded."""

Lost = Literal[
    "damaged", "too few frames", "jump of the timestamps", "too large for the buffer",
    "nothing that the network reads", "not finite",
]  # fmt: skip
"""Why a window was lost."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamWindow:
    """A window that is complete."""

    clip: Clip
    """Times on the clock of the stream: 0 is its first frame."""
    has_video: bool
    has_audio: bool
    """False where it has none, or the stream has been nothing but digital silence so far."""


@dataclass(slots=True)
class _Frame:
    seconds: float
    duration_seconds: float
    image: np.ndarray
    is_damaged: bool


_Waiting = tuple[np.ndarray, np.ndarray | None, float]
"""Mono, left and right, seconds on the clock of the container."""


@dataclass(slots=True)
class StreamWindows:
    """Cutter of windows: push frames and audio in the order in which they come, and take the
    windows that are complete. What no later window needs is dropped, so that memory is bounded
    whatever the length of the stream.

    A window begins every `step_seconds`; the last ends with the stream, as
    `avmix.data.whole_files.sliding` has it. Where timestamps jump (backward by more than 0.1 s,
    forward by more than 10 s) windows begin again behind the jump, on a clock that goes on.
    """

    clip: ClipConfig
    step_seconds: float
    has_video: bool = True
    """Whether the stream has frames; of one without, the clock is that of the audio."""
    has_audio: bool = True
    max_bytes: int = _MAX_BYTES
    lost: Counter[Lost] = field(default_factory=Counter)
    """Windows that could not be cut, by reason."""
    _zero: float | None = None
    _base: float = 0.0
    """Where the windows of this stretch begin, on the clock of the stream: after a jump, not 0."""
    _next: int = 0
    """Number of the next window of this stretch."""
    _frames: deque[_Frame] = field(default_factory=deque)
    _waiting: deque[_Waiting] = field(default_factory=deque)
    """Audio that came before the first frame said when zero is."""
    _audio: StreamAudio = field(init=False)
    _frame_bytes: int = 0
    _dropped_until: float = -math.inf
    """Frames before were dropped for want of room."""
    _video_end: float = -math.inf

    def __post_init__(self) -> None:
        """Raises ValueError for what no window can be cut from."""
        if not self.step_seconds > 0:
            raise ValueError(f"step_seconds must be positive, got {self.step_seconds}")
        if not (self.has_video or self.has_audio):
            raise ValueError("a stream has video, or audio, or both")
        self._audio = StreamAudio(self.clip)

    @property
    def num_bytes(self) -> int:
        """Bytes of frames and audio that are kept now."""
        waiting = sum(mono.nbytes + (0 if sides is None else sides.nbytes)
                      for mono, sides, _ in self._waiting)  # fmt: skip
        return self._frame_bytes + self._audio.num_bytes + waiting

    def push_frame(
        self,
        image: UInt8[np.ndarray, "h w 3"],
        seconds: float,
        duration_seconds: float = 0.04,
        *,
        is_damaged: bool = False,
    ) -> list[StreamWindow]:
        """Take a frame, RGB, its shorter side `clip.short_side` pixels; returns the windows that
        are complete with it. Raises ValueError for another size, or times that are not finite."""
        if not self.has_video:
            raise ValueError("the stream was said to have no video")
        if not math.isfinite(seconds) or not math.isfinite(duration_seconds):
            raise ValueError(f"the time of a frame must be finite, got {seconds}")
        if image.ndim != 3 or min(image.shape[:2]) < self.clip.crop or image.dtype != np.uint8:
            raise ValueError(f"a frame must be uint8 (h, w, 3), h and w >= {self.clip.crop}; got "
                             f"{image.dtype} {image.shape}")  # fmt: skip
        done: list[StreamWindow] = []
        if self._zero is None:
            self._zero = seconds
            done += self._release()
        at = seconds - self._zero
        if self._frames or self._video_end > -math.inf:
            last = self._frames[-1].seconds if self._frames else self._video_end
            if at < last - _BACKWARD_SECONDS or at > last + _FORWARD_SECONDS:
                done += self._restart(seconds)
                assert self._zero is not None
                at = seconds - self._zero
            elif at < last:
                return done  # late by less than a frame or two: what is shown has gone by
        square = apply_video(image[None], centred(*image.shape[:2]), self.clip.crop)[0].copy()
        self._frames.append(_Frame(at, duration_seconds, square, is_damaged))
        self._frame_bytes += square.nbytes
        self._video_end = at + max(duration_seconds, 0.0)
        return done + self._take(at)

    def push_audio(
        self,
        mono: Float32[np.ndarray, " s"],
        seconds: float,
        rate_hz: int,
        sides: Float32[np.ndarray, "2 s"] | None = None,
    ) -> list[StreamWindow]:
        """Take a piece of audio, full scale 1: the mean of its channels, and, where there are
        several, left and right; returns the windows that are complete with it.

        Raises ValueError for times or samples that are not finite, and another sample rate than
        before."""
        if not self.has_audio:
            raise ValueError("the stream was said to have no audio")
        if not math.isfinite(seconds) or not np.isfinite(mono).all():
            raise ValueError("the time and the samples of audio must be finite")
        known = self._audio.rate_hz
        if rate_hz < 1 or (known and rate_hz != known):
            raise ValueError(f"the sample rate was {known or 'not known'} and is {rate_hz} Hz")
        self._audio.rate_hz = rate_hz
        if self._zero is None and self.has_video:
            self._waiting.append((mono, sides, seconds))
            while sum(len(one) for one, _, _ in self._waiting) > self._kept_seconds * rate_hz:
                self._waiting.popleft()  # before the first frame there is no window
            return []
        if self._zero is None:
            self._zero = seconds
        return self._add(mono, sides, seconds)

    def end(self) -> list[StreamWindow]:
        """The windows up to the end of the stream, of which the last ends with it."""
        found: list[StreamWindow] = self._release() if self._zero is not None else []
        found += self._finish()
        self._frames.clear()
        self._audio.clear()
        return found

    # Inside ---------------------------------------------------------------------------------------

    @property
    def _kept_seconds(self) -> float:
        return self.clip.duration_seconds + TOLD_SECONDS + 2 * MARGIN_SECONDS + 1.0

    @property
    def _end(self) -> float:
        """Of the stretch: of its frames, where it has frames."""
        return self._video_end if self.has_video else self._audio.end_seconds

    def _start(self, number: int) -> float:
        return self._base + number * self.step_seconds

    def _release(self) -> list[StreamWindow]:
        """Take the audio that waited for the first frame."""
        waiting, done = list(self._waiting), []
        self._waiting.clear()
        for piece in waiting:
            done += self._add(*piece)
        return done

    def _add(
        self, mono: np.ndarray, sides: np.ndarray | None, seconds: float
    ) -> list[StreamWindow]:
        assert self._zero is not None
        at, done = seconds - self._zero, []
        ended = self._audio.end_seconds
        ahead = ended if ended > -math.inf else self._base
        if not self.has_video and not -_BACKWARD_SECONDS <= at - ahead <= _FORWARD_SECONDS:
            done += self._restart(seconds)
            at = seconds - self._zero
        elif abs(at - ahead) > self._kept_seconds + _FORWARD_SECONDS:
            return done  # of another time than the frames: it has no place
        self._audio.add(mono, sides, at)
        return done + self._take(self._frames[-1].seconds if self._frames else -math.inf)

    def _restart(self, seconds: float) -> list[StreamWindow]:
        """Windows begin again at `seconds` of the container; the clock goes on."""
        done = self._finish(jumped=True)
        self._base = max(self._end, self._base)
        self._zero = seconds - self._base
        self._next, self._frame_bytes = 0, 0
        self._frames.clear()
        self._audio.clear()
        self._dropped_until = self._video_end = -math.inf
        return done

    def _take(self, shown: float) -> list[StreamWindow]:
        """The windows that are complete; `shown`: time of the last frame."""
        done: list[StreamWindow] = []
        length = self.clip.duration_seconds
        while True:
            end = self._start(self._next) + length
            seen = not self.has_video or shown >= end - 1e-9
            audible = not self.has_audio or self._audio.end_seconds >= end + 2 * MARGIN_SECONDS
            if not self.has_video:
                ready = audible
            else:
                ready = seen and (audible or shown >= end + _LAG_SECONDS)
                # Frames that never come: what was audible of the time goes by without a window.
                if not seen and self._audio.end_seconds >= end + _LAG_SECONDS + _FORWARD_SECONDS:
                    self.lost["too few frames"] += 1
                    self._next += 1
                    self._trim()
                    continue
            if not ready:
                break
            done += self._cut(self._start(self._next))
            self._next += 1
            self._trim()
        self._trim()
        return done

    def _finish(self, *, jumped: bool = False) -> list[StreamWindow]:
        """What is left of the stretch, up to its end."""
        length, done = self.clip.duration_seconds, []
        if self._zero is None or self._end == -math.inf:
            return done
        slack = max(0.0, self._end - self._base - length)
        count = math.floor(slack / self.step_seconds + 1e-9) + 1
        for number in range(self._next, count):
            if jumped and self._start(number) + length > self._end + 1e-9:
                continue
            done += self._cut(self._start(number))
        last = self._base + (max(count, self._next) - 1) * self.step_seconds
        if jumped:
            self.lost["jump of the timestamps"] += 1
        elif slack - (last - self._base) > 1e-3:
            done += self._cut(self._base + slack)
        return done

    def _trim(self) -> None:
        """Drop what neither the next window needs nor one that ends with the stream."""
        length, audible = self.clip.duration_seconds, self._audio.end_seconds
        needed = min(self._start(self._next), self._end - length - 0.5)
        while len(self._frames) > 1 and self._frames[1].seconds <= needed:
            self._frame_bytes -= self._frames.popleft().image.nbytes
        while self._frame_bytes > self.max_bytes and len(self._frames) > 1:
            self._frame_bytes -= self._frames.popleft().image.nbytes
            self._dropped_until = self._frames[0].seconds
        # Frames may have ended, and audio goes on for hours.
        oldest = audible - length - self._kept_seconds - _LAG_SECONDS - _FORWARD_SECONDS
        early = max(needed, oldest) - TOLD_SECONDS - 2 * MARGIN_SECONDS - 0.5
        self._audio.drop_before(early, self.max_bytes)

    def _cut(self, start: float) -> list[StreamWindow]:
        """The window at `start`; none, and one more that is lost, where it cannot be cut."""
        clip, length = self.clip, self.clip.duration_seconds
        times = start + (np.arange(clip.num_frames) + 0.5) * length / clip.num_frames
        video = np.zeros((clip.num_frames, clip.crop, clip.crop, 3), np.uint8)
        seconds, num_held = np.zeros(clip.num_frames), 0
        if self.has_video:
            if not self._frames:
                self.lost["too few frames"] += 1
                return []
            begins = np.array([frame.seconds for frame in self._frames])
            places = np.searchsorted(begins, times + _EPSILON_SECONDS, side="right") - 1
            if self._dropped_until > times[0]:
                self.lost["too large for the buffer"] += 1
                return []
            shown = [self._frames[max(int(place), 0)] for place in places]
            stale = [t - f.seconds > max(_STALE_SECONDS, f.duration_seconds) and t < self._video_end
                     for t, f in zip(times, shown, strict=True)]  # fmt: skip
            if any(stale):
                self.lost["too few frames"] += 1
                return []
            if any(frame.is_damaged for frame in shown):
                self.lost["damaged"] += 1
                return []
            video = np.stack([frame.image for frame in shown])
            seconds = np.array([frame.seconds for frame in shown])
            num_held = int(np.sum(times >= self._video_end - _EPSILON_SECONDS))
        audio, valid = self._audio.window(start)
        return [StreamWindow(
            clip=Clip(
                video=video, audio=audio, pts_seconds=seconds, start_seconds=start,
                duration_seconds=length, sample_rate=clip.sample_rate, audio_valid=valid,
                num_held=num_held,
            ),
            has_video=self.has_video, has_audio=valid > 0 and self._audio.is_audible,
        )]  # fmt: skip
