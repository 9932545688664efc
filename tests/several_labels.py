"""A tiny dataset with several labels a clip, some visible and some audible, for tests.

Four classes: `red` is only ever visible, `rise` only audible; `green` and `blue` are visible as a
patch of that colour and audible as a tone and as clicks, each of which a clip may have without the
other. What is there is drawn for every clip and modality by itself. A network can tell all of it:
the average precision of a perfect one is 1 in every row.
"""

from dataclasses import replace
from pathlib import Path

import av
import numpy as np

from avmix.data.manifest import write_manifest
from avmix.media.judgement import entry_of
from avmix.types import Entry

CLASSES = ("red", "green", "blue", "rise")
COLOURS = {"red": (230, 30, 30), "green": (30, 230, 30), "blue": (40, 40, 240)}
SOUNDS = ("green", "blue", "rise")
FPS, NUM_FRAMES, SECONDS, RATE, SIZE, CELLS = 12, 7, 0.6, 8000, 32, 4


def wave_of(audible: list[str], draw: np.random.Generator) -> np.ndarray:
    """The mono waveform of these classes."""
    time = np.arange(round(RATE * SECONDS)) / RATE
    wave = 0.003 * draw.standard_normal(len(time))
    if "green" in audible:
        wave += 0.2 * np.sin(2 * np.pi * draw.uniform(600, 1000) * time)
    if "blue" in audible:
        clicks = np.zeros(len(time))
        clicks[int(draw.integers(400)) :: 800] = 6.0
        wave += 0.2 * np.convolve(clicks, draw.standard_normal(24), "same") / 4
    if "rise" in audible:
        low = draw.uniform(500, 900)
        wave += 0.2 * np.sin(2 * np.pi * (low * time + 2000 * time**2))
    return wave


def frames_of(visible: list[str], number: int) -> list[np.ndarray]:
    """Noise with a moving patch of each colour."""
    draw, side = np.random.default_rng([number, 2]), SIZE // CELLS
    cells = draw.permutation(CELLS * CELLS)[: len(visible)]
    frames = [draw.integers(90, 120, (SIZE, SIZE, 3), np.uint8) for _ in range(NUM_FRAMES)]
    for t, image in enumerate(frames):
        for name, cell in zip(visible, cells, strict=True):
            row, column = divmod(int(cell), CELLS)
            x = (column * side + t) % (SIZE - side)
            image[row * side : (row + 1) * side, x : x + side] = COLOURS[name]
    return frames


def write_clip(
    path: Path, visible: list[str] | None, audible: list[str] | None, number: int
) -> None:
    """A file of what is visible and audible; None: it has no such stream."""
    with av.open(path, "w") as container:
        video = audio = None
        if visible is not None:
            video = container.add_stream("mpeg4", rate=FPS, options={"qscale": "2"})
            video.width = video.height = SIZE
            video.pix_fmt = "yuv420p"
        if audible is not None:
            audio = container.add_stream("pcm_s16le", rate=RATE, layout="mono")
        if video is not None and visible is not None:
            for image in frames_of(visible, number):
                container.mux(video.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
            container.mux(video.encode())
        if audio is not None and audible is not None:
            wave = wave_of(audible, np.random.default_rng(number))
            samples = (wave * 20_000).clip(-32_767, 32_767).astype(np.int16)
            frame = av.AudioFrame.from_ndarray(samples[None], "s16", "mono")
            frame.sample_rate = RATE
            container.mux([*audio.encode(frame), *audio.encode()])


def entry_of_clip(folder: Path, number: int, *, unknown: float = 0.0) -> Entry:
    """Write the clip of this number and return its row; every label is unknown with the probability
    `unknown`. Every sixth clip has no audio."""
    draw = np.random.default_rng([number, 1])
    has_audio = number % 6 != 5
    visible = [name for name in COLOURS if draw.random() < 0.45] or ["red"]
    audible = [name for name in SOUNDS if draw.random() < 0.45] if has_audio else []
    path = folder / f"{number}.mkv"
    write_clip(path, visible, audible if has_audio else None, number)
    hidden = [name for name in CLASSES if draw.random() < unknown]
    visible, audible = ([n for n in some if n not in hidden] for some in (visible, audible))
    labels = [n for n in CLASSES if n in (*visible, *audible)]
    if not (labels or hidden):
        hidden = ["red"]
    entry = entry_of(path, folder, clip_id=path.name, labels=labels or ["red"],
                     source_id=path.name)  # fmt: skip
    return replace(entry, labels=tuple(labels), video_labels=tuple(visible),
                   audio_labels=tuple(audible), unknown_labels=tuple(hidden))  # fmt: skip


def write_set(folder: Path, splits: dict[str, int], unknown: float = 0.0) -> Path:
    """So many clips in each split; labels are unknown in the train split only."""
    folder.mkdir(parents=True)
    found: dict[str, list[Entry]] = {}
    number = 0
    for split, count in splits.items():
        share = unknown if split == "train" else 0.0
        found[split] = [entry_of_clip(folder, number + i, unknown=share) for i in range(count)]
        number += count
    write_manifest(folder, classes=CLASSES, protocol="several", splits=found)
    return folder
