"""The one way to predict: whole images in, logits out, each image once over all ranks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from segacc.data.loader import full_images, rank_share, to_device
from segacc.losses import make_loss
from segacc.metrics import count_pixels, scores
from segacc.models import Segmenter

if TYPE_CHECKING:
    from accelerate import Accelerator

    from segacc.data.prepare import Split


@torch.no_grad()
def predict_split(
    model: Segmenter,
    split: Split,
    accelerator: Accelerator,
    batch_size: int,
    check: Callable[[], None] | None = None,
) -> Iterator[tuple[list[int], Tensor, Tensor]]:
    """Predict this rank's share of a split on full images.

    Every batch has the same shape: a short one is filled up with its last image, whose copies are
    dropped again. So what is found in an image does not depend on which images are beside it, and
    thereby on the number of ranks.

    Args:
        model: in evaluation mode, and not wrapped by DDP, whose forward waits for the other ranks
            (they may have fewer images).
        batch_size: images per step of this rank.
        check: called before every batch, equally often on all ranks.

    Yields:
        indices of the images in the split; logits (B, C, H, W) float32; masks (B, 1, H, W) uint8.
    """
    assert not model.training
    world = accelerator.num_processes
    share = rank_share(len(split), accelerator.process_index, world)
    for first in range(0, -(-len(split) // world), batch_size):
        if check:
            check()
        indices = list(share[first : first + batch_size])
        if not indices:
            continue
        filled = indices + indices[-1:] * (batch_size - len(indices))
        images, masks = to_device(full_images(split, filled), accelerator.device)
        with accelerator.autocast():
            logits = model(images)
        yield indices, logits[: len(indices)].float(), masks[: len(indices)]


def validate(
    model: Segmenter,
    split: Split,
    accelerator: Accelerator,
    loss: str,
    check: Callable[[], None] | None = None,
) -> tuple[dict[str, float], Tensor]:
    """Score a split on full images; nothing depends on how they are spread over batches and ranks.

    Returns:
        the scores, with the mean of the images' own losses as `loss`; these losses, (N,).
    """
    model.eval()
    loss_fn = make_loss(loss)
    # The same on any number of ranks: some 4 million pixels at most, which any GPU holds.
    most = 4 if accelerator.device.type == "cpu" else 16
    batch_size = min(most, max(1, 2**22 // split[0][1].size))
    counts = [torch.zeros(0, 1, 4, dtype=torch.long, device=accelerator.device)]
    losses = [torch.zeros(0, device=accelerator.device)]
    for _, logits, masks in predict_split(model, split, accelerator, batch_size, check):
        counts.append(count_pixels(logits.sigmoid(), masks))
        for image_logits, image_masks in zip(logits.split(1), masks.split(1), strict=True):
            losses.append(loss_fn(image_logits, image_masks).view(1))
    all_losses = gather_images(accelerator, len(split), torch.cat(losses))
    all_counts = gather_images(accelerator, len(split), torch.cat(counts))
    return {"loss": all_losses.double().mean().item(), **scores(all_counts)}, all_losses


def gather_images(accelerator: Accelerator, samples: int, own: Tensor) -> Tensor:
    """Bring the per-image values of all ranks together, each image exactly once.

    Args:
        samples: number of images in the split, over all ranks.
        own: (n, ...) values of this rank's share, in its order.

    Returns:
        (samples, ...) on the CPU, in the order of the split, alike on every rank.
    """
    world = accelerator.num_processes
    longest = -(-samples // world)
    # A collective wants one shape from all ranks; what fills a shorter share is cut off again.
    padded = own.new_zeros((longest, *own.shape[1:]))
    padded[: len(own)] = own
    gathered = accelerator.gather(padded).view(world, longest, *own.shape[1:])
    return gathered.transpose(0, 1).flatten(0, 1)[:samples].cpu()
