"""The scores of a split with intervals, for two classes, from a few numbers per image."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from segacc.labels import FOREGROUND, IGNORE
from segacc.metrics.counts import (
    count_pixels,
    dice_of,
    iou_of,
    precision_of,
    predicted_labels,
    ratio,
    recall_of,
)
from segacc.metrics.intervals import Score, bootstrap, percentile_interval
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
CALIBRATION_BINS = 15


@dataclass(frozen=True)
class ImageStats:
    """What all scores of N images are made of, for two classes; float64 on the CPU."""

    counts: Tensor
    """(N, 4): tp, fp, fn, tn"""
    boundary: Tensor
    """(N, 2): intersection and union of the boundaries"""
    hd95: Tensor
    """(N, 1) px"""
    calibration: Tensor
    """(N, 3 * CALIBRATION_BINS): of each bin of the probability the number of pixels, then of each
    the sum of their probabilities, then of each the number of foreground pixels"""

    def packed(self) -> Tensor:
        """One row per image, (N, width()), so that ranks can gather them at once."""
        return torch.cat([self.counts, self.boundary, self.hd95, self.calibration], dim=1)

    @staticmethod
    def width() -> int:
        """Columns of `packed`."""
        return 4 + 2 + 1 + 3 * CALIBRATION_BINS

    @staticmethod
    def unpacked(packed: Tensor) -> ImageStats:
        """The inverse of `packed`."""
        return ImageStats(*packed.split([4, 2, 1, 3 * CALIBRATION_BINS], dim=1))

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


def image_stats(probabilities: Tensor, label_maps: Tensor, threshold: float) -> ImageStats:
    """The numbers of a batch. Where the label map says nothing, neither truth nor prediction has
    foreground, and no pixel is counted.

    Args:
        probabilities: (B, 1, H, W) in 0..1.
        label_maps: (B, H, W) uint8 of 0, 1 and IGNORE.
        threshold: foreground is where the probability is above this.
    """
    images, classes, *size = probabilities.shape
    assert classes == 1, "these scores are for two classes only"
    assert label_maps.shape == (images, *size), "one label per pixel"
    predicted = predicted_labels(probabilities, threshold)
    counts = count_pixels(predicted, label_maps, classes=2)[:, 0].double().cpu()
    boundary, hd95, calibration = [], [], []
    for p, found, truth in zip(
        probabilities[:, 0].cpu(), predicted.cpu(), label_maps.cpu(), strict=True
    ):
        counted = truth != IGNORE
        found_mask = ((found == FOREGROUND) & counted).numpy()
        true_mask = (truth == FOREGROUND).numpy()
        boundary.append(boundary_counts(found_mask, true_mask))
        hd95.append(hausdorff_95(found_mask, true_mask))
        calibration.append(_calibration(p[counted], truth[counted] == FOREGROUND))
    return ImageStats(
        counts,
        torch.tensor(boundary).double(),
        torch.tensor(hd95).double()[:, None],
        torch.stack(calibration),
    )


def _calibration(p: Tensor, is_foreground: Tensor) -> Tensor:
    """(3 * CALIBRATION_BINS,) float64 of probabilities and truth (P,); see ImageStats."""
    bins = (p * CALIBRATION_BINS).long().clamp(max=CALIBRATION_BINS - 1)
    values = (torch.ones_like(p), p, is_foreground)
    return torch.cat([bins.bincount(v.double(), minlength=CALIBRATION_BINS) for v in values])


def calibration_error(calibration: Tensor) -> Tensor:
    """Expected calibration error (Naeini et al. 2015) of the probability of foreground, (...);
    0 where no pixel is counted.

    Args:
        calibration: (..., 3 * CALIBRATION_BINS), as in ImageStats.
    """
    pixels, confidence, foreground = calibration.unflatten(-1, (3, CALIBRATION_BINS)).unbind(-2)
    return (foreground - confidence).abs().sum(-1) / pixels.sum(-1).clamp_min(1)


def split_scores(stats: ImageStats, weights: Tensor) -> dict[str, Tensor]:
    """All scores of a split in which image i is there weights[r, i] times. Images of which all
    pixels are ignored do not count.

    Args:
        weights: (R, N) float64.

    Returns:
        (R,) by the names of FORMULAS.
    """
    own = stats.columns()
    counts = weights @ stats.counts
    weights = weights * (stats.counts.sum(dim=1) > 0)
    images = weights.sum(dim=1).clamp_min(1)
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
    drawn = bootstrap(lambda weights: _table(split_scores(stats, weights)), len(stats))
    return {
        name: Score(value.item(), *percentile_interval(column))
        for (name, value), column in zip(values.items(), drawn.T, strict=True)
    }


def _table(columns: dict[str, Tensor]) -> Tensor:
    return torch.stack(list(columns.values()), dim=1)
