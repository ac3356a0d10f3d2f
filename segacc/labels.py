"""Labels: what the values of a mask mean, and how masks are read and written.

Inside segacc a mask is a label map: (H, W) uint8, the number of a class per pixel, and IGNORE where
nothing is said about a pixel. Only this module knows how masks are coded in their files.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from segacc.errors import InputError

IGNORE = 255
"""In a label map: nothing is said about this pixel, so no loss and no score counts it."""
FOREGROUND = 1
"""The class of the thing, where there are two classes."""

MOST_CLASSES = 254
"""A label map has room for no more, beside IGNORE and a mark for values that are not known."""

CODING = "a binary mask holds 0 and 255 (or 0 and 1)"
RECODE = "set every foreground pixel to 255 and every other pixel to 0"
VOID_COLOURS = ((255, 255, 255), (224, 224, 192))
"""In masks of colours, what does not count unless a class owns it: white, and the borders of PASCAL
VOC."""
MOST_VALUES = 1 << 16
"""Masks of several classes hold values below this."""

Colour = tuple[int, int, int]
"""red, green and blue in 0..255"""


@dataclass(frozen=True)
class Labels:
    """The classes of a data set; class i has the value i in a label map."""

    names: tuple[str, ...]
    colours: tuple[Colour, ...]
    """of each class, for pictures"""

    def __post_init__(self) -> None:
        assert 2 <= len(self.names) <= MOST_CLASSES and len(self.colours) == len(self.names)

    @property
    def classes(self) -> int:
        """Number of classes, the background included."""
        return len(self.names)

    @property
    def logits(self) -> int:
        """Number of logits per pixel: 1 for background and one thing, else one per class."""
        return 1 if self.classes == 2 else self.classes

    def to_config(self) -> dict[str, Any]:
        """As a dictionary of JSON's types, for the config of a model and of a run."""
        return {"names": list(self.names), "colours": [list(colour) for colour in self.colours]}

    @staticmethod
    def from_config(config: dict[str, Any] | None) -> Labels:
        """The inverse of `to_config`; None, as in what segacc 0.1.0 has written, is BINARY."""
        if config is None:
            return BINARY
        colours = tuple((red, green, blue) for red, green, blue in config["colours"])
        return Labels(tuple(config["names"]), colours)


BINARY = Labels(("background", "foreground"), ((0, 0, 0), (255, 255, 255)))

_PALETTE: tuple[Colour, ...] = (
    *((230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66)),
    *((0, 114, 178), (213, 94, 0), (204, 121, 167)),
)


def colours_for(names: tuple[str, ...]) -> tuple[Colour, ...]:
    """A colour for each class, black for one that is called background.

    The first seven are those of Okabe & Ito (2008), which colour-blind people can tell apart, too.
    Behind them come shades of these, lighter and darker in turn.
    """
    colours: list[Colour] = []
    for name in names:
        if is_background(name) and (0, 0, 0) not in colours:
            colours.append((0, 0, 0))
            continue
        turn, place = divmod(len(colours) - ((0, 0, 0) in colours), len(_PALETTE))
        towards, share = (255 if turn % 2 else 0), 1 - 0.62 ** ((turn + 1) // 2)
        red, green, blue = (round(c + share * (towards - c)) for c in _PALETTE[place])
        colours.append((red, green, blue))
    return tuple(colours)


def has_other_colours(labels: Labels) -> bool:
    """Whether colours are others than `colours_for` gives, in any order, which may be harder to
    tell apart."""
    ours = {(0, 0, 0), *_PALETTE, *colours_for(labels.names)}
    return not {*labels.colours} <= ours


def is_background(name: str) -> bool:
    """Whether a class of this name is what is left when all things are named."""
    return name.strip("_ ").casefold() in ("background", "bg")


def check_same_classes(labels: Labels, of_model: Labels | None, what: str) -> None:
    """Raises InputError where a data set has other classes than a model.

    Args:
        of_model: None where nobody has named them.
        what: the start of the sentence, which names the model.
    """
    names, model_names = labels.names, of_model.names if of_model else ()
    if len(names) == len(model_names) and (len(names) == 2 or names == model_names):
        return
    raise InputError(
        f"{what} has a model for the classes {first_few(list(model_names))}, and the data set has "
        f"{first_few(list(names))}: give the data set with the same classes in the same order (see "
        "--classes)."
    )


@dataclass(frozen=True)
class Coding:
    """How the masks of a data set say which class a pixel has.

    A class is its number in `labels`, or IGNORE. With neither values nor colours, masks are binary
    (`read_mask`).
    """

    labels: Labels
    values: tuple[tuple[int, int, int], ...] = ()
    """(first, last, class): in masks of numbers, the values first..last are of this class"""
    colours: tuple[tuple[Colour, int], ...] = ()
    """in masks of colours, the class of each"""
    shapes: tuple[tuple[str, int], ...] = ()
    """in files of polygons, the class of each category; there are no masks then"""
    uncovered: int = 0
    """the class of what no polygon covers"""
    binarise: int | None = None
    """in a binary mask that was smeared, a pixel is foreground from this value in 1..255 on; None
    refuses such masks"""

    @property
    def is_binary(self) -> bool:
        """Whether masks hold background and foreground, coded in one of the usual ways."""
        return not self.values and not self.colours and not self.shapes


BINARY_CODING = Coding(BINARY)


class MaskValueError(ValueError):
    """The values of a mask do not say which class a pixel has."""


class UnknownValueError(MaskValueError):
    """A mask has values, colours or names that are of no class."""

    def __init__(self, pixels: dict[str, int]) -> None:
        some = first_few(list(pixels))
        super().__init__(f"has {some} that no class owns")
        self.pixels = pixels
        """number of pixels of each"""


def read_mask(values: np.ndarray) -> np.ndarray:
    """The label map of a binary mask.

    Args:
        values: (H, W) as the file has them, of any type: 0 is background, and one of 1, 255 and
            65535 is foreground.

    Returns:
        (H, W) uint8 in {0, 1}.

    Raises:
        MaskValueError: there are other values; the message lists them.
    """
    top = values.max()
    if top not in (0, 1, 255, 65535) or not ((values == 0) | (values == top)).all():
        used = [f"{value:g}" for value in np.unique(values).tolist()]
        raise MaskValueError(f"has the values {first_few(used)}; {CODING}")
    return (values != 0).astype(np.uint8)


def foreground_value(values: np.ndarray) -> int:
    """What stands for foreground in a mask that `read_mask` takes; 0 where nothing is."""
    return int(values.max())


def read_values(values: np.ndarray, coding: Coding) -> np.ndarray:
    """The label map of a mask of numbers; 255 is IGNORE where no class owns it.

    Args:
        values: (H, W) as the file has them, of any type.

    Raises:
        UnknownValueError: there are values that no class owns.
    """
    if values.dtype != np.uint8:
        inside = (values >= 0) & (values < MOST_VALUES) & (values == np.floor(values))
        if not inside.all():
            raise UnknownValueError(_counted(values[~inside]))
        values = values.astype(np.uint16)
    label_map: np.ndarray = _table_of_values(coding)[values]
    if (unknown := label_map == _UNKNOWN).any():
        raise UnknownValueError(_counted(values[unknown]))
    return label_map


def read_colours(pixels: np.ndarray, coding: Coding) -> np.ndarray:
    """The label map of a mask of colours; VOID_COLOURS are IGNORE where no class owns them.

    Args:
        pixels: (H, W, 3) uint8, RGB.

    Raises:
        UnknownValueError: there are colours that no class owns.
    """
    packed = pack_colours(pixels)
    label_map: np.ndarray = _table_of_colours(coding)[packed]
    if (unknown := label_map == _UNKNOWN).any():
        found, counts = np.unique(packed[unknown], return_counts=True)
        order = np.argsort(-counts)
        names = [colour_text(unpack_colour(c)) for c in found[order].tolist()]
        raise UnknownValueError(dict(zip(names, counts[order].tolist(), strict=True)))
    return label_map


_UNKNOWN = MOST_CLASSES  # in a table; a class has a number below this


@lru_cache(maxsize=2)
def _table_of_values(coding: Coding) -> np.ndarray:
    table = np.full(MOST_VALUES, _UNKNOWN, dtype=np.uint8)
    table[IGNORE] = IGNORE
    for first, last, number in coding.values:
        table[first : last + 1] = number
    return table


@lru_cache(maxsize=2)
def _table_of_colours(coding: Coding) -> np.ndarray:
    table = np.full(1 << 24, _UNKNOWN, dtype=np.uint8)
    void = [(colour, IGNORE) for colour in VOID_COLOURS]
    for colour, number in (*void, *coding.colours):
        table[pack_colours(np.array(colour, dtype=np.uint8))] = number
    return table


def pack_colours(pixels: np.ndarray) -> np.ndarray:
    """(...) uint32: colours (..., 3) uint8 as numbers below 2**24, red in the highest bits."""
    wide = pixels.astype(np.uint32)
    packed: np.ndarray = wide[..., 0] << 16 | wide[..., 1] << 8 | wide[..., 2]
    return packed


def unpack_colour(packed: int) -> Colour:
    """The inverse of `pack_colours`, of one number."""
    return packed >> 16, packed >> 8 & 255, packed & 255


def colour_text(colour: Colour) -> str:
    """A colour as files of classes have it: `128 64 128`."""
    return " ".join(map(str, colour))


def _counted(values: np.ndarray) -> dict[str, int]:
    found, counts = np.unique(values, return_counts=True)
    order = np.argsort(-counts)
    return {f"{found[i]:g}": int(counts[i]) for i in order.tolist()}


def write_mask(label_map: np.ndarray, labels: Labels) -> np.ndarray:
    """The values of a mask's file.

    Args:
        label_map: (H, W) uint8 or bool.

    Returns:
        (H, W) uint8: 0 and 255 for two classes, which then has no value for ignored pixels; else
        the number of the class and IGNORE.
    """
    assert label_map.ndim == 2 and label_map.dtype in (np.uint8, np.bool_)
    if labels.classes > 2:
        return label_map.astype(np.uint8)
    assert label_map.max(initial=0) <= FOREGROUND, "0 and 255 cannot say that a pixel is ignored"
    return label_map * np.uint8(255)


def first_few(values: list[str]) -> str:
    """The first of many values, and how many there are."""
    return f"{', '.join(values[:5])}{', ...' if len(values) > 5 else ''} ({len(values)} in all)"
