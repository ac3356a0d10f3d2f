"""The background of the street scenes: sky, houses, hedges, pavement and road."""

from __future__ import annotations

import cv2
import numpy as np

from segacc.data.demo.paint import modulate, noise, paint
from segacc.data.demo.regions import Region


def backdrop(
    rng: np.random.Generator, height: int, width: int, horizon: int, foot: int
) -> tuple[np.ndarray, np.ndarray]:
    """Sky, houses down to the row `foot`, and the ground in front of them.

    Returns:
        the image, (height, width, 3) uint8 RGB, and its label map, (height, width) uint8, with the
        values of `Region`.
    """
    image = np.empty((height, width, 3), np.uint8)
    regions = np.full((height, width), Region.SKY, np.uint8)
    sky = np.array([190, 205, 225]) * rng.uniform(0.75, 1.1) + rng.normal(0, 8, 3)
    image[:] = np.clip(sky, 0, 255).astype(int)
    image = modulate(image, noise(rng, image.shape, height / 5, width / 3), 0.15)
    left = -rng.uniform(0, 0.2) * width
    one_wall = rng.random() < 0.4
    while left < width:
        right = left + width * (2 if one_wall else rng.uniform(0.25, 0.7))
        top = -1 if one_wall else int(rng.uniform(-0.3, 0.75) * horizon)
        _house(rng, image, regions, int(left), max(top, 0), int(right), foot)
        left = right + (0 if rng.random() < 0.7 else rng.uniform(0, 0.1) * width)
    _ground(rng, image, regions, horizon, foot)
    if rng.random() < 0.5:  # a hedge along the houses
        green = (np.array([60, 95, 45]) * rng.uniform(0.6, 1.3)).astype(int)
        ragged = noise(rng, (1, width), 20)[0].astype(int) * height // 255 // 25
        tops = foot - int(height * rng.uniform(0.02, 0.15)) + ragged
        hedge = np.arange(height)[:, None] > tops
        hedge[foot + int(height * rng.uniform(0, 0.05)) :] = False
        hedge &= noise(rng, (1, width), width / 4)[0] > rng.integers(0, 130)
        leaves = modulate(np.full_like(image, green), noise(rng, image.shape, 5), 0.8)
        image[hedge] = leaves[hedge]
        regions[hedge] = Region.VEGETATION
    return modulate(image, noise(rng, image.shape, 1.5), rng.uniform(0.03, 0.1)), regions


def _house(
    rng: np.random.Generator,
    image: np.ndarray,
    regions: np.ndarray,
    left: int,
    top: int,
    right: int,
    foot: int,
) -> None:
    """A house front: plaster, panels or brick, rows of windows, a door or a shop."""
    height, width = image.shape[:2]
    a, b = max(left, 0), min(right, width)
    if b - a < 4 or foot - top < 8:
        return
    wall = image[top:foot, a:b]
    regions[top:foot, a:b] = Region.BUILDING
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


def _ground(
    rng: np.random.Generator, image: np.ndarray, regions: np.ndarray, horizon: int, foot: int
) -> None:
    """Pavement with slabs, a kerb, and a road with marks. Lines meet at the vanishing point."""
    height, width = image.shape[:2]
    tone = rng.uniform(95, 205)
    ground = image[foot:]
    regions[foot:] = Region.PAVEMENT
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
        regions[kerb + 2 :] = Region.ROAD  # the kerb is a part of the pavement
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
            wide = int(rng.integers(3, 12))
            for canvas, value in ((image, pale), (regions, int(Region.ROAD))):
                cv2.line(canvas, (0, y), end, value, wide)
    ground[:] = modulate(ground, noise(rng, ground.shape, 20, 80), 0.12)
    ground[:] = modulate(ground, noise(rng, ground.shape, 3, 6), rng.uniform(0.04, 0.15))
