"""Check that an export computes what the model computes: on sizes, on images, in the score."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from segacc.data.prepare import resize_image
from segacc.data.split import Prepared
from segacc.errors import InputError
from segacc.metrics.counts import count_pixels, scores
from segacc.models.segmenter import Segmenter

MOST_DIFFERENCE = 1e-3
"""the largest difference of a probability that is accepted"""
MOST_CHANGE = 1e-4
"""the largest change of the IoU on the validation images that is accepted"""

Predict = Callable[[Tensor], tuple[Tensor, Tensor]]
"""From images (B, 3, H, W) uint8 to probabilities (B, K, H, W) and masks (B, H, W) uint8."""


@dataclass(frozen=True)
class OnSize:
    """The largest difference of a probability on images of one size."""

    images: int
    height: int
    width: int
    difference: float


@dataclass(frozen=True)
class OnSplit:
    """What was found on the images of a split."""

    images: int
    difference: float
    """the largest difference of a probability"""
    iou: float
    """the IoU of the model itself"""
    exported_iou: float
    speed: float
    """images per second, one at a time, of the model itself"""
    exported_speed: float


def sizes_to_check(model: Segmenter) -> list[tuple[int, int, int]]:
    """Five sizes (batch, height, width): that of training, odd ones, and one below the stride."""
    step = model.padded_size(1, 1)[0]
    usual = (4 * step, 4 * step)
    if model.size is not None:
        usual = (model.size,) * 2 if isinstance(model.size, int) else model.size[::-1]
    sizes = [(2, *usual), (1, step + 5, 3 * step + 17), (3, 2 * step + 1, step)]
    return [*sizes, (1, max(1, step - 7), step // 2 + 1), (1, 5 * step + 3, 2 * step - 1)]


def check_sizes(
    reference: Predict, exported: Predict, sizes: Sequence[tuple[int, int, int]], image: np.ndarray
) -> list[OnSize]:
    """Compare on images of several sizes, made from one image, its mirror image and its negative.

    Args:
        sizes: from `sizes_to_check`.
        image: (H, W, 3) uint8.
    """
    found = []
    for batch, height, width in sizes:
        one = resize_image(image, (width, height))
        images = np.stack([one, one[:, ::-1], 255 - one][:batch])
        tensor = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()
        difference = (reference(tensor)[0] - exported(tensor)[0]).abs().max().item()
        found.append(OnSize(batch, height, width, difference))
    return found


def check_split(reference: Predict, exported: Predict, data: Prepared) -> OnSplit:
    """Compare on each validation image, and both by their score."""
    split, classes = data.splits["valid"], data.labels.classes
    difference, seconds = 0.0, [0.0, 0.0]
    counts: list[list[Tensor]] = [[], []]
    for index in range(len(split)):
        pixels, label_map = (torch.from_numpy(part.copy()) for part in split[index])
        image = pixels.permute(2, 0, 1)[None].contiguous()
        probabilities = []
        for which, predict in enumerate((reference, exported)):
            began = time.perf_counter()
            of_image, mask = predict(image)
            seconds[which] += time.perf_counter() - began
            probabilities.append(of_image)
            counts[which].append(count_pixels(mask, label_map[None], classes))
        difference = max(difference, (probabilities[0] - probabilities[1]).abs().max().item())
    ious = [scores(torch.cat(own))["iou"] for own in counts]
    speeds = [len(split) / max(own, 1e-9) for own in seconds]
    return OnSplit(len(split), difference, *ious, *speeds)


def comparison(sizes: list[OnSize], on_split: OnSplit | None) -> str:
    """A table of the differences, and a line of the scores."""
    lines = ["  images          height x width   largest difference of a probability"]
    lines += [
        f"  {one.images:<14}  {one.height:>6} x {one.width:<6}  {one.difference:>8.1e}"
        for one in sizes
    ]
    if on_split is None:
        return "\n".join([*lines, "  no validation images: the model is not in a run's folder"])
    lines += [
        f"  {on_split.images:<3} of valid    {'':>15}  {on_split.difference:>8.1e}",
        f"  IoU on them: segacc {on_split.iou:.4f}, this file {on_split.exported_iou:.4f}; "
        f"speed: {on_split.exported_speed / on_split.speed:.2f} of PyTorch's "
        f"({on_split.speed:.1f} img/s, one at a time on this CPU)",
    ]
    return "\n".join(lines)


def what_int8_gives(found: OnSplit) -> str:
    """A sentence on the file that computes in 8 bits, against that in float32."""
    return (
        f"  IoU on {found.images} images of valid: {found.iou:.4f} in float32, "
        f"{found.exported_iou:.4f} in 8 bits ({found.exported_iou - found.iou:+.4f}); largest "
        f"difference of a probability {found.difference:.2g}; "
        f"speed {found.exported_speed / found.speed:.2f} of float32's"
    )


def refuse_if_different(path: Path, sizes: list[OnSize], on_split: OnSplit | None) -> None:
    """Raises InputError where the export does not compute what the model computes."""
    largest = max(one.difference for one in sizes)
    change = 0.0
    if on_split is not None:
        largest = max(largest, on_split.difference)
        change = abs(on_split.iou - on_split.exported_iou)
    if largest > MOST_DIFFERENCE or change > MOST_CHANGE:
        raise InputError(
            f"{path} was not kept: it differs from the model by up to {largest:.1e} in a "
            f"probability (expected {MOST_DIFFERENCE:g} at most) and by {change:.1e} in IoU "
            f"(expected {MOST_CHANGE:g} at most): give another --to, and tell us which model it is."
        )
