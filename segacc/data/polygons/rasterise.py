"""Convert the shapes of an image to its label map.

Polygons are filled by pycocotools, so that masks are those that COCO's own tools make. Where shapes
overlap, the one with fewer pixels is on top; if they have equally many, the later one in the file.
"""

from __future__ import annotations

from collections import Counter

import numpy as np
from pycocotools import mask as coco_masks

from segacc.data.polygons.shapes import Shape, Shapes
from segacc.labels import IGNORE, Coding, MaskValueError, UnknownValueError

LARGEST_SHIFT = 40
"""Bits of a compressed run length; no image has a longer one."""


def read_shapes(text: bytes, size: tuple[int, int], coding: Coding) -> tuple[np.ndarray, bool]:
    """Return the label map (H, W) uint8 of the shapes in a row, and whether its orientation is that
    in which viewers show the image.

    Args:
        text: from `Shapes.to_bytes`.
        size: height and width of the image, as viewers show it.

    Raises:
        MaskValueError: they are of an image of another size, or as in `label_map_of`.
    """
    shapes = Shapes.from_bytes(text)
    # Check before anything of this size is allocated: the file may give any size.
    if shapes.size not in (None, size, size[::-1]):
        raise MaskValueError(
            f"is of an image of {shapes.size[1]} x {shapes.size[0]} pixels, and the image has "
            f"{size[1]} x {size[0]}: export it again for this image"
        )
    return label_map_of(shapes, shapes.size or size, coding), shapes.as_seen


def label_map_of(shapes: Shapes, size: tuple[int, int], coding: Coding) -> np.ndarray:
    """(H, W) uint8: the label map of an image.

    Args:
        size: height and width of the image.

    Raises:
        UnknownValueError: there are categories that no class owns.
        MaskValueError: a shape is damaged, or lies far outside of the image.
    """
    height, width = size
    number_of = dict(coding.shapes)
    drawn: list[tuple[int, int, np.ndarray, np.ndarray]] = []
    unknown: Counter[str] = Counter()
    for shape in shapes.shapes:
        counts = _counts(shape, size, shapes.in_shares)
        ends = np.cumsum(counts)
        area = int(counts[1::2].sum())
        number = IGNORE if shape.name is None else number_of.get(shape.name)
        if number is None:
            unknown[str(shape.name)] += area
            continue
        drawn.append((area, number, ends[: len(ends) // 2 * 2 : 2], ends[1::2]))
    if unknown:
        raise UnknownValueError(dict(unknown.most_common()))
    drawn.sort(key=lambda one: -one[0])  # a stable sort keeps the order of the file
    flat = np.full(height * width, coding.uncovered, dtype=np.uint8)
    for _, number, starts, ends in drawn:
        for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
            flat[start:end] = number
    return np.ascontiguousarray(flat.reshape(width, height).T)


def _counts(shape: Shape, size: tuple[int, int], in_shares: bool) -> np.ndarray:
    """(R,) int64: lengths of the runs of a shape down the columns of the image."""
    counts = shape.counts
    if counts is None:
        if not shape.polygons:
            return np.array([size[0] * size[1]])
        counts = _rle_of_polygons(shape.polygons, size, in_shares)
    lengths = np.array(uncompressed(counts) if isinstance(counts, str) else counts, dtype=np.int64)
    if (lengths < 0).any() or lengths.sum() != size[0] * size[1]:
        raise MaskValueError(
            f"has an RLE of {lengths.sum()} pixels, which is not of an image of {size[1]} x "
            f"{size[0]}: write it again"
        )
    return lengths


def _rle_of_polygons(
    polygons: tuple[list[float], ...], size: tuple[int, int], in_shares: bool
) -> str:
    height, width = size
    scaled = []
    for polygon in polygons:
        points = np.array(polygon, dtype=np.float64).reshape(-1, 2)
        if in_shares:
            points *= (width, height)
        # What leaves the image is cut off. Farther away it is another image's, and filling it would
        # take memory without bounds.
        if (np.abs(points / (width, height) - 0.5) > 1.5).any():
            far = points[np.abs(points / (width, height) - 0.5).max(axis=1).argmax()]
            raise MaskValueError(
                f"has a polygon with the point ({far[0]:g}, {far[1]:g}), far outside of the image "
                f"of {width} x {height}"
            )
        scaled.append(points.ravel().tolist())
    rle = coco_masks.merge(coco_masks.frPyObjects(scaled, height, width))
    text: str = rle["counts"].decode("ascii")
    return text


def uncompressed(text: str) -> list[int]:
    """The run lengths in COCO's compressed form: six bits a character, as differences.

    pycocotools reads it without looking at its bounds, so files are read by this.

    Raises:
        MaskValueError: it is damaged.
    """
    counts: list[int] = []
    value = shift = 0
    for character in text.encode("utf-8"):
        bits = character - 48
        if not 0 <= bits < 64 or shift > LARGEST_SHIFT:
            raise MaskValueError("has a compressed RLE that is damaged: write it again")
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        if bits & 16:
            value -= 1 << shift
        counts.append(value + counts[-2] if len(counts) > 2 else value)
        value = shift = 0
    if shift:
        raise MaskValueError("has a compressed RLE that is cut short: write it again")
    return counts


def run_lengths(mask: np.ndarray) -> list[int]:
    """The run lengths, down the columns, of a mask (H, W) bool."""
    flat = mask.T.ravel()
    borders = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    counts: list[int] = np.diff(np.concatenate([[0], borders, [flat.size]])).tolist()
    return [0, *counts] if flat[0] else counts
