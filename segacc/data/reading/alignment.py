"""How a mask fits on its image: turned by an EXIF orientation, or at another scale."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image

from segacc.errors import plural, some_names

ORIENTATION = 0x0112
"""The EXIF tag."""
# EXIF orientation -> how to turn the pixels so that they are as viewers show them.
AS_SEEN: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: np.rot90(a),
}
_TURNED = (5, 6, 7, 8)  # width and height change places
LEAST = 8
"""px: for smaller masks, a difference of one pixel is another shape."""
ArrayShape = tuple[int, ...]


def turned_back(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Pixels as viewers show them -> as a file with this EXIF orientation stores them."""
    inverse = {6: 8, 8: 6}.get(orientation, orientation)
    return np.ascontiguousarray(AS_SEEN[inverse](pixels)) if orientation != 1 else pixels


def lies_as_stored(mask: ArrayShape, image: ArrayShape, orientation: int) -> bool | None:
    """Whether a mask without a tag was drawn on the image as its file stores it, and not as
    viewers show it; None where the sizes leave that open.

    Args:
        mask: height and width.
        image: the same, as viewers show it.
        orientation: that of the image; it is not 1.
    """
    if orientation not in _TURNED:
        return None
    for fits in (_is_equal, is_at_another_scale):
        stored, seen = fits(mask, image[1::-1]), fits(mask, image)
        if stored or seen:
            return None if stored and seen else stored
    return None if image[0] == image[1] else False


def _is_equal(one: ArrayShape, other: ArrayShape) -> bool:
    return one == other


def is_at_another_scale(mask: ArrayShape, image: ArrayShape) -> bool:
    """Whether height and width of the mask are those of the image times one factor, where a side
    of the smaller one may be a pixel off by rounding."""
    small, large = sorted((mask, image), key=lambda shape: shape[0] * shape[1])
    off = abs(small[1] * large[0] - large[1] * small[0]) / max(large)  # px of the shorter side
    return min(small) >= LEAST and off <= 1


def scaled_to_image(label_map: np.ndarray, image: ArrayShape) -> np.ndarray:
    """The label map (H, W) uint8 at the size of its image: each pixel takes the nearest one's."""
    height, width = image
    return np.asarray(Image.fromarray(label_map).resize((width, height), Image.Resampling.NEAREST))


def about_scaled(names: Sequence[str]) -> str:
    """A sentence on masks that were scaled to their images, by their names."""
    return (
        f"{plural(len(names), 'mask')} of another size, with the proportions of the image, scaled "
        f"to it by the nearest pixel ({some_names(names)}): export masks at the size of their "
        "images where edges matter"
    )
