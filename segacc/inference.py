"""The one way to predict: whole images in, logits out, each image once over all ranks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from segacc.data.loader import full_images, rank_share, to_device
from segacc.models import Segmenter

if TYPE_CHECKING:
    from accelerate import Accelerator

    from segacc.data.prepare import Split


@torch.no_grad()
def predict_split(
    model: Segmenter, split: Split, accelerator: Accelerator, batch_size: int
) -> Iterator[tuple[list[int], Tensor, Tensor]]:
    """Predict this rank's share of a split on full images.

    Args:
        model: in evaluation mode, and not wrapped by DDP, whose forward waits for the other ranks
            (they may have fewer images).
        batch_size: images per step of this rank.

    Yields:
        indices of the images in the split; logits (B, C, H, W) float32; masks (B, 1, H, W) uint8.
    """
    assert not model.training
    share = rank_share(len(split), accelerator.process_index, accelerator.num_processes)
    for batch in full_images(split, share, batch_size):
        images, masks = to_device(batch, accelerator.device)
        with accelerator.autocast():
            logits = model(images)
        yield batch["index"].tolist(), logits.float(), masks


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
