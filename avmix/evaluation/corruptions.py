"""Corruptions of a decoded window: pure functions of frames or of a waveform, and of a level.

They act on what the network is given, frames of `clip.crop` pixels and the waveform of the window,
before the front end. Where something is random it comes from a stream; the same stream gives the
same noise at every level, so that the levels of a curve differ in nothing else.

Frames are uint8 (t h w c), waveforms float32 (s) or (2, s). No input is modified. Audio that is
silent (below -80 dB of full scale) stays as it is: it has no signal-to-noise ratio.
"""

import math
from collections.abc import Sequence
from fractions import Fraction

import av
import numpy as np
import torch
from av.video.codeccontext import VideoCodecContext
from jaxtyping import Float32, UInt8
from torchvision.io import decode_jpeg, encode_jpeg
from torchvision.transforms.v2 import functional as F

from avmix.augment.audio_transforms import SILENCE, AudioPlan, Background, Band, Noise, Room
from avmix.augment.audio_transforms import apply_audio as apply_plan

Frames = UInt8[np.ndarray, "t h w c"]
Wave = Float32[np.ndarray, "*c s"]

GAMMA = 2.2
"""Between light and pixel values, about that of sRGB."""
PREDELAY_SECONDS = 0.020
DIRECT_TO_REVERBERANT_DB = 0.0
_X264 = {
    "preset": "veryfast",
    # What looks ahead has given other bytes for the same frames now and then, in one thread too.
    "x264-params": "mbtree=0:rc-lookahead=0:sync-lookahead=0",
}
_LEAST_PIXELS = 16
"""Of a side: a macroblock of H.264."""


def white_noise(audio: Wave, snr_db: float, stream: np.random.Generator, sample_rate: int) -> Wave:
    """White noise added, another in each channel, at `snr_db` of power over the whole window."""
    noise = Noise(snr_db=snr_db, tilt=0.0, seed=_seed(stream))
    return apply_plan(audio, AudioPlan(noise=noise), sample_rate)


def babble(audio: Wave, snr_db: float, voices: Sequence[Wave], sample_rate: int) -> Wave:
    """The audio of other clips added: each scaled to the same power, their sum to `snr_db`.

    Silent ones are left out; without any the audio stays as it is.
    """
    powers = [float(np.mean(np.square(voice, dtype=np.float64))) for voice in voices]
    loud = [
        voice / np.float32(math.sqrt(power))
        for voice, power in zip(voices, powers, strict=True)
        if power > SILENCE**2
    ]
    if not loud:
        return audio.copy()
    # Its row and place are those of a file that is read in training; here the audio is given.
    under = Background(row=0, place=0.0, snr_db=snr_db)
    return apply_plan(audio, AudioPlan(background=under), sample_rate, np.sum(loud, axis=0))


def reverberation(
    audio: Wave, rt60_seconds: float, stream: np.random.Generator, sample_rate: int
) -> Wave:
    """The window as in a room that takes `rt60_seconds` to be 60 dB weaker, with as much energy
    after the direct sound as in it (`avmix.augment.audio_transforms.impulse_response`)."""
    room = Room(rt60_seconds=rt60_seconds, predelay_seconds=PREDELAY_SECONDS,
                wet_db=-DIRECT_TO_REVERBERANT_DB, seed=_seed(stream))  # fmt: skip
    return apply_plan(audio, AudioPlan(room=room), sample_rate)


def low_pass(audio: Wave, cutoff_hz: float, sample_rate: int) -> Wave:
    """What is above `cutoff_hz` removed, 12 dB an octave, without delay."""
    return apply_plan(audio, AudioPlan(band=Band(low_hz=None, high_hz=cutoff_hz)), sample_rate)


def silenced(audio: Wave, first: int, stop: int) -> Wave:
    """Zeros but for the samples [first, stop)."""
    kept = np.zeros_like(audio)
    kept[..., first:stop] = audio[..., first:stop]
    return kept


def gaussian_blur(frames: Frames, sigma_percent: float) -> Frames:
    """Blurred by a Gaussian whose deviation is `sigma_percent` of the shorter side, cut off at
    three deviations; the frame is mirrored at its edges."""
    side = min(frames.shape[1:3])
    sigma = sigma_percent / 100 * side
    reach = min(math.ceil(3 * sigma), side - 1)
    planes = torch.from_numpy(frames).permute(0, 3, 1, 2)
    blurred = F.gaussian_blur(planes, [2 * reach + 1] * 2, [sigma, sigma])
    return blurred.permute(0, 2, 3, 1).contiguous().numpy()


def jpeg(frames: Frames, quality: float) -> Frames:
    """Each frame written and read again as JPEG of `quality` 1 to 100, chroma at half the size."""
    planes = torch.from_numpy(frames).permute(0, 3, 1, 2)
    again: list[torch.Tensor] = []
    for plane in planes:
        packed = encode_jpeg(plane.contiguous(), int(quality))
        assert isinstance(packed, torch.Tensor)  # a list where it is given one
        found = decode_jpeg(packed)
        assert isinstance(found, torch.Tensor)
        again.append(found)
    return torch.stack(again).permute(0, 2, 3, 1).contiguous().numpy()


def h264(frames: Frames, crf: float, frames_per_second: Fraction) -> Frames:
    """The frames written and read again as one H.264 video (x264, 4:2:0) of constant rate factor
    `crf`, 0 to 51. Raises RuntimeError where the codec does not give as many frames back."""
    height, width = frames.shape[1:3]
    rows, columns = (max(_LEAST_PIXELS, side + side % 2) for side in (height, width))
    padded = np.pad(frames, ((0, 0), (0, rows - height), (0, columns - width), (0, 0)), "edge")
    encoder = av.CodecContext.create("libx264", "w")
    decoder = av.CodecContext.create("h264", "r")
    assert isinstance(encoder, VideoCodecContext)
    assert isinstance(decoder, VideoCodecContext)
    encoder.width, encoder.height, encoder.pix_fmt = columns, rows, "yuv420p"
    encoder.time_base, encoder.framerate = 1 / frames_per_second, frames_per_second
    encoder.thread_count = decoder.thread_count = 1  # the bytes must not depend on the cores
    encoder.options = {**_X264, "crf": f"{crf:g}"}
    packets = []
    for number, pixels in enumerate(padded):
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
        frame.pts, frame.time_base = number, encoder.time_base
        packets += encoder.encode(frame.reformat(format="yuv420p"))
    packets += encoder.encode(None)
    found = [frame for packet in packets for frame in decoder.decode(packet)]
    found += decoder.decode(None)
    if len(found) != len(frames):
        raise RuntimeError(f"H.264 gave {len(found)} frames for {len(frames)}")
    again = [frame.to_ndarray(format="rgb24")[:height, :width] for frame in found]
    return np.ascontiguousarray(np.stack(again))


def darkened(frames: Frames, stops: float) -> Frames:
    """As with 2 ** -`stops` of the light: pixel values, which are light ** (1 / 2.2), times
    2 ** (-stops / 2.2), rounded to 8 bits. The noise of a camera in the dark is not added."""
    table = np.rint(np.arange(256) * 2 ** (-stops / GAMMA)).astype(np.uint8)
    return table[frames]


def frames_lost(frames: Frames, percent: float, stream: np.random.Generator) -> Frames:
    """Each frame but the first lost with this probability; the last one before it that was not
    lost is shown in its place."""
    lost = stream.random(len(frames)) < percent / 100
    lost[0] = False
    shown = np.maximum.accumulate(np.where(lost, 0, np.arange(len(frames))))
    return frames[shown]


def _seed(stream: np.random.Generator) -> int:
    return int(stream.integers(2**32))
