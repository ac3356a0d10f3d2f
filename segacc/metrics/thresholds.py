"""Every threshold at once: probabilities as 256 levels, and their histograms."""

from __future__ import annotations

import torch
from torch import Tensor

from segacc.metrics.counts import iou_of

LEVELS = 256
"""Probabilities are kept as levels 0..255, so that every threshold k / 256 can be tried later."""


def levels_of(probabilities: Tensor) -> Tensor:
    """Levels (uint8, same shape) of probabilities in 0..1: p > k / 256 where level >= k, k > 0.

    Exact, since 256 p is, in any floating-point type.
    """
    return (probabilities * LEVELS).ceil().sub(1).clamp(0, LEVELS - 1).to(torch.uint8)


def histogram(levels: Tensor, masks: Tensor) -> Tensor:
    """How many pixels of each image and class have each level.

    Args:
        levels: (B, C, H, W) uint8, of `levels_of`.
        masks: (B, C, H, W) in {0, 1}, any dtype.

    Returns:
        (B, C, 2, 256) int64: of the background, of the foreground.
    """
    images, classes = levels.shape[:2]
    bins = (masks > 0).long() * LEVELS + levels
    rows = torch.arange(images * classes, device=levels.device).view(images, classes, 1, 1)
    counted = (bins + rows * 2 * LEVELS).flatten().bincount(minlength=rows.numel() * 2 * LEVELS)
    return counted.view(images, classes, 2, LEVELS)


def counts_at_thresholds(histograms: Tensor) -> Tensor:
    """Counts for every threshold k / 256.

    Args:
        histograms: (..., 2, 256).

    Returns:
        (256, ..., 4) of k = 0 to 255, as from `count_pixels` (for k = 0 all is foreground).
    """
    above = histograms.flip(-1).cumsum(-1).flip(-1)  # pixels at this level or higher
    background, foreground = above.unbind(-2)
    counts = [
        foreground,
        background,
        foreground[..., :1] - foreground,
        background[..., :1] - background,
    ]
    return torch.stack(counts, dim=-1).movedim(-2, 0)


def best_threshold(histograms: Tensor) -> tuple[float, float]:
    """The threshold k / 256 with the largest `iou` over all images; of equals the one nearest 0.5.

    Args:
        histograms: (N, C, 2, 256) of N images.

    Returns:
        the threshold; its `iou`.
    """
    ious = iou_of(counts_at_thresholds(histograms.sum(dim=0))).mean(dim=-1)[1:]
    best = ious.max()
    levels = 1 + (ious == best).nonzero().flatten()
    nearest = levels[(levels - LEVELS // 2).abs().argmin()].item()
    return nearest / LEVELS, best.item()
