"""Comparison of windows from `decode_clip` with the same seconds of a full decode."""

import hashlib
import math
import os
import statistics
import time

import numpy as np
from jaxtyping import Float32, Float64

from avmix.decode import ClipError, Limits, decode_clip
from avmix.doctor.audio_scan import AudioScan
from avmix.doctor.full_decode import FullDecode
from avmix.doctor.report import WindowReport
from avmix.doctor.video_scan import VideoScan, Window
from avmix.types import Clip

_WINDOW_SECONDS = 2.0
_NUM_FRAMES = 5
"""Compared per window, as they are stored: even 4K stays within a few hundred megabytes."""
_LUMA_STEPS, _LUMA_SHARE = 10, 0.001
"""Frames differ when more than this share of pixels differs by more than so many of 255 steps."""
_AUDIO_SHIFT_SECONDS, _AUDIO_BLOCK_SECONDS = 0.001, 0.02
_AUDIO_WHOLE, _AUDIO_BLOCK = 0.1, 0.6
"""Audio differs when it is elsewhere by more than a millisecond, or by more than these parts of its
level, over the window or a block."""
_DRAWS_NOISE = frozenset({"aac", "ac3", "eac3"})
"""Decoders of these draw noise where the encoder has only said how loud it is (perceptual noise
substitution, dither), by what they decoded before: after a seek it is other noise."""
_NOISE_HZ = 2000.0
"""Below, waveforms are compared: encoders substitute noise above (FFmpeg's from 4 kHz on)."""
_NOISE_RATIO, _NOISE_FLOOR = 3.0, 0.1
"""Above, in every block, the power of two draws is alike within this factor; blocks below this part
of the level of the window do not count."""
NOISE = f"above {_NOISE_HZ / 1000:g} kHz it is other noise of the same loudness"


def windows_of(path: str, end_seconds: float) -> tuple[Window, ...]:
    """The first, the last, and three in between that depend on nothing but the file's name."""
    length = min(_WINDOW_SECONDS, max(end_seconds, 0.04))
    seed = int.from_bytes(hashlib.sha256(os.path.basename(path).encode(
        "utf-8", "surrogateescape")).digest()[:8])  # fmt: skip
    inside = np.random.default_rng(seed).uniform(0, max(end_seconds - length, 0), 3)
    if end_seconds > 1.1 * length:
        starts = [0.0, *np.sort(inside).tolist(), end_seconds - length]
    else:
        starts = [0.0, end_seconds / 2]
    middles = (np.arange(_NUM_FRAMES) + 0.5) * length / _NUM_FRAMES
    return tuple(
        Window(start_seconds=start, duration_seconds=length, times=start + middles)
        for start in starts
    )


def compare(
    path: str, limits: Limits, index: int, window: Window, full_decode: FullDecode
) -> WindowReport:
    """Read window `index` as training does, and compare it with the whole."""
    try:
        clip = decode_clip(
            path,
            start_seconds=window.start_seconds,
            duration_seconds=window.duration_seconds,
            num_frames=_NUM_FRAMES,
            sample_rate=full_decode.audio_scan.rate or 16_000,
            audio="silence",
            limits=limits,
        )
    except ClipError as error:
        outcome, detail = "refused", f"{type(error).__name__}: {error.problem}"
    else:
        detail = _frames_differ(clip, index, full_decode.video_scan) or _audio_differs(
            clip, index, full_decode.audio_scan
        )
        outcome = "differs" if detail and detail != NOISE else "same"
    return WindowReport(
        start_seconds=window.start_seconds,
        duration_seconds=window.duration_seconds,
        outcome=outcome,
        detail=detail,
    )


def _frames_differ(clip: Clip, window: int, video_scan: VideoScan) -> str:
    for k in range(len(clip.video)):
        right = video_scan.shown[window, k]
        told = float(clip.pts_seconds[k])
        if abs(told - right.seconds) > 0.001:
            return f"the frame of {told:.3f} s instead of that of {right.seconds:.3f} s"
        rgb = clip.video[k]
        if rgb.shape[:2] != right.luma.shape:
            return f"a frame of {rgb.shape[1]}x{rgb.shape[0]} pixels"
        colours = [rgb[..., i] for i in range(3)]
        luma = sum(np.float32(w) * c for w, c in zip(right.weights, colours, strict=True))
        # What is clipped at 0 was less, at 255 more: there luma has a bound on one side only.
        is_most = np.logical_or.reduce([c == 0 for c in colours])
        is_least = np.logical_or.reduce([c == 255 for c in colours])
        more = luma - right.luma
        off = (more > _LUMA_STEPS) & ~is_most | (more < -_LUMA_STEPS) & ~is_least
        off = off[~(is_most & is_least)]
        if off.size and off.mean() > _LUMA_SHARE:
            return f"{off.mean():.1%} of the pixels differ in the frame at {told:.3f} s"
    return ""


def _audio_differs(clip: Clip, window: int, audio_scan: AudioScan) -> str:
    if not audio_scan.rate:
        return ""
    right = audio_scan.waves[window]
    if len(right) != len(clip.audio):
        return f"{len(clip.audio)} samples instead of {len(right)}"
    problem = _waves_differ(clip.audio, right, audio_scan.rate)
    audio = audio_scan.media.audio
    if problem and audio is not None and audio.codec_context.name in _DRAWS_NOISE:
        return _heard_differs(clip.audio, right, audio_scan.rate)
    return problem


def _heard_differs(
    found: Float32[np.ndarray, " s"], right: Float32[np.ndarray, " s"], rate: int
) -> str:
    """How audio differs of which one part was drawn as noise: by its waveform where no noise is
    drawn, and by its power in blocks where it is. `NOISE` where neither does."""
    (low, high), (right_low, right_high) = (_bands(wave, rate) for wave in (found, right))
    if problem := _waves_differ(low, right_low, rate, level=_level(right)):
        return problem
    block = max(round(_AUDIO_BLOCK_SECONDS * rate), 1)
    power, expected = (_powers(wave, block) for wave in (high, right_high))
    least = (_NOISE_FLOOR * _level(right)) ** 2
    off = (np.maximum(power, least) / np.maximum(expected, least)).clip(1e-9)
    worst = float(np.maximum(off, 1 / off).max(initial=1.0))
    if worst > _NOISE_RATIO:
        return f"above {_NOISE_HZ:g} Hz the audio has {worst:.1f} times another power at one place"
    return NOISE


def _bands(
    wave: Float32[np.ndarray, " s"], rate: int
) -> tuple[Float32[np.ndarray, " s"], Float32[np.ndarray, " s"]]:
    """What is below and what is above `_NOISE_HZ`."""
    spectrum = np.fft.rfft(wave)
    spectrum[np.fft.rfftfreq(len(wave), 1 / rate) > _NOISE_HZ] = 0
    low = np.fft.irfft(spectrum, len(wave)).astype(np.float32)
    return low, wave - low


def _powers(wave: Float32[np.ndarray, " s"], block: int) -> Float64[np.ndarray, " n"]:
    whole = wave[: len(wave) // block * block].astype(np.float64)
    return (whole.reshape(-1, block) ** 2).mean(axis=1)


def _level(wave: Float32[np.ndarray, " s"]) -> float:
    return max(float(np.sqrt(np.mean(wave.astype(np.float64) ** 2))), 1e-3)


def _waves_differ(
    found: Float32[np.ndarray, " s"],
    wave: Float32[np.ndarray, " s"],
    rate: int,
    level: float | None = None,
) -> str:
    level = _level(wave) if level is None else level
    block = max(round(_AUDIO_BLOCK_SECONDS * rate), 1)
    num_blocks = max(len(wave) // block, 1)
    # Where times are rounded, each stretch of audio may be off by a little of its own.
    reach = math.ceil(_AUDIO_SHIFT_SECONDS * rate)
    least = np.full(num_blocks, np.inf)
    for shift in sorted(range(-reach, reach + 1), key=abs):
        power = _difference(found, wave, shift)[: num_blocks * block] ** 2
        least = np.minimum(least, power.reshape(num_blocks, -1).mean(axis=1))
        if least.max() < (1e-3 * level) ** 2:
            return ""
    whole, worst_block = np.sqrt(least.mean()) / level, np.sqrt(least.max()) / level
    if whole > _AUDIO_WHOLE or worst_block > _AUDIO_BLOCK:
        return f"the audio differs by {whole:.0%} of its level, {worst_block:.0%} at one place"
    return ""


def _difference(
    found: Float32[np.ndarray, " s"], right: Float32[np.ndarray, " s"], shift: int
) -> Float64[np.ndarray, " s"]:
    """What remains when `found` is moved by `shift` samples; nothing at the edges."""
    size = max(len(found) - abs(shift), 0)
    moved = found[max(-shift, 0) : max(-shift, 0) + size].astype(np.float64)
    result = np.zeros(len(right))
    result[max(shift, 0) : max(shift, 0) + size] = moved
    result[max(shift, 0) : max(shift, 0) + size] -= right[max(shift, 0) : max(shift, 0) + size]
    return result


def clip_ms(path: str, limits: Limits, windows: tuple[Window, ...]) -> float | None:
    """Median time of decoding an ordinary clip; None where every one is refused."""
    times = []
    for window in windows[1:4]:
        began = time.perf_counter()
        try:
            decode_clip(
                path,
                start_seconds=window.start_seconds,
                duration_seconds=window.duration_seconds,
                num_frames=16,
                short_side=224,
                audio="silence",
                limits=limits,
            )
        except ClipError:
            continue
        times.append(1000 * (time.perf_counter() - began))
    return round(statistics.median(times), 1) if times else None
