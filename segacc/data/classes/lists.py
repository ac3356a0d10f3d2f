"""Our own file of classes, classes.txt: a class per line, with what stands for it in the masks.

    background: 0
    gland: 1-255
    road: 3, 7-9; 128 64 128
    sky: #4682b4
    vehicle: car, bus

Values are single ones and ranges with commas between them. A colour is three numbers with blanks
between them, or #RRGGBB. Words are categories of polygons. Several codings of one class have
semicolons between them, or stand in lines of their own. A name alone has the number of its line,
counted from 0.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from segacc.errors import InputError
from segacc.labels import MOST_VALUES, Colour, Labels, colour_text

EXPECTED = (
    "expected a name, or `name: 7`, `name: 3, 7-9`, `name: 128 64 128`, `name: #804080`, or "
    "`128 64 128 name` (of polygons also `name: car, bus`)"
)


@dataclass(frozen=True)
class NamedClass:
    """A class, and what stands for it in the masks."""

    name: str
    values: tuple[tuple[int, int], ...] = ()
    """ranges of values, first and last"""
    colours: tuple[Colour, ...] = ()
    categories: tuple[str, ...] = ()
    """the categories of polygons; `*` is all that no other class names"""
    counts: bool = True
    """False for an entry of a tool's file that is no class: its pixels do not count"""


def read_list(path: Path, text: str) -> list[NamedClass]:
    """The classes of a classes.txt, in its order.

    Args:
        path: for messages.

    Raises:
        InputError: a line is not understood.
    """
    classes, bare = [], []
    for number, line in enumerate(text.splitlines(), start=1):
        line = line.strip()
        if not line or (line.startswith("#") and not re.match(r"#[0-9a-fA-F]{6}\b", line)):
            continue
        one = parse_class(line)
        if one is None:
            raise InputError(f"{path}, line {number}: found {line!r}, {EXPECTED}")
        classes.append(one)
        bare += [line] if one == NamedClass(line) else []
    if len(bare) == len(classes) > 1 and _have_numbers(bare):
        raise InputError(
            f"{path}: each line has a name and a number, but no colon between them, such as "
            f"{bare[0]!r}; {EXPECTED}"
        )
    return merged(classes)


def merged(classes: list[NamedClass]) -> list[NamedClass]:
    """The classes, with those of one name as one."""
    found: dict[str, NamedClass] = {}
    for one in classes:
        known = found.get(one.name)
        found[one.name] = (
            one
            if known is None
            else NamedClass(
                one.name,
                known.values + one.values,
                known.colours + one.colours,
                known.categories + one.categories,
                known.counts and one.counts,
            )
        )
    return list(found.values())


def _have_numbers(names: list[str]) -> bool:
    """Whether the numbers of names are probably values or colours, such as in `road 1`, and no part
    of them, as in `grade 1` and `grade 2`."""
    for pattern in (
        r"(?P<number>\d+)[\s,=]+(?P<name>.*\D.*)",
        r"(?P<name>.*?\D)[\s,=]+(?P<number>\d+([\s,]+\d+[\s,]+\d+)?)",
    ):
        found = [re.fullmatch(pattern, name) for name in names]
        if all(found):
            return len({match["name"].strip() for match in found if match}) > 1
    return False


def write_list(classes: list[NamedClass]) -> str:
    """The inverse of `read_list`."""
    lines = []
    for one in classes:
        values = ", ".join(range_text(*ends) for ends in one.values)
        coded = [*([values] if values else []), *map(colour_text, one.colours)]
        coded += [", ".join(one.categories)] if one.categories else []
        lines.append(f"{one.name}: {'; '.join(coded)}\n" if coded else f"{one.name}\n")
    return "".join(lines)


def class_list(labels: Labels) -> list[NamedClass]:
    """The classes with the numbers that they have in label maps, and their colours."""
    return [
        NamedClass(name, ((number, number),), (colour,))
        for number, (name, colour) in enumerate(zip(labels.names, labels.colours, strict=True))
    ]


def range_text(first: int, last: int) -> str:
    """A range of values: `7`, or `7-9`."""
    return str(first) if first == last else f"{first}-{last}"


def parse_range(text: str) -> tuple[int, int] | None:
    """The inverse of `range_text`; None for what is no range of values of masks."""
    found = re.fullmatch(r"(\d+)(?:\s*-\s*(\d+))?", text.strip())
    if not found:
        return None
    first = int(found[1])
    last = int(found[2] or first)
    return (first, last) if first <= last < MOST_VALUES else None


def parse_colour(text: str) -> Colour | None:
    """A colour as three numbers with blanks or commas between them, or as #RRGGBB."""
    if found := re.fullmatch(r"#([0-9a-fA-F]{2})([0-9a-fA-F]{2})([0-9a-fA-F]{2})", text.strip()):
        return int(found[1], 16), int(found[2], 16), int(found[3], 16)
    if found := re.fullmatch(r"(\d+)[\s,]+(\d+)[\s,]+(\d+)", text.strip()):
        red, green, blue = int(found[1]), int(found[2]), int(found[3])
        return (red, green, blue) if max(red, green, blue) < 256 else None
    return None


def parse_class(line: str) -> NamedClass | None:
    """The class in a line; None where it says none."""
    if found := re.fullmatch(r"(\d+\s+\d+\s+\d+|#[0-9a-fA-F]{6})\s+(\S.*)", line):
        colour = parse_colour(found[1])
        return None if colour is None else NamedClass(found[2], colours=(colour,))
    name, _, coded = (part.strip() for part in line.partition(":"))
    if not name:
        return None
    if not coded:
        return NamedClass(name)
    if (ends := parse_range(name)) and re.fullmatch(r"[^\W\d][^,;:]*", coded):
        return NamedClass(coded, (ends,))  # `0: background`, as in YAML
    values: list[tuple[int, int]] = []
    colours: list[Colour] = []
    categories: list[str] = []
    for part in coded.split(";"):
        colour = parse_colour(part) if "," not in part else None
        if colour is not None:
            colours.append(colour)
            continue
        for one in (word.strip() for word in part.split(",")):
            if ends := parse_range(one):
                values.append(ends)
            elif one and not re.match(r"[\d#-]", one):
                categories.append(one)
            else:
                return None
    return NamedClass(name, tuple(values), tuple(colours), tuple(categories))
