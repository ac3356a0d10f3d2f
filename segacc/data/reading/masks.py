"""Read the values of a mask's file, of any type; `segacc.labels` says what they mean."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from PIL import Image

from segacc.errors import plural, some_names
from segacc.labels import (
    BINARY,
    BINARY_CODING,
    CODING,
    IGNORE,
    RECODE,
    Coding,
    Labels,
    MaskValueError,
    UnknownValueError,
    colour_text,
    first_few,
    foreground_value,
    pack_colours,
    read_colours,
    read_mask,
    read_values,
    unpack_colour,
)

SMEARED = 8
"""A smeared mask that is not a JPEG has more values than this, or several that are bright."""
DARK, BRIGHT = 31, 224
"""A value in between is in doubt: it is close neither to black nor to white."""
IN_DOUBT = 0.2
"""A mask with a larger share of pixels in doubt is a picture, or has more than two classes."""
DOUBT_PER_BRIGHT = 4
"""In a smeared mask, there are at most this many pixels in doubt for each bright one. In a mask
with the numbers of 255 objects there are six, however few pixels the objects have."""
SHOWN = 8
"""How many of the values that no class owns are shown."""
MANY = 100
"""If more values than this belong to no class, they are not taken for forgotten classes."""
FLAT = 0.2
"""If more than this share of the odd values lies in flat areas, the mask has other classes. (The
share was at most 0.04 in smeared masks of streets and tissue, and at least 0.33 for class
numbers.)"""

OWN_VALUES = (
    "; where 255 is what does not count, give the classes their values, such as "
    "--classes 'background: 0, thing: 1'"
)


@dataclass(frozen=True, eq=False)
class MaskOfFile:
    """The content of a mask's file."""

    label_map: np.ndarray
    """(H, W) uint8 (`segacc.labels`)"""
    foreground: int
    """the value of foreground in the file of a binary mask: 1, 255 or 65535, or 0 where there is
    none"""
    in_doubt: float | None = None
    """share of the pixels, in 0..1, that were neither near 0 nor near 255 in a smeared mask; None
    of a mask that is binary as it is"""


def labels_of_file(opened: Image.Image, coding: Coding = BINARY_CODING) -> MaskOfFile:
    """The labels of a mask that is loaded.

    Raises:
        MaskValueError: it does not fit the coding; the message says what to do.
    """
    if not coding.is_binary:
        return MaskOfFile(_classes_of_file(opened, coding), 0)
    binarise = coding.binarise
    values = _mask_values(opened)
    try:
        return MaskOfFile(read_mask(values), foreground_value(values))
    except MaskValueError as error:
        is_jpeg = opened.format in ("JPEG", "MPO")
        smeared = opened.mode != "P" and _is_smeared(values, is_jpeg)
        if not smeared or binarise is None:
            with_ignored = np.unique(values).tolist() == [0, 1, IGNORE]
            remedy = OWN_VALUES if with_ignored else _remedy(smeared, is_jpeg, coding.labels)
            raise MaskValueError(f"{error}{remedy}") from None
    return MaskOfFile((values >= binarise).astype(np.uint8), 255, float(_doubtful(values).mean()))


def _classes_of_file(opened: Image.Image, coding: Coding) -> np.ndarray:
    """The label map of a mask of numbers or of colours.

    A palette's numbers count if the classes have numbers, else its colours.
    """
    try:
        if coding.values:
            values = _numbers(opened)
            if values is not None:
                return read_values(values, coding)
        if coding.colours:
            return read_colours(np.asarray(opened.convert("RGB")), coding)
    except UnknownValueError as error:
        if opened.format in ("JPEG", "MPO"):
            problem = f"{error}, and JPEG changes values: save the original as PNG"
            raise MaskValueError(problem) from None
        raise
    raise MaskValueError("is coloured, and the classes have values but no colours")


def pixels_of_file(opened: Image.Image) -> tuple[np.ndarray, np.ndarray | None]:
    """Return the pixels of a loaded mask: numbers (H, W) of any type, with the palette (256, 3)
    uint8 if it has one, or colours (H, W, 3) uint8."""
    numbers = _numbers(opened)
    if numbers is None:
        return np.asarray(opened.convert("RGB")), None
    return numbers, _palette(opened) if opened.mode == "P" else None


def _numbers(opened: Image.Image) -> np.ndarray | None:
    """The values (H, W) of a mask of numbers, in the type of its file; None where it is coloured.

    A mask whose channels are all the same is one of numbers.
    """
    if opened.mode == "1":
        return np.asarray(opened.convert("L"))
    if opened.mode in ("L", "P", "I", "F") or opened.mode.startswith("I;16"):
        return np.asarray(opened)
    colours = np.asarray(opened.convert("RGB"))
    return colours[..., 0] if (colours == colours[..., :1]).all() else None


def about_doubt(binarise: int, in_doubt: dict[str, float]) -> str:
    """A sentence on what --binarise did.

    Args:
        in_doubt: `MaskOfFile.in_doubt` of each smeared mask, by its name.
    """
    count, mean = len(in_doubt), sum(in_doubt.values()) / len(in_doubt)
    worst = max(in_doubt, key=lambda name: in_doubt[name])
    masks = f"{count} smeared masks" if count > 1 else "1 smeared mask"
    most = f", most in that of {worst} ({in_doubt[worst]:.1%})" if count > 1 else f" ({worst})"
    return (
        f"--binarise {binarise}: {masks} read; {mean:.1%} of the pixels were neither near 0 nor "
        f"near 255{most}"
    )


def about_unknown(unknown: Mapping[str, dict[str, int]]) -> str:
    """A sentence on values, colours or names in masks that no class owns.

    Args:
        unknown: for each mask, by its name, how many pixels have each of these.
    """
    pixels: Counter[str] = Counter()
    masks: Counter[str] = Counter()
    for of_mask in unknown.values():
        pixels.update(of_mask)
        masks.update(of_mask.keys())
    shown = [
        f"{value} ({pixels[value]:,} pixels in {plural(masks[value], 'mask')})"
        for value, _ in pixels.most_common(SHOWN)
    ]
    more = f" and {len(pixels) - SHOWN} more" if len(pixels) > SHOWN else ""
    found = (
        f"{plural(len(unknown), 'mask')} ({some_names(list(unknown))}) hold what no class owns: "
        f"{', '.join(shown)}{more}"
    )
    if len(pixels) > MANY:
        return (
            f"{found}; so many are left when masks were compressed (JPEG) or resized by "
            "interpolation: export them again as PNG, resized by the nearest pixel if at all"
        )
    return (
        f"{found}; add these to the classes (`segacc check DATASET "
        "--write-classes classes.txt` lists all that there are), or name them in --ignore"
    )


def _mask_values(opened: Image.Image) -> np.ndarray:
    """The values (H, W) of a mask, in the type of its file."""
    if opened.mode == "1":
        return np.asarray(opened.convert("L"))
    if opened.mode == "P":
        return _palette_values(opened)
    if opened.mode in ("L", "I", "F") or opened.mode.startswith("I;16"):
        return np.asarray(opened)
    colours = np.asarray(opened.convert("RGB"))
    if opened.mode in ("LA", "RGBA", "PA") and (colours == colours[0, 0]).all():
        alpha = np.asarray(opened.getchannel("A"))
        if (alpha != alpha[0, 0]).any():
            problem = "has one colour and its shape only in the transparency; save it without alpha"
            raise MaskValueError(f"{problem}, 255 where the foreground is and 0 elsewhere")
    if (colours == colours[..., :1]).all():
        return colours[..., 0]
    packed = np.unique(pack_colours(colours)).tolist()
    used = [f"({colour_text(unpack_colour(colour))})" for colour in packed]
    problem = f"is coloured: {first_few(used)}; {CODING}"
    raise MaskValueError(problem + _remedy(False, opened.format in ("JPEG", "MPO"), BINARY))


def _palette_values(opened: Image.Image) -> np.ndarray:
    """The values of a palette mask: its colours where these are black and white, else its indices.

    Where two used entries have one colour, the indices count: a palette that nobody filled in is
    all black.
    """
    indices = np.asarray(opened)
    used = np.flatnonzero(np.bincount(indices.ravel(), minlength=256))
    palette = _palette(opened)
    colours = {tuple(entry) for entry in palette[used].tolist()}
    if colours <= {(0, 0, 0), (255, 255, 255)} and len(colours) == len(used):
        return palette[indices, 0]
    return indices


def _palette(opened: Image.Image) -> np.ndarray:
    """(256, 3) uint8: the colour of each number; black where the palette is shorter."""
    palette = np.zeros((256, 3), dtype=np.uint8)
    entries = np.array(opened.getpalette("RGB"), dtype=np.uint8).reshape(-1, 3)
    palette[: len(entries)] = entries
    return palette


def _is_smeared(values: np.ndarray, is_jpeg: bool) -> bool:
    """Whether the mask was 0 and 255, or close to that, before it was compressed or resized.

    A threshold would make nonsense of numbers of classes or objects, which may have as many values.
    Their areas are flat, while compression and resizing make odd values at edges, where neighbours
    differ. (Odd is what is neither the most frequent dark value nor the most frequent bright one.)
    """
    levels, bright, doubtful = np.unique(values), values >= BRIGHT, _doubtful(values)
    many = len(levels) > SMEARED or (levels >= BRIGHT).sum() > 1 or is_jpeg
    if not many or levels[0] < 0 or levels[-1] > 255 or not bright.any():
        return False
    if doubtful.mean() > IN_DOUBT or doubtful.sum() > DOUBT_PER_BRIGHT * bright.sum():
        return False
    odd = np.ones(values.shape, dtype=bool)
    for half in (values < 128, values >= 128):
        if half.any():
            of_half, counts = np.unique(values[half], return_counts=True)
            odd &= values != of_half[counts.argmax()]
    flat = odd.copy()
    flat[:, :-1] &= values[:, :-1] == values[:, 1:]
    flat[:-1] &= values[:-1] == values[1:]
    return bool(flat.sum() <= FLAT * odd.sum())


def _doubtful(values: np.ndarray) -> np.ndarray:
    """(H, W) bool: which pixels are close neither to 0 nor to 255."""
    return (values > DARK) & (values < BRIGHT)


def _remedy(smeared: bool, is_jpeg: bool, labels: Labels) -> str:
    if smeared:
        return (
            ", and lossy compression or resizing has smeared this one: save the original as PNG, "
            "or give --binarise 128, which takes pixels of at least 128 for foreground"
        )
    if is_jpeg:
        return ", and JPEG changes values: save the original as PNG"
    if labels.names != BINARY.names:
        first, second = labels.names
        return (
            f", and so do those of two classes without values, {first} and {second}: give each "
            f"class its values, such as '{first}: 0, {second}: 1', and list all classes"
        )
    return (
        f": {RECODE}, or say with --classes which classes the values are (`segacc check DATASET "
        "--write-classes classes.txt` proposes a list)"
    )
