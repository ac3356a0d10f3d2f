"""Random crops and flips, with one random stream per (seed, epoch, index)."""

from __future__ import annotations

import random
from typing import NamedTuple

import cv2
import numpy as np

from segacc.labels import IGNORE

# The symmetries of the square, in albumentations' order: whether to transpose first, then how to
# flip, in OpenCV's codes: 0 reverses the rows, 1 the columns, -1 both.
D4: tuple[tuple[bool, int | None], ...] = (
    *((False, None), (True, 0), (False, -1), (True, 1)),  # a turn by 0, 1, 2, 3 quarters
    *((False, 0), (True, -1), (False, 1), (True, None)),
)
# Whether columns and rows are reversed -> the flip as OpenCV says it.
FLIP_CODES = {(False, False): None, (True, False): 1, (False, True): 0, (True, True): -1}


class View(NamedTuple):
    """How a sample is shown: which part of it, whether transposed, and how then flipped. The part
    may reach below the sample and to the right of it."""

    top: int
    left: int
    transpose: bool
    flip: int | None


PIPELINE = 1
"""the number, for `stream_seed`, of the stream of an albumentations pipeline; crops and flips have
their own"""


def stream_seed(seed: int, epoch: int, index: int, *stream: int) -> int:
    """Seed of the random stream of sample `index` in `epoch`."""
    return int(np.random.SeedSequence([seed, epoch, index, *stream]).generate_state(1)[0])


def draw_view(flips: str, crop: int | None, height: int, width: int, state: int) -> View:
    """Draw a crop, then flips.

    Crops and flips are those of a Compose of albumentations 2.0.8 (RandomCrop, which pads at the
    bottom and on the right where the sample is smaller; HorizontalFlip and VerticalFlip, or D4)
    whose transforms share one stream. albumentations itself is not called, since its overhead is
    four times as large as the time to copy the pixels.

    Args:
        flips: `none`, `h`, `hv`, or `d4` (all eight symmetries of the square).
        crop: side of the random crop in px, None for the full image.
        height, width: those of the sample in px.
        state: from `stream_seed`.
    """
    stream = random.Random(state)
    stream.random()  # Compose draws first whether to do anything
    top = left = 0
    if crop:
        top = int((max(0, height - crop) + 1) * stream.random())
        left = int((max(0, width - crop) + 1) * stream.random())
    if flips == "d4":
        return View(top, left, *D4[np.random.default_rng(state).integers(len(D4))])
    columns = flips in ("h", "hv") and stream.random() < 0.5
    rows = flips == "hv" and stream.random() < 0.5
    return View(top, left, False, FLIP_CODES[columns, rows])


def write_view(view: View, pixels: np.ndarray, out: np.ndarray) -> None:
    """Write what a view shows into its place in a batch. No pixel is interpolated.

    Outside of the sample an image repeats its last row and column, as `Segmenter` does to pad an
    image, and a label map is IGNORE.

    Args:
        pixels: image (H, W, C) or label map (H, W), uint8.
        out: the same at the size of the view, contiguous.
    """
    is_image = out.ndim == 3
    if is_image and out.shape[2] == 1:  # OpenCV would drop the axis
        pixels, out = pixels[..., 0], out[..., 0]
    height, width = out.shape[1::-1] if view.transpose else out.shape[:2]
    shown = pixels[view.top : view.top + height, view.left : view.left + width]
    if shown.shape[:2] != (height, width):
        below, right = height - shown.shape[0], width - shown.shape[1]
        how = cv2.BORDER_REPLICATE if is_image else cv2.BORDER_CONSTANT
        shown = cv2.copyMakeBorder(shown, 0, below, 0, right, how, value=IGNORE)
    if view.transpose:
        # OpenCV, which is faster, transposes up to four channels.
        many = shown.ndim == 3 and shown.shape[2] > 4
        shown = np.ascontiguousarray(shown.swapaxes(0, 1)) if many else cv2.transpose(shown)
    if view.flip is None:
        np.copyto(out, shown)
    else:
        cv2.flip(shown, view.flip, dst=out)
