"""The scores of a split with intervals, from a few numbers per image.

With two classes all are of the foreground. With more they are means over the classes that occur
(`segacc.metrics.counts`), and each class has scores of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from segacc.labels import FOREGROUND, IGNORE
from segacc.metrics.counts import (
    FN,
    FP,
    TP,
    count_pixels,
    dice_of,
    iou_of,
    mean_over_classes,
    precision_of,
    predicted_labels,
    ratio,
    recall_of,
)
from segacc.metrics.intervals import Score, bootstrap, percentile_interval
from segacc.metrics.surfaces import UNKNOWN, PixelSize, boundary_counts, hausdorff_distances

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
    "hd95_own": "the same in px of the image's own size, whose resize to the size that was scored "
    "is undone along each side",
    "hd95_mm": "the same in mm, by --spacing",
    "ece": "expected calibration error: |share of foreground - mean probability| in 15 bins of the "
    "probability, mean over all pixels of the split",
}
CLASS_FORMULAS = {
    "iou": "mIoU: TP / (TP + FP + FN) of each class over all pixels of the split, mean over the "
    "classes that are in the masks or were predicted",
    "iou_image": "the same of each image, mean over images",
    "dice": "2 TP / (2 TP + FP + FN) of each class over all pixels of the split, mean as for iou",
    "dice_image": "the same of each image, mean over images",
    "precision": "TP / (TP + FP) of each class over all pixels of the split, mean as for iou; 0 "
    "for one that was never predicted",
    "recall": "TP / (TP + FN) of each class over all pixels of the split, mean as for iou; 0 for "
    "one that is in no mask",
    "accuracy": "share of the pixels whose class was predicted",
    "boundary_iou": "IoU of what of each class lies within 2 % of the image's diagonal of its "
    "outline (Cheng et al. 2021), mean over the classes of an image, then over images",
    "ece": "expected calibration error: |share of right pixels - mean probability of the predicted "
    "class| in 15 bins of this probability, mean over all pixels of the split",
}
OF_CLASS = ("iou", "dice", "precision", "recall")
"""Scores that each class has by itself."""
DISTANCES = {"hd95": "px", "hd95_own": "px", "hd95_mm": "mm"}
"""Scores that have a unit, and the unit."""
OF_IMAGE = ("boundary_iou", *DISTANCES)
"""Scores of an image that its counts do not give; the score of a split is their mean."""
LOWER_IS_BETTER = (*DISTANCES, "ece")
CALIBRATION_BINS = 15


@dataclass(frozen=True)
class ImageStats:
    """The numbers from which all scores of N images are computed; float64 on the CPU. K is 1 for
    two classes, else their number."""

    counts: Tensor
    """(N, K, 4): tp, fp, fn, tn"""
    boundary: Tensor
    """(N, K, 2): intersection and union of the boundaries"""
    hd95: Tensor
    """(N, 3): in px of the scored size, in px of the image's own size, and in mm, which is UNKNOWN
    if the size of a pixel is not known; for two classes only, else 0"""
    calibration: Tensor
    """(N, 3 * CALIBRATION_BINS): for each bin of the probability the number of pixels, then for
    each the sum of their probabilities, then for each the number of foreground pixels (with more
    than two classes: of pixels that were predicted right)"""

    def packed(self) -> Tensor:
        """One row per image, (N, width(K)), so that ranks can gather them at once."""
        parts = (self.counts, self.boundary, self.hd95, self.calibration)
        return torch.cat([part.flatten(1) for part in parts], dim=1)

    @staticmethod
    def width(classes: int) -> int:
        """Columns of `packed` for K = `classes`."""
        return 6 * classes + len(DISTANCES) + 3 * CALIBRATION_BINS

    @staticmethod
    def unpacked(packed: Tensor) -> ImageStats:
        """The inverse of `packed`."""
        classes = (packed.shape[1] - ImageStats.width(0)) // 6
        counts, boundary, hd95, calibration = packed.split(
            [4 * classes, 2 * classes, len(DISTANCES), 3 * CALIBRATION_BINS], dim=1
        )
        counts, boundary = counts.unflatten(1, (classes, 4)), boundary.unflatten(1, (classes, 2))
        return ImageStats(counts, boundary, hd95, calibration)

    def __len__(self) -> int:
        return len(self.counts)

    @property
    def formulas(self) -> dict[str, str]:
        """The formula of each score; distances in mm only where the size of a pixel is known."""
        known = formulas(self.counts.shape[1])
        if bool((self.hd95[:, 2] == UNKNOWN).any()):
            known = {name: text for name, text in known.items() if name != "hd95_mm"}
        return known

    def columns(self) -> dict[str, Tensor]:
        """The scores of each image alone, (N,) each; 0 for an image that is ignored as a whole,
        which does not count."""
        boundary = ratio(self.boundary[..., 0], self.boundary[..., 1])
        of_image = scores_of_counts(self.counts) | {
            "boundary_iou": mean_over_classes(boundary, self.counts),
            **dict(zip(DISTANCES, self.hd95.unbind(1), strict=True)),
            "ece": calibration_error(self.calibration),
        }
        return {name: values.nan_to_num(0) for name, values in of_image.items()}


def image_stats(
    probabilities: Tensor,
    label_maps: Tensor,
    threshold: float,
    scales: Sequence[PixelSize] | None = None,
    spacing: PixelSize | None = None,
) -> ImageStats:
    """Compute the numbers of a batch. Where the label map is IGNORE, neither truth nor prediction
    has a class, and no pixel is counted.

    Args:
        probabilities: (B, K, H, W) in 0..1, from `class_probabilities`.
        label_maps: (B, H, W) uint8.
        threshold: for K = 1, foreground is where the probability is above this.
        scales: for each image, the height and the width of a pixel in px of the image's own size; 1
            where it was not resized.
        spacing: mm along the height and the width of a px of an image's own size.
    """
    images, classes, *size = probabilities.shape
    assert label_maps.shape == (images, *size), "one label per pixel"
    predicted = predicted_labels(probabilities, threshold)
    counts = count_pixels(predicted, label_maps, max(2, classes)).double().cpu()
    boundary = torch.zeros(images, classes, 2, dtype=torch.double)
    hd95, calibration = torch.zeros(images, len(DISTANCES), dtype=torch.double), []
    likeliest = probabilities.amax(dim=1).cpu()
    for i, (p, found, truth) in enumerate(
        zip(likeliest, predicted.cpu(), label_maps.cpu(), strict=True)
    ):
        counted = truth != IGNORE
        found = found.where(counted, IGNORE)
        sought = [FOREGROUND] if classes == 1 else found.unique().tolist() + truth.unique().tolist()
        for number in {*sought} - {IGNORE}:
            masks = (found == number).numpy(), (truth == number).numpy()
            place = 0 if classes == 1 else number
            boundary[i, place] = torch.tensor(boundary_counts(*masks)).double()
            if classes == 1:
                scale = scales[i] if scales else (1.0, 1.0)
                distances = hausdorff_distances(*masks, scale, spacing)
                hd95[i] = torch.tensor(distances, dtype=torch.double)
        is_right = truth == (FOREGROUND if classes == 1 else found)
        calibration.append(_calibration(p[counted], is_right[counted]))
    return ImageStats(counts, boundary, hd95, torch.stack(calibration))


def _calibration(p: Tensor, is_right: Tensor) -> Tensor:
    """(3 * CALIBRATION_BINS,) float64 of probabilities and truth (P,); see ImageStats."""
    bins = (p * CALIBRATION_BINS).long().clamp(max=CALIBRATION_BINS - 1)
    values = (torch.ones_like(p), p, is_right)
    return torch.cat([bins.bincount(v.double(), minlength=CALIBRATION_BINS) for v in values])


def calibration_error(calibration: Tensor) -> Tensor:
    """Expected calibration error (Naeini et al. 2015) of the probability of foreground, or of the
    predicted class, (...); 0 where no pixel is counted.

    Args:
        calibration: (..., 3 * CALIBRATION_BINS), as in ImageStats.
    """
    pixels, confidence, foreground = calibration.unflatten(-1, (3, CALIBRATION_BINS)).unbind(-2)
    return (foreground - confidence).abs().sum(-1) / pixels.sum(-1).clamp_min(1)


def split_scores(stats: ImageStats, weights: Tensor) -> dict[str, Tensor]:
    """All scores of a split in which image i occurs weights[r, i] times. Images of which all pixels
    are ignored do not count.

    Args:
        weights: (R, N) float64.

    Returns:
        (R,) by the names of `formulas`.
    """
    found = scores_of_images(stats.counts, weights, stats.columns())
    found["ece"] = calibration_error(weights @ stats.calibration)
    return {name: found[name] for name in stats.formulas}


def scores_of_images(
    counts: Tensor, weights: Tensor, more: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Compute the scores of `split_scores` from the table of images: all but `ece`, which needs
    more.

    Args:
        counts: (N, K, 4) float64.
        more: the known scores of OF_IMAGE, (N,) each.
    """
    whole = (weights @ counts.flatten(1)).unflatten(1, counts.shape[1:])
    weights = weights * (counts[:, 0].sum(dim=-1) > 0)
    images = weights.sum(dim=1).clamp_min(1)
    accuracy = whole[..., TP].sum(dim=-1) / whole[:, 0].sum(dim=-1)
    own = scores_of_counts(counts)
    of_images = {f"{name}_image": own[name].nan_to_num(0) for name in ("iou", "dice")}
    of_images |= {name: more[name] for name in OF_IMAGE if name in more}
    means = {name: (weights @ values) / images for name, values in of_images.items()}
    return scores_of_counts(whole) | {"accuracy": accuracy} | means


def formulas(classes: int) -> dict[str, str]:
    """The formula of each score, for K = `classes`."""
    return FORMULAS if classes == 1 else CLASS_FORMULAS


def scores_of_counts(counts: Tensor) -> dict[str, Tensor]:
    """The scores (...) that counts (..., K, 4) give alone."""
    return {
        "iou": mean_over_classes(iou_of(counts), counts),
        "dice": mean_over_classes(dice_of(counts), counts),
        "precision": mean_over_classes(precision_of(counts), counts, TP, FP),
        "recall": mean_over_classes(recall_of(counts), counts, TP, FN),
    }


def class_scores(stats: ImageStats, weights: Tensor) -> dict[str, Tensor]:
    """The scores of each class over all pixels of the split, as in `split_scores`.

    Returns:
        (R, K) by the names of OF_CLASS; NaN where a class is in no mask and was not predicted, and
        where a precision or a recall is not defined.
    """
    counts = (weights @ stats.counts.flatten(1)).unflatten(1, stats.counts.shape[1:])
    tp, fp, fn, _ = counts.unbind(dim=-1)
    return {
        "iou": tp / (tp + fp + fn),
        "dice": 2 * tp / (2 * tp + fp + fn),
        "precision": tp / (tp + fp),
        "recall": tp / (tp + fn),
    }


def scores_with_intervals(stats: ImageStats) -> dict[str, Score]:
    """The scores of a split with percentile-bootstrap intervals (Efron & Tibshirani 1993)."""
    return with_intervals(len(stats), lambda weights: split_scores(stats, weights))


def class_scores_with_intervals(stats: ImageStats) -> list[dict[str, Score]]:
    """Return for each class the scores of OF_CLASS with intervals; NaN as in `class_scores`."""

    def in_columns(weights: Tensor) -> dict[str, Tensor]:
        scores = class_scores(stats, weights)
        return {f"{name} {k}": v[:, k] for name, v in scores.items() for k in range(v.shape[1])}

    found = with_intervals(len(stats), in_columns)
    classes = range(stats.counts.shape[1])
    return [{name: found[f"{name} {k}"] for name in OF_CLASS} for k in classes]


def with_intervals(images: int, scores: Callable[[Tensor], dict[str, Tensor]]) -> dict[str, Score]:
    """Add bootstrap intervals to scores, functions of weights (R, images) (see `split_scores`)."""
    values = scores(torch.ones(1, images, dtype=torch.double))
    if images == 1:
        return {name: Score(value.item(), None, None) for name, value in values.items()}
    drawn = bootstrap(lambda weights: torch.stack([*scores(weights).values()], dim=1), images)
    return {
        name: Score(value.item(), *percentile_interval(column))
        for (name, value), column in zip(values.items(), drawn.T, strict=True)
    }
