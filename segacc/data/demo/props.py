"""Objects for the street scenes of the demo: each function draws one, `unit` pixels high."""

from __future__ import annotations

import cv2
import numpy as np

from segacc.data.demo.paint import (
    SHIFT,
    Point,
    Sprite,
    blank,
    box,
    disc,
    limb,
    paint,
    polygon,
    shade,
    swing,
    to_pixels,
)


def litter_bin(rng: np.random.Generator, unit: float) -> Sprite:
    """A litter bin, a letter box or a cabinet: upright, about as wide as a person."""
    sprite, colour = blank(unit, 1.4), paint(rng)
    wide, taper = rng.uniform(0.2, 0.34), rng.uniform(0.8, 1)
    foot = wide * taper
    polygon(sprite, [(-wide, 0.1), (wide, 0.1), (foot, 1), (-foot, 1)], colour)
    if rng.random() < 0.6:
        disc(sprite, (0, 0.12), wide, 0.12, shade(colour, rng.uniform(0.7, 1.2)))
    box(sprite, -wide * 0.6, 0.2, wide * 0.6, rng.uniform(0.25, 0.4), shade(colour, 0.5))
    if rng.random() < 0.5:
        box(sprite, -wide * 0.5, 0.5, wide * 0.5, 0.75, paint(rng))
    return sprite


def hydrant(rng: np.random.Generator, unit: float) -> Sprite:
    """A hydrant or a bollard: like a small person without limbs."""
    sprite, colour = blank(unit, 1.2), paint(rng)
    wide = rng.uniform(0.1, 0.2)
    box(sprite, -wide, 0.25, wide, 1, colour)
    disc(sprite, (0, 0.2), wide * 1.15, rng.uniform(0.12, 0.2), shade(colour, 1.15))
    box(sprite, -wide * 1.4, 0.92, wide * 1.4, 1, shade(colour, 0.7))
    if rng.random() < 0.5:
        box(sprite, -wide * 1.9, 0.42, wide * 1.9, 0.56, shade(colour, 0.9))
    return sprite


def sign(rng: np.random.Generator, unit: float) -> Sprite:
    """A round or square sign, or a parking meter, on a post: like a head without a body."""
    sprite, post, plate = blank(unit, 0.8), shade((110, 112, 115), 1), paint(rng)
    size, wide = rng.uniform(0.06, 0.17), rng.uniform(0.008, 0.025)
    box(sprite, -wide, 0.1, wide, 1, shade(post, rng.uniform(0.4, 1.3)))
    if rng.random() < 0.5:
        disc(sprite, (0, size), size, size, plate)
        disc(sprite, (0, size), size * 0.7, size * 0.7, paint(rng))
    else:
        high = size * rng.uniform(0.7, 1.8)
        box(sprite, -size, 0, size, 2 * high, plate)
        box(sprite, -size * 0.7, high * 0.5, size * 0.7, high, paint(rng))
    return sprite


def pole(rng: np.random.Generator, unit: float) -> Sprite:
    """A lamp post or a pole, higher than most images."""
    sprite = blank(unit, 0.5)
    colour = shade((105, 105, 100), rng.uniform(0.4, 1.7)) if rng.random() < 0.7 else paint(rng)
    wide = rng.uniform(0.012, 0.03)
    polygon(sprite, [(-wide * 0.6, 0), (wide * 0.6, 0), (wide, 1), (-wide, 1)], colour)
    box(sprite, -wide * 1.5, 0.9, wide * 1.5, 1, shade(colour, 0.8))
    reach = rng.uniform(-0.2, 0.2)
    limb(sprite, (0, 0.02), (reach, 0.0), 0.02, 0.03, colour)
    return sprite


def tree(rng: np.random.Generator, unit: float) -> Sprite:
    """A tree: a trunk, and a crown of many small discs."""
    sprite = blank(unit, 1.2)
    bark = shade((105, 88, 72), rng.uniform(0.5, 1.1))
    wide, low = rng.uniform(0.02, 0.05), rng.uniform(0.4, 0.65)
    polygon(sprite, [(-wide * 0.6, 0.2), (wide * 0.6, 0.2), (wide, 1), (-wide, 1)], bark)
    for turn in rng.uniform(-0.7, 0.7, 3):
        limb(sprite, (0, low + 0.05), swing((0, low), -0.3, turn, 1), wide, 0.01, bark)
    _foliage(rng, sprite, (0, low / 2 + 0.02), rng.uniform(0.25, 0.42), low / 2, 170)
    return sprite


def shrub(rng: np.random.Generator, unit: float) -> Sprite:
    """A shrub or a plant in a pot, as high and as narrow as a person or a child."""
    sprite = blank(unit, 1.2)
    across = rng.uniform(0.15, 0.4)
    if rng.random() < 0.5:
        pot = paint(rng)
        polygon(sprite, [(-0.18, 0.7), (0.18, 0.7), (0.13, 1), (-0.13, 1)], pot)
        _foliage(rng, sprite, (0, 0.4), across, 0.34, 120)
    else:
        _foliage(rng, sprite, (0, 0.52), across, 0.46, 140)
    return sprite


def _foliage(
    rng: np.random.Generator, sprite: Sprite, centre: Point, across: float, down: float, count: int
) -> None:
    leaf = np.array([70, 105, 50]) + rng.normal(0, 12, 3)
    angle, reach = rng.uniform(0, 2 * np.pi, count), np.sqrt(rng.uniform(0, 0.9, count))
    for turn, far, light in zip(angle, reach, rng.uniform(0.45, 1.3, count), strict=True):
        at = centre[0] + across * far * np.cos(turn), centre[1] + down * far * np.sin(turn)
        light = light * (1 - 0.35 * np.sin(turn) * far)  # lit from above
        tuft = shade(np.maximum(leaf, 10).tolist(), light)
        wide, tall = rng.uniform(0.06, 0.2, 2)
        disc(sprite, at, across * wide, down * tall, tuft)


def car(rng: np.random.Generator, unit: float) -> Sprite:
    """A parked car or van from the side."""
    sprite, colour = blank(unit, 3.6), paint(rng)
    way, roof = int(rng.choice([-1, 1])), rng.uniform(0.0, 0.1)
    glass = shade((60, 72, 82), rng.uniform(0.6, 1.6))
    body = [(-1.45, 0.9), (-1.5, 0.55), (-1.1, 0.45), (1.1, 0.4), (1.45, 0.55), (1.48, 0.9)]
    cabin = [(-1.05, 0.48), (-0.7, roof), (0.45, roof), (0.95, 0.45)]
    if rng.random() < 0.25:
        cabin = [(-1.4, 0.5), (-1.35, roof - 0.05), (0.8, roof - 0.05), (1.15, 0.45)]
    inner = [(x * 0.88 - 0.02, y + (0.05 if y < 0.2 else -0.03)) for x, y in cabin]
    for points, tone in ((body, colour), (cabin, shade(colour, 0.92)), (inner, glass)):
        polygon(sprite, [(way * x, y) for x, y in points], tone)
    for x in (-0.1, 0.02):
        box(sprite, way * x - 0.02, roof, way * x + 0.03, 0.5, shade(colour, 0.9))
    box(sprite, -1.45, 0.78, 1.45, 0.9, shade(colour, 0.55))
    box(sprite, -0.03, 0.48, -0.01, 0.8, shade(colour, 0.6))
    for x in (-0.9, 0.92):
        disc(sprite, (way * x, 0.8), 0.22, 0.2, (22, 22, 24, 255))
        disc(sprite, (way * x, 0.8), 0.12, 0.11, shade((150, 150, 155), rng.uniform(0.6, 1.2)))
    disc(sprite, (way * 1.38, 0.6), 0.06, 0.05, (235, 225, 190, 255))
    disc(sprite, (-way * 1.42, 0.6), 0.05, 0.06, (170, 30, 30, 255))
    return sprite


def bicycle(rng: np.random.Generator, unit: float) -> Sprite:
    """A bicycle that stands by itself."""
    sprite, colour = blank(unit, 2.2), paint(rng)
    for x in (-0.52, 0.52):
        wheel = tuple(to_pixels(sprite, [(x, 0.68)])[0].tolist())
        thick = max(int(unit * 0.035), 1)
        cv2.circle(
            sprite.pixels, wheel, int(unit * 0.31 * 2**SHIFT), (30, 30, 32, 255), thick, shift=SHIFT
        )
    rear, front, seat, pedal = (-0.52, 0.68), (0.52, 0.68), (-0.22, 0.2), (-0.08, 0.7)
    head, bar = (0.36, 0.22), (0.3, 0.05)
    pairs = ((rear, seat), (rear, pedal), (seat, pedal), (pedal, head), (head, front))
    for start, end in (*pairs, (head, bar), (seat, head)):
        limb(sprite, start, end, 0.04, 0.04, colour)
    limb(sprite, (-0.32, 0.16), (-0.12, 0.16), 0.06, 0.04, (30, 30, 32, 255))
    return sprite
