"""Downmix of decoded audio to mono or stereo, with the same level for every channel layout."""

from functools import cache
from typing import Any

import numpy as np
from av.audio.frame import AudioFrame
from av.audio.layout import AudioLayout
from av.audio.resampler import AudioResampler
from jaxtyping import Float32, Shaped

from avmix.decode.errors import DecodeError

MAX_SAMPLE = 1000.0
"""Times full scale, 60 dB above it: what no recording and no codec comes near to."""
_NUMBERS = {
    name + suffix: np.dtype(kind)
    for name, kind in {
        "u8": "u1", "s16": "i2", "s32": "i4", "s64": "i8", "flt": "f4", "dbl": "f8"
    }.items()
    for suffix in ("", "p")
}  # fmt: skip
"""Sample formats of libav, packed and planar, and numpy."""
_LEFT = frozenset(
    ["FL", "FLC", "BL", "SL", "TFL", "TBL", "TSL", "BFL", "DL", "WL", "SDL", "SSL", "TTL", "BIL"]
)
_RIGHT = frozenset(
    ["FR", "FRC", "BR", "SR", "TFR", "TBR", "TSR", "BFR", "DR", "WR", "SDR", "SSR", "TTR", "BIR"]
)
"""libav's names of the channels on either side; all others (FC, BC, TC ...) are on none."""
_UNNAMED = "NONE"
"""libav's name of a channel of which only the number is known."""
_UNSAFE_CHANNELS = 8
"""PyAV 18.1 reads beyond the end when it is asked for so many planes; packed it is safe."""

Channels = tuple[Shaped[np.ndarray, " n"], ...]
"""The samples of a frame, channel by channel, in the number format of the file."""


def check_samples(path: str, *channels: Shaped[np.ndarray, "..."]) -> None:
    """Raises `DecodeError` where float samples are not finite, or beyond `MAX_SAMPLE`: they would
    make every result of the clip nan, and numbers of integers are never so large."""
    for samples in channels:
        # Not a comparison of the absolute values: nan must not pass.
        if samples.dtype.kind == "f" and not (
            samples.min(initial=0) >= -MAX_SAMPLE and samples.max(initial=0) <= MAX_SAMPLE
        ):
            limit = f"{MAX_SAMPLE:g} times full scale"
            raise DecodeError(path, f"its audio holds samples not finite, or beyond {limit}")


def channels_of(frame: AudioFrame) -> Channels:
    """The samples of a frame, without copying them."""
    form, num_channels = frame.format, frame.layout.nb_channels
    kind, is_planar = _NUMBERS[form.name], form.is_planar
    if is_planar and num_channels >= _UNSAFE_CHANNELS:
        packer = AudioResampler(format=form.packed.name, layout=frame.layout)
        parts = [
            _numbers(f.planes[0], kind, f.samples * num_channels) for f in packer.resample(frame)
        ]
        packed = np.concatenate(parts)
    elif is_planar:
        num_samples = frame.samples
        return tuple([_numbers(plane, kind, num_samples) for plane in frame.planes])
    else:
        packed = _numbers(frame.planes[0], kind, frame.samples * num_channels)
    return tuple(packed[channel::num_channels] for channel in range(num_channels))


def _numbers(plane: Any, kind: np.dtype[Any], count: int) -> Shaped[np.ndarray, " n"]:
    return np.frombuffer(plane, kind, count)


def mono(channels: Channels, layout: str) -> Float32[np.ndarray, " s"]:
    """Mean of the channels without the LFE, full scale 1.

    The downmix of libav adds channels up: the same content comes out 3 times as loud in 5.1 as in
    mono. A mean keeps the level, whatever the layout.
    """
    return _mean(channels, _downmixed_channels(layout))


def stereo(channels: Channels, layout: str) -> Float32[np.ndarray, "2 s"]:
    """Left: the mean of the channels on the left and of those on neither side; right likewise.

    The same content is as loud as in the mono mix. A layout that knows no sides gives the mono mix
    twice, but two channels of which it says nothing are left and right.
    """
    left, right = _side_channels(layout)
    mix = _mean(channels, left)
    return np.stack([mix, mix if left == right else _mean(channels, right)])


def downmixed_channels(channels: Channels, layout: str) -> Float32[np.ndarray, "c s"]:
    """The channels that `mono` is the mean of, each at full scale 1."""
    return np.stack([_mean(channels, (channel,)) for channel in _downmixed_channels(layout)])


def _mean(channels: Channels, downmixed_channels: tuple[int, ...]) -> Float32[np.ndarray, " s"]:
    """Mean of some channels, full scale 1."""
    share = np.float32(1 / len(downmixed_channels))
    mix = np.multiply(channels[downmixed_channels[0]], share, dtype=np.float32)
    for channel in downmixed_channels[1:]:
        mix += np.multiply(channels[channel], share, dtype=np.float32)
    kind = channels[0].dtype
    if kind == np.uint8:
        return (mix - 128) / 128
    return mix / np.float32(2.0 ** (8 * kind.itemsize - 1)) if kind.kind == "i" else mix


@cache
def _downmixed_channels(layout: str) -> tuple[int, ...]:
    """Which channels of a layout a mix is made of."""
    names = [channel.name for channel in AudioLayout(layout).channels]
    downmixed_channels = tuple(i for i, name in enumerate(names) if not name.startswith("LFE"))
    return downmixed_channels or tuple(range(len(names)))


@cache
def _side_channels(layout: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Which channels of a layout are heard on the left, and on the right."""
    names = [channel.name for channel in AudioLayout(layout).channels]
    downmixed_channels = _downmixed_channels(layout)
    if names == [_UNNAMED] * 2:
        return (0,), (1,)
    left, right = (
        tuple(i for i in downmixed_channels if names[i] not in other) for other in (_RIGHT, _LEFT)
    )
    # Of a single channel on one side, the other ear hears it too: half a file is not silence.
    return left or downmixed_channels, right or downmixed_channels
