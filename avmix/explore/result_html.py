"""What was explored, as HTML that loads nothing: images and audio are in it."""

import base64
from importlib import resources

import numpy as np
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from avmix.evaluation.clip_shots import data_url, frame_jpeg, spectrogram_png
from avmix.explore.explored_mix import ExploredMix
from avmix.system.printing import printable, shortened

_MOST_FRAMES = 8
"""Frames of a clip that are shown, evenly spaced."""
_NAME_LETTERS = 120
_ONE_LABEL = "Distance: half the sum of absolute differences; 0 is linear, 1 the most."
_SEVERAL = "Distance: the largest difference of any class; 0 is linear, 1 the most."


def result_html(
    found: ExploredMix, names: tuple[str, str], labels: tuple[str, str], *, several: bool
) -> Markup:
    """Frames, spectrograms, audio, label and predictions of a mix. Every name is escaped."""
    mixed = found.looks[2].shares
    rows = [
        {
            "name": name,
            "title": _name(title),
            "frames": _frames(look.frames) if has[0] else (),
            "spectrogram": data_url(spectrogram_png(look.log_mel)) if has[1] else None,
            "wave": _wave(wave) if has[1] and wave is not None else None,
            "note": _name(note),
        }
        for name, title, look, has, wave, note in zip(
            ("A", "B", "mix"),
            (*(f"{name}, from {start:.2f} s"
               for name, start in zip(names, found.starts_seconds, strict=True)), found.title),
            found.looks, found.has, found.waves, (*found.notes, ""), strict=True,
        )
    ]  # fmt: skip
    return Markup(_template().render(
        rows=rows,
        labels=tuple(map(_name, labels)),
        shares=[(head, *getattr(mixed, head).tolist()) for head in ("fused", "video", "audio")],
        ranked=list(zip(("A", "B", "mix"), found.ranked, strict=False)),
        distances=found.distances,
        meaning=_SEVERAL if several else _ONE_LABEL,
    ))  # fmt: skip


def style() -> str:
    """The style sheet of the page."""
    return (resources.files("avmix.explore") / "explore_page" / "explore.css").read_text("utf-8")


def _template():
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    text = resources.files("avmix.explore") / "explore_page" / "result.html.jinja"
    return environment.from_string(text.read_text("utf-8"))


def _name(text: str) -> str:
    return shortened(printable(text), _NAME_LETTERS)


def _frames(frames: np.ndarray) -> list[str]:
    places = np.unique(np.linspace(0, len(frames) - 1, min(_MOST_FRAMES, len(frames))).round())
    return [data_url(frame_jpeg(frames[int(place)])) for place in places]


def _wave(wave: bytes) -> str:
    return f"data:audio/wav;base64,{base64.b64encode(wave).decode()}"
