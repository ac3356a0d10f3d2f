"""Images to predict: read as the model was trained, with notes on those unlike its training
data."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np

from segacc.data.reading.decode import DecodeError, Encoded, read_pixels
from segacc.data.reading.depth import WHOLE, ValueRange, share_outside, to_8_bits
from segacc.errors import some_names
from segacc.prediction.ensemble import ModelInput, seen_by
from segacc.prediction.find import Target
from segacc.runtime.threads import cores, in_order

OUTSIDE = 0.05
"""Share of pixels outside of the model's range above which an image is noted."""

Unlike = Literal["16 bits", "8 bits", "outside"]


@dataclass(frozen=True, eq=False)
class Read:
    """An image that was read."""

    target: Target
    pixels: tuple[np.ndarray, ...]
    """(H, W, 3) uint8 as each model gets it"""
    shape: tuple[int, int]
    """its own height and width"""
    original: np.ndarray | None
    """(H, W, 3) uint8, if it is wanted"""
    unlike: Unlike | None
    """how the values of its file are unlike those that the model was trained on"""
    brightest: int
    """the largest value in its file"""


def readable(
    targets: Sequence[Target], inputs: Sequence[ModelInput], ahead: int
) -> Iterator[Read | DecodeError]:
    """Yield the images in order, or the error of one that cannot be read.

    Args:
        inputs: how each model sees an image.
        ahead: images that are read while the ones before them are predicted. With tiles it is 0,
            so that one large image is in memory at a time.
    """
    read_one = partial(_read, inputs=inputs)
    with ThreadPoolExecutor(min(4, cores())) as pool:
        yield from in_order(pool, read_one, targets, most=ahead)


def _read(target: Target, inputs: Sequence[ModelInput]) -> Read | DecodeError:
    try:
        values = read_pixels(Encoded(path=str(target.image), bytes=None))
    except DecodeError as error:
        return error
    value_range = inputs[0].value_range
    original = to_8_bits(values, value_range or WHOLE) if target.overlay else None
    return Read(
        target=target,
        pixels=seen_by(inputs, values),
        shape=(values.shape[0], values.shape[1]),
        original=original,
        unlike=_unlike(values, value_range),
        brightest=int(values.max()),
    )


def _unlike(values: np.ndarray, value_range: ValueRange | None) -> Unlike | None:
    if values.dtype == np.uint8:
        return "8 bits" if value_range else None
    if value_range is None:
        return "16 bits"
    return "outside" if share_outside(values, value_range) > OUTSIDE else None


class Notes:
    """Collects the images that are unlike those that the model was trained on."""

    def __init__(self, value_range: ValueRange | None) -> None:
        self._range = "{}..{}".format(*value_range) if value_range else ""
        self._names: defaultdict[Unlike, list[str]] = defaultdict(list)
        self._brightest = 0

    def add(self, image: Read) -> None:
        if image.unlike:
            self._names[image.unlike].append(image.target.image.name)
            self._brightest = max(self._brightest, image.brightest)

    def sentences(self) -> list[str]:
        """One for each kind, with the number of images and up to three names."""
        dark = ""
        if self._brightest < 2**14:
            dark = ", so they are far too dark for the model: scale their values up to 65535 first"
        said = {
            "16 bits": (
                "with 16 bits per channel: 65535 was taken for white, since the model was trained "
                f"on images of 8 bits; the largest value in them is {self._brightest}{dark}"
            ),
            "8 bits": (
                "with 8 bits, taken as they are; the model was trained on images of 16 bits per "
                f"channel, in which {self._range} became 0..255"
            ),
            "outside": (
                f"with more than {OUTSIDE:.0%} of the pixels outside of {self._range}, the range "
                "of the model's training images: these pixels became black or white"
            ),
        }
        return [f"{_count_and_names(names)} {said[kind]}" for kind, names in self._names.items()]


def _count_and_names(names: list[str]) -> str:
    """Return text such as `5 images (a.png, b.png, c.png and 2 more)`."""
    images = "1 image" if len(names) == 1 else f"{len(names)} images"
    return f"{images} ({some_names(names)})"
