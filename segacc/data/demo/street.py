"""Street scenes: people in many poses and clothes, between objects that look a little like them.

A scene is a background (sky, houses, pavement, road) with people and objects that stand on the
ground, drawn from far to near. All have the same colours and the same shading, so that a person
cannot be recognised by colour. The label map says what was painted last at each place: what stands
in front of a person is not the person, and a shadow belongs to what it falls on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from segacc.data.demo import props
from segacc.data.demo.backdrop import backdrop
from segacc.data.demo.paint import Sprite, modulate, noise, photograph
from segacc.data.demo.people import person
from segacc.data.demo.regions import Region, averaged_down

FINE = 2  # scenes are drawn at twice their size and averaged down, for smooth edges
# The function that draws an object, what it is, its least and largest height in heights of a
# person, and the share of the objects that are of this kind.
Maker = Callable[[np.random.Generator, float], Sprite]
PROPS: tuple[tuple[Maker, Region, float, float, float], ...] = (
    (props.litter_bin, Region.OBJECT, 0.4, 1.0, 0.2),
    (props.hydrant, Region.OBJECT, 0.4, 0.8, 0.1),
    (props.sign, Region.OBJECT, 0.8, 1.6, 0.14),
    (props.pole, Region.OBJECT, 2.0, 3.0, 0.12),
    (props.tree, Region.VEGETATION, 1.8, 2.8, 0.12),
    (props.shrub, Region.VEGETATION, 0.6, 1.2, 0.12),
    (props.car, Region.VEHICLE, 0.75, 1.05, 0.14),
    (props.bicycle, Region.VEHICLE, 0.55, 0.65, 0.06),
)


@dataclass(frozen=True)
class Standing:
    """A sprite in a scene: the pixel where it stands, and what it is."""

    sprite: Sprite
    x: int
    y: int
    region: Region


def street(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A street scene of a random size (220 to 320 high, 280 to 420 wide): the image (uint8 RGB)
    and its label map (uint8, the values of `Region`). People are at least a fiftieth of it."""
    while True:
        height, width = int(rng.integers(220, 321)), int(rng.integers(280, 421))
        image, fine = _scene(rng, height * FINE, width * FINE)
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
        regions = averaged_down(fine, FINE)
        if 0.02 < np.count_nonzero(regions == Region.PERSON) / regions.size < 0.5:
            return photograph(rng, image, rng.uniform(0.35, 0.9), rng.uniform(2, 7)), regions


def pedestrians(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A street scene and its mask (uint8, 0 or 255), where 255 is a pedestrian."""
    image, regions = street(rng)
    return image, np.where(regions == Region.PERSON, 255, 0).astype(np.uint8)


def _scene(rng: np.random.Generator, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    horizon = int(height * rng.uniform(0.22, 0.45))
    foot = int(horizon + height * rng.uniform(0.06, 0.22))  # where the houses meet the ground
    image, regions = backdrop(rng, height, width, horizon, foot)
    things = _population(rng, height, width, horizon, foot)
    _cast_shadows(rng, image, things, foot)
    for thing in sorted(things, key=lambda thing: thing.y):
        paste(rng, image, regions, thing)
    if rng.random() < 0.35:  # shadows of leaves on people and ground
        dapple = noise(rng, image.shape, height / rng.uniform(15, 40), width / 12)
        dapple = np.where(dapple > rng.integers(100, 180), 70, 150).astype(np.uint8)
        dapple[: horizon // 2] = 150
        dapple = cv2.GaussianBlur(dapple, (0, 0), rng.uniform(3, 6))
        image = modulate(image, dapple, rng.uniform(0.3, 0.8))
    balance = rng.normal(1, 0.03, 3) * rng.uniform(0.9, 1.1)
    image = cv2.merge([cv2.convertScaleAbs(image[..., i], alpha=balance[i]) for i in range(3)])
    return image, regions


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
        things.append(Standing(person(rng, tall), int(x * width), int(y), Region.PERSON))
    chances = [chance for *_, chance in PROPS]
    for _ in range(rng.integers(3, 9)):
        maker, region, least, most, _ = PROPS[rng.choice(len(PROPS), p=chances)]
        y = foot + (nearest - foot) * rng.uniform(0, 1) ** 2
        tall = (y - horizon) * scale * rng.uniform(least, most)
        things.append(Standing(maker(rng, tall), int(rng.uniform(0, width)), int(y), region))
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


def paste(
    rng: np.random.Generator, image: np.ndarray, regions: np.ndarray, thing: Standing
) -> None:
    """Draw a sprite into the image, shaded by folds and by light from one side, and the label
    map."""
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
    regions[there][solid] = thing.region


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
