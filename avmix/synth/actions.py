"""Synthetic actions: the classes, the random draw of a scene, and its rendering to frames and
audio.

The toy set (`datasets/toy`) is made of them, and `avmix synth compose` draws them over real
backgrounds.

Everything random is drawn once, by `draw_world` and `draw_scene` (`action_scenes`), into frozen
values; `frames_of` (`action_frames`) and `audio_of` (`action_audio`) then render them and are
pure. Drawing takes the same numbers from its stream at every difficulty and only scales them
differently, so the knob moves the same scenes smoothly.

Pixels are x to the right and y down; frame k shows the scene at k / FPS seconds and sample k sounds
at k / RATE_HZ, on the same continuous clock on which the events happen.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from avmix.rng import rng

Motion = Literal["bounce", "swing", "spin", "pulse"]
Sound = Literal["thud", "ping", "clap", "chirp"]
Timing = Literal["together", "after", "before", "unrelated"]
Shape = Literal["bar", "triangle", "kite", "house"]
Colour = tuple[float, float, float]

SIDE_PX = 96
FPS = 25
RATE_HZ = 16_000
# 3.2 s is 80 frames and 50 whole AAC blocks of 1024 samples: no padding at the end of the audio.
NUM_FRAMES = 80
NUM_SAMPLES = NUM_FRAMES * RATE_HZ // FPS
DURATION_SECONDS = NUM_FRAMES / FPS
TIMING_SHIFT_SECONDS = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """A class: its motion, its sound, and the timing of the sound."""

    name: str
    motion: Motion | None
    """None: any, drawn per clip, so it says nothing about the class."""
    sound: Sound | None
    """None: any, drawn per clip."""
    timing: Timing


@dataclass(frozen=True, slots=True, kw_only=True)
class Ceilings:
    """Best possible accuracies with balanced classes, shares of 1."""

    fused: float
    video: float
    audio: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Backdrop:
    """What stands behind the bodies."""

    sky: Colour
    ground: Colour
    floor_y_px: float
    texture: float
    """Contrast of the blotches, share of full scale."""
    address: tuple[int, ...]
    """Where the blotches are drawn from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """What the clips of one source share."""

    shape: Shape
    size_px: float
    colour: Colour
    accent: Colour
    backdrop: Backdrop
    pitch_octaves: float
    """Pitch of its sounds, relative to the default."""
    decay: float
    """Factor on how long its sounds ring."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Body:
    """Something that moves, and when its events happen."""

    motion: Motion
    shape: Shape
    size_px: float
    colour: Colour
    accent: Colour
    centre_x_px: float
    reach: float
    """Factor on how far it moves."""
    turn: float
    """1 or -1: which way it turns or swings first."""
    tilt_radians: float
    opacity: float
    flash: float
    """How brightly an event lights it up, 0 to 1."""
    event_seconds: tuple[float, ...]
    """Ascending, from before the clip to after it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Voice:
    """Something that sounds, and when."""

    sound: Sound
    pitch_octaves: float
    decay: float
    gain: float
    onset_seconds: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """All of one clip, before it is rendered."""

    action: str
    backdrop: Backdrop
    bodies: tuple[Body, ...]
    """Back to front; the last is the actor, any other only distracts."""
    voices: tuple[Voice, ...]
    """The first is the action's audio, any other only distracts."""
    drift_px: tuple[float, float]
    """How far the camera wanders, to each side, in x and y."""
    drift_hz: tuple[float, float]
    drift_phase: tuple[float, float]
    rod_opacity: float
    """Opacity of the rod that a swinging body hangs from."""
    brightness: float
    frame_noise: float
    """Standard deviation, share of full scale."""
    peak: float
    """Peak of the action's audio, share of full scale."""
    hiss: float
    """Root mean square of the noise, relative to `peak`."""
    hiss_tilt: float
    """Exponent: the noise has the power spectrum 1 / f ** tilt."""
    address: tuple[int, ...]
    """Where the noises are drawn from."""

    @property
    def event_seconds(self) -> tuple[float, ...]:
        """Times of the actor's events that are in the clip."""
        return _inside(self.bodies[-1].event_seconds)

    @property
    def onset_seconds(self) -> tuple[float, ...]:
        """Times of the action's sounds that are in the clip."""
        return _inside(self.voices[0].onset_seconds)


# Every row and every column has two or three cells: some classes differ only to the eye (those of
# one column), some only to the ear (those of one row).
_GRID: dict[Motion, tuple[Sound, ...]] = {
    "bounce": ("thud", "ping", "clap"),
    "swing": ("ping", "clap", "chirp"),
    "spin": ("thud", "chirp"),
    "pulse": ("thud", "ping"),
}
ACTIONS = tuple(
    Action(name=f"{motion}_{sound}", motion=motion, sound=sound, timing="together")
    for motion, sounds in _GRID.items()
    for sound in sounds
)
"""The ten classes of the usual set."""
UNSEEN_ACTIONS = tuple(
    Action(name=f"{motion}_{sound}", motion=motion, sound=sound, timing="together")
    for motion, sounds in _GRID.items()
    for sound in get_args(Sound)
    if sound not in sounds
)
"""The six pairs of a motion and a sound that are none of them."""
FACTORS = (*get_args(Motion), *get_args(Sound))
"""Classes of a set whose clips are labelled with motion and sound."""
TIMING_ACTIONS = tuple(
    Action(name=timing, motion=None, sound=None, timing=timing) for timing in get_args(Timing)
)
"""The four classes of `--timing`: alike in each modality alone."""


def factors_of(action: Action) -> tuple[Motion, Sound]:
    """What is visible of an action, and what is audible; not of `TIMING_ACTIONS`, which fix
    neither."""
    assert action.motion is not None
    assert action.sound is not None
    return action.motion, action.sound


def ceilings(actions: Sequence[Action]) -> Ceilings:
    """What perfect senses could reach on `actions`, as often one as the other.

    Who sees only the motion cannot tell the classes that share it, and is right for one of them:
    as many classes as there are motions. The same holds for the sounds.
    """
    num = len(actions)
    return Ceilings(
        fused=len({(a.motion, a.sound, a.timing) for a in actions}) / num,
        video=len({a.motion for a in actions}) / num,
        audio=len({a.sound for a in actions}) / num,
    )


def stream_of(address: tuple[int, ...]) -> np.random.Generator:
    """Random numbers of an address: a seed and any indices after it."""
    seed, *index = address
    return rng(seed, 0, "synthesis", *index)


def _inside(times: tuple[float, ...]) -> tuple[float, ...]:
    return tuple(t for t in times if 0 <= t < DURATION_SECONDS)
