"""Effects of the resize on small and thin objects: regions that vanish or fall into pieces."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from segacc.config.sizes import scaled_to
from segacc.labels import IGNORE

FACTORS = (1.5, 2, 3, 4, 6, 8, 12, 16)
"""Factors on a size that are tried, to find a size that keeps the lost regions."""
STEP = 32
"""Sizes that are advised are multiples of this, which suits all models."""
MOST_COUNTED = 1 << 20
"""Numbers below this are counted in a table."""
KEPT = 0.95
"""Share of a mask's regions that have to stay whole for it to count as kept."""


@dataclass(frozen=True)
class Regions:
    """The connected regions (8 neighbours) of a mask's foreground, and what the resize makes of
    them."""

    count: int
    """regions before the resize"""
    lost: int
    """the regions that no pixel of the resized mask shows"""
    broken: int
    """the regions that fall into pieces"""
    pieces: int
    """into how many pieces"""
    thinnest: int
    """px before the resize: the side of the largest square that fits into the thinnest region that
    was lost or fell into pieces; 0 where none did"""
    size: int
    """px of the longer side to resize to, so that nearly all regions stay whole; 0 where none was
    lost or broken"""


def regions_after_resize(label_map: np.ndarray, shape: tuple[int, ...]) -> Regions:
    """Compare a label map with what is left of it at another size.

    Args:
        label_map: (H, W) uint8.
        shape: height and width after the resize.
    """
    height, width = label_map.shape
    assert label_map.dtype == np.uint8 and IGNORE == 255
    things = (label_map + np.uint8(1) > 1).view(np.uint8)  # 255 + 1 is 0 in 8 bits
    count, labels = cv2.connectedComponents(things, connectivity=8)
    count -= 1  # of which one is the background
    if height <= shape[0] and width <= shape[1]:  # every pixel stays
        return Regions(count, 0, 0, 0, 0, 0)
    pieces = _pieces_at(labels, shape, count)
    damaged = np.flatnonzero(pieces != 1) + 1
    if not len(damaged):
        return Regions(count, 0, 0, 0, 0, 0)
    return Regions(
        count=count,
        lost=int((pieces == 0).sum()),
        broken=int((pieces > 1).sum()),
        pieces=int(pieces[pieces > 1].sum()),
        thinnest=_least_square(labels, damaged),
        size=_size_that_keeps(labels, shape, count),
    )


def _pieces_at(labels: np.ndarray, shape: tuple[int, ...], count: int) -> np.ndarray:
    """(count,) int: into how many pieces each region falls when it is resized; 0 for one that is
    lost."""
    rows, columns = (nearest(*sides) for sides in zip(labels.shape, shape, strict=True))
    small = labels.take(rows, axis=0).take(columns, axis=1)
    number, connected = cv2.connectedComponents((small > 0).view(np.uint8), connectivity=8)
    pairs = _distinct(small.ravel() * np.int64(number) + connected.ravel())
    return np.bincount(pairs // number, minlength=count + 1)[1:]


def _distinct(numbers: np.ndarray) -> np.ndarray:
    """Return the distinct values of (N,) integers, none of them negative. Sorting all pixels would
    take ten times as long as finding the regions, so equal neighbours are merged first."""
    if len(numbers):
        numbers = numbers[np.flatnonzero(np.append(True, numbers[1:] != numbers[:-1]))]
    if numbers.max(initial=0) < MOST_COUNTED:
        return np.flatnonzero(np.bincount(numbers))
    return np.unique(numbers)


def nearest(side: int, size: int) -> np.ndarray:
    """Return (size,): the index in 0..side-1 that each pixel takes, as in `resize_label_map`."""
    return ((2 * np.arange(size) + 1) * side) // (2 * size)


def _least_square(labels: np.ndarray, damaged: np.ndarray) -> int:
    """The side of the largest square that fits into the thinnest of the regions `damaged`."""
    is_damaged = np.zeros(labels.max() + 1, dtype=np.uint8)
    is_damaged[damaged] = 1
    things = is_damaged[labels]
    for side in range(1, min(labels.shape) + 1):
        square = np.ones((side, side), np.uint8)
        inside = cv2.erode(things, square, borderType=cv2.BORDER_CONSTANT, borderValue=0)
        if len(_distinct(labels[inside > 0])) < len(damaged):
            return side - 1
    return min(labels.shape)


def _size_that_keeps(labels: np.ndarray, shape: tuple[int, ...], count: int) -> int:
    longest = max(labels.shape)
    for factor in FACTORS:
        tried = -(-int(max(shape) * factor) // STEP) * STEP
        if tried >= longest:
            break
        if (_pieces_at(labels, scaled_to(shape, tried, STEP), count) == 1).mean() >= KEPT:
            return tried
    return -(-longest // STEP) * STEP
