"""Labels: what the values of a mask mean, and how masks are read and written.

Inside segacc a mask is a label map: (H, W) uint8, the number of a class per pixel, and IGNORE where
nothing is said about a pixel. Only this module knows how masks are coded in their files.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

IGNORE = 255
"""In a label map: nothing is said about this pixel, so no loss and no score counts it."""
FOREGROUND = 1
"""The class of the thing, where there are two classes."""

CODING = "a binary mask holds 0 and 255 (or 0 and 1)"
RECODE = "set every foreground pixel to 255 and every other pixel to 0"


@dataclass(frozen=True)
class Labels:
    """The classes of a data set; class i has the value i in a label map."""

    names: tuple[str, ...]
    colours: tuple[tuple[int, int, int], ...]
    """of each class, red, green and blue in 0..255"""

    def __post_init__(self) -> None:
        assert 2 <= len(self.names) <= IGNORE and len(self.colours) == len(self.names)

    @property
    def classes(self) -> int:
        """Number of classes, the background included."""
        return len(self.names)

    @property
    def logits(self) -> int:
        """Number of logits per pixel: 1 for background and one thing, else one per class."""
        return 1 if self.classes == 2 else self.classes

    def to_config(self) -> dict[str, Any]:
        """As a dictionary of JSON's types, for the config of a model and of a run."""
        return {"names": list(self.names), "colours": [list(colour) for colour in self.colours]}

    @staticmethod
    def from_config(config: dict[str, Any] | None) -> Labels:
        """The inverse of `to_config`; None, as in what segacc 0.1.0 has written, is BINARY."""
        if config is None:
            return BINARY
        colours = tuple((red, green, blue) for red, green, blue in config["colours"])
        return Labels(tuple(config["names"]), colours)


BINARY = Labels(("background", "foreground"), ((0, 0, 0), (255, 255, 255)))


class MaskValueError(ValueError):
    """The values of a mask do not say which class a pixel has."""


def read_mask(values: np.ndarray) -> np.ndarray:
    """The label map of a binary mask.

    Args:
        values: (H, W) as the file has them, of any type: 0 is background, and one of 1, 255 and
            65535 is foreground.

    Returns:
        (H, W) uint8 in {0, 1}.

    Raises:
        MaskValueError: there are other values; the message lists them.
    """
    top = values.max()
    if top not in (0, 1, 255, 65535) or not ((values == 0) | (values == top)).all():
        used = [f"{value:g}" for value in np.unique(values).tolist()]
        raise MaskValueError(f"has the values {first_few(used)}; {CODING}")
    return (values != 0).astype(np.uint8)


def foreground_value(values: np.ndarray) -> int:
    """What stands for foreground in a mask that `read_mask` takes; 0 where nothing is."""
    return int(values.max())


def write_mask(label_map: np.ndarray, labels: Labels) -> np.ndarray:
    """The inverse of `read_mask`: the values of a mask's file.

    Args:
        label_map: (H, W) uint8 or bool.

    Returns:
        (H, W) uint8: 0 and 255 for two classes, which then has no value for ignored pixels; else
        the number of the class and IGNORE.
    """
    assert label_map.ndim == 2 and label_map.dtype in (np.uint8, np.bool_)
    if labels.classes > 2:
        return label_map.astype(np.uint8)
    assert label_map.max(initial=0) <= FOREGROUND, "0 and 255 cannot say that a pixel is ignored"
    return label_map * np.uint8(255)


def first_few(values: list[str]) -> str:
    """The first of many values, and how many there are."""
    return f"{', '.join(values[:5])}{', ...' if len(values) > 5 else ''} ({len(values)} in all)"
