"""Counts of true and false pixels per image and class; every score derives from these.

`iou` and `dice` are over all pixels of the split ("dataset", or micro); `iou_image` and
`dice_image` are means over images. They differ (0.714 and 0.857 for one and the same pair of
images), so both are always named and reported.
"""

from __future__ import annotations

import torch
from torch import Tensor

TP, FP, FN, TN = range(4)


def count_pixels(probabilities: Tensor, masks: Tensor, threshold: float = 0.5) -> Tensor:
    """Count per image and class.

    Args:
        probabilities: (B, C, H, W) in 0..1.
        masks: (B, C, H, W) in {0, 1}, any dtype.
        threshold: foreground is above this.

    Returns:
        (B, C, 4) int64: true positive, false positive, false negative, true negative pixels.
    """
    found, truth = probabilities > threshold, masks > 0
    tp = (found & truth).sum(dim=(2, 3))
    fp = (found & ~truth).sum(dim=(2, 3))
    fn = (~found & truth).sum(dim=(2, 3))
    tn = (~found & ~truth).sum(dim=(2, 3))
    return torch.stack([tp, fp, fn, tn], dim=-1)


def ratio(part: Tensor, whole: Tensor) -> Tensor:
    """part / whole in float64, and 1 where there is nothing to find and nothing was found."""
    return torch.where(
        whole > 0, part.double() / whole.clamp_min(1), torch.ones((), dtype=torch.double)
    )


def iou_of(counts: Tensor) -> Tensor:
    """tp / (tp + fp + fn) of counts (..., 4); 1 where mask and prediction are both empty."""
    tp, fp, fn = counts[..., TP], counts[..., FP], counts[..., FN]
    return ratio(tp, tp + fp + fn)


def dice_of(counts: Tensor) -> Tensor:
    """2 tp / (2 tp + fp + fn) of counts (..., 4); 1 where mask and prediction are both empty."""
    tp, fp, fn = counts[..., TP], counts[..., FP], counts[..., FN]
    return ratio(2 * tp, 2 * tp + fp + fn)


def precision_of(counts: Tensor) -> Tensor:
    """tp / (tp + fp) of counts (..., 4); 1 where nothing was predicted."""
    return ratio(counts[..., TP], counts[..., TP] + counts[..., FP])


def recall_of(counts: Tensor) -> Tensor:
    """tp / (tp + fn) of counts (..., 4); 1 where the mask is empty."""
    return ratio(counts[..., TP], counts[..., TP] + counts[..., FN])


def scores(counts: Tensor) -> dict[str, float]:
    """All scores of a split, mean over classes.

    Args:
        counts: (N, C, 4) of N > 0 images.
    """
    assert len(counts), "no image was counted"
    split = counts.sum(dim=0)
    return {
        "iou": iou_of(split).mean().item(),
        "iou_image": iou_of(counts).mean().item(),
        "dice": dice_of(split).mean().item(),
        "dice_image": dice_of(counts).mean().item(),
        "precision": precision_of(split).mean().item(),
        "recall": recall_of(split).mean().item(),
    }


def constant_mask_iou(counts: Tensor) -> float:
    """`iou` of the best answer without a model: every pixel foreground (none gives 0)."""
    split = counts.sum(dim=0)
    foreground = split[..., TP] + split[..., FN]
    return ratio(foreground, split.sum(dim=-1)).mean().item()
