"""Whole images in, logits out; validation, evaluation and `segacc predict` all predict this way."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from segacc.data.loading.loader import rank_share, to_device
from segacc.data.loading.resident import Resident, whole_images
from segacc.models.load import Predictor
from segacc.models.segmenter import Segmenter

if TYPE_CHECKING:
    from accelerate import Accelerator

    from segacc.data.split import Split

# For test-time augmentation: the dimensions of (B, C, H, W) to flip, for each prediction besides
# that of the image as it is.
TTA_FLIPS: dict[str, tuple[tuple[int, ...], ...]] = {
    "none": (),
    "h": ((3,),),
    "hv": ((3,), (2,), (2, 3)),
}


@torch.no_grad()
def predict_logits(
    model: Predictor,
    images: Tensor,
    tta: str = "none",
    tile: int | None = None,
    progress: Callable[[float], object] | None = None,
) -> Tensor:
    """Predict whole images.

    Args:
        model: in evaluation mode.
        images: (B, C, H, W) in 0..255, uint8 or floating point, any H and W. They may lie on
            another device than the model: with `tile` only windows go there.
        tta: `none`; or the mean of the logits over the image and its flips: `h` the horizontal one,
            `hv` the horizontal, the vertical, and both at once.
        tile: predict square windows of this many px that overlap by half, and blend their logits
            with Gaussian weights. Beside the images and what the model takes for a few windows, it
            takes 8 bytes a pixel: the logits and the sum of the weights. An image that fits into
            one window is predicted as without `tile`.
        progress: called after each step with the share of the image, 0 to 1, that is predicted.

    Returns:
        (B, K, H, W) float32 logits, on the device of the images.
    """
    device = model.device
    if tile is None or max(images.shape[-2:]) <= tile:
        return _mean_over_flips(model, images.to(device), tta).to(images.device)
    if len(images) > 1:
        # So that no window is computed beside those of another image; see predict_split.
        own = [predict_logits(model, image, tta, tile, progress) for image in images.split(1)]
        return torch.cat(own)
    from monai.inferers.utils import sliding_window_inference

    height, width = images.shape[-2:]
    window = (min(tile, height), min(tile, width))
    rows, columns = (_gaussian(length, images.device) for length in window)

    def predict_windows(_: Tensor, places: list[list[slice]]) -> Tensor:
        windows = torch.cat([images[tuple(place)] for place in places]).to(device)
        logits = _mean_over_flips(model, windows, tta).to(images.device)
        if progress:
            progress(places[-1][2].stop / height)  # windows come row by row
        return logits

    # MONAI computes in the type of its input and pads the input, so it gets one that takes no
    # memory and needs no padding; the windows are cut from the image itself, where they lie.
    blended = sliding_window_inference(
        torch.zeros((), device=images.device).expand(1, 1, height, width),
        roi_size=window,
        sw_batch_size=max(1, (2**18 if device.type == "cpu" else 2**21) // tile**2),
        predictor=predict_windows,
        overlap=0.5,
        # MONAI's own weights are these, but raised to 0.001 at least: along the border of the image
        # all weights are below that, and windows would meet there at a seam.
        roi_weight_map=rows[:, None] * columns,
        with_coord=True,
    )
    assert isinstance(blended, Tensor)
    return blended


def resize_logits(logits: Tensor, shape: tuple[int, int]) -> Tensor:
    """Resize logits (B, K, h, w) to another height and width, bilinearly."""
    if logits.shape[-2:] == shape:
        return logits
    return functional.interpolate(
        logits, size=shape, mode="bilinear", align_corners=False, antialias=True
    )


def _gaussian(length: int, device: torch.device) -> Tensor:
    """Weights (length,) of a window's rows or columns, with MONAI's standard deviation."""
    place = torch.arange(length, device=device) - (length - 1) / 2
    return torch.exp(-0.5 * (place / (0.125 * length)) ** 2)


def _mean_over_flips(model: Predictor, images: Tensor, tta: str) -> Tensor:
    """Return the mean over flips, (B, K, H, W) float32. With windows, each window is flipped, so
    that no copy of the image is made and the logits are blended once."""
    logits: Tensor = model(images).float()
    for dims in TTA_FLIPS[tta]:
        logits = logits + model(images.flip(dims)).float().flip(dims)
    # Losses and scores go through one class after the other, faster where each is in one piece.
    logits = logits.contiguous()
    return logits / (1 + len(TTA_FLIPS[tta])) if TTA_FLIPS[tta] else logits


@torch.no_grad()
def predict_split(
    model: Segmenter,
    split: Split | Resident,
    accelerator: Accelerator,
    batch_size: int,
    check: Callable[[int], None] | None = None,
    tta: str = "none",
    tile: int | None = None,
) -> Iterator[tuple[list[int], Tensor, Tensor]]:
    """Predict this rank's share of a split on full images.

    Every batch has the same shape: a short one is filled up with its last image, whose copies are
    dropped again. Images of different shapes are predicted one by one. So the prediction of an
    image does not depend on the images beside it, nor on the number of ranks.

    Args:
        model: in evaluation mode, and not wrapped by DDP, whose forward waits for the other ranks
            (they may have fewer images).
        batch_size: images per step of this rank, where all have one shape.
        check: called before every batch, equally often on all ranks, with the number of images
            that were predicted before it.
        tta, tile: as in `predict_logits`.

    Yields:
        indices of the images in the split; logits (B, K, H, W) float32; label maps (B, H, W) uint8.
    """
    assert not model.training
    world = accelerator.num_processes
    if split.shape is None:
        batch_size = 1
    share = rank_share(len(split), accelerator.process_index, world)
    for first in range(0, -(-len(split) // world), batch_size):
        if check:
            check(first * world)
        indices = list(share[first : first + batch_size])
        if not indices:
            continue
        logits, label_maps = predict_batch(
            model, split, indices, accelerator, batch_size, tta, tile
        )
        yield indices, logits, label_maps


@torch.no_grad()
def predict_batch(
    model: Segmenter,
    split: Split | Resident,
    indices: list[int],
    accelerator: Accelerator,
    batch_size: int,
    tta: str = "none",
    tile: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Predict some images of a split in one step; arguments as of `predict_split`.

    Args:
        indices: those of at most `batch_size` images, all of one shape.

    Returns:
        logits (B, K, H, W) float32; label maps (B, H, W) uint8.
    """
    filled = indices + indices[-1:] * (batch_size - len(indices))
    images, label_maps = to_device(whole_images(split, filled), accelerator.device)
    with accelerator.autocast():
        logits = predict_logits(model, images, tta, tile)
    return logits[: len(indices)], label_maps[: len(indices)]
