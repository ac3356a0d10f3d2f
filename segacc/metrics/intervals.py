"""Bootstrap intervals over images."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from torch import Tensor

INTERVALS = "95 % of 2000 resamples of the images, with replacement (percentile bootstrap)"


RESAMPLES = 2000


@cache
def resamples(images: int) -> Tensor:
    """(RESAMPLES, images) float64: how often each image is drawn, the same in every call."""
    rng = np.random.default_rng(0)
    drawn = rng.multinomial(images, np.full(images, 1 / images), size=RESAMPLES)
    return torch.from_numpy(drawn).double()


@dataclass(frozen=True)
class Score:
    """A value and its 95 % interval, which one image has not."""

    value: float
    low: float | None
    high: float | None


def interval(values: Tensor) -> tuple[float, float]:
    """The middle 95 % of bootstrapped values, (R,)."""
    low, high = np.percentile(values.numpy(), [2.5, 97.5])
    return float(low), float(high)
