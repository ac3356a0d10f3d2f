"""A list of classes for masks that nobody has named, from the values or colours that they hold."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from segacc.data.classes.lists import NamedClass, write_list
from segacc.data.classes.palettes import PALETTES
from segacc.errors import InputError
from segacc.labels import (
    IGNORE,
    MOST_CLASSES,
    VOID_COLOURS,
    Colour,
    pack_colours,
    unpack_colour,
)

OBJECTS = 40
"""More values than this, without gaps, are numbers of objects rather than of classes."""


@dataclass
class Held:
    """What masks hold: the number of pixels of each value, and of each colour."""

    values: Counter[int] = field(default_factory=Counter)
    colours: Counter[Colour] = field(default_factory=Counter)
    palette: dict[int, Colour] = field(default_factory=dict)
    """the colours of values in a palette"""

    def add(self, pixels: np.ndarray, palette: np.ndarray | None = None) -> None:
        """Count a mask: (H, W) of numbers, or (H, W, 3) uint8 of colours.

        Args:
            palette: (256, 3) uint8, the colours of the numbers.
        """
        if pixels.ndim == 2:
            found, counts = np.unique(pixels, return_counts=True)
            self.values.update(dict(zip(found.tolist(), counts.tolist(), strict=True)))
            if palette is not None:
                self.palette |= {
                    value: (int(red), int(green), int(blue))
                    for value, (red, green, blue) in zip(found, palette[found], strict=True)
                }
        else:
            found, counts = np.unique(pack_colours(pixels), return_counts=True)
            for packed, count in zip(found.tolist(), counts.tolist(), strict=True):
                self.colours[unpack_colour(packed)] += count


def propose(held: Held) -> tuple[str, str]:
    """A classes.txt for such masks, with a class for each value or colour.

    255 and VOID_COLOURS get no class, since their pixels do not count. The exception are masks of
    two values, which are binary. Value 0 and black are the background.

    Returns:
        the text of the file; a sentence on what was understood.

    Raises:
        InputError: there are more values or colours than the possible number of classes.
    """
    if held.colours:
        return _of_colours(held)
    if set(held.values) <= {0, IGNORE}:
        classes = [NamedClass("background", ((0, 0),)), NamedClass("foreground", ((255, 255),))]
        return write_list(classes), "the masks are binary, which needs no list but for the names"
    everything = sorted(held.values)
    values = [value for value in everything if value != IGNORE]
    if len(everything) > OBJECTS and everything == list(range(len(everything))):
        values = everything  # object 255 is one among the others
    if len(values) > OBJECTS and values == list(range(values[-1] + 1)):
        said = (
            f"the masks hold the numbers 0 to {values[-1]}, which seem to be those of objects, so "
            "all are one class"
        )
        classes = [NamedClass("background", ((0, 0),)), NamedClass("object", ((1, values[-1]),))]
        return write_list(classes), said
    colours = [held.palette.get(value) for value in values]
    for name, palette in PALETTES.items():
        if len(set(colours)) > 1 and all(colour in palette for colour in colours):
            classes = [
                NamedClass(palette[colour], ((value, value),), (colour,))
                for value, colour in zip(values, colours, strict=True)
                if colour is not None
            ]
            return write_list(classes), f"the palette of the masks is that of {name}"
    classes = [NamedClass(_name(value), ((int(value), int(value)),)) for value in values]
    said = f"the masks hold {len(values)} values; give the classes their names"
    return _limited(classes, said)


def _name(value: float) -> str:
    return "background" if value == 0 else f"class{value:g}"


def _of_colours(held: Held) -> tuple[str, str]:
    colours = [colour for colour, _ in held.colours.most_common() if colour not in VOID_COLOURS]
    for name, palette in PALETTES.items():
        if len(colours) > 1 and all(colour in palette for colour in colours):
            classes = [NamedClass(palette[c], (), (c,)) for c in palette if c in colours]
            return write_list(classes), f"the colours of the masks are those of {name}"
    classes = [
        NamedClass(
            "background" if colour == (0, 0, 0) else "colour{}-{}-{}".format(*colour), (), (colour,)
        )
        for colour in colours
    ]
    if held.values:  # masks of one colour each, or gray ones among the others
        classes += [
            NamedClass(_name(value), ((int(value), int(value)),))
            for value in sorted(held.values)
            if value != IGNORE and (value, value, value) not in colours
        ]
    said = f"the masks hold {len(colours)} colours, the most frequent first; give them their names"
    return _limited(classes, said)


def _limited(classes: list[NamedClass], said: str) -> tuple[str, str]:
    if len(classes) > MOST_CLASSES:
        raise InputError(
            f"the masks hold {len(classes):,} values or colours, more than the {MOST_CLASSES} "
            "classes that there may be: compression (JPEG) or resizing has probably smeared them, "
            "so export them again as PNG; or they hold depth or photos."
        )
    return write_list(classes), said
