"""Examples of a checked data set, for people to look at."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from segacc.data.audit.audit import Audit
from segacc.data.audit.sample import Sample
from segacc.data.reading.depth import to_8_bits
from segacc.data.rows import read_row

ROOM = 3
"""An example shows a square around the class, this many times as wide as the class itself."""
LEAST = 64
"""px: the side of the smallest such square."""


@dataclass(frozen=True, eq=False)
class Example:
    """An image and its mask, or a part of them."""

    sample: Sample
    image: np.ndarray
    """(H, W, 3) uint8 RGB"""
    label_map: np.ndarray
    """(H, W) uint8"""
    share: float
    """the share of the whole image's pixels that are of the class"""
    is_part: bool


def examples_of_split(audit: Audit, split: str, most: int) -> Iterator[Example]:
    """Yield whole images, evenly spaced."""
    of_split = [sample for sample in audit.samples if sample.split == split]
    for sample in _evenly(of_split, most):
        yield Example(sample, *_read(audit, sample), sample.share, False)


def examples_of_class(audit: Audit, number: int, most: int) -> Iterator[Example]:
    """Yield images that have a class, from the largest share of it to the smallest. Where the class
    is small, the image is cropped to the area around it."""
    there = [sample for sample in audit.samples if sample.pixels[number]]
    there.sort(key=lambda sample: -_share(sample, number))
    for sample in _evenly(there, most):
        image, label_map = _read(audit, sample)
        part = around(label_map == number)
        is_part = label_map[part].shape != label_map.shape
        yield Example(sample, image[part], label_map[part], _share(sample, number), is_part)


def around(of_class: np.ndarray) -> tuple[slice, slice]:
    """Return the square around the largest region, ROOM times as wide as the region. At the edges
    of the image it is moved inside.

    Args:
        of_class: (H, W) bool, not False everywhere.
    """
    import cv2

    _, _, stats, _ = cv2.connectedComponentsWithStats(of_class.view(np.uint8), connectivity=8)
    left, top, width, height, _ = stats[1 + stats[1:, cv2.CC_STAT_AREA].argmax()]
    side = max(LEAST, ROOM * max(int(width), int(height)))
    cut = []
    for start, length, whole in zip((top, left), (height, width), of_class.shape, strict=True):
        first = max(0, min(int(start + length / 2 - side / 2), whole - side))
        cut.append(slice(first, min(whole, first + side)))
    return cut[0], cut[1]


def _share(sample: Sample, number: int) -> float:
    return float(sample.pixels[number] / sample.pixels.sum())


def _evenly(samples: Sequence[Sample], most: int) -> list[Sample]:
    places = np.linspace(0, len(samples) - 1, min(most, len(samples))).round().astype(int)
    return [samples[place] for place in places]


def _read(audit: Audit, sample: Sample) -> tuple[np.ndarray, np.ndarray]:
    pair = read_row(audit.splits[sample.split][sample.row], audit.coding)
    return to_8_bits(pair.values, audit.value_range), pair.label_map
