"""How well outlines agree: boundary IoU and the surface distance, of one image."""

from __future__ import annotations

import cv2
import numpy as np

BOUNDARY_SHARE = 0.02  # of the diagonal, as in the paper


def boundary_counts(found: np.ndarray, truth: np.ndarray) -> tuple[int, int]:
    """Intersection and union, in pixels, of what of each mask lies within 2 % of the image's
    diagonal of its outline. Their ratio is the boundary IoU (Cheng et al. 2021).

    Args:
        found, truth: (H, W) bool.
    """
    inside, other = _rim(found), _rim(truth)
    return int((inside & other).sum()), int((inside | other).sum())


def _rim(mask: np.ndarray) -> np.ndarray:
    width = max(1, round(BOUNDARY_SHARE * float(np.hypot(*mask.shape))))
    # The border of the image is an outline, too, as in the authors' code.
    framed = cv2.copyMakeBorder(mask.astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    core = cv2.erode(framed, np.ones((3, 3), np.uint8), iterations=width)[1:-1, 1:-1]
    return mask & (core == 0)


def hausdorff_95(found: np.ndarray, truth: np.ndarray) -> float:
    """95 % Hausdorff distance in pixels: 95 % of each outline's pixels are nearer to the other
    outline than this. 0 where both masks are empty, and the image's diagonal where only one is.

    Args:
        found, truth: (H, W) bool.
    """
    from scipy import ndimage  # here, since training does not need it

    if not found.any() or not truth.any():
        return float(np.hypot(*found.shape)) if found.any() or truth.any() else 0.0
    one, other = (mask & ~ndimage.binary_erosion(mask) for mask in (found, truth))
    return max(_distance_95(one, other), _distance_95(other, one))


def _distance_95(outline: np.ndarray, other: np.ndarray) -> float:
    from scipy import ndimage

    return float(np.percentile(ndimage.distance_transform_edt(~other)[outline], 95))
