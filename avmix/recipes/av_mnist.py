"""AV-MNIST, generated from MNIST images and spoken digits.

    avmix prepare av_mnist --annotations downloads --root data/av_mnist/clips \
        --out data/av_mnist

`--annotations` has the four IDX files of MNIST and the folder `recordings` of the Free Spoken Digit
Dataset; the clips are written to `--root`, those that are there already are kept.
"""

import gzip
import hashlib
import math
import re
import wave
from argparse import Namespace
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from fractions import Fraction
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from jaxtyping import Float32, UInt8
from rich.progress import track

from avmix.media.write_mp4 import audio_rate, write_mp4
from avmix.prepare.annotation_rows import AnnotationError, Row
from avmix.prepare.annotations import Annotations
from avmix.prepare.protocol import Protocol

VERSION = "v1"
"""Of the rule that pairs them; part of the protocol and of the stream."""
PUBLISHED = {"train": 55_000, "val": 5_000, "test": 10_000}
FILES = {"train": "train", "test": "t10k"}
FEW = 100
FPS = Fraction(10)
_SCALE = 4
"""28 pixels a side become 112: codecs work in blocks of 16."""
_LEAST_SECONDS = 1


def protocols(options: Namespace) -> list[Protocol]:
    """Pair images and recordings of one digit, write what is missing, and name the clips."""
    read = Annotations(options.annotations)
    recordings = _recordings(read)
    todo: list[tuple[Path, np.ndarray, Path]] = []
    for kind in FILES:
        images, labels = _mnist(read, kind)
        for number, (image, digit) in enumerate(zip(images, labels, strict=True)):
            split = _split(kind, number, len(images))
            path = _clip(read, split, number, int(digit), recordings)
            if not (Path(options.media) / path[0]).exists():
                todo.append((Path(options.media) / path[0], image, path[1]))
    _write(todo, options.workers)
    classes = [str(digit) for digit in range(10)]
    return [read.protocol(f"av_mnist/{VERSION}", classes, published=PUBLISHED, needs_audio=True)]


def _split(kind: str, number: int, count: int) -> str:
    """The last twelfth of the training images (5,000 of 60,000) is val."""
    return "test" if kind == "test" else "val" if number >= count - count // 12 else "train"


def _mnist(read: Annotations, kind: str) -> tuple[np.ndarray, np.ndarray]:
    arrays: list[np.ndarray] = []
    for what, axes in (("images", 3), ("labels", 1)):
        stem = f"{FILES[kind]}-{what}"
        names = [f"{stem}{sign}idx{axes}-ubyte{end}" for sign in "-." for end in ("", ".gz")]
        path = read.need(*names)
        data = read.data(path)
        try:
            data = gzip.decompress(data) if path.suffix == ".gz" else data
        except (OSError, EOFError) as error:
            raise AnnotationError(f"{path}: not a gzip file, or cut short: {error}") from None
        arrays.append(read_idx(data, str(path)))
    images, labels = arrays
    if images.ndim != 3 or labels.ndim != 1 or len(images) != len(labels) or (labels > 9).any():
        raise AnnotationError(f"{read.folder}: {images.shape} images and {labels.shape} labels")
    return images, labels


def _recordings(read: Annotations) -> dict[tuple[str, int], list[Path]]:
    """By split and digit, sorted; the 5 takes that FSDD tests on, the next 5 for val."""
    found: dict[tuple[str, int], list[Path]] = {}
    for path in sorted(read.folder.rglob("*.wav")):
        name = re.fullmatch(r"(\d)_\w+_(\d+)\.wav", path.name)
        if name is None:
            read.remark(path.name, "not DIGIT_SPEAKER_TAKE.wav", dropped=True)
            continue
        read.data(path)
        split = {0: "test", 1: "val"}.get(int(name[2]) // 5, "train")
        found.setdefault((split, int(name[1])), []).append(path)
    return found


def _clip(
    read: Annotations,
    split: str,
    number: int,
    digit: int,
    recordings: dict[tuple[str, int], list[Path]],
) -> tuple[str, Path]:
    choice = recordings.get((split, digit))
    if not choice:
        raise AnnotationError(f"{read.folder}: no recording of {digit} for {split}")
    address = hashlib.sha256(f"av_mnist/{VERSION}/{split}/{number}".encode()).digest()
    recording = choice[int.from_bytes(address[:8], "big") % len(choice)]
    path = f"{split}/{number:05d}_{recording.stem}.mp4"
    read.add(
        Row(cells={}, where=f"{FILES.get(split, 'train')}:{number}", text=path),
        clip_id=f"{split}/{number:05d}",
        split=split,
        labels=[str(digit)],
        source_id=recording.stem,  # recordings are used many times, images once
        names=[path],
    )
    return path, recording


def _write(todo: Sequence[tuple[Path, np.ndarray, Path]], workers: int) -> None:
    if len(todo) < FEW:
        for path, image, recording in todo:
            write_digit(path, image, recording)
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        done = pool.map(write_digit, *zip(*todo, strict=True), chunksize=32)
        for _ in track(done, "writing clips", total=len(todo)):
            pass


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
