"""The range of values of a data set whose images have 16 bits per channel."""

from __future__ import annotations

from contextlib import closing, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from segacc.data.reading.decode import Decoded, DecodeError
from segacc.data.reading.depth import VALUES, ValueRange
from segacc.data.rows import Source, in_processes, read_row
from segacc.labels import IGNORE, Coding
from segacc.runtime.bars import make_bar

OF_ALL = 0.001
OF_FOREGROUND = 0.005
"""These shares of the pixels, at either end, do not count for the range. Hot pixels, reflections
and burnt-in text would leave few levels to the rest. The foreground has percentiles of its own,
those of nnU-Net: it may be the brightest of all and less than a thousandth of the pixels."""


@dataclass(frozen=True, eq=False)
class Histograms:
    """How many pixels have each value, in images of 16 bits per channel."""

    of_all: np.ndarray
    """(65536,) int64"""
    of_foreground: np.ndarray

    def __add__(self, other: Histograms) -> Histograms:
        return Histograms(self.of_all + other.of_all, self.of_foreground + other.of_foreground)

    @property
    def pixels(self) -> int:
        return int(self.of_all.sum())

    @property
    def ends(self) -> ValueRange:
        """The smallest and the largest value."""
        found = np.flatnonzero(self.of_all)
        return int(found[0]), int(found[-1])

    def share_within(self, value_range: ValueRange) -> float:
        """Share of the pixels that lie in the range."""
        low, high = value_range
        return float(self.of_all[low : high + 1].sum() / self.pixels)

    def levels(self, value_range: ValueRange) -> float:
        """How many of the 256 levels the middle 90 % of the pixels get."""
        low, high = (_quantile(self.of_all, share) for share in (0.05, 0.95))
        return 255 * (high - low) / (value_range[1] - value_range[0])


NO_PIXELS = Histograms(np.zeros(VALUES, dtype=np.int64), np.zeros(VALUES, dtype=np.int64))


def histograms(pair: Decoded) -> Histograms:
    """Return the histograms of an image; NO_PIXELS for one with 8 bits."""
    if not pair.is_deep:
        return NO_PIXELS
    inside = pair.values[(pair.label_map != 0) & (pair.label_map != IGNORE)]
    return Histograms(*(np.bincount(v.ravel(), minlength=VALUES) for v in (pair.values, inside)))


def range_of(found: Histograms) -> ValueRange:
    """The values that become 0 and 255.

    The range goes from the lowest to the highest value. The darkest and the brightest thousandth of
    the pixels do not count, unless they are foreground.
    """
    low, high = (_quantile(found.of_all, share) for share in (OF_ALL, 1 - OF_ALL))
    if found.of_foreground.any():
        low = min(low, _quantile(found.of_foreground, OF_FOREGROUND))
        high = max(high, _quantile(found.of_foreground, 1 - OF_FOREGROUND))
    if low == high:  # an image of one value
        low, high = max(0, low - 1), max(1, high)
    return low, high


def _quantile(counts: np.ndarray, share: float) -> int:
    """The smallest value that is reached by at least this share of the pixels."""
    reached = counts.cumsum()
    return int(np.searchsorted(reached, max(1.0, share * reached[-1])))


def find_range(source: Source) -> ValueRange:
    """The range of the training split, or of all splits where it has no image of 16 bits."""
    found, of_rows = NO_PIXELS, partial(_histograms_of_rows, coding=source.coding)
    for name, rows in sorted(source.rows.items(), key=lambda item: item[0] != "train"):
        with (
            make_bar(total=len(rows), desc=f"range of values of {name}") as bar,
            closing(in_processes(of_rows, [rows], 16 * VALUES)) as parts,
        ):
            for some, images in parts:
                found = found + some
                bar.update(images)
        if found.pixels and name == "train":
            break
    return range_of(found)


def _histograms_of_rows(rows: list[dict[str, Any]], coding: Coding) -> list[tuple[Histograms, int]]:
    """Return the sum over some rows, and their number."""
    found = NO_PIXELS
    for row in rows:
        with suppress(DecodeError):  # which preparing reports
            found = found + histograms(read_row(row, coding))
    return [(found, len(rows))]
