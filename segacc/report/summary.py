"""The numbers of a run at every threshold. Their size does not grow with the number of images."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from segacc.metrics.counts import iou_of
from segacc.metrics.thresholds import LEVELS, counts_at_thresholds, histogram
from segacc.report.scored import Scored

IOU_BINS = 20  # bins of the chart that counts the images by their IoU


@dataclass(frozen=True)
class Summary:
    """Numbers of some images at each threshold k / 256, for k = 0 to 255."""

    histogram: Tensor
    """(2, 256) int64: how many pixels of the background and of the foreground have each level"""
    iou_image: Tensor
    """(256,) float64: mean over the images of the IoU at each threshold"""
    bins: Tensor
    """(256, IOU_BINS) int64: at each threshold, how many images have an IoU in each bin"""
    own_ious: Tensor
    """(N,) float64: the IoU of each image at the threshold of the run"""


def summarise(run: Scored, indices: list[int]) -> Summary:
    """Read the levels of these images one by one and sum up what is in them.

    Raises:
        InputError: a file of probabilities is missing or damaged.
    """
    pixels = torch.zeros(2, LEVELS, dtype=torch.long)
    ious_sum = torch.zeros(LEVELS, dtype=torch.double)
    bins = torch.zeros(LEVELS, IOU_BINS, dtype=torch.long)
    own_ious = torch.empty(len(indices), dtype=torch.double)
    each_level = torch.arange(LEVELS)
    for i, index in enumerate(indices):
        counted = image_histogram(run, index)
        ious = iou_of(counts_at_thresholds(counted))
        pixels += counted
        ious_sum += ious
        bins[each_level, (ious * IOU_BINS).long().clamp(max=IOU_BINS - 1)] += 1
        own_ious[i] = ious[run.level]
    return Summary(pixels, ious_sum / max(1, len(indices)), bins, own_ious)


def image_histogram(run: Scored, index: int) -> Tensor:
    """(2, 256) int64: how many pixels of background and foreground of an image have each level."""
    levels, label_map = (torch.from_numpy(a.copy()) for a in (run.found(index), run.mask(index)))
    return histogram(levels[None, None], label_map[None])[0, 0]
