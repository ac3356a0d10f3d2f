"""The polygons of an image, in one form for the files of all tools."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from segacc.data.reading.pairing import Finding

LEAST_NUMBERS = 6
"""A polygon has at least this many: x and y of three points; fewer cover nothing."""

LARGEST = 1 << 40
"""No whole number in a file of polygons is so large."""
MOST_PIXELS = 600_000_000
"""The most pixels of an image; Pillow reads no larger ones either."""


@dataclass(frozen=True)
class Shape:
    """An object: polygons, or run lengths as COCO has them."""

    name: str | None
    """the name of its category; None if its pixels do not count"""
    polygons: tuple[list[float], ...] = ()
    """x, y, x, y, ... of each; the object is where at least one of them is"""
    counts: str | list[int] | None = None
    """lengths of runs down the columns, first of what is outside; a str is their compressed form"""


@dataclass(frozen=True)
class Shapes:
    """All objects in an image. The first pixel goes from (0, 0) to (1, 1)."""

    shapes: tuple[Shape, ...]
    size: tuple[int, int] | None = None
    """height and width of the image, in pixels, if the file says them"""
    in_shares: bool = False
    """coordinates are shares of the image's width and height, not pixels"""
    as_seen: bool = True
    """they were drawn on the image as viewers show it, turned by its EXIF orientation"""

    def to_bytes(self) -> bytes:
        """Return the shapes as text; equal shapes give equal text."""
        shapes = [[shape.name, shape.polygons, shape.counts] for shape in self.shapes]
        said = [shapes, self.size, self.in_shares, self.as_seen]
        return json.dumps(said, separators=(",", ":")).encode()

    @staticmethod
    def from_bytes(text: bytes) -> Shapes:
        """The inverse of `to_bytes`."""
        shapes, size, in_shares, as_seen = json.loads(text)
        found = tuple(Shape(name, tuple(polygons), counts) for name, polygons, counts in shapes)
        return Shapes(found, tuple(size) if size else None, in_shares, as_seen)


@dataclass(frozen=True)
class Labelled:
    """An image, and where its shapes come from."""

    image: str
    """its path in the data set"""
    source: str
    """the file of its shapes; where that holds those of many images, with the image's name"""
    split: str | None
    """as the file says; None where it says none"""
    shapes: bytes
    """`Shapes.to_bytes`"""


@dataclass(frozen=True)
class Annotations:
    """The content of all files of polygons in a data set."""

    tool: str
    """the tool that wrote the files, for messages"""
    files: tuple[str, ...]
    labelled: tuple[Labelled, ...]
    categories: tuple[str, ...]
    """names of the kinds of objects, in the order that the files give them"""
    findings: tuple[Finding, ...] = ()
    notes: tuple[str, ...] = ()
    """what was left out or is worth knowing, as parts of a sentence"""


class ShapeError(ValueError):
    """A file does not say shapes as it should; the message is the end of a sentence about it."""


def polygon_of(said: Any) -> list[float]:
    """The numbers x, y, x, y, ... of a polygon.

    Raises:
        ShapeError: they are no such numbers.
    """
    if not isinstance(said, list) or len(said) % 2:
        raise ShapeError("has a polygon that is not a list of x, y, x, y, ...")
    if not are_numbers(said):
        raise ShapeError("has a polygon with a coordinate that is not a number")
    return said


def are_numbers(said: list[Any]) -> bool:
    """Whether all are finite numbers. There are millions, so this is no loop of Python's."""
    try:
        return {*map(type, said)} <= {int, float} and math.isfinite(sum(said))
    except OverflowError:  # of a whole number
        return False


def is_number(value: Any) -> bool:
    """Whether JSON has a finite number here (Python's reader takes NaN and Infinity, too)."""
    if isinstance(value, int):
        return not isinstance(value, bool) and abs(value) < LARGEST
    return isinstance(value, float) and math.isfinite(value)


def size_of_json(said: dict[str, Any], height: str, width: str) -> tuple[int, int] | None:
    """The height and the width of an image under these keys; None where one is missing.

    Raises:
        ShapeError: they are no numbers of pixels.
    """
    sides: list[Any] = [said.get(height), said.get(width)]
    if None in sides:
        return None
    if all(is_number(side) and side > 0 and side == int(side) for side in sides):
        rows, columns = (int(side) for side in sides if side)
        if rows * columns <= MOST_PIXELS:
            return rows, columns
    raise ShapeError(f"has {sides[1]} x {sides[0]} for the size of an image")


def some_of(problems: Sequence[str], noun: str) -> str:
    """A list of faults of one kind as a sentence's part: 3 images (a.jpg, b.jpg, c.jpg)."""
    shown = ", ".join(problems[:3]) + (", ..." if len(problems) > 3 else "")
    return f"{len(problems)} {noun}{'s' if len(problems) > 1 else ''} ({shown})"
