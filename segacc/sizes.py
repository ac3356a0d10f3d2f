"""Sizes that images are resized to: 256, or 480x360."""

from __future__ import annotations

import re
from collections.abc import Sequence

Size = int | tuple[int, int]
"""What images are resized to, in px: width and height, or one number where these are equal."""


def width_height(size: Size) -> tuple[int, int]:
    """Both sides of a size."""
    return (size, size) if isinstance(size, int) else size


def size_text(size: Size) -> str:
    """A size as it is given: `256`, or `480x360`."""
    return str(size) if isinstance(size, int) else "{}x{}".format(*size)


def parse_size(words: Sequence[str]) -> Size:
    """The inverse of `size_text`. Raises ValueError."""
    found = re.fullmatch(r"(\d+)(?:x(\d+))?", words[0])
    if not found:
        raise ValueError(f"{words[0]} is no size: expected 256, or 480x360 (width x height)")
    width, height = int(found[1]), int(found[2] or found[1])
    return width if width == height else (width, height)
