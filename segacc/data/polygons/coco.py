"""COCO JSON: polygons and RLE of many images in one file, one for each split or one for all."""

from __future__ import annotations

import json
import posixpath
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from segacc.data.polygons.places import Places, read_file, stem_of
from segacc.data.polygons.shapes import (
    LARGEST,
    LEAST_NUMBERS,
    Annotations,
    Labelled,
    Shape,
    ShapeError,
    Shapes,
    polygon_of,
    size_of_json,
    some_of,
)
from segacc.data.reading.pairing import Finding
from segacc.data.reading.recognition.splits import splits_of

TOOL = "COCO"
MARKS = (b'"annotations"', b'"images"')
"""A JSON file without these is no COCO file."""


def read_coco(folder: Path, files: Sequence[str], places: Places) -> Annotations | None:
    """Read COCO files; None if there is none among the files.

    COCO's own download has several files for the same images; those of its instances count.

    Args:
        files: JSON files of any kind, as paths in the folder.
    """
    findings: list[Finding] = []
    said = _contents(folder, files, findings)
    if not said and not findings:
        return None
    labelled: dict[str, Labelled] = {}
    categories: dict[str, None] = {}
    notes: Counter[str] = Counter()
    for file, content in said.items():
        try:
            categories |= dict.fromkeys(_categories(content))
            for one in _labelled(file, content, places, findings, notes):
                if (other := labelled.setdefault(one.image, one)) is not one:
                    raise ShapeError(
                        f"has the image {one.image}, which {other.source} has too: keep one of them"
                    )
        except ShapeError as error:
            findings.append(Finding(file, str(error)))
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            problem = f"is not a file of COCO's form ({type(error).__name__}: {error})"
            findings.append(Finding(file, f"{problem}: write it again"))
    told = tuple(f"{count} {note}" for note, count in notes.items())
    return Annotations(
        TOOL, tuple(said), tuple(labelled.values()), tuple(categories), tuple(findings), told
    )


def _contents(
    folder: Path, files: Sequence[str], findings: list[Finding]
) -> dict[str, dict[str, Any]]:
    """Read the files that are COCO's, those for training first. What is wrong goes into
    `findings`."""
    said: dict[str, dict[str, Any]] = {}
    instances = [file for file in files if posixpath.basename(file).startswith("instances")]
    for file in sorted(instances or files, key=lambda file: split_of_file(file) != "train"):
        text = read_file(folder, file)
        if not all(mark in text for mark in MARKS):
            continue
        try:
            content = json.loads(text)
        except (ValueError, RecursionError) as error:  # also of bytes that are no text
            findings.append(Finding(file, f"is damaged ({error}): copy it again from its source"))
            continue
        if not isinstance(content, dict) or not isinstance(content.get("annotations"), list):
            continue
        if content["annotations"] or content.get("categories"):
            said[file] = content
    # A split may have no objects; where nothing has, these files are of something else.
    return said if any(content["annotations"] for content in said.values()) else {}


def _categories(content: dict[str, Any]) -> list[str]:
    """The names by their ids, without Roboflow's first one, which only groups the others."""
    used = {annotation["category_id"] for annotation in content["annotations"]}
    kinds = sorted(content["categories"], key=lambda kind: (str(type(kind["id"])), kind["id"]))
    groups = {
        kind.get("supercategory") for kind in kinds if kind["name"] != kind.get("supercategory")
    }
    return [
        str(kind["name"]).strip()
        for kind in kinds
        if kind["id"] in used or kind["name"] not in groups
    ]


def _labelled(
    file: str,
    content: dict[str, Any],
    places: Places,
    findings: list[Finding],
    notes: Counter[str],
) -> Iterator[Labelled]:
    """The images of a file. What is wrong goes into `findings`.

    Raises:
        ShapeError: the file cannot be used.
    """
    shaped = [bool(annotation.get("segmentation")) for annotation in content["annotations"]]
    if shaped and not any(shaped):
        raise ShapeError("holds boxes only, no polygons and no RLE: export segmentations")
    names = {kind["id"]: str(kind["name"]).strip() for kind in content["categories"]}
    split = split_of_file(file)
    of_image: defaultdict[Any, list[dict[str, Any]]] = defaultdict(list)
    for annotation in content["annotations"]:
        of_image[annotation["image_id"]].append(annotation)
    ids = {image["id"] for image in content["images"]}
    if len(ids) < len(content["images"]):
        raise ShapeError("has two images of one id: write it again")
    if lost := [str(number) for number in of_image if number not in ids]:
        raise ShapeError(
            f"has annotations of {some_of(lost, 'image id')} that it does not list: write it again"
        )
    absent: list[str] = []
    for image in content["images"]:
        name = str(image["file_name"])
        try:
            path = places.find(name, posixpath.dirname(file), split)
            if path is None:
                absent.append(name)
                continue
            size = size_of_json(image, "height", "width")
            shapes = [_shape(one, names, size, notes) for one in of_image[image["id"]]]
        except ShapeError as error:
            findings.append(Finding(file, f"{error} (image {name})"))
            continue
        found = Shapes(tuple(s for s in shapes if s), size, as_seen=size is None)
        yield Labelled(path, f"{file} ({name})", split or places.split_of[path], found.to_bytes())
    if absent:
        problem = f"names {some_of(absent, 'image')} that are not in the data set's folder"
        findings.append(Finding(file, f"{problem}: add them, or take them out of the file"))


def split_of_file(file: str) -> str | None:
    """The split that a file's name or one of its folders says, the name first."""
    parts = [*posixpath.dirname(file).split("/"), posixpath.basename(stem_of(file))]
    for part in reversed(parts):
        if part in (said := splits_of([part])):
            return said[part][0]
    return None


def _shape(
    annotation: dict[str, Any],
    names: dict[Any, str],
    size: tuple[int, int] | None,
    notes: Counter[str],
) -> Shape | None:
    """Read an object; None for one that covers nothing.

    Raises:
        ShapeError: it is damaged, or has no shape.
    """
    if annotation["category_id"] not in names:
        raise ShapeError(
            f"has an annotation of the category {annotation['category_id']}, which it does not list"
        )
    name = None if annotation.get("iscrowd") else names[annotation["category_id"]]
    said = annotation.get("segmentation")
    if isinstance(said, dict):
        return Shape(name, counts=_counts(said, size))
    if not isinstance(said, list) or not said:
        raise ShapeError(
            f"has the annotation {annotation.get('id')} without polygon and RLE, only with a box: "
            "export segmentations"
        )
    polygons = [polygon_of(one) for one in (said if isinstance(said[0], list) else [said])]
    polygons = [one for one in polygons if len(one) >= LEAST_NUMBERS]
    if not polygons:
        notes["objects of fewer than three points, which cover nothing"] += 1
        return None
    return Shape(name, tuple(polygons))


def _counts(said: dict[str, Any], size: tuple[int, int] | None) -> str | list[int]:
    """The run lengths of an RLE.

    Raises:
        ShapeError: it is damaged, or of another size than the image.
    """
    own, counts = said.get("size"), said.get("counts")
    if size is not None and own != list(size):
        raise ShapeError(f"has an RLE of the size {own} in an image of {list(size)}")
    if isinstance(counts, str):
        return counts
    whole = isinstance(counts, list) and {*map(type, counts)} == {int}
    if whole and min(counts) >= 0 and max(counts) < LARGEST:  # type: ignore[arg-type]
        return counts  # type: ignore[return-value]
    raise ShapeError("has an RLE whose counts are neither text nor a list of lengths")
