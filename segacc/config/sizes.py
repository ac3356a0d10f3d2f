"""Sizes that images are resized to: 256, 480x360, or native, where each keeps its own."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

from segacc.errors import InputError

Size = int | tuple[int, int]
"""The size that images are resized to, in px: width and height, or one number where these are
equal."""

NATIVE: Final = "native"
AnySize = Size | Literal["native"]
"""The size that images are resized to, or `native`: each image keeps its own."""


def width_height(size: Size) -> tuple[int, int]:
    """Both sides of a size."""
    return (size, size) if isinstance(size, int) else size


def size_of(width: int, height: int) -> Size:
    """The size with these sides."""
    return width if width == height else (width, height)


def size_text(size: AnySize) -> str:
    """A size as it is given: `256`, `480x360` or `native`."""
    return "{}x{}".format(*size) if isinstance(size, tuple) else str(size)


def size_in_words(size: AnySize) -> str:
    """A size for people: `256 px`, `480x360 px` or `native size`."""
    return "native size" if isinstance(size, str) else f"{size_text(size)} px"


def sides_in_words(size: AnySize) -> str:
    """Both sides for people: `480 x 360 px` or `native size`."""
    if isinstance(size, str):
        return size_in_words(size)
    return "{} x {} px".format(*width_height(size))


def sizes_in_words(metrics: Mapping[str, Any]) -> str:
    """Return the size of the scored images, and the size that the model saw if it is another one.

    Args:
        metrics: the metrics.json of an evaluation.
    """
    scored = sides_in_words(size_of_json(metrics["size"]))
    seen = sides_in_words(size_of_json(metrics.get("seen_size", metrics["size"])))
    return scored if seen == scored else f"{scored} (predicted at {seen})"


def parse_size(words: Sequence[str]) -> AnySize:
    """The inverse of `size_text`. Raises ValueError."""
    if words[0] == NATIVE:
        return NATIVE
    found = re.fullmatch(r"(\d+)(?:x(\d+))?", words[0])
    if not found:
        raise ValueError(
            f"{words[0]} is no size: expected 256, 480x360 (width x height), or native"
        )
    return size_of(int(found[1]), int(found[2] or found[1]))


def spacing_of_text(text: str) -> tuple[float, float]:
    """Height and width of a pixel in mm, from `--spacing 0.5` or `0.5x0.4` (width x height). Raises
    InputError."""
    words = text.split("x")
    try:
        width, height = float(words[0]), float(words[-1])
    except ValueError:
        width = height = 0.0
    if len(words) > 2 or not (0 < width < math.inf and 0 < height < math.inf):
        raise InputError(
            f"--spacing {text}: expected mm per pixel, one number such as 0.5, or width x height "
            "such as 0.5x0.4."
        )
    return height, width


def size_of_json(value: Any) -> AnySize:
    """A size that was written as JSON, which has no tuples."""
    return parse_size([size_text(tuple(value) if isinstance(value, list) else value)])


def scaled_to(sides: tuple[int, ...], longer: int, step: int) -> tuple[int, ...]:
    """Scale both sides, with about the same ratio, to multiples of `step`.

    Args:
        longer: the new length of the longer side in px, a multiple of `step`.
    """
    return tuple(-(-longer * side // (max(sides) * step)) * step for side in sides)


def check_size(size: AnySize | None, crop: int | None, flips: str | None) -> None:
    """Raises InputError for a size that is too small, or that does not fit the crop or the flips.
    Native sizes are not known here, so they are not checked."""
    if size is None or isinstance(size, str):
        return
    width, height = width_height(size)
    if min(width, height) < 8:
        raise InputError(f"--size {size_text(size)}: expected 8 or more.")
    if crop and crop > min(width, height):
        raise InputError(
            f"--crop {crop} is larger than the images, which are resized to {width} x {height}: "
            f"give a crop of at most {min(width, height)}, a larger --size, or --size native."
        )
    if flips == "d4" and width != height and not crop:
        raise InputError(
            f"--flips d4 turns images by quarters, which makes {width} x {height} another shape: "
            "give --flips hv, a --crop, or a square --size."
        )
