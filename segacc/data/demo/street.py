"""Street scenes: people in many poses and clothes, between objects that look a little like them.

A scene is a background (sky, houses, pavement, road) with people and objects that stand on the
ground, drawn from far to near. All have the same colours and the same shading, so that colour does
not tell a person. Shadows, and what stands in front of a person, are not in the mask.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from segacc.data.demo import props
from segacc.data.demo.paint import Sprite, modulate, noise, paint, photograph
from segacc.data.demo.people import person

FINE = 2  # scenes are drawn at twice their size and averaged down, for smooth edges
# The function that draws an object, its least and largest height in heights of a person, and the
# share of the objects that are of this kind.
Maker = Callable[[np.random.Generator, float], Sprite]
PROPS: tuple[tuple[Maker, float, float, float], ...] = (
    (props.litter_bin, 0.4, 1.0, 0.2),
    (props.hydrant, 0.4, 0.8, 0.1),
    (props.sign, 0.8, 1.6, 0.14),
    (props.pole, 2.0, 3.0, 0.12),
    (props.tree, 1.8, 2.8, 0.12),
    (props.shrub, 0.6, 1.2, 0.12),
    (props.car, 0.75, 1.05, 0.14),
    (props.bicycle, 0.55, 0.65, 0.06),
)


@dataclass(frozen=True)
class Standing:
    """A sprite in a scene: the pixel where it stands, and whether it is a person."""

    sprite: Sprite
    x: int
    y: int
    is_person: bool


def street(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A street scene of a random size (220 to 320 high, 280 to 420 wide): the image (uint8 RGB)
    and its mask (uint8, 0 or 255), where 255 is a pedestrian, at least a fiftieth of all pixels."""
    while True:
        height, width = int(rng.integers(220, 321)), int(rng.integers(280, 421))
        image, mask = _scene(rng, height * FINE, width * FINE)
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
        mask = cv2.resize(mask, (width, height), interpolation=cv2.INTER_AREA)
        mask = np.where(mask > 127, 255, 0).astype(np.uint8)
        if 0.02 < np.count_nonzero(mask) / mask.size < 0.5:
            return photograph(rng, image, rng.uniform(0.35, 0.9), rng.uniform(2, 7)), mask


def _scene(rng: np.random.Generator, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    horizon = int(height * rng.uniform(0.22, 0.45))
    foot = int(horizon + height * rng.uniform(0.06, 0.22))  # where the houses meet the ground
    image = _backdrop(rng, height, width, horizon, foot)
    mask = np.zeros((height, width), np.uint8)
    things = _population(rng, height, width, horizon, foot)
    _cast_shadows(rng, image, things, foot)
    for thing in sorted(things, key=lambda thing: thing.y):
        paste(rng, image, mask, thing)
    if rng.random() < 0.35:  # shadows of leaves on people and ground
        dapple = noise(rng, image.shape, height / rng.uniform(15, 40), width / 12)
        dapple = np.where(dapple > rng.integers(100, 180), 70, 150).astype(np.uint8)
        dapple[: horizon // 2] = 150
        dapple = cv2.GaussianBlur(dapple, (0, 0), rng.uniform(3, 6))
        image = modulate(image, dapple, rng.uniform(0.3, 0.8))
    balance = rng.normal(1, 0.03, 3) * rng.uniform(0.9, 1.1)
    image = cv2.merge([cv2.convertScaleAbs(image[..., i], alpha=balance[i]) for i in range(3)])
    return image, mask


def _population(
    rng: np.random.Generator, height: int, width: int, horizon: int, foot: int
) -> list[Standing]:
    """People and objects at random places. A camera at breast height decides their sizes."""
    scale = rng.uniform(1.05, 1.35)  # height of a person / distance from feet to horizon
    nearest = horizon + 0.85 * height / scale
    things = []
    for index in range(1 + min(rng.poisson(2.0), 5)):
        y = rng.uniform(max(foot, horizon + 0.2 * height), nearest)
        if index == 0:  # the first person is near enough to be seen well
            y = max(y, horizon + 0.5 * height / scale)
        tall = (y - horizon) * scale * rng.normal(1, 0.06) * rng.choice([1, 0.65], p=[0.9, 0.1])
        x = rng.uniform(0.1, 0.9) if index == 0 else rng.uniform(0, 1)
        things.append(Standing(person(rng, tall), int(x * width), int(y), True))
    chances = [chance for *_, chance in PROPS]
    for _ in range(rng.integers(3, 9)):
        maker, least, most, _ = PROPS[rng.choice(len(PROPS), p=chances)]
        y = foot + (nearest - foot) * rng.uniform(0, 1) ** 2
        tall = (y - horizon) * scale * rng.uniform(least, most)
        things.append(Standing(maker(rng, tall), int(rng.uniform(0, width)), int(y), False))
    return things


def _window(thing: Standing, shape: tuple[int, ...]) -> tuple[tuple[slice, slice], ...] | None:
    """The part of a scene of `shape` that a sprite covers, and the part of the sprite that lies in
    the scene, each as rows and columns; None if it lies outside."""
    high, wide = thing.sprite.pixels.shape[:2]
    top = thing.y - int(1.1 * thing.sprite.unit)
    left = thing.x - wide // 2
    rows = slice(max(top, 0), min(top + high, shape[0]))
    columns = slice(max(left, 0), min(left + wide, shape[1]))
    if rows.start >= rows.stop or columns.start >= columns.stop:
        return None
    inner = slice(rows.start - top, rows.stop - top)
    return (rows, columns), (inner, slice(columns.start - left, columns.stop - left))


def paste(rng: np.random.Generator, image: np.ndarray, mask: np.ndarray, thing: Standing) -> None:
    """Draw a sprite into the image and the mask, shaded by folds and by light from one side."""
    place = _window(thing, image.shape)
    if place is None:
        return
    there, here = place
    pixels = thing.sprite.pixels[here]
    high, wide = pixels.shape[:2]
    unit = thing.sprite.unit
    folds = noise(rng, pixels.shape, max(unit * 0.11, 1), max(unit * 0.04, 1))
    sides = cv2.resize(rng.integers(70, 187, (2, 2), np.uint8), (wide, high))
    colour = cv2.cvtColor(pixels, cv2.COLOR_RGBA2RGB)
    colour = modulate(modulate(colour, folds, rng.uniform(0.1, 0.3)), sides, 0.45)
    solid = pixels[..., 3] > 0
    np.copyto(image[there], colour, where=solid[..., None])
    mask[there][solid] = 255 if thing.is_person else 0


def _cast_shadows(
    rng: np.random.Generator, image: np.ndarray, things: list[Standing], foot: int
) -> None:
    """Darken the ground with shadows: the outlines of the sprites, sheared and flattened."""
    height, width = image.shape[:2]
    shear, flat = rng.uniform(-1, 1), rng.uniform(-0.35, 0.2)
    shadow: np.ndarray = np.zeros((height, width), np.uint8)
    for thing in things:
        wide = thing.sprite.pixels.shape[1]
        feet = 1.1 * thing.sprite.unit
        # (x, y) of the sprite goes to (x + shear (feet - y), flat (y - feet)) from the feet.
        matrix = np.array(
            [[1, -shear, thing.x - wide / 2 + shear * feet], [0, flat, thing.y - flat * feet]]
        )
        alpha = cv2.extractChannel(thing.sprite.pixels, 3)
        fallen = cv2.warpAffine(alpha, matrix, (width, height), flags=cv2.INTER_NEAREST)
        shadow = cv2.max(shadow, fallen)
        across = max(int(wide * 0.12), 1)  # the dark spot under each
        cv2.ellipse(shadow, (thing.x, thing.y), (across, across // 4 + 1), 0, 0, 360, 255, -1)
    shadow = cv2.GaussianBlur(shadow, (0, 0), rng.uniform(1, 4))
    shade = cv2.convertScaleAbs(shadow, alpha=-rng.uniform(0.15, 0.5) * 128 / 255, beta=128)
    image[foot:] = modulate(image[foot:], shade[foot:], 1.0)


def _backdrop(
    rng: np.random.Generator, height: int, width: int, horizon: int, foot: int
) -> np.ndarray:
    """Sky, houses down to the row `foot`, and the ground in front of them."""
    image = np.empty((height, width, 3), np.uint8)
    sky = np.array([190, 205, 225]) * rng.uniform(0.75, 1.1) + rng.normal(0, 8, 3)
    image[:] = np.clip(sky, 0, 255).astype(int)
    image = modulate(image, noise(rng, image.shape, height / 5, width / 3), 0.15)
    left = -rng.uniform(0, 0.2) * width
    one_wall = rng.random() < 0.4
    while left < width:
        right = left + width * (2 if one_wall else rng.uniform(0.25, 0.7))
        top = -1 if one_wall else int(rng.uniform(-0.3, 0.75) * horizon)
        _house(rng, image, int(left), max(top, 0), int(right), foot)
        left = right + (0 if rng.random() < 0.7 else rng.uniform(0, 0.1) * width)
    _ground(rng, image, horizon, foot)
    if rng.random() < 0.5:  # a hedge along the houses
        green = (np.array([60, 95, 45]) * rng.uniform(0.6, 1.3)).astype(int)
        ragged = noise(rng, (1, width), 20)[0].astype(int) * height // 255 // 25
        tops = foot - int(height * rng.uniform(0.02, 0.15)) + ragged
        hedge = np.arange(height)[:, None] > tops
        hedge[foot + int(height * rng.uniform(0, 0.05)) :] = False
        hedge &= noise(rng, (1, width), width / 4)[0] > rng.integers(0, 130)
        leaves = modulate(np.full_like(image, green), noise(rng, image.shape, 5), 0.8)
        image[hedge] = leaves[hedge]
    return modulate(image, noise(rng, image.shape, 1.5), rng.uniform(0.03, 0.1))


def _house(
    rng: np.random.Generator, image: np.ndarray, left: int, top: int, right: int, foot: int
) -> None:
    """A house front: plaster, panels or brick, rows of windows, a door or a shop."""
    height, width = image.shape[:2]
    a, b = max(left, 0), min(right, width)
    if b - a < 4 or foot - top < 8:
        return
    wall = image[top:foot, a:b]
    bricks = rng.random() < 0.45
    plain = (150, 95, 75) if bricks and rng.random() < 0.7 else (175, 165, 150)
    mix = rng.uniform(0.4, 0.9)  # houses have weaker colours than what is in front
    wall[:] = [int(a * (1 - mix) + b * mix) for a, b in zip(paint(rng), plain, strict=False)]
    if bricks:  # bricks or blocks, each with its own tint, between pale joints
        tall = int(rng.integers(7, 24))
        rows, columns = np.indices(wall.shape[:2])
        row = rows // tall
        column = (columns + row % 2 * tall) // (2 * tall)
        tints = rng.integers(60, 196, (row.max() + 1, column.max() + 1), np.uint8)
        wall[:] = modulate(wall, tints[row, column], 0.35)
        joint = (rows % tall < 2) | ((columns + row % 2 * tall) % (2 * tall) < 2)
        wall[joint] = np.minimum(wall[joint].astype(int) * 3 // 4 + 50, 255)
    wall[:] = modulate(wall, noise(rng, wall.shape, 40), 0.2)
    frame, glass = paint(rng)[:3], (np.array([62, 74, 88]) * rng.uniform(0.5, 2)).astype(int)
    wide, tall = int(rng.uniform(0.06, 0.16) * width), int(rng.uniform(0.1, 0.3) * height)
    step_x, step_y = int(wide * rng.uniform(1.3, 2.5)), int(tall * rng.uniform(1.25, 1.8))
    ground_floor = foot - int(rng.uniform(0.05, 0.2) * height)
    for y in range(ground_floor - tall, top - tall, -step_y):
        for x in range(left + step_x // 4, right - wide, step_x):
            _pane(rng, image, x, max(y, top + 2), x + wide, y + tall, frame, glass)
    for x in range(left + step_x // 3, right - wide, int(step_x * rng.uniform(1, 2.5))):
        if rng.random() < 0.4:  # doors and shop windows, as high as people
            high = int(rng.uniform(0.25, 0.45) * height)
            _pane(rng, image, x, max(foot - high, top + 2), x + wide, foot, frame, paint(rng)[:3])


def _pane(
    rng: np.random.Generator,
    image: np.ndarray,
    left: int,
    top: int,
    right: int,
    low: int,
    frame: tuple[int, ...],
    fill: np.ndarray | tuple[int, ...],
) -> None:
    """A window or a door: a frame, glass with a reflection, bars."""
    if low - top < 8:
        return
    cv2.rectangle(image, (left, top), (right, low), tuple(map(int, frame)), -1)
    edge = max((right - left) // 14, 2)
    inner = image[top + edge : low - edge, max(left + edge, 0) : max(right - edge, 0)]
    if inner.size == 0:
        return
    inner[:] = fill
    inner[:] = modulate(inner, noise(rng, inner.shape, 60, 25), 0.6)
    for part in range(1, int(rng.integers(1, 4))):
        x = left + (right - left) * part // 3
        cv2.line(image, (x, top), (x, low), tuple(map(int, frame)), edge // 2 + 1)


def _ground(rng: np.random.Generator, image: np.ndarray, horizon: int, foot: int) -> None:
    """Pavement with slabs, a kerb, and a road with marks. Lines meet at the vanishing point."""
    height, width = image.shape[:2]
    tone = rng.uniform(95, 205)
    ground = image[foot:]
    ground[:] = np.clip(tone + rng.normal(0, 4, 3), 0, 255).astype(int)
    vanish = rng.uniform(-0.5, 1.5) * width
    if rng.random() < 0.6:  # slabs
        dark = np.clip(tone * 0.8 + rng.normal(0, 5, 3), 0, 255).astype(int).tolist()
        for x in np.arange(-3, 4, rng.uniform(0.15, 0.4)) * width:
            far = vanish + (x - vanish) * (foot - horizon) / (height - horizon)
            cv2.line(image, (int(far), foot), (int(x), height), dark, 2)
        reach = rng.uniform(0.1, 0.3)
        for index in range(1, 40):
            y = int(horizon + (height - horizon) / (index * reach + 0.3))
            if foot < y < height:
                cv2.line(image, (0, y), (width, y), dark, 2)
    kerb = int(foot + (height - foot) * rng.uniform(0.1, 1.5))
    if kerb < height - 4:
        road = image[kerb:]
        road[:] = np.clip(rng.uniform(60, 150) + rng.normal(0, 5, 3), 0, 255).astype(int)
        cv2.line(image, (0, kerb), (width, kerb), [int(tone * 0.6)] * 3, 3)
        pale = [int(rng.uniform(180, 235))] * 3
        near, far_scale = height * 1.02, (kerb + 6 - horizon) / (height - horizon)
        if rng.random() < 0.3:  # a crossing
            for x in np.arange(rng.uniform(-1, 0), 2, rng.uniform(0.12, 0.25)) * width:
                stripe = np.array([x, x + width * 0.07])
                far = vanish + (stripe - vanish) * far_scale
                across = np.concatenate([far, stripe[::-1]])
                down = [kerb + 6, kerb + 6, near, near]
                cv2.fillPoly(image, [np.stack([across, down], 1).astype(np.int32)], pale)
        elif rng.random() < 0.6:
            y = int(kerb + (height - kerb) * rng.uniform(0.2, 0.9))
            end = (width, y + int(rng.normal(0, 12)))
            cv2.line(image, (0, y), end, pale, int(rng.integers(3, 12)))
    ground[:] = modulate(ground, noise(rng, ground.shape, 20, 80), 0.12)
    ground[:] = modulate(ground, noise(rng, ground.shape, 3, 6), rng.uniform(0.04, 0.15))
