"""Files of classes, as tools write them: in a data set's folder, or given by --classes."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import yaml

from segacc.data.classes.lists import (
    NamedClass,
    class_list,
    merged,
    parse_colour,
    read_list,
    write_list,
)
from segacc.errors import InputError, write_text
from segacc.labels import Labels

CLASS_LIST = "classes.txt"


def find_class_files(folder: Path) -> list[Path]:
    """Find the file that lists the classes of a data set, in its folder or in one below; several
    paths if it lies in several folders. A folder that holds one folder alone, such as the root of
    an archive, is passed over.

    Raises:
        InputError: there are several that differ.
    """
    folders = [folder, *_inside_wrappers(folder)]
    for place, below in product(folders, (".", "*")):
        for name in READERS:
            found = sorted(place.glob(f"{below}/{name}"))
            found = [path for path in found if path.is_file() and _says_classes(path)]
            if other := [path for path in found if path.read_bytes() != found[0].read_bytes()]:
                raise InputError(
                    f"{found[0]} and {other[0]} name other classes: give the right one with "
                    "--classes"
                )
            if found:
                return found
    return []


def _inside_wrappers(folder: Path) -> list[Path]:
    """The folders inside, one in the other, of a folder that holds one folder alone."""
    with os.scandir(folder) as entries:
        inside = [
            Path(entry)
            for entry in entries
            if entry.is_dir() and not entry.name.startswith((".", "__"))
        ]
    return [inside[0], *_inside_wrappers(inside[0])] if len(inside) == 1 else []


def _says_classes(path: Path) -> bool:
    """Whether a file lists classes, for a file name that also has other uses."""
    if path.name not in ("dataset.json", "config.json", "data.yaml"):
        return True
    try:
        said = yaml.safe_load(_text(path))  # JSON is YAML
    except yaml.YAMLError:
        return False
    key = {"dataset.json": "labels", "config.json": "id2label", "data.yaml": "names"}[path.name]
    return isinstance(said, dict) and bool(said.get(key))


def read_class_file(path: Path) -> list[NamedClass]:
    """The classes in a file of any kind that segacc knows, in their order.

    Raises:
        InputError: it cannot be read, or holds none.
    """
    read = READERS.get(path.name)
    if read is None:
        by_suffix = {".json": _id2label, ".yaml": _yolo, ".yml": _yolo, ".csv": _roboflow}
        read = by_suffix.get(path.suffix.lower(), read_list)
    text = _text(path)
    try:
        classes = merged(read(path, text))
    except (ValueError, KeyError, TypeError, AttributeError, yaml.YAMLError) as error:
        if isinstance(error, InputError):
            raise
        reason = " ".join(str(error).split())[:200]
        raise InputError(
            f"{path} is not a file of classes as its name says ({type(error).__name__}: {reason}): "
            "write it again, or give another one with --classes"
        ) from error
    if not classes:
        raise InputError(f"{path} names no class: expected a class per line, see docs/classes.md")
    return classes


def write_classes(folder: Path, labels: Labels) -> None:
    """Write a list with values and colours; or JSON, if such a list cannot hold the names."""
    classes = class_list(labels)
    text = write_list(classes)
    try:
        is_held = read_list(folder, text) == classes
    except InputError:
        is_held = False
    if is_held:
        write_text(folder / CLASS_LIST, text)
    else:
        write_text(folder / "id2label.json", json.dumps(dict(enumerate(labels.names))))


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read ({error}): expected text in UTF-8") from error


def _numbered(names: dict[str, Any]) -> list[NamedClass]:
    """The classes of {number: name}, by their numbers. A single class has none: it is all that is
    not background, in masks as in polygons."""
    pairs = sorted((int(number), str(name)) for number, name in names.items())
    if len(pairs) == 1:
        return [NamedClass(pairs[0][1])]
    return [NamedClass(name, ((number, number),)) for number, name in pairs]


def _id2label(path: Path, text: str) -> list[NamedClass]:
    """Hugging Face's {"0": "wall", ...}, alone or in a model's config.json."""
    said = json.loads(text)
    return _numbered(said.get("id2label", said))


def _nnunet(path: Path, text: str) -> list[NamedClass]:
    """nnU-Net's dataset.json: {"background": 0, ...} in version 2, {"0": "background"} before. Its
    label `ignore` is no class."""
    labels = json.loads(text)["labels"]
    if any(isinstance(value, list) for value in labels.values()):
        raise InputError(
            f"{path} has regions, which are labels of several values: give each class its own with "
            "--classes"
        )
    if not all(str(name).isdigit() for name in labels):
        labels = {str(value): name for name, value in labels.items()}
    return [replace(one, counts=one.name != "ignore") for one in _numbered(labels)]


def _yolo(path: Path, text: str) -> list[NamedClass]:
    """The names of Ultralytics' data.yaml: a list, or {0: name}."""
    names = yaml.safe_load(text)["names"]
    return _numbered(names if isinstance(names, dict) else {str(i): n for i, n in enumerate(names)})


def _cvat(path: Path, text: str) -> list[NamedClass]:
    """CVAT's labelmap.txt: `name:red,green,blue:parts:actions` in each line."""
    classes = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        name, _, rest = line.partition(":")
        colour = parse_colour(rest.partition(":")[0])
        if not name.strip() or colour is None:
            raise InputError(
                f"{path}, line {number}: found {line!r}, expected name:red,green,blue:parts:actions"
            )
        classes.append(NamedClass(name.strip(), colours=(colour,)))
    return classes


def _roboflow(path: Path, text: str) -> list[NamedClass]:
    """Roboflow's _classes.csv, with the columns `Pixel Value` and `Class`."""
    rows = csv.DictReader(io.StringIO(text), skipinitialspace=True)
    return _numbered({row["Pixel Value"]: row["Class"].strip() for row in rows})


READERS: dict[str, Callable[[Path, str], list[NamedClass]]] = {
    CLASS_LIST: read_list,
    "label_colors.txt": read_list,
    "id2label.json": _id2label,
    "labelmap.txt": _cvat,
    "_classes.csv": _roboflow,
    "dataset.json": _nnunet,
    "data.yaml": _yolo,
}
"""The reader of each file, by its name; the first file that exists counts."""
