"""How well outlines agree: boundary IoU and the surface distance, of one image."""

from __future__ import annotations

import cv2
import numpy as np

BOUNDARY_SHARE = 0.02  # of the diagonal, as in the paper

PixelSize = tuple[float, float]
"""Height and width of a pixel."""
UNKNOWN = -1.0
"""stands for a distance in mm if the size of a pixel is not known"""


def boundary_counts(found: np.ndarray, truth: np.ndarray) -> tuple[int, int]:
    """Count the pixels in the intersection and in the union of the boundaries of two masks. The
    boundary is the part of a mask that is nearer to its outline than 2 % of the image's diagonal.
    The ratio of the two counts is the boundary IoU (Cheng et al. 2021).

    Args:
        found, truth: (H, W) bool.
    """
    assert found.shape == truth.shape, (found.shape, truth.shape)
    inside, other = _rim(found), _rim(truth)
    return int((inside & other).sum()), int((inside | other).sum())


def _rim(mask: np.ndarray) -> np.ndarray:
    width = max(1, round(BOUNDARY_SHARE * float(np.hypot(*mask.shape))))
    # The border of the image is an outline, too, as in the authors' code.
    framed = cv2.copyMakeBorder(mask.astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    core = cv2.erode(framed, np.ones((3, 3), np.uint8), iterations=width)[1:-1, 1:-1]
    return mask & (core == 0)


def hausdorff_95(found: np.ndarray, truth: np.ndarray, step: PixelSize = (1.0, 1.0)) -> float:
    """95 % Hausdorff distance: 95 % of each outline's pixels are nearer to the other outline than
    this. 0 where both masks are empty, and the image's diagonal where only one is.

    Args:
        found, truth: (H, W) bool.
        step: the height and the width of a pixel; the distance has their unit.
    """
    from scipy import ndimage  # here, since training does not need it

    if not found.any() or not truth.any():
        height, width = found.shape
        diagonal = float(np.hypot(height * step[0], width * step[1]))
        return diagonal if found.any() or truth.any() else 0.0
    one, other = (mask & ~ndimage.binary_erosion(mask) for mask in (found, truth))
    return max(_distance_95(one, other, step), _distance_95(other, one, step))


def _distance_95(outline: np.ndarray, other: np.ndarray, step: PixelSize) -> float:
    from scipy import ndimage

    return float(np.percentile(ndimage.distance_transform_edt(~other, step)[outline], 95))


def hausdorff_distances(
    found: np.ndarray, truth: np.ndarray, scale: PixelSize, spacing: PixelSize | None
) -> tuple[float, float, float]:
    """`hausdorff_95` in px of the scored size, in px of the image's own size, and in mm.

    Args:
        found, truth: (H, W) bool.
        scale: the height and the width of a pixel in px of the image's own size.
        spacing: those of a px of this size in mm; without it the distance in mm is UNKNOWN.
    """
    scored = hausdorff_95(found, truth)

    def in_unit(step: PixelSize) -> float:
        return scored * step[0] if step[0] == step[1] else hausdorff_95(found, truth, step)

    mm = in_unit((scale[0] * spacing[0], scale[1] * spacing[1])) if spacing else UNKNOWN
    return scored, in_unit(scale), mm
