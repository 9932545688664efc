"""Frames of a synthetic scene, rendered."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, UInt8

from avmix.synth.actions import (
    FPS,
    NUM_FRAMES,
    SIDE_PX,
    Backdrop,
    Body,
    Colour,
    Scene,
    Shape,
    stream_of,
)

_MARGIN_PX = 14  # of backdrop on every side, for the camera to drift over

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
    stream = stream_of((*scene.address, 0))
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
    stream = stream_of(backdrop.address)
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
