"""Validation: a split scored on full images, spread over the ranks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from accelerate import Accelerator
from torch import Tensor

from segacc.data.loading.resident import Resident
from segacc.data.split import Split
from segacc.metrics.counts import count_pixels, scores
from segacc.metrics.thresholds import LEVELS, best_threshold, histogram, levels_of
from segacc.models.segmenter import Segmenter
from segacc.prediction.logits import predict_split
from segacc.runtime.ranks import gather_images
from segacc.training.losses import make_loss


@dataclass(frozen=True)
class Validation:
    """What a validation found, alike on all ranks."""

    scores: dict[str, float]
    """with the mean of the images' own losses as `loss`, the IoU-optimal `threshold`, and
    `iou_best_threshold`, which the split has with it"""
    losses: Tensor
    """(N,) of each image"""
    counts: Tensor
    """(N, C, 4) of each image at threshold 0.5"""


def validate(
    model: Segmenter,
    split: Split | Resident,
    accelerator: Accelerator,
    loss: str,
    check: Callable[[], None] | None = None,
) -> Validation:
    """Score a split on full images; how they are spread over batches and ranks changes nothing."""
    model.eval()
    loss_fn = make_loss(loss)
    # The same on any number of ranks: some 4 million pixels at most, which any GPU holds.
    most = 4 if accelerator.device.type == "cpu" else 16
    batch_size = min(most, max(1, 2**22 // split.side**2))
    counts = [torch.zeros(0, 1, 4, dtype=torch.long, device=accelerator.device)]
    losses = [torch.zeros(0, device=accelerator.device)]
    by_level = torch.zeros(1, 2, LEVELS, dtype=torch.long, device=accelerator.device)
    for _, logits, masks in predict_split(model, split, accelerator, batch_size, check):
        probabilities = logits.sigmoid()
        counts.append(count_pixels(probabilities, masks))
        by_level += histogram(levels_of(probabilities), masks).sum(dim=0)
        for image_logits, image_masks in zip(logits.split(1), masks.split(1), strict=True):
            losses.append(loss_fn(image_logits, image_masks).view(1))
    all_losses = gather_images(accelerator, len(split), torch.cat(losses))
    all_counts = gather_images(accelerator, len(split), torch.cat(counts))
    threshold, iou = best_threshold(accelerator.reduce(by_level)[None].cpu())
    found = {
        "loss": all_losses.double().mean().item(),
        **scores(all_counts),
        "threshold": threshold,
        "iou_best_threshold": iou,
    }
    return Validation(found, all_losses, all_counts)
