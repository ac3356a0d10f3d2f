"""From classes, --classes and --ignore to how the masks of a data set are coded."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

from segacc.data.classes.files import read_class_file
from segacc.data.classes.lists import NamedClass, parse_range, range_text
from segacc.errors import InputError
from segacc.labels import (
    IGNORE,
    MOST_CLASSES,
    Coding,
    Colour,
    Labels,
    colour_text,
    colours_for,
    is_background,
)


def classes_of_flag(text: str) -> list[NamedClass]:
    """The classes that --classes names: a file, or names with commas between them.

    Raises:
        InputError: the file cannot be read.
    """
    path = Path(text).expanduser()
    if path.is_file():
        return read_class_file(path)
    if "/" in text or path.suffix in (".txt", ".json", ".csv", ".yaml", ".yml"):
        raise InputError(f"--classes {text}: there is no such file")
    return [NamedClass(name.strip()) for name in text.split(",") if name.strip()]


def make_coding(
    classes: Sequence[NamedClass],
    ignore: Sequence[str] = (),
    binarise: int | None = None,
    of_shapes: bool = False,
) -> Coding:
    """How masks are coded that have these classes.

    Without values and colours a class has the number of its place. Two such classes are coded as
    binary masks usually are.

    Args:
        ignore: names of classes, or values such as `7` and `7-9`, whose pixels do not count.
        of_shapes: the classes are those of polygons; what these leave is the background.

    Raises:
        InputError: a class is ignored that is not there, fewer than two are left, or two share
            a value or a colour.
    """
    named = [one.name for one in classes]
    lone = not any(one.values or one.colours for one in classes)
    if (of_shapes or (lone and len(classes) == 1)) and not any(map(is_background, named)):
        classes = [NamedClass("background"), *classes]
    ignored, ranges = _ignored(classes, ignore)
    kept = [one for one in classes if one.name not in ignored]
    _check_number(kept, ignored)
    number = {one.name: place for place, one in enumerate(kept)}
    labels = _labels(kept)
    shapes = tuple((one.name, number.get(one.name, IGNORE)) for one in classes) * of_shapes
    shapes += tuple((str(i), number.get(name, IGNORE)) for i, name in enumerate(named)) * of_shapes
    if lone and len(classes) == 2 and not ignored and not ranges:
        return Coding(labels, shapes=shapes, binarise=binarise)
    if lone:
        classes = [replace(one, values=((i, i),)) for i, one in enumerate(classes)]
    values = [(*ends, number.get(one.name, IGNORE)) for one in classes for ends in one.values]
    colours = [(colour, number.get(one.name, IGNORE)) for one in classes for colour in one.colours]
    _check_overlaps(classes)
    values += [(first, last, IGNORE) for first, last in ranges]  # the last one counts
    return Coding(labels, tuple(values), tuple(colours), shapes)


def _ignored(
    classes: Sequence[NamedClass], ignore: Sequence[str]
) -> tuple[set[str], list[tuple[int, int]]]:
    """The names of the classes that --ignore names, and the ranges of values."""
    by_name = {one.name.casefold(): one.name for one in classes}
    names: set[str] = set()
    ranges = []
    for said in ignore:
        if said.casefold() in by_name:
            names.add(by_name[said.casefold()])
        elif ends := parse_range(said):
            ranges.append(ends)
        else:
            near = difflib.get_close_matches(said, [one.name for one in classes], n=1)
            hint = f"did you mean {near[0]}? " if near else ""
            raise InputError(
                f"--ignore {said}: {hint}Expected values such as 7 or 7-9, or names of "
                f"{', '.join(one.name for one in classes)}"
            )
    return names, ranges


def _check_number(kept: Sequence[NamedClass], ignored: set[str]) -> None:
    if len(kept) < 2:
        without = f" without the ignored ones ({', '.join(sorted(ignored))})" if ignored else ""
        names = ", ".join(one.name for one in kept) or "none"
        raise InputError(f"the classes are {names}{without}: expected two at least")
    if len(kept) > MOST_CLASSES:
        raise InputError(f"there are {len(kept)} classes: expected at most {MOST_CLASSES}")


def _check_overlaps(classes: Sequence[NamedClass]) -> None:
    """Raises InputError where two classes share a value or a colour."""
    of_colour: dict[Colour, str] = {}
    for one in classes:
        for colour in one.colours:
            if (other := of_colour.setdefault(colour, one.name)) != one.name:
                raise InputError(
                    f"the colour {colour_text(colour)} is of the classes {other} and {one.name}: "
                    "take it from one of them"
                )
    ranges = sorted((*ends, one.name) for one in classes for ends in one.values)
    for (first, last, name), (start, end, other) in pairwise(ranges):
        if start <= last and name != other:
            raise InputError(
                f"the values {range_text(first, last)} of {name} and {range_text(start, end)} of "
                f"{other} overlap: take them from one of the classes"
            )


def _labels(classes: Sequence[NamedClass]) -> Labels:
    """Names and colours: a class has the first of its own colours if no other one has it."""
    names = tuple(one.name for one in classes)
    own = [one.colours[0] if one.colours else None for one in classes]
    given = colours_for(names)
    taken = [colour for colour in own if colour is not None]
    spare = iter([c for c in (*given, *colours_for(tuple("x" * len(names)))) if c not in taken])
    chosen: list[Colour] = []
    for colour, other in zip(own, given, strict=True):
        if colour is None:
            colour = other if other not in taken and other not in chosen else next(spare)
        chosen.append(colour)
    return Labels(names, tuple(chosen))
