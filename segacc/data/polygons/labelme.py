"""labelme: a JSON file for each image, beside it or in a folder of its own."""

from __future__ import annotations

import base64
import binascii
import io
import json
import math
import posixpath
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from segacc.data.polygons.places import Places, read_file, stem_of
from segacc.data.polygons.rasterise import run_lengths
from segacc.data.polygons.shapes import (
    LEAST_NUMBERS,
    Annotations,
    Labelled,
    Shape,
    ShapeError,
    Shapes,
    polygon_of,
    size_of_json,
)
from segacc.data.reading.pairing import Finding

TOOL = "labelme"
MARKS = (b'"shapes"', b'"imagePath"')
IGNORED = "__ignore__"
"""labelme's own name for what does not count"""


def read_labelme(folder: Path, files: Sequence[str], places: Places) -> Annotations | None:
    """Read labelme files; None if there is none among the files.

    Args:
        files: JSON files of any kind, as paths in the folder.
    """
    findings: list[Finding] = []
    labelled: dict[str, Labelled] = {}
    categories: set[str] = set()
    notes: Counter[str] = Counter()
    stems = {posixpath.basename(stem_of(image)) for image in places.images}
    used, odd = [], []
    for file in files:
        text = read_file(folder, file)
        if not all(mark in text for mark in MARKS):
            if posixpath.basename(stem_of(file)) in stems:
                odd.append(Finding(file, "is no labelme file, as others are: save it again"))
            continue
        used.append(file)
        try:
            image, shapes = _read(json.loads(text), file, places, notes)
        except ShapeError as error:
            findings.append(Finding(file, str(error)))
            continue
        except (KeyError, TypeError, AttributeError, ValueError, RecursionError) as error:
            problem = f"is damaged ({type(error).__name__}: {error}): save it again in labelme"
            findings.append(Finding(file, problem))
            continue
        categories |= {shape.name for shape in shapes.shapes if shape.name is not None}
        one = Labelled(image, file, places.split_of[image], shapes.to_bytes())
        if (other := labelled.setdefault(image, one)) is not one:
            findings.append(Finding(file, f"is of the image {image}, as {other.source} is"))
    if not used:
        return None
    findings += odd
    if rest := len(places.images) - len(labelled):
        notes["images without a JSON file, left out"] = rest
    told = tuple(f"{count} {note}" for note, count in notes.items())
    rows = tuple(labelled.values())
    return Annotations(TOOL, tuple(used), rows, tuple(sorted(categories)), tuple(findings), told)


def _read(
    said: dict[str, Any], file: str, places: Places, notes: Counter[str]
) -> tuple[str, Shapes]:
    """The image of a file, and the shapes in it.

    Raises:
        ShapeError: the file cannot be used.
    """
    image = _image(said, file, places)
    size = size_of_json(said, "imageHeight", "imageWidth")
    shapes = [_shape(one, size, notes) for one in said["shapes"]]
    return image, Shapes(tuple(shape for shape in shapes if shape), size)


def _image(said: dict[str, Any], file: str, places: Places) -> str:
    """The image of a file: the one it names, else the only one of its own name.

    Raises:
        ShapeError: there is none, or it is outside of the data set.
    """
    named = str(said["imagePath"])
    if path := places.find(named, posixpath.dirname(file), None):
        return path
    stem = posixpath.basename(stem_of(file))
    same = [path for path in places.images if posixpath.basename(stem_of(path)) == stem]
    if len(same) == 1:
        return same[0]
    raise ShapeError(f"is of the image {named}, which is not in the data set's folder: add it")


def _shape(said: dict[str, Any], size: tuple[int, int] | None, notes: Counter[str]) -> Shape | None:
    """Read an object; None for one that covers nothing.

    Raises:
        ShapeError: it is damaged, or is no area.
    """
    label = str(said["label"]).strip()
    name = None if label == IGNORED else label
    kind = said.get("shape_type") or "polygon"
    points = polygon_of([value for point in said["points"] for value in point])
    if kind == "polygon":
        if len(points) < LEAST_NUMBERS:
            notes["objects of fewer than three points, which cover nothing"] += 1
            return None
        return Shape(name, (points,))
    if kind not in ("rectangle", "circle", "mask"):
        raise ShapeError(
            f"has a shape of the type {kind} ({label}), which is no area: draw it as a polygon, or "
            "delete it"
        )
    if len(points) != 4:
        raise ShapeError(f"has a {kind} ({label}) of {len(points) // 2} points, expected two")
    left, top, right, bottom = points
    if kind == "rectangle":
        return Shape(name, ([left, top, right, top, right, bottom, left, bottom],))
    if kind == "circle":
        return Shape(name, (_circle(left, top, math.hypot(right - left, bottom - top)),))
    return Shape(name, counts=_mask(said.get("mask"), (int(left), int(top)), size))


def _circle(x: float, y: float, radius: float) -> list[float]:
    """A polygon that is nowhere farther than a tenth of a pixel from the circle."""
    count = 12 + math.ceil(7.1 * math.sqrt(min(radius, 1e6)))
    angles = [2 * math.pi * i / count for i in range(count)]
    return [c for a in angles for c in (x + radius * math.cos(a), y + radius * math.sin(a))]


def _mask(text: Any, corner: tuple[int, int], size: tuple[int, int] | None) -> list[int]:
    """The run lengths of a mask, which is a PNG in text for a part of the image.

    Args:
        corner: x and y of the part's first pixel.
        size: height and width of the image.

    Raises:
        ShapeError: it is damaged, or does not lie in the image.
    """
    try:
        opened = Image.open(io.BytesIO(base64.b64decode(text, validate=True)), formats=("PNG",))
        (left, top), (width, height) = corner, opened.size
        fits = size and 0 <= left <= size[1] - width and 0 <= top <= size[0] - height
        if size is None or not fits:
            raise ShapeError(
                f"has a mask of {width} x {height} at ({left}, {top}), which is not in the image"
            )
        part = np.asarray(opened.convert("L")) > 0
    except (binascii.Error, TypeError, UnidentifiedImageError, OSError, SyntaxError) as error:
        raise ShapeError(f"has a mask that is no PNG ({error})") from error
    whole = np.zeros(size, dtype=bool)
    whole[top : top + height, left : left + width] = part
    return run_lengths(whole)
