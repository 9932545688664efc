"""Synthetic actions: the classes, the random draw of a scene, and its rendering to frames and
audio.

The toy set (`datasets/toy`) is made of them, and `avmix synth compose` draws them over real
backgrounds.

Everything random is drawn once, by `draw_world` and `draw_scene`, into frozen values;
`frames_of` and `audio_of` then render them and are pure. Drawing takes the same numbers from its
stream at every difficulty and only scales them differently, so the knob moves the same scenes
smoothly.

Pixels are x to the right and y down; frame k shows the scene at k / FPS seconds and sample k sounds
at k / RATE_HZ, on the same continuous clock on which the events happen.
"""

import colorsys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar, get_args

import numpy as np
from jaxtyping import Float32, UInt8

from avmix.rng import rng

Motion = Literal["bounce", "swing", "spin", "pulse"]
Sound = Literal["thud", "ping", "clap", "chirp"]
Timing = Literal["together", "after", "before", "unrelated"]
Shape = Literal["bar", "triangle", "kite", "house"]
T = TypeVar("T")
Colour = tuple[float, float, float]

SIDE_PX = 96
FPS = 25
RATE_HZ = 16_000
# 3.2 s is 80 frames and 50 whole AAC blocks of 1024 samples: no padding at the end of the audio.
NUM_FRAMES = 80
NUM_SAMPLES = NUM_FRAMES * RATE_HZ // FPS
DURATION_SECONDS = NUM_FRAMES / FPS
TIMING_SHIFT_SECONDS = 0.25

_MARGIN_PX = 14  # of backdrop on every side, for the camera to drift over
_LEAD_SECONDS = 1.6  # events are drawn this far before and after the clip: it starts mid-motion


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
TIMING_ACTIONS = tuple(
    Action(name=timing, motion=None, sound=None, timing=timing) for timing in get_args(Timing)
)
"""The four classes of `--timing`: alike in each modality alone."""


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


# ---------------------------------------------------------------------------------------- drawing


def draw_world(address: tuple[int, ...], *, difficulty: float) -> World:
    """Draw what a source looks and sounds like; `address` is a seed and any indices after it."""
    stream = _stream(address)
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
    stream = _stream(address)
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


def _stream(address: tuple[int, ...]) -> np.random.Generator:
    seed, *index = address
    return rng(seed, 0, "synthesis", *index)


def _pick(stream: np.random.Generator, choices: Sequence[T]) -> T:
    return choices[int(stream.integers(len(choices)))]


def _pair(stream: np.random.Generator, low: float, high: float) -> tuple[float, float]:
    return float(stream.uniform(low, high)), float(stream.uniform(low, high))


def _colour(hue: float, saturation: float, value: float) -> Colour:
    return colorsys.hsv_to_rgb(hue % 1, saturation, value)


def _blend(one: Colour, other: Colour, share: float) -> Colour:
    r, g, b = (a + share * (z - a) for a, z in zip(one, other, strict=True))
    return r, g, b


def _inside(times: tuple[float, ...]) -> tuple[float, ...]:
    return tuple(t for t in times if 0 <= t < DURATION_SECONDS)


# --------------------------------------------------------------------------------------- frames

# Corners in units of the size, clockwise on the screen, upright; all longer than wide, so that a
# turn is seen.
_CORNERS: dict[Shape, tuple[tuple[float, float], ...]] = {
    "bar": ((-0.45, -1.1), (0.45, -1.1), (0.45, 1.1), (-0.45, 1.1)),
    "triangle": ((0.0, -1.25), (0.9, 0.85), (-0.9, 0.85)),
    "kite": ((0.0, -1.25), (0.75, -0.2), (0.0, 1.0), (-0.75, -0.2)),
    "house": ((0.0, -1.2), (0.7, -0.4), (0.7, 0.9), (-0.7, 0.9), (-0.7, -0.4)),
}
_FLASH_SECONDS = 0.07
_NUM_GRAINS = 16
_NUM_AT_ONCE = 8  # frames; few enough to stay in the processor's cache


@dataclass(frozen=True, slots=True, kw_only=True)
class _Poses:
    """Where a body is in every frame, float32 of (t,)."""

    x_px: np.ndarray
    y_px: np.ndarray
    angle_radians: np.ndarray
    """Clockwise."""
    width: np.ndarray
    """Factors on its size."""
    height: np.ndarray
    flash: np.ndarray


def frames_of(
    scene: Scene, behind: UInt8[np.ndarray, "t h w c"] | None = None
) -> UInt8[np.ndarray, "t h w c"]:
    """Render the frames, RGB; `behind`: over these frames in place of the scene's backdrop.

    Raises ValueError where they are not NUM_FRAMES squares of SIDE_PX, or the scene's camera
    drifts: that of the frames does not.
    """
    if behind is not None and behind.shape != (NUM_FRAMES, SIDE_PX, SIDE_PX, 3):
        raise ValueError(f"behind must be {NUM_FRAMES} squares of {SIDE_PX}, got {behind.shape}")
    if behind is not None and scene.drift_px != (0.0, 0.0):
        raise ValueError(f"a scene over frames must not drift, got {scene.drift_px} pixels")
    seconds = np.arange(NUM_FRAMES) / FPS
    drift_x, drift_y = (
        (reach * np.sin(2 * np.pi * hz * seconds + phase)).astype(np.float32)
        for reach, hz, phase in zip(scene.drift_px, scene.drift_hz, scene.drift_phase, strict=True)
    )
    xs = np.arange(SIDE_PX, dtype=np.float32) + drift_x[:, None]
    ys = np.arange(SIDE_PX, dtype=np.float32) + drift_y[:, None]
    bodies = [body for body in scene.bodies if body.opacity > 0.02]
    # A few sheets of grain, used again and again in random order: drawing is what costs.
    stream = _stream((*scene.address, 0))
    grain = stream.standard_normal((_NUM_GRAINS, SIDE_PX, SIDE_PX), dtype=np.float32)
    grain *= np.float32(255 * scene.frame_noise)
    sheets = stream.permutation(NUM_FRAMES) % _NUM_GRAINS

    image = _image(scene.backdrop)
    images = np.empty((NUM_FRAMES, SIDE_PX, SIDE_PX, 3), dtype=np.uint8)
    for start in range(0, NUM_FRAMES, _NUM_AT_ONCE):
        frames = slice(start, start + _NUM_AT_ONCE)
        # Planar, (c, t, h, w): every step runs over contiguous memory.
        if behind is None:
            frame = _view(image, drift_x[frames], drift_y[frames])
        else:
            planes = behind[frames].transpose(3, 0, 1, 2).astype(np.float32)
            frame = np.ascontiguousarray(planes) / np.float32(255)
        for body in bodies:
            _paint(frame, body, scene, seconds[frames], xs[frames], ys[frames])
        frame *= np.float32(255 * scene.brightness)
        frame += grain[sheets[frames]] + np.float32(0.5)
        np.clip(frame, 0, 255, out=frame)
        images[frames] = frame.astype(np.uint8).transpose(1, 2, 3, 0)
    return images


def _image(backdrop: Backdrop) -> Float32[np.ndarray, "c h w"]:
    """The whole backdrop, with a margin on every side."""
    side = SIDE_PX + 2 * _MARGIN_PX
    y = np.arange(side, dtype=np.float32) - _MARGIN_PX
    sky = np.array(backdrop.sky, dtype=np.float32)[:, None]
    ground = np.array(backdrop.ground, dtype=np.float32)[:, None]
    # The sky grows lighter towards the horizon, the ground towards the viewer.
    above = sky * (0.85 + 0.2 * y / backdrop.floor_y_px)
    below = ground * (0.9 + 0.3 * (y - backdrop.floor_y_px) / SIDE_PX)
    column = above + np.clip(y - backdrop.floor_y_px + 0.5, 0, 1) * (below - above)
    stream = _stream(backdrop.address)
    blotches = _blotches(stream, 5, side) + 0.5 * _blotches(stream, 11, side)
    return (column[:, :, None] + backdrop.texture * blotches).astype(np.float32)


def _view(
    image: np.ndarray, drift_x: np.ndarray, drift_y: np.ndarray
) -> Float32[np.ndarray, "c t h w"]:
    """What the drifting camera sees of the backdrop, between its pixels."""
    frame = np.empty((3, len(drift_x), SIDE_PX, SIDE_PX), dtype=np.float32)
    for k, (x_px, y_px) in enumerate(zip(drift_x + _MARGIN_PX, drift_y + _MARGIN_PX, strict=True)):
        col, row = int(x_px), int(y_px)
        right, low = np.float32(x_px - col), np.float32(y_px - row)
        part = image[:, row : row + SIDE_PX + 1, col : col + SIDE_PX + 1]
        part = part[:, :-1] + low * (part[:, 1:] - part[:, :-1])
        frame[:, k] = part[:, :, :-1] + right * (part[:, :, 1:] - part[:, :, :-1])
    return frame


def _blotches(stream: np.random.Generator, cells: int, side: int) -> np.ndarray:
    """Smooth noise of (side, side): random values on a grid, eased between its points."""
    grid = stream.uniform(-1, 1, (cells + 1, cells + 1)).astype(np.float32)
    at = np.linspace(0, cells, side, endpoint=False, dtype=np.float32)
    cell = at.astype(int)
    share = at - cell
    share = share * share * (3 - 2 * share)
    weights = np.zeros((side, cells + 1), dtype=np.float32)
    weights[np.arange(side), cell] = 1 - share
    weights[np.arange(side), cell + 1] = share
    return weights @ grid @ weights.T


def _paint(
    frame: np.ndarray,
    body: Body,
    scene: Scene,
    seconds: np.ndarray,
    xs: np.ndarray,
    ys: np.ndarray,
) -> None:
    """Paint one body, its shadow and what it hangs from over `frame`.

    `xs` (t, w) and `ys` (t, h) are the places in the scene that the columns and rows show. Each
    part is painted only in the box it stays in.
    """
    poses = _poses(body, seconds, scene.backdrop.floor_y_px)
    floor_y = scene.backdrop.floor_y_px + 0.25 * body.size_px
    lift = np.clip((floor_y - poses.y_px) / SIDE_PX, 0, 1)
    wide = body.size_px * (0.8 + lift) * poses.width
    across, down = _box(xs, poses.x_px, 2.2 * wide), _box(ys, floor_y, 0.6 * body.size_px)
    dark = np.exp(-(((xs[:, across] - poses.x_px[:, None]) / wide[:, None]) ** 2))
    dark = dark * (0.45 * body.opacity * (1 - lift))[:, None]
    band = np.exp(-(((ys[:, down] - floor_y) / (0.25 * body.size_px)) ** 2))
    frame[:, :, down, across] *= 1 - (dark[:, None, :] * band[:, :, None]).astype(np.float32)

    sin, cos = np.sin(poses.angle_radians), np.cos(poses.angle_radians)
    if body.motion == "swing":
        pivot_y = _pivot_y(scene.backdrop.floor_y_px)
        middle = (pivot_y + poses.y_px) / 2
        across = _box(
            xs, (body.centre_x_px + poses.x_px) / 2, abs(poses.x_px - body.centre_x_px) + 2
        )
        down = _box(ys, middle, poses.y_px - middle + 2)
        from_x, from_y = xs[:, across] - body.centre_x_px, ys[:, down] - pivot_y
        beside = np.abs(_plane(from_x, from_y, cos, sin))
        along = _plane(from_x, from_y, -sin, cos)
        length = np.hypot(poses.x_px - body.centre_x_px, poses.y_px - pivot_y)[:, None, None]
        rod = np.clip(1.2 - beside, 0, 1) * np.clip(np.minimum(along, length - along) + 0.5, 0, 1)
        rod *= np.float32(scene.rod_opacity * body.opacity)
        _cover(frame[:, :, down, across], rod, body.colour)

    far = body.size_px * (1.3 * np.maximum(poses.width, poses.height) + 1.3)
    across, down = _box(xs, poses.x_px, far), _box(ys, poses.y_px, far)
    part = frame[:, :, down, across]
    dx, dy = xs[:, across] - poses.x_px[:, None], ys[:, down] - poses.y_px[:, None]
    # Outside distance to a convex shape: the largest of those to the lines of its sides; each is
    # affine in x and y, so it is one sum of a row and a column.
    distance = np.full(part.shape[1:], -np.inf, dtype=np.float32)
    corners = np.array(_CORNERS[body.shape]) * body.size_px
    for (ax, ay), (bx, by) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        # The outward normal of a side, scaled with the body, then turned with it.
        nx, ny = (by - ay) / poses.width, (ax - bx) / poses.height
        norm = np.hypot(nx, ny)
        nx, ny = nx / norm, ny / norm
        offset = nx * ax * poses.width + ny * ay * poses.height
        side = _plane(dx, dy, nx * cos - ny * sin, nx * sin + ny * cos, -offset)
        np.maximum(distance, side, out=distance)
    lit = np.flatnonzero(poses.flash > 0.02)
    if lit.size:
        halo = np.exp(-np.maximum(distance[lit], 0) / np.float32(0.35 * body.size_px))
        halo *= (0.55 * poses.flash[lit])[:, None, None]
        part[:, lit] += halo * (1 - part[:, lit])
    _cover(part, np.clip(0.5 - distance, 0, 1) * np.float32(body.opacity), body.colour, poses.flash)
    # The eye: one end of the shape differs from the other.
    eye = -0.35 * body.size_px * poses.height
    eye_x, eye_y = dx + (sin * eye)[:, None], dy - (cos * eye)[:, None]
    distance = np.sqrt((eye_x**2)[:, None, :] + (eye_y**2)[:, :, None])
    distance -= (0.26 * body.size_px * np.minimum(poses.width, poses.height))[:, None, None]
    _cover(part, np.clip(0.5 - distance, 0, 1) * np.float32(body.opacity), body.accent)


def _box(places: np.ndarray, centre: np.ndarray | float, far: np.ndarray | float) -> slice:
    """The columns (or rows) that come within `far` of `centre` in any frame."""
    centre, far = np.broadcast_to(centre, len(places)), np.broadcast_to(far, len(places))
    near = np.flatnonzero((np.abs(places - centre[:, None]) <= far[:, None]).any(axis=0))
    return slice(int(near[0]), int(near[-1]) + 1) if near.size else slice(0, 0)


def _plane(
    dx: np.ndarray, dy: np.ndarray, nx: np.ndarray, ny: np.ndarray, offset: np.ndarray | float = 0.0
) -> np.ndarray:
    """`nx * dx + ny * dy + offset` at every pixel: (t, w), (t, h) and (t,) to float32 (t, h, w)."""
    row = (nx[:, None] * dx + np.broadcast_to(offset, len(dx))[:, None]).astype(np.float32)
    column = (ny[:, None] * dy).astype(np.float32)
    return row[:, None, :] + column[:, :, None]


def _cover(
    frame: np.ndarray, alpha: np.ndarray, colour: Colour, white: np.ndarray | None = None
) -> None:
    """Lay a colour over the planar frame; `white` (t,) bleaches it per frame."""
    for plane, value in zip(frame, colour, strict=True):
        shade = np.float32(value)
        if white is not None:
            shade = (value + 0.8 * (1 - value) * white).astype(np.float32)[:, None, None]
        plane += alpha * (shade - plane)


def _pivot_y(floor_y_px: float) -> float:
    return floor_y_px - 0.78 * SIDE_PX


def _poses(body: Body, seconds: np.ndarray, floor_y_px: float) -> _Poses:
    events = np.array(body.event_seconds)
    last = np.searchsorted(events, seconds, side="right") - 1
    gap = np.diff(events)[last]
    since = seconds - events[last]
    share = since / gap  # 0 at an event, towards 1 at the next
    beat = last + share
    still = np.ones(len(seconds))
    x = body.centre_x_px * still
    y = (floor_y_px - 0.36 * SIDE_PX) * still
    angle = body.tilt_radians * still
    width, height = still, still
    match body.motion:
        case "bounce":
            # Flight under one gravity: a longer flight goes higher. It lands on the floor, and is
            # flattened while it touches it.
            near = np.minimum(since, gap - since)
            squash = 0.3 * np.exp(-((near / 0.035) ** 2))
            width, height = 1 + squash, 1 - squash
            angle = 0 * still
            low = max(corner_y for _, corner_y in _CORNERS[body.shape]) * body.size_px
            flight = 0.45 * SIDE_PX * body.reach * np.minimum((gap / np.diff(events).mean()), 1.2)
            y = floor_y_px - low * height - flight * 4 * share * (1 - share)
        case "swing":
            # A pendulum that knocks at both ends of its way.
            angle = body.turn * 0.8 * body.reach * np.cos(np.pi * beat)
            length = 0.5 * SIDE_PX
            x = body.centre_x_px - length * np.sin(angle)
            y = _pivot_y(floor_y_px) + length * np.cos(angle)
        case "spin":
            # Upright, one way up or the other, at every event.
            angle = body.turn * np.pi * beat
        case "pulse":
            # Grows, is largest just before the event, and snaps back.
            top, bottom = 1 + 0.45 * body.reach, 1 - 0.45 * body.reach
            width = height = bottom + (top - bottom) * share**1.5
    flash = body.flash * np.exp(-since / _FLASH_SECONDS)
    return _Poses(
        x_px=x.astype(np.float32),
        y_px=y.astype(np.float32),
        angle_radians=angle.astype(np.float32),
        width=width.astype(np.float32),
        height=height.astype(np.float32),
        flash=flash.astype(np.float32),
    )


# ------------------------------------------------------------------------------------------ audio


_RING_SECONDS = 0.7


def audio_of(scene: Scene) -> Float32[np.ndarray, " s"]:
    """Render the audio, mono; an onset is at its event's place on the continuous clock."""
    stream = _stream((*scene.address, 1))
    wave = np.zeros(NUM_SAMPLES)
    for voice in scene.voices:
        noisy = voice.sound in ("thud", "clap")
        for onset in voice.onset_seconds:
            loudness = voice.gain * stream.uniform(0.8, 1)
            first = max(0, int(np.ceil(onset * RATE_HZ)))
            end = min(NUM_SAMPLES, int((onset + _RING_SECONDS) * RATE_HZ))
            if loudness > 0 and first < end:
                since = (np.arange(first, end) / RATE_HZ - onset).astype(np.float32)
                grain = stream.standard_normal(end - first if noisy else 0, dtype=np.float32)
                wave[first:end] += loudness * _ring(voice, since, grain)
    hiss = stream.standard_normal(NUM_SAMPLES)
    if scene.hiss > 0:
        spectrum = np.fft.rfft(hiss)
        spectrum[1:] *= np.arange(1, len(spectrum)) ** (-scene.hiss_tilt / 2)
        spectrum[0] = 0
        hiss = np.fft.irfft(spectrum, NUM_SAMPLES)
        wave += hiss * (scene.hiss / np.sqrt(np.mean(hiss**2)))
    wave *= scene.peak
    loudest = float(np.abs(wave).max())
    return (wave * min(1.0, 0.98 / max(loudest, 1e-9))).astype(np.float32)


def _ring(voice: Voice, since: np.ndarray, grain: np.ndarray) -> np.ndarray:
    """One audio, `since` seconds after its onset; about 1 at its loudest."""
    higher, decay = 2.0**voice.pitch_octaves, voice.decay
    attack = np.minimum(1, since / 0.0004) * np.clip((_RING_SECONDS - since) / 0.2, 0, 1)
    match voice.sound:
        case "thud":
            # A drum: a low tone whose pitch falls at first, and the knock of the stick.
            hz, fall = 95 * higher, 0.02
            phase = 2 * np.pi * hz * (since + 1.5 * fall * (1 - np.exp(-since / fall)))
            tone = np.sin(phase) * np.exp(-since / (0.09 * decay))
            return attack * (0.9 * tone + 0.12 * grain * np.exp(-since / 0.003))
        case "ping":
            # A struck metal bar: its partials are not harmonic (free bar, Fletcher and Rossing).
            parts = ((1.0, 0.6, 0.22), (2.756, 0.3, 0.12), (5.404, 0.15, 0.06))
            hz = 1300 * higher
            tones = [
                loud * np.sin(2 * np.pi * hz * ratio * since) * np.exp(-since / (ring * decay))
                for ratio, loud, ring in parts
                if hz * ratio < 0.45 * RATE_HZ
            ]
            return attack * np.sum(tones, axis=0)
        case "clap":
            # Noise without its low end, decaying.
            rough = np.diff(grain, prepend=0) if higher > 1 else grain
            return attack * 0.4 * rough * np.exp(-since / (0.035 * decay))
        case "chirp":
            # A tone that rises two octaves, then stops.
            hz, length = 550 * higher, 0.15 * decay
            phase = 2 * np.pi * hz * length / np.log(4) * (4 ** (since / length) - 1)
            fade = np.clip((length - since) / (0.25 * length), 0, 1)
            return attack * 0.7 * np.sin(np.where(since < length, phase, 0)) * fade
