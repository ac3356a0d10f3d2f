"""Images in memory: read their values in the same way as those of files."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image, ImageOps
from torch import Tensor

from segacc.data.reading.decode import to_rgb
from segacc.errors import InputError


def image_values(image: Any, what: str) -> np.ndarray:
    """Return the values of an image, as viewers show it.

    Args:
        image: a PIL image; an array (H, W, 3) RGB or (H, W) grey, uint8 or uint16; or a tensor, for
            which (3, H, W) is possible, too.
        what: the name of the image in errors.

    Returns:
        (H, W, 3) uint8, or of 16 bits per channel (H, W) or (H, W, 3) uint16.

    Raises:
        InputError: it is something else.
    """
    if isinstance(image, Image.Image):
        return _of_pil(image, what)
    array = as_array(image)
    if isinstance(image, Tensor) and array.ndim == 3 and array.shape[0] in (1, 3):
        array = np.moveaxis(array, 0, -1)
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[..., 0]
    is_grey, is_rgb = array.ndim == 2, array.ndim == 3 and array.shape[2] == 3
    if array.dtype not in (np.uint8, np.uint16) or not (is_grey or is_rgb) or not array.size:
        raise InputError(
            f"{what} is {about(image)}, expected a PIL image, (H, W, 3) uint8 RGB in 0..255, or "
            "(H, W) grey: leave transforms to floats and normalisation out, since segacc "
            "normalises images as the model needs it."
        )
    if is_grey and array.dtype == np.uint8:
        array = np.repeat(array[..., None], 3, axis=2)
    return np.ascontiguousarray(array)


def _of_pil(image: Image.Image, what: str) -> np.ndarray:
    seen = ImageOps.exif_transpose(image)
    if seen.mode.startswith("I;16"):
        return np.asarray(seen).astype(np.uint16)
    try:
        return np.ascontiguousarray(to_rgb(seen))
    except ValueError as error:
        raise InputError(
            f"{what} has the pixel type {seen.mode}, which has no RGB form ({error}): give an "
            "image of 8 or 16 bits."
        ) from error


def as_array(given: Any) -> np.ndarray:
    """Convert to an array, also from a tensor on a GPU."""
    return given.detach().cpu().numpy() if isinstance(given, Tensor) else np.asarray(given)


def about(given: Any) -> str:
    """Describe an object inside a sentence."""
    if hasattr(given, "shape") and hasattr(given, "dtype"):
        return f"of the shape {tuple(given.shape)} and the type {given.dtype}"
    return f"a {type(given).__name__}"
