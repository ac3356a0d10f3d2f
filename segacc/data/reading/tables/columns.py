"""Which columns of a table hold images, masks, their names, and the names of the classes."""

from __future__ import annotations

import io
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image as Pillow

from segacc.config.options import Reading
from segacc.data.reading.pairing import IMAGE_WORDS, MASK_WORDS
from segacc.errors import InputError
from segacc.labels import Colour

if TYPE_CHECKING:
    from datasets import Dataset, Features

IMAGE_COLUMNS = IMAGE_WORDS | {"pixel_values"}
MASK_COLUMNS = MASK_WORDS | {
    "seg", "label_map", "segmentation_mask", "segmentation_masks", "segmentation_map",
    "semantic_mask", "semantic_segmentation",
}  # fmt: skip
CLASSES = "mask_classes"
"""the column in which `segacc prepare --save` lists the classes of each mask; its type, a list of
ClassLabel, has their names also on the Hub, which keeps no other files"""


def three_columns(data: Dataset, source: str, reading: Reading) -> Dataset:
    """The rows with the columns image and mask, as encoded files, and name.

    Raises:
        InputError: it is unclear which columns these are, or an array is no mask.
    """
    from datasets import Image, concatenate_datasets

    image, mask = find_columns(data.features, source, reading)
    names = _names(data, image)
    images = data.select_columns([image]).cast_column(image, Image(decode=False))
    masks = data.select_columns([mask])
    if _is_array(data.features[mask]):
        masks = _as_files(masks, mask, source)
    else:
        masks = masks.cast_column(mask, Image(decode=False))
    images, masks = images.rename_columns({image: "image"}), masks.rename_columns({mask: "mask"})
    return concatenate_datasets([images, masks], axis=1).add_column("name", names)


def find_columns(features: Features, source: str, reading: Reading) -> tuple[str, str]:
    """The columns of the images and the masks: as the flags say, else by their usual names.

    Raises:
        InputError: there is none or several; the columns that are there are listed.
    """
    there = ", ".join(f"{name} ({type(f).__name__})" for name, f in features.items())
    given = {"--image-column": reading.image_column, "--mask-column": reading.mask_column}
    for flag, name in given.items():
        if name and name not in features:
            raise InputError(
                f"{flag} {name}: {source} has no such column, it has {there}; name one of these"
            )
        fits = name and (_is_file(features[name]) or (flag[2] == "m" and _is_array(features[name])))
        if name and not fits:
            raise InputError(
                f"{flag} {name}: expected a column of images (or, for masks, of arrays of whole "
                f"numbers), found {there} in {source}; name another one"
            )
    files = {name for name, feature in features.items() if _is_file(feature)}
    arrays = {name for name, feature in features.items() if _is_array(feature)}
    images = _choose(reading.image_column, files - {reading.mask_column}, IMAGE_COLUMNS)
    masks = _choose(reading.mask_column, (files | arrays) - {reading.image_column}, MASK_COLUMNS)
    if len(images) != 1 or len(masks) != 1:
        raise InputError(
            f"{source}: expected one Image column named image (or img, pixel_values, ...) and one "
            f"named mask (or label, annotation, segmentation, ...), found {there}; say which they "
            "are with --image-column and --mask-column"
        )
    return images[0], masks[0]


def class_names(features: Features, mask: str) -> list[str]:
    """The names of the classes that the type of the mask's column gives, or the type of the column
    in which segacc lists classes; none if neither does."""
    from datasets import ClassLabel

    for name in (mask, CLASSES):
        inner = _inner(features[name])[0] if name in features else None
        if isinstance(inner, ClassLabel):
            return list(inner.names)
    return []


def class_colours(data: Dataset, mask: str, classes: int) -> list[Colour]:
    """The colours of the classes in the palette of the first mask; none where segacc has not
    written the masks, or where the file has no such palette.

    Args:
        data: with the column that `segacc prepare --save` adds.
        mask: the column with the masks.
        classes: their number.
    """
    from datasets import Image

    if CLASSES not in data.features or not isinstance(data.features[mask], Image):
        return []
    encoded = data.select([0]).cast_column(mask, Image(decode=False))[0][mask]["bytes"]
    try:
        with Pillow.open(io.BytesIO(encoded or b"")) as picture:
            flat = picture.getpalette("RGB") or []
    except OSError:  # this is reported when all masks are read
        return []
    palette = list(zip(flat[::3], flat[1::3], flat[2::3], strict=False))
    return palette[:classes] if len(palette) >= classes else []


def _choose(given: str | None, columns: set[str], usual: set[str]) -> list[str]:
    if given:
        return [given]
    return sorted(name for name in columns if name.casefold().replace("-", "_") in usual)


def _is_file(feature: object) -> bool:
    """Whether a column holds images, or files as bytes, as parquet that others have written."""
    from datasets import Image, Value

    is_file = isinstance(feature, dict) and feature.keys() == {"bytes", "path"}
    return (
        isinstance(feature, Image) or is_file or feature in (Value("binary"), Value("large_binary"))
    )


def _is_array(feature: object) -> bool:
    """Whether a column holds arrays (H, W) of whole numbers."""
    from datasets import Array2D, ClassLabel, Value

    if isinstance(feature, Array2D):
        return "int" in feature.dtype or feature.dtype == "bool"
    inner, depth = _inner(feature)
    is_whole = isinstance(inner, Value) and ("int" in inner.dtype or inner.dtype == "bool")
    return depth == 2 and (is_whole or isinstance(inner, ClassLabel))


def _inner(feature: Any) -> tuple[Any, int]:
    """The type in a list of lists, and how deep it is."""
    from datasets import LargeList, List

    depth = 0
    while isinstance(feature, List | LargeList):
        feature, depth = feature.feature, depth + 1
    return feature, depth


def _as_files(masks: Dataset, column: str, source: str) -> Dataset:
    """Convert arrays to PNGs, in memory."""
    from datasets import Features, Image

    def encode(row: dict[str, Any], index: int) -> dict[str, Any]:
        try:
            values = np.array(row[column])
            fits = values.ndim == 2 and values.size and 0 <= values.min() <= values.max() < 1 << 16
        except ValueError:  # rows of different lengths
            fits = False
        if not fits:
            raise InputError(
                f"{source}: row {index} of the column {column} is no mask: expected an array of "
                "height x width with values of 0 to 65535; leave the row out or name another "
                "column with --mask-column"
            )
        file = io.BytesIO()
        Pillow.fromarray(values.astype(np.uint8 if values.max() < 256 else np.uint16)).save(
            file, "PNG"
        )
        return {column: {"path": None, "bytes": file.getvalue()}}

    return masks.map(
        encode,
        with_indices=True,
        features=Features({column: Image(decode=False)}),
        keep_in_memory=True,
        new_fingerprint=f"{masks._fingerprint}-png",
        desc="masks",
    )


def _names(data: Dataset, image: str) -> list[str]:
    """One name per row: the name column if its values are unique, else the images' file names if
    they are, else numbers."""
    import pyarrow.compute as pc
    from datasets import Image, Value

    if data.features.get("name") == Value("string"):
        names = data["name"][:]
    else:
        files = data.select_columns([image]).cast_column(image, Image(decode=False))
        paths = pc.struct_field(files.data.column(image), "path").to_pylist()
        names = [path and PurePath(path).stem for path in paths]
    if all(names) and len(set(names)) == len(names):
        return list(names)
    return [f"{index:06d}" for index in range(len(data))]
