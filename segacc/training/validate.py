"""validate(): score a split on full images, spread over the ranks."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from accelerate import Accelerator
from torch import Tensor

from segacc.data.loading.resident import Resident
from segacc.data.split import Split
from segacc.labels import Labels
from segacc.metrics.counts import (
    class_probabilities,
    confusion_matrices,
    constant_mask_iou,
    counts_of_classes,
    predicted_labels,
    scores,
)
from segacc.metrics.thresholds import LEVELS, best_threshold, histogram, levels_of
from segacc.models.segmenter import Segmenter
from segacc.prediction.logits import predict_split
from segacc.runtime.ranks import gather_images
from segacc.training.losses.terms import Loss


@dataclass(frozen=True)
class Validation:
    """What a validation found, the same on all ranks."""

    scores: dict[str, float]
    """the scores of the split and `loss`, the mean of the images' own losses; for two classes also
    the `threshold` that has the largest IoU, and that IoU as `iou_best_threshold`"""
    losses: Tensor
    """(N,) of each image; 0 where all its pixels are ignored"""
    counts: Tensor
    """(N, K, 4) of each image, for two classes at threshold 0.5"""
    constant_iou: float
    """the IoU of the best mask that is the same everywhere"""
    confusion: Tensor
    """(classes, classes) int64 of the split: [true class, predicted class]"""


def validate(
    model: Segmenter,
    split: Split | Resident,
    accelerator: Accelerator,
    loss_fn: Loss,
    labels: Labels,
    check: Callable[[int], None] | None = None,
) -> Validation:
    """Score a split on full images; how they are spread over batches and ranks changes nothing.

    Args:
        loss_fn: the loss of the images of one process.
        check: called before every batch, equally often on all ranks, with the number of images
            that were scored before it.
    """
    model.eval()
    device, classes = accelerator.device, labels.classes
    # The same on any number of ranks: some 4 million pixels at most, which any GPU holds.
    most = 4 if device.type == "cpu" else 16
    batch_size = min(most, max(1, 2**22 // math.prod(split.shape))) if split.shape else 1
    counts = [torch.zeros(0, labels.logits, 4, dtype=torch.long, device=device)]
    losses = [torch.zeros(0, device=device)]
    confusion = torch.zeros(classes, classes, dtype=torch.long, device=device)
    by_level = torch.zeros(1, 2, LEVELS, dtype=torch.long, device=device)
    for _, logits, label_maps in predict_split(model, split, accelerator, batch_size, check):
        assert logits.shape[1] == labels.logits, "the model has other classes than the data set"
        # With more than two classes, the most probable one has the highest logit.
        probabilities = class_probabilities(logits) if classes == 2 else logits
        of_images = confusion_matrices(predicted_labels(probabilities), label_maps, classes)
        counts.append(counts_of_classes(of_images))
        confusion += of_images.sum(dim=0)
        if classes == 2:
            by_level += histogram(levels_of(probabilities), label_maps).sum(dim=0)
        for own_logits, own_labels in zip(logits.split(1), label_maps.split(1), strict=True):
            losses.append(loss_fn(own_logits, own_labels).view(1))
    all_losses = gather_images(accelerator, len(split), torch.cat(losses))
    all_counts = gather_images(accelerator, len(split), torch.cat(counts))
    counted = all_counts[:, 0].sum(dim=-1) > 0
    found = {"loss": all_losses[counted].double().mean().item(), **scores(all_counts)}
    if classes == 2:
        threshold, iou = best_threshold(accelerator.reduce(by_level)[None].cpu())
        found |= {"threshold": threshold, "iou_best_threshold": iou}
    constant, confusion = constant_mask_iou(all_counts), accelerator.reduce(confusion).cpu()
    return Validation(found, all_losses, all_counts, constant, confusion)
