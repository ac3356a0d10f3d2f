"""Every threshold at once, for two classes: probabilities as 256 levels, and their histograms."""

from __future__ import annotations

import torch
from torch import Tensor

from segacc.labels import FOREGROUND, IGNORE
from segacc.metrics.counts import iou_of

LEVELS = 256
"""Probabilities are kept as levels 0..255, so that every threshold k / 256 can be tried later."""


def levels_of(probabilities: Tensor) -> Tensor:
    """Levels (uint8, same shape) of probabilities in 0..1.

    The probability is above k / 256 where the level is k or more, for k = 1 to 255. This holds
    exactly, since multiplying by 256 does not round in any floating-point type.
    """
    return (probabilities * LEVELS).ceil().sub(1).clamp(0, LEVELS - 1).to(torch.uint8)


def histogram(levels: Tensor, label_maps: Tensor) -> Tensor:
    """How many pixels of each image have each level, for two classes.

    Args:
        levels: (B, 1, H, W) uint8, from `levels_of`.
        label_maps: (B, H, W) uint8 of 0, 1 and IGNORE, which is not counted.

    Returns:
        (B, 1, 2, 256) int64: of the background, of the foreground.
    """
    images, classes, *size = levels.shape
    assert classes == 1, "a threshold decides between two classes only"
    assert label_maps.shape == (images, *size), "one label per pixel"
    assert levels.dtype == label_maps.dtype == torch.uint8
    # Ignored pixels go into a bin of their own, which is left out at the end.
    bins = (label_maps == FOREGROUND).long() * LEVELS + levels[:, 0]
    bins = torch.where(label_maps == IGNORE, 2 * LEVELS, bins)
    first = torch.arange(images, device=levels.device).view(-1, 1, 1) * (2 * LEVELS + 1)
    counted = (first + bins).flatten().bincount(minlength=images * (2 * LEVELS + 1))
    return counted.view(images, 1, -1)[..., :-1].unflatten(-1, (2, LEVELS))


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
    """The threshold k / 256 with the largest `iou` over all images; if several are equally good,
    the one nearest to 0.5.

    Args:
        histograms: (N, 1, 2, 256) of N images, from `histogram`.

    Returns:
        the threshold; its `iou`.
    """
    assert histograms.ndim == 4 and histograms.shape[1:] == (1, 2, LEVELS)
    ious = iou_of(counts_at_thresholds(histograms.sum(dim=0)))[1:, 0]
    best = ious.max()
    levels = 1 + (ious == best).nonzero().flatten()
    nearest = levels[(levels - LEVELS // 2).abs().argmin()].item()
    return nearest / LEVELS, best.item()
