"""A split that is kept in a GPU's memory, where batches are cut out of it.

With small images a GPU takes batches faster than a few cores can write them. So where all pixels
fit, they are sent once. For each batch only its crops and flips are sent, and the GPU reads the
pixels in that order.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from segacc.data.loading.augment import View
from segacc.data.loading.loader import Batch, TrainSamples, full_images
from segacc.data.loading.stream import StepSampler
from segacc.data.split import Split
from segacc.labels import IGNORE

RESIDENT_SHARE = 0.25  # of a GPU's free memory, that images may take
COPIED_BYTES = 64 << 20  # at a time, which bounds the memory of sending a split


@dataclass(frozen=True)
class Resident:
    """A split on a device, with images of one shape: (N, H, W, C + 1) uint8, the image's channels
    and then the label."""

    split: Split
    pixels: Tensor

    def __len__(self) -> int:
        return len(self.split)

    @property
    def shape(self) -> tuple[int, int]:
        """H and W."""
        _, height, width, _ = self.pixels.shape
        return height, width


def fits(device: torch.device, splits: Sequence[Split]) -> bool:
    """Whether the splits leave a GPU most of its free memory for the model, each of one shape."""
    if device.type != "cuda" or any(split.shape is None for split in splits):
        return False
    free, _ = torch.cuda.mem_get_info(device)
    return sum(map(bytes_of, splits)) <= RESIDENT_SHARE * free


def bytes_of(split: Split) -> int:
    """Return the bytes that a split takes on a device."""
    return len(split) * split.bytes_of_image


def send(split: Split, device: torch.device) -> Resident:
    """Copy a split to a device."""
    channels = split.channels
    assert split.shape is not None
    shape = (len(split), *split.shape, channels + 1)
    pixels = torch.empty(shape, dtype=torch.uint8, device=device)
    at_once = max(1, COPIED_BYTES // split.bytes_of_image)
    for first in range(0, len(split), at_once):
        places = range(first, min(first + at_once, len(split)))
        part = full_images(split, list(places))
        pixels[first : places.stop, ..., :channels] = part["images"].to(device)
        pixels[first : places.stop, ..., channels] = part["label_maps"].to(device)
    return Resident(split, pixels)


def views_of(
    resident: Resident, indices: Sequence[int], views: Sequence[View], shape: tuple[int, int]
) -> Batch:
    """Return what `write_view` writes for each sample, as a batch that is already on the device.

    All pixels of the batch are read at once, each from its place in the split: one image at a time
    would cost a GPU more in launches than in copying.
    """
    device, (height, width) = resident.pixels.device, shape
    rows_there, columns_there = resident.shape
    rows = [
        (i, v.top, v.left, v.transpose, v.flip in (0, -1), v.flip in (1, -1))
        for i, v in zip(indices, views, strict=True)
    ]
    table = _to_device(rows, device)
    index, top, left, transpose, flip_rows, flip_columns = table.T[..., None, None]
    rows_of, columns_of = (torch.arange(side, device=device) for side in shape)
    row = torch.where(flip_rows > 0, height - 1 - rows_of[:, None], rows_of[:, None])
    column = torch.where(flip_columns > 0, width - 1 - columns_of, columns_of)
    # A transposed view was flipped after it was transposed, so its rows are columns of the image.
    source_row = top + torch.where(transpose > 0, column, row)
    source_column = left + torch.where(transpose > 0, row, column)
    inside_row, inside_column = source_row, source_column
    if height > rows_there or width > columns_there:  # the views reach out of their images
        inside_row = source_row.clamp(max=rows_there - 1)
        inside_column = source_column.clamp(max=columns_there - 1)
    places = (index * rows_there + inside_row) * columns_there + inside_column
    pixels = _read_pixels(resident.pixels, places)
    if inside_row is not source_row:
        outside = (inside_row != source_row) | (inside_column != source_column)
        pixels[..., -1].masked_fill_(outside, IGNORE)
    return _batch(pixels, table[:, 0])


def _read_pixels(pixels: Tensor, places: Tensor) -> Tensor:
    """Read (..., D) from pixels (N, H, W, D) uint8 at the flat indices (...) over N, H and W."""
    depth = pixels.shape[-1]
    if depth == 4:  # RGB and a label: read as one number, which is faster
        flat = pixels.view(torch.int32).view(-1)
        return flat[places].unsqueeze(-1).view(torch.uint8)
    return pixels.view(-1, depth)[places]


def resident_batches(
    resident: Resident, samples: TrainSamples, sampler: StepSampler
) -> Iterator[Batch]:
    """Yield the same batches as `train_loader` loads."""
    for keys in sampler:
        views = [samples.view(*key) for key in keys]
        yield views_of(resident, [i for _, i in keys], views, samples.shape)


def whole_images(split: Split | Resident, indices: list[int]) -> Batch:
    """A batch of whole images, without augmentation, from where the split is kept."""
    if isinstance(split, Split):
        return full_images(split, indices)
    index = _to_device(indices, split.pixels.device)
    return _batch(split.pixels[index], index)


def _to_device(numbers: Sequence[object], device: torch.device) -> Tensor:
    """Integers on the device. The copy is queued there, so the CPU does not wait for it."""
    pinned = torch.tensor(numbers, dtype=torch.int64, pin_memory=device.type == "cuda")
    return pinned.to(device, non_blocking=True)


def _batch(pixels: Tensor, index: Tensor) -> Batch:
    return {"images": pixels[..., :-1], "label_maps": pixels[..., -1], "index": index}
