"""How the masks of a data set are coded, according to its classes, --classes and --ignore."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

from segacc.data.classes.files import read_class_file
from segacc.data.classes.lists import (
    EXPECTED,
    NamedClass,
    merged,
    parse_class,
    parse_colour,
    parse_range,
    range_text,
)
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
    """The classes that --classes names: a file, or lines of one with commas between them.

    Raises:
        InputError: the file cannot be read, or one of the lines.
    """
    path = Path(text).expanduser()
    if path.is_file():
        return read_class_file(path)
    if "/" in text or path.suffix in (".txt", ".json", ".csv", ".yaml", ".yml"):
        raise InputError(f"--classes {text}: there is no such file")
    classes: list[NamedClass] = []
    for part in filter(None, map(str.strip, text.split(","))):
        one, ends = parse_class(part), parse_range(part)
        if ends and classes and classes[-1].values:  # one more value of it: `road: 1, 2`
            classes[-1] = replace(classes[-1], values=(*classes[-1].values, ends))
        elif one is None:
            raise InputError(f"--classes {text}: found {part!r}, {EXPECTED}")
        else:
            classes.append(one)
    return merged(classes)


def make_coding(
    classes: Sequence[NamedClass],
    ignore: Sequence[str] = (),
    binarise: int | None = None,
) -> Coding:
    """Return the coding of masks that have these classes.

    A class without values and colours has the number of its position. Two such classes are coded as
    binary masks usually are.

    Args:
        ignore: names of classes, values such as `7` and `7-9`, or colours, whose pixels do not
            count.

    Raises:
        InputError: an ignored class does not exist, fewer than two are left, or two share a value
            or a colour.
    """
    if words := [(one.name, one.categories[0]) for one in classes if one.categories]:
        raise InputError(
            f"the class {words[0][0]} is {words[0][1]!r}, and the masks hold no words: {EXPECTED}"
        )
    lone = not any(one.values or one.colours for one in classes)
    if lone and len(classes) == 1 and not is_background(classes[0].name):
        classes = [NamedClass("background"), *classes]
    ignored, ranges, uncounted = named_by_ignore(classes, ignore)
    kept = [one for one in classes if one.name not in ignored]
    check_number(kept, ignored)
    number = {one.name: place for place, one in enumerate(kept)}
    labels = labels_of(kept)
    if lone and len(classes) == 2 and not (ignored or ranges or uncounted):
        return Coding(labels, binarise=binarise)
    if lone:
        classes = [replace(one, values=((i, i),)) for i, one in enumerate(classes)]
    values = [(*ends, number.get(one.name, IGNORE)) for one in classes for ends in one.values]
    colours = [(colour, number.get(one.name, IGNORE)) for one in classes for colour in one.colours]
    _check_overlaps(classes)
    if values:  # a mask of gray colours is read as one of numbers
        gray = [(colour[0], place) for colour, place in colours if len({*colour}) == 1]
        owned = [(IGNORE, IGNORE), *((first, last) for first, last, _ in values)]
        values += [
            (value, value, place)
            for value, place in gray
            if not any(first <= value <= last for first, last in owned)
        ]
    values += [(first, last, IGNORE) for first, last in ranges]  # the last one counts
    colours += [(colour, IGNORE) for colour in uncounted]
    return Coding(labels, tuple(values), tuple(colours))


def named_by_ignore(
    classes: Sequence[NamedClass], ignore: Sequence[str]
) -> tuple[set[str], list[tuple[int, int]], list[Colour]]:
    """The names of the classes that do not count, and the ranges of values and the colours that
    --ignore names."""
    by_name = {one.name.casefold(): one.name for one in classes}
    by_name |= {one.name: one.name for one in classes}
    names = {one.name for one in classes if not one.counts}
    ranges, colours = [], []
    for said in ignore:
        if (name := by_name.get(said) or by_name.get(said.casefold())) is not None:
            names.add(name)
        elif ends := parse_range(said):
            ranges.append(ends)
        elif colour := parse_colour(said):
            colours.append(colour)
        else:
            near = difflib.get_close_matches(said, [one.name for one in classes], n=1)
            hint = f"did you mean {near[0]}? " if near else ""
            raise InputError(
                f"--ignore {said}: {hint}Expected values such as 7 or 7-9, colours such as "
                f"128 64 128, or names of {', '.join(one.name for one in classes)}"
            )
    for one in classes:  # all of whose values and colours do not count
        coded = [any(a <= first and last <= b for a, b in ranges) for first, last in one.values]
        coded += [colour in colours for colour in one.colours]
        if coded and all(coded):
            names.add(one.name)
    return names, ranges, colours


def check_number(kept: Sequence[NamedClass], ignored: set[str]) -> None:
    """Raises InputError where fewer than two classes are left, or too many."""
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


def labels_of(classes: Sequence[NamedClass]) -> Labels:
    """Names and colours: a class gets the first of its own colours if no other class has it."""
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
