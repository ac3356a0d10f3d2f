"""What `segacc predict` writes for an image: its mask, its probabilities, an overlay."""

from __future__ import annotations

import errno
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from segacc.data.classes.files import write_classes
from segacc.data.classes.palettes import with_palette
from segacc.errors import InputError, disk_errors
from segacc.labels import BINARY, Labels, write_mask
from segacc.metrics.counts import class_probabilities
from segacc.metrics.thresholds import levels_of
from segacc.prediction.reading import Read
from segacc.report.pictures import outlined, tinted

STRIP = 1024  # rows of an image of which the levels are computed at once
JPEG_SIDE = 65_500  # what the format can hold


def probability_maps(logits: Tensor, shape: tuple[int, int]) -> Iterator[Tensor]:
    """Yield a map (H, W) float32 in 0..1 on the CPU for each of K classes, at the image's own size.
    Only one is in memory at a time.

    Args:
        logits: (1, K, h, w); for K = 1 they are overwritten.
    """
    probabilities = logits.sigmoid_() if logits.shape[1] == 1 else class_probabilities(logits)
    for of_class in probabilities.split(1, dim=1):
        if of_class.shape[-2:] != shape:
            of_class = functional.interpolate(
                of_class, size=shape, mode="bilinear", align_corners=False, antialias=True
            )
        yield of_class[0, 0].cpu()


def write_files(
    one: Read,
    maps: Iterator[Tensor],
    threshold: float,
    labels: Labels | None,
    colours: bool = False,
) -> None:
    """Write the files that the image's target names, the mask last: where it is, all are.

    Args:
        maps: from `probability_maps`.
        threshold: for two classes, foreground is where the probability is above this.
        labels: None where nobody has named the classes.
        colours: the mask of more than two classes is RGB, else numbers with a palette.
    """
    if one.target.mask.exists():  # of an earlier call, without the other files
        one.target.mask.unlink()
    if labels is None or labels.logits == 1:
        _write_binary(one, next(maps), threshold)
    else:
        _write_classes(one, maps, labels, colours)


def write_legend(folder: Path, labels: Labels | None) -> None:
    """Write the numbers, names and colours of more than two classes, as --classes reads them."""
    if labels is None or labels.logits == 1:
        return
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        write_classes(folder, labels)


def _write_binary(one: Read, probabilities: Tensor, threshold: float) -> None:
    mask = write_mask((probabilities > threshold).numpy(), BINARY)
    if one.target.probabilities:
        _save_levels(probabilities, one.target.probabilities)
    if one.target.overlay:
        assert one.original is not None
        _save_overlay(outlined(one.original, mask), one.target.overlay)
    _save(Image.fromarray(mask), one.target.mask, "PNG")


def label_map_of(
    maps: Iterator[Tensor], see: Callable[[int, Tensor], object] | None = None
) -> np.ndarray:
    """The most probable class of each pixel, (H, W) uint8; the first if several are equal, as
    argmax.

    Args:
        maps: from `probability_maps`, for more than one class.
        see: called with the number of each class and its map.
    """
    best, found = torch.zeros(0), np.zeros(0, np.uint8)
    for number, probabilities in enumerate(maps):
        if number == 0:
            best, found = probabilities.clone(), np.zeros(probabilities.shape, np.uint8)
        found[(probabilities > best).numpy()] = number
        torch.maximum(best, probabilities, out=best)
        if see:
            see(number, probabilities)
    return found


def _write_classes(one: Read, maps: Iterator[Tensor], labels: Labels, colours: bool) -> None:
    folder = one.target.probabilities and one.target.probabilities.with_suffix("")

    def save(number: int, probabilities: Tensor) -> None:
        name = re.sub(r"[^\w.-]", "-", f"{number:03d}-{labels.names[number]}.png")
        assert folder is not None
        _save_levels(probabilities, folder / name)

    found = label_map_of(maps, save if folder else None)
    if one.target.overlay:
        assert one.original is not None
        _save_overlay(tinted(one.original, found, labels), one.target.overlay)
    mask = with_palette(found, labels)
    _save(mask.convert("RGB") if colours else mask, one.target.mask, "PNG")


def _save_levels(probabilities: Tensor, path: Path) -> None:
    levels = torch.cat([levels_of(strip) for strip in probabilities.split(STRIP)])
    _save(Image.fromarray(levels.numpy()), path, "PNG")


def _save_overlay(overlay: Image.Image, path: Path) -> None:
    overlay.thumbnail((JPEG_SIDE, JPEG_SIDE))
    _save(overlay, path, "JPEG")


def _save(picture: Image.Image, path: Path, file_format: str) -> None:
    """Write the file as a whole: a file that exists is complete."""
    aside = path.with_name(".partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        picture.save(aside, file_format, quality=90)  # PNG has none
        aside.replace(path)
    except OSError as error:
        what = "the disk is full" if error.errno == errno.ENOSPC else error.strerror or error
        raise InputError(
            f"{path} could not be written ({what}): give an --out folder that can hold it."
        ) from error
