"""AV-MNIST: writes an image of MNIST and a recording of the spoken digit as one mp4 file."""

import math
import wave
from fractions import Fraction
from pathlib import Path

import numpy as np
from jaxtyping import Float32, UInt8

from avmix.media.write_mp4 import audio_rate, write_mp4
from avmix.prepare.annotation_rows import AnnotationError

FPS = Fraction(10)
_SCALE = 4
"""28 pixels a side become 112: codecs work in blocks of 16."""
_LEAST_SECONDS = 1


def read_idx(data: bytes, name: str) -> UInt8[np.ndarray, "..."]:
    """The array of an IDX file of bytes (LeCun's MNIST); raises `AnnotationError` beginning with
    `name` where it is not one."""
    if len(data) < 4 or data[:3] != b"\0\0\x08":
        raise AnnotationError(f"{name}: not an IDX file of unsigned bytes")
    head = 4 + 4 * data[3]
    shape = tuple(np.frombuffer(data[4:head], ">u4").tolist())
    if len(shape) != data[3] or len(data) - head != math.prod(shape):
        raise AnnotationError(
            f"{name}: {len(data) - head} bytes after its header, which says {shape}: cut short?"
        )
    return np.frombuffer(data[head:], np.uint8).reshape(shape)


def read_wav(path: Path) -> tuple[Float32[np.ndarray, " s"], int]:
    """Mono of 16 bits and its rate; raises `AnnotationError` where it is something else."""
    try:
        with wave.open(str(path)) as file:
            form = (file.getnchannels(), file.getsampwidth())
            rate_hz, data = file.getframerate(), file.readframes(file.getnframes())
    except (wave.Error, EOFError, OSError) as error:
        raise AnnotationError(f"{path}: not a WAV file: {error}") from None
    if form != (1, 2) or audio_rate(rate_hz) != rate_hz:
        raise AnnotationError(f"{path}: {form[0]} channels of {8 * form[1]} bits at {rate_hz} Hz: "
                              "must be mono, 16 bits, at a rate that AAC has")  # fmt: skip
    return np.frombuffer(data, "<i2").astype(np.float32) / 2**15, rate_hz


def write_digit(path: Path, image: UInt8[np.ndarray, "h w"], recording: Path) -> None:
    """A still image for as long as the recording, at least a second, and the recording."""
    audio, rate_hz = read_wav(recording)
    num_frames = math.ceil(max(_LEAST_SECONDS, len(audio) / rate_hz) * FPS)
    padded = np.zeros(round(num_frames * rate_hz / FPS), np.float32)
    padded[: len(audio)] = audio
    large = np.kron(image, np.ones((_SCALE, _SCALE), np.uint8))
    frames = np.broadcast_to(large[None, :, :, None], (num_frames, *large.shape, 3))
    write_mp4(path, [frames], padded, fps=FPS, rate_hz=rate_hz)
