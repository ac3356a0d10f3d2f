"""Signs of faults in a single label map: tiny regions, and edges that a resize has smeared."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from segacc.labels import IGNORE

TINY = 4
"""px: a region of at most this many pixels may be an annotation error or left over from a
resize."""

MOST_IN_OUTLINE = 2 * TINY
"""points in the outline of such a region; those of a line are passed twice"""


def pixels_of_classes(label_map: np.ndarray) -> np.ndarray:
    """(256,) int64: how many pixels have each value of a label map."""
    return np.bincount(label_map.ravel(), minlength=256)


@dataclass(frozen=True)
class SmallRegions:
    """The connected regions (8 neighbours) of each class of a label map."""

    all: np.ndarray
    """(classes,) how many there are"""
    tiny: np.ndarray
    """(classes,) of these, how many have at most TINY pixels"""


def small_regions(label_map: np.ndarray, classes: int) -> SmallRegions:
    """Count the regions of a label map.

    Args:
        label_map: (H, W) uint8.
        classes: how many there are. With two, only the foreground is counted.
    """
    everything, tiny = np.zeros(classes, np.int64), np.zeros(classes, np.int64)
    for number in range(1 if classes == 2 else 0, classes):
        of_class = (label_map == number).view(np.uint8)
        if not cv2.countNonZero(of_class):
            continue
        # Outlines take a tenth of the time that sizes of all regions take.
        outlines, tree = cv2.findContours(of_class, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
        outer = np.flatnonzero(tree[0, :, 3] < 0)  # the others are those of holes
        everything[number] = len(outer)
        tiny[number] = sum(
            _size(outlines[i], bool(tree[0, i, 2] >= 0)) <= TINY
            for i in outer.tolist()
            if len(outlines[i]) <= MOST_IN_OUTLINE
        )
    return SmallRegions(everything, tiny)


def _size(outline: np.ndarray, has_hole: bool) -> int:
    """Count the pixels of a small region: its outline, and the one pixel inside a ring of four."""
    points = len({(x, y) for x, y in outline[:, 0].tolist()})
    inside = points == 4 and cv2.contourArea(outline) == 2 and not has_hole
    return points + inside


@dataclass(frozen=True)
class EdgePixels:
    """Pixels of a label map at edges."""

    between: int
    """pixels whose class number lies between those of the pixels to both sides"""
    edges: int
    """pairs of neighbours whose class numbers differ by more than 1, so that others lie between"""


def edge_pixels(label_map: np.ndarray) -> EdgePixels:
    """Count what interpolation leaves in a mask of numbers: at an edge from 1 to 5 it makes pixels
    of 3, which is another class.

    Args:
        label_map: (H, W) uint8; pixels beside IGNORE are left out.
    """
    values = label_map.astype(np.int16)
    values[label_map == IGNORE] = -1
    between = edges = 0
    for lines in (values, values.T):
        before, middle, after = lines[:, :-2], lines[:, 1:-1], lines[:, 2:]
        known = (before >= 0) & (middle >= 0) & (after >= 0)
        rises = (before < middle) & (middle < after)
        falls = (before > middle) & (middle > after)
        between += int(((rises | falls) & known).sum())
        left, right = lines[:, :-1], lines[:, 1:]
        edges += int(((np.abs(left - right) > 1) & (left >= 0) & (right >= 0)).sum())
    return EdgePixels(between, edges)
