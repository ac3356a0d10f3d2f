"""Encoded image and mask -> arrays. Every trap of a file format is settled or refused here."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import TypedDict

import numpy as np
from PIL import Image, UnidentifiedImageError

from segacc.errors import InputError

# Pillow warns above this and refuses above twice this; its own default is too low for slides.
Image.MAX_IMAGE_PIXELS = 300_000_000

# Named, because a format left open would let a file reach a plugin that runs a program (EPS runs
# Ghostscript).
FORMATS = ("JPEG", "PNG", "TIFF", "BMP", "GIF", "WEBP", "PPM", "JPEG2000")

# What Pillow's plugins raise on damaged bytes, found by feeding them some.
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

# EXIF orientation -> the pixels as they are meant to be seen.
_AS_SEEN: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: np.rot90(a),
}
_TURNED = (5, 6, 7, 8)  # width and height change places


class Encoded(TypedDict):
    """A row of a `datasets.Image(decode=False)` column; `bytes`, where given, are what is read."""

    path: str | None
    bytes: bytes | None


class DecodeError(InputError):
    """A file that cannot be used: `str(error)` is "image NAME.jpg is damaged ..."."""

    def __init__(self, role: str, file: str, problem: str) -> None:
        super().__init__(f"{role} {file} {problem}")
        self.role = role
        self.file = file
        self.problem = problem

    def __reduce__(self) -> tuple[type[DecodeError], tuple[str, str, str]]:
        return DecodeError, (self.role, self.file, self.problem)  # comes from worker processes


def decode_pair(image: Encoded, mask: Encoded) -> tuple[np.ndarray, np.ndarray]:
    """Image (H, W, 3) uint8 RGB and mask (H, W) uint8 in {0, 1}, both as they are meant to be seen.

    An EXIF orientation on the image is applied to it; a mask without one of its own follows its
    image where the size tells which way it was drawn. Raises DecodeError, an InputError, that
    names the file, for damaged files, masks that are not binary, sizes that differ, and an
    orientation that leaves open how the mask lies.
    """
    pixels, orientation = _read_image(image)
    levels, mask_orientation = _read_levels(mask)
    if orientation != 1 and mask_orientation == 1:
        levels = _follow(levels, pixels, orientation, image, mask)
    if levels.shape != pixels.shape[:2]:
        problem = (
            f"is {_size(pixels)} pixels but its mask {_file(mask)} is {_size(levels)}; an image "
            "and its mask must have the same width and height, so export the mask again at the "
            "size of the image"
        )
        raise DecodeError("image", _file(image), problem)
    return pixels, (levels != 0).astype(np.uint8)


def decode_image(image: Encoded) -> np.ndarray:
    """Image (H, W, 3) uint8 RGB as it is meant to be seen. Raises DecodeError."""
    return _read_image(image)[0]


def foreground_value(mask: Encoded) -> int:
    """What stands for foreground in the mask's file: 1, 255 or 65535, or 0 where there is none.

    Raises DecodeError as `decode_pair` does.
    """
    return int(_read_levels(mask)[0].max())


def _read_image(image: Encoded) -> tuple[np.ndarray, int]:
    """RGB as seen, and the EXIF orientation that was applied."""
    opened, orientation, pending = _open(image, "image")
    try:
        pixels = _to_rgb(opened)
    except ValueError as error:
        problem = f"has the pixel type {opened.mode}, which has no RGB form ({error}); save as PNG"
        raise DecodeError("image", _file(image), problem) from error
    return np.ascontiguousarray(_AS_SEEN[pending](pixels) if pending != 1 else pixels), orientation


def _read_levels(mask: Encoded) -> tuple[np.ndarray, int]:
    """(H, W) as seen, holding 0 and at most one other value, and the orientation applied."""
    opened, orientation, pending = _open(mask, "mask")
    levels = _levels(opened, _file(mask))
    _check_binary(levels, opened.format, _file(mask))
    return (_AS_SEEN[pending](levels) if pending != 1 else levels), orientation


def _open(encoded: Encoded, role: str) -> tuple[Image.Image, int, int]:
    """The loaded image, its EXIF orientation (1 = none) and the orientation yet to be applied."""
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
        opened = Image.open(io.BytesIO(data), formats=FORMATS)
        # A phone's JPEG (MPO) keeps a preview as its second frame.
        frames = 1 if opened.format == "MPO" else getattr(opened, "n_frames", 1)
        # Pillow turns a TIFF while loading it, and drops the tag.
        is_tiff = opened.format == "TIFF"
        orientation = _orientation(opened) if is_tiff else 1
        opened.load()
    except UnidentifiedImageError as error:
        problem = f"is not an image that can be read; expected one of {', '.join(FORMATS)}"
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
        return opened, orientation, 1
    orientation = _orientation(opened)
    return opened, orientation, orientation


def _orientation(opened: Image.Image) -> int:
    try:
        orientation = opened.getexif().get(0x0112)
    except _DAMAGED:  # broken EXIF beside sound pixels
        return 1
    return orientation if orientation in _AS_SEEN else 1


def _to_rgb(opened: Image.Image) -> np.ndarray:
    """Alpha is dropped, not blended: what a mask marks stays where it was."""
    if opened.mode.startswith("I;16") or (
        opened.mode == "I" and opened.format in ("PPM", "PNG")  # as some Pillows open 16 bits
    ):
        # Pillow's own conversion clips 16 bits at 255 instead of scaling them.
        gray = (np.asarray(opened).astype(np.uint32) + 128) // 257
        return np.repeat(gray.astype(np.uint8)[..., None], 3, axis=2)
    if opened.mode in ("I", "F"):
        raise ValueError("32 bits a pixel without a known range")
    if opened.mode in ("P", "PA", "La", "RGBa"):
        opened = opened.convert("RGBA")
    return np.asarray(opened if opened.mode == "RGB" else opened.convert("RGB"))


def _levels(opened: Image.Image, file: str) -> np.ndarray:
    """The mask's values (H, W) in the type of its file."""
    if opened.mode == "1":
        return np.asarray(opened.convert("L"))
    if opened.mode == "P":
        return _palette_levels(opened)
    if opened.mode in ("L", "I", "F") or opened.mode.startswith("I;16"):
        return np.asarray(opened)
    colours = np.asarray(opened.convert("RGB"))
    if opened.mode in ("LA", "RGBA", "PA") and (colours == colours[0, 0]).all():
        alpha = np.asarray(opened.getchannel("A"))
        if (alpha != alpha[0, 0]).any():
            problem = "has one colour and its shape only in the transparency; save it without alpha"
            raise DecodeError(
                "mask", file, f"{problem}, 255 where the foreground is and 0 elsewhere"
            )
    if (colours == colours[..., :1]).all():
        return colours[..., 0]
    packed = colours.astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], dtype=np.uint32)
    used = [str((int(c) >> 16, int(c) >> 8 & 255, int(c) & 255)) for c in np.unique(packed)]
    problem = f"is coloured: {_first(used)}; a binary mask holds 0 and 255 (or 0 and 1)"
    raise DecodeError("mask", file, problem + _remedy(colours[..., 0], opened.format))


def _palette_levels(opened: Image.Image) -> np.ndarray:
    """By colour where the palette says black and white, else by index.

    Two entries of one colour are told apart by index: a palette that was never filled is black.
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


def _check_binary(levels: np.ndarray, file_format: str | None, file: str) -> None:
    top = levels.max()
    if top in (0, 1, 255, 65535) and ((levels == 0) | (levels == top)).all():
        return
    used = [f"{value:g}" for value in np.unique(levels).tolist()]
    problem = f"has the values {_first(used)}; a binary mask holds 0 and 255 (or 0 and 1)"
    raise DecodeError("mask", file, problem + _remedy(levels, file_format))


def _remedy(levels: np.ndarray, file_format: str | None) -> str:
    near_ends = (levels < 32) | ((levels > 223) & (levels < 256))
    smeared = (levels > 223).any() and near_ends.mean() > 0.9
    if smeared or file_format in ("JPEG", "MPO"):
        return ", and lossy compression or resizing has smeared this one: save the original as PNG"
    return ": set every foreground pixel to 255 and every other pixel to 0"


def _follow(
    levels: np.ndarray, pixels: np.ndarray, orientation: int, image: Encoded, mask: Encoded
) -> np.ndarray:
    """The mask as seen, of an image that was turned by its EXIF orientation."""
    seen = pixels.shape[:2]
    if orientation in _TURNED and seen[0] != seen[1]:
        return _AS_SEEN[orientation](levels) if levels.shape == seen[::-1] else levels
    problem = (
        f"has the EXIF orientation {orientation} and its mask {_file(mask)} has none, so it is "
        "open which way the mask lies: if it was drawn on the image as viewers show it, write the "
        "rotation into the image's pixels (mogrify -auto-orient), else remove the tag (exiftool "
        "-Orientation=)"
    )
    raise DecodeError("image", _file(image), problem)


def _file(encoded: Encoded) -> str:
    return encoded["path"] or "(without a file name)"


def _size(pixels: np.ndarray) -> str:
    return f"{pixels.shape[1]} x {pixels.shape[0]}"


def _first(values: list[str]) -> str:
    return f"{', '.join(values[:5])}{', ...' if len(values) > 5 else ''} ({len(values)} in all)"
