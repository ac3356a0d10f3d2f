"""Random crops and flips, with one random stream per (seed, epoch, index)."""

from __future__ import annotations

import random
from typing import NamedTuple

import cv2
import numpy as np

# The symmetries of the square, in albumentations' order: transpose first, then flip as OpenCV says:
# 0 the rows, 1 the columns, -1 both.
D4: tuple[tuple[bool, int | None], ...] = (
    *((False, None), (True, 0), (False, -1), (True, 1)),  # a turn by 0, 1, 2, 3 quarters
    *((False, 0), (True, -1), (False, 1), (True, None)),
)
FLIPS = {(False, False): None, (True, False): 1, (False, True): 0, (True, True): -1}


class View(NamedTuple):
    """What is shown of a sample: a square of it, transposed or not, then flipped or not."""

    top: int
    left: int
    transpose: bool
    flip: int | None


def stream_seed(seed: int, epoch: int, index: int) -> int:
    """Seed of the random stream of sample `index` in `epoch`."""
    return int(np.random.SeedSequence([seed, epoch, index]).generate_state(1)[0])


def draw_view(flips: str, crop: int | None, side: int, state: int) -> View:
    """Draw a crop, then flips.

    These are the draws of a Compose of albumentations 2.0.8 (RandomCrop; HorizontalFlip and
    VerticalFlip, or D4) whose transforms share one stream, and so are the pixels; without its
    costs, which are four times as large as those of the copy.

    Args:
        flips: `none`, `h`, `hv`, or `d4` (all eight symmetries of the square).
        crop: side of the random crop in px, None for the full image.
        side: width and height of the sample in px.
        state: of `stream_seed`.
    """
    stream = random.Random(state)
    stream.random()  # Compose asks whether to do anything
    room = side - crop + 1 if crop else 0
    top, left = (int(room * stream.random()) for _ in range(2)) if crop else (0, 0)
    if flips == "d4":
        return View(top, left, *D4[np.random.default_rng(state).integers(len(D4))])
    columns = flips in ("h", "hv") and stream.random() < 0.5
    rows = flips == "hv" and stream.random() < 0.5
    return View(top, left, False, FLIPS[columns, rows])


def write_view(view: View, pixels: np.ndarray, out: np.ndarray) -> None:
    """Write what a view shows into its place in a batch. No pixel is interpolated.

    Args:
        pixels: image (S, S, 3) or mask (S, S), uint8.
        out: (side, side, 3) or (side, side) uint8, contiguous.
    """
    side = len(out)
    seen = pixels[view.top : view.top + side, view.left : view.left + side]
    if view.transpose:
        seen = cv2.transpose(seen)
    if view.flip is None:
        np.copyto(out, seen)
    else:
        cv2.flip(seen, view.flip, dst=out)
