"""Frames and spectrograms of a few clips, small enough for a page, and the file that keeps them.

They are read once, when clips are evaluated; clip_frames.json keeps them beside the predictions, so
that the page can be written again without the clips.
"""

import base64
import io
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import matplotlib as mpl
import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from avmix.decode.parquet_cells import cells_of
from avmix.evaluation.kept_predictions import KeptPredictions
from avmix.evaluation.most_wrong import MOST_CLIPS
from avmix.system import strict_json
from avmix.system.atomic_files import replacing

NAME = "clip_frames.json"
_SIDE = 160
"""Pixels of the longer side of a frame."""
_MOST_COLUMNS, _MOST_BINS = 160, 64
"""Of a spectrogram; more are averaged."""
_MOST_BYTES = 64_000
"""Of an image: more than any that is written here."""
_JPEG, _PNG = b"\xff\xd8\xff", b"\x89PNG\r\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Shot:
    """What is shown of a clip."""

    frame: bytes | None = None
    """JPEG; None without video."""
    spectrogram: bytes | None = None
    """PNG; None without audio."""
    reason: str = ""
    """Why it cannot be shown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shots:
    """Of the clips that an evaluation is most wrong about."""

    root: Path | None = None
    """The media folder; None where it is not known."""
    clips: Mapping[str, Shot] = field(default_factory=dict)
    """By `clip_id`."""

    def link(self, path: str, start: float, end: float, folder: Path) -> str | None:
        """Relative URL of the seconds of a media file, from a page in `folder`; None where there
        is none, as of media within a Parquet file."""
        if self.root is None or cells_of(path) is not None:
            return None
        way = _way(self.root / path, folder)
        if way is None:
            return None
        return f"{quote(way, safe='/', errors='surrogateescape')}#t={start:g},{end:g}"


def _way(path: Path, folder: Path) -> str | None:
    """Relative path, with `/`; None where there is none, as to another drive."""
    try:
        return Path(os.path.relpath(path, folder)).as_posix()
    except ValueError:
        return None


def frame_jpeg(frame: UInt8[np.ndarray, "h w c"]) -> bytes:
    """A frame, at most `_SIDE` pixels long."""
    image = Image.fromarray(np.ascontiguousarray(frame))
    image.thumbnail((_SIDE, _SIDE))
    out = io.BytesIO()
    image.save(out, "JPEG", quality=80)
    return out.getvalue()


def spectrogram_png(log_mel: Float[np.ndarray, "m f"]) -> bytes:
    """A spectrogram, low frequencies at the bottom; its range is that of the colours."""
    small = _averaged(_averaged(log_mel.astype(np.float64), _MOST_BINS).T, _MOST_COLUMNS).T[::-1]
    small = np.nan_to_num(small, nan=0.0, posinf=0.0, neginf=0.0)
    low, high = small.min(), small.max()
    level = np.round(255 * (small - low) / max(high - low, 1e-9)).astype(np.uint8)
    image = Image.fromarray(level)
    colours = mpl.colormaps["magma"](np.arange(256), bytes=True)[:, :3]
    image.putpalette(colours.tobytes(), "RGB")
    out = io.BytesIO()
    image.save(out, "PNG", optimize=True)
    return out.getvalue()


def _averaged(rows: np.ndarray, most: int) -> np.ndarray:
    """At most so many rows, means of neighbours."""
    if len(rows) <= most:
        return rows
    return np.stack([part.mean(0) for part in np.array_split(rows, most)])


def write_shots(folder: Path, shots: Shots, kept: KeptPredictions) -> None:
    """Keep the shots in a folder. Raises OSError that names the file."""
    root = None if shots.root is None else _way(shots.root, folder)
    clips = {
        clip_id: {"frame": _text(shot.frame), "spectrogram": _text(shot.spectrogram),
                  "reason": shot.reason}
        for clip_id, shot in shots.clips.items()
    }  # fmt: skip
    content = {**_about(kept), "root": root, "clips": clips}
    with replacing(folder / NAME) as file:
        file.write(strict_json.dumps(content, indent=1).encode() + b"\n")


def read_shots(folder: Path, kept: KeptPredictions) -> Shots:
    """The shots that a folder keeps of the clips of these predictions; none where there are none,
    or those of another evaluation, or what is no such file."""
    try:
        found = json.loads((folder / NAME).read_bytes())
        about = _about(kept)
        if {key: found[key] for key in about} != about or len(found["clips"]) > MOST_CLIPS:
            return Shots()
        root = found["root"]
        clips = {
            str(clip_id): Shot(
                frame=_bytes(shot["frame"], _JPEG), spectrogram=_bytes(shot["spectrogram"], _PNG),
                reason=str(shot["reason"]),
            )
            for clip_id, shot in found["clips"].items()
        }  # fmt: skip
        return Shots(root=None if root is None else folder / root, clips=clips)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return Shots()


def _about(kept: KeptPredictions) -> dict[str, str]:
    """What the shots belong to."""
    return {"split_sha256": kept.split_sha256, "checkpoint_digest": kept.origin.checkpoint}


def _text(image: bytes | None) -> str | None:
    return None if image is None else base64.b64encode(image).decode()


def _bytes(text: str | None, begins: bytes) -> bytes | None:
    """Raises ValueError for what is no such image."""
    if text is None:
        return None
    image = base64.b64decode(text, validate=True)
    if not image.startswith(begins) or len(image) > _MOST_BYTES:
        raise ValueError("not such an image")
    return image


def data_url(image: bytes) -> str:
    """The image itself, as an address."""
    kind = "jpeg" if image.startswith(_JPEG) else "png"
    return f"data:image/{kind};base64,{base64.b64encode(image).decode()}"
