"""The values of a mask's file, of whatever type; what they mean is said in `segacc.labels`."""

from __future__ import annotations

import numpy as np
from PIL import Image

from segacc.labels import (
    CODING,
    RECODE,
    MaskValueError,
    first_few,
    foreground_value,
    read_mask,
)

SMEARED = 8
"""A mask with more values than this, nearly all of them close to black and white, was smeared."""


def labels_of_file(opened: Image.Image) -> tuple[np.ndarray, int]:
    """The label map (H, W) uint8 of a mask that is loaded, and what stands for foreground in it: 1,
    255 or 65535, or 0 where there is none.

    Raises:
        MaskValueError: it is not binary; the message says what to do.
    """
    values = _mask_values(opened)
    try:
        return read_mask(values), foreground_value(values)
    except MaskValueError as error:
        raise MaskValueError(f"{error}{_remedy(values, opened.format)}") from None


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
    packed = colours.astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], dtype=np.uint32)
    used = [str((int(c) >> 16, int(c) >> 8 & 255, int(c) & 255)) for c in np.unique(packed)]
    problem = f"is coloured: {first_few(used)}; {CODING}"
    raise MaskValueError(problem + _remedy(colours[..., 0], opened.format))


def _palette_values(opened: Image.Image) -> np.ndarray:
    """The values of a palette mask: its colours where these are black and white, else its indices.

    Where two used entries have one colour, the indices count: a palette that nobody filled in is
    all black.
    """
    indices = np.asarray(opened)
    used = np.flatnonzero(np.bincount(indices.ravel(), minlength=256))
    palette = np.zeros((256, 3), dtype=np.uint8)
    entries = np.array(opened.getpalette("RGB"), dtype=np.uint8).reshape(-1, 3)
    palette[: len(entries)] = entries
    colours = {tuple(entry) for entry in palette[used].tolist()}
    if colours <= {(0, 0, 0), (255, 255, 255)} and len(colours) == len(used):
        return palette[indices, 0]
    return indices


def _remedy(values: np.ndarray, file_format: str | None) -> str:
    near_ends = (values < 32) | ((values > 223) & (values < 256))
    smeared = (values > 223).any() and near_ends.mean() > 0.9 and len(np.unique(values)) > SMEARED
    if smeared or file_format in ("JPEG", "MPO"):
        return ", and lossy compression or resizing has smeared this one: save the original as PNG"
    return f": {RECODE}"
