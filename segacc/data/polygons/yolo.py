"""YOLO segmentation: a text file for each image, a line `class x1 y1 x2 y2 ...` for each object."""

from __future__ import annotations

import math
import posixpath
import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from segacc.data.polygons.places import Places, stem_of
from segacc.data.polygons.shapes import (
    LEAST_NUMBERS,
    Annotations,
    Labelled,
    Shape,
    ShapeError,
    Shapes,
)
from segacc.data.reading.pairing import SPLITS, Finding
from segacc.labels import first_few

TOOL = "YOLO"
LARGEST_YAML = 1 << 20  # bytes
A_LINE = re.compile(rb"\s*\d+(\s+-?[\d.]+(e-?\d+)?){4,}\s*(\n|\r|$)", re.IGNORECASE)
BOX_NUMBERS = 4


def read_yolo(folder: Path, others: Sequence[str], places: Places) -> Annotations | None:
    """Read YOLO's label files; None if there are none.

    An image without such a file has no objects, as in YOLO's own tools. The classes have the names
    of the folder's YAML file, else their numbers.

    Args:
        others: the paths in the folder of all files that are no images.
    """
    labels = _label_files(others, places)
    if not labels or not _are_yolo(folder, labels.values()):
        return None
    config = _config(folder, others)
    names, findings = _names(config[1]) if config else None, list[Finding]()
    splits = _splits(*config, places) if config else {}
    labelled, used = [], set[int]()
    with_labels = {splits.get(image) or places.split_of[image] for image in labels}
    notes: Counter[str] = Counter()
    for image in places.images:
        split = splits.get(image) or places.split_of[image]
        file = labels.get(image)
        if file is None and split not in with_labels:
            notes[f"{split or 'other'} images without labels, left out"] += 1
            continue
        try:
            shapes = _shapes(folder / file, names, used) if file else ()
        except ShapeError as error:
            findings.append(Finding(file or image, str(error)))
            continue
        if file is None:
            notes["images without a file of labels, so all background"] += 1
        found = Shapes(shapes, in_shares=True)
        labelled.append(Labelled(image, file or f"{image} (no labels)", split, found.to_bytes()))
    if findings and not used:  # what is left are images without labels
        labelled = []
    numbers = map(str, range(max(used, default=-1) + 1))
    categories = tuple(numbers if names is None else names.values())
    told = tuple(f"{count} {note}" for note, count in notes.items())
    files = tuple(sorted(labels.values()))
    return Annotations(TOOL, files, tuple(labelled), categories, tuple(findings), told)


def _label_files(others: Sequence[str], places: Places) -> dict[str, str]:
    """The text file of each image: in `labels` where the image is in `images`, or beside it."""
    texts = {path for path in others if path.lower().endswith(".txt")}
    found = {}
    for image in places.images:
        parts = stem_of(image).split("/")
        ways = [
            "/".join([*parts[:place], "labels", *parts[place + 1 :]])
            for place in range(len(parts) - 2, -1, -1)
            if parts[place] == "images"
        ]
        for way in (*ways, stem_of(image)):
            if f"{way}.txt" in texts:
                found[image] = f"{way}.txt"
                break
    return found


def _are_yolo(folder: Path, files: Collection[str]) -> bool:
    """Whether the first file that is not empty begins as YOLO's do."""
    for file in files:
        with open(folder / file, "rb") as opened:
            start = opened.readline(1 << 20)
        if start.strip():
            return bool(A_LINE.match(start))
    return False


def _config(folder: Path, others: Sequence[str]) -> tuple[str, dict[str, Any]] | None:
    """The YAML file with the names of the classes, the one nearest to the folder's root."""
    files = [path for path in others if path.lower().endswith((".yaml", ".yml"))]
    for file in sorted(files, key=lambda path: (path.count("/"), path)):
        if (folder / file).stat().st_size > LARGEST_YAML:
            continue
        try:
            said = yaml.safe_load((folder / file).read_text(encoding="utf-8-sig"))
        except (yaml.YAMLError, UnicodeDecodeError):
            continue
        if isinstance(said, dict) and isinstance(said.get("names"), list | dict) and said["names"]:
            return file, said
    return None


def _names(said: dict[str, Any]) -> dict[int, str]:
    """The names by their numbers."""
    names = said["names"]
    if isinstance(names, list):
        return {number: str(name) for number, name in enumerate(names)}
    return {int(n): str(name) for n, name in sorted(names.items()) if str(n).isdigit()}


def _splits(file: str, said: dict[str, Any], places: Places) -> dict[str, str]:
    """The split of each image by the folders that a YAML file gives for train, val and test.

    What does not lead to a folder of the data set (Roboflow's `../train/images`, a folder of the
    machine on which the file was written) says nothing; the names of the folders do then.
    """
    found: dict[str, str] = {}
    root = posixpath.dirname(file)
    for key, split in SPLITS.items():
        given = said.get(key)
        for place in given if isinstance(given, list) else [given]:
            if not isinstance(place, str):
                continue
            prefix = posixpath.normpath(posixpath.join(root, place.replace("\\", "/"))) + "/"
            inside = [image for image in places.images if image.startswith(prefix)]
            found.update({image: split for image in inside if image not in found})
    return found


def _shapes(path: Path, names: Mapping[int, str] | None, used: set[int]) -> tuple[Shape, ...]:
    """The objects in a file; the numbers of their classes go into `used`.

    Raises:
        ShapeError: a line is not as it should be.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ShapeError(f"cannot be read ({error}): expected text") from error
    shapes = []
    for place, line in enumerate(lines, start=1):
        words = line.split()
        if not words:
            continue
        try:
            number, values = int(words[0]), [float(word) for word in words[1:]]
        except ValueError:
            number, values = -1, []
        if number < 0 or not values or len(values) % 2 or not all(map(math.isfinite, values)):
            raise ShapeError(
                f"has {line[:60]!r} in line {place}, expected `class x1 y1 x2 y2 ...` in shares of "
                "width and height"
            )
        if len(values) == BOX_NUMBERS:
            raise ShapeError(f"has a box in line {place}, no polygon: export segmentations")
        if names is not None and number not in names:
            raise ShapeError(
                f"has the class {number} in line {place}, and the YAML file names only "
                f"{first_few([f'{n} {name}' for n, name in names.items()])}"
            )
        used.add(number)
        if len(values) >= LEAST_NUMBERS:
            shapes.append(Shape(names[number] if names else str(number), (values,)))
    return tuple(shapes)
