"""The scores of a split, with intervals; each is made of a few numbers per image."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from segacc.metrics.counts import count_pixels, dice_of, iou_of, precision_of, ratio, recall_of
from segacc.metrics.intervals import Score, interval, resamples
from segacc.metrics.surfaces import boundary_counts, hausdorff_95

FORMULAS = {
    "iou": "TP / (TP + FP + FN) over all pixels of the split",
    "iou_image": "the same of each image, mean over images",
    "dice": "2 TP / (2 TP + FP + FN) over all pixels of the split",
    "dice_image": "the same of each image, mean over images",
    "precision": "TP / (TP + FP) over all pixels of the split",
    "recall": "TP / (TP + FN) over all pixels of the split",
    "boundary_iou": "IoU of what of each mask lies within 2 % of the image's diagonal of its "
    "outline (Cheng et al. 2021), mean over images",
    "hd95": "95 % Hausdorff distance of the outlines in px; 0 where mask and prediction are empty, "
    "the image's diagonal where one is; mean over images",
    "ece": "expected calibration error: |share of foreground - mean probability| in 15 bins of the "
    "probability, mean over all pixels of the split",
}
LOWER_IS_BETTER = ("hd95", "ece")
BINS = 15


@dataclass(frozen=True)
class ImageStats:
    """What all scores are made of; float64 on the CPU, of N images with one class."""

    counts: Tensor
    """(N, 4): tp, fp, fn, tn"""
    boundary: Tensor
    """(N, 2): intersection and union of the boundaries"""
    hd95: Tensor
    """(N, 1) px"""
    calibration: Tensor
    """(N, 3 * BINS): per bin of the probability, pixels, their sum of it, and foreground pixels"""

    def packed(self) -> Tensor:
        """(N, 7 + 3 * BINS), for a collective."""
        return torch.cat([self.counts, self.boundary, self.hd95, self.calibration], dim=1)

    @staticmethod
    def width() -> int:
        """Columns of `packed`."""
        return 4 + 2 + 1 + 3 * BINS

    @staticmethod
    def unpacked(packed: Tensor) -> ImageStats:
        """The inverse of `packed`."""
        return ImageStats(*packed.split([4, 2, 1, 3 * BINS], dim=1))

    def __len__(self) -> int:
        return len(self.counts)

    def columns(self) -> dict[str, Tensor]:
        """The scores of each image alone, (N,) each."""
        return {
            "iou": iou_of(self.counts),
            "dice": dice_of(self.counts),
            "precision": precision_of(self.counts),
            "recall": recall_of(self.counts),
            "boundary_iou": ratio(self.boundary[:, 0], self.boundary[:, 1]),
            "hd95": self.hd95[:, 0],
            "ece": calibration_error(self.calibration),
        }


def image_stats(probabilities: Tensor, masks: Tensor, threshold: float) -> ImageStats:
    """The numbers of a batch.

    Args:
        probabilities: (B, 1, H, W) in 0..1.
        masks: (B, 1, H, W) in {0, 1}.
        threshold: foreground is above this.
    """
    assert probabilities.shape[1] == 1, "masks are binary"
    counts = count_pixels(probabilities, masks, threshold)[:, 0].double().cpu()
    boundary, hd95, calibration = [], [], []
    for p, mask in zip(probabilities[:, 0].cpu(), masks[:, 0].cpu(), strict=True):
        found, truth = (p > threshold).numpy(), (mask > 0).numpy()
        boundary.append(boundary_counts(found, truth))
        hd95.append(hausdorff_95(found, truth))
        bins = (p * BINS).long().clamp(max=BINS - 1).flatten()
        values = (torch.ones_like(p), p, mask > 0)
        counted = [bins.bincount(v.double().flatten(), minlength=BINS) for v in values]
        calibration.append(torch.cat(counted))
    return ImageStats(
        counts,
        torch.tensor(boundary).double(),
        torch.tensor(hd95).double()[:, None],
        torch.stack(calibration),
    )


def calibration_error(calibration: Tensor) -> Tensor:
    """Expected calibration error (Naeini et al. 2015) of the probability of foreground, (...).

    Args:
        calibration: (..., 3 * BINS), as in ImageStats.
    """
    pixels, confidence, foreground = calibration.unflatten(-1, (3, BINS)).unbind(-2)
    return (foreground - confidence).abs().sum(-1) / pixels.sum(-1)


def split_scores(stats: ImageStats, weights: Tensor) -> dict[str, Tensor]:
    """All scores of a split in which image i is there weights[r, i] times.

    Args:
        weights: (R, N) float64.

    Returns:
        (R,) by the names of FORMULAS.
    """
    own = stats.columns()
    counts = weights @ stats.counts
    images = weights.sum(dim=1)
    mean = {name: (weights @ own[name]) / images for name in ("iou", "dice", "boundary_iou")}
    return {
        "iou": iou_of(counts),
        "iou_image": mean["iou"],
        "dice": dice_of(counts),
        "dice_image": mean["dice"],
        "precision": precision_of(counts),
        "recall": recall_of(counts),
        "boundary_iou": mean["boundary_iou"],
        "hd95": (weights @ own["hd95"]) / images,
        "ece": calibration_error(weights @ stats.calibration),
    }


def scores_with_intervals(stats: ImageStats) -> dict[str, Score]:
    """The scores of a split with percentile-bootstrap intervals (Efron & Tibshirani 1993)."""
    values = split_scores(stats, torch.ones(1, len(stats), dtype=torch.double))
    if len(stats) == 1:
        return {name: Score(value.item(), None, None) for name, value in values.items()}
    drawn = split_scores(stats, resamples(len(stats)))
    return {name: Score(value.item(), *interval(drawn[name])) for name, value in values.items()}
