"""Files of images and masks -> arrays. File formats are dealt with here, the meaning of a mask's
values in `segacc.labels`."""

from __future__ import annotations

import io
import struct
import zlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
from PIL import Image, UnidentifiedImageError

from segacc.data.polygons.rasterise import read_shapes
from segacc.data.reading.alignment import (
    AS_SEEN,
    ORIENTATION,
    is_at_another_scale,
    lies_as_stored,
    scaled_to_image,
)
from segacc.data.reading.depth import WHOLE, ValueRange, deep_values, to_8_bits
from segacc.data.reading.foreign import HEAD_BYTES, what_it_seems
from segacc.data.reading.masks import MaskOfFile, labels_of_file, pixels_of_file
from segacc.errors import InputError
from segacc.labels import BINARY_CODING, Coding, MaskValueError, UnknownValueError

CHANNELS = 3
"""Every decoded image has red, green and blue."""

# Pillow warns above this and refuses above twice this; its own default is too low for slides.
Image.MAX_IMAGE_PIXELS = 300_000_000

# Named one by one, since some of Pillow's formats run a program (EPS runs Ghostscript).
IMAGE_FORMATS = ("JPEG", "PNG", "TIFF", "BMP", "GIF", "WEBP", "PPM", "JPEG2000")

# What Pillow's plugins raise on damaged bytes, found by trying it.
_DAMAGED = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    EOFError,
    RuntimeError,
    struct.error,
    zlib.error,
)


class Encoded(TypedDict):
    """A row of a `datasets.Image(decode=False)` column. Where it has `bytes`, these are read and
    not the file."""

    path: str | None
    bytes: bytes | None


class DecodeError(InputError):
    """A file that cannot be used; the message is like "image NAME.jpg is damaged ..."."""

    def __init__(
        self, role: str, file: str, problem: str, unknown: dict[str, int] | None = None
    ) -> None:
        super().__init__(f"{role} {file} {problem}")
        self.role = role
        self.file = file
        self.problem = problem
        self.unknown = unknown
        """if the problem is values that no class owns: how many pixels have each"""

    def __reduce__(self) -> tuple[type[DecodeError], tuple[Any, ...]]:
        # It comes from worker processes.
        return DecodeError, (self.role, self.file, self.problem, self.unknown)


@dataclass(frozen=True, eq=False)
class Decoded:
    """An image and its mask, both as viewers show them."""

    values: np.ndarray
    """(H, W, 3) uint8 RGB; for a file with 16 bits per channel (H, W) or (H, W, 3) uint16"""
    label_map: np.ndarray
    """(H, W) uint8 (`segacc.labels`)"""
    foreground: int
    """the value of foreground in the mask's file: 1, 255 or 65535, or 0 where there is none"""
    in_doubt: float | None
    """as in `MaskOfFile`"""
    orientation: int = 1
    """that of the image's EXIF tag, by which both were turned; 1 is none"""
    was_scaled: bool = False
    """whether the mask's file has another size than the image's"""

    @property
    def is_deep(self) -> bool:
        """Whether the image's file has 16 bits per channel."""
        return self.values.dtype == np.uint16


def read_pair(image: Encoded, mask: Encoded, coding: Coding = BINARY_CODING) -> Decoded:
    """Read an image and its mask.

    An EXIF orientation of the image is applied to it. A mask without one of its own is turned like
    its image where the size tells which way it was drawn. A mask that is its image at another scale
    is scaled to its size.

    Args:
        coding: how the mask says which class a pixel has.

    Raises:
        DecodeError: a file is damaged, the mask does not fit the coding, proportions differ, or the
            orientation leaves open which way the mask lies. It is an InputError that names the
            file.
    """
    values, orientation = _read_image(image)
    if coding.shapes:
        label_map, as_seen = _read_shapes(mask, coding, values.shape)
        read, mask_orientation = MaskOfFile(label_map, 0), orientation if as_seen else 1
    else:
        read, mask_orientation = read_labels(mask, coding)
        label_map = read.label_map
    if orientation != 1 and mask_orientation == 1:
        label_map = _turn_like_image(label_map, values, orientation, image, mask)
    shape, its_shape = values.shape[:2], label_map.shape
    if its_shape != shape and is_at_another_scale(its_shape, shape):
        label_map = scaled_to_image(label_map, shape)
    elif its_shape != shape:
        problem = (
            f"is {_size(shape)} pixels but its mask {_file(mask)} is {_size(its_shape)}; an image "
            "and its mask must have the same proportions, so export the mask again at the size of "
            "the image"
        )
        raise DecodeError("image", _file(image), problem)
    return Decoded(
        values, label_map, read.foreground, read.in_doubt, orientation, its_shape != shape
    )


def _read_shapes(mask: Encoded, coding: Coding, shape: tuple[int, ...]) -> tuple[np.ndarray, bool]:
    assert mask["bytes"] is not None, "a row of polygons holds them"
    try:
        return read_shapes(mask["bytes"], (shape[0], shape[1]), coding)
    except MaskValueError as error:
        raise _mask_error(mask, error) from error


def _mask_error(mask: Encoded, error: MaskValueError) -> DecodeError:
    unknown = error.pixels if isinstance(error, UnknownValueError) else None
    return DecodeError("mask", _file(mask), str(error), unknown)


def read_pixels(image: Encoded) -> np.ndarray:
    """The values of an image, as `Decoded` has them. Raises DecodeError."""
    return _read_image(image)[0]


def decode_image(image: Encoded, value_range: ValueRange = WHOLE) -> np.ndarray:
    """Image (H, W, 3) uint8 RGB as viewers show it. Raises DecodeError.

    Args:
        value_range: the values of a file with 16 bits per channel that become 0 and 255.
    """
    return to_8_bits(read_pixels(image), value_range)


def _read_image(image: Encoded) -> tuple[np.ndarray, int]:
    """The values as viewers show them, and the EXIF orientation that was applied."""
    opened, data, orientation, pending = _open(image, "image")
    try:
        values = deep_values(opened, data)
        if values is None:
            values = to_rgb(opened)
    except ValueError as error:
        problem = f"has the pixel type {opened.mode}, which has no RGB form ({error}); save as PNG"
        raise DecodeError("image", _file(image), problem) from error
    return np.ascontiguousarray(AS_SEEN[pending](values) if pending != 1 else values), orientation


def read_labels(mask: Encoded, coding: Coding = BINARY_CODING) -> tuple[MaskOfFile, int]:
    """The mask as viewers show it, and the EXIF orientation that was applied.

    Raises:
        DecodeError: the file is damaged, or does not fit the coding.
    """
    opened, _, orientation, pending = _open(mask, "mask")
    try:
        read = labels_of_file(opened, coding)
    except MaskValueError as error:
        raise _mask_error(mask, error) from error
    if pending != 1:
        read = replace(read, label_map=AS_SEEN[pending](read.label_map))
    return read, orientation


def read_mask_pixels(mask: Encoded) -> tuple[np.ndarray, np.ndarray | None]:
    """Read the pixels in a mask's file (`pixels_of_file`), whatever they mean. Raises
    DecodeError."""
    return pixels_of_file(_open(mask, "mask")[0])


def _open(encoded: Encoded, role: str) -> tuple[Image.Image, bytes, int, int]:
    """The loaded image, the bytes of its file, its EXIF orientation (1 = none), and the orientation
    yet to be applied."""
    data = encoded["bytes"]
    if data is None:
        assert encoded["path"] is not None, "a row without bytes has a path"
        try:
            data = Path(encoded["path"]).read_bytes()
        except OSError as error:
            problem = f"cannot be opened ({error.strerror}); check the path and its permissions"
            raise DecodeError(role, _file(encoded), problem) from error
    if not data:
        raise DecodeError(role, _file(encoded), "is empty (0 bytes); copy it again from its source")
    try:
        opened = Image.open(io.BytesIO(data), formats=IMAGE_FORMATS)
        # A phone's JPEG (MPO) keeps a preview as its second frame.
        frames = 1 if opened.format == "MPO" else getattr(opened, "n_frames", 1)
        # Pillow turns a TIFF while loading it, and drops the tag.
        is_tiff = opened.format == "TIFF"
        orientation = _orientation(opened) if is_tiff else 1
        opened.load()
    except UnidentifiedImageError as error:
        problem = (
            f"is not an image that can be read, it seems to be {what_it_seems(data[:HEAD_BYTES])}; "
            f"expected one of {', '.join(IMAGE_FORMATS)}"
        )
        raise DecodeError(role, _file(encoded), problem) from error
    except Image.DecompressionBombError as error:
        problem = f"is too large: {str(error).rstrip('.')}; cut it up"
        raise DecodeError(role, _file(encoded), problem) from error
    except _DAMAGED as error:
        problem = f"is damaged or cut short ({error}); copy it again from its source"
        raise DecodeError(role, _file(encoded), problem) from error
    if frames > 1:
        problem = f"holds {frames} pictures; save the one that is meant in a file of its own"
        raise DecodeError(role, _file(encoded), problem)
    if is_tiff:
        return opened, data, orientation, 1
    orientation = _orientation(opened)
    return opened, data, orientation, orientation


def _orientation(opened: Image.Image) -> int:
    try:
        orientation = opened.getexif().get(ORIENTATION)
    except _DAMAGED:  # broken EXIF beside sound pixels
        return 1
    return orientation if orientation in AS_SEEN else 1


def to_rgb(opened: Image.Image) -> np.ndarray:
    """RGB (H, W, 3) uint8. Alpha is dropped, not blended: transparent pixels keep their colour.

    Raises ValueError where the pixels have no RGB form."""
    if opened.mode in ("I", "F"):
        raise ValueError("32 bits a pixel without a known range")
    if opened.mode in ("P", "PA", "La", "RGBa"):
        opened = opened.convert("RGBA")
    return np.asarray(opened if opened.mode == "RGB" else opened.convert("RGB"))


def _turn_like_image(
    label_map: np.ndarray, pixels: np.ndarray, orientation: int, image: Encoded, mask: Encoded
) -> np.ndarray:
    """The label map, turned like its image was by its EXIF orientation."""
    as_stored = lies_as_stored(label_map.shape, pixels.shape[:2], orientation)
    if as_stored is not None:
        return AS_SEEN[orientation](label_map) if as_stored else label_map
    problem = (
        f"has the EXIF orientation {orientation} and its mask {_file(mask)} has none, so it is "
        "open which way the mask lies: if it was drawn on the image as viewers show it, write the "
        "rotation into the image's pixels (mogrify -auto-orient), else remove the tag (exiftool "
        "-Orientation=)"
    )
    raise DecodeError("image", _file(image), problem)


def _file(encoded: Encoded) -> str:
    return encoded["path"] or "(without a file name)"


def _size(shape: tuple[int, ...]) -> str:
    return f"{shape[1]} x {shape[0]}"
