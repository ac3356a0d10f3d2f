"""The images that a report shows: which of them, and their pictures."""

from __future__ import annotations

import base64
from dataclasses import dataclass

import numpy as np
from PIL import Image
from torch import Tensor

from segacc.metrics.scores import DISTANCES
from segacc.report import figures
from segacc.report.pictures import encoded, reduced
from segacc.report.scored import Scored

UNCOUNTED = 128  # in pictures of masks of two classes
SIDE = 256  # px of a picture in the page, at most
QUALITY = 80  # of its JPEG
IN_DIALOG = ("dice", "precision", "recall", "boundary_iou", *DISTANCES, "ece")  # of per_image.csv


@dataclass(frozen=True)
class GalleryImage:
    """An image in the gallery: its pictures and scores."""

    point: int  # its place among the images that have a point in the chart
    name: str
    about: str  # sizes
    width: int
    height: int
    photo: str  # base64 of a JPEG
    masks: list[str]  # base64 of 8-bit gray PNGs, by `mask_in_page`; one if all runs have the same
    mask_of: list[int]  # for each run, which of the masks is its own
    found: list[str]  # base64 of an 8-bit gray PNG for each run, by `Scored.found`
    scores: list[list[tuple[str, str]]]  # for each run, names and values at its threshold


def choose_images(ious: Tensor, pictures: int, points: int) -> tuple[list[int], list[int]]:
    """The images of the gallery, and those that have a point in the chart of IoUs.

    Args:
        ious: (N,) of the images, by which they are sorted.
        pictures: how many images the gallery has at most. If there are more, half of the gallery
            are the worst images, and the others are evenly spaced among the rest of the sorted
            images.
        points: how many points there are at most: those of the gallery, and others that are evenly
            spaced among the rest of the sorted images.

    Returns:
        gallery: worst first.
        points: in order of the images; all of the gallery are among them.
    """
    order = ious.argsort(stable=True).tolist()
    gallery = first_and_spread(order, pictures)
    if len(order) <= points:
        return gallery, sorted(order)
    in_gallery = set(gallery)
    others = [image for image in order if image not in in_gallery]
    return gallery, sorted(gallery + _evenly(others, points - len(gallery)))


def first_and_spread(order: list[int], most: int) -> list[int]:
    """If there are more images than `most`, return half of `most` from the start of the order, and
    others that are evenly spaced among the rest."""
    if len(order) <= most:
        return order
    return order[: most // 2] + _evenly(order[most // 2 :], most - most // 2)


def _evenly(items: list[int], count: int) -> list[int]:
    """Return `count` evenly spaced items, from the first to the last."""
    return [items[i] for i in np.linspace(0, len(items) - 1, count).round().astype(int)]


def gallery_image(runs: list[Scored], point: int, indices: list[int]) -> GalleryImage:
    """The pictures and scores of an image.

    Args:
        point: its place among the images that have a point in the chart.
        indices: its number in each of the runs.
    """
    both = list(zip(runs, indices, strict=True))
    masks = [_png(mask_in_page(run, i)) for run, i in both]
    run, index = max(both, key=lambda pair: pair[0].mask(pair[1]).size)
    height, width = run.mask(index).shape
    before = run.rows[index]["height"], run.rows[index]["width"]
    about = f"{width} \N{MULTIPLICATION SIGN} {height} px"
    if before != (str(height), str(width)):
        about += f", from {before[1]} \N{MULTIPLICATION SIGN} {before[0]}"
    # The page shows the first mask: that of the run with the largest images.
    shown_mask = masks[runs.index(run)]
    different = sorted(dict.fromkeys(masks), key=lambda mask: mask != shown_mask)
    scores = [
        [
            (name, figures.number_text(float(run.rows[i][name] or "nan"), name))
            for name in IN_DIALOG
            if name in run.rows[i]
        ]
        for run, i in both
    ]
    photo = reduced(run.image(index), SIDE, Image.Resampling.LANCZOS)
    return GalleryImage(
        point=point,
        name=run.names[index],
        about=about,
        width=photo.width,
        height=photo.height,
        photo=base64.b64encode(encoded(photo, "JPEG", quality=QUALITY)).decode(),
        masks=different,
        mask_of=[different.index(mask) for mask in masks],
        found=[_png(run.found(i)) for run, i in both],
        scores=scores,
    )


def mask_in_page(run: Scored, index: int) -> np.ndarray:
    """(H, W) uint8: the label map, in which two classes are black and white, and gray where no
    pixel is counted."""
    label_map = run.mask(index)
    if run.labels.logits > 1:
        return label_map
    table = np.full(256, UNCOUNTED, dtype=np.uint8)
    table[:2] = 0, 255
    shown: np.ndarray = table[label_map]
    return shown


def _png(pixels: np.ndarray) -> str:
    # Nearest pixels, so that each pixel in the picture is one that was scored, and no mean.
    picture = reduced(pixels, SIDE, Image.Resampling.NEAREST)
    return base64.b64encode(encoded(picture, "PNG", optimize=True)).decode()
