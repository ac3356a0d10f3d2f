"""The classes of the street scenes of the demo."""

from __future__ import annotations

from enum import IntEnum

import numpy as np

from segacc.labels import Labels, colours_for


class Region(IntEnum):
    """The things in a street scene, from far to near: the values of its label map."""

    SKY = 0
    BUILDING = 1
    PAVEMENT = 2
    ROAD = 3
    VEGETATION = 4  # trees, shrubs and hedges, with trunks and pots
    OBJECT = 5  # poles, signs, bins and hydrants
    VEHICLE = 6  # cars and bicycles
    PERSON = 7  # with clothes and bags


# The seven colours of `colours_for`, in the order in which they suit what they stand for, and for
# objects black, which is the eighth of Okabe & Ito.
_COLOURED = ("vehicle", "sky", "vegetation", "pavement", "road", "person", "building")
_COLOURS = dict(zip(_COLOURED, colours_for(_COLOURED), strict=True)) | {"object": (0, 0, 0)}
_NAMES = tuple(region.name.lower() for region in Region)
REGIONS = Labels(_NAMES, tuple(_COLOURS[name] for name in _NAMES))


def averaged_down(fine: np.ndarray, times: int) -> np.ndarray:
    """The label map of an image that was averaged down: a pixel is of the nearest region that
    covers half of it, alone or together with nearer ones.

    Args:
        fine: (times * H, times * W) uint8, the values of `Region`.
        times: how many pixels become one, in each direction.

    Returns:
        (H, W) uint8.
    """
    height, width = (side // times for side in fine.shape)
    blocks = fine.reshape(height, times, width, times).swapaxes(1, 2)
    median: np.ndarray = np.sort(blocks.reshape(height, width, -1))[..., times * times // 2]
    return median
