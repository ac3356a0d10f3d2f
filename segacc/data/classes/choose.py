"""Which classes a data set has, and how its labels are coded: by flags, files or categories."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from segacc.config.options import Reading
from segacc.data.classes.categories import code_shapes
from segacc.data.classes.coding import classes_of_flag, make_coding
from segacc.data.classes.files import find_class_files, read_class_file
from segacc.data.classes.lists import NamedClass
from segacc.errors import InputError
from segacc.labels import BINARY_CODING, Coding, Colour


def class_files(reading: Reading, folder: Path | None) -> list[Path]:
    """The files in a data set's folder that say its classes, all the same; none where --classes
    does.

    Raises:
        InputError: there are several that differ.
    """
    if reading.classes or not folder or not folder.is_dir():
        return []
    return find_class_files(folder)


def coding_of(
    reading: Reading,
    folder: Path | None,
    categories: Sequence[str] = (),
    names: Sequence[str] = (),
    colours: Sequence[Colour] = (),
) -> Coding:
    """How the labels of a data set are coded: as --classes says, or a file in its folder, or the
    types of its columns; else polygons have a class for each category, and masks are binary.

    Args:
        categories: those of polygons.
        names: those of the classes 0, 1, ... of masks, as the types of columns say.
        colours: those of these classes, if they are known.

    Raises:
        InputError: that cannot be read, or does not fit --ignore.
    """
    own = class_files(reading, folder)
    if reading.classes:
        classes = classes_of_flag(reading.classes)
    elif own:
        logging.getLogger("segacc").warning("classes as in %s", own[0])
        classes = read_class_file(own[0])
    elif names:
        classes = [
            NamedClass(name, values=((i, i),), colours=tuple(colours[i : i + 1]))
            for i, name in enumerate(names)
        ]
    elif categories:
        classes = []
    elif reading.ignore:
        raise InputError(
            f"--ignore {reading.ignore} needs to know the classes: give them with --classes"
        )
    else:
        return replace(BINARY_CODING, binarise=reading.binarise)
    ignored = [part.strip() for part in (reading.ignore or "").split(",") if part.strip()]
    if categories:
        return code_shapes(classes, categories, ignored)
    return make_coding(classes, ignored, reading.binarise)
