"""Counts of true and false pixels per image and class; every score is made from these.

`iou` and `dice` are over all pixels of the split ("dataset", or micro); `iou_image` and
`dice_image` are means over images. They differ (0.714 and 0.857 for one and the same pair of
images), so both are always named and reported. For two classes they are of the foreground, for
more the mean over classes.
"""

from __future__ import annotations

import torch
from torch import Tensor

from segacc.labels import FOREGROUND, IGNORE

TP, FP, FN, TN = range(4)


def class_probabilities(logits: Tensor) -> Tensor:
    """Probabilities in 0..1 of logits (B, K, H, W), same shape: of the foreground for K = 1, else
    of each class, with the sum 1."""
    return logits.sigmoid() if logits.shape[1] == 1 else logits.softmax(dim=1)


def predicted_labels(probabilities: Tensor, threshold: float = 0.5) -> Tensor:
    """The predicted label map.

    Args:
        probabilities: (B, K, H, W), from `class_probabilities`; for K > 1 logits will do.
        threshold: for K = 1, foreground is where the probability is above this. For more classes
            the most probable one is predicted, and the first one if several are equal.

    Returns:
        (B, H, W) uint8.
    """
    assert probabilities.ndim == 4
    if probabilities.shape[1] == 1:
        return (probabilities[:, 0] > threshold).to(torch.uint8)
    # The first class that is not lower than the highest. On a CPU, torch's argmax takes 20 times as
    # long, and a comparison that gives booleans three times as long as one that gives floats.
    values = probabilities.detach().float()
    lower = torch.lt(values, values.amax(dim=1, keepdim=True), out=torch.empty_like(values))
    classes = torch.arange(values.shape[1], dtype=values.dtype, device=values.device)
    return lower.mul_(IGNORE + 1).add_(classes.view(-1, 1, 1)).amin(dim=1).to(torch.uint8)


def confusion_matrices(predicted: Tensor, label_maps: Tensor, classes: int) -> Tensor:
    """For each image, how many pixels of each class were predicted as each class.

    Args:
        predicted: (B, H, W) uint8 in 0..classes-1, from `predicted_labels`.
        label_maps: (B, H, W) uint8; pixels that are IGNORE are not counted.
        classes: number of classes, the background included.

    Returns:
        (B, classes, classes) int64: [image, true class, predicted class].
    """
    assert predicted.ndim == 3 and predicted.shape == label_maps.shape, "one label per pixel"
    assert predicted.dtype == label_maps.dtype == torch.uint8
    # A row for each value of a byte; ignored pixels have the last value.
    first = torch.arange(len(predicted), device=predicted.device).view(-1, 1, 1) * (IGNORE + 1)
    cells = ((first + label_maps) * classes + predicted).flatten()
    length = len(predicted) * (IGNORE + 1) * classes
    counts = cells.bincount(minlength=length).view(len(predicted), IGNORE + 1, classes)
    assert not counts[:, classes:IGNORE].any(), "no such class"
    return counts[:, :classes]


def counts_of_classes(confusion: Tensor) -> Tensor:
    """The counts of each class against all others.

    Args:
        confusion: (..., classes, classes) int64, from `confusion_matrices`.

    Returns:
        (..., K, 4) int64: true positive, false positive, false negative, true negative pixels. For
        two classes of the foreground alone (K = 1), else of each class (K = classes).
    """
    tp = confusion.diagonal(dim1=-2, dim2=-1)
    fp, fn = confusion.sum(dim=-2) - tp, confusion.sum(dim=-1) - tp
    tn = confusion.sum(dim=(-2, -1))[..., None] - tp - fp - fn
    counts = torch.stack([tp, fp, fn, tn], dim=-1)
    return counts[..., FOREGROUND:, :] if confusion.shape[-1] == 2 else counts


def count_pixels(predicted: Tensor, label_maps: Tensor, classes: int) -> Tensor:
    """Count per image and class: `counts_of_classes` of `confusion_matrices`.

    Args:
        predicted, label_maps, classes: as in `confusion_matrices`.

    Returns:
        (B, K, 4) int64.
    """
    return counts_of_classes(confusion_matrices(predicted, label_maps, classes))


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


def is_there(counts: Tensor) -> Tensor:
    """Whether the class is in the truth or was predicted: (...) bool, for counts (..., 4). No score
    counts a class that is neither, as 0 or as 1."""
    return counts[..., :TN].sum(dim=-1) > 0


def scores(counts: Tensor) -> dict[str, float]:
    """All scores of a split.

    For two classes they are of the foreground. For more they are the mean over the classes that are
    in the split or were predicted (`iou` is then what is known as mIoU); `iou_image` and
    `dice_image` take for each image the classes that are in it or were predicted in it. A class
    that was never predicted has the precision 0, one that is in no image the recall 0. Images of
    which all pixels are ignored do not count.

    Args:
        counts: (N, K, 4) of N > 0 images, from `count_pixels`.
    """
    assert counts.ndim == 3 and counts.shape[2] == 4 and counts.shape[1] > 0
    assert len(counts), "no image was counted"
    counts = counts[counts[:, 0].sum(dim=-1) > 0]
    assert len(counts), "all pixels of all images are ignored"
    split = counts.sum(dim=0)
    return {
        "iou": mean_over_classes(iou_of(split), split).item(),
        "iou_image": mean_over_classes(iou_of(counts), counts).mean().item(),
        "dice": mean_over_classes(dice_of(split), split).item(),
        "dice_image": mean_over_classes(dice_of(counts), counts).mean().item(),
        "precision": mean_over_classes(precision_of(split), split, TP, FP).item(),
        "recall": mean_over_classes(recall_of(split), split, TP, FN).item(),
    }


def mean_over_classes(values: Tensor, counts: Tensor, *whole: int) -> Tensor:
    """Mean of a score over the classes that occur; NaN where none does.

    Args:
        values: (..., K) float64.
        counts: (..., K, 4).
        whole: the counts that the score divides by, where it may be undefined in a class that is
            there; there it is 0.
    """
    if values.shape[-1] == 1:  # of background and one thing: that thing, also where it is absent
        return values[..., 0]
    there = is_there(counts)
    if whole:
        values = values.where(counts[..., list(whole)].sum(dim=-1) > 0, 0.0)
    return values.where(there, 0.0).sum(dim=-1) / there.sum(dim=-1)


def resampled_iou(counts: Tensor, weights: Tensor) -> Tensor:
    """`iou` (R,) of a split in which image i occurs weights[r, i] times.

    Args:
        counts: (N, K, 4) float64.
        weights: (R, N) float64.
    """
    split = (weights @ counts.flatten(1)).unflatten(1, counts.shape[1:])
    return mean_over_classes(iou_of(split), split)


def constant_mask_iou(counts: Tensor) -> float:
    """`iou` of the best answer without a model, which is one class for every pixel.

    For two classes that is the foreground (the other one gives 0), else the most frequent class.

    Args:
        counts: (N, K, 4), from `count_pixels`.
    """
    assert counts.ndim == 3 and counts.shape[2] == 4
    split = counts.sum(dim=0)
    of_class = split[..., TP] + split[..., FN]
    shares = ratio(of_class, split.sum(dim=-1))
    return shares.max().item() / max(1, int((of_class > 0).sum()))
