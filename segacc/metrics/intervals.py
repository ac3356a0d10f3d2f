"""Bootstrap intervals over images (Efron & Tibshirani 1993)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

INTERVALS = "95 % of 2000 resamples of the images, with replacement (percentile bootstrap)"
RESAMPLES = 2000
RESAMPLES_BYTES = 64 << 20
"""The bytes of weights that are in memory at a time: 2000 resamples of 4194 images, fewer of more
images."""


@dataclass(frozen=True)
class Score:
    """A value and its 95 % interval; a single image has no interval."""

    value: float
    low: float | None
    high: float | None

    @property
    def interval(self) -> str:
        """As text; empty for a single image."""
        return "" if self.low is None else f"{self.low:.4f} to {self.high:.4f}"


def bootstrap(statistic: Callable[[Tensor], Tensor], images: int) -> Tensor:
    """Compute a statistic on RESAMPLES resamples of a split, the same resamples in every call.

    Args:
        statistic: weights (r, images) float64, which say how often each image was drawn -> (r, ...)
            of each resample by itself.

    Returns:
        (RESAMPLES, ...).
    """
    return torch.cat([statistic(weights) for weights in resamples(images)])


def resamples(images: int) -> Iterable[Tensor]:
    """How often each image is drawn: (r, images) float64 at a time, RESAMPLES rows in all.

    The blocks bound the memory: all rows for 50,000 images would take 0.8 GB, and as much again
    while they are drawn. The rows do not depend on the size of the blocks.
    """
    return _keep_blocks(images) if _rows(images) >= RESAMPLES else _draw_blocks(images)


@lru_cache(maxsize=1)
def _keep_blocks(images: int) -> tuple[Tensor, ...]:
    # Drawing 2000 resamples of 1000 images takes half a second, and a table of runs asks for each.
    return tuple(_draw_blocks(images))


def _draw_blocks(images: int) -> Iterator[Tensor]:
    rng = np.random.default_rng(0)
    shares, rows = np.full(images, 1 / images), _rows(images)
    for first in range(0, RESAMPLES, rows):
        drawn = rng.multinomial(images, shares, size=min(rows, RESAMPLES - first))
        yield torch.from_numpy(drawn).double()


def _rows(images: int) -> int:
    """Return the largest number of rows in a block."""
    return max(1, RESAMPLES_BYTES // (8 * images))


def percentile_interval(values: Tensor) -> tuple[float, float]:
    """The middle 95 % of bootstrapped values, (R,), of those that are not NaN; NaN if none is."""
    known = values[~values.isnan()].numpy()
    low, high = np.percentile(known, [2.5, 97.5]) if len(known) else (np.nan, np.nan)
    return float(low), float(high)
