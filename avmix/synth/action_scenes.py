"""Scenes of synthetic actions: random choices, drawn once from a seed into frozen values."""

import colorsys
from collections.abc import Sequence
from typing import TypeVar, get_args

import numpy as np

from avmix.synth.actions import (
    DURATION_SECONDS,
    SIDE_PX,
    TIMING_SHIFT_SECONDS,
    Action,
    Backdrop,
    Body,
    Colour,
    Motion,
    Scene,
    Shape,
    Sound,
    Voice,
    World,
    stream_of,
)

T = TypeVar("T")
_LEAD_SECONDS = 1.6  # events are drawn this far before and after the clip: it starts mid-motion


def draw_world(address: tuple[int, ...], *, difficulty: float) -> World:
    """Draw what a source looks and sounds like; `address` is a seed and any indices after it."""
    stream = stream_of(address)
    loose = 0.3 + 0.7 * difficulty
    hue = stream.random()
    backdrop_hue = hue + stream.uniform(0.25, 0.75)
    dark = stream.random() < 0.5
    sky = _colour(backdrop_hue, 0.35, 0.25 if dark else 0.85)
    ground = _colour(backdrop_hue + stream.uniform(-0.1, 0.1), 0.4, 0.17 if dark else 0.66)
    # Less contrast: the colour moves towards that of the sky.
    veil = 0.5 * difficulty * stream.random()
    colour = _blend(_colour(hue, 0.75, 0.95 if dark else 0.6), sky, veil)
    accent = _blend(_colour(hue + 0.5, 0.25, 0.25 if dark else 0.98), sky, veil)
    return World(
        shape=_pick(stream, get_args(Shape)),
        size_px=SIDE_PX * (0.145 + 0.045 * loose * stream.uniform(-1, 1)),
        colour=colour,
        accent=accent,
        backdrop=Backdrop(
            sky=sky,
            ground=ground,
            floor_y_px=SIDE_PX * (0.84 + 0.06 * loose * stream.uniform(-1, 1)),
            texture=0.3 * difficulty * stream.uniform(0.3, 1),
            address=(*address, 1),
        ),
        pitch_octaves=loose * stream.uniform(-1, 1),
        decay=2.0 ** (loose * stream.uniform(-1, 1)),
    )


def draw_scene(
    address: tuple[int, ...], *, action: Action, world: World, difficulty: float
) -> Scene:
    """Draw a clip of `action` in `world`."""
    stream = stream_of(address)
    loose = 0.3 + 0.7 * difficulty
    motion = _pick(stream, get_args(Motion)) if action.motion is None else action.motion
    sound = _pick(stream, get_args(Sound)) if action.sound is None else action.sound
    # Every motion has the same rhythms, or the ear could tell them. The timing classes need room
    # for a shift to both sides of an event.
    usual, octaves = (1.0, 0.3) if action.motion is None else (0.7, 0.5)
    events = _draw_times(stream, usual * 2 ** (octaves * loose * stream.uniform(-1, 1)))
    other = _draw_times(stream, usual * 2 ** (octaves * loose * stream.uniform(-1, 1)))
    match action.timing:
        case "together":
            onsets = events
        case "after":
            onsets = tuple(round(t + TIMING_SHIFT_SECONDS, 6) for t in events)
        case "before":
            onsets = tuple(round(t - TIMING_SHIFT_SECONDS, 6) for t in events)
        case "unrelated":
            onsets = other
    actor = Body(
        motion=motion,
        shape=world.shape,
        size_px=world.size_px,
        colour=world.colour,
        accent=world.accent,
        centre_x_px=SIDE_PX * (0.5 + 0.16 * loose * stream.uniform(-1, 1)),
        reach=1 - 0.5 * difficulty * stream.random(),
        turn=_pick(stream, (-1.0, 1.0)),
        tilt_radians=0.6 * loose * stream.uniform(-1, 1),
        opacity=1.0,
        flash=1 - difficulty * stream.random(),
        event_seconds=events,
    )
    stranger_hue = stream.random()
    stranger = Body(
        motion=_pick(stream, [m for m in get_args(Motion) if m != motion]),
        shape=_pick(stream, get_args(Shape)),
        size_px=world.size_px * stream.uniform(0.45, 0.7),
        colour=_colour(stranger_hue, 0.6, 0.7),
        accent=_colour(stranger_hue + 0.5, 0.3, 0.9),
        centre_x_px=SIDE_PX * stream.uniform(0.12, 0.88),
        reach=stream.uniform(0.5, 1),
        turn=_pick(stream, (-1.0, 1.0)),
        tilt_radians=stream.uniform(-0.6, 0.6),
        opacity=min(1.0, 1.1 * difficulty * stream.random()),
        flash=0.0,
        event_seconds=_draw_times(stream, 0.7 * 2 ** stream.uniform(-0.5, 0.5)),
    )
    voices = (
        Voice(
            sound=sound,
            pitch_octaves=world.pitch_octaves + 0.15 * loose * stream.uniform(-1, 1),
            decay=world.decay,
            gain=1.0,
            onset_seconds=onsets,
        ),
        Voice(
            sound=_pick(stream, [s for s in get_args(Sound) if s != sound]),
            pitch_octaves=stream.uniform(-1, 1),
            decay=2.0 ** stream.uniform(-1, 1),
            gain=1.0 * difficulty * stream.random(),
            onset_seconds=_draw_times(stream, 0.7 * 2 ** stream.uniform(-0.5, 0.5)),
        ),
    )
    return Scene(
        action=action.name,
        backdrop=world.backdrop,
        bodies=(stranger, actor),
        voices=voices,
        drift_px=_pair(stream, 0.0, 8.0 * difficulty),
        drift_hz=_pair(stream, 0.1, 0.5),
        drift_phase=_pair(stream, 0.0, 2 * np.pi),
        rod_opacity=0.8 * (1 - 0.9 * difficulty),
        brightness=1 + 0.4 * difficulty * stream.uniform(-1, 1),
        frame_noise=0.1 * difficulty * stream.random(),
        peak=float(10 ** ((-3 - 24 * difficulty * stream.random()) / 20)),
        hiss=0.4 * difficulty * difficulty * stream.uniform(0.2, 1),
        hiss_tilt=stream.uniform(0, 1.5),
        address=(*address, 1),
    )


def _draw_times(stream: np.random.Generator, period_seconds: float) -> tuple[float, ...]:
    """Times of a beat with a random phase, each a little off.

    The phase is uniform, so the process is stationary: shifting it in time leaves its distribution
    as it was, which is what keeps the timing classes alike to each sense alone.
    """
    num = int(np.ceil((DURATION_SECONDS + 2 * _LEAD_SECONDS) / period_seconds)) + 2
    # A fixed count of draws, so that what is drawn next does not depend on the period.
    jitter = stream.uniform(-0.12, 0.12, 64)[:num]
    first = -_LEAD_SECONDS - period_seconds * stream.random()
    return tuple(round(float(t), 6) for t in first + (np.arange(num) + jitter) * period_seconds)


def _pick(stream: np.random.Generator, choices: Sequence[T]) -> T:
    return choices[int(stream.integers(len(choices)))]


def _pair(stream: np.random.Generator, low: float, high: float) -> tuple[float, float]:
    return float(stream.uniform(low, high)), float(stream.uniform(low, high))


def _colour(hue: float, saturation: float, value: float) -> Colour:
    return colorsys.hsv_to_rgb(hue % 1, saturation, value)


def _blend(one: Colour, other: Colour, share: float) -> Colour:
    r, g, b = (a + share * (z - a) for a, z in zip(one, other, strict=True))
    return r, g, b
