"""Contents of a split's masks: whether scores are meaningful, what the resize removed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from segacc.config.sizes import Size, scaled_to, size_of, size_text, width_height
from segacc.data.regions import STEP, Regions
from segacc.data.split import Split
from segacc.errors import some_names

EMPTY = 0.2
"""If this share of the masks or more is empty, there is a warning."""
FEW_MASKS = 2
FEW_PIXELS = 100
DAMAGED = 0.02
"""If the resize removes or breaks more than this share of the regions, there is a warning."""


@dataclass(frozen=True)
class Masks:
    """The number of pixels in each mask of a split."""

    names: list[str]
    background: np.ndarray
    """(N,) pixels"""
    foreground: np.ndarray
    """(N,) pixels of all other classes; ignored pixels are in neither"""
    ignored: int = 0
    """pixels in all"""


def masks_of(split: Split) -> Masks:
    """Return the numbers of a prepared split, after the resize."""
    pixels = sum(math.prod(split.shape_of(i)) for i in range(len(split)))
    counted = int(split.background.sum(dtype=np.int64) + split.foreground.sum(dtype=np.int64))
    return Masks(split.names, split.background, split.foreground, pixels - counted)


def why_meaningless(masks: Masks) -> str | None:
    """Say why no score of a split with two classes is meaningful; None if scores are.

    Returns:
        the middle of a sentence: "... all 5 masks are empty, so ..."
    """
    count = len(masks.names)
    of_all = "its only mask is" if count == 1 else f"all {count} masks are"
    if not masks.foreground.any():
        if not masks.background.any():
            return f"{of_all} ignored as a whole, so that there is nothing to score"
        counted = int(masks.background.sum(dtype=np.int64))
        share = masks.ignored / (masks.ignored + counted)
        ignored = (
            f" ({share:.0%} of the pixels do not count: where classes have values, 255 is none)"
            if share
            else ""
        )
        return (
            f"{of_all} empty{ignored}, so that a model that finds nothing has the IoU 1, any other "
            "0"
        )
    if not masks.background.any():
        return f"{of_all} foreground everywhere, so that one that finds it everywhere has the IoU 1"
    return None


def doubts(masks: Masks) -> list[str]:
    """Say why a score of a split may mean little: the ends of sentences, such as "2 of 3 masks are
    empty ..."."""
    count = len(masks.names)
    filled = np.flatnonzero(masks.foreground)
    empty = int(((masks.foreground == 0) & (masks.background > 0)).sum())
    said = []
    if 0 < len(filled) <= FEW_MASKS < count:
        names = some_names([masks.names[i] for i in filled])
        said.append(
            f"all foreground is in {len(filled)} of {count} masks ({names}): iou rests on it"
        )
    elif empty >= EMPTY * count:
        said.append(
            f"{empty} of {count} masks are empty: a model that finds nothing has an iou_image of "
            f"{empty / count:.2f} (iou counts pixels, so they do not raise it)"
        )
    pixels = int(masks.foreground.sum())
    if 0 < pixels < FEW_PIXELS:
        said.append(
            f"{pixels} pixels are foreground in all: each one changes iou by {1 / pixels:.0%}"
        )
    return said


def lost_in_resize(names: Sequence[str], regions: Sequence[Regions], size: Size) -> str | None:
    """Return a sentence on the regions that the resize removes or breaks; None if they are few.

    Args:
        names: the names of the images.
        regions: the regions of their masks.
        size: px that they were resized to.
    """
    count, lost, broken, pieces = (
        sum(getattr(r, field) for r in regions) for field in ("count", "lost", "broken", "pieces")
    )
    if lost + broken <= DAMAGED * count:
        return None
    damaged = [i for i, r in enumerate(regions) if r.size]
    damaged.sort(key=lambda i: regions[i].lost + regions[i].pieces, reverse=True)
    sizes = sorted(regions[i].size for i in damaged)
    enough = sizes[-(len(sizes) // 10) - 1]  # for nine of ten
    kept = sum(needed <= enough for needed in sizes)
    thinnest = min(regions[i].thinnest for i in damaged)
    larger = size_of(*scaled_to(width_height(size), enough, STEP))
    return (
        f"of the {count} connected regions in the masks, the resize to {size_text(size)} px "
        f"removes {lost} and breaks {broken} (into {pieces} pieces), in {len(damaged)} of "
        f"{len(names)} images ({some_names([names[i] for i in damaged])}); the thinnest was "
        f"{thinnest} px wide. --size {size_text(larger)} keeps them in {kept} of these "
        f"{len(damaged)}; with --crop {min(width_height(size))} a step then takes as much memory "
        f"as with {size_text(size)} px"
    )
