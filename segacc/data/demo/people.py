"""People for the street scenes of the demo: a skeleton in a random pose, with clothes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np

from segacc.data.demo.paint import (
    SHIFT,
    SKINS,
    Paint,
    Point,
    Sprite,
    blank,
    box,
    disc,
    limb,
    paint,
    pick,
    polygon,
    shade,
    swing,
    to_pixels,
)

_HAIRS = ((25, 22, 22), (50, 36, 28), (90, 62, 40), (150, 115, 70), (150, 148, 145))


@dataclass(frozen=True)
class Person:
    """Body, pose and clothes of a person. Lengths are in heights of the person."""

    view: Literal["side", "front", "back"]
    facing: int  # -1: to the left, 1: to the right
    build: float  # width divided by that of an average person
    lean: float  # horizontal distance from the hips to the shoulders
    stride: float  # the swing of the legs, in radians
    ahead: int  # which leg is in front: 1 the near one, -1 the far one
    skin: Paint
    hair: Paint
    top: Paint
    bottom: Paint
    shoes: Paint
    bag: Paint
    wears: Literal["trousers", "shorts", "skirt", "coat"]
    long_sleeves: bool

    @property
    def side(self) -> bool:
        return self.view == "side"

    @property
    def shoulder(self) -> float:
        return (0.06 if self.side else 0.105) * self.build

    @property
    def hips(self) -> float:
        return (0.055 if self.side else 0.08) * self.build


def person(rng: np.random.Generator, unit: float) -> Sprite:
    """A person who walks or stands, `unit` pixels high, seen from the side, the front or behind.
    Clothes and bags are part of the person."""
    sprite = blank(unit, 1.3)
    look = _look(rng)
    backpack, shoulder_bag, shopping = rng.random(3) < (0.2, 0.22, 0.18)
    if backpack and look.side:
        disc(sprite, (look.lean - look.facing * 0.095 * look.build, 0.3), 0.06, 0.11, look.bag)
    _arm(rng, sprite, look, -1)
    _leg(rng, sprite, look, -1)
    _leg(rng, sprite, look, 1)
    _torso(rng, sprite, look)
    if backpack and look.view == "back":
        disc(sprite, (0, 0.31), 0.085 * look.build, 0.11, look.bag)
    if shoulder_bag:
        x, y = float(rng.choice([-1, 1])) * look.hips, rng.uniform(0.42, 0.52)
        limb(sprite, (look.lean - x * 0.6, 0.19), (x, y), 0.014, 0.014, look.bag)
        box(sprite, x - 0.06, y - 0.02, x + 0.06, y + 0.09, look.bag)
    _head(rng, sprite, look)
    x, y = _arm(rng, sprite, look, 1)
    if shopping:
        wide, deep = rng.uniform(0.04, 0.09), rng.uniform(0.1, 0.2)
        limb(sprite, (x, y), (x, y + 0.04), 0.02, 0.05, look.bag)
        box(sprite, x - wide, y + 0.03, x + wide, y + deep, look.bag)
    return sprite


def _look(rng: np.random.Generator) -> Person:
    view = rng.choice(["side", "front", "back"], p=[0.55, 0.25, 0.2])
    facing = int(rng.choice([-1, 1]))
    return Person(
        view=view,
        facing=facing,
        build=rng.uniform(0.85, 1.25),
        lean=facing * rng.uniform(0, 0.03) if view == "side" else 0.0,
        stride=rng.uniform(0, 0.5) if view == "side" else rng.uniform(0, 0.1),
        ahead=int(rng.choice([-1, 1])),
        skin=pick(rng, SKINS),
        hair=pick(rng, _HAIRS),
        top=paint(rng),
        bottom=paint(rng),
        shoes=paint(rng),
        bag=paint(rng),
        wears=rng.choice(["trousers", "shorts", "skirt", "coat"], p=[0.6, 0.13, 0.15, 0.12]),
        long_sleeves=rng.random() < 0.55,
    )


def _leg(rng: np.random.Generator, sprite: Sprite, look: Person, near: int) -> None:
    """Draw the near (1) or the far (-1) leg; seen from the front, the right or the left one."""
    light = 1.0 if near > 0 else 0.8
    leads = near == look.ahead
    thigh = (1 if leads else -1) * look.stride + rng.normal(0, 0.04)
    shin = thigh - rng.uniform(0.02, 0.25 if leads else 0.7) * (look.stride + 0.1)
    wide, bare = 0.083 * look.build, look.wears in ("shorts", "skirt")
    if look.side:
        knee = swing((0.0, 0.5), 0.235, thigh, look.facing)
        ankle = swing(knee, 0.225, shin, look.facing)
        heel = ankle[0] - look.facing * 0.012, ankle[1] + 0.022
        toe = ankle[0] + look.facing * 0.07, ankle[1] + 0.022
    else:
        knee = swing((near * 0.043 * look.build, 0.5), 0.235, 0, look.facing)
        ankle = heel = swing(knee, 0.195 if leads else 0.225, shin, look.facing)
        toe = ankle[0], ankle[1] + 0.03
    hip = (0.0 if look.side else near * 0.043 * look.build, 0.5)
    thigh_colour = look.skin if look.wears == "skirt" else look.bottom
    limb(sprite, hip, knee, wide * 1.1, wide * 0.8, shade(thigh_colour, light))
    shin_colour = shade(look.skin if bare else look.bottom, light)
    limb(sprite, knee, ankle, wide * (0.55 if bare else 0.8), wide * 0.56, shin_colour)
    limb(sprite, heel, toe, 0.038, 0.03, shade(look.shoes, light))


def _arm(rng: np.random.Generator, sprite: Sprite, look: Person, near: int) -> Point:
    """Draw the near (1) or the far (-1) arm, and return the place of its hand."""
    raised = rng.random() < 0.2  # a hand at the chest or at the ear
    if look.side:
        start, light = (look.lean * 0.8, 0.215), 1.0 if near > 0 else 0.75
        # An arm moves in the opposite direction to the leg of its side.
        angle = -near * look.ahead * look.stride * rng.uniform(0.6, 1.3)
        bend, outwards = rng.uniform(1.2, 2.4) if raised else rng.uniform(0.05, 0.5), look.facing
    else:
        start, light = (near * look.shoulder * 0.92, 0.215), 1.0
        angle, outwards = rng.uniform(0.05, 0.3), near
        bend = -rng.uniform(1.2, 2.4) if raised else rng.uniform(-0.3, 0.1)
    elbow = swing(start, 0.165, angle, outwards)
    hand = swing(elbow, 0.15, angle + bend, outwards)
    limb(sprite, start, elbow, 0.062 * look.build, 0.048 * look.build, shade(look.top, light))
    sleeve = shade(look.top if look.long_sleeves else look.skin, light)
    limb(sprite, elbow, hand, 0.044 * look.build, 0.034, sleeve)
    disc(sprite, hand, 0.02, 0.024, shade(look.skin, light))
    return hand


def _torso(rng: np.random.Generator, sprite: Sprite, look: Person) -> None:
    """Draw a shirt, coat or dress with its pattern."""
    shoulder, hips, lean = look.shoulder, look.hips, look.lean
    if look.wears == "skirt":
        hem, low = rng.uniform(0.1, 0.16) * look.build, rng.uniform(0.62, 0.85)
        polygon(sprite, [(-hips, 0.42), (hips, 0.42), (hem, low), (-hem, low)], look.bottom)
    waist = rng.uniform(0.6, 0.75) if look.wears == "coat" else 0.5
    spread = hips * 2 * waist
    outline = [
        (lean - shoulder * 0.55, 0.172), (lean + shoulder * 0.55, 0.172),
        (lean + shoulder, 0.215), (lean * 0.7 + shoulder * 0.95, 0.33), (hips, 0.44),
        (spread, waist + 0.02), (-spread, waist + 0.02), (-hips, 0.44),
        (lean * 0.7 - shoulder * 0.95, 0.33), (lean - shoulder, 0.215),
    ]  # fmt: skip
    polygon(sprite, outline, look.top)
    _pattern(rng, sprite, outline, lean)


def _pattern(
    rng: np.random.Generator, sprite: Sprite, outline: Sequence[Point], lean: float
) -> None:
    """Draw stripes, an open jacket, a print or nothing inside `outline`."""
    kind, colour = rng.random(), paint(rng)
    height, width = sprite.pixels.shape[:2]
    inside = np.zeros((height, width), np.uint8)
    cv2.fillPoly(inside, [to_pixels(sprite, outline)], 1, shift=SHIFT)
    rows, columns = np.indices((height, width))
    if kind < 0.2:
        period = max(int(sprite.unit * rng.uniform(0.02, 0.06)), 3)
        chosen = (rows if rng.random() < 0.7 else columns) % period < period * 0.45
    elif kind < 0.35:
        chosen = np.abs(columns - width / 2 - lean * sprite.unit) < 0.03 * sprite.unit
    elif kind < 0.5:
        chosen = np.abs(rows - 0.38 * sprite.unit) < 0.04 * sprite.unit
    else:
        return
    sprite.pixels[(inside > 0) & chosen] = np.array(colour, np.uint8)


def _head(rng: np.random.Generator, sprite: Sprite, look: Person) -> None:
    """Draw the neck and the head, with hair, a cap, a hood or nothing on it."""
    x = look.lean * 1.2
    limb(sprite, (look.lean, 0.12), (look.lean, 0.18), 0.05, 0.06, shade(look.skin, 0.85))
    back = -look.facing if look.side else 0
    style = rng.choice(["short", "long", "cap", "hood", "bald"], p=[0.4, 0.25, 0.13, 0.12, 0.1])
    cover = paint(rng) if style in ("cap", "hood") else look.hair
    if style in ("long", "hood"):
        disc(sprite, (x + back * 0.022, 0.1), 0.06, rng.uniform(0.085, 0.12), cover)
    disc(sprite, (x, 0.078), 0.047, 0.066, look.skin)
    if look.side:
        disc(sprite, (x + look.facing * 0.046, 0.085), 0.012, 0.012, look.skin)  # a nose
    if look.view == "back" and style != "bald":
        disc(sprite, (x, 0.07), 0.052, 0.064, cover)
    elif style != "bald":
        disc(sprite, (x + back * 0.02, 0.045), 0.05, 0.042, cover)
        if style in ("short", "long") and look.side:
            disc(sprite, (x + back * 0.03, 0.07), 0.03, 0.05, cover)
    if style == "cap":
        limb(sprite, (x, 0.055), (x + look.facing * 0.075, 0.058), 0.02, 0.012, shade(cover, 0.8))
