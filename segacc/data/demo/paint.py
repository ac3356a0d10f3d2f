"""Drawing functions of the demo scenes: noise, shapes, colours, sprites, camera effects.

All pixels are 8-bit integers, so that images rarely differ between machines whose floating-point
results differ in the last bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

Paint = tuple[int, int, int, int]  # RGB and an alpha of 255
Point = tuple[float, float]

SHIFT = 4  # cv2 takes polygon points in 1/16 pixel
# The colours of clothes, cars, bins, doors and walls alike.
_PAINTS = (
    (235, 235, 230), (200, 200, 200), (120, 122, 125), (60, 62, 66), (28, 28, 32),
    (30, 38, 70), (52, 78, 125), (110, 150, 195), (150, 40, 45), (190, 60, 50),
    (120, 50, 60), (95, 70, 50), (150, 115, 80), (205, 180, 140), (85, 90, 55),
    (45, 85, 60), (90, 140, 80), (210, 175, 70), (200, 120, 60), (190, 130, 150),
    (110, 80, 120), (70, 120, 125),
)  # fmt: skip
SKINS = ((235, 195, 170), (215, 165, 130), (190, 140, 105), (145, 100, 70), (95, 65, 48))
_TURN = np.linspace(0, 2 * np.pi, 24, endpoint=False)
_CIRCLE = np.stack([np.cos(_TURN), np.sin(_TURN)], 1)


def noise(
    rng: np.random.Generator, shape: tuple[int, ...], cell: float, wide: float | None = None
) -> np.ndarray:
    """Value noise (uint8) with the height and width of `shape`, in blobs of about `cell` pixels, or
    `cell` high and `wide` across where `wide` is given."""
    height, width = shape[:2]
    wide = wide or cell
    if min(cell, wide) >= 8:  # so smooth that a quarter of the size will do, ten times as fast
        small = noise(rng, (height // 4 + 1, width // 4 + 1), cell / 4, wide / 4)
        return cv2.resize(small, None, fx=4, fy=4)[:height, :width]
    grid = rng.integers(0, 256, (int(height / cell) + 4, int(width / wide) + 4), np.uint8)
    field = cv2.resize(grid, None, fx=wide, fy=cell, interpolation=cv2.INTER_CUBIC)
    top, left = int(cell), int(wide)
    return field[top : top + height, left : left + width]


def modulate(image: np.ndarray, field: np.ndarray, strength: float) -> np.ndarray:
    """`image` (uint8, one or three channels) times 1 + strength * (field - 128) / 128, for a
    uint8 `field` of the same height and width."""
    gain = cv2.convertScaleAbs(field, alpha=strength, beta=128 * (1 - strength))
    if image.ndim == 3:
        gain = cv2.merge([gain] * image.shape[2])
    return cv2.multiply(image, gain, scale=1 / 128)


def photograph(
    rng: np.random.Generator, image: np.ndarray, blur: float, grain: float
) -> np.ndarray:
    """`image` (uint8 RGB) with uneven light, the blur of a lens (`blur`: sigma in pixels) and
    sensor noise (`grain`: standard deviation in grey levels)."""
    height, width = image.shape[:2]
    # Four random grey values, scaled up: light that gets weaker in a random direction.
    light = cv2.resize(rng.integers(70, 187, (2, 2), np.uint8), (width, height))
    image = cv2.GaussianBlur(modulate(image, light, 0.45), (0, 0), blur)
    # The difference of two uniform numbers (standard deviation 104) is close enough to normal.
    one, other = rng.integers(0, 256, (2, *image.shape), np.uint8)
    speckle = cv2.addWeighted(one, grain / 104, other, -grain / 104, 128)
    return cv2.addWeighted(image, 1, speckle, 1, -128)


def fill(canvas: np.ndarray, points: np.ndarray, value: int) -> None:
    """Fill the polygon `points` (n x 2, x and y in pixels) with a grey value."""
    cv2.fillPoly(canvas, [np.rint(points * 2**SHIFT).astype(np.int32)], value, shift=SHIFT)


def closed_curve(rng: np.random.Generator, stretch: float, rough: float) -> np.ndarray:
    """An irregular closed curve (96 x 2) around the origin with a radius near one. `stretch` is its
    length divided by its width, `rough` how deep its lobes are."""
    angle = np.linspace(0, 2 * np.pi, 96, endpoint=False)
    lobes = np.arange(2, 7)[:, None]
    waves = np.cos(lobes * angle + rng.uniform(0, 2 * np.pi, (5, 1)))
    radius = np.maximum(1 + (rough / lobes * rng.normal(size=(5, 1)) * waves).sum(0), 0.4)
    x = np.cos(angle) * radius * np.sqrt(stretch)
    y = np.sin(angle) * radius / np.sqrt(stretch)
    y += rng.uniform(-0.3, 0.3) * (x**2 - stretch / 2) / stretch  # a bend along the long axis
    turn = rng.uniform(0, 2 * np.pi)
    return np.stack([x * np.cos(turn) - y * np.sin(turn), x * np.sin(turn) + y * np.cos(turn)], 1)


def ellipses(
    canvas: np.ndarray,
    centres: np.ndarray,
    halves: np.ndarray,
    direction: np.ndarray,
    values: np.ndarray,
) -> None:
    """Draw n filled ellipses in order.

    Args:
        canvas: (H, W) uint8, drawn on.
        centres: (n, 2), x and y in pixels.
        halves: (n, 2), half axes along and across `direction` in pixels.
        direction: (n, 2) unit vectors.
        values: (n,) grey values.
    """
    angle = np.linspace(0, 2 * np.pi, 10, endpoint=False)
    along = halves[:, :1] * np.cos(angle) * 2**SHIFT
    across = halves[:, 1:] * np.sin(angle) * 2**SHIFT
    column, row = direction.T[:, :, None]
    middle = centres.T[:, :, None] * 2**SHIFT
    points = np.empty((len(centres), len(angle), 2), np.int32)
    points[..., 0] = middle[0] + along * column - across * row
    points[..., 1] = middle[1] + along * row + across * column
    for corners, value in zip(points, np.clip(values, 0, 255).astype(int).tolist(), strict=True):
        cv2.fillConvexPoly(canvas, corners, value, shift=SHIFT)


@dataclass(frozen=True)
class Sprite:
    """A drawn person or object: RGBA pixels (uint8, height x width x 4, alpha 0 or 255), and the
    height of the figure in pixels, with a margin of a tenth of it above and below.

    Shapes are given in the figure's own coordinates: x from its middle and y from its top, both
    divided by its height. (0, 0) is the top of the head, (0, 1) the ground between the feet."""

    pixels: np.ndarray
    unit: float


def shade(colour: Sequence[int], factor: float) -> Paint:
    """An opaque `colour`, darker (factor < 1) or lighter (factor > 1)."""
    red, green, blue = (int(min(255, channel * factor)) for channel in colour[:3])
    return red, green, blue, 255


def pick(rng: np.random.Generator, colours: Sequence[Sequence[int]]) -> Paint:
    """One of `colours` (RGB), changed a little at random."""
    tint = rng.normal(0, 9, 3) + colours[int(rng.integers(len(colours)))]
    tint += rng.uniform(0, 0.5) * (tint.mean() - tint)  # some are faded
    return shade(np.clip(tint, 5, 250).astype(int).tolist(), rng.uniform(0.8, 1.1))


def paint(rng: np.random.Generator) -> Paint:
    """A random colour for clothes or objects."""
    return pick(rng, _PAINTS if rng.random() < 0.9 else SKINS)


def blank(unit: float, width: float) -> Sprite:
    """An empty sprite for a figure `unit` pixels high, and at most `width` times that wide."""
    return Sprite(np.zeros((int(unit * 1.2), int(unit * width), 4), np.uint8), unit)


def to_pixels(sprite: Sprite, points: Sequence[Point] | np.ndarray) -> np.ndarray:
    """Points in the figure's coordinates, as fixed-point pixels for cv2."""
    middle = np.array([sprite.pixels.shape[1] / 2, sprite.unit / 10])
    return np.rint((np.asarray(points) * sprite.unit + middle) * 2**SHIFT).astype(np.int32)


def polygon(sprite: Sprite, points: Sequence[Point], colour: Paint) -> None:
    cv2.fillPoly(sprite.pixels, [to_pixels(sprite, points)], colour, shift=SHIFT)


def box(sprite: Sprite, left: float, top: float, right: float, low: float, c: Paint) -> None:
    polygon(sprite, [(left, top), (right, top), (right, low), (left, low)], c)


def disc(sprite: Sprite, centre: Point, across: float, down: float, colour: Paint) -> None:
    points = _CIRCLE * (across, down) + centre
    cv2.fillPoly(sprite.pixels, [to_pixels(sprite, points)], colour, shift=SHIFT)


def limb(
    sprite: Sprite, start: Point, end: Point, thick: float, thin: float, colour: Paint
) -> None:
    """A limb with round ends, `thick` wide at its start and `thin` at its end."""
    along = np.subtract(end, start)
    side = np.array([-along[1], along[0]]) / (np.hypot(*along) + 1e-9) / 2
    a, b = np.array(start), np.array(end)
    corners = np.stack([a + side * thick, b + side * thin, b - side * thin, a - side * thick])
    cv2.fillPoly(sprite.pixels, [to_pixels(sprite, corners)], colour, shift=SHIFT)
    disc(sprite, start, thick / 2, thick / 2, colour)
    disc(sprite, end, thin / 2, thin / 2, colour)


def swing(start: Point, length: float, angle: float, facing: int) -> Point:
    """The lower end of a bone that hangs from `start`, turned forward by `angle` (radians)."""
    return start[0] + facing * length * np.sin(angle), start[1] + length * np.cos(angle)
