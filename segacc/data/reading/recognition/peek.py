"""What a few files of a group look like: photographs, or masks with few values.

Only files whose names leave a question open are looked at.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image

from segacc.data.reading.decode import _DAMAGED, IMAGE_FORMATS

SAMPLES = 5  # files of a group that are looked at
MOST_PIXELS = 100_000_000  # a larger file is not decoded for a look
MOST_VALUES = 64  # of a mask; photographs have more, unless they are tiny
SAME = 0.95  # share of the pixels in which masks agree that say the same about every image

T = TypeVar("T")


def spread(items: Sequence[T]) -> list[T]:
    """A few of the items, from the first to the last."""
    count = min(SAMPLES, len(items))
    return [items[(len(items) - 1) * i // max(1, count - 1)] for i in range(count)]


def look_like_masks(folder: Path, files: Sequence[str]) -> bool | None:
    """Whether the files look like masks; None where they differ or nothing can be said."""
    share = share_of_masks(folder, files)
    return bool(share) if share in (0, 1) else None


def share_of_masks(folder: Path, files: Sequence[str]) -> float | None:
    """The share of a few of the files that look like masks; None where nothing can be said."""
    said = [_looks_like_mask(folder / file) for file in spread(files)]
    known = [is_mask for is_mask in said if is_mask is not None]
    return sum(known) / len(known) if known else None


def have_one_channel(folder: Path, files: Sequence[str]) -> bool:
    """Whether the files are gray or have a palette, as masks that hold the numbers of classes."""
    looked = [_pixels(folder / file) for file in spread(files)]
    return all(pixels is not None and pixels.ndim == 2 for pixels in looked)


def sizes_agree(folder: Path, pairs: Sequence[tuple[str, str]]) -> bool:
    """Whether most images are as large as their masks; True where nothing can be said."""
    few = spread(pairs)
    sizes = [(_size(folder / image), _size(folder / mask)) for image, mask in few]
    return 2 * sum(None not in both and both[0] != both[1] for both in sizes) <= len(few)


def say_the_same(folder: Path, files: Sequence[str]) -> bool:
    """Whether the masks of several images are nearly equal, as a camera's field of view is."""
    looked = [_pixels(folder / file) for file in spread(files)]
    masks = [pixels > 0 for pixels in looked if pixels is not None and pixels.ndim == 2]
    if len(masks) < 3 or len({mask.shape for mask in masks}) > 1 or not masks[0].any():
        return False
    return all(bool((mask == masks[0]).mean() > SAME) for mask in masks)


def _looks_like_mask(file: Path) -> bool | None:
    """Whether the pixels have few values, or are nearly all close to two as in a mask that was
    saved as JPEG. None for a file that cannot be read or has one value only."""
    pixels = _pixels(file)
    if pixels is None:
        return None
    if pixels.ndim == 3:
        pixels = pixels[..., :3].astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], dtype=np.uint32)
    values, counts = np.unique(pixels, return_counts=True)
    if len(values) == 1:
        return None
    if len(values) <= min(MOST_VALUES, pixels.size // 8):
        return True
    if values.max() > 255:
        return False
    values = values.astype(np.int64)
    first = values[counts.argmax()]
    far = np.where(abs(values - first) > 16, counts, 0)
    near = np.minimum(abs(values - first), abs(values - values[far.argmax()])) <= 8
    return bool(far.any() and counts[near].sum() > 0.9 * pixels.size)


def _size(file: Path) -> tuple[int, int] | None:
    """Width and height, the smaller one first, since an image may be stored turned."""
    try:
        with Image.open(file, formats=IMAGE_FORMATS) as opened:
            return min(opened.size), max(opened.size)
    except (*_DAMAGED, Image.DecompressionBombError):
        return None


def _pixels(file: Path) -> np.ndarray | None:
    """The values (H, W) or (H, W, C) of the file, gray where the channels are equal."""
    try:
        with Image.open(file, formats=IMAGE_FORMATS) as opened:
            if opened.width * opened.height > MOST_PIXELS:
                return None
            pixels = np.asarray(opened)
    except (*_DAMAGED, Image.DecompressionBombError):
        return None
    if pixels.ndim == 3 and (pixels[..., :3] == pixels[..., :1]).all():
        return pixels[..., 0]
    return pixels
